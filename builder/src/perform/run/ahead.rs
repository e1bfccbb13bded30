//! What the next RUN will need, made while this one runs and becomes a layer: the parts of its sandbox, its directories, its root.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;

use cache::{Layer, NextPlan, NextSnapshot, TreeHash};
use runtime::{Beside, Rootfs, Spares};

use crate::perform::rootfs_of_next;
use crate::plan::{Op, Plan, Step};
use crate::solve::lock;

/// Most roots that wait for their step: one that hit never comes.
const WAITING: usize = 8;

/// The work that a solve does before its time.
#[derive(Debug, Default)]
pub(crate) struct Ahead {
    pub(super) spares: Arc<Spares>,
    /// By the trees of all layers below, bottom first.
    roots: Mutex<BTreeMap<Vec<TreeHash>, Coming>>,
    helper: OnceLock<Option<Helper>>,
}

/// A root whose directories are being made.
#[derive(Debug)]
pub(super) struct Begun(Receiver<NextSnapshot>);

/// A root that is ready.
#[derive(Debug)]
pub(super) struct Ready {
    // Gone before its directories are.
    pub(super) root: Rootfs,
    pub(super) snapshot: NextSnapshot,
}

/// A root that is being mounted.
#[derive(Debug)]
pub(crate) struct Coming(Receiver<Ready>);

/// What the helper does, one after the other.
enum Job {
    /// While a step runs.
    Begin { plan: NextPlan, spares: Arc<Spares>, made: Sender<NextSnapshot> },
    /// While it is being sealed.
    Mount { begun: Begun, done: Sender<Ready> },
}

/// The thread that does it, for who gives it to do has something else to do.
#[derive(Debug)]
struct Helper {
    jobs: Option<Sender<Job>>,
    beside: Beside,
    thread: Option<JoinHandle<()>>,
}

impl Ahead {
    /// Whether a RUN that has nothing mounted stands on this step.
    pub(super) fn is_awaited(plan: &Plan, step: &Step) -> bool {
        let stands = |other: &Step| other.inputs.first() == Some(&step.id);
        plan.options.run.ids.is_none()
            && plan.steps().any(|other| stands(other) && matches!(&other.op, Op::Run(op) if op.mounts.is_empty()))
    }

    /// Begins what will stand on a tree that a process writes to now.
    pub(super) fn begin(&self, plan: NextPlan) -> Option<Begun> {
        let (made, begun) = channel();
        self.give(Job::Begin { plan, spares: Arc::clone(&self.spares), made })?;
        Some(Begun(begun))
    }

    /// Begins to mount it: the tree below changes no more.
    pub(super) fn mount(&self, begun: Begun) -> Option<Coming> {
        let (done, coming) = channel();
        self.give(Job::Mount { begun, done })?;
        Some(Coming(coming))
    }

    fn give(&self, job: Job) -> Option<()> {
        let helper = self.helper.get_or_init(Helper::start).as_ref()?;
        helper.beside.make_way();
        helper.jobs.as_ref()?.send(job).ok()
    }

    /// The tree below is that of these layers, with `layer` on top.
    pub(crate) fn expect(&self, below: &[Layer], layer: &Layer, coming: Coming) {
        let mut roots = lock(&self.roots);
        if roots.len() >= WAITING {
            roots.pop_first();
        }
        roots.insert(below.iter().chain([layer]).map(|layer| layer.tree).collect(), coming);
    }

    /// The root over these layers, where one was begun and could be made.
    pub(super) fn take(&self, layers: &[Layer]) -> Option<Ready> {
        let trees: Vec<TreeHash> = layers.iter().map(|layer| layer.tree).collect();
        let Coming(coming) = lock(&self.roots).remove(&trees)?;
        coming.recv().ok()
    }
}

impl Helper {
    /// Without a thread all is made when its time comes.
    fn start() -> Option<Helper> {
        let (jobs, taken) = channel::<Job>();
        let (tell, told) = channel();
        let work = move || {
            let _ = tell.send(Beside::this());
            taken.into_iter().for_each(Job::perform);
        };
        let thread = std::thread::Builder::new().name("ahead".to_owned()).spawn(work).ok()?;
        let beside = told.recv().ok()?;
        Some(Helper { jobs: Some(jobs), beside, thread: Some(thread) })
    }
}

impl Job {
    /// What cannot be made now fails once more when it is asked for, and is told then. Who has failed meanwhile asks for nothing.
    fn perform(self) {
        match self {
            Job::Begin { plan, spares, made } => {
                spares.restock();
                if let Ok(snapshot) = plan.make() {
                    let _ = made.send(snapshot);
                }
            }
            Job::Mount { begun: Begun(begun), done } => {
                let Ok(snapshot) = begun.recv() else { return };
                if let Ok(root) = rootfs_of_next(&snapshot, true) {
                    let _ = done.send(Ready { root, snapshot });
                }
            }
        }
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        drop(self.jobs.take());
        // It holds directories of the solve's lease.
        self.thread.take().map(JoinHandle::join);
    }
}
