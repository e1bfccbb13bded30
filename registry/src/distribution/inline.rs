//! Images that say which steps gave their layers: a cache of these steps (`--cache-to type=inline`).

use std::collections::BTreeMap;

use cache::{CacheKey, DiffId, INLINE_RECORDS, Image, InlineRecord, Platform, RemoteLayer, RemoteRecord};

use super::pull::image_of;
use super::refusal::Cause;
use super::repository::{RemoteManifest, Repository};
use crate::error::Result;

/// What an image says.
pub(super) struct Inline {
    pub(super) layers: BTreeMap<DiffId, RemoteLayer>,
    pub(super) records: BTreeMap<CacheKey, RemoteRecord>,
    /// Bytes that were read for it.
    pub(super) bytes: u64,
}

/// Reads it from the image for a platform; no layer of it is fetched.
pub(super) fn read(repository: &Repository, top: RemoteManifest, platform: &Platform) -> Result<Inline> {
    let remote = image_of(repository, top, platform)?;
    let Some(said) = remote.image.config.rest.get(INLINE_RECORDS) else {
        let reason = "it is an image that carries no cache: build it with --cache-to type=inline";
        return Err(repository.refused(Cause::Invalid(reason.to_owned())));
    };
    // Damaged ones are none: the steps run.
    let said: Vec<InlineRecord> = serde_json::from_value(said.clone()).unwrap_or_default();
    let layers = remote.image.layers.iter().zip(&remote.layers);
    let blobs: BTreeMap<&DiffId, _> = layers.collect();
    let history = history(&remote.image);
    let bytes = (remote.top.bytes.len() + remote.manifest.bytes.len() + remote.config_size()) as u64;
    let mut inline = Inline { layers: BTreeMap::new(), records: BTreeMap::new(), bytes };
    for InlineRecord { layer, tree, size, keys } in said {
        let (created, text) = history.get(&layer).cloned().unwrap_or_default();
        for key in keys {
            let record = RemoteRecord { layer: layer.clone(), tree, created, duration_ms: 0, text: text.clone() };
            inline.records.insert(key, record);
        }
        // Those of other stages are not in the image.
        if let Some(blob) = blobs.get(&layer) {
            let there = RemoteLayer { diff_id: layer.clone(), tree, size: size.unwrap_or(0), blob: (*blob).clone() };
            inline.layers.insert(layer, there);
        }
    }
    Ok(inline)
}

/// When each layer was made and by what, as far as the image's history goes with its layers.
fn history(image: &Image) -> BTreeMap<DiffId, (u64, String)> {
    let made = image.config.history.iter().filter(|entry| !entry.empty_layer);
    let made: Vec<(u64, String)> = made
        .map(|entry| {
            let time = entry.created.as_deref().and_then(|text| text.parse::<jiff::Timestamp>().ok());
            let seconds = time.and_then(|time| u64::try_from(time.as_second()).ok()).unwrap_or(0);
            (seconds, entry.created_by.clone().unwrap_or_default())
        })
        .collect();
    if made.len() != image.layers.len() {
        return BTreeMap::new();
    }
    image.layers.iter().cloned().zip(made).collect()
}
