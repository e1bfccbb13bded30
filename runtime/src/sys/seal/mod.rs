//! The program's own file, out of the reach of containers. One that gets a process to execute /proc/self/exe has that
//! file open, by a mount of the host on which it can be written; so the process runs by a mount on which it cannot.
#[cfg(all(target_os = "linux", target_arch = "x86_64", target_env = "gnu"))]
mod entry;

use std::ffi::{CString, c_char};
use std::os::fd::{AsFd, AsRawFd};

use rustix::fs::{CWD, Mode, OFlags, StatVfsMountFlags, fstatvfs, openat};
use rustix::io::Errno;

use crate::rootfs::clone_tree;
use crate::sys::mount::{ATTR_RDONLY, Reach, set_attributes};

unsafe extern "C" {
    static environ: *const *const c_char;
}

/// Runs this program once more, by a read-only mount of its file that nobody can reach. Returns when it runs so already,
/// or with the reason why it cannot.
pub(crate) fn run_sealed(argv: &[CString]) -> Result<(), Errno> {
    let file = openat(CWD, c"/proc/self/exe", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    if fstatvfs(&file)?.f_flag.contains(StatVfsMountFlags::RDONLY) {
        return Ok(());
    }
    let sealed = clone_tree(file.as_fd(), Reach::One)?;
    set_attributes(&sealed, ATTR_RDONLY, Reach::One)?;
    let mut words: Vec<*const c_char> = argv.iter().map(|word| word.as_ptr()).collect();
    words.push(std::ptr::null());
    // SAFETY: the words end with a null pointer and live until the call has ended; no other thread runs yet that could
    // change the environment.
    let result = unsafe {
        libc::syscall(
            libc::SYS_execveat,
            sealed.as_raw_fd(),
            c"".as_ptr(),
            words.as_ptr(),
            environ,
            libc::AT_EMPTY_PATH,
        )
    };
    super::check(result).map(drop)
}
