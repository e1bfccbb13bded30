//! A shell in the state in which a step failed: what it wrote, its mounts, its user, its directory, its environment.

use std::collections::BTreeSet;

use runtime::{Sandbox, Stdio, TerminalSize};

use super::mounts::Opened;
use super::scratch::Scratch;
use crate::error::{Error, Result};
use crate::perform::{Work, diagnostic};
use crate::plan::{Op, Plan, RunOp, Step, StepId};
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
        let mut sandbox = work.sandbox(op, &failed.snapshot, None, &opened)?;
        sandbox.argv = vec!["/bin/sh".into()];
        terminal(&mut sandbox, size);
        drop(work);
        Ok(Shell { sandbox, held: Held { _opened: opened, _snapshot: failed.snapshot, _places: failed.places } })
    }

    /// Opens a sandbox in the state before or after a step. What that stands on is looked up, or performed where it is not
    /// in the cache. A step that is no RUN lends the environment, user and directory of the RUN next to it in its stage.
    ///
    /// # Errors
    /// As of [`solve`](Solver::solve), and when the stage has no RUN.
    pub fn sandbox_at(&self, plan: &Plan, number: usize, side: Side) -> Result<Shell> {
        let Some(step) = plan.steps().find(|step| step.number == number) else { return Err(Error::WorkerLost) };
        let mut trees = self.results(plan, &ancestors(plan, step.id, side))?;
        let Some((op, own)) = near(plan, step) else {
            let message = format!("`{}` is of a stage without RUN: nothing says how a process there is run", step.text);
            return Err(diagnostic(plan, step, "K0354", message).into());
        };
        let of_own = if own { step.inputs.as_slice() } else { step.inputs.get(..1).unwrap_or_default() };
        let mut inputs: Vec<Tree> = of_own.iter().filter_map(|id| trees.get(id).cloned()).collect();
        if let (Side::After, Some(tree)) = (side, trees.remove(&step.id)) {
            // The first is what the process sees; the others are what its mounts show.
            inputs.splice(..1.min(inputs.len()), [tree]);
        }
        inputs.iter().try_for_each(|tree| self.need(&tree.layers))?;
        let work = Work::prepare(self, plan, step, &inputs)?;
        let mut opened = work.open_mounts(&op)?;
        runtime::mount_point_layer(&self.store.mount_points_dir())?;
        let cover = opened.places.as_ref().map(|(layer, _)| layer.as_path());
        let snapshot = self.store.sandbox_snapshot(self.lease, work.parent(), cover)?;
        let sandbox = work.sandbox(&op, &snapshot, None, &opened)?;
        let places = opened.places.take().map(|(_, scratch)| scratch);
        drop(work);
        Ok(Shell { sandbox, held: Held { _opened: opened, _snapshot: snapshot, _places: places } })
    }
}

/// On which side of a step a sandbox is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// What it sees.
    Before,
    /// What it gave.
    After,
}

/// Gives a sandbox the terminal of the caller.
fn terminal(sandbox: &mut Sandbox, size: TerminalSize) {
    sandbox.stdio = Stdio::Terminal(size);
    if !sandbox.env.iter().any(|(name, _)| name == "TERM") {
        sandbox.env.push(("TERM".into(), "xterm".into()));
    }
}

impl Shell {
    /// Runs this in it: a shell on the caller's terminal where nothing is named.
    pub fn command(&mut self, argv: &[String], size: Option<TerminalSize>) {
        self.sandbox.argv =
            if argv.is_empty() { vec!["/bin/sh".into()] } else { argv.iter().map(Into::into).collect() };
        match size {
            Some(size) => terminal(&mut self.sandbox, size),
            None => self.sandbox.stdio = Stdio::Inherit { stdin: true },
        }
    }
}

/// The steps that must be solved before a sandbox can be opened there.
fn ancestors(plan: &Plan, of: StepId, side: Side) -> BTreeSet<StepId> {
    let mut found = BTreeSet::new();
    let inputs = |id: StepId| plan.step(id).map(|step| step.inputs.clone()).unwrap_or_default();
    let mut open = if side == Side::After { vec![of] } else { inputs(of) };
    while let Some(id) = open.pop() {
        if found.insert(id) {
            open.extend(inputs(id));
        }
    }
    found
}

/// How a process runs there, and whether the step itself says so.
fn near(plan: &Plan, step: &Step) -> Option<(RunOp, bool)> {
    if let Op::Run(op) = &step.op {
        return Some((op.clone(), true));
    }
    let runs = || {
        plan.steps().filter(|other| other.stage_index == step.stage_index).filter_map(|other| match &other.op {
            Op::Run(op) => Some((other.id, op)),
            _ => None,
        })
    };
    let earlier = runs().filter(|(id, _)| *id < step.id).last();
    let (_, op) = earlier.or_else(|| runs().find(|(id, _)| *id > step.id))?;
    // Its mounts and its script are its own.
    Some((RunOp { mounts: Vec::new(), script: None, ..op.clone() }, false))
}
