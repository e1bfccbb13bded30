//! Caches beyond the store: what steps gave on other machines, and their layers, fetched when somebody needs the files.
//!
//! [`RemoteCache`] is all that a build knows of one. docs/cache.md has the form in which a directory keeps it.

use std::fmt::Debug;
use std::io::Read;

use serde::{Deserialize, Serialize};

use crate::descriptor::Descriptor;
use crate::digest::{CacheKey, DiffId, TreeHash};
use crate::error::{Error, Result};
use crate::layer::Layer;
use crate::layer::import::{Compressed, ImportOptions};
use crate::layer::limits::Limits;
use crate::lease::Lease;
use crate::sealed::{seal, unseal};
use crate::store::Store;

/// What a step with a certain key gave on another machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteRecord {
    /// The layer that it made.
    pub layer: DiffId,
    /// The hash of its tree: keys of later steps hold it, so that they are known before the layer is here.
    pub tree: TreeHash,
    /// Unix seconds when the layer was made first.
    pub created: u64,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
    /// The step as the Dockerfile has it, for lists.
    pub text: String,
}

/// A layer as a cache has it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RemoteLayer {
    /// The digest of its tar.
    pub diff_id: DiffId,
    /// The hash of its tree.
    pub tree: TreeHash,
    /// Bytes of file content.
    pub size: u64,
    /// The bytes that give it.
    pub blob: Descriptor,
}

/// The key of an image configuration under which the image says which steps gave its layers (`--cache-to type=inline`).
pub const INLINE_RECORDS: &str = "dunnage.cache.v1";

/// One of them, whose layer may be one of another stage. It holds no time and no word of the machine: equal builds are equal images with it as well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InlineRecord {
    /// The layer.
    pub layer: DiffId,
    /// The hash of its tree.
    pub tree: TreeHash,
    /// Bytes of file content, of a layer that the image has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// The keys of the step.
    pub keys: Vec<CacheKey>,
}

/// A cache beyond the store. Its keys are those of the store, so that what has the same key is the same everywhere.
pub trait RemoteCache: Sync + Debug {
    /// How messages call it.
    fn name(&self) -> &str;

    /// Looks a record up.
    ///
    /// # Errors
    /// When the cache cannot be asked.
    fn record(&self, key: &CacheKey) -> Result<Option<RemoteRecord>>;

    /// Looks a layer up; one whose bytes are not all there counts as none.
    ///
    /// # Errors
    /// When the cache cannot be asked.
    fn layer(&self, id: &DiffId) -> Result<Option<RemoteLayer>>;

    /// The bytes of a layer. Whoever reads them checks them.
    ///
    /// # Errors
    /// When they cannot be had.
    fn open<'a>(&'a self, layer: &RemoteLayer) -> Result<Box<dyn Read + Send + 'a>>;

    /// Takes a layer of the store in, and gives the bytes that it came to.
    ///
    /// # Errors
    /// When it cannot be read or written; nothing of it is visible then.
    fn put_layer(&self, store: &Store, lease: &Lease, layer: &Layer) -> Result<u64>;

    /// Takes a record in, over one that is there. Its layer was taken in before.
    ///
    /// # Errors
    /// When it cannot be written.
    fn put_record(&self, key: &CacheKey, record: &RemoteRecord) -> Result<()>;

    /// Ends an export: what was taken in can be found from now on. Gives the bytes that this took.
    ///
    /// # Errors
    /// When it cannot be written; the cache is as it was then.
    fn finish(&self, _store: &Store, _lease: &Lease) -> Result<u64> {
        Ok(0)
    }

    /// Bytes of records and of what is said of layers that were read so far.
    fn bytes_read(&self) -> u64;
}

impl RemoteRecord {
    /// The document that a cache keeps.
    ///
    /// # Errors
    /// When it cannot be written as JSON.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        seal("the record of a cache", self)
    }

    /// A document that a cache kept; `None` for one that is damaged.
    pub fn from_bytes(bytes: &[u8]) -> Option<RemoteRecord> {
        unseal(bytes)
    }
}

impl RemoteLayer {
    /// The document that a cache keeps.
    ///
    /// # Errors
    /// When it cannot be written as JSON.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        seal("the layer of a cache", self)
    }

    /// A document that a cache kept; `None` for one that is damaged.
    pub fn from_bytes(bytes: &[u8]) -> Option<RemoteLayer> {
        unseal(bytes)
    }
}

impl Store {
    /// A layer that is elsewhere so far, or nowhere: keys can be made of it, and it can be used once
    /// [`fetch_layer`](Store::fetch_layer) has brought it.
    pub fn distant_layer(&self, record: &RemoteRecord, remote: Option<&RemoteLayer>) -> Layer {
        let size = remote.map_or(0, |remote| remote.size);
        Layer::at(self, record.layer.clone(), record.tree, size, record.created)
    }

    /// Brings a layer, verified on the way: its bytes, its tar, its tree. `tell` hears of bytes as they come.
    ///
    /// # Errors
    /// When the cache does not give it, or gives another.
    pub fn fetch_layer(
        &self,
        lease: &Lease,
        from: &dyn RemoteCache,
        remote: &RemoteLayer,
        tell: &(dyn Fn(u64) + Sync),
    ) -> Result<Layer> {
        let blob = &remote.blob;
        let options = ImportOptions {
            diff_id: Some(remote.diff_id.clone()),
            compressed: Some(Compressed { digest: blob.digest.clone(), size: blob.size }),
            limits: Limits::default(),
        };
        let fetched = from.open(remote).and_then(|bytes| {
            let told = Told { bytes, tell };
            self.import_layer_with(lease, told, &options)
        });
        let layer = fetched.map_err(|error| match error {
            error if error.is_disk_full() => error,
            error => Error::RemoteCache { name: from.name().to_owned(), reason: error.to_string() },
        })?;
        if layer.tree != remote.tree {
            let reason = format!("its layer {} has other files than its records say", remote.diff_id);
            return Err(Error::RemoteCache { name: from.name().to_owned(), reason });
        }
        Ok(layer)
    }
}

/// Bytes that are told of.
struct Told<'a> {
    bytes: Box<dyn Read + Send + 'a>,
    tell: &'a (dyn Fn(u64) + Sync),
}

impl Read for Told<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.bytes.read(buffer)?;
        (self.tell)(count as u64);
        Ok(count)
    }
}
