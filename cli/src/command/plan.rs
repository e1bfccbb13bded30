//! `dunnage plan`.

use std::path::PathBuf;

use engine::{Fate, Forecast, Planned};
use serde_json::json;

use super::{Failure, Outcome, open_for_snapshots};
use crate::args::{BuildArgs, PlanArgs, PlanFormat};
use crate::ui::graph::{Graph, Node, Tone};
use crate::ui::{self, BOLD, CYAN, DIM, GREEN, YELLOW, foreign};

pub(super) fn plan(root: Option<PathBuf>, args: PlanArgs) -> Outcome {
    refuse(&args.build)?;
    let (format, storage) = (args.format, args.build.storage);
    let planned = open_for_snapshots(root, storage)?.plan(&super::build::request(args.build)?)?;
    match format {
        PlanFormat::Text => text(&planned)?,
        PlanFormat::Json => ui::line(&json(&planned))?,
        PlanFormat::Dot => ui::line(graph(&planned).dot().trim_end())?,
        PlanFormat::Svg => ui::line(graph(&planned).svg().trim_end())?,
    }
    Ok(0)
}

/// What only a build can do is refused, not ignored.
fn refuse(args: &BuildArgs) -> Result<(), Failure> {
    let given = [
        ("--quiet", args.quiet),
        ("--check", args.check),
        ("--call", args.call.is_some()),
        ("--progress", args.progress.is_some()),
        ("--iidfile", args.iidfile.is_some()),
        ("--metadata-file", args.metadata_file.is_some()),
        ("--timings", args.timings.is_some()),
        ("--output", !args.output.is_empty()),
        ("--load", args.load),
        ("--annotation", !args.annotation.is_empty()),
        ("--attest", !args.attest.is_empty() || args.sbom.is_some() || args.provenance.is_some()),
        ("--watch", args.watch),
        ("--cache-to", !args.cache_to.is_empty()),
    ];
    match given.iter().find(|(_, given)| *given) {
        Some((flag, _)) => Err(Failure::usage(format!("{flag} is for `dunnage build`: a plan builds nothing"))),
        None => Ok(()),
    }
}

fn text(planned: &Planned) -> Result<(), Failure> {
    let count = |word: &str| planned.steps.iter().filter(|step| tone(&step.fate).word() == word).count();
    let (cached, runs, open) = (count("cached"), count("runs"), count("open"));
    let open = if open > 0 { format!(", {open} not known yet") } else { String::new() };
    let head = format!("{} to {}", foreign::line(&planned.dockerfile), foreign::line(&planned.target));
    let total = planned.steps.len();
    ui::line(&format!("{BOLD}{head}{BOLD:#} · {total} steps: {cached} cached, {runs} to run{open}"))?;
    let mut stage = "";
    for step in &planned.steps {
        if step.step.stage != stage || !step.step.bases.is_empty() {
            let from = if step.step.bases.is_empty() {
                String::new()
            } else {
                format!(" from {}", step.step.bases.join(", "))
            };
            ui::line(&format!(
                "\n{BOLD}{}{BOLD:#}{DIM}{}{DIM:#}",
                foreign::line(&step.step.stage),
                foreign::line(&from)
            ))?;
            stage = &step.step.stage;
        }
        line(step)?;
    }
    Ok(())
}

fn line(step: &Forecast) -> Result<(), Failure> {
    let tone = tone(&step.fate);
    let style = match tone {
        Tone::Cached => GREEN,
        Tone::Open => YELLOW,
        _ => CYAN,
    };
    let number = format!("#{}", step.step.number);
    let text = foreign::line(&step.step.text);
    ui::line(&format!("  {number:>4} {style}{:<6}{style:#}  {text}", tone.word()))?;
    for why in reasons(step) {
        ui::line(&format!("               {DIM}{}{DIM:#}", foreign::line(&why)))?;
    }
    Ok(())
}

fn reasons(step: &Forecast) -> Vec<String> {
    match &step.fate {
        Fate::Cached(_) => Vec::new(),
        Fate::Runs(engine::MissReason::Changed { changes }) => changes.iter().map(ToString::to_string).collect(),
        Fate::Runs(reason) => vec![reason.to_string()],
        Fate::Depends { on, changes } => {
            let steps: Vec<String> = on.iter().map(|step| format!("#{step}")).collect();
            let mut lines = vec![format!("known when {} has run", steps.join(", "))];
            lines.extend(changes.iter().map(ToString::to_string));
            lines
        }
    }
}

/// The form is stable: fields are added, none goes.
fn json(planned: &Planned) -> String {
    let step = |step: &Forecast| {
        let info = &step.step;
        json!({
            "number": info.number, "stage": info.stage, "position": info.position, "text": info.text, "line": info.line,
            "inputs": info.inputs, "bases": info.bases, "fate": step.fate, "why": reasons(step),
        })
    };
    let steps: Vec<_> = planned.steps.iter().map(step).collect();
    foreign::json(&json!({"v": 1, "dockerfile": planned.dockerfile, "target": planned.target, "steps": steps}))
}

fn tone(fate: &Fate) -> Tone {
    match fate {
        Fate::Cached(_) => Tone::Cached,
        Fate::Runs(_) => Tone::Runs,
        Fate::Depends { .. } => Tone::Open,
    }
}

fn note(step: &Forecast) -> String {
    let why = reasons(step).join("; ");
    let word = tone(&step.fate).word();
    if why.is_empty() { word.to_owned() } else { format!("{word} · {why}") }
}

fn graph(planned: &Planned) -> Graph {
    let nodes = planned.steps.iter().map(|step| Node {
        number: step.step.number,
        stage: step.step.stage.clone(),
        bases: step.step.bases.clone(),
        text: step.step.text.clone(),
        note: note(step),
        inputs: step.step.inputs.clone(),
        tone: tone(&step.fate),
        strong: false,
    });
    Graph { title: format!("{} to {}", planned.dockerfile, planned.target), nodes: nodes.collect() }
}
