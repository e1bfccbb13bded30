//! The names in a directory.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{Dir, RawDir};

use super::metadata::{Metadata, look};

/// The names in a directory, in byte order. One piece of memory: a directory may have a million.
#[derive(Debug, Default)]
pub(crate) struct Names {
    bytes: Vec<u8>,
    places: Vec<(usize, usize)>,
}

impl Names {
    pub(crate) fn of(fd: impl AsFd) -> rustix::io::Result<Names> {
        let mut buffer = Vec::with_capacity(32 * 1024);
        let mut names = Names::default();
        let mut list = RawDir::new(fd, buffer.spare_capacity_mut());
        while let Some(entry) = list.next() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if !matches!(name, b"." | b"..") {
                names.places.push((names.bytes.len(), name.len()));
                names.bytes.extend_from_slice(name);
            }
        }
        let Names { bytes, places } = &mut names;
        places.sort_unstable_by(|one, other| slice(bytes, *one).cmp(slice(bytes, *other)));
        Ok(names)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &OsStr> {
        self.places.iter().map(|place| OsStr::from_bytes(slice(&self.bytes, *place)))
    }
}

fn slice(bytes: &[u8], (from, length): (usize, usize)) -> &[u8] {
    bytes.get(from..from + length).unwrap_or_default()
}

pub(crate) fn read_directory(fd: OwnedFd) -> rustix::io::Result<Vec<(OsString, Metadata)>> {
    let mut entries = Vec::new();
    let names = Names::of(&fd)?;
    for name in names.iter() {
        if let Some(metadata) = look(&fd, name)? {
            entries.push((name.to_owned(), metadata));
        }
    }
    Ok(entries)
}

pub(super) fn names(fd: OwnedFd) -> rustix::io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in Dir::new(fd)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(OsStr::from_bytes(name).to_owned());
        }
    }
    Ok(names)
}
