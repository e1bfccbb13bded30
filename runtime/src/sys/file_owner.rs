//! Who a thread is for file systems: what it makes belongs to somebody else while all its rights stay.
use std::marker::PhantomData;

use rustix::io::Errno;

use super::capability;

/// This thread makes files as another user, until this is dropped. Ids that a mount does not map can make nothing there.
#[derive(Debug)]
pub struct FileOwner {
    /// The kernel keeps this for each thread.
    _thread: PhantomData<*const ()>,
}

impl FileOwner {
    /// The caller must be user 0.
    pub(crate) fn hold(uid: u32, gid: u32) -> Result<FileOwner, Errno> {
        let owner = FileOwner { _thread: PhantomData };
        become_one(uid, gid).map(|()| owner)
    }
}

/// The same until this thread becomes somebody else in all. Does not allocate.
pub(crate) fn become_one(uid: u32, gid: u32) -> Result<(), Errno> {
    set(uid, gid);
    // Neither call says whether it did anything: it tells what was so before.
    if set(uid, gid) != (uid, gid) {
        return Err(Errno::PERM);
    }
    // The kernel took the rights over files along with the id.
    capability::raise_permitted()
}

impl Drop for FileOwner {
    fn drop(&mut self) {
        set(0, 0);
    }
}

/// Gives who it was before.
fn set(uid: u32, gid: u32) -> (u32, u32) {
    // SAFETY: both take a number, and change this thread alone.
    let (gid, uid) = unsafe { (libc::syscall(libc::SYS_setfsgid, gid), libc::syscall(libc::SYS_setfsuid, uid)) };
    (uid as u32, gid as u32)
}
