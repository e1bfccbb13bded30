//! Programs that an OCI configuration wants run while a container is being made, on the container's side. They are
//! started by the new process itself, and the rules of `sys::child` hold: nothing allocates, formats, locks or panics.
use std::os::fd::{AsFd, BorrowedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::clone::{self, Cloned, NewNamespaces};
use super::process;
use crate::hooks::PreparedHook;

/// Runs one hook to its end, with the container's state as its input. A code other than 0 is ECANCELED, too long a time
/// ETIME.
pub(crate) fn run(hook: &PreparedHook, state: BorrowedFd<'_>) -> Result<(), Errno> {
    // SAFETY: the child goes into `become_hook`, which keeps the rules of this file and never returns.
    match unsafe { clone::clone(NewNamespaces::default(), None) }? {
        Cloned::Child => become_hook(hook, state),
        Cloned::Parent { pid, pidfd } => {
            let mut descriptors = [PollFd::from_borrowed_fd(pidfd.as_fd(), PollFlags::IN)];
            let time = hook.seconds.map(|seconds| Timespec { tv_sec: seconds, tv_nsec: 0 });
            let ready = loop {
                match poll(&mut descriptors, time.as_ref()) {
                    Err(Errno::INTR) => {}
                    result => break result?,
                }
            };
            if ready == 0 {
                process::send(pid, libc::SIGKILL);
                process::reap(pid)?;
                return Err(Errno::TIME);
            }
            if process::reap(pid)? == 0 { Ok(()) } else { Err(Errno::CANCELED) }
        }
    }
}

fn become_hook(hook: &PreparedHook, state: BorrowedFd<'_>) -> ! {
    let ready = rustix::fs::seek(state, rustix::fs::SeekFrom::Start(0)).and_then(|_| process::become_stdio(state, 0));
    if ready.and_then(|()| process::close_on_exec_from(3)).is_ok() {
        process::reset_dispositions();
        process::unblock_signals();
        let (argv, env) = (PreparedHook::pointers(&hook.argv), PreparedHook::pointers(&hook.env));
        // SAFETY: both arrays are null-terminated and point into the hook.
        let _ = unsafe { process::execute(&hook.path, &argv, &env) };
    }
    process::exit_now(127)
}
