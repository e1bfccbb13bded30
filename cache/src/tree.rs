//! The one place that turns foreign names into host files: a directory that is walked by descriptor.
//!
//! Every path is resolved by `openat2` with RESOLVE_IN_ROOT and NO_MAGICLINKS: `..` and absolute links end at the root of
//! the tree, whatever the tree's author wrote, and a rename during the walk cannot lead out.

mod attributes;
mod copy;
mod metadata;
mod names;
mod write;

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

pub(crate) use attributes::{give, give_new, kept_xattr, own, set_time, set_xattr, times, xattrs};
pub(crate) use copy::copy_file;
pub use metadata::{Attributes, Kind, Metadata, Owner};
pub(crate) use metadata::{look, look_bare, metadata, metadata_of};
pub(crate) use names::{Names, read_directory};

use crate::error::{Error, Result};
use crate::owner;
use crate::shift::IdShift;

/// Whether the last part of a path is followed when it is a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Follow {
    /// Inside the root.
    Yes,
    /// The link itself.
    No,
}

/// All of a file's bytes, when they are no more than `limit`; `path` is how messages call it.
pub(crate) fn bounded(file: File, path: &Path, limit: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(Error::path("read", path))?;
    if bytes.len() as u64 > limit {
        return Err(Error::Limit(format!("{} is larger than {limit} bytes", path.display())));
    }
    Ok(bytes)
}

/// A directory whose content is foreign.
#[derive(Debug)]
pub struct TreeRoot {
    fd: OwnedFd,
    /// How paths are resolved below it.
    resolve: ResolveFlags,
    /// Whose owners it has.
    shift: Option<IdShift>,
}

/// Links are followed, and end at the root.
const INSIDE: ResolveFlags = ResolveFlags::IN_ROOT.union(ResolveFlags::NO_MAGICLINKS);

/// The directory of an entry: the root itself is not opened again.
enum Parent<'a> {
    Root(BorrowedFd<'a>),
    Below(OwnedFd),
}

impl AsFd for Parent<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Parent::Root(fd) => *fd,
            Parent::Below(fd) => fd.as_fd(),
        }
    }
}

impl TreeRoot {
    /// Of a directory that we, or the user on the command line, named.
    ///
    /// # Errors
    /// When it cannot be opened as a directory.
    pub fn open(path: &Path) -> Result<TreeRoot> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(Error::errno("open", path))?;
        Ok(TreeRoot { fd, resolve: INSIDE, shift: None })
    }

    /// Of an open directory or detached mount.
    ///
    /// # Errors
    /// When no descriptor is left.
    pub fn from_fd(fd: impl AsFd) -> Result<TreeRoot> {
        let fd = fd.as_fd().try_clone_to_owned().map_err(Error::path("open", "a directory"))?;
        Ok(TreeRoot { fd, resolve: INSIDE, shift: None })
    }

    /// A directory of this tree as a root of its own.
    ///
    /// # Errors
    /// When it is not there.
    pub fn subtree(&self, path: &Path) -> Result<TreeRoot> {
        Ok(TreeRoot { fd: self.directory(path)?, resolve: self.resolve, shift: self.shift })
    }

    /// The same tree, in which no directory of a path may be a link: for walks of a tree that others change meanwhile.
    #[must_use]
    pub fn without_links(self) -> TreeRoot {
        TreeRoot { resolve: self.resolve | ResolveFlags::NO_SYMLINKS, ..self }
    }

    /// The same tree, of a user namespace of others, whose owners are given and shown as those in it have them.
    #[must_use]
    pub fn with_ids(self, shift: IdShift) -> TreeRoot {
        TreeRoot { shift: Some(shift), ..self }
    }

    fn shown(&self, mut metadata: Metadata) -> Metadata {
        if let Some(shift) = self.shift {
            shift.inward(&mut metadata);
        }
        metadata
    }

    pub(crate) fn given(&self, owner: Owner) -> Owner {
        self.shift.map_or(owner, |shift| shift.outward(owner))
    }

    pub(crate) fn given_all<'a>(&self, attributes: &'a Attributes) -> Cow<'a, Attributes> {
        self.shift.map_or(Cow::Borrowed(attributes), |shift| Cow::Owned(shift.outward_all(attributes)))
    }

    /// The directory itself, open for reading.
    pub(crate) fn reopened(&self) -> Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::openat(&self.fd, ".", flags, Mode::empty()).map_err(Error::errno("open", "a directory"))
    }

    /// What is at a name in this directory itself.
    pub(crate) fn look(&self, name: &OsStr) -> rustix::io::Result<Option<Metadata>> {
        Ok(look(&self.fd, name)?.map(|found| self.shown(found)))
    }

    /// This directory itself, to be read.
    pub(crate) fn readable(&self) -> Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        self.resolve(Path::new(""), flags).map_err(Error::errno("read", "a directory"))
    }

    /// The names in this directory itself.
    pub(crate) fn names(&self) -> Result<Names> {
        Names::of(self.readable()?).map_err(Error::errno("read", "a directory"))
    }

    /// A handle on what is at a path, links followed inside the root: good for mounting it, not for reading.
    ///
    /// # Errors
    /// When it is not there.
    pub fn handle(&self, path: &Path) -> Result<OwnedFd> {
        self.resolve(path, OFlags::PATH).map_err(Error::errno("open", path))
    }

    pub(crate) fn resolve(&self, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        loop {
            match rustix::fs::openat2(&self.fd, path, flags | OFlags::CLOEXEC, Mode::empty(), self.resolve) {
                // A rename somewhere on the way: the kernel asks to walk again.
                Err(Errno::AGAIN | Errno::INTR) => {}
                other => return other,
            }
        }
    }

    fn directory(&self, path: &Path) -> Result<OwnedFd> {
        self.resolve(path, OFlags::PATH | OFlags::DIRECTORY).map_err(Error::errno("open", path))
    }

    /// The directory that holds `path`, and its last name.
    fn parent<'p>(&self, path: &'p Path) -> Result<(Parent<'_>, &'p OsStr)> {
        let Some(name) = path.file_name() else {
            return Err(Error::Tree { path: path.to_owned(), reason: "is the root itself".to_owned() });
        };
        match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => Ok((Parent::Below(self.directory(parent)?), name)),
            _ => Ok((Parent::Root(self.fd.as_fd()), name)),
        }
    }

    /// What is at a path, if anything.
    ///
    /// # Errors
    /// When it cannot be looked at.
    pub fn metadata(&self, path: &Path, follow: Follow) -> Result<Option<Metadata>> {
        let flags = match follow {
            Follow::Yes => OFlags::PATH,
            Follow::No => OFlags::PATH | OFlags::NOFOLLOW,
        };
        match self.resolve(path, flags) {
            Ok(fd) => {
                let mut found = metadata(&rustix::fs::fstat(&fd).map_err(Error::errno("read", path))?);
                owner::amend(&mut found, &fd).map_err(Error::errno("read", path))?;
                if found.kind == Kind::Symlink {
                    let (parent, name) = self.parent(path)?;
                    owner::amend_entry(&mut found, &parent, name).map_err(Error::errno("read", path))?;
                }
                Ok(Some(self.shown(found)))
            }
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(errno) => Err(Error::errno("read", path)(errno)),
        }
    }

    /// Names and metadata of a directory's entries, in byte order; links are not followed.
    ///
    /// # Errors
    /// When it is no directory or cannot be read.
    pub fn read_dir(&self, path: &Path) -> Result<Vec<(OsString, Metadata)>> {
        let fd = self.resolve(path, OFlags::RDONLY | OFlags::DIRECTORY).map_err(Error::errno("read", path))?;
        let entries = read_directory(fd).map_err(Error::errno("read", path))?;
        Ok(match self.shift {
            Some(_) => entries.into_iter().map(|(name, found)| (name, self.shown(found))).collect(),
            None => entries,
        })
    }

    /// Opens a regular file for reading, links followed inside the root.
    ///
    /// # Errors
    /// When it is not there or is no regular file: a device or pipe is never opened.
    pub fn open_file(&self, path: &Path) -> Result<File> {
        let fd = self
            .resolve(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)
            .map_err(Error::errno("open", path))?;
        let stat = rustix::fs::fstat(&fd).map_err(Error::errno("read", path))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(Error::Tree { path: path.to_owned(), reason: "is not a regular file".to_owned() });
        }
        Ok(File::from(fd))
    }

    /// The content of a small regular file; `None` when nothing is there.
    ///
    /// # Errors
    /// When it is larger than `limit`, or no regular file.
    pub fn read_file(&self, path: &Path, limit: u64) -> Result<Option<Vec<u8>>> {
        if self.metadata(path, Follow::Yes)?.is_none() {
            return Ok(None);
        }
        bounded(self.open_file(path)?, path, limit).map(Some)
    }

    /// Where a link points.
    ///
    /// # Errors
    /// When it is no link.
    pub fn read_link(&self, path: &Path) -> Result<OsString> {
        let (parent, name) = self.parent(path)?;
        let link = rustix::fs::readlinkat(&parent, name, Vec::new()).map_err(Error::errno("read", path))?;
        Ok(OsString::from_vec(link.into_bytes()))
    }

    /// The extended attributes of a file or directory that images keep: capabilities and the user's. Links are followed
    /// inside the root.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn xattrs(&self, path: &Path) -> Result<Vec<(OsString, Vec<u8>)>> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let fd = self.resolve(path, flags).map_err(Error::errno("open", path))?;
        let mut found = xattrs(&fd).map_err(Error::errno("read the attributes of", path))?;
        if let Some(shift) = self.shift {
            shift.inward_xattrs(&mut found);
        }
        Ok(found)
    }
}

/// A relative path from foreign text: no root, no `.`; `None` when it has `..` and so may leave the tree.
pub(crate) fn relative(bytes: &[u8]) -> Option<PathBuf> {
    let mut path = PathBuf::new();
    for part in bytes.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => return None,
            name => path.push(OsStr::from_bytes(name)),
        }
    }
    Some(path)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::Write;

    use super::*;

    fn attributes() -> Attributes {
        let owner = Owner { uid: rustix::process::getuid().as_raw(), gid: rustix::process::getgid().as_raw() };
        Attributes { mode: 0o640, owner, mtime_ns: 1_500_000_000_000_000_000, xattrs: Vec::new() }
    }

    #[test]
    fn security_t03_links_end_at_the_root() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("outside"), "host").unwrap();
        let inner = directory.path().join("tree");
        std::fs::create_dir_all(inner.join("etc")).unwrap();
        std::fs::write(inner.join("etc/hostname"), "inside").unwrap();
        std::os::unix::fs::symlink("/etc", inner.join("absolute")).unwrap();
        std::os::unix::fs::symlink("../../..", inner.join("up")).unwrap();
        let root = TreeRoot::open(&inner).unwrap();
        assert_eq!(root.read_file(Path::new("absolute/hostname"), 100).unwrap().unwrap(), b"inside");
        assert_eq!(root.read_file(Path::new("up/outside"), 100).unwrap(), None);
        assert_eq!(root.read_file(Path::new("../outside"), 100).unwrap(), None);
        root.write_bytes(Path::new("up/new"), b"x", &attributes()).unwrap();
        assert!(inner.join("new").exists() && !directory.path().join("new").exists());
    }

    #[test]
    fn files_are_replaced_and_links_are_never_written_through() {
        let directory = tempfile::tempdir().unwrap();
        let inner = directory.path().join("tree");
        std::fs::create_dir(&inner).unwrap();
        std::fs::write(inner.join("target"), "old").unwrap();
        std::os::unix::fs::symlink("target", inner.join("link")).unwrap();
        let root = TreeRoot::open(&inner).unwrap();
        root.write_bytes(Path::new("link"), b"new", &attributes()).unwrap();
        assert_eq!(std::fs::read(inner.join("target")).unwrap(), b"old");
        let metadata = root.metadata(Path::new("link"), Follow::No).unwrap().unwrap();
        assert_eq!((metadata.kind, metadata.mode, metadata.mtime_ns), (Kind::File, 0o640, 1_500_000_000_000_000_000));
        std::fs::create_dir(inner.join("d")).unwrap();
        assert!(root.write_bytes(Path::new("d"), b"x", &attributes()).is_err());
        assert!(root.make_dir(Path::new("link"), &attributes()).is_err());
    }

    #[test]
    fn builder_c31_holes_stay_holes() {
        use std::os::unix::fs::MetadataExt;
        let directory = tempfile::tempdir().unwrap();
        let source = directory.path().join("sparse");
        let mut file = File::create(&source).unwrap();
        file.set_len(1 << 30).unwrap();
        file.write_all(&[1; 4096]).unwrap();
        let root = TreeRoot::open(directory.path()).unwrap();
        let written = root.write_file(Path::new("copy"), &mut File::open(&source).unwrap(), &attributes()).unwrap();
        assert_eq!(written, 1 << 30);
        let copy = std::fs::metadata(directory.path().join("copy")).unwrap();
        assert_eq!(copy.len(), 1 << 30);
        assert!(copy.blocks() * 512 < 1 << 20, "{} blocks", copy.blocks());
    }

    #[test]
    fn trees_are_removed_without_following_links() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(directory.path().join("keep")).unwrap();
        std::fs::write(directory.path().join("keep/f"), "").unwrap();
        std::fs::create_dir_all(directory.path().join("tree/a/b")).unwrap();
        std::os::unix::fs::symlink("../../keep", directory.path().join("tree/a/l")).unwrap();
        let root = TreeRoot::open(directory.path()).unwrap();
        root.remove_all(Path::new("tree")).unwrap();
        assert!(!directory.path().join("tree").exists() && directory.path().join("keep/f").exists());
    }
}
