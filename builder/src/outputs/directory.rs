//! A tree as files of a directory of the host, owned by who asked for them.

use std::path::{Path, PathBuf};

use cache::{Attributes, Kind, Owner, TreeRoot, TreeView};

use super::{Entry, walk};
use crate::error::{Error, Result};

/// What was written to a directory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Written {
    /// Entries.
    pub entries: u64,
    /// Bytes of file content.
    pub bytes: u64,
    /// Device nodes, which are not made on a host.
    pub left_out: u64,
}

/// Writes all of a tree into `target`, which is made when it is missing; what is there under other names stays.
///
/// Everything belongs to `owner`; no link on the way is followed out of the directory.
///
/// # Errors
/// When the tree cannot be read, or something that is there is in the way.
pub fn write_directory(tree: &dyn TreeView, target: &Path, owner: Owner) -> Result<Written> {
    std::fs::create_dir_all(target).map_err(Error::output(target.display()))?;
    let root = TreeRoot::open(target)?;
    let mut written = Written::default();
    let mut directories: Vec<(PathBuf, i64)> = Vec::new();
    walk(tree, &mut |entry| {
        if entry.metadata.kind == Kind::Directory {
            directories.push((entry.path.to_owned(), entry.metadata.mtime_ns));
        }
        write_entry(tree, &root, entry, owner, &mut written)
    })?;
    // Last and innermost first: what is written into a directory changes its time.
    for (path, mtime_ns) in directories.iter().rev() {
        root.set_times(path, *mtime_ns)?;
    }
    Ok(written)
}

fn write_entry(
    tree: &dyn TreeView,
    root: &TreeRoot,
    entry: &Entry<'_>,
    owner: Owner,
    written: &mut Written,
) -> Result<()> {
    let Entry { path, metadata, same_as } = entry;
    let attributes = Attributes { mode: metadata.mode, owner, mtime_ns: metadata.mtime_ns, xattrs: Vec::new() };
    written.entries += 1;
    if let Some(first) = same_as {
        return Ok(root.hard_link(first, path)?);
    }
    match metadata.kind {
        Kind::Directory => root.make_dir(path, &attributes)?,
        Kind::File => written.bytes += root.write_file(path, &mut tree.open_file(path)?, &attributes)?,
        Kind::Symlink => root.symlink(&tree.read_link(path)?, path, &attributes)?,
        Kind::Fifo => root.special(path, Kind::Fifo, 0, &attributes)?,
        Kind::CharDevice | Kind::BlockDevice => {
            written.entries -= 1;
            written.left_out += 1;
        }
        Kind::Socket => written.entries -= 1,
    }
    Ok(())
}
