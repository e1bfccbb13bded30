//! What can be asked of a tree that is only read, whether it is a directory or layers that nothing mounted.

use std::ffi::OsString;
use std::fs::File;
use std::path::Path;

use crate::error::Result;
use crate::tree::{Follow, Metadata, TreeRoot, bounded};

/// A tree whose content is foreign, for reading. Links are followed inside of it, never out.
pub trait TreeView: Sync {
    /// What is at a path, if anything.
    ///
    /// # Errors
    /// When it cannot be looked at.
    fn metadata(&self, path: &Path, follow: Follow) -> Result<Option<Metadata>>;

    /// Names and metadata of a directory's entries, in byte order; links are not followed.
    ///
    /// # Errors
    /// When it is no directory or cannot be read.
    fn read_dir(&self, path: &Path) -> Result<Vec<(OsString, Metadata)>>;

    /// Opens a regular file.
    ///
    /// # Errors
    /// When it is not there or is no regular file.
    fn open_file(&self, path: &Path) -> Result<File>;

    /// A directory as a root of its own, where it is one directory of the disk: many of its files are opened at the cost of
    /// one look-up.
    ///
    /// # Errors
    /// When it is not there.
    fn single(&self, _path: &Path) -> Result<Option<TreeRoot>> {
        Ok(None)
    }

    /// Where a link points.
    ///
    /// # Errors
    /// When it is no link.
    fn read_link(&self, path: &Path) -> Result<OsString>;

    /// The extended attributes that images keep.
    ///
    /// # Errors
    /// When they cannot be read.
    fn xattrs(&self, path: &Path) -> Result<Vec<(OsString, Vec<u8>)>>;

    /// The content of a small regular file; `None` when nothing is there.
    ///
    /// # Errors
    /// When it is larger than `limit`, or no regular file.
    fn read_file(&self, path: &Path, limit: u64) -> Result<Option<Vec<u8>>> {
        if self.metadata(path, Follow::Yes)?.is_none() {
            return Ok(None);
        }
        bounded(self.open_file(path)?, path, limit).map(Some)
    }
}

impl TreeView for TreeRoot {
    fn metadata(&self, path: &Path, follow: Follow) -> Result<Option<Metadata>> {
        TreeRoot::metadata(self, path, follow)
    }

    fn read_dir(&self, path: &Path) -> Result<Vec<(OsString, Metadata)>> {
        TreeRoot::read_dir(self, path)
    }

    fn open_file(&self, path: &Path) -> Result<File> {
        TreeRoot::open_file(self, path)
    }

    fn single(&self, path: &Path) -> Result<Option<TreeRoot>> {
        self.subtree(path).map(Some)
    }

    fn read_link(&self, path: &Path) -> Result<OsString> {
        TreeRoot::read_link(self, path)
    }

    fn xattrs(&self, path: &Path) -> Result<Vec<(OsString, Vec<u8>)>> {
        TreeRoot::xattrs(self, path)
    }
}
