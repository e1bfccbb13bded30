//! clone3 of a process that has the caller's memory until it executes a program, as vfork does, and a stack of its own.
//! A copy costs the page tables of the whole caller, and then a fault for each page that either of the two writes to.
use std::convert::Infallible;
use std::ffi::c_void;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use rustix::io::Errno;

use super::clone::{NewNamespaces, arguments};

/// Called by the new process; it never returns.
pub(super) type Run<'a> = &'a mut dyn FnMut() -> Infallible;

/// Splits off a process that calls `run`. The calling thread waits until that has executed a program or has ended, so
/// what the two share is never touched by both at once.
///
/// # Safety
/// Signals are blocked in this thread: a handler would run in both. `run` may only call what is async-signal-safe, ends
/// neither by return nor by unwinding, and owns none of the descriptors that it finds in memory.
pub(super) unsafe fn clone(
    namespaces: NewNamespaces,
    cgroup: Option<BorrowedFd<'_>>,
    mut run: Run<'_>,
) -> Result<(i32, OwnedFd), Errno> {
    const SHARING: u64 = (libc::CLONE_VM | libc::CLONE_VFORK) as u64;
    let stack = Stack::new()?;
    let mut pidfd: RawFd = -1;
    let mut args = arguments(namespaces.flags | SHARING, libc::SIGCHLD, cgroup, &mut pidfd);
    args.stack = stack.usable() as u64;
    args.stack_size = Stack::SIZE as u64;
    // SAFETY: the stack, `args`, `pidfd` and `run` outlive the wait, and `enter` takes what `run` is.
    let result = unsafe { clone3(&args, enter, (&raw mut run).cast()) };
    if result < 0 {
        return Err(Errno::from_raw_os_error(-(result as i32)));
    }
    // SAFETY: the kernel has just put a new descriptor there, and nothing else owns it.
    Ok((result as i32, unsafe { OwnedFd::from_raw_fd(pidfd) }))
}

/// Where the new process begins, on its own stack.
extern "C" fn enter(run: *mut c_void) -> ! {
    // SAFETY: `clone` passes its `run`, which outlives this process's use of the memory.
    let run = unsafe { &mut *run.cast::<Run<'_>>() };
    match run() {}
}

/// Gives the number of the new process, or an errno below zero. There is no way back for the new process, whose stack is empty.
#[cfg(target_arch = "x86_64")]
unsafe fn clone3(args: &libc::clone_args, enter: extern "C" fn(*mut c_void) -> !, argument: *mut c_void) -> i64 {
    let result;
    // SAFETY: the caller gets its registers back but for those that a system call uses; the other process, which has 0
    // for result, goes off at once. The end of its stack is aligned to a page, which a call asks 16 bytes of.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r12",
            "call r13",
            "ud2",
            "2:",
            inlateout("rax") libc::SYS_clone3 => result,
            in("rdi") args,
            in("rsi") size_of::<libc::clone_args>(),
            in("r12") argument,
            in("r13") enter,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    result
}

/// No plan asks for it there.
#[cfg(not(target_arch = "x86_64"))]
unsafe fn clone3(_: &libc::clone_args, _: extern "C" fn(*mut c_void) -> !, _: *mut c_void) -> i64 {
    i64::from(-libc::ENOSYS)
}

/// Memory for a stack, below which there is a page that nobody can write to.
struct Stack {
    base: *mut c_void,
}

impl Stack {
    /// The plan is walked with a few kilobytes; paths and messages lie in buffers of their own.
    const SIZE: usize = 128 << 10;
    /// As much as a page has anywhere.
    const GUARD: usize = 64 << 10;

    fn new() -> Result<Stack, Errno> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK | libc::MAP_NORESERVE;
        // SAFETY: a new mapping, at no place that was asked for.
        let base = unsafe { libc::mmap(ptr::null_mut(), Stack::WHOLE, libc::PROT_NONE, flags, -1, 0) };
        if base == libc::MAP_FAILED {
            return Err(Errno::NOMEM);
        }
        let stack = Stack { base };
        // SAFETY: the part above the guard is this mapping's own.
        let opened = unsafe { libc::mprotect(stack.usable(), Stack::SIZE, libc::PROT_READ | libc::PROT_WRITE) };
        super::check(opened.into()).map(|_| stack)
    }

    const WHOLE: usize = Stack::GUARD + Stack::SIZE;

    fn usable(&self) -> *mut c_void {
        self.base.wrapping_byte_add(Stack::GUARD)
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: made by `new`, and the process that used it has memory of its own by now.
        unsafe { libc::munmap(self.base, Stack::WHOLE) };
    }
}
