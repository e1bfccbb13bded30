//! `dunnage ps`.

use std::path::PathBuf;

use engine::{ContainerInfo, Engine, HealthStatus, MountKind, Status};
use regex_lite::Regex;
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
/// Characters of a command that are shown, with the one that says that there are more.
const COMMAND_WIDTH: usize = 20;

pub(super) fn ps(root: Option<PathBuf>, args: &PsArgs) -> Outcome {
    let engine = open(root)?;
    let filters = Filters::new(&engine, &args.filter)?;
    let last = args.last.and_then(|last| usize::try_from(last).ok());
    let all = args.all || last.is_some() || args.latest || filters.by_status();
    let most = if args.latest { 1 } else { last.unwrap_or(usize::MAX) };
    // Only templates and JSON show more than the columns, and a size costs a walk.
    let sizes = args.size || args.format.as_deref().is_some_and(|format| format.contains(".Size"));
    let mut rows = Vec::new();
    for info in engine.containers()? {
        let shown = all || info.status.is_running() || info.status == Status::Restarting;
        if shown && rows.len() < most && filters.allow(&engine, &info)? {
            rows.push(row(&engine, &info, args, sizes)?);
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

fn row(engine: &Engine, info: &ContainerInfo, args: &PsArgs, sizes: bool) -> Result<Map<String, Value>, Failure> {
    let command = shell_words(&engine.command_of(info)?);
    let short = |text: &str| match text.chars().count() > COMMAND_WIDTH && !args.no_trunc {
        true => text.chars().take(COMMAND_WIDTH - 1).chain(['…']).collect(),
        false => text.to_owned(),
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
        ("CreatedAt", json!(units::docker_time(created))),
        ("RunningFor", json!(units::ago_unix(created))),
        ("State", json!(info.status.word())),
        ("Status", json!(status(info))),
        ("Ports", json!(ports(engine, info)?)),
        ("Names", json!(info.name())),
        ("Labels", json!(labels.join(","))),
        ("Mounts", json!(mounts.join(","))),
        ("Networks", json!(engine.network_name(info))),
        ("LocalVolumes", json!(info.record.volumes.len().to_string())),
        // For `.Label "x"`.
        (".Label", json!(info.spec.labels)),
    ] {
        row.insert(name.to_owned(), value);
    }
    let size = match sizes {
        true => {
            let (written, all) = engine.container_sizes(info)?;
            format!("{} (virtual {})", units::bytes(written), units::bytes(all))
        }
        false => "0B".to_owned(),
    };
    row.insert("Size".to_owned(), json!(size));
    Ok(row)
}

/// As a shell would have to be told it: words with blanks or quotes are quoted.
fn shell_words(words: &[String]) -> String {
    let plain = |word: &str| {
        !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_./=:,+@%^~[]{}".contains(&byte))
    };
    let quoted = |word: &String| match plain(word) {
        true => word.clone(),
        false => format!("'{}'", word.replace('\'', "'\"'\"'")),
    };
    words.iter().map(quoted).collect::<Vec<_>>().join(" ")
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
    let age = || format!("Up {}", since(info.state.started).trim_end_matches(" ago"));
    let up = || {
        let up = age();
        match info.state.health.as_ref().map(|health| health.status) {
            Some(HealthStatus::Starting) => format!("{up} (health: starting)"),
            Some(status) => format!("{up} ({})", status.word()),
            None => up,
        }
    };
    match info.status {
        Status::Created => "Created".to_owned(),
        Status::Running => up(),
        Status::Paused => format!("{} (Paused)", age()),
        Status::Restarting => format!("Restarting ({}) {}", info.state.exit_code, since(info.state.finished)),
        Status::Exited => format!("Exited ({}) {}", info.state.exit_code, since(info.state.finished)),
    }
}

/// `--filter`: those of one key are alternatives, those of several all hold.
#[derive(Default)]
struct Filters<'a> {
    asked: &'a [(String, String)],
    /// The containers of `before` and `since`: when they were made.
    bounds: Vec<(bool, (u64, u32), String)>,
    ancestors: Vec<String>,
    /// Of `name`: a pattern, or what is none and is looked for as it is.
    names: Vec<Result<Regex, String>>,
    /// Ports of this machine, and of containers: both ends, and a protocol.
    publish: Vec<(u16, u16, String)>,
    expose: Vec<(u16, u16, String)>,
}

const KEYS: [&str; 15] = [
    "id",
    "name",
    "label",
    "status",
    "exited",
    "ancestor",
    "volume",
    "health",
    "before",
    "since",
    "network",
    "is-task",
    "publish",
    "expose",
    "isolation",
];
/// Longest pattern of a name.
const PATTERN_LIMIT: usize = 4096;

impl<'a> Filters<'a> {
    fn new(engine: &Engine, asked: &'a [(String, String)]) -> Result<Filters<'a>, Failure> {
        let mut filters = Filters { asked, ..Filters::default() };
        for (key, value) in asked {
            match key.as_str() {
                "before" | "since" => {
                    let info = engine.container(value)?;
                    filters.bounds.push((key == "since", made(&info), info.record.id));
                }
                "ancestor" => filters.ancestors.extend(engine.image_id(value)),
                "name" => filters.names.push(match Regex::new(value) {
                    Ok(pattern) if value.len() <= PATTERN_LIMIT => Ok(pattern),
                    _ => Err(value.clone()),
                }),
                "publish" => filters.publish.push(port_range(value)?),
                "expose" => filters.expose.push(port_range(value)?),
                "status"
                    if !["created", "running", "paused", "restarting", "exited", "dead", "removing"]
                        .contains(&value.as_str()) =>
                {
                    return Err(Failure::usage(format!(
                        "`{value}` is no status: created, running, paused, restarting and exited are"
                    )));
                }
                "health" if !["starting", "healthy", "unhealthy", "none"].contains(&value.as_str()) => {
                    return Err(Failure::usage(format!(
                        "`{value}` is no state of health: starting, healthy, unhealthy and none are"
                    )));
                }
                "exited" if value.parse::<i32>().is_err() => {
                    return Err(Failure::usage(format!("`{value}` is no exit code")));
                }
                key if !KEYS.contains(&key) && !key.is_empty() => {
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

    fn allow(&self, engine: &Engine, info: &ContainerInfo) -> Result<bool, Failure> {
        Ok(self.allow_record(info) && self.allow_ports(engine, info)?)
    }

    /// Ports are looked up for those alone that nothing else rules out.
    fn allow_ports(&self, engine: &Engine, info: &ContainerInfo) -> Result<bool, Failure> {
        let holds = |asked: &[(u16, u16, String)], ports: &[(u16, String)]| {
            let one = |(from, to, protocol): &(u16, u16, String)| {
                ports.iter().any(|(port, kind)| (from..=to).contains(&port) && kind == protocol)
            };
            asked.is_empty() || asked.iter().any(one)
        };
        let mut published = Vec::new();
        if !self.publish.is_empty() {
            let bindings = engine.port_bindings(&info.record.id)?;
            published.extend(bindings.iter().map(|port| (port.host, port.protocol.word().to_owned())));
        }
        let mut exposed = Vec::new();
        if !self.expose.is_empty() {
            let shown = engine.inspect_container(&info.record.id)?;
            let ports = shown.pointer("/Config/ExposedPorts").and_then(Value::as_object);
            exposed.extend(ports.into_iter().flat_map(|ports| ports.keys()).filter_map(|port| {
                let (number, protocol) = port.split_once('/')?;
                Some((number.parse().ok()?, protocol.to_owned()))
            }));
        }
        Ok(holds(&self.publish, &published) && holds(&self.expose, &exposed))
    }

    fn allow_record(&self, info: &ContainerInfo) -> bool {
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
            info.record.id != *id && if *since { made(info) >= *created } else { made(info) <= *created }
        });
        bounds && KEYS.iter().all(|key| matches!(*key, "before" | "since") || allowed(key))
    }

    fn one(&self, info: &ContainerInfo, key: &str, value: &str) -> bool {
        match key {
            "id" => info.record.id.starts_with(value),
            // Docker's names begin with a slash, and patterns are held against both.
            "name" => self.names.iter().any(|pattern| match pattern {
                Ok(pattern) => pattern.is_match(&info.name()) || pattern.is_match(&format!("/{}", info.name())),
                Err(text) => info.name().contains(text.trim_start_matches('/')),
            }),
            "status" => info.status.word() == value,
            "exited" => info.status == Status::Exited && info.state.exit_code.to_string() == value,
            "ancestor" => self.ancestors.contains(&info.record.image.to_string()),
            "volume" => info.spec.mounts.iter().any(|mount| {
                mount_name(&mount.kind).is_some_and(|name| name == value) || mount.target.as_os_str() == value
            }),
            "health" => info.state.health.as_ref().map_or("none", |health| health.status.word()) == value,
            "network" => info.spec.network.name() == value,
            "is-task" => value == "false",
            // Others are those of Windows.
            "isolation" => value == "default",
            _ => true,
        }
    }
}

fn made(info: &ContainerInfo) -> (u64, u32) {
    (info.record.created, info.record.created_nanos)
}

/// `80`, `53/udp`, `8000-8010/tcp`.
fn port_range(text: &str) -> Result<(u16, u16, String), Failure> {
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let (from, to) = ports.split_once('-').unwrap_or((ports, ports));
    match (from.parse(), to.parse()) {
        (Ok(from), Ok(to)) if from <= to => Ok((from, to, protocol.to_owned())),
        _ => Err(Failure::usage(format!("`{text}` is no port: write 80, 53/udp or 8000-8010"))),
    }
}

fn has_label(info: &ContainerInfo, label: &str) -> bool {
    let (key, value) = label.split_once('=').map_or((label, None), |(key, value)| (key, Some(value)));
    info.spec.labels.get(key).is_some_and(|there| value.is_none_or(|value| value == there))
}
