//! A mount namespace with nothing of the machine in it, made before its time. Who is put into one needs neither the copy of all
//! the machine's mounts that clone makes, nor to drop them again, for which the kernel waits for all processors.
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, MoveMountFlags, mount_change, move_mount};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::prepare::fresh::Fresh;
use crate::sys::mount::{mount_id, pivot_onto, separate_mounts};

/// Makes one, and leaves the calling thread in it, where it finds no file of the machine any more: it has to end. What the
/// namespace holds is read-only and empty but for a place to put mounts aside.
pub(crate) fn make_and_stay() -> Result<OwnedFd, Errno> {
    let namespaces =
        openat(CWD, c"/proc/thread-self/ns", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let floor = Fresh::Directories(vec![c"dev".to_owned()]).make()?;
    separate_mounts()?;
    mount_change(c"/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    move_mount(&floor, c"", CWD, c"/", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    pivot_onto(floor.as_fd())?;
    let room = openat(&namespaces, c"mnt", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    // Who moves in comes to the root of the namespace: that is not the floor where the caller's own root was changed by chroot,
    // and moving in takes a right that making one does not.
    move_into_link_name_space(room.as_fd(), Some(LinkNameSpaceType::Mount))?;
    if mount_id(CWD, c"/")? == mount_id(floor.as_fd(), c"")? { Ok(room) } else { Err(Errno::XDEV) }
}

/// Makes one on a thread of its own.
pub(crate) fn make() -> Result<OwnedFd, Errno> {
    let thread = std::thread::Builder::new().stack_size(64 << 10).spawn(make_and_stay).map_err(|_| Errno::AGAIN)?;
    thread.join().map_err(|_| Errno::IO)?
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::print_stdout)]
mod tests {
    use std::fs::File;

    use testdata::{Need, skipped};

    use super::*;
    use crate::rootfs::clone_tree;
    use crate::sys::mount::{Reach, separate_directory};

    fn names(directory: &str) -> Vec<String> {
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_room_shows_nothing_of_the_machine_and_takes_no_file() {
        if skipped(&[Need::Root]) {
            return;
        }
        let here = std::fs::read_link("/proc/self/ns/mnt").unwrap();
        let room = make().unwrap();
        let look = move || {
            separate_directory().unwrap();
            move_into_link_name_space(room.as_fd(), Some(LinkNameSpaceType::Mount)).unwrap();
            assert_eq!((names("/"), names("/.."), names("/dev")), (vec!["dev".into()], vec!["dev".into()], vec![]));
            assert!(File::create("/dev/file").is_err());
        };
        std::thread::spawn(look).join().unwrap();
        assert_eq!(std::fs::read_link("/proc/self/ns/mnt").unwrap(), here);
    }

    /// Below the root that chroot gave it lies the machine's, with all its mounts.
    #[test]
    fn nobody_whose_root_is_not_that_of_its_mounts_makes_a_room() {
        if skipped(&[Need::Root]) {
            return;
        }
        let place = tempfile::tempdir().unwrap();
        let path = place.path().to_owned();
        let make = move || {
            separate_mounts().unwrap();
            mount_change(c"/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
            let machine = clone_tree(File::open("/").unwrap().as_fd(), Reach::Below).unwrap();
            move_mount(&machine, c"", CWD, &path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH).unwrap();
            rustix::process::chroot(&path).unwrap();
            rustix::process::chdir("/").unwrap();
            make_and_stay().map(drop)
        };
        assert_eq!(std::thread::spawn(make).join().unwrap(), Err(Errno::XDEV));
    }
}
