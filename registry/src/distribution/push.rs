//! Pushing: what the registry has is not sent, what it has elsewhere is taken over, what is left is packed while it is
//! sent. The manifest comes last: no registry ever has one without its blobs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use cache::{Descriptor, DiffId, Digest, Image, Layer, Lease, MediaType, Reference, Store};

use super::outbound::{Outbound, is_packed_as};
use super::pull::{short, side_by_side};
use super::repository::wanted;
use super::{BlobState, Client, TransferEvent};
use crate::documents::{DOCUMENT_LIMIT, Document, Manifest, descriptor};
use crate::error::{Error, Result};
use crate::save::LayerCompression;

/// How to push.
#[derive(Debug, Clone, Default)]
pub struct PushOptions {
    /// How layers are packed; as they are known at the registry, else gzip, when absent.
    pub compression: Option<LayerCompression>,
}

/// A name that was pushed.
#[derive(Debug, Clone)]
pub struct Pushed {
    /// The name.
    pub name: Reference,
    /// The manifest's digest.
    pub digest: Digest,
    /// The manifest's bytes.
    pub size: u64,
}

/// A manifest on its way.
pub(crate) struct Outgoing {
    pub(crate) media_type: MediaType,
    pub(crate) bytes: Vec<u8>,
}

/// Pushes an image under names of one repository.
///
/// # Errors
/// When the registry does not take it, or a layer is missing or damaged here.
pub fn push(
    client: &Client,
    store: &Store,
    lease: &Lease,
    image: &Image,
    names: &[Reference],
    options: &PushOptions,
    events: &(dyn Fn(TransferEvent) + Sync),
) -> Result<Vec<Pushed>> {
    let Some(first) = names.first() else { return Ok(Vec::new()) };
    let repository = client.repository(first, &format!("push {}", first.familiar()))?;
    let original = original(store, image)?.filter(|(_, manifest)| suits(manifest, options));
    let mut left: Vec<&Reference> = names.iter().collect();
    let mut pushed = Vec::new();
    // What the registry has under the name already is asked once.
    if let Some((outgoing, _)) = &original {
        let digest = Digest::sha256_of(&outgoing.bytes);
        for name in names {
            let there = repository.head_manifest(&wanted(name), &repository.push_scope());
            if there.map_err(|cause| repository.refused(cause))? == Some(digest.clone()) {
                left.retain(|left| *left != name);
                pushed.push(Pushed { name: name.clone(), digest: digest.clone(), size: outgoing.bytes.len() as u64 });
            }
        }
    }
    if left.is_empty() {
        for layer in original.iter().flat_map(|(_, manifest)| &manifest.layers) {
            let id = short(&layer.digest);
            events(TransferEvent::Blob { id, state: BlobState::Present, size: Some(layer.size) });
        }
        return Ok(pushed);
    }
    let together = together(client, image);
    let to = Outbound { store, lease, repository: &repository, compression: options.compression, together, events };
    let push = Push { to, image };
    let outgoing = push.blobs(original)?;
    for name in left {
        let digest = repository.put_manifest(&wanted(name), &outgoing.media_type, &outgoing.bytes)?;
        push.remember(name, &digest, &outgoing.bytes)?;
        pushed.push(Pushed { name: name.clone(), digest, size: outgoing.bytes.len() as u64 });
    }
    Ok(pushed)
}

/// Pushes an image under its digest alone.
///
/// # Errors
/// When the registry does not take it, or a layer is missing or damaged here.
pub fn push_untagged(
    client: &Client,
    store: &Store,
    lease: &Lease,
    image: &Image,
    name: &Reference,
    events: &(dyn Fn(TransferEvent) + Sync),
) -> Result<Descriptor> {
    let repository = client.repository(name, &format!("push {}", name.familiar()))?;
    let together = together(client, image);
    let to = Outbound { store, lease, repository: &repository, compression: None, together, events };
    let push = Push { to, image };
    let outgoing = push.blobs(original(store, image)?)?;
    let digest = Digest::sha256_of(&outgoing.bytes);
    repository.put_manifest(&digest.to_string(), &outgoing.media_type, &outgoing.bytes)?;
    push.remember(name, &digest, &outgoing.bytes)?;
    Ok(descriptor(outgoing.media_type, digest, outgoing.bytes.len() as u64))
}

/// How many layers are sent at the same time.
fn together(client: &Client, image: &Image) -> usize {
    let layers = image.layers.iter().collect::<BTreeSet<_>>().len();
    client.settings().transfers().concurrency.min(layers)
}

/// The manifest that the image was pulled or pushed with, where it is still known.
pub(crate) fn original(store: &Store, image: &Image) -> Result<Option<(Outgoing, Manifest)>> {
    for name in store.names_of(&image.id)? {
        let Some(digest) = name.digest() else { continue };
        let mut known = vec![digest.clone()];
        while let Some(digest) = known.pop() {
            let Some(blob) = store.blob(&digest)? else { continue };
            let Ok(bytes) = blob.read_all(DOCUMENT_LIMIT) else { continue };
            match Document::parse(&bytes, None) {
                Ok((Document::Index(index), _)) => known.extend(index.manifests.into_iter().map(|entry| entry.digest)),
                Ok((Document::Manifest(manifest), media_type)) if manifest.config.digest == image.id.0 => {
                    return Ok(Some((Outgoing { media_type, bytes }, *manifest)));
                }
                _ => {}
            }
        }
    }
    Ok(None)
}

/// Whether a known manifest is packed as it is wanted now.
fn suits(manifest: &Manifest, options: &PushOptions) -> bool {
    options.compression.is_none_or(|wanted| manifest.layers.iter().all(|layer| is_packed_as(&layer.media_type, wanted)))
}

/// One push.
struct Push<'a> {
    to: Outbound<'a>,
    image: &'a Image,
}

impl Push<'_> {
    /// Brings all blobs there, and gives the manifest that names them.
    fn blobs(&self, original: Option<(Outgoing, Manifest)>) -> Result<Outgoing> {
        let mut layers: Vec<Layer> = Vec::new();
        for id in &self.image.layers {
            let to = &self.to;
            let layer = to.store.layer(to.lease, id)?.ok_or_else(|| cache::Error::LayerNotFound(id.clone()))?;
            if layers.iter().all(|known| known.diff_id != layer.diff_id) {
                (to.events)(TransferEvent::Blob { id: short(&id.0), state: BlobState::Waiting, size: None });
                layers.push(layer);
            }
        }
        let known: BTreeMap<&DiffId, &Descriptor> = match &original {
            Some((_, manifest)) => self.image.layers.iter().zip(&manifest.layers).collect(),
            None => BTreeMap::new(),
        };
        layers.sort_by_key(|layer| layer.size);
        let sent: Mutex<BTreeMap<DiffId, Descriptor>> = Mutex::default();
        side_by_side(layers, self.to.together, |layer: Layer| {
            let arrived = self.to.layer(&layer, known.get(&layer.diff_id).copied())?;
            sent.lock().unwrap_or_else(PoisonError::into_inner).insert(layer.diff_id, arrived.descriptor);
            Ok(())
        })?;
        let sent = sent.into_inner().unwrap_or_else(PoisonError::into_inner);
        let layers: Vec<Descriptor> = self.image.layers.iter().filter_map(|id| sent.get(id).cloned()).collect();
        let config = self.config()?;
        let equal = |manifest: &Manifest| {
            manifest.layers.iter().map(|layer| &layer.digest).eq(layers.iter().map(|layer| &layer.digest))
        };
        match original {
            Some((outgoing, manifest)) if equal(&manifest) => Ok(outgoing),
            _ => manifest(config, layers),
        }
    }

    /// The configuration, which is small.
    fn config(&self) -> Result<Descriptor> {
        let id = &self.image.id;
        let bytes = self.to.store.image_bytes(id)?.ok_or_else(|| Error::Missing(id.to_string()))?;
        self.to.document(&id.0, &bytes)?;
        Ok(descriptor(MediaType::OciConfig, id.0.clone(), bytes.len() as u64))
    }

    /// The image has a name by digest now, and the next push knows the manifest.
    fn remember(&self, name: &Reference, digest: &Digest, bytes: &[u8]) -> Result<()> {
        super::pull::put_blob(self.to.store, self.to.lease, bytes)?;
        Ok(self.to.store.tag(&self.image.id, &name.with_digest(digest))?)
    }
}

/// The manifest of an image whose layers are packed so.
pub(crate) fn manifest(config: Descriptor, layers: Vec<Descriptor>) -> Result<Outgoing> {
    let manifest = Manifest { layers, ..Manifest::of(config) };
    let bytes = serde_json::to_vec(&manifest).map_err(|error| Error::document("the manifest", error))?;
    Ok(Outgoing { media_type: MediaType::OciManifest, bytes })
}
