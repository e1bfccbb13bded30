//! The copying itself: from one tree into another, each walked by descriptor, links copied and never followed.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use cache::{Attributes, Follow, Kind, Metadata, Owner, TreeRoot};

use super::ends::{Place, Source};
use crate::containers::copying::attributes_of;
use crate::error::{Error, Result};

/// Permission bits and the sticky bit: what stays of a mode when the owner changes.
const PERMISSIONS: u32 = 0o1777;

/// A copy on its way.
pub(super) struct Transfer<'a> {
    owner: Owner,
    archive: bool,
    notes: &'a dyn Fn(String),
    /// The first name of each file that has several.
    names: HashMap<(u64, u64), PathBuf>,
    bytes: u64,
}

impl<'a> Transfer<'a> {
    /// `owner` gets the copies, unless with `archive` they keep their own.
    pub(super) fn new(owner: Owner, archive: bool, notes: &'a dyn Fn(String)) -> Transfer<'a> {
        Transfer { owner, archive, notes, names: HashMap::new(), bytes: 0 }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn copy(&mut self, source: &Source, place: &Place) -> Result<()> {
        let name = place.name.as_deref().unwrap_or(OsStr::new(""));
        if source.is_directory() {
            let from = source.root.subtree(&source.path)?.without_links();
            if !name.is_empty() {
                self.directory(&from, Path::new(""), &source.metadata, &place.root, Path::new(name))?;
            }
            self.content(&from, Path::new(""), &place.root, Path::new(name))?;
            return self.finish(&source.metadata, place, name);
        }
        self.entry(&source.root, &source.path, &source.metadata, &place.root, Path::new(name))
    }

    fn finish(&self, metadata: &Metadata, place: &Place, name: &OsStr) -> Result<()> {
        if name.is_empty() { Ok(()) } else { Ok(place.root.set_times(Path::new(name), metadata.mtime_ns)?) }
    }

    fn content(&mut self, from: &TreeRoot, path: &Path, to: &TreeRoot, target: &Path) -> Result<()> {
        for (name, metadata) in from.read_dir(path)? {
            let (path, target) = (path.join(&name), target.join(&name));
            match self.entry(from, &path, &metadata, to, &target) {
                // A container that runs removes what it likes.
                Err(error) if is_gone(&error) && is_gone_from(from, &path) => {}
                result => result?,
            }
        }
        Ok(())
    }

    fn entry(&mut self, from: &TreeRoot, path: &Path, metadata: &Metadata, to: &TreeRoot, target: &Path) -> Result<()> {
        if metadata.kind == Kind::Directory {
            self.directory(from, path, metadata, to, target)?;
            self.content(from, path, to, target)?;
            return Ok(to.set_times(target, metadata.mtime_ns)?);
        }
        if metadata.nlink > 1 && metadata.kind == Kind::File {
            let first = self.names.get(&(metadata.dev, metadata.ino)).cloned();
            if let Some(first) = first {
                return Ok(to.hard_link(&first, target)?);
            }
        }
        let attributes = self.attributes(from, path, metadata)?;
        match metadata.kind {
            Kind::File => {
                self.bytes += to.write_file(target, &mut from.open_file(path)?, &attributes)?;
                if metadata.nlink > 1 {
                    self.names.insert((metadata.dev, metadata.ino), target.to_owned());
                }
            }
            Kind::Symlink => to.symlink(&from.read_link(path)?, target, &attributes)?,
            Kind::Fifo => to.special(target, metadata.kind, 0, &attributes)?,
            kind => (self.notes)(format!("{} is left out: it is a {}", path.display(), word(kind))),
        }
        Ok(())
    }

    /// What is there keeps what it has, unless it is to be like the source in all.
    fn directory(&self, from: &TreeRoot, path: &Path, metadata: &Metadata, to: &TreeRoot, target: &Path) -> Result<()> {
        let there = to.metadata(target, Follow::No)?.is_some_and(|there| there.kind == Kind::Directory);
        if there && !self.archive {
            return Ok(());
        }
        Ok(to.make_dir(target, &self.attributes(from, path, metadata)?)?)
    }

    fn attributes(&self, from: &TreeRoot, path: &Path, metadata: &Metadata) -> Result<Attributes> {
        let mut attributes = attributes_of(metadata);
        if !self.archive {
            attributes.owner = self.owner;
            attributes.mode &= PERMISSIONS;
        } else if matches!(metadata.kind, Kind::File | Kind::Directory) {
            attributes.xattrs = from.xattrs(path)?;
        }
        Ok(attributes)
    }
}

fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Socket => "socket",
        _ => "device",
    }
}

fn is_gone(error: &Error) -> bool {
    matches!(error, Error::Store(cache::Error::Path { source, .. }) if source.kind() == ErrorKind::NotFound)
}

fn is_gone_from(from: &TreeRoot, path: &Path) -> bool {
    matches!(from.metadata(path, Follow::No), Ok(None))
}
