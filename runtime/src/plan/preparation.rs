//! What the caller makes before clone: descriptors, and what is in them.
use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::Slot;
use crate::given::{MountAttributes, Propagation};
use crate::mount::{BindSource, Content};
use crate::prepare::fresh::Fresh;
use crate::rootfs::Rootfs;
use crate::running::Running;
use crate::sandbox::TerminalSize;
use crate::sys::given::FilesystemOption;
use crate::sys::mount::Reach;
use crate::target::Target;
use crate::userns::UserNamespace;

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
