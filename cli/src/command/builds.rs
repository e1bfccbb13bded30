//! `dunnage builds`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use engine::{BuildRecord, Engine, StepRecord, StepStatus, Stream};
use serde_json::{Map, Value, json};

use super::{Failure, Outcome, open};
use crate::args::{Builds, BuildsLogsArgs, BuildsLsArgs, BuildsRmArgs, BuildsShowArgs};
use crate::ui::progress::Lines;
use crate::ui::table::{self, Column};
use crate::ui::template::Template;
use crate::ui::{self, BOLD, CYAN, DIM, GREEN, RED, YELLOW, foreign, units};

const COLUMNS: [Column; 6] = [
    ("ID", "BUILD ID"),
    ("Name", "NAME"),
    ("Status", "STATUS"),
    ("Steps", "CACHED"),
    ("CreatedSince", "CREATED"),
    ("Duration", "DURATION"),
];

/// How often a log that grows is looked at.
const POLL: Duration = Duration::from_millis(100);

/// Changes that a step's line names.
const CHANGES: usize = 2;

pub(super) fn builds(root: Option<PathBuf>, builds: &Builds) -> Outcome {
    let engine = open(root)?;
    match builds {
        Builds::Ls(args) => list(&engine, args),
        Builds::Show(args) => show(&engine, args),
        Builds::Logs(args) => logs(&engine, args),
        Builds::Rm(args) => remove(&engine, args),
    }
}

fn list(engine: &Engine, args: &BuildsLsArgs) -> Outcome {
    let filters = args.filter.iter().map(|text| filter(text)).collect::<Result<Vec<_>, _>>()?;
    let wanted = |build: &BuildRecord| filters.iter().all(|(field, value)| field.matches(build, value));
    let builds: Vec<BuildRecord> = engine.builds()?.into_iter().filter(wanted).collect();
    if args.quiet {
        builds.iter().try_for_each(|build| ui::line(&build.id))?;
        return Ok(0);
    }
    let rows: Vec<Map<String, Value>> = builds.iter().filter_map(row).collect();
    table::print(&rows, &COLUMNS, args.format.as_deref())?;
    Ok(0)
}

fn row(build: &BuildRecord) -> Option<Map<String, Value>> {
    let name = build.names.first().cloned().unwrap_or_else(|| build.context.clone());
    let row = json!({
        "ID": build.id,
        "Name": foreign::line(&name),
        "Status": build.status.word(),
        "Steps": format!("{}/{}", build.count(StepStatus::Cached), build.steps.len()),
        "CreatedSince": units::ago_ms(build.started_ms),
        "CreatedAt": units::time_ms(build.started_ms),
        "Duration": units::duration(Duration::from_millis(build.took_ms)),
        "Context": foreign::line(&build.context),
        "Dockerfile": foreign::line(&build.dockerfile),
        "Image": build.image,
        "ExitCode": build.exit_code,
    });
    row.as_object().cloned()
}

#[derive(Debug, Clone, Copy)]
enum Field {
    Status,
    Name,
    Context,
}

const STATUSES: [&str; 5] = ["running", "ok", "failed", "cancelled", "interrupted"];

fn filter(text: &str) -> Result<(Field, String), Failure> {
    let (field, value) = text.split_once('=').unwrap_or((text, ""));
    let field = match field {
        "status" if !STATUSES.contains(&value) => {
            return Err(Failure::usage(format!(
                "`{value}` is no status of a build: there are {}",
                STATUSES.join(", ")
            )));
        }
        "status" => Field::Status,
        "name" => Field::Name,
        "context" => Field::Context,
        _ => return Err(Failure::usage(format!("the filter `{text}` is not known: status=, name= and context= are"))),
    };
    Ok((field, value.to_owned()))
}

impl Field {
    fn matches(self, build: &BuildRecord, value: &str) -> bool {
        match self {
            Field::Status => build.status.word() == value,
            Field::Name => build.names.iter().any(|name| name == value || name.split(':').next() == Some(value)),
            Field::Context => {
                std::fs::canonicalize(value).is_ok_and(|path| path.display().to_string() == build.context)
            }
        }
    }
}

fn show(engine: &Engine, args: &BuildsShowArgs) -> Outcome {
    let build = engine.build_record(args.id.as_deref())?;
    if let Some(path) = &args.timings {
        super::timings::write(engine, &build, path)?;
        return Ok(0);
    }
    match args.format.as_deref() {
        None => overview(&build)?,
        Some("json") => ui::line(&foreign::json(&json!(build)))?,
        Some(text) => {
            let template = Template::parse(text).map_err(Failure::usage)?;
            ui::line(&foreign::lines(&template.render(&json!(build)).map_err(Failure::usage)?))?;
        }
    }
    Ok(0)
}

fn overview(build: &BuildRecord) -> Result<(), Failure> {
    let took = units::duration(Duration::from_millis(build.took_ms));
    ui::line(&format!(
        "{BOLD}build {}{BOLD:#} {}, {} after {took}",
        build.id,
        units::ago_ms(build.started_ms),
        build.status.word()
    ))?;
    let target = build.target.as_ref().map_or_else(String::new, |target| format!(" to {target}"));
    let mut facts = vec![
        ("context", build.context.clone()),
        ("file", format!("{}{target}", build.dockerfile)),
        ("platform", build.platform.clone()),
    ];
    facts.extend(build.args.iter().map(|(name, value)| ("argument", format!("{name}={value}"))));
    if let Some(image) = &build.image {
        facts.push(("image", format!("{image} · {} · {}", units::bytes(build.bytes), build.names.join(", "))));
    }
    if let Some(error) = &build.error {
        let place = error.place.as_ref().map_or_else(String::new, |(file, line)| format!(" ({file}:{line})"));
        facts.push(("error", format!("{}{place}", error.message)));
    }
    if build.log_bytes > 0 {
        let cut = if build.log_cut { ", not all of it kept" } else { "" };
        facts.push(("log", format!("{}{cut}", units::bytes(build.log_bytes))));
    }
    for (name, value) in facts {
        ui::line(&format!("{DIM}{name:<9}{DIM:#} {}", foreign::line(&value)))?;
    }
    if !build.steps.is_empty() {
        ui::line("")?;
    }
    build.steps.iter().try_for_each(|step| Ok(ui::line(&step_line(step))?))
}

fn step_line(step: &StepRecord) -> String {
    let (style, word) = match step.status {
        StepStatus::Waiting => (DIM, "-"),
        StepStatus::Running => (CYAN, "running"),
        StepStatus::Cached => (GREEN, "cached"),
        StepStatus::Ran => (CYAN, "ran"),
        StepStatus::Failed => (RED, "failed"),
        StepStatus::Cancelled => (YELLOW, "stopped"),
    };
    let time = match step.status {
        StepStatus::Waiting => String::new(),
        _ => units::duration(Duration::from_millis(step.ended_ms.saturating_sub(step.began_ms))),
    };
    let (place, count) = step.position;
    let text = foreign::line(&format!("[{} {place}/{count}] {}", step.stage, step.text));
    let why = match &step.reason {
        Some(engine::MissReason::Changed { changes }) => {
            let named: Vec<String> = changes.iter().take(CHANGES).map(ToString::to_string).collect();
            let more = if changes.len() > CHANGES { "; …" } else { "" };
            format!("  {DIM}{}{more}{DIM:#}", foreign::line(&named.join("; ")))
        }
        _ => String::new(),
    };
    format!("{:>4} {style}{word:<8}{style:#}{time:>7}  {text}{why}", format!("#{}", step.number))
}

/// What is shown already: a log only grows.
#[derive(Default)]
struct Shown {
    pieces: usize,
    lines: BTreeMap<u16, Lines>,
}

fn logs(engine: &Engine, args: &BuildsLogsArgs) -> Outcome {
    let build = engine.build_record(args.id.as_deref())?;
    let wanted = match &args.step {
        Some(text) => Some(u16::try_from(build.find_step(text)?.number).unwrap_or(u16::MAX)),
        None => None,
    };
    let mut shown = Shown::default();
    loop {
        let (log, running) = engine.build_log(&build.id)?;
        shown.more(&log, wanted, args.raw)?;
        if !running || !args.follow {
            break;
        }
        std::thread::sleep(POLL);
    }
    shown.rest(wanted)?;
    Ok(0)
}

impl Shown {
    fn more(&mut self, log: &engine::Log, wanted: Option<u16>, raw: bool) -> Result<(), Failure> {
        for (origin, bytes) in log.pieces().skip(self.pieces) {
            self.pieces += 1;
            if wanted.is_some_and(|step| step != origin.step) {
                continue;
            }
            if raw {
                ui::bytes(bytes)?;
                continue;
            }
            let stream = if origin.stream == 2 { Stream::Stderr } else { Stream::Stdout };
            let ended = self.lines.entry(origin.step).or_default().push(stream, bytes);
            print(origin.step, &ended, wanted)?;
        }
        Ok(())
    }

    fn rest(&mut self, wanted: Option<u16>) -> Result<(), Failure> {
        std::mem::take(&mut self.lines).into_iter().try_for_each(|(step, mut lines)| print(step, &lines.rest(), wanted))
    }
}

fn print(step: u16, lines: &[String], wanted: Option<u16>) -> Result<(), Failure> {
    lines.iter().try_for_each(|line| match (wanted, step) {
        (Some(_), _) | (None, 0) => Ok(ui::line(line)?),
        (None, step) => Ok(ui::line(&format!("{DIM}#{step}{DIM:#} {line}"))?),
    })
}

fn remove(engine: &Engine, args: &BuildsRmArgs) -> Outcome {
    let ids = if args.all {
        let builds = engine.builds()?.into_iter().filter(|build| build.status != engine::BuildStatus::Running);
        builds.map(|build| build.id).collect()
    } else {
        args.ids.clone()
    };
    for id in ids {
        ui::line(&engine.remove_build(&id)?)?;
    }
    Ok(0)
}
