//! Leases: what a living process works with. The kernel drops the lock of a dead one, so nothing is ever stale.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use rustix::fs::{FlockOperation, flock};

use crate::digest::DiffId;
use crate::error::{Error, Result};
use crate::failpoint::failpoint;
use crate::snapshot::work::Spare;
use crate::store::{Store, random_name};

/// A living process's claim: its drafts, and the layers that it pinned.
#[derive(Debug)]
pub struct Lease {
    store: Store,
    name: String,
    /// Made when something is to be written there or beside it.
    file: Mutex<Option<File>>,
    /// What is kept without it.
    kept: BTreeSet<DiffId>,
    pinned: Mutex<BTreeSet<DiffId>>,
    drafts: Once,
    next: AtomicU64,
    spare: Spare,
}

impl Lease {
    pub(crate) fn take(store: &Store) -> Result<Lease> {
        let lease = Lease::unwritten(store, BTreeSet::new())?;
        let _lock = store.shared()?;
        *lease.locked_file() = Some(lease.make_file()?);
        Ok(lease)
    }

    /// One for a container that this process holds: its record keeps the layers that it names.
    pub(crate) fn of_container(store: &Store, layers: &[DiffId]) -> Result<Lease> {
        Lease::unwritten(store, layers.iter().cloned().collect())
    }

    fn unwritten(store: &Store, kept: BTreeSet<DiffId>) -> Result<Lease> {
        Ok(Lease {
            store: store.clone(),
            name: random_name()?,
            file: Mutex::new(None),
            kept,
            pinned: Mutex::new(BTreeSet::new()),
            drafts: Once::new(),
            next: AtomicU64::new(0),
            spare: Spare::default(),
        })
    }

    /// The caller holds the store's lock: nobody sweeps a file that is not locked yet.
    fn make_file(&self) -> Result<File> {
        let path = self.path();
        failpoint("lease.file")?;
        let file = OpenOptions::new()
            .create_new(true)
            .append(true)
            .mode(0o600)
            .open(&path)
            .map_err(Error::path("make the lease", &path))?;
        failpoint("lease.lock")?;
        // A sweep that probes this very file holds its lock for a moment: wait for it.
        flock(&file, FlockOperation::LockExclusive).map_err(Error::errno("lock the lease", &path))?;
        Ok(file)
    }

    fn locked_file(&self) -> MutexGuard<'_, Option<File>> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a layer from being pruned. The caller holds the store's lock, so that prune sees the pin or the caller the loss.
    pub(crate) fn pin(&self, id: &DiffId) -> Result<()> {
        let mut pinned = self.pinned.lock().unwrap_or_else(PoisonError::into_inner);
        if !pinned.insert(id.clone()) || self.kept.contains(id) {
            return Ok(());
        }
        let mut file = self.locked_file();
        let file = match &mut *file {
            Some(file) => file,
            none => none.insert(self.make_file()?),
        };
        failpoint("lease.pin")?;
        file.write_all(format!("{}\n", id.hex()).as_bytes()).map_err(Error::path("write the lease", self.path()))
    }

    /// Whether it keeps this layer already.
    pub(crate) fn has(&self, id: &DiffId) -> bool {
        self.pinned.lock().unwrap_or_else(PoisonError::into_inner).contains(id)
    }

    /// A path for something that is being made; nothing is there yet.
    pub fn draft(&self) -> PathBuf {
        let drafts = self.drafts();
        // Many a lease has none. Where it cannot be made, whoever makes the draft is told.
        self.drafts.call_once(|| {
            let _ = failpoint("lease.draft").and_then(|()| self.keep_drafts()).map(|()| std::fs::create_dir(&drafts));
        });
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        drafts.join(number.to_string())
    }

    /// Directories that overlay has worked with.
    pub(crate) fn spare(&self) -> &Spare {
        &self.spare
    }

    /// Drafts are nobody's without a lease of their name.
    fn keep_drafts(&self) -> Result<()> {
        let mut file = self.locked_file();
        if file.is_none() {
            let _lock = self.store.shared()?;
            *file = Some(self.make_file()?);
        }
        Ok(())
    }

    fn drafts(&self) -> PathBuf {
        self.store.path("drafts").join(&self.name)
    }

    fn path(&self) -> PathBuf {
        self.store.path("leases").join(&self.name)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if failpoint("lease.drop").is_err() {
            return;
        }
        // Before the lock goes: who prunes meanwhile sees either the lease or its uses.
        self.store.stamp_uses(self.pinned.lock().unwrap_or_else(PoisonError::into_inner).iter());
        // What cannot be removed now is swept by the next process: its lock is gone with this one.
        if self.drafts.is_completed() {
            let _ = std::fs::remove_dir_all(self.drafts());
        }
        if self.locked_file().is_some() {
            let _ = std::fs::remove_file(self.path());
        }
    }
}

/// Removes the leases of dead processes and their drafts.
///
/// Looks first without a lock; only where there is something to sweep it waits for the exclusive one,
/// under which no lease is half made.
pub(crate) fn sweep(store: &Store) -> Result<u64> {
    if dead_leases(store)?.is_empty() && orphans(store)?.is_empty() && store.abandoned_containers()?.is_empty() {
        return Ok(0);
    }
    failpoint("sweep.lock")?;
    let _lock = store.exclusive()?;
    let mut freed = 0;
    for (name, path) in dead_leases(store)? {
        failpoint("sweep.drafts")?;
        freed += remove_tree(&store.path("drafts").join(name))?;
        failpoint("sweep.lease")?;
        remove_file(&path)?;
    }
    for path in orphans(store)? {
        failpoint("sweep.orphan")?;
        if path.is_dir() {
            freed += remove_tree(&path)?;
        } else {
            freed += crate::usage::disk_bytes(&path).unwrap_or(0);
            remove_file(&path)?;
        }
    }
    for path in store.abandoned_containers()? {
        failpoint("sweep.container")?;
        freed += remove_tree(&path)?;
    }
    Ok(freed)
}

fn dead_leases(store: &Store) -> Result<Vec<(String, PathBuf)>> {
    let mut dead = Vec::new();
    for (name, path) in entries(&store.path("leases"))? {
        if !is_alive(&path)? {
            dead.push((name, path));
        }
    }
    Ok(dead)
}

/// Drafts of no lease. Small files lie there while their maker holds the store's lock, and doomed layers while prune does.
fn orphans(store: &Store) -> Result<Vec<PathBuf>> {
    let drafts = entries(&store.path("drafts"))?;
    let leases = store.path("leases");
    Ok(drafts.into_iter().filter(|(name, _)| !leases.join(name).exists()).map(|(_, path)| path).collect())
}

fn remove_file(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::path("remove", path)(error)),
        _ => Ok(()),
    }
}

/// The layers that living processes work with, those of containers that run among them. The caller holds the exclusive lock.
pub(crate) fn pinned(store: &Store) -> Result<BTreeSet<String>> {
    let mut pinned = BTreeSet::new();
    for (_, path) in entries(&store.path("leases"))? {
        if is_alive(&path)? {
            let text = std::fs::read_to_string(&path).map_err(Error::path("read", &path))?;
            pinned.extend(text.lines().map(str::to_owned));
        }
    }
    // One that nobody runs is kept by its image, and goes with a prune that takes both.
    for (record, _) in store.containers_locked()?.into_iter().filter(|(_, held)| *held) {
        pinned.extend(record.layers.iter().map(|id| id.hex().to_owned()));
    }
    Ok(pinned)
}

/// Whether somebody holds the lock of this file for himself.
pub(crate) fn is_alive(path: &Path) -> Result<bool> {
    // Shared: two that look do not take each other for a holder.
    is_refused(path, FlockOperation::NonBlockingLockShared)
}

/// Whether somebody holds the lock of this file, be it with others. Two that look may take each other for a holder.
pub(crate) fn is_held(path: &Path) -> Result<bool> {
    is_refused(path, FlockOperation::NonBlockingLockExclusive)
}

fn is_refused(path: &Path, lock: FlockOperation) -> Result<bool> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(Error::path("open", path)(error)),
    };
    match flock(&file, lock) {
        Ok(()) => Ok(false),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(true),
        Err(errno) => Err(Error::errno("lock", path)(errno)),
    }
}

/// Name and path of everything in one of the store's directories.
pub(crate) fn entries(directory: &Path) -> Result<Vec<(String, PathBuf)>> {
    let list = match std::fs::read_dir(directory) {
        Ok(list) => list,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::path("read", directory)(error)),
    };
    let mut found = Vec::new();
    for entry in list {
        let entry = entry.map_err(Error::path("read", directory))?;
        found.push((entry.file_name().to_string_lossy().into_owned(), entry.path()));
    }
    found.sort();
    Ok(found)
}

/// Removes a tree of the store and gives the bytes that were freed on the disk.
pub(crate) fn remove_tree(path: &Path) -> Result<u64> {
    let bytes = crate::usage::freed_bytes(path)?;
    match std::fs::remove_dir_all(path) {
        Ok(()) => Ok(bytes),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(Error::path("remove", path)(error)),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_takes_its_drafts_with_it() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let lease = store.lease().unwrap();
        std::fs::write(lease.draft(), "x").unwrap();
        assert_eq!(sweep(&store).unwrap(), 0);
        assert_eq!(entries(&store.path("leases")).unwrap().len(), 1);
        drop(lease);
        assert!(entries(&store.path("leases")).unwrap().is_empty());
        assert!(entries(&store.path("drafts")).unwrap().is_empty());
    }

    #[test]
    fn what_a_container_names_is_kept_without_a_file() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let [named, other] = [b"a", b"b"].map(|text| DiffId(crate::digest::Digest::sha256_of(text)));
        let lease = Lease::of_container(&store, std::slice::from_ref(&named)).unwrap();
        let files = || entries(&store.path("leases")).unwrap().len();
        lease.pin(&named).unwrap();
        assert!(lease.has(&named) && files() == 0);
        lease.pin(&other).unwrap();
        assert_eq!(pinned(&store).unwrap().into_iter().collect::<Vec<_>>(), [other.hex()]);
        drop(lease);
        assert_eq!(files(), 0);
        let lease = Lease::of_container(&store, &[]).unwrap();
        std::fs::write(lease.draft(), "x").unwrap();
        assert_eq!((files(), sweep(&store).unwrap()), (1, 0));
    }

    #[test]
    fn a_dead_process_is_swept_at_open() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        // As a killed process leaves it: the files without the lock.
        std::fs::write(store.path("leases").join("dead"), "").unwrap();
        std::fs::create_dir(store.path("drafts").join("dead")).unwrap();
        std::fs::write(store.path("drafts").join("dead/0"), vec![1; 5000]).unwrap();
        std::fs::write(store.path("drafts").join("loose-1"), "").unwrap();
        std::fs::create_dir(store.path("drafts").join("pruned-1")).unwrap();
        Store::open(directory.path()).unwrap();
        assert!(entries(&store.path("leases")).unwrap().is_empty());
        assert!(entries(&store.path("drafts")).unwrap().is_empty());
    }
}
