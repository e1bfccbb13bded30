//! What is doubtful in a FROM: arguments that nobody declared, defaults that make no image name, constant platforms.

use cache::{Platform, Reference};
use grammar::{Diagnostic, Dockerfile, Expansion, Rule, Scope, Stage, nearest};

use crate::options::Options;
use crate::scope::{DeclaredArg, Variables};
use crate::stages::globals;

pub(crate) fn check(
    dockerfile: &Dockerfile,
    options: &Options,
    declared: &[DeclaredArg],
    scope: &Variables,
    warnings: &mut Vec<Diagnostic>,
) {
    let defaults = Options { build_args: Default::default(), ..options.clone() };
    let defaults = globals(dockerfile, &defaults, "").map(|(_, scope)| scope).unwrap_or_default();
    for stage in &dockerfile.stages {
        let Ok(base) = stage.base.expand(&defaults) else { continue };
        if base.text.parse::<Reference>().is_err() && base.text != "scratch" {
            let message =
                format!("Default value for ARG {} results in empty or invalid base image name", stage.base.raw());
            warnings.push(Rule::InvalidDefaultArgInFrom.at(&dockerfile.source, stage.base_span, message));
        }
    }
    for stage in &dockerfile.stages {
        if let Ok(base) = stage.base.expand(scope) {
            undeclared(dockerfile, stage, &base, declared, scope, warnings);
        }
        platform(dockerfile, stage, declared, scope, warnings);
    }
}

fn undeclared(
    dockerfile: &Dockerfile,
    stage: &Stage,
    expansion: &Expansion,
    declared: &[DeclaredArg],
    scope: &Variables,
    warnings: &mut Vec<Diagnostic>,
) {
    for name in expansion.unmatched.iter().filter(|name| !declared.iter().any(|arg| arg.name == **name)) {
        let near = nearest(name, scope.names()).map_or_else(String::new, |near| format!(" (did you mean {near}?)"));
        let message = format!("FROM argument '{name}' is not declared{near}");
        warnings.push(Rule::UndefinedArgInFrom.at(&dockerfile.source, stage.span, message));
    }
}

fn platform(
    dockerfile: &Dockerfile,
    stage: &Stage,
    declared: &[DeclaredArg],
    scope: &Variables,
    warnings: &mut Vec<Diagnostic>,
) {
    let Some(word) = &stage.platform else { return };
    let Ok(expansion) = word.expand(scope) else { return };
    undeclared(dockerfile, stage, &expansion, declared, scope, warnings);
    if !expansion.unmatched.is_empty() {
        return;
    }
    let only_target = expansion.matched.len() == 1 && expansion.matched.contains("TARGETPLATFORM");
    if only_target && scope.get("TARGETPLATFORM") == Some(expansion.text.as_str()) {
        let message = format!(
            "Setting platform to predefined {} in FROM is redundant as this is the default behavior",
            word.raw()
        );
        warnings.push(Rule::RedundantTargetPlatform.at(&dockerfile.source, word.span(), message));
    }
    if expansion.matched.is_empty() && !is_named_after(stage, &expansion.text) {
        let message = format!("FROM --platform flag should not use constant value {:?}", expansion.text);
        warnings.push(Rule::FromPlatformFlagConstDisallowed.at(&dockerfile.source, word.span(), message));
    }
}

/// `FROM --platform=linux/amd64 … AS build-amd64` says that it is meant.
fn is_named_after(stage: &Stage, platform: &str) -> bool {
    let (Some(name), Ok(platform)) = (&stage.name, platform.parse::<Platform>()) else { return false };
    name.contains(&platform.os) || name.contains(&platform.architecture)
}
