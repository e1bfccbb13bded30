//! `dunnage inspect`, for whatever has the name.

use std::path::PathBuf;

use engine::{Cancel, Engine};
use serde_json::Value;

use super::{Failure, Outcome, open};
use crate::args::InspectArgs;
use crate::ui::template::Template;
use crate::{config, ui};

/// What is looked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A container, or else an image.
    Any,
    Container,
    Image,
}

pub(super) fn inspect(root: Option<PathBuf>, args: &InspectArgs, kind: Kind) -> Outcome {
    let engine = open(root)?;
    each(&args.images, args.format.as_deref(), |name| match args.remote {
        true => config::fetch().inspect_remote(name, args.platform.as_ref(), &Cancel::default()),
        false => look(&engine, name, kind),
    })
}

/// Looks at each name and shows what was found as one JSON list, or through a template; what fails is told one by one.
pub(super) fn each(
    names: &[String],
    format: Option<&str>,
    mut look: impl FnMut(&str) -> engine::Result<Value>,
) -> Outcome {
    let format = format.filter(|format| *format != "json");
    let template = format.map(Template::parse).transpose().map_err(Failure::Usage)?;
    let mut found = Vec::new();
    let mut code = 0;
    for name in names {
        match look(name) {
            Ok(value) => found.push(value),
            Err(error) => code = Failure::from(error).tell(),
        }
    }
    match template {
        Some(template) => {
            for value in &found {
                ui::line(&template.render(value).map_err(Failure::Usage)?)?;
            }
        }
        None => ui::line(&serde_json::to_string_pretty(&found).unwrap_or_default())?,
    }
    Ok(code)
}

fn look(engine: &Engine, name: &str, kind: Kind) -> engine::Result<Value> {
    match kind {
        Kind::Image => engine.inspect(name),
        Kind::Container => engine.inspect_container(name),
        Kind::Any => match engine.inspect_container(name) {
            Err(error) if error.is_missing_container() => engine.inspect(name),
            result => result,
        },
    }
}
