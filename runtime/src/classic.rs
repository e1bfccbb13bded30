//! Overlay on kernels before 6.5, which take all layers in one page of options: each layer is a descriptor's number.
//!
//! The numbers are names in /proc/self/fd, which is the working directory of a thread that has a mount namespace of its own:
//! four bytes for a layer, so that the kernel's limit of 500 is reached before the page is full. The mount is cloned out
//! of that namespace, which dies with the thread; no other process ever sees it.
use std::fmt::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{MountFlags, MountPropagationFlags, OpenTreeFlags, mount_change, open_tree};

use crate::error::{Error, Result};
use crate::idmapped::MappedLayers;
use crate::rootfs::{MountPoints, OverlayOptions, overlay_settings};
use crate::sys::mount::separate_mounts;

/// Bytes that mount(2) reads of its options, with the terminator.
const PAGE: usize = 4096;
/// The working directory while layers are named, and the place that the mount covers in the thread's own namespace.
const DESCRIPTORS: &str = "/proc/self/fd";

/// Joins the layers.
pub(crate) fn mount(
    lowers_top_first: &[std::path::PathBuf],
    upper: &Path,
    work: &Path,
    options: &OverlayOptions,
) -> Result<OwnedFd> {
    let mut lowers: Vec<&Path> = lowers_top_first.iter().map(std::path::PathBuf::as_path).collect();
    match &options.mount_points {
        MountPoints::Shared(shared) => lowers.push(shared),
        MountPoints::Absent if !lowers.is_empty() => {}
        // Kernels this old take no detached mount for a layer.
        MountPoints::Private | MountPoints::Absent => {
            return Err(Error::Rootfs {
                doing: "this kernel needs a directory below all layers".to_owned(),
                source: std::io::ErrorKind::Unsupported.into(),
            });
        }
    }
    std::thread::scope(|scope| {
        let joined = scope.spawn(|| mount_apart(&lowers, upper, work, options)).join();
        joined.unwrap_or_else(|_| {
            Err(Error::Rootfs { doing: "a thread".to_owned(), source: std::io::ErrorKind::Other.into() })
        })
    })
}

fn mount_apart(lowers: &[&Path], upper: &Path, work: &Path, options: &OverlayOptions) -> Result<OwnedFd> {
    separate_mounts().map_err(Error::rootfs("separating the mounts of a thread"))?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .map_err(Error::rootfs("separating the mounts of a thread"))?;
    // Opened here: the kernel takes layers from the thread's own namespace.
    let open = |path: &&Path| {
        rustix::fs::openat(CWD, *path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(Error::rootfs(format!("opening {}", path.display())))
    };
    let mapped = options.users.as_deref().map(|users| {
        let lowers: Vec<std::path::PathBuf> = lowers.iter().map(|lower| lower.to_path_buf()).collect();
        MappedLayers::new(users, (upper, work), &lowers, true)
    });
    let mapped = mapped.transpose()?;
    let open = |path: &&Path| mapped.as_ref().map_or_else(|| open(path), |mapped| mapped.open(path));
    let lowers = lowers.iter().map(open).collect::<Result<Vec<OwnedFd>>>()?;
    let (upper, work) = (open(&upper)?, open(&work)?);
    rustix::process::chdir(DESCRIPTORS).map_err(Error::rootfs(DESCRIPTORS))?;
    let text = option_text(&lowers, &upper, &work, options);
    if text.len() >= PAGE {
        return Err(Error::Rootfs {
            doing: format!("{} layers are more than this kernel takes", lowers.len()),
            source: std::io::ErrorKind::InvalidInput.into(),
        });
    }
    let text = std::ffi::CString::new(text)
        .map_err(|error| Error::Rootfs { doing: "joining the layers".to_owned(), source: error.into() })?;
    rustix::mount::mount("overlay", "/proc", "overlay", MountFlags::empty(), text.as_c_str())
        .map_err(Error::rootfs("joining the layers"))?;
    open_tree(CWD, "/proc", OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC)
        .map_err(Error::rootfs("taking the mount"))
}

fn option_text(lowers: &[OwnedFd], upper: &OwnedFd, work: &OwnedFd, options: &OverlayOptions) -> String {
    let names: Vec<String> = lowers.iter().map(|fd| fd.as_raw_fd().to_string()).collect();
    let mut text = format!("lowerdir={},upperdir={},workdir={}", names.join(":"), upper.as_raw_fd(), work.as_raw_fd());
    for (key, value) in overlay_settings(options) {
        // Writing to a string cannot fail.
        let _ = match value {
            Some(value) => write!(text, ",{key}={value}"),
            None => write!(text, ",{key}"),
        };
    }
    text
}
