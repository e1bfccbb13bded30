//! Pushing what a build gave: images of one or several platforms, with all that is said of them.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use cache::{Descriptor, DiffId, Digest, Layer, Lease, MediaType, Reference, Store};

use super::outbound::Outbound;
use super::pull::side_by_side;
use super::repository::wanted;
use super::{Client, PushOptions, Pushed, TransferEvent};
use crate::error::{Error, Result};
use crate::index::{BuiltImage, Place, Writing};
use crate::save::layers;

/// Pushes a built image under names, which may be of several repositories.
///
/// # Errors
/// When a registry does not take it, or a layer is missing or damaged here; what was pushed before stays there.
pub fn push_built(
    client: &Client,
    store: &Store,
    lease: &Lease,
    image: &BuiltImage,
    options: &PushOptions,
    events: &(dyn Fn(TransferEvent) + Sync),
) -> Result<Vec<Pushed>> {
    let mut repositories: BTreeMap<String, Vec<&Reference>> = BTreeMap::new();
    for name in &image.names {
        repositories.entry(name.place()).or_default().push(name);
    }
    let mut pushed = Vec::new();
    for names in repositories.values() {
        let Some(first) = names.first() else { continue };
        let repository = client.repository(first, &format!("push {}", first.familiar()))?;
        let together = client.settings().transfers().concurrency;
        let to = Outbound { store, lease, repository: &repository, compression: options.compression, together, events };
        let mut place = Remote { layers: sent(&to, image)?, to: &to, documents: BTreeMap::new() };
        let entries = Writing { store, lease, place: &mut place }.entries(image)?;
        let [top] = entries.as_slice() else { return Err(Error::Network("an image has no manifest".to_owned())) };
        let (kind, bytes) =
            place.documents.remove(&top.digest).ok_or_else(|| Error::Missing(top.digest.to_string()))?;
        for name in names {
            let digest = repository.put_manifest(&wanted(name), &kind, &bytes)?;
            pushed.push(Pushed { name: (*name).clone(), digest, size: bytes.len() as u64 });
        }
    }
    Ok(pushed)
}

/// Brings the layers of all platforms there, several at once.
fn sent(to: &Outbound<'_>, image: &BuiltImage) -> Result<BTreeMap<DiffId, Descriptor>> {
    let mut wanted: BTreeMap<DiffId, Layer> = BTreeMap::new();
    for part in &image.parts {
        for layer in layers(to.store, to.lease, &part.image)? {
            wanted.insert(layer.diff_id.clone(), layer);
        }
    }
    let mut wanted: Vec<Layer> = wanted.into_values().collect();
    wanted.sort_by_key(|layer| layer.size);
    let sent: Mutex<BTreeMap<DiffId, Descriptor>> = Mutex::default();
    side_by_side(wanted, to.together, |layer: Layer| {
        let arrived = to.layer(&layer, None)?;
        sent.lock().unwrap_or_else(PoisonError::into_inner).insert(layer.diff_id, arrived.descriptor);
        Ok(())
    })?;
    Ok(sent.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// A repository as a place for what a build gave.
struct Remote<'a> {
    to: &'a Outbound<'a>,
    layers: BTreeMap<DiffId, Descriptor>,
    documents: BTreeMap<Digest, (MediaType, Vec<u8>)>,
}

impl Place for Remote<'_> {
    fn layer(&mut self, layer: &Layer) -> Result<Descriptor> {
        let found = self.layers.get(&layer.diff_id).cloned();
        found.ok_or_else(|| cache::Error::LayerNotFound(layer.diff_id.clone()).into())
    }

    fn blob(&mut self, digest: &Digest, bytes: &[u8]) -> Result<()> {
        self.to.document(digest, bytes).map(drop)
    }

    fn document(&mut self, kind: &MediaType, digest: &Digest, bytes: &[u8]) -> Result<()> {
        self.to.repository.put_manifest(&digest.to_string(), kind, bytes)?;
        self.documents.insert(digest.clone(), (kind.clone(), bytes.to_vec()));
        Ok(())
    }
}
