//! `dunnage ps`.

use std::path::PathBuf;

use engine::{ContainerInfo, Engine, HealthStatus, MountKind, Status};
use serde_json::{Map, Value, json};

use super::{Failure, Outcome, open};
use crate::args::PsArgs;
use crate::ui::table::{self, Column};
use crate::ui::{self, units};

const SHOWN: [Column; 7] = [
    ("ID", "CONTAINER ID"),
    ("Image", "IMAGE"),
    ("Command", "COMMAND"),
    ("RunningFor", "CREATED"),
    ("Status", "STATUS"),
    ("Ports", "PORTS"),
    ("Names", "NAMES"),
];
/// Characters of a command that are shown.
const COMMAND_WIDTH: usize = 20;

pub(super) fn ps(root: Option<PathBuf>, args: &PsArgs) -> Outcome {
    let engine = open(root)?;
    let filters = Filters::new(&engine, &args.filter)?;
    let all = args.all || args.last.is_some() || args.latest || filters.by_status();
    let most = if args.latest { 1 } else { args.last.unwrap_or(usize::MAX) };
    let mut rows = Vec::new();
    for info in engine.containers()? {
        let shown = all || info.status.is_running() || info.status == Status::Restarting;
        if shown && filters.allow(&info) && rows.len() < most {
            rows.push(row(&engine, &info, args)?);
        }
    }
    if args.quiet {
        rows.iter().filter_map(|row| row.get("ID")?.as_str()).try_for_each(ui::line)?;
        return Ok(0);
    }
    let mut shown = SHOWN.to_vec();
    if args.size {
        shown.push(("Size", "SIZE"));
    }
    table::print(&rows, &shown, args.format.as_deref())?;
    Ok(0)
}

fn ports(engine: &Engine, info: &ContainerInfo) -> Result<String, Failure> {
    let ports = if info.status.is_running() { engine.port_bindings(&info.record.id)? } else { Vec::new() };
    Ok(ports.iter().map(engine::PortBinding::words).collect::<Vec<_>>().join(", "))
}

fn row(engine: &Engine, info: &ContainerInfo, args: &PsArgs) -> Result<Map<String, Value>, Failure> {
    let command = engine.command_of(info)?.join(" ");
    let short = |text: &str| match text.char_indices().nth(COMMAND_WIDTH) {
        Some((end, _)) if !args.no_trunc => format!("{}…", text.get(..end).unwrap_or(text)),
        _ => text.to_owned(),
    };
    let created = info.record.created;
    let labels: Vec<String> = info.spec.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let mounts: Vec<String> = info.spec.mounts.iter().filter_map(|mount| mount_name(&mount.kind)).collect();
    let mut row = Map::new();
    let id = if args.no_trunc { info.record.id.as_str() } else { info.short_id() };
    for (name, value) in [
        ("ID", json!(id)),
        ("Image", json!(info.spec.image)),
        ("Command", json!(format!("\"{}\"", short(&command)))),
        ("CreatedAt", json!(units::rfc3339(created))),
        ("RunningFor", json!(units::ago_unix(created))),
        ("State", json!(info.status.word())),
        ("Status", json!(status(info))),
        ("Ports", json!(ports(engine, info)?)),
        ("Names", json!(info.name())),
        ("Labels", json!(labels.join(","))),
        ("Mounts", json!(mounts.join(","))),
        ("Networks", json!(engine.network_name(info))),
        ("LocalVolumes", json!(info.record.volumes.len().to_string())),
    ] {
        row.insert(name.to_owned(), value);
    }
    let size = if args.size { units::bytes(engine.container_size(info)?) } else { "0B".to_owned() };
    row.insert("Size".to_owned(), json!(size));
    Ok(row)
}

fn mount_name(kind: &MountKind) -> Option<String> {
    match kind {
        MountKind::Bind { source, .. } => Some(source.display().to_string()),
        MountKind::Volume { name, .. } => name.clone(),
        MountKind::Tmpfs { .. } => None,
    }
}

/// `Up 2 hours (healthy)`, `Exited (0) 3 minutes ago`.
pub(super) fn status(info: &ContainerInfo) -> String {
    let since = |nanoseconds: u64| units::ago_unix(nanoseconds / 1_000_000_000);
    let up = || {
        let age = since(info.state.started);
        let up = format!("Up {}", age.trim_end_matches(" ago"));
        match info.state.health.as_ref().map(|health| health.status) {
            Some(HealthStatus::Starting) => format!("{up} (health: starting)"),
            Some(status) => format!("{up} ({})", status.word()),
            None => up,
        }
    };
    match info.status {
        Status::Created => "Created".to_owned(),
        Status::Running => up(),
        Status::Paused => format!("{} (Paused)", up()),
        Status::Restarting => format!("Restarting ({}) {}", info.state.exit_code, since(info.state.finished)),
        Status::Exited => format!("Exited ({}) {}", info.state.exit_code, since(info.state.finished)),
    }
}

/// `--filter`: those of one key are alternatives, those of several all hold.
struct Filters<'a> {
    asked: &'a [(String, String)],
    /// The containers of `before` and `since`: when they were made.
    bounds: Vec<(bool, u64, String)>,
    ancestors: Vec<String>,
}

const KEYS: [&str; 12] = [
    "id", "name", "label", "status", "exited", "ancestor", "volume", "health", "before", "since", "network", "is-task",
];

impl<'a> Filters<'a> {
    fn new(engine: &Engine, asked: &'a [(String, String)]) -> Result<Filters<'a>, Failure> {
        let mut filters = Filters { asked, bounds: Vec::new(), ancestors: Vec::new() };
        for (key, value) in asked {
            match key.as_str() {
                "before" | "since" => {
                    let info = engine.container(value)?;
                    filters.bounds.push((key == "since", info.record.created, info.record.id));
                }
                "ancestor" => filters.ancestors.extend(engine.image_id(value)),
                "status"
                    if !["created", "running", "paused", "restarting", "exited", "dead", "removing"]
                        .contains(&value.as_str()) =>
                {
                    return Err(Failure::usage(format!(
                        "`{value}` is no status: created, running, paused, restarting and exited are"
                    )));
                }
                "exited" if value.parse::<i32>().is_err() => {
                    return Err(Failure::usage(format!("`{value}` is no exit code")));
                }
                key if !KEYS.contains(&key) => {
                    return Err(Failure::usage(format!("`{key}` is no filter: {} are", KEYS.join(", "))));
                }
                _ => {}
            }
        }
        Ok(filters)
    }

    fn by_status(&self) -> bool {
        self.asked.iter().any(|(key, _)| matches!(key.as_str(), "status" | "exited"))
    }

    fn allow(&self, info: &ContainerInfo) -> bool {
        let allowed = |key: &str| {
            let mut values =
                self.asked.iter().filter(|(name, _)| name == key).map(|(_, value)| value.as_str()).peekable();
            // Labels all hold; of other keys one value is enough.
            values.peek().is_none()
                || if key == "label" {
                    values.all(|value| has_label(info, value))
                } else {
                    values.any(|value| self.one(info, key, value))
                }
        };
        let bounds = self.bounds.iter().all(|(since, created, id)| {
            info.record.id != *id
                && if *since { info.record.created >= *created } else { info.record.created <= *created }
        });
        bounds && KEYS.iter().all(|key| matches!(*key, "before" | "since") || allowed(key))
    }

    fn one(&self, info: &ContainerInfo, key: &str, value: &str) -> bool {
        match key {
            "id" => info.record.id.starts_with(value),
            "name" => info.name().contains(value.trim_start_matches('/')),
            "status" => info.status.word() == value,
            "exited" => info.status == Status::Exited && info.state.exit_code.to_string() == value,
            "ancestor" => self.ancestors.contains(&info.record.image.to_string()),
            "volume" => info.spec.mounts.iter().any(|mount| {
                mount_name(&mount.kind).is_some_and(|name| name == value) || mount.target.as_os_str() == value
            }),
            "health" => info.state.health.as_ref().map_or("none", |health| health.status.word()) == value,
            "network" => info.spec.network.name() == value,
            "is-task" => value == "false",
            _ => true,
        }
    }
}

fn has_label(info: &ContainerInfo, label: &str) -> bool {
    let (key, value) = label.split_once('=').map_or((label, None), |(key, value)| (key, Some(value)));
    info.spec.labels.get(key).is_some_and(|there| value.is_none_or(|value| value == there))
}
