//! Claims: the right to perform a step, so that of many builds in one store one works and the others take its result.
//!
//! A claim is a lock on one byte of one file, at an offset that the key gives. The kernel frees it with its holder, and
//! nothing is left behind. Two keys that share an offset only wait for each other.

use std::fs::File;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};

use crate::digest::CacheKey;
use crate::error::{Error, Result};
use crate::failpoint::failpoint;
use crate::store::{Store, lock_file};

/// The right to perform a step, until it is dropped.
#[derive(Debug)]
pub struct Claim {
    _file: File,
}

impl Store {
    /// Claims a step; `None` while another build holds it, of this process or of any other.
    ///
    /// # Errors
    /// When the file of claims cannot be opened or locked.
    pub fn try_claim(&self, key: &CacheKey) -> Result<Option<Claim>> {
        let path = self.path("claims");
        // Each claim has a description of its own: such locks belong to the description, not to the process.
        let file = lock_file(&path)?;
        failpoint("claim.take")?;
        let lock = libc::flock {
            l_type: libc::F_WRLCK as libc::c_short,
            l_whence: libc::SEEK_SET as libc::c_short,
            l_start: offset(key),
            l_len: 1,
            l_pid: 0,
        };
        match fcntl(&file, FcntlArg::F_OFD_SETLK(&lock)) {
            Ok(_) => Ok(Some(Claim { _file: file })),
            Err(Errno::EAGAIN | Errno::EACCES) => Ok(None),
            Err(errno) => Err(Error::path("lock", &path)(errno.into())),
        }
    }
}

/// The first 62 bits of the key: an offset must not be negative, nor must the end of the range.
fn offset(key: &CacheKey) -> i64 {
    let first = key.as_bytes().first_chunk().copied().unwrap_or_default();
    (u64::from_be_bytes(first) >> 2).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_excludes_others_until_it_is_dropped() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("store")).unwrap();
        let key = |text: &str| CacheKey::from_bytes(*blake3::hash(text.as_bytes()).as_bytes());
        let held = store.try_claim(&key("a")).unwrap();
        assert!(held.is_some());
        assert!(store.try_claim(&key("a")).unwrap().is_none());
        assert!(store.try_claim(&key("b")).unwrap().is_some());
        drop(held);
        // A process that a test beside this one starts has its descriptor until it executes something.
        testdata::until("it is free", || store.try_claim(&key("a")).unwrap().is_some());
    }
}
