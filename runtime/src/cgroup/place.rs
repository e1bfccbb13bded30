//! The directories of a control group: making them as one, opening them, and taking them away.
use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::file::errno_of;
use super::probe::{Controller, Hierarchy};
use super::{CGROUP_PARENT, Extent, Place1, Place2, v2};
use crate::error::{Error, Result};
use crate::signal::Signal;
use crate::userns::in_user_namespace;

/// Directories that were made, and that go again unless they are kept.
#[derive(Debug, Default)]
pub(super) struct Made {
    directories: Vec<(PathBuf, PathBuf)>,
}

impl Made {
    /// Makes a group and the missing ones above it.
    pub(super) fn directory(&mut self, mount: &Path, path: &Path) -> io::Result<()> {
        let directory = mount.join(path);
        // Another process may take an empty parent away between the two.
        for _ in 0..16 {
            if let Some(parent) = directory.parent() {
                fs::create_dir_all(parent)?;
            }
            match fs::create_dir(&directory) {
                Ok(()) => {
                    self.directories.push((mount.to_owned(), path.to_owned()));
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::ErrorKind::NotFound.into())
    }

    pub(super) fn keep(mut self) {
        self.directories.clear();
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        for (mount, path) in &self.directories {
            // An empty directory that stays does no harm, and the reason to be told is another.
            let _ = remove(&mount.join(path));
            remove_own_parents(mount, path);
        }
    }
}

/// Why there is no directory.
pub(super) enum Refused {
    Limit(Error),
    Directory(io::Error),
}

pub(super) fn cannot_make(limit: &'static str, directory: &Path, error: &io::Error) -> Error {
    let directory = directory.display();
    let reason = match errno_of(error) {
        Errno::ACCESS | Errno::PERM | Errno::ROFS => {
            let remedy = match in_user_namespace() {
                true => {
                    "run in a group that was delegated to you (`systemd-run --user --scope -p Delegate=yes dunnage …`)"
                }
                false => "run as root, or in a delegated group",
            };
            format!("the control group {directory} may not be made ({error}); {remedy}, or leave the limit out")
        }
        _ => format!("the control group {directory} cannot be made ({error})"),
    };
    Error::Limit { limit, reason }
}

impl Place1 {
    pub(super) fn open(hierarchy: Hierarchy, directory: PathBuf) -> Place1 {
        let entrance = OpenOptions::new().write(true).open(directory.join("cgroup.procs")).ok().map(Into::into);
        Place1 { hierarchy, directory, entrance }
    }
}

/// The controllers that count what is used.
const COUNTING: [Controller; 6] =
    [Controller::Memory, Controller::Pids, Controller::Cpu, Controller::Cpuset, Controller::Blkio, Controller::Hugetlb];

impl Place2 {
    pub(super) fn make(
        mount: &Path,
        path: &Path,
        needs: &[(Controller, &'static str)],
        extent: Extent,
        made: &mut Made,
    ) -> Result<Place2, Refused> {
        made.directory(mount, path).map_err(Refused::Directory)?;
        let mut wanted: Vec<Controller> = needs.iter().map(|(controller, _)| *controller).collect();
        if extent == Extent::Whole {
            // Whether or not something is asked of them: it can then be counted.
            wanted.extend(COUNTING);
        }
        v2::delegate(mount, path, needs, &wanted).map_err(Refused::Limit)?;
        Place2::open(mount, path).map_err(Refused::Limit)
    }

    pub(super) fn open(mount: &Path, path: &Path) -> Result<Place2> {
        let directory = mount.join(path);
        let descriptor = fs::File::open(&directory).map_err(Error::cgroup(&directory, "opening it"))?.into();
        Ok(Place2 { mount: mount.to_owned(), directory, descriptor })
    }
}

/// The processes of a group and of all groups below it.
pub(super) fn processes(directory: &Path, found: &mut Vec<u32>) -> io::Result<()> {
    let text = match fs::read_to_string(directory.join("cgroup.procs")) {
        Err(error) if is_gone(&error) => return Ok(()),
        result => result?,
    };
    found.extend(text.lines().filter_map(|line| line.parse::<u32>().ok()).filter(|pid| *pid != 0));
    for child in children(directory) {
        processes(&child, found)?;
    }
    Ok(())
}

fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || errno_of(error) == Errno::NODEV
}

pub(super) fn children(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()).collect()
}

/// One that has ended is no error.
pub(super) fn signal(pid: u32, signal: Signal) -> Result<()> {
    let failed = Error::container("sending a signal");
    let Some(process) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw) else { return Ok(()) };
    // By descriptor, so that a number that was given away meanwhile means nobody else.
    let sent = rustix::process::pidfd_open(process, rustix::process::PidfdFlags::empty()).and_then(|fd| {
        use std::os::fd::AsFd;
        crate::sys::process::send_by_descriptor(fd.as_fd(), signal.number())
    });
    match sent {
        Ok(()) | Err(Errno::SRCH) => Ok(()),
        Err(errno) => Err(failed(errno)),
    }
}

/// Removes a group and those below it, the lowest first.
pub(super) fn remove(directory: &Path) -> io::Result<()> {
    match fs::remove_dir(directory) {
        Err(error) if errno_of(&error) == Errno::BUSY => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        result => return result,
    }
    for child in children(directory) {
        remove(&child)?;
    }
    match fs::remove_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// The parents that nobody but this program makes go with their last child.
pub(super) fn remove_own_parents(mount: &Path, path: &Path) {
    if !path.starts_with(CGROUP_PARENT) {
        return;
    }
    for parent in path.ancestors().skip(1).filter(|parent| !parent.as_os_str().is_empty()) {
        if fs::remove_dir(mount.join(parent)).is_err() {
            return;
        }
    }
}
