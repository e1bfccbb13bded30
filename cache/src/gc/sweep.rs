//! The sweep: short sections under the exclusive lock, each of which looks again; what they take away is deleted after.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::mark::{Group, Marked};
use super::{CachePolicy, ImagePolicy, Pruned, PrunedCache, PrunedImage};
use crate::error::{Error, Result};
use crate::failpoint::failpoint;
use crate::index::uses::Use;
use crate::layer::delta::Bases;
use crate::lease::{self, Lease, entries, is_alive, remove_tree};
use crate::record::StepRecord;
use crate::sealed::unseal;
use crate::store::Store;
use crate::usage::{disk_bytes, own_bytes};

/// Groups that one section takes away: some milliseconds.
const SECTION: usize = 64;

impl Marked {
    /// What a sweep would free.
    pub(super) fn forecast(self, store: &Store) -> Result<Pruned> {
        let mut pruned = Pruned::default();
        for (directory, names) in [("containers", &self.containers), ("volumes", &self.volumes)] {
            for name in names {
                pruned.bytes += disk_bytes(&store.path(directory).join(name))?;
            }
        }
        for image in &self.images {
            pruned.bytes += disk_bytes(&store.image_path(&image.id))?;
            for name in &image.names {
                pruned.bytes += disk_bytes(&store.ref_path(name))?;
            }
        }
        for directory in self.small_directories() {
            for (_, path) in entries(&store.path(directory))? {
                pruned.bytes += disk_bytes(&path)?;
            }
        }
        if self.takes_hosted() {
            let gone = self.images.iter().map(|image| image.id.clone()).collect();
            for path in store.hosted().doomed(self.takes_whole_cache(), &gone)?.files {
                pruned.bytes += disk_bytes(&path)?;
            }
        }
        for group in &self.groups {
            pruned.bytes += group.bytes();
            pruned.layers += u64::from(group.layer.is_some() && !group.shared);
            pruned.cache.extend(listed(group, group.bytes()));
        }
        Ok(Pruned { containers: self.containers, volumes: self.volumes, images: self.images, ..pruned })
    }

    fn takes_whole_cache(&self) -> bool {
        let options = &self.options;
        options.cache == CachePolicy::All && options.budget.is_none() && options.filters == Default::default()
    }

    /// What is held as a registry has no labels, and its age counts only while it waits.
    fn takes_hosted(&self) -> bool {
        self.options.cache >= CachePolicy::Orphans && self.options.filters == Default::default()
    }

    /// Directories that are emptied.
    fn small_directories(&self) -> impl Iterator<Item = &'static str> {
        let whole_cache = self.takes_whole_cache();
        [
            (self.options.quarantine, "quarantine"),
            (whole_cache, "stats"),
            (whole_cache, "downloads"),
            (whole_cache, "blobs/sha256"),
            (whole_cache, "packings"),
        ]
        .into_iter()
        .filter(|(wanted, _)| *wanted)
        .map(|(_, directory)| directory)
    }
}

fn listed(group: &Group, bytes: u64) -> Vec<PrunedCache> {
    let entry = |id: &String, text: &String, bytes| PrunedCache {
        id: id.clone(),
        text: text.clone(),
        bytes,
        last_used: group.used.unix,
    };
    let mut entries: Vec<PrunedCache> =
        group.records.iter().map(|(key, text, bytes)| entry(key, text, *bytes)).collect();
    match (entries.first_mut(), &group.layer) {
        (Some(first), _) => {
            first.bytes += bytes - group.records.iter().map(|(_, _, bytes)| bytes).sum::<u64>().min(bytes)
        }
        (None, Some(layer)) => entries.push(entry(layer, &String::new(), bytes)),
        (None, None) => {}
    }
    entries
}

impl Store {
    pub(super) fn sweep(&self, marked: Marked) -> Result<Pruned> {
        self.adopt_uses(&marked.adopted);
        let lease = self.lease()?;
        let mut sweep =
            Sweep { store: self, lease: &lease, trash: Vec::new(), pruned: Pruned::default(), gone: Vec::new() };
        sweep.things(&marked)?;
        sweep.empty_trash()?;
        for section in marked.groups.chunks(SECTION) {
            sweep.section(&marked, section)?;
            sweep.empty_trash()?;
        }
        let Sweep { pruned, gone, .. } = sweep;
        self.forget_uses(&gone);
        Ok(pruned)
    }
}

struct Sweep<'a> {
    store: &'a Store,
    lease: &'a Lease,
    trash: Vec<PathBuf>,
    pruned: Pruned,
    gone: Vec<String>,
}

impl Sweep<'_> {
    /// Takes something away from its name: it is there whole or not at all, also if this process is killed now.
    fn throw(&mut self, path: &Path) -> Result<bool> {
        let target = self.lease.draft();
        failpoint("prune.rename")?;
        match std::fs::rename(path, &target) {
            Ok(()) => self.trash.push(target),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(Error::path("remove", path)(error)),
        }
        Ok(true)
    }

    fn remove_file(&mut self, path: &Path) -> Result<bool> {
        let bytes = disk_bytes(path)?;
        match std::fs::remove_file(path) {
            Ok(()) => self.pruned.bytes += bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(Error::path("remove", path)(error)),
        }
        Ok(true)
    }

    /// A directory of records goes with its last one.
    fn empty_shard(&mut self, shard: &Path) -> Result<()> {
        let bytes = own_bytes(shard)?;
        if std::fs::remove_dir(shard).is_ok() {
            self.pruned.bytes += bytes;
        }
        Ok(())
    }

    /// The slow part, under no lock.
    fn empty_trash(&mut self) -> Result<()> {
        for path in std::mem::take(&mut self.trash) {
            failpoint("prune.trash")?;
            self.pruned.bytes += if path.is_dir() {
                remove_tree(&path)?
            } else {
                let bytes = disk_bytes(&path)?;
                std::fs::remove_file(&path).map_err(Error::path("remove", &path))?;
                bytes
            };
        }
        Ok(())
    }

    /// Containers, volumes, images, and what lies in small directories.
    fn things(&mut self, marked: &Marked) -> Result<()> {
        let store = self.store;
        let _lock = store.exclusive()?;
        let newest = marked.uses.values().map(|used| used.generation).max().unwrap_or(0);
        store.raise_generation(newest)?;
        store.forget_bases()?;
        self.containers(marked)?;
        let kept = store.containers_locked()?;
        for name in &marked.volumes {
            let used = kept.iter().any(|(record, _)| record.volumes.contains(name));
            if !used && self.throw(&store.path("volumes").join(name))? {
                self.pruned.volumes.push(name.clone());
            }
        }
        let names = store.names()?;
        for image in &marked.images {
            let now: Vec<_> = names.iter().filter(|(_, id)| **id == image.id).map(|(name, _)| name.clone()).collect();
            // A container that was made or a name that was given since the mark keeps it.
            let used = kept.iter().any(|(record, _)| record.image == image.id);
            let named = now.iter().any(|name| !image.names.contains(name));
            if used
                || named
                || (marked.options.images == ImagePolicy::Dangling && now.iter().any(|name| name.tag().is_some()))
            {
                continue;
            }
            for name in &now {
                failpoint("prune.name")?;
                self.remove_file(&store.ref_path(name))?;
            }
            failpoint("prune.image")?;
            if self.remove_file(&store.image_path(&image.id))? {
                self.pruned.images.push(PrunedImage { id: image.id.clone(), names: now });
            }
        }
        for directory in marked.small_directories() {
            for (_, path) in entries(&store.path(directory))? {
                self.throw(&path)?;
            }
        }
        if marked.takes_hosted() {
            for path in store.hosted().doomed(marked.takes_whole_cache(), &BTreeSet::new())?.files {
                self.throw(&path)?;
            }
        }
        Ok(())
    }

    fn containers(&mut self, marked: &Marked) -> Result<()> {
        if !marked.options.containers {
            return Ok(());
        }
        let known: BTreeSet<String> =
            self.store.containers_locked()?.into_iter().map(|(record, _)| record.id).collect();
        for (id, path) in entries(&self.store.path("containers"))? {
            // One without a record was left by a process that died while making it: nobody can name it.
            failpoint("prune.container")?;
            let doomed = marked.containers.contains(&id) || !known.contains(&id);
            if doomed && !is_alive(&path)? && self.throw(&path)? && known.contains(&id) {
                self.pruned.containers.push(id);
            }
        }
        Ok(())
    }

    /// Some groups under one lock.
    fn section(&mut self, marked: &Marked, groups: &[Group]) -> Result<()> {
        let _lock = self.store.exclusive()?;
        let now = Now::look(self.store, marked)?;
        for group in groups {
            if now.is_busy(group, marked) {
                continue;
            }
            let before = self.pruned.bytes;
            let mut bytes = 0;
            for (key, _, _) in &group.records {
                if let Ok(key) = key.parse() {
                    let path = self.store.record_path(&key);
                    failpoint("prune.record")?;
                    self.remove_file(&path)?;
                    self.empty_shard(path.parent().unwrap_or(&path))?;
                }
            }
            bytes += self.pruned.bytes - before;
            let is_needed = |layer: &&String| now.needed.contains(*layer) || self.store.has_deltas(layer, &now.bases);
            if let Some(layer) = group.layer.as_ref().filter(|layer| !is_needed(layer)) {
                // First: a layer without its pointer is shared less, and a pointer without its layer is damage.
                self.pointer(group, layer)?;
                if self.throw(&self.store.path("layers").join(layer))? {
                    self.pruned.layers += 1;
                    bytes = bytes.max(group.bytes());
                }
            }
            self.gone.extend(group.layer.iter().chain(group.records.iter().map(|(key, _, _)| key)).cloned());
            self.pruned.cache.extend(listed(group, bytes));
        }
        Ok(())
    }

    /// The pointer from a tree to a layer that went.
    fn pointer(&mut self, group: &Group, layer: &str) -> Result<()> {
        let Some(tree) = &group.tree else { return Ok(()) };
        let path = self.store.path("trees").join(tree);
        if std::fs::read_to_string(&path).is_ok_and(|text| text.trim().ends_with(layer)) {
            failpoint("prune.pointer")?;
            self.remove_file(&path)?;
        }
        Ok(())
    }
}

/// What must stay, as of now. The caller holds the exclusive lock.
struct Now {
    /// Layers of images.
    needed: BTreeSet<String>,
    /// Layers that living processes pinned, or that records written since the mark have.
    busy: BTreeSet<String>,
    /// What was used since the mark.
    used: BTreeSet<String>,
    /// What layers stand on.
    bases: Bases,
}

impl Now {
    fn look(store: &Store, marked: &Marked) -> Result<Now> {
        let mut needed = BTreeSet::new();
        for id in store.image_ids()? {
            match marked.known_images.get(id.hex()) {
                Some(fact) => needed.extend(fact.layers.iter().cloned()),
                None => {
                    let image = store.image(&id).ok().flatten();
                    needed.extend(image.iter().flat_map(|image| &image.layers).map(|layer| layer.hex().to_owned()));
                }
            }
        }
        let mut busy = lease::pinned(store)?;
        for (shard, changed) in store.shards()? {
            if marked.shards.get(&shard) == Some(&changed) {
                continue;
            }
            for (name, path) in entries(&shard)? {
                if name.strip_suffix(".json").is_some_and(|key| marked.known_records.contains(key)) {
                    continue;
                }
                let record: Option<StepRecord> = std::fs::read(&path).ok().and_then(|bytes| unseal(&bytes));
                busy.extend(record.and_then(|record| record.layer).map(|layer| layer.hex().to_owned()));
            }
        }
        let used = if store.turn() == marked.turn { BTreeSet::new() } else { used_since(store, marked) };
        let bases = store.bases()?;
        needed.extend(bases.below(&needed));
        busy.extend(bases.below(&busy));
        Ok(Now { needed, busy, used, bases })
    }

    fn is_busy(&self, group: &Group, marked: &Marked) -> bool {
        let used = group.layer.iter().chain(group.records.iter().map(|(key, _, _)| key));
        used.into_iter().any(|name| self.used.contains(name))
            || group.layer.as_ref().is_some_and(|layer| {
                self.busy.contains(layer) || (self.needed.contains(layer) && marked.options.cache < CachePolicy::All)
            })
    }
}

fn used_since(store: &Store, marked: &Marked) -> BTreeSet<String> {
    let told = |used: &Use| (used.generation, used.turn, used.count);
    let old = |name: &String, used: &Use| marked.uses.get(name).is_some_and(|before| told(before) == told(used));
    store.uses().into_iter().filter(|(name, used)| used.count > 0 && !old(name, used)).map(|(name, _)| name).collect()
}
