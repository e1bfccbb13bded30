//! What changes a tree: entries that are made, replaced and removed below its root, never through a link.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::attributes::{give, give_new, own, set_time, times};
use super::copy::copy_file;
use super::metadata::{Attributes, Kind, Owner};
use super::names::names;
use super::{Follow, TreeRoot};
use crate::error::{Error, Result};
use crate::failpoint::failpoint;

impl TreeRoot {
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

    /// Gives a file of another tree the same name in this directory.
    pub(crate) fn link_from(&self, other: &TreeRoot, name: &OsStr) -> rustix::io::Result<()> {
        rustix::fs::linkat(&other.fd, name, &self.fd, name, AtFlags::empty())
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
