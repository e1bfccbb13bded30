//! Capability sets, ids and privileges of the calling thread. Nothing here allocates.
use rustix::io::Errno;

use super::check;
use crate::capability::CapabilitySet;
use crate::sandbox::CapabilitySets;

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Data {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

const VERSION_3: u32 = 0x2008_0522;

/// The permitted set of this thread.
pub(crate) fn permitted() -> Result<CapabilitySet, Errno> {
    let header = Header { version: VERSION_3, pid: 0 };
    let mut data = [Data::default(); 2];
    // SAFETY: version 3 reads a header and writes two data words.
    check(unsafe { libc::syscall(libc::SYS_capget, &raw const header, data.as_mut_ptr()) })?;
    let [low, high] = data;
    Ok(CapabilitySet::from_bits(u64::from(low.permitted) | u64::from(high.permitted) << 32))
}

/// Makes all that this thread is permitted count.
pub(crate) fn raise_permitted() -> Result<(), Errno> {
    let header = Header { version: VERSION_3, pid: 0 };
    let mut data = [Data::default(); 2];
    // SAFETY: version 3 reads a header and writes two data words.
    check(unsafe { libc::syscall(libc::SYS_capget, &raw const header, data.as_mut_ptr()) })?;
    for half in &mut data {
        half.effective = half.permitted;
    }
    // SAFETY: version 3 reads a header and two data words.
    check(unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) }).map(drop)
}

/// Sets effective and permitted to `set`, inheritable and ambient to nothing.
pub(crate) fn set(set: CapabilitySet) -> Result<(), Errno> {
    let header = Header { version: VERSION_3, pid: 0 };
    let low = set.bits() as u32;
    let high = (set.bits() >> 32) as u32;
    let data = [
        Data { effective: low, permitted: low, inheritable: 0 },
        Data { effective: high, permitted: high, inheritable: 0 },
    ];
    // SAFETY: version 3 reads a header and two data words.
    check(unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) })?;
    prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as u64)
}

/// Sets the four sets of this thread that are not the bounding one.
pub(crate) fn set_all(sets: &CapabilitySets) -> Result<(), Errno> {
    let header = Header { version: VERSION_3, pid: 0 };
    let half = |shift: u32| Data {
        effective: (sets.effective.bits() >> shift) as u32,
        permitted: (sets.permitted.bits() >> shift) as u32,
        inheritable: (sets.inheritable.bits() >> shift) as u32,
    };
    let data = [half(0), half(32)];
    // SAFETY: version 3 reads a header and two data words.
    check(unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) })?;
    prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as u64)?;
    let mut number = 0_u64;
    while number < 64 {
        if sets.ambient.bits() & (1 << number) != 0 {
            let raise = libc::PR_CAP_AMBIENT_RAISE as u64;
            // SAFETY: takes numbers only.
            check(unsafe { libc::syscall(libc::SYS_prctl, libc::PR_CAP_AMBIENT, raise, number, 0_u64, 0_u64) })?;
        }
        number += 1;
    }
    Ok(())
}

/// Lets the permitted set survive the change of ids.
pub(crate) fn keep() -> Result<(), Errno> {
    prctl(libc::PR_SET_KEEPCAPS, 1)
}

/// Whether the bounding set of this thread has capability `number`; an error for a number that the kernel does not know.
pub(crate) fn is_bounding(number: u8) -> Result<bool, Errno> {
    // SAFETY: takes numbers only.
    check(unsafe { libc::syscall(libc::SYS_prctl, libc::PR_CAPBSET_READ, u64::from(number), 0, 0, 0) })
        .map(|result| result == 1)
}

/// Takes everything up to number `last` that `keep` lacks out of the bounding set.
pub(crate) fn limit_bounding(keep: CapabilitySet, last: u8) -> Result<(), Errno> {
    let mut number = 0;
    while number <= last && number < 64 {
        if keep.bits() & (1 << number) == 0 {
            prctl(libc::PR_CAPBSET_DROP, u64::from(number))?;
        }
        number += 1;
    }
    Ok(())
}

/// Sets the groups and the real, effective and saved ids of this thread, groups first.
pub(crate) fn set_ids(uid: u32, gid: u32, groups: &[u32]) -> Result<(), Errno> {
    // SAFETY: the kernel reads `groups.len()` ids. These raw calls change this thread only, and it is the only one.
    check(unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) })?;
    set_user_and_group(uid, gid)
}

/// The same without the supplementary groups.
pub(crate) fn set_user_and_group(uid: u32, gid: u32) -> Result<(), Errno> {
    // SAFETY: takes numbers only.
    check(unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) })?;
    // SAFETY: takes numbers only.
    check(unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) }).map(drop)
}

/// Whether /proc/PID and ptrace treat this process as secret.
pub(crate) fn set_dumpable(dumpable: u64) -> Result<(), Errno> {
    prctl(libc::PR_SET_DUMPABLE, dumpable)
}

/// Kills this process when the thread that started it ends.
pub(crate) fn die_with_parent() -> Result<(), Errno> {
    prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as u64)
}

/// Lets no exec grant privileges any more.
pub(crate) fn no_new_privileges() -> Result<(), Errno> {
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1)
}

fn prctl(option: libc::c_int, argument: u64) -> Result<(), Errno> {
    // SAFETY: the options used in this file take numbers only.
    check(unsafe { libc::syscall(libc::SYS_prctl, option, argument, 0_u64, 0_u64, 0_u64) }).map(drop)
}
