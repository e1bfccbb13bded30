//! `top`, `stats`, `update`: what containers use, and what they may.

use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use engine::{ContainerInfo, ContainerUse, Engine, LimitSpec};
use serde_json::{Map, Value, json};

use super::{Failure, Outcome, container, open};
use crate::args::{StatsArgs, TopArgs, UpdateArgs};
use crate::config;
use crate::ui::table::{self, Column};
use crate::ui::{self, units};

/// Time between two looks at what is used.
const INTERVAL: Duration = Duration::from_secs(1);
/// Those of `ps -ef`, as docker shows them.
const PROCESSES: [Column; 8] = [
    ("UID", "UID"),
    ("PID", "PID"),
    ("PPID", "PPID"),
    ("C", "C"),
    ("STIME", "STIME"),
    ("TTY", "TTY"),
    ("TIME", "TIME"),
    ("CMD", "CMD"),
];
/// Clock ticks of a second.
const TICKS: u64 = 100;
const USES: [Column; 8] = [
    ("ID", "CONTAINER ID"),
    ("Name", "NAME"),
    ("CPUPerc", "CPU %"),
    ("MemUsage", "MEM USAGE / LIMIT"),
    ("MemPerc", "MEM %"),
    ("NetIO", "NET I/O"),
    ("BlockIO", "BLOCK I/O"),
    ("PIDs", "PIDS"),
];

pub(super) fn top(root: Option<PathBuf>, args: &TopArgs) -> Outcome {
    let (name, options) = args.container_and_options();
    let engine = open(root)?;
    if !options.is_empty() {
        engine.top_with_ps(&name, &options)?.iter().try_for_each(|line| ui::line(&ui::foreign::line(line)))?;
        return Ok(0);
    }
    let now = units::now();
    let rows: Vec<Map<String, Value>> = engine
        .top(&name)?
        .into_iter()
        .map(|process| {
            let seconds = process.ticks / TICKS;
            // The share of one processor since it began, and no more than two digits.
            let share = seconds.saturating_mul(100) / now.saturating_sub(process.started).max(1);
            let fields = [
                ("UID", json!(config::user_name(process.uid))),
                ("PID", json!(process.pid.to_string())),
                ("PPID", json!(process.parent.to_string())),
                ("C", json!(share.min(99).to_string())),
                ("STIME", json!(units::since(process.started, now))),
                ("TTY", json!(process.terminal)),
                ("TIME", json!(format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60))),
                ("CMD", json!(ui::foreign::line(&process.command))),
            ];
            fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
        })
        .collect();
    table::print(&rows, &PROCESSES, None)?;
    Ok(0)
}

pub(super) fn update(root: Option<PathBuf>, args: &UpdateArgs) -> Outcome {
    let limits = args.limits.clone().spec();
    if limits == LimitSpec::default() && args.restart.is_none() {
        return Err(Failure::usage("there is nothing to change: name a limit, as in --memory 1g, or --restart"));
    }
    container::each(root, &args.containers.names, |engine, name| engine.update(name, &limits, args.restart))
}

/// A share of processor time needs two looks: the first one is a second old when the first line is printed.
pub(super) fn stats(root: Option<PathBuf>, args: &StatsArgs) -> Outcome {
    let engine = open(root)?;
    let mut before = uses(&engine, args)?;
    loop {
        thread::sleep(INTERVAL);
        let now = uses(&engine, args)?;
        let rows: Vec<Map<String, Value>> = now
            .iter()
            .enumerate()
            .map(|(at, one)| row(one, &before, args.no_trunc, args.names.get(at).map(String::as_str)))
            .collect();
        table::print(&rows, &USES, args.format.as_deref())?;
        if args.no_stream || (rows.is_empty() && !args.names.is_empty()) {
            return Ok(0);
        }
        before = now;
    }
}

type Look = (ContainerInfo, Option<ContainerUse>);

fn uses(engine: &Engine, args: &StatsArgs) -> Result<Vec<Look>, engine::Error> {
    let containers = match args.names.as_slice() {
        [] => engine.containers()?.into_iter().filter(|info| args.all || info.status.is_running()).collect(),
        names => names.iter().map(|name| engine.container(name)).collect::<Result<Vec<_>, _>>()?,
    };
    // One that ended meanwhile uses nothing.
    Ok(containers
        .into_iter()
        .map(|info| (engine.usage_of(&info).ok(), info))
        .map(|(used, info)| (info, used))
        .collect())
}

/// `asked` is the name that the user wrote.
fn row((info, used): &Look, before: &[Look], whole: bool, asked: Option<&str>) -> Map<String, Value> {
    let earlier = before.iter().find(|(other, _)| other.record.id == info.record.id);
    let earlier = earlier.and_then(|(_, used)| used.as_ref());
    let id = if whole { info.record.id.as_str() } else { info.short_id() };
    let stats = used.as_ref().map(|used| &used.stats);
    let memory = stats.map_or(0, |stats| stats.memory.working_set());
    let limit = used.as_ref().map_or(0, |used| used.memory_limit);
    let (received, sent) = used.as_ref().map_or((0, 0), |used| used.network);
    let share = |part: f64, whole: f64| if whole > 0.0 { part / whole * 100.0 } else { 0.0 };
    let (read, written) = stats.map_or((0, 0), |stats| {
        stats.io.iter().fold((0, 0), |(read, written), io| (read + io.read_bytes, written + io.written_bytes))
    });
    let fields = [
        ("ID", json!(id)),
        ("Container", json!(asked.unwrap_or(id))),
        ("Name", json!(info.name())),
        ("CPUPerc", json!(format!("{:.2}%", processor(used.as_ref(), earlier)))),
        ("MemUsage", json!(format!("{} / {}", units::binary_bytes(memory), units::binary_bytes(limit)))),
        ("MemPerc", json!(format!("{:.2}%", share(memory as f64, limit as f64)))),
        ("NetIO", json!(format!("{} / {}", units::bytes(received), units::bytes(sent)))),
        ("BlockIO", json!(format!("{} / {}", units::bytes(read), units::bytes(written)))),
        ("PIDs", json!(stats.map_or(0, |stats| stats.pids).to_string())),
    ];
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Per cent of one processor.
fn processor(now: Option<&ContainerUse>, earlier: Option<&ContainerUse>) -> f64 {
    let (Some(now), Some(earlier)) = (now, earlier) else { return 0.0 };
    let wall = Duration::from_nanos(now.time.saturating_sub(earlier.time));
    let used = now.stats.cpu.total.saturating_sub(earlier.stats.cpu.total);
    if wall.is_zero() { 0.0 } else { used.as_secs_f64() / wall.as_secs_f64() * 100.0 }
}
