//! What steps gave is brought to the disk beside the steps that stand on it: several layers by one flush, then their records.
//!
//! A step ends when its layer is sealed: the next one runs on that layer while it has no name yet. A solve ends when all is
//! settled, so that nothing that a command tells of is anywhere but on the disk.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex};

use cache::{Claim, Committed, Layer, Leftover, Sealed, StepRecord, TreeHash, Unsettled};

use crate::cancel::Cancel;
use crate::error::{Error, Result};
use crate::key::KeyParts;
use crate::perform::Coming;
use crate::plan::StepId;
use crate::solve::{Solver, Tree, lock};

/// Most layers that wait: each of them costs this process a descriptor.
const WAITING: usize = 64;

/// What the performer of a step made.
pub(crate) struct Made {
    sealed: Sealed,
    leftover: Option<Leftover>,
    /// What will stand on it, where that has been begun.
    next: Option<Coming>,
}

impl Made {
    pub(crate) fn new(sealed: Sealed, leftover: Option<Leftover>) -> Made {
        Made { sealed, leftover, next: None }
    }

    pub(crate) fn followed_by(self, next: Option<Coming>) -> Made {
        Made { next, ..self }
    }

    pub(crate) fn take_next(&mut self) -> Option<Coming> {
        self.next.take()
    }
}

/// What is written when the layer of a step is there.
pub(crate) struct Told {
    pub(crate) id: StepId,
    pub(crate) keys: Vec<KeyParts>,
    /// So many of the keys were known before anything was read.
    pub(crate) said: usize,
    pub(crate) record: StepRecord,
    /// Others wait for it.
    pub(crate) claim: Option<Claim>,
}

/// One step's part of the work.
struct Given {
    unsettled: Option<Unsettled>,
    layer: Layer,
    told: Option<Told>,
    _leftover: Option<Leftover>,
}

/// The queue of what is to be settled.
pub(crate) struct Settler {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    queue: Vec<Given>,
    busy: bool,
    /// Workers that may add to the queue.
    workers: usize,
    error: Option<Error>,
    /// What steps of this solve gave, settled or not.
    trees: BTreeMap<TreeHash, Layer>,
}

/// A worker; when it is dropped it adds nothing any more.
pub(crate) struct Adding<'a>(&'a Settler);

impl Drop for Adding<'_> {
    fn drop(&mut self) {
        lock(&self.0.state).workers -= 1;
        self.0.changed.notify_all();
    }
}

/// Who settles. When a defect ends that, the workers do not wait for what is settled no more.
struct Settling<'a>(&'a Settler, &'a Cancel);

impl Drop for Settling<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            lock(&self.0.state).error.get_or_insert(Error::WorkerLost);
            self.0.changed.notify_all();
            self.1.cancel();
        }
    }
}

impl Settler {
    pub(crate) fn new(workers: usize) -> Settler {
        let state = State { queue: Vec::new(), busy: false, workers, error: None, trees: BTreeMap::new() };
        Settler { state: Mutex::new(state), changed: Condvar::new() }
    }

    /// One of the workers that it was made for.
    pub(crate) fn worker(&self) -> Adding<'_> {
        Adding(self)
    }

    /// The layer that a step stands for from now on, and whether its tree was known. `told` is asked for what is written when
    /// the layer is on the disk.
    pub(crate) fn take(&self, made: Made, told: impl FnOnce(&Layer) -> Told) -> (Layer, bool) {
        let mut state = lock(&self.state);
        while state.queue.len() >= WAITING && state.error.is_none() {
            state = self.changed.wait(state).unwrap_or_else(std::sync::PoisonError::into_inner);
        }
        let (layer, existed, unsettled) = match made.sealed {
            Sealed::Settled(Committed { layer, existed }) => (layer, existed, None),
            Sealed::Open(unsettled) => match state.trees.get(&unsettled.tree()) {
                // Another step of this build gave it.
                Some(known) => (known.clone(), true, None),
                None => (unsettled.layer(), false, Some(unsettled)),
            },
        };
        state.trees.entry(layer.tree).or_insert_with(|| layer.clone());
        let told = Some(told(&layer));
        state.queue.push(Given { unsettled, layer: layer.clone(), told, _leftover: made.leftover });
        drop(state);
        self.changed.notify_all();
        (layer, existed)
    }

    /// A tree with those of its layers by name that have got one.
    pub(crate) fn current(&self, tree: Tree) -> Tree {
        if !tree.layers.iter().any(Layer::is_unsettled) {
            return tree;
        }
        let state = lock(&self.state);
        let now = |layer: &Layer| match state.trees.get(&layer.tree) {
            Some(known) if layer.is_unsettled() && known.diff_id == layer.diff_id => known.clone(),
            _ => layer.clone(),
        };
        let layers: Vec<Layer> = tree.layers.iter().map(now).collect();
        tree.with_layers(layers)
    }

    /// Waits until nothing is to be settled.
    pub(crate) fn wait(&self) {
        let mut state = lock(&self.state);
        while (state.busy || !state.queue.is_empty()) && state.error.is_none() {
            state = self.changed.wait(state).unwrap_or_else(std::sync::PoisonError::into_inner);
        }
    }

    /// Settles until the last worker is gone; gives the error that it met, if it did.
    pub(crate) fn run(&self, solver: &Solver<'_>) -> Option<Error> {
        let _settling = Settling(self, solver.cancel);
        loop {
            let mut state = lock(&self.state);
            state.busy = false;
            self.changed.notify_all();
            while state.queue.is_empty() && state.workers > 0 {
                state = self.changed.wait(state).unwrap_or_else(std::sync::PoisonError::into_inner);
            }
            if state.queue.is_empty() {
                return state.error.take();
            }
            state.busy = true;
            let given = std::mem::take(&mut state.queue);
            let failed = state.error.is_some();
            drop(state);
            // What is not settled after an error goes with the lease.
            let Err(error) = (if failed { Ok(()) } else { self.settle(solver, given) }) else { continue };
            lock(&self.state).error = Some(error);
            solver.cancel.cancel();
        }
    }

    fn settle(&self, solver: &Solver<'_>, mut given: Vec<Given>) -> Result<()> {
        let unsettled: Vec<Unsettled> = given.iter_mut().filter_map(|one| one.unsettled.take()).collect();
        if !unsettled.is_empty() {
            let settled = solver.store.settle(solver.lease, unsettled)?;
            let mut state = lock(&self.state);
            state.trees.extend(settled.into_iter().map(|layer| (layer.tree, layer)));
        }
        for one in &mut given {
            let layer = lock(&self.state).trees.get(&one.layer.tree).cloned().unwrap_or_else(|| one.layer.clone());
            let Some(Told { id, keys, said, record, claim }) = one.told.take() else { continue };
            solver.record_all(&keys, &record)?;
            solver.remotes.gave(id, (&keys, said), &record, Some(&layer));
            drop(claim);
        }
        Ok(())
    }
}
