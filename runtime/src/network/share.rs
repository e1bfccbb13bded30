//! What several processes hold: a descriptor of another process, and a program that ends when nobody holds it any more.
use std::os::fd::OwnedFd;
use std::process::Child;

use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use super::namespace::failed;
use crate::error::{Error, Result};
use crate::sys::process;

/// A descriptor that another process of the same user has, for this one to have too. What it is must be looked at.
///
/// # Errors
/// When that process is gone, or has no such descriptor.
pub fn share_descriptor(pid: u32, number: i32) -> Result<OwnedFd> {
    let gone = || Error::Network {
        doing: "joining a network".to_owned(),
        source: std::io::Error::other("the process that holds it has ended"),
    };
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or_else(gone)?;
    let holder = pidfd_open(pid, PidfdFlags::empty()).map_err(failed("finding the holder of a network"))?;
    pidfd_getfd(&holder, number, PidfdGetfdFlags::empty()).map_err(failed("sharing a network with its holder"))
}

/// Ends a program when the last copy of what this gives is closed, in whichever processes they are. A small process aside
/// waits for that, or for the end of the program.
///
/// # Errors
/// When there can be no such process.
pub fn end_with_last_copy(program: &Child) -> Result<OwnedFd> {
    let pid = i32::try_from(program.id()).ok().and_then(Pid::from_raw);
    let watched = pid.ok_or(rustix::io::Errno::SRCH).and_then(|pid| {
        let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
        let (held, hold) = pipe_with(PipeFlags::CLOEXEC)?;
        process::end_with(&held, &pidfd)?;
        Ok(hold)
    });
    watched.map_err(failed("watching over a program"))
}
