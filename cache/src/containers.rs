//! Where containers live: one directory each, locked by the process that runs it.
//!
//! The directory itself is what is locked; with its sticky bit it goes with the process that holds it, however that ends.
//! Making an inode is dear where many were removed just before, so that no file stands for what a bit can say.
//! `container.json` is what was asked for, written once and durable. `state.json` is what became of it, written by the
//! holder of the lock and never trusted alone: a holder that died cannot correct it.

use std::fs::{File, Permissions};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{FlockOperation, flock};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::digest::{DiffId, ImageId};
use crate::error::{Error, Result};
use crate::failpoint::failpoint;
use crate::lease::{Lease, entries, is_alive};
use crate::sealed::{seal, unseal};
use crate::store::{Store, random_hex, write_atomically, write_durably};

const MODE: u32 = 0o700;
/// The mode of a container that goes with its process.
const PASSING: u32 = 0o1700;
const STICKY: u32 = 0o1000;
const RECORD: &str = "container.json";
const STATE: &str = "state.json";
/// Somebody who only looks whether a lock is held holds it for a moment.
const LOOKS: u32 = 40;
const LOOK: Duration = Duration::from_millis(5);

/// What is known of a container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ContainerRecord {
    /// 64 hexadecimal digits.
    pub id: String,
    /// `--name`.
    pub name: Option<String>,
    /// Its image.
    pub image: ImageId,
    /// Unix seconds.
    pub created: u64,
    /// Nanoseconds beyond them: containers that were made within one second have an order.
    #[serde(default)]
    pub created_nanos: u32,
    /// The layers of its image, which stay for as long as somebody holds it.
    #[serde(default)]
    pub layers: Vec<DiffId>,
    /// Names of the volumes that it mounts.
    #[serde(default)]
    pub volumes: Vec<String>,
    /// What was asked for, in the words of whoever runs it.
    #[serde(default)]
    pub spec: serde_json::Value,
}

/// A container to be.
#[derive(Debug)]
pub struct NewContainer<'a> {
    /// Its image.
    pub image: &'a ImageId,
    /// The image's layers.
    pub layers: &'a [DiffId],
    /// Its name is its own for as long as it is there.
    pub name: Option<&'a str>,
    /// It goes with this process, however that ends.
    pub remove: bool,
    /// Names of the volumes that it mounts.
    pub volumes: Vec<String>,
    /// What was asked for.
    pub spec: serde_json::Value,
}

/// The directory of a container, held by one process at a time.
#[derive(Debug)]
pub struct ContainerPlace {
    record: ContainerRecord,
    path: PathBuf,
    lock: File,
}

impl ContainerPlace {
    /// 64 hexadecimal digits.
    pub fn id(&self) -> &str {
        &self.record.id
    }

    /// What is known of it.
    pub fn record(&self) -> &ContainerRecord {
        &self.record
    }

    /// A lease for what is done with it while it is held.
    ///
    /// # Errors
    /// When no name is to be had for it.
    pub fn lease(&self, store: &Store) -> Result<Lease> {
        Lease::of_container(store, &self.record.layers)
    }

    /// Its directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where what it wrote lies.
    pub(crate) fn tree(&self) -> PathBuf {
        tree_of(&self.path)
    }

    /// The lock, to be handed to the process that goes on with it.
    pub fn lock(&self) -> BorrowedFd<'_> {
        self.lock.as_fd()
    }

    /// Notes what became of it. It is whole for every reader, and may be lost in a power cut.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_state(&self, state: &impl Serialize) -> Result<()> {
        let bytes = seal("the container's state", state)?;
        write_atomically(&self.path.join(STATE), &self.path.join(".state.json"), &bytes)
    }

    /// From now on it goes with its process, however that ends.
    ///
    /// # Errors
    /// When that cannot be noted.
    pub fn remove_at_end(&self) -> Result<()> {
        std::fs::set_permissions(&self.path, Permissions::from_mode(PASSING)).map_err(Error::path("mark", &self.path))
    }

    /// Replaces what was asked for, and the volumes that go with it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn rewrite(&mut self, volumes: Vec<String>, spec: serde_json::Value) -> Result<()> {
        let record = ContainerRecord { volumes, spec, ..self.record.clone() };
        write_record(&self.path, &record, true)?;
        self.record = record;
        Ok(())
    }

    /// Removes it.
    ///
    /// # Errors
    /// When the directory cannot be removed.
    pub fn remove(self) -> Result<()> {
        failpoint("container.remove")?;
        // Without it there is no container; what is left of the directory is seen by nobody, and swept.
        let record = self.path.join(RECORD);
        match std::fs::remove_file(&record) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::path("remove", &record)(error));
            }
            _ => {}
        }
        match std::fs::remove_dir_all(&self.path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::path("remove", &self.path)(error)),
            _ => Ok(()),
        }
    }
}

/// Where what a container wrote lies: beside its record, or one directory below, where it lay before.
pub(crate) fn tree_of(container: &Path) -> PathBuf {
    let before = container.join("tree");
    if before.is_dir() { before } else { container.to_owned() }
}

fn write_record(directory: &Path, record: &ContainerRecord, durable: bool) -> Result<()> {
    let bytes = seal("the container's record", record)?;
    let (path, draft) = (directory.join(RECORD), directory.join(".container.json"));
    if durable { write_durably(&path, &draft, &bytes) } else { write_atomically(&path, &draft, &bytes) }
}

fn read_record(directory: &Path) -> Option<ContainerRecord> {
    std::fs::read(directory.join(RECORD)).ok().and_then(|bytes| unseal(&bytes))
}

impl Store {
    /// Makes the place of a new container.
    ///
    /// # Errors
    /// When the name is taken, or the directory cannot be made.
    pub fn create_container(&self, new: NewContainer<'_>) -> Result<ContainerPlace> {
        // Exclusive: two containers of one name cannot both look first and then take it.
        let _lock = if new.name.is_some() { self.exclusive()? } else { self.shared()? };
        if let Some(name) = new.name {
            self.name_is_free(name, None)?;
        }
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let record = ContainerRecord {
            id: random_hex(32)?,
            name: new.name.map(str::to_owned),
            image: new.image.clone(),
            created: since.as_secs(),
            created_nanos: since.subsec_nanos(),
            layers: new.layers.to_vec(),
            volumes: new.volumes,
            spec: new.spec,
        };
        let path = self.container_dir(&record.id);
        failpoint("container.make")?;
        let mode = if new.remove { PASSING } else { MODE };
        std::fs::DirBuilder::new().mode(mode).create(&path).map_err(Error::path("make", &path))?;
        failpoint("container.lock")?;
        let lock = File::open(&path).map_err(Error::path("open", &path))?;
        flock(&lock, FlockOperation::LockExclusive).map_err(Error::errno("lock", &path))?;
        let place = ContainerPlace { record, path, lock };
        failpoint("container.record")?;
        // One that goes with this process means nothing after a power cut.
        write_record(&place.path, &place.record, !new.remove)?;
        Ok(place)
    }

    /// The directory of a container.
    pub fn container_dir(&self, id: &str) -> PathBuf {
        self.path("containers").join(id)
    }

    /// The place of a container that nobody runs.
    ///
    /// # Errors
    /// When there is none, or a process has it.
    pub fn lock_container(&self, id: &str) -> Result<ContainerPlace> {
        let path = self.container_dir(id);
        let missing = || Error::ContainerNotFound(id.to_owned());
        let lock = match File::open(&path) {
            Ok(lock) => lock,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(missing()),
            Err(error) => return Err(Error::path("open", path)(error)),
        };
        for look in 0..LOOKS {
            match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return self.adopt_container(id, lock.into()),
                Err(rustix::io::Errno::WOULDBLOCK) if look + 1 < LOOKS => std::thread::sleep(LOOK),
                Err(rustix::io::Errno::WOULDBLOCK) => break,
                Err(errno) => return Err(Error::errno("lock", &path)(errno)),
            }
        }
        Err(Error::ContainerInUse { id: id.to_owned() })
    }

    /// The place of a container whose lock another process handed over.
    ///
    /// # Errors
    /// When the container is gone.
    pub fn adopt_container(&self, id: &str, lock: OwnedFd) -> Result<ContainerPlace> {
        let path = self.container_dir(id);
        let record = read_record(&path).ok_or_else(|| Error::ContainerNotFound(id.to_owned()))?;
        Ok(ContainerPlace { record, path, lock: lock.into() })
    }

    /// What became of a container, as its last holder wrote it.
    pub fn container_state<T: DeserializeOwned>(&self, id: &str) -> Option<T> {
        std::fs::read(self.container_dir(id).join(STATE)).ok().and_then(|bytes| unseal(&bytes))
    }

    /// Gives a container another name, whoever runs it.
    ///
    /// # Errors
    /// When there is none, or the name is taken.
    pub fn rename_container(&self, id: &str, name: &str) -> Result<()> {
        let _lock = self.exclusive()?;
        self.name_is_free(name, Some(id))?;
        let path = self.container_dir(id);
        let record = read_record(&path).ok_or_else(|| Error::ContainerNotFound(id.to_owned()))?;
        write_record(&path, &ContainerRecord { name: Some(name.to_owned()), ..record }, true)
    }

    /// Writes what is asked of a container anew.
    ///
    /// # Errors
    /// When there is none.
    pub fn respecify_container(&self, id: &str, spec: serde_json::Value) -> Result<()> {
        let _lock = self.exclusive()?;
        let path = self.container_dir(id);
        let record = read_record(&path).ok_or_else(|| Error::ContainerNotFound(id.to_owned()))?;
        write_record(&path, &ContainerRecord { spec, ..record }, true)
    }

    /// The caller holds the exclusive lock.
    fn name_is_free(&self, name: &str, except: Option<&str>) -> Result<()> {
        let records = entries(&self.path("containers"))?.into_iter().filter_map(|(_, path)| read_record(&path));
        let mut holders = records.filter(|record| record.name.as_deref() == Some(name));
        match holders.find(|record| Some(record.id.as_str()) != except) {
            Some(holder) => {
                let id = holder.id.chars().take(12).collect();
                Err(Error::NameInUse { name: name.to_owned(), id })
            }
            None => Ok(()),
        }
    }

    /// Containers whose process died before it could remove them, or while it made them. A half-made one that lives is
    /// seen only by a caller without the store's exclusive lock.
    pub(crate) fn abandoned_containers(&self) -> Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for (_, path) in entries(&self.path("containers"))? {
            let passing = path.metadata().is_ok_and(|found| found.mode() & STICKY != 0);
            if (passing || !path.join(RECORD).exists()) && !is_alive(&path)? {
                found.push(path);
            }
        }
        Ok(found)
    }

    /// All containers, and whether a process has each.
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
            let running = is_alive(&path)?;
            found.extend(read_record(&path).map(|record| (record, running)));
        }
        Ok(found)
    }

    /// One container, and whether a process has it.
    ///
    /// # Errors
    /// When its lock cannot be looked at.
    pub fn container(&self, id: &str) -> Result<Option<(ContainerRecord, bool)>> {
        let path = self.container_dir(id);
        let running = is_alive(&path)?;
        Ok(read_record(&path).map(|record| (record, running)))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::digest::Digest;

    fn plain<'a>(image: &'a ImageId, name: Option<&'a str>, remove: bool) -> NewContainer<'a> {
        NewContainer { image, layers: &[], name, remove, volumes: Vec::new(), spec: serde_json::Value::Null }
    }

    #[test]
    fn a_name_belongs_to_one_container() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let image = ImageId(Digest::sha256_of(b""));
        let first = store.create_container(plain(&image, Some("n"), false)).unwrap();
        assert!(matches!(store.create_container(plain(&image, Some("n"), false)), Err(Error::NameInUse { .. })));
        assert!(store.containers().unwrap().first().unwrap().1);
        first.remove().unwrap();
        drop(store.create_container(plain(&image, Some("n"), false)).unwrap());
        assert!(!store.containers().unwrap().first().unwrap().1);
    }

    #[test]
    fn security_f14_a_dead_process_leaves_no_container_that_was_to_be_removed() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let image = ImageId(Digest::sha256_of(b""));
        let living = store.create_container(plain(&image, None, true)).unwrap();
        drop(store.create_container(plain(&image, None, true)).unwrap());
        drop(store.create_container(plain(&image, None, false)).unwrap());
        std::fs::create_dir(store.path("containers").join("half")).unwrap();
        let store = Store::open(directory.path()).unwrap();
        let left: Vec<bool> = store.containers().unwrap().into_iter().map(|(_, running)| running).collect();
        assert_eq!((left.len(), left.iter().filter(|running| **running).count()), (2, 1));
        assert_eq!(entries(&store.path("containers")).unwrap().len(), 2);
        living.remove().unwrap();
    }

    #[test]
    fn one_process_at_a_time_has_the_place_of_a_container() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let image = ImageId(Digest::sha256_of(b""));
        let place = store.create_container(plain(&image, Some("n"), false)).unwrap();
        let id = place.id().to_owned();
        assert!(matches!(store.lock_container(&id), Err(Error::ContainerInUse { .. })));
        place.write_state(&7).unwrap();
        drop(place);
        assert_eq!(store.container_state::<u32>(&id), Some(7));
        drop(store.lock_container(&id).unwrap());
        assert!(matches!(store.lock_container("nosuch"), Err(Error::ContainerNotFound(_))));
        store.rename_container(&id, "other").unwrap();
        assert_eq!(store.containers().unwrap().first().unwrap().0.name.as_deref(), Some("other"));
    }

    #[test]
    fn security_f12_a_damaged_record_is_no_container() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let image = ImageId(Digest::sha256_of(b""));
        let place = store.create_container(plain(&image, None, false)).unwrap();
        let path = place.path().join(RECORD);
        let mut bytes = std::fs::read(&path).unwrap();
        *bytes.get_mut(10).unwrap() ^= 1;
        std::fs::write(&path, bytes).unwrap();
        assert!(store.containers().unwrap().is_empty());
    }
}
