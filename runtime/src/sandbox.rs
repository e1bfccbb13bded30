//! `Sandbox`: what to isolate and what to run, as plain data. How that becomes a process is `plan` and `start`.
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use crate::capability::CapabilitySet;
use crate::cgroup::Cgroup;
use crate::given::GivenLayout;
use crate::hooks::HookCall;
use crate::idmap::IdRanges;
use crate::mount::{Mount, default_masked_paths, default_read_only_paths};
use crate::pretend::OwnerAttributes;
use crate::rootfs::Rootfs;
use crate::running::Running;
use crate::seccomp::SeccompProfile;
use crate::spares::Spares;
use crate::user::UserIds;
use crate::userns::UserNamespace;

/// Size of /dev/shm in bytes where nobody says another; docker's.
pub const DEFAULT_SHM_SIZE: u64 = 64 << 20;

/// One process to be, and the walls around it.
#[derive(Clone, Debug)]
pub struct Sandbox {
    pub(crate) base: Base,
    /// The command; its first word is looked up on the PATH of `env`, inside the root.
    pub argv: Vec<OsString>,
    /// The whole environment, in order.
    pub env: Vec<(OsString, OsString)>,
    /// The working directory; absolute, and it must exist.
    pub cwd: PathBuf,
    /// Numeric user, group and supplementary groups.
    pub user: UserIds,
    /// The host name, also written to /etc/hostname and /etc/hosts.
    pub hostname: String,
    /// Mounts besides the usual ones.
    pub mounts: Vec<Mount>,
    /// Which network the process sees.
    pub network: NetworkMode,
    /// Which of the other namespaces are its own.
    pub namespaces: Namespaces,
    /// A user namespace of its own with these ids; all ids of the sandbox are those inside.
    pub ids: Option<IdRanges>,
    /// A user namespace that is there already, in place of a new one with `ids`: owners of files are mapped by it.
    pub users: Option<Arc<UserNamespace>>,
    /// The control group that the process is born in; without one it stays in the caller's.
    pub cgroup: Option<Arc<Cgroup>>,
    /// The detached mount to show as /dev/shm, of the container whose ipc namespace is joined; it serves one start.
    pub shared_memory: Option<Arc<OwnedFd>>,
    /// What is mounted where, in place of the usual file systems and of `mounts` and `files`.
    pub layout: Option<Arc<GivenLayout>>,
    /// Bounding set, and for root also the effective and permitted sets.
    pub capabilities: CapabilitySet,
    /// All five sets by themselves, in place of `capabilities`.
    pub capability_sets: Option<CapabilitySets>,
    /// Which system calls the process may make.
    pub seccomp: Seccomp,
    /// All of the caller's capabilities, no masks, no filter, the host's devices.
    pub privileged: bool,
    /// Whether device nodes that are made inside can be opened: then only the rules of the control group are in the way.
    pub open_devices: bool,
    /// Whether exec may never again grant more than the process has (setuid programs then do not work).
    pub no_new_privileges: bool,
    /// Whether the root is mounted read-only.
    pub read_only: bool,
    /// Paths below /proc and /sys that show as empty.
    pub masked: Vec<PathBuf>,
    /// Paths below /proc and /sys that cannot be written.
    pub read_only_paths: Vec<PathBuf>,
    /// What descriptors 0, 1 and 2 are.
    pub stdio: Stdio,
    /// How many descriptors from 3 up the process gets from the caller.
    pub descriptors: u32,
    /// Which permissions new files lack.
    pub umask: u32,
    /// The NIS domain name, where one is to be set.
    pub domainname: Option<String>,
    /// The AppArmor profile that it changes to.
    pub apparmor: Option<String>,
    /// The SELinux label that it changes to.
    pub selinux: Option<String>,
    /// Whether it keeps the caller's session keyring; else it has an empty one of its own.
    pub keep_keyring: bool,
    /// A fifo: the process is all ready and waits, until somebody writes a byte into it.
    pub gate: Option<Arc<OwnedFd>>,
    /// Whether a caller without root may look at the process while it waits at its gate. It is for those beside which
    /// nothing of an image runs.
    pub exposed: bool,
    /// Programs that run inside before the root is changed, and before the program starts.
    pub hooks: SandboxHooks,
    /// Size of /dev/shm in bytes; with 0 nothing is mounted there, unless it is another's.
    pub shm_size: u64,
    /// Limits to set; a hard limit that may not be raised is clamped and noted.
    pub rlimits: Vec<Rlimit>,
    /// Kernel settings below /proc/sys, as `net.ipv4.ip_forward`; only those that belong to a namespace of its own.
    pub sysctls: Vec<(String, String)>,
    /// How readily the kernel ends it when memory runs out; what may not be set is noted.
    pub oom_score_adj: Option<i32>,
    /// It goes on when the thread that started it ends.
    pub outlives_caller: bool,
    /// Whether a tiny reaper runs as process 1 and the command as its child.
    pub init: bool,
    /// What /etc/hosts and /etc/resolv.conf say.
    pub files: EtcFiles,
    /// In a user namespace of one id: changes of user and owner seem to succeed, and owners are recorded like that.
    pub pretend: Option<OwnerAttributes>,
    /// Where parts may lie ready; for those that hold nothing secret.
    pub spares: Option<Arc<Spares>>,
}

impl Sandbox {
    /// A sandbox with Docker's defaults: root, no network, fourteen capabilities, the default filter.
    #[must_use]
    pub fn new(rootfs: Arc<Rootfs>, argv: impl IntoIterator<Item = impl Into<OsString>>) -> Sandbox {
        Sandbox::on(Base::Rootfs(rootfs), argv)
    }

    /// A process more inside a running container: in its namespaces and on its root. Of the walls only those count that
    /// belong to a process: user, capabilities, filter, limits; what is mounted, masked or named is the container's.
    #[must_use]
    pub fn within(container: Arc<Running>, argv: impl IntoIterator<Item = impl Into<OsString>>) -> Sandbox {
        Sandbox::on(Base::Running(container), argv)
    }

    /// What its ids are outside, where these are others.
    pub(crate) fn inner_ids(&self) -> Option<&IdRanges> {
        self.users.as_deref().map(UserNamespace::ids).or(self.ids.as_ref())
    }

    fn on(base: Base, argv: impl IntoIterator<Item = impl Into<OsString>>) -> Sandbox {
        Sandbox {
            base,
            argv: argv.into_iter().map(Into::into).collect(),
            env: vec![("PATH".into(), DEFAULT_PATH.into())],
            cwd: PathBuf::from("/"),
            user: UserIds::default(),
            hostname: "dunnage".to_owned(),
            mounts: Vec::new(),
            network: NetworkMode::None,
            namespaces: Namespaces::default(),
            ids: None,
            users: None,
            cgroup: None,
            shared_memory: None,
            layout: None,
            capabilities: CapabilitySet::DOCKER,
            capability_sets: None,
            seccomp: Seccomp::Default,
            privileged: false,
            open_devices: false,
            no_new_privileges: false,
            read_only: false,
            masked: default_masked_paths(),
            read_only_paths: default_read_only_paths(),
            stdio: Stdio::Null,
            descriptors: 0,
            umask: 0o022,
            domainname: None,
            apparmor: None,
            selinux: None,
            keep_keyring: false,
            gate: None,
            exposed: false,
            hooks: SandboxHooks::default(),
            shm_size: DEFAULT_SHM_SIZE,
            rlimits: Vec::new(),
            sysctls: Vec::new(),
            oom_score_adj: None,
            outlives_caller: false,
            init: false,
            files: EtcFiles::default(),
            pretend: None,
            spares: None,
        }
    }
}

/// The PATH of an image that names none.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Where the process lives.
#[derive(Clone, Debug)]
pub(crate) enum Base {
    /// On a root of its own.
    Rootfs(Arc<Rootfs>),
    /// In a container that runs already.
    Running(Arc<Running>),
}

/// Which network the process sees.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum NetworkMode {
    /// A network of its own with nothing but a loopback device.
    #[default]
    None,
    /// The network of the host.
    Host,
    /// A network namespace that is there already: one made ready for the container, or that of another container.
    Join(Arc<OwnedFd>),
}

/// Whose a namespace is.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum Namespace {
    /// The container's own.
    #[default]
    New,
    /// The caller's.
    Host,
    /// The one behind a descriptor of /proc/PID/ns.
    Join(Arc<OwnedFd>),
}

/// Whose each namespace is, but for mounts, which are always the container's own, and the network.
#[derive(Clone, Debug, Default)]
pub struct Namespaces {
    /// Process numbers.
    pub pid: Namespace,
    /// System V objects and message queues.
    pub ipc: Namespace,
    /// The host name. It is set only where it is the container's own.
    pub uts: Namespace,
    /// The view of control groups.
    pub cgroup: Namespace,
}

/// The five sets of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CapabilitySets {
    /// What exec can give at most.
    pub bounding: CapabilitySet,
    /// What counts.
    pub effective: CapabilitySet,
    /// What it may make count.
    pub permitted: CapabilitySet,
    /// What files may hand on.
    pub inheritable: CapabilitySet,
    /// What stays across exec without files.
    pub ambient: CapabilitySet,
}

/// Programs that run on the container's side of its making, with its state as their input.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SandboxHooks {
    /// In its namespaces, before the root is changed: their paths are the host's.
    pub create: Vec<HookCall>,
    /// Before the program starts: their paths are the container's.
    pub start: Vec<HookCall>,
}

/// Which system calls the process may make.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Seccomp {
    /// Docker's list, shaped by the granted capabilities.
    #[default]
    Default,
    /// All of them.
    Unconfined,
    /// Those that a list of somebody else's allows.
    Profile(Arc<SeccompProfile>),
}

/// What descriptors 0, 1 and 2 of the process are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Stdio {
    /// All three lead to /dev/null.
    #[default]
    Null,
    /// The caller's own output, and its input if `stdin` is set (else /dev/null).
    Inherit {
        /// Whether the caller's input is handed on.
        stdin: bool,
    },
    /// Input from /dev/null; output and errors through pipes that the caller reads.
    Pipes,
    /// All three through pipes of the caller.
    AllPipes,
    /// A terminal made for the sandbox, of the given size.
    Terminal(TerminalSize),
}

/// Rows and columns of a terminal; zero means unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct TerminalSize {
    /// Lines.
    pub rows: u16,
    /// Characters in a line.
    pub columns: u16,
}

/// Contents of files in /etc that belong to the machine and not to the image. An empty one is written by the runtime.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct EtcFiles {
    /// /etc/hosts; empty: the loopback names, and the host name.
    pub hosts: Vec<u8>,
    /// Names and addresses that are added to /etc/hosts.
    pub extra_hosts: Vec<(String, std::net::IpAddr)>,
    /// /etc/resolv.conf; empty: a copy of the host's with `NetworkMode::Host`, else an empty file.
    pub resolv_conf: Vec<u8>,
}

/// One resource limit. `None` is unlimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rlimit {
    /// What is limited.
    pub resource: Resource,
    /// What counts until the process changes it.
    pub soft: Option<u64>,
    /// What the process cannot pass.
    pub hard: Option<u64>,
}

/// A limited resource, in the kernel's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the variants are the kernel's own names")]
pub enum Resource {
    Cpu,
    Fsize,
    Data,
    Stack,
    Core,
    Rss,
    Nproc,
    Nofile,
    Memlock,
    As,
    Locks,
    Sigpending,
    Msgqueue,
    Nice,
    Rtprio,
    Rttime,
}

impl Resource {
    /// Reads Docker's `--ulimit` names: `nofile`, `nproc`, …
    #[must_use]
    pub fn parse(name: &str) -> Option<Resource> {
        Some(match name {
            "cpu" => Resource::Cpu,
            "fsize" => Resource::Fsize,
            "data" => Resource::Data,
            "stack" => Resource::Stack,
            "core" => Resource::Core,
            "rss" => Resource::Rss,
            "nproc" => Resource::Nproc,
            "nofile" => Resource::Nofile,
            "memlock" => Resource::Memlock,
            "as" => Resource::As,
            "locks" => Resource::Locks,
            "sigpending" => Resource::Sigpending,
            "msgqueue" => Resource::Msgqueue,
            "nice" => Resource::Nice,
            "rtprio" => Resource::Rtprio,
            "rttime" => Resource::Rttime,
            _ => return None,
        })
    }

    pub(crate) fn kernel(self) -> rustix::process::Resource {
        use rustix::process::Resource as Kernel;
        match self {
            Resource::Cpu => Kernel::Cpu,
            Resource::Fsize => Kernel::Fsize,
            Resource::Data => Kernel::Data,
            Resource::Stack => Kernel::Stack,
            Resource::Core => Kernel::Core,
            Resource::Rss => Kernel::Rss,
            Resource::Nproc => Kernel::Nproc,
            Resource::Nofile => Kernel::Nofile,
            Resource::Memlock => Kernel::Memlock,
            Resource::As => Kernel::As,
            Resource::Locks => Kernel::Locks,
            Resource::Sigpending => Kernel::Sigpending,
            Resource::Msgqueue => Kernel::Msgqueue,
            Resource::Nice => Kernel::Nice,
            Resource::Rtprio => Kernel::Rtprio,
            Resource::Rttime => Kernel::Rttime,
        }
    }
}
