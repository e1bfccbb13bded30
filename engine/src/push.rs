//! `dunnage push`: images to registries.

use std::collections::BTreeMap;

use builder::Cancel;
use cache::{ImageId, Reference};
use registry::{LayerCompression, PushOptions};

use crate::error::{Error, Result};
use crate::images::parse_name;
use crate::pull::Transfers;
use crate::{Engine, FetchOptions};

/// What to push.
#[derive(Debug, Clone, Default)]
pub struct PushRequest {
    /// Names of images.
    pub names: Vec<String>,
    /// All tags that the store has of each repository.
    pub all_tags: bool,
    /// How layers are packed.
    pub compression: Option<LayerCompression>,
}

/// A name that was pushed.
#[derive(Debug, Clone)]
pub struct PushedImage {
    /// The name.
    pub name: Reference,
    /// The manifest's digest.
    pub digest: String,
    /// The manifest's bytes.
    pub size: u64,
}

impl Engine {
    /// Pushes images under their names.
    ///
    /// # Errors
    /// When one is not here, or a registry does not take it; what was pushed before stays there.
    pub fn push(
        &self,
        request: &PushRequest,
        fetch: &FetchOptions,
        events: Transfers<'_>,
        cancel: &Cancel,
    ) -> Result<Vec<PushedImage>> {
        let mut groups: BTreeMap<(String, String), (ImageId, Vec<Reference>)> = BTreeMap::new();
        for text in &request.names {
            let reference = parse_name(text)?;
            if reference.digest().is_some() {
                let reason = "an image is pushed under a tag; its digest follows from it".to_owned();
                return Err(Error::BadName { name: text.clone(), reason });
            }
            for name in self.to_push(text, &reference, request.all_tags)? {
                let Some(id) = self.store.resolve(&name)? else {
                    return Err(cache::Error::ImageNotFound { text: text.clone(), nearest: None }.into());
                };
                let group = groups.entry((name.place(), id.to_string())).or_insert_with(|| (id, Vec::new()));
                if !group.1.contains(&name) {
                    group.1.push(name);
                }
            }
        }
        let client = fetch.registries(cancel)?;
        let lease = self.store.lease()?;
        let options = PushOptions { compression: request.compression };
        let mut pushed = Vec::new();
        for (id, names) in groups.into_values() {
            let Some(image) = self.store.image(&id)? else { return Err(Error::ImageNotFound { name: id.to_string() }) };
            let done = registry::push(&client, &self.store, &lease, &image, &names, &options, events)?;
            pushed.extend(done.into_iter().map(|done| PushedImage {
                name: done.name,
                digest: done.digest.to_string(),
                size: done.size,
            }));
        }
        Ok(pushed)
    }

    fn to_push(&self, text: &str, reference: &Reference, all_tags: bool) -> Result<Vec<Reference>> {
        if !all_tags {
            // Tells a name that is alike where there is none.
            self.store.find_image(text)?;
            return Ok(vec![reference.clone()]);
        }
        if text.split('/').next_back().unwrap_or(text).contains(':') {
            return Err(Error::Usage("--all-tags takes a name without a tag".to_owned()));
        }
        let stored = self.store.images()?;
        let names = stored.into_iter().flat_map(|stored| stored.names);
        let names: Vec<Reference> =
            names.filter(|name| name.place() == reference.place() && name.tag().is_some()).collect();
        if names.is_empty() {
            return Err(cache::Error::ImageNotFound { text: text.to_owned(), nearest: None }.into());
        }
        Ok(names)
    }
}
