//! `dunnage inspect`, for whatever has the name.

use std::path::PathBuf;

use engine::{Cancel, Engine};
use serde_json::Value;

use super::{Failure, Outcome, network, open, volume};
use crate::args::{InspectArgs, InspectKind};
use crate::ui::template::Template;
use crate::{config, ui};

/// `kind` is what the command's own name asks for; `--type` has the last word where there is no such name.
pub(super) fn inspect(root: Option<PathBuf>, args: &InspectArgs, kind: Option<InspectKind>) -> Outcome {
    let engine = open(root)?;
    let kind = kind.or(args.kind);
    each(&args.images, args.format.as_deref(), |name| match args.remote {
        true => config::fetch().inspect_remote(name, args.platform.as_ref(), &Cancel::default()),
        false => look(&engine, name, kind, args.size),
    })
}

/// Looks at each name and shows what was found as one JSON list, or through a template; what fails is told one by one.
pub(super) fn each(
    names: &[String],
    format: Option<&str>,
    mut look: impl FnMut(&str) -> engine::Result<Value>,
) -> Outcome {
    // As with docker an empty format, as of a variable that is not set, is none.
    let format = format.filter(|format| !format.is_empty());
    let template = format.filter(|format| *format != "json").map(Template::parse);
    let template = template.transpose().map_err(Failure::Usage)?;
    let mut found = Vec::new();
    let mut code = 0;
    for name in names {
        match look(name) {
            Ok(value) => found.push(value),
            Err(error) => code = Failure::from(error).tell(),
        }
    }
    match (template, format) {
        (Some(template), _) => {
            for value in &found {
                ui::line(&template.render(value).map_err(Failure::Usage)?)?;
            }
        }
        // A line, as docker's: programs read it.
        (None, Some(_)) => ui::line(&Value::Array(found).to_string())?,
        (None, None) => ui::line(&serde_json::to_string_pretty(&found).unwrap_or_default())?,
    }
    Ok(code)
}

fn look(engine: &Engine, name: &str, kind: Option<InspectKind>, size: bool) -> engine::Result<Value> {
    match kind {
        Some(InspectKind::Image) => engine.inspect(name),
        Some(InspectKind::Container) => container(engine, name, size),
        Some(InspectKind::Network) => engine.network(name).map(|found| network::shown(&found)),
        Some(InspectKind::Volume) => engine.volume(name).map(|(found, data)| volume::shown(&found, &data)),
        None => any(engine, name, size),
    }
}

/// A container, or else an image, a network, a volume.
fn any(engine: &Engine, name: &str, size: bool) -> engine::Result<Value> {
    match container(engine, name, size) {
        Err(error) if error.is_missing_container() => {}
        result => return result,
    }
    let image = match engine.inspect(name) {
        Err(error) if error.is_missing_image() => error,
        result => return result,
    };
    if let Ok(found) = engine.network(name) {
        return Ok(network::shown(&found));
    }
    match engine.volume(name) {
        Ok((found, data)) => Ok(volume::shown(&found, &data)),
        Err(_) => Err(engine::Error::nothing_named(name, &image)),
    }
}

fn container(engine: &Engine, name: &str, size: bool) -> engine::Result<Value> {
    let mut shown = engine.inspect_container(name)?;
    if let (true, Some(shown)) = (size, shown.as_object_mut()) {
        let (written, all) = engine.container_sizes(&engine.container(name)?)?;
        shown.insert("SizeRw".to_owned(), written.into());
        shown.insert("SizeRootFs".to_owned(), all.into());
    }
    Ok(shown)
}
