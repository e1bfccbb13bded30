//! The one place that turns foreign names into host files: a directory that is walked by descriptor.
//!
//! Every path is resolved by `openat2` with RESOLVE_IN_ROOT and NO_MAGICLINKS: `..` and absolute links end at the root of
//! the tree, whatever the tree's author wrote, and a rename during the walk cannot lead out.

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, RawDir, ResolveFlags, Stat, Timespec, Timestamps, XattrFlags};
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::failpoint::failpoint;
use crate::owner;
use crate::shift::IdShift;

/// Largest set of attribute names, and largest attribute, that is read (the kernel's own limits).
const XATTR_LIMIT: usize = 64 * 1024;

/// Whether the last part of a path is followed when it is a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Follow {
    /// Inside the root.
    Yes,
    /// The link itself.
    No,
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the variants are the kernel's own names")]
pub enum Kind {
    File,
    Directory,
    Symlink,
    CharDevice,
    BlockDevice,
    Fifo,
    Socket,
}

/// What the kernel says of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    /// What it is.
    pub kind: Kind,
    /// Permission bits, set-id bits and the sticky bit.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Bytes.
    pub size: u64,
    /// Nanoseconds since 1970.
    pub mtime_ns: i64,
    /// Nanoseconds since 1970.
    pub ctime_ns: i64,
    /// Device of the file system.
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
    /// Hard links.
    pub nlink: u64,
    /// Device number of a device.
    pub rdev: u64,
    /// Bytes on the disk.
    pub disk_bytes: u64,
}

impl Metadata {
    pub(crate) fn owner(&self) -> Owner {
        Owner { uid: self.uid, gid: self.gid }
    }
}

/// Numeric owner and group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Owner {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// What an entry is given when it is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attributes {
    /// Permission bits, set-id bits and the sticky bit.
    pub mode: u32,
    /// Owner and group.
    pub owner: Owner,
    /// Nanoseconds since 1970.
    pub mtime_ns: i64,
    /// Extended attributes.
    pub xattrs: Vec<(OsString, Vec<u8>)>,
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

    /// Gives a file of another tree the same name in this directory.
    pub(crate) fn link_from(&self, other: &TreeRoot, name: &OsStr) -> rustix::io::Result<()> {
        rustix::fs::linkat(&other.fd, name, &self.fd, name, AtFlags::empty())
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

    /// Makes a directory and all that is missing above it. What exists stays as it is; links are followed inside the root.
    ///
    /// # Errors
    /// When something on the way is no directory.
    pub fn make_dirs(&self, path: &Path, mode: u32, owner: Owner) -> Result<()> {
        match self.resolve(path, OFlags::PATH | OFlags::DIRECTORY) {
            Ok(_) => return Ok(()),
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(Error::errno("make the directory", path)(errno)),
        }
        let parent = path.parent().unwrap_or(Path::new(""));
        self.make_dirs(parent, mode, owner)?;
        let (parent, name) = self.parent(path)?;
        match rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(mode)) {
            Ok(()) => {}
            // A link to nowhere, or another thread was faster.
            Err(Errno::EXIST) => return self.directory(path).map(drop),
            Err(errno) => return Err(Error::errno("make the directory", path)(errno)),
        }
        own(&parent, name, self.given(owner)).map_err(Error::errno("own", path))?;
        rustix::fs::chmodat(&parent, name, Mode::from_raw_mode(mode), AtFlags::empty())
            .map_err(Error::errno("set the mode of", path))
    }

    /// Makes a directory, or takes the one that is there, and gives it these attributes.
    ///
    /// # Errors
    /// When something else is there.
    pub fn make_dir(&self, path: &Path, attributes: &Attributes) -> Result<()> {
        let (parent, name) = self.parent(path)?;
        failpoint("tree.directory")?;
        match rustix::fs::mkdirat(&parent, name, Mode::RWXU) {
            Ok(()) => {}
            Err(Errno::EXIST) => match self.metadata(path, Follow::Yes)? {
                Some(metadata) if metadata.kind == Kind::Directory => {}
                _ => return Err(conflict(path, "a directory", "what is there is none")),
            },
            Err(errno) => return Err(Error::errno("make the directory", path)(errno)),
        }
        self.set_attributes(path, attributes)
    }

    /// Writes a regular file in place of what is there, never through a link. Gives the bytes written; holes stay holes.
    ///
    /// # Errors
    /// When a directory is there, or the disk fails.
    pub fn write_file(&self, path: &Path, source: &mut File, attributes: &Attributes) -> Result<u64> {
        self.write_with(path, attributes, |target| copy_file(source, target))
    }

    /// The same from memory.
    ///
    /// # Errors
    /// When a directory is there, or the disk fails.
    pub fn write_bytes(&self, path: &Path, bytes: &[u8], attributes: &Attributes) -> Result<u64> {
        self.write_with(path, attributes, |target| target.write_all(bytes).map(|()| bytes.len() as u64))
    }

    /// The same from a stream.
    ///
    /// # Errors
    /// When a directory is there, or either side fails.
    pub fn write_stream(&self, path: &Path, source: &mut dyn Read, attributes: &Attributes) -> Result<u64> {
        self.write_with(path, attributes, |target| io::copy(source, target))
    }

    fn write_with(
        &self,
        path: &Path,
        attributes: &Attributes,
        fill: impl FnOnce(&mut File) -> io::Result<u64>,
    ) -> Result<u64> {
        let (parent, name) = self.parent(path)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(attributes.mode & 0o777);
        let open = || rustix::fs::openat(&parent, name, flags, mode);
        let fd = match open() {
            Err(Errno::EXIST) => {
                remove_one(&parent, name, path)?;
                open()
            }
            other => other,
        };
        let mut file = File::from(fd.map_err(Error::errno("write", path))?);
        failpoint("tree.write")?;
        let written = fill(&mut file).map_err(Error::path("write", path))?;
        failpoint("tree.attributes")?;
        let stat = rustix::fs::fstat(&file).map_err(Error::errno("read", path))?;
        let given = (Owner { uid: stat.st_uid, gid: stat.st_gid }, stat.st_mode & 0o7777);
        give_new(&file, &self.given_all(attributes), Some(given), path)?;
        Ok(written)
    }

    /// Makes a symbolic link in place of what is there.
    ///
    /// # Errors
    /// When a directory is there.
    pub fn symlink(&self, link: &OsStr, path: &Path, attributes: &Attributes) -> Result<()> {
        let (parent, name) = self.parent(path)?;
        let make = || rustix::fs::symlinkat(link, &parent, name);
        replace(&parent, name, path, make)?;
        own(&parent, name, self.given(attributes.owner)).map_err(Error::errno("own", path))?;
        set_time(&parent, name, attributes.mtime_ns).map_err(Error::errno("set the time of", path))
    }

    /// Makes another name for a file of this tree, in place of what is there.
    ///
    /// # Errors
    /// When `existing` is not there or is a directory.
    pub fn hard_link(&self, existing: &Path, path: &Path) -> Result<()> {
        let (from, from_name) = self.parent(existing)?;
        let (parent, name) = self.parent(path)?;
        let make = || rustix::fs::linkat(&from, from_name, &parent, name, AtFlags::empty());
        replace(&parent, name, path, make)
    }

    /// Makes a device or pipe in place of what is there.
    ///
    /// # Errors
    /// When the kernel does not allow it.
    pub fn special(&self, path: &Path, kind: Kind, rdev: u64, attributes: &Attributes) -> Result<()> {
        let file_type = match kind {
            Kind::CharDevice => FileType::CharacterDevice,
            Kind::BlockDevice => FileType::BlockDevice,
            Kind::Fifo => FileType::Fifo,
            Kind::File | Kind::Directory | Kind::Symlink | Kind::Socket => {
                return Err(Error::Tree { path: path.to_owned(), reason: "is no device or pipe".to_owned() });
            }
        };
        let (parent, name) = self.parent(path)?;
        let make = || rustix::fs::mknodat(&parent, name, file_type, Mode::RUSR | Mode::WUSR, rdev);
        replace(&parent, name, path, make)?;
        own(&parent, name, self.given(attributes.owner)).map_err(Error::errno("own", path))?;
        rustix::fs::chmodat(&parent, name, Mode::from_raw_mode(attributes.mode), AtFlags::empty())
            .map_err(Error::errno("set the mode of", path))?;
        set_time(&parent, name, attributes.mtime_ns).map_err(Error::errno("set the time of", path))
    }

    /// Gives an existing file or directory these attributes.
    ///
    /// # Errors
    /// When the kernel does not allow it.
    pub fn set_attributes(&self, path: &Path, attributes: &Attributes) -> Result<()> {
        let fd = self
            .resolve(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)
            .map_err(Error::errno("open", path))?;
        give(&fd, &self.given_all(attributes), path)
    }

    /// Sets the modification time of an existing file or directory.
    ///
    /// # Errors
    /// When the kernel does not allow it.
    pub fn set_times(&self, path: &Path, mtime_ns: i64) -> Result<()> {
        let fd = self
            .resolve(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)
            .map_err(Error::errno("open", path))?;
        rustix::fs::futimens(&fd, &times(mtime_ns)).map_err(Error::errno("set the time of", path))
    }

    /// Takes an entry of another directory into this one, under a name of ours.
    pub(crate) fn take(&self, parent: &OwnedFd, name: &OsStr, to: &str) -> Result<()> {
        rustix::fs::renameat(parent, name, &self.fd, to).map_err(Error::errno("move", name))
    }

    /// Removes what is at a path, with all below it; links are not followed. Nothing there is no error.
    pub(crate) fn remove_all(&self, path: &Path) -> Result<()> {
        let (parent, name) = self.parent(path)?;
        remove_recursively(&parent, name).map_err(Error::errno("remove", path))
    }
}

fn remove_recursively(parent: impl AsFd + Copy, name: &OsStr) -> rustix::io::Result<()> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(errno) => return Err(errno),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = rustix::fs::openat(parent, name, flags, Mode::empty())?;
    let names: Vec<OsString> = names(directory.try_clone().map_err(|_| Errno::MFILE)?)?;
    for child in names {
        remove_recursively(&directory, &child)?;
    }
    rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)
}

fn conflict(path: &Path, wanted: &str, there: &str) -> Error {
    Error::Tree { path: path.to_owned(), reason: format!("cannot become {wanted}: {there}") }
}

/// Removes one file or link that is in the way; a directory is not removed.
fn remove_one(parent: impl AsFd + Copy, name: &OsStr, path: &Path) -> Result<()> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => Err(conflict(path, "a file", "a directory is there")),
        Err(errno) => Err(Error::errno("replace", path)(errno)),
    }
}

fn replace(
    parent: impl AsFd + Copy,
    name: &OsStr,
    path: &Path,
    make: impl Fn() -> rustix::io::Result<()>,
) -> Result<()> {
    let made = match make() {
        Err(Errno::EXIST) => {
            remove_one(parent, name, path)?;
            make()
        }
        other => other,
    };
    made.map_err(Error::errno("make", path))
}

pub(crate) fn own(parent: impl AsFd, name: &OsStr, owner: Owner) -> rustix::io::Result<()> {
    owner::set_entry(parent, name, owner)
}

pub(crate) fn set_time(parent: impl AsFd, name: &OsStr, mtime_ns: i64) -> rustix::io::Result<()> {
    rustix::fs::utimensat(parent, name, &times(mtime_ns), AtFlags::SYMLINK_NOFOLLOW)
}

/// Owner first: changing it clears set-id bits and capabilities.
pub(crate) fn give(fd: impl AsFd, attributes: &Attributes, path: &Path) -> Result<()> {
    give_new(fd, attributes, None, path)
}

/// The same for something new, of which owner and mode may be known: what it has already is not set again.
pub(crate) fn give_new(fd: impl AsFd, attributes: &Attributes, given: Option<(Owner, u32)>, path: &Path) -> Result<()> {
    let failed = || Error::errno("set the attributes of", path);
    if given.is_none_or(|(owner, _)| owner != attributes.owner) {
        owner::set(&fd, attributes.owner).map_err(failed())?;
    }
    if given.is_none_or(|(_, mode)| mode != attributes.mode) {
        rustix::fs::fchmod(&fd, Mode::from_raw_mode(attributes.mode)).map_err(failed())?;
    }
    for (name, value) in &attributes.xattrs {
        set_xattr(&fd, name, value, path)?;
    }
    rustix::fs::futimens(&fd, &times(attributes.mtime_ns)).map_err(failed())
}

/// Sets one attribute. One that the kernel does not take is the tree's fault, not the machine's.
pub(crate) fn set_xattr(fd: impl AsFd, name: &OsStr, value: &[u8], path: &Path) -> Result<()> {
    let refused = |reason: &str| {
        Err(Error::Tree { path: path.to_owned(), reason: format!("its attribute {} {reason}", name.display()) })
    };
    match rustix::fs::fsetxattr(fd, name, value, XattrFlags::empty()) {
        Err(Errno::NOSPC | Errno::TOOBIG | Errno::RANGE) => refused("does not fit in the store's file system"),
        Err(Errno::INVAL | Errno::OPNOTSUPP) => refused("is not one that the kernel takes"),
        other => other.map_err(Error::errno("set the attributes of", path)),
    }
}

pub(crate) fn times(mtime_ns: i64) -> Timestamps {
    const SECOND: i64 = 1_000_000_000;
    let time = Timespec { tv_sec: mtime_ns.div_euclid(SECOND), tv_nsec: mtime_ns.rem_euclid(SECOND) };
    Timestamps { last_access: time, last_modification: time }
}

/// Files below this size have no hole worth keeping.
const SMALL: u64 = 64 << 10;

/// Copies the data of a file; what is a hole in the source is one in the target.
pub(crate) fn copy_file(source: &mut File, target: &mut File) -> io::Result<u64> {
    let stat = rustix::fs::fstat(&*source)?;
    let size = u64::try_from(stat.st_size).unwrap_or(0);
    let on_disk = u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512);
    if size < SMALL {
        return copy_small(source, target, size);
    }
    if size > 0 && rustix::fs::ioctl_ficlone(&*target, &*source).is_ok() {
        return Ok(size);
    }
    if on_disk >= size {
        return io::copy(source, target);
    }
    copy_sparse(source, target, size)
}

/// One read and one write: asking the kernel to share or to move the bytes costs more. A read that gives less than it could
/// is the end of a file.
fn copy_small(source: &mut File, target: &mut File, size: u64) -> io::Result<u64> {
    let room = usize::try_from(size).unwrap_or(0) + 1;
    let mut bytes = Vec::with_capacity(room);
    source.take(room as u64).read_to_end(&mut bytes)?;
    target.write_all(&bytes)?;
    Ok(bytes.len() as u64)
}

fn copy_sparse(source: &mut File, target: &mut File, size: u64) -> io::Result<u64> {
    use rustix::fs::SeekFrom;
    use std::io::Seek;
    let mut at = 0;
    while at < size {
        let data = match rustix::fs::seek(&*source, SeekFrom::Data(at)) {
            Ok(data) => data,
            Err(Errno::NXIO) => break,
            Err(errno) => return Err(errno.into()),
        };
        let hole = rustix::fs::seek(&*source, SeekFrom::Hole(data))?;
        source.seek(io::SeekFrom::Start(data))?;
        target.seek(io::SeekFrom::Start(data))?;
        io::copy(&mut Read::by_ref(source).take(hole - data), target)?;
        at = hole;
    }
    target.set_len(size)?;
    Ok(size)
}

fn names(fd: OwnedFd) -> rustix::io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in Dir::new(fd)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(OsStr::from_bytes(name).to_owned());
        }
    }
    Ok(names)
}

pub(crate) fn read_directory(fd: OwnedFd) -> rustix::io::Result<Vec<(OsString, Metadata)>> {
    let mut entries = Vec::new();
    let names = Names::of(&fd)?;
    for name in names.iter() {
        if let Some(metadata) = look(&fd, name)? {
            entries.push((name.to_owned(), metadata));
        }
    }
    Ok(entries)
}

/// What a name in a directory is; `None` when it was removed since it was listed. Links are not followed.
pub(crate) fn look(directory: impl AsFd, name: &OsStr) -> rustix::io::Result<Option<Metadata>> {
    let mut found = look_bare(&directory, name)?;
    if let Some(metadata) = &mut found {
        owner::amend_entry(metadata, &directory, name)?;
    }
    Ok(found)
}

/// The same as the kernel sees it.
pub(crate) fn look_bare(directory: impl AsFd, name: &OsStr) -> rustix::io::Result<Option<Metadata>> {
    match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(metadata(&stat))),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// The names in a directory, in byte order. One piece of memory: a directory may have a million.
#[derive(Debug, Default)]
pub(crate) struct Names {
    bytes: Vec<u8>,
    places: Vec<(usize, usize)>,
}

impl Names {
    pub(crate) fn of(fd: impl AsFd) -> rustix::io::Result<Names> {
        let mut buffer = Vec::with_capacity(32 * 1024);
        let mut names = Names::default();
        let mut list = RawDir::new(fd, buffer.spare_capacity_mut());
        while let Some(entry) = list.next() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if !matches!(name, b"." | b"..") {
                names.places.push((names.bytes.len(), name.len()));
                names.bytes.extend_from_slice(name);
            }
        }
        let Names { bytes, places } = &mut names;
        places.sort_unstable_by(|one, other| slice(bytes, *one).cmp(slice(bytes, *other)));
        Ok(names)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &OsStr> {
        self.places.iter().map(|place| OsStr::from_bytes(slice(&self.bytes, *place)))
    }
}

fn slice(bytes: &[u8], (from, length): (usize, usize)) -> &[u8] {
    bytes.get(from..from + length).unwrap_or_default()
}

pub(crate) fn xattrs(fd: impl AsFd) -> rustix::io::Result<Vec<(OsString, Vec<u8>)>> {
    let mut list = vec![0_u8; 256];
    let length = loop {
        match rustix::fs::flistxattr(&fd, &mut list) {
            Ok(length) => break length,
            Err(Errno::RANGE) if list.len() < XATTR_LIMIT => list.resize(XATTR_LIMIT, 0),
            Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
            Err(errno) => return Err(errno),
        }
    };
    let mut found = Vec::new();
    for name in list.get(..length).unwrap_or_default().split(|byte| *byte == 0) {
        if !kept_xattr(name) {
            continue;
        }
        let name = OsStr::from_bytes(name);
        let mut value = vec![0_u8; XATTR_LIMIT];
        let length = rustix::fs::fgetxattr(&fd, name, &mut value)?;
        value.truncate(length);
        found.push((name.to_owned(), value));
    }
    found.sort();
    Ok(found)
}

/// Attributes that are part of a file wherever it goes. Overlay's own and the host's labels are not.
pub(crate) fn kept_xattr(name: &[u8]) -> bool {
    let own = name.starts_with(b"user.overlay.") || (owner::is_recording() && owner::is_record(name));
    name == b"security.capability" || (name.starts_with(b"user.") && !own)
}

/// What is behind a descriptor.
pub(crate) fn metadata_of(fd: impl AsFd) -> rustix::io::Result<Metadata> {
    let mut found = metadata(&rustix::fs::fstat(&fd)?);
    owner::amend(&mut found, &fd)?;
    Ok(found)
}

pub(crate) fn metadata(stat: &Stat) -> Metadata {
    const SECOND: i64 = 1_000_000_000;
    let nanos = |seconds: i64, nanos: i64| seconds.saturating_mul(SECOND).saturating_add(nanos);
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => Kind::Directory,
        FileType::Symlink => Kind::Symlink,
        FileType::CharacterDevice => Kind::CharDevice,
        FileType::BlockDevice => Kind::BlockDevice,
        FileType::Fifo => Kind::Fifo,
        FileType::Socket => Kind::Socket,
        _ => Kind::File,
    };
    #[allow(clippy::unnecessary_cast, reason = "the widths differ between architectures")]
    Metadata {
        kind,
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        size: u64::try_from(stat.st_size).unwrap_or(0),
        mtime_ns: nanos(stat.st_mtime as i64, stat.st_mtime_nsec as i64),
        ctime_ns: nanos(stat.st_ctime as i64, stat.st_ctime_nsec as i64),
        dev: stat.st_dev as u64,
        ino: stat.st_ino as u64,
        nlink: stat.st_nlink as u64,
        rdev: stat.st_rdev as u64,
        disk_bytes: u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512),
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
