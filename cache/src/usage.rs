//! What the store holds, in true bytes on the disk.

use std::collections::{BTreeSet, HashSet};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::error::{Error, Result};
use crate::lease::entries;
use crate::store::Store;

/// Count and bytes of one kind of thing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Part {
    /// How many there are.
    pub total: u64,
    /// How many are in use.
    pub active: u64,
    /// Bytes on the disk.
    pub bytes: u64,
    /// Bytes that `prune --all` would free.
    pub reclaimable: u64,
}

/// The whole store.
#[derive(Debug, Clone, Default)]
pub struct Usage {
    /// Images with their layers; a layer counts once.
    pub images: Part,
    /// Containers: writable trees.
    pub containers: Part,
    /// Layers that no image has, and step records.
    pub build_cache: Part,
    /// Everything below the root.
    pub total_bytes: u64,
}

impl Store {
    /// Measures the store.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn usage(&self) -> Result<Usage> {
        let mut usage = Usage { total_bytes: disk_bytes(self.root())?, ..Usage::default() };
        let containers = self.containers()?;
        let used_images: BTreeSet<_> = containers.iter().map(|(record, _)| record.image.clone()).collect();
        let mut of_images = HashSet::new();
        let mut of_used = HashSet::new();
        for image in self.images()? {
            usage.images.total += 1;
            let used = used_images.contains(&image.image.id);
            usage.images.active += u64::from(used);
            of_images.extend(image.image.layers.iter().map(|id| id.hex().to_owned()));
            if used {
                of_used.extend(image.image.layers.iter().map(|id| id.hex().to_owned()));
            }
        }
        for (name, path) in entries(&self.path("layers"))? {
            let bytes = disk_bytes(&path)?;
            if of_images.contains(&name) {
                usage.images.bytes += bytes;
                usage.images.reclaimable += if of_used.contains(&name) { 0 } else { bytes };
            } else {
                usage.build_cache.total += 1;
                usage.build_cache.bytes += bytes;
                usage.build_cache.reclaimable += bytes;
            }
        }
        let records = disk_bytes(&self.path("records"))?;
        usage.build_cache.bytes += records;
        usage.build_cache.reclaimable += records;
        for (record, running) in containers {
            let bytes = disk_bytes(&self.path("containers").join(&record.id))?;
            usage.containers.total += 1;
            usage.containers.active += u64::from(running);
            usage.containers.bytes += bytes;
            usage.containers.reclaimable += if running { 0 } else { bytes };
        }
        Ok(usage)
    }
}

/// Bytes on the disk of a tree, each file once however many names it has. What vanishes meanwhile counts as nothing.
pub(crate) fn disk_bytes(path: &Path) -> Result<u64> {
    let mut seen = HashSet::new();
    let mut open = vec![path.to_owned()];
    let mut bytes = 0;
    while let Some(path) = open.pop() {
        let metadata = match std::fs::symlink_metadata(&path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(Error::path("measure", path)(error)),
        };
        if metadata.is_dir() {
            open.extend(entries(&path)?.into_iter().map(|(_, path)| path));
        } else if metadata.nlink() > 1 && !seen.insert((metadata.dev(), metadata.ino())) {
            continue;
        }
        bytes += metadata.blocks() * 512;
    }
    Ok(bytes)
}
