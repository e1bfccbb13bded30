//! What a Dockerfile offers: its stages, and what a stage can be given. Nothing is performed and no image is looked at.

use std::collections::BTreeSet;

use grammar::{ArgDeclaration, Dockerfile, Instruction, Located, MountKind, Span, Stage};
use serde::Serialize;

use crate::error::Result;
use crate::options::Options;
use crate::scope::Variables;
use crate::stages::{Stages, stage_label};

/// A stage that can be built.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Target {
    /// Its name, or `stage-N`.
    pub name: String,
    /// It is built when none is named.
    pub default: bool,
    /// The comment above it.
    pub description: Option<String>,
    /// What it stands on, as written.
    pub base: String,
    /// Its line.
    pub line: usize,
}

/// What the target can be given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Outline {
    /// The stage.
    pub name: String,
    /// The comment above it.
    pub description: Option<String>,
    /// Arguments of the stages that it needs, and the global ones.
    pub args: Vec<OutlineArg>,
    /// Secrets that their steps mount.
    pub secrets: Vec<OutlineMount>,
    /// Agents that their steps mount.
    pub ssh: Vec<OutlineMount>,
}

/// An argument.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OutlineArg {
    /// The variable.
    pub name: String,
    /// What it would be in this build.
    pub value: Option<String>,
    /// The comment above it.
    pub description: Option<String>,
    /// Its line.
    pub line: usize,
}

/// A secret or an agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OutlineMount {
    /// Its id.
    pub name: String,
    /// The build fails without it.
    pub required: bool,
    /// The line of the first step that asks for it.
    pub line: usize,
}

/// All stages, in file order.
///
/// # Errors
/// When the target is not in the file.
pub fn targets(dockerfile: &Dockerfile, options: &Options) -> Result<Vec<Target>> {
    let target = Stages::resolve(dockerfile, options, &mut Vec::new())?.target;
    let stages = dockerfile.stages.iter().map(|stage| Target {
        name: stage_label(stage),
        default: stage.index == target,
        description: stage_description(dockerfile, stage),
        base: stage.base.raw().to_owned(),
        line: line(dockerfile, stage.span),
    });
    Ok(stages.collect())
}

/// What the target can be given.
///
/// # Errors
/// When a stage's name does not resolve or the target is not in the file.
pub fn outline(dockerfile: &Dockerfile, options: &Options) -> Result<Outline> {
    let stages = Stages::resolve(dockerfile, options, &mut Vec::new())?;
    let target = dockerfile.stages.get(stages.target);
    let mut outline = Outline {
        name: target.map(stage_label).unwrap_or_default(),
        description: target.and_then(|stage| stage_description(dockerfile, stage)),
        args: Vec::new(),
        secrets: Vec::new(),
        ssh: Vec::new(),
    };
    let mut scope = Variables::default();
    for (name, value) in options.automatic_args(&outline.name) {
        scope.set(&name, &value);
    }
    for located in &dockerfile.global_args {
        outline.declare(dockerfile, options, &mut scope, located);
    }
    let needed: BTreeSet<usize> = stages.order.iter().copied().collect();
    for stage in dockerfile.stages.iter().filter(|stage| needed.contains(&stage.index)) {
        let mut scope = scope.clone();
        for located in &stage.instructions {
            match &located.value {
                Instruction::Arg(declarations) => {
                    let arg = Located { value: declarations.clone(), span: located.span, original: String::new() };
                    outline.declare(dockerfile, options, &mut scope, &arg);
                }
                Instruction::Run(run) => {
                    for mount in run.mounts.iter().filter_map(|flag| Some(flag.resolve(&scope).ok()?.0)) {
                        outline.mount(&mount, line(dockerfile, located.span));
                    }
                }
                _ => {}
            }
        }
    }
    Ok(outline)
}

impl Outline {
    fn declare(
        &mut self,
        dockerfile: &Dockerfile,
        options: &Options,
        scope: &mut Variables,
        located: &Located<Vec<ArgDeclaration>>,
    ) {
        for declaration in &located.value {
            let name = &declaration.name;
            let default = || {
                let word = declaration.default.as_ref()?;
                Some(word.expand(scope).map_or_else(|_| word.raw().to_owned(), |expansion| expansion.text))
            };
            let value =
                options.build_args.get(name).cloned().or_else(default).or_else(|| Some(scope.value(name)?.to_owned()));
            if let Some(value) = &value {
                scope.set(name, value);
            }
            let description = description(dockerfile, located.span, name);
            match self.args.iter_mut().find(|arg| arg.name == *name) {
                Some(known) => {
                    known.value = known.value.take().or(value);
                    known.description = known.description.take().or(description);
                }
                None => {
                    let line = line(dockerfile, located.span);
                    self.args.push(OutlineArg { name: name.clone(), value, description, line });
                }
            }
        }
    }

    fn mount(&mut self, mount: &grammar::Mount, line: usize) {
        let last = |path: &String| path.rsplit('/').next().unwrap_or_default().to_owned();
        let (list, name) = match mount.kind {
            MountKind::Secret => {
                let id = mount.id.clone().or_else(|| mount.source.clone());
                (&mut self.secrets, id.or_else(|| mount.target.as_ref().map(last)).unwrap_or_default())
            }
            MountKind::Ssh => (&mut self.ssh, mount.id.clone().unwrap_or_else(|| "default".to_owned())),
            MountKind::Bind | MountKind::Cache | MountKind::Tmpfs => return,
        };
        match list.iter_mut().find(|known| known.name == name) {
            Some(known) => known.required |= mount.required,
            None => list.push(OutlineMount { name, required: mount.required, line }),
        }
    }
}

fn stage_description(dockerfile: &Dockerfile, stage: &Stage) -> Option<String> {
    description(dockerfile, stage.span, stage.name.as_deref()?)
}

/// `# NAME what it is` among the comments that stand directly above a line.
fn description(dockerfile: &Dockerfile, span: Span, name: &str) -> Option<String> {
    let text = dockerfile.source.text().get(..span.start)?;
    let comments = text.lines().rev().map_while(|line| line.trim().strip_prefix('#'));
    comments.map(str::trim).find_map(|comment| {
        let (word, rest) = comment.split_once(char::is_whitespace)?;
        (word.eq_ignore_ascii_case(name) && !rest.trim().is_empty()).then(|| rest.trim().to_owned())
    })
}

fn line(dockerfile: &Dockerfile, span: Span) -> usize {
    dockerfile.source.location(span.start).0
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use grammar::Source;

    const FILE: &str = "ARG TAG=1.2\n# make the compiler stage\nFROM golang:$TAG AS make\n# V version of it\nARG V=${TAG}-x\nRUN --mount=type=secret,id=npm,required --mount=type=ssh true\nFROM scratch AS unused\nARG OTHER\n# final what is shipped\nFROM scratch AS final\nARG TAG\nCOPY --from=make /x /\n";

    #[test]
    fn an_outline_has_what_the_needed_stages_take() {
        let parsed = grammar::parse(&Source::new("Dockerfile", FILE));
        let found = outline(&parsed.dockerfile, &Options::default()).unwrap();
        let args: Vec<_> = found.args.iter().map(|arg| (arg.name.as_str(), arg.value.as_deref())).collect();
        assert_eq!(args, [("TAG", Some("1.2")), ("V", Some("1.2-x"))]);
        assert_eq!(found.args.last().unwrap().description.as_deref(), Some("version of it"));
        assert_eq!(found.secrets, [OutlineMount { name: "npm".into(), required: true, line: 6 }]);
        assert_eq!(found.ssh, [OutlineMount { name: "default".into(), required: false, line: 6 }]);
        assert_eq!(found.description.as_deref(), Some("what is shipped"));
    }

    #[test]
    fn targets_are_all_stages() {
        let parsed = grammar::parse(&Source::new("Dockerfile", FILE));
        let found = targets(&parsed.dockerfile, &Options::default()).unwrap();
        let names: Vec<_> = found.iter().map(|target| (target.name.as_str(), target.default)).collect();
        assert_eq!(names, [("make", false), ("unused", false), ("final", true)]);
        assert_eq!(found.first().unwrap().description.as_deref(), Some("the compiler stage"));
    }
}
