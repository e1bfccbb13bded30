//! The steps of the new process, between clone and exec.
use std::ffi::{CStr, CString};
use std::sync::Arc;

use rustix::thread::ThreadNameSpaceType;

use super::Slot;
use crate::capability::CapabilitySet;
use crate::cgroup::Cgroup;
use crate::given::{GivenDevice, Propagation};
use crate::hooks::PreparedHook;
use crate::sandbox::{CapabilitySets, Resource};
use crate::sys::given::FilesystemOption;
use crate::sys::mount::Reach;
use crate::target::Target;

/// One step of the new process. None of them allocates.
#[derive(Clone, Debug)]
pub struct SetupOp(pub(crate) Op);

#[derive(Clone, Debug)]
pub(crate) enum Op {
    DieWithParent,
    HideMemory,
    OwnKeyring,
    /// Joins the control group where it is one of version 1.
    JoinCgroup(Arc<Cgroup>),
    CgroupNamespace,
    /// Moves into a namespace.
    Join(Slot),
    /// Moves into the namespaces of a running container that are not the caller's; the pid namespace it was born in.
    Enter {
        slot: Slot,
        spaces: ThreadNameSpaceType,
    },
    PrivateMounts,
    /// Moves into the mount namespace that was made for it.
    Room,
    /// Attaches a mount over the host's root, where it is reachable for this process alone.
    Stage(Slot, StagePlace),
    /// Makes and attaches a file system of the new namespaces.
    Kernel {
        filesystem: KernelFilesystem,
        slot: Slot,
        attributes: u32,
        at: Place,
    },
    /// Shows a hierarchy of version 1, as its namespace sees it.
    CgroupView {
        options: Vec<CString>,
        attributes: u32,
        at: Place,
    },
    /// Attaches a prepared mount below one of the runtime's own.
    Attach {
        slot: Slot,
        at: Place,
    },
    /// Attaches a mount of the caller's, making the target where it is still missing.
    Mount {
        slot: Slot,
        target: Target,
    },
    /// Shows a part of a staged mount, found beneath its root whatever links it holds, at a target of the caller's.
    Show {
        from: Place,
        target: Target,
        attributes: u64,
    },
    /// Shows a part of a mount at another place.
    Bind {
        from: Place,
        at: Place,
        attributes: u64,
        reach: Reach,
        missing: Missing,
    },
    /// Hides what is there behind the null device or an empty directory.
    Mask(Place),
    /// Makes a file system of the new namespaces.
    Filesystem {
        slot: Slot,
        kind: CString,
        options: Vec<FilesystemOption>,
        attributes: u32,
    },
    /// Attaches a mount of a given layout.
    MountGiven {
        slot: Slot,
        target: Target,
        over_proc: bool,
        links: bool,
    },
    Device {
        parent: Option<Target>,
        name: CString,
        device: GivenDevice,
    },
    Link {
        parent: Option<Target>,
        name: CString,
        to: CString,
    },
    /// Adds attributes to a mount.
    Restrict {
        slot: Slot,
        attributes: u64,
    },
    RootPropagation(Propagation),
    /// Tells the caller, and waits until it has done its part.
    Turn(Turn),
    /// What it makes belongs to this user and group, while its rights stay.
    FileOwner {
        uid: u32,
        gid: u32,
    },
    /// Goes into its user namespace, with mounts of its own: what was mounted before is there, and nobody in there can undo
    /// it. A terminal is opened again, for programs to find its name.
    EnterUsers {
        terminal: bool,
    },
    /// Becomes user 0 of its own user namespace.
    BecomeRoot,
    /// Runs a program to its end.
    Hook(PreparedHook),
    /// Looks for the program, closes what is not needed any more, and waits for the start.
    Gate {
        descriptors: u32,
    },
    PivotRoot,
    /// Makes the root its own where nothing else is reachable.
    TakeRoot,
    /// Writes into a file below /proc.
    Setting {
        at: Place,
        value: CString,
        refusal: Refusal,
    },
    Hostname(CString),
    Domainname(CString),
    LoopbackUp,
    Limit {
        resource: Resource,
        soft: Option<u64>,
        hard: Option<u64>,
    },
    WorkingDirectory(CString),
    Umask(u32),
    NoNewPrivileges,
    Filter(crate::seccomp::Program),
    /// A filter whose calls the caller answers: who has no other ids pretends to have them.
    Pretend(crate::seccomp::Program),
    BoundingSet {
        keep: CapabilitySet,
        last: u8,
    },
    Ids {
        uid: u32,
        gid: u32,
        /// None where the user namespace lets nobody choose groups.
        groups: Option<Vec<u32>>,
    },
    Capabilities(CapabilitySet),
    /// Lets the permitted set survive the change of ids.
    KeepCapabilities,
    CapabilitySets(CapabilitySets),
    /// Leaves a reaper behind as process 1, whose own command line, at these addresses, nobody shall read.
    Init {
        arguments: std::ops::Range<usize>,
    },
    Session,
    ControllingTerminal,
    Stdio,
    DefaultSignals,
    /// All descriptors but the first so many.
    CloseOnExec {
        from: u32,
    },
}

/// A path below a descriptor. Below the root every step is resolved inside it; below the runtime's own mounts it is trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) base: Slot,
    pub(crate) path: CString,
}

/// Where a mount that is no part of the new root lies until the old one is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StagePlace {
    /// Over the root.
    Root,
    /// Over a directory of the host that nothing is looked up in any more: it goes with the old root in one step, where
    /// over the root it is one of two, and the kernel waits for all processors at each.
    Aside,
}

/// What a mount step does when its place is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Missing {
    /// Fails.
    Fail,
    /// Goes on: there is nothing to hide.
    Skip,
    /// Goes on, and tells the caller.
    Note,
}

/// What the caller does when it is its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Gives the user namespace its ids.
    Ids,
    /// What it was asked to do when everything is mounted.
    Mounted,
}

/// What a setting that the kernel refuses means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The end.
    Fail,
    /// A note for the caller.
    Note,
}

/// A file system that belongs to the namespaces of the new process and so can only be made by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KernelFilesystem {
    Proc,
    Sysfs,
    Mqueue,
    Cgroup2,
}

impl KernelFilesystem {
    pub(crate) fn name(self) -> &'static CStr {
        match self {
            KernelFilesystem::Proc => c"proc",
            KernelFilesystem::Sysfs => c"sysfs",
            KernelFilesystem::Mqueue => c"mqueue",
            KernelFilesystem::Cgroup2 => c"cgroup2",
        }
    }
}
