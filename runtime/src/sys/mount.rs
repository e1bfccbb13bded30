//! mount_setattr, which rustix does not wrap, a thread's own mounts, and the change to another root.
use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};

/// Nothing can be written. The attributes are counted as `mount_setattr` and `fsmount` do.
pub(crate) const ATTR_RDONLY: u64 = 0x1;
/// No setuid and no file capabilities.
pub(crate) const ATTR_NOSUID: u64 = 0x2;
/// No device can be opened.
pub(crate) const ATTR_NODEV: u64 = 0x4;
/// Nothing can be executed.
pub(crate) const ATTR_NOEXEC: u64 = 0x8;

#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns_fd: u64,
}

/// The ids of files are shown as a user namespace maps them.
const ATTR_IDMAP: u64 = 0x10_0000;

pub(crate) const PROPAGATION_PRIVATE: u64 = 1 << 18;

/// How far a change of attributes reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// The mount itself.
    One,
    /// The mount and everything mounted below it.
    Below,
}

/// Sets attributes on the mount behind `fd` and makes it private. Does not allocate.
pub(crate) fn set_attributes(fd: impl AsFd, set: u64, reach: Reach) -> Result<(), Errno> {
    change_attributes(fd, set, 0, PROPAGATION_PRIVATE, reach)
}

/// Sets and clears attributes on the mount behind `fd`; `propagation` is the kernel's bit, or 0 to leave it as it is.
pub(crate) fn change_attributes(
    fd: impl AsFd,
    set: u64,
    clear: u64,
    propagation: u64,
    reach: Reach,
) -> Result<(), Errno> {
    apply(fd, &MountAttr { set, clear, propagation, userns_fd: 0 }, reach)
}

/// Shows the files of a mount that is attached nowhere yet with the ids that a user namespace has for them.
pub(crate) fn map_ids(fd: impl AsFd, users: BorrowedFd<'_>, reach: Reach) -> Result<(), Errno> {
    let userns_fd = u64::from(users.as_raw_fd().unsigned_abs());
    apply(fd, &MountAttr { set: ATTR_IDMAP, clear: 0, propagation: 0, userns_fd }, reach)
}

fn apply(fd: impl AsFd, attr: &MountAttr, reach: Reach) -> Result<(), Errno> {
    let recursive = if reach == Reach::Below { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is an empty C string, and `attr` is a live `struct mount_attr` of the size given.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            fd.as_fd().as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | recursive,
            &raw const *attr,
            size_of::<MountAttr>(),
        )
    };
    super::check(result).map(drop)
}

/// Gives the calling thread a root and a working directory of its own, so that it may move into another mount namespace.
pub(crate) fn separate_directory() -> Result<(), Errno> {
    // SAFETY: neither memory nor descriptors are separated, so nothing that Rust shares between threads is touched.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::FS) }
}

/// Gives the calling thread a mount namespace and a working directory of its own.
pub(crate) fn separate_mounts() -> Result<(), Errno> {
    use rustix::thread::UnshareFlags;
    // SAFETY: neither memory nor descriptors are separated, so nothing that Rust shares between threads is touched.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::FS | UnshareFlags::NEWNS) }
}

/// Makes the mount `root`, which already lies over the root of this mount namespace, the only one. Pivoting puts the old root
/// on top of it, with all that was mounted over it; `/..` names the topmost of these, so they are dropped until it names the
/// new root.
pub(crate) fn pivot_onto(root: BorrowedFd<'_>) -> Result<(), Errno> {
    const MOST_OVER_ROOT: usize = 16;
    rustix::process::fchdir(root)?;
    rustix::process::pivot_root(c".", c".")?;
    let own = mount_id(root, c"")?;
    for _ in 0..MOST_OVER_ROOT {
        if mount_id(CWD, c"/..")? == own {
            return rustix::process::chdir(c"/");
        }
        unmount(c".", UnmountFlags::DETACH)?;
    }
    Err(Errno::BUSY)
}

pub(crate) fn mount_id(base: BorrowedFd<'_>, path: &CStr) -> Result<u64, Errno> {
    Ok(statx(base, path, AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)?.stx_mnt_id)
}
