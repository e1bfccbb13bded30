//! What the store holds, in true bytes on the disk; the parts add up to the whole.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::containers::ContainerRecord;
use crate::digest::ImageId;
use crate::error::{Error, Result};
use crate::index::facts::{ImageFact, LayerFact, RecordFact};
use crate::lease::{entries, pinned};
use crate::reference::Reference;
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

/// An image.
#[derive(Debug, Clone)]
pub struct ImageUsage {
    /// Its id.
    pub id: ImageId,
    /// Its names.
    pub names: Vec<Reference>,
    /// RFC 3339.
    pub created: Option<String>,
    /// Bytes that other images have too.
    pub shared: u64,
    /// Bytes that no other image has.
    pub unique: u64,
    /// Containers that stand on it.
    pub containers: u64,
}

/// A container.
#[derive(Debug, Clone)]
pub struct ContainerUsage {
    /// What is known of it.
    pub record: ContainerRecord,
    /// A process runs it.
    pub running: bool,
    /// Bytes on the disk.
    pub bytes: u64,
}

/// A volume.
#[derive(Debug, Clone)]
pub struct VolumeUsage {
    /// Its name.
    pub name: String,
    /// Containers that have it.
    pub links: u64,
    /// Bytes on the disk.
    pub bytes: u64,
}

/// A record of the build cache, or a layer that has none and belongs to no image.
#[derive(Debug, Clone)]
pub struct CacheUsage {
    /// Key of the record, or hexadecimal part of the layer.
    pub id: String,
    /// The step's text.
    pub text: String,
    /// Bytes of the record, and of its layer unless an image or another record counts it.
    pub bytes: u64,
    /// Unix seconds when the layer was made first.
    pub created: u64,
    /// Unix seconds of its last use.
    pub last_used: u64,
    /// How often it was used.
    pub uses: u64,
    /// A living process works with its layer.
    pub in_use: bool,
    /// An image has its layer.
    pub shared: bool,
}

/// The whole store.
#[derive(Debug, Clone, Default)]
pub struct Usage {
    /// Images with their layers; a layer counts once.
    pub images: Part,
    /// Containers: writable trees.
    pub containers: Part,
    /// Volumes.
    pub volumes: Part,
    /// Step records, layers that no image has, and cache mounts.
    pub build_cache: Part,
    /// What is held as a registry: blobs as clients sent them, and layers as they were packed for clients.
    pub registry: Part,
    /// Names, pointers, tables, the index, what is being made or was put aside.
    pub other_bytes: u64,
    /// Everything below the root: the sum of the above.
    pub total_bytes: u64,
    /// Each image.
    pub image_list: Vec<ImageUsage>,
    /// Each container.
    pub container_list: Vec<ContainerUsage>,
    /// Each volume.
    pub volume_list: Vec<VolumeUsage>,
    /// Each record, the latest used first.
    pub cache_list: Vec<CacheUsage>,
}

/// Directories of things that are counted one by one.
const COUNTED: [&str; 7] = ["layers", "images", "records", "containers", "volumes", "caches", "registry"];

impl Store {
    /// Measures the store.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn usage(&self) -> Result<Usage> {
        let facts = Facts {
            layers: self.layer_facts()?,
            records: self.record_facts()?,
            images: self.image_facts_with(&self.bases()?)?,
            pinned: {
                let _lock = self.shared()?;
                pinned(self)?
            },
        };
        let mut usage = Usage::default();
        self.measure_containers(&mut usage)?;
        self.measure_volumes(&mut usage)?;
        self.measure_images(&facts, &mut usage)?;
        self.measure_cache(&facts, &mut usage);
        self.measure_cache_mounts(&mut usage)?;
        self.measure_hosted(&mut usage)?;
        self.close_index();
        usage.other_bytes = self.other_bytes()?;
        usage.total_bytes = usage.other_bytes
            + [usage.images, usage.containers, usage.volumes, usage.build_cache, usage.registry]
                .iter()
                .map(|part| part.bytes)
                .sum::<u64>();
        Ok(usage)
    }

    fn measure_containers(&self, usage: &mut Usage) -> Result<()> {
        for (record, running) in self.containers()? {
            let bytes = disk_bytes(&self.path("containers").join(&record.id))?;
            usage.containers.total += 1;
            usage.containers.active += u64::from(running);
            usage.containers.bytes += bytes;
            usage.containers.reclaimable += if running { 0 } else { bytes };
            usage.container_list.push(ContainerUsage { record, running, bytes });
        }
        usage.container_list.sort_by_key(|container| std::cmp::Reverse(container.record.created));
        Ok(())
    }

    fn measure_volumes(&self, usage: &mut Usage) -> Result<()> {
        for volume in self.volumes()? {
            let bytes = disk_bytes(&self.volume_dir(&volume.name))?;
            let has = |container: &&ContainerUsage| container.record.volumes.contains(&volume.name);
            let links = usage.container_list.iter().filter(has).count() as u64;
            usage.volumes.total += 1;
            usage.volumes.active += u64::from(links > 0);
            usage.volumes.bytes += bytes;
            usage.volumes.reclaimable += if links > 0 { 0 } else { bytes };
            usage.volume_list.push(VolumeUsage { name: volume.name, links, bytes });
        }
        Ok(())
    }

    fn measure_images(&self, facts: &Facts, usage: &mut Usage) -> Result<()> {
        let mut names: BTreeMap<ImageId, Vec<Reference>> = BTreeMap::new();
        for (name, id) in self.names()? {
            names.entry(id).or_default().push(name);
        }
        let holders = facts.holders();
        let mut of_used = BTreeSet::new();
        for (hex, fact) in &facts.images {
            let Ok(id) = format!("sha256:{hex}").parse::<ImageId>() else { continue };
            let containers =
                usage.container_list.iter().filter(|container| container.record.image == id).count() as u64;
            let own: BTreeSet<&String> = fact.layers.iter().collect();
            let bytes_of = |alone: bool| -> u64 {
                let wanted = |layer: &&&String| (holders.get(**layer).copied() == Some(1)) == alone;
                own.iter().filter(wanted).map(|layer| facts.disk(layer)).sum()
            };
            if containers > 0 {
                usage.images.active += 1;
                of_used.extend(own.iter().copied());
            } else {
                usage.images.reclaimable += fact.disk;
            }
            usage.images.total += 1;
            usage.images.bytes += fact.disk;
            usage.image_list.push(ImageUsage {
                names: names.remove(&id).unwrap_or_default(),
                id,
                created: fact.created.clone(),
                shared: bytes_of(false),
                unique: bytes_of(true) + fact.disk,
                containers,
            });
        }
        for layer in holders.keys() {
            let bytes = facts.disk(layer);
            usage.images.bytes += bytes;
            usage.images.reclaimable += if of_used.contains(layer) { 0 } else { bytes };
        }
        usage
            .image_list
            .sort_by(|one, other| other.created.cmp(&one.created).then_with(|| one.names.cmp(&other.names)));
        Ok(())
    }

    fn measure_cache(&self, facts: &Facts, usage: &mut Usage) {
        let uses = self.uses();
        let holders = facts.holders();
        let mut counted: BTreeSet<&String> = BTreeSet::new();
        let recorded = facts.records.iter().map(|(key, fact)| (key, fact.layer.as_ref(), fact));
        for (key, layer, fact) in recorded {
            let layer = layer.filter(|layer| facts.layers.contains_key(*layer));
            let shared = layer.is_some_and(|layer| holders.contains_key(layer));
            let owned = layer.filter(|layer| !shared && counted.insert(layer)).map_or(0, |layer| facts.disk(layer));
            let used = uses.get(key);
            usage.cache_list.push(CacheUsage {
                id: key.clone(),
                text: fact.text.clone(),
                bytes: fact.disk + owned,
                created: fact.created,
                last_used: used.map_or(fact.written, |used| used.unix),
                uses: used.map_or(0, |used| used.count),
                in_use: layer.is_some_and(|layer| facts.pinned.contains(layer)),
                shared,
            });
        }
        for (layer, fact) in &facts.layers {
            if holders.contains_key(layer) || counted.contains(layer) {
                continue;
            }
            let used = uses.get(layer);
            usage.cache_list.push(CacheUsage {
                id: layer.clone(),
                text: String::new(),
                bytes: fact.disk,
                created: fact.created,
                last_used: used.map_or(fact.created, |used| used.unix),
                uses: used.map_or(0, |used| used.count),
                in_use: facts.pinned.contains(layer),
                shared: false,
            });
        }
        usage.cache_list.sort_by(|one, other| {
            other
                .last_used
                .cmp(&one.last_used)
                .then_with(|| other.created.cmp(&one.created))
                .then(one.id.cmp(&other.id))
        });
        for cache in &usage.cache_list {
            usage.build_cache.total += 1;
            usage.build_cache.active += u64::from(cache.in_use);
            usage.build_cache.bytes += cache.bytes;
            usage.build_cache.reclaimable += if cache.in_use { 0 } else { cache.bytes };
        }
    }

    fn measure_cache_mounts(&self, usage: &mut Usage) -> Result<()> {
        for cache in self.cache_mounts()? {
            usage.build_cache.total += 1;
            usage.build_cache.active += u64::from(cache.in_use);
            usage.build_cache.bytes += cache.bytes;
            usage.build_cache.reclaimable += if cache.in_use { 0 } else { cache.bytes };
        }
        Ok(())
    }

    fn measure_hosted(&self, usage: &mut Usage) -> Result<()> {
        let path = self.path("registry");
        let hosted = self.hosted();
        let doomed = {
            let _lock = self.shared()?;
            hosted.doomed(true, &BTreeSet::new())?
        };
        for path in &doomed.files {
            usage.registry.reclaimable += disk_bytes(path)?;
        }
        usage.registry.total = hosted.blob_count()?;
        // The directory itself is among the rest.
        usage.registry.bytes = disk_bytes(&path)?.saturating_sub(own_bytes(&path)?);
        Ok(())
    }

    /// Everything that is not counted as image, container, volume or build cache.
    fn other_bytes(&self) -> Result<u64> {
        let mut bytes = own_bytes(self.root())?;
        for (name, path) in entries(self.root())? {
            if !COUNTED.contains(&name.as_str()) {
                bytes += disk_bytes(&path)?;
                continue;
            }
            bytes += own_bytes(&path)?;
            if name == "records" {
                for (_, shard) in entries(&path)? {
                    bytes += own_bytes(&shard)?;
                }
            }
        }
        Ok(bytes)
    }
}

struct Facts {
    layers: BTreeMap<String, LayerFact>,
    records: BTreeMap<String, RecordFact>,
    images: BTreeMap<String, ImageFact>,
    pinned: BTreeSet<String>,
}

impl Facts {
    fn disk(&self, layer: &str) -> u64 {
        self.layers.get(layer).map_or(0, |fact| fact.disk)
    }

    /// How many images have each layer.
    fn holders(&self) -> BTreeMap<&String, u64> {
        let mut holders = BTreeMap::new();
        for image in self.images.values() {
            for layer in image.layers.iter().collect::<BTreeSet<_>>() {
                *holders.entry(layer).or_default() += 1;
            }
        }
        holders
    }
}

/// Bytes of a file or directory itself.
pub(crate) fn own_bytes(path: &Path) -> Result<u64> {
    match std::fs::symlink_metadata(path) {
        Ok(metadata) => Ok(metadata.blocks() * 512),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(Error::path("measure", path)(error)),
    }
}

/// Bytes on the disk of a tree, each file once however many names it has; of one that another tree has too, its share. What
/// vanishes meanwhile counts as nothing.
pub(crate) fn disk_bytes(path: &Path) -> Result<u64> {
    let (own, linked) = measure(path, on_disk)?;
    Ok(own + linked.values().map(|file| file.bytes * file.names / file.links.max(file.names)).sum::<u64>())
}

/// Bytes that the disk gets back when a tree goes: files that have a name elsewhere stay.
pub(crate) fn freed_bytes(path: &Path) -> Result<u64> {
    let (own, linked) = measure(path, on_disk)?;
    Ok(own + linked.values().filter(|file| file.names >= file.links).map(|file| file.bytes).sum::<u64>())
}

/// Bytes in the files of a tree, each file once: what docker counts of a container.
pub(crate) fn content_bytes(path: &Path) -> Result<u64> {
    let (own, linked) = measure(path, |found| if found.is_dir() { 0 } else { found.len() })?;
    Ok(own + linked.values().map(|file| file.bytes).sum::<u64>())
}

/// How many names in a tree each of its files has, of those that have several anywhere.
pub(crate) fn names_by_inode(path: &Path) -> Result<HashMap<u64, u64>> {
    Ok(measure(path, on_disk)?.1.into_iter().map(|((_, ino), file)| (ino, file.names)).collect())
}

/// A file with several names.
struct Linked {
    bytes: u64,
    /// Names in the tree.
    names: u64,
    /// Names anywhere.
    links: u64,
}

/// By device and inode.
type LinkedFiles = HashMap<(u64, u64), Linked>;

fn on_disk(found: &Metadata) -> u64 {
    found.blocks() * 512
}

/// Bytes of what has one name, and the files that have more.
fn measure(path: &Path, bytes_of: fn(&Metadata) -> u64) -> Result<(u64, LinkedFiles)> {
    let mut linked = LinkedFiles::new();
    let mut open = vec![path.to_owned()];
    let mut own = 0;
    while let Some(path) = open.pop() {
        let metadata = match std::fs::symlink_metadata(&path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(Error::path("measure", path)(error)),
        };
        let bytes = bytes_of(&metadata);
        if metadata.is_dir() {
            open.extend(entries(&path)?.into_iter().map(|(_, path)| path));
        } else if metadata.nlink() > 1 {
            let new = || Linked { bytes, names: 0, links: metadata.nlink() };
            linked.entry((metadata.dev(), metadata.ino())).or_insert_with(new).names += 1;
            continue;
        }
        own += bytes;
    }
    Ok((own, linked))
}
