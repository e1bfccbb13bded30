//! What builds of one Dockerfile saw last, so that the next one can say what changed. An aid: a lost one costs a reason,
//! never a result.

use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::builds::read_bounded;
use crate::error::{Error, Result};
use crate::lease::{entries, remove_tree};
use crate::store::{Store, random_name, write_atomically};

/// Most Dockerfiles that are remembered.
const MEMORIES: usize = 256;

/// Most of one document that is read.
const LIMIT: u64 = 64 << 20;

/// The documents that builds of one Dockerfile keep.
#[derive(Debug, Clone)]
pub struct MemoryPlace {
    path: PathBuf,
}

impl Store {
    /// The place for what is named so, which may be any text.
    pub fn memory(&self, name: &str) -> MemoryPlace {
        MemoryPlace { path: self.path("memory").join(blake3::hash(name.as_bytes()).to_hex().as_str()) }
    }

    /// Removes the oldest of too many.
    fn bound_memories(&self) -> Result<()> {
        let mut all = entries(&self.path("memory"))?;
        if all.len() <= MEMORIES {
            return Ok(());
        }
        let age = |path: &PathBuf| std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
        all.sort_by_cached_key(|(_, path)| age(path));
        let old = all.len() - MEMORIES;
        all.into_iter().take(old).try_for_each(|(_, path)| remove_tree(&path).map(drop))
    }
}

impl MemoryPlace {
    /// One document; what cannot be read counts as not there.
    pub fn read(&self, name: &str) -> Option<Vec<u8>> {
        read_bounded(&self.path.join(name), LIMIT).ok().flatten()
    }

    /// Replaces one document.
    ///
    /// # Errors
    /// When the disk fails; the old one stays then.
    pub fn write(&self, store: &Store, name: &str, bytes: &[u8]) -> Result<()> {
        if !self.path.is_dir() {
            std::fs::create_dir_all(&self.path).map_err(Error::path("make", &self.path))?;
            store.bound_memories()?;
        }
        write_atomically(&self.path.join(name), &self.path.join(format!(".{}", random_name()?)), bytes)
    }

    /// Removes all documents but these.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn keep(&self, names: &BTreeSet<String>) -> Result<()> {
        for (name, path) in entries(&self.path)? {
            // Drafts of others have names with a dot first.
            if !names.contains(&name) && !name.starts_with('.') {
                match std::fs::remove_file(&path) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                        return Err(Error::path("remove", path)(error));
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn documents_come_back_and_the_others_go() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("store")).unwrap();
        let place = store.memory("/a/Dockerfile");
        assert_eq!(place.read("steps"), None);
        place.write(&store, "steps", b"1").unwrap();
        place.write(&store, "list", b"2").unwrap();
        place.keep(&["steps".to_owned()].into()).unwrap();
        assert_eq!((place.read("steps"), place.read("list")), (Some(b"1".to_vec()), None));
        assert_eq!(store.memory("/b/Dockerfile").read("steps"), None);
    }
}
