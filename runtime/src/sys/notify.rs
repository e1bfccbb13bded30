//! System calls that another process answers (seccomp_unotify(2)).
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::io::{Errno, IoSlice, IoSliceMut};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};

use super::check;
use crate::seccomp::Instruction;

/// A call that waits for its answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    pub(crate) id: u64,
    /// The thread that called, as this process counts.
    pub(crate) thread: u32,
    pub(crate) number: libc::c_long,
    pub(crate) arguments: [u64; 6],
}

/// Puts a filter on this thread whose notified calls arrive at the descriptor that is given back. Does not allocate.
pub(crate) fn load(program: &[Instruction]) -> Result<OwnedFd, Errno> {
    let length = libc::c_ushort::try_from(program.len()).map_err(|_| Errno::TOOBIG)?;
    let filter = libc::sock_fprog { len: length, filter: program.as_ptr().cast::<libc::sock_filter>().cast_mut() };
    let flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
    // SAFETY: `filter` and the program outlive the call; the layouts are the same.
    let fd =
        check(unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const filter) })?;
    let fd = RawFd::try_from(fd).map_err(|_| Errno::BADF)?;
    // SAFETY: the kernel has just made it, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Hands a descriptor over a socket. Does not allocate.
pub(crate) fn send_descriptor(socket: BorrowedFd<'_>, fd: BorrowedFd<'_>) -> Result<(), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = [fd];
    if !control.push(SendAncillaryMessage::ScmRights(&fds)) {
        return Err(Errno::NOBUFS);
    }
    sendmsg(socket, &[IoSlice::new(b"!")], &mut control, SendFlags::NOSIGNAL).map(drop)
}

/// Takes the descriptor that was handed over; None where the other side is gone without having sent one.
pub(crate) fn receive_descriptor(socket: BorrowedFd<'_>) -> Result<Option<OwnedFd>, Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut word = [0_u8; 1];
    recvmsg(socket, &mut [IoSliceMut::new(&mut word)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let received = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    Ok(received)
}

/// Waits for the next call. ENOENT says that its thread was killed meanwhile.
pub(crate) fn receive(listener: &OwnedFd) -> Result<Asked, Errno> {
    // SAFETY: all-zero is a valid `seccomp_notif`, and what the kernel asks for.
    let mut asked: libc::seccomp_notif = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes one structure of this type.
    check(libc::c_long::from(unsafe {
        libc::ioctl(listener.as_fd().as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut asked)
    }))?;
    let number = libc::c_long::from(asked.data.nr);
    Ok(Asked { id: asked.id, thread: asked.pid, number, arguments: asked.data.args })
}

/// Answers a call. One whose thread is gone needs no answer.
pub(crate) fn answer(listener: &OwnedFd, id: u64, result: Result<i64, Errno>) -> Result<(), Errno> {
    let mut answer = libc::seccomp_notif_resp {
        id,
        val: *result.as_ref().unwrap_or(&0),
        error: result.err().map_or(0, |errno| -errno.raw_os_error()),
        flags: 0,
    };
    // SAFETY: the kernel reads one structure of this type.
    let sent = check(libc::c_long::from(unsafe {
        libc::ioctl(listener.as_fd().as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND, &raw mut answer)
    }));
    match sent {
        Ok(_) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// Whether the thread still waits: what was opened by its number until now is its own.
pub(crate) fn waits(listener: &OwnedFd, id: u64) -> bool {
    // SAFETY: the kernel reads one number.
    let result =
        unsafe { libc::ioctl(listener.as_fd().as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_ID_VALID, &raw const id) };
    result == 0
}
