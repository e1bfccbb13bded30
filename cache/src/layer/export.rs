//! Giving layers back: trees become layers, layers become tars, and layers are checked against their names.

use std::fs::File;
use std::io::{self, BufReader, Seek, SeekFrom, Write};
use std::path::Path;

use sha2::Digest as _;

use super::delta::Base;
use super::settle::{Sealed, Unsettled};
use super::share::Shared;
use super::split::{Moves, Piece, SplitReader};
use super::stream::{Feed, Hashed, Outlet, piped, pump_file};
use super::write::{Bytes, Measured, read_error, walk, walk_over};
use super::{Committed, DISPLACED, DraftDir, Layer, LayerCheck, LayerFile, SPLIT};
use crate::digest::{DiffId, Digest};
use crate::error::{Error, Result};
use crate::failpoint::failpoint;
use crate::lease::Lease;
use crate::store::{Store, now};
use crate::tree::TreeRoot;

/// Packs a tree: reading and BLAKE3 on a thread of their own, SHA-256 and writing on this one.
pub(crate) fn pack(directory: &Path, clamp_mtime: Option<i64>, out: &mut dyn Write) -> Result<(Measured, Digest)> {
    piped(|feed| walk(directory, clamp_mtime, &mut Bytes::new(feed)), |stream| write_hashed(stream, out))
}

/// The same of a layer that may stand on another one.
fn pack_layer(directory: &Path, base: Option<&Path>, out: &mut dyn Write) -> Result<(Measured, Digest)> {
    piped(|feed| walk_over(directory, base, None, &mut Bytes::new(feed)), |stream| write_hashed(stream, out))
}

/// The same of a draft of which files may be another layer's too; `base` is that layer where the draft stands on it.
fn pack_draft(draft: &DraftDir, base: Option<&Path>, shared: &Shared) -> Result<(Measured, Digest)> {
    let fs = draft.path.join("fs");
    if base.is_none() && is_small(&fs) {
        let mut hashed = Hashed::default();
        let measured = walk(&fs, None, &mut Bytes::sharing(&mut hashed, shared))?;
        return Ok((measured, hashed.finish()));
    }
    piped(
        |feed| walk_over(&fs, base, None, &mut Bytes::sharing(feed, shared)),
        |stream| write_hashed(stream, &mut io::sink()),
    )
}

/// Entries and bytes up to which a tree is packed without a second thread.
const SMALL: (usize, u64) = (32, 256 << 10);

/// Whether a tree is small, as far as that is known at once: what is not is packed as a large one is.
fn is_small(directory: &Path) -> bool {
    let (mut entries, mut bytes) = SMALL;
    let mut open = vec![directory.to_owned()];
    while let Some(directory) = open.pop() {
        let Ok(list) = std::fs::read_dir(&directory) else { return false };
        for entry in list {
            let Ok(metadata) = entry.as_ref().map_or(Err(()), |entry| entry.metadata().map_err(drop)) else {
                return false;
            };
            match (entries.checked_sub(1), bytes.checked_sub(metadata.len())) {
                (Some(left), Some(room)) => (entries, bytes) = (left, room),
                _ => return false,
            }
            if metadata.is_dir() {
                open.extend(entry.map(|entry| entry.path()));
            }
        }
    }
    true
}

fn write_hashed(stream: &mut super::stream::Stream, out: &mut dyn Write) -> Result<Digest> {
    let mut hasher = sha2::Sha256::new();
    while let Some(bytes) = stream.next()? {
        hasher.update(bytes);
        out.write_all(bytes).map_err(Error::path("write", "the layer"))?;
    }
    Ok(Digest::from_sha256(hasher.finalize().as_slice()))
}

impl Store {
    /// Takes a tree in overlay form as a layer; one with the same tree that is known already is given back instead.
    pub(crate) fn commit_tree(&self, lease: &Lease, draft: DraftDir) -> Result<Committed> {
        self.commit_packed(lease, draft, |draft| pack_draft(draft, None, &Shared::new()), false, None)
    }

    /// The same, as far as it needs no disk.
    pub(crate) fn seal_tree(&self, lease: &Lease, draft: DraftDir) -> Result<Sealed> {
        let (Measured { tree, size }, digest) = begun(|| pack_draft(&draft, None, &Shared::new()))?;
        if let Some(layer) = self.layer_by_tree(lease, &tree)? {
            return Ok(Sealed::Settled(Committed { layer, existed: true }));
        }
        let file = LayerFile { diff_id: DiffId(digest), tree, size, created: now(), split: false, over: None };
        Ok(Sealed::Open(Unsettled::new(draft, file)))
    }

    /// The same with the flush side by side with the reading. A file that is shared and not what it must be is
    /// [`Error::NotAsShared`].
    pub(crate) fn commit_large_tree(&self, lease: &Lease, draft: DraftDir, shared: &Shared) -> Result<Committed> {
        let pack = |draft: &DraftDir| {
            std::thread::scope(|threads| {
                let flush = threads.spawn(|| draft.flush());
                let packed = pack_draft(draft, None, shared);
                flush.join().map_err(|_| Error::document("the layer", "a thread stopped"))??;
                packed
            })
        };
        self.commit_packed(lease, draft, pack, true, None)
    }

    /// The same of what differs from another layer: the two, one over the other, are the layer.
    pub(crate) fn commit_delta(
        &self,
        lease: &Lease,
        draft: DraftDir,
        base: Base,
        shared: &Shared,
    ) -> Result<Committed> {
        let pack = |draft: &DraftDir| pack_draft(draft, Some(&base.path), shared);
        self.commit_packed(lease, draft, pack, false, Some(base.id.clone()))
    }

    fn commit_packed(
        &self,
        lease: &Lease,
        draft: DraftDir,
        pack: impl FnOnce(&DraftDir) -> Result<(Measured, Digest)>,
        flushed: bool,
        over: Option<DiffId>,
    ) -> Result<Committed> {
        let (Measured { tree, size }, digest) = begun(|| pack(&draft))?;
        if let Some(layer) = self.layer_by_tree(lease, &tree)? {
            return Ok(Committed { layer, existed: true });
        }
        let file = LayerFile { diff_id: DiffId(digest), tree, size, created: now(), split: false, over };
        Ok(Committed { layer: self.adopt(lease, draft, &file, flushed)?, existed: false })
    }

    /// Writes the uncompressed tar whose SHA-256 is the diff id.
    ///
    /// # Errors
    /// When the layer is damaged or the output fails.
    pub fn export_layer(&self, layer: &Layer, out: &mut dyn Write) -> Result<()> {
        let directory = self.layer_dir(&layer.diff_id);
        failpoint("layer.export")?;
        let found = match open_split(&directory)? {
            Some(split) => piped(|feed| join(&directory, split, feed), |stream| write_hashed(stream, out))?.1,
            None => pack_layer(layer.path(), layer.base_path(), out)?.1,
        };
        if found != layer.diff_id.0 {
            return Err(Error::DigestMismatch { expected: layer.diff_id.0.clone(), found });
        }
        Ok(())
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
        let base = match self.base_of(&file) {
            Ok(base) => base,
            Err(why) => return Ok(Err(why.to_owned())),
        };
        let below = base.as_ref().map(|base| base.path.as_path());
        let (Measured { tree, size }, digest) = match pack_layer(&directory.join("fs"), below, &mut io::sink()) {
            Ok(packed) => packed,
            Err(error) if error.is_failed_read() => return Err(error),
            Err(error) => return Ok(Err(error.to_string())),
        };
        if tree != file.tree {
            return Ok(Err("its files are not those that it was made with".to_owned()));
        }
        if !file.split && digest != file.diff_id.0 {
            return Ok(Err("the times of its files are not those that it was made with".to_owned()));
        }
        if file.split {
            let path = directory.join("fs");
            let layer = Layer { diff_id: file.diff_id, tree, size, created: file.created, path, base, held: None };
            match self.export_layer(&layer, &mut io::sink()) {
                Ok(_) => {}
                Err(error) if error.is_failed_read() => return Err(error),
                Err(error) => return Ok(Err(format!("its original bytes: {error}"))),
            }
        }
        Ok(Ok(LayerCheck { size }))
    }
}

/// A draft becomes a layer from here on.
fn begun<T>(pack: impl FnOnce() -> Result<T>) -> Result<T> {
    failpoint("layer.commit")?;
    pack()
}

fn open_split(directory: &Path) -> Result<Option<SplitReader<'static>>> {
    let path = directory.join(SPLIT);
    match File::open(&path) {
        Ok(file) => SplitReader::new(BufReader::new(file)).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::path("open", path)(error)),
    }
}

/// Puts the stream together again that a layer came as.
fn join(directory: &Path, mut split: SplitReader<'_>, feed: &mut Feed) -> Result<()> {
    let root = TreeRoot::open(&directory.join("fs"))?;
    let displaced = directory.join(DISPLACED);
    let displaced = if displaced.is_dir() { Some(TreeRoot::open(&displaced)?) } else { None };
    let moves = match (&displaced, open_split(directory)?) {
        (Some(_), Some(split)) => Moves::of(split)?,
        _ => Moves::default(),
    };
    let mut nth = 0;
    let mut open = |path: &Path| {
        let moved = moves.of_content(path, nth);
        nth += 1;
        match (moved, &displaced) {
            (Some(path), Some(displaced)) => displaced.open_file(&path),
            _ => root.open_file(path),
        }
    };
    while let Some(piece) = split.next()? {
        match piece {
            Piece::Literal(bytes) => feed.write(&bytes)?,
            Piece::Content { path, size } => {
                let mut file = open(&path)?;
                pump_file(&mut file, size, feed, |_| ()).map_err(|error| read_error(error, &path))?;
            }
            Piece::Parts { path, parts } => {
                let mut file = open(&path)?;
                for part in parts {
                    let sent = file.seek(SeekFrom::Start(part.offset));
                    sent.and_then(|_| pump_file(&mut file, part.length, feed, |_| ()))
                        .map_err(|error| read_error(error, &path))?;
                }
            }
            Piece::Moved { .. } => {}
        }
    }
    Ok(())
}
