//! The tree of a container, running or not: read as a whole, compared with its image, made a layer of.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, XattrFlags};

use super::compare::{Entry, is_unchanged};
use super::diff::{give, give_name, move_changes};
use super::merged::{MergedTree, OPAQUE_MARKS, hides, is_opaque, open_below};
use super::{as_it_began, canonical, copy};
use crate::containers::tree_of;
use crate::error::{Error, Result};
use crate::layer::{Committed, DraftDir, Layer};
use crate::lease::Lease;
use crate::store::Store;
use crate::tree::{Kind, Metadata, copy_file, metadata, read_directory, xattrs};
use crate::usage::content_bytes;

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY);

/// How an entry of a container differs from its image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TreeChange {
    /// The image has nothing there.
    Added,
    /// The image has something else there.
    Changed,
    /// Only the image has it.
    Deleted,
}

/// Directories of a container that has run, where overlay puts them over its image's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerDirectories {
    /// What it wrote.
    pub upper: PathBuf,
    /// Overlay's own.
    pub work: PathBuf,
}

/// The directories of a container's tree.
struct Parts {
    /// What it wrote, or, where overlay cannot be had, all of it.
    own: PathBuf,
    is_overlay: bool,
    lowers: Vec<PathBuf>,
}

impl Store {
    fn parts(&self, lease: &Lease, layers: &[Layer], id: &str) -> Result<Parts> {
        let tree = tree_of(&self.container_dir(id));
        let is_overlay = tree.join("work").exists();
        let stacked = if is_overlay { self.stackable(lease, layers)? } else { layers.to_vec() };
        // They are made when the first container runs.
        let mount_points = Some(self.mount_points_dir()).filter(|path| path.exists());
        let around = super::Around { cover: None, mount_points };
        Ok(Parts { own: tree.join("fs"), is_overlay, lowers: around.lowers(&stacked) })
    }

    /// The directories of a container. None before it ran, and where its tree is a copy.
    #[must_use]
    pub fn container_directories(&self, id: &str) -> Option<ContainerDirectories> {
        let tree = tree_of(&self.container_dir(id));
        let (upper, work) = (tree.join("fs"), tree.join("work"));
        (upper.exists() && work.exists()).then_some(ContainerDirectories { upper, work })
    }

    /// Bytes in the files that a container wrote, each file once. None where its tree is a copy: of that only a comparison
    /// tells, see [`Store::copied_container_bytes`].
    ///
    /// # Errors
    /// When that cannot be looked at.
    pub fn container_bytes(&self, id: &str) -> Result<Option<u64>> {
        match self.container_directories(id) {
            Some(ContainerDirectories { upper, .. }) => content_bytes(&upper).map(Some),
            None => Ok((!tree_of(&self.container_dir(id)).join("fs").exists()).then_some(0)),
        }
    }

    /// The same of a tree that is a copy of its image's.
    ///
    /// # Errors
    /// When that cannot be read.
    pub fn copied_container_bytes(&self, lease: &Lease, layers: &[Layer], id: &str) -> Result<u64> {
        let changes = self.container_changes(lease, layers, id)?;
        let own = tree_of(&self.container_dir(id)).join("fs");
        let own = MergedTree::of_directories(vec![own]);
        let (mut bytes, mut seen) = (0, HashSet::new());
        for (_, path) in changes.iter().filter(|(change, _)| *change != TreeChange::Deleted) {
            if let Some(node) = own.node(path)?
                && node.metadata.kind != Kind::Directory
                && seen.insert((node.metadata.dev, node.metadata.ino))
            {
                bytes += node.metadata.size;
            }
        }
        Ok(bytes)
    }

    /// What a container has, read without a mount. One that never ran has what its image has.
    ///
    /// # Errors
    /// When a layer is missing.
    pub fn container_tree(&self, lease: &Lease, layers: &[Layer], id: &str) -> Result<MergedTree> {
        let Parts { own, is_overlay, lowers } = self.parts(lease, layers, id)?;
        let mut directories = Vec::new();
        let has_own = own.exists();
        directories.extend(has_own.then_some(own));
        if is_overlay || !has_own {
            directories.extend(lowers);
        }
        Ok(MergedTree::of_directories(directories))
    }

    /// What differs from the image, in the order of paths.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn container_changes(&self, lease: &Lease, layers: &[Layer], id: &str) -> Result<Vec<(TreeChange, PathBuf)>> {
        let Parts { own, is_overlay, lowers } = self.parts(lease, layers, id)?;
        if !own.exists() {
            return Ok(Vec::new());
        }
        let comparison = Comparison { root: open(&own)?, lowers: MergedTree::of_directories(lowers), is_overlay };
        let mut changes = Vec::new();
        comparison.directory(Path::new(""), false, &mut changes)?;
        Ok(changes)
    }

    /// A layer of what differs from the image. The container goes on with its own.
    ///
    /// # Errors
    /// When it cannot be read, or the layer not be written.
    pub fn container_layer(&self, lease: &Lease, layers: &[Layer], id: &str) -> Result<Committed> {
        let Parts { own, is_overlay, lowers } = self.parts(lease, layers, id)?;
        let lowers = MergedTree::of_directories(lowers);
        let draft = DraftDir::make(&lease.draft())?;
        let target = draft.path.join("fs");
        if !own.exists() {
            return self.commit_tree(lease, draft);
        }
        if is_overlay {
            let mut copier = UpperCopy { from: open(&own)?, to: open(&target)?, names: HashMap::new() };
            copier.directory(Path::new(""))?;
            canonical::canonicalize(&target, &lowers)?;
            return self.commit_tree(lease, draft);
        }
        let whole = DraftDir::make(&lease.draft())?;
        let aside = whole.path.join("fs");
        copy::copy_tree(&MergedTree::of_directories(vec![own]), &aside)?;
        move_changes(&aside, &as_it_began(lease, &lowers)?, &lowers, &target)?;
        self.commit_tree(lease, draft)
    }
}

fn open(path: &Path) -> Result<OwnedFd> {
    rustix::fs::open(path, DIRECTORY | OFlags::CLOEXEC, Mode::empty()).map_err(Error::errno("open", path))
}

fn list(root: &OwnedFd, path: &Path) -> Result<Vec<(std::ffi::OsString, Metadata)>> {
    let fd = open_below(root, path, DIRECTORY).map_err(Error::errno("open", path))?;
    read_directory(fd).map_err(Error::errno("read", path))
}

struct Comparison {
    root: OwnedFd,
    lowers: MergedTree,
    is_overlay: bool,
}

impl Comparison {
    /// `replaced`: nothing of the image shows here.
    fn directory(&self, path: &Path, replaced: bool, changes: &mut Vec<(TreeChange, PathBuf)>) -> Result<()> {
        let fd = open_below(&self.root, path, DIRECTORY).map_err(Error::errno("open", path))?;
        let opaque = self.is_overlay && is_opaque(&fd);
        let entries = list(&self.root, path)?;
        let mut found = Vec::new();
        for (name, metadata) in &entries {
            self.entry(&path.join(name), metadata, replaced, &mut found)?;
        }
        let below = if replaced { None } else { self.lowers.node(path)? };
        if (opaque || !self.is_overlay) && below.is_some_and(|node| node.metadata.kind == Kind::Directory) {
            use super::TreeView;
            for (name, _) in self.lowers.read_dir(path)? {
                if !entries.iter().any(|(own, _)| *own == name) {
                    found.push((TreeChange::Deleted, path.join(name)));
                }
            }
            found.sort_by(|(_, a), (_, b)| a.cmp(b));
        }
        changes.extend(found);
        Ok(())
    }

    fn entry(
        &self,
        path: &Path,
        metadata: &Metadata,
        replaced: bool,
        changes: &mut Vec<(TreeChange, PathBuf)>,
    ) -> Result<()> {
        let below = if replaced { None } else { self.lowers.node(path)? };
        if hides(metadata) {
            if below.is_some() && metadata.kind == Kind::CharDevice {
                changes.push((TreeChange::Deleted, path.to_owned()));
            }
            return Ok(());
        }
        let same_kind = below.as_ref().is_some_and(|node| node.metadata.kind == metadata.kind);
        let mut inside = Vec::new();
        if metadata.kind == Kind::Directory {
            self.directory(path, replaced || !same_kind, &mut inside)?;
        }
        match below {
            None => changes.push((TreeChange::Added, path.to_owned())),
            Some(node) => {
                let entry = Entry { root: &self.root, path, metadata };
                if !inside.is_empty() || !same_kind || !is_unchanged(&entry, &self.lowers, &node)? {
                    changes.push((TreeChange::Changed, path.to_owned()));
                }
            }
        }
        changes.extend(inside);
        Ok(())
    }
}

/// Copies the upper directory of an overlay, marks and all.
struct UpperCopy {
    from: OwnedFd,
    to: OwnedFd,
    /// The first name of each file that has several.
    names: HashMap<(u64, u64), PathBuf>,
}

impl UpperCopy {
    fn directory(&mut self, path: &Path) -> Result<()> {
        for (name, metadata) in list(&self.from, path)? {
            self.entry(&path.join(name), &metadata)?;
        }
        let source = open_below(&self.from, path, DIRECTORY).map_err(Error::errno("open", path))?;
        let target = open_below(&self.to, path, DIRECTORY).map_err(Error::errno("open", path))?;
        let found = metadata(&rustix::fs::fstat(&source).map_err(Error::errno("read", path))?);
        if is_opaque(&source) {
            let marked = OPAQUE_MARKS
                .iter()
                .any(|mark| rustix::fs::fsetxattr(&target, *mark, b"y", XattrFlags::empty()).is_ok());
            if !marked {
                return Err(Error::errno("mark", path)(rustix::io::Errno::OPNOTSUPP));
            }
        }
        let attributes = xattrs(&source).map_err(Error::errno("read the attributes of", path))?;
        give(&target, &found, &attributes).map_err(Error::errno("set the attributes of", path))
    }

    fn entry(&mut self, path: &Path, found: &Metadata) -> Result<()> {
        let name = path.file_name().unwrap_or(OsStr::new(""));
        let parent = path.parent().unwrap_or(Path::new(""));
        let from = open_below(&self.from, parent, DIRECTORY).map_err(Error::errno("open", parent))?;
        let to = open_below(&self.to, parent, DIRECTORY).map_err(Error::errno("open", parent))?;
        let failed = |errno| Error::errno("copy", path)(errno);
        let kind = match found.kind {
            Kind::Directory => {
                rustix::fs::mkdirat(&to, name, Mode::RWXU).map_err(failed)?;
                return self.directory(path);
            }
            Kind::File => return self.file(path, &from, &to, found),
            Kind::Symlink => {
                let link = rustix::fs::readlinkat(&from, name, Vec::new()).map_err(failed)?;
                rustix::fs::symlinkat(&link, &to, name).map_err(failed)?;
                return give_name(&to, name, found).map_err(failed);
            }
            Kind::Socket => return Ok(()),
            Kind::CharDevice => FileType::CharacterDevice,
            Kind::BlockDevice => FileType::BlockDevice,
            Kind::Fifo => FileType::Fifo,
        };
        rustix::fs::mknodat(&to, name, kind, Mode::RUSR | Mode::WUSR, found.rdev).map_err(failed)?;
        // A whiteout has no metadata of its own.
        if hides(found) { Ok(()) } else { give_name(&to, name, found).map_err(failed) }
    }

    fn file(&mut self, path: &Path, from: &OwnedFd, to: &OwnedFd, found: &Metadata) -> Result<()> {
        let name = path.file_name().unwrap_or(OsStr::new(""));
        let failed = |errno| Error::errno("copy", path)(errno);
        if found.nlink > 1 {
            if let Some(first) = self.names.get(&(found.dev, found.ino)) {
                return rustix::fs::linkat(&self.to, first, to, name, AtFlags::empty()).map_err(failed);
            }
            self.names.insert((found.dev, found.ino), path.to_owned());
        }
        let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NOCTTY;
        let source = rustix::fs::openat(from, name, flags | OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty());
        let source = source.map_err(failed)?;
        let flags = flags | OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        let target = rustix::fs::openat(to, name, flags, Mode::RUSR | Mode::WUSR).map_err(failed)?;
        let attributes = xattrs(&source).map_err(failed)?;
        let (mut source, mut target) = (File::from(source), File::from(target));
        copy_file(&mut source, &mut target).map_err(Error::path("copy", path))?;
        give(&target.into(), found, &attributes).map_err(failed)
    }
}
