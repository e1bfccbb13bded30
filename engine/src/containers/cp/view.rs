//! The files of a container as its programs see them, volumes and binds included, whether it runs or not.

use std::sync::Arc;

use cache::{ContainerPlace, IdShift, Lease, TreeRoot};
use runtime::{Container, FileOwner, IdRange, Running, Sandbox, start_time};

use crate::Engine;
use crate::containers::state::{ContainerInfo, Status};
use crate::error::{Error, Result};

/// What the waiting process would become; it never does.
const NOBODY: &str = "/proc/self/exe";

/// The tree of a container, for as long as this lives.
#[derive(Debug)]
pub(super) enum View {
    /// Of its process.
    Running(Running),
    /// Of a process that has its mounts, and waits before it becomes a program: nothing of the image is ever run.
    Waiting(Box<Waiting>),
}

/// The order of the fields is that of the end.
#[derive(Debug)]
pub(super) struct Waiting {
    running: Running,
    _process: Container,
    _gate: std::io::PipeWriter,
    _lease: Lease,
    _place: ContainerPlace,
}

impl View {
    /// Its root, with the owners that those in it see.
    pub(super) fn root(&self) -> Result<TreeRoot> {
        let running = self.running();
        let root = TreeRoot::from_fd(running.root())?;
        let first = |ranges: &[IdRange]| ranges.iter().find(|range| range.inside == 0).copied();
        let ids = running.ids()?.and_then(|ids| first(&ids.users).zip(first(&ids.groups)));
        Ok(match ids {
            Some((users, groups)) => {
                let count = users.count.min(groups.count);
                root.with_ids(IdShift { uid: users.outside, gid: groups.outside, count })
            }
            None => root,
        })
    }

    /// What this thread makes from here on is for the container, as long as that lives.
    pub(super) fn write(&self) -> Result<Option<FileOwner>> {
        Ok(self.running().file_owner()?)
    }

    fn running(&self) -> &Running {
        match self {
            View::Running(running) => running,
            View::Waiting(waiting) => &waiting.running,
        }
    }
}

impl Engine {
    pub(super) fn view(&self, info: &ContainerInfo) -> Result<View> {
        if info.status.is_running() {
            return Ok(View::Running(info.running()?));
        }
        if info.held && info.status == Status::Exited {
            // Its monitor is about to let go of it.
            self.settle(info)?;
        }
        let place = self.store.lock_container(&info.record.id)?;
        let lease = self.store.lease()?;
        let image = self.find_image(&info.record.image.to_string())?;
        let snapshot = self.container_snapshot(&lease, &image, &place)?;
        let rootfs = Arc::new(builder::rootfs(&snapshot, false)?);
        // From here on the tree is the container's, whatever happens.
        snapshot.keep();
        let root = TreeRoot::from_fd(rootfs.fd())?;
        let mounts = self.mounts(&info.spec, &root, None)?;
        drop(root);
        let (wait, gate) = std::io::pipe().map_err(|source| Error::Monitor { doing: "making a pipe", source })?;
        let mut sandbox = Sandbox::new(rootfs, [NOBODY]);
        sandbox.pretend = builder::pretended_owners();
        sandbox.mounts = mounts;
        sandbox.read_only = info.spec.read_only;
        sandbox.exposed = true;
        sandbox.gate = Some(Arc::new(wait.into()));
        let process = sandbox.start()?;
        let ticks = start_time(process.pid()).unwrap_or_default();
        let running = Running::find(process.pid(), ticks)?;
        let running = running.ok_or_else(|| Error::NotRunning { name: info.name(), status: info.status.word() })?;
        let waiting = Waiting { running, _process: process, _gate: gate, _lease: lease, _place: place };
        Ok(View::Waiting(Box::new(waiting)))
    }
}
