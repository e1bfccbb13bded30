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
#[derive(Debug, Serialize, Deserialize)]
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
#[derive(Debug, Serialize, Deserialize)]
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

pub(crate) fn descriptor(media_type: MediaType, digest: cache::Digest, size: u64) -> Descriptor {
    Descriptor { media_type, digest, size, platform: None, annotations: BTreeMap::new(), rest: serde_json::Map::new() }
}

/// Go writes empty maps as null.
fn null_is_none<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
