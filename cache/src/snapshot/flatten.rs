//! More layers than one overlay takes: the lowest are copied into one, which is kept in the store like any other layer.

use std::time::Instant;

use super::copy::copy_tree;
use super::merged::MergedTree;
use crate::digest::CacheKey;
use crate::error::Result;
use crate::layer::{DraftDir, Layer};
use crate::lease::Lease;
use crate::record::StepRecord;
use crate::store::{Store, now};

/// Lower layers of one overlay: the kernel's OVL_MAX_STACK, less one for the mount points of a sandbox.
pub(super) const OVERLAY_LAYERS: usize = 499;
/// Layers that become one. Always the lowest, so that a layer more on top finds them done.
const FLATTENED: usize = 400;

impl Store {
    /// As many layers as overlay can take that show the same tree as all of `layers`, bottom first.
    pub(super) fn stackable(&self, lease: &Lease, layers: &[Layer]) -> Result<Vec<Layer>> {
        let mut layers = layers.to_vec();
        let lowers = |layers: &[Layer]| layers.iter().flat_map(Layer::trees).count();
        while lowers(&layers) > OVERLAY_LAYERS {
            let rest = layers.split_off(FLATTENED.min(layers.len()));
            let flat = self.flattened(lease, &layers)?;
            layers = std::iter::once(flat).chain(rest).collect();
        }
        Ok(layers)
    }

    /// One layer with all that these show, made once.
    fn flattened(&self, lease: &Lease, layers: &[Layer]) -> Result<Layer> {
        let key = key(layers);
        let known = self.record(&key)?.and_then(|record| record.layer);
        if let Some(id) = known
            && let Some(layer) = self.layer(lease, &id)?
        {
            return Ok(layer);
        }
        let started = Instant::now();
        let draft = DraftDir::make(&lease.draft())?;
        copy_tree(&MergedTree::new(layers), &draft.path.join("fs"))?;
        let layer = self.commit_tree(lease, draft)?.layer;
        let record = StepRecord {
            layer: Some(layer.diff_id.clone()),
            tree: Some(layer.tree),
            parts: vec![("flattened".to_owned(), format!("{} layers", layers.len()))],
            created: now(),
            duration_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
            text: format!("{} layers as one", layers.len()),
        };
        self.put_record(&key, &record)?;
        Ok(layer)
    }
}

fn key(layers: &[Layer]) -> CacheKey {
    let mut hasher = blake3::Hasher::new_derive_key("dunnage 2026 flattened layers");
    for layer in layers {
        hasher.update(layer.diff_id.hex().as_bytes());
    }
    CacheKey::from_bytes(*hasher.finalize().as_bytes())
}
