//! A bare parallel stat walk of a directory: what an unchanged context is measured against.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

use std::path::Path;

use dunnage_cache::{Kind, TreeRoot};
use rayon::prelude::*;

fn walk(root: &TreeRoot, directory: &Path) -> usize {
    let entries = root.read_dir(directory).unwrap();
    let below: usize = entries
        .par_iter()
        .filter(|(_, metadata)| metadata.kind == Kind::Directory)
        .map(|(name, _)| walk(root, &directory.join(name)))
        .sum();
    entries.len() + below
}

fn main() {
    let path = std::env::args_os().nth(1).unwrap();
    println!("{} entries", walk(&TreeRoot::open(Path::new(&path)).unwrap(), Path::new("")));
}
