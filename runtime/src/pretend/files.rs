//! Processes and files seen by their numbers: the memory of a caller, its parents, and the owners that it gives.
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Uid, XattrFlags, fstat, openat, openat2};
use rustix::io::Errno;

use super::OwnerAttributes;
use crate::sys::notify::Asked;

#[cfg(target_arch = "x86_64")]
pub(super) const CHOWN: libc::c_long = libc::SYS_chown;
#[cfg(target_arch = "x86_64")]
pub(super) const LCHOWN: libc::c_long = libc::SYS_lchown;
// Newer architectures have fchownat alone.
#[cfg(not(target_arch = "x86_64"))]
pub(super) const CHOWN: libc::c_long = libc::SYS_fchownat;
#[cfg(not(target_arch = "x86_64"))]
pub(super) const LCHOWN: libc::c_long = libc::SYS_fchownat;

/// "Leave it as it is".
const KEEP: u32 = u32::MAX;
/// The kernel's PATH_MAX.
const PATH_LIMIT: usize = 4096;
const STATUS_LIMIT: usize = 4096;

/// The machine's processes, and where owners are recorded.
pub(super) struct Files {
    /// /proc of this process.
    pub(super) proc: OwnedFd,
    pub(super) attributes: OwnerAttributes,
}

/// A file that is to be given away.
struct Request {
    /// The directory that `path` begins at; None for the working directory.
    directory: Option<i32>,
    path: PathBuf,
    follow: bool,
    uid: u32,
    gid: u32,
}

pub(super) fn is_chown(number: libc::c_long) -> bool {
    [CHOWN, LCHOWN, libc::SYS_fchown, libc::SYS_fchownat].contains(&number)
}

impl Files {
    /// The memory of a thread.
    pub(super) fn memory(&self, thread: u32) -> Result<File, Errno> {
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        Ok(openat(&self.proc, format!("{thread}/mem"), flags, Mode::empty())?.into())
    }

    /// The process that a thread belongs to.
    pub(super) fn process_of(&self, thread: u32) -> Result<u32, Errno> {
        self.status(thread, "Tgid:").ok_or(Errno::SRCH)
    }

    /// The parent of a process; None for the first of the container and for one that is gone.
    pub(super) fn parent_of(&self, process: u32) -> Option<u32> {
        self.status(process, "PPid:").filter(|parent| *parent > 1)
    }

    pub(super) fn is_alive(&self, process: u32) -> bool {
        rustix::fs::statat(&self.proc, process.to_string(), AtFlags::empty()).is_ok()
    }

    fn status(&self, process: u32, field: &str) -> Option<u32> {
        let fd =
            openat(&self.proc, format!("{process}/status"), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
        let mut text = vec![0_u8; STATUS_LIMIT];
        let length = rustix::io::read(&fd, &mut text).ok()?;
        let text = String::from_utf8_lossy(text.get(..length)?).into_owned();
        text.lines().find_map(|line| line.strip_prefix(field)?.trim().parse().ok())
    }

    pub(super) fn chown(&self, asked: &Asked, memory: &File) -> Result<(), Errno> {
        let [a, b, c, d, e, _] = asked.arguments;
        let text = |address: u64| read_path(memory, address);
        let request = match asked.number {
            libc::SYS_fchown => {
                let (directory, path) = (Some(a as i32), PathBuf::new());
                Request { directory, path, follow: true, uid: b as u32, gid: c as u32 }
            }
            libc::SYS_fchownat => {
                let flags = AtFlags::from_bits_retain(e as u32);
                let path = text(b)?;
                if path.as_os_str().is_empty() && !flags.contains(AtFlags::EMPTY_PATH) {
                    return Err(Errno::NOENT);
                }
                let directory = Some(a as i32).filter(|directory| *directory != libc::AT_FDCWD);
                let follow = !flags.contains(AtFlags::SYMLINK_NOFOLLOW);
                Request { directory, path, follow, uid: c as u32, gid: d as u32 }
            }
            number => {
                let path = text(a)?;
                if path.as_os_str().is_empty() {
                    return Err(Errno::NOENT);
                }
                Request { directory: None, path, follow: number == CHOWN, uid: b as u32, gid: c as u32 }
            }
        };
        self.give(asked.thread, &request)
    }

    fn give(&self, thread: u32, request: &Request) -> Result<(), Errno> {
        let root = self.open(format!("{thread}/root"), OFlags::PATH | OFlags::DIRECTORY)?;
        let base = match request.directory {
            Some(number) => format!("{thread}/fd/{number}"),
            None => format!("{thread}/cwd"),
        };
        if request.path.as_os_str().is_empty() {
            let stat = fstat(self.open(base.clone(), OFlags::PATH)?)?;
            return match FileType::from_raw_mode(stat.st_mode) {
                FileType::RegularFile | FileType::Directory => {
                    let file = self.open(base, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?;
                    self.record(&file, self.attributes.own.as_ref(), request, &stat)
                }
                // A pipe, a socket or a device has no place where an owner could be kept.
                _ => Ok(()),
            };
        }
        // The kernel tells where a directory is as seen from the top of its mounts, which is the container's root.
        let place = match request.path.is_absolute() {
            true => request.path.clone(),
            false => PathBuf::from(OsString::from_vec(
                rustix::fs::readlinkat(&self.proc, base.as_str(), Vec::new())?.into_bytes(),
            ))
            .join(&request.path),
        };
        self.give_path(&root, &place, request)
    }

    fn give_path(&self, root: &OwnedFd, place: &Path, request: &Request) -> Result<(), Errno> {
        let open = |path: &Path, flags: OFlags| {
            openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::IN_ROOT)
        };
        let last = if request.follow { OFlags::empty() } else { OFlags::NOFOLLOW };
        let stat = fstat(open(place, OFlags::PATH | last)?)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile | FileType::Directory => {
                let file = open(place, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | last)?;
                self.record(&file, self.attributes.own.as_ref(), request, &stat)
            }
            _ => {
                let (Some(parent), Some(name)) = (place.parent(), place.file_name()) else { return Ok(()) };
                let directory = open(parent, OFlags::RDONLY | OFlags::DIRECTORY)?;
                let mut attribute = OsString::from(self.attributes.of_entry);
                attribute.push(name);
                self.record(&directory, &attribute, request, &stat)
            }
        }
    }

    fn record(&self, file: &OwnedFd, attribute: &OsStr, request: &Request, stat: &Stat) -> Result<(), Errno> {
        let mut value = [0_u8; 32];
        let known = rustix::fs::fgetxattr(file, attribute, &mut value).ok();
        let known = known.and_then(|length| parse(value.get(..length)?));
        let (uid, gid) = known.unwrap_or((stat.st_uid, stat.st_gid));
        let uid = if request.uid == KEEP { uid } else { request.uid };
        let gid = if request.gid == KEEP { gid } else { request.gid };
        if attribute == self.attributes.own {
            // As the kernel does: whoever gets a file does not get the rights of its last owner.
            rustix::fs::fchown(file, Some(Uid::from_raw(0)), Some(Gid::from_raw(0)))?;
        }
        let recorded = match (uid, gid) {
            (0, 0) => rustix::fs::fremovexattr(file, attribute),
            _ => rustix::fs::fsetxattr(file, attribute, format!("{uid}:{gid}").as_bytes(), XattrFlags::empty()),
        };
        match recorded {
            // There was no record, or it is no file that an image could hold.
            Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(()),
            result => result,
        }
    }

    fn open(&self, path: String, flags: OFlags) -> Result<OwnedFd, Errno> {
        openat(&self.proc, path, flags | OFlags::CLOEXEC, Mode::empty())
    }
}

fn read_path(memory: &File, address: u64) -> Result<PathBuf, Errno> {
    let mut bytes = vec![0_u8; PATH_LIMIT];
    let mut filled = 0;
    // What lies behind the path may not be there: page by page.
    while filled < PATH_LIMIT {
        let at = address.wrapping_add(filled as u64);
        let page = 4096 - usize::try_from(at % 4096).unwrap_or(0);
        let end = (filled + page).min(PATH_LIMIT);
        let part = bytes.get_mut(filled..end).ok_or(Errno::FAULT)?;
        memory.read_exact_at(part, at).map_err(|_| Errno::FAULT)?;
        if let Some(length) = part.iter().position(|byte| *byte == 0) {
            bytes.truncate(filled + length);
            return Ok(PathBuf::from(OsString::from_vec(bytes)));
        }
        filled = end;
    }
    Err(Errno::NAMETOOLONG)
}

fn parse(value: &[u8]) -> Option<(u32, u32)> {
    let (uid, gid) = std::str::from_utf8(value).ok()?.split_once(':')?;
    Some((uid.parse().ok()?, gid.parse().ok()?))
}
