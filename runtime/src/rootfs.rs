//! `Rootfs`: a detached root mount, from overlay layers or a plain directory. It never appears in the host's mount table.
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string,
    fsmount, fsopen, open_tree,
};

use crate::classic;
use crate::error::{Error, Result};
use crate::idmapped::{self, MappedLayers};
use crate::sys::mount::{Reach, set_attributes};
use crate::userns::UserNamespace;

/// fsconfig takes strings shorter than this.
const STRING_LIMIT: usize = 256;
const MOUNT_POINT_DIRECTORIES: [(&str, u32); 4] = [("dev", 0o755), ("etc", 0o755), ("proc", 0o555), ("sys", 0o555)];
const MOUNT_POINT_FILES: [&str; 3] = ["etc/hosts", "etc/hostname", "etc/resolv.conf"];

/// How layers become one tree.
#[derive(Clone, Debug, Default)]
pub struct OverlayOptions {
    /// Whether the kernel may skip every flush of the upper directory: faster, and after a crash the upper is worth nothing.
    pub volatile: bool,
    /// Whether the places that a sandbox mounts on are there.
    pub mount_points: MountPoints,
    /// How the kernel is told of the layers.
    pub interface: OverlayInterface,
    /// Whose owners the tree shows: the layers keep theirs, and so does what is written.
    pub users: Option<Arc<UserNamespace>>,
}

/// How the kernel is told of the layers of an overlay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OverlayInterface {
    /// One by one where the kernel can do that (since 6.5), else as before.
    #[default]
    Newest,
    /// All in the one page of options that mount(2) takes.
    Classic,
}

/// The lowest layer of an overlay: the places that a sandbox mounts on.
#[derive(Clone, Debug, Default)]
pub enum MountPoints {
    /// In memory, for this overlay alone.
    #[default]
    Private,
    /// A directory made by [`mount_point_layer`], to be shared by all sandboxes of a store.
    Shared(PathBuf),
    /// None: the tree is looked at and written, but no process runs in it.
    Absent,
}

/// A root file system as a detached mount: nothing to unmount, gone with the last descriptor and the last process in it.
#[derive(Debug)]
pub struct Rootfs {
    mount: OwnedFd,
    moved: AtomicBool,
    /// What its layers were found by: closing it takes the kernel long, so it is done when somebody waits for nothing.
    _layers: Option<OwnedFd>,
}

impl Rootfs {
    /// Joins `lowers_top_first` and a writable `upper`. `work` is an empty directory on the file system of `upper`.
    pub fn overlay(lowers_top_first: &[PathBuf], upper: &Path, work: &Path, options: OverlayOptions) -> Result<Rootfs> {
        // What overlay makes for itself is made as who mounts it, and must be of somebody whom the layers know.
        let _owner = options.users.as_deref().map(UserNamespace::file_owner).transpose()?;
        let classic = || {
            let mount = classic::mount(lowers_top_first, upper, work, &options)?;
            Ok(Rootfs::of(mount, None))
        };
        if options.interface == OverlayInterface::Classic {
            return classic();
        }
        let join = |attached| Rootfs::join_singly(lowers_top_first, upper, work, &options, attached);
        match join(false) {
            // Asked only when something was refused: nearly all kernels take them.
            Err(error) if is_invalid(&error) && !takes_single_layers() => classic(),
            Err(error) if is_invalid(&error) && options.users.is_some() => {
                idmapped::apart(|| join(true)).map_err(idmapped::cannot_join)
            }
            result => result,
        }
    }

    fn join_singly(
        lowers_top_first: &[PathBuf],
        upper: &Path,
        work: &Path,
        options: &OverlayOptions,
        attached: bool,
    ) -> Result<Rootfs> {
        let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).map_err(Error::rootfs("overlay"))?;
        let mapped = |users| MappedLayers::new(users, (upper, work), lowers_top_first, attached);
        let mapped = options.users.as_deref().map(mapped).transpose()?;
        let layers = Layers { context: &context, mapped };
        // Descriptors in /proc/self/fd stand for paths that are too long; they must live until the mount exists.
        let mut held = Vec::new();
        for lower in lowers_top_first {
            layers.add("lowerdir+", lower, &mut held)?;
        }
        match &options.mount_points {
            MountPoints::Shared(shared) => layers.add("lowerdir+", shared, &mut held)?,
            MountPoints::Private => add_descriptor(&context, "lowerdir+", private_mount_points()?, &mut held)?,
            // Overlay needs one lower directory at the least.
            MountPoints::Absent if lowers_top_first.is_empty() => {
                add_descriptor(&context, "lowerdir+", empty_directory()?, &mut held)?;
            }
            MountPoints::Absent => {}
        }
        layers.add("upperdir", upper, &mut held)?;
        layers.add("workdir", work, &mut held)?;
        let mapped = layers.mapped.map(MappedLayers::into_mount);
        Rootfs::join(context, options, held, mapped)
    }

    fn of(mount: OwnedFd, layers: Option<OwnedFd>) -> Rootfs {
        Rootfs { mount, moved: AtomicBool::new(false), _layers: layers }
    }

    /// `held` are the descriptors that stand for directories: they must live until the mount exists.
    fn join(context: OwnedFd, options: &OverlayOptions, held: Vec<OwnedFd>, layers: Option<OwnedFd>) -> Result<Rootfs> {
        set_overlay_options(&context, options)?;
        fsconfig_create(&context).map_err(|errno| creation_error(&context, errno))?;
        drop(held);
        let mount = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
            .map_err(Error::rootfs("mounting the overlay"))?;
        Ok(Rootfs::of(mount, layers))
    }

    /// The same as [`directory`](Rootfs::directory), with the owners that a user namespace shows.
    pub fn directory_of(path: impl AsRef<Path>, users: &UserNamespace) -> Result<Rootfs> {
        let mount = idmapped::directory(users, path.as_ref())?;
        Ok(Rootfs::of(mount, None))
    }

    /// A plain directory as root; writes go into it, and so do missing mount points.
    pub fn directory(path: impl AsRef<Path>) -> Result<Rootfs> {
        let path = path.as_ref();
        let directory =
            rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
                .map_err(Error::rootfs(format!("opening {}", path.display())))?;
        let cloned = clone_tree(directory.as_fd(), Reach::One)
            .and_then(|mount| set_attributes(&mount, 0, Reach::One).map(|()| mount));
        let mount = match cloned {
            // Without the right to mount it can still be read and written; a process cannot be started in it.
            Err(Errno::PERM) => directory,
            result => result.map_err(Error::rootfs(format!("cloning the mount of {}", path.display())))?,
        };
        Ok(Rootfs::of(mount, None))
    }

    /// A plain directory as root, with everything that is mounted below it.
    pub fn with_mounts(path: impl AsRef<Path>) -> Result<Rootfs> {
        let path = path.as_ref();
        let directory =
            rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
                .map_err(Error::rootfs(format!("opening {}", path.display())))?;
        let mount = clone_tree(directory.as_fd(), Reach::Below)
            .and_then(|mount| set_attributes(&mount, 0, Reach::Below).map(|()| mount))
            .map_err(Error::rootfs(format!("cloning the mounts of {}", path.display())))?;
        Ok(Rootfs::of(mount, None))
    }

    /// The root directory, for `openat2` with `RESOLVE_IN_ROOT`.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.mount.as_fd()
    }

    /// A mount of this tree that a sandbox may attach. Kernels before 6.15 cannot clone a detached mount: there the only one is given away.
    pub(crate) fn tree(&self) -> Result<OwnedFd> {
        match clone_tree(self.fd(), Reach::Below) {
            Err(Errno::INVAL) if !self.moved.swap(true, Ordering::AcqRel) => {
                rustix::io::fcntl_dupfd_cloexec(&self.mount, 3).map_err(Error::rootfs("sharing the mount"))
            }
            Err(Errno::INVAL) => Err(Error::RootfsInUse),
            result => result.map_err(Error::rootfs("cloning the mount")),
        }
    }
}

pub(crate) fn clone_tree(from: BorrowedFd<'_>, reach: Reach) -> Result<OwnedFd, Errno> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    if reach == Reach::Below {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    open_tree(from, c"", flags)
}

/// Where the kernel is told of directories.
struct Layers<'a> {
    context: &'a OwnedFd,
    mapped: Option<MappedLayers<'a>>,
}

impl Layers<'_> {
    fn add(&self, key: &str, path: &Path, held: &mut Vec<OwnedFd>) -> Result<()> {
        match &self.mapped {
            Some(mapped) => add_descriptor(self.context, key, mapped.open(path)?, held),
            None => add_directory(self.context, key, path, held),
        }
    }
}

fn add_directory(context: &OwnedFd, key: &str, path: &Path, held: &mut Vec<OwnedFd>) -> Result<()> {
    let doing = || format!("{key} {}", path.display());
    if path.is_absolute() && path.as_os_str().len() < STRING_LIMIT {
        return fsconfig_set_string(context, key, path.as_os_str().as_bytes()).map_err(Error::rootfs(doing()));
    }
    let directory = rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(Error::rootfs(doing()))?;
    add_descriptor(context, key, directory, held)
}

fn add_descriptor(context: &OwnedFd, key: &str, directory: OwnedFd, held: &mut Vec<OwnedFd>) -> Result<()> {
    let path = format!("/proc/self/fd/{}", directory.as_raw_fd());
    fsconfig_set_string(context, key, path.as_str()).map_err(Error::rootfs(key))?;
    held.push(directory);
    Ok(())
}

/// Redirects and metadata-only copies would make an upper directory mean nothing without its lowers; the upper is the layer here.
pub(crate) fn overlay_settings(options: &OverlayOptions) -> Vec<(&'static str, Option<&'static str>)> {
    let mut settings = if crate::userns::in_user_namespace() {
        // The kernel chooses nofollow and no metacopy itself, and refuses to be told.
        vec![("userxattr", None)]
    } else {
        vec![("redirect_dir", Some("nofollow")), ("metacopy", Some("off"))]
    };
    settings.push(("index", Some("off")));
    if options.volatile {
        settings.push(("volatile", None));
    }
    settings
}

fn set_overlay_options(context: &OwnedFd, options: &OverlayOptions) -> Result<()> {
    fsconfig_set_string(context, "source", "overlay").map_err(Error::rootfs("source"))?;
    for (key, value) in overlay_settings(options) {
        let set = match value {
            Some(value) => fsconfig_set_string(context, key, value),
            None => fsconfig_set_flag(context, key),
        };
        set.map_err(Error::rootfs(key))?;
    }
    Ok(())
}

/// Whether an overlay of this process's own users can be joined of directories that are named by descriptor: where the mount
/// is made apart, those are of another mount namespace, and refused.
#[must_use]
pub fn joins_by_descriptor() -> bool {
    takes_single_layers()
}

fn is_invalid(error: &Error) -> bool {
    matches!(error, Error::Rootfs { source, .. } if Errno::from_io_error(source) == Some(Errno::INVAL))
}

/// Whether this kernel takes layers one by one. Asked once; where there is no overlay at all, the mount itself tells.
fn takes_single_layers() -> bool {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    *ANSWER.get_or_init(|| {
        let asked = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)
            .and_then(|context| fsconfig_set_string(&context, "lowerdir+", "/"));
        asked != Err(Errno::INVAL)
    })
}

/// The kernel writes what it disliked into the context; that text helps more than EINVAL.
fn creation_error(context: &OwnedFd, errno: Errno) -> Error {
    let mut message = [0_u8; 1024];
    let length = rustix::io::read(context, &mut message).unwrap_or(0);
    let said = String::from_utf8_lossy(message.get(..length).unwrap_or_default()).trim().to_owned();
    let doing = match said.split_once(' ') {
        Some((_, text)) => format!("joining the layers ({})", text.escape_default()),
        None => "joining the layers".to_owned(),
    };
    Error::Rootfs { doing, source: errno.into() }
}

/// Makes, once, the directory that serves as the lowest overlay layer: the places that every sandbox mounts on.
/// Any number of processes may call it at once; the directory appears whole or not at all.
pub fn mount_point_layer(dir: &Path) -> Result<()> {
    let failed = |source: io::Error| Error::Rootfs { doing: format!("making {}", dir.display()), source };
    if dir.is_dir() {
        return Ok(());
    }
    let parent = dir.parent().ok_or_else(|| failed(io::ErrorKind::InvalidInput.into()))?;
    let mut aside = dir.file_name().unwrap_or_default().to_owned();
    aside.push(format!(".{}-{}", std::process::id(), rustix::thread::gettid().as_raw_nonzero()));
    let aside = parent.join(aside);
    let made = fill_mount_points(&aside).and_then(|()| fs::rename(&aside, dir));
    if let Err(error) = made {
        // A draft that lost the race is of no use, and one that cannot be removed does no harm.
        let _ = fs::remove_dir_all(&aside);
        return if dir.is_dir() { Ok(()) } else { Err(failed(error)) };
    }
    File::open(parent).and_then(|parent| parent.sync_all()).map_err(failed)
}

fn fill_mount_points(root: &Path) -> io::Result<()> {
    fs::create_dir_all(root)?;
    for (name, mode) in MOUNT_POINT_DIRECTORIES {
        // In two steps: the umask of the caller has no say.
        fs::create_dir(root.join(name))?;
        fs::set_permissions(root.join(name), fs::Permissions::from_mode(mode))?;
    }
    for name in MOUNT_POINT_FILES {
        File::create(root.join(name))?.set_permissions(fs::Permissions::from_mode(0o644))?;
    }
    Ok(())
}

/// The same tree in memory, reachable by descriptor only.
fn private_mount_points() -> Result<OwnedFd> {
    let doing = "making the mount points";
    let tmpfs = tmpfs(&[("mode", "755"), ("size", "64k")], MountAttrFlags::empty()).map_err(Error::rootfs(doing))?;
    fill_descriptor(&tmpfs).map_err(Error::rootfs(doing))?;
    Ok(tmpfs)
}

fn fill_descriptor(root: &OwnedFd) -> Result<(), Errno> {
    for (name, mode) in MOUNT_POINT_DIRECTORIES {
        rustix::fs::mkdirat(root, name, Mode::empty())?;
        rustix::fs::chmodat(root, name, Mode::from_raw_mode(mode), AtFlags::empty())?;
    }
    for name in MOUNT_POINT_FILES {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        let file = rustix::fs::openat(root, name, flags, Mode::empty())?;
        rustix::fs::fchmod(&file, Mode::from_raw_mode(0o644))?;
    }
    Ok(())
}

/// A directory in memory with nothing in it, and never anything: it is only ever a lower layer.
fn empty_directory() -> Result<OwnedFd> {
    tmpfs(&[("mode", "755"), ("size", "4k")], MountAttrFlags::empty()).map_err(Error::rootfs("making an empty layer"))
}

/// A detached tmpfs.
pub(crate) fn tmpfs(options: &[(&str, &str)], attributes: MountAttrFlags) -> Result<OwnedFd, Errno> {
    let context = fsopen(c"tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, c"source", c"tmpfs")?;
    for (key, value) in options {
        fsconfig_set_string(&context, *key, *value)?;
    }
    fsconfig_create(&context)?;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}
