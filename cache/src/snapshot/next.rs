//! The snapshot on top of one that is not a layer yet: its directories are made while somebody still writes into the one
//! below, and it is mounted while that is being sealed. It is of use only where that becomes the layer, and not one that was
//! there before.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use super::flatten::OVERLAY_LAYERS;
use super::work::Planned;
use super::{Around, Leftover, MergedTree, Snapshot, StorageDriver, Writable, begun, drafted};
use crate::error::Result;
use crate::layer::{DraftDir, Layer};
use crate::lease::Lease;
use crate::store::Store;

/// What it will be made of; nothing is made yet.
#[derive(Debug)]
pub struct NextPlan {
    draft: PathBuf,
    work: Planned,
    below: Arc<MergedTree>,
    held: (Arc<OwnedFd>, Vec<Layer>),
}

/// A writable tree whose uppermost layer has no name yet. Dropping it removes what can be written.
#[derive(Debug)]
pub struct NextSnapshot {
    draft: DraftDir,
    work: PathBuf,
    leftover: Leftover,
    /// Top first.
    lowers: Vec<PathBuf>,
    /// Some of the directories are found by descriptors of these.
    _held: (Arc<OwnedFd>, Vec<Layer>),
}

impl Snapshot {
    /// The one on top of this one, for a process to run in; `None` where overlay cannot join it like that.
    pub fn next(&self, lease: &Lease) -> Option<NextPlan> {
        let below = self.lowers.directories();
        // Below are the layers and the mount points; else some are joined to one, or are there twice.
        let plain = self.layers.iter().flat_map(Layer::trees).count() + 1 == below.len();
        if self.driver != StorageDriver::Overlay || self.covered || !plain || below.len() >= OVERLAY_LAYERS {
            return None;
        }
        let held = (Arc::clone(&self.draft.directory), self.layers.clone());
        let (draft, work) = (lease.draft(), Leftover::planned(lease));
        Some(NextPlan { draft, work, below: Arc::clone(&self.lowers), held })
    }
}

impl NextPlan {
    /// Makes its directories, and opens what this one will be compared with when it becomes a layer.
    ///
    /// # Errors
    /// When that cannot be done.
    pub fn make(self) -> Result<NextSnapshot> {
        let NextPlan { draft, work, below, held } = self;
        begun()?;
        let draft = DraftDir::make(&draft)?;
        drafted()?;
        let (work, leftover) = work.make()?;
        below.root()?;
        let top = PathBuf::from(format!("/proc/self/fd/{}/fs", held.0.as_raw_fd()));
        let lowers = std::iter::once(top).chain(below.directories().iter().cloned()).collect();
        Ok(NextSnapshot { draft, work, leftover, lowers, _held: held })
    }
}

impl NextSnapshot {
    /// What to mount.
    pub fn writable(&self) -> Writable<'_> {
        Writable::Overlay { lowers: &self.lowers, upper: self.draft.path.join("fs"), work: self.work.clone() }
    }
}

impl Store {
    /// The snapshot on top of what has become the last one of `layers`, bottom first.
    #[must_use]
    pub fn continued_snapshot(&self, next: NextSnapshot, layers: &[Layer]) -> Snapshot {
        let around = Around { cover: None, mount_points: Some(self.mount_points_dir()) };
        let lowers = Arc::new(MergedTree::of_directories(around.lowers(layers)));
        let NextSnapshot { draft, work, leftover, .. } = next;
        let (layers, driver) = (layers.to_vec(), StorageDriver::Overlay);
        Snapshot { layers, draft, work, leftover, lowers, covered: false, driver, before: None }
    }
}
