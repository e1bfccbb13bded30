//! What URLs gave the last time: the blob, and the words by which a server tells whether it is still the one.
//!
//! A record is a hint that the next request carries; the server decides. One that is lost costs a download.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::store::{Store, write_atomically};

/// What a URL gave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DownloadRecord {
    /// The blob.
    pub blob: Digest,
    /// `ETag`, as it came.
    pub etag: Option<String>,
    /// `Last-Modified`, as it came.
    pub last_modified: Option<String>,
}

impl Store {
    fn download_path(&self, url: &str) -> PathBuf {
        self.path("downloads").join(format!("{}.json", blake3::hash(url.as_bytes()).to_hex()))
    }

    /// What a URL gave, when its blob is still here. A damaged record counts as none.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn download(&self, url: &str) -> Result<Option<DownloadRecord>> {
        let path = self.download_path(url);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::path("read", path)(error)),
        };
        let Ok(record) = serde_json::from_slice::<DownloadRecord>(&bytes) else { return Ok(None) };
        Ok(self.blob(&record.blob)?.map(|_| record))
    }

    /// Remembers what a URL gave. Atomic, not flushed.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn put_download(&self, url: &str, record: &DownloadRecord) -> Result<()> {
        let path = self.download_path(url);
        let directory = self.path("downloads");
        // Stores that an earlier version made have none.
        std::fs::create_dir_all(&directory).map_err(Error::path("make", &directory))?;
        let bytes = serde_json::to_vec(record).map_err(|error| Error::document("the record of a download", error))?;
        let _lock = self.shared()?;
        write_atomically(&path, &self.loose_draft()?, &bytes)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_record_is_worth_its_blob() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let lease = store.lease().unwrap();
        let mut writer = store.blob_writer(&lease).unwrap();
        writer.write_all(b"bytes").unwrap();
        let blob = writer.commit(None).unwrap();
        let record = DownloadRecord { blob: blob.digest.clone(), etag: Some("\"1\"".into()), last_modified: None };
        assert_eq!(store.download("http://h/x").unwrap(), None);
        store.put_download("http://h/x", &record).unwrap();
        assert_eq!(store.download("http://h/x").unwrap(), Some(record));
        assert_eq!(store.download("http://h/y").unwrap(), None);
        std::fs::remove_file(store.blob_path(&blob.digest)).unwrap();
        assert_eq!(store.download("http://h/x").unwrap(), None);
    }
}
