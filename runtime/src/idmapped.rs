//! Layers of an overlay that a user namespace shows with its own owners. The overlay itself cannot be mapped: it lies on
//! clones of the mounts that hold its layers, and those are.
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::mount::{MountPropagationFlags, MoveMountFlags, mount_change, move_mount};

use crate::error::{Error, Result};
use crate::rootfs::clone_tree;
use crate::sys::mount::{Reach, separate_mounts, set_attributes};
use crate::userns::UserNamespace;

/// Whatever is attached here covers it for one thread, which looks nothing up in it.
const ASIDE: &str = "/dev";
const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// The directories of an overlay as they are to be shown.
#[derive(Debug)]
pub(crate) struct MappedLayers<'a> {
    users: &'a UserNamespace,
    /// Whether kernels want the mounts of layers attached.
    attached: bool,
    /// What holds most of them, so that one clone does for all: each costs a wait for all processors when it goes.
    common: PathBuf,
    clone: OwnedFd,
}

impl<'a> MappedLayers<'a> {
    /// `writable` are the upper directory and the one that overlay works with: they must be on one mount.
    pub(crate) fn new(
        users: &'a UserNamespace,
        writable: (&Path, &Path),
        lowers: &[PathBuf],
        attached: bool,
    ) -> Result<Self> {
        let (upper, work) = writable;
        let lowers = lowers.iter().map(PathBuf::as_path).filter(|lower| !lower.starts_with("/proc"));
        let own: Vec<&Path> = lowers.chain([work]).collect();
        let common = common(upper.parent().unwrap_or(upper), &own);
        let clone = mapped(users, common, Reach::Below, attached)?;
        Ok(MappedLayers { users, attached, common: common.to_owned(), clone })
    }

    /// What descriptors of directories are on: it must be there as long as they are used.
    pub(crate) fn into_mount(self) -> OwnedFd {
        self.clone
    }

    /// A directory, by a descriptor on a mapped mount.
    pub(crate) fn open(&self, path: &Path) -> Result<OwnedFd> {
        match path.strip_prefix(&self.common) {
            Ok(below) if below.as_os_str().is_empty() => open(&self.clone, Path::new("."), path),
            Ok(below) => open(&self.clone, below, path),
            Err(_) => mapped(self.users, path, Reach::One, self.attached),
        }
    }
}

/// The directory that holds one and, of the others, all that are in the same directory of the root as it is.
fn common<'a>(one: &'a Path, others: &[&Path]) -> &'a Path {
    let holds = |ancestor: &Path| others.iter().filter(|other| other.starts_with(ancestor)).count();
    let mut found = one;
    for ancestor in one.ancestors().skip(1).filter(|ancestor| ancestor.parent().is_some()) {
        if holds(ancestor) > holds(found) {
            found = ancestor;
        }
    }
    found
}

/// A directory alone, on a mount of its own.
pub(crate) fn directory(users: &UserNamespace, path: &Path) -> Result<OwnedFd> {
    let mount = mapped(users, path, Reach::One, false)?;
    set_attributes(&mount, 0, Reach::One).map_err(Error::rootfs("cloning a mount"))?;
    Ok(mount)
}

fn mapped(users: &UserNamespace, path: &Path, reach: Reach, attached: bool) -> Result<OwnedFd> {
    let failed = |errno| Error::rootfs(format!("cloning the mount of {}", path.display()))(errno);
    let directory = open(CWD, path, path)?;
    let clone = clone_tree(directory.as_fd(), reach).map_err(failed)?;
    users.map(&clone, reach, path)?;
    if attached {
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        move_mount(&clone, "", CWD, ASIDE, flags).map_err(failed)?;
    }
    Ok(clone)
}

fn open(at: impl AsFd, path: &Path, whole: &Path) -> Result<OwnedFd> {
    openat(at, path, DIRECTORY, Mode::empty()).map_err(Error::rootfs(format!("opening {}", whole.display())))
}

/// What kernels say that have mapped owners, but no overlay on them.
pub(crate) fn cannot_join(error: Error) -> Error {
    match error {
        Error::Rootfs { doing, source } if source.kind() == std::io::ErrorKind::InvalidInput => Error::UserNamespace {
            why: format!("the kernel joins no layers with mapped owners: {doing}"),
            remedy: "use Linux 5.19 or newer, or --userns host".to_owned(),
        },
        error => error,
    }
}

/// Calls this on a thread with mounts of its own: kernels before 6.15 take no layer from a mount that is attached nowhere.
pub(crate) fn apart<T: Send>(call: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let separate = || {
        separate_mounts()?;
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
    };
    let apart = || {
        separate().map_err(Error::rootfs("separating the mounts of a thread"))?;
        call()
    };
    std::thread::scope(|scope| scope.spawn(apart).join()).unwrap_or_else(|_| {
        Err(Error::Rootfs { doing: "a thread".to_owned(), source: std::io::ErrorKind::Other.into() })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_clone_does_for_all_of_a_store_and_for_nothing_beside_it() {
        let of = |one: &'static str, others: &[&'static str]| {
            let others: Vec<&Path> = others.iter().map(Path::new).collect();
            common(Path::new(one), &others)
        };
        assert_eq!(of("/var/lib/s/tmp/1", &["/var/lib/s/layers/a", "/var/lib/s/layers/b"]), Path::new("/var/lib/s"));
        assert_eq!(of("/var/lib/s/tmp/1", &["/var/lib/s/layers/a", "/srv/x"]), Path::new("/var/lib/s"));
        assert_eq!(of("/s/tmp/1", &["/t/a"]), Path::new("/s/tmp/1"));
        assert_eq!(of("/s/tmp/1", &[]), Path::new("/s/tmp/1"));
    }
}
