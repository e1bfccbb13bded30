//! What a sandbox mounts besides its root, and which parts of /proc and /sys it hides. Data only.
use std::fmt;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::given::Propagation;
use crate::rootfs::Rootfs;

/// A mount that the caller asks for. Targets are absolute paths in the container; the runtime makes missing ones.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Mount {
    /// A file or directory of the host.
    Bind {
        /// What to show.
        source: BindSource,
        /// Where to show it.
        target: PathBuf,
        /// Whether writing is refused, also in what is mounted below the source.
        read_only: bool,
        /// Whether mounts below the source are shown as well.
        recursive: bool,
        /// How later mounts spread between it and the source; `None` is not at all.
        propagation: Option<Propagation>,
        /// Whether owners are mapped where the sandbox has a user namespace of its own; else they are nobody there.
        mapped: bool,
    },
    /// A fresh file system in memory.
    Tmpfs {
        /// Where to mount it.
        target: PathBuf,
        /// Its size in bytes; `None` is the kernel's default.
        size: Option<u64>,
        /// The mode of its root directory.
        mode: u32,
        /// Whether what is in it may be executed.
        executable: bool,
    },
    /// A mount that is attached nowhere yet, with all its attributes but this.
    Detached {
        /// The mount.
        mount: Arc<OwnedFd>,
        /// Where to attach it.
        target: PathBuf,
        /// Whether writing is refused, once all is mounted that lies below it.
        read_only: bool,
    },
    /// A file that lives in memory, for as long as the sandbox does, and on no disk.
    File {
        /// Its content.
        content: Content,
        /// Where to show it.
        target: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// Its owner.
        uid: u32,
        /// Its group.
        gid: u32,
    },
    /// A file or directory of another root file system.
    Tree {
        /// The other root.
        rootfs: Arc<Rootfs>,
        /// The path in it; links are resolved inside that root.
        path: PathBuf,
        /// Where to show it.
        target: PathBuf,
        /// Whether writing is refused.
        read_only: bool,
    },
}

impl Mount {
    /// Where the mount goes in the container.
    #[must_use]
    pub fn target(&self) -> &PathBuf {
        match self {
            Mount::Bind { target, .. }
            | Mount::Tmpfs { target, .. }
            | Mount::Detached { target, .. }
            | Mount::File { target, .. }
            | Mount::Tree { target, .. } => target,
        }
    }
}

/// Bytes that no debug print shows: they may be a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Content(Arc<[u8]>);

impl Content {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<&[u8]> for Content {
    fn from(bytes: &[u8]) -> Content {
        Content(bytes.into())
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Content({} bytes)", self.0.len())
    }
}

/// Where the content of a bind mount comes from.
#[derive(Clone, Debug)]
pub enum BindSource {
    /// A path of the host, which nobody untrusted had a say in.
    Path(PathBuf),
    /// An open descriptor (`O_PATH` is enough); the way for paths that were walked beneath a root. A detached mount works too.
    Descriptor(Arc<OwnedFd>),
}

impl From<PathBuf> for BindSource {
    fn from(path: PathBuf) -> BindSource {
        BindSource::Path(path)
    }
}

impl From<OwnedFd> for BindSource {
    fn from(descriptor: OwnedFd) -> BindSource {
        BindSource::Descriptor(Arc::new(descriptor))
    }
}

/// Docker's list of paths that a container sees as empty; those that the machine lacks are skipped.
#[must_use]
pub fn default_masked_paths() -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = [
        "/proc/acpi",
        "/proc/asound",
        "/proc/interrupts",
        "/proc/kcore",
        "/proc/keys",
        "/proc/latency_stats",
        "/proc/sched_debug",
        "/proc/scsi",
        "/proc/timer_list",
        "/proc/timer_stats",
        "/sys/devices/virtual/powercap",
        "/sys/firmware",
        "/sys/fs/selinux",
    ]
    .into_iter()
    .map(PathBuf::from)
    .collect();
    paths.extend(thermal_throttle_paths());
    paths
}

fn thermal_throttle_paths() -> Vec<PathBuf> {
    const CPUS: &str = "/sys/devices/system/cpu";
    // All have it, or none.
    if !Path::new(CPUS).join("cpu0/thermal_throttle").is_dir() {
        return Vec::new();
    }
    let Ok(entries) = std::fs::read_dir(CPUS) else {
        return Vec::new();
    };
    let mut paths: Vec<PathBuf> = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path().join("thermal_throttle")))
        .filter(|path| path.is_dir())
        .collect();
    paths.sort();
    paths
}

/// Docker's list of paths that a container may read but not write.
#[must_use]
pub fn default_read_only_paths() -> Vec<PathBuf> {
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"].into_iter().map(PathBuf::from).collect()
}
