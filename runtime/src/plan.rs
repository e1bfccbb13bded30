//! `SetupPlan`: what the caller prepares and what the new process does between clone and exec, as data. It prints as
//! aligned text. `planner` makes it, `prepare` and `sys::child` carry it out.
use std::ffi::{CStr, CString};
use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::thread::ThreadNameSpaceType;

use crate::capability::CapabilitySet;
use crate::cgroup::Cgroup;
use crate::given::{GivenDevice, MountAttributes, Propagation};
use crate::hooks::PreparedHook;
use crate::idmap::IdRanges;
use crate::mount::{BindSource, Content};
use crate::prepare::fresh::Fresh;
use crate::rootfs::Rootfs;
use crate::running::Running;
use crate::sandbox::CapabilitySets;
use crate::sandbox::{Resource, TerminalSize};
use crate::sys::clone::NewNamespaces;
use crate::sys::given::FilesystemOption;
use crate::sys::mount::Reach;
use crate::target::Target;
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
    const FIXED: usize = 17 + Slot::MOST_JOINED + Slot::MOST_VIEWS;
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
            Slot::Users => Slot::FIXED - 4,
            Slot::Gate => Slot::FIXED - 3,
            Slot::Turn => Slot::FIXED - 2,
            Slot::State => Slot::FIXED - 1,
            Slot::Mount(number) => Slot::FIXED + Slot::DEVICES + usize::from(number),
        }
    }
}

/// A descriptor that the caller makes before clone.
#[derive(Clone, Debug)]
pub(crate) enum Preparation {
    /// A clone of the root's mount, with missing mount points made.
    Root { attributes: u64, mount_points: Vec<MountPoint> },
    /// A file system in memory.
    Fresh(Fresh),
    /// The terminals of a running container.
    PtsOf(Arc<Running>),
    /// A mount that is detached already.
    Mounted(Arc<OwnedFd>),
    /// A namespace, as a descriptor.
    Namespace(Arc<OwnedFd>),
    /// A user namespace, as a descriptor.
    Users(Arc<UserNamespace>),
    /// A running container, as a descriptor of its first process.
    Process(Arc<Running>),
    /// A clone of a mount of the host, with whatever attributes.
    GivenBind {
        source: std::path::PathBuf,
        reach: Reach,
        attributes: MountAttributes,
        recursive: MountAttributes,
        propagation: Option<Propagation>,
    },
    /// A new instance of a file system; what lies in the root at `copy_up` is copied into it.
    Filesystem { kind: CString, options: Vec<FilesystemOption>, attributes: u32, copy_up: Option<Target> },
    /// A file in memory.
    Memory,
    /// The read end of a pipe whose other end stays with the caller.
    Turn,
    /// A clone of a mount of the host.
    Bind { source: BindSource, attributes: u64, reach: Reach, mapped: bool },
    /// A clone of another root's mount.
    Tree(Arc<Rootfs>),
    /// One end of a pair of sockets, whose other end stays with the caller.
    Socket,
    /// The host's /dev/null.
    Null,
    /// The caller's own descriptor of this number.
    Inherit,
    /// Another descriptor for what `Slot::Stdio(0)` is.
    Same,
    /// The inner end of a pipe, owned by the user of the sandbox: the one to read where it is input.
    Pipe { uid: u32, gid: u32 },
    /// The inner end of a new terminal out of `Slot::Pts`, owned by the user of the sandbox.
    Terminal { size: TerminalSize, uid: u32 },
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

impl fmt::Display for StagePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            StagePlace::Root => "over the root",
            StagePlace::Aside => "aside",
        })
    }
}

/// A file of the staging tmpfs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StagedFile {
    pub(crate) name: CString,
    pub(crate) content: Content,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// A place that must exist before something can be mounted on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MountPoint {
    pub(crate) target: Target,
    pub(crate) kind: PointKind,
}

/// What a mount point is, and what happens when it cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PointKind {
    /// A real directory, not a link.
    Directory,
    /// Whatever the source of this mount is.
    LikeSource(Slot),
    /// A file whose dangling link is left alone.
    File,
}

/// A device node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Device {
    pub(crate) name: CString,
    pub(crate) kind: DeviceKind,
    pub(crate) mode: u32,
    pub(crate) major: u32,
    pub(crate) minor: u32,
}

/// The two kinds of device nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DeviceKind {
    Character,
    Block,
}

/// A path below a descriptor. Below the root every step is resolved inside it; below the runtime's own mounts it is trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) base: Slot,
    pub(crate) path: CString,
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

impl fmt::Display for SetupPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (slot, preparation) in &self.prepare {
            writeln!(f, "prepare     {:<8} {preparation}", slot.to_string())?;
        }
        let memory = if self.memory == Memory::Shared { ", sharing memory until exec" } else { "" };
        writeln!(f, "clone       {}{memory}", self.namespaces)?;
        for op in &self.ops {
            writeln!(f, "{op}")?;
        }
        write!(f, "exec       ")?;
        self.program.argv.iter().try_for_each(|word| write!(f, " {}", word.to_string_lossy().escape_debug()))
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Slot::Root => "root",
            Slot::Stage => "stage",
            Slot::Dev => "dev",
            Slot::Pts => "pts",
            Slot::Shm => "shm",
            Slot::Mqueue => "mqueue",
            Slot::Proc => "proc",
            Slot::Sys => "sys",
            Slot::Cgroup => "cgroup",
            Slot::Join(number) => return write!(f, "join{number}"),
            Slot::View(number) => return write!(f, "view{number}"),
            Slot::Users => "users",
            Slot::Gate => "gate",
            Slot::Turn => "turn",
            Slot::State => "state",
            Slot::Stdio(number) => return write!(f, "fd{number}"),
            Slot::Ids => "ids",
            Slot::Device(number) => return write!(f, "device{number}"),
            Slot::Mount(number) => return write!(f, "mount{number}"),
        };
        f.write_str(name)
    }
}

impl fmt::Display for Preparation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Preparation::Root { attributes, .. } => write!(f, "root file system{}", Attributes(*attributes)),
            Preparation::Fresh(fresh) => fresh.fmt(f),
            Preparation::PtsOf(_) => f.write_str("devpts of the container"),
            Preparation::Mounted(_) => f.write_str("detached mount"),
            Preparation::Namespace(_) => f.write_str("namespace"),
            Preparation::Users(_) => f.write_str("user namespace"),
            Preparation::Process(_) => f.write_str("running container"),
            Preparation::GivenBind { source, reach, .. } => {
                write!(f, "{}{}", source.display(), if *reach == Reach::Below { ", recursive" } else { "" })
            }
            Preparation::Filesystem { kind, attributes, .. } => {
                write!(f, "{}{}", kind.to_string_lossy(), Attributes(u64::from(*attributes)))
            }
            Preparation::Memory => f.write_str("file in memory"),
            Preparation::Turn => f.write_str("pipe"),
            Preparation::Bind { source, attributes, reach, mapped } => {
                match source {
                    BindSource::Path(path) => write!(f, "{}", path.display())?,
                    BindSource::Descriptor(_) => f.write_str("descriptor")?,
                }
                f.write_str(if *reach == Reach::Below { ", recursive" } else { "" })?;
                f.write_str(if *mapped { ", mapped" } else { "" })?;
                write!(f, "{}", Attributes(*attributes))
            }
            Preparation::Tree(_) => f.write_str("another root"),
            Preparation::Socket => f.write_str("socket"),
            Preparation::Null => f.write_str("/dev/null"),
            Preparation::Inherit => f.write_str("the caller's"),
            Preparation::Same => f.write_str("as fd0"),
            Preparation::Pipe { uid, gid } => write!(f, "pipe of {uid}:{gid}"),
            Preparation::Terminal { size, uid } => write!(f, "terminal {}x{} of {uid}", size.rows, size.columns),
        }
    }
}

/// Attributes of a mount, as words.
pub(crate) struct Attributes(pub(crate) u64);

impl fmt::Display for Attributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (bit, name) in [(1, "ro"), (2, "nosuid"), (4, "nodev"), (8, "noexec")] {
            if self.0 & bit != 0 {
                write!(f, ", {name}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:/{}", self.base, self.path.to_string_lossy().escape_debug())
    }
}

impl fmt::Display for SetupOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Op::DieWithParent => f.write_str("die         with the starting thread"),
            Op::HideMemory => f.write_str("hide        memory until exec"),
            Op::OwnKeyring => f.write_str("keyring     own"),
            Op::JoinCgroup(cgroup) => write!(f, "cgroup      {}", cgroup.path().display()),
            Op::CgroupNamespace => f.write_str("namespace   cgroup"),
            Op::Join(slot) => write!(f, "join        {slot}"),
            Op::Enter { slot, .. } => write!(f, "enter       {slot}"),
            Op::PrivateMounts => f.write_str("mounts      private"),
            Op::Stage(slot, over) => write!(f, "stage       {slot} {over}"),
            Op::Kernel { filesystem, attributes, at, .. } => {
                let name = filesystem.name().to_string_lossy();
                write!(f, "mount       {name:<8} on {at}{}", Attributes(u64::from(*attributes)))
            }
            Op::CgroupView { attributes, at, .. } => {
                write!(f, "mount       cgroup   on {at}{}", Attributes(u64::from(*attributes)))
            }
            Op::Attach { slot, at } => write!(f, "mount       {:<8} on {at}", slot.to_string()),
            Op::Mount { slot, target } => write!(
                f,
                "mount       {:<8} on root:/{}",
                slot.to_string(),
                target.path.to_string_lossy().escape_debug()
            ),
            Op::Show { from, target, attributes } => write!(
                f,
                "show        {from} on root:/{}{}",
                target.path.to_string_lossy().escape_debug(),
                Attributes(*attributes)
            ),
            Op::Bind { from, at, attributes, .. } if from == at => {
                write!(f, "restrict    {at}{}", Attributes(*attributes))
            }
            Op::Bind { from, at, attributes, .. } => write!(f, "bind        {from} on {at}{}", Attributes(*attributes)),
            Op::Mask(at) => write!(f, "mask        {at}"),
            Op::Filesystem { kind, slot, .. } => write!(f, "make        {} {slot}", kind.to_string_lossy()),
            Op::MountGiven { slot, target, .. } => {
                write!(f, "mount       {slot:<8} on root:/{}", target.path.to_string_lossy().escape_debug())
            }
            Op::Device { device, .. } => write!(f, "device      {}", device.path.display()),
            Op::Link { name, to, .. } => {
                write!(f, "link        {} to {}", name.to_string_lossy(), to.to_string_lossy())
            }
            Op::Restrict { slot, attributes } => write!(f, "restrict    {slot}{}", Attributes(*attributes)),
            Op::RootPropagation(propagation) => write!(f, "spread      {:?}", propagation.kind),
            Op::Turn(turn) => write!(f, "wait        for the caller: {turn:?}"),
            Op::FileOwner { uid, gid } => write!(f, "files       of {uid}:{gid}"),
            Op::EnterUsers { .. } => f.write_str("enter       users, with mounts of its own"),
            Op::BecomeRoot => f.write_str("ids         0:0 of the user namespace"),
            Op::Hook(hook) => write!(f, "hook        {}", hook.path.to_string_lossy().escape_debug()),
            Op::Gate { .. } => f.write_str("wait        for the start"),
            Op::PivotRoot => f.write_str("pivot       root"),
            Op::Setting { at, value, .. } => {
                write!(f, "set         {at} to {}", value.to_string_lossy().escape_debug())
            }
            Op::Domainname(name) => write!(f, "domainname  {}", name.to_string_lossy().escape_debug()),
            Op::Hostname(name) => write!(f, "hostname    {}", name.to_string_lossy().escape_debug()),
            Op::LoopbackUp => f.write_str("loopback    up"),
            Op::Limit { resource, soft, hard } => {
                write!(f, "limit       {resource:?} {}:{}", Limit(*soft), Limit(*hard))
            }
            Op::WorkingDirectory(path) => write!(f, "directory   {}", path.to_string_lossy().escape_debug()),
            Op::Umask(mask) => write!(f, "umask       {mask:04o}"),
            Op::NoNewPrivileges => f.write_str("privileges  none new"),
            Op::Filter(program) => write!(f, "filter      {program}"),
            Op::Pretend(program) => write!(f, "pretend     ids, by {program}"),
            Op::BoundingSet { keep, .. } => write!(f, "bounding    {keep}"),
            Op::Ids { uid, gid, groups: Some(groups) } => write!(f, "ids         {uid}:{gid} groups {groups:?}"),
            Op::Ids { uid, gid, groups: None } => write!(f, "ids         {uid}:{gid}"),
            Op::KeepCapabilities => f.write_str("capability  kept across the change of ids"),
            Op::CapabilitySets(sets) => write!(f, "capability  {}", sets.effective),
            Op::Capabilities(set) => write!(f, "capability  {set}"),
            Op::Init { .. } => f.write_str("init        as process 1"),
            Op::Session => f.write_str("session     own"),
            Op::ControllingTerminal => f.write_str("terminal    controlling"),
            Op::Stdio => f.write_str("stdio       0 1 2"),
            Op::DefaultSignals => f.write_str("signals     default"),
            Op::CloseOnExec { from } => write!(f, "close       {from} and above on exec"),
        }
    }
}

struct Limit(Option<u64>);

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(limit) => write!(f, "{limit}"),
            None => f.write_str("unlimited"),
        }
    }
}
