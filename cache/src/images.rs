//! Images and their names.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::PathBuf;

use crate::digest::ImageId;
use crate::error::{Error, Result};
use crate::failpoint::failpoint;
use crate::image::{Image, ImageConfig};
use crate::lease::{Lease, entries};
use crate::reference::Reference;
use crate::store::{Store, sync_directory, write_durably};

/// Most bytes of a configuration document.
const CONFIG_LIMIT: usize = 8 << 20;
/// Fewest digits of an id that name an image.
const SHORTEST_ID: usize = 4;

/// An image with what the store knows of it.
#[derive(Debug, Clone)]
pub struct StoredImage {
    /// The image.
    pub image: Image,
    /// The names that point at it.
    pub names: Vec<Reference>,
    /// Bytes of file content in its layers.
    pub size: u64,
}

impl Store {
    pub(crate) fn image_path(&self, id: &ImageId) -> PathBuf {
        self.path("images").join(format!("{}.json", id.hex()))
    }

    /// A name as a file name: `/` and `%` escaped, nothing else can be trouble.
    pub(crate) fn ref_path(&self, name: &Reference) -> PathBuf {
        self.path("refs").join(name.to_string().replace('%', "%25").replace('/', "%2F"))
    }

    /// Writes an image from its configuration and points `names` at it. Durable when it returns.
    ///
    /// # Errors
    /// When a layer is missing or the disk fails.
    pub fn put_image(&self, lease: &Lease, config: &ImageConfig, names: &[Reference]) -> Result<Image> {
        self.put_image_bytes(lease, &config.to_bytes()?, names)
    }

    /// The same from the configuration's bytes as they came, so that the id is theirs.
    ///
    /// # Errors
    /// When they are no configuration, a layer is missing, or the disk fails.
    pub fn put_image_bytes(&self, lease: &Lease, config: &[u8], names: &[Reference]) -> Result<Image> {
        if config.len() > CONFIG_LIMIT {
            return Err(Error::Limit(format!("an image configuration of {} bytes", config.len())));
        }
        let image = Image::from_bytes(config)?;
        failpoint("image.layers")?;
        for id in &image.layers {
            if self.layer(lease, id)?.is_none() {
                return Err(Error::LayerNotFound(id.clone()));
            }
        }
        let _lock = self.shared()?;
        // Whoever made the layers may have died, or failed, before their names were on the disk.
        sync_directory(&self.path("layers"))?;
        let path = self.image_path(&image.id);
        // One that is there and damaged is not good enough.
        let there = std::fs::read(&path).ok();
        if there.as_deref() == Some(config) {
            sync_directory(&self.path("images"))?;
        } else {
            if there.is_some() {
                self.set_aside_with_notice(&path, "image", || {
                    format!("the configuration of image {} was damaged and is in quarantine", image.id)
                });
            }
            failpoint("image.write")?;
            write_durably(&path, &self.loose_draft()?, config)?;
        }
        for name in names {
            self.write_ref(name, &image.id)?;
        }
        Ok(image)
    }

    fn write_ref(&self, name: &Reference, id: &ImageId) -> Result<()> {
        let path = self.ref_path(name);
        if std::fs::read_to_string(&path).is_ok_and(|there| there == id.to_string()) {
            return sync_directory(&self.path("refs"));
        }
        failpoint("name.write")?;
        write_durably(&path, &self.loose_draft()?, id.to_string().as_bytes())
    }

    /// Looks an image up by id.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    pub fn image(&self, id: &ImageId) -> Result<Option<Image>> {
        let Some(bytes) = self.image_bytes(id)? else { return Ok(None) };
        match Image::from_bytes(&bytes).ok().filter(|image| image.id == *id) {
            Some(image) => Ok(Some(image)),
            None => Err(self.damaged_image(id)?),
        }
    }

    fn damaged_image(&self, id: &ImageId) -> Result<Error> {
        let names = self.names()?.into_iter().filter(|(_, there)| there == id).map(|(name, _)| name.familiar());
        let called = names.collect::<Vec<_>>().join(", ");
        Ok(Error::ImageDamaged(if called.is_empty() { id.to_string() } else { called }))
    }

    /// The image's configuration bytes.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    pub fn image_bytes(&self, id: &ImageId) -> Result<Option<Vec<u8>>> {
        match std::fs::read(self.image_path(id)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::path("read", self.image_path(id))(error)),
        }
    }

    /// The image that a name points at.
    ///
    /// # Errors
    /// When the name's file cannot be read.
    pub fn resolve(&self, name: &Reference) -> Result<Option<ImageId>> {
        // A digest says all: the tag beside it is for people.
        let name = &name.digest().map_or_else(|| name.clone(), |digest| name.with_digest(digest));
        let path = self.ref_path(name);
        match std::fs::read_to_string(&path) {
            Ok(text) => text.parse().map(Some).map_err(|_| Error::NameDamaged(name.familiar())),
            Err(error) if error.kind() == ErrorKind::InvalidData => Err(Error::NameDamaged(name.familiar())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::path("read", path)(error)),
        }
    }

    /// An image by what a user types: a name, else the beginning of an id.
    ///
    /// # Errors
    /// When there is none, or the beginning fits several.
    pub fn find_image(&self, text: &str) -> Result<Image> {
        let by_name = match text.parse::<Reference>() {
            Ok(name) => self.resolve(&name)?,
            Err(_) => None,
        };
        let id = match by_name {
            Some(id) => Some(id),
            None => self.find_id(text)?,
        };
        let image = match id {
            Some(id) => self.image(&id)?,
            None => None,
        };
        match image {
            Some(image) => Ok(image),
            None => Err(Error::ImageNotFound { text: text.to_owned(), nearest: self.nearest_name(text)? }),
        }
    }

    fn find_id(&self, text: &str) -> Result<Option<ImageId>> {
        let prefix = text.strip_prefix("sha256:").unwrap_or(text);
        if prefix.len() < SHORTEST_ID || !prefix.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return Ok(None);
        }
        let mut found: Vec<ImageId> = self.image_ids()?.into_iter().filter(|id| id.hex().starts_with(prefix)).collect();
        match (found.pop(), found.is_empty()) {
            (id, true) => Ok(id),
            _ => Err(Error::AmbiguousId(text.to_owned())),
        }
    }

    /// A name that begins alike: enough for `app:lastest`.
    fn nearest_name(&self, text: &str) -> Result<Option<String>> {
        let wanted = text.split(':').next().unwrap_or(text);
        let names = self.names()?.into_keys().map(|name| name.familiar());
        Ok(names.filter(|name| name.split(':').next() == Some(wanted)).min())
    }

    pub(crate) fn image_ids(&self) -> Result<Vec<ImageId>> {
        let names = entries(&self.path("images"))?;
        Ok(names
            .iter()
            .filter_map(|(name, _)| format!("sha256:{}", name.strip_suffix(".json")?).parse().ok())
            .collect())
    }

    /// All names with what they point at.
    pub(crate) fn names(&self) -> Result<BTreeMap<Reference, ImageId>> {
        let mut names = BTreeMap::new();
        for (file, path) in entries(&self.path("refs"))? {
            let Ok(name) = file.replace("%2F", "/").replace("%25", "%").parse::<Reference>() else { continue };
            if let Ok(text) = std::fs::read_to_string(&path)
                && let Ok(id) = text.trim().parse()
            {
                names.insert(name, id);
            }
        }
        Ok(names)
    }

    /// All names of images, in order.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn image_names(&self) -> Result<Vec<Reference>> {
        Ok(self.names()?.into_keys().collect())
    }

    /// The names that point at an image.
    ///
    /// # Errors
    /// When the names cannot be read.
    pub fn names_of(&self, id: &ImageId) -> Result<Vec<Reference>> {
        Ok(self.names()?.into_iter().filter(|(_, there)| there == id).map(|(name, _)| name).collect())
    }

    /// Points a name at an image.
    ///
    /// # Errors
    /// When the image is not there or the disk fails.
    pub fn tag(&self, id: &ImageId, name: &Reference) -> Result<()> {
        let _lock = self.shared()?;
        if self.image(id)?.is_none() {
            return Err(Error::ImageNotFound { text: id.to_string(), nearest: None });
        }
        failpoint("name.tag")?;
        self.write_ref(name, id)
    }

    /// Takes a name away; true when it was there.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn untag(&self, name: &Reference) -> Result<bool> {
        let _lock = self.shared()?;
        failpoint("name.remove")?;
        remove_file(self.ref_path(name))
    }

    /// Removes an image that has no name; its layers stay until prune. False when it has one, which another process may
    /// have given it just now, or when it is not there.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn remove_image(&self, id: &ImageId) -> Result<bool> {
        // Exclusive: nobody names it between the look and the removal.
        let _lock = self.exclusive()?;
        failpoint("image.remove")?;
        if self.names()?.values().any(|there| there == id) {
            return Ok(false);
        }
        remove_file(self.image_path(id))
    }

    /// All images, newest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn images(&self) -> Result<Vec<StoredImage>> {
        let names = self.names()?;
        let mut images = Vec::new();
        for id in self.image_ids()? {
            let image = match self.image(&id) {
                Ok(Some(image)) => image,
                Ok(None) => continue,
                // The others are worth a list all the same.
                Err(error @ Error::ImageDamaged(_)) => {
                    self.notice(error.to_string());
                    continue;
                }
                Err(error) => return Err(error),
            };
            let mut size = 0;
            for layer in &image.layers {
                size += self.read_layer(layer).ok().flatten().map_or(0, |layer| layer.size);
            }
            let names = names.iter().filter(|(_, there)| **there == id).map(|(name, _)| name.clone()).collect();
            images.push(StoredImage { image, names, size });
        }
        images.sort_by(|one, other| {
            other.image.config.created.cmp(&one.image.config.created).then_with(|| one.names.cmp(&other.names))
        });
        Ok(images)
    }
}

fn remove_file(path: PathBuf) -> Result<bool> {
    match std::fs::remove_file(&path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::path("remove", path)(error)),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn names_come_and_go_and_ids_may_be_short() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let lease = store.lease().unwrap();
        let name: Reference = "r.example:5000/a/b:c".parse().unwrap();
        let image = store.put_image(&lease, &ImageConfig::default(), std::slice::from_ref(&name)).unwrap();
        assert_eq!(store.resolve(&name).unwrap().unwrap(), image.id);
        assert_eq!(store.find_image(image.id.hex().get(..6).unwrap()).unwrap().id, image.id);
        assert_eq!(store.images().unwrap().first().unwrap().names, std::slice::from_ref(&name));
        assert!(!store.remove_image(&image.id).unwrap(), "it has a name");
        assert!(store.untag(&name).unwrap() && !store.untag(&name).unwrap());
        assert!(matches!(store.find_image("r.example:5000/a/b:c"), Err(Error::ImageNotFound { .. })));
        assert!(store.remove_image(&image.id).unwrap() && !store.remove_image(&image.id).unwrap());
    }

    #[test]
    fn an_image_without_its_layers_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let lease = store.lease().unwrap();
        let mut config = ImageConfig::default();
        config.rootfs.diff_ids.push(crate::DiffId(crate::Digest::sha256_of(b"x")));
        assert!(matches!(store.put_image(&lease, &config, &[]), Err(Error::LayerNotFound(_))));
    }
}
