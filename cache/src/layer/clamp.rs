//! Layers with times of the user's choosing, as outputs ask for them (`rewrite-timestamp`).
//!
//! A step's own layer keeps the times that it was made with, for no time is in a key or a tree hash: clamping it in place
//! would make what a build gives depend on the one that came first. So an image whose times are rewritten has layers of its
//! own, made once from those of the steps and found again by a record like a step's.

use std::io;

use super::export::pack;
use super::limits::Limits;
use super::read::{ExtractOptions, Whiteouts, extract};
use super::stream::piped;
use super::write::{Bytes, Measured, walk_over};
use super::{DraftDir, Layer, LayerFile};
use crate::digest::{CacheKey, DiffId};
use crate::error::{Error, Result};
use crate::lease::Lease;
use crate::record::StepRecord;
use crate::store::{Store, now};
use crate::tree::TreeRoot;

/// Keeps these keys apart from those of steps.
const CONTEXT: &str = "dunnage 2026-11 layer with clamped times";

impl Store {
    /// The same layer with times later than `seconds` (Unix seconds, as SOURCE_DATE_EPOCH has them) replaced by it.
    ///
    /// # Errors
    /// When the layer is damaged or the store cannot be written.
    pub fn clamped_layer(&self, lease: &Lease, layer: &Layer, seconds: i64) -> Result<Layer> {
        let text = format!("{} at {seconds}", layer.diff_id);
        let key = CacheKey::from_bytes(blake3::derive_key(CONTEXT, text.as_bytes()));
        if let Some(StepRecord { layer: Some(id), .. }) = self.record(&key)?
            && let Some(known) = self.layer(lease, &id)?
        {
            return Ok(known);
        }
        let begun = std::time::Instant::now();
        let clamped = self.clamp(lease, layer, seconds)?;
        let record = StepRecord {
            layer: Some(clamped.diff_id.clone()),
            tree: Some(clamped.tree),
            parts: vec![
                ("layer".to_owned(), layer.diff_id.to_string()),
                ("rewrite-timestamp".to_owned(), seconds.to_string()),
            ],
            created: layer.created,
            duration_ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
            text: format!("rewrite-timestamp of {}", layer.diff_id),
        };
        self.put_record(&key, &record)?;
        Ok(clamped)
    }

    fn clamp(&self, lease: &Lease, layer: &Layer, seconds: i64) -> Result<Layer> {
        let draft = DraftDir::make(&lease.draft())?;
        let fs = draft.path.join("fs");
        let root = TreeRoot::open(&fs)?;
        // What the store made itself is bounded by nothing but the disk.
        let limits = Limits { unpacked_bytes: u64::MAX, entries: u64::MAX, ..Limits::default() };
        let options = ExtractOptions { whiteouts: Whiteouts::Overlay, owner: None, limits: &limits, flusher: None };
        piped(
            |feed| walk_over(layer.path(), layer.base_path(), None, &mut Bytes::new(feed)),
            |stream| extract(stream, (), &root, None, &options).map(drop),
        )
        .map_err(|error| error.below(&fs))?;
        let (Measured { tree, size }, digest) = pack(&fs, Some(seconds), &mut io::sink())?;
        if tree != layer.tree {
            let reason = "is not what the layer was made with";
            return Err(Error::document(format!("layer {}", layer.diff_id), reason));
        }
        let file = LayerFile { diff_id: DiffId(digest), tree, size, created: now(), split: false, over: None };
        self.adopt(lease, draft, &file, false)
    }
}
