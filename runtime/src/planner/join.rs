//! Namespaces that are not new: those of the caller, those behind a descriptor, and all of a running container's.
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use super::{Planner, QUIET};
use crate::error::{Error, Result};
use crate::host::Host;
use crate::plan::{Birth, Op, Preparation, Slot};
use crate::prepare::fresh::Fresh;
use crate::running::Running;
use crate::sandbox::{Base, Namespace, NetworkMode, Sandbox, Stdio};
use crate::sys::clone::{Cloneable, NewNamespaces};
use crate::sys::mount::Reach;

impl Sandbox {
    /// What clone makes, and the pid namespace to be born in if that is neither new nor the caller's.
    pub(super) fn new_namespaces(&self, host: &Host, has_room: bool) -> Result<(NewNamespaces, Option<Birth>)> {
        let mut new = NewNamespaces::default();
        if let Base::Running(container) = &self.base {
            let apart = container.foreign_namespaces()?.processes;
            return Ok((new, apart.then(|| Birth::Beside(Arc::clone(container)))));
        }
        if self.makes_users() {
            new.insert(Cloneable::User);
        }
        if !has_room {
            new.insert(Cloneable::Mount);
        }
        let own = &self.namespaces;
        for (namespace, kind) in [(&own.pid, Cloneable::Pid), (&own.ipc, Cloneable::Ipc), (&own.uts, Cloneable::Uts)] {
            if matches!(namespace, Namespace::New) && !(kind == Cloneable::Pid && self.shows_hosts_processes(host)) {
                new.insert(kind);
            }
        }
        if matches!(self.network, NetworkMode::None) && self.users_network().is_none() {
            new.insert(Cloneable::Net);
        }
        let birth = match &own.pid {
            Namespace::Join(descriptor) => Some(Birth::Namespace(Arc::clone(descriptor))),
            Namespace::New | Namespace::Host => None,
        };
        Ok((new, birth))
    }

    /// Where the machine's /proc is covered in part, as in containers, the kernel makes no other one for a user namespace:
    /// what it shows must be what there is.
    pub(super) fn shows_hosts_processes(&self, host: &Host) -> bool {
        host.covered_proc && self.layout.is_none() && matches!(self.namespaces.pid, Namespace::New)
    }
}

/// The /dev/shm of an ipc namespace of its own.
pub(super) fn own_shared_memory(size: u64) -> Fresh {
    Fresh::Tmpfs { size: Some(size), mode: 0o1777, executable: false }
}

impl Namespace {
    fn joined(&self) -> Option<&Arc<OwnedFd>> {
        match self {
            Namespace::Join(descriptor) => Some(descriptor),
            Namespace::New | Namespace::Host => None,
        }
    }
}

impl Planner<'_> {
    /// Comes before any mount: /sys shows the network, and /dev/mqueue the queues, of whoever mounts them.
    pub(super) fn join(&mut self) {
        let own = &self.sandbox.namespaces;
        let network = match &self.sandbox.network {
            NetworkMode::Join(descriptor) => Some(descriptor),
            NetworkMode::None => self.sandbox.users_network(),
            NetworkMode::Host => None,
        };
        let all = [network, own.ipc.joined(), own.uts.joined(), own.cgroup.joined()];
        for (number, descriptor) in (0..).zip(all) {
            if let Some(descriptor) = descriptor {
                self.prepare.push((Slot::Join(number), Preparation::Namespace(Arc::clone(descriptor))));
                self.push(Op::Join(Slot::Join(number)));
            }
        }
        if matches!(own.cgroup, Namespace::New) {
            self.push(Op::CgroupNamespace);
        }
    }

    /// A process more in a running container: nothing is mounted, everything is there.
    pub(super) fn enter(&mut self, container: &Arc<Running>) -> Result<()> {
        if !self.sandbox.mounts.is_empty() || self.sandbox.init {
            return Err(Error::invalid("mounts", "a running container takes no more of them, and no init"));
        }
        self.prepare.push((Slot::Join(0), Preparation::Process(Arc::clone(container))));
        if matches!(self.sandbox.stdio, Stdio::Terminal(_)) {
            self.prepare.push((Slot::Pts, Preparation::PtsOf(Arc::clone(container))));
        }
        let labelled = self.sandbox.apparmor.is_some() || self.sandbox.selinux.is_some();
        if labelled || self.sandbox.oom_score_adj.is_some() {
            // Written while this process still sees the host's /proc.
            let source = PathBuf::from("/proc").into();
            let proc = Preparation::Bind { source, attributes: QUIET, reach: Reach::One, mapped: false };
            self.prepare.push((Slot::Proc, proc));
            self.settings()?;
            self.labels()?;
        }
        if self.sandbox.ids.is_some() {
            self.ids_are_there()?;
            self.raise_limits();
        }
        self.push(Op::Enter { slot: Slot::Join(0), spaces: container.foreign_namespaces()?.spaces });
        Ok(())
    }

    /// /dev/shm follows the ipc namespace.
    pub(super) fn shared_memory(&self) -> Preparation {
        let sandbox = self.sandbox;
        match (&sandbox.shared_memory, &sandbox.namespaces.ipc) {
            (Some(mount), _) => Preparation::Mounted(Arc::clone(mount)),
            (None, Namespace::Host) => {
                let source = PathBuf::from("/dev/shm").into();
                Preparation::Bind { source, attributes: QUIET, reach: Reach::One, mapped: false }
            }
            (None, _) => Preparation::Fresh(own_shared_memory(sandbox.shm_size)),
        }
    }
}
