//! `dunnage events`.

use std::path::PathBuf;

use engine::{ContainerEvent, EventWindow};
use serde_json::{Value, json};

use super::{Failure, Outcome, open};
use crate::args::EventsArgs;
use crate::ui;
use crate::ui::template::Template;

const KEYS: [&str; 6] = ["container", "event", "label", "image", "type", "scope"];

pub(super) fn events(root: Option<PathBuf>, args: &EventsArgs) -> Outcome {
    if let Some((key, _)) = args.filter.iter().find(|(key, _)| !KEYS.contains(&key.as_str()) && !key.is_empty()) {
        return Err(Failure::usage(format!("`{key}` is no filter: {} are", KEYS.join(", "))));
    }
    // A script that waits for others would wait for ever.
    if let Some((_, other)) = args.filter.iter().find(|(key, value)| key == "type" && value != "container") {
        return Err(Failure::usage(format!("no events of the type `{other}` are told: those of containers are")));
    }
    let format = args.format.as_deref().filter(|format| *format != "json");
    let template = format.map(Template::parse).transpose().map_err(Failure::Usage)?;
    let mut outcome = Ok(());
    open(root)?.events(EventWindow { since: args.since, until: args.until }, &mut |event| {
        if !wanted(event, &args.filter) {
            return true;
        }
        outcome = show(event, args.format.is_some(), template.as_ref());
        outcome.is_ok()
    })?;
    outcome.map(|()| 0)
}

fn show(event: &ContainerEvent, json: bool, template: Option<&Template>) -> Result<(), Failure> {
    let text = match template {
        Some(template) => template.render(&value(event)).map_err(Failure::Usage)?,
        None if json => value(event).to_string(),
        None => {
            let mut attributes: Vec<String> =
                event.attributes.iter().map(|(name, value)| format!("{name}={value}")).collect();
            attributes.extend([format!("image={}", event.image), format!("name={}", event.name)]);
            attributes.sort();
            format!(
                "{} container {} {} ({})",
                engine::rfc3339(event.time),
                event.action,
                event.id,
                attributes.join(", ")
            )
        }
    };
    Ok(ui::line(&text)?)
}

/// Docker's document.
fn value(event: &ContainerEvent) -> Value {
    let mut attributes = event.attributes.clone();
    attributes.insert("image".to_owned(), event.image.clone());
    attributes.insert("name".to_owned(), event.name.clone());
    json!({
        "status": event.action,
        "id": event.id,
        "from": event.image,
        "Type": "container",
        "Action": event.action,
        "Actor": { "ID": event.id, "Attributes": attributes },
        "scope": "local",
        "time": event.time / 1_000_000_000,
        "timeNano": event.time,
    })
}

/// Filters of one key are alternatives, those of several all hold.
fn wanted(event: &ContainerEvent, filters: &[(String, String)]) -> bool {
    let one = |key: &str, value: &str| match key {
        "container" => event.name == value || event.id.starts_with(value),
        "event" => event.action == value || event.action.split(':').next() == Some(value),
        "image" => event.image == value,
        "label" => {
            let (name, wanted) = value.split_once('=').map_or((value, None), |(name, value)| (name, Some(value)));
            event.attributes.get(name).is_some_and(|there| wanted.is_none_or(|wanted| wanted == there))
        }
        "type" => value == "container",
        _ => value == "local",
    };
    KEYS.iter().all(|key| {
        let mut values = filters.iter().filter(|(name, _)| name == key).peekable();
        values.peek().is_none() || values.any(|(_, value)| one(key, value))
    })
}
