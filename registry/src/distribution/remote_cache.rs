//! A build cache at a registry: one manifest whose configuration is the list of records and whose layers are the layers.
//! docs/cache.md has its form. An image that carries its own records (`type=inline`) is read as one too.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cache::{
    CacheKey, DiffId, Digest, Error, Layer, Lease, MediaType, Platform, Reference, RemoteCache, RemoteLayer,
    RemoteRecord, Result, Store,
};
use serde::{Deserialize, Serialize};

use super::Client;
use super::blob::{BlobReader, Slot, taken};
use super::outbound::Outbound;
use super::refusal::Cause;
use super::repository::{RemoteManifest, Repository, wanted};
use crate::documents::{DOCUMENT_LIMIT, Document, Manifest, descriptor};
use crate::save::LayerCompression;

/// The type of the list of records.
const RECORDS: &str = "application/vnd.dunnage.cache.v1+json";
/// The type that BuildKit gives to its own.
const BUILDKIT: &str = "application/vnd.buildkit.cacheconfig.v0";
/// Most bytes of a list of records.
const RECORDS_LIMIT: u64 = 64 << 20;
/// Most layers of one cache: its manifest has to stay within what registries take.
const LAYERS: usize = 4000;
/// Most records of one cache.
const KEYS: usize = 20_000;

/// The list of records.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Records {
    layers: Vec<Kept<RemoteLayer>>,
    records: BTreeMap<CacheKey, Kept<RemoteRecord>>,
}

/// Something, and when an export last had a use for it.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Kept<T> {
    #[serde(flatten)]
    what: T,
    /// Unix seconds.
    used: u64,
}

/// What an export adds.
#[derive(Debug, Default)]
struct Added {
    layers: BTreeMap<DiffId, RemoteLayer>,
    records: BTreeMap<CacheKey, RemoteRecord>,
    /// Layers and records that were there and are of use still.
    used: BTreeSet<DiffId>,
    used_keys: BTreeSet<CacheKey>,
}

/// A cache under a name of a registry.
#[derive(Debug)]
pub struct RegistryCache {
    repository: Repository,
    reference: Reference,
    name: String,
    layers: BTreeMap<DiffId, Kept<RemoteLayer>>,
    records: BTreeMap<CacheKey, Kept<RemoteRecord>>,
    read: AtomicU64,
    /// Only of one that is written to.
    compression: Option<LayerCompression>,
    together: usize,
    added: Mutex<Added>,
}

impl RegistryCache {
    /// Opens one for reading. Of an image with records of its own, the one for this platform.
    ///
    /// # Errors
    /// When there is none, or its form is another.
    pub fn open(client: &Client, reference: &Reference, platform: &Platform) -> Result<RegistryCache> {
        let mut cache = RegistryCache::at(client, reference)?;
        let top = cache.repository.try_manifest(&wanted(reference)).map_err(|cause| cache.refused(cause))?;
        match cache.read_records(&top)? {
            Some(records) => cache.take(records),
            None => {
                let inline = super::inline::read(&cache.repository, top, platform);
                let inline = inline.map_err(|error| cache.failed(&error))?;
                cache.read.fetch_add(inline.bytes, Ordering::Relaxed);
                cache.layers = inline.layers.into_iter().map(|(id, what)| (id, Kept { what, used: 0 })).collect();
                cache.records = inline.records.into_iter().map(|(key, what)| (key, Kept { what, used: 0 })).collect();
            }
        }
        Ok(cache)
    }

    /// Opens one for writing; there need be none yet. New layers are packed so; as they are known there where it is not said.
    ///
    /// # Errors
    /// When the registry cannot be asked, or the name stands for something else.
    pub fn create(
        client: &Client,
        reference: &Reference,
        compression: Option<LayerCompression>,
    ) -> Result<RegistryCache> {
        let mut cache = RegistryCache { compression, ..RegistryCache::at(client, reference)? };
        if reference.digest().is_some() {
            return Err(cache.failed(&"a cache is written under a tag, not under a digest"));
        }
        match cache.repository.try_manifest(&wanted(reference)) {
            Ok(top) => match cache.read_records(&top)? {
                Some(records) => cache.take(records),
                None => return Err(cache.failed(&"it is an image: a cache needs a tag of its own")),
            },
            Err(Cause::NotFound { .. }) => {}
            Err(cause) => return Err(cache.refused(cause)),
        }
        Ok(cache)
    }

    fn at(client: &Client, reference: &Reference) -> Result<RegistryCache> {
        let name = reference.familiar();
        let repository = client
            .repository(reference, &format!("use the cache {name}"))
            .map_err(|error| Error::RemoteCache { name: name.clone(), reason: error.to_string() })?;
        Ok(RegistryCache {
            repository,
            reference: reference.clone(),
            name,
            layers: BTreeMap::new(),
            records: BTreeMap::new(),
            read: AtomicU64::new(0),
            compression: None,
            together: client.settings().transfers().concurrency,
            added: Mutex::default(),
        })
    }

    /// The records of a cache; `None` of anything else that may have some. One that is damaged is as if it were empty.
    fn read_records(&self, top: &RemoteManifest) -> Result<Option<Records>> {
        let manifest = match &top.document {
            Document::Manifest(manifest) => manifest,
            Document::Index(index) => {
                let foreign = index.manifests.iter().any(|entry| entry.media_type.to_string() == BUILDKIT);
                return if foreign { Err(self.failed(&"it is a cache of BuildKit")) } else { Ok(None) };
            }
        };
        match manifest.config.media_type.to_string().as_str() {
            RECORDS => {}
            BUILDKIT => return Err(self.failed(&"it is a cache of BuildKit")),
            _ => return Ok(None),
        }
        let bytes = self.repository.small_blob(&manifest.config, RECORDS_LIMIT, &|_| ());
        let bytes = bytes.map_err(|cause| self.refused(cause))?;
        self.read.fetch_add(bytes.len() as u64 + top.bytes.len() as u64, Ordering::Relaxed);
        Ok(Some(serde_json::from_slice(&bytes).unwrap_or_default()))
    }

    fn take(&mut self, records: Records) {
        self.layers = records.layers.into_iter().map(|kept| (kept.what.diff_id.clone(), kept)).collect();
        self.records = records.records;
    }

    fn added(&self) -> MutexGuard<'_, Added> {
        self.added.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self, error: &dyn std::fmt::Display) -> Error {
        Error::RemoteCache { name: self.name.clone(), reason: error.to_string() }
    }

    fn refused(&self, cause: Cause) -> Error {
        self.failed(&self.repository.refused(cause))
    }

    fn outbound<'a>(&'a self, store: &'a Store, lease: &'a Lease) -> Outbound<'a> {
        let (compression, together) = (self.compression, self.together);
        Outbound { store, lease, repository: &self.repository, compression, together, events: &|_| () }
    }

    /// What the cache is with what was added; what was of no use for the longest goes where it is too much.
    fn joined(&self, added: &Added, now: u64) -> Records {
        let mut layers = joined(&self.layers, &added.layers, &added.used, now, LAYERS);
        let records = joined(&self.records, &added.records, &added.used_keys, now, KEYS);
        // What a cache mount was before is of no use to anybody.
        let named: BTreeSet<&DiffId> = records.iter().map(|(_, kept)| &kept.what.layer).collect();
        layers.retain(|(id, _)| named.contains(id));
        Records { layers: layers.into_iter().map(|(_, kept)| kept).collect(), records: records.into_iter().collect() }
    }
}

/// What was there and what is new, the latest used first, so many at most.
fn joined<K: Ord + Clone, T: Clone>(
    there: &BTreeMap<K, Kept<T>>,
    new: &BTreeMap<K, T>,
    used: &BTreeSet<K>,
    now: u64,
    limit: usize,
) -> Vec<(K, Kept<T>)> {
    let old = there.iter().filter(|(key, _)| !new.contains_key(*key));
    let old = old.map(|(key, kept)| {
        (key.clone(), Kept { what: kept.what.clone(), used: if used.contains(key) { now } else { kept.used } })
    });
    let new = new.iter().map(|(key, what)| (key.clone(), Kept { what: what.clone(), used: now }));
    let mut all: Vec<(K, Kept<T>)> = old.chain(new).collect();
    all.sort_by(|(one, first), (other, second)| second.used.cmp(&first.used).then_with(|| one.cmp(other)));
    all.truncate(limit);
    all
}

impl RemoteCache for RegistryCache {
    fn name(&self) -> &str {
        &self.name
    }

    fn record(&self, key: &CacheKey) -> Result<Option<RemoteRecord>> {
        let found = self.records.get(key).map(|kept| kept.what.clone());
        if found.is_some() {
            self.added().used_keys.insert(*key);
        }
        Ok(found)
    }

    fn layer(&self, id: &DiffId) -> Result<Option<RemoteLayer>> {
        let found = self.layers.get(id).map(|kept| kept.what.clone());
        if found.is_some() {
            self.added().used.insert(id.clone());
        }
        Ok(found)
    }

    fn open<'a>(&'a self, layer: &RemoteLayer) -> Result<Box<dyn Read + Send + 'a>> {
        let slot = Slot::default();
        let reader = BlobReader::new(&self.repository, &layer.blob, Arc::clone(&slot), &|_| ());
        Ok(Box::new(Told { reader, slot, repository: &self.repository }))
    }

    fn put_layer(&self, store: &Store, lease: &Lease, layer: &Layer) -> Result<u64> {
        let arrived = self.outbound(store, lease).layer(layer, None).map_err(|error| self.failed(&error))?;
        let size = arrived.descriptor.size;
        let there = RemoteLayer {
            diff_id: layer.diff_id.clone(),
            tree: layer.tree,
            size: layer.size,
            blob: arrived.descriptor,
        };
        self.added().layers.insert(layer.diff_id.clone(), there);
        Ok(if arrived.sent { size } else { 0 })
    }

    fn put_record(&self, key: &CacheKey, record: &RemoteRecord) -> Result<()> {
        self.added().records.insert(*key, record.clone());
        Ok(())
    }

    fn finish(&self, store: &Store, lease: &Lease) -> Result<u64> {
        let added = self.added();
        if added.records.is_empty() && added.layers.is_empty() {
            return Ok(0);
        }
        let now = std::time::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs());
        let records = self.joined(&added, now);
        let bytes = serde_json::to_vec(&records).map_err(|error| self.failed(&error))?;
        let digest = Digest::sha256_of(&bytes);
        let outbound = self.outbound(store, lease);
        outbound.document(&digest, &bytes).map_err(|error| self.failed(&error))?;
        let config = descriptor(MediaType::from(RECORDS.to_owned()), digest, bytes.len() as u64);
        let layers = records.layers.into_iter().map(|kept| kept.what.blob).collect();
        let manifest = Manifest { layers, ..Manifest::of(config) };
        let document = serde_json::to_vec(&manifest).map_err(|error| self.failed(&error))?;
        if document.len() as u64 > DOCUMENT_LIMIT {
            return Err(self.failed(&"it has more layers than a manifest holds: begin another under a new tag"));
        }
        let put = self.repository.put_manifest(&wanted(&self.reference), &MediaType::OciManifest, &document);
        put.map_err(|error| self.failed(&error))?;
        Ok((bytes.len() + document.len()) as u64)
    }

    fn bytes_read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }
}

/// A blob whose failure is told in words.
struct Told<'a> {
    reader: BlobReader<'a>,
    slot: Slot,
    repository: &'a Repository,
}

impl Read for Told<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reader.read(buffer).map_err(|error| match taken(&self.slot) {
            Some(cause) => io::Error::other(self.repository.refused(cause).to_string()),
            None => error,
        })
    }
}
