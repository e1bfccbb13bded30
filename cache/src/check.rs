//! `system check`: reads everything again, says what is not as it was written, and with leave takes it out of use.
//!
//! Truth is the files themselves, named by digest or sealed, so nothing but them is needed to tell. What nothing vouches
//! for cannot be checked: the writable trees of containers, the data of volumes, and to which of two images a name should
//! point.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use crate::digest::{DiffId, Digest};
use crate::error::{Error, Result};
use crate::failpoint::failpoint;
use crate::guard::{self, Sight};
use crate::image::Image;
use crate::index::facts::layer_id;
use crate::lease::entries;
use crate::sealed::{seal, unseal};
use crate::store::{Store, sync_directory, write_durably};
use crate::volumes::bare_volume;

/// Something that is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What, in one sentence.
    pub what: String,
    /// What was done about it, when something was: what needs it is made anew, or has to be loaded again.
    pub repaired: Option<&'static str>,
    /// Names or ids of the images that cannot be used without it.
    pub images: Vec<String>,
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
    /// Step records.
    pub records: usize,
    /// Blobs.
    pub blobs: usize,
    /// Bytes of content that were read.
    pub bytes: u64,
    /// What is wrong; empty when all is well.
    pub problems: Vec<Problem>,
}

impl Store {
    /// Reads everything that the store holds. With `repair`, what is damaged goes to `quarantine/`, what can be written
    /// anew is, and what points at nothing goes.
    ///
    /// # Errors
    /// When the disk fails while looking, or while repairing.
    pub fn check(&self, repair: bool) -> Result<StoreCheck> {
        let _lock = if repair { self.exclusive()? } else { self.shared()? };
        failpoint("check.read")?;
        let (found, users) = (StoreCheck::default(), self.users_of_layers()?);
        let mut checker = Checker { store: self, repair, found, users, misled: BTreeSet::new() };
        checker.layers()?;
        checker.deltas()?;
        checker.blobs()?;
        checker.hosted()?;
        checker.images()?;
        checker.names()?;
        checker.pointers()?;
        checker.records()?;
        checker.tables()?;
        checker.volumes()?;
        checker.small_files()?;
        Ok(checker.found)
    }

    /// Which images have each layer, as people call them.
    fn users_of_layers(&self) -> Result<BTreeMap<String, Vec<String>>> {
        let names = self.names()?;
        let mut users: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (hex, image) in self.image_facts_with(&self.bases()?)? {
            let called: Vec<String> =
                names.iter().filter(|(_, id)| id.hex() == hex).map(|(name, _)| name.familiar()).collect();
            let called = if called.is_empty() { vec![hex.chars().take(12).collect()] } else { called };
            for layer in image.layers {
                users.entry(layer).or_default().extend(called.iter().cloned());
            }
        }
        Ok(users)
    }
}

struct Checker<'a> {
    store: &'a Store,
    repair: bool,
    found: StoreCheck,
    users: BTreeMap<String, Vec<String>>,
    /// Layers whose record is damaged and not written anew, for want of leave to repair, and those that stand on them: what
    /// reads them is misled, and that was told.
    misled: BTreeSet<String>,
}

impl Checker<'_> {
    fn note(&mut self, what: String, done: &'static str) {
        self.found.problems.push(Problem { what, repaired: self.repair.then_some(done), images: Vec::new() });
    }

    /// Notes a problem; the thing goes to the quarantine, where it can be looked at.
    fn damaged(&mut self, path: &Path, kind: &str, what: String) -> Result<()> {
        if self.repair {
            self.store.put_aside(path, kind)?;
            sync_directory(path.parent().unwrap_or(path))?;
        }
        self.note(what, "put into quarantine");
        Ok(())
    }

    /// Notes something that points at nothing; it goes.
    fn dangling(&mut self, path: &Path, what: String) -> Result<()> {
        if self.repair {
            failpoint("check.dangling")?;
            std::fs::remove_file(path).map_err(Error::path("remove", path))?;
        }
        self.note(what, "removed");
        Ok(())
    }

    /// Each on a thread of its own: reading and hashing is all there is to it.
    fn layers(&mut self) -> Result<()> {
        let layers = entries(&self.store.path("layers"))?;
        let guards: Vec<_> = layers.par_iter().map(|(_, path)| guard::look(path)).collect();
        for ((name, path), sight) in layers.iter().zip(&guards) {
            if *sight == Sight::RecordDamaged {
                if self.repair {
                    self.store.restore_record(path)?;
                } else {
                    self.misled.insert(name.clone());
                }
                self.note(format!("the record of layer {name} is damaged"), "written anew from its copy");
            }
        }
        let standing =
            layers.iter().filter(|(name, _)| self.base(name).is_some_and(|base| self.misled.contains(&base)));
        let standing: Vec<String> = standing.map(|(name, _)| name.clone()).collect();
        self.misled.extend(standing);
        let checked: Vec<_> = layers.par_iter().map(|(name, _)| self.store.verify_layer(name)).collect();
        for (((name, path), sight), checked) in layers.into_iter().zip(guards).zip(checked) {
            self.found.layers += 1;
            let checked = match checked {
                // Whoever checks the store wants to know what the disk does not give back any more.
                Err(error) if error.kernel_error() == Some(libc::EIO) => Err(error.to_string()),
                checked => checked?,
            };
            match checked {
                Ok(layer) => {
                    self.found.bytes += layer.size;
                    self.renew_guard(&name, &path, &sight)?;
                }
                Err(_) if self.misled.contains(&name) => {}
                Err(why) => self.damaged_layer(&name, &path, &why)?,
            }
        }
        Ok(())
    }

    /// What a layer stands on.
    fn base(&self, name: &str) -> Option<String> {
        Some(self.store.named_base(&layer_id(name)?)?.hex().to_owned())
    }

    fn damaged_layer(&mut self, name: &str, path: &Path, why: &str) -> Result<()> {
        self.damaged(path, "layer", format!("layer {name} is damaged: {why}"))?;
        let images = self.users.get(name).cloned().unwrap_or_default();
        if let Some(problem) = self.found.problems.last_mut() {
            problem.images = images;
        }
        Ok(())
    }

    /// With a layer that went into quarantine goes what stands on it; and what says which does is written anew.
    fn deltas(&mut self) -> Result<()> {
        if !self.repair {
            return Ok(());
        }
        for (name, path) in entries(&self.store.path("layers"))? {
            let Some(id) = layer_id(&name) else { continue };
            match (self.store.named_base(&id), self.store.read_layer(&id)) {
                (Some(base), Ok(Some(_))) => self.store.note_base(&id, &base)?,
                (Some(_), Ok(None)) => self.damaged_layer(&name, &path, "the layer that it stands on is gone")?,
                _ => {}
            }
        }
        Ok(())
    }

    /// The layer is sound, and its guard is not: damaged, or of another place where the store was.
    fn renew_guard(&mut self, name: &str, path: &Path, sight: &Sight) -> Result<()> {
        if matches!(sight, Sight::TreeTouched | Sight::NoGuard) && self.repair {
            guard::write(path)?;
        }
        if *sight == Sight::NoGuard {
            self.note(format!("the guard of layer {name} is damaged; the layer itself is sound"), "written anew");
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
                    let what = format!("blob {expected} is damaged: its bytes are those of {digest}");
                    self.damaged(&path, "blob", what)?;
                }
            }
        }
        Ok(())
    }

    fn hosted(&mut self) -> Result<()> {
        let (blobs, bytes, problems) = self.store.hosted().check()?;
        self.found.blobs += blobs;
        self.found.bytes += bytes;
        problems.into_iter().try_for_each(|problem| self.damaged(&problem.path, "registry", problem.what))?;
        self.store.damaged_lists()?.into_iter().try_for_each(|(name, path)| {
            self.damaged(&path, "list", format!("the manifest list {name} is damaged: create it again"))
        })
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
                    .map(|layer| format!("its layer {layer} is not there")),
            };
            if let Some(why) = problem {
                let called = self.called(&id)?;
                self.damaged(&path, "image", format!("image {id} is damaged: {why}; build or load it again"))?;
                if let Some(problem) = self.found.problems.last_mut() {
                    problem.images = called;
                }
            }
        }
        Ok(())
    }

    fn called(&self, hex: &str) -> Result<Vec<String>> {
        let names = self.store.names()?;
        Ok(names.into_iter().filter(|(_, id)| id.hex() == hex).map(|(name, _)| name.familiar()).collect())
    }

    fn has_layer(&self, id: &DiffId) -> bool {
        // One whose record cannot be read was told already.
        self.misled.contains(id.hex()) || !matches!(self.store.read_layer(id), Ok(None))
    }

    fn names(&mut self) -> Result<()> {
        for (name, path) in entries(&self.store.path("refs"))? {
            self.found.names += 1;
            let shown = name.replace("%2F", "/").replace("%25", "%");
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            let id = text.parse::<crate::ImageId>().ok().filter(|id| self.store.image_path(id).exists());
            if id.is_none() {
                let what = format!("the name {shown} points at an image that is not there: give it again with `tag`");
                self.damaged(&path, "name", what)?;
            }
        }
        Ok(())
    }

    /// What points from trees to layers. A layer that has none is shared less, nothing else.
    fn pointers(&mut self) -> Result<()> {
        for (tree, path) in entries(&self.store.path("trees"))? {
            let id = std::fs::read_to_string(&path).ok().and_then(|text| text.parse::<DiffId>().ok());
            let layer = match &id {
                Some(id) if self.misled.contains(id.hex()) => continue,
                Some(id) if self.has_layer(id) => self.store.read_layer(id).unwrap_or_default(),
                _ => None,
            };
            if layer.is_none_or(|layer| layer.tree.to_string() != tree) {
                self.dangling(&path, format!("the tree {tree} points at a layer that is not there"))?;
            }
        }
        if !self.repair {
            return Ok(());
        }
        for (name, _) in entries(&self.store.path("layers"))? {
            let Some(layer) = layer_id(&name).and_then(|id| self.store.read_layer(&id).ok().flatten()) else {
                continue;
            };
            let pointer = self.store.path("trees").join(layer.tree.to_string());
            if !pointer.exists() {
                write_durably(&pointer, &self.store.loose_draft()?, layer.diff_id.to_string().as_bytes())?;
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
                if unseal::<crate::StepRecord>(&bytes).is_none() {
                    self.damaged(&path, "record", format!("the step record {name} is damaged: its step runs again"))?;
                }
            }
        }
        Ok(())
    }

    fn tables(&mut self) -> Result<()> {
        for (name, path) in entries(&self.store.path("stats"))? {
            let bytes = std::fs::read(&path).map_err(Error::path("read", &path))?;
            if crate::stat_table::parse(&bytes).is_none() {
                self.damaged(
                    &path,
                    "stats",
                    format!("the table {name} of a context's files is damaged: they are read again"),
                )?;
            }
        }
        Ok(())
    }

    fn volumes(&mut self) -> Result<()> {
        for (name, directory) in entries(&self.store.path("volumes"))? {
            let path = directory.join("volume.json");
            let record: Option<crate::Volume> = std::fs::read(&path).ok().and_then(|bytes| unseal(&bytes));
            if record.is_some_and(|record| record.name == name) {
                continue;
            }
            if self.repair {
                self.store.put_aside(&path, "volume")?;
                let bytes = seal("the volume", &bare_volume(&name, &directory))?;
                write_durably(&path, &self.store.loose_draft()?, &bytes)?;
            }
            self.note(
                format!("the record of volume {name} is damaged: its labels are lost"),
                "written anew without labels",
            );
        }
        Ok(())
    }

    /// The generation and the index.
    fn small_files(&mut self) -> Result<()> {
        let generation = self.store.path("generation");
        let found: Option<u64> = std::fs::read(&generation).ok().and_then(|bytes| unseal(&bytes));
        if found.is_none() {
            if self.repair {
                let newest = self.store.uses().values().map(|used| used.generation).max().unwrap_or(0);
                self.store.raise_generation(newest)?;
            }
            self.note("the store's generation is damaged".to_owned(), "written anew");
        }
        if !self.store.index_is_sound() {
            if self.repair {
                self.store.discard_index();
                self.store.layer_facts()?;
                self.store.record_facts()?;
                self.store.image_facts()?;
            }
            self.note("the index is damaged".to_owned(), "made anew from the files");
        }
        Ok(())
    }
}

fn sha256_of(path: &PathBuf) -> Result<(Digest, u64)> {
    use sha2::Digest as _;
    let mut file = std::fs::File::open(path).map_err(Error::path("read", path))?;
    let mut hasher = sha2::Sha256::new();
    let size = crate::blob::pass(&mut file, |bytes| hasher.update(bytes)).map_err(Error::path("read", path))?;
    Ok((Digest::from_sha256(hasher.finalize().as_slice()), size))
}
