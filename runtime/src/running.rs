//! `Running`: a running container seen from another process. It is held by descriptors, which never mean a stranger that
//! got the same process number.
use std::ffi::{CStr, CString};
use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, fstatfs, openat};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use rustix::thread::{LinkNameSpaceType, ThreadNameSpaceType, move_into_link_name_space};

use crate::error::{Error, Result};
use crate::idmap::{self, IdRanges};
use crate::rootfs::clone_tree;
use crate::signal::Signal;
use crate::sys::file_owner::FileOwner;
use crate::sys::mount::{Reach, separate_directory};
use crate::sys::process;
use crate::target::resolve;

const DEVPTS_MAGIC: i64 = 0x1cd1;
const TMPFS_MAGIC: i64 = 0x0102_1994;

/// The first process of a running container, and its root.
#[derive(Debug)]
pub struct Running {
    pid: u32,
    pidfd: OwnedFd,
    root: OwnedFd,
}

/// A kind of namespace, for looking one up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the variants are the kernel's own names")]
pub enum NamespaceKind {
    Pid,
    Ipc,
    Uts,
    Cgroup,
    Net,
    Mount,
}

/// Namespaces that a process enters.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entered {
    /// By moving into them.
    pub(crate) spaces: ThreadNameSpaceType,
    /// By being born there.
    pub(crate) processes: bool,
}

impl Running {
    /// The process `pid`, if it is the one that started `start` ticks after the machine.
    pub fn find(pid: u32, start: u64) -> Result<Option<Running>> {
        let gone = |errno| matches!(errno, Errno::SRCH | Errno::NOENT | Errno::INVAL | Errno::ACCESS);
        let Some(number) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return Ok(None) };
        let pidfd = match pidfd_open(number, PidfdFlags::empty()) {
            Ok(pidfd) => pidfd,
            Err(errno) if gone(errno) => return Ok(None),
            Err(errno) => return Err(Error::container("looking for the process")(errno)),
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = match openat(CWD, format!("/proc/{pid}/root"), flags, Mode::empty()) {
            Ok(root) => root,
            Err(errno) if gone(errno) => return Ok(None),
            Err(errno) => return Err(Error::container("looking for the container's root")(errno)),
        };
        // Asked last: what was opened belongs to the process that has this start time, or to none.
        if start_time(pid) != Some(start) {
            return Ok(None);
        }
        let running = Running { pid, pidfd, root };
        Ok(if running.wait(Duration::ZERO)? { None } else { Some(running) })
    }

    /// The number of its first process, as the host counts.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Its root directory with all that is mounted below, for `openat2` with `RESOLVE_IN_ROOT`.
    #[must_use]
    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Sends a signal to the first process. One that has ended is no error.
    pub fn kill(&self, signal: Signal) -> Result<()> {
        match process::send_by_descriptor(self.pidfd.as_fd(), signal.number()) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(errno) => Err(Error::container("sending a signal")(errno)),
        }
    }

    /// Waits until it has ended, for so long at most. Tells whether it has.
    pub fn wait(&self, longest: Duration) -> Result<bool> {
        let mut descriptors = [PollFd::new(&self.pidfd, PollFlags::IN)];
        let time = Timespec::try_from(longest).unwrap_or(Timespec { tv_sec: i64::MAX, tv_nsec: 0 });
        match poll(&mut descriptors, Some(&time)) {
            Ok(ready) => Ok(ready > 0),
            Err(Errno::INTR) => Ok(false),
            Err(errno) => Err(Error::container("waiting for the process")(errno)),
        }
    }

    /// One of its namespaces, for another sandbox to join.
    pub fn namespace(&self, kind: NamespaceKind) -> Result<Arc<OwnedFd>> {
        let name = match kind {
            NamespaceKind::Pid => "pid",
            NamespaceKind::Ipc => "ipc",
            NamespaceKind::Uts => "uts",
            NamespaceKind::Cgroup => "cgroup",
            NamespaceKind::Net => "net",
            NamespaceKind::Mount => "mnt",
        };
        let path = format!("/proc/{}/ns/{name}", self.pid);
        let opened = openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .map_err(Error::container("opening a namespace"))?;
        // The number may have gone to another process while the path was walked.
        if self.wait(Duration::ZERO)? {
            return Err(Error::container("opening a namespace")(Errno::SRCH));
        }
        Ok(Arc::new(opened))
    }

    /// Those of its namespaces that are not this process's: into its own nobody without root may move.
    pub(crate) fn foreign_namespaces(&self) -> Result<Entered> {
        let failed = |source| Error::Container { doing: "looking at the namespaces", source };
        let differs = |name: &str| -> Result<bool> {
            let theirs = fs::read_link(format!("/proc/{}/ns/{name}", self.pid)).map_err(failed)?;
            Ok(theirs != fs::read_link(format!("/proc/thread-self/ns/{name}")).map_err(failed)?)
        };
        let mut spaces = ThreadNameSpaceType::empty();
        for (name, space) in [
            ("user", ThreadNameSpaceType::USER),
            ("mnt", ThreadNameSpaceType::MOUNT),
            ("ipc", ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION),
            ("uts", ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME),
            ("net", ThreadNameSpaceType::NETWORK),
            ("cgroup", ThreadNameSpaceType::CONTROL_GROUP),
        ] {
            spaces.set(space, differs(name)?);
        }
        Ok(Entered { spaces, processes: differs("pid")? })
    }

    /// The ids of its user namespace, where that is not this process's.
    pub fn ids(&self) -> Result<Option<IdRanges>> {
        let failed = |source| Error::Container { doing: "looking at the container's ids", source };
        let read = |path: String| fs::read_to_string(path).map_err(failed);
        let namespace = |who: &str| fs::read_link(format!("/proc/{who}/ns/user")).map_err(failed);
        let who = self.pid.to_string();
        if namespace(&who)? == namespace("thread-self")? {
            return Ok(None);
        }
        let map = |file: &str| Ok(idmap::parse(&read(format!("/proc/{who}/{file}"))?));
        Ok(Some(IdRanges { users: map("uid_map")?, groups: map("gid_map")? }))
    }

    /// Where its users are not this process's: this thread makes files as their user 0 until that is dropped. Where files
    /// are shown with mapped owners, nobody else can make any.
    pub fn file_owner(&self) -> Result<Option<FileOwner>> {
        let ids = self.ids()?;
        let root = ids.and_then(|ids| ids.user(0).zip(ids.group(0)));
        let hold =
            |(uid, gid)| FileOwner::hold(uid, gid).map_err(Error::container("acting for the container's user 0"));
        root.map(hold).transpose()
    }

    /// Its /dev/shm, for a sandbox that joins its ipc namespace.
    ///
    /// A mount can be cloned only from within its own namespace: a thread goes there, and ends there.
    pub fn shared_memory(&self) -> Result<Arc<OwnedFd>> {
        let mounts = self.namespace(NamespaceKind::Mount)?;
        let clone = || clone_memory(&mounts, c"dev/shm", ResolveFlags::NO_SYMLINKS);
        let cloned = std::thread::scope(|scope| scope.spawn(clone).join().unwrap_or(Err(Errno::INTR)));
        cloned.map(Arc::new).map_err(Error::container("opening /dev/shm of the container"))
    }

    /// What it has mounted in memory at this place, for another sandbox to show too; nothing where something else is there.
    pub fn mounted_memory(&self, target: &Path) -> Result<Option<OwnedFd>> {
        let mounts = self.namespace(NamespaceKind::Mount)?;
        let relative = target.strip_prefix("/").unwrap_or(target);
        let path = CString::new(relative.as_os_str().as_bytes())
            .map_err(|_| Error::invalid("mount", "contains a zero byte"))?;
        let cloned = std::thread::scope(|scope| {
            scope.spawn(|| clone_memory(&mounts, &path, ResolveFlags::empty())).join().unwrap_or(Err(Errno::INTR))
        });
        match cloned {
            Ok(mount) => Ok(Some(mount)),
            Err(Errno::NODEV | Errno::NOENT) => Ok(None),
            Err(errno) => Err(Error::container("opening a mount of the container")(errno)),
        }
    }

    /// Its set of terminals.
    pub(crate) fn terminals(&self) -> Result<OwnedFd> {
        let failed = Error::container("opening the terminals of the container");
        let open = || {
            let pts = resolve(self.root(), c"dev/pts", ResolveFlags::NO_SYMLINKS)?;
            if fstatfs(&pts)?.f_type == DEVPTS_MAGIC { Ok(pts) } else { Err(Errno::NODEV) }
        };
        open().map_err(failed)
    }
}

impl AsFd for Running {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

fn clone_memory(mounts: &OwnedFd, path: &CStr, how: ResolveFlags) -> Result<OwnedFd, Errno> {
    separate_directory()?;
    move_into_link_name_space(mounts.as_fd(), Some(LinkNameSpaceType::Mount))?;
    let root = openat(CWD, c"/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let memory = resolve(root.as_fd(), path, how)?;
    if fstatfs(&memory)?.f_type != TMPFS_MAGIC {
        return Err(Errno::NODEV);
    }
    clone_tree(memory.as_fd(), Reach::One)
}

/// When a process started, in ticks since the machine did: with its number, it is one process and no other.
#[must_use]
pub fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // Field 22 of proc_pid_stat(5), counted behind the name, which may hold anything.
    stat.rsplit(')').next()?.split_whitespace().nth(19)?.parse().ok()
}
