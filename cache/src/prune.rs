//! Pruning: mark what images, containers and living processes use, remove the rest. Bytes reported are bytes freed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::digest::ImageId;
use crate::error::{Error, Result};
use crate::lease::{self, entries, remove_tree};
use crate::store::Store;
use crate::usage::disk_bytes;

/// What may go.
#[derive(Debug, Clone, Copy, Default)]
pub struct PruneOptions {
    /// Also images that have a name but no container, and the whole build cache.
    pub all: bool,
    /// Only tells what would go.
    pub dry_run: bool,
}

/// What went.
#[derive(Debug, Clone, Default)]
pub struct Pruned {
    /// Images.
    pub images: Vec<ImageId>,
    /// Stopped containers, by id.
    pub containers: Vec<String>,
    /// Layers.
    pub layers: u64,
    /// Step records.
    pub records: u64,
    /// Bytes freed on the disk.
    pub bytes: u64,
}

impl Store {
    /// Removes what nothing uses.
    ///
    /// Without `all`: stopped containers, images without a name, and layers that neither an image nor a step record has.
    /// With it: the build cache too, and images that no container stands on.
    ///
    /// # Errors
    /// When the disk fails; what went before stays gone.
    pub fn prune(&self, options: &PruneOptions) -> Result<Pruned> {
        let _lock = self.exclusive()?;
        let mut sweep = Sweep { store: self, options, pruned: Pruned::default() };
        sweep.containers()?;
        sweep.images()?;
        sweep.records()?;
        sweep.layers()?;
        Ok(sweep.pruned)
    }
}

struct Sweep<'a> {
    store: &'a Store,
    options: &'a PruneOptions,
    pruned: Pruned,
}

impl Sweep<'_> {
    fn remove(&mut self, path: &Path) -> Result<()> {
        self.pruned.bytes += if self.options.dry_run { disk_bytes(path)? } else { remove_tree(path)? };
        Ok(())
    }

    fn remove_file(&mut self, path: &PathBuf) -> Result<()> {
        self.pruned.bytes += disk_bytes(path)?;
        if self.options.dry_run {
            return Ok(());
        }
        std::fs::remove_file(path).map_err(Error::path("remove", path))
    }

    fn containers(&mut self) -> Result<()> {
        for (record, running) in self.store.containers_locked()? {
            if !running {
                self.remove(&self.store.path("containers").join(&record.id))?;
                self.pruned.containers.push(record.id);
            }
        }
        Ok(())
    }

    fn images(&mut self) -> Result<()> {
        let names = self.store.names()?;
        let named: BTreeSet<&ImageId> = names.values().collect();
        let used: BTreeSet<ImageId> = self
            .store
            .containers_locked()?
            .into_iter()
            .filter(|(_, running)| *running)
            .map(|(record, _)| record.image)
            .collect();
        for id in self.store.image_ids()? {
            if used.contains(&id) || (named.contains(&id) && !self.options.all) {
                continue;
            }
            for name in names.iter().filter(|(_, there)| **there == id).map(|(name, _)| name) {
                let path = self.store.path("refs").join(name.to_string().replace('%', "%25").replace('/', "%2F"));
                self.remove_file(&path)?;
            }
            self.remove_file(&self.store.path("images").join(format!("{}.json", id.hex())))?;
            self.pruned.images.push(id);
        }
        Ok(())
    }

    /// Records go with `all`; without it they keep their layers.
    fn records(&mut self) -> Result<()> {
        if !self.options.all {
            return Ok(());
        }
        for (_, shard) in entries(&self.store.path("records"))? {
            for (_, path) in entries(&shard)? {
                self.remove_file(&path)?;
                self.pruned.records += 1;
            }
        }
        for (_, path) in entries(&self.store.path("stats"))? {
            self.remove_file(&path)?;
        }
        Ok(())
    }

    fn layers(&mut self) -> Result<()> {
        let mut keep = lease::pinned(self.store)?;
        for id in self.store.image_ids()? {
            if self.options.dry_run && self.pruned.images.contains(&id) {
                continue;
            }
            if let Some(image) = self.store.image(&id)? {
                keep.extend(image.layers.iter().map(|layer| layer.hex().to_owned()));
            }
        }
        if !self.options.all {
            keep.extend(self.recorded_layers()?);
        }
        for (name, path) in entries(&self.store.path("layers"))? {
            if keep.contains(&name) {
                continue;
            }
            // Away from its name first: a layer is there whole or not at all, also if this process is killed now.
            let doomed = self.store.path("drafts").join(format!("pruned-{name}"));
            if self.options.dry_run {
                self.remove(&path)?;
            } else {
                std::fs::rename(&path, &doomed).map_err(Error::path("remove", &path))?;
                self.remove(&doomed)?;
            }
            self.pruned.layers += 1;
        }
        self.pointers()
    }

    fn recorded_layers(&self) -> Result<Vec<String>> {
        let mut layers = Vec::new();
        for (_, shard) in entries(&self.store.path("records"))? {
            for (_, path) in entries(&shard)? {
                let Ok(bytes) = std::fs::read(&path) else { continue };
                if let Ok(record) = serde_json::from_slice::<crate::StepRecord>(&bytes) {
                    layers.extend(record.layer.map(|layer| layer.hex().to_owned()));
                }
            }
        }
        Ok(layers)
    }

    /// Pointers from trees to layers that are gone.
    fn pointers(&mut self) -> Result<()> {
        if self.options.dry_run {
            return Ok(());
        }
        for (_, path) in entries(&self.store.path("trees"))? {
            let target = std::fs::read_to_string(&path).ok().and_then(|text| text.trim().parse().ok());
            let there = match target {
                Some(id) => self.store.read_layer(&id)?.is_some(),
                None => false,
            };
            if !there {
                self.remove_file(&path)?;
            }
        }
        Ok(())
    }
}
