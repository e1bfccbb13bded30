//! Layers: immutable trees under the digest of their canonical tar.

pub(crate) mod archive;
mod clamp;
pub(crate) mod compress;
pub(crate) mod delta;
mod directories;
pub(crate) mod draft;
mod encode;
pub(crate) mod export;
mod fill;
mod flush;
pub mod fuzzing;
pub(crate) mod header;
pub(crate) mod import;
pub(crate) mod limits;
pub(crate) mod members;
mod pax;
pub(crate) mod read;
pub(crate) mod settle;
pub(crate) mod share;
mod sparse;
pub(crate) mod split;
mod stream;
mod tree_hash;
pub(crate) mod write;

#[cfg(test)]
mod tests;

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};

use self::delta::Base;
use crate::digest::{DiffId, TreeHash};
use crate::error::{Error, Result};
use crate::failpoint::failpoint;
use crate::lease::Lease;
use crate::store::{Store, sync_directory, write_atomically};

/// The split of a layer, in its directory.
const SPLIT: &str = "original.split";
/// What later entries of its archive displaced, in a layer's directory.
const DISPLACED: &str = "displaced";

/// A layer in the store. Immutable once named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// SHA-256 of its tar.
    pub diff_id: DiffId,
    /// BLAKE3 of its tree without times.
    pub tree: TreeHash,
    /// Bytes of file content.
    pub size: u64,
    /// Unix seconds when it was made.
    pub created: u64,
    path: PathBuf,
    /// Where the rest of it is, when `path` has only what differs.
    base: Option<Base>,
    /// What `path` leads by, as long as it has no name in the store.
    held: Option<Held>,
}

/// A directory by its descriptor: it is the same one, whatever name it gets.
#[derive(Debug, Clone)]
struct Held(Arc<OwnedFd>);

impl PartialEq for Held {
    fn eq(&self, other: &Held) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Held {}

impl Layer {
    /// Where the store has it, or will have it.
    pub(crate) fn at(store: &Store, diff_id: DiffId, tree: TreeHash, size: u64, created: u64) -> Layer {
        let path = store.layer_dir(&diff_id).join("fs");
        Layer { diff_id, tree, size, created, path, base: None, held: None }
    }

    /// Its own directory: its tree in overlay form, or what of it differs from its base.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The directories that show its tree as lower ones of an overlay, top first.
    pub fn trees(&self) -> impl Iterator<Item = &Path> {
        std::iter::once(self.path()).chain(self.base_path())
    }

    fn base_path(&self) -> Option<&Path> {
        self.base.as_ref().map(|base| base.path.as_path())
    }

    /// What has to stay for it to stay.
    fn ids(&self) -> impl Iterator<Item = &DiffId> {
        std::iter::once(&self.diff_id).chain(self.base.as_ref().map(|base| &base.id))
    }
}

/// A layer that was committed.
#[derive(Debug, Clone)]
pub struct Committed {
    /// The layer.
    pub layer: Layer,
    /// The store had a layer with this tree: that one was given back.
    pub existed: bool,
}

/// A layer that is what it was.
pub(crate) struct LayerCheck {
    /// Bytes of file content that were read.
    pub(crate) size: u64,
}

/// `layer.json`.
#[derive(Debug, Serialize, Deserialize)]
struct LayerFile {
    diff_id: DiffId,
    tree: TreeHash,
    size: u64,
    created: u64,
    /// `original.split` gives the bytes that came: packing the tree gives others.
    split: bool,
    /// The layer without which its tree is not whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    over: Option<DiffId>,
}

impl Store {
    fn layer_dir(&self, id: &DiffId) -> PathBuf {
        self.path("layers").join(id.hex())
    }

    fn tree_path(&self, tree: &TreeHash) -> PathBuf {
        self.path("trees").join(tree.to_string())
    }

    /// Looks a layer up and pins it, in one locked step.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn layer(&self, lease: &Lease, id: &DiffId) -> Result<Option<Layer>> {
        failpoint("layer.look")?;
        let _lock = self.shared()?;
        let layer = if lease.has(id) { self.read_layer(id)? } else { self.sound_layer(id)? };
        layer.iter().flat_map(Layer::ids).try_for_each(|id| lease.pin(id))?;
        Ok(layer)
    }

    /// The layer that has this tree, pinned.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn layer_by_tree(&self, lease: &Lease, tree: &TreeHash) -> Result<Option<Layer>> {
        let path = self.tree_path(tree);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::path("read", path)(error)),
        };
        match text.trim().parse() {
            Ok(id) => Ok(self.layer(lease, &id)?.filter(|layer| layer.tree == *tree)),
            // A damaged pointer costs a layer that could have been shared, nothing more.
            Err(_) => Ok(None),
        }
    }

    pub(crate) fn read_layer(&self, id: &DiffId) -> Result<Option<Layer>> {
        let directory = self.layer_dir(id);
        let path = directory.join("layer.json");
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::path("read", path)(error)),
        };
        let file: LayerFile =
            serde_json::from_slice(&bytes).map_err(|error| Error::document(path.display().to_string(), error))?;
        let Ok(base) = self.base_of(&file) else { return Ok(None) };
        Ok(Some(Layer {
            diff_id: file.diff_id,
            tree: file.tree,
            size: file.size,
            created: file.created,
            path: directory.join("fs"),
            base,
            held: None,
        }))
    }

    /// Takes a finished draft (`fs/`, perhaps a split) as a layer. `flushed` says that its tree and split are on the disk.
    fn adopt(&self, lease: &Lease, draft: DraftDir, file: &LayerFile, flushed: bool) -> Result<Layer> {
        draft.describe(file)?;
        if flushed {
            for name in ["layer.json", "guard.json"] {
                failpoint("layer.seal")?;
                let path = draft.path.join(name);
                File::open(&path).and_then(|file| file.sync_all()).map_err(Error::path("flush", path))?;
            }
            sync_directory(&draft.path)?;
        } else {
            draft.flush()?;
        }
        let _lock = self.shared()?;
        self.name(draft, file)?;
        self.flush_names()?;
        self.named(lease, file)
    }

    fn flush_names(&self) -> Result<()> {
        failpoint("layer.dirsync")?;
        sync_directory(&self.path("layers"))
    }

    /// Gives a flushed draft its name. The caller holds the store's lock, and flushes `layers` afterwards.
    fn name(&self, draft: DraftDir, file: &LayerFile) -> Result<()> {
        let target = self.layer_dir(&file.diff_id);
        if let Some(base) = file.over.as_ref().filter(|_| !target.exists()) {
            self.note_base(&file.diff_id, base)?;
        }
        failpoint("layer.rename")?;
        match std::fs::rename(&draft.path, &target) {
            Ok(()) => draft.release(),
            // Another process was faster with the same layer: that one is as good.
            Err(error) if matches!(error.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists) => {}
            Err(error) => return Err(Error::path("write", &target)(error)),
        }
        Ok(())
    }

    /// The layer that has its name now, pinned and found by its tree. The caller holds the lock still.
    fn named(&self, lease: &Lease, file: &LayerFile) -> Result<Layer> {
        let gone = || Error::LayerNotFound(file.diff_id.clone());
        let layer = self.read_layer(&file.diff_id)?.ok_or_else(gone)?;
        if let Some(base) = &layer.base {
            // Of two that were at it at once the last one's word stands.
            self.note_base(&file.diff_id, &base.id)?;
        }
        layer.ids().try_for_each(|id| lease.pin(id))?;
        let pointer = self.tree_path(&file.tree);
        if !pointer.exists() {
            failpoint("layer.pointer")?;
            write_atomically(&pointer, &self.loose_draft()?, file.diff_id.to_string().as_bytes())?;
        }
        Ok(layer)
    }
}

/// A directory among the drafts that is removed unless it became something.
#[derive(Debug)]
pub(crate) struct DraftDir {
    pub(crate) path: PathBuf,
    /// Open from the beginning: the kernel tells a descriptor of every write that failed since, whoever asked before.
    pub(crate) directory: Arc<OwnedFd>,
    /// When that was.
    opened: Instant,
    owned: Owned,
}

/// What goes with a draft that came to nothing.
#[derive(Debug)]
enum Owned {
    Nothing,
    /// Its root, made in a directory that was there before.
    Root,
    All,
}

impl DraftDir {
    /// Makes it with an empty `fs/`.
    pub(crate) fn make(path: &Path) -> Result<DraftDir> {
        failpoint("layer.draft")?;
        std::fs::create_dir(path).map_err(Error::path("make", path))?;
        let draft = DraftDir::open_as(path, Owned::All)?;
        draft.make_root()?;
        Ok(draft)
    }

    pub(crate) fn make_root(&self) -> Result<()> {
        use std::os::unix::fs::DirBuilderExt;
        let fs = self.path.join("fs");
        std::fs::DirBuilder::new().mode(0o755).create(&fs).map_err(Error::path("make", &fs))?;
        // Whatever the caller's umask: this becomes the root directory of containers.
        rustix::fs::chmod(&fs, Mode::from_raw_mode(0o755)).map_err(Error::errno("make", &fs))
    }

    /// One that is there already, and stays.
    pub(crate) fn open(path: &Path) -> Result<DraftDir> {
        DraftDir::open_as(path, Owned::Nothing)
    }

    /// One in a directory that is there already, and stays; its `fs/` is still to be made.
    pub(crate) fn within(path: &Path) -> Result<DraftDir> {
        DraftDir::open_as(path, Owned::Root)
    }

    fn open_as(path: &Path, owned: Owned) -> Result<DraftDir> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(path, flags, Mode::empty()).map_err(Error::errno("open", path))?;
        Ok(DraftDir { path: path.to_owned(), directory: Arc::new(directory), opened: Instant::now(), owned })
    }

    /// Writes its record and its guard; its tree changes no more.
    fn describe(&self, file: &LayerFile) -> Result<()> {
        let bytes = serde_json::to_vec(file).map_err(|error| Error::document("the layer's record", error))?;
        failpoint("layer.record")?;
        write_atomically(&self.path.join("layer.json"), &self.path.join(".layer.json"), &bytes)?;
        crate::guard::write(&self.path)
    }

    /// One flush for all files of the tree: far cheaper than one for each. What failed here is not tried again: the
    /// kernel may have dropped what it could not write.
    fn flush(&self) -> Result<()> {
        failpoint("layer.flush")?;
        rustix::fs::syncfs(&self.directory).map_err(Error::errno("flush", &self.path))
    }

    pub(crate) fn release(self) {
        drop(self.staying());
    }

    fn staying(mut self) -> DraftDir {
        self.owned = Owned::Nothing;
        self
    }
}

impl Drop for DraftDir {
    fn drop(&mut self) {
        // What stays is swept with the lease, or goes with its container.
        match self.owned {
            Owned::Nothing => {}
            Owned::Root => drop(std::fs::remove_dir_all(self.path.join("fs"))),
            Owned::All => drop(std::fs::remove_dir_all(&self.path)),
        }
    }
}
