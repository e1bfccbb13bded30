//! What the next RUN will need, made while this one runs and becomes a layer: the parts of its sandbox, and its root.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;

use cache::{Layer, NextSnapshot, TreeHash, Writable};
use runtime::{MountPoints, OverlayOptions, Rootfs, Spares};

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
    mounter: OnceLock<Option<Mounter>>,
}

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

/// The thread that mounts, for what waits meanwhile has something else to do.
#[derive(Debug)]
struct Mounter {
    jobs: Option<Sender<(NextSnapshot, Sender<Ready>)>>,
    thread: Option<JoinHandle<()>>,
}

impl Ahead {
    /// Whether a RUN that has nothing mounted stands on this step.
    pub(super) fn is_awaited(plan: &Plan, step: &Step) -> bool {
        let stands = |other: &Step| other.inputs.first() == Some(&step.id);
        plan.options.run.ids.is_none()
            && plan.steps().any(|other| stands(other) && matches!(&other.op, Op::Run(op) if op.mounts.is_empty()))
    }

    /// Begins to mount what stands on a tree that changes no more.
    pub(super) fn mount(&self, snapshot: NextSnapshot) -> Option<Coming> {
        let mounter = self.mounter.get_or_init(Mounter::start).as_ref()?;
        let (done, coming) = channel();
        mounter.jobs.as_ref()?.send((snapshot, done)).ok()?;
        Some(Coming(coming))
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

impl Mounter {
    /// Without a thread all is made when its time comes.
    fn start() -> Option<Mounter> {
        let (jobs, taken) = channel::<(NextSnapshot, Sender<Ready>)>();
        let work = move || {
            for (snapshot, done) in taken {
                // What cannot be made now fails once more when it is asked for, and is told then.
                if let Some(root) = mounted(&snapshot) {
                    let _ = done.send(Ready { root, snapshot });
                }
            }
        };
        let thread = std::thread::Builder::new().name("mounter".to_owned()).spawn(work).ok()?;
        Some(Mounter { jobs: Some(jobs), thread: Some(thread) })
    }
}

impl Drop for Mounter {
    fn drop(&mut self) {
        drop(self.jobs.take());
        // It holds directories of the solve's lease.
        self.thread.take().map(JoinHandle::join);
    }
}

fn mounted(snapshot: &NextSnapshot) -> Option<Rootfs> {
    let Writable::Overlay { lowers, upper, work } = snapshot.writable() else { return None };
    let options = OverlayOptions { volatile: true, mount_points: MountPoints::Absent, ..OverlayOptions::default() };
    Rootfs::overlay(lowers, &upper, &work, options).ok()
}
