//! Images as an OCI layout has them: a manifest for each platform, an index where there are several or where something is
//! said of them, annotations, and attestations laid out as BuildKit does.

use std::collections::BTreeMap;

use cache::{Digest, Image, Layer, Lease, MediaType, Platform, Reference, Store};
use serde_json::{Value, json};

use crate::documents::{Descriptor, FULL_NAME, Index, LAYOUT, Manifest, REF_NAME, descriptor};
use crate::error::{Error, Result};
use crate::save::{LayerCompression, Sink, blob_name, config_bytes, layers, send, spool};

/// Annotations of one document or descriptor.
pub type Annotations = BTreeMap<String, String>;

/// An image of one or several platforms, with all that is said of it.
#[derive(Debug, Clone, Default)]
pub struct BuiltImage {
    /// Its names; none for an image given by id.
    pub names: Vec<Reference>,
    /// The image of each platform.
    pub parts: Vec<ImagePart>,
    /// Of the index.
    pub index: Annotations,
    /// Of the descriptor of the index.
    pub index_descriptor: Annotations,
}

/// The image of one platform.
#[derive(Debug, Clone)]
pub struct ImagePart {
    /// The image.
    pub image: Image,
    /// Of its manifest.
    pub manifest: Annotations,
    /// Of the descriptor of its manifest.
    pub descriptor: Annotations,
    /// What is attested of it.
    pub attestations: Vec<Attestation>,
}

/// Something that is attested of an image: the predicate of an in-toto statement.
#[derive(Debug, Clone)]
pub struct Attestation {
    /// The predicate's type, a URI.
    pub predicate_type: &'static str,
    /// The predicate.
    pub predicate: Value,
}

impl ImagePart {
    /// An image of which nothing is said.
    pub fn plain(image: Image) -> ImagePart {
        let (manifest, descriptor) = Default::default();
        ImagePart { image, manifest, descriptor, attestations: Vec::new() }
    }

    fn platform(&self) -> Platform {
        let config = &self.image.config;
        Platform { os: config.os.clone(), architecture: config.architecture.clone(), variant: config.variant.clone() }
    }
}

impl BuiltImage {
    /// It takes an index to hold it.
    pub fn has_index(&self) -> bool {
        self.parts.len() > 1 || self.parts.iter().any(|part| !part.attestations.is_empty())
    }
}

/// Where the blobs and documents of an image go; what is named by another one goes before it.
pub(crate) trait Place {
    /// A layer, and what it is there.
    fn layer(&mut self, layer: &Layer) -> Result<Descriptor>;
    /// A blob that is no layer.
    fn blob(&mut self, digest: &Digest, bytes: &[u8]) -> Result<()>;
    /// A manifest or an index.
    fn document(&mut self, kind: &MediaType, digest: &Digest, bytes: &[u8]) -> Result<()>;
}

/// An OCI layout.
struct Layout<'a> {
    store: &'a Store,
    lease: &'a Lease,
    compression: LayerCompression,
    sink: &'a mut dyn Sink,
}

impl Place for Layout<'_> {
    fn layer(&mut self, layer: &Layer) -> Result<Descriptor> {
        let (path, digest, size) = spool(self.store, self.lease, layer, self.compression)?;
        let name = blob_name(&digest);
        if !self.sink.has(&name) {
            send(self.sink, &name, size, &path)?;
        }
        Ok(descriptor(self.compression.media_type(), digest, size))
    }

    fn blob(&mut self, digest: &Digest, bytes: &[u8]) -> Result<()> {
        let name = blob_name(digest);
        if self.sink.has(&name) { Ok(()) } else { self.sink.bytes(&name, bytes) }
    }

    fn document(&mut self, _kind: &MediaType, digest: &Digest, bytes: &[u8]) -> Result<()> {
        self.blob(digest, bytes)
    }
}

/// Writes a whole layout.
pub(crate) fn write_layout(
    store: &Store,
    lease: &Lease,
    compression: LayerCompression,
    sink: &mut dyn Sink,
    images: &[BuiltImage],
) -> Result<()> {
    let mut place = Layout { store, lease, compression, sink };
    let manifests = Writing { store, lease, place: &mut place }.named(images)?;
    sink.bytes("oci-layout", LAYOUT.as_bytes())?;
    sink.bytes("index.json", &json("index.json", &index(manifests, Annotations::new()))?)
}

/// What images are written with.
pub(crate) struct Writing<'a> {
    pub(crate) store: &'a Store,
    pub(crate) lease: &'a Lease,
    pub(crate) place: &'a mut dyn Place,
}

impl Writing<'_> {
    /// What stands for images under their names in the index of a layout.
    fn named(&mut self, images: &[BuiltImage]) -> Result<Vec<Descriptor>> {
        let mut manifests = Vec::new();
        for image in images {
            for entry in self.entries(image)? {
                if image.names.is_empty() {
                    manifests.push(entry.clone());
                }
                for reference in &image.names {
                    let mut entry = entry.clone();
                    entry.annotations.insert(REF_NAME.to_owned(), reference.tag().unwrap_or("latest").to_owned());
                    entry.annotations.insert(FULL_NAME.to_owned(), reference.to_string());
                    manifests.push(entry);
                }
            }
        }
        Ok(manifests)
    }

    /// What stands for an image: its index, or the manifest of each part.
    pub(crate) fn entries(&mut self, image: &BuiltImage) -> Result<Vec<Descriptor>> {
        let mut manifests = Vec::new();
        for part in &image.parts {
            let manifest = self.manifest(part)?;
            let mut entry = self.document(MediaType::OciManifest, "manifest", &manifest)?;
            entry.platform = Some(part.platform());
            entry.annotations.clone_from(&part.descriptor);
            manifests.push(entry);
        }
        if !image.has_index() {
            return Ok(manifests);
        }
        // Attestations come last: who takes the first that fits takes an image.
        for (part, entry) in image.parts.iter().zip(manifests.clone()) {
            if !part.attestations.is_empty() {
                manifests.push(self.attested(part, &entry, &image.names)?);
            }
        }
        let document = index(manifests, image.index.clone());
        let mut entry = self.document(MediaType::OciIndex, "index", &document)?;
        entry.annotations.clone_from(&image.index_descriptor);
        Ok(vec![entry])
    }

    fn manifest(&mut self, part: &ImagePart) -> Result<Manifest> {
        let mut descriptors = Vec::new();
        for layer in layers(self.store, self.lease, &part.image)? {
            descriptors.push(self.place.layer(&layer)?);
        }
        let config = config_bytes(self.store, &part.image)?;
        let digest = part.image.id.0.clone();
        self.place.blob(&digest, &config)?;
        let config = descriptor(MediaType::OciConfig, digest, config.len() as u64);
        Ok(manifest(config, descriptors, part.manifest.clone()))
    }

    /// The attestation manifest of an image: a layer for each statement.
    fn attested(&mut self, part: &ImagePart, image: &Descriptor, names: &[Reference]) -> Result<Descriptor> {
        let mut statements = Vec::new();
        for attestation in &part.attestations {
            let bytes = json("attestation", &statement(attestation, image, names, &part.platform()))?;
            let digest = Digest::sha256_of(&bytes);
            self.place.blob(&digest, &bytes)?;
            let mut layer = descriptor(MediaType::Other(IN_TOTO.to_owned()), digest, bytes.len() as u64);
            layer.annotations.insert(PREDICATE_TYPE.to_owned(), attestation.predicate_type.to_owned());
            statements.push(layer);
        }
        let diff_ids: Vec<&Digest> = statements.iter().map(|layer| &layer.digest).collect();
        let config = json!({"architecture": "unknown", "os": "unknown", "config": {},
            "rootfs": {"type": "layers", "diff_ids": diff_ids}});
        let config = json("configuration", &config)?;
        let digest = Digest::sha256_of(&config);
        self.place.blob(&digest, &config)?;
        let config = descriptor(MediaType::OciConfig, digest, config.len() as u64);
        let document = manifest(config, statements, Annotations::new());
        let mut entry = self.document(MediaType::OciManifest, "manifest", &document)?;
        let unknown = || "unknown".to_owned();
        entry.platform = Some(Platform { os: unknown(), architecture: unknown(), variant: None });
        entry.annotations.insert(REFERENCE_DIGEST.to_owned(), image.digest.to_string());
        entry.annotations.insert(REFERENCE_TYPE.to_owned(), "attestation-manifest".to_owned());
        Ok(entry)
    }

    fn document(&mut self, kind: MediaType, what: &str, value: &impl serde::Serialize) -> Result<Descriptor> {
        let bytes = json(what, value)?;
        let digest = Digest::sha256_of(&bytes);
        self.place.document(&kind, &digest, &bytes)?;
        Ok(descriptor(kind, digest, bytes.len() as u64))
    }
}

/// The layer of an attestation manifest.
const IN_TOTO: &str = "application/vnd.in-toto+json";
const PREDICATE_TYPE: &str = "in-toto.io/predicate-type";
const REFERENCE_DIGEST: &str = "vnd.docker.reference.digest";
const REFERENCE_TYPE: &str = "vnd.docker.reference.type";

/// An in-toto statement about an image under each of its names.
fn statement(attestation: &Attestation, image: &Descriptor, names: &[Reference], platform: &Platform) -> Value {
    let digest = json!({image.digest.algorithm(): image.digest.hex()});
    let mut subjects: Vec<Value> =
        names.iter().map(|name| json!({"name": package_url(name, platform), "digest": digest})).collect();
    if subjects.is_empty() {
        subjects.push(json!({"name": "_", "digest": digest}));
    }
    json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": subjects,
        "predicateType": attestation.predicate_type,
        "predicate": attestation.predicate,
    })
}

/// `pkg:docker/app@latest?platform=linux%2Famd64`
pub fn package_url(name: &Reference, platform: &Platform) -> String {
    let familiar = name.familiar();
    let (repository, tag) = match familiar.rsplit_once(':').filter(|(_, tag)| !tag.contains('/')) {
        Some((repository, tag)) => (repository, tag),
        None => (familiar.as_str(), "latest"),
    };
    let repository = repository.replace(':', "%3A").replace('@', "%40");
    format!("pkg:docker/{repository}@{tag}?platform={}", platform.to_string().replace('/', "%2F"))
}

fn index(manifests: Vec<Descriptor>, annotations: Annotations) -> Index {
    Index { schema_version: 2, media_type: Some(MediaType::OciIndex), manifests, annotations, layers: None }
}

fn manifest(config: Descriptor, layers: Vec<Descriptor>, annotations: Annotations) -> Manifest {
    Manifest { layers, annotations, ..Manifest::of(config) }
}

fn json(name: &str, value: &impl serde::Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|error| Error::document(name, error))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn package_urls_name_repository_tag_and_platform() {
        let url = |name: &str| package_url(&name.parse().unwrap(), &"linux/arm/v7".parse().unwrap());
        assert_eq!(url("app"), "pkg:docker/app@latest?platform=linux%2Farm%2Fv7");
        assert_eq!(url("h.example:5000/a/b:1"), "pkg:docker/h.example%3A5000/a/b@1?platform=linux%2Farm%2Fv7");
    }
}
