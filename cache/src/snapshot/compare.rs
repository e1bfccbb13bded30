//! Whether a file, link, device or directory is what it was: the one rule of what a layer leaves out.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::OFlags;

use super::merged::{MergedTree, Node, open_below};
use crate::error::{Error, Result};
use crate::tree::{Kind, Metadata, xattrs};

/// Bytes compared at once.
const BUFFER: usize = 128 << 10;

/// An entry of a plain tree.
pub(super) struct Entry<'a> {
    pub(super) root: &'a OwnedFd,
    pub(super) path: &'a Path,
    pub(super) metadata: &'a Metadata,
}

/// The entry says nothing that the layers below do not say: kind, mode, owner, time, attributes, link, device and bytes
/// are the same. Bytes are read only where all else agrees.
pub(super) fn is_unchanged(entry: &Entry<'_>, lowers: &MergedTree, below: &Node) -> Result<bool> {
    let (now, then) = (entry.metadata, &below.metadata);
    if !same_facts(now, then) {
        return Ok(false);
    }
    match now.kind {
        // A second name that a file was given is a change of the first one too: a layer links only what it holds.
        Kind::File if now.nlink > 1 && lowers.names_of(below)? == 1 => Ok(false),
        Kind::File => {
            let old = lowers.open(below.layer, entry.path, OFlags::RDONLY | OFlags::NOCTTY)?;
            let new = entry.open(OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?;
            Ok(same_attributes(&new, &old, entry.path)? && same_bytes(new, old, entry.path)?)
        }
        Kind::Directory => {
            let old = lowers.open(below.layer, entry.path, OFlags::RDONLY | OFlags::DIRECTORY)?;
            same_attributes(&entry.open(OFlags::RDONLY | OFlags::DIRECTORY)?, &old, entry.path)
        }
        Kind::Symlink => {
            let read = |fd: OwnedFd| rustix::fs::readlinkat(&fd, "", Vec::new());
            let old = lowers.open(below.layer, entry.path, OFlags::PATH | OFlags::NOFOLLOW)?;
            let new = entry.open(OFlags::PATH | OFlags::NOFOLLOW)?;
            let failed = |errno| Error::errno("read", entry.path)(errno);
            Ok(read(old).map_err(failed)? == read(new).map_err(failed)?)
        }
        Kind::CharDevice | Kind::BlockDevice => Ok(now.rdev == then.rdev),
        Kind::Fifo | Kind::Socket => Ok(true),
    }
}

impl Entry<'_> {
    fn open(&self, flags: OFlags) -> Result<OwnedFd> {
        open_below(self.root, self.path, flags).map_err(Error::errno("open", self.path))
    }
}

fn same_facts(now: &Metadata, then: &Metadata) -> bool {
    let facts = |one: &Metadata| (one.mode, one.uid, one.gid, one.mtime_ns);
    now.kind == then.kind && facts(now) == facts(then) && (now.kind != Kind::File || now.size == then.size)
}

pub(super) fn same_attributes(new: &OwnedFd, old: &OwnedFd, path: &Path) -> Result<bool> {
    let read = |fd: &OwnedFd| xattrs(fd).map_err(Error::errno("read the attributes of", path));
    Ok(read(new)? == read(old)?)
}

pub(super) fn same_bytes(new: OwnedFd, old: OwnedFd, path: &Path) -> Result<bool> {
    let (mut new, mut old) = (File::from(new), File::from(old));
    let length = new.metadata().map_err(Error::path("read", path))?.len();
    // One byte more than a small file has: its end is seen at once.
    let size = usize::try_from(length).map_or(BUFFER, |length| length.saturating_add(1).min(BUFFER));
    let (mut one, mut other) = (vec![0; size], vec![0; size]);
    loop {
        let got = fill(&mut new, &mut one).map_err(Error::path("read", path))?;
        let there = fill(&mut old, &mut other).map_err(Error::path("read", path))?;
        if one.get(..got) != other.get(..there) {
            return Ok(false);
        }
        if got < size {
            return Ok(true);
        }
    }
}

/// Reads until the buffer is full or the file ends.
fn fill(file: &mut File, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read(rest) {
            Ok(0) => break,
            Ok(got) => filled += got,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
