//! One stat walk over a private tree: what is in it, in memory.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::Path;

use rayon::prelude::*;
use rustix::fs::{AtFlags, OFlags};

use super::canonical::restore_time;
use super::merged::{hides, open_below};
use crate::error::{Error, Result};
use crate::tree::{Kind, Metadata, metadata_of, read_directory};

/// What the kernel says of an entry and of all below it.
#[derive(Debug)]
pub(super) struct Scanned {
    pub(super) metadata: Metadata,
    pub(super) children: BTreeMap<OsString, Scanned>,
}

/// Walks the tree below `root`. What no layer can hold is removed from it on the way: sockets, and devices 0:0, which
/// overlay does not let anybody make either.
pub(super) fn scan(root: &OwnedFd) -> Result<Scanned> {
    let metadata = metadata_of(root).map_err(Error::errno("read", "the snapshot"))?;
    Ok(Scanned { metadata, children: directory(root, Path::new(""))? })
}

fn directory(root: &OwnedFd, path: &Path) -> Result<BTreeMap<OsString, Scanned>> {
    let entries = list(root, path)?;
    let child = |(name, metadata): (OsString, Metadata)| -> Result<(OsString, Scanned)> {
        let children = match metadata.kind {
            Kind::Directory => directory(root, &path.join(&name))?,
            _ => BTreeMap::new(),
        };
        Ok((name, Scanned { metadata, children }))
    };
    entries.into_par_iter().map(child).collect()
}

/// The descriptor is closed before anything below is opened: the depth of a tree costs none.
fn list(root: &OwnedFd, path: &Path) -> Result<Vec<(OsString, Metadata)>> {
    let failed = |errno| Error::errno("read", path)(errno);
    let fd = open_below(root, path, OFlags::RDONLY | OFlags::DIRECTORY).map_err(failed)?;
    let before = metadata_of(&fd).map_err(failed)?;
    let copy = fd.try_clone().map_err(Error::path("open", path))?;
    let mut entries = read_directory(copy).map_err(failed)?;
    let count = entries.len();
    for (name, _) in entries.iter().filter(|(_, metadata)| hides(metadata)) {
        rustix::fs::unlinkat(&fd, name, AtFlags::empty()).map_err(Error::errno("remove", path.join(name)))?;
    }
    entries.retain(|(_, metadata)| !hides(metadata));
    if entries.len() < count {
        restore_time(&fd, path, before.mtime_ns)?;
    }
    Ok(entries)
}
