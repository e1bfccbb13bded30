//! Layers on their way to the disk. A *sealed* layer is what it will be, and who made it may go on with it at once; it is
//! *settled*, together with others, by one flush, and only then has it the name by which anybody else finds it.
//!
//! So a name still means that the layer is on the disk. What refers to a layer is written after it was settled.

use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::sync::Arc;

use super::{Committed, DraftDir, Held, Layer, LayerFile};
use crate::digest::TreeHash;
use crate::error::Result;
use crate::lease::Lease;
use crate::store::Store;

/// A tree that became a layer.
#[derive(Debug)]
pub enum Sealed {
    /// The store has it.
    Settled(Committed),
    /// It is to be settled.
    Open(Unsettled),
}

/// A layer without a name: dropping it removes it.
#[derive(Debug)]
pub struct Unsettled {
    draft: DraftDir,
    file: LayerFile,
}

impl Unsettled {
    pub(super) fn new(draft: DraftDir, file: LayerFile) -> Unsettled {
        Unsettled { draft, file }
    }

    /// The layer for who cannot wait. It stays usable when the other gets its name, or gets none.
    #[must_use]
    pub fn layer(&self) -> Layer {
        let LayerFile { diff_id, tree, size, created, .. } = &self.file;
        let directory = Arc::clone(&self.draft.directory);
        Layer {
            diff_id: diff_id.clone(),
            tree: *tree,
            size: *size,
            created: *created,
            path: PathBuf::from(format!("/proc/self/fd/{}/fs", directory.as_raw_fd())),
            base: None,
            held: Some(Held(directory)),
        }
    }
}

impl Unsettled {
    /// The hash of its tree.
    #[must_use]
    pub fn tree(&self) -> TreeHash {
        self.file.tree
    }
}

impl Layer {
    /// Whether it was given out before it had a name.
    #[must_use]
    pub fn is_unsettled(&self) -> bool {
        self.held.is_some()
    }
}

impl Sealed {
    /// Settles it, where it is not.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn commit(self, store: &Store, lease: &Lease) -> Result<Committed> {
        match self {
            Sealed::Settled(committed) => Ok(committed),
            Sealed::Open(Unsettled { draft, file }) => {
                Ok(Committed { layer: store.adopt(lease, draft, &file, false)?, existed: false })
            }
        }
    }
}

impl Store {
    /// Brings layers to the disk, all by one flush, and gives them their names, in order.
    ///
    /// # Errors
    /// When one of them cannot be written: none counts as settled then. What has no name stays among the drafts until the
    /// lease ends, for somebody may stand on it.
    pub fn settle(&self, lease: &Lease, layers: Vec<Unsettled>) -> Result<Vec<Layer>> {
        let stays = |Unsettled { draft, file }: Unsettled| (draft.staying(), file);
        let layers: Vec<(DraftDir, LayerFile)> = layers.into_iter().map(stays).collect();
        layers.iter().try_for_each(|(draft, file)| draft.describe(file))?;
        // Its descriptor is told of whatever could not be written since, of the others too.
        if let Some((oldest, _)) = layers.iter().min_by_key(|(draft, _)| draft.opened) {
            oldest.flush()?;
        }
        let _lock = self.shared()?;
        let mut files = Vec::new();
        for (draft, file) in layers {
            self.name(draft, &file)?;
            files.push(file);
        }
        self.flush_names()?;
        files.iter().map(|file| self.named(lease, file)).collect()
    }
}
