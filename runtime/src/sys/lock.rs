//! Locks on parts of a file, which belong to an open description: they go with its last descriptor, however its process ends.
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;

use super::check;

/// A part of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) first: u64,
    pub(crate) count: u64,
}

/// Locks a part for this description alone. Gives what another one has of it where that is in the way.
pub(crate) fn try_lock(file: BorrowedFd<'_>, part: Part) -> Result<Option<Part>, Errno> {
    // Somebody may let go between the two questions: then the first is asked again.
    const ATTEMPTS: usize = 8;
    for _ in 0..ATTEMPTS {
        let mut lock = exclusive(part);
        match control(file, libc::F_OFD_SETLK, &mut lock) {
            Ok(()) => return Ok(None),
            Err(Errno::AGAIN | Errno::ACCESS) => {}
            Err(errno) => return Err(errno),
        }
        control(file, libc::F_OFD_GETLK, &mut lock)?;
        if i32::from(lock.l_type) != libc::F_UNLCK {
            let (first, count) = (lock.l_start.unsigned_abs(), lock.l_len.unsigned_abs());
            // No length is all that follows.
            return Ok(Some(Part { first, count: if count == 0 { u64::MAX - first } else { count } }));
        }
    }
    Ok(Some(part))
}

fn exclusive(part: Part) -> libc::flock {
    libc::flock {
        l_type: libc::F_WRLCK as i16,
        l_whence: libc::SEEK_SET as i16,
        l_start: part.first.cast_signed(),
        l_len: part.count.cast_signed(),
        l_pid: 0,
    }
}

fn control(file: BorrowedFd<'_>, command: libc::c_int, lock: &mut libc::flock) -> Result<(), Errno> {
    // SAFETY: both commands read a `struct flock`, and F_OFD_GETLK writes one.
    check(unsafe { libc::fcntl(file.as_raw_fd(), command, &raw mut *lock) }.into()).map(drop)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn parts_belong_to_one_description_until_it_is_closed() {
        let path = tempfile::NamedTempFile::new().unwrap();
        let open = || std::fs::OpenOptions::new().read(true).write(true).open(path.path()).unwrap();
        let (one, other) = (open(), open());
        let part = |first, count| Part { first, count };
        assert_eq!(try_lock(one.as_fd(), part(10, 10)).unwrap(), None);
        assert_eq!(try_lock(other.as_fd(), part(15, 10)).unwrap(), Some(part(10, 10)));
        assert_eq!(try_lock(other.as_fd(), part(20, 10)).unwrap(), None);
        drop(one);
        // Processes that tests beside this one start have its descriptor until they execute something.
        testdata::until("it is free", || try_lock(other.as_fd(), part(0, 20)).unwrap().is_none());
    }
}
