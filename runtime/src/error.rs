//! The one error of this crate. Variants say what the user was doing; `exit_code` follows Docker's 125, 126, 127.
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use crate::network::Transport;

/// The result of this crate's calls.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a sandbox could not be made, started or waited for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The program is neither a path in the container nor on its PATH.
    #[error("{program}: not found in the container; give a full path, or install it in an earlier step")]
    NotFound {
        /// The first word of the command.
        program: String,
    },
    /// The program is there, but the interpreter that it names is not.
    #[error("{program}: it is there, but the interpreter or dynamic loader that it needs is not in the container")]
    InterpreterNotFound {
        /// The first word of the command.
        program: String,
    },
    /// The program is a directory, lacks the execute bit, or has no format that the kernel can run.
    #[error("{program}: cannot be executed: {source}; check its mode, its format and its platform")]
    NotExecutable {
        /// The first word of the command.
        program: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The working directory is missing or is no directory.
    #[error("working directory {}: {source}; create it before the process starts", path.display())]
    WorkingDirectory {
        /// The directory inside the container.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The root file system could not be put together.
    #[error("root file system: {doing}: {source}")]
    Rootfs {
        /// What was being done.
        doing: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// A detached root can be handed to one sandbox only on kernels before 6.15.
    #[error("this root file system already serves another sandbox; make a new one from the same snapshot")]
    RootfsInUse,
    /// The source of a bind mount could not be opened.
    #[error("mount source {}: {source}; create it or correct the path", path.display())]
    MountSource {
        /// The path on the host.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A mount could not be made at its place in the container.
    #[error("mount on {}: {source}", target.display())]
    Mount {
        /// The place in the container.
        target: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A step between clone and exec failed.
    #[error("sandbox setup, {step}: {source}")]
    Setup {
        /// The step as the plan prints it.
        step: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The sandbox asks for something that cannot be.
    #[error("{field}: {reason}")]
    Invalid {
        /// The field of the sandbox.
        field: &'static str,
        /// What is wrong and what would be right.
        reason: String,
    },
    /// What the caller had to do while the container was being made has failed.
    #[error("{reason}")]
    Hook {
        /// Which hook, and why.
        reason: String,
    },
    /// No capability has this name.
    #[error("{name}: no such capability; names look like NET_RAW or CAP_NET_RAW")]
    UnknownCapability {
        /// The name as given.
        name: String,
    },
    /// No signal has this name or number.
    #[error("{name}: no such signal; give a name such as TERM or a number from 1 to 64")]
    UnknownSignal {
        /// The name as given.
        name: String,
    },
    /// A user or group name is not in the image's files, or is no valid id.
    #[error("user {spec:?}: {reason}")]
    User {
        /// The text as given.
        spec: String,
        /// What is wrong and what would be right.
        reason: String,
    },
    /// This process may not mount, and the machine gives it no user namespace in which it could.
    #[error("no user namespace: {why}; {remedy}")]
    UserNamespace {
        /// What is in the way.
        why: String,
        /// What would help.
        remedy: String,
    },
    /// The machine's programs did not grant the ids that its files promise.
    #[error("the ids of {file} could not be granted: {reason}; let an administrator correct them")]
    Ids {
        /// Where the ids stand.
        file: &'static str,
        /// What went wrong.
        reason: String,
    },
    /// The kernel refused a part of a network.
    #[error("network: {doing}: {source}")]
    Network {
        /// What was being done.
        doing: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// A port of the host is taken.
    #[error("port {address}/{transport} is in use{}; choose another one, or end what has it", in_words(holder.as_deref()))]
    PortInUse {
        /// Address and port.
        address: SocketAddr,
        /// TCP or UDP.
        transport: Transport,
        /// Who has it, where that can be found.
        holder: Option<String>,
    },
    /// All ports of the host that would do are taken.
    #[error("all ports from {} to {last}/{transport} are in use; give a larger range, or end what has them", SocketAddr::new(*address, *first))]
    PortsInUse {
        /// Of the host.
        address: IpAddr,
        /// The first of the range.
        first: u16,
        /// The last of it.
        last: u16,
        /// TCP or UDP.
        transport: Transport,
    },
    /// A file system cannot be made.
    #[error("cannot mount a file system of the type {kind}: {reason}")]
    Filesystem {
        /// Its type.
        kind: String,
        /// What the kernel says.
        reason: String,
    },
    /// A limit cannot be had: the controller is missing, or the kernel refuses the value.
    #[error("{limit}: {reason}")]
    Limit {
        /// What was to be limited.
        limit: &'static str,
        /// Which controller refuses, why, and what would help.
        reason: String,
    },
    /// A control group could not be read, changed or removed.
    #[error("control group {}: {doing}: {source}", path.display())]
    Cgroup {
        /// Its directory.
        path: PathBuf,
        /// What was being done.
        doing: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// Waiting for, signalling or attaching to a running container failed.
    #[error("container: {doing}: {source}")]
    Container {
        /// What was being done.
        doing: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

impl Error {
    /// The exit code that a command line tool gives for this error: 127 not found, 126 not executable, else 125.
    #[must_use]
    pub fn exit_code(&self) -> i32 {
        match self {
            Error::NotFound { .. } | Error::InterpreterNotFound { .. } => 127,
            Error::NotExecutable { .. } => 126,
            _ => 125,
        }
    }

    pub(crate) fn rootfs(doing: impl Into<String>) -> impl FnOnce(rustix::io::Errno) -> Error {
        let doing = doing.into();
        move |errno| Error::Rootfs { doing, source: errno.into() }
    }

    pub(crate) fn namespace(errno: rustix::io::Errno) -> Error {
        Error::Container { doing: "entering a user namespace", source: errno.into() }
    }

    pub(crate) fn container(doing: &'static str) -> impl FnOnce(rustix::io::Errno) -> Error {
        move |errno| Error::Container { doing, source: errno.into() }
    }

    pub(crate) fn cgroup(path: &std::path::Path, doing: &'static str) -> impl FnOnce(io::Error) -> Error {
        move |source| Error::Cgroup { path: path.to_owned(), doing, source }
    }

    pub(crate) fn invalid(field: &'static str, reason: impl Into<String>) -> Error {
        Error::Invalid { field, reason: reason.into() }
    }
}

fn in_words(holder: Option<&str>) -> String {
    holder.map_or_else(String::new, |holder| format!(" by {holder}"))
}
