//! A directory among the drafts that goes with its user.

use std::path::{Path, PathBuf};

use cache::Lease;

use crate::error::Result;

/// Removed when it is dropped; what stays is swept with the lease.
#[derive(Debug)]
pub(super) struct Scratch(PathBuf);

impl Scratch {
    pub(super) fn make(lease: &Lease) -> Result<Scratch> {
        let path = lease.draft();
        std::fs::create_dir(&path).map_err(|source| cache::Error::Path {
            doing: "make",
            path: path.clone(),
            source,
        })?;
        Ok(Scratch(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// A directory in it.
    pub(super) fn directory(&self, name: &str) -> Result<PathBuf> {
        let path = self.0.join(name);
        std::fs::create_dir(&path).map_err(|source| cache::Error::Path {
            doing: "make",
            path: path.clone(),
            source,
        })?;
        Ok(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
