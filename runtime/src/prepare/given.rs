//! What a given layout needs before clone: clones of the host's mounts with any attributes, and what is copied up.
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, ResolveFlags, Uid, openat};
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::given::{MountAttributes, Propagation, PropagationKind};
use crate::rootfs::clone_tree;
use crate::sys::mount::{PROPAGATION_PRIVATE, Reach, change_attributes};
use crate::target::{Target, resolve};

/// More files than a directory has that is meant to be copied into memory.
const MOST_COPIED: usize = 100_000;
/// And more bytes.
const MOST_BYTES: u64 = 4 << 30;

/// A clone of a mount of the host.
pub(super) fn bind(
    source: &Path,
    reach: Reach,
    attributes: MountAttributes,
    recursive: MountAttributes,
    propagation: Option<Propagation>,
) -> Result<OwnedFd> {
    let failed = |errno: Errno| Error::MountSource { path: source.to_owned(), source: errno.into() };
    let opened = openat(CWD, source, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(failed)?;
    let tree = clone_tree(opened.as_fd(), reach).map_err(failed)?;
    let spread = propagation.map_or(PROPAGATION_PRIVATE, |propagation| bits(propagation.kind));
    let spread_reach = match propagation {
        Some(propagation) if !propagation.recursive => Reach::One,
        _ => reach,
    };
    change_attributes(&tree, 0, 0, spread, spread_reach).map_err(failed)?;
    for (attributes, reach) in [(attributes, Reach::One), (recursive, Reach::Below)] {
        if !attributes.is_empty() {
            change_attributes(&tree, attributes.set, attributes.clear, 0, reach).map_err(failed)?;
        }
    }
    Ok(tree)
}

/// MS_UNBINDABLE, MS_PRIVATE, MS_SLAVE and MS_SHARED of linux/mount.h, which mount_setattr counts by.
fn bits(kind: PropagationKind) -> u64 {
    match kind {
        PropagationKind::Unbindable => 1 << 17,
        PropagationKind::Private => PROPAGATION_PRIVATE,
        PropagationKind::Slave => 1 << 19,
        PropagationKind::Shared => 1 << 20,
    }
}

/// Copies what lies at `target` in the root into a new file system. A target that is not there has nothing.
pub(super) fn copy_up(root: BorrowedFd<'_>, target: &Target, to: &OwnedFd) -> Result<(), Errno> {
    let from = match resolve(root, &target.path, ResolveFlags::empty()) {
        Err(Errno::NOENT) => return Ok(()),
        result => result?,
    };
    if FileType::from_raw_mode(rustix::fs::fstat(&from)?.st_mode) != FileType::Directory {
        return Ok(());
    }
    let mut left = (MOST_COPIED, MOST_BYTES);
    let stat = rustix::fs::fstat(&from)?;
    // What fsmount gives names the directory, and cannot be changed through.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let to = openat(to, c".", flags, Mode::empty())?;
    copy_directory(&from, &to, &mut left)?;
    own(&to, &stat)
}

fn own(to: &OwnedFd, stat: &rustix::fs::Stat) -> Result<(), Errno> {
    rustix::fs::fchown(to, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
    rustix::fs::fchmod(to, Mode::from_raw_mode(stat.st_mode & 0o7777))
}

/// By descriptor, and never through a link: what the image holds cannot lead anywhere else.
fn copy_directory(from: &OwnedFd, to: &OwnedFd, left: &mut (usize, u64)) -> Result<(), Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let readable = openat(from, c".", flags, Mode::empty())?;
    for entry in Dir::read_from(&readable)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        left.0 = left.0.checked_sub(1).ok_or(Errno::FBIG)?;
        let stat = rustix::fs::statat(&readable, name, AtFlags::SYMLINK_NOFOLLOW)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                rustix::fs::mkdirat(to, name, Mode::RWXU)?;
                let inner = openat(to, name, flags, Mode::empty())?;
                let outer = openat(&readable, name, flags, Mode::empty())?;
                copy_directory(&outer, &inner, left)?;
                own(&inner, &stat)?;
            }
            FileType::RegularFile => {
                left.1 = left.1.checked_sub(u64::try_from(stat.st_size).unwrap_or(0)).ok_or(Errno::FBIG)?;
                let read = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
                let mut source = std::fs::File::from(openat(&readable, name, read, Mode::empty())?);
                let write = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
                let mut copy = std::fs::File::from(openat(to, name, write, Mode::RWXU)?);
                std::io::copy(&mut source, &mut copy)
                    .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
                own(&copy.into(), &stat)?;
            }
            FileType::Symlink => {
                let link = rustix::fs::readlinkat(&readable, name, Vec::new())?;
                rustix::fs::symlinkat(link.as_c_str(), to, name)?;
                let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
                rustix::fs::chownat(to, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
            }
            // Sockets, pipes and devices belong to processes that do not run here.
            _ => {}
        }
    }
    Ok(())
}
