//! `dunnage images`, `rmi`, `tag`, `inspect`, `history`: what the store has, in docker's words.

use cache::{Image, ImageId, Reference, StoredImage, failpoint};
use serde_json::{Value, json};

use crate::ContainerInfo;
use crate::Engine;
use crate::error::{Error, Result};

/// What removing an image did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removed {
    /// A name no longer points at it.
    Untagged(String),
    /// The image itself is gone.
    Deleted(String),
}

/// One line of an image's history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryEntry {
    /// RFC 3339.
    pub created: Option<String>,
    /// The instruction.
    pub created_by: String,
    /// Bytes of file content that it added.
    pub size: u64,
    /// Who or what made it.
    pub comment: String,
    /// It made no layer.
    pub empty_layer: bool,
    /// The image's id on the newest line.
    pub image: Option<String>,
}

/// Parses a name that the user typed.
pub(crate) fn parse_name(name: &str) -> Result<Reference> {
    name.parse().map_err(|error: cache::Error| Error::BadName { name: name.to_owned(), reason: error.to_string() })
}

/// The names that go with one: with the last tag of a repository its digests go too, as they do with docker.
fn going_with<'a>(name: &'a Reference, names: &'a [Reference]) -> Vec<&'a Reference> {
    let there = names.iter().filter(|other| other.place() == name.place() && *other != name);
    let (tags, digests): (Vec<_>, Vec<_>) = there.partition(|other| other.tag().is_some());
    let mut going = vec![name];
    if tags.is_empty() {
        going.extend(digests);
    }
    going
}

/// Why a container keeps an image from going: what helps.
fn in_the_way(user: &ContainerInfo, by_name: bool, force: bool) -> Option<&'static str> {
    match (user.status.is_running(), force) {
        (true, true) if by_name => None,
        (true, true) => Some("it runs: stop and remove it first"),
        (true, false) => Some("it runs: stop and remove it first, or take the name away with --force"),
        (false, true) => None,
        (false, false) => Some("remove that one first, or take the name away with --force"),
    }
}

impl Engine {
    /// All images, newest first.
    ///
    /// # Errors
    /// What the store says.
    pub fn images(&self) -> Result<Vec<StoredImage>> {
        Ok(self.store.images()?)
    }

    pub(crate) fn find_image(&self, text: &str) -> Result<Image> {
        Ok(self.store.find_image(text)?)
    }

    /// Points another name at an image.
    ///
    /// # Errors
    /// When there is no such image, or a name is not valid.
    pub fn tag(&self, source: &str, target: &str) -> Result<()> {
        let name = parse_name(target)?;
        if name.digest().is_some() {
            return Err(Error::BadName { name: target.to_owned(), reason: "a tag cannot hold a digest".to_owned() });
        }
        let image = self.find_image(source)?;
        Ok(self.store.tag(&image.id, &name)?)
    }

    /// Takes a name away, and the image with its last name. An image given by id loses all its names with `force`. One that
    /// a container stands on keeps its last name unless `force` is given, and stays in any case.
    ///
    /// # Errors
    /// When there is no such image, it is used by a container, or it has several names and was given by id without `force`.
    pub fn remove_image(&self, text: &str, force: bool) -> Result<Vec<Removed>> {
        let image = self.find_image(text)?;
        let names = self.store.names_of(&image.id)?;
        let given = text.parse::<Reference>().ok().filter(|name| names.contains(name));
        let mut removed = Vec::new();
        let going = given.as_ref().map_or(names.len(), |name| going_with(name, &names).len());
        let user = if going == names.len() { self.user_of(&image.id)? } else { None };
        if let Some(remedy) = user.as_ref().and_then(|user| in_the_way(user, given.is_some(), force)) {
            let (image, container) = (text.to_owned(), user.map(|user| user.record.id).unwrap_or_default());
            return Err(cache::Error::ImageInUse { image, container, remedy }.into());
        }
        match given {
            Some(name) => {
                for name in going_with(&name, &names) {
                    self.store.untag(name)?;
                    removed.push(Removed::Untagged(name.familiar()));
                }
                if names.len() > removed.len() {
                    return Ok(removed);
                }
            }
            None if names.iter().filter(|name| name.tag().is_some()).count() > 1 && !force => {
                return Err(Error::Usage(format!(
                    "image {text} has {} names: remove it by name, or all of them with --force",
                    names.len()
                )));
            }
            None => {
                for name in names {
                    self.store.untag(&name)?;
                    removed.push(Removed::Untagged(name.familiar()));
                }
            }
        }
        failpoint("image.untag")?;
        // A container that was made meanwhile needs it too.
        if self.user_of(&image.id)?.is_none() && self.store.remove_image(&image.id)? {
            removed.push(Removed::Deleted(image.id.to_string()));
        }
        Ok(removed)
    }

    /// A container that stands on an image: one that runs before others.
    fn user_of(&self, id: &ImageId) -> Result<Option<ContainerInfo>> {
        let users = self.containers()?.into_iter().filter(|info| info.record.image == *id);
        Ok(users.max_by_key(|info| info.status.is_running()))
    }

    /// The image as `docker image inspect` shows it.
    ///
    /// # Errors
    /// When there is no such image.
    pub fn inspect(&self, text: &str) -> Result<Value> {
        let image = self.find_image(text)?;
        let stored = self.store.images()?.into_iter().find(|stored| stored.image.id == image.id);
        let (names, size) = stored.map(|stored| (stored.names, stored.size)).unwrap_or_default();
        let config = serde_json::to_value(&image.config.config).unwrap_or(Value::Null);
        let tags: Vec<String> = names.iter().filter(|name| name.tag().is_some()).map(Reference::familiar).collect();
        let by_digest = names.iter().filter(|name| name.digest().is_some());
        let digests: Vec<String> = by_digest.map(Reference::familiar).collect();
        Ok(json!({
            "Id": image.id.to_string(),
            "RepoTags": tags,
            "RepoDigests": digests,
            "Comment": image.config.history.last().and_then(|entry| entry.comment.clone()).unwrap_or_default(),
            "Created": image.config.created,
            "Author": image.config.author.clone().unwrap_or_default(),
            "Config": config,
            "Architecture": image.config.architecture,
            "Variant": image.config.variant,
            "Os": image.config.os,
            "Size": size,
            "RootFS": {
                "Type": "layers",
                "Layers": image.layers.iter().map(ToString::to_string).collect::<Vec<_>>(),
            },
        }))
    }

    /// The image's history, newest first.
    ///
    /// # Errors
    /// When there is no such image.
    pub fn history(&self, text: &str) -> Result<Vec<HistoryEntry>> {
        let image = self.find_image(text)?;
        let lease = self.store.lease()?;
        let mut layers = image.layers.iter();
        let mut entries = Vec::new();
        for line in &image.config.history {
            let layer = if line.empty_layer { None } else { layers.next() };
            let size = match layer {
                Some(id) => self.store.layer(&lease, id)?.map_or(0, |layer| layer.size),
                None => 0,
            };
            entries.push(HistoryEntry {
                created: line.created.clone(),
                created_by: line.created_by.clone().unwrap_or_default(),
                size,
                comment: line.comment.clone().unwrap_or_default(),
                empty_layer: line.empty_layer,
                image: None,
            });
        }
        entries.reverse();
        if let Some(newest) = entries.first_mut() {
            newest.image = Some(image.id.to_string());
        }
        Ok(entries)
    }
}
