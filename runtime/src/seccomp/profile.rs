//! Docker's default list as data: what every container may call, what a capability adds, and what depends on arguments.
//!
//! Stricter than Docker's in three points, all for calls whose arguments a filter cannot see: AF_ALG sockets are refused,
//! `socketcall` of the 32-bit x86 ABI does not exist (libraries fall back to the single calls), nor does the x32 ABI.
use std::collections::HashSet;

use super::compile::{Abi, Check, Verdict};
use crate::capability::{Capability, CapabilitySet};

/// Calls that are always allowed, by theme. A name that an ABI does not have is passed over.
const ALWAYS: &[&str] = &[
    // Processes, threads, identity, limits, scheduling.
    "alarm arch_prctl brk capget capset execve execveat exit exit_group fork futex futex_requeue futex_time64 futex_wait
     futex_waitv futex_wake get_robust_list get_thread_area getcpu getegid getegid32 geteuid geteuid32 getgid getgid32
     getgroups getgroups32 getitimer getpgid getpgrp getpid getppid getpriority getresgid getresgid32 getresuid
     getresuid32 getrlimit getrusage getsid gettid getuid getuid32 ioprio_get ioprio_set kill membarrier modify_ldt
     pause pidfd_open pidfd_send_signal prctl prlimit64 process_mrelease process_vm_readv process_vm_writev ptrace
     restart_syscall riscv_flush_icache riscv_hwprobe rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo
     rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo sched_get_priority_max
     sched_get_priority_min sched_getaffinity sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval
     sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield seccomp
     set_robust_list set_thread_area set_tid_address set_tls setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32
     setgroups setgroups32 setitimer setpgid setpriority setregid setregid32 setresgid setresgid32 setresuid
     setresuid32 setreuid setreuid32 setrlimit setsid setuid setuid32 sigaltstack signalfd signalfd4 sigprocmask
     sigreturn sysinfo tgkill times tkill ugetrlimit umask uname vfork wait4 waitid waitpid",
    // Memory.
    "cachestat cacheflush madvise map_shadow_stack memfd_create memfd_secret mincore mlock mlock2 mlockall mmap mmap2
     mprotect mremap mseal msync munlock munlockall munmap pkey_alloc pkey_free pkey_mprotect remap_file_pages",
    // Files and directories.
    "_llseek _newselect access arm_fadvise64_64 arm_sync_file_range chdir chmod chown chown32 close close_range
     copy_file_range creat dup dup2 dup3 epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2
     epoll_wait epoll_wait_old eventfd eventfd2 faccessat faccessat2 fadvise64 fadvise64_64 fallocate fanotify_mark
     fchdir fchmod fchmodat fchmodat2 fchown fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr flistxattr flock
     fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futimesat getcwd
     getdents getdents64 getxattr getxattrat inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel
     io_destroy io_getevents io_pgetevents io_pgetevents_time64 io_setup io_submit ioctl landlock_add_rule
     landlock_create_ruleset landlock_restrict_self lchown lchown32 lgetxattr link linkat listmount listxattr
     listxattrat llistxattr lremovexattr lseek lsetxattr lsm_get_self_attr lsm_list_modules lsm_set_self_attr lstat
     lstat64 mkdir mkdirat mknod mknodat name_to_handle_at newfstatat open openat openat2 pipe pipe2 poll ppoll
     ppoll_time64 pread64 preadv preadv2 pselect6 pselect6_time64 pwrite64 pwritev pwritev2 read readahead readlink
     readlinkat readv removexattr removexattrat rename renameat renameat2 rmdir select sendfile sendfile64 setxattr
     setxattrat splice stat stat64 statfs statfs64 statmount statx symlink symlinkat sync sync_file_range
     sync_file_range2 syncfs tee truncate truncate64 unlink unlinkat utime utimensat utimensat_time64 utimes vmsplice
     write writev",
    // Sockets and System V and POSIX queues.
    "accept accept4 bind connect getpeername getsockname getsockopt ipc listen mq_getsetattr mq_notify mq_open
     mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 mq_unlink msgctl msgget msgrcv msgsnd recv
     recvfrom recvmmsg recvmmsg_time64 recvmsg semctl semget semop semtimedop semtimedop_time64 send sendmmsg sendmsg
     sendto setsockopt shmat shmctl shmdt shmget shutdown socketpair",
    // Time and chance.
    "adjtimex clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64
     clock_nanosleep clock_nanosleep_time64 getrandom gettimeofday nanosleep time timer_create timer_delete
     timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64 timerfd_create timerfd_gettime
     timerfd_gettime64 timerfd_settime timerfd_settime64",
];

/// What a granted capability adds.
const BY_CAPABILITY: &[(Capability, &str)] = &[
    (Capability::DacReadSearch, "open_by_handle_at"),
    (
        Capability::SysAdmin,
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie mount mount_setattr move_mount
         open_tree perf_event_open quotactl quotactl_fd setdomainname sethostname setns syslog umount umount2 unshare",
    ),
    (Capability::SysBoot, "reboot"),
    (Capability::SysChroot, "chroot"),
    (Capability::SysModule, "delete_module finit_module init_module"),
    (Capability::SysPacct, "acct"),
    (Capability::SysPtrace, "kcmp pidfd_getfd process_madvise"),
    (Capability::SysRawio, "ioperm iopl"),
    (Capability::SysTime, "clock_settime clock_settime64 settimeofday stime"),
    (Capability::SysTtyConfig, "vhangup"),
    (Capability::SysNice, "get_mempolicy mbind set_mempolicy set_mempolicy_home_node"),
    (Capability::Syslog, "syslog"),
    (Capability::Bpf, "bpf"),
    (Capability::Perfmon, "perf_event_open"),
];

/// Kept from everyone, as if the kernel did not have them: libraries then take the older way, which can be filtered.
const ABSENT: [&str; 2] = ["clone3", "socketcall"];

/// CLONE_NEWNS, CGROUP, UTS, IPC, USER, PID, NET.
const NAMESPACE_FLAGS: u32 = 0x7E02_0000;

/// Refused address families: AF_ALG and AF_VSOCK.
const REFUSED_FAMILIES: &[u32] = &[38, 40];

/// PER_LINUX and PER_LINUX32, each also with UNAME26, and the question what is set.
const PERSONALITIES: &[u32] = &[0, 0x8, 0x2_0000, 0x2_0008, 0xFFFF_FFFF];

/// The list for one set of capabilities.
#[derive(Debug)]
pub(super) struct Rules {
    allowed: HashSet<&'static str>,
}

pub(super) fn rules(granted: CapabilitySet) -> Rules {
    let by_capability =
        BY_CAPABILITY.iter().filter(|(capability, _)| granted.contains(*capability)).map(|(_, names)| *names);
    let names = ALWAYS.iter().copied().chain(by_capability).flat_map(str::split_whitespace);
    Rules { allowed: names.collect() }
}

impl Rules {
    /// What becomes of a call that the ABI has.
    pub(super) fn verdict(&self, name: &str) -> Verdict {
        match name {
            _ if self.allowed.contains(name) => Verdict::Allow,
            "clone" => Verdict::Check(Check::NoneOf(NAMESPACE_FLAGS)),
            "socket" => Verdict::Check(Check::NotIn(REFUSED_FAMILIES)),
            "personality" => Verdict::Check(Check::In(PERSONALITIES)),
            _ if ABSENT.contains(&name) => Verdict::Absent,
            _ => Verdict::Refuse,
        }
    }
}

/// The ABIs of the machine that this program was built for: a 64-bit kernel runs 32-bit programs too.
pub(super) fn abis() -> &'static [Abi] {
    #[cfg(target_arch = "x86_64")]
    {
        use syscalls::{x86, x86_64};
        // AUDIT_ARCH_X86_64 and AUDIT_ARCH_I386.
        &[
            Abi {
                audit: 0xC000_003E,
                calls: || x86_64::Sysno::iter().map(|call| (call as u32, call.name())).collect(),
            },
            Abi { audit: 0x4000_0003, calls: || x86::Sysno::iter().map(|call| (call as u32, call.name())).collect() },
        ]
    }
    #[cfg(target_arch = "aarch64")]
    {
        use syscalls::{aarch64, arm};
        // AUDIT_ARCH_AARCH64 and AUDIT_ARCH_ARM.
        &[
            Abi {
                audit: 0xC000_00B7,
                calls: || aarch64::Sysno::iter().map(|call| (call as u32, call.name())).collect(),
            },
            Abi { audit: 0x4000_0028, calls: || arm::Sysno::iter().map(|call| (call as u32, call.name())).collect() },
        ]
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    &[]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_is_misspelt() {
        let known: HashSet<&str> = syscalls::x86_64::Sysno::iter()
            .map(|call| call.name())
            .chain(syscalls::x86::Sysno::iter().map(|call| call.name()))
            .chain(syscalls::aarch64::Sysno::iter().map(|call| call.name()))
            .chain(syscalls::arm::Sysno::iter().map(|call| call.name()))
            .collect();
        // Calls of architectures and kernels that the tables do not have.
        let elsewhere = [
            "epoll_ctl_old",
            "epoll_wait_old",
            "riscv_flush_icache",
            "riscv_hwprobe",
            "cacheflush",
            "set_tls",
            "sync_file_range2",
        ];
        let all =
            ALWAYS.iter().copied().chain(BY_CAPABILITY.iter().map(|(_, names)| *names)).flat_map(str::split_whitespace);
        for name in all {
            assert!(known.contains(name) || elsewhere.contains(&name), "{name}");
        }
    }

    #[test]
    fn no_name_is_listed_twice() {
        let mut seen = HashSet::new();
        for name in ALWAYS.iter().flat_map(|names| names.split_whitespace()) {
            assert!(seen.insert(name), "{name}");
        }
    }
}
