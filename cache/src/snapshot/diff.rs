//! From a changed copy to a layer: what differs from the layers below is moved out of it, in overlay form.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags, XattrFlags};

use super::canonical::{make_whiteout, restore_time};
use super::compare::{Entry, is_unchanged};
use super::merged::{MergedTree, open_below};
use super::scan::{Scanned, scan};
use crate::error::{Error, Result};
use crate::owner;
use crate::tree::{Kind, Metadata, xattrs};

/// What a directory of the layer holds.
enum Change {
    /// The name is gone.
    Gone,
    /// New, or no longer what it was: it moves into the layer with all below it.
    Whole,
    /// A directory that was there: itself, and what changed in it.
    Inside(BTreeMap<OsString, Change>),
}

/// Moves what differs between `copy`, which was `before`, and `lowers` into the empty directory `layer`.
pub(super) fn move_changes(copy: &Path, before: &Scanned, lowers: &MergedTree, layer: &Path) -> Result<()> {
    let open = |path: &Path| {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open(path, flags, Mode::empty()).map_err(Error::errno("open", path))
    };
    let copy = open(copy)?;
    let after = scan(&copy)?;
    let changes = Diff { copy: &copy, lowers }.directory(Path::new(""), before, &after)?;
    Mover { copy: &copy, layer: open(layer)? }.directory(Path::new(""), &changes, &after)
}

struct Diff<'a> {
    copy: &'a OwnedFd,
    lowers: &'a MergedTree,
}

impl Diff<'_> {
    fn directory(&self, path: &Path, before: &Scanned, after: &Scanned) -> Result<BTreeMap<OsString, Change>> {
        let gone = before.children.keys().filter(|name| !after.children.contains_key(*name));
        let mut changes: BTreeMap<OsString, Change> = gone.map(|name| (name.clone(), Change::Gone)).collect();
        for (name, now) in &after.children {
            let change = match before.children.get(name) {
                None => Some(Change::Whole),
                Some(then) => self.entry(&path.join(name), then, now)?,
            };
            if let Some(change) = change {
                changes.insert(name.clone(), change);
            }
        }
        Ok(changes)
    }

    /// How an entry changed that was there, if it did.
    fn entry(&self, path: &Path, then: &Scanned, now: &Scanned) -> Result<Option<Change>> {
        if now.metadata.kind != then.metadata.kind {
            return Ok(Some(Change::Whole));
        }
        let unchanged =
            || Ok(is_untouched(&then.metadata, &now.metadata) || self.says_nothing_new(path, &now.metadata)?);
        if now.metadata.kind != Kind::Directory {
            return Ok((!unchanged()?).then_some(Change::Whole));
        }
        // What is in a directory may change with no trace in itself, so it is always walked.
        let inside = self.directory(path, then, now)?;
        Ok(if inside.is_empty() && unchanged()? { None } else { Some(Change::Inside(inside)) })
    }

    /// Compares what was touched with the layers themselves.
    fn says_nothing_new(&self, path: &Path, metadata: &Metadata) -> Result<bool> {
        match self.lowers.node(path)? {
            Some(node) => is_unchanged(&Entry { root: self.copy, path, metadata }, self.lowers, &node),
            None => Ok(false),
        }
    }
}

/// The kernel moves ctime on with every change, and nobody can set it back.
fn is_untouched(then: &Metadata, now: &Metadata) -> bool {
    then.ino == now.ino && then.ctime_ns == now.ctime_ns && then.mtime_ns == now.mtime_ns && then.size == now.size
}

struct Mover<'a> {
    copy: &'a OwnedFd,
    layer: OwnedFd,
}

impl Mover<'_> {
    fn directory(&self, path: &Path, changes: &BTreeMap<OsString, Change>, after: &Scanned) -> Result<()> {
        if changes.is_empty() {
            return Ok(());
        }
        for (name, change) in changes {
            let path = path.join(name);
            match (change, after.children.get(name)) {
                (Change::Whole, Some(now)) => self.whole(&path, now)?,
                (Change::Inside(changes), Some(now)) => self.inside(&path, changes, now)?,
                (Change::Gone, _) | (_, None) => {
                    make_whiteout(&self.parent(&self.layer, &path)?, name, path.parent().unwrap_or(Path::new("")))?;
                }
            }
        }
        Ok(())
    }

    fn whole(&self, path: &Path, now: &Scanned) -> Result<()> {
        let name = path.file_name().unwrap_or_default();
        let (from, to) = (self.parent(self.copy, path)?, self.parent(&self.layer, path)?);
        rustix::fs::renameat(&from, name, &to, name).map_err(Error::errno("move", path))?;
        // A record that stands with the old directory stays behind.
        if owner::is_recording() {
            owner::set_entry(&to, name, now.metadata.owner()).map_err(Error::errno("own", path))?;
        }
        if now.metadata.kind == Kind::Directory {
            let fd = self.open(&self.layer, path)?;
            restore_time(&fd, path, now.metadata.mtime_ns)?;
        }
        Ok(())
    }

    /// A directory with the metadata that it has now; its time comes last, since what is put into it changes it.
    fn inside(&self, path: &Path, changes: &BTreeMap<OsString, Change>, now: &Scanned) -> Result<()> {
        let name = path.file_name().unwrap_or_default();
        let parent = self.parent(&self.layer, path)?;
        rustix::fs::mkdirat(&parent, name, Mode::RWXU).map_err(Error::errno("make", path))?;
        self.directory(path, changes, now)?;
        let fd = self.open(&self.layer, path)?;
        let source = self.open(self.copy, path)?;
        let attributes = xattrs(&source).map_err(Error::errno("read the attributes of", path))?;
        give(&fd, &now.metadata, &attributes).map_err(Error::errno("set the attributes of", path))
    }

    fn parent(&self, root: &OwnedFd, path: &Path) -> Result<OwnedFd> {
        self.open(root, path.parent().unwrap_or(Path::new("")))
    }

    fn open(&self, root: &OwnedFd, path: &Path) -> Result<OwnedFd> {
        open_below(root, path, OFlags::RDONLY | OFlags::DIRECTORY).map_err(Error::errno("open", path))
    }
}

/// Owner first: changing it clears set-id bits and capabilities.
pub(super) fn give(fd: &OwnedFd, metadata: &Metadata, attributes: &[(OsString, Vec<u8>)]) -> rustix::io::Result<()> {
    owner::set(fd, metadata.owner())?;
    rustix::fs::fchmod(fd, Mode::from_raw_mode(metadata.mode))?;
    for (name, value) in attributes {
        rustix::fs::fsetxattr(fd, name.as_os_str(), value, XattrFlags::empty())?;
    }
    rustix::fs::futimens(fd, &crate::tree::times(metadata.mtime_ns))
}

/// The same for what cannot be opened: links, devices and pipes.
pub(super) fn give_name(parent: &OwnedFd, name: &OsStr, metadata: &Metadata) -> rustix::io::Result<()> {
    owner::set_entry(parent, name, metadata.owner())?;
    if metadata.kind != Kind::Symlink {
        rustix::fs::chmodat(parent, name, Mode::from_raw_mode(metadata.mode), AtFlags::empty())?;
    }
    rustix::fs::utimensat(parent, name, &crate::tree::times(metadata.mtime_ns), AtFlags::SYMLINK_NOFOLLOW)
}
