//! A layer over a tree, for one step: it holds the places that mounts need, and hides what must not be seen.
//!
//! Directories that it repeats look as those below it do. It lies under the writable layer, so nothing of it is ever
//! part of a result, and nothing has to be taken away afterwards.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

use cache::{Attributes, Follow, Kind, Metadata, Owner, TreeRoot, TreeView};

use super::scratch::Scratch;
use crate::error::{Error, Result};

/// Most links on the way to a target.
const LINKS: usize = 40;

/// The layer while it is made.
pub(super) struct Cover<'a> {
    below: &'a dyn TreeView,
    root: TreeRoot,
    scratch: Scratch,
    /// Directories with the time that they get when all is in them.
    repeated: BTreeMap<PathBuf, i64>,
    /// Where something will be mounted.
    placed: Vec<PathBuf>,
    used: bool,
}

impl<'a> Cover<'a> {
    pub(super) fn new(below: &'a dyn TreeView, scratch: Scratch) -> Result<Cover<'a>> {
        let root = TreeRoot::open(&scratch.directory("fs")?)?;
        let mut cover = Cover { below, root, scratch, repeated: BTreeMap::new(), placed: Vec::new(), used: false };
        cover.repeat(Path::new(""))?;
        Ok(cover)
    }

    /// Makes sure that something is at `path`, which may lead through links.
    pub(super) fn place(&mut self, path: &Path, directory: bool) -> Result<()> {
        let path = lead(self.below, path)?;
        self.placed.push(path.clone());
        let there = |root: &dyn TreeView| root.metadata(&path, Follow::No);
        if path.as_os_str().is_empty() || there(self.below)?.is_some() || there(&self.root)?.is_some() {
            return Ok(());
        }
        self.parents(&path)?;
        if directory {
            self.root.make_dirs(&path, 0o755, Owner::default())?;
        } else {
            self.root.write_bytes(&path, b"", &plain(0o644))?;
        }
        Ok(())
    }

    /// Hides what is at `path`, which holds no links. Places come before: where one lies at or below the path, it stays.
    pub(super) fn hide(&mut self, path: &Path) -> Result<()> {
        self.parents(path)?;
        if self.placed.iter().any(|place| place.starts_with(path)) {
            return self.empty(path);
        }
        // Overlay's whiteout.
        Ok(self.root.special(path, Kind::CharDevice, 0, &plain(0))?)
    }

    /// Hides what is in a directory, or in a file, but not itself.
    fn empty(&mut self, path: &Path) -> Result<()> {
        if self.below.metadata(path, Follow::No)?.is_some_and(|there| there.kind != Kind::Directory) {
            return Ok(self.root.write_bytes(path, b"", &plain(0o644)).map(drop)?);
        }
        self.repeat(path)?;
        for (name, _) in self.below.read_dir(path)? {
            self.hide(&path.join(name))?;
        }
        Ok(())
    }

    /// The layer's directory; `None` when nothing had to be put there.
    pub(super) fn finish(self) -> Result<Option<(PathBuf, Scratch)>> {
        if !self.used {
            return Ok(None);
        }
        for (path, mtime_ns) in self.repeated.iter().rev() {
            self.root.set_times(path, *mtime_ns)?;
        }
        Ok(Some((self.scratch.path().join("fs"), self.scratch)))
    }

    fn parents(&mut self, path: &Path) -> Result<()> {
        self.used = true;
        let ancestors: Vec<&Path> = path.ancestors().skip(1).collect();
        for ancestor in ancestors.into_iter().rev().filter(|ancestor| !ancestor.as_os_str().is_empty()) {
            if self.root.metadata(ancestor, Follow::No)?.is_none() && !self.repeat(ancestor)? {
                self.root.make_dirs(ancestor, 0o755, Owner::default())?;
            }
        }
        Ok(())
    }

    /// A directory as it is below; false when there is none.
    fn repeat(&mut self, path: &Path) -> Result<bool> {
        let Some(metadata) = self.below.metadata(path, Follow::No)? else { return Ok(false) };
        if metadata.kind != Kind::Directory {
            let reason = "is no directory: nothing can be mounted below it".to_owned();
            return Err(Error::Store(cache::Error::Tree { path: path.to_owned(), reason }));
        }
        let attributes = looks(self.below, path, &metadata)?;
        if path.as_os_str().is_empty() {
            self.root.set_attributes(path, &attributes)?;
        } else {
            self.root.make_dir(path, &attributes)?;
        }
        self.repeated.insert(path.to_owned(), metadata.mtime_ns);
        Ok(true)
    }
}

/// What a directory looks like, to be given to another.
pub(in crate::perform) fn looks(tree: &dyn TreeView, path: &Path, metadata: &Metadata) -> Result<Attributes> {
    let owner = Owner { uid: metadata.uid, gid: metadata.gid };
    Ok(Attributes { mode: metadata.mode, owner, mtime_ns: metadata.mtime_ns, xattrs: tree.xattrs(path)? })
}

pub(super) fn plain(mode: u32) -> Attributes {
    let now = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap_or_default();
    let mtime_ns = i64::try_from(now.as_nanos()).unwrap_or(0);
    Attributes { mode, owner: Owner::default(), mtime_ns, xattrs: Vec::new() }
}

/// Where a path leads inside a tree: links are replaced, and what is not there stays as it is written.
pub(super) fn lead(tree: &dyn TreeView, path: &Path) -> Result<PathBuf> {
    let parts = |path: &Path| -> Vec<OsString> { path.components().map(|part| part.as_os_str().to_owned()).collect() };
    let mut rest: VecDeque<OsString> = parts(path).into();
    let mut at = PathBuf::new();
    let mut links = 0;
    while let Some(name) = rest.pop_front() {
        match Path::new(&name).components().next() {
            Some(Component::RootDir) => at = PathBuf::new(),
            Some(Component::ParentDir) => drop(at.pop()),
            Some(Component::Normal(name)) => {
                let next = at.join(name);
                match tree.metadata(&next, Follow::No)? {
                    Some(metadata) if metadata.kind == Kind::Symlink => {
                        links += 1;
                        if links > LINKS {
                            let reason = "has too many symbolic links on its way".to_owned();
                            return Err(Error::Store(cache::Error::Tree { path: path.to_owned(), reason }));
                        }
                        let link = PathBuf::from(tree.read_link(&next)?);
                        for part in parts(&link).into_iter().rev() {
                            rest.push_front(part);
                        }
                    }
                    _ => at = next,
                }
            }
            _ => {}
        }
    }
    Ok(at)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn paths_are_led_through_the_links_of_the_tree_and_never_out_of_it() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(directory.path().join("run/inner")).unwrap();
        std::fs::create_dir(directory.path().join("var")).unwrap();
        symlink("/run", directory.path().join("var/run")).unwrap();
        symlink("../../../run/inner", directory.path().join("up")).unwrap();
        symlink("loop", directory.path().join("loop")).unwrap();
        let tree = TreeRoot::open(directory.path()).unwrap();
        let led = |path: &str| lead(&tree, Path::new(path)).unwrap();
        assert_eq!(led("/var/run/secrets/x"), Path::new("run/secrets/x"));
        assert_eq!(led("up/y"), Path::new("run/inner/y"));
        assert_eq!(led("/a/../../b"), Path::new("b"));
        assert!(lead(&tree, Path::new("loop/x")).is_err());
    }

    #[test]
    fn repeated_directories_look_as_those_below_do() {
        use std::os::unix::fs::{MetadataExt, PermissionsExt};
        let directory = tempfile::tempdir().unwrap();
        let below = directory.path().join("below");
        std::fs::create_dir_all(below.join("app")).unwrap();
        std::fs::set_permissions(below.join("app"), std::fs::Permissions::from_mode(0o701)).unwrap();
        let past = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
        std::fs::File::open(below.join("app")).unwrap().set_modified(past).unwrap();
        if std::fs::metadata(&below).unwrap().uid() != 0 {
            // To give directories away takes root.
            return;
        }
        let tree = TreeRoot::open(&below).unwrap();
        let store = cache::Store::open(&directory.path().join("store")).unwrap();
        let lease = store.lease().unwrap();
        let mut cover = Cover::new(&tree, Scratch::make(&lease).unwrap()).unwrap();
        cover.place(Path::new("/app"), true).unwrap();
        assert!(!cover.used, "what is there needs no place");
        cover.place(Path::new("/app/deep/file"), false).unwrap();
        let (path, _scratch) = cover.finish().unwrap().unwrap();
        let app = std::fs::metadata(path.join("app")).unwrap();
        assert_eq!((app.mode() & 0o7777, app.mtime()), (0o701, 1_000_000_000));
        assert!(path.join("app/deep/file").is_file());
    }
}
