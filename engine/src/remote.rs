//! What a registry has under a name, looked at from here: nothing of it is pulled.

use builder::Cancel;
use cache::{Descriptor, Platform, Reference};
use registry::RemoteImage;
use serde_json::{Value, json};

use crate::FetchOptions;
use crate::error::Result;
use crate::images::parse_name;

impl FetchOptions {
    /// An image of a registry, in the form of `docker image inspect`, with its manifest and the platforms that it is for.
    ///
    /// # Errors
    /// When the registry does not have or show it.
    pub fn inspect_remote(&self, name: &str, platform: Option<&Platform>, cancel: &Cancel) -> Result<Value> {
        let reference = parse_name(name)?;
        let remote = registry::remote_image(&self.registries(cancel)?, &reference, platform)?;
        Ok(described(&reference, &remote))
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
