//! Entering a user namespace, and the helper process that stays in the old one meanwhile.
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, WaitOptions, getpid, getppid, waitpid};
use rustix::thread::{UnshareFlags, unshare_unsafe};

use super::{capability, clone, process};

/// Leaves namespaces for new ones.
pub(crate) fn unshare(what: UnshareFlags) -> Result<(), Errno> {
    // SAFETY: descriptors stay shared, which is what the safety of this call is about.
    unsafe { unshare_unsafe(what) }
}

/// Becomes user 0 of the namespace, with no group but 0 where groups can be chosen.
pub(crate) fn become_root(groups: bool) -> Result<(), Errno> {
    if groups {
        return capability::set_ids(0, 0, &[]);
    }
    capability::set_user_and_group(0, 0)
}

/// A process in namespaces of its own that does nothing: they can be taken from it while it is there.
#[derive(Debug)]
pub(crate) struct Holder {
    pub(crate) pid: i32,
    pidfd: OwnedFd,
}

impl Holder {
    /// It ends when the thread that made it does.
    pub(crate) fn split_off(namespaces: clone::NewNamespaces) -> Result<Holder, Errno> {
        let parent = getpid();
        let _blocked = process::SignalsBlocked::new();
        // SAFETY: the new process makes system calls and nothing else.
        match unsafe { clone::clone(namespaces, None) }? {
            clone::Cloned::Parent { pid, pidfd } => Ok(Holder { pid, pidfd }),
            clone::Cloned::Child => {
                let bound = capability::die_with_parent();
                // It may have ended before this one was bound to it.
                while bound.is_ok() && getppid() == Some(parent) {
                    process::pause();
                }
                process::exit_now(0)
            }
        }
    }

    /// It is not needed any more. Dropping this waits for its end.
    pub(crate) fn end(&self) {
        let _ = process::send_by_descriptor(self.pidfd.as_fd(), libc::SIGKILL);
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        self.end();
        let _ = process::reap(self.pid);
    }
}

/// A process that waits for a word and then does its work.
#[derive(Debug)]
pub(crate) struct Helper {
    pid: Pid,
    start: Option<OwnedFd>,
}

impl Helper {
    /// Splits off a process that runs `work` once it is told to; its result is the exit code.
    ///
    /// The caller must have one thread only: the new process then has all of the old one's memory in a usable state.
    pub(crate) fn split_off(work: impl FnOnce() -> i32) -> Result<Helper, Errno> {
        let (wait, start) = pipe_with(PipeFlags::CLOEXEC)?;
        // SAFETY: there is one thread, checked by the caller, so no lock is held by a thread that is not there.
        match unsafe { clone::fork() }? {
            0 => {
                drop(start);
                let mut word = [0_u8; 1];
                // An end without a word means that the caller has died or given up.
                let told = rustix::io::read(&wait, &mut word) == Ok(1);
                process::exit_now(if told { work() } else { 1 });
            }
            pid => {
                let pid = Pid::from_raw(pid).ok_or(Errno::SRCH)?;
                Ok(Helper { pid, start: Some(start) })
            }
        }
    }

    /// Lets it work, waits for its end, and gives its exit code.
    pub(crate) fn work(mut self) -> Result<i32, Errno> {
        if let Some(start) = self.start.take() {
            rustix::io::write(&start, b"!")?;
        }
        self.wait()
    }

    fn wait(&self) -> Result<i32, Errno> {
        loop {
            match waitpid(Some(self.pid), WaitOptions::empty()) {
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
                Ok(status) => return Ok(status.and_then(|(_, status)| status.exit_status()).unwrap_or(1)),
            }
        }
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        // Closing the pipe ends one that was never told; one that has ended was waited for.
        if self.start.take().is_some() {
            let _ = self.wait();
        }
    }
}
