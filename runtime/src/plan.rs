//! `SetupPlan`: what the caller prepares and what the new process does between clone and exec, as data. It prints as
//! aligned text. `planner` makes it, `prepare` and `sys::child` carry it out.
mod op;
mod preparation;
mod print;
mod slot;

use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::sync::Arc;

pub use op::SetupOp;
pub(crate) use op::{KernelFilesystem, Missing, Op, Place, Refusal, StagePlace, Turn};
pub(crate) use preparation::{Device, DeviceKind, MountPoint, PointKind, Preparation, StagedFile};
pub(crate) use print::Attributes;
pub use slot::Slot;

use crate::cgroup::Cgroup;
use crate::idmap::IdRanges;
use crate::running::Running;
use crate::sys::clone::NewNamespaces;
use crate::userns::UserNamespace;

/// A pid namespace that is there already.
#[derive(Clone, Debug)]
pub(crate) enum Birth {
    /// By a descriptor of /proc/PID/ns/pid.
    Namespace(Arc<OwnedFd>),
    /// That of a running container.
    Beside(Arc<Running>),
}

/// What the new process has for memory until it becomes the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Memory {
    /// A copy of the caller's. The kernel copies its page tables, and each page that either of both writes to.
    Copied,
    /// The caller's own. The calling thread waits for exec, or for the end.
    Shared,
}

/// Everything between a `Sandbox` and its process.
#[derive(Debug)]
pub struct SetupPlan {
    pub(crate) prepare: Vec<(Slot, Preparation)>,
    pub(crate) namespaces: NewNamespaces,
    pub(crate) memory: Memory,
    /// The pid namespace to be born in, where it is neither new nor the caller's.
    pub(crate) birth: Option<Birth>,
    /// The ids of a new user namespace of its own.
    pub(crate) ids: Option<IdRanges>,
    /// The user namespace that it goes into when all is mounted.
    pub(crate) users: Option<Arc<UserNamespace>>,
    /// User 0 and group 0 of a user namespace that is there already, as they are outside.
    pub(crate) outer_root: Option<(u32, u32)>,
    /// The control group to be born in.
    pub(crate) cgroup: Option<Arc<Cgroup>>,
    pub(crate) ops: Vec<SetupOp>,
    pub(crate) program: Program,
    /// What was asked for and cannot be had in full, in words for the user.
    pub(crate) notes: Vec<String>,
}

impl SetupPlan {
    /// The steps of the new process, in order.
    #[must_use]
    pub fn ops(&self) -> &[SetupOp] {
        &self.ops
    }

    /// What was asked for and cannot be had in full, in words for the user.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.notes
    }
}

/// What is executed in the end.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    /// The first word of the command, for messages.
    pub(crate) name: String,
    /// Full paths to try, in the order of PATH.
    pub(crate) candidates: Vec<CString>,
    pub(crate) argv: Vec<CString>,
    pub(crate) env: Vec<CString>,
}
