//! What an entry of a tree is, and what it is given.

use std::ffi::{OsStr, OsString};
use std::os::fd::AsFd;

use rustix::fs::{AtFlags, FileType, Stat};
use rustix::io::Errno;

use crate::owner;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the variants are the kernel's own names")]
pub enum Kind {
    File,
    Directory,
    Symlink,
    CharDevice,
    BlockDevice,
    Fifo,
    Socket,
}

/// What the kernel says of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    /// What it is.
    pub kind: Kind,
    /// Permission bits, set-id bits and the sticky bit.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Bytes.
    pub size: u64,
    /// Nanoseconds since 1970.
    pub mtime_ns: i64,
    /// Nanoseconds since 1970.
    pub ctime_ns: i64,
    /// Device of the file system.
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
    /// Hard links.
    pub nlink: u64,
    /// Device number of a device.
    pub rdev: u64,
    /// Bytes on the disk.
    pub disk_bytes: u64,
}

impl Metadata {
    pub(crate) fn owner(&self) -> Owner {
        Owner { uid: self.uid, gid: self.gid }
    }
}

/// Numeric owner and group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Owner {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// What an entry is given when it is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attributes {
    /// Permission bits, set-id bits and the sticky bit.
    pub mode: u32,
    /// Owner and group.
    pub owner: Owner,
    /// Nanoseconds since 1970.
    pub mtime_ns: i64,
    /// Extended attributes.
    pub xattrs: Vec<(OsString, Vec<u8>)>,
}

/// What a name in a directory is; `None` when it was removed since it was listed. Links are not followed.
pub(crate) fn look(directory: impl AsFd, name: &OsStr) -> rustix::io::Result<Option<Metadata>> {
    let mut found = look_bare(&directory, name)?;
    if let Some(metadata) = &mut found {
        owner::amend_entry(metadata, &directory, name)?;
    }
    Ok(found)
}

/// The same as the kernel sees it.
pub(crate) fn look_bare(directory: impl AsFd, name: &OsStr) -> rustix::io::Result<Option<Metadata>> {
    match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(metadata(&stat))),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// What is behind a descriptor.
pub(crate) fn metadata_of(fd: impl AsFd) -> rustix::io::Result<Metadata> {
    let mut found = metadata(&rustix::fs::fstat(&fd)?);
    owner::amend(&mut found, &fd)?;
    Ok(found)
}

pub(crate) fn metadata(stat: &Stat) -> Metadata {
    const SECOND: i64 = 1_000_000_000;
    let nanos = |seconds: i64, nanos: i64| seconds.saturating_mul(SECOND).saturating_add(nanos);
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => Kind::Directory,
        FileType::Symlink => Kind::Symlink,
        FileType::CharacterDevice => Kind::CharDevice,
        FileType::BlockDevice => Kind::BlockDevice,
        FileType::Fifo => Kind::Fifo,
        FileType::Socket => Kind::Socket,
        _ => Kind::File,
    };
    #[allow(clippy::unnecessary_cast, reason = "the widths differ between architectures")]
    Metadata {
        kind,
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        size: u64::try_from(stat.st_size).unwrap_or(0),
        mtime_ns: nanos(stat.st_mtime as i64, stat.st_mtime_nsec as i64),
        ctime_ns: nanos(stat.st_ctime as i64, stat.st_ctime_nsec as i64),
        dev: stat.st_dev as u64,
        ino: stat.st_ino as u64,
        nlink: stat.st_nlink as u64,
        rdev: stat.st_rdev as u64,
        disk_bytes: u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512),
    }
}
