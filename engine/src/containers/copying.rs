//! Trees copied by descriptor, beneath a root on both sides.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use cache::{Attributes, Kind, Metadata, Owner, TreeRoot};

use crate::error::Result;

/// Copies what is in one directory into another, with owners, modes, times, attributes and hard links' content.
pub(super) fn copy_content(from: &TreeRoot, to: &TreeRoot) -> Result<()> {
    copy_directory(from, Path::new(""), to)
}

fn copy_directory(from: &TreeRoot, path: &Path, to: &TreeRoot) -> Result<()> {
    for (name, metadata) in from.read_dir(path)? {
        copy_entry(from, &path.join(name), &metadata, to)?;
    }
    Ok(())
}

fn copy_entry(from: &TreeRoot, path: &Path, metadata: &Metadata, to: &TreeRoot) -> Result<()> {
    let mut attributes = attributes_of(metadata);
    match metadata.kind {
        Kind::Directory => {
            attributes.xattrs = xattrs(from, path)?;
            to.make_dir(path, &attributes)?;
            copy_directory(from, path, to)?;
            to.set_times(path, metadata.mtime_ns)?;
        }
        Kind::File => {
            attributes.xattrs = xattrs(from, path)?;
            to.write_file(path, &mut from.open_file(path)?, &attributes)?;
        }
        Kind::Symlink => to.symlink(&from.read_link(path)?, path, &attributes)?,
        Kind::Socket => {}
        Kind::CharDevice | Kind::BlockDevice | Kind::Fifo => {
            to.special(path, metadata.kind, metadata.rdev, &attributes)?;
        }
    }
    Ok(())
}

fn xattrs(from: &TreeRoot, path: &Path) -> Result<Vec<(OsString, Vec<u8>)>> {
    Ok(from.xattrs(path)?)
}

/// Everything but extended attributes.
pub(super) fn attributes_of(metadata: &Metadata) -> Attributes {
    Attributes {
        mode: metadata.mode,
        owner: Owner { uid: metadata.uid, gid: metadata.gid },
        mtime_ns: metadata.mtime_ns,
        xattrs: Vec::new(),
    }
}

/// A path of the container as it is below its root: `/a/./b` is `a/b`.
pub(super) fn below_root(path: &Path) -> PathBuf {
    path.components()
        .filter(|part| matches!(part, std::path::Component::Normal(_) | std::path::Component::ParentDir))
        .collect()
}
