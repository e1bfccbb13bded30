//! A layer that is written as it will be: for steps whose files come to places where the layers below have nothing, so that
//! no snapshot has to be mounted, and nothing compared afterwards.

use super::settle::Sealed;
use super::share::{Earlier, Shared};
use super::{Committed, DraftDir};
use crate::error::{Error, Result};
use crate::lease::Lease;
use crate::store::Store;
use crate::tree::TreeRoot;

/// The tree of a layer while it is written. Dropping it removes it.
#[derive(Debug)]
pub struct LayerDraft {
    draft: DraftDir,
}

impl Store {
    /// An empty one.
    ///
    /// # Errors
    /// When its directory cannot be made.
    pub fn layer_draft(&self, lease: &Lease) -> Result<LayerDraft> {
        Ok(LayerDraft { draft: DraftDir::make(&lease.draft())? })
    }
}

impl LayerDraft {
    /// Where its files are put.
    ///
    /// # Errors
    /// When no descriptor is left.
    pub fn root(&self) -> Result<TreeRoot> {
        TreeRoot::open(&self.draft.path.join("fs"))
    }

    /// It becomes a layer. A known tree gives the old layer back, bit for bit. One of many files, or of large ones, is
    /// `large`: it is brought to the disk while it is read, and is settled at once.
    ///
    /// # Errors
    /// When it cannot be read or written; nothing is left then.
    pub fn seal(self, store: &Store, lease: &Lease, large: bool) -> Result<Sealed> {
        match large {
            true => Ok(Sealed::Settled(store.commit_large_tree(lease, self.draft, &Shared::new())?)),
            false => store.seal_tree(lease, self.draft),
        }
    }

    /// The same of a large one that shares files with an earlier layer, or stands on it; `None` when one of them is not what
    /// it must be.
    ///
    /// # Errors
    /// When it cannot be read or written; nothing is left then.
    pub fn commit_sharing(self, store: &Store, lease: &Lease, earlier: Earlier) -> Result<Option<Committed>> {
        let committed = match earlier.into_parts() {
            (Some(base), shared) => store.commit_delta(lease, self.draft, base, &shared),
            (None, shared) => store.commit_large_tree(lease, self.draft, &shared),
        };
        match committed {
            Err(Error::NotAsShared(_)) => Ok(None),
            other => other.map(Some),
        }
    }
}
