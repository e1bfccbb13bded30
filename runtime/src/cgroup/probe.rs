//! Where this machine keeps its control groups: each version 1 hierarchy with its controllers, and the unified one.
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::error::{Error, Result};
use crate::host::read_whole;

/// What a control group can limit or count, in the kernel's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "the variants are the kernel's own names")]
pub enum Controller {
    Blkio,
    Cpu,
    Cpuacct,
    Cpuset,
    Devices,
    Freezer,
    Hugetlb,
    Memory,
    NetCls,
    NetPrio,
    PerfEvent,
    Pids,
    Rdma,
    Misc,
}

impl Controller {
    const ALL: [Controller; 14] = [
        Controller::Blkio,
        Controller::Cpu,
        Controller::Cpuacct,
        Controller::Cpuset,
        Controller::Devices,
        Controller::Freezer,
        Controller::Hugetlb,
        Controller::Memory,
        Controller::NetCls,
        Controller::NetPrio,
        Controller::PerfEvent,
        Controller::Pids,
        Controller::Rdma,
        Controller::Misc,
    ];

    /// The name in version 1; version 2 says `io` for `blkio`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Controller::Blkio => "blkio",
            Controller::Cpu => "cpu",
            Controller::Cpuacct => "cpuacct",
            Controller::Cpuset => "cpuset",
            Controller::Devices => "devices",
            Controller::Freezer => "freezer",
            Controller::Hugetlb => "hugetlb",
            Controller::Memory => "memory",
            Controller::NetCls => "net_cls",
            Controller::NetPrio => "net_prio",
            Controller::PerfEvent => "perf_event",
            Controller::Pids => "pids",
            Controller::Rdma => "rdma",
            Controller::Misc => "misc",
        }
    }

    pub(super) fn unified_name(self) -> &'static str {
        if self == Controller::Blkio { "io" } else { self.name() }
    }

    fn parse(name: &str) -> Option<Controller> {
        Controller::ALL.into_iter().find(|known| known.name() == name)
    }

    fn parse_unified(name: &str) -> Option<Controller> {
        Controller::ALL.into_iter().find(|known| known.unified_name() == name)
    }
}

impl fmt::Display for Controller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A hierarchy of version 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hierarchy {
    pub(super) mount: PathBuf,
    /// Empty for one that only groups processes, such as systemd's.
    pub(super) controllers: Vec<Controller>,
    /// What `mount -o` takes to show it.
    pub(super) options: String,
}

/// All hierarchies of the machine, as far as they are mounted here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Hierarchies {
    pub(super) v1: Vec<Hierarchy>,
    pub(super) v2: Option<PathBuf>,
}

impl Hierarchies {
    /// Read once: a machine does not move them.
    pub(super) fn probe() -> Result<&'static Hierarchies> {
        static FOUND: OnceLock<Hierarchies> = OnceLock::new();
        if let Some(found) = FOUND.get() {
            return Ok(found);
        }
        let path = Path::new("/proc/thread-self/mountinfo");
        let text = read_whole(path).map_err(|source| Error::cgroup(path, "reading what is mounted")(source))?;
        Ok(FOUND.get_or_init(|| Hierarchies::parse(&String::from_utf8_lossy(&text))))
    }

    /// Reads proc_pid_mountinfo(5). Of two mounts of one hierarchy the first counts.
    fn parse(text: &str) -> Hierarchies {
        let mut found = Hierarchies::default();
        for line in text.lines() {
            let Some((place, kind)) = line.split_once(" - ") else { continue };
            let Some(mount) = place.split(' ').nth(4).map(unescape) else { continue };
            let mut words = kind.split(' ');
            match (words.next(), words.nth(1)) {
                (Some("cgroup2"), _) if found.v2.is_none() => found.v2 = Some(mount),
                (Some("cgroup"), Some(options)) => found.add_v1(mount, options),
                _ => {}
            }
        }
        found
    }

    fn add_v1(&mut self, mount: PathBuf, options: &str) {
        let names: Vec<&str> =
            options.split(',').filter(|name| Controller::parse(name).is_some() || name.starts_with("name=")).collect();
        let options = names.join(",");
        if !options.is_empty() && !self.v1.iter().any(|known| known.options == options) {
            let controllers = names.iter().filter_map(|name| Controller::parse(name)).collect();
            self.v1.push(Hierarchy { mount, controllers, options });
        }
    }
}

/// Mount points have space, tab, newline and backslash as three octal digits.
fn unescape(text: &str) -> PathBuf {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        match (first, tail) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..]) => {
                bytes.push(((a - b'0') << 6) | ((b - b'0') << 3) | (c - b'0'));
                rest = after;
            }
            _ => bytes.push(*first),
        }
    }
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
}

/// The controllers that a unified group can hand on to its children.
pub(super) fn unified_controllers(directory: &Path) -> io::Result<Vec<Controller>> {
    let text = fs::read_to_string(directory.join("cgroup.controllers"))?;
    Ok(text.split_whitespace().filter_map(Controller::parse_unified).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:4 - cgroup cgroup rw,memory
36 31 0:32 / /elsewhere rw - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
41 31 0:38 / /sys/fs/a\\040b rw,relatime - cgroup2 cgroup2 rw,nsdelegate
";

    #[test]
    fn a_hybrid_machine_is_read() {
        let found = Hierarchies::parse(HYBRID);
        let options: Vec<&str> = found.v1.iter().map(|one| one.options.as_str()).collect();
        assert_eq!(options, ["cpu,cpuacct", "memory", "name=systemd"]);
        assert_eq!(found.v1[0].controllers, [Controller::Cpu, Controller::Cpuacct]);
        assert_eq!(found.v1[1].mount, Path::new("/sys/fs/cgroup/memory"));
        assert_eq!(found.v2.as_deref(), Some(Path::new("/sys/fs/a b")));
    }

    #[test]
    fn a_unified_machine_has_no_version_1() {
        let found = Hierarchies::parse("31 23 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n");
        assert_eq!(found, Hierarchies { v1: Vec::new(), v2: Some("/sys/fs/cgroup".into()) });
    }
}
