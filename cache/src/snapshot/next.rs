//! The snapshot on top of one that is not a layer yet: its directories are made while somebody still writes into the one
//! below, and it is mounted while that is being sealed. It is of use only where that becomes the layer, and not one that was
//! there before.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use super::flatten::OVERLAY_LAYERS;
use super::{Around, Leftover, MergedTree, Snapshot, StorageDriver, Writable, begun, drafted};
use crate::error::Result;
use crate::layer::{DraftDir, Layer};
use crate::lease::Lease;
use crate::store::Store;

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
    ///
    /// # Errors
    /// When its directories cannot be made.
    pub fn next(&self, lease: &Lease) -> Result<Option<NextSnapshot>> {
        let below = self.lowers.directories();
        // Below are the layers and the mount points; else some are joined to one, or are there twice.
        let plain = self.layers.iter().flat_map(Layer::trees).count() + 1 == below.len();
        if self.driver != StorageDriver::Overlay || self.covered || !plain || below.len() >= OVERLAY_LAYERS {
            return Ok(None);
        }
        begun()?;
        let draft = DraftDir::make(&lease.draft())?;
        drafted()?;
        let (work, leftover) = Leftover::work(lease)?;
        let own = Arc::clone(&self.draft.directory);
        let top = PathBuf::from(format!("/proc/self/fd/{}/fs", own.as_raw_fd()));
        let lowers = std::iter::once(top).chain(below.iter().cloned()).collect();
        Ok(Some(NextSnapshot { draft, work, leftover, lowers, _held: (own, self.layers.clone()) }))
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
        let lowers = MergedTree::of_directories(around.lowers(layers));
        let NextSnapshot { draft, work, leftover, .. } = next;
        let (layers, driver) = (layers.to_vec(), StorageDriver::Overlay);
        Snapshot { layers, draft, work, leftover, lowers, covered: false, driver, before: None }
    }
}
