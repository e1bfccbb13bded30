//! `dunnage build --call`: questions about a Dockerfile, answered without building.

use std::path::PathBuf;

use engine::BuildRequest;
use serde_json::{Value, json};

use super::{Failure, Outcome};
use crate::args::{Call, CallMethod, CheckFormat};
use crate::ui::{self, foreign, table};

pub(super) fn call(root: Option<PathBuf>, call: Call, request: &BuildRequest) -> Outcome {
    match call.method {
        CallMethod::Check => {
            let format = if call.json { CheckFormat::Json } else { CheckFormat::Text };
            return super::check::found(root, request, None, format);
        }
        CallMethod::Outline => outline(request, call.json)?,
        CallMethod::Targets => targets(request, call.json)?,
    }
    Ok(0)
}

fn targets(request: &BuildRequest, json: bool) -> Result<(), Failure> {
    let targets = engine::targets(request)?;
    if json {
        return Ok(ui::line(&foreign::json(&json!({"v": 1, "targets": targets})))?);
    }
    let rows = targets.iter().map(|target| {
        let default = if target.default { " (default)" } else { "" };
        [format!("{}{default}", target.name), target.base.clone(), target.description.clone().unwrap_or_default()]
    });
    columns(["TARGET", "FROM", "DESCRIPTION"], rows.collect())
}

fn outline(request: &BuildRequest, json: bool) -> Result<(), Failure> {
    let outline = engine::outline(request)?;
    if json {
        let mut value = json!({"v": 1});
        if let (Some(value), Value::Object(fields)) = (value.as_object_mut(), json!(outline)) {
            value.extend(fields);
        }
        return Ok(ui::line(&foreign::json(&value))?);
    }
    ui::line(&format!("TARGET: {}", foreign::line(&outline.name)))?;
    if let Some(description) = &outline.description {
        ui::line(&format!("DESCRIPTION: {}", foreign::line(description)))?;
    }
    let args = outline.args.iter().map(|arg| {
        let value = if grammar::is_secret(&arg.name) && arg.value.is_some() {
            "(not shown)"
        } else {
            arg.value.as_deref().unwrap_or_default()
        };
        [arg.name.clone(), value.to_owned(), arg.description.clone().unwrap_or_default()]
    });
    section(["BUILD ARG", "VALUE", "DESCRIPTION"], args.collect())?;
    for (heading, mounts) in [("SECRET", &outline.secrets), ("SSH", &outline.ssh)] {
        let required = |required| if required { "required" } else { "" }.to_owned();
        let rows =
            mounts.iter().map(|mount| [mount.name.clone(), required(mount.required), format!("line {}", mount.line)]);
        section([heading, "REQUIRED", "USED IN"], rows.collect())?;
    }
    Ok(())
}

fn section(head: [&str; 3], rows: Vec<[String; 3]>) -> Result<(), Failure> {
    if rows.is_empty() {
        return Ok(());
    }
    ui::line("")?;
    columns(head, rows)
}

fn columns(head: [&str; 3], rows: Vec<[String; 3]>) -> Result<(), Failure> {
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(|cell| foreign::line(cell)).collect()).collect();
    table::columns(&head.map(str::to_owned), &rows)
}
