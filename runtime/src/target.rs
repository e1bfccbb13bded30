//! Paths inside a root: cut at plan time, then resolved and made by descriptor without allocating, before clone or after.
use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, chmodat, mkdirat, openat, openat2};
use rustix::io::Errno;

use crate::error::{Error, Result};

/// A path in the container, cut so that its parts can be made without allocating.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// The whole path, relative to the root.
    pub(crate) path: CString,
    /// Each leading part of it, shortest first, with its last name.
    parts: Vec<(CString, CString)>,
}

impl Target {
    /// Cuts an absolute path below the root. `..` is refused: what it means would depend on the image.
    pub(crate) fn new(path: &Path) -> Result<Target> {
        let invalid = |reason: &str| Error::invalid("mount target", format!("{}: {reason}", path.display()));
        if !path.is_absolute() {
            return Err(invalid("must be an absolute path in the container"));
        }
        let mut whole = Vec::new();
        let mut parts = Vec::new();
        for component in path.components() {
            match component {
                Component::RootDir | Component::CurDir => {}
                Component::Normal(name) => {
                    if !whole.is_empty() {
                        whole.push(b'/');
                    }
                    whole.extend_from_slice(name.as_bytes());
                    let part = CString::new(whole.clone()).map_err(|_| invalid("contains a zero byte"))?;
                    let name = CString::new(name.as_bytes()).map_err(|_| invalid("contains a zero byte"))?;
                    parts.push((part, name));
                }
                Component::ParentDir | Component::Prefix(_) => {
                    return Err(invalid("must not contain '..'"));
                }
            }
        }
        let path = parts.last().map(|(path, _)| path.clone()).ok_or_else(|| invalid("must not be the root itself"))?;
        Ok(Target { path, parts })
    }

    /// The path relative to the root.
    pub(crate) fn relative(&self) -> &Path {
        Path::new(OsStr::from_bytes(self.path.to_bytes()))
    }
}

/// What `make` puts at the end of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Directory,
    File,
}

/// Opens a path inside `root`, whatever links the image holds.
pub(crate) fn resolve(root: BorrowedFd<'_>, path: &CStr, more: ResolveFlags) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | more;
    loop {
        match openat2(root, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve) {
            // `..` met a mount or a rename, anywhere on the machine: the kernel asks to walk again.
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other,
        }
    }
}

/// Opens a target, making what is missing of it, one name at a time beneath the directory that was opened before.
/// `made` sees each new file. A link that leads nowhere is EEXIST.
pub(crate) fn make(
    root: BorrowedFd<'_>,
    target: &Target,
    kind: Kind,
    mut made: impl FnMut(&OwnedFd) -> Result<(), Errno>,
) -> Result<OwnedFd, Errno> {
    match resolve(root, &target.path, ResolveFlags::empty()) {
        Err(Errno::NOENT) => {}
        result => return result,
    }
    let mut parent = resolve(root, c".", ResolveFlags::empty())?;
    let mut left = target.parts.len();
    for (path, name) in &target.parts {
        left -= 1;
        parent = match resolve(root, path, ResolveFlags::empty()) {
            Err(Errno::NOENT) => {
                let place = make_one(parent.as_fd(), name, if left > 0 { Kind::Directory } else { kind })?;
                made(&place)?;
                place
            }
            result => result?,
        };
    }
    Ok(parent)
}

/// The mode is set apart, since the umask may be anything.
fn make_one(parent: BorrowedFd<'_>, name: &CStr, kind: Kind) -> Result<OwnedFd, Errno> {
    let none = Mode::empty();
    let mode = match kind {
        Kind::Directory => {
            mkdirat(parent, name, none)?;
            0o755
        }
        Kind::File => {
            openat(parent, name, OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC, none)?;
            0o644
        }
    };
    chmodat(parent, name, Mode::from_raw_mode(mode), AtFlags::empty())?;
    openat(parent, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, none)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_cut_into_their_leading_parts() {
        let target = Target::new(Path::new("//a/./b")).unwrap();
        assert_eq!(target.path.as_c_str(), c"a/b");
        assert_eq!(target.parts, [(c"a".to_owned(), c"a".to_owned()), (c"a/b".to_owned(), c"b".to_owned())]);
    }

    #[test]
    fn targets_that_depend_on_the_image_are_refused() {
        for path in ["", "a", "/", "/..", "/a/../b", "/./"] {
            assert!(Target::new(Path::new(path)).is_err(), "{path}");
        }
    }
}
