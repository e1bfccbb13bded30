//! Blobs on their way to a repository: what it has is not sent, what its registry has elsewhere is taken over, and what is left
//! is packed while it is sent.

use std::io;

use cache::{Descriptor, Digest, Layer, Lease, MediaType, Store};

use super::pull::short;
use super::refusal::Cause;
use super::repository::Repository;
use super::upload::{Begun, Stopped, Upload};
use super::{BlobState, TransferEvent};
use crate::documents::descriptor;
use crate::error::{Error, Result};
use crate::packing::{PackError, Tally, handed_on, pack};
use crate::save::LayerCompression;

/// How often an upload begins anew when the registry loses it.
const RESTARTS: usize = 3;
/// Known forms of a layer that the registry is asked for.
const FORMS: usize = 3;
/// Other repositories that a blob is asked from.
const MOUNTS: usize = 2;

/// Where blobs go, and how.
pub(crate) struct Outbound<'a> {
    pub(crate) store: &'a Store,
    pub(crate) lease: &'a Lease,
    pub(crate) repository: &'a Repository,
    /// How layers are packed; as they are known at the registry, else gzip, when absent.
    pub(crate) compression: Option<LayerCompression>,
    /// Layers that are sent at the same time.
    pub(crate) together: usize,
    pub(crate) events: &'a (dyn Fn(TransferEvent) + Sync),
}

/// A layer that is at the registry.
#[derive(Debug)]
pub(crate) struct Arrived {
    /// As it is there.
    pub(crate) descriptor: Descriptor,
    /// It was sent, and not there already.
    pub(crate) sent: bool,
}

impl Outbound<'_> {
    fn refused(&self, cause: Cause) -> Error {
        self.repository.refused(cause)
    }

    /// A small blob.
    pub(crate) fn document(&self, digest: &Digest, bytes: &[u8]) -> Result<bool> {
        let scope = self.repository.push_scope();
        if self.repository.has_blob(digest, &scope).map_err(|cause| self.refused(cause))? {
            return Ok(false);
        }
        self.retried(|| {
            let mut upload = match Upload::begin(self.repository, None, &|_| ())? {
                Begun::Session(upload) => upload,
                Begun::Mounted => return Ok(()),
            };
            upload.write(bytes)?;
            upload.finish(digest)
        })?;
        Ok(true)
    }

    /// Brings one layer there, the cheapest way that works.
    pub(crate) fn layer(&self, layer: &Layer, original: Option<&Descriptor>) -> Result<Arrived> {
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
        let sent = state == BlobState::Done;
        tell(state, Some(descriptor.size));
        Ok(Arrived { descriptor, sent })
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
        let compression = self.compression;
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
        let compression = self.compression.unwrap_or(LayerCompression::PUSHED);
        let tell = |count| (self.events)(TransferEvent::Bytes { id: id.to_owned(), count });
        self.retried(|| {
            let mut upload = match Upload::begin(self.repository, None, &tell)? {
                Begun::Session(upload) => upload,
                Begun::Mounted => return Err(Stopped::Lost),
            };
            let mut tally = Tally::default();
            let (packed, sent) = handed_on(
                compression,
                |block| upload.write(block),
                |way| {
                    let write = |out: &mut dyn io::Write| self.store.export_layer(layer, out);
                    pack(compression, self.together, write, |bytes| {
                        tally.update(&bytes);
                        way.send(bytes).map_err(|_| io::Error::other("the upload stopped"))
                    })
                },
            );
            sent.unwrap_or_else(|_| Err(Stopped::Here(Error::Network("a transfer stopped".to_owned()))))?;
            match packed {
                Err(PackError::Source(error)) => return Err(Stopped::Here(error.into())),
                Err(PackError::Sink(error)) => return Err(Stopped::Here(Error::Network(error.to_string()))),
                Ok(()) => {}
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
}

pub(super) fn is_packed_as(media_type: &MediaType, wanted: LayerCompression) -> bool {
    oci_type(media_type) == wanted.media_type()
}

/// The type of a layer in an OCI manifest.
pub(crate) fn oci_type(media_type: &MediaType) -> MediaType {
    match media_type {
        MediaType::DockerLayer => MediaType::OciLayer,
        MediaType::DockerLayerGzip => MediaType::OciLayerGzip,
        MediaType::DockerLayerZstd => MediaType::OciLayerZstd,
        other => other.clone(),
    }
}
