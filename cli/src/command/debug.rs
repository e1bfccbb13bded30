//! `dunnage debug`: a shell, or one command, in the sandbox of a step of a build that was made.

use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::path::PathBuf;

use engine::{Asked, BuildRecord, Cancel, DebugRequest, Side, StepRecord, StepStatus};

use super::{Failure, Outcome, open, open_for_snapshots};
use crate::args::{DebugArgs, bake_build_args};
use crate::config;
use crate::ui::progress::Progress;
use crate::ui::{self, foreign};

pub(super) fn debug(root: Option<PathBuf>, args: DebugArgs) -> Outcome {
    let records = open(root.clone())?;
    let build = match &args.build {
        Some(id) => records.build_record(Some(id))?,
        None => records.last_build_of(&args.context)?,
    };
    drop(records);
    let step = match &args.step {
        Some(text) => build.find_step(text)?,
        None => usual(&build)?,
    };
    let terminal = io::stdin().is_terminal() && io::stdout().is_terminal();
    if args.command.is_empty() && !terminal {
        return Err(Failure::usage(
            "a shell needs a terminal on standard input and output; name a command behind `--` to do without",
        ));
    }
    let Some(Asked { directory, words }) = &build.asked else {
        let sentence = "how this build was asked for is not known: its command line had credentials in it, its \
                        Dockerfile was inline, or an older dunnage made it; build again with --debug";
        return Err(Failure::usage(sentence));
    };
    config::enter(directory).map_err(Failure::Usage)?;
    let asked = bake_build_args(words.iter().map(OsString::from).collect()).map_err(Failure::Usage)?;
    let (storage, mode) = (asked.storage, super::build::mode(args.progress, false)?);
    let progress = Progress::new(mode, None);
    let request = super::build::request(asked)?;
    let engine = open_for_snapshots(root, storage)?;
    let cancel = Cancel::default();
    let interrupt = ui::interrupt::watch(&cancel)?;
    let debug = DebugRequest {
        step: step.number,
        text: (step.stage.clone(), step.text.clone()),
        side: if args.after { Side::After } else { Side::Before },
        command: args.command,
        terminal,
    };
    let ready = || {
        progress.clear();
        if debug.command.is_empty() {
            announce(step, debug.side);
        }
    };
    match engine.debug(&request, &debug, &|event| progress.event(&event), &cancel, &ready) {
        Ok(code) => Ok(u8::try_from(code).unwrap_or(1)),
        Err(error) => {
            progress.clear();
            let failure = Failure::from(error);
            let code = interrupt.code().filter(|_| failure.code() == 130);
            Err(Failure::Told(code.unwrap_or_else(|| failure.tell())))
        }
    }
}

/// The step that one wants to see most often.
fn usual(build: &BuildRecord) -> Result<&StepRecord, Failure> {
    let failed = build.steps.iter().find(|step| step.status == StepStatus::Failed);
    let none = || Failure::usage(format!("build {} has no steps", build.id));
    failed.or(build.steps.last()).ok_or_else(none)
}

fn announce(step: &StepRecord, side: Side) {
    let side = if side == Side::Before { "before" } else { "after" };
    ui::say(&format!(
        "A shell in the state {side} step #{}, {}; `exit` ends it, and what it changes is lost.",
        step.number,
        foreign::line(&step.text)
    ));
}
