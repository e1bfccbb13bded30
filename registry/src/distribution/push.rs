//! Pushing: what the registry has is not sent, what it has elsewhere is taken over, what is left is packed while it is
//! sent. The manifest comes last: no registry ever has one without its blobs.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Mutex, PoisonError};

use cache::{Descriptor, DiffId, Digest, Image, Layer, Lease, MediaType, Reference, Store};

use super::pull::short;
use super::refusal::Cause;
use super::repository::{Repository, wanted};
use super::upload::{Begun, Stopped, Upload};
use super::{BlobState, Client, TransferEvent};
use crate::documents::{DOCUMENT_LIMIT, Document, Manifest, descriptor};
use crate::error::{Error, Result};
use crate::packing::{PackError, Tally, pack};
use crate::save::LayerCompression;

/// How often an upload begins anew when the registry loses it.
const RESTARTS: usize = 3;
/// Known forms of a layer that the registry is asked for.
const FORMS: usize = 3;
/// Other repositories that a blob is asked from.
const MOUNTS: usize = 2;

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
struct Outgoing {
    media_type: MediaType,
    bytes: Vec<u8>,
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
    let push = Push { client, store, lease, repository: &repository, image, options, events };
    let outgoing = push.blobs(original)?;
    for name in left {
        let digest = repository.put_manifest(&wanted(name), &outgoing.media_type, &outgoing.bytes)?;
        push.remember(name, &digest, &outgoing.bytes)?;
        pushed.push(Pushed { name: name.clone(), digest, size: outgoing.bytes.len() as u64 });
    }
    Ok(pushed)
}

/// The manifest that the image was pulled or pushed with, where it is still known.
fn original(store: &Store, image: &Image) -> Result<Option<(Outgoing, Manifest)>> {
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

fn is_packed_as(media_type: &MediaType, wanted: LayerCompression) -> bool {
    oci_type(media_type) == wanted.media_type()
}

/// The type of a layer in an OCI manifest.
fn oci_type(media_type: &MediaType) -> MediaType {
    match media_type {
        MediaType::DockerLayer => MediaType::OciLayer,
        MediaType::DockerLayerGzip => MediaType::OciLayerGzip,
        MediaType::DockerLayerZstd => MediaType::OciLayerZstd,
        other => other.clone(),
    }
}

/// One push.
struct Push<'a> {
    client: &'a Client,
    store: &'a Store,
    lease: &'a Lease,
    repository: &'a Repository,
    image: &'a Image,
    options: &'a PushOptions,
    events: &'a (dyn Fn(TransferEvent) + Sync),
}

impl Push<'_> {
    fn refused(&self, cause: Cause) -> Error {
        self.repository.refused(cause)
    }

    /// Brings all blobs there, and gives the manifest that names them.
    fn blobs(&self, original: Option<(Outgoing, Manifest)>) -> Result<Outgoing> {
        let mut layers: Vec<Layer> = Vec::new();
        for id in &self.image.layers {
            let layer = self.store.layer(self.lease, id)?.ok_or_else(|| cache::Error::LayerNotFound(id.clone()))?;
            if layers.iter().all(|known| known.diff_id != layer.diff_id) {
                (self.events)(TransferEvent::Blob { id: short(&id.0), state: BlobState::Waiting, size: None });
                layers.push(layer);
            }
        }
        let known: BTreeMap<&DiffId, &Descriptor> = match &original {
            Some((_, manifest)) => self.image.layers.iter().zip(&manifest.layers).collect(),
            None => BTreeMap::new(),
        };
        let transfers = self.client.settings().transfers();
        let workers = transfers.concurrency.min(layers.len());
        layers.sort_by_key(|layer| layer.size);
        let queue = Mutex::new(layers);
        let sent: Mutex<BTreeMap<DiffId, Descriptor>> = Mutex::default();
        let failed = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|threads| {
            let work = || -> Result<()> {
                while !failed.load(std::sync::atomic::Ordering::Relaxed) {
                    let Some(layer) = queue.lock().unwrap_or_else(PoisonError::into_inner).pop() else { break };
                    let descriptor = self.layer(&layer, known.get(&layer.diff_id).copied());
                    if descriptor.is_err() {
                        failed.store(true, std::sync::atomic::Ordering::Relaxed);
                    }
                    let descriptor = descriptor?;
                    sent.lock().unwrap_or_else(PoisonError::into_inner).insert(layer.diff_id, descriptor);
                }
                Ok(())
            };
            let workers: Vec<_> = (0..workers).map(|_| threads.spawn(work)).collect();
            let ends = workers
                .into_iter()
                .map(|worker| worker.join().unwrap_or_else(|_| Err(Error::Network("a transfer stopped".to_owned()))));
            ends.collect::<Vec<_>>().into_iter().collect::<Result<()>>()
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
        let bytes = self.store.image_bytes(id)?.ok_or_else(|| Error::Missing(id.to_string()))?;
        let scope = self.repository.push_scope();
        if !self.repository.has_blob(&id.0, &scope).map_err(|cause| self.refused(cause))? {
            self.retried(|| {
                let mut upload = match Upload::begin(self.repository, None, &|_| ())? {
                    Begun::Session(upload) => upload,
                    Begun::Mounted => return Ok(()),
                };
                upload.write(&bytes)?;
                upload.finish(&id.0)
            })?;
        }
        Ok(descriptor(MediaType::OciConfig, id.0.clone(), bytes.len() as u64))
    }

    /// Brings one layer there, the cheapest way that works.
    fn layer(&self, layer: &Layer, original: Option<&Descriptor>) -> Result<Descriptor> {
        let id = short(&layer.diff_id.0);
        let tell = |state, size| (self.events)(TransferEvent::Blob { id: id.clone(), state, size });
        let (descriptor, state) = match self.find(layer, original)? {
            Some((descriptor, state)) => (descriptor, state),
            None => {
                tell(BlobState::Moving, Some(layer.size));
                (self.send(layer, &id)?, BlobState::Done)
            }
        };
        self.store.note_packing(&layer.diff_id, &descriptor, &self.repository.place)?;
        tell(state, Some(descriptor.size));
        Ok(descriptor)
    }

    /// A form of the layer that the registry has: in this repository, or in another that it can be taken over from.
    fn find(&self, layer: &Layer, original: Option<&Descriptor>) -> Result<Option<(Descriptor, BlobState)>> {
        let mut forms = self.store.packings(&layer.diff_id);
        if let Some(original) = original {
            // What the known manifest says comes first: with all of it there, the manifest is the same.
            let known = forms.iter().position(|form| form.descriptor.digest == original.digest);
            let form = match known {
                Some(at) => forms.remove(at),
                None => cache::Packing { descriptor: original.clone(), places: Vec::new() },
            };
            forms.insert(0, form);
        }
        let compression = self.options.compression;
        forms.retain(|form| compression.is_none_or(|wanted| is_packed_as(&form.descriptor.media_type, wanted)));
        let scope = self.repository.push_scope();
        for form in forms.iter().take(FORMS) {
            let packed = Descriptor { media_type: oci_type(&form.descriptor.media_type), ..form.descriptor.clone() };
            if self.repository.has_blob(&packed.digest, &scope).map_err(|cause| self.refused(cause))? {
                return Ok(Some((packed, BlobState::Present)));
            }
            let (registry, own) = self.repository.place.split_once('/').unwrap_or_default();
            let others = form.places.iter().filter_map(|place| place.split_once('/'));
            let others = others.filter(|(host, name)| *host == registry && *name != own);
            for (_, from) in others.take(MOUNTS) {
                // A registry that does not want to is asked no more: the bytes are here.
                match Upload::begin(self.repository, Some((&packed.digest, from)), &|_| ()) {
                    Ok(Begun::Mounted) => return Ok(Some((packed, BlobState::Mounted(from.to_owned())))),
                    Ok(Begun::Session(_)) => {}
                    Err(Cause::Cancelled) => return Err(Error::Cancelled),
                    Err(_) => {}
                }
            }
        }
        Ok(None)
    }

    /// Packs and sends a layer in one pass.
    fn send(&self, layer: &Layer, id: &str) -> Result<Descriptor> {
        let compression = self.options.compression.unwrap_or(LayerCompression::PUSHED);
        let tell = |count| (self.events)(TransferEvent::Bytes { id: id.to_owned(), count });
        self.retried(|| {
            let mut upload = match Upload::begin(self.repository, None, &tell)? {
                Begun::Session(upload) => upload,
                Begun::Mounted => return Err(Stopped::Lost),
            };
            let mut tally = Tally::default();
            let mut stopped = None;
            let packed = pack(
                compression,
                |out| self.store.export_layer(layer, out),
                |bytes| {
                    tally.update(&bytes);
                    upload.write(&bytes).map_err(|why| {
                        stopped = Some(why);
                        io::Error::other("the upload stopped")
                    })
                },
            );
            match (packed, stopped) {
                (_, Some(stopped)) => return Err(stopped),
                (Err(PackError::Source(error)), _) => return Err(Stopped::Here(error.into())),
                (Err(PackError::Sink(error)), _) => return Err(Stopped::Here(Error::Network(error.to_string()))),
                (Ok(()), None) => {}
            }
            let digest = tally.digest().map_err(|error| Stopped::Here(error.into()))?;
            upload.finish(&digest)?;
            Ok(descriptor(compression.media_type(), digest, tally.size))
        })
    }

    /// Begins anew where the registry lost what it had.
    fn retried<T>(&self, send: impl Fn() -> Result<T, Stopped>) -> Result<T> {
        for _ in 0..RESTARTS {
            match send() {
                Ok(sent) => return Ok(sent),
                Err(Stopped::Lost) => {}
                Err(Stopped::Refused(cause)) => return Err(self.refused(cause)),
                Err(Stopped::Here(error)) => return Err(error),
            }
        }
        Err(self.refused(Cause::Other("it loses uploads again and again".to_owned())))
    }

    /// The image has a name by digest now, and the next push knows the manifest.
    fn remember(&self, name: &Reference, digest: &Digest, bytes: &[u8]) -> Result<()> {
        super::pull::put_blob(self.store, self.lease, bytes)?;
        Ok(self.store.tag(&self.image.id, &name.with_digest(digest))?)
    }
}

fn manifest(config: Descriptor, layers: Vec<Descriptor>) -> Result<Outgoing> {
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(MediaType::OciManifest),
        config,
        layers,
        annotations: BTreeMap::new(),
        manifests: None,
    };
    let bytes = serde_json::to_vec(&manifest).map_err(|error| Error::document("the manifest", error))?;
    Ok(Outgoing { media_type: MediaType::OciManifest, bytes })
}
