//! A mount namespace with nothing of the machine in it, made before its time. Who is put into one needs neither the copy of all
//! the machine's mounts that clone makes, nor to drop them again, for which the kernel waits for all processors.
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, MoveMountFlags, mount_change, move_mount};

use crate::prepare::fresh::Fresh;
use crate::sys::mount::{pivot_onto, separate_mounts};

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
    openat(&namespaces, c"mnt", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
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

    use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
    use testdata::{Need, skipped};

    use super::*;
    use crate::sys::mount::separate_directory;

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
}
