//! The directories of a tree that is being unpacked: open descriptors of those in use, and what each is given at the end.
//!
//! Only the extractor writes below the root. A directory is opened name by name from one that is open already, never
//! through a link; where the archive leads through a link, the link is resolved inside the root, part by part.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::read::OPAQUE;
use crate::error::{Error, Result};
use crate::tree::{Attributes, Follow, Kind, Metadata, Owner, TreeRoot, give, look, set_xattr};

/// Descriptors that are kept.
const OPEN: usize = 128;
/// Longest path without links: it must be openable again, also below another name.
const LONGEST: usize = 4000;
/// Links in one path (the kernel's own limit).
const LINKS: usize = 40;

/// An open directory, under its path without links.
#[derive(Debug)]
pub(crate) struct Directory {
    pub(crate) fd: OwnedFd,
    pub(crate) path: PathBuf,
}

impl Directory {
    /// What is at a name, if anything.
    pub(crate) fn look(&self, name: &OsStr) -> Result<Option<Metadata>> {
        look(&self.fd, name).map_err(|errno| self.failed("read", name)(errno))
    }

    pub(crate) fn failed(&self, doing: &'static str, name: &OsStr) -> impl FnOnce(Errno) -> Error {
        Error::errno(doing, self.path.join(name))
    }
}

/// What a directory is given when nothing is written into it any more.
#[derive(Debug, Clone, Default)]
struct Pending {
    mode: Option<u32>,
    owner: Owner,
    mtime_ns: Option<i64>,
    xattrs: Vec<(OsString, Vec<u8>)>,
    opaque: bool,
}

/// All directories of one tree.
#[derive(Debug)]
pub(crate) struct Directories<'r> {
    root: &'r TreeRoot,
    /// Of directories that the archive does not name.
    owner: Owner,
    /// By path as the archive spells it.
    open: HashMap<PathBuf, Rc<Directory>>,
    last: Option<(PathBuf, Rc<Directory>)>,
    /// By path without links.
    pending: BTreeMap<PathBuf, Pending>,
}

impl<'r> Directories<'r> {
    pub(crate) fn new(root: &'r TreeRoot, owner: Owner) -> Self {
        Directories { root, owner, open: HashMap::new(), last: None, pending: BTreeMap::new() }
    }

    /// Opens a directory, and makes it with all above it where it is missing.
    pub(crate) fn at(&mut self, path: &Path) -> Result<Rc<Directory>> {
        if let Some((_, directory)) = self.last.as_ref().filter(|(last, _)| last == path) {
            return Ok(Rc::clone(directory));
        }
        let mut missing = Vec::new();
        let mut above = Some(path);
        let mut directory = loop {
            match above {
                Some(path) if !path.as_os_str().is_empty() => match self.open.get(path) {
                    Some(directory) => break Rc::clone(directory),
                    None => missing.push(path),
                },
                _ => break self.top()?,
            }
            above = above.and_then(Path::parent);
        };
        for path in missing.into_iter().rev() {
            let name = path.file_name().unwrap_or_default();
            directory = Rc::new(self.child(&directory, name, path)?);
            self.keep(path, &directory);
        }
        self.last = Some((path.to_owned(), Rc::clone(&directory)));
        Ok(directory)
    }

    fn top(&mut self) -> Result<Rc<Directory>> {
        if let Some(directory) = self.open.get(Path::new("")) {
            return Ok(Rc::clone(directory));
        }
        let fd =
            self.root.resolve(Path::new(""), OFlags::PATH | OFlags::DIRECTORY).map_err(Error::errno("open", "/"))?;
        let directory = Rc::new(Directory { fd, path: PathBuf::new() });
        self.keep(Path::new(""), &directory);
        Ok(directory)
    }

    fn keep(&mut self, path: &Path, directory: &Rc<Directory>) {
        // Streams go through a tree branch by branch: what was open long ago is seldom asked for again.
        if self.open.len() >= OPEN {
            self.open.clear();
        }
        self.open.insert(path.to_owned(), Rc::clone(directory));
    }

    fn child(&mut self, parent: &Directory, name: &OsStr, spelled: &Path) -> Result<Directory> {
        let path = joined(&parent.path, name)?;
        match open_child(parent, name) {
            Ok(fd) => Ok(Directory { fd, path }),
            Err(Errno::NOENT) => {
                self.make(parent, name, &path)?;
                let fd = open_child(parent, name).map_err(Error::errno("open", &path))?;
                Ok(Directory { fd, path })
            }
            Err(Errno::NOTDIR | Errno::LOOP) => match parent.look(name)? {
                Some(there) if there.kind == Kind::Symlink => self.through_links(&path, spelled),
                _ => Err(Error::archive(spelled.as_os_str().as_bytes(), "its parent is no directory")),
            },
            Err(errno) => Err(Error::errno("open", &path)(errno)),
        }
    }

    fn make(&mut self, parent: &Directory, name: &OsStr, path: &Path) -> Result<()> {
        rustix::fs::mkdirat(&parent.fd, name, Mode::RWXU).map_err(Error::errno("make the directory", path))?;
        let pending = Pending { mode: Some(0o755), owner: self.owner, ..Pending::default() };
        self.pending.insert(path.to_owned(), pending);
        Ok(())
    }

    /// Nothing is made behind a link: it must lead to a directory that is there.
    fn through_links(&self, link: &Path, spelled: &Path) -> Result<Directory> {
        let refused = |reason: &str| Error::archive(spelled.as_os_str().as_bytes(), reason);
        let path = self.resolved(link)?.ok_or_else(|| refused("its path has too many links"))?;
        match self.root.resolve(&path, OFlags::PATH | OFlags::DIRECTORY) {
            Ok(fd) => Ok(Directory { fd, path }),
            Err(Errno::NOENT | Errno::NOTDIR) => Err(refused("its path leads through a link to no directory")),
            Err(errno) => Err(Error::errno("open", path)(errno)),
        }
    }

    /// A path without its links; absolute ones and `..` end at the root. `None` when there are too many.
    fn resolved(&self, path: &Path) -> Result<Option<PathBuf>> {
        let mut done = PathBuf::new();
        let mut left: Vec<OsString> = parts(path.as_os_str().as_bytes());
        let mut links = 0;
        while let Some(part) = left.pop() {
            match part.as_bytes() {
                b"" | b"." => continue,
                b".." => {
                    done.pop();
                    continue;
                }
                _ => {}
            }
            let next = joined(&done, &part)?;
            match self.root.metadata(&next, Follow::No)? {
                Some(there) if there.kind == Kind::Symlink => {
                    links += 1;
                    if links > LINKS {
                        return Ok(None);
                    }
                    let target = self.root.read_link(&next)?;
                    if target.as_bytes().starts_with(b"/") {
                        done.clear();
                    }
                    left.extend(parts(target.as_bytes()));
                }
                _ => done = next,
            }
        }
        Ok(Some(done))
    }

    /// A directory that is there, or was just made, gets these attributes at the end.
    pub(crate) fn give(&mut self, path: PathBuf, attributes: &Attributes) {
        let pending = self.pending.entry(path).or_default();
        *pending = Pending {
            mode: Some(attributes.mode),
            owner: attributes.owner,
            mtime_ns: Some(attributes.mtime_ns),
            xattrs: attributes.xattrs.clone(),
            opaque: pending.opaque,
        };
    }

    /// A directory hides what lower layers have in its place.
    pub(crate) fn make_opaque(&mut self, path: PathBuf) {
        self.pending.entry(path).or_default().opaque = true;
    }

    /// Something that may be a directory, or a link to one, is no longer at its path.
    pub(crate) fn forget(&mut self, path: &Path) {
        self.open.clear();
        self.last = None;
        let below = self.pending.range(path.to_owned()..).map(|(below, _)| below);
        let gone: Vec<PathBuf> = below.take_while(|below| below.starts_with(path)).cloned().collect();
        for path in gone {
            self.pending.remove(&path);
        }
    }

    /// Gives every directory what it was to be given: children first.
    pub(crate) fn finish(mut self) -> Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        for (path, pending) in std::mem::take(&mut self.pending).into_iter().rev() {
            let fd = match (path.parent(), path.file_name()) {
                (Some(parent), Some(name)) => {
                    let parent = self.at(parent)?;
                    rustix::fs::openat(&parent.fd, name, flags, Mode::empty())
                }
                _ => self.root.resolve(&path, OFlags::RDONLY | OFlags::DIRECTORY),
            };
            let fd = fd.map_err(Error::errno("open", &path))?;
            if pending.opaque {
                set_xattr(&fd, OsStr::new(OPAQUE), b"y", &path)?;
            }
            let Some(mode) = pending.mode else { continue };
            let mtime_ns = match pending.mtime_ns {
                Some(mtime_ns) => mtime_ns,
                None => crate::tree::metadata(&rustix::fs::fstat(&fd).map_err(Error::errno("read", &path))?).mtime_ns,
            };
            give(&fd, &Attributes { mode, owner: pending.owner, mtime_ns, xattrs: pending.xattrs }, &path)?;
        }
        Ok(())
    }
}

/// Appends a name to a path that must stay openable.
pub(crate) fn joined(path: &Path, name: &OsStr) -> Result<PathBuf> {
    if path.as_os_str().len() + 1 + name.len() > LONGEST {
        return Err(Error::Limit(format!("a path of more than {LONGEST} bytes")));
    }
    Ok(path.join(name))
}

fn open_child(parent: &Directory, name: &OsStr) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(&parent.fd, name, flags, Mode::empty())
}

/// The parts of a path, last first.
fn parts(path: &[u8]) -> Vec<OsString> {
    path.rsplit(|byte| *byte == b'/').map(|part| OsString::from_vec(part.to_vec())).collect()
}
