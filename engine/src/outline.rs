//! `--call outline` and `--call targets`: what a Dockerfile offers.

use builder::{Outline, Target};
use grammar::Severity;

use crate::BuildRequest;
use crate::error::Result;

/// What the target of a request can be given.
///
/// # Errors
/// With the Dockerfile's line, when it cannot be read as one.
pub fn outline(request: &BuildRequest) -> Result<Outline> {
    Ok(builder::outline(&parsed(request)?, &request.options())?)
}

/// The stages of the Dockerfile.
///
/// # Errors
/// As [`outline`].
pub fn targets(request: &BuildRequest) -> Result<Vec<Target>> {
    Ok(builder::targets(&parsed(request)?, &request.options())?)
}

fn parsed(request: &BuildRequest) -> Result<grammar::Dockerfile> {
    let (_, source) = request.source()?;
    let parsed = grammar::parse(&source);
    let (errors, _): (Vec<_>, Vec<_>) =
        parsed.diagnostics.into_iter().partition(|diagnostic| diagnostic.severity == Severity::Error);
    if errors.is_empty() { Ok(parsed.dockerfile) } else { Err(builder::Error::Dockerfile(errors).into()) }
}
