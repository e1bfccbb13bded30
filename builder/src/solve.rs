//! The solver: per step key → look up → perform → record, over a ready queue of plain threads.
//!
//! There is no graph merging; a step is one job, its result is kept once, and whoever needs it waits for it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use cache::{Claim, InlineRecord, Layer, Lease, StepRecord, Store, failpoint};

use crate::cancel::Cancel;
use crate::context::Context;
use crate::credentials::Credentials;
use crate::error::{Error, Result};
use crate::event::Event;
use crate::key::KeyParts;
use crate::memory::Memory;
use crate::perform::{Ahead, FailedRun, Work};
use crate::plan::{Op, Plan, Step, StepId};
use crate::reason::{self, Lost};
use crate::remotes::Remotes;
use crate::settle::{Settler, Told};
use crate::sources::Sources;
use crate::verdict::MissReason;

/// How often a step that another build performs is looked after: short against any step, long against a look.
pub(crate) const CLAIM_POLL: Duration = Duration::from_millis(10);

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a solve gave.
#[derive(Debug, Clone)]
pub struct Solved {
    /// The layers of the image, bottom first.
    pub layers: Vec<Layer>,
    /// The step that gave each of them; of a base image's the step that stands for it.
    pub made_by: Vec<StepId>,
    /// Unix seconds at which each step's layer was made first.
    pub created: BTreeMap<StepId, i64>,
    /// Steps that were performed.
    pub performed: usize,
    /// Steps that hit.
    pub hits: usize,
    /// What the image is to tell of its steps.
    pub inline: BTreeMap<StepId, InlineRecord>,
}

/// The tree of a solved step.
#[derive(Debug, Clone)]
pub(crate) struct Tree {
    pub(crate) layers: Arc<Vec<Layer>>,
    /// The step that gave each layer; of a base image's the step that stands for it.
    pub(crate) made_by: Arc<Vec<StepId>>,
    created: Option<i64>,
    hit: bool,
    counts: bool,
}

impl Tree {
    /// The same of layers that were found elsewhere.
    pub(crate) fn with_layers(self, layers: Vec<Layer>) -> Tree {
        Tree { layers: Arc::new(layers), ..self }
    }
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
    /// What the steps saw in the build before: reasons of misses come from it.
    pub memory: &'a Memory,
    /// The named contexts that the plan reads.
    pub contexts: &'a BTreeMap<String, Context>,
    /// Fetches what is not on this machine.
    pub sources: &'a dyn Sources,
    /// Receives events from all workers.
    pub events: &'a (dyn Fn(Event) + Sync),
    /// Stops it.
    pub cancel: &'a Cancel,
    /// Caches beyond the store.
    pub remotes: &'a Remotes<'a>,
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

/// One step with all that is known when its turn comes.
#[derive(Clone, Copy)]
pub(crate) struct Job<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) step: &'a Step,
    pub(crate) inputs: &'a [Tree],
    /// Which of the workers performs it, from 0.
    pub(crate) worker: usize,
}

/// What the workers of a solve share.
#[derive(Clone, Copy)]
struct Shared<'a> {
    plan: &'a Plan,
    queue: &'a Mutex<Queue>,
    changed: &'a Condvar,
    settler: &'a Settler,
    ahead: &'a Ahead,
}

/// A worker. When a defect ends it, the others end what they do, and do not wait for what it had begun.
struct Leaving<'a>(&'a Shared<'a>, &'a Cancel);

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            lock(self.0.queue).error.get_or_insert(Error::WorkerLost);
            self.0.changed.notify_all();
            self.1.cancel();
        }
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
    /// Solves the whole plan; with `files` all of the target's layers are here afterwards.
    ///
    /// # Errors
    /// The first step's error; the others are stopped.
    pub fn solve(&self, plan: &Plan, files: bool) -> Result<Solved> {
        let all = plan.steps().map(|step| step.id).collect();
        loop {
            let solved = self.results(plan, &all).and_then(|results| solved(plan, results)).and_then(|solved| {
                if files {
                    self.need(&solved.layers)?;
                }
                Ok(solved)
            });
            match solved {
                // Keys of later steps hold what was promised, so all are looked at again; each turn knows of one layer less.
                Err(Error::BrokenCache(error)) => {
                    (self.events)(Event::Note(None, format!("{error}; the step runs")));
                }
                Err(Error::NotCarried) => {}
                solved => return solved,
            }
        }
    }

    /// Solves these steps, among which are their inputs.
    pub(crate) fn results(&self, plan: &Plan, wanted: &BTreeSet<StepId>) -> Result<BTreeMap<StepId, Tree>> {
        plan.check_supported()?;
        (self.events)(Event::Planned(plan.infos().collect()));
        let queue = Mutex::new(first_queue(plan, wanted));
        let changed = Condvar::new();
        let workers = self.jobs.clamp(1, wanted.len().max(1));
        let (settler, ahead) = (Settler::new(workers), Ahead::default());
        let unsettled = std::thread::scope(|scope| {
            let (queue, changed, settler, ahead) = (&queue, &changed, &settler, &ahead);
            let spawn = |worker| {
                scope.spawn(move || {
                    let shared = Shared { plan, queue, changed, settler, ahead };
                    let _adding = settler.worker();
                    let _leaving = Leaving(&shared, self.cancel);
                    self.work(&shared, worker);
                })
            };
            let workers: Vec<_> = (0..workers).map(spawn).collect();
            let unsettled = settler.run(self);
            // A defect has been told where it was met, and ends the build as itself.
            if let Some(defect) = workers.into_iter().find_map(|worker| worker.join().err()) {
                std::panic::resume_unwind(defect);
            }
            unsettled
        });
        let mut queue = queue.into_inner().unwrap_or_else(PoisonError::into_inner);
        queue.results = queue.results.into_iter().map(|(id, tree)| (id, settler.current(tree))).collect();
        queue.error = match (queue.error, unsettled) {
            (Some(error @ Error::RunFailed { .. }), Some(_)) => Some(error),
            // What was stopped was stopped by this, and what looked for a layer that is gone with it failed by this.
            (_, Some(unsettled)) => Some(unsettled),
            (error, None) => error,
        };
        // The table is an aid: a build that could not write it is still built.
        for context in std::iter::once(self.context).chain(self.contexts.values()) {
            if let Err(error) = context.save() {
                (self.events)(Event::Note(None, format!("the context's table was not kept: {error}")));
            }
        }
        self.tell_failed_caches();
        if let Err(error) = self.memory.save(queue.error.is_none()) {
            (self.events)(Event::Note(None, format!("what the steps saw was not kept: {error}")));
        }
        if let Some(error) = queue.error {
            return Err(if self.cancel.is_cancelled() && !is_step_failure(&error) { Error::Cancelled } else { error });
        }
        Ok(queue.results)
    }

    fn work(&self, shared: &Shared<'_>, worker: usize) {
        let Shared { plan, queue, changed, settler, ahead } = *shared;
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
            if !runtime::joins_by_descriptor() || plan.options.run.ids.is_some() {
                settler.wait();
            }
            let inputs: Vec<Tree> = inputs.into_iter().map(|tree| settler.current(tree)).collect();
            let result = self.step(&Job { plan, step, inputs: &inputs, worker }, settler, ahead);
            let mut state = lock(queue);
            self.settle(plan, id, result, &mut state);
            if state.left == 0 || state.error.is_some() {
                changed.notify_all();
            }
            // One of them is this worker's own.
            for _ in 1..state.ready.len() {
                changed.notify_one();
            }
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
            Err(error) if looks_again(&error) => state.error = state.error.take().or(Some(error)),
            Err(error) => {
                let stopped = self.cancel.is_cancelled();
                (self.events)(if stopped { Event::Cancelled(id) } else { Event::Failed(id) });
                if state.error.as_ref().is_none_or(looks_again) {
                    state.error = Some(error);
                    self.cancel.cancel();
                }
            }
        }
    }

    /// One step, in five words: key, look up, prepare, perform, seal. What it gave is settled and recorded beside the next.
    fn step(&self, job: &Job<'_>, settler: &Settler, ahead: &Ahead) -> Result<Tree> {
        if self.cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        if let Some(tree) = self.base(job.step)? {
            return Ok(tree);
        }
        failpoint("step.key")?;
        let mut work = Work::prepare(self, job.plan, job.step, job.inputs)?;
        work.ahead = Some(ahead);
        if self.no_cache || job.step.no_cache {
            return self.perform(job, &mut work, settler, (None, None));
        }
        if let Ok(tree) = self.hit(job, &mut work)? {
            return Ok(tree);
        }
        let claim = self.claim(job.step, &mut work, settler)?;
        // Whoever held the claim, or ended just before it was asked for, has left a record.
        match self.hit(job, &mut work)? {
            Ok(tree) => Ok(tree),
            Err(lost) => self.perform(job, &mut work, settler, (Some(lost), claim)),
        }
    }

    fn hit(&self, job: &Job<'_>, work: &mut Work<'_>) -> Result<Result<Tree, Lost>> {
        let begun = Instant::now();
        let found = match self.find(job, work)? {
            Ok(found) => found,
            Err(lost) => return Ok(Err(lost)),
        };
        let mut keys = work.keys();
        let said = keys.len();
        if found.by_content {
            self.record_found(&keys, &found)?;
            keys.extend(work.content_key()?);
        }
        if found.beyond {
            self.knew(&keys);
        }
        self.remotes.gave(job.step.id, (&keys, said), &found.record, found.tree.layers.last());
        self.memory.saw(reason::name(job.step), &keys, Some(found.recorded.tree.clone()));
        let (id, worker, took) = (job.step.id, job.worker, begun.elapsed());
        (self.events)(Event::Hit { id, worker, took, record: found.recorded });
        Ok(Ok(found.tree))
    }

    /// Waits until no other build performs this step.
    fn claim(&self, step: &Step, work: &mut Work<'_>, settler: &Settler) -> Result<Option<Claim>> {
        let Some(parts) = work.keys().into_iter().next().or(work.content_key()?) else { return Ok(None) };
        let key = parts.key();
        for turn in 0_u64.. {
            if let Some(claim) = self.store.try_claim(&key)? {
                return Ok(Some(claim));
            }
            if self.cancel.is_cancelled() {
                return Err(Error::Cancelled);
            }
            if turn == 0 {
                // It may be a step of this very build, which has only to be settled.
                settler.wait();
                continue;
            }
            if turn == 1 {
                (self.events)(Event::Note(
                    Some(step.id),
                    "another build performs this step: waiting for it".to_owned(),
                ));
            }
            std::thread::sleep(CLAIM_POLL);
        }
        Ok(None)
    }

    fn perform(
        &self,
        job: &Job<'_>,
        work: &mut Work<'_>,
        settler: &Settler,
        (lost, claim): (Option<Lost>, Option<Claim>),
    ) -> Result<Tree> {
        let mut keys = work.keys();
        let said = keys.len();
        keys.extend(work.content_key()?);
        let listings = work.listings();
        let reason = match lost {
            Some(lost) => reason::of_miss(self, job, &keys, &listings, lost),
            None => MissReason::NotAsked,
        };
        let id = job.step.id;
        (self.events)(Event::Started { id, worker: job.worker, reason });
        let started = Instant::now();
        let name = reason::name(job.step);
        failpoint("step.perform")?;
        let mut made = work.perform().inspect_err(|_| self.memory.saw(name.clone(), &keys, None))?;
        failpoint("step.record")?;
        let told = |layer: &Layer| {
            let record = StepRecord {
                layer: Some(layer.diff_id.clone()),
                tree: Some(layer.tree),
                parts: Vec::new(),
                created: layer.created,
                text: job.step.text.clone(),
                duration_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
            };
            Told { id, keys: keys.clone(), said, record, claim }
        };
        let next = made.take_next();
        let (layer, same_tree) = settler.take(made, told);
        // What was begun stands on the step's own directory.
        if let (Some(ahead), Some(next), false) = (work.ahead, next, same_tree) {
            ahead.expect(work.parent(), &layer, next);
        }
        self.memory.saw(name, &keys, Some(layer.tree.to_string()));
        for (digest, listing) in &listings {
            if let Err(error) = self.memory.keep_listing(digest, listing) {
                (self.events)(Event::Note(Some(id), format!("the list of copied files was not kept: {error}")));
            }
        }
        (self.events)(Event::Finished {
            id,
            duration: started.elapsed(),
            same_tree,
            layer: layer.diff_id.to_string(),
            tree: layer.tree.to_string(),
            bytes: layer.size,
        });
        let created = layer.created;
        Ok(on_top(job, layer, created, false))
    }

    pub(crate) fn record_all(&self, keys: &[KeyParts], record: &StepRecord) -> Result<()> {
        for parts in keys {
            let record = StepRecord { parts: parts.parts().to_vec(), ..record.clone() };
            self.store.put_record(&parts.key(), &record)?;
        }
        Ok(())
    }

    /// The trees that need no work.
    pub(crate) fn base(&self, step: &Step) -> Result<Option<Tree>> {
        let ids = match &step.op {
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
        let made_by = Arc::new(vec![step.id; layers.len()]);
        Ok(Some(Tree { layers: Arc::new(layers), made_by, created: None, hit: true, counts: false }))
    }
}

impl Solved {
    /// How many of the layers, from the bottom, came with the base image.
    pub fn base_layers(&self, plan: &Plan) -> usize {
        let of_base = |id: &&StepId| plan.step(**id).is_some_and(|step| matches!(step.op, Op::Image { .. }));
        self.made_by.iter().take_while(of_base).count()
    }
}

/// The plan is solved once more, with one layer less that is known.
fn looks_again(error: &Error) -> bool {
    matches!(error, Error::BrokenCache(_) | Error::NotCarried)
}

fn is_step_failure(error: &Error) -> bool {
    !matches!(error, Error::Cancelled)
}

pub(crate) fn on_top(job: &Job<'_>, layer: Layer, created: u64, hit: bool) -> Tree {
    let parent = job.inputs.first();
    let mut layers = parent.map(|tree| tree.layers.as_ref().clone()).unwrap_or_default();
    let mut made_by = parent.map(|tree| tree.made_by.as_ref().clone()).unwrap_or_default();
    layers.push(layer);
    made_by.push(job.step.id);
    let created = i64::try_from(created).ok();
    Tree { layers: Arc::new(layers), made_by: Arc::new(made_by), created, hit, counts: true }
}

fn first_queue(plan: &Plan, wanted: &BTreeSet<StepId>) -> Queue {
    let mut queue = Queue { left: wanted.len(), ..Queue::default() };
    for step in plan.steps().filter(|step| wanted.contains(&step.id)) {
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
        made_by: target.made_by.as_ref().clone(),
        created: results.iter().filter_map(|(id, tree)| Some((*id, tree.created?))).collect(),
        performed: counted().filter(|tree| !tree.hit).count(),
        hits: counted().filter(|tree| tree.hit).count(),
        inline: BTreeMap::new(),
    })
}
