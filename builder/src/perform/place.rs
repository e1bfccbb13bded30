//! Placing selected files in a tree: parents made, modes and owners set, nothing followed out of either root.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

use cache::{Attributes, Follow, Kind, Metadata, Owner, TreeRoot, TreeView};
use grammar::Chmod;

use crate::error::{Error, Result};
use crate::select::{Entry, Selected};

/// How what is placed is owned and moded.
pub(super) struct Rules {
    /// `--chown`.
    pub(super) owner: Option<Owner>,
    /// `--chmod`.
    pub(super) chmod: Option<Chmod>,
    /// Files of a stage or image keep their owner; those of the context belong to root.
    pub(super) keep_owner: bool,
    /// ADD unpacks archives.
    pub(super) unpack: bool,
}

impl Rules {
    fn owner(&self, metadata: &Metadata) -> Owner {
        match self.owner {
            Some(owner) => owner,
            None if self.keep_owner => Owner { uid: metadata.uid, gid: metadata.gid },
            None => Owner { uid: 0, gid: 0 },
        }
    }

    fn mode(&self, metadata: &Metadata) -> u32 {
        match &self.chmod {
            Some(chmod) => chmod.apply(metadata.mode & 0o7777, metadata.kind == Kind::Directory),
            None => metadata.mode & 0o7777,
        }
    }

    /// Of directories that have to be made on the way.
    fn parent(&self) -> (u32, Owner) {
        let mode = self.chmod.as_ref().map_or(0o755, |chmod| chmod.apply(0o755, true));
        (mode, self.owner.unwrap_or(Owner { uid: 0, gid: 0 }))
    }
}

/// Copies from one tree into another.
pub(super) struct Placer<'a> {
    pub(super) source: &'a dyn TreeView,
    pub(super) target: &'a TreeRoot,
    pub(super) rules: &'a Rules,
}

impl Placer<'_> {
    pub(super) fn make_dirs(&self, path: &Path) -> Result<()> {
        let (mode, owner) = self.rules.parent();
        Ok(self.target.make_dirs(path, mode, owner)?)
    }

    /// The content of a directory into `target`. An existing target keeps its mode and owner; a new one takes the
    /// source's, unless it was written with a slash.
    pub(super) fn directory(&self, one: &Selected, target: &Path, written_as_directory: bool) -> Result<()> {
        let existed = self.target.metadata(target, Follow::Yes)?.is_some();
        self.make_dirs(target)?;
        let links = RefCell::new(HashMap::new());
        for entry in &one.entries {
            self.entry(&one.path, entry, target, &links)?;
        }
        // Times of directories last: writing into them changes them.
        for entry in one.entries.iter().rev().filter(|entry| entry.metadata.kind == Kind::Directory) {
            self.target.set_times(&target.join(&entry.path), entry.metadata.mtime_ns)?;
        }
        if !existed && !written_as_directory {
            self.target.set_attributes(target, &self.attributes(&one.path, &one.metadata)?)?;
        }
        Ok(())
    }

    fn entry(
        &self,
        base: &Path,
        entry: &Entry,
        target: &Path,
        links: &RefCell<HashMap<(u64, u64), PathBuf>>,
    ) -> Result<()> {
        let from = base.join(&entry.path);
        let to = target.join(&entry.path);
        let metadata = &entry.metadata;
        match metadata.kind {
            Kind::Directory => {
                let attributes = self.attributes(&from, metadata)?;
                Ok(self.target.make_dir(&to, &attributes)?)
            }
            Kind::Symlink => {
                let link = entry.link.clone().unwrap_or_default();
                Ok(self.target.symlink(&link, &to, &self.attributes(&from, metadata)?)?)
            }
            Kind::File if metadata.nlink > 1 => {
                let known = links.borrow().get(&(metadata.dev, metadata.ino)).cloned();
                if let Some(first) = known {
                    return Ok(self.target.hard_link(&first, &to)?);
                }
                links.borrow_mut().insert((metadata.dev, metadata.ino), to.clone());
                self.write(&from, metadata, &to)
            }
            Kind::File => self.write(&from, metadata, &to),
            Kind::Socket => Ok(()),
            Kind::Fifo | Kind::CharDevice | Kind::BlockDevice => self.special(&from, metadata, &to),
        }
    }

    fn special(&self, from: &Path, metadata: &Metadata, to: &Path) -> Result<()> {
        Ok(self.target.special(to, metadata.kind, metadata.rdev, &self.attributes(from, metadata)?)?)
    }

    /// One file (a source itself) at exactly `to`, its parents made.
    pub(super) fn file(&self, one: &Selected, to: &Path) -> Result<()> {
        if one.metadata.kind != Kind::File {
            self.make_dirs(to.parent().unwrap_or(Path::new("")))?;
            return self.special(&one.path, &one.metadata, to);
        }
        if self.rules.unpack && self.unpack(one, to)? {
            return Ok(());
        }
        self.make_dirs(to.parent().unwrap_or(Path::new("")))?;
        self.write(&one.path, &one.metadata, to)
    }

    fn write(&self, from: &Path, metadata: &Metadata, to: &Path) -> Result<()> {
        let mut file = self.source.open_file(from)?;
        let written = self.target.write_file(to, &mut file, &self.attributes(from, metadata)?)?;
        if written != metadata.size {
            return Err(Error::ContextChanged { path: from.to_owned() });
        }
        Ok(())
    }

    /// A heredoc as a file: 0644 unless `--chmod` says otherwise.
    pub(super) fn inline(&self, content: &str, to: &Path) -> Result<()> {
        self.make_dirs(to.parent().unwrap_or(Path::new("")))?;
        let mode = self.rules.chmod.as_ref().map_or(0o644, |chmod| chmod.apply(0o644, false));
        let attributes = Attributes {
            mode,
            owner: self.rules.owner.unwrap_or(Owner { uid: 0, gid: 0 }),
            mtime_ns: 0,
            xattrs: Vec::new(),
        };
        self.target.write_bytes(to, content.as_bytes(), &attributes)?;
        Ok(())
    }

    /// ADD of an archive, told by its content: unpacks it into the destination.
    fn unpack(&self, one: &Selected, to: &Path) -> Result<bool> {
        let file = self.source.open_file(&one.path)?;
        let Some(archive) = cache::open_archive(file)? else { return Ok(false) };
        // `to` ends with the archive's own name where the destination is a directory.
        let directory = match self.target.metadata(to, Follow::Yes)? {
            Some(metadata) if metadata.kind == Kind::Directory => to,
            _ if to.file_name() == one.path.file_name() => to.parent().unwrap_or(Path::new("")),
            _ => to,
        };
        self.make_dirs(directory)?;
        let root = self.target.subtree(directory)?;
        cache::extract_archive(archive, &root, self.rules.owner)?;
        Ok(true)
    }

    fn attributes(&self, from: &Path, metadata: &Metadata) -> Result<Attributes> {
        let xattrs = if self.rules.keep_owner && metadata.kind != Kind::Symlink {
            self.source.xattrs(from)?
        } else {
            Vec::new()
        };
        Ok(Attributes {
            mode: self.rules.mode(metadata),
            owner: self.rules.owner(metadata),
            mtime_ns: metadata.mtime_ns,
            xattrs,
        })
    }
}
