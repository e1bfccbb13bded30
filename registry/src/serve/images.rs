//! Images of the store as manifests, and manifests as images of the store.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use cache::{
    Compressed, Descriptor, DiffId, Digest, HostedManifest, HostedTag, Image, ImageId, Layer, Lease, MediaType,
    Platform, Reference,
};

use super::Server;
use super::route::Wanted;
use crate::distribution::{choose, oci_type, original, own_manifest, put_blob};
use crate::documents::{Document, Index, Manifest, descriptor};
use crate::error::{Error, Result};
use crate::load::{Source, import_layers};
use crate::packing::{PackError, pack};
use crate::save::{LayerCompression, config_bytes, layers};

/// Most bytes of an image configuration.
const CONFIG_LIMIT: u64 = 8 << 20;

/// Layers that are being packed, and images that are being unpacked: who wants one too waits for it.
#[derive(Debug, Default)]
pub(super) struct Packers {
    layers: Mutex<HashMap<DiffId, Arc<Mutex<()>>>>,
}

impl Packers {
    fn of(&self, id: &DiffId) -> Arc<Mutex<()>> {
        let mut layers = self.layers.lock().unwrap_or_else(PoisonError::into_inner);
        layers.retain(|_, turn| Arc::strong_count(turn) > 1);
        Arc::clone(layers.entry(id.clone()).or_default())
    }
}

impl Server {
    /// The manifest that a tag or digest stands for. One of an image that nobody pushed is made now.
    pub(super) fn find(&self, repository: &Reference, wanted: &Wanted) -> Result<Option<HostedManifest>> {
        match wanted {
            Wanted::Neither => Ok(None),
            Wanted::Tag(name) => self.find_tag(name),
            Wanted::Digest(digest) => {
                if let Some(manifest) = self.hosted.manifest(repository, digest)?
                    && self.is_whole(repository, &manifest)?
                {
                    return Ok(Some(manifest));
                }
                // What was made from an image may have been pruned: it is made again, and is the same.
                for name in self.hosted.tagged(repository, digest)? {
                    self.find_tag(&name)?;
                }
                Ok(self.hosted.manifest(repository, digest)?)
            }
        }
    }

    /// Whether what was made from an image is all there: if not, it can be made again. Of what was pushed nothing can.
    fn is_whole(&self, repository: &Reference, manifest: &HostedManifest) -> Result<bool> {
        for blob in manifest.blobs.iter().filter(|_| manifest.packed) {
            if self.hosted.blob(repository, blob)?.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn find_tag(&self, name: &Reference) -> Result<Option<HostedManifest>> {
        if let Some(tag) = self.hosted.tag(name)?
            && let Some(manifest) = self.hosted.manifest(name, &tag.digest)?
            && self.is_whole(name, &manifest)?
        {
            return Ok(Some(manifest));
        }
        let Some(id) = self.store.resolve(name)? else { return Ok(None) };
        let Some(image) = self.store.image(&id)? else { return Ok(None) };
        let manifest = match self.known(name, &id)? {
            Some(manifest) => manifest,
            None => self.publish(name, &image)?,
        };
        self.hosted.put_tag(name, &HostedTag { digest: manifest.digest.clone(), image: Some(id) })?;
        Ok(Some(manifest))
    }

    /// The tags of a repository: names of images, and tags of what is none.
    pub(super) fn names(&self, repository: &Reference) -> Result<Vec<Reference>> {
        let stored = self.store.image_names()?.into_iter();
        let mut names: Vec<Reference> =
            stored.filter(|name| name.tag().is_some() && name.place() == repository.place()).collect();
        for (tag, _) in self.hosted.tags(repository)? {
            names.push(repository.with_tag(&tag)?);
        }
        names.sort();
        names.dedup();
        Ok(names)
    }

    /// A manifest of the image that is here: in this repository, else one that was pushed to another.
    fn known(&self, repository: &Reference, id: &ImageId) -> Result<Option<HostedManifest>> {
        let of_image = |manifest: &HostedManifest| manifest.image.as_ref() == Some(id) && manifest.manifests.is_empty();
        let here = self.hosted.manifests(repository)?;
        if let Some(found) = here.into_iter().filter(of_image).min_by_key(|manifest| manifest.packed)
            && self.is_whole(repository, &found)?
        {
            return Ok(Some(found));
        }
        for other in self.hosted.repositories()? {
            let pushed = self.hosted.manifests(&other)?.into_iter().filter(of_image);
            for manifest in pushed.filter(|manifest| !manifest.packed) {
                let Some(bytes) = self.hosted.manifest_bytes(&manifest.digest)? else { continue };
                let mut there = manifest.blobs.iter();
                if there.try_fold(true, |all, blob| Ok::<_, Error>(all && self.hosted.link_blob(repository, blob)?))? {
                    self.hosted.put_manifest(repository, &manifest, &bytes)?;
                    return Ok(Some(manifest));
                }
            }
        }
        Ok(None)
    }

    /// Makes a manifest of an image, and the blobs that it names: what a push would send.
    fn publish(&self, repository: &Reference, image: &Image) -> Result<HostedManifest> {
        let lease = self.store.lease()?;
        let mut packed = Vec::new();
        for layer in layers(&self.store, &lease, image)? {
            packed.push(self.packed(&lease, repository, &layer)?);
        }
        let config = config_bytes(&self.store, image)?;
        self.hosted.put_blob(repository, &config)?;
        let same = |manifest: &Manifest| {
            manifest.layers.iter().map(|layer| &layer.digest).eq(packed.iter().map(|layer| &layer.digest))
        };
        // An image of another registry keeps its digest where the bytes are the same.
        let outgoing = match original(&self.store, image)? {
            Some((outgoing, manifest)) if same(&manifest) => outgoing,
            _ => own_manifest(descriptor(MediaType::OciConfig, image.id.0.clone(), config.len() as u64), packed)?,
        };
        let (document, media_type) = Document::parse(&outgoing.bytes, Some(&outgoing.media_type))
            .map_err(|reason| Error::document("the manifest", reason))?;
        let record = Said::of(&outgoing.bytes).record(
            Digest::sha256_of(&outgoing.bytes),
            media_type,
            outgoing.bytes.len() as u64,
            &document,
        );
        let record = HostedManifest { image: Some(image.id.clone()), packed: true, ..record };
        self.hosted.put_manifest(repository, &record, &outgoing.bytes)?;
        Ok(record)
    }

    /// A layer as a blob of the repository: in a form that is here, else packed as a push does it.
    fn packed(&self, lease: &Lease, repository: &Reference, layer: &Layer) -> Result<Descriptor> {
        let turn = self.packers.of(&layer.diff_id);
        let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
        for form in self.store.packings(&layer.diff_id) {
            if self.hosted.link_blob(repository, &form.descriptor.digest)? {
                return Ok(Descriptor { media_type: oci_type(&form.descriptor.media_type), ..form.descriptor });
            }
        }
        let mut writer = self.hosted.draft(lease)?;
        let compression = LayerCompression::PUSHED;
        let written = pack(compression, 1, |out| self.store.export_layer(layer, out), |bytes| writer.write_all(&bytes));
        written.map_err(|error| match error {
            PackError::Source(error) => Error::Store(error),
            PackError::Sink(error) => Error::Store(cache::Error::at("write", "a packed layer", error)),
        })?;
        let blob = writer.commit(repository, None)?;
        let packed = descriptor(compression.media_type(), blob.digest, blob.size);
        self.note_form(repository, &layer.diff_id, &packed)?;
        Ok(packed)
    }

    /// The place is no registry's name: pushes of this machine look there for nothing.
    fn note_form(&self, repository: &Reference, id: &DiffId, packed: &Descriptor) -> Result<()> {
        Ok(self.store.note_packing(id, packed, &format!("served/{}", repository.place()))?)
    }

    /// The image of a manifest that was pushed; none where it is something else. Its layers are unpacked into the store.
    pub(super) fn adopt(
        &self,
        repository: &Reference,
        manifest: &Manifest,
        names: &[Reference],
    ) -> Result<Option<ImageId>> {
        let is_image = matches!(manifest.config.media_type, MediaType::OciConfig | MediaType::DockerConfig)
            && manifest.layers.iter().all(|layer| layer.media_type.is_layer());
        let Some(config) = self.hosted.blob(repository, &manifest.config.digest)?.filter(|_| is_image) else {
            return Ok(None);
        };
        let bytes = read_config(&config)?;
        let image = Image::from_bytes(&bytes)?;
        if image.layers.len() != manifest.layers.len() {
            let (here, there) = (manifest.layers.len(), image.layers.len());
            return Err(Error::document("the manifest", format!("it has {here} layers, its configuration {there}")));
        }
        // A client that waited too long and asks again waits for the first time, and finds all of it there.
        let turn = self.packers.of(&DiffId(image.id.0.clone()));
        let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
        let lease = self.store.lease()?;
        let mut sources = Vec::new();
        for layer in &manifest.layers {
            let blob = self.hosted.blob(repository, &layer.digest)?;
            let file = blob.ok_or_else(|| Error::Missing(layer.digest.to_string()))?.open()?;
            let compressed = Some(Compressed { digest: layer.digest.clone(), size: layer.size });
            sources.push(Source { file, compressed });
        }
        import_layers(&self.store, &lease, &image.layers, sources)?;
        let image = self.store.put_image_bytes(&lease, &bytes, names)?;
        for (id, packed) in image.layers.iter().zip(&manifest.layers) {
            self.note_form(repository, id, packed)?;
        }
        Ok(Some(image.id))
    }

    /// The image for this machine of an index that was pushed.
    pub(super) fn adopt_index(
        &self,
        repository: &Reference,
        index: &Index,
        names: &[Reference],
    ) -> Result<Option<ImageId>> {
        let Ok(entry) = choose(&index.manifests, &Platform::host()) else { return Ok(None) };
        let Some(id) = self.hosted.manifest(repository, &entry.digest)?.and_then(|manifest| manifest.image) else {
            return Ok(None);
        };
        for name in names {
            self.store.tag(&id, name)?;
        }
        Ok(Some(id))
    }

    /// Keeps a manifest where pushes and `inspect` look for what an image came as.
    pub(super) fn remember(&self, bytes: &[u8]) -> Result<()> {
        put_blob(&self.store, &self.store.lease()?, bytes)
    }

    /// Takes a tag away: the name of an image, or of what is none. False when there is no such tag.
    pub(super) fn remove_tag(&self, name: &Reference) -> Result<bool> {
        let was_hosted = self.hosted.tag(name)?.is_some();
        self.hosted.remove_tag(name)?;
        Ok(self.store.untag(name)? || was_hosted)
    }

    /// Takes a manifest away, with the tags and names that stand for it, and its image with the last name.
    pub(super) fn remove_manifest(&self, repository: &Reference, digest: &Digest) -> Result<bool> {
        let Some(manifest) = self.find(repository, &Wanted::Digest(digest.clone()))? else { return Ok(false) };
        for name in self.names(repository)? {
            if self.hosted.tag(&name)?.is_some_and(|tag| tag.digest == *digest) {
                self.remove_tag(&name)?;
            }
        }
        self.store.untag(&repository.with_digest(digest))?;
        self.hosted.remove_manifest(repository, digest)?;
        if let Some(id) = manifest.image
            && self.store.names_of(&id)?.is_empty()
            && !self.is_used(&id)?
        {
            self.store.remove_image(&id)?;
        }
        Ok(true)
    }

    /// Whether a container stands on an image, or another manifest is it.
    fn is_used(&self, id: &ImageId) -> Result<bool> {
        if self.store.containers()?.iter().any(|(container, _)| container.image == *id) {
            return Ok(true);
        }
        for repository in self.hosted.repositories()? {
            if self.hosted.manifests(&repository)?.iter().any(|manifest| manifest.image.as_ref() == Some(id)) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn read_config(blob: &cache::HostedBlob) -> Result<Vec<u8>> {
    use std::io::Read;
    if blob.size > CONFIG_LIMIT {
        return Err(Error::document("the configuration", format!("it is larger than {} MiB", CONFIG_LIMIT >> 20)));
    }
    let mut bytes = Vec::new();
    let file: File = blob.open()?;
    file.take(CONFIG_LIMIT).read_to_end(&mut bytes).map_err(Error::read(blob.digest.hex()))?;
    match Digest::like(&blob.digest, &bytes) {
        found if found == blob.digest => Ok(bytes),
        found => Err(cache::Error::DigestMismatch { expected: blob.digest.clone(), found }.into()),
    }
}

/// What a manifest says besides what it holds (image-spec, "subject", "artifactType").
#[derive(Debug, Default, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Said {
    #[serde(default)]
    pub(super) subject: Option<Descriptor>,
    #[serde(default)]
    artifact_type: Option<String>,
    #[serde(default)]
    annotations: Option<std::collections::BTreeMap<String, String>>,
}

impl Said {
    /// Of bytes that were read as a document already.
    fn of(bytes: &[u8]) -> Said {
        serde_json::from_slice(bytes).unwrap_or_default()
    }

    /// The record of a manifest of no image.
    pub(super) fn record(
        self,
        digest: Digest,
        media_type: MediaType,
        size: u64,
        document: &Document,
    ) -> HostedManifest {
        let artifact_type = self.artifact_type.filter(|kind| !kind.is_empty());
        let (blobs, manifests, artifact_type) = match document {
            Document::Manifest(manifest) => {
                let named = manifest.layers.iter().filter(|layer| !is_elsewhere(layer));
                let blobs = std::iter::once(&manifest.config).chain(named).map(|named| named.digest.clone()).collect();
                let kind = artifact_type.unwrap_or_else(|| manifest.config.media_type.to_string());
                (blobs, Vec::new(), Some(kind))
            }
            Document::Index(index) => {
                let named = index.manifests.iter().map(|named| named.digest.clone()).collect();
                (Vec::new(), named, artifact_type)
            }
        };
        HostedManifest {
            digest,
            media_type,
            size,
            image: None,
            packed: false,
            blobs,
            manifests,
            subject: self.subject.map(|subject| subject.digest),
            artifact_type,
            annotations: self.annotations.unwrap_or_default(),
        }
    }
}

/// A layer that its owner lets nobody else hand on: it is fetched from where its URLs say, not from registries.
pub(super) fn is_elsewhere(layer: &Descriptor) -> bool {
    layer.rest.get("urls").and_then(|urls| urls.as_array()).is_some_and(|urls| !urls.is_empty())
}
