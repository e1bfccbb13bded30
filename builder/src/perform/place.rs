//! Placing selected files in a tree: parents made, modes and owners set, nothing followed out of either root.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::io::Seek;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use cache::{Attributes, Follow, Kind, Metadata, Owner, TreeRoot, TreeView, Wanted};
use grammar::Chmod;
use rayon::prelude::*;

use super::delta::Before;
use crate::error::{Error, Result};
use crate::select::{Entry, Selected};
use crate::sources::{Fetched, HttpSource};

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

    pub(super) fn attributes(&self, source: &dyn TreeView, from: &Path, metadata: &Metadata) -> Result<Attributes> {
        let kept = self.keep_owner && metadata.kind != Kind::Symlink;
        Ok(Attributes {
            mode: self.mode(metadata),
            owner: self.owner(metadata),
            mtime_ns: metadata.mtime_ns,
            xattrs: if kept { source.xattrs(from)? } else { Vec::new() },
        })
    }

    /// Of directories that have to be made on the way.
    fn parent(&self) -> (u32, Owner) {
        let mode = self.chmod.as_ref().map_or(0o755, |chmod| chmod.apply(0o755, true));
        (mode, self.owner.unwrap_or(Owner { uid: 0, gid: 0 }))
    }
}

/// Files of one directory that one thread copies.
const CHUNK: usize = 256;

/// Files that are there under several names. One that has its other names elsewhere, in a layer that shares it perhaps, is
/// as good as any other.
fn linked(entries: &[Entry]) -> HashSet<(u64, u64)> {
    let mut once = HashSet::new();
    let files = entries.iter().map(|entry| &entry.metadata).filter(|file| file.kind == Kind::File && file.nlink > 1);
    files.map(inode).filter(|inode| !once.insert(*inode)).collect()
}

fn inode(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev, metadata.ino)
}

/// Copies from one tree into another.
#[derive(Clone, Copy)]
pub(super) struct Placer<'a> {
    pub(super) source: &'a dyn TreeView,
    pub(super) target: &'a TreeRoot,
    pub(super) rules: &'a Rules,
    /// Directories of the target that were there, with their times.
    pub(super) touched: &'a Mutex<BTreeMap<PathBuf, i64>>,
    /// What the same copy gave before.
    pub(super) before: Option<Before<'a>>,
}

impl Placer<'_> {
    /// Makes a directory and what is missing above it. The one that is there already, into which something comes now, gets
    /// its time back at the end.
    pub(super) fn make_dirs(&self, path: &Path) -> Result<()> {
        for ancestor in path.ancestors().take_while(|ancestor| !ancestor.as_os_str().is_empty()) {
            if let Some(there) = self.target.metadata(ancestor, Follow::Yes)? {
                let mut touched = self.touched.lock().unwrap_or_else(PoisonError::into_inner);
                touched.entry(ancestor.to_owned()).or_insert(there.mtime_ns);
                break;
            }
        }
        let (mode, owner) = self.rules.parent();
        Ok(self.target.make_dirs(path, mode, owner)?)
    }

    /// Makes the directory that sources are put into. One that is new has the time of the first whose content comes into it,
    /// as it has where that is all that comes.
    pub(super) fn make_destination(&self, path: &Path, first: Option<&Selected>) -> Result<()> {
        let made = self.target.metadata(path, Follow::Yes)?.is_none();
        self.make_dirs(path)?;
        if let Some(first) = first.filter(|_| made) {
            let mut touched = self.touched.lock().unwrap_or_else(PoisonError::into_inner);
            touched.insert(path.to_owned(), first.metadata.mtime_ns);
        }
        Ok(())
    }

    /// Gives directories of the tree the times that they had before something was put into them.
    pub(super) fn restore_times(&self) -> Result<()> {
        let touched = std::mem::take(&mut *self.touched.lock().unwrap_or_else(PoisonError::into_inner));
        touched.iter().try_for_each(|(path, mtime_ns)| Ok(self.target.set_times(path, *mtime_ns)?))
    }

    /// The content of a directory into `target`. An existing target keeps its mode and owner; a new one is made as its
    /// parents are, whatever the source's look like: so do BuildKit and buildah. Its time is the source's, for the same copy
    /// has to give the same layer at any time.
    pub(super) fn directory(&self, one: &Selected, target: &Path) -> Result<()> {
        let made = self.target.metadata(target, Follow::Yes)?.is_none();
        self.make_dirs(target)?;
        let links = RefCell::new(HashMap::new());
        let linked = linked(&one.entries);
        let changed = if linked.is_empty() { self.changed(one, target)? } else { None };
        let entries = || {
            let is_wanted = |entry: &&Entry| changed.as_ref().is_none_or(|paths| paths.contains(entry.path.as_path()));
            one.entries.iter().filter(is_wanted)
        };
        // What differs is written, and what does not stays where it is.
        let writer = Placer { before: self.before.filter(|_| changed.is_none()), ..*self };
        let is_plain = |entry: &&Entry| entry.metadata.kind == Kind::File && !linked.contains(&inode(&entry.metadata));
        for entry in entries().filter(|entry| !is_plain(entry)) {
            self.entry(&one.path, entry, target, &links)?;
        }
        // All directories are there: the order of files does not matter.
        let plain: Vec<&Entry> = entries().filter(is_plain).collect();
        let of_one_directory = |one: &&Entry, other: &&Entry| one.path.parent() == other.path.parent();
        plain
            .par_chunk_by(of_one_directory)
            .flat_map(|entries| entries.par_chunks(CHUNK))
            .try_for_each(|entries| writer.files(&one.path, entries, target))?;
        // Times of directories last: writing into them changes them.
        for entry in entries().rev().filter(|entry| entry.metadata.kind == Kind::Directory) {
            self.target.set_times(&target.join(&entry.path), entry.metadata.mtime_ns)?;
        }
        if made {
            self.target.set_times(target, one.metadata.mtime_ns)?;
        }
        Ok(())
    }

    /// Plain files of one directory, which is looked up once on either side.
    fn files(&self, base: &Path, entries: &[&Entry], target: &Path) -> Result<()> {
        let below = entries.first().and_then(|entry| entry.path.parent()).unwrap_or(Path::new(""));
        let from = base.join(below);
        let to = self.target.subtree(&target.join(below))?;
        let single = self.source.single(&from)?;
        let earlier = self.before.and_then(|before| before.earlier.directory(&target.join(below)));
        for entry in entries {
            let name = Path::new(entry.path.file_name().unwrap_or_default());
            let path = from.join(name);
            let (view, at): (&dyn TreeView, &Path) = match &single {
                Some(directory) => (directory, name),
                None => (self.source, &path),
            };
            let attributes = self.rules.attributes(view, at, &entry.metadata)?;
            let size = entry.metadata.size;
            if let (Some(earlier), Some(content)) = (&earlier, entry.content)
                && earlier.give(name, &Wanted { attributes: &attributes, size, content }, &to)
            {
                continue;
            }
            let written = to.write_file(name, &mut view.open_file(at)?, &attributes)?;
            if written != size {
                return Err(Error::ContextChanged { path });
            }
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

    /// One file (a source itself) below `target`, or as `target`; its parents are made.
    pub(super) fn file(&self, one: &Selected, target: &Path, into: bool) -> Result<()> {
        if one.metadata.kind == Kind::File
            && self.rules.unpack
            && self.unpack(self.source.open_file(&one.path)?, target)?
        {
            return Ok(());
        }
        let to = if into { target.join(one.name()) } else { target.to_owned() };
        self.make_dirs(to.parent().unwrap_or(Path::new("")))?;
        if one.metadata.kind != Kind::File {
            return self.special(&one.path, &one.metadata, &to);
        }
        self.write(&one.path, &one.metadata, &to)
    }

    /// What a URL gave: 0600, of the server's time.
    pub(super) fn fetched(&self, source: &HttpSource, fetched: &Fetched, target: &Path, into: bool) -> Result<()> {
        let open = || fetched.file.try_clone().map_err(|error| Error::unreadable(Path::new(&source.name), error));
        if source.unpack && self.unpack(open()?, target)? {
            return Ok(());
        }
        let to = if into { target.join(&source.name) } else { target.to_owned() };
        self.make_dirs(to.parent().unwrap_or(Path::new("")))?;
        let mode = self.rules.chmod.as_ref().map_or(0o600, |chmod| chmod.apply(0o600, false));
        let attributes = Attributes {
            mode,
            owner: self.rules.owner.unwrap_or(Owner { uid: 0, gid: 0 }),
            mtime_ns: fetched.mtime_ns.unwrap_or(0),
            xattrs: Vec::new(),
        };
        let mut file = open()?;
        file.rewind().map_err(|error| Error::unreadable(Path::new(&source.name), error))?;
        self.target.write_file(&to, &mut file, &attributes)?;
        Ok(())
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
    fn unpack(&self, file: File, directory: &Path) -> Result<bool> {
        let Some(archive) = cache::open_archive(file)? else { return Ok(false) };
        self.make_dirs(directory)?;
        let root = self.target.subtree(directory)?;
        cache::extract_archive(archive, &root, self.rules.owner)?;
        Ok(true)
    }

    fn attributes(&self, from: &Path, metadata: &Metadata) -> Result<Attributes> {
        self.rules.attributes(self.source, from, metadata)
    }
}
