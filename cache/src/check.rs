//! `system check`: reads everything again, says what is not as it was written, and with leave takes it out of use.
//!
//! Truth is the files themselves, named by digest, so nothing but them is needed to tell.

use std::io::Read;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use crate::digest::{DiffId, Digest};
use crate::error::{Error, Result};
use crate::image::Image;
use crate::lease::entries;
use crate::store::{Store, random_name, sync_directory};

/// Something that is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What, in one sentence.
    pub what: String,
    /// It was taken out of use: what needs it is made anew, or has to be loaded again.
    pub repaired: bool,
}

/// What a check saw.
#[derive(Debug, Clone, Default)]
pub struct StoreCheck {
    /// Layers that were read.
    pub layers: usize,
    /// Images.
    pub images: usize,
    /// Names of images.
    pub names: usize,
    /// Blobs.
    pub blobs: usize,
    /// Step records.
    pub records: usize,
    /// Bytes of content that were read.
    pub bytes: u64,
    /// What is wrong; empty when all is well.
    pub problems: Vec<Problem>,
}

impl Store {
    /// Reads everything that the store holds. With `repair`, what is damaged goes to `quarantine/`, and what points
    /// at nothing goes.
    ///
    /// # Errors
    /// When the disk fails while looking, or while repairing.
    pub fn check(&self, repair: bool) -> Result<StoreCheck> {
        let _lock = if repair { self.exclusive()? } else { self.shared()? };
        let mut checker = Checker { store: self, repair, found: StoreCheck::default() };
        checker.layers()?;
        checker.blobs()?;
        checker.images()?;
        checker.names()?;
        checker.pointers()?;
        checker.records()?;
        Ok(checker.found)
    }
}

struct Checker<'a> {
    store: &'a Store,
    repair: bool,
    found: StoreCheck,
}

impl Checker<'_> {
    /// Notes a problem; the thing goes to the quarantine, where it can be looked at.
    fn damaged(&mut self, path: &Path, what: String) -> Result<()> {
        if self.repair {
            let quarantine = self.store.path("quarantine");
            std::fs::create_dir_all(&quarantine).map_err(Error::path("make", &quarantine))?;
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let target = quarantine.join(format!("{name}.{}", random_name()?));
            std::fs::rename(path, &target).map_err(Error::path("move", path))?;
            sync_directory(path.parent().unwrap_or(path))?;
        }
        self.found.problems.push(Problem { what, repaired: self.repair });
        Ok(())
    }

    /// Notes something that points at nothing; it goes.
    fn dangling(&mut self, path: &Path, what: String) -> Result<()> {
        if self.repair {
            std::fs::remove_file(path).map_err(Error::path("remove", path))?;
        }
        self.found.problems.push(Problem { what, repaired: self.repair });
        Ok(())
    }

    /// Each on a thread of its own: reading and hashing is all there is to it.
    fn layers(&mut self) -> Result<()> {
        let layers = entries(&self.store.path("layers"))?;
        let checked: Vec<_> = layers.par_iter().map(|(name, _)| self.store.verify_layer(name)).collect();
        for ((name, path), checked) in layers.into_iter().zip(checked) {
            self.found.layers += 1;
            match checked? {
                Ok(layer) => self.found.bytes += layer.size,
                Err(why) => self.damaged(&path, format!("layer {name} is damaged: {why}"))?,
            }
        }
        Ok(())
    }

    fn blobs(&mut self) -> Result<()> {
        for (algorithm, directory) in entries(&self.store.path("blobs"))? {
            for (name, path) in entries(&directory)? {
                self.found.blobs += 1;
                let expected = format!("{algorithm}:{name}");
                let (digest, size) = sha256_of(&path)?;
                self.found.bytes += size;
                if algorithm == "sha256" && digest.to_string() != expected {
                    self.damaged(&path, format!("blob {expected} is damaged: its bytes are those of {digest}"))?;
                }
            }
        }
        Ok(())
    }

    fn images(&mut self) -> Result<()> {
        for (name, path) in entries(&self.store.path("images"))? {
            self.found.images += 1;
            let id = name.strip_suffix(".json").unwrap_or(&name).to_owned();
            let bytes = std::fs::read(&path).map_err(Error::path("read", &path))?;
            let problem = match Image::from_bytes(&bytes) {
                Err(error) => Some(error.to_string()),
                Ok(image) if image.id.hex() != id => Some(format!("its bytes are those of {}", image.id)),
                Ok(image) => image
                    .layers
                    .iter()
                    .find(|layer| !self.has_layer(layer))
                    .map(|layer| format!("its layer {layer} is not there; build or load the image again")),
            };
            if let Some(why) = problem {
                self.damaged(&path, format!("image {id} is damaged: {why}"))?;
            }
        }
        Ok(())
    }

    fn has_layer(&self, id: &DiffId) -> bool {
        self.store.path("layers").join(id.hex()).join("layer.json").exists()
    }

    fn names(&mut self) -> Result<()> {
        for (name, path) in entries(&self.store.path("refs"))? {
            self.found.names += 1;
            let shown = name.replace("%2F", "/").replace("%25", "%");
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            let hex = text.trim().strip_prefix("sha256:").unwrap_or_default().to_owned();
            if hex.is_empty() || !self.store.path("images").join(format!("{hex}.json")).exists() {
                self.dangling(&path, format!("the name {shown} points at an image that is not there"))?;
            }
        }
        Ok(())
    }

    fn pointers(&mut self) -> Result<()> {
        for (tree, path) in entries(&self.store.path("trees"))? {
            let id = std::fs::read_to_string(&path).ok().and_then(|text| text.trim().parse::<DiffId>().ok());
            let layer = match &id {
                Some(id) if self.has_layer(id) => self.store.read_layer(id).unwrap_or_default(),
                _ => None,
            };
            if layer.is_none_or(|layer| layer.tree.to_string() != tree) {
                self.dangling(&path, format!("the tree {tree} points at a layer that is not there"))?;
            }
        }
        Ok(())
    }

    /// A record whose layer was pruned is no damage: its step runs again.
    fn records(&mut self) -> Result<()> {
        for (_, shard) in entries(&self.store.path("records"))? {
            for (name, path) in entries(&shard)? {
                self.found.records += 1;
                let bytes = std::fs::read(&path).map_err(Error::path("read", &path))?;
                if let Err(error) = serde_json::from_slice::<crate::StepRecord>(&bytes) {
                    self.dangling(&path, format!("the step record {name} cannot be read: {error}"))?;
                }
            }
        }
        Ok(())
    }
}

fn sha256_of(path: &PathBuf) -> Result<(Digest, u64)> {
    use sha2::Digest as _;
    let mut file = std::fs::File::open(path).map_err(Error::path("read", path))?;
    let mut hasher = sha2::Sha256::new();
    let mut buffer = vec![0_u8; 1 << 20];
    let mut size = 0;
    loop {
        let count = file.read(&mut buffer).map_err(Error::path("read", path))?;
        if count == 0 {
            return Ok((Digest::from_sha256(hasher.finalize().as_slice()), size));
        }
        hasher.update(buffer.get(..count).unwrap_or_default());
        size += count as u64;
    }
}
