//! A file system that is given mount by mount, as an OCI configuration does, in place of the usual one. Data only.
use std::path::PathBuf;

/// What is mounted where, and which devices there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GivenLayout {
    /// In the order in which they are made: later ones may lie on earlier ones.
    pub mounts: Vec<GivenMount>,
    /// Nodes that are made when everything is mounted.
    pub devices: Vec<GivenDevice>,
    /// How mounts below the root spread in the end; private when absent.
    pub propagation: Option<Propagation>,
}

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GivenMount {
    /// Where; absolute, and resolved inside the root.
    pub target: PathBuf,
    /// What.
    pub source: GivenSource,
    /// What holds for the mount itself.
    pub attributes: MountAttributes,
    /// What holds for the mount and all below it.
    pub recursive: MountAttributes,
    /// How it spreads; private when empty.
    pub propagation: Option<Propagation>,
    /// What lies in the root at the target is copied into the new file system.
    pub copy_up: bool,
}

/// What a mount shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GivenSource {
    /// A file or directory of the host.
    Bind {
        /// Its path.
        source: PathBuf,
        /// Whether mounts below it are shown as well.
        recursive: bool,
    },
    /// A new instance of a file system.
    Filesystem {
        /// Its type, such as `tmpfs`.
        kind: String,
        /// What it shows, where it shows something.
        source: String,
        /// Options of the file system itself, in order.
        options: Vec<(String, Option<String>)>,
    },
    /// The control groups as the container sees them, in whichever version the machine has.
    Cgroup,
}

/// Attributes to set and to clear, in the kernel's bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MountAttributes {
    pub(crate) set: u64,
    pub(crate) clear: u64,
}

/// How mounts spread between a mount and its copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Propagation {
    /// Which way.
    pub kind: PropagationKind,
    /// Whether it holds for all mounts below as well.
    pub recursive: bool,
}

/// The kernel's four ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the variants are the kernel's own names")]
pub enum PropagationKind {
    Private,
    Slave,
    Shared,
    Unbindable,
}

/// A device node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GivenDevice {
    /// Where; absolute, and resolved inside the root.
    pub path: PathBuf,
    /// What it is.
    pub kind: NodeKind,
    /// Its number.
    pub number: (u32, u32),
    /// Its permission bits.
    pub mode: u32,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
}

/// Kinds of nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum NodeKind {
    Character,
    Block,
    Fifo,
}

// linux/mount.h.
const NOATIME: u64 = 0x10;
const STRICTATIME: u64 = 0x20;
const ATIME: u64 = 0x70;
const NODIRATIME: u64 = 0x80;
const NOSYMFOLLOW: u64 = 0x0020_0000;

impl MountAttributes {
    /// Reads one option of mount(8) that is an attribute: `ro`, `nosuid`, `relatime`, … and what they take back.
    #[must_use]
    pub fn option(name: &str) -> Option<MountAttributes> {
        let set = |set| Some(MountAttributes { set, clear: 0 });
        let clear = |clear| Some(MountAttributes { set: 0, clear });
        // The ways to keep times exclude one another, so each clears the others.
        let times = |set| Some(MountAttributes { set, clear: ATIME });
        match name {
            "ro" => set(1),
            "rw" => clear(1),
            "nosuid" => set(2),
            "suid" => clear(2),
            "nodev" => set(4),
            "dev" => clear(4),
            "noexec" => set(8),
            "exec" => clear(8),
            "noatime" => times(NOATIME),
            "strictatime" => times(STRICTATIME),
            "relatime" | "atime" | "norelatime" | "nostrictatime" => times(0),
            "nodiratime" => set(NODIRATIME),
            "diratime" => clear(NODIRATIME),
            "nosymfollow" => set(NOSYMFOLLOW),
            "symfollow" => clear(NOSYMFOLLOW),
            _ => None,
        }
    }

    /// These, with a later option on top.
    #[must_use]
    pub fn and(self, later: MountAttributes) -> MountAttributes {
        MountAttributes { set: (self.set & !later.clear) | later.set, clear: (self.clear & !later.set) | later.clear }
    }

    pub(crate) fn is_empty(self) -> bool {
        self == MountAttributes::default()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn later_options_win() {
        let all = |names: &[&str]| {
            names.iter().fold(MountAttributes::default(), |all, name| all.and(MountAttributes::option(name).unwrap()))
        };
        assert_eq!(all(&["ro", "nosuid"]), MountAttributes { set: 3, clear: 0 });
        assert_eq!(all(&["ro", "rw"]), MountAttributes { set: 0, clear: 1 });
        assert_eq!(all(&["noatime", "strictatime"]).set, STRICTATIME);
        assert_eq!(MountAttributes::option("size"), None);
    }
}
