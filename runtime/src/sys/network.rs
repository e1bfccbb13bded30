//! Network namespaces: a new one for a thread, its loopback device, and options of netlink sockets. Does not allocate.
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::io::Errno;

use super::check;

/// Brings `lo` up.
pub(crate) fn loopback_up() -> Result<(), Errno> {
    // SAFETY: takes numbers only.
    let fd =
        check(unsafe { libc::syscall(libc::SYS_socket, libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) })?;
    // SAFETY: the descriptor is new and has no other owner.
    let socket = unsafe { OwnedFd::from_raw_fd(fd as i32) };
    // SAFETY: all-zero is a valid `ifreq`.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: `request` is a live `ifreq` with a name and flags.
    check(unsafe { libc::syscall(libc::SYS_ioctl, socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) })
        .map(drop)
}

/// Gives this thread a network namespace of its own.
pub(crate) fn own_namespace() -> Result<(), Errno> {
    // SAFETY: no memory, descriptors or file system state are unshared.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET) }
}

/// Errors on a netlink socket come with the kernel's words, and without the message that they are about.
pub(crate) fn explain_errors(socket: BorrowedFd<'_>) -> Result<(), Errno> {
    const CAP_ACK: libc::c_int = 10;
    const EXT_ACK: libc::c_int = 11;
    switch_on(socket, libc::SOL_NETLINK, CAP_ACK)?;
    switch_on(socket, libc::SOL_NETLINK, EXT_ACK)
}

fn switch_on(socket: BorrowedFd<'_>, level: libc::c_int, option: libc::c_int) -> Result<(), Errno> {
    let on: libc::c_int = 1;
    let length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: `on` is a live number of the length that is given.
    check(unsafe { libc::syscall(libc::SYS_setsockopt, socket.as_raw_fd(), level, option, &raw const on, length) })
        .map(drop)
}
