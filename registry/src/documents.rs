//! The JSON documents of both formats (OCI image-spec: image-layout, index, manifest; `docker save`: manifest.json).

use std::collections::BTreeMap;

pub(crate) use cache::Descriptor;
use cache::MediaType;
use serde::{Deserialize, Serialize};

/// Most bytes of a document.
pub(crate) const DOCUMENT_LIMIT: u64 = 4 << 20;

/// Annotation with an image's tag, or its whole name.
pub(crate) const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// Annotation with an image's whole name, as containerd writes it.
pub(crate) const FULL_NAME: &str = "io.containerd.image.name";

/// `oci-layout`.
pub(crate) const LAYOUT: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;

/// One image of `manifest.json`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct DockerImage {
    pub(crate) config: String,
    #[serde(default)]
    pub(crate) repo_tags: Option<Vec<String>>,
    pub(crate) layers: Vec<String>,
}

/// An OCI index or Docker manifest list.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Index {
    pub(crate) schema_version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) media_type: Option<MediaType>,
    pub(crate) manifests: Vec<Descriptor>,
    #[serde(default, deserialize_with = "null_is_none", skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) annotations: BTreeMap<String, String>,
    /// An index must not have layers: readers that disagree on what a document is are an attack.
    #[serde(default, skip_serializing)]
    pub(crate) layers: Option<serde_json::Value>,
}

/// An OCI manifest or Docker schema 2 manifest.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Manifest {
    pub(crate) schema_version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) media_type: Option<MediaType>,
    pub(crate) config: Descriptor,
    pub(crate) layers: Vec<Descriptor>,
    #[serde(default, deserialize_with = "null_is_none", skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) annotations: BTreeMap<String, String>,
    #[serde(default, skip_serializing)]
    pub(crate) manifests: Option<serde_json::Value>,
}

impl Manifest {
    /// An OCI manifest of no layers.
    pub(crate) fn of(config: Descriptor) -> Manifest {
        Manifest {
            schema_version: 2,
            media_type: Some(MediaType::OciManifest),
            config,
            layers: Vec::new(),
            annotations: BTreeMap::new(),
            manifests: None,
        }
    }
}

/// What a registry has under a name.
#[derive(Debug, Clone)]
pub(crate) enum Document {
    Index(Index),
    Manifest(Box<Manifest>),
}

impl Document {
    /// Reads a document as what both the server and the document itself say that it is.
    pub(crate) fn parse(bytes: &[u8], said: Option<&MediaType>) -> Result<(Document, MediaType), String> {
        let probe: Probe =
            serde_json::from_slice(bytes).map_err(|error| format!("the manifest cannot be read: {error}"))?;
        if probe.schema_version == Some(1) {
            return Err("it is of Docker's schema 1, which is not in use any more; push the image again".to_owned());
        }
        let said = said.filter(|said| said.is_index() || said.is_manifest());
        if let (Some(said), Some(own)) = (said, &probe.media_type)
            && said != own
        {
            return Err(format!("the server calls it {said}, and it calls itself {own}"));
        }
        let kind = said.cloned().or(probe.media_type).unwrap_or(match probe.manifests.is_some() {
            true => MediaType::OciIndex,
            false => MediaType::OciManifest,
        });
        if probe.manifests.is_some() && (probe.layers.is_some() || probe.config.is_some()) {
            return Err("it has both the parts of an index and those of a manifest".to_owned());
        }
        let bad = |error: serde_json::Error| format!("the manifest cannot be read: {error}");
        if kind.is_index() {
            Ok((Document::Index(serde_json::from_slice(bytes).map_err(bad)?), kind))
        } else if kind.is_manifest() {
            Ok((Document::Manifest(serde_json::from_slice(bytes).map_err(bad)?), kind))
        } else {
            Err(format!("documents of the type {kind} are not known"))
        }
    }
}

/// The parts that tell documents apart.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Probe {
    schema_version: Option<u32>,
    media_type: Option<MediaType>,
    manifests: Option<serde::de::IgnoredAny>,
    layers: Option<serde::de::IgnoredAny>,
    config: Option<serde::de::IgnoredAny>,
}

pub(crate) fn descriptor(media_type: MediaType, digest: cache::Digest, size: u64) -> Descriptor {
    Descriptor { media_type, digest, size, platform: None, annotations: BTreeMap::new(), rest: serde_json::Map::new() }
}

/// Go writes empty maps as null.
fn null_is_none<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
