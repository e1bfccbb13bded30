//! The directories that overlay works with, beside what becomes a layer. Each mount leaves things there, which the kernel takes
//! long to remove: that is done beside the work that somebody waits for, and the directory serves the next mount.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::{Error, Result};
use crate::lease::Lease;

/// Empty directories that served before.
pub(crate) type Spare = Arc<Mutex<Vec<PathBuf>>>;

/// What is left of a snapshot. Dropping this removes it.
#[derive(Debug, Default)]
pub struct Leftover {
    path: Option<PathBuf>,
    /// Where it goes when it is empty; nowhere while somebody may have it mounted.
    spare: Option<Spare>,
}

impl Leftover {
    /// An empty directory, and what removes it.
    pub(super) fn work(lease: &Lease) -> Result<(PathBuf, Leftover)> {
        Leftover::planned(lease).make()
    }

    /// One at this place, for as long as its container is there.
    pub(super) fn within(path: &Path) -> Result<Leftover> {
        std::fs::create_dir(path).map_err(Error::path("make", path))?;
        Ok(Leftover { path: Some(path.to_owned()), spare: None })
    }

    /// It stays.
    pub(super) fn release(mut self) {
        self.path = None;
    }

    /// Which one it will be; nothing is made yet.
    pub(super) fn planned(lease: &Lease) -> Planned {
        match lease.spare().lock().unwrap_or_else(PoisonError::into_inner).pop() {
            Some(path) => Planned { leftover: Leftover { path: Some(path.clone()), spare: None }, path },
            None => Planned { leftover: Leftover::default(), path: lease.draft() },
        }
    }

    /// The same, whose directory no mount uses any more.
    pub(super) fn serving(self, lease: &Lease) -> Leftover {
        let mut one = self;
        one.spare = Some(Arc::clone(lease.spare()));
        one
    }
}

/// A directory to be.
#[derive(Debug)]
pub(super) struct Planned {
    path: PathBuf,
    /// Of one that served before and is there.
    leftover: Leftover,
}

impl Planned {
    pub(super) fn make(self) -> Result<(PathBuf, Leftover)> {
        let Planned { path, mut leftover } = self;
        if leftover.path.is_none() {
            std::fs::create_dir(&path).map_err(Error::path("make", &path))?;
            leftover.path = Some(path.clone());
        }
        Ok((path, leftover))
    }
}

impl Drop for Leftover {
    fn drop(&mut self) {
        // What stays is swept with the lease.
        match (self.path.take(), &self.spare) {
            (Some(path), Some(spare)) if empty(&path).is_ok() => {
                spare.lock().unwrap_or_else(PoisonError::into_inner).push(path);
            }
            (Some(path), _) => drop(std::fs::remove_dir_all(path)),
            (None, _) => {}
        }
    }
}

fn empty(path: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(path)? {
        std::fs::remove_dir_all(entry?.path())?;
    }
    Ok(())
}
