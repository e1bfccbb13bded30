//! The copy driver: the merged view of layers as a plain directory. Whiteouts are applied, never made.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::time::{ClockId, clock_gettime};

use super::canonical::restore_time;
use super::diff::{give, give_name};
use super::merged::{MergedTree, Node, open_below};
use super::scan::{Scanned, scan};
use crate::error::{Error, Result};
use crate::tree::{Kind, copy_file, xattrs};

/// Most threads of a copy: a disk serves no more, and each holds a few descriptors.
const THREADS: usize = 8;
/// Longest time that a file system's clock may stand still.
const TICK_LIMIT: u32 = 50;

/// Fills the empty directory `target` with what `tree` shows.
pub(super) fn copy_tree(tree: &MergedTree, target: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(target, flags, Mode::empty()).map_err(Error::errno("open", target))?;
    copy_into(tree, &root)?;
    Ok(root)
}

/// The same of one that is open.
pub(crate) fn copy_into(tree: &MergedTree, root: &OwnedFd) -> Result<()> {
    if tree.is_empty() {
        return Ok(());
    }
    let copier = Copier { tree, root, shared: Mutex::default() };
    let layers = tree.root()?.layers.clone();
    pool()?.scope(|scope| copier.spawn(scope, PathBuf::new(), layers));
    copier.finish()
}

/// What a copy is before anything runs in it. Later changes cannot hide: they move ctime beyond all that is here.
pub(super) fn record(root: &OwnedFd) -> Result<Scanned> {
    let scanned = scan(root)?;
    let newest = newest(&scanned);
    for _ in 0..TICK_LIMIT {
        let now = clock_gettime(ClockId::RealtimeCoarse);
        if now.tv_sec.saturating_mul(1_000_000_000).saturating_add(now.tv_nsec) > newest {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    Ok(scanned)
}

fn newest(scanned: &Scanned) -> i64 {
    scanned.children.values().map(newest).fold(scanned.metadata.ctime_ns, i64::max)
}

fn pool() -> Result<rayon::ThreadPool> {
    let threads = rayon::current_num_threads().min(THREADS);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    pool.map_err(|error| Error::path("copy with threads into", "a snapshot")(std::io::Error::other(error)))
}

struct Copier<'a> {
    tree: &'a MergedTree,
    root: &'a OwnedFd,
    shared: Mutex<Shared>,
}

#[derive(Default)]
struct Shared {
    /// The first copied name of each file that has several, by layer, device and inode.
    first_names: HashMap<(usize, u64, u64), PathBuf>,
    /// Names to give to files that are copied under another: first name, name.
    links: Vec<(PathBuf, PathBuf)>,
    /// Times of directories: set last, since what is put into them changes them.
    times: Vec<(PathBuf, i64)>,
    error: Option<Error>,
}

impl<'a> Copier<'a> {
    /// One job for each directory; the first error ends them all.
    fn spawn<'s>(&'s self, scope: &rayon::Scope<'s>, path: PathBuf, layers: Vec<usize>)
    where
        'a: 's,
    {
        scope.spawn(move |scope| {
            if self.shared().error.is_some() {
                return;
            }
            if let Err(error) = self.directory(scope, path, layers) {
                self.shared().error.get_or_insert(error);
            }
        });
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn directory<'s>(&'s self, scope: &rayon::Scope<'s>, path: PathBuf, layers: Vec<usize>) -> Result<()>
    where
        'a: 's,
    {
        let top = *layers.first().unwrap_or(&0);
        let source = self.tree.open(top, &path, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let target = self.open(&path)?;
        let metadata = crate::tree::metadata_of(&source).map_err(Error::errno("read", &path))?;
        // The root of an overlay is its upper directory, whatever the layers say of theirs.
        if !path.as_os_str().is_empty() {
            let attributes = xattrs(&source).map_err(Error::errno("read the attributes of", &path))?;
            give(&target, &metadata, &attributes).map_err(Error::errno("set the attributes of", &path))?;
        }
        drop(source);
        self.shared().times.push((path.clone(), metadata.mtime_ns));
        let here = super::merged::Directory { path: path.clone(), layers };
        let mut entries = self.tree.list(&here)?;
        for (name, node) in entries.extract_if(.., |(_, node)| node.metadata.kind == Kind::Directory) {
            rustix::fs::mkdirat(&target, &name, Mode::RWXU).map_err(Error::errno("make", path.join(&name)))?;
            self.spawn(scope, path.join(name), node.layers);
        }
        self.files(&path, &target, entries)
    }

    /// Layer by layer, so that one directory of one layer is open at a time.
    fn files(&self, path: &Path, target: &OwnedFd, mut entries: Vec<(OsString, Node)>) -> Result<()> {
        entries.sort_by_key(|(_, node)| node.layer);
        let mut source: Option<(usize, OwnedFd)> = None;
        for (name, node) in &entries {
            let from = match source.take() {
                Some((layer, fd)) if layer == node.layer => fd,
                _ => self.tree.open(node.layer, path, OFlags::RDONLY | OFlags::DIRECTORY)?,
            };
            self.entry(&path.join(name), &from, target, node)?;
            source = Some((node.layer, from));
        }
        Ok(())
    }

    fn entry(&self, path: &Path, from: &OwnedFd, target: &OwnedFd, node: &Node) -> Result<()> {
        let name = path.file_name().unwrap_or_default();
        let metadata = &node.metadata;
        let kind = match metadata.kind {
            Kind::File => return self.file(path, from, target, node),
            Kind::Symlink => {
                let link = rustix::fs::readlinkat(from, name, Vec::new()).map_err(Error::errno("read", path))?;
                rustix::fs::symlinkat(&link, target, name).map_err(Error::errno("make", path))?;
                return give_name(target, name, metadata).map_err(Error::errno("set the attributes of", path));
            }
            Kind::CharDevice => FileType::CharacterDevice,
            Kind::BlockDevice => FileType::BlockDevice,
            Kind::Fifo => FileType::Fifo,
            Kind::Directory | Kind::Socket => return Ok(()),
        };
        rustix::fs::mknodat(target, name, kind, Mode::RUSR | Mode::WUSR, metadata.rdev)
            .map_err(Error::errno("make", path))?;
        give_name(target, name, metadata).map_err(Error::errno("set the attributes of", path))
    }

    fn file(&self, path: &Path, from: &OwnedFd, target: &OwnedFd, node: &Node) -> Result<()> {
        if node.metadata.nlink > 1 && !self.claim(path, node) {
            return Ok(());
        }
        let name = path.file_name().unwrap_or_default();
        let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NOCTTY;
        let source = rustix::fs::openat(from, name, flags | OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty())
            .map_err(Error::errno("open", path))?;
        let flags = flags | OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        let copy =
            rustix::fs::openat(target, name, flags, Mode::RUSR | Mode::WUSR).map_err(Error::errno("write", path))?;
        let attributes = xattrs(&source).map_err(Error::errno("read the attributes of", path))?;
        let (mut source, mut copy) = (File::from(source), File::from(copy));
        copy_file(&mut source, &mut copy).map_err(Error::path("write", path))?;
        give(&copy.into(), &node.metadata, &attributes).map_err(Error::errno("set the attributes of", path))
    }

    /// Whether this name is the one under which a file of several names is copied; the others are linked at the end.
    fn claim(&self, path: &Path, node: &Node) -> bool {
        let key = (node.layer, node.metadata.dev, node.metadata.ino);
        let mut shared = self.shared();
        if let Some(first) = shared.first_names.get(&key).cloned() {
            shared.links.push((first, path.to_owned()));
            return false;
        }
        shared.first_names.insert(key, path.to_owned());
        true
    }

    fn finish(self) -> Result<()> {
        let shared = self.shared.into_inner().unwrap_or_else(PoisonError::into_inner);
        if let Some(error) = shared.error {
            return Err(error);
        }
        let open = |path: &Path| {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY;
            open_below(self.root, path, flags).map_err(Error::errno("open", path))
        };
        for (first, path) in &shared.links {
            let parent = |path: &Path| open(path.parent().unwrap_or(Path::new("")));
            let name = |path: &'_ Path| path.file_name().unwrap_or_default().to_owned();
            rustix::fs::linkat(parent(first)?, name(first), parent(path)?, name(path), AtFlags::empty())
                .map_err(Error::errno("link", path))?;
        }
        for (path, mtime_ns) in &shared.times {
            restore_time(&open(path)?, path, *mtime_ns)?;
        }
        Ok(())
    }

    fn open(&self, path: &Path) -> Result<OwnedFd> {
        open_below(self.root, path, OFlags::RDONLY | OFlags::DIRECTORY).map_err(Error::errno("open", path))
    }
}
