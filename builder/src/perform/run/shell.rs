//! A shell in the state in which a step failed: what it wrote, its mounts, its user, its directory, its environment.

use runtime::{Sandbox, Stdio, TerminalSize};

use super::mounts::Opened;
use super::scratch::Scratch;
use crate::error::{Error, Result};
use crate::perform::Work;
use crate::plan::{Op, Plan, StepId};
use crate::solve::{Solver, Tree};

/// What a failed step left, for as long as somebody may want to look at it.
#[derive(Debug)]
pub struct FailedRun {
    pub(super) step: StepId,
    pub(super) snapshot: cache::Snapshot,
    pub(super) inputs: Vec<Tree>,
    /// Holds directories that the snapshot has below.
    pub(super) places: Option<Scratch>,
}

/// A shell that is ready to be started.
#[derive(Debug)]
pub struct Shell {
    /// The sandbox, with a terminal.
    pub sandbox: Sandbox,
    /// What it works with; to be kept until it ends.
    pub held: Held,
}

/// Directories and locks of a shell.
#[derive(Debug)]
pub struct Held {
    _opened: Opened,
    _snapshot: cache::Snapshot,
    _places: Option<Scratch>,
}

impl Solver<'_> {
    /// Opens the sandbox of a failed step again.
    ///
    /// # Errors
    /// When one of its parts cannot be opened any more.
    pub fn shell(&self, plan: &Plan, failed: FailedRun, size: TerminalSize) -> Result<Shell> {
        let Some(step) = plan.step(failed.step) else { return Err(Error::WorkerLost) };
        let Op::Run(op) = &step.op else { return Err(Error::WorkerLost) };
        failed.snapshot.renew_work()?;
        let work = Work::prepare(self, plan, step, &failed.inputs)?;
        let opened = work.open_mounts(op)?;
        let mut sandbox = work.sandbox(op, &failed.snapshot, &opened)?;
        sandbox.argv = vec!["/bin/sh".into()];
        sandbox.stdio = Stdio::Terminal(size);
        if !sandbox.env.iter().any(|(name, _)| name == "TERM") {
            sandbox.env.push(("TERM".into(), "xterm".into()));
        }
        drop(work);
        Ok(Shell { sandbox, held: Held { _opened: opened, _snapshot: failed.snapshot, _places: failed.places } })
    }
}
