//! Where descriptors wait for their use.

/// Where a descriptor waits for its use. The caller fills some before clone, the new process the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// The root file system.
    Root,
    /// Files, device nodes and an empty directory that are bound into the container one by one.
    Stage,
    /// The tmpfs on /dev.
    Dev,
    /// The terminals on /dev/pts.
    Pts,
    /// /dev/shm.
    Shm,
    /// /dev/mqueue.
    Mqueue,
    /// The new /proc.
    Proc,
    /// The new /sys.
    Sys,
    /// The view of the control groups.
    Cgroup,
    /// A mount namespace that shows nothing yet.
    Room,
    /// A namespace, or a running container, to move into.
    Join(u8),
    /// A hierarchy of control groups.
    View(u8),
    /// What the new process waits on until it may start.
    Gate,
    /// What it waits on until the caller has done its part.
    Turn,
    /// The user namespace to go into.
    Users,
    /// The container's state, for hooks.
    State,
    /// What becomes descriptor 0, 1 or 2.
    Stdio(u8),
    /// The socket over which the filter of changed ids is handed to who answers for it.
    Ids,
    /// A device of the host, where none can be made.
    Device(u8),
    /// A mount that the caller asked for.
    Mount(u16),
}

impl Slot {
    const FIXED: usize = 18 + Slot::MOST_JOINED + Slot::MOST_VIEWS;
    /// More than the kernel has controllers.
    const MOST_VIEWS: usize = 32;
    /// Net, ipc, uts and cgroup.
    pub(crate) const MOST_JOINED: usize = 4;
    const DEVICES: usize = 256;

    pub(crate) fn index(self) -> usize {
        match self {
            Slot::Root => 0,
            Slot::Stage => 1,
            Slot::Dev => 2,
            Slot::Pts => 3,
            Slot::Shm => 4,
            Slot::Mqueue => 5,
            Slot::Proc => 6,
            Slot::Sys => 7,
            Slot::Cgroup => 8,
            Slot::Stdio(number) => 9 + usize::from(number.min(2)),
            Slot::Join(number) => 12 + usize::from(number).min(Slot::MOST_JOINED - 1),
            Slot::Ids => 12 + Slot::MOST_JOINED,
            Slot::Device(number) => Slot::FIXED + usize::from(number),
            Slot::View(number) => 13 + Slot::MOST_JOINED + usize::from(number).min(Slot::MOST_VIEWS - 1),
            Slot::Room => Slot::FIXED - 5,
            Slot::Users => Slot::FIXED - 4,
            Slot::Gate => Slot::FIXED - 3,
            Slot::Turn => Slot::FIXED - 2,
            Slot::State => Slot::FIXED - 1,
            Slot::Mount(number) => Slot::FIXED + Slot::DEVICES + usize::from(number),
        }
    }
}
