//! The extractor: a tar stream into a private directory, by descriptor. Layers and ADD archives go through here alone.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::header::{Entries, Entry, EntryKind};
use super::limits::Limits;
use crate::error::{Error, Result};
use crate::tree::{Attributes, Follow, Kind, Owner, TreeRoot, relative};

/// Overlay's mark of a directory that hides all below it.
pub(crate) const OPAQUE: &str = "trusted.overlay.opaque";

/// What `.wh.` names mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whiteouts {
    /// In a layer: they hide what is below (OCI image-spec, layer.md).
    Overlay,
    /// In an archive of ADD: plain names.
    Literal,
}

/// How an archive is unpacked.
#[derive(Debug, Clone)]
pub(crate) struct ExtractOptions {
    pub(crate) whiteouts: Whiteouts,
    /// All entries get this owner.
    pub(crate) owner: Option<Owner>,
    pub(crate) limits: Limits,
}

/// Unpacks a stream of plain tar into `root`. The reader is left after the end-of-archive block.
pub(crate) fn extract(reader: impl Read, root: &TreeRoot, options: &ExtractOptions) -> Result<()> {
    let mut extractor = Extractor { root, options, directories: BTreeMap::new(), bytes: 0 };
    let mut entries = Entries::new(reader, &options.limits);
    while let Some(entry) = entries.next()? {
        extractor.entry(&entry, &mut entries)?;
    }
    extractor.finish()
}

struct Extractor<'a> {
    root: &'a TreeRoot,
    options: &'a ExtractOptions,
    /// Times of directories, set at the end: what is written into them changes them.
    directories: BTreeMap<PathBuf, i64>,
    bytes: u64,
}

impl Extractor<'_> {
    fn entry(&mut self, entry: &Entry, entries: &mut Entries<'_, impl Read>) -> Result<()> {
        if self.options.whiteouts == Whiteouts::Overlay
            && let Some(name) = entry.path.file_name()
            && let Some(hidden) = name.as_bytes().strip_prefix(b".wh.")
        {
            return self.whiteout(&entry.path, hidden);
        }
        let attributes = self.attributes(entry);
        if entry.path.as_os_str().is_empty() {
            return match entry.kind {
                EntryKind::Directory if self.options.whiteouts == Whiteouts::Overlay => {
                    self.root.set_attributes(Path::new(""), &attributes)
                }
                EntryKind::Directory => Ok(()),
                _ => Err(Error::archive("/", "the root of the archive is no directory")),
            };
        }
        self.make_parent(&entry.path)?;
        match entry.kind {
            EntryKind::Directory => self.directory(entry, &attributes),
            EntryKind::File => self.file(entry, &attributes, entries),
            EntryKind::Symlink => {
                self.clear(&entry.path)?;
                self.root.symlink(OsStr::from_bytes(&entry.link), &entry.path, &attributes)
            }
            EntryKind::HardLink => self.hard_link(entry),
            EntryKind::CharDevice | EntryKind::BlockDevice | EntryKind::Fifo => self.special(entry, &attributes),
        }
    }

    fn attributes(&self, entry: &Entry) -> Attributes {
        Attributes {
            mode: entry.mode,
            owner: self.options.owner.unwrap_or(Owner { uid: entry.uid, gid: entry.gid }),
            mtime_ns: entry.mtime_ns,
            xattrs: entry.xattrs.clone(),
        }
    }

    fn make_parent(&self, path: &Path) -> Result<()> {
        match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => {
                self.root.make_dirs(parent, 0o755, self.options.owner.unwrap_or_default())
            }
            _ => Ok(()),
        }
    }

    fn directory(&mut self, entry: &Entry, attributes: &Attributes) -> Result<()> {
        let there = self.root.metadata(&entry.path, Follow::No)?;
        let hides = there.as_ref().is_some_and(|there| there.kind == Kind::CharDevice && there.rdev == 0);
        let keep = match &there {
            Some(there) if there.kind == Kind::Directory => true,
            // An archive of ADD may name a directory that the image has as a link.
            Some(there) if there.kind == Kind::Symlink && self.options.whiteouts == Whiteouts::Literal => {
                self.root.metadata(&entry.path, Follow::Yes)?.is_some_and(|behind| behind.kind == Kind::Directory)
            }
            _ => false,
        };
        if !keep {
            self.root.remove_all(&entry.path)?;
        }
        self.root.make_dir(&entry.path, attributes)?;
        if hides && self.options.whiteouts == Whiteouts::Overlay {
            self.root.set_xattr(&entry.path, OPAQUE, b"y")?;
        }
        self.directories.insert(entry.path.clone(), entry.mtime_ns);
        Ok(())
    }

    fn file(&mut self, entry: &Entry, attributes: &Attributes, entries: &mut Entries<'_, impl Read>) -> Result<()> {
        self.bytes = self.bytes.saturating_add(entry.size);
        if self.bytes > self.options.limits.unpacked_bytes {
            return Err(Error::Limit(format!("more than {} bytes unpacked", self.options.limits.unpacked_bytes)));
        }
        self.clear(&entry.path)?;
        self.root.write_stream(&entry.path, &mut entries.content(), attributes)?;
        Ok(())
    }

    fn hard_link(&mut self, entry: &Entry) -> Result<()> {
        let path = entry.path.as_os_str().as_bytes();
        let target = relative(&entry.link).filter(|target| !target.as_os_str().is_empty());
        let Some(target) = target else {
            return Err(Error::archive(path, "its hard link leaves the layer"));
        };
        if target == entry.path {
            return Ok(());
        }
        match self.root.metadata(&target, Follow::No)? {
            Some(there) if there.kind != Kind::Directory => {}
            _ => return Err(Error::archive(path, "its hard link names nothing that the archive holds")),
        }
        self.clear(&entry.path)?;
        self.root.hard_link(&target, &entry.path)
    }

    fn special(&mut self, entry: &Entry, attributes: &Attributes) -> Result<()> {
        let path = entry.path.as_os_str().as_bytes();
        let kind = match entry.kind {
            EntryKind::CharDevice => Kind::CharDevice,
            EntryKind::BlockDevice => Kind::BlockDevice,
            _ => Kind::Fifo,
        };
        if self.options.whiteouts == Whiteouts::Literal && kind != Kind::Fifo {
            return Err(Error::archive(path, "ADD does not make devices"));
        }
        if kind == Kind::CharDevice && entry.device == (0, 0) {
            return Err(Error::archive(path, "a device 0:0 is overlay's own mark and no entry"));
        }
        self.clear(&entry.path)?;
        self.root.special(&entry.path, kind, rustix::fs::makedev(entry.device.0, entry.device.1), attributes)
    }

    /// The last entry of a name rules: what an earlier one made is removed, whatever it was.
    fn clear(&mut self, path: &Path) -> Result<()> {
        match self.root.metadata(path, Follow::No)? {
            Some(there) if there.kind == Kind::Directory && self.options.whiteouts == Whiteouts::Literal => {
                Err(Error::archive(path.as_os_str().as_bytes(), "a directory of the image is in its place"))
            }
            Some(_) => {
                self.directories.retain(|directory, _| !directory.starts_with(path));
                self.root.remove_all(path)
            }
            None => Ok(()),
        }
    }

    fn whiteout(&mut self, path: &Path, hidden: &[u8]) -> Result<()> {
        let parent = path.parent().unwrap_or(Path::new(""));
        match hidden {
            b"" | b"." | b".." => Err(Error::archive(path.as_os_str().as_bytes(), "a whiteout must name an entry")),
            b".wh..opq" => {
                self.root.make_dirs(parent, 0o755, Owner::default())?;
                self.root.set_xattr(parent, OPAQUE, b"y")
            }
            // Bookkeeping of AUFS, which some old layers still carry.
            other if other.starts_with(b".wh.") => Ok(()),
            name => {
                let target = parent.join(OsStr::from_bytes(name));
                self.root.make_dirs(parent, 0o755, Owner::default())?;
                match self.root.metadata(&target, Follow::No)? {
                    // A whiteout hides lower layers, not what this one brings, in whatever order they come.
                    Some(there) if there.kind == Kind::Directory => self.root.set_xattr(&target, OPAQUE, b"y"),
                    Some(_) => Ok(()),
                    None => self.root.special(
                        &target,
                        Kind::CharDevice,
                        0,
                        &Attributes { mode: 0, owner: Owner::default(), mtime_ns: 0, xattrs: Vec::new() },
                    ),
                }
            }
        }
    }

    fn finish(self) -> Result<()> {
        for (path, mtime_ns) in self.directories.iter().rev() {
            self.root.set_times(path, *mtime_ns)?;
        }
        Ok(())
    }
}
