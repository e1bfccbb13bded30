//! Entries of indexes: what a name stands for at a registry, and the index that names them.

use cache::{Descriptor, Digest, MediaType, Platform, Reference};
use serde_json::{Value, json};

use super::Client;
use super::pull::configuration;
use super::repository::{Repository, wanted};
use crate::documents::{Document, Manifest, descriptor};
use crate::error::{Error, Result};

/// The manifests that a name stands for, and what each is for.
///
/// # Errors
/// When the registry does not have or show it, or one of them is no image.
pub fn remote_entries(client: &Client, reference: &Reference) -> Result<Vec<(Descriptor, Platform)>> {
    let repository = client.repository(reference, &format!("read {}", reference.familiar()))?;
    let top = repository.manifest(&wanted(reference))?;
    let mut entries = Vec::new();
    match &top.document {
        Document::Manifest(manifest) => {
            let platform = platform_of(&repository, manifest)?;
            entries.push((descriptor(top.media_type.clone(), top.digest.clone(), top.bytes.len() as u64), platform));
        }
        Document::Index(index) => {
            for entry in &index.manifests {
                let platform = match &entry.platform {
                    Some(platform) => platform.clone(),
                    None => match &repository.manifest(&entry.digest.to_string())?.document {
                        Document::Manifest(manifest) => platform_of(&repository, manifest)?,
                        Document::Index(_) => continue,
                    },
                };
                let found = descriptor(entry.media_type.clone(), entry.digest.clone(), entry.size);
                entries.push((found, platform));
            }
        }
    }
    Ok(entries)
}

fn platform_of(repository: &Repository, manifest: &Manifest) -> Result<Platform> {
    let (_, image) = configuration(repository, manifest).map_err(|cause| repository.refused(cause))?;
    let config = image.config;
    Ok(Platform { os: config.os, architecture: config.architecture, variant: config.variant })
}

/// Puts an index of these entries under a name: docker's kind where all of them are docker's.
///
/// # Errors
/// When the registry does not take it.
pub fn push_index(client: &Client, name: &Reference, entries: Vec<Value>) -> Result<Digest> {
    let is_docker =
        |entry: &Value| entry.get("mediaType").and_then(Value::as_str) == Some(MediaType::DockerManifest.as_str());
    let kind = match !entries.is_empty() && entries.iter().all(is_docker) {
        true => MediaType::DockerList,
        false => MediaType::OciIndex,
    };
    let document = json!({ "schemaVersion": 2, "mediaType": kind.as_str(), "manifests": entries });
    let bytes = serde_json::to_vec(&document).map_err(|error| Error::document("the index", error))?;
    let repository = client.repository(name, &format!("push {}", name.familiar()))?;
    repository.put_manifest(&wanted(name), &kind, &bytes)
}
