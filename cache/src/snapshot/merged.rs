//! The merged view of layers, read without a mount: the top one wins, whiteouts and opaque directories hide what is below.
//!
//! Every path is resolved inside the layers, links included; each step opens one layer's own directory by descriptor and
//! closes it again but for the roots of the uppermost, so that any number of layers can be read with a few descriptors.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::view::TreeView;
use crate::error::{Error, Result};
use crate::layer::Layer;
use crate::owner;
use crate::tree::{Follow, Kind, Metadata, TreeRoot, metadata_of, read_directory, xattrs};

/// Links followed in one path before it counts as a circle; the kernel's own number.
const LINK_LIMIT: u32 = 40;
/// Layers whose root stays open.
const OPEN_ROOTS: usize = 40;
/// Overlay's marks of a directory that hides all below it: of the superuser, and of a user namespace.
pub(super) const OPAQUE_MARKS: [&str; 2] = ["trusted.overlay.opaque", "user.overlay.opaque"];

/// Layers as one tree, for reading.
#[derive(Debug)]
pub struct MergedTree {
    /// Top first.
    layers: Vec<PathBuf>,
    /// Descriptors of the first ones, once they were used: what a process may hold is bounded, and layers are not.
    roots: Box<[OnceLock<OwnedFd>]>,
    /// Which layers hold a directory, by its path: a path is walked once.
    known: Mutex<HashMap<PathBuf, Arc<Directory>>>,
    /// How many names files have, by layer and inode, where that was asked.
    names: Mutex<HashMap<usize, HashMap<u64, u64>>>,
}

/// A directory of the merged tree.
#[derive(Debug)]
pub(super) struct Directory {
    pub(super) path: PathBuf,
    /// Positions of the layers whose entries show, top first.
    pub(super) layers: Vec<usize>,
}

/// What the merged tree has under a name.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) metadata: Metadata,
    /// The layer that it comes from.
    pub(super) layer: usize,
    /// Of a directory: the layers that make it up.
    pub(super) layers: Vec<usize>,
}

/// Where a path ended after links.
struct Place {
    path: PathBuf,
    node: Node,
}

impl MergedTree {
    /// Of layers, bottom first.
    pub fn new(layers: &[Layer]) -> MergedTree {
        MergedTree::of_directories(layers.iter().rev().flat_map(Layer::trees).map(Path::to_owned).collect())
    }

    pub(crate) fn of_directories(top_first: Vec<PathBuf>) -> MergedTree {
        let roots = top_first.iter().take(OPEN_ROOTS).map(|_| OnceLock::new()).collect();
        MergedTree { layers: top_first, roots, known: Mutex::default(), names: Mutex::default() }
    }

    /// The directories, top first.
    pub(super) fn directories(&self) -> &[PathBuf] {
        &self.layers
    }

    pub(super) fn is_empty(&self) -> bool {
        self.layers.is_empty()
    }

    pub(super) fn root(&self) -> Result<Arc<Directory>> {
        let path = PathBuf::new();
        if let Some(known) = self.known(&path) {
            return Ok(known);
        }
        let mut layers = Vec::new();
        for layer in 0..self.layers.len() {
            layers.push(layer);
            if is_opaque(&self.open(layer, &path, OFlags::RDONLY | OFlags::DIRECTORY)?) {
                break;
            }
        }
        Ok(self.remember(path, layers))
    }

    /// How many names a file has in its layer. The kernel counts those in other layers too, which may share the inode.
    pub(super) fn names_of(&self, node: &Node) -> Result<u64> {
        if node.metadata.nlink <= 1 {
            return Ok(node.metadata.nlink);
        }
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let of_layer = match names.entry(node.layer) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => {
                let layer = self.layers.get(node.layer).cloned().unwrap_or_default();
                place.insert(crate::usage::names_by_inode(&layer)?)
            }
        };
        Ok(of_layer.get(&node.metadata.ino).copied().unwrap_or(1))
    }

    fn known(&self, path: &Path) -> Option<Arc<Directory>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).get(path).cloned()
    }

    fn remember(&self, path: PathBuf, layers: Vec<usize>) -> Arc<Directory> {
        let directory = Arc::new(Directory { path: path.clone(), layers });
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(path, Arc::clone(&directory));
        directory
    }

    pub(super) fn directory(&self, path: PathBuf, node: &Node) -> Arc<Directory> {
        self.known(&path).unwrap_or_else(|| self.remember(path, node.layers.clone()))
    }

    /// Opens a path of one layer; none of its parts may be a link.
    pub(super) fn open(&self, layer: usize, path: &Path, flags: OFlags) -> Result<OwnedFd> {
        self.try_open(layer, path, flags).map_err(Error::errno("open", path))
    }

    fn try_open(&self, layer: usize, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let open = || {
            let root = self.layers.get(layer).ok_or(Errno::NOENT)?;
            rustix::fs::open(root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        };
        match self.roots.get(layer) {
            None => open_below(&open()?, path, flags),
            Some(kept) => match kept.get() {
                Some(root) => open_below(root, path, flags),
                None => {
                    let root = open()?;
                    open_below(kept.get_or_init(|| root), path, flags)
                }
            },
        }
    }

    /// The layers of a directory in which `path` is one too, from `layers` downwards, until something hides the rest.
    fn merge(&self, path: &Path, layers: impl Iterator<Item = usize>) -> Result<Vec<usize>> {
        let mut found = Vec::new();
        for layer in layers {
            match self.try_open(layer, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW) {
                Ok(fd) => {
                    found.push(layer);
                    if is_opaque(&fd) {
                        break;
                    }
                }
                Err(Errno::NOENT) => {}
                // A whiteout, or a file, hides what is below it.
                Err(Errno::NOTDIR | Errno::LOOP) => break,
                Err(errno) => return Err(Error::errno("open", path)(errno)),
            }
        }
        Ok(found)
    }

    /// What a directory has under this name.
    pub(super) fn child(&self, directory: &Directory, name: &OsStr) -> Result<Option<Node>> {
        let path = directory.path.join(name);
        let mut layers = directory.layers.iter().copied();
        while let Some(layer) = layers.next() {
            let metadata = match self.try_open(layer, &path, OFlags::PATH | OFlags::NOFOLLOW) {
                Ok(fd) => self.metadata_of(layer, &path, &fd).map_err(Error::errno("read", &path))?,
                Err(Errno::NOENT) => continue,
                Err(errno) => return Err(Error::errno("open", path)(errno)),
            };
            if hides(&metadata) {
                return Ok(None);
            }
            let layers = match metadata.kind {
                Kind::Directory => self.merge(&path, std::iter::once(layer).chain(layers))?,
                _ => Vec::new(),
            };
            return Ok(Some(Node { metadata, layer, layers }));
        }
        Ok(None)
    }

    fn metadata_of(&self, layer: usize, path: &Path, fd: &OwnedFd) -> rustix::io::Result<Metadata> {
        let mut found = metadata_of(fd)?;
        // What is recorded of links stands with their directory.
        if owner::is_recording() && !matches!(found.kind, Kind::File | Kind::Directory) {
            let parent = self.try_open(layer, path.parent().unwrap_or(Path::new("")), OFlags::PATH)?;
            owner::amend_entry(&mut found, &parent, path.file_name().unwrap_or_default())?;
        }
        Ok(found)
    }

    /// All that a directory has, in byte order.
    pub(super) fn list(&self, directory: &Directory) -> Result<Vec<(OsString, Node)>> {
        let mut found: BTreeMap<OsString, (Node, bool)> = BTreeMap::new();
        for &layer in &directory.layers {
            let fd = self.open(layer, &directory.path, OFlags::RDONLY | OFlags::DIRECTORY)?;
            for (name, metadata) in read_directory(fd).map_err(Error::errno("read", &directory.path))? {
                let is_directory = metadata.kind == Kind::Directory;
                match found.get_mut(&name) {
                    Some((node, open)) if *open && is_directory => node.layers.push(layer),
                    Some((_, open)) => *open = false,
                    None => {
                        let layers = if is_directory { vec![layer] } else { Vec::new() };
                        found.insert(name, (Node { metadata, layer, layers }, is_directory));
                    }
                }
            }
        }
        let mut entries = Vec::with_capacity(found.len());
        for (name, (mut node, _)) in found {
            if hides(&node.metadata) {
                continue;
            }
            if node.layers.len() > 1 {
                node.layers = self.merge(&directory.path.join(&name), node.layers.iter().copied())?;
            }
            entries.push((name, node));
        }
        Ok(entries)
    }

    pub(super) fn link_of(&self, layer: usize, path: &Path) -> Result<OsString> {
        let fd = self.open(layer, path, OFlags::PATH | OFlags::NOFOLLOW)?;
        let link = rustix::fs::readlinkat(&fd, "", Vec::new()).map_err(Error::errno("read", path))?;
        Ok(OsString::from_vec(link.into_bytes()))
    }

    /// Walks a path; links and `..` end at the root of the tree.
    fn resolve(&self, path: &Path, follow: Follow) -> Result<Option<Place>> {
        let root = self.root()?;
        let mut at = vec![Arc::clone(&root)];
        let mut rest: Vec<OsString> = parts(path);
        let mut links = 0;
        while let Some(name) = rest.pop() {
            match name.as_bytes() {
                b"/" => at.truncate(1),
                b".." => at.truncate(at.len().saturating_sub(1).max(1)),
                _ => {
                    let here = at.last().unwrap_or(&root);
                    let Some(node) = self.child_of(here, &name)? else { return Ok(None) };
                    let path = here.path.join(&name);
                    match node.metadata.kind {
                        Kind::Directory => at.push(self.directory(path, &node)),
                        Kind::Symlink if follow == Follow::Yes || !rest.is_empty() => {
                            links += 1;
                            if links > LINK_LIMIT {
                                return Ok(None);
                            }
                            rest.extend(parts(Path::new(&self.link_of(node.layer, &path)?)));
                        }
                        _ if rest.is_empty() => return Ok(Some(Place { path, node })),
                        _ => return Ok(None),
                    }
                }
            }
        }
        let directory = at.pop().unwrap_or(root);
        let Some(&layer) = directory.layers.first() else { return Ok(None) };
        let fd = self.open(layer, &directory.path, OFlags::PATH)?;
        let metadata = metadata_of(&fd).map_err(Error::errno("read", path))?;
        let node = Node { metadata, layer, layers: directory.layers.clone() };
        Ok(Some(Place { path: directory.path.clone(), node }))
    }

    /// A directory that is known already is not merged again.
    fn child_of(&self, directory: &Directory, name: &OsStr) -> Result<Option<Node>> {
        let path = directory.path.join(name);
        if let Some(known) = self.known(&path)
            && let Some(&layer) = known.layers.first()
        {
            let fd = self.open(layer, &path, OFlags::PATH)?;
            let metadata = metadata_of(&fd).map_err(Error::errno("read", path))?;
            return Ok(Some(Node { metadata, layer, layers: known.layers.clone() }));
        }
        self.child(directory, name)
    }

    /// What is at a path; a link at its end is what is there.
    pub(super) fn node(&self, path: &Path) -> Result<Option<Node>> {
        Ok(self.resolve(path, Follow::No)?.map(|place| place.node))
    }

    fn found(&self, path: &Path, follow: Follow) -> Result<Place> {
        self.resolve(path, follow)?.ok_or_else(|| Error::errno("open", path)(Errno::NOENT))
    }
}

impl TreeView for MergedTree {
    fn metadata(&self, path: &Path, follow: Follow) -> Result<Option<Metadata>> {
        Ok(self.resolve(path, follow)?.map(|place| place.node.metadata))
    }

    fn read_dir(&self, path: &Path) -> Result<Vec<(OsString, Metadata)>> {
        let place = self.found(path, Follow::Yes)?;
        if place.node.metadata.kind != Kind::Directory {
            return Err(Error::errno("read", path)(Errno::NOTDIR));
        }
        let directory = self.directory(place.path, &place.node);
        Ok(self.list(&directory)?.into_iter().map(|(name, node)| (name, node.metadata)).collect())
    }

    fn open_file(&self, path: &Path) -> Result<File> {
        let place = self.found(path, Follow::Yes)?;
        if place.node.metadata.kind != Kind::File {
            return Err(Error::Tree { path: path.to_owned(), reason: "is not a regular file".to_owned() });
        }
        Ok(File::from(self.open(place.node.layer, &place.path, OFlags::RDONLY | OFlags::NOCTTY)?))
    }

    fn single(&self, path: &Path) -> Result<Option<TreeRoot>> {
        match self.resolve(path, Follow::Yes)? {
            Some(Place { path, node }) if node.layers.len() == 1 => {
                TreeRoot::from_fd(self.open(node.layer, &path, OFlags::PATH | OFlags::DIRECTORY)?).map(Some)
            }
            _ => Ok(None),
        }
    }

    fn read_link(&self, path: &Path) -> Result<OsString> {
        let place = self.found(path, Follow::No)?;
        self.link_of(place.node.layer, &place.path)
    }

    fn xattrs(&self, path: &Path) -> Result<Vec<(OsString, Vec<u8>)>> {
        let place = self.found(path, Follow::No)?;
        if !matches!(place.node.metadata.kind, Kind::File | Kind::Directory) {
            return Ok(Vec::new());
        }
        let fd = self.open(place.node.layer, &place.path, OFlags::RDONLY | OFlags::NOCTTY)?;
        xattrs(&fd).map_err(Error::errno("read the attributes of", path))
    }
}

/// The parts of a path, last first; `/` stands for the root.
fn parts(path: &Path) -> Vec<OsString> {
    let parts = path.components().rev().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir => Some("/".into()),
        Component::CurDir | Component::Prefix(_) => None,
    });
    parts.collect()
}

/// A whiteout; a socket, which no layer keeps, hides as well and shows as little.
pub(super) fn hides(metadata: &Metadata) -> bool {
    metadata.kind == Kind::Socket || (metadata.kind == Kind::CharDevice && metadata.rdev == 0)
}

pub(super) fn is_opaque(fd: &OwnedFd) -> bool {
    let mut value = [0_u8; 4];
    OPAQUE_MARKS
        .iter()
        .any(|mark| rustix::fs::fgetxattr(fd, *mark, &mut value).is_ok_and(|length| value.get(..length) == Some(b"y")))
}

/// Opens a path below a directory; none of its parts may be a link, but for the last one with `PATH` and `NOFOLLOW`.
pub(super) fn open_below(root: &OwnedFd, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS;
    loop {
        match rustix::fs::openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other,
        }
    }
}
