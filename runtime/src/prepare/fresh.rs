//! File systems of a sandbox's own that depend on nothing but what is written here: they can be made before their time.
use std::ffi::CString;
use std::fmt;
use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid, openat};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen};

use crate::plan::{Attributes, Device, DeviceKind, StagedFile};
use crate::rootfs::tmpfs;
use crate::sys::mount::{ATTR_RDONLY, Reach, set_attributes};

/// Room of the staging tmpfs for names and nodes, beside the content of its files.
const STAGE_SPARE: usize = 4 << 20;

/// A new file system in memory, detached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fresh {
    /// The staging tmpfs.
    Stage { files: Vec<StagedFile>, devices: Vec<Device>, places: Vec<CString> },
    /// The tmpfs for /dev, with its links, empty places for devices, and the devices that live in it.
    Dev { places: Vec<CString>, devices: Vec<Device>, attributes: u64 },
    /// A private set of terminals, of this group where there is one.
    Pts { group: Option<u32> },
    /// A tmpfs.
    Tmpfs { size: Option<u64>, mode: u32, executable: bool },
    /// A tmpfs with nothing but empty directories, read-only.
    Directories(Vec<CString>),
}

impl Fresh {
    pub(crate) fn make(&self) -> Result<OwnedFd, Errno> {
        match self {
            Fresh::Stage { files, devices, places } => stage(files, devices, places),
            Fresh::Dev { places, devices, attributes } => device_directory(places, devices, *attributes),
            Fresh::Pts { group } => terminals(*group),
            Fresh::Tmpfs { size, mode, executable } => memory(*size, *mode, *executable),
            Fresh::Directories(names) => directories(names),
        }
    }
}

impl fmt::Display for Fresh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fresh::Stage { files, devices, .. } => write!(f, "{} files, {} devices", files.len(), devices.len()),
            Fresh::Dev { places, devices, attributes } => {
                write!(f, "tmpfs with {} places, {} devices{}", places.len(), devices.len(), Attributes(*attributes))
            }
            Fresh::Pts { .. } => f.write_str("devpts"),
            Fresh::Tmpfs { size: Some(size), mode, .. } => write!(f, "tmpfs {size} bytes, mode {mode:o}"),
            Fresh::Tmpfs { size: None, mode, .. } => write!(f, "tmpfs mode {mode:o}"),
            Fresh::Directories(names) => write!(f, "tmpfs with {} directories", names.len()),
        }
    }
}

fn stage(files: &[StagedFile], devices: &[Device], places: &[CString]) -> Result<OwnedFd, Errno> {
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let bytes: usize = files.iter().map(|file| file.content.bytes().len().next_multiple_of(64 << 10)).sum();
    let stage = tmpfs(&[("mode", "755"), ("size", &(STAGE_SPARE + bytes).to_string())], attributes)?;
    rustix::fs::mkdirat(&stage, c"empty", Mode::empty())?;
    rustix::fs::chmodat(&stage, c"empty", Mode::from_raw_mode(0o555), AtFlags::empty())?;
    for StagedFile { name, content, mode, uid, gid } in files {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        let file = openat(&stage, name.as_c_str(), flags, Mode::empty())?;
        if (*uid, *gid) != (0, 0) {
            rustix::fs::fchown(&file, Some(Uid::from_raw(*uid)), Some(Gid::from_raw(*gid)))?;
        }
        rustix::fs::fchmod(&file, Mode::from_raw_mode(*mode))?;
        let mut file = File::from(file);
        file.write_all(content.bytes()).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    }
    for name in places {
        rustix::fs::mkdirat(&stage, name.as_c_str(), Mode::RWXU)?;
    }
    make_devices(&stage, devices)?;
    Ok(stage)
}

fn make_devices(directory: &OwnedFd, devices: &[Device]) -> Result<(), Errno> {
    for device in devices {
        let kind = match device.kind {
            DeviceKind::Character => FileType::CharacterDevice,
            DeviceKind::Block => FileType::BlockDevice,
        };
        let mode = Mode::from_raw_mode(device.mode);
        let number = rustix::fs::makedev(device.major, device.minor);
        rustix::fs::mknodat(directory, device.name.as_c_str(), kind, mode, number)?;
        // mknod obeys the caller's umask; a device's mode must not.
        rustix::fs::chmodat(directory, device.name.as_c_str(), mode, AtFlags::empty())?;
    }
    Ok(())
}

fn directories(names: &[CString]) -> Result<OwnedFd, Errno> {
    let attributes =
        MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let tmpfs = tmpfs(&[("mode", "755"), ("size", "64k")], attributes)?;
    for name in names {
        rustix::fs::mkdirat(&tmpfs, name.as_c_str(), Mode::empty())?;
        rustix::fs::chmodat(&tmpfs, name.as_c_str(), Mode::from_raw_mode(0o755), AtFlags::empty())?;
    }
    set_attributes(&tmpfs, ATTR_RDONLY, Reach::One)?;
    Ok(tmpfs)
}

const DEVICE_LINKS: [(&str, &str); 6] = [
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
    ("/proc/kcore", "core"),
    ("pts/ptmx", "ptmx"),
];

fn device_directory(places: &[CString], devices: &[Device], attributes: u64) -> Result<OwnedFd, Errno> {
    let attributes = MountAttrFlags::from_bits_retain(attributes as u32);
    let dev = tmpfs(&[("mode", "755"), ("size", "64m")], attributes)?;
    for name in [c"pts", c"shm", c"mqueue"] {
        rustix::fs::mkdirat(&dev, name, Mode::empty())?;
        rustix::fs::chmodat(&dev, name, Mode::from_raw_mode(0o755), AtFlags::empty())?;
    }
    for (to, name) in DEVICE_LINKS {
        rustix::fs::symlinkat(to, &dev, name)?;
    }
    for name in places {
        openat(&dev, name.as_c_str(), OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    }
    make_devices(&dev, devices)?;
    Ok(dev)
}

fn terminals(group: Option<u32>) -> Result<OwnedFd, Errno> {
    let create = |group: Option<u32>| {
        let context = fsopen(c"devpts", FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_set_string(&context, c"source", c"devpts")?;
        fsconfig_set_string(&context, c"ptmxmode", c"0666")?;
        fsconfig_set_string(&context, c"mode", c"0620")?;
        if let Some(group) = group {
            fsconfig_set_string(&context, c"gid", group.to_string())?;
        }
        fsconfig_create(&context)?;
        let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
    };
    // A user namespace need not map the tty group.
    match create(group) {
        Err(Errno::INVAL) if group.is_some() => create(None),
        result => result,
    }
}

fn memory(size: Option<u64>, mode: u32, executable: bool) -> Result<OwnedFd, Errno> {
    let mode = format!("{mode:o}");
    let size = size.map(|size| size.to_string());
    let mut options = vec![("mode", mode.as_str())];
    if let Some(size) = &size {
        options.push(("size", size.as_str()));
    }
    let mut attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    attributes.set(MountAttrFlags::MOUNT_ATTR_NOEXEC, !executable);
    tmpfs(&options, attributes)
}
