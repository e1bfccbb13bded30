//! Which driver makes the snapshots: what was asked for, or what a probe of the store's own file system finds.

use cache::{StorageDriver, Store};
use runtime::Overlay;

use crate::Engine;
use crate::error::{Error, Result};

/// `--storage-driver`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StorageChoice {
    /// Overlay where it can be had, else copies.
    #[default]
    Auto,
    /// Overlay or nothing.
    Overlay,
    /// Copies, though overlay could be had.
    Copy,
}

/// What makes the snapshots, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Storage {
    /// The driver.
    pub driver: StorageDriver,
    /// How it came to be.
    pub why: String,
    /// What would give a faster one.
    pub remedy: Option<String>,
}

impl Engine {
    /// What makes snapshots here. Asked of the kernel once: that overlay works is remembered with the store.
    ///
    /// # Errors
    /// When overlay was asked for and cannot be had.
    pub fn storage(&self) -> Result<&Storage> {
        if let Some(known) = self.storage.get() {
            return Ok(known);
        }
        let found = choose(&self.store, self.choice)?;
        Ok(self.storage.get_or_init(|| found))
    }

    /// The store with its driver.
    pub(crate) fn working_store(&self) -> Result<Store> {
        Ok(self.store.with_storage_driver(self.storage()?.driver))
    }
}

impl Storage {
    /// One sentence for a user who did not choose and gets the slower driver.
    pub(crate) fn note(&self) -> Option<String> {
        let remedy = self.remedy.as_ref()?;
        Some(format!("files are copied for each step, since {}; to be faster, {remedy}", self.why))
    }
}

fn choose(store: &Store, choice: StorageChoice) -> Result<Storage> {
    if choice == StorageChoice::Copy {
        let why = "it was asked for".to_owned();
        return Ok(Storage { driver: StorageDriver::Copy, why, remedy: None });
    }
    match (probe(store)?, choice) {
        (Overlay::Works, _) => Ok(Storage {
            driver: StorageDriver::Overlay,
            why: "the file system of the store takes it".to_owned(),
            remedy: None,
        }),
        (Overlay::Missing { why, remedy }, StorageChoice::Overlay) => Err(Error::NoOverlay { why, remedy }),
        (Overlay::Missing { why, remedy }, _) => Ok(Storage { driver: StorageDriver::Copy, why, remedy: Some(remedy) }),
    }
}

/// Only a good answer is remembered: a bad one may be mended at any time.
fn probe(store: &Store) -> Result<Overlay> {
    let memory = store.root().join("overlay");
    let here = runtime::mount_identity(store.root())?;
    if std::fs::read_to_string(&memory).is_ok_and(|known| known == here) {
        return Ok(Overlay::Works);
    }
    let lease = store.lease()?;
    let directory = lease.draft();
    std::fs::create_dir(&directory).map_err(|error| Error::file("make", &directory, error))?;
    let found = runtime::probe_overlay(&directory)?;
    if found == Overlay::Works {
        // Half a line is no answer, and what is not remembered is asked again.
        let _ = std::fs::write(&memory, here);
    }
    Ok(found)
}
