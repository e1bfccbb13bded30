//! `--metadata-file`: what a build gave, for the program that called it. Names are buildx's where it has them.

use std::path::Path;

use engine::{BuildRecord, Built, StepStatus};
use serde_json::{Value, json};

use super::Failure;

/// What is told of one build.
pub(super) fn document(built: &Built, record: Option<&BuildRecord>) -> Value {
    let steps = record.map(|record| {
        json!({
            "total": record.steps.len(),
            "cached": record.count(StepStatus::Cached),
            "ran": record.count(StepStatus::Ran),
            "milliseconds": record.took_ms,
            "bytes": record.bytes,
            "list": record.steps,
        })
    });
    // An image of this store has no manifest until it is pushed: its id is the digest of its configuration.
    json!({
        "buildx.build.ref": format!("dunnage/dunnage/{}", built.build),
        "containerimage.config.digest": built.id,
        "containerimage.digest": built.id,
        "image.name": built.names.join(","),
        "dunnage.build": built.build,
        "dunnage.steps": steps,
    })
}

/// Writes it.
///
/// # Errors
/// When the file cannot be written.
pub(super) fn write(path: &Path, document: &Value) -> Result<(), Failure> {
    std::fs::write(path, format!("{document:#}\n"))
        .map_err(|error| Failure::usage(format!("cannot write --metadata-file {}: {error}", path.display())))
}
