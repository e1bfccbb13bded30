//! What a registry has under a name, looked at from here: nothing of it is pulled.

use builder::Cancel;
use cache::{Descriptor, Platform, Reference};
use registry::RemoteImage;
use serde_json::{Value, json};

use crate::FetchOptions;
use crate::error::Result;
use crate::images::parse_name;

impl FetchOptions {
    /// Removes a tag, or with a digest a manifest and all its tags, from a registry.
    ///
    /// # Errors
    /// When it is not there, or the registry does not remove.
    pub fn remove_remote(&self, name: &str, cancel: &Cancel) -> Result<Reference> {
        let reference = parse_name(name)?;
        let doing = format!("remove {}", reference.familiar());
        self.registries(cancel)?.repository(&reference, &doing)?.delete_manifest(&registry::wanted(&reference))?;
        Ok(reference)
    }

    /// Repositories that have to do with a term, which may begin with the registry to ask.
    ///
    /// # Errors
    /// When the registry does not search, or cannot be asked.
    pub fn search(&self, term: &str, limit: usize, cancel: &Cancel) -> Result<Vec<registry::Found>> {
        let is_host = |host: &str| host.contains(['.', ':']) || host == "localhost";
        let (host, term) = match term.split_once('/').filter(|(host, _)| is_host(host)) {
            Some((host, term)) => (host, term),
            None => ("docker.io", term),
        };
        // It becomes a name: what cannot be one is refused here.
        parse_name(&format!("{host}/search"))?;
        Ok(self.registries(cancel)?.search(host, term, limit)?)
    }

    /// An image of a registry, in the form of `docker image inspect`, with its manifest and the platforms that it is for.
    ///
    /// # Errors
    /// When the registry does not have or show it.
    pub fn inspect_remote(&self, name: &str, platform: Option<&Platform>, cancel: &Cancel) -> Result<Value> {
        let reference = parse_name(name)?;
        let client = self.registries(cancel)?;
        let remote = registry::remote_image(&client, &reference, platform)?;
        let repository = client.repository(&reference, &format!("inspect {}", reference.familiar()))?;
        // Some registries have no answer to that, and the image is worth showing all the same.
        let mut referrers = repository.referrers(&remote.top.digest).unwrap_or_default();
        if remote.manifest.digest != remote.top.digest {
            referrers.extend(repository.referrers(&remote.manifest.digest).unwrap_or_default());
        }
        let mut value = described(&reference, &remote);
        if let Value::Object(fields) = &mut value {
            fields.insert("Referrers".to_owned(), referrers.iter().map(referrer).collect());
        }
        Ok(value)
    }

    /// The manifest or index of a name, byte for byte.
    ///
    /// # Errors
    /// When the registry does not have or show it.
    pub fn remote_manifest(&self, name: &str, cancel: &Cancel) -> Result<Vec<u8>> {
        let reference = parse_name(name)?;
        let repository =
            self.registries(cancel)?.repository(&reference, &format!("inspect {}", reference.familiar()))?;
        Ok(repository.manifest(&registry::wanted(&reference))?.bytes)
    }
}

/// What says something of an image: a signature, an attestation.
fn referrer(descriptor: &Descriptor) -> Value {
    json!({
        "MediaType": descriptor.media_type.to_string(),
        "ArtifactType": descriptor.rest.get("artifactType"),
        "Digest": descriptor.digest.to_string(),
        "Size": descriptor.size,
        "Annotations": descriptor.annotations,
    })
}

fn described(reference: &Reference, remote: &RemoteImage) -> Value {
    let image = &remote.image;
    let mut platforms: Vec<String> =
        remote.top.entries().iter().filter_map(|entry| entry.platform.as_ref()).map(Platform::to_string).collect();
    if platforms.is_empty() {
        platforms.push(format!("{}/{}", image.config.os, image.config.architecture));
    }
    let tags: Vec<String> = reference.tag().map(|_| reference.familiar()).into_iter().collect();
    let packed: u64 = remote.layers.iter().map(|layer| layer.size).sum();
    let layer = |layer: &Descriptor| json!({ "MediaType": layer.media_type.to_string(), "Digest": layer.digest.to_string(), "Size": layer.size });
    json!({
        "Id": image.id.to_string(),
        "RepoTags": tags,
        "RepoDigests": [reference.with_digest(&remote.top.digest).familiar()],
        "Created": image.config.created,
        "Author": image.config.author.clone().unwrap_or_default(),
        "Config": serde_json::to_value(&image.config.config).unwrap_or(Value::Null),
        "Architecture": image.config.architecture,
        "Variant": image.config.variant,
        "Os": image.config.os,
        "Size": packed,
        "RootFS": {
            "Type": "layers",
            "Layers": image.layers.iter().map(ToString::to_string).collect::<Vec<_>>(),
        },
        "Manifest": {
            "MediaType": remote.manifest.media_type.to_string(),
            "Digest": remote.manifest.digest.to_string(),
            "Layers": remote.layers.iter().map(layer).collect::<Vec<_>>(),
        },
        "Platforms": platforms,
    })
}
