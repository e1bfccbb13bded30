//! What the processes of a control group use, read from either version.
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use super::file::{keyed, read_number};

/// What a control group uses. What its controllers do not count is zero or `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CgroupStats {
    /// Memory.
    pub memory: MemoryStats,
    /// Processor time.
    pub cpu: CpuStats,
    /// Processes and threads now.
    pub pids: u64,
    /// The most of them that there may be.
    pub pids_limit: Option<u64>,
    /// Disks.
    pub io: Vec<IoStats>,
}

impl CgroupStats {
    /// What processes use that no group holds.
    pub(crate) fn of_processes(processes: &[u32]) -> CgroupStats {
        CgroupStats {
            memory: memory_of(processes),
            cpu: cpu_of(processes),
            pids: processes.iter().map(|pid| threads_of(*pid)).sum(),
            pids_limit: None,
            io: io_of(processes),
        }
    }
}

/// Memory in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryStats {
    /// All that is charged, file cache included.
    pub usage: u64,
    /// The most that it ever was.
    pub max_usage: u64,
    /// The limit.
    pub limit: Option<u64>,
    /// How often the limit was met.
    pub failures: u64,
    /// Swap alone.
    pub swap: u64,
    /// File cache.
    pub cache: u64,
    /// File cache that the kernel can take back at once.
    pub inactive_file: u64,
    /// Processes that were killed because there was no more.
    pub oom_kills: u64,
    /// The kernel's own table.
    pub raw: BTreeMap<String, u64>,
}

impl MemoryStats {
    /// What `docker stats` shows: all but the cache that costs nothing.
    #[must_use]
    pub fn working_set(&self) -> u64 {
        self.usage.saturating_sub(self.inactive_file)
    }
}

/// Processor time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CpuStats {
    /// In all.
    pub total: Duration,
    /// In programs.
    pub user: Duration,
    /// In the kernel.
    pub system: Duration,
    /// By processor, where version 1 counts it.
    pub by_processor: Vec<Duration>,
    /// Periods with a quota.
    pub periods: u64,
    /// Of these, those in which it ran out.
    pub throttled_periods: u64,
    /// How long processes waited for the next.
    pub throttled: Duration,
}

/// What was read from and written to one disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IoStats {
    /// Its number.
    pub device: (u32, u32),
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Reads.
    pub reads: u64,
    /// Writes.
    pub writes: u64,
}

/// Numbers at and above this are version 1's way to say unlimited.
const UNLIMITED: u64 = i64::MAX as u64 - (1 << 20);

/// The kernel tells programs hundredths of a second, however finely it counts (time(7)).
const TICK: Duration = Duration::from_millis(10);

fn text(directory: &Path, file: &str) -> String {
    fs::read_to_string(directory.join(file)).unwrap_or_default()
}

fn number(directory: &Path, file: &str) -> u64 {
    read_number(&directory.join(file)).unwrap_or(0)
}

fn table(text: &str) -> BTreeMap<String, u64> {
    let pair = |line: &str| {
        let (key, value) = line.split_once(' ')?;
        Some((key.to_owned(), value.trim().parse().ok()?))
    };
    text.lines().filter_map(pair).collect()
}

/// What processes have in memory, of what they share with others their part (proc_pid_smaps(5)).
pub(super) fn memory_of(processes: &[u32]) -> MemoryStats {
    let read = |pid: &u32| fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let kilobytes = |text: &str, key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key));
        line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0)
    };
    let mut stats = MemoryStats::default();
    for text in processes.iter().map(read) {
        stats.usage += kilobytes(&text, "Pss:") * 1024;
        stats.swap += kilobytes(&text, "SwapPss:") * 1024;
    }
    stats
}

/// Processor time of processes and of the children that they have waited for (proc_pid_stat(5)).
fn cpu_of(processes: &[u32]) -> CpuStats {
    let ticks = |text: &str, fields: [usize; 2]| -> u32 {
        let rest: Vec<&str> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        fields.iter().filter_map(|field| rest.get(*field)?.parse::<u32>().ok()).sum()
    };
    let mut stats = CpuStats::default();
    for text in processes.iter().map(|pid| fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default()) {
        stats.user += TICK * ticks(&text, [11, 13]);
        stats.system += TICK * ticks(&text, [12, 14]);
    }
    stats.total = stats.user + stats.system;
    stats
}

fn threads_of(pid: u32) -> u64 {
    fs::read_dir(format!("/proc/{pid}/task")).map_or(0, |threads| threads.count() as u64)
}

/// What living processes read from and wrote to disks, of which nobody tells which (proc_pid_io(5)).
pub(super) fn io_of(processes: &[u32]) -> Vec<IoStats> {
    let mut all = IoStats::default();
    for pid in processes {
        let counts = fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default().replace(':', "");
        all.read_bytes += keyed(&counts, "read_bytes").unwrap_or(0);
        all.written_bytes += keyed(&counts, "write_bytes").unwrap_or(0);
    }
    if all == IoStats::default() { Vec::new() } else { vec![all] }
}

pub(super) fn memory_v1(directory: &Path) -> MemoryStats {
    let raw = table(&text(directory, "memory.stat"));
    let entry = |key: &str| raw.get(key).copied().unwrap_or(0);
    let usage = number(directory, "memory.usage_in_bytes");
    MemoryStats {
        usage,
        max_usage: number(directory, "memory.max_usage_in_bytes"),
        limit: read_number(&directory.join("memory.limit_in_bytes")).filter(|limit| *limit < UNLIMITED),
        failures: number(directory, "memory.failcnt"),
        swap: number(directory, "memory.memsw.usage_in_bytes").saturating_sub(usage),
        cache: entry("total_cache"),
        inactive_file: entry("total_inactive_file"),
        oom_kills: keyed(&text(directory, "memory.oom_control"), "oom_kill").unwrap_or(0),
        raw,
    }
}

pub(super) fn memory_v2(directory: &Path) -> MemoryStats {
    let raw = table(&text(directory, "memory.stat"));
    let entry = |key: &str| raw.get(key).copied().unwrap_or(0);
    let events = text(directory, "memory.events");
    MemoryStats {
        usage: number(directory, "memory.current"),
        max_usage: number(directory, "memory.peak"),
        limit: read_number(&directory.join("memory.max")),
        failures: keyed(&events, "max").unwrap_or(0),
        swap: number(directory, "memory.swap.current"),
        cache: entry("file"),
        inactive_file: entry("inactive_file"),
        oom_kills: keyed(&events, "oom_kill").unwrap_or(0),
        raw,
    }
}

pub(super) fn cpuacct_v1(directory: &Path, cpu: &mut CpuStats) {
    // USER_HZ is 100 on every architecture that Linux runs on today.
    let ticks = |key: &str| Duration::from_millis(keyed(&text(directory, "cpuacct.stat"), key).unwrap_or(0) * 10);
    cpu.total = Duration::from_nanos(number(directory, "cpuacct.usage"));
    (cpu.user, cpu.system) = (ticks("user"), ticks("system"));
    let by_processor = text(directory, "cpuacct.usage_percpu");
    cpu.by_processor =
        by_processor.split_whitespace().filter_map(|word| word.parse().ok()).map(Duration::from_nanos).collect();
}

pub(super) fn cpu_v1(directory: &Path, cpu: &mut CpuStats) {
    let stat = text(directory, "cpu.stat");
    cpu.periods = keyed(&stat, "nr_periods").unwrap_or(0);
    cpu.throttled_periods = keyed(&stat, "nr_throttled").unwrap_or(0);
    cpu.throttled = Duration::from_nanos(keyed(&stat, "throttled_time").unwrap_or(0));
}

pub(super) fn cpu_v2(directory: &Path, cpu: &mut CpuStats) {
    let stat = text(directory, "cpu.stat");
    let micros = |key: &str| Duration::from_micros(keyed(&stat, key).unwrap_or(0));
    (cpu.total, cpu.user, cpu.system) = (micros("usage_usec"), micros("user_usec"), micros("system_usec"));
    cpu.periods = keyed(&stat, "nr_periods").unwrap_or(0);
    cpu.throttled_periods = keyed(&stat, "nr_throttled").unwrap_or(0);
    cpu.throttled = micros("throttled_usec");
}

fn device(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// Of the tables that version 1 offers, those of bfq are empty where another scheduler runs.
pub(super) fn io_v1(directory: &Path) -> Vec<IoStats> {
    let mut disks: BTreeMap<(u32, u32), IoStats> = BTreeMap::new();
    for (prefix, is_bytes) in [("io_service_bytes", true), ("io_serviced", false)] {
        let files = [format!("blkio.bfq.{prefix}_recursive"), format!("blkio.throttle.{prefix}_recursive")];
        let tables = files.iter().map(|file| text(directory, file));
        let table = tables.into_iter().find(|table| table.lines().count() > 1).unwrap_or_default();
        for line in table.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [disk, operation, count] = words.as_slice() else { continue };
            let (Some(number), Ok(count)) = (device(disk), count.parse()) else { continue };
            let disk = disks.entry(number).or_insert_with(|| IoStats { device: number, ..IoStats::default() });
            match (*operation, is_bytes) {
                ("Read", true) => disk.read_bytes = count,
                ("Write", true) => disk.written_bytes = count,
                ("Read", false) => disk.reads = count,
                ("Write", false) => disk.writes = count,
                _ => {}
            }
        }
    }
    disks.into_values().collect()
}

pub(super) fn io_v2(directory: &Path) -> Vec<IoStats> {
    let line = |line: &str| {
        let (disk, counts) = line.split_once(' ')?;
        let mut stats = IoStats { device: device(disk)?, ..IoStats::default() };
        for (key, count) in counts.split(' ').filter_map(|pair| pair.split_once('=')) {
            let count = count.parse().unwrap_or(0);
            match key {
                "rbytes" => stats.read_bytes = count,
                "wbytes" => stats.written_bytes = count,
                "rios" => stats.reads = count,
                "wios" => stats.writes = count,
                _ => {}
            }
        }
        Some(stats)
    };
    text(directory, "io.stat").lines().filter_map(line).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn tables_of_both_versions_are_read() {
        let directory = tempfile::tempdir().unwrap();
        let write = |file: &str, text: &str| fs::write(directory.path().join(file), text).unwrap();
        write("io.stat", "253:0 rbytes=4096 wbytes=1 rios=2 wios=3 dbytes=0 dios=0\nbroken\n");
        write("blkio.throttle.io_service_bytes_recursive", "8:0 Read 10\n8:0 Write 20\n8:0 Total 30\nTotal 30\n");
        write("memory.usage_in_bytes", "300\n");
        write("memory.stat", "total_cache 200\ntotal_inactive_file 100\n");
        write("memory.limit_in_bytes", "9223372036854771712\n");
        write("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n");
        let disk = IoStats { device: (253, 0), read_bytes: 4096, written_bytes: 1, reads: 2, writes: 3 };
        assert_eq!(io_v2(directory.path()), [disk]);
        let disk = IoStats { device: (8, 0), read_bytes: 10, written_bytes: 20, ..IoStats::default() };
        assert_eq!(io_v1(directory.path()), [disk]);
        let memory = memory_v1(directory.path());
        assert_eq!((memory.working_set(), memory.limit, memory.oom_kills), (200, None, 2));
    }
}
