//! Taking in a foreign layer, in one pass: read and unpacked on one thread, hashed on the next, written to the disk here.

use std::fs::File;
use std::io::Read;

use super::compress::{Ratio, RatioGuard, Tap, archive_error};
use super::flush::flushing;
use super::limits::Limits;
use super::members::{self, Rest};
use super::read::{ExtractOptions, Whiteouts, extract};
use super::split::{Outline, SplitWriter};
use super::stream::{Feed, Stream, hashed, piped, pump};
use super::write::{Contents, Measured, Outlined, walk};
use super::{DISPLACED, DraftDir, Layer, LayerFile, SPLIT};
use crate::digest::{DiffId, Digest};
use crate::error::{Error, Result};
use crate::failpoint::failpoint;
use crate::lease::Lease;
use crate::store::{Store, now};
use crate::tree::TreeRoot;

/// What a descriptor says of a layer as it comes, compressed or not.
#[derive(Debug, Clone)]
pub struct Compressed {
    /// Digest of the bytes.
    pub digest: Digest,
    /// Number of the bytes.
    pub size: u64,
}

/// What a foreign layer must be.
#[derive(Debug, Clone, Default)]
pub struct ImportOptions {
    /// Digest of the plain tar.
    pub diff_id: Option<DiffId>,
    /// The bytes as they come.
    pub compressed: Option<Compressed>,
    /// How much is accepted.
    pub limits: Limits,
}

impl Store {
    /// Unpacks a foreign layer, verifying it on the way.
    ///
    /// # Errors
    /// When the stream is malformed, too large, or not what was expected.
    pub fn import_layer(&self, lease: &Lease, tar: impl Read + Send, expected: Option<&DiffId>) -> Result<Layer> {
        self.import_layer_with(lease, tar, &ImportOptions { diff_id: expected.cloned(), ..ImportOptions::default() })
    }

    /// The same with all that is known of the layer. Nothing of it is in the store before all of it was found right.
    ///
    /// # Errors
    /// When the stream is malformed, too large, or not what was expected.
    pub fn import_layer_with(&self, lease: &Lease, tar: impl Read + Send, options: &ImportOptions) -> Result<Layer> {
        let draft = DraftDir::make(&lease.draft())?;
        failpoint("layer.extract")?;
        let unpacked = unpack(&draft, tar, options).map_err(|error| error.below(&draft.path.join("fs")))?;
        let found = DiffId(unpacked.digest);
        if let Some(expected) = options.diff_id.as_ref().filter(|expected| **expected != found) {
            return Err(Error::DigestMismatch { expected: expected.0.clone(), found: found.0 });
        }
        if let Some(layer) = self.layer(lease, &found)? {
            return Ok(layer);
        }
        failpoint("layer.measure")?;
        let (measured, outline) = settle(&draft, &unpacked.contents)?;
        let split = unpacked.outline != Some(outline);
        if !split {
            // The packer gives the same bytes.
            let path = draft.path.join(SPLIT);
            failpoint("layer.original")?;
            std::fs::remove_file(&path).map_err(Error::path("remove", &path))?;
        }
        let displaced = draft.path.join(DISPLACED);
        // Refused where something is in it.
        let _ = std::fs::remove_dir(&displaced);
        let file =
            LayerFile { diff_id: found, tree: measured.tree, size: measured.size, created: now(), split, over: None };
        self.adopt(lease, draft, &file, true)
    }
}

struct Unpacked {
    digest: Digest,
    contents: Contents,
    /// None when the packer never makes such a tar.
    outline: Option<blake3::Hash>,
}

fn unpack(draft: &DraftDir, tar: impl Read + Send, options: &ImportOptions) -> Result<Unpacked> {
    let limits = &options.limits;
    let path = draft.path.join(SPLIT);
    let split = SplitWriter::new(File::create(&path).map_err(Error::path("write", &path))?)?;
    let displaced = draft.path.join(DISPLACED);
    std::fs::create_dir(&displaced).map_err(Error::path("make", &displaced))?;
    let (root, displaced) = (TreeRoot::open(&draft.path.join("fs"))?, TreeRoot::open(&displaced)?);
    let packed = |feed: &mut Feed| {
        let compressed = options.compressed.as_ref();
        let mut tap = Tap::new(tar, compressed.map(|compressed| &compressed.digest));
        let mut ratio = Ratio::new(tap.counter(), limits);
        // What has no digest to be held against is read byte by byte.
        let rest = match &options.diff_id {
            Some(_) => members::unpack(&mut tap, feed, &mut ratio)?,
            None => Rest::default(),
        };
        if rest.is_end() {
            return tap.finish(compressed);
        }
        // What comes is hashed on one thread while it is unpacked on the next.
        let arrive = |packed: &mut Feed| {
            pump(&mut tap, packed)?;
            tap.finish(compressed)
        };
        let unpack = |packed: &mut Stream| {
            pump(&mut RatioGuard::new(rest.plain(&mut *packed)?, ratio), feed)?;
            std::io::copy(packed, &mut std::io::sink()).map_err(archive_error)
        };
        piped(arrive, unpack).map(drop)
    };
    let (_, (contents, outline), digest) = flushing(&draft.path, |flusher| {
        hashed(packed, |stream| {
            let flusher = Some(flusher);
            let options = ExtractOptions { whiteouts: Whiteouts::Overlay, owner: None, limits, flusher };
            let extracted = extract(stream, split, &root, Some(&displaced), &options)?;
            let (_, outline) = extracted.record.finish()?;
            Ok((extracted.contents, outline))
        })
    })?;
    Ok(Unpacked { digest, contents, outline })
}

/// Brings the tree to the disk, and meanwhile tells what the packer would make of it.
fn settle(draft: &DraftDir, contents: &Contents) -> Result<(Measured, blake3::Hash)> {
    let mut sink = Outlined { outline: Outline::default(), contents };
    let measured = std::thread::scope(|threads| {
        let flush = threads.spawn(|| draft.flush());
        let measured = walk(&draft.path.join("fs"), None, &mut sink);
        flush.join().map_err(|_| Error::document("the layer", "a thread stopped"))??;
        measured
    })?;
    Ok((measured, sink.outline.finish()))
}
