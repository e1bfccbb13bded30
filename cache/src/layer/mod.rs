//! Layers: immutable trees under the digest of their canonical tar.

pub(crate) mod archive;
pub(crate) mod compress;
pub(crate) mod header;
pub(crate) mod limits;
pub(crate) mod read;
pub(crate) mod write;

#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};
use sha2::Digest as _;

use self::compress::{Counting, decompress};
use self::limits::Limits;
use self::read::{ExtractOptions, Whiteouts, extract};
use self::write::pack;
use crate::digest::{DiffId, Digest, TreeHash};
use crate::error::{Error, Result};
use crate::lease::Lease;
use crate::store::{Store, now, sync_directory, write_atomically};
use crate::tree::TreeRoot;

/// How hard the original bytes of a foreign layer are packed: they are written once and seldom read.
const ORIGINAL_LEVEL: i32 = 1;

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
}

impl Layer {
    /// Its tree in overlay form: a lower directory.
    pub fn path(&self) -> &Path {
        &self.path
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
    /// `original.zst` holds the bytes that came: packing the tree again gives others.
    original: bool,
}

/// Feeds what is written to a hash, and on.
struct Hashing<W> {
    hasher: sha2::Sha256,
    inner: W,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.inner.write_all(bytes)?;
        self.hasher.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Passes bytes on to a reader and copies them to a writer.
struct Tee<R, W> {
    reader: R,
    writer: W,
}

impl<R: Read, W: Write> Read for Tee<R, W> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.reader.read(buffer)?;
        self.writer.write_all(buffer.get(..got).unwrap_or_default())?;
        Ok(got)
    }
}

/// Stops a stream that unpacks to far more than it is.
struct RatioGuard<R> {
    reader: R,
    packed: std::sync::Arc<std::sync::atomic::AtomicU64>,
    unpacked: u64,
    limits: Limits,
}

impl<R: Read> Read for RatioGuard<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.reader.read(buffer)?;
        self.unpacked += got as u64;
        let packed = self.packed.load(Ordering::Relaxed).max(1);
        let bomb = self.unpacked > 1 << 30 && self.unpacked / packed > self.limits.ratio;
        if bomb || self.unpacked > self.limits.unpacked_bytes {
            return Err(io::Error::other(format!(
                "it unpacks to more than is accepted ({} bytes so far)",
                self.unpacked
            )));
        }
        Ok(got)
    }
}

/// The diff id, tree hash and size of a tree.
pub(crate) fn measure(directory: &Path) -> Result<(DiffId, TreeHash, u64)> {
    let mut out = Hashing { hasher: sha2::Sha256::new(), inner: io::sink() };
    let packed = pack(directory, &mut out)?;
    Ok((DiffId(Digest::from_sha256(out.hasher.finalize().as_slice())), packed.tree, packed.size))
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
        let _lock = self.shared()?;
        let layer = if lease.has(id) { self.read_layer(id)? } else { self.sound_layer(id)? };
        if layer.is_some() {
            lease.pin(id)?;
        }
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

    /// Reads all of a layer again and says what is not as it was recorded.
    pub(crate) fn verify_layer(&self, name: &str) -> Result<std::result::Result<LayerCheck, String>> {
        let directory = self.path("layers").join(name);
        let file: LayerFile =
            match std::fs::read(directory.join("layer.json")).map(|bytes| serde_json::from_slice(&bytes)) {
                Ok(Ok(file)) => file,
                Ok(Err(error)) => return Ok(Err(format!("its record cannot be read: {error}"))),
                Err(error) => return Ok(Err(format!("its record cannot be read: {error}"))),
            };
        if file.diff_id.hex() != name {
            return Ok(Err(format!("its record is that of {}", file.diff_id)));
        }
        let (canonical, tree, size) = match measure(&directory.join("fs")) {
            Ok(measured) => measured,
            Err(error) => return Ok(Err(error.to_string())),
        };
        if tree != file.tree {
            return Ok(Err("its files are not those that it was made with".to_owned()));
        }
        if !file.original && canonical != file.diff_id {
            return Ok(Err("the times of its files are not those that it was made with".to_owned()));
        }
        if file.original {
            let layer = Layer { diff_id: file.diff_id, tree, size, created: file.created, path: directory.join("fs") };
            if let Err(error) = self.export_layer(&layer, &mut io::sink()) {
                return Ok(Err(format!("its original bytes: {error}")));
            }
        }
        Ok(Ok(LayerCheck { size }))
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
        Ok(Some(Layer {
            diff_id: file.diff_id,
            tree: file.tree,
            size: file.size,
            created: file.created,
            path: directory.join("fs"),
        }))
    }

    /// Unpacks a foreign layer, verifying it on the way.
    ///
    /// # Errors
    /// When the stream is malformed, too large, or not what was expected.
    pub fn import_layer(&self, lease: &Lease, tar: impl Read + Send, expected: Option<&DiffId>) -> Result<Layer> {
        let draft = lease.draft();
        let guard = DraftDir::make(&draft)?;
        let limits = Limits::default();
        let (counting, packed) = Counting::new(tar);
        let (_, plain) = decompress(counting)?;
        let plain = RatioGuard { reader: plain, packed, unpacked: 0, limits: limits.clone() };
        let original = draft.join("original.zst");
        let file = File::create(&original).map_err(Error::path("write", &original))?;
        let encoder =
            zstd::stream::write::Encoder::new(file, ORIGINAL_LEVEL).map_err(Error::path("write", &original))?;
        let mut tee = Tee { reader: plain, writer: Hashing { hasher: sha2::Sha256::new(), inner: encoder } };
        let root = TreeRoot::open(&draft.join("fs"))?;
        extract(&mut tee, &root, &ExtractOptions { whiteouts: Whiteouts::Overlay, owner: None, limits })?;
        // What follows the end of the archive is part of the digest.
        io::copy(&mut tee, &mut io::sink()).map_err(Error::path("read", "the archive"))?;
        let Hashing { hasher, inner } = tee.writer;
        inner.finish().map_err(Error::path("write", &original))?;
        let found = DiffId(Digest::from_sha256(hasher.finalize().as_slice()));
        if let Some(expected) = expected.filter(|expected| **expected != found) {
            return Err(Error::DigestMismatch { expected: expected.0.clone(), found: found.0 });
        }
        if let Some(layer) = self.layer(lease, &found)? {
            return Ok(layer);
        }
        let (canonical, tree, size) = measure(&draft.join("fs"))?;
        let keep_original = canonical != found;
        if !keep_original {
            std::fs::remove_file(&original).map_err(Error::path("remove", &original))?;
        }
        self.adopt(lease, guard, LayerFile { diff_id: found, tree, size, created: now(), original: keep_original })
    }

    /// Takes a finished draft (`fs/`, perhaps `original.zst`) as a layer.
    fn adopt(&self, lease: &Lease, draft: DraftDir, file: LayerFile) -> Result<Layer> {
        let bytes = serde_json::to_vec(&file).map_err(|error| Error::document("the layer's record", error))?;
        write_atomically(&draft.path.join("layer.json"), &draft.path.join(".layer.json"), &bytes)?;
        crate::guard::write(&draft.path)?;
        sync_file_system(&draft.path)?;
        let target = self.layer_dir(&file.diff_id);
        let _lock = self.shared()?;
        match std::fs::rename(&draft.path, &target) {
            Ok(()) => draft.release(),
            // Another process was faster with the same layer: that one is as good.
            Err(error) if matches!(error.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists) => {}
            Err(error) => return Err(Error::path("write", &target)(error)),
        }
        sync_directory(&self.path("layers"))?;
        lease.pin(&file.diff_id)?;
        let pointer = self.tree_path(&file.tree);
        if !pointer.exists() {
            write_atomically(&pointer, &self.loose_draft()?, file.diff_id.to_string().as_bytes())?;
        }
        self.read_layer(&file.diff_id)?.ok_or(Error::LayerNotFound(file.diff_id))
    }

    /// Takes a tree in overlay form as a layer; one with the same tree that is known already is given back instead.
    pub(crate) fn commit_tree(&self, lease: &Lease, draft: DraftDir) -> Result<Committed> {
        let (diff_id, tree, size) = measure(&draft.path.join("fs"))?;
        if let Some(layer) = self.layer_by_tree(lease, &tree)? {
            return Ok(Committed { layer, existed: true });
        }
        let layer = self.adopt(lease, draft, LayerFile { diff_id, tree, size, created: now(), original: false })?;
        Ok(Committed { layer, existed: false })
    }

    /// Writes the uncompressed tar whose SHA-256 is the diff id.
    ///
    /// # Errors
    /// When the layer is damaged or the output fails.
    pub fn export_layer(&self, layer: &Layer, out: &mut dyn Write) -> Result<()> {
        let mut out = Hashing { hasher: sha2::Sha256::new(), inner: out };
        let original = self.layer_dir(&layer.diff_id).join("original.zst");
        match File::open(&original) {
            Ok(file) => {
                let mut decoder = zstd::stream::read::Decoder::new(file).map_err(Error::path("read", &original))?;
                io::copy(&mut decoder, &mut out).map_err(Error::path("read", &original))?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                pack(layer.path(), &mut out)?;
            }
            Err(error) => return Err(Error::path("open", &original)(error)),
        }
        let found = Digest::from_sha256(out.hasher.finalize().as_slice());
        if found != layer.diff_id.0 {
            return Err(Error::DigestMismatch { expected: layer.diff_id.0.clone(), found });
        }
        Ok(())
    }
}

/// A directory among the drafts that is removed unless it became something.
#[derive(Debug)]
pub(crate) struct DraftDir {
    pub(crate) path: PathBuf,
    released: bool,
}

impl DraftDir {
    /// Makes it with an empty `fs/`.
    pub(crate) fn make(path: &Path) -> Result<DraftDir> {
        use std::os::unix::fs::DirBuilderExt;
        let draft = DraftDir { path: path.to_owned(), released: false };
        std::fs::create_dir(path).map_err(Error::path("make", path))?;
        let fs = path.join("fs");
        std::fs::DirBuilder::new().mode(0o755).create(&fs).map_err(Error::path("make", &fs))?;
        // Whatever the caller's umask: this becomes the root directory of containers.
        rustix::fs::chmod(&fs, Mode::from_raw_mode(0o755)).map_err(Error::errno("make", &fs))?;
        Ok(draft)
    }

    pub(crate) fn release(mut self) {
        self.released = true;
    }
}

impl Drop for DraftDir {
    fn drop(&mut self) {
        if !self.released {
            // What stays is swept with the lease.
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

/// One flush for all files of a tree: far cheaper than one for each.
fn sync_file_system(directory: &Path) -> Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = rustix::fs::open(directory, flags, Mode::empty()).map_err(Error::errno("open", directory))?;
    rustix::fs::syncfs(&fd).map_err(Error::errno("flush", directory))
}
