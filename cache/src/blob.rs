//! Blobs: immutable bytes named by their digest.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use sha2::Digest as _;

use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::failpoint::failpoint;
use crate::lease::Lease;
use crate::store::{Store, sync_directory};

/// Bytes that are in the store.
#[derive(Debug, Clone)]
pub struct Blob {
    /// Their name.
    pub digest: Digest,
    /// Their number.
    pub size: u64,
    path: PathBuf,
    store: Store,
}

impl Blob {
    /// Opens them.
    ///
    /// # Errors
    /// When the file is gone or cannot be read.
    pub fn open(&self) -> Result<File> {
        File::open(&self.path).map_err(Error::path("open", &self.path))
    }

    /// All of them, when they are no more than `limit`. Damaged ones are put aside: the store does not have them then.
    ///
    /// # Errors
    /// When they are more, cannot be read, or are damaged.
    pub fn read_all(&self, limit: u64) -> Result<Vec<u8>> {
        if self.size > limit {
            return Err(Error::Limit(format!("{} has {} bytes, more than {limit}", self.digest, self.size)));
        }
        let mut bytes = Vec::new();
        self.open()?.take(limit + 1).read_to_end(&mut bytes).map_err(Error::path("read", &self.path))?;
        let found = Digest::sha256_of(&bytes);
        if found != self.digest {
            self.store.set_aside_with_notice(&self.path, "blob", || {
                format!("blob {} was damaged and is in quarantine", self.digest)
            });
            return Err(Error::DigestMismatch { expected: self.digest.clone(), found });
        }
        Ok(bytes)
    }
}

/// Bytes on their way into the store. Dropping it is the abort.
#[derive(Debug)]
pub struct BlobWriter {
    store: Store,
    path: PathBuf,
    file: File,
    hasher: sha2::Sha256,
    size: u64,
    committed: bool,
}

impl Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        failpoint("blob.write")?;
        let count = self.file.write(bytes)?;
        self.hasher.update(bytes.get(..count).unwrap_or_default());
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl BlobWriter {
    /// Bytes so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Flushes, checks the digest and gives the bytes their name.
    ///
    /// # Errors
    /// When they are not what was expected, or the disk fails.
    pub fn commit(mut self, expected: Option<&Digest>) -> Result<Blob> {
        let found = Digest::from_sha256(self.hasher.clone().finalize().as_slice());
        if let Some(expected) = expected.filter(|expected| **expected != found) {
            return Err(Error::DigestMismatch { expected: expected.clone(), found });
        }
        failpoint("blob.flush")?;
        self.file.sync_all().map_err(Error::path("flush", &self.path))?;
        let path = self.store.blob_path(&found);
        let _lock = self.store.shared()?;
        failpoint("blob.rename")?;
        std::fs::rename(&self.path, &path).map_err(Error::path("write", &path))?;
        self.committed = true;
        failpoint("blob.dirsync")?;
        sync_directory(&self.store.path("blobs/sha256"))?;
        Ok(Blob { digest: found, size: self.size, path, store: self.store.clone() })
    }
}

/// Reads a file to its end.
pub(crate) fn pass(file: &mut File, mut take: impl FnMut(&[u8])) -> io::Result<u64> {
    let mut buffer = vec![0_u8; 1 << 20];
    let mut size = 0;
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(size),
            Ok(count) => {
                take(buffer.get(..count).unwrap_or_default());
                size += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

impl Drop for BlobWriter {
    fn drop(&mut self) {
        if !self.committed {
            // What stays is swept with the lease.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl Store {
    pub(crate) fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.path("blobs").join(digest.algorithm()).join(digest.hex())
    }

    /// Looks a blob up.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn blob(&self, digest: &Digest) -> Result<Option<Blob>> {
        let path = self.blob_path(digest);
        match std::fs::metadata(&path) {
            Ok(metadata) => Ok(Some(Blob { digest: digest.clone(), size: metadata.len(), path, store: self.clone() })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::path("read", path)(error)),
        }
    }

    /// Begins a blob among the drafts of a lease.
    ///
    /// # Errors
    /// When the draft cannot be made.
    pub fn blob_writer(&self, lease: &Lease) -> Result<BlobWriter> {
        let path = lease.draft();
        failpoint("blob.draft")?;
        let file = OpenOptions::new()
            .create_new(true)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(Error::path("write", &path))?;
        Ok(BlobWriter { store: self.clone(), path, file, hasher: sha2::Sha256::new(), size: 0, committed: false })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_is_named_by_its_bytes_or_not_at_all() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let lease = store.lease().unwrap();
        let mut writer = store.blob_writer(&lease).unwrap();
        writer.write_all(b"bytes").unwrap();
        let blob = writer.commit(None).unwrap();
        assert_eq!(store.blob(&blob.digest).unwrap().unwrap().read_all(10).unwrap(), b"bytes");
        assert!(blob.read_all(4).is_err());

        std::fs::write(store.blob_path(&blob.digest), b"bytEs").unwrap();
        assert!(matches!(blob.read_all(10), Err(Error::DigestMismatch { .. })));
        assert!(store.blob(&blob.digest).unwrap().is_none());
        assert_eq!(store.take_notices().len(), 1);

        let mut writer = store.blob_writer(&lease).unwrap();
        writer.write_all(b"other").unwrap();
        assert!(matches!(writer.commit(Some(&blob.digest)), Err(Error::DigestMismatch { .. })));
        drop(store.blob_writer(&lease).unwrap());
        let drafts = std::fs::read_dir(lease.draft().parent().unwrap()).unwrap().count();
        assert_eq!(drafts, 0);
    }
}
