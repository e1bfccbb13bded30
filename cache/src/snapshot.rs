//! Snapshots: layers below, a private writable directory on top. What becomes of the top decides: a layer, a container, nothing.

use std::path::{Path, PathBuf};

use crate::containers::ContainerPlace;
use crate::error::{Error, Result};
use crate::layer::{Committed, DraftDir, Layer};
use crate::lease::Lease;
use crate::store::Store;

/// How a snapshot becomes a layer.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct CommitOptions {}

/// The directories of an overlay. Dropping it removes the writable ones.
#[derive(Debug)]
pub struct Snapshot {
    layers: Vec<Layer>,
    draft: DraftDir,
}

impl Store {
    /// A fresh writable tree over `layers`, bottom first.
    ///
    /// # Errors
    /// When its directories cannot be made.
    pub fn snapshot(&self, lease: &Lease, layers: &[Layer]) -> Result<Snapshot> {
        Snapshot::make(layers, &lease.draft())
    }

    /// The writable tree of a container.
    ///
    /// # Errors
    /// When its directories cannot be made.
    pub fn container_snapshot(&self, layers: &[Layer], container: &ContainerPlace) -> Result<Snapshot> {
        Snapshot::make(layers, &container.path().join("tree"))
    }
}

impl Snapshot {
    fn make(layers: &[Layer], path: &Path) -> Result<Snapshot> {
        let draft = DraftDir::make(path)?;
        let work = path.join("work");
        std::fs::create_dir(&work).map_err(Error::path("make", &work))?;
        Ok(Snapshot { layers: layers.to_vec(), draft })
    }

    /// The layers' directories, top first, as overlay wants them.
    pub fn lowers(&self) -> Vec<PathBuf> {
        self.layers.iter().rev().map(|layer| layer.path().to_owned()).collect()
    }

    /// The writable directory.
    pub fn upper(&self) -> PathBuf {
        self.draft.path.join("fs")
    }

    /// Overlay's own directory.
    pub fn work(&self) -> PathBuf {
        self.draft.path.join("work")
    }

    /// The layers, bottom first.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// The writable directory becomes a layer. A known tree gives the old layer back, bit for bit.
    ///
    /// # Errors
    /// When it cannot be read or written; nothing is left then.
    pub fn commit(self, store: &Store, lease: &Lease, _options: &CommitOptions) -> Result<Committed> {
        let work = self.work();
        std::fs::remove_dir_all(&work).map_err(Error::path("remove", &work))?;
        store.commit_tree(lease, self.draft)
    }

    /// Leaves the directories where they are.
    pub fn keep(self) {
        self.draft.release();
    }
}
