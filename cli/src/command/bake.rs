//! `dunnage bake`: every target of a project file is a `dunnage build` with the flags that it comes to.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

use engine::{BakeChoice, BakeFile, BakeFormat, BakePlan, BakeTarget, COMMAND_CONTEXT, Project};
use serde_json::{Value, json};

use super::build::{Besides, Collected, Job};
use super::side_by_side::{Baked, side_by_side};
use super::{Failure, Outcome};
use crate::args::{BakeArgs, BakeList, BuildArgs, bake_build_args};
use crate::ui::defect::Screen;
use crate::ui::progress::Target;
use crate::{config, ui};

/// Looked for where no file is named: the first of our own, else all of these.
const OWN: &str = "dunnage.toml";
/// Longest file that is read from standard input.
const FILE_LIMIT: u64 = 16 << 20;
const DOCKERS: [&str; 4] =
    ["docker-bake.json", "docker-bake.override.json", "docker-bake.hcl", "docker-bake.override.hcl"];

pub(super) fn bake(root: Option<PathBuf>, args: &BakeArgs) -> Outcome {
    let given: BTreeMap<&str, &str> = args.var.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let environment = |name: &str| given.get(name).map(|value| (*value).to_owned()).or_else(|| config::variable(name));
    let project = Project::read(&files(&args.file)?, &environment)?;
    if let Some(unknown) = given.keys().find(|name| !project.variables().iter().any(|known| known.name == **name)) {
        return Err(Failure::usage(format!("--var {unknown}: no file has this variable")));
    }
    if let Some(what) = args.list {
        return list(&project, what);
    }
    let plan = project.plan(&BakeChoice { targets: args.targets.clone(), set: args.set.clone() })?;
    if args.print {
        let text = serde_json::to_string_pretty(&printed(&plan)).map_err(|error| Failure::usage(error.to_string()))?;
        ui::line(&text)?;
        return Ok(0);
    }
    let collected: Option<Collected> = args.metadata_file.as_ref().map(|_| Collected::default());
    // All of them are read before the first is built.
    let mut builds = Vec::new();
    for name in &plan.order {
        let Some(target) = plan.target.get(name) else { continue };
        let wrong = |reason: String| Failure::usage(format!("target `{name}`: {reason}"));
        let words = words(&plan, name, target).map_err(wrong)?;
        let mut words: Vec<OsString> = args.flags().into_iter().chain(words).collect();
        // What both the command line and the target say is said once.
        let said: BTreeSet<OsString> = args.flags().into_iter().collect();
        let mut index = 0;
        words.retain(|word| {
            index += 1;
            index <= said.len() || !said.contains(word)
        });
        if args.push && plan.chosen.contains(name) {
            if target.tags.is_empty() {
                return Err(wrong("--push needs a name to push under: it has no tags".to_owned()));
            }
            words.insert(0, "--push".into());
        }
        let texts: Vec<String> = words.iter().map(|word| word.to_string_lossy().into_owned()).collect();
        let inline = target.dockerfile_inline.clone();
        // A text that stands in no file cannot be asked for again.
        let asked = if inline.is_none() { super::asked(&texts) } else { None };
        let mut build = bake_build_args(words).map_err(wrong)?;
        // What the command line says goes to all, besides what they say themselves.
        build.allow.extend(args.allow.iter().flatten().cloned());
        build.sbom = args.sbom.clone().or(build.sbom);
        build.provenance = args.provenance.clone().or(build.provenance);
        build.call = args.call.or(build.call);
        let collected = collected.clone().map(|all| (name.clone(), all));
        builds.push((name, build, Besides { asked, inline, target: None, collected }));
    }
    let telling = |build: &BuildArgs| build.check || build.call.is_some();
    if builds.len() > 1 && !builds.iter().any(|(_, build, _)| telling(build)) {
        let screen = Screen::default();
        let mut targets = Vec::new();
        for (name, build, besides) in builds {
            let target = Target { name: name.clone(), screen: screen.clone() };
            let job = Job::read(build, Besides { target: Some(target), ..besides })?;
            targets.push(Baked { job, needs: needs(&plan, name) });
        }
        side_by_side(root, args.storage, &targets)?;
        return tell(args, collected);
    }
    let mut code = 0;
    for (name, build, besides) in builds {
        if plan.order.len() > 1 {
            ui::note(&format!("target {name}"));
        }
        // Mistakes of one target say nothing of the others.
        code = super::build::build(root.clone(), build, besides)?.max(code);
    }
    tell(args, collected).map(|_| code)
}

/// `--metadata-file`: all that was built.
fn tell(args: &BakeArgs, collected: Option<Collected>) -> Outcome {
    if let (Some(path), Some(all)) = (&args.metadata_file, collected) {
        let all = all.lock().unwrap_or_else(PoisonError::into_inner).clone();
        super::metadata::write(path, &Value::Object(all))?;
    }
    Ok(0)
}

/// The plan as programs know it from bake: nothing is inherited any more, and what is not said is.
fn printed(plan: &BakePlan) -> BakePlan {
    let mut plan = plan.clone();
    for target in plan.target.values_mut() {
        target.inherits.clear();
        target.context.get_or_insert_with(|| ".".to_owned());
        target.dockerfile.get_or_insert_with(|| "Dockerfile".to_owned());
    }
    plan
}

fn files(named: &[PathBuf]) -> Result<Vec<BakeFile>, Failure> {
    let found: Vec<PathBuf> = match named {
        [] if Path::new(OWN).is_file() => vec![OWN.into()],
        [] => DOCKERS.iter().map(PathBuf::from).filter(|path| path.is_file()).collect(),
        named => named.to_vec(),
    };
    if found.is_empty() {
        return Err(Failure::usage(format!(
            "no project file here: looked for {OWN}, {}; name one with -f",
            DOCKERS.join(", ")
        )));
    }
    let read = |path: PathBuf| {
        if path.as_os_str() == "-" {
            return standard_input();
        }
        let name = path.display().to_string();
        let text =
            std::fs::read_to_string(&path).map_err(|error| Failure::usage(format!("cannot read {name}: {error}")))?;
        Ok(BakeFile { format: BakeFormat::of(&name), name, text })
    };
    found.into_iter().map(read).collect()
}

/// JSON begins with a brace, and nothing else does.
fn standard_input() -> Result<BakeFile, Failure> {
    let mut text = String::new();
    std::io::stdin()
        .take(FILE_LIMIT + 1)
        .read_to_string(&mut text)
        .map_err(|error| Failure::usage(format!("cannot read standard input: {error}")))?;
    if text.len() as u64 > FILE_LIMIT {
        return Err(Failure::usage(format!("standard input is longer than {} MiB", FILE_LIMIT >> 20)));
    }
    let format = if text.trim_start().starts_with('{') { BakeFormat::Json } else { BakeFormat::Hcl };
    Ok(BakeFile { format, name: "standard input".to_owned(), text })
}

fn list(project: &Project, what: BakeList) -> Outcome {
    if what.json {
        let document = match what.variables {
            true => json!(project.variables()),
            false => json!({ "targets": project.targets(), "groups": project.groups() }),
        };
        ui::line(&ui::foreign::json(&document))?;
        return Ok(0);
    }
    match what.variables {
        false => {
            for (name, target) in project.targets() {
                let description = target.description.as_deref().unwrap_or_default();
                ui::line(format!("{name:<24} {}", ui::foreign::line(description)).trim_end())?;
            }
            for (name, members) in project.groups() {
                ui::line(&format!("{name:<24} group of {}", members.join(", ")))?;
            }
        }
        true => {
            for variable in project.variables() {
                let description = variable.description.as_deref().unwrap_or_default();
                let line = format!("{:<24} {:<24} {}", variable.name, variable.value, ui::foreign::line(description));
                ui::line(line.trim_end())?;
            }
        }
    }
    Ok(0)
}

/// The command line that a target comes to.
fn words(plan: &BakePlan, name: &str, target: &BakeTarget) -> Result<Vec<OsString>, String> {
    let mut words = Words::default();
    let context = here(target.context.as_deref().unwrap_or("."));
    // As with docker the text rules over a file that an inherited target names.
    if let Some(file) = target.dockerfile.as_ref().filter(|_| target.dockerfile_inline.is_none()) {
        // As with docker: relative to the context, where that is a directory of this machine.
        let below = Path::new(context).is_dir() && Path::new(file).is_relative();
        words.pair("--file", if below { Path::new(context).join(file).into_os_string() } else { file.into() });
    }
    for (name, source) in &target.contexts {
        words.text("--build-context", &format!("{name}={}", here(&named(plan, source))));
    }
    words.values("--build-arg", &target.args);
    words.values("--label", &target.labels);
    words.each("--tag", target.tags.iter().map(String::as_str));
    if is_context(plan, name) {
        // Whatever else becomes of it: the next one stands on the image.
        words.each("--tag", target.tags.is_empty().then(|| own_tag(name)).as_deref());
        words.flag("--load", Some(true));
    }
    words.each("--target", target.target.iter().map(String::as_str));
    words.each("--platform", (!target.platforms.is_empty()).then(|| target.platforms.join(",")).as_deref());
    words.each("--output", target.output.iter().map(|fields| fields.0.as_str()));
    words.each("--cache-from", target.cache_from.iter().map(|fields| fields.0.as_str()));
    words.each("--cache-to", target.cache_to.iter().map(|fields| fields.0.as_str()));
    words.each("--secret", target.secret.iter().map(|fields| fields.0.as_str()));
    words.each("--ssh", target.ssh.iter().map(|fields| fields.0.as_str()));
    words.each("--attest", target.attest.iter().map(|fields| fields.0.as_str()));
    words.each("--annotation", target.annotations.iter().map(String::as_str));
    words.each("--no-cache-filter", target.no_cache_filter.iter().map(String::as_str));
    words.each("--network", target.network.as_deref());
    words.each("--allow", target.entitlements.iter().map(String::as_str));
    words.each("--shm-size", target.shm_size.as_deref());
    words.each("--ulimit", target.ulimits.iter().map(String::as_str));
    words.each("--call", target.call.as_deref());
    for (host, address) in &target.extra_hosts {
        words.text("--add-host", &format!("{host}:{address}"));
    }
    words.flag("--no-cache", target.no_cache);
    words.flag("--pull", target.pull);
    words.0.push("--".into());
    words.0.push(context.into());
    Ok(words.0)
}

/// A path of the place where the command was given, which is where all paths are taken from here.
fn here(path: &str) -> &str {
    match path.strip_prefix(COMMAND_CONTEXT) {
        Some("") => ".",
        Some(path) => path,
        None => path,
    }
}

/// What a named context stands for; another target is the image that it was built as.
fn named(plan: &BakePlan, source: &str) -> String {
    let Some(other) = source.strip_prefix("target:") else { return source.to_owned() };
    let tag = plan.target.get(other).and_then(|target| target.tags.first().cloned());
    format!("docker-image://{}", tag.unwrap_or_else(|| own_tag(other)))
}

/// Places in the order of what a target stands on.
fn needs(plan: &BakePlan, name: &str) -> Vec<usize> {
    let sources = plan.target.get(name).into_iter().flat_map(|target| target.contexts.values());
    let used = sources.filter_map(|source| source.strip_prefix("target:"));
    used.filter_map(|used| plan.order.iter().position(|known| known == used)).collect()
}

/// The targets that others take as a context.
fn is_context(plan: &BakePlan, name: &str) -> bool {
    let stands_for = |source: &String| source.strip_prefix("target:") == Some(name);
    plan.target.values().any(|target| target.contexts.values().any(stands_for))
}

/// The tag of a target that has none and is needed by another: one for each directory, so that projects do not meet.
fn own_tag(target: &str) -> String {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    config::directory().hash(&mut hasher);
    target.hash(&mut hasher);
    let name: String = target.to_lowercase().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    format!("dunnage-bake/{}:{:016x}", name.trim_matches('-'), hasher.finish())
}

#[derive(Default)]
struct Words(Vec<OsString>);

impl Words {
    fn pair(&mut self, flag: &str, value: OsString) {
        let mut word = OsString::from(format!("{flag}="));
        word.push(value);
        self.0.push(word);
    }

    fn text(&mut self, flag: &str, value: &str) {
        self.pair(flag, value.into());
    }

    fn each<'a>(&mut self, flag: &str, values: impl IntoIterator<Item = &'a str>) {
        values.into_iter().for_each(|value| self.text(flag, value));
    }

    fn values(&mut self, flag: &str, values: &BTreeMap<String, Option<String>>) {
        for (name, value) in values {
            self.text(flag, &value.as_ref().map_or_else(|| name.clone(), |value| format!("{name}={value}")));
        }
    }

    fn flag(&mut self, flag: &str, on: Option<bool>) {
        if on == Some(true) {
            self.0.push(flag.into());
        }
    }
}
