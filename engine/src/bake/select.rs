//! Which targets are built, and in which order.

use std::collections::BTreeMap;

use super::{BakeGroup, BakePlan, Project};
use crate::error::{Error, Result};

/// The name that is built when none is given.
const DEFAULT: &str = "default";

pub(super) fn select(project: &Project, wanted: &[String]) -> Result<BakePlan> {
    let names = if wanted.is_empty() { default_names(project)? } else { wanted.to_vec() };
    let mut plan = BakePlan { group: BTreeMap::new(), target: BTreeMap::new(), order: Vec::new(), chosen: Vec::new() };
    let mut chosen = Vec::new();
    for name in &names {
        add(project, name, &mut plan, &mut chosen, &mut Vec::new())?;
    }
    let asked = BakeGroup { targets: if wanted.is_empty() { chosen.clone() } else { names } };
    plan.group.entry(DEFAULT.to_owned()).or_insert(asked);
    for name in &chosen {
        order(project, name, &mut plan, &mut Vec::new())?;
    }
    plan.chosen = chosen;
    Ok(plan)
}

fn default_names(project: &Project) -> Result<Vec<String>> {
    if project.groups.contains_key(DEFAULT) || project.targets.contains_key(DEFAULT) {
        return Ok(vec![DEFAULT.to_owned()]);
    }
    let names: Vec<String> = project.targets.keys().cloned().collect();
    match names.len() {
        0 => Err(Error::Usage("the project file has no target".to_owned())),
        1 => Ok(names),
        _ => Err(Error::Usage(format!(
            "the project file has no target or group `default`: name one of {}",
            names.join(", ")
        ))),
    }
}

/// Adds the targets that a name stands for.
fn add(
    project: &Project,
    name: &str,
    plan: &mut BakePlan,
    chosen: &mut Vec<String>,
    path: &mut Vec<String>,
) -> Result<()> {
    if path.iter().any(|above| above == name) {
        return Err(Error::Usage(format!("the group `{name}` is in itself: {} → {name}", path.join(" → "))));
    }
    if let Some(members) = project.groups.get(name) {
        path.push(name.to_owned());
        for member in members {
            // A group may have the name of a target that is in it.
            if member == name && project.targets.contains_key(name) {
                choose(name, chosen);
            } else {
                add(project, member, plan, chosen, path)?;
            }
        }
        path.pop();
        plan.group.insert(name.to_owned(), BakeGroup { targets: members.clone() });
        return Ok(());
    }
    if project.targets.contains_key(name) {
        choose(name, chosen);
        return Ok(());
    }
    let known = project.targets.keys().chain(project.groups.keys()).map(String::as_str);
    let help = match grammar::nearest(name, known) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "`dunnage bake --list targets` shows all".to_owned(),
    };
    Err(Error::Usage(format!("no target or group is named `{name}`: {help}")))
}

fn choose(name: &str, chosen: &mut Vec<String>) {
    if !chosen.iter().any(|known| known == name) {
        chosen.push(name.to_owned());
    }
}

/// Puts a target behind those whose trees it uses as contexts.
fn order(project: &Project, name: &str, plan: &mut BakePlan, path: &mut Vec<String>) -> Result<()> {
    if plan.target.contains_key(name) {
        return Ok(());
    }
    if path.iter().any(|above| above == name) {
        return Err(Error::Usage(format!("targets stand on each other in a circle: {} → {name}", path.join(" → "))));
    }
    let Some(target) = project.targets.get(name) else {
        let user = path.last().map(String::as_str).unwrap_or_default();
        return Err(Error::Usage(format!("`{user}` has a context `target:{name}`, and no target has that name")));
    };
    path.push(name.to_owned());
    for used in target.contexts.values().filter_map(|context| context.strip_prefix("target:")) {
        order(project, used, plan, path)?;
    }
    path.pop();
    plan.order.push(name.to_owned());
    plan.target.insert(name.to_owned(), target.clone());
    Ok(())
}
