//! Snapshots: layers below, a private writable directory on top. What becomes of the top decides: a layer, a container, nothing.
//!
//! Two drivers make them. Overlay mounts the layers as they lie there. The copy driver, for where overlay cannot be had, copies
//! what they show and finds afterwards what changed. Both give the same layer for the same change.

mod canonical;
mod compare;
mod container;
mod copy;
mod diff;
mod flatten;
mod inherit;
mod merged;
mod next;
mod scan;
mod view;
pub(crate) mod work;

#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use self::container::{ContainerDirectories, TreeChange};
pub(crate) use self::copy::copy_into;
pub use self::merged::MergedTree;
pub use self::next::{NextPlan, NextSnapshot};
use self::scan::Scanned;
pub use self::view::TreeView;
pub use self::work::Leftover;
use crate::containers::ContainerPlace;
use crate::error::{Error, Result};
use crate::failpoint::failpoint;
use crate::layer::settle::Sealed;
use crate::layer::{Committed, DraftDir, Layer};
use crate::lease::Lease;
use crate::store::Store;

/// How layers become a tree that can be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StorageDriver {
    /// The kernel's overlayfs: nothing is copied.
    #[default]
    Overlay,
    /// A plain directory with a copy of all files.
    Copy,
}

impl std::fmt::Display for StorageDriver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            StorageDriver::Overlay => "overlay",
            StorageDriver::Copy => "copy",
        })
    }
}

/// How a snapshot becomes a layer.
#[derive(Debug, Clone, Default)]
pub struct CommitOptions {
    /// What the same step gave before: entries that are still the same take their times from it.
    pub inherit: Option<Layer>,
}

/// A writable tree over layers. Dropping it removes what can be written.
#[derive(Debug)]
pub struct Snapshot {
    layers: Vec<Layer>,
    draft: DraftDir,
    /// Overlay's own directory.
    work: PathBuf,
    /// That it goes with the snapshot.
    leftover: Leftover,
    /// The directories below; all that overlay mounts, and all that a copy was made of.
    lowers: Arc<MergedTree>,
    /// One of them is no layer and lies on top.
    covered: bool,
    driver: StorageDriver,
    /// Of a copy: what it was before anything changed it, where that is known.
    before: Option<Scanned>,
}

/// What a snapshot is made of, for who mounts it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Writable<'a> {
    /// The directories of an overlay.
    Overlay {
        /// Read only, top first.
        lowers: &'a [PathBuf],
        /// Takes what is written.
        upper: PathBuf,
        /// Overlay's own.
        work: PathBuf,
    },
    /// All of it in one place.
    Directory(PathBuf),
}

/// Where a snapshot is made.
enum Place<'a> {
    /// Among the drafts; what overlay works with lies beside what becomes a layer.
    Draft,
    /// All of it in the place of a container.
    Container(&'a Path),
}

/// Directories that a snapshot has besides its layers.
struct Around<'a> {
    /// On top of them.
    cover: Option<&'a Path>,
    /// Below them.
    mount_points: Option<PathBuf>,
}

impl Store {
    /// A fresh writable tree over `layers`, bottom first.
    ///
    /// # Errors
    /// When its directories cannot be made.
    pub fn snapshot(&self, lease: &Lease, layers: &[Layer]) -> Result<Snapshot> {
        self.snapshot_below(lease, layers, None)
    }

    /// The same with one directory more, on top of the layers: what is only there is in no result.
    ///
    /// # Errors
    /// When its directories cannot be made.
    pub fn snapshot_below(&self, lease: &Lease, layers: &[Layer], cover: Option<&Path>) -> Result<Snapshot> {
        Snapshot::make(self, lease, layers, Place::Draft, Around { cover, mount_points: None })
    }

    /// The same for a process to run in: the places that a sandbox mounts on lie below all layers.
    /// [`mount_points_dir`](Store::mount_points_dir) must be there. `cover` is as for [`snapshot_below`](Store::snapshot_below).
    ///
    /// # Errors
    /// When its directories cannot be made.
    pub fn sandbox_snapshot(&self, lease: &Lease, layers: &[Layer], cover: Option<&Path>) -> Result<Snapshot> {
        let around = Around { cover, mount_points: Some(self.mount_points_dir()) };
        Snapshot::make(self, lease, layers, Place::Draft, around)
    }

    /// The writable tree of a container, with the places that a sandbox mounts on: a fresh one, or the one that it has.
    ///
    /// # Errors
    /// When its directories cannot be made.
    pub fn container_snapshot(&self, lease: &Lease, layers: &[Layer], container: &ContainerPlace) -> Result<Snapshot> {
        let around = Around { cover: None, mount_points: Some(self.mount_points_dir()) };
        let path = container.tree();
        if path.join("fs").exists() {
            return Snapshot::open(self, lease, layers, &path, around);
        }
        Snapshot::make(self, lease, layers, Place::Container(&path), around)
    }
}

/// What a copy was before anything changed it, when nobody remembers: it is made once more.
fn as_it_began(lease: &Lease, lowers: &MergedTree) -> Result<Scanned> {
    let draft = DraftDir::make(&lease.draft())?;
    scan::scan(&copy::copy_tree(lowers, &draft.path.join("fs"))?)
}

impl Around<'_> {
    /// Top first.
    fn lowers(self, layers: &[Layer]) -> Vec<PathBuf> {
        let mut lowers: Vec<PathBuf> = self.cover.map(Path::to_owned).into_iter().collect();
        // A layer that is there twice counts where it is on top, and overlay takes no directory twice.
        let mut seen = HashSet::new();
        let top_first = layers.iter().rev().flat_map(Layer::trees).map(Path::to_owned);
        lowers.extend(top_first.filter(|path| seen.insert(path.clone())));
        lowers.extend(self.mount_points);
        lowers
    }
}

impl Snapshot {
    /// A tree that a container has from before. Which driver made it shows in it, whatever is chosen now.
    fn open(store: &Store, lease: &Lease, layers: &[Layer], path: &Path, around: Around<'_>) -> Result<Snapshot> {
        let draft = DraftDir::open(path)?;
        let is_overlay = path.join("work").exists();
        let stacked = if is_overlay { store.stackable(lease, layers)? } else { layers.to_vec() };
        let covered = around.cover.is_some();
        let lowers = Arc::new(MergedTree::of_directories(around.lowers(&stacked)));
        let driver = if is_overlay { StorageDriver::Overlay } else { StorageDriver::Copy };
        let (work, leftover) = (path.join("work"), Leftover::default());
        let layers = layers.to_vec();
        let snapshot = Snapshot { layers, draft, work, leftover, lowers, covered, driver, before: None };
        // A mount that ended with its machine may have left marks there.
        snapshot.renew_work()?;
        Ok(snapshot)
    }

    fn make(store: &Store, lease: &Lease, layers: &[Layer], place: Place<'_>, around: Around<'_>) -> Result<Snapshot> {
        begun()?;
        let driver = store.storage_driver();
        let stacked = match driver {
            StorageDriver::Overlay => store.stackable(lease, layers)?,
            StorageDriver::Copy => layers.to_vec(),
        };
        let covered = around.cover.is_some();
        let lowers = Arc::new(MergedTree::of_directories(around.lowers(&stacked)));
        let draft = match place {
            Place::Draft => DraftDir::make(&lease.draft())?,
            Place::Container(path) => DraftDir::within(path)?,
        };
        let (mut work, mut leftover, mut before) = (draft.path.join("work"), Leftover::default(), None);
        drafted()?;
        match (driver, place) {
            (StorageDriver::Copy, place) => {
                if let Place::Container(_) = place {
                    draft.make_root()?;
                }
                let root = copy::copy_tree(&lowers, &draft.path.join("fs"))?;
                before = Some(copy::record(&root)?);
            }
            (StorageDriver::Overlay, Place::Container(_)) => {
                leftover = Leftover::within(&work)?;
                // After it: who finds a root finds all.
                draft.make_root()?;
            }
            (StorageDriver::Overlay, Place::Draft) => {
                (work, leftover) = Leftover::work(lease)?;
            }
        }
        Ok(Snapshot { layers: layers.to_vec(), draft, work, leftover, lowers, covered, driver, before })
    }

    /// What to mount.
    pub fn writable(&self) -> Writable<'_> {
        match self.driver {
            StorageDriver::Copy => Writable::Directory(self.upper()),
            StorageDriver::Overlay => {
                let lowers = self.lowers.directories();
                Writable::Overlay { lowers, upper: self.upper(), work: self.work.clone() }
            }
        }
    }

    /// The writable directory.
    pub fn upper(&self) -> PathBuf {
        self.draft.path.join("fs")
    }

    /// Empties overlay's own directory: one that served a volatile mount serves no other.
    ///
    /// # Errors
    /// When it cannot be made anew.
    pub fn renew_work(&self) -> Result<()> {
        let work = &self.work;
        if self.driver == StorageDriver::Copy {
            return Ok(());
        }
        std::fs::remove_dir_all(work).map_err(Error::path("remove", work))?;
        std::fs::create_dir(work).map_err(Error::path("make", work))
    }

    /// The layers, bottom first.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// What changed becomes a layer. A known tree gives the old layer back, bit for bit.
    ///
    /// # Errors
    /// When it cannot be read or written; nothing is left then.
    pub fn commit(self, store: &Store, lease: &Lease, options: &CommitOptions) -> Result<Committed> {
        self.seal(store, lease, options)?.0.commit(store, lease)
    }

    /// The same, as far as it needs no disk, and what is of no use then.
    ///
    /// # Errors
    /// When it cannot be read; nothing is left then.
    pub fn seal(self, store: &Store, lease: &Lease, options: &CommitOptions) -> Result<(Sealed, Leftover)> {
        failpoint("snapshot.commit")?;
        let upper = self.upper();
        let lowers = self.lowers;
        if self.driver == StorageDriver::Overlay {
            canonical::canonicalize(&upper, &lowers)?;
            inherit(&upper, options)?;
            return Ok((store.seal_tree(lease, self.draft)?, self.leftover.serving(lease)));
        }
        let before = match self.before {
            Some(before) => before,
            None => as_it_began(lease, &lowers)?,
        };
        // The copy moves aside; what changed in it moves into the place from which layers are taken.
        let copy = DraftDir::make(&lease.draft())?;
        let aside = copy.path.join("copy");
        std::fs::rename(&upper, &aside).map_err(Error::path("move", &upper))?;
        std::fs::rename(copy.path.join("fs"), &upper).map_err(Error::path("move", &upper))?;
        diff::move_changes(&aside, &before, &lowers, &upper)?;
        inherit(&upper, options)?;
        std::thread::scope(|scope| {
            scope.spawn(move || drop(copy));
            Ok((store.seal_tree(lease, self.draft)?, self.leftover))
        })
    }

    /// Leaves the directories where they are.
    pub fn keep(self) {
        self.draft.release();
        self.leftover.release();
    }

    /// What of it can be removed apart, for which the kernel takes as long as for the rest.
    #[must_use]
    pub fn in_halves(mut self) -> (Snapshot, Leftover) {
        let leftover = std::mem::take(&mut self.leftover);
        (self, leftover)
    }
}

/// Nothing of a snapshot is made yet.
fn begun() -> Result<()> {
    failpoint("snapshot.make")
}

/// There is a place for what will be written, and none for overlay's own work.
fn drafted() -> Result<()> {
    failpoint("snapshot.work")
}

fn inherit(upper: &Path, options: &CommitOptions) -> Result<()> {
    options.inherit.as_ref().map_or(Ok(()), |before| inherit::inherit_times(upper, before.path()))
}
