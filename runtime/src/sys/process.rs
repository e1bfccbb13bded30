//! Signals, waiting, descriptors and exec of the calling process, as far as rustix leaves them out. Nothing here allocates.
use std::ffi::{CStr, c_char};
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::time::Duration;

use rustix::io::Errno;

use super::check;
use crate::exit::{Exit, Usage};

/// Blocks every signal of this thread; the guard restores the old mask.
#[derive(Debug)]
pub(crate) struct SignalsBlocked {
    before: u64,
}

const MASK_SIZE: usize = size_of::<u64>();

fn set_mask(mask: u64) -> u64 {
    let mut before = 0_u64;
    // SAFETY: both pointers lead to a kernel signal set of the size given. The call cannot fail with these arguments.
    unsafe {
        libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const mask, &raw mut before, MASK_SIZE);
    }
    before
}

impl SignalsBlocked {
    pub(crate) fn new() -> SignalsBlocked {
        SignalsBlocked { before: set_mask(u64::MAX) }
    }
}

impl Drop for SignalsBlocked {
    fn drop(&mut self) {
        set_mask(self.before);
    }
}

/// Resets every disposition to the default.
pub(crate) fn reset_dispositions() {
    // The kernel's `struct sigaction`: all zero is the default disposition.
    let action = [0_usize; 4];
    for signal in 1..=64 {
        // SAFETY: `action` is as large as the kernel's structure. SIGKILL and SIGSTOP are refused, which is fine.
        unsafe {
            libc::syscall(libc::SYS_rt_sigaction, signal, action.as_ptr(), std::ptr::null::<usize>(), MASK_SIZE);
        }
    }
}

/// Lets every signal through.
pub(crate) fn unblock_signals() {
    set_mask(0);
}

/// Waits for the next of the blocked signals and gives its number.
pub(crate) fn next_signal() -> Result<i32, Errno> {
    let all = u64::MAX;
    // SAFETY: `all` is a kernel signal set of the size given; the other pointers may be null.
    let signal = unsafe {
        libc::syscall(
            libc::SYS_rt_sigtimedwait,
            &raw const all,
            std::ptr::null::<u8>(),
            std::ptr::null::<u8>(),
            MASK_SIZE,
        )
    };
    check(signal).map(|signal| signal as i32)
}

/// Marks every descriptor from `first` up as close-on-exec.
pub(crate) fn close_on_exec_from(first: u32) -> Result<(), Errno> {
    const CLOSE_RANGE_CLOEXEC: libc::c_uint = 4;
    // SAFETY: the call takes numbers only and closes nothing now.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, CLOSE_RANGE_CLOEXEC) }).map(drop)
}

/// Closes one descriptor of a process that will not use it again.
pub(crate) fn close(fd: RawFd) {
    // SAFETY: only the new process calls this, which neither uses nor drops the value that owns the descriptor.
    unsafe {
        libc::syscall(libc::SYS_close, fd);
    }
}

/// Closes every descriptor.
///
/// # Safety
/// The process may use none of its descriptors afterwards, not even to drop them.
pub(crate) unsafe fn close_all() {
    // SAFETY: the caller's promise.
    unsafe {
        libc::syscall(libc::SYS_close_range, 0, libc::c_uint::MAX, 0);
    }
}

/// Closes every descriptor from `first` up but those in `keep`, which must be in order.
///
/// # Safety
/// The process may use none of the closed descriptors afterwards, not even to drop them.
pub(crate) unsafe fn close_from_but(first: u32, keep: [u32; 2]) {
    let mut first = first;
    for kept in keep {
        if kept > first {
            // SAFETY: the caller's promise.
            unsafe {
                libc::syscall(libc::SYS_close_range, first, kept - 1, 0);
            }
        }
        first = first.max(kept.saturating_add(1));
    }
    // SAFETY: the caller's promise.
    unsafe {
        libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, 0);
    }
}

/// Waits for the end of one child and gives its raw status.
pub(crate) fn reap(pid: i32) -> Result<i32, Errno> {
    let mut status = 0;
    loop {
        // SAFETY: `status` outlives the call; a null rusage is allowed.
        let result =
            unsafe { libc::syscall(libc::SYS_wait4, pid, &raw mut status, libc::__WALL, std::ptr::null::<u8>()) };
        match check(result) {
            Err(Errno::INTR) => {}
            result => return result.map(|_| status),
        }
    }
}

/// The NIS domain name of this uts namespace.
pub(crate) fn set_domainname(name: &[u8]) -> Result<(), Errno> {
    // SAFETY: the kernel reads `name.len()` bytes.
    check(unsafe { libc::syscall(libc::SYS_setdomainname, name.as_ptr(), name.len()) }).map(drop)
}

/// Makes `number` (0, 1 or 2) a copy of `fd` that survives exec.
pub(crate) fn become_stdio(fd: BorrowedFd<'_>, number: i32) -> Result<(), Errno> {
    if fd.as_raw_fd() == number {
        return Ok(());
    }
    // SAFETY: only the standard descriptors are replaced; nothing owns them as a value.
    check(unsafe { libc::syscall(libc::SYS_dup3, fd.as_raw_fd(), number, 0) }).map(drop)
}

/// Whether the working directory can be reached from the root.
pub(crate) fn working_directory_in_user_namespace() -> bool {
    let mut buffer = [0_u8; 4096];
    // SAFETY: the kernel writes at most `buffer.len()` bytes.
    let length = unsafe { libc::syscall(libc::SYS_getcwd, buffer.as_mut_ptr(), buffer.len()) };
    length > 0 && buffer.first() == Some(&b'/')
}

/// Replaces the program. Returns only with an error.
///
/// # Safety
/// `argv` and `env` are null-terminated arrays of pointers to live C strings.
pub(crate) unsafe fn execute(path: &CStr, argv: &[*const c_char], env: &[*const c_char]) -> Errno {
    // SAFETY: the caller's promise.
    let result = unsafe { libc::syscall(libc::SYS_execve, path.as_ptr(), argv.as_ptr(), env.as_ptr()) };
    match check(result) {
        Err(errno) => errno,
        Ok(_) => Errno::INVAL,
    }
}

/// Joins a fresh, empty session keyring.
pub(crate) fn own_keyring() -> Result<(), Errno> {
    const JOIN_SESSION_KEYRING: libc::c_int = 1;
    // SAFETY: a null name asks for an anonymous keyring.
    check(unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, std::ptr::null::<u8>()) }).map(drop)
}

/// Ends the process at once.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: runs no handlers and touches no memory.
    unsafe { libc::_exit(code) }
}

/// Waits for a signal.
pub(crate) fn pause() {
    // SAFETY: touches no memory.
    unsafe {
        libc::pause();
    }
}

/// Reaps one ended child. Gives its number and raw status; 0 when none has ended yet.
pub(crate) fn reap_any() -> Result<(i32, i32), Errno> {
    let mut status = 0;
    // SAFETY: `status` outlives the call; a null rusage is allowed.
    let pid = unsafe {
        libc::syscall(libc::SYS_wait4, -1, &raw mut status, libc::WNOHANG | libc::__WALL, std::ptr::null::<u8>())
    };
    check(pid).map(|pid| (pid as i32, status))
}

/// Sends a signal to a process of the same pid namespace.
pub(crate) fn send(pid: i32, signal: i32) {
    // SAFETY: takes numbers only.
    unsafe {
        libc::syscall(libc::SYS_kill, pid, signal);
    }
}

/// Sends a signal to the process behind a descriptor.
pub(crate) fn send_by_descriptor(pidfd: BorrowedFd<'_>, signal: i32) -> Result<(), Errno> {
    // SAFETY: a null siginfo asks for the default one.
    let result =
        unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, std::ptr::null::<u8>(), 0) };
    check(result).map(drop)
}

/// Names this process for /proc and ps.
pub(crate) fn set_name(name: &CStr) {
    // SAFETY: the kernel copies at most 16 bytes of a C string.
    unsafe {
        libc::syscall(libc::SYS_prctl, libc::PR_SET_NAME, name.as_ptr(), 0, 0, 0);
    }
}

/// The exit code that a shell shows for a raw wait status.
pub(crate) fn shell_code(status: i32) -> i32 {
    if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { 128 + libc::WTERMSIG(status) }
}

/// Waits for the end of a child of this process.
pub(crate) fn wait_for(pid: i32) -> Result<Exit, Errno> {
    // SAFETY: all-zero is a valid `rusage`.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    let mut status = 0;
    loop {
        // SAFETY: `status` and `usage` outlive the call.
        let result = unsafe { libc::wait4(pid, &raw mut status, libc::__WALL, &raw mut usage) };
        match check(libc::c_long::from(result)) {
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
            Ok(_) => return Ok(exit_of(status, &usage)),
        }
    }
}

fn exit_of(status: i32, usage: &libc::rusage) -> Exit {
    Exit {
        code: libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status)),
        signal: libc::WIFSIGNALED(status).then(|| libc::WTERMSIG(status)),
        usage: Usage {
            max_resident: u64::try_from(usage.ru_maxrss).unwrap_or(0).saturating_mul(1024),
            user_time: duration(usage.ru_utime),
            system_time: duration(usage.ru_stime),
        },
    }
}

fn duration(time: libc::timeval) -> Duration {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::from_secs(seconds) + Duration::from_micros(u64::try_from(time.tv_usec).unwrap_or(0))
}

/// Overwrites the command line that /proc shows to everyone: it may hold secrets of the caller.
///
/// # Safety
/// The range must be writable memory that nothing reads any more, or empty.
pub(crate) unsafe fn forget_arguments(range: &std::ops::Range<usize>) {
    let start = std::ptr::with_exposed_provenance_mut::<u8>(range.start);
    // SAFETY: the caller's.
    unsafe { std::ptr::write_bytes(start, 0, range.len()) };
}

/// Lets a new process hold these descriptors, in ascending order, for as long as it takes it to close them.
pub(crate) fn close_aside(descriptors: &[i32]) -> Result<(), Errno> {
    // SAFETY: the child calls nothing but the kernel, and does not return.
    if unsafe { super::clone::fork() }? != 0 {
        return Ok(());
    }
    let mut first: libc::c_uint = 0;
    for descriptor in descriptors {
        let descriptor = descriptor.unsigned_abs();
        if first < descriptor {
            // SAFETY: nothing below uses one of these, and their owners are in another process.
            unsafe { libc::syscall(libc::SYS_close_range, first, descriptor - 1, 0) };
        }
        first = descriptor + 1;
    }
    // SAFETY: as above.
    unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, 0) };
    exit_now(0)
}

/// Lets a new process wait until all copies of the other end of the pipe are closed, and then end the program behind a
/// descriptor. It ends with that program.
pub(crate) fn end_with(held: &std::os::fd::OwnedFd, program: &std::os::fd::OwnedFd) -> Result<(), Errno> {
    use rustix::event::{PollFd, PollFlags, poll};
    // SAFETY: the child calls nothing but the kernel, and does not return.
    if unsafe { super::clone::fork() }? != 0 {
        return Ok(());
    }
    set_name(c"dunnage-watch");
    set_mask(u64::MAX);
    let (one, other) = (held.as_raw_fd().unsigned_abs(), program.as_raw_fd().unsigned_abs());
    // SAFETY: nothing below uses one of those that are closed, and their owners are in another process.
    unsafe { close_from_but(0, [one.min(other), one.max(other)]) };
    loop {
        let mut ends = [PollFd::new(held, PollFlags::empty()), PollFd::new(program, PollFlags::IN)];
        match poll(&mut ends, None) {
            Err(Errno::INTR) => {}
            _ => break,
        }
    }
    // One that has ended takes no signal.
    let _ = send_by_descriptor(std::os::fd::AsFd::as_fd(program), libc::SIGTERM);
    exit_now(0)
}
