//! Owners that this user namespace has no ids for. A store that was made with one id keeps what an image says of others
//! in extended attributes, and reads it back as the owner: images then have the ids that they have everywhere.
//!
//! Links, devices and pipes take no attributes of the user (xattr(7)): theirs stand with the directory that holds them.

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{AtFlags, Gid, Mode, OFlags, Uid, XattrFlags};
use rustix::io::{Errno, Result};

use crate::tree::{Kind, Metadata, Owner};

/// Of the file or directory itself.
const OWN: &str = "user.dunnage.owner";
/// Of an entry that takes none, followed by its name.
const OF_ENTRY: &str = "user.dunnage.owner-of.";
/// Ids of a usual range.
const USUAL_IDS: u64 = 65_536;

/// The attributes in which owners are recorded in the store of this process: of a file or directory, and of an entry of a
/// directory, whose name follows. None where files can be given to anyone.
pub fn recorded_owners() -> Option<(&'static str, &'static str)> {
    is_recording().then_some((OWN, OF_ENTRY))
}

/// A property of the store, and a process works in one store. Without it nothing here costs anything.
static RECORDING: AtomicBool = AtomicBool::new(false);

/// Whether owners are recorded in the store of this process.
pub(crate) fn is_recording() -> bool {
    RECORDING.load(Ordering::Relaxed)
}

/// From now on owners are recorded.
pub(crate) fn record_from_now_on() {
    RECORDING.store(true, Ordering::Relaxed);
}

/// Whether this user namespace lacks the ids that images have.
pub(crate) fn has_few_ids() -> bool {
    ["/proc/self/uid_map", "/proc/self/gid_map"].iter().any(|map| {
        let text = std::fs::read_to_string(map);
        text.is_ok_and(|text| count(&text) < USUAL_IDS)
    })
}

fn count(map: &str) -> u64 {
    map.lines().filter_map(|line| line.split_whitespace().nth(2)?.parse::<u64>().ok()).sum()
}

/// Whether an attribute is a record of this file's.
pub(crate) fn is_record(name: &[u8]) -> bool {
    name.starts_with(OWN.as_bytes())
}

/// Gives an open file or directory its owner.
pub(crate) fn set(fd: impl AsFd, owner: Owner) -> Result<()> {
    let given = rustix::fs::fchown(&fd, Some(Uid::from_raw(owner.uid)), Some(Gid::from_raw(owner.gid)));
    if !is_recording() {
        return given;
    }
    match given {
        Ok(()) => forget(&at(&fd), OWN.as_ref()),
        Err(Errno::INVAL) => record(&at(&fd), OWN.as_ref(), owner),
        Err(errno) => Err(errno),
    }
}

/// Gives an entry of a directory its owner; a link itself, not what it leads to.
pub(crate) fn set_entry(directory: impl AsFd, name: &OsStr, owner: Owner) -> Result<()> {
    let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
    let given = rustix::fs::chownat(&directory, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW);
    if !is_recording() {
        return given;
    }
    let kind = crate::tree::look_bare(&directory, name)?.ok_or(Errno::NOENT)?.kind;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    match (given, takes_records(kind)) {
        (given, true) => {
            let fd = rustix::fs::openat(&directory, name, flags, Mode::empty())?;
            match given {
                Err(Errno::INVAL) => record(&at(&fd), OWN.as_ref(), owner),
                Ok(()) => forget(&at(&fd), OWN.as_ref()),
                Err(errno) => Err(errno),
            }
        }
        (Ok(()), false) => forget(&at(&directory), &of_entry(name)),
        (Err(Errno::INVAL), false) => record(&at(&directory), &of_entry(name), owner),
        (Err(errno), false) => Err(errno),
    }
}

/// Corrects what the kernel says of an entry.
pub(crate) fn amend_entry(metadata: &mut Metadata, directory: impl AsFd, name: &OsStr) -> Result<()> {
    if !is_recording() {
        return Ok(());
    }
    let owner = match takes_records(metadata.kind) {
        true => read(&at(&directory).join(name), OWN.as_ref())?,
        false => read(&at(&directory), &of_entry(name))?,
    };
    apply(metadata, owner);
    Ok(())
}

/// Corrects what the kernel says of an open file or directory.
pub(crate) fn amend(metadata: &mut Metadata, fd: impl AsFd) -> Result<()> {
    if is_recording() && takes_records(metadata.kind) {
        apply(metadata, read(&at(&fd), OWN.as_ref())?);
    }
    Ok(())
}

fn apply(metadata: &mut Metadata, owner: Option<Owner>) {
    if let Some(owner) = owner {
        (metadata.uid, metadata.gid) = (owner.uid, owner.gid);
    }
}

fn takes_records(kind: Kind) -> bool {
    matches!(kind, Kind::File | Kind::Directory)
}

/// By this path the kernel reaches also what was opened for its place alone.
fn at(fd: &impl AsFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd()))
}

fn of_entry(name: &OsStr) -> OsString {
    let mut attribute = OsString::from(OF_ENTRY);
    attribute.push(name);
    attribute
}

fn record(path: &std::path::Path, name: &OsStr, owner: Owner) -> Result<()> {
    let mut text = String::new();
    // Writing to a text cannot fail.
    let _ = write!(text, "{}:{}", owner.uid, owner.gid);
    rustix::fs::setxattr(path, name, text.as_bytes(), XattrFlags::empty())
}

fn forget(path: &std::path::Path, name: &OsStr) -> Result<()> {
    match rustix::fs::removexattr(path, name) {
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(()),
        result => result,
    }
}

fn read(path: &std::path::Path, name: &OsStr) -> Result<Option<Owner>> {
    let mut value = [0_u8; 32];
    match rustix::fs::getxattr(path, name, &mut value) {
        Ok(length) => Ok(parse(value.get(..length).unwrap_or_default())),
        Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

fn parse(value: &[u8]) -> Option<Owner> {
    let text = OsString::from_vec(value.to_vec()).into_string().ok()?;
    let (uid, gid) = text.split_once(':')?;
    Some(Owner { uid: uid.parse().ok()?, gid: gid.parse().ok()? })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt;

    #[test]
    fn ids_are_counted_over_all_lines_of_a_map() {
        assert_eq!(count("         0       1001          1\n         1     100000      65536\n"), 65_537);
        assert_eq!(count("0 1000 1\n"), 1);
    }

    #[test]
    fn a_record_is_two_numbers() {
        assert_eq!(parse(b"5:7"), Some(Owner { uid: 5, gid: 7 }));
        assert_eq!((parse(b"5"), parse(b"a:b"), parse(b"\xff:1")), (None, None, None));
        assert!(is_record(b"user.dunnage.owner-of.link") && !is_record(b"user.note"));
        assert_eq!(of_entry("l".as_ref()).as_bytes(), b"user.dunnage.owner-of.l");
    }
}
