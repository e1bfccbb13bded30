//! A build cache in an object store: the files of [`CacheDirectory`](crate::CacheDirectory) as objects below a prefix.

mod object;
mod sign;

use std::fs::File;
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cache::{CacheKey, DiffId, Error, Layer, Lease, RemoteCache, RemoteLayer, RemoteRecord, Result, Store};

use self::object::{ObjectReader, Objects};
pub use self::sign::S3Credentials;
use crate::cache_directory::{FORM, MARK, layer_name, record_name};
use crate::documents::{DOCUMENT_LIMIT, descriptor};
use crate::http::HttpOptions;
use crate::save::{LayerCompression, blob_name, spool};

/// Where a cache is, as `type=s3` says it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct S3Place {
    /// The bucket.
    pub bucket: String,
    /// Before the names of all objects.
    pub prefix: String,
    /// The region; the environment's where it is not said.
    pub region: Option<String>,
    /// Another service than Amazon's.
    pub endpoint: Option<String>,
    /// The bucket is in the path and not in the host's name.
    pub path_style: Option<bool>,
    /// The key; the environment's where it is not said.
    pub credentials: Option<S3Credentials>,
}

/// What the environment says of object stores.
#[derive(Debug, Clone, Default)]
pub struct S3Environment {
    /// `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`
    pub credentials: Option<S3Credentials>,
    /// `AWS_REGION`, `AWS_DEFAULT_REGION`
    pub region: Option<String>,
    /// `AWS_ENDPOINT_URL_S3`, `AWS_ENDPOINT_URL`
    pub endpoint: Option<String>,
}

/// Asked between pieces whether the work is still wanted.
pub(crate) type Cancelled = Arc<dyn Fn() -> bool + Send + Sync>;

/// A cache in an object store.
#[derive(Debug)]
pub struct S3Cache {
    objects: Objects,
    name: String,
    compression: LayerCompression,
    read: AtomicU64,
}

impl S3Cache {
    /// Opens one for reading.
    ///
    /// # Errors
    /// When there is none, or the store does not let us.
    pub fn open(
        place: &S3Place,
        environment: &S3Environment,
        http: &HttpOptions,
        cancelled: Arc<dyn Fn() -> bool + Send + Sync>,
    ) -> Result<S3Cache> {
        let cache = S3Cache::at(place, environment, http, cancelled)?;
        match cache.get(MARK)? {
            Some(form) if form == FORM => Ok(cache),
            Some(_) => Err(cache.failed(&"a newer dunnage wrote it")),
            None => Err(cache.failed(&"there is no cache of dunnage")),
        }
    }

    /// Opens one for writing; begun when there is none. New layers are packed so.
    ///
    /// # Errors
    /// When the store does not let us, or something else wrote there.
    pub fn create(
        place: &S3Place,
        environment: &S3Environment,
        http: &HttpOptions,
        compression: LayerCompression,
        cancelled: Arc<dyn Fn() -> bool + Send + Sync>,
    ) -> Result<S3Cache> {
        let cache = S3Cache { compression, ..S3Cache::at(place, environment, http, cancelled)? };
        match cache.get(MARK)? {
            Some(form) if form == FORM => {}
            Some(_) => return Err(cache.failed(&"a newer dunnage wrote it")),
            None => cache.put(MARK, FORM.to_vec())?,
        }
        Ok(cache)
    }

    fn at(place: &S3Place, environment: &S3Environment, http: &HttpOptions, cancelled: Cancelled) -> Result<S3Cache> {
        let name = format!("s3://{}/{}", place.bucket, place.prefix);
        let objects = Objects::new(place, environment, http, cancelled);
        let objects = objects.map_err(|reason| Error::RemoteCache { name: name.clone(), reason })?;
        Ok(S3Cache { objects, name, compression: LayerCompression::None, read: AtomicU64::new(0) })
    }

    fn failed(&self, error: &dyn std::fmt::Display) -> Error {
        Error::RemoteCache { name: self.name.clone(), reason: error.to_string() }
    }

    fn get(&self, key: &str) -> Result<Option<Vec<u8>>> {
        let bytes = self.objects.get(key, DOCUMENT_LIMIT).map_err(|reason| self.failed(&reason))?;
        self.read.fetch_add(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64), Ordering::Relaxed);
        Ok(bytes)
    }

    fn put(&self, key: &str, bytes: Vec<u8>) -> Result<()> {
        self.objects.put(key, bytes.into()).map_err(|reason| self.failed(&reason))
    }
}

impl RemoteCache for S3Cache {
    fn name(&self) -> &str {
        &self.name
    }

    fn record(&self, key: &CacheKey) -> Result<Option<RemoteRecord>> {
        Ok(self.get(&record_name(key))?.as_deref().and_then(RemoteRecord::from_bytes))
    }

    fn layer(&self, id: &DiffId) -> Result<Option<RemoteLayer>> {
        let layer = self.get(&layer_name(id))?.as_deref().and_then(RemoteLayer::from_bytes);
        let Some(layer) = layer.filter(|layer| layer.diff_id == *id) else { return Ok(None) };
        let size = self.objects.size(&blob_name(&layer.blob.digest)).map_err(|reason| self.failed(&reason))?;
        Ok(Some(layer).filter(|layer| size == Some(layer.blob.size)))
    }

    fn open<'a>(&'a self, layer: &RemoteLayer) -> Result<Box<dyn Read + Send + 'a>> {
        let key = blob_name(&layer.blob.digest);
        Ok(Box::new(ObjectReader::new(&self.objects, key, layer.blob.size)))
    }

    fn put_layer(&self, store: &Store, lease: &Lease, layer: &Layer) -> Result<u64> {
        let (draft, digest, size) = spool(store, lease, layer, self.compression).map_err(|error| match error {
            crate::Error::Store(error) => error,
            error => self.failed(&error),
        })?;
        let blob = descriptor(self.compression.media_type(), digest, size);
        let key = blob_name(&blob.digest);
        let there = self.objects.size(&key).map_err(|reason| self.failed(&reason))? == Some(size);
        if !there {
            let mut packed = File::open(&draft).map_err(|error| Error::at("read", &draft, error))?;
            self.objects.put_file(&key, &mut packed, &blob).map_err(|reason| self.failed(&reason))?;
        }
        std::fs::remove_file(&draft).map_err(|error| Error::at("remove", &draft, error))?;
        let document = RemoteLayer { diff_id: layer.diff_id.clone(), tree: layer.tree, size: layer.size, blob };
        self.put(&layer_name(&layer.diff_id), document.to_bytes()?)?;
        Ok(if there { 0 } else { size })
    }

    fn put_record(&self, key: &CacheKey, record: &RemoteRecord) -> Result<()> {
        self.put(&record_name(key), record.to_bytes()?)
    }

    fn bytes_read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }
}
