//! The solver: per step key → look up → perform → record, over a ready queue of plain threads.
//!
//! There is no graph merging; a step is one job, its result is kept once, and whoever needs it waits for it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use cache::{CacheKey, Claim, Layer, Lease, StepRecord, Store};
use runtime::{Killer, Signal};

use crate::context::Context;
use crate::credentials::Credentials;
use crate::error::{Error, Result};
use crate::event::{Event, MissReason, StepInfo};
use crate::key::KeyParts;
use crate::perform::{self, FailedRun};
use crate::plan::{Op, Plan, Step, StepId};

/// How often a step that another build performs is looked after: short against any step, long against a look.
pub(crate) const CLAIM_POLL: Duration = Duration::from_millis(10);

/// Stops a build from another thread: a flag, and the processes to kill.
#[derive(Debug, Clone, Default)]
pub struct Cancel {
    inner: Arc<CancelState>,
}

#[derive(Debug, Default)]
struct CancelState {
    flag: AtomicBool,
    killers: Mutex<BTreeMap<u64, Killer>>,
    next: std::sync::atomic::AtomicU64,
}

impl Cancel {
    /// Asks the build to stop and kills what runs.
    pub fn cancel(&self) {
        self.inner.flag.store(true, Ordering::SeqCst);
        for killer in lock(&self.inner.killers).values() {
            let _ = killer.kill(Signal::KILL);
        }
    }

    /// Whether a stop was asked for.
    pub fn is_cancelled(&self) -> bool {
        self.inner.flag.load(Ordering::SeqCst)
    }

    /// Registers a process for the time that the guard lives.
    pub(crate) fn watch(&self, killer: Killer) -> Watched {
        let id = self.inner.next.fetch_add(1, Ordering::Relaxed);
        let late = killer.clone();
        lock(&self.inner.killers).insert(id, killer);
        if self.is_cancelled() {
            let _ = late.kill(Signal::KILL);
        }
        Watched { cancel: self.clone(), id }
    }
}

/// See [`Cancel::watch`].
pub(crate) struct Watched {
    cancel: Cancel,
    id: u64,
}

impl Drop for Watched {
    fn drop(&mut self) {
        lock(&self.cancel.inner.killers).remove(&self.id);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a solve gave.
#[derive(Debug)]
pub struct Solved {
    /// The layers of the image, bottom first.
    pub layers: Vec<Layer>,
    /// Unix seconds at which each step's layer was made first.
    pub created: BTreeMap<StepId, i64>,
    /// Steps that were performed.
    pub performed: usize,
    /// Steps that hit.
    pub hits: usize,
}

/// The tree of a solved step.
#[derive(Debug, Clone)]
pub(crate) struct Tree {
    pub(crate) layers: Arc<Vec<Layer>>,
    created: Option<i64>,
    hit: bool,
    counts: bool,
}

/// Everything that a solve works with.
#[derive(Clone, Copy)]
pub struct Solver<'a> {
    /// The store.
    pub store: &'a Store,
    /// Keeps what the build uses from being pruned.
    pub lease: &'a Lease,
    /// The build context.
    pub context: &'a Context,
    /// Receives events from all workers.
    pub events: &'a (dyn Fn(Event) + Sync),
    /// Stops it.
    pub cancel: &'a Cancel,
    /// What the caller lends to RUN steps.
    pub credentials: &'a Credentials,
    /// Where a RUN that failed leaves what it wrote, when somebody wants to look at it.
    pub failed: Option<&'a Mutex<Option<FailedRun>>>,
    /// Performs every step, whatever the cache has.
    pub no_cache: bool,
    /// How many steps are performed at once.
    pub jobs: usize,
}

impl std::fmt::Debug for Solver<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Solver").field("no_cache", &self.no_cache).field("jobs", &self.jobs).finish_non_exhaustive()
    }
}

#[derive(Default)]
struct Queue {
    ready: BTreeSet<StepId>,
    waiting: BTreeMap<StepId, usize>,
    results: BTreeMap<StepId, Tree>,
    error: Option<Error>,
    left: usize,
}

impl Solver<'_> {
    /// Solves the whole plan.
    ///
    /// # Errors
    /// The first step's error; the others are stopped.
    pub fn solve(&self, plan: &Plan) -> Result<Solved> {
        plan.check_supported()?;
        (self.events)(Event::Planned(plan.steps().filter(|step| step.op.is_performed()).map(step_info).collect()));
        let queue = Mutex::new(first_queue(plan));
        let changed = Condvar::new();
        let workers = self.jobs.clamp(1, plan.graph.node_count().max(1));
        if workers == 1 {
            self.work(plan, &queue, &changed);
        } else {
            std::thread::scope(|scope| {
                for _ in 0..workers {
                    scope.spawn(|| self.work(plan, &queue, &changed));
                }
            });
        }
        let queue = queue.into_inner().unwrap_or_else(PoisonError::into_inner);
        // The table is an aid: a build that could not write it is still built.
        if let Err(error) = self.context.save() {
            (self.events)(Event::Note(None, format!("the context's table was not kept: {error}")));
        }
        if let Some(error) = queue.error {
            return Err(if self.cancel.is_cancelled() && !is_step_failure(&error) { Error::Cancelled } else { error });
        }
        solved(plan, queue.results)
    }

    fn work(&self, plan: &Plan, queue: &Mutex<Queue>, changed: &Condvar) {
        loop {
            let mut state = lock(queue);
            let id = loop {
                if state.left == 0 || state.error.is_some() {
                    return;
                }
                if let Some(id) = state.ready.pop_first() {
                    break id;
                }
                state = changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            };
            let Some(step) = plan.step(id) else { return };
            let inputs: Vec<Tree> = step.inputs.iter().filter_map(|id| state.results.get(id).cloned()).collect();
            drop(state);
            let result = self.step(plan, step, &inputs);
            self.settle(plan, id, result, &mut lock(queue));
            changed.notify_all();
        }
    }

    fn settle(&self, plan: &Plan, id: StepId, result: Result<Tree>, state: &mut Queue) {
        match result {
            Ok(tree) => {
                state.results.insert(id, tree);
                state.left = state.left.saturating_sub(1);
                for step in plan.steps().filter(|step| step.inputs.contains(&id)) {
                    if let Some(count) = state.waiting.get_mut(&step.id) {
                        *count -= step.inputs.iter().filter(|input| **input == id).count();
                        if *count == 0 {
                            state.waiting.remove(&step.id);
                            state.ready.insert(step.id);
                        }
                    }
                }
            }
            Err(error) => {
                let stopped = self.cancel.is_cancelled();
                (self.events)(if stopped { Event::Cancelled(id) } else { Event::Failed(id) });
                if state.error.is_none() {
                    state.error = Some(error);
                    self.cancel.cancel();
                }
            }
        }
    }

    /// One step, in six words: key, look up, prepare, perform, commit, record.
    fn step(&self, plan: &Plan, step: &Step, inputs: &[Tree]) -> Result<Tree> {
        if self.cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        if let Some(tree) = self.base(&step.op)? {
            return Ok(tree);
        }
        let mut work = perform::Work::prepare(self, plan, step, inputs)?;
        if self.no_cache || step.no_cache {
            return self.perform(step, &mut work, inputs, MissReason::NotAsked);
        }
        if let Ok(tree) = self.hit(step, &mut work, inputs)? {
            return Ok(tree);
        }
        let _claim = self.claim(step, &mut work)?;
        // Whoever held the claim, or ended just before it was asked for, has left a record.
        match self.hit(step, &mut work, inputs)? {
            Ok(tree) => Ok(tree),
            Err(reason) => self.perform(step, &mut work, inputs, reason),
        }
    }

    /// The tree that an earlier build left for this step. Keys that need no file to be read are asked first.
    fn hit(&self, step: &Step, work: &mut perform::Work<'_>, inputs: &[Tree]) -> Result<Result<Tree, MissReason>> {
        let mut reason = MissReason::NoRecord;
        for parts in work.keys() {
            match self.look_up(&parts.key())? {
                Ok((layer, record)) => {
                    (self.events)(Event::Hit(step.id));
                    return Ok(Ok(on_top(inputs, layer, record.created, true)));
                }
                Err(why) => reason = why,
            }
        }
        let Some(parts) = work.content_key()? else { return Ok(Err(reason)) };
        match self.look_up(&parts.key())? {
            Ok((layer, record)) => {
                (self.events)(Event::Hit(step.id));
                self.record_all(&work.keys(), &record)?;
                Ok(Ok(on_top(inputs, layer, record.created, true)))
            }
            Err(why) => Ok(Err(why)),
        }
    }

    /// Waits until no other build performs this step.
    fn claim(&self, step: &Step, work: &mut perform::Work<'_>) -> Result<Option<Claim>> {
        let Some(parts) = work.keys().into_iter().next().or(work.content_key()?) else { return Ok(None) };
        let key = parts.key();
        let mut told = false;
        loop {
            if let Some(claim) = self.store.try_claim(&key)? {
                return Ok(Some(claim));
            }
            if self.cancel.is_cancelled() {
                return Err(Error::Cancelled);
            }
            if !told {
                told = true;
                (self.events)(Event::Note(
                    Some(step.id),
                    "another build performs this step: waiting for it".to_owned(),
                ));
            }
            std::thread::sleep(CLAIM_POLL);
        }
    }

    fn perform(&self, step: &Step, work: &mut perform::Work<'_>, inputs: &[Tree], reason: MissReason) -> Result<Tree> {
        (self.events)(Event::Started(step.id, reason));
        let started = Instant::now();
        let (layer, same_tree) = work.perform()?;
        let record = StepRecord {
            layer: Some(layer.diff_id.clone()),
            tree: Some(layer.tree),
            parts: Vec::new(),
            created: layer.created,
            text: step.text.clone(),
            duration_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        };
        let mut keys = work.keys();
        keys.extend(work.content_key()?);
        self.record_all(&keys, &record)?;
        (self.events)(Event::Finished { id: step.id, duration: started.elapsed(), same_tree });
        Ok(on_top(inputs, layer, record.created, false))
    }

    fn record_all(&self, keys: &[KeyParts], record: &StepRecord) -> Result<()> {
        for parts in keys {
            let record = StepRecord { parts: parts.parts().to_vec(), ..record.clone() };
            self.store.put_record(&parts.key(), &record)?;
        }
        Ok(())
    }

    fn look_up(&self, key: &CacheKey) -> Result<Result<(Layer, StepRecord), MissReason>> {
        let Some(record) = self.store.record(key)? else { return Ok(Err(MissReason::NoRecord)) };
        let layer = match &record.layer {
            Some(id) => self.store.layer(self.lease, id)?,
            None => None,
        };
        Ok(match layer {
            Some(layer) => Ok((layer, record)),
            None => Err(MissReason::LayerGone),
        })
    }

    /// The trees that need no work.
    fn base(&self, op: &Op) -> Result<Option<Tree>> {
        let ids = match op {
            Op::Scratch => &[],
            Op::Image { layers, .. } => layers.as_slice(),
            Op::Run(_) | Op::Copy(_) | Op::Workdir(_) => return Ok(None),
        };
        let mut layers = Vec::new();
        for id in ids {
            match self.store.layer(self.lease, id)? {
                Some(layer) => layers.push(layer),
                None => return Err(cache::Error::LayerNotFound(id.clone()).into()),
            }
        }
        Ok(Some(Tree { layers: Arc::new(layers), created: None, hit: true, counts: false }))
    }
}

fn is_step_failure(error: &Error) -> bool {
    !matches!(error, Error::Cancelled)
}

fn on_top(inputs: &[Tree], layer: Layer, created: u64, hit: bool) -> Tree {
    let mut layers = inputs.first().map(|tree| tree.layers.as_ref().clone()).unwrap_or_default();
    layers.push(layer);
    Tree { layers: Arc::new(layers), created: i64::try_from(created).ok(), hit, counts: true }
}

fn first_queue(plan: &Plan) -> Queue {
    let mut queue = Queue { left: plan.graph.node_count(), ..Queue::default() };
    for step in plan.steps() {
        if step.inputs.is_empty() {
            queue.ready.insert(step.id);
        } else {
            queue.waiting.insert(step.id, step.inputs.len());
        }
    }
    queue
}

fn solved(plan: &Plan, results: BTreeMap<StepId, Tree>) -> Result<Solved> {
    let Some(target) = results.get(&plan.target) else { return Err(Error::WorkerLost) };
    let counted = || results.values().filter(|tree| tree.counts);
    Ok(Solved {
        layers: target.layers.as_ref().clone(),
        created: results.iter().filter_map(|(id, tree)| Some((*id, tree.created?))).collect(),
        performed: counted().filter(|tree| !tree.hit).count(),
        hits: counted().filter(|tree| tree.hit).count(),
    })
}

fn step_info(step: &Step) -> StepInfo {
    StepInfo { id: step.id, stage: step.stage.clone(), position: step.position, text: step.text.clone() }
}
