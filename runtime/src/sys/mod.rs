//! The only place with `unsafe`: one file per family of system calls, each wrapping what rustix does not offer.
#![allow(unsafe_code)]

pub(crate) mod bpf;
pub(crate) mod capability;
pub(crate) mod child;
pub(crate) mod clone;
pub(crate) mod file_owner;
pub(crate) mod given;
pub(crate) mod hook;
pub(crate) mod lock;
pub(crate) mod memory;
pub(crate) mod mount;
pub(crate) mod network;
pub(crate) mod notify;
pub(crate) mod process;
pub(crate) mod seal;
pub(crate) mod seccomp;
pub(crate) mod share;
pub(crate) mod userns;

use rustix::io::Errno;

/// Turns the result of a raw call into a number or the thread's errno. Does not allocate.
pub(crate) fn check(result: libc::c_long) -> Result<libc::c_long, Errno> {
    if result < 0 {
        // SAFETY: the location is this thread's own errno.
        return Err(Errno::from_raw_os_error(unsafe { *libc::__errno_location() }));
    }
    Ok(result)
}
