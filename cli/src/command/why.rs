//! `dunnage why`.

use std::path::PathBuf;

use engine::{BuildRecord, MissReason, StepRecord, StepStatus};
use serde_json::json;

use super::{Failure, Outcome, open};
use crate::args::{WhyArgs, WhyFormat};
use crate::ui::{self, BOLD, CYAN, DIM, GREEN, RED, foreign, units};

pub(super) fn why(root: Option<PathBuf>, args: &WhyArgs) -> Outcome {
    let engine = open(root)?;
    let build = match &args.build {
        Some(id) => engine.build_record(Some(id))?,
        None => engine.last_build_of(&args.context)?,
    };
    let steps: Vec<&StepRecord> = match &args.step {
        Some(text) => vec![build.find_step(text)?],
        None => build.that_ran().collect(),
    };
    match args.format {
        WhyFormat::Text => text(&build, &steps, args.step.is_some())?,
        WhyFormat::Json => ui::line(&json(&build, &steps))?,
    }
    Ok(0)
}

fn text(build: &BuildRecord, steps: &[&StepRecord], named: bool) -> Result<(), Failure> {
    let when = units::ago_ms(build.started_ms);
    let ran = build.that_ran().count();
    let head = format!("{} of {}", foreign::line(&build.dockerfile), foreign::line(&build.context));
    ui::line(&format!("{DIM}build {} · {head} · {when} · {}{DIM:#}", build.id, build.status.word()))?;
    if !named && ran == 0 {
        return Ok(ui::line(&format!("Nothing ran: all {} steps were cached.", build.steps.len()))?);
    }
    for step in steps {
        ui::line("")?;
        ui::line(&title(step))?;
        for line in reason(step) {
            ui::line(&format!("    {line}"))?;
        }
        for cause in build.explain(step).behind {
            ui::line(&format!("  {DIM}└─{DIM:#} {}", title(cause)))?;
            for line in reason(cause) {
                ui::line(&format!("       {line}"))?;
            }
        }
    }
    if !named {
        let cached = build.count(StepStatus::Cached);
        ui::line(&format!("\n{DIM}{ran} of {} steps ran, {cached} cached{DIM:#}", build.steps.len()))?;
    }
    Ok(())
}

fn title(step: &StepRecord) -> String {
    let (place, count) = step.position;
    let how = match step.status {
        StepStatus::Cached => format!("{GREEN}cached{GREEN:#}"),
        StepStatus::Failed => format!("{RED}failed{RED:#}"),
        StepStatus::Ran if step.same_tree => format!("{CYAN}ran, and gave files known before{CYAN:#}"),
        StepStatus::Ran => format!("{CYAN}ran{CYAN:#}"),
        StepStatus::Running => format!("{CYAN}running{CYAN:#}"),
        StepStatus::Waiting => "not reached".to_owned(),
        StepStatus::Cancelled => "stopped".to_owned(),
    };
    let text = foreign::line(&format!("[{} {place}/{count}] {}", step.stage, step.text));
    format!("{BOLD}#{} {text}{BOLD:#} {how}", step.number)
}

fn reason(step: &StepRecord) -> Vec<String> {
    if let Some(hit) = &step.hit {
        let key: String = hit.key.chars().take(16).collect();
        let took = units::duration(std::time::Duration::from_millis(hit.took_ms));
        return vec![format!("record {key} was made {}; it took {took} then", units::ago_ms(hit.created * 1000))];
    }
    match &step.reason {
        Some(MissReason::Changed { changes }) => {
            changes.iter().map(|change| format!("since {}", foreign::line(&change.to_string()))).collect()
        }
        Some(reason) => vec![format!("since {}", foreign::line(&reason.to_string()))],
        None => vec!["its turn did not come".to_owned()],
    }
}

/// The form is stable: fields are added, none goes.
fn json(build: &BuildRecord, steps: &[&StepRecord]) -> String {
    let steps: Vec<_> = steps
        .iter()
        .map(|step| {
            let behind: Vec<usize> = build.explain(step).behind.iter().map(|cause| cause.number).collect();
            json!({
                "number": step.number, "stage": step.stage, "text": step.text, "status": step.status,
                "reason": step.reason, "hit": step.hit, "same_tree": step.same_tree, "behind": behind,
            })
        })
        .collect();
    foreign::json(&json!({"v": 1, "build": build.id, "steps": steps}))
}
