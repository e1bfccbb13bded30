//! Step records: what a step with a certain key gave. They are sealed: a damaged one is put aside and its step runs again.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::digest::{CacheKey, DiffId, TreeHash};
use crate::error::{Error, Result};
use crate::failpoint::failpoint;
use crate::sealed::{seal, unseal};
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
    /// The step as the Dockerfile has it, for lists.
    #[serde(default)]
    pub text: String,
}

impl Store {
    pub(crate) fn record_path(&self, key: &CacheKey) -> PathBuf {
        let name = key.to_string();
        let (shard, _) = name.split_at(2);
        self.path("records").join(shard).join(format!("{name}.json"))
    }

    /// Looks a record up, which is a use of it. A damaged one is put aside: the step runs again and writes it anew.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub fn record(&self, key: &CacheKey) -> Result<Option<StepRecord>> {
        let path = self.record_path(key);
        failpoint("record.read")?;
        match std::fs::read(&path) {
            Ok(bytes) => {
                let record = unseal(&bytes);
                match &record {
                    Some(_) => self.note_use(key),
                    None => self.set_aside_with_notice(&path, "record", || {
                        "a step record was damaged and is in quarantine: its step runs again".to_owned()
                    }),
                }
                Ok(record)
            }
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
        let bytes = seal("the step record", record)?;
        {
            // A collection removes shards that are empty.
            let _lock = self.shared()?;
            std::fs::create_dir_all(&shard).map_err(Error::path("make", &shard))?;
            failpoint("record.write")?;
            write_atomically(&path, &self.loose_draft()?, &bytes)?;
        }
        self.note_use(key);
        Ok(())
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
        let parts = vec![("a".into(), "b".into())];
        let record = StepRecord { layer: None, tree: None, parts, created: 5, duration_ms: 6, text: "RUN c".into() };
        store.put_record(&key, &record).unwrap();
        assert_eq!(store.record(&key).unwrap(), Some(record));
        std::fs::write(store.record_path(&key), "{").unwrap();
        assert_eq!(store.record(&key).unwrap(), None);
        assert_eq!(store.take_notices().len(), 1);
        assert!(!store.record_path(&key).exists());
    }
}
