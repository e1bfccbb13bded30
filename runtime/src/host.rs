//! What the machine allows: capabilities, limits, devices, control groups. Read once per plan, changed never.
use std::ffi::CString;
use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::sync::OnceLock;

use crate::capability::CapabilitySet;
use crate::error::{Error, Result};
use crate::plan::{Device, DeviceKind};
use crate::sandbox::Rlimit;
use crate::sys::capability;
use crate::userns;

const RESOLV_CONF_LIMIT: u64 = 64 << 10;

/// Facts about the machine that a plan depends on.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) capabilities: CapabilitySet,
    pub(crate) last_capability: u8,
    pub(crate) unified_cgroups: bool,
    pub(crate) apparmor: bool,
    pub(crate) selinux: bool,
    /// This process is in a user namespace: it can make no device nodes, and its capabilities end with what the namespace owns.
    pub(crate) user_namespace: bool,
    /// In a user namespace: parts of /proc are covered by other mounts.
    pub(crate) covered_proc: bool,
    /// In a user namespace: parts of /sys are covered by other mounts.
    pub(crate) covered_sys: bool,
    /// Processes may choose their supplementary groups.
    pub(crate) may_set_groups: bool,
    pub(crate) resolv_conf: Vec<u8>,
    pub(crate) devices: Vec<Device>,
    /// Where this process's command line lies in its memory, for the init that hides it.
    pub(crate) arguments: std::ops::Range<usize>,
}

/// What stays as it is as long as the machine runs: looked at once.
#[derive(Debug)]
struct Fixed {
    last_capability: u8,
    unified_cgroups: bool,
    apparmor: bool,
    selinux: bool,
}

impl Fixed {
    fn get() -> &'static Fixed {
        static FIXED: OnceLock<Fixed> = OnceLock::new();
        FIXED.get_or_init(|| Fixed {
            last_capability: (0..64).take_while(|number| capability::is_bounding(*number).is_ok()).last().unwrap_or(0),
            unified_cgroups: has_unified_cgroups(),
            apparmor: fs::read("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with(b"Y")),
            selinux: fs::exists("/sys/fs/selinux/enforce").unwrap_or(false),
        })
    }
}

impl Host {
    pub(crate) fn probe(privileged: bool, init: bool) -> Result<Host> {
        let fixed = Fixed::get();
        let user_namespace = userns::in_user_namespace();
        let mounts = match user_namespace {
            true => fs::read_to_string("/proc/self/mountinfo").unwrap_or_default(),
            false => String::new(),
        };
        Ok(Host {
            capabilities: capability::permitted().map_err(Error::container("reading capabilities"))?,
            last_capability: fixed.last_capability,
            unified_cgroups: fixed.unified_cgroups,
            apparmor: fixed.apparmor,
            selinux: fixed.selinux,
            user_namespace,
            covered_proc: user_namespace && is_covered("/proc", &mounts),
            covered_sys: user_namespace && is_covered("/sys", &mounts),
            may_set_groups: userns::may_set_groups(),
            resolv_conf: resolv_conf(),
            devices: if privileged { devices() } else { Vec::new() },
            arguments: match init {
                true => arguments(&fs::read_to_string("/proc/self/stat").unwrap_or_default()),
                false => 0..0,
            },
        })
    }

    /// A limit that can be set, and a note if that is less than what was asked.
    pub(crate) fn clamp(&self, mut limit: Rlimit) -> (Rlimit, Option<String>) {
        let most = rustix::process::getrlimit(limit.resource.kernel()).maximum;
        let above = |asked: Option<u64>, most: u64| asked.is_none_or(|asked| asked > most);
        // Limits belong to the machine: what a user namespace grants does not count there.
        if self.capabilities.contains(crate::Capability::SysResource) && !self.user_namespace {
            return (limit, None);
        }
        match most {
            Some(most) if above(limit.hard, most) || above(limit.soft, most) => {
                limit.hard = Some(limit.hard.map_or(most, |hard| hard.min(most)));
                limit.soft = Some(limit.soft.map_or(most, |soft| soft.min(most)));
                let note = format!("limit {:?} is kept at {most}: this machine allows no more", limit.resource);
                (limit, Some(note))
            }
            _ => (limit, None),
        }
    }
}

/// Makes this process small, for it will do little for a long time: what it needs again comes back by itself.
pub fn give_back_memory() {
    crate::sys::memory::give_back_program();
}

/// Puts this program's own file out of the reach of containers, by executing it once more with these words. Returns where
/// that is done already, or cannot be done: without root, or on a kernel without detached mounts. Comes before any thread.
pub fn seal_program(words: &[std::ffi::OsString]) {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let words = words.iter().map(|word| CString::new(word.as_bytes()));
    if let Ok(words) = words.collect::<Result<Vec<CString>, _>>()
        && crate::sys::seal::run_sealed(&words).is_ok()
    {
        // It was executed by a descriptor, whose number it is called after.
        let _ = rustix::thread::set_name(c"dunnage");
    }
}

/// A file of the kernel's, which says of itself that it is empty: without room from the beginning it is read in many small parts.
pub(crate) fn read_whole(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut content = Vec::with_capacity(16 << 10);
    fs::File::open(path)?.read_to_end(&mut content)?;
    Ok(content)
}

/// How many processes the kernel has ended so far because memory ran out, on the whole machine.
#[must_use]
pub fn out_of_memory_kills() -> u64 {
    let text = read_whole(Path::new("/proc/vmstat")).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let line = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
    line.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
}

/// A pipe with a name, for its owner alone.
///
/// # Errors
/// When it cannot be made.
pub fn make_fifo(path: &std::path::Path) -> std::io::Result<()> {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    Ok(mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?)
}

/// Directories of the kernel's that have nothing in them but what is mounted there.
const ALWAYS_EMPTY: [&str; 13] = [
    "/proc/sys/fs/binfmt_misc",
    "/proc/fs/nfsd",
    "/proc/openprom",
    "/sys/fs/cgroup",
    "/sys/fs/bpf",
    "/sys/fs/pstore",
    "/sys/fs/selinux",
    "/sys/fs/fuse/connections",
    "/sys/firmware/efi/efivars",
    "/sys/kernel/config",
    "/sys/kernel/debug",
    "/sys/kernel/security",
    "/sys/kernel/tracing",
];

/// Whether something lies over a part of a file system of the kernel's, by proc_pid_mountinfo(5).
fn is_covered(top: &str, mounts: &str) -> bool {
    mounts.lines().filter_map(|line| line.split(' ').nth(4)).any(|place| {
        let below = place.strip_prefix(top).is_some_and(|rest| rest.starts_with('/'));
        below && !ALWAYS_EMPTY.iter().any(|empty| Path::new(place).starts_with(empty))
    })
}

fn has_unified_cgroups() -> bool {
    const CGROUP2_MAGIC: i64 = 0x6367_7270;
    rustix::fs::statfs(c"/sys/fs/cgroup").is_ok_and(|stat| stat.f_type == CGROUP2_MAGIC)
}

/// Fields 48 and 49 of proc_pid_stat(5), counted behind the name, which may hold anything.
fn arguments(stat: &str) -> std::ops::Range<usize> {
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let mut fields = fields.split_whitespace().skip(45).map(|field| field.parse().unwrap_or(0));
    match (fields.next(), fields.next()) {
        (Some(start), Some(end)) if start < end => start..end,
        _ => 0..0,
    }
}

/// The host's resolvers. A machine without the file, or with an absurd one, gives an empty one.
fn resolv_conf() -> Vec<u8> {
    let mut content = Vec::new();
    let read =
        fs::File::open("/etc/resolv.conf").and_then(|file| file.take(RESOLV_CONF_LIMIT + 1).read_to_end(&mut content));
    match read {
        Ok(length) if length as u64 <= RESOLV_CONF_LIMIT => content,
        _ => Vec::new(),
    }
}

/// The device nodes directly in the host's /dev, for privileged sandboxes.
fn devices() -> Vec<Device> {
    let Ok(entries) = fs::read_dir("/dev") else {
        return Vec::new();
    };
    let mut devices: Vec<Device> = entries.filter_map(|entry| device(&entry.ok()?)).collect();
    devices.sort_by(|a, b| a.name.cmp(&b.name));
    devices
}

fn device(entry: &fs::DirEntry) -> Option<Device> {
    let metadata = entry.metadata().ok()?;
    let kind = match metadata.file_type() {
        kind if kind.is_char_device() => DeviceKind::Character,
        kind if kind.is_block_device() => DeviceKind::Block,
        _ => return None,
    };
    let name = CString::new(entry.file_name().as_bytes()).ok()?;
    if matches!(name.to_bytes(), b"console" | b"ptmx") {
        return None;
    }
    let number = metadata.rdev();
    Some(Device {
        name,
        kind,
        mode: metadata.mode() & 0o7777,
        major: rustix::fs::major(number),
        minor: rustix::fs::minor(number),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_mounted_in_directories_that_are_always_empty_covers_nothing() {
        let own =
            "22 1 0:21 / /proc rw - proc proc rw\n23 22 0:22 / /proc/sys/fs/binfmt_misc rw - binfmt_misc none rw\n";
        assert!(!is_covered("/proc", own) && !is_covered("/sys", own));
        let masked =
            format!("{own}24 22 0:23 / /proc/kcore rw - tmpfs tmpfs rw\n25 1 0:24 / /sys/firmware ro - tmpfs t ro\n");
        assert!(is_covered("/proc", &masked) && is_covered("/sys", &masked));
        assert!(!is_covered(
            "/sys",
            "26 1 0:25 / /sys/fs/cgroup/memory rw - cgroup c rw\n27 1 0:26 / /system rw - x y rw\n"
        ));
    }
}
