//! bpf(2), for one purpose: the program by which a version 2 control group answers whether a device may be used.
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::io::Errno;

use super::check;

/// One instruction, laid out as the kernel's `bpf_insn` on a little-endian machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    value: i32,
}

// linux/bpf_common.h and linux/bpf.h: classes, sizes, operations.
const LOAD_WORD: u8 = 0x61;
const AND: u8 = 0x54;
const SHIFT_RIGHT: u8 = 0x74;
const COPY: u8 = 0xbc;
const SET: u8 = 0xb7;
const UNLESS_EQUAL: u8 = 0x55;
const IF_EQUAL: u8 = 0x15;
const EXIT: u8 = 0x95;

impl Instruction {
    const fn new(code: u8, to: u8, from: u8, offset: i16, value: u32) -> Instruction {
        Instruction { code, registers: (from << 4) | to, offset, value: value as i32 }
    }

    /// Loads 32 bits from `from` and an offset.
    pub(crate) const fn load(to: u8, from: u8, offset: i16) -> Instruction {
        Instruction::new(LOAD_WORD, to, from, offset, 0)
    }

    pub(crate) const fn and(register: u8, value: u32) -> Instruction {
        Instruction::new(AND, register, 0, 0, value)
    }

    pub(crate) const fn shift_right(register: u8, value: u32) -> Instruction {
        Instruction::new(SHIFT_RIGHT, register, 0, 0, value)
    }

    pub(crate) const fn copy(to: u8, from: u8) -> Instruction {
        Instruction::new(COPY, to, from, 0, 0)
    }

    pub(crate) const fn unless_equal(register: u8, value: u32, offset: i16) -> Instruction {
        Instruction::new(UNLESS_EQUAL, register, 0, offset, value)
    }

    pub(crate) const fn if_equal(register: u8, value: u32, offset: i16) -> Instruction {
        Instruction::new(IF_EQUAL, register, 0, offset, value)
    }

    pub(crate) const fn answer(value: u32) -> Instruction {
        Instruction::new(SET, 0, 0, 0, value)
    }

    pub(crate) const fn exit() -> Instruction {
        Instruction::new(EXIT, 0, 0, 0, 0)
    }

    /// Gives a branch its distance; anything else stays as it is.
    pub(crate) fn aim(&mut self, distance: usize) {
        if matches!(self.code, UNLESS_EQUAL | IF_EQUAL) {
            self.offset = i16::try_from(distance).unwrap_or(i16::MAX);
        }
    }
}

const PROG_LOAD: libc::c_int = 5;
const PROG_ATTACH: libc::c_int = 8;
const PROG_DETACH: libc::c_int = 9;
const PROG_GET_FD_BY_ID: libc::c_int = 13;
const PROG_QUERY: libc::c_int = 16;
const TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_CGROUP_DEVICE: u32 = 6;
const ALLOW_MULTI: u32 = 2;
const MOST_ATTACHED: usize = 64;

#[repr(C)]
struct Load {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
}

#[repr(C)]
struct Attach {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
}

#[repr(C)]
struct Query {
    target: u32,
    kind: u32,
    query_flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
    padding: u32,
}

#[repr(C)]
struct ById {
    id: u32,
    next: u32,
    flags: u32,
}

/// # Safety
/// `argument` is what the kernel expects for `command`, and all pointers in it are live.
unsafe fn bpf<T>(command: libc::c_int, argument: &mut T) -> Result<i32, Errno> {
    // SAFETY: the caller's promise; the size is that of `argument`.
    check(unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *argument, size_of::<T>()) })
        .map(|result| result as i32)
}

/// Lets `program` answer for the group behind `cgroup`, in place of those that did so far.
pub(crate) fn replace_device_program(cgroup: BorrowedFd<'_>, program: &[Instruction]) -> Result<(), Errno> {
    let before = attached(cgroup)?;
    let loaded = load(program)?;
    let mut attach = Attach {
        target: number(cgroup.as_raw_fd()),
        program: number(loaded.as_raw_fd()),
        kind: ATTACH_CGROUP_DEVICE,
        flags: ALLOW_MULTI,
    };
    // SAFETY: the structure holds numbers only.
    unsafe { bpf(PROG_ATTACH, &mut attach) }?;
    // All that are attached must agree, so the new one counts from the moment that the old ones are gone.
    for id in before {
        let old = by_id(id)?;
        let mut detach = Attach { program: number(old.as_fd().as_raw_fd()), flags: 0, ..attach };
        // SAFETY: the structure holds numbers only.
        unsafe { bpf(PROG_DETACH, &mut detach) }?;
    }
    Ok(())
}

fn load(program: &[Instruction]) -> Result<OwnedFd, Errno> {
    let mut load = Load {
        kind: TYPE_CGROUP_DEVICE,
        count: u32::try_from(program.len()).map_err(|_| Errno::TOOBIG)?,
        instructions: program.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
        kernel_version: 0,
        flags: 0,
    };
    // SAFETY: the program and the licence outlive the call.
    let fd = unsafe { bpf(PROG_LOAD, &mut load) }?;
    // SAFETY: the kernel has just made this descriptor, and nothing else owns it. It is close-on-exec by itself.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn attached(cgroup: BorrowedFd<'_>) -> Result<Vec<u32>, Errno> {
    let mut ids = vec![0_u32; MOST_ATTACHED];
    let mut query = Query {
        target: number(cgroup.as_raw_fd()),
        kind: ATTACH_CGROUP_DEVICE,
        query_flags: 0,
        attach_flags: 0,
        ids: ids.as_mut_ptr() as u64,
        count: MOST_ATTACHED as u32,
        padding: 0,
    };
    // SAFETY: the kernel writes at most `count` numbers.
    unsafe { bpf(PROG_QUERY, &mut query) }?;
    ids.truncate(query.count as usize);
    Ok(ids)
}

fn by_id(id: u32) -> Result<OwnedFd, Errno> {
    let mut by_id = ById { id, next: 0, flags: 0 };
    // SAFETY: the structure holds numbers only.
    let fd = unsafe { bpf(PROG_GET_FD_BY_ID, &mut by_id) }?;
    // SAFETY: the kernel has just made this descriptor, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn number(fd: RawFd) -> u32 {
    fd.unsigned_abs()
}

/// The kernel's machine, as far as these programs use it.
#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::panic)]
pub(crate) fn interpret(program: &[Instruction], context: [u32; 3]) -> u32 {
    let mut registers = [0_u32; 11];
    let mut at = 0_usize;
    loop {
        let Instruction { code, registers: both, offset, value } = program[at];
        let (to, from) = (usize::from(both & 15), usize::from(both >> 4));
        at += 1;
        let mut jump = |taken: bool| at += if taken { usize::try_from(offset).unwrap_or(0) } else { 0 };
        match code {
            LOAD_WORD => registers[to] = context[usize::try_from(offset).unwrap_or(0) / 4],
            AND => registers[to] &= value as u32,
            SHIFT_RIGHT => registers[to] >>= value,
            COPY => registers[to] = registers[from],
            SET => registers[to] = value as u32,
            UNLESS_EQUAL => jump(registers[to] != value as u32),
            IF_EQUAL => jump(registers[to] == value as u32),
            EXIT => return registers[0],
            other => panic!("code {other}"),
        }
    }
}
