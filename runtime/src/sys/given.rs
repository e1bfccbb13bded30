//! Steps of the new process for a layout that is given mount by mount. The rules of `sys::child` hold here too: nothing
//! allocates, formats, locks or panics.
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Gid, Mode, ResolveFlags, Uid, chmodat, chownat, makedev, mknodat, symlinkat};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen, mount_change,
};

use super::child::{attach_on, is_directory};
use crate::given::{GivenDevice, NodeKind, Propagation, PropagationKind};
use crate::target::{self, Kind, Target, resolve};

/// An option of a file system, and its value where it has one.
pub(crate) type FilesystemOption = (CString, Option<CString>);

/// A new instance of a file system, not attached anywhere yet.
pub(crate) fn filesystem(kind: &CStr, options: &[FilesystemOption], attributes: u32) -> Result<OwnedFd, Errno> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (name, value) in options {
        match value {
            Some(value) => fsconfig_set_string(&context, name.as_c_str(), value.as_c_str())?,
            None => fsconfig_set_flag(&context, name.as_c_str())?,
        }
    }
    fsconfig_create(&context)?;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::from_bits_retain(attributes))
}

/// Attaches a mount at a target, making what is missing of it. The kernel's own file systems lie where they are said to
/// and not where a link of the image leads; nothing but well-known files lies over /proc.
pub(crate) fn mount(
    root: BorrowedFd<'_>,
    mount: BorrowedFd<'_>,
    at: &Target,
    over_proc: bool,
    links: bool,
) -> Result<(), Errno> {
    let kind = if is_directory(mount)? { Kind::Directory } else { Kind::File };
    if !links {
        match resolve(root, &at.path, ResolveFlags::NO_SYMLINKS) {
            Ok(_) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno),
        }
    }
    let place = target::make(root, at, kind, |_| Ok(()))?;
    let in_proc = rustix::fs::fstatfs(&place)?.f_type == libc::PROC_SUPER_MAGIC;
    if in_proc && !over_proc && !is_same_kind(mount)? {
        return Err(Errno::PERM);
    }
    attach_on(mount, place.as_fd())
}

/// A new /proc may lie over an older one.
fn is_same_kind(mount: BorrowedFd<'_>) -> Result<bool, Errno> {
    Ok(rustix::fs::fstatfs(mount)?.f_type == libc::PROC_SUPER_MAGIC)
}

fn directory(root: BorrowedFd<'_>, parent: Option<&Target>) -> Result<OwnedFd, Errno> {
    match parent {
        Some(parent) => target::make(root, parent, Kind::Directory, |_| Ok(())),
        None => resolve(root, c".", ResolveFlags::empty()),
    }
}

/// Makes a node; what is there already stays.
pub(crate) fn device(
    root: BorrowedFd<'_>,
    parent: Option<&Target>,
    name: &CStr,
    device: &GivenDevice,
) -> Result<(), Errno> {
    let directory = directory(root, parent)?;
    let kind = match device.kind {
        NodeKind::Character => FileType::CharacterDevice,
        NodeKind::Block => FileType::BlockDevice,
        NodeKind::Fifo => FileType::Fifo,
    };
    let mode = Mode::from_raw_mode(device.mode);
    let (major, minor) = device.number;
    match mknodat(&directory, name, kind, mode, makedev(major, minor)) {
        Err(Errno::EXIST) => return Ok(()),
        result => result?,
    }
    // mknod obeys the umask; a device's mode must not. The name was made just now, and so is no link.
    let (uid, gid) = (Uid::from_raw(device.uid), Gid::from_raw(device.gid));
    chownat(&directory, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    chmodat(&directory, name, mode, AtFlags::empty())
}

/// Makes a link; what is there already stays.
pub(crate) fn link(root: BorrowedFd<'_>, parent: Option<&Target>, name: &CStr, to: &CStr) -> Result<(), Errno> {
    match symlinkat(to, directory(root, parent)?, name) {
        Err(Errno::EXIST) => Ok(()),
        result => result,
    }
}

/// How the mounts below the new root spread, from now on.
pub(crate) fn spread(propagation: Propagation) -> Result<(), Errno> {
    let mut flags = match propagation.kind {
        PropagationKind::Private => MountPropagationFlags::PRIVATE,
        PropagationKind::Slave => MountPropagationFlags::DOWNSTREAM,
        PropagationKind::Shared => MountPropagationFlags::SHARED,
        PropagationKind::Unbindable => MountPropagationFlags::UNBINDABLE,
    };
    flags.set(MountPropagationFlags::REC, propagation.recursive);
    mount_change(c"/", flags)
}
