//! What becomes of an image's tree outside the store: files in a directory of the host, or one tar.

mod directory;
mod tar;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use cache::{Kind, Metadata, TreeView};

pub use self::directory::{Written, write_directory};
pub use self::tar::{write_tar, write_tar_of};
use crate::error::Result;

/// One entry of a tree on its way out.
struct Entry<'a> {
    path: &'a Path,
    metadata: &'a Metadata,
    /// The earlier name of the same file.
    same_as: Option<PathBuf>,
}

/// Visits every entry of a tree, parents first, in byte order; files with several names are told as such.
fn walk(tree: &dyn TreeView, visit: &mut dyn FnMut(&Entry<'_>) -> Result<()>) -> Result<()> {
    walk_from(tree, Path::new(""), visit)
}

/// The same for what is below one directory of a tree.
fn walk_from(tree: &dyn TreeView, top: &Path, visit: &mut dyn FnMut(&Entry<'_>) -> Result<()>) -> Result<()> {
    let mut names: HashMap<(u64, u64), PathBuf> = HashMap::new();
    let mut open = vec![top.to_owned()];
    while let Some(directory) = open.pop() {
        let mut below = Vec::new();
        for (name, metadata) in tree.read_dir(&directory)? {
            let path = directory.join(name);
            let mut same_as = None;
            if metadata.kind != Kind::Directory && metadata.nlink > 1 {
                let first = names.entry((metadata.dev, metadata.ino)).or_insert_with(|| path.clone());
                same_as = (*first != path).then(|| first.clone());
            }
            visit(&Entry { path: &path, metadata: &metadata, same_as })?;
            if metadata.kind == Kind::Directory {
                below.push(path);
            }
        }
        // The last of the stack is next: directories are entered in their order.
        open.extend(below.into_iter().rev());
    }
    Ok(())
}
