//! Where containers live: one directory each, locked by the process that runs it.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::digest::ImageId;
use crate::error::{Error, Result};
use crate::failpoint::failpoint;
use crate::lease::{entries, is_alive, remove_tree};
use crate::store::{Store, now, random_hex, write_durably};

/// The mark of a container that goes with its process.
const REMOVE: &str = "remove";

/// What is known of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerRecord {
    /// 64 hexadecimal digits.
    pub id: String,
    /// `--name`.
    pub name: Option<String>,
    /// Its image.
    pub image: ImageId,
    /// Unix seconds.
    pub created: u64,
    /// Names of the volumes that it mounts.
    #[serde(default)]
    pub volumes: Vec<String>,
}

/// The directory of a container that this process runs.
#[derive(Debug)]
pub struct ContainerPlace {
    record: ContainerRecord,
    path: PathBuf,
    _lock: File,
}

impl ContainerPlace {
    /// 64 hexadecimal digits.
    pub fn id(&self) -> &str {
        &self.record.id
    }

    /// Its directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes it.
    ///
    /// # Errors
    /// When the directory cannot be removed.
    pub fn remove(self) -> Result<()> {
        failpoint("container.remove")?;
        remove_tree(&self.path).map(drop)
    }
}

impl Store {
    /// Makes the place of a new container. Its name is its own for as long as it is there. With `remove` it goes with
    /// this process, however that ends.
    ///
    /// # Errors
    /// When the name is taken, or the directory cannot be made.
    pub fn create_container(&self, image: &ImageId, name: Option<&str>, remove: bool) -> Result<ContainerPlace> {
        // Exclusive: two containers of one name cannot both look first and then take it.
        let _lock = self.exclusive()?;
        if let Some(name) = name {
            let taken = self.containers_locked()?.into_iter().find(|(record, _)| record.name.as_deref() == Some(name));
            if let Some((holder, _)) = taken {
                let id = holder.id.chars().take(12).collect();
                return Err(Error::NameInUse { name: name.to_owned(), id });
            }
        }
        let record = ContainerRecord {
            id: random_hex(32)?,
            name: name.map(str::to_owned),
            image: image.clone(),
            created: now(),
            volumes: Vec::new(),
        };
        let path = self.path("containers").join(&record.id);
        failpoint("container.make")?;
        std::fs::DirBuilder::new().mode(0o700).create(&path).map_err(Error::path("make", &path))?;
        let lock_path = path.join("lock");
        let lock = OpenOptions::new()
            .create_new(true)
            .write(true)
            .mode(0o600)
            .open(&lock_path)
            .map_err(Error::path("make", &lock_path))?;
        failpoint("container.lock")?;
        flock(&lock, FlockOperation::LockExclusive).map_err(Error::errno("lock", &lock_path))?;
        let bytes = serde_json::to_vec(&record).map_err(|error| Error::document("the container's record", error))?;
        if remove {
            let mark = path.join(REMOVE);
            File::create_new(&mark).map_err(Error::path("make", &mark))?;
        }
        failpoint("container.record")?;
        write_durably(&path.join("container.json"), &path.join(".container.json"), &bytes)?;
        Ok(ContainerPlace { record, path, _lock: lock })
    }

    /// Containers whose process died before it could remove them, or while it made them. A half-made one that lives is
    /// seen only by a caller without the store's exclusive lock.
    pub(crate) fn abandoned_containers(&self) -> Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for (_, path) in entries(&self.path("containers"))? {
            let unwanted = path.join(REMOVE).exists() || !path.join("container.json").exists();
            if unwanted && !is_alive(&path.join("lock"))? {
                found.push(path);
            }
        }
        Ok(found)
    }

    /// All containers, and whether each is running.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn containers(&self) -> Result<Vec<(ContainerRecord, bool)>> {
        let _lock = self.shared()?;
        self.containers_locked()
    }

    pub(crate) fn containers_locked(&self) -> Result<Vec<(ContainerRecord, bool)>> {
        let mut found = Vec::new();
        for (_, path) in entries(&self.path("containers"))? {
            let running = is_alive(&path.join("lock"))?;
            let Ok(bytes) = std::fs::read(path.join("container.json")) else { continue };
            if let Ok(record) = serde_json::from_slice(&bytes) {
                found.push((record, running));
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::digest::Digest;

    #[test]
    fn a_name_belongs_to_one_container() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let image = ImageId(Digest::sha256_of(b""));
        let first = store.create_container(&image, Some("n"), false).unwrap();
        assert!(matches!(store.create_container(&image, Some("n"), false), Err(Error::NameInUse { .. })));
        assert!(store.containers().unwrap().first().unwrap().1);
        first.remove().unwrap();
        drop(store.create_container(&image, Some("n"), false).unwrap());
        assert!(!store.containers().unwrap().first().unwrap().1);
    }

    #[test]
    fn security_f14_a_dead_process_leaves_no_container_that_was_to_be_removed() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let image = ImageId(Digest::sha256_of(b""));
        let living = store.create_container(&image, None, true).unwrap();
        drop(store.create_container(&image, None, true).unwrap());
        drop(store.create_container(&image, None, false).unwrap());
        std::fs::create_dir(store.path("containers").join("half")).unwrap();
        let store = Store::open(directory.path()).unwrap();
        let left: Vec<bool> = store.containers().unwrap().into_iter().map(|(_, running)| running).collect();
        assert_eq!((left.len(), left.iter().filter(|running| **running).count()), (2, 1));
        assert_eq!(entries(&store.path("containers")).unwrap().len(), 2);
        living.remove().unwrap();
    }
}
