//! Whether overlay can be had on a file system: asked by using it, not by version numbers.
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxFlags};
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::rootfs::{MountPoints, OverlayOptions, Rootfs};

const OVERLAYFS_MAGIC: i64 = 0x794c_7630;

/// What a probe found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Overlay {
    /// It mounts, and keeps whiteouts and opaque directories.
    Works,
    /// It cannot be had.
    Missing {
        /// What is in the way.
        why: String,
        /// What would help.
        remedy: String,
    },
}

/// Mounts a small overlay in `directory`, which must be there and empty, and removes a file and a directory through it.
///
/// # Errors
/// When the directory cannot be written.
pub fn probe_overlay(directory: &Path) -> Result<Overlay> {
    let failed = |source: io::Error| Error::Rootfs { doing: format!("probing {}", directory.display()), source };
    for name in ["lower/d/inner", "upper", "work"] {
        fs::create_dir_all(directory.join(name)).map_err(failed)?;
    }
    fs::write(directory.join("lower/f"), "").map_err(failed)?;
    let options = OverlayOptions { volatile: true, mount_points: MountPoints::Absent, ..OverlayOptions::default() };
    let lowers = [directory.join("lower")];
    let upper = directory.join("upper");
    let rootfs = match Rootfs::overlay(&lowers, &upper, &directory.join("work"), options) {
        Ok(rootfs) => rootfs,
        Err(Error::Rootfs { source, .. }) => return Ok(missing(directory, &source)),
        Err(error) => return Err(error),
    };
    Ok(match change(&rootfs) {
        Ok(()) if marks_are_there(&upper) => Overlay::Works,
        Ok(()) => Overlay::Missing {
            why: "the file system of the store does not keep the marks of removed files".to_owned(),
            remedy: ELSEWHERE.to_owned(),
        },
        Err(errno) => missing(directory, &errno.into()),
    })
}

/// Whether this process acts as user 0, asked of the kernel: /proc may not be there.
#[must_use]
pub fn is_superuser() -> bool {
    rustix::process::geteuid().is_root()
}

/// What the answer of a probe depends on: the running kernel, and the mount that holds the directory.
///
/// # Errors
/// When the directory cannot be looked at.
pub fn mount_identity(directory: &Path) -> Result<String> {
    let failed = Error::rootfs(format!("looking at {}", directory.display()));
    let stat = rustix::fs::statx(CWD, directory, AtFlags::empty(), StatxFlags::MNT_ID).map_err(failed)?;
    let kernel = rustix::system::uname();
    let (release, version) = (kernel.release().to_string_lossy(), kernel.version().to_string_lossy());
    Ok(format!("{release} {version} {} {}:{}\n", stat.stx_mnt_id, stat.stx_dev_major, stat.stx_dev_minor))
}

fn change(rootfs: &Rootfs) -> rustix::io::Result<()> {
    rustix::fs::unlinkat(rootfs.fd(), "f", AtFlags::empty())?;
    rustix::fs::unlinkat(rootfs.fd(), "d/inner", AtFlags::REMOVEDIR)?;
    rustix::fs::unlinkat(rootfs.fd(), "d", AtFlags::REMOVEDIR)?;
    rustix::fs::mkdirat(rootfs.fd(), "d", Mode::RWXU)
}

fn marks_are_there(upper: &Path) -> bool {
    let whiteout = fs::symlink_metadata(upper.join("f"))
        .is_ok_and(|metadata| metadata.file_type().is_char_device() && metadata.rdev() == 0);
    let mut value = [0_u8; 4];
    let directory =
        rustix::fs::openat(CWD, upper.join("d"), OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let opaque = directory.is_ok_and(|fd| {
        ["trusted.overlay.opaque", "user.overlay.opaque"]
            .iter()
            .any(|mark| rustix::fs::fgetxattr(&fd, *mark, &mut value).is_ok())
    });
    whiteout && opaque
}

const ELSEWHERE: &str = "put the store on ext4, xfs or btrfs (--root or DUNNAGE_ROOT)";

fn missing(directory: &Path, error: &io::Error) -> Overlay {
    let on_overlay = rustix::fs::statfs(directory).is_ok_and(|stat| stat.f_type == OVERLAYFS_MAGIC);
    let (why, remedy) = match Errno::from_io_error(error) {
        _ if on_overlay => (
            "the store itself lies on an overlay, as in a container, and the kernel stacks no other on it".to_owned(),
            "mount a volume for the store (--root or DUNNAGE_ROOT)".to_owned(),
        ),
        Some(Errno::NODEV) => {
            ("this kernel has no overlayfs".to_owned(), "load its module (modprobe overlay)".to_owned())
        }
        Some(Errno::PERM | Errno::ACCESS) => {
            ("this process may not mount".to_owned(), "run as root, with CAP_SYS_ADMIN".to_owned())
        }
        Some(Errno::NOSYS) => {
            ("this kernel or a filter of system calls has no fsopen".to_owned(), "use Linux 5.4 or newer".to_owned())
        }
        _ => (format!("the kernel refuses an overlay there ({error})"), ELSEWHERE.to_owned()),
    };
    Overlay::Missing { why, remedy }
}
