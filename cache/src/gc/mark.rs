//! The mark: what may go, oldest first, and what it is worth.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use super::{CachePolicy, ImagePolicy, PruneOptions, PrunedImage, VolumePolicy};
use crate::containers::ContainerRecord;
use crate::digest::ImageId;
use crate::error::{Error, Result};
use crate::failpoint::failpoint;
use crate::index::facts::{ImageFact, LayerFact, RecordFact};
use crate::index::uses::Use;
use crate::layer::delta::Bases;
use crate::lease::{self, entries};
use crate::store::Store;

/// A layer with the records that gave it, or a record whose layer is gone. It goes as one.
#[derive(Debug, Default)]
pub(super) struct Group {
    /// Hexadecimal part of the layer's id.
    pub(super) layer: Option<String>,
    /// Hash of the layer's tree.
    pub(super) tree: Option<String>,
    /// Keys, texts and bytes of the records.
    pub(super) records: Vec<(String, String, u64)>,
    /// The last use of any of them.
    pub(super) used: Use,
    /// Bytes of the layer, where it would go too.
    pub(super) layer_bytes: u64,
    /// An image has the layer: only the records may go.
    pub(super) shared: bool,
}

impl Group {
    pub(super) fn bytes(&self) -> u64 {
        self.layer_bytes + self.records.iter().map(|(_, _, bytes)| bytes).sum::<u64>()
    }
}

/// What may go.
#[derive(Debug)]
pub(super) struct Marked {
    pub(super) options: PruneOptions,
    pub(super) containers: Vec<String>,
    pub(super) volumes: Vec<String>,
    pub(super) images: Vec<PrunedImage>,
    pub(super) groups: Vec<Group>,
    /// All images as they were, to know new ones from old.
    pub(super) known_images: BTreeMap<String, ImageFact>,
    /// All records as they were.
    pub(super) known_records: BTreeSet<String>,
    /// When the directories of records changed last.
    pub(super) shards: BTreeMap<PathBuf, (i64, i64)>,
    /// Uses as they were.
    pub(super) turn: Option<u64>,
    pub(super) uses: BTreeMap<String, Use>,
    /// Ages of what the index does not know yet.
    pub(super) adopted: Vec<(String, Use)>,
}

impl Store {
    pub(super) fn mark(&self, options: &PruneOptions) -> Result<Marked> {
        let of_cache = options.cache != CachePolicy::Keep;
        if of_cache {
            // What the index does not know is measured before the lock is taken.
            self.layer_facts()?;
            self.record_facts()?;
        }
        failpoint("prune.mark")?;
        let _lock = self.shared()?;
        let turn = self.turn();
        let (uses, shards) = (self.uses(), self.shards()?);
        let (layers, records) = match of_cache {
            true => (self.layer_facts()?, self.record_facts()?),
            false => Default::default(),
        };
        let bases = self.bases()?;
        let known_images = self.image_facts_with(&bases)?;
        let all = self.containers_locked()?;
        let labels_of = |record: &ContainerRecord| {
            known_images.get(record.image.hex()).map(|image| image.labels.clone()).unwrap_or_default()
        };
        let goes = |record: &ContainerRecord, running: bool| {
            options.containers
                && !running
                && options.filters.allow_age(record.created)
                && options.filters.allow_labels(&labels_of(record))
        };
        let (doomed, kept): (Vec<_>, Vec<_>) = all.into_iter().partition(|(record, running)| goes(record, *running));
        let kept: Vec<ContainerRecord> = kept.into_iter().map(|(record, _)| record).collect();
        let images = self.doomed_images(options, &known_images, &kept)?;
        let view = View { store: self, options, uses: &uses, generation: self.generation(), bases: &bases };
        let (groups, adopted) = view.groups(&layers, &records, &known_images, &images)?;
        Ok(Marked {
            options: options.clone(),
            containers: doomed.into_iter().map(|(record, _)| record.id).collect(),
            volumes: self.doomed_volumes(options, &kept)?,
            images,
            groups,
            known_images,
            known_records: records.into_keys().collect(),
            shards,
            turn,
            uses,
            adopted,
        })
    }

    fn doomed_images(
        &self,
        options: &PruneOptions,
        known: &BTreeMap<String, ImageFact>,
        kept: &[ContainerRecord],
    ) -> Result<Vec<PrunedImage>> {
        if options.images == ImagePolicy::Keep {
            return Ok(Vec::new());
        }
        let mut names: BTreeMap<ImageId, Vec<_>> = BTreeMap::new();
        for (name, id) in self.names()? {
            names.entry(id).or_default().push(name);
        }
        let used: BTreeSet<&str> = kept.iter().map(|record| record.image.hex()).collect();
        let mut doomed = Vec::new();
        for (hex, fact) in known {
            let Ok(id) = format!("sha256:{hex}").parse::<ImageId>() else { continue };
            let names = names.remove(&id).unwrap_or_default();
            // As with docker, a name by digest alone keeps nothing.
            let wanted = options.images == ImagePolicy::Unused || names.iter().all(|name| name.tag().is_none());
            let allowed = options.filters.allow_age(fact.written) && options.filters.allow_labels(&fact.labels);
            if wanted && allowed && !used.contains(hex.as_str()) {
                doomed.push(PrunedImage { id, names });
            }
        }
        Ok(doomed)
    }

    fn doomed_volumes(&self, options: &PruneOptions, kept: &[ContainerRecord]) -> Result<Vec<String>> {
        if options.volumes == VolumePolicy::Keep {
            return Ok(Vec::new());
        }
        let used: BTreeSet<&String> = kept.iter().flat_map(|record| &record.volumes).collect();
        let goes = |volume: &crate::Volume| {
            (options.volumes == VolumePolicy::All || volume.anonymous)
                && options.filters.allow_labels(&volume.labels)
                && !used.contains(&volume.name)
        };
        Ok(self.volumes()?.into_iter().filter(goes).map(|volume| volume.name).collect())
    }

    /// When each directory of records changed last.
    pub(super) fn shards(&self) -> Result<BTreeMap<PathBuf, (i64, i64)>> {
        let mut shards = BTreeMap::new();
        for (_, path) in entries(&self.path("records"))? {
            let metadata = std::fs::metadata(&path).map_err(Error::path("read", &path))?;
            shards.insert(path, (metadata.mtime(), metadata.mtime_nsec()));
        }
        Ok(shards)
    }
}

/// What groups are made from.
struct View<'a> {
    store: &'a Store,
    options: &'a PruneOptions,
    uses: &'a BTreeMap<String, Use>,
    generation: u64,
    bases: &'a Bases,
}

type Groups = (Vec<Group>, Vec<(String, Use)>);

impl View<'_> {
    fn groups(
        &self,
        layers: &BTreeMap<String, LayerFact>,
        records: &BTreeMap<String, RecordFact>,
        images: &BTreeMap<String, ImageFact>,
        doomed: &[PrunedImage],
    ) -> Result<Groups> {
        let is_doomed: BTreeSet<&str> = doomed.iter().map(|image| image.id.hex()).collect();
        let of = |keep: bool| images.iter().filter(move |(id, _)| is_doomed.contains(id.as_str()) != keep);
        let needed: BTreeSet<&String> = of.clone()(true).flat_map(|(_, image)| &image.layers).collect();
        let freed: BTreeSet<&String> = of(false).flat_map(|(_, image)| &image.layers).collect();
        let pinned = lease::pinned(self.store)?;
        let mut adopted = Vec::new();
        let all = self.gather(layers, records, &needed, &mut adopted);
        let unpinned = all.into_iter().filter(|group| group.layer.as_ref().is_none_or(|layer| !pinned.contains(layer)));
        let (orphans, cached): (Vec<_>, Vec<_>) = unpinned.partition(|group| group.records.is_empty());
        let orphan_goes = |group: &Group| {
            let of_doomed = group.layer.as_ref().is_some_and(|layer| freed.contains(layer));
            let allowed = self.options.filters.labels.is_empty() && self.options.filters.allow_age(group.used.unix);
            !group.shared && (of_doomed || allowed)
        };
        let mut groups: Vec<Group> = orphans.into_iter().filter(orphan_goes).collect();
        groups.extend(self.choose(cached)?);
        Ok((self.deltas_first(groups), adopted))
    }

    /// A layer goes after those that stand on it, and not without them.
    fn deltas_first(&self, mut groups: Vec<Group>) -> Vec<Group> {
        let going = |group: &Group| group.layer.clone().filter(|_| !group.shared);
        let gone: BTreeSet<String> = groups.iter().filter_map(going).collect();
        let is_there = |delta: &String| self.store.path("layers").join(delta).exists();
        let carries = |base: &String| self.bases.on(base).any(|delta| !gone.contains(delta) && is_there(delta));
        groups.retain(|group| group.shared || !group.layer.as_ref().is_some_and(carries));
        groups.sort_by_key(|group| !group.layer.as_ref().is_some_and(|layer| self.bases.has(layer)));
        groups
    }

    /// Brings layers and their records together.
    fn gather(
        &self,
        layers: &BTreeMap<String, LayerFact>,
        records: &BTreeMap<String, RecordFact>,
        needed: &BTreeSet<&String>,
        adopted: &mut Vec<(String, Use)>,
    ) -> Vec<Group> {
        // What the index does not know is older than what was told since the last collection, and younger than the rest.
        let mut used = |name: &String, unix: u64| match self.uses.get(name) {
            Some(used) => *used,
            None => {
                let used = Use { generation: self.generation, unix, ..Use::default() };
                adopted.push((name.clone(), used));
                used
            }
        };
        let mut groups: BTreeMap<&String, Group> = BTreeMap::new();
        for (name, fact) in layers {
            let shared = needed.contains(name);
            let group = Group {
                layer: Some(name.clone()),
                tree: fact.tree.clone(),
                records: Vec::new(),
                used: used(name, fact.created),
                layer_bytes: if shared { 0 } else { fact.disk + self.pointer_bytes(fact) },
                shared,
            };
            groups.insert(name, group);
        }
        for (key, fact) in records {
            let home = fact.layer.as_ref().filter(|layer| layers.contains_key(*layer)).unwrap_or(key);
            let group = groups.entry(home).or_default();
            group.used = group.used.max(used(key, fact.written));
            group.records.push((key.clone(), fact.text.clone(), fact.disk));
        }
        groups.into_values().collect()
    }

    fn pointer_bytes(&self, fact: &LayerFact) -> u64 {
        let path = fact.tree.as_ref().map(|tree| self.store.path("trees").join(tree));
        path.and_then(|path| std::fs::symlink_metadata(path).ok()).map_or(0, |metadata| metadata.blocks() * 512)
    }

    /// The records that go: the least recently used first, until the budget holds.
    fn choose(&self, mut cached: Vec<Group>) -> Result<Vec<Group>> {
        let options = self.options;
        if options.cache < CachePolicy::Unshared || !options.filters.labels.is_empty() {
            return Ok(Vec::new());
        }
        cached.sort_by_key(|group| group.used);
        let total: u64 = cached.iter().filter(|group| !group.shared).map(Group::bytes).sum();
        let keep = match options.budget.is_none() {
            true => 0,
            false => options.budget.keep(total, self.free_bytes()?),
        };
        let mut left = total;
        let mut chosen = Vec::new();
        for group in cached {
            if left <= keep && !options.budget.is_none() {
                break;
            }
            let allowed = options.filters.allow_age(group.used.unix);
            if allowed && (!group.shared || options.cache == CachePolicy::All) {
                left = left.saturating_sub(if group.shared { 0 } else { group.bytes() });
                chosen.push(group);
            }
        }
        Ok(chosen)
    }

    fn free_bytes(&self) -> Result<u64> {
        let root = self.store.root();
        let stat = rustix::fs::statvfs(root).map_err(Error::errno("measure", root))?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}
