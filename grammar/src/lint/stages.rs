//! What instructions of one stage, or of several, have to do with each other.

use std::collections::{BTreeMap, BTreeSet};

use super::rule::Rule;
use crate::diagnostic::Diagnostic;
use crate::instruction::{CommandLine, Instruction, Located, Stage};
use crate::parse::Parsed;
use crate::source::{Source, Span};

/// Parts of a name that say it holds a secret.
const SECRETS: [&str; 10] =
    ["apikey", "auth", "credential", "credentials", "key", "password", "pword", "passwd", "secret", "token"];

pub(super) fn check(parsed: &Parsed, found: &mut Vec<Diagnostic>) {
    let source = &parsed.dockerfile.source;
    let mut names = BTreeSet::new();
    for stage in &parsed.dockerfile.stages {
        if let Some(name) = &stage.name
            && !names.insert(name)
        {
            let message = format!("Duplicate stage name \"{name}\", stage names should be unique");
            found.push(Rule::DuplicateStageName.at(source, stage.span, message));
        }
        secrets(source, stage, found);
        repeated(source, stage, found);
        shell_form(source, stage, found);
    }
}

fn secrets(source: &Source, stage: &Stage, found: &mut Vec<Diagnostic>) {
    for located in &stage.instructions {
        let (keyword, names): (&str, Vec<(&str, Span)>) = match &located.value {
            Instruction::Arg(args) => ("ARG", args.iter().map(|arg| (arg.name.as_str(), arg.span)).collect()),
            Instruction::Env(pairs) => ("ENV", pairs.iter().map(|pair| (pair.key.raw(), pair.span)).collect()),
            _ => continue,
        };
        for (name, span) in names.into_iter().filter(|(name, _)| is_secret(name)) {
            let message = format!("Do not use ARG or ENV instructions for sensitive data ({keyword} \"{name}\")");
            found.push(Rule::SecretsUsedInArgOrEnv.at(source, span, message));
        }
    }
}

/// Whether a variable's name says that it holds a secret: a word between underscores is one of a list, and none is `public`.
pub fn is_secret(name: &str) -> bool {
    let lower = name.to_lowercase();
    let mut parts = lower.split('_');
    !lower.split('_').any(|part| part == "public") && parts.any(|part| SECRETS.contains(&part))
}

/// Only the last CMD, ENTRYPOINT and HEALTHCHECK count.
fn repeated(source: &Source, stage: &Stage, found: &mut Vec<Diagnostic>) {
    let mut last: BTreeMap<&str, Span> = BTreeMap::new();
    for located in &stage.instructions {
        let name = match &located.value {
            Instruction::Cmd(_) => "CMD",
            Instruction::Entrypoint(_) => "ENTRYPOINT",
            Instruction::Healthcheck(_) => "HEALTHCHECK",
            _ => continue,
        };
        if let Some(earlier) = last.insert(name, located.span) {
            let message = format!(
                "Multiple {name} instructions should not be used in the same stage \
                 because only the last one will be used"
            );
            found.push(Rule::MultipleInstructionsDisallowed.at(source, earlier, message));
        }
    }
}

/// Shell forms, unless the stage says which shell it wants.
fn shell_form(source: &Source, stage: &Stage, found: &mut Vec<Diagnostic>) {
    let mut has_shell = false;
    for Located { value, span, .. } in &stage.instructions {
        let keyword = match value {
            Instruction::Shell(_) => {
                has_shell = true;
                continue;
            }
            Instruction::Cmd(CommandLine::Shell(_)) => "CMD",
            Instruction::Entrypoint(CommandLine::Shell(_)) => "ENTRYPOINT",
            _ => continue,
        };
        if has_shell {
            continue;
        }
        let message =
            format!("JSON arguments recommended for {keyword} to prevent unintended behavior related to OS signals");
        found.push(Rule::JSONArgsRecommended.at(source, *span, message));
    }
}
