//! Targets that do not stand on each other, built at the same time: one interrupt for all, and the first failure stops the
//! rest. Steps that several of them have are performed once: the store's claims see to that.

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use engine::{Cancel, Engine};

use super::build::Job;
use super::{Failure, Outcome, open_for_snapshots};
use crate::args::StorageArgs;
use crate::ui;
use crate::ui::interrupt::Interrupt;

/// Most builds at once. Each of them performs several steps at once.
const AT_ONCE: usize = 4;

/// A target and the places of those that it stands on, which come before it.
pub(super) struct Baked {
    pub(super) job: Job,
    pub(super) needs: Vec<usize>,
}

/// The exit code of a defect.
const DEFECT: u8 = 70;

/// The exit code of what was stopped.
const STOPPED: u8 = 130;

/// What is shared by the threads.
struct Board<'a> {
    targets: &'a [Baked],
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    begun: BTreeSet<usize>,
    done: BTreeSet<usize>,
    /// The exit code of the first that failed by itself, else of one that was stopped.
    failed: Option<u8>,
}

/// Builds all of them.
pub(super) fn side_by_side(root: Option<PathBuf>, storage: StorageArgs, targets: &[Baked]) -> Outcome {
    let engine = open_for_snapshots(root, storage)?;
    let cancel = Cancel::default();
    let interrupt = ui::interrupt::watch(&cancel)?;
    let board = Board { targets, state: Mutex::default(), changed: Condvar::new() };
    // Two images on one standard output come one after the other.
    let at_once = if targets.iter().any(|target| target.job.streams()) { 1 } else { AT_ONCE.min(targets.len()) };
    std::thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| board.work(&engine, &cancel, &interrupt));
        }
    });
    match board.lock().failed {
        None => Ok(0),
        Some(code) => Err(Failure::Told(interrupt.code().unwrap_or(code))),
    }
}

impl Board<'_> {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self, engine: &Engine, cancel: &Cancel, interrupt: &Interrupt) {
        while let Some((index, target)) = self.next() {
            // A defect ends its build; those that wait for it must not wait for ever.
            let build = AssertUnwindSafe(|| target.job.perform(engine, cancel, interrupt));
            let result = std::panic::catch_unwind(build);
            let code = match &result {
                Ok(Ok(_)) => None,
                Ok(Err(failure)) => Some(failure.tell()),
                Err(_) => Some(DEFECT),
            };
            let mut state = self.lock();
            match code {
                None => drop(state.done.insert(index)),
                Some(code) => {
                    // Those that were stopped may hear of it before the one whose failure it is.
                    if state.failed.is_none_or(|known| known == STOPPED) {
                        state.failed = Some(code);
                    }
                    cancel.cancel();
                }
            }
            self.changed.notify_all();
        }
    }

    /// The first that can begin; waits while all that is left stands on what is being built.
    fn next(&self) -> Option<(usize, &Baked)> {
        let mut state = self.lock();
        loop {
            let mut left = self.targets.iter().enumerate().filter(|(index, _)| !state.begun.contains(index)).peekable();
            if state.failed.is_some() || left.peek().is_none() {
                return None;
            }
            if let Some((index, target)) =
                left.find(|(_, target)| target.needs.iter().all(|need| state.done.contains(need)))
            {
                state.begun.insert(index);
                return Some((index, target));
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}
