//! `dunnage system df`, `system prune`, `info`.

use cache::{PruneOptions, Pruned, Usage};

use crate::Engine;
use crate::error::Result;

impl Engine {
    /// What the store holds, in true bytes on disk.
    ///
    /// # Errors
    /// What the store says.
    pub fn disk_usage(&self) -> Result<Usage> {
        Ok(self.store.usage()?)
    }

    /// Removes what nothing uses. Running builds and containers keep what they work with.
    ///
    /// # Errors
    /// What the store says; what was removed before stays removed.
    pub fn prune(&self, options: &PruneOptions) -> Result<Pruned> {
        Ok(self.store.prune(options)?)
    }
}
