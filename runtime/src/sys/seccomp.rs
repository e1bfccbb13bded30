//! Loading a compiled filter. Does not allocate.
use rustix::io::Errno;

use super::check;
use crate::seccomp::Instruction;

/// Puts a filter on this thread; needs CAP_SYS_ADMIN or no-new-privileges.
pub(crate) fn load(program: &[Instruction], flags: u32) -> Result<(), Errno> {
    let length = libc::c_ushort::try_from(program.len()).map_err(|_| Errno::TOOBIG)?;
    // `Instruction` has the layout of `sock_filter`; the kernel only reads it, whatever the type of the pointer says.
    let filter = libc::sock_fprog { len: length, filter: program.as_ptr().cast::<libc::sock_filter>().cast_mut() };
    // SAFETY: `filter` and the program outlive the call.
    check(unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const filter) })
        .map(drop)
}
