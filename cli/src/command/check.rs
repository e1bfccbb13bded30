//! `dunnage check`.

use std::path::PathBuf;

use engine::{BuildRequest, Checked, ContextSource, DockerfileSource, Engine, EngineOptions, StorageChoice};
use grammar::{Rule, RuleKind, Severity};

use super::{Failure, Outcome};
use crate::args::{CheckArgs, CheckFormat};
use crate::{config, ui};

pub(super) fn check(root: Option<PathBuf>, args: CheckArgs) -> Outcome {
    if args.rules {
        return rules();
    }
    let choice = choice(&args);
    let request = BuildRequest {
        build_args: super::build::build_args(&args.build_arg),
        context: ContextSource::Directory(args.context),
        dockerfile: args.file.map(DockerfileSource::parse),
        target: args.target,
        ..BuildRequest::default()
    };
    found(root, &request, choice.as_deref(), args.format)
}

/// What the flags ask for, in the words of the `check` directive.
fn choice(args: &CheckArgs) -> Option<String> {
    let mut options = Vec::new();
    if !args.skip.is_empty() {
        options.push(format!("skip={}", args.skip.join(",")));
    }
    if !args.experimental.is_empty() {
        options.push(format!("experimental={}", args.experimental.join(",")));
    }
    if args.error {
        options.push("error=true".to_owned());
    }
    (!options.is_empty()).then(|| options.join(";"))
}

/// Checks, shows what was found, and gives 1 when there are errors.
pub(super) fn found(
    root: Option<PathBuf>,
    request: &BuildRequest,
    choice: Option<&str>,
    format: CheckFormat,
) -> Outcome {
    // Base images are looked into where they are; a check makes no store, and needs none.
    let root = config::store_root(root);
    let engine = if root.is_dir() {
        Engine::open(&EngineOptions {
            root,
            storage: StorageChoice::Auto,
            programs: config::search_path(),
            settings: Vec::new(),
        })
        .ok()
    } else {
        None
    };
    let checked = engine::check(request, choice, engine.as_ref())?;
    match format {
        CheckFormat::Text => text(&checked)?,
        CheckFormat::Json => ui::line(&ui::findings::json(&checked))?,
        CheckFormat::Sarif => ui::line(&ui::findings::sarif(&checked))?,
    }
    Ok(u8::from(checked.count(Severity::Error) > 0))
}

fn text(checked: &Checked) -> Result<(), Failure> {
    for diagnostic in &checked.findings {
        ui::line(&format!("{}\n", ui::diagnostic::text(diagnostic)))?;
    }
    let parts = [(Severity::Error, "error"), (Severity::Warning, "warning"), (Severity::Hint, "hint")];
    let counts: Vec<String> = parts
        .into_iter()
        .map(|(severity, name)| (checked.count(severity), name))
        .filter(|(count, _)| *count > 0)
        .map(|(count, name)| format!("{count} {name}{}", if count == 1 { "" } else { "s" }))
        .collect();
    let summary = if counts.is_empty() { "nothing found".to_owned() } else { counts.join(", ") };
    Ok(ui::line(&format!("Check complete: {summary}"))?)
}

fn rules() -> Outcome {
    for rule in Rule::ALL {
        let kind = match rule.kind() {
            RuleKind::Standard => "",
            RuleKind::Experimental => " (experimental)",
            RuleKind::Own => " (dunnage's own)",
            RuleKind::Hint => " (hint)",
        };
        ui::line(&format!("{}{kind}\n    {}\n    fix: {}", rule.name(), rule.why(), rule.fix()))?;
    }
    Ok(0)
}
