//! A build cache as a directory: records by key, layers by diff id, their bytes by digest. docs/cache.md has its form.
//!
//! Every file appears whole or not at all, and a record after all that it names, so that readers and writers need no lock.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use cache::{
    CacheKey, Descriptor, DiffId, Error, Follow, Layer, Lease, OutputFile, RemoteCache, RemoteLayer, RemoteRecord,
    Result, Store, TreeRoot, failpoint,
};

use crate::documents::{DOCUMENT_LIMIT, descriptor};
use crate::save::{LayerCompression, blob_name, spool};

/// The file that says what the directory is.
pub(crate) const MARK: &str = "dunnage-cache";
/// What is in it.
pub(crate) const FORM: &[u8] = b"1\n";

/// A cache in a directory.
#[derive(Debug)]
pub struct CacheDirectory {
    path: PathBuf,
    name: String,
    root: TreeRoot,
    compression: LayerCompression,
    read: AtomicU64,
}

impl CacheDirectory {
    /// Opens one for reading.
    ///
    /// # Errors
    /// When there is none, or its form is another.
    pub fn open(path: &Path) -> Result<CacheDirectory> {
        let wrong = |reason: &str| Error::RemoteCache { name: path.display().to_string(), reason: reason.to_owned() };
        if !path.is_dir() {
            return Err(wrong("there is no such directory"));
        }
        let root = TreeRoot::open(path)?;
        match root.read_file(Path::new(MARK), 64)?.as_deref() {
            Some(FORM) => {}
            Some(_) => return Err(wrong("a newer dunnage wrote it")),
            None if root.metadata(Path::new("index.json"), Follow::Yes)?.is_some() => {
                return Err(wrong("it is an OCI layout, perhaps a cache of BuildKit, and no cache of dunnage"));
            }
            None => return Err(wrong("it is no cache of dunnage")),
        }
        let name = path.display().to_string();
        Ok(CacheDirectory {
            path: path.to_owned(),
            name,
            root,
            compression: LayerCompression::None,
            read: AtomicU64::new(0),
        })
    }

    /// Opens one for writing; made when it is missing. New layers are packed so.
    ///
    /// # Errors
    /// When it is something else, or cannot be made.
    pub fn create(path: &Path, compression: LayerCompression) -> Result<CacheDirectory> {
        std::fs::create_dir_all(path).map_err(|error| Error::at("make", path, error))?;
        let empty = std::fs::read_dir(path).map_err(|error| Error::at("read", path, error))?.next().is_none();
        if empty {
            write(&path.join(MARK), FORM.len() as u64, &mut &*FORM)?;
        }
        Ok(CacheDirectory { compression, ..CacheDirectory::open(path)? })
    }

    /// A small file; a damaged or oversized one counts as none, for the step can run.
    fn document<T>(&self, path: &str, read: impl FnOnce(&[u8]) -> Option<T>) -> Result<Option<T>> {
        match self.root.read_file(Path::new(path), DOCUMENT_LIMIT) {
            Ok(bytes) => {
                self.read.fetch_add(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64), Ordering::Relaxed);
                Ok(bytes.as_deref().and_then(read))
            }
            Err(error) if error.is_environment() => Err(self.failed(&error)),
            Err(_) => Ok(None),
        }
    }

    fn failed(&self, error: &dyn std::fmt::Display) -> Error {
        Error::RemoteCache { name: self.name.clone(), reason: error.to_string() }
    }
}

impl RemoteCache for CacheDirectory {
    fn name(&self) -> &str {
        &self.name
    }

    fn record(&self, key: &CacheKey) -> Result<Option<RemoteRecord>> {
        self.document(&record_name(key), RemoteRecord::from_bytes)
    }

    fn layer(&self, id: &DiffId) -> Result<Option<RemoteLayer>> {
        let Some(layer) = self.document(&layer_name(id), RemoteLayer::from_bytes)? else { return Ok(None) };
        let blob = self.root.metadata(Path::new(&blob_name(&layer.blob.digest)), Follow::Yes);
        let whole = blob.is_ok_and(|there| there.is_some_and(|there| there.size == layer.blob.size));
        Ok(Some(layer).filter(|layer| layer.diff_id == *id && whole))
    }

    fn open<'a>(&'a self, layer: &RemoteLayer) -> Result<Box<dyn Read + Send + 'a>> {
        Ok(Box::new(self.root.open_file(Path::new(&blob_name(&layer.blob.digest)))?))
    }

    fn put_layer(&self, store: &Store, lease: &Lease, layer: &Layer) -> Result<u64> {
        let (draft, digest, size) = spool(store, lease, layer, self.compression).map_err(|error| match error {
            crate::Error::Store(error) => error,
            error => self.failed(&error),
        })?;
        let blob: Descriptor = descriptor(self.compression.media_type(), digest, size);
        let mut packed = std::fs::File::open(&draft).map_err(|error| Error::at("read", &draft, error))?;
        write(&self.path.join(blob_name(&blob.digest)), size, &mut packed)?;
        std::fs::remove_file(&draft).map_err(|error| Error::at("remove", &draft, error))?;
        let document = RemoteLayer { diff_id: layer.diff_id.clone(), tree: layer.tree, size: layer.size, blob };
        let bytes = document.to_bytes()?;
        write(&self.path.join(layer_name(&layer.diff_id)), bytes.len() as u64, &mut &*bytes)?;
        Ok(size)
    }

    fn put_record(&self, key: &CacheKey, record: &RemoteRecord) -> Result<()> {
        let bytes = record.to_bytes()?;
        write(&self.path.join(record_name(key)), bytes.len() as u64, &mut &*bytes)
    }

    fn bytes_read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }
}

pub(crate) fn record_name(key: &CacheKey) -> String {
    let name = key.to_string();
    let (shard, _) = name.split_at(2);
    format!("records/{shard}/{name}.json")
}

pub(crate) fn layer_name(id: &DiffId) -> String {
    format!("layers/{}.json", id.hex())
}

fn write(path: &Path, size: u64, content: &mut dyn Read) -> Result<()> {
    let parent = path.parent().unwrap_or(path);
    std::fs::create_dir_all(parent).map_err(|error| Error::at("make", parent, error))?;
    let mut file = OutputFile::create(path)?;
    failpoint("remote.write")?;
    io::copy(content, &mut file).map_err(|error| Error::at("write", path, error).needing(size))?;
    file.commit()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use cache::{Digest, TreeHash};

    use super::*;

    #[test]
    fn records_come_back_and_damaged_or_half_ones_are_none() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("cache");
        assert!(CacheDirectory::open(&path).unwrap_err().to_string().contains("no such directory"));
        let cache = CacheDirectory::create(&path, LayerCompression::None).unwrap();
        let key = CacheKey::from_bytes([7; 32]);
        let id = DiffId(Digest::sha256_of(b"tar"));
        let tree = TreeHash::from_bytes([1; 32]);
        let record = RemoteRecord { layer: id.clone(), tree, created: 5, duration_ms: 6, text: "RUN x".to_owned() };
        assert_eq!(cache.record(&key).unwrap(), None);
        cache.put_record(&key, &record).unwrap();
        let again = CacheDirectory::open(&path).unwrap();
        assert_eq!(again.record(&key).unwrap(), Some(record));
        let file = path.join(record_name(&key));
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, text.replace("\"created\":5", "\"created\":9")).unwrap();
        assert_eq!(again.record(&key).unwrap(), None, "a changed record is none");
        // A layer whose bytes are missing is none.
        let blob = descriptor(LayerCompression::None.media_type(), Digest::sha256_of(b"x"), 3);
        let layer = RemoteLayer { diff_id: id.clone(), tree, size: 3, blob };
        let bytes = layer.to_bytes().unwrap();
        write(&path.join(layer_name(&id)), 0, &mut &*bytes).unwrap();
        assert_eq!(again.layer(&id).unwrap(), None);
        write(&path.join(blob_name(&layer.blob.digest)), 3, &mut &b"abc"[..]).unwrap();
        assert_eq!(again.layer(&id).unwrap(), Some(layer));
    }

    #[test]
    fn other_directories_are_told_apart() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("index.json"), "{}").unwrap();
        for found in
            [CacheDirectory::open(directory.path()), CacheDirectory::create(directory.path(), LayerCompression::None)]
        {
            assert!(found.unwrap_err().to_string().contains("BuildKit"));
        }
        std::fs::write(directory.path().join(MARK), "2\n").unwrap();
        assert!(CacheDirectory::open(directory.path()).unwrap_err().to_string().contains("newer"));
    }
}
