//! clone3 into new namespaces.
use std::fmt;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::io::Errno;

/// The namespaces that a new process gets, as clone flags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct NewNamespaces {
    pub(super) flags: u64,
}

const NAMES: [(libc::c_int, &str); 6] = [
    (libc::CLONE_NEWUSER, "user"),
    (libc::CLONE_NEWNS, "mount"),
    (libc::CLONE_NEWPID, "pid"),
    (libc::CLONE_NEWIPC, "ipc"),
    (libc::CLONE_NEWUTS, "uts"),
    (libc::CLONE_NEWNET, "net"),
];

/// The kinds that clone makes; the cgroup namespace is made later, from inside the cgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cloneable {
    User,
    Mount,
    Pid,
    Ipc,
    Uts,
    Net,
}

impl NewNamespaces {
    pub(crate) fn insert(&mut self, kind: Cloneable) {
        let flag = match kind {
            Cloneable::User => libc::CLONE_NEWUSER,
            Cloneable::Mount => libc::CLONE_NEWNS,
            Cloneable::Pid => libc::CLONE_NEWPID,
            Cloneable::Ipc => libc::CLONE_NEWIPC,
            Cloneable::Uts => libc::CLONE_NEWUTS,
            Cloneable::Net => libc::CLONE_NEWNET,
        };
        self.flags |= flag as u64;
    }
}

impl fmt::Display for NewNamespaces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.flags == 0 {
            return f.write_str("nothing new");
        }
        let mut separator = "";
        for (flag, name) in NAMES {
            if self.flags & flag as u64 != 0 {
                write!(f, "{separator}{name}")?;
                separator = " ";
            }
        }
        Ok(())
    }
}

/// linux/sched.h; the libc crate's constant is too narrow for it.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Which side of a clone this is.
pub(crate) enum Cloned {
    /// The caller, with the new process' number and descriptor.
    Parent { pid: i32, pidfd: OwnedFd },
    /// The new process.
    Child,
}

/// Splits off a process in new namespaces, and in a control group of version 2 where one is given.
///
/// # Safety
/// The child of a process with several threads may only call what is async-signal-safe: no allocation, no lock, no panic.
pub(crate) unsafe fn clone(namespaces: NewNamespaces, cgroup: Option<BorrowedFd<'_>>) -> Result<Cloned, Errno> {
    // SAFETY: the caller's promise.
    let (pid, pidfd) = unsafe { clone_with(namespaces.flags, libc::SIGCHLD, cgroup) }?;
    // SAFETY: the kernel has just put a new descriptor there, and nothing else owns it.
    Ok(if pid == 0 { Cloned::Child } else { Cloned::Parent { pid, pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) } } })
}

/// The same by a process in between, which calls `before` and ends: what that changes stays with it. The new process is
/// a child of the calling thread all the same.
///
/// # Safety
/// As for [`clone`], and `before` too may only call what is async-signal-safe.
pub(crate) unsafe fn clone_beside(
    namespaces: NewNamespaces,
    cgroup: Option<BorrowedFd<'_>>,
    before: impl FnOnce() -> Result<(), Errno>,
) -> Result<Cloned, Errno> {
    let (listen, tell) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    // SAFETY: memory is copied; of descriptors the process in between closes none, and what it makes is the caller's.
    let between = unsafe { libc::syscall(libc::SYS_clone, libc::CLONE_FILES | libc::SIGCHLD, 0, 0, 0, 0) };
    let between = super::check(between)?;
    if between == 0 {
        // With CLONE_PARENT the new process takes over the signal that this one's end gives.
        let flags = namespaces.flags | libc::CLONE_PARENT as u64;
        // SAFETY: the caller's promise.
        let split = before().and_then(|()| unsafe { clone_with(flags, 0, cgroup) });
        let (pid, pidfd, errno) = match split {
            Ok((0, _)) => return Ok(Cloned::Child),
            Ok((pid, pidfd)) => (pid, pidfd, 0),
            Err(errno) => (0, -1, errno.raw_os_error()),
        };
        let mut message = [0_u8; 12];
        for (to, from) in message.iter_mut().zip([pid, pidfd, errno].iter().flat_map(|number| number.to_ne_bytes())) {
            *to = from;
        }
        // An end without a word says that it failed.
        let _ = rustix::io::write(&tell, &message);
        super::process::exit_now(0);
    }
    super::process::reap(between as i32)?;
    drop(tell);
    let mut message = [0_u8; 12];
    if rustix::io::retry_on_intr(|| rustix::io::read(&listen, &mut message))? < message.len() {
        return Err(Errno::CHILD);
    }
    let number =
        |at: usize| message.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map_or(0, i32::from_ne_bytes);
    match (number(0), number(4), number(8)) {
        // SAFETY: the descriptors are shared: the kernel has put this one there for the caller, and nothing else owns it.
        (pid, pidfd, 0) if pid > 0 => Ok(Cloned::Parent { pid, pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) } }),
        (_, _, errno) => Err(Errno::from_raw_os_error(errno)),
    }
}

/// Gives the number and the descriptor of the new process; 0 in that process.
///
/// # Safety
/// As for [`clone`].
unsafe fn clone_with(flags: u64, signal: i32, cgroup: Option<BorrowedFd<'_>>) -> Result<(i32, RawFd), Errno> {
    let mut pidfd: RawFd = -1;
    let args = arguments(flags, signal, cgroup, &mut pidfd);
    // SAFETY: without CLONE_VM the child has its own copy of this stack; `args` and `pidfd` outlive the call.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<libc::clone_args>()) };
    super::check(pid).map(|pid| (pid as i32, pidfd))
}

/// What clone3 is told; it puts the new process' descriptor into `pidfd`.
pub(super) fn arguments(
    flags: u64,
    signal: i32,
    cgroup: Option<BorrowedFd<'_>>,
    pidfd: &mut RawFd,
) -> libc::clone_args {
    // SAFETY: all-zero is a valid `clone_args`.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = flags | libc::CLONE_PIDFD as u64;
    args.pidfd = (&raw mut *pidfd) as u64;
    args.exit_signal = u64::from(signal.unsigned_abs());
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = u64::from(cgroup.as_raw_fd().unsigned_abs());
    }
    args
}

/// A plain fork without the C library's handlers, for the init process. Gives 0 in the child.
///
/// # Safety
/// As for [`clone`].
pub(crate) unsafe fn fork() -> Result<i32, Errno> {
    // SAFETY: no shared memory and no new stack; all pointers are null.
    let pid = unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) };
    super::check(pid).map(|pid| pid as i32)
}
