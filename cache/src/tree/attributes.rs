//! Owners, times and extended attributes of an entry.

use std::ffi::{OsStr, OsString};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, Mode, Timespec, Timestamps, XattrFlags};
use rustix::io::Errno;

use super::metadata::{Attributes, Owner};
use crate::error::{Error, Result};
use crate::owner;

/// Largest set of attribute names, and largest attribute, that is read (the kernel's own limits).
const XATTR_LIMIT: usize = 64 * 1024;

pub(crate) fn own(parent: impl AsFd, name: &OsStr, owner: Owner) -> rustix::io::Result<()> {
    owner::set_entry(parent, name, owner)
}

pub(crate) fn set_time(parent: impl AsFd, name: &OsStr, mtime_ns: i64) -> rustix::io::Result<()> {
    rustix::fs::utimensat(parent, name, &times(mtime_ns), AtFlags::SYMLINK_NOFOLLOW)
}

/// Owner first: changing it clears set-id bits and capabilities.
pub(crate) fn give(fd: impl AsFd, attributes: &Attributes, path: &Path) -> Result<()> {
    give_new(fd, attributes, None, path)
}

/// The same for something new, of which owner and mode may be known: what it has already is not set again.
pub(crate) fn give_new(fd: impl AsFd, attributes: &Attributes, given: Option<(Owner, u32)>, path: &Path) -> Result<()> {
    let failed = || Error::errno("set the attributes of", path);
    if given.is_none_or(|(owner, _)| owner != attributes.owner) {
        owner::set(&fd, attributes.owner).map_err(failed())?;
    }
    if given.is_none_or(|(_, mode)| mode != attributes.mode) {
        rustix::fs::fchmod(&fd, Mode::from_raw_mode(attributes.mode)).map_err(failed())?;
    }
    for (name, value) in &attributes.xattrs {
        set_xattr(&fd, name, value, path)?;
    }
    rustix::fs::futimens(&fd, &times(attributes.mtime_ns)).map_err(failed())
}

/// Sets one attribute. One that the kernel does not take is the tree's fault, not the machine's.
pub(crate) fn set_xattr(fd: impl AsFd, name: &OsStr, value: &[u8], path: &Path) -> Result<()> {
    let refused = |reason: &str| {
        Err(Error::Tree { path: path.to_owned(), reason: format!("its attribute {} {reason}", name.display()) })
    };
    match rustix::fs::fsetxattr(fd, name, value, XattrFlags::empty()) {
        Err(Errno::NOSPC | Errno::TOOBIG | Errno::RANGE) => refused("does not fit in the store's file system"),
        Err(Errno::INVAL | Errno::OPNOTSUPP) => refused("is not one that the kernel takes"),
        other => other.map_err(Error::errno("set the attributes of", path)),
    }
}

pub(crate) fn times(mtime_ns: i64) -> Timestamps {
    const SECOND: i64 = 1_000_000_000;
    let time = Timespec { tv_sec: mtime_ns.div_euclid(SECOND), tv_nsec: mtime_ns.rem_euclid(SECOND) };
    Timestamps { last_access: time, last_modification: time }
}

pub(crate) fn xattrs(fd: impl AsFd) -> rustix::io::Result<Vec<(OsString, Vec<u8>)>> {
    let mut list = vec![0_u8; 256];
    let length = loop {
        match rustix::fs::flistxattr(&fd, &mut list) {
            Ok(length) => break length,
            Err(Errno::RANGE) if list.len() < XATTR_LIMIT => list.resize(XATTR_LIMIT, 0),
            Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
            Err(errno) => return Err(errno),
        }
    };
    let mut found = Vec::new();
    for name in list.get(..length).unwrap_or_default().split(|byte| *byte == 0) {
        if !kept_xattr(name) {
            continue;
        }
        let name = OsStr::from_bytes(name);
        let mut value = vec![0_u8; XATTR_LIMIT];
        let length = rustix::fs::fgetxattr(&fd, name, &mut value)?;
        value.truncate(length);
        found.push((name.to_owned(), value));
    }
    found.sort();
    Ok(found)
}

/// Attributes that are part of a file wherever it goes. Overlay's own and the host's labels are not.
pub(crate) fn kept_xattr(name: &[u8]) -> bool {
    let own = name.starts_with(b"user.overlay.") || (owner::is_recording() && owner::is_record(name));
    name == b"security.capability" || (name.starts_with(b"user.") && !own)
}
