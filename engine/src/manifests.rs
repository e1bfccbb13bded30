//! `dunnage manifest`: indexes of images that are here or at registries, put together by hand.

use builder::Cancel;
use cache::{Descriptor, ListContent, ListEntry, ManifestList, Platform, Reference};
use registry::Client;
use serde_json::{Map, Value, json};

use crate::error::{Error, Result};
use crate::images::parse_name;
use crate::pull::Transfers;
use crate::{Engine, FetchOptions};

/// What an entry of a list is said to be for; what is absent stays as it was.
#[derive(Debug, Clone, Default)]
pub struct ListAnnotation {
    /// `arm64` …
    pub architecture: Option<String>,
    /// `linux` …
    pub os: Option<String>,
    /// `v8` …
    pub variant: Option<String>,
    /// Features of the operating system.
    pub os_features: Vec<String>,
    /// Its version.
    pub os_version: Option<String>,
}

impl Engine {
    /// Begins a list of these images, or with `amend` puts them into one that is there.
    ///
    /// # Errors
    /// When an image is neither here nor at its registry, or the list is there and must not be.
    pub fn create_manifest_list(
        &self,
        list: &str,
        sources: &[String],
        amend: bool,
        fetch: &FetchOptions,
        cancel: &Cancel,
    ) -> Result<Reference> {
        let name = list_name(list)?;
        let mut found = match self.store.manifest_list(&name)? {
            Some(_) if !amend => {
                let shown = name.familiar();
                return Err(Error::Usage(format!("the manifest list {shown} is there: --amend adds to it")));
            }
            found => found.unwrap_or_default(),
        };
        let client = fetch.registries(cancel)?;
        for source in sources {
            for entry in self.entries_of(source, &client)? {
                found.entries.retain(|known| known.source != entry.source || known.platform != entry.platform);
                found.entries.push(entry);
            }
        }
        self.store.put_manifest_list(&name, &found)?;
        Ok(name)
    }

    /// An image that is here comes first; an index at a registry gives all that it has.
    fn entries_of(&self, source: &str, client: &Client) -> Result<Vec<ListEntry>> {
        let reference = parse_name(source)?;
        let entry = |content, platform| ListEntry {
            source: reference.familiar(),
            content,
            platform,
            os_features: Vec::new(),
            os_version: None,
        };
        if let Some(id) = self.store.resolve(&reference)?
            && let Some(image) = self.store.image(&id)?
        {
            let config = image.config;
            let platform = Platform { os: config.os, architecture: config.architecture, variant: config.variant };
            return Ok(vec![entry(ListContent::Image(id), platform)]);
        }
        let remote = registry::remote_entries(client, &reference)?;
        Ok(remote.into_iter().map(|(found, platform)| entry(ListContent::Remote(found), platform)).collect())
    }

    /// Says what an entry is for.
    ///
    /// # Errors
    /// When there is no such list or entry.
    pub fn annotate_manifest_list(&self, list: &str, source: &str, annotation: &ListAnnotation) -> Result<()> {
        let name = list_name(list)?;
        let mut found = self.manifest_list(&name)?;
        let source = parse_name(source)?.familiar();
        let mut entries: Vec<&mut ListEntry> =
            found.entries.iter_mut().filter(|entry| entry.source == source).collect();
        let entry = match entries.as_mut_slice() {
            [entry] => entry,
            [] => return Err(Error::Usage(format!("the manifest list {} has no {source}", name.familiar()))),
            _ => return Err(Error::Usage(format!("{source} is for several platforms, which say what they are for"))),
        };
        let said = annotation.clone();
        let platform = entry.platform.clone();
        entry.platform = Platform {
            os: said.os.unwrap_or(platform.os),
            architecture: said.architecture.unwrap_or(platform.architecture),
            variant: said.variant.or(platform.variant).filter(|variant| !variant.is_empty()),
        };
        entry.os_features.extend(said.os_features);
        entry.os_version = said.os_version.or_else(|| entry.os_version.take());
        Ok(self.store.put_manifest_list(&name, &found)?)
    }

    /// A list as an index. An image of the store has no manifest yet: its id stands in.
    ///
    /// # Errors
    /// When there is none.
    pub fn inspect_manifest_list(&self, list: &str) -> Result<Option<Value>> {
        let Some(found) = self.store.manifest_list(&list_name(list)?)? else { return Ok(None) };
        let shown = |entry: &ListEntry| match &entry.content {
            ListContent::Remote(found) => described(found, entry),
            ListContent::Image(id) => json!({ "image": id.to_string(), "platform": platform(entry) }),
        };
        Ok(Some(json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": found.entries.iter().map(shown).collect::<Vec<_>>(),
        })))
    }

    /// Pushes a list, with the images that its registry lacks, and gives its digest.
    ///
    /// # Errors
    /// When there is no such list, or a registry does not do its part.
    pub fn push_manifest_list(
        &self,
        list: &str,
        purge: bool,
        fetch: &FetchOptions,
        events: Transfers<'_>,
        cancel: &Cancel,
    ) -> Result<String> {
        let name = list_name(list)?;
        let found = self.manifest_list(&name)?;
        let (client, lease) = (fetch.registries(cancel)?, self.store.lease()?);
        let mut entries = Vec::new();
        for entry in &found.entries {
            let pushed = match &entry.content {
                ListContent::Remote(found) => {
                    let from = parse_name(&entry.source)?;
                    registry::copy_manifest(&client, &from, &found.digest, &name, events)?;
                    found.clone()
                }
                ListContent::Image(id) => {
                    let image = self.store.image(id)?;
                    let image = image.ok_or_else(|| Error::ImageNotFound { name: entry.source.clone() })?;
                    registry::push_untagged(&client, &self.store, &lease, &image, &name, events)?
                }
            };
            entries.push(described(&pushed, entry));
        }
        let digest = registry::push_index(&client, &name, entries)?;
        if purge {
            self.store.remove_manifest_list(&name)?;
        }
        Ok(digest.to_string())
    }

    /// Takes a list away; nothing at registries changes.
    ///
    /// # Errors
    /// When there is none.
    pub fn remove_manifest_list(&self, list: &str) -> Result<Reference> {
        let name = list_name(list)?;
        match self.store.remove_manifest_list(&name)? {
            true => Ok(name),
            false => Err(no_list(&name)),
        }
    }

    fn manifest_list(&self, name: &Reference) -> Result<ManifestList> {
        self.store.manifest_list(name)?.ok_or_else(|| no_list(name))
    }
}

fn no_list(name: &Reference) -> Error {
    Error::ManifestListNotFound(name.familiar())
}

fn list_name(text: &str) -> Result<Reference> {
    let name = parse_name(text)?;
    match name.digest() {
        None => Ok(name),
        Some(_) => {
            let reason = "a list is named by a tag; its digest follows from what is in it".to_owned();
            Err(Error::BadName { name: text.to_owned(), reason })
        }
    }
}

/// An entry as an index has it.
fn described(found: &Descriptor, entry: &ListEntry) -> Value {
    json!({
        "mediaType": found.media_type.to_string(),
        "digest": found.digest.to_string(),
        "size": found.size,
        "platform": platform(entry),
    })
}

fn platform(entry: &ListEntry) -> Value {
    let mut platform = Map::new();
    platform.insert("architecture".to_owned(), json!(entry.platform.architecture));
    platform.insert("os".to_owned(), json!(entry.platform.os));
    if let Some(version) = &entry.os_version {
        platform.insert("os.version".to_owned(), json!(version));
    }
    if !entry.os_features.is_empty() {
        platform.insert("os.features".to_owned(), json!(entry.os_features));
    }
    if let Some(variant) = &entry.platform.variant {
        platform.insert("variant".to_owned(), json!(variant));
    }
    Value::Object(platform)
}
