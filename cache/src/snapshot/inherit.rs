//! Times that a layer takes over from the one that the same step gave before: what a step wrote again as it was keeps its
//! old time, so that two layers differ only where their trees do.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use rustix::fs::{Mode, OFlags};

use super::compare::{same_attributes, same_bytes};
use super::merged::open_below;
use crate::error::{Error, Result};
use crate::tree::{Kind, Metadata, look, read_directory, set_time};

/// So few entries are looked at sooner than other threads are woken for them.
const FEW: usize = 32;

/// Gives each entry below `new` that is as it is below `old`, times aside, its time there. A directory is as it was when it
/// has the same names.
pub(super) fn inherit_times(new: &Path, old: &Path) -> Result<()> {
    let open = |path: &Path| {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open(path, flags, Mode::empty()).map_err(Error::errno("open", path))
    };
    Pair { new: open(new)?, old: open(old)? }.directory(PathBuf::new(), false)
}

struct Pair {
    new: OwnedFd,
    old: OwnedFd,
}

/// One directory of both trees.
struct Here<'a> {
    new: OwnedFd,
    old: OwnedFd,
    path: &'a Path,
}

impl Pair {
    /// `same` says that what `stat` tells of it is the same; of a layer's root, which is no entry of it, that does not count.
    /// The descriptors are closed before anything below is opened: the depth of a tree costs none.
    fn directory(&self, path: PathBuf, same: bool) -> Result<()> {
        let open = |root: &OwnedFd| {
            open_below(root, &path, OFlags::RDONLY | OFlags::DIRECTORY).map_err(Error::errno("open", &path))
        };
        let here = Here { new: open(&self.new)?, old: open(&self.old)?, path: &path };
        let list = |fd: &OwnedFd| -> Result<Vec<(OsString, Metadata)>> {
            let copy = fd.try_clone().map_err(Error::path("open", &path))?;
            read_directory(copy).map_err(Error::errno("read", &path))
        };
        let (now, then) = (list(&here.new)?, list(&here.old)?);
        let same_names = now.iter().map(|(name, _)| name).eq(then.iter().map(|(name, _)| name));
        let each = |(name, metadata): &(OsString, Metadata)| here.entry(name, metadata);
        if now.len() < FEW {
            now.iter().try_for_each(each)?
        } else {
            now.par_iter().try_for_each(each)?
        }
        drop(here);
        for (name, metadata) in now.iter().filter(|(_, metadata)| metadata.kind == Kind::Directory) {
            let before = then.binary_search_by(|(other, _)| other.cmp(name)).ok().and_then(|at| then.get(at));
            match before {
                Some((_, before)) if before.kind == Kind::Directory => {
                    self.directory(path.join(name), same_facts(metadata, before))?;
                }
                _ => {}
            }
        }
        // Last: nothing is put into it any more.
        if same && same_names {
            let (new, old) = (open(&self.new)?, open(&self.old)?);
            let time = crate::tree::metadata(&rustix::fs::fstat(&old).map_err(Error::errno("read", &path))?).mtime_ns;
            if same_attributes(&new, &old, &path)? {
                super::canonical::restore_time(&new, &path, time)?;
            }
        }
        Ok(())
    }
}

impl Here<'_> {
    fn entry(&self, name: &OsString, now: &Metadata) -> Result<()> {
        let path = self.path.join(name);
        let Some(then) = look(&self.old, name).map_err(Error::errno("read", &path))? else { return Ok(()) };
        let decided = now.kind == Kind::Directory || now.mtime_ns == then.mtime_ns;
        if decided || !same_facts(now, &then) || !self.same_content(name, &path, now, &then)? {
            return Ok(());
        }
        set_time(&self.new, name, then.mtime_ns).map_err(Error::errno("set the time of", &path))
    }

    fn same_content(&self, name: &OsString, path: &Path, now: &Metadata, then: &Metadata) -> Result<bool> {
        match now.kind {
            Kind::File => {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
                let open = |fd: &OwnedFd| {
                    rustix::fs::openat(fd, name, flags, Mode::empty()).map_err(Error::errno("open", path))
                };
                let (new, old) = (open(&self.new)?, open(&self.old)?);
                Ok(same_attributes(&new, &old, path)? && same_bytes(new, old, path)?)
            }
            Kind::Symlink => {
                let read =
                    |fd: &OwnedFd| rustix::fs::readlinkat(fd, name, Vec::new()).map_err(Error::errno("read", path));
                Ok(read(&self.new)? == read(&self.old)?)
            }
            Kind::CharDevice | Kind::BlockDevice => Ok(now.rdev == then.rdev),
            Kind::Fifo => Ok(true),
            Kind::Directory | Kind::Socket => Ok(false),
        }
    }
}

/// All that `stat` says and a layer keeps, times aside.
fn same_facts(now: &Metadata, then: &Metadata) -> bool {
    let facts = |one: &Metadata| (one.kind, one.mode, one.uid, one.gid);
    facts(now) == facts(then)
        && (now.kind == Kind::Directory || now.nlink == then.nlink)
        && (now.kind != Kind::File || now.size == then.size)
}
