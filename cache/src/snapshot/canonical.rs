//! The upper directory of an overlay in canonical form: a function of the tree before and the tree after, and of nothing
//! that the kernel did on the way.
//!
//! Overlay copies a file up when it is opened for writing, though nothing is written; marks new directories opaque to
//! spare itself lookups; and keeps sockets. Here what says nothing new is dropped, and a directory that was replaced names
//! what it hides (OCI image-spec, layer.md: explicit whiteouts SHOULD be generated). The copy driver gives the same.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};

use super::compare::{Entry, is_unchanged};
use super::merged::{Directory, MergedTree, Node, OPAQUE_MARKS, is_opaque, open_below};
use crate::error::{Error, Result};
use crate::tree::{Kind, Metadata, metadata_of, read_directory};

/// Brings the tree below `upper` into canonical form over `lowers`.
pub(super) fn canonicalize(upper: &Path, lowers: &MergedTree) -> Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(upper, flags, Mode::empty()).map_err(Error::errno("open", upper))?;
    let below = if lowers.is_empty() { None } else { Some(lowers.root()?) };
    Walk { root, lowers }.directory(PathBuf::new(), below.as_ref(), false).map(drop)
}

struct Walk<'a> {
    root: OwnedFd,
    lowers: &'a MergedTree,
}

/// A directory of the upper tree while it is walked.
struct Here<'a> {
    fd: OwnedFd,
    path: &'a Path,
    below: Option<&'a Arc<Directory>>,
    /// It, or a directory above it, hides all that lies below.
    replaced: bool,
    changed: bool,
}

impl Walk<'_> {
    /// True when nothing is left in it.
    fn directory(&self, path: PathBuf, below: Option<&Arc<Directory>>, replaced: bool) -> Result<bool> {
        let fd =
            open_below(&self.root, &path, OFlags::RDONLY | OFlags::DIRECTORY).map_err(Error::errno("open", &path))?;
        let before = metadata_of(&fd).map_err(Error::errno("read", &path))?;
        let replaced = replaced || is_opaque(&fd);
        unmark(&fd);
        let copy = fd.try_clone().map_err(Error::path("open", &path))?;
        let entries = read_directory(copy).map_err(Error::errno("read", &path))?;
        let mut here = Here { fd, path: &path, below, replaced, changed: false };
        let mut names = BTreeSet::new();
        let mut left = false;
        for (name, metadata) in entries {
            left |= self.entry(&mut here, &name, &metadata)?;
            names.insert(name);
        }
        if replaced {
            left |= self.name_hidden(&mut here, &names)?;
        }
        if here.changed {
            restore_time(&here.fd, &path, before.mtime_ns)?;
        }
        Ok(!left)
    }

    /// True when the entry stays.
    fn entry(&self, here: &mut Here<'_>, name: &OsStr, metadata: &Metadata) -> Result<bool> {
        let below = match here.below {
            Some(directory) => self.lowers.child(directory, name)?,
            None => None,
        };
        let path = here.path.join(name);
        let is_whiteout = metadata.kind == Kind::CharDevice && metadata.rdev == 0;
        let drop = match (metadata.kind, &below) {
            (Kind::Socket, _) => true,
            _ if is_whiteout => below.is_none() && !self.lowers.is_empty(),
            (Kind::Directory, _) => return self.inner(here, name, path, metadata, below),
            (_, Some(node)) => self.is_unchanged(&path, metadata, node)?,
            (_, None) => false,
        };
        if drop {
            here.remove(name, AtFlags::empty())?;
        }
        Ok(!drop)
    }

    fn inner(
        &self,
        here: &mut Here<'_>,
        name: &OsStr,
        path: PathBuf,
        metadata: &Metadata,
        below: Option<Node>,
    ) -> Result<bool> {
        let below = below.filter(|node| node.metadata.kind == Kind::Directory);
        let lower = below.as_ref().map(|node| self.lowers.directory(path.clone(), node));
        let empty = self.directory(path.clone(), lower.as_ref(), here.replaced)?;
        let Some(node) = below.filter(|_| empty) else { return Ok(true) };
        // Its own metadata, times put back: what was dropped inside is no change.
        if !self.is_unchanged(&path, metadata, &node)? {
            return Ok(true);
        }
        here.remove(name, AtFlags::REMOVEDIR)?;
        Ok(false)
    }

    fn is_unchanged(&self, path: &Path, metadata: &Metadata, below: &Node) -> Result<bool> {
        is_unchanged(&Entry { root: &self.root, path, metadata }, self.lowers, below)
    }

    /// What a directory hid as a whole is hidden name by name.
    fn name_hidden(&self, here: &mut Here<'_>, names: &BTreeSet<OsString>) -> Result<bool> {
        let Some(directory) = here.below else { return Ok(false) };
        let mut hidden = false;
        for (name, _) in self.lowers.list(directory)? {
            if !names.contains(&name) {
                make_whiteout(&here.fd, &name, here.path)?;
                (here.changed, hidden) = (true, true);
            }
        }
        Ok(hidden)
    }
}

impl Here<'_> {
    fn remove(&mut self, name: &OsStr, flags: AtFlags) -> Result<()> {
        self.changed = true;
        rustix::fs::unlinkat(&self.fd, name, flags).map_err(Error::errno("remove", self.path.join(name)))
    }
}

fn unmark(fd: &OwnedFd) {
    for mark in OPAQUE_MARKS {
        // Most directories carry none, and a file system may know none.
        let _ = rustix::fs::fremovexattr(fd, mark);
    }
}

/// Overlay's own sign that a name is gone.
pub(super) fn make_whiteout(parent: &OwnedFd, name: &OsStr, path: &Path) -> Result<()> {
    rustix::fs::mknodat(parent, name, FileType::CharacterDevice, Mode::empty(), 0)
        .map_err(Error::errno("hide", path.join(name)))
}

pub(super) fn restore_time(fd: &OwnedFd, path: &Path, mtime_ns: i64) -> Result<()> {
    rustix::fs::futimens(fd, &crate::tree::times(mtime_ns)).map_err(Error::errno("set the time of", path))
}
