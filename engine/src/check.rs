//! `dunnage check`: all that is wrong or doubtful in a Dockerfile, and nothing performed.

use builder::BaseImages;
use grammar::{CheckChoice, Diagnostic, Severity};

use crate::build::as_error;
use crate::error::{Error, Result};
use crate::{BuildRequest, Engine};

/// What a check found.
#[derive(Debug, Clone)]
pub struct Checked {
    /// In the order of the file.
    pub findings: Vec<Diagnostic>,
}

impl Checked {
    /// How many there are of a severity.
    pub fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|diagnostic| diagnostic.severity == severity).count()
    }
}

/// Checks the Dockerfile that a build of the same request would read, every stage of it.
///
/// Base images are looked into where `engine` has them. `choice` stands in for what the file's `check` directive says.
///
/// # Errors
/// When the file or the ignore file cannot be read, or `choice` names no rule.
pub fn check(request: &BuildRequest, choice: Option<&str>, engine: Option<&Engine>) -> Result<Checked> {
    let (path, source) = request.source()?;
    let (rules, _) = request.ignore_rules(path.as_deref())?;
    let parsed = grammar::parse(&source);
    let mut findings = parsed.diagnostics.clone();
    let choice = match choice {
        Some(text) => CheckChoice::parse(text).map_err(|error| Error::Usage(error.to_string()))?,
        None => match request.check_choice(&parsed.dockerfile) {
            Ok(choice) => choice,
            Err(error) => {
                findings.extend(error.diagnostics().iter().cloned());
                CheckChoice::default()
            }
        },
    };
    findings.extend(grammar::lint(&parsed));
    // A file with mistakes has no plan: what a line that could not be read declares would be missed.
    if findings.iter().all(|diagnostic| diagnostic.severity != Severity::Error) {
        let options = request.options();
        let images = engine.map(|engine| known_images(engine, &parsed.dockerfile, &options)).unwrap_or_default();
        findings.extend(builder::check(&parsed.dockerfile, &options, &images, &rules));
    }
    findings.retain(|diagnostic| choice.wants(diagnostic));
    findings.sort_by_key(|diagnostic| diagnostic.span.start);
    if choice.error {
        let fails = |diagnostic: Diagnostic| match diagnostic.severity {
            Severity::Warning => as_error(diagnostic),
            _ => diagnostic,
        };
        findings = findings.into_iter().map(fails).collect();
    }
    Ok(Checked { findings })
}

/// The bases that are in the store; a check asks for no others.
pub(crate) fn known_images(
    engine: &Engine,
    dockerfile: &grammar::Dockerfile,
    options: &builder::Options,
) -> BaseImages {
    let bases = builder::bases(dockerfile, options).unwrap_or_default().into_iter();
    bases
        .filter_map(|base| {
            let id = engine.store.resolve(&base.reference).ok()??;
            Some((base.reference, engine.store.image(&id).ok()??))
        })
        .collect()
}
