//! Step records: what a step with a certain key gave.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::digest::{CacheKey, DiffId, TreeHash};
use crate::error::{Error, Result};
use crate::store::{Store, write_atomically};

/// The result of a step, with the named parts of its key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepRecord {
    /// The layer that it made.
    pub layer: Option<DiffId>,
    /// The hash of its tree.
    pub tree: Option<TreeHash>,
    /// The key's parts: a miss is explained by their difference.
    pub parts: Vec<(String, String)>,
    /// Unix seconds when the layer was made first.
    pub created: u64,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
}

impl Store {
    pub(crate) fn record_path(&self, key: &CacheKey) -> PathBuf {
        let name = key.to_string();
        let (shard, _) = name.split_at(2);
        self.path("records").join(shard).join(format!("{name}.json"))
    }

    /// Looks a record up. A damaged one counts as none: the step runs again and writes it anew.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub fn record(&self, key: &CacheKey) -> Result<Option<StepRecord>> {
        let path = self.record_path(key);
        match std::fs::read(&path) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::path("read", path)(error)),
        }
    }

    /// Writes a record. It is atomic and not flushed: a power cut may lose it, which costs one run of the step.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn put_record(&self, key: &CacheKey, record: &StepRecord) -> Result<()> {
        let path = self.record_path(key);
        let shard = path.parent().unwrap_or(&path).to_owned();
        std::fs::create_dir_all(&shard).map_err(Error::path("make", &shard))?;
        let bytes = serde_json::to_vec(record).map_err(|error| Error::document("the step record", error))?;
        let _lock = self.shared()?;
        write_atomically(&path, &self.loose_draft()?, &bytes)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn records_come_back_and_damaged_ones_count_as_none() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let key = CacheKey::from_bytes([3; 32]);
        assert_eq!(store.record(&key).unwrap(), None);
        let record =
            StepRecord { layer: None, tree: None, parts: vec![("a".into(), "b".into())], created: 5, duration_ms: 6 };
        store.put_record(&key, &record).unwrap();
        assert_eq!(store.record(&key).unwrap(), Some(record));
        std::fs::write(store.record_path(&key), "{").unwrap();
        assert_eq!(store.record(&key).unwrap(), None);
    }
}
