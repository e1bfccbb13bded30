//! What a sandbox mounts besides its root, and which parts of /proc and /sys it hides. Data only.
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

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
    },
    /// A fresh file system in memory.
    Tmpfs {
        /// Where to mount it.
        target: PathBuf,
        /// Its size in bytes; `None` is the kernel's default.
        size: Option<u64>,
        /// The mode of its root directory.
        mode: u32,
    },
}

impl Mount {
    /// Where the mount goes in the container.
    #[must_use]
    pub fn target(&self) -> &PathBuf {
        match self {
            Mount::Bind { target, .. } | Mount::Tmpfs { target, .. } => target,
        }
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
    let Ok(entries) = std::fs::read_dir("/sys/devices/system/cpu") else {
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
