//! Capabilities: their names, their numbers, and sets of them. Applying a set to a process is `sys::child`'s business.
use std::fmt;

use crate::error::{Error, Result};

macro_rules! capabilities {
    ($($variant:ident = $number:literal $name:literal),+ $(,)?) => {
        /// One Linux capability.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        #[allow(missing_docs, reason = "the variants are the kernel's own names")]
        pub enum Capability { $($variant = $number),+ }

        impl Capability {
            /// All capabilities that this version knows, by number.
            pub const ALL: &'static [Capability] = &[$(Capability::$variant),+];

            /// The name without its `CAP_` prefix.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Capability::$variant => $name),+ }
            }
        }
    };
}

capabilities! {
    Chown = 0 "CHOWN", DacOverride = 1 "DAC_OVERRIDE", DacReadSearch = 2 "DAC_READ_SEARCH", Fowner = 3 "FOWNER",
    Fsetid = 4 "FSETID", Kill = 5 "KILL", Setgid = 6 "SETGID", Setuid = 7 "SETUID", Setpcap = 8 "SETPCAP",
    LinuxImmutable = 9 "LINUX_IMMUTABLE", NetBindService = 10 "NET_BIND_SERVICE", NetBroadcast = 11 "NET_BROADCAST",
    NetAdmin = 12 "NET_ADMIN", NetRaw = 13 "NET_RAW", IpcLock = 14 "IPC_LOCK", IpcOwner = 15 "IPC_OWNER",
    SysModule = 16 "SYS_MODULE", SysRawio = 17 "SYS_RAWIO", SysChroot = 18 "SYS_CHROOT", SysPtrace = 19 "SYS_PTRACE",
    SysPacct = 20 "SYS_PACCT", SysAdmin = 21 "SYS_ADMIN", SysBoot = 22 "SYS_BOOT", SysNice = 23 "SYS_NICE",
    SysResource = 24 "SYS_RESOURCE", SysTime = 25 "SYS_TIME", SysTtyConfig = 26 "SYS_TTY_CONFIG", Mknod = 27 "MKNOD",
    Lease = 28 "LEASE", AuditWrite = 29 "AUDIT_WRITE", AuditControl = 30 "AUDIT_CONTROL", Setfcap = 31 "SETFCAP",
    MacOverride = 32 "MAC_OVERRIDE", MacAdmin = 33 "MAC_ADMIN", Syslog = 34 "SYSLOG", WakeAlarm = 35 "WAKE_ALARM",
    BlockSuspend = 36 "BLOCK_SUSPEND", AuditRead = 37 "AUDIT_READ", Perfmon = 38 "PERFMON", Bpf = 39 "BPF",
    CheckpointRestore = 40 "CHECKPOINT_RESTORE",
}

impl Capability {
    /// Reads `NET_RAW` or `CAP_NET_RAW`, in any case.
    pub fn parse(name: &str) -> Result<Capability> {
        let upper = name.to_ascii_uppercase();
        let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
        Capability::ALL
            .iter()
            .copied()
            .find(|capability| capability.name() == bare)
            .ok_or_else(|| Error::UnknownCapability { name: name.to_owned() })
    }

    const fn bit(self) -> u64 {
        1 << (self as u8)
    }
}

/// A set of capabilities, as the kernel's bit mask.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct CapabilitySet(u64);

impl CapabilitySet {
    /// No capability at all.
    pub const EMPTY: CapabilitySet = CapabilitySet(0);

    /// The fourteen that Docker grants.
    pub const DOCKER: CapabilitySet = CapabilitySet::of(&[
        Capability::Chown,
        Capability::DacOverride,
        Capability::Fowner,
        Capability::Fsetid,
        Capability::Kill,
        Capability::Setgid,
        Capability::Setuid,
        Capability::Setpcap,
        Capability::NetBindService,
        Capability::NetRaw,
        Capability::SysChroot,
        Capability::Mknod,
        Capability::AuditWrite,
        Capability::Setfcap,
    ]);

    /// The set of the given capabilities.
    #[must_use]
    pub const fn of(list: &[Capability]) -> CapabilitySet {
        let mut bits = 0;
        let mut rest = list;
        while let [first, tail @ ..] = rest {
            bits |= first.bit();
            rest = tail;
        }
        CapabilitySet(bits)
    }

    /// Everything that this version knows by name.
    #[must_use]
    pub fn all() -> CapabilitySet {
        CapabilitySet::of(Capability::ALL)
    }

    /// A set from the kernel's bit mask.
    #[must_use]
    pub const fn from_bits(bits: u64) -> CapabilitySet {
        CapabilitySet(bits)
    }

    /// The kernel's bit mask.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Whether `capability` is in the set.
    #[must_use]
    pub const fn contains(self, capability: Capability) -> bool {
        self.0 & capability.bit() != 0
    }

    /// The set with `capability` in it.
    #[must_use]
    pub const fn with(self, capability: Capability) -> CapabilitySet {
        CapabilitySet(self.0 | capability.bit())
    }

    /// The set without `capability`.
    #[must_use]
    pub const fn without(self, capability: Capability) -> CapabilitySet {
        CapabilitySet(self.0 & !capability.bit())
    }

    /// What is in both sets.
    #[must_use]
    pub const fn intersection(self, other: CapabilitySet) -> CapabilitySet {
        CapabilitySet(self.0 & other.0)
    }

    /// `--cap-drop` and `--cap-add` on top of this set: `ALL` counts first, then drops, then adds.
    pub fn adjusted<S: AsRef<str>>(self, drop: &[S], add: &[S]) -> Result<CapabilitySet> {
        let is_all = |name: &S| name.as_ref().eq_ignore_ascii_case("ALL");
        let mut set = match (drop.iter().any(is_all), add.iter().any(is_all)) {
            (_, true) => CapabilitySet::all(),
            (true, false) => CapabilitySet::EMPTY,
            (false, false) => self,
        };
        for name in drop.iter().filter(|name| !is_all(name)) {
            set = set.without(Capability::parse(name.as_ref())?);
        }
        for name in add.iter().filter(|name| !is_all(name)) {
            set = set.with(Capability::parse(name.as_ref())?);
        }
        Ok(set)
    }
}

impl Default for CapabilitySet {
    fn default() -> CapabilitySet {
        CapabilitySet::DOCKER
    }
}

impl fmt::Debug for CapabilitySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CapabilitySet({self})")
    }
}

impl fmt::Display for CapabilitySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut names = Capability::ALL.iter().filter(|capability| self.contains(**capability));
        match names.next() {
            None => f.write_str("none"),
            Some(first) => {
                f.write_str(first.name())?;
                names.try_for_each(|capability| write!(f, " {}", capability.name()))
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn docker_set_has_its_well_known_mask() {
        assert_eq!(CapabilitySet::default().bits(), 0xa804_25fb);
    }

    #[test]
    fn runtime_c02_all_counts_before_single_names() {
        let set = CapabilitySet::DOCKER.adjusted(&["ALL"], &["net_raw"]).unwrap();
        assert_eq!(set.bits(), 0x2000);
        let set = CapabilitySet::DOCKER.adjusted(&["CAP_CHOWN"], &["all"]).unwrap();
        assert_eq!(set, CapabilitySet::all().without(Capability::Chown));
    }

    #[test]
    fn runtime_c04_unknown_names_are_errors_with_code_125() {
        let error = CapabilitySet::DOCKER.adjusted(&[], &["BOGUS"]).unwrap_err();
        assert_eq!(error.exit_code(), 125);
        assert!(error.to_string().contains("BOGUS"));
    }

    #[test]
    fn a_set_prints_its_names() {
        assert_eq!(CapabilitySet::EMPTY.to_string(), "none");
        assert_eq!(CapabilitySet::of(&[Capability::Kill, Capability::Bpf]).to_string(), "KILL BPF");
    }
}
