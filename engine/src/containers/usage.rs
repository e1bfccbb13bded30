//! top, stats, update: what a container's processes use, and what they may.

use std::fs;

use runtime::CgroupStats;

use super::limits::LimitSpec;
use super::manage::group_of;
use super::spec::RestartPolicy;
use super::state::{ContainerInfo, now};
use crate::Engine;
use crate::error::{Error, Result};
use crate::networks::NetworkChoice;

/// A process of a container, as the machine sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProcessRow {
    /// User.
    pub uid: u32,
    /// Number.
    pub pid: u32,
    /// Its parent's.
    pub parent: u32,
    /// Unix seconds of its start.
    pub started: u64,
    /// Its terminal as the machine numbers it, `pts/0`, or `?`.
    pub terminal: String,
    /// Clock ticks of processor time.
    pub ticks: u64,
    /// Its command line, or its name in brackets.
    pub command: String,
}

/// What a container uses at one moment.
#[derive(Debug, Clone)]
pub struct ContainerUse {
    /// Unix nanoseconds.
    pub time: u64,
    /// The kernel's numbers.
    pub stats: CgroupStats,
    /// The most memory that it may use, in bytes: its limit, or what the machine has.
    pub memory_limit: u64,
    /// Bytes that came in through its network devices and went out; nothing where the network is not its own.
    pub network: (u64, u64),
}

impl Engine {
    /// The processes of a container that runs.
    ///
    /// # Errors
    /// When it does not.
    pub fn top(&self, name: &str) -> Result<Vec<ProcessRow>> {
        let info = self.container(name)?;
        let running = info.running()?;
        let mut pids = match group_of(&info) {
            Ok(group) => group.processes()?,
            Err(_) => running.processes(),
        };
        pids.sort_unstable();
        // Those that ended meanwhile are not there any more.
        Ok(pids.into_iter().filter_map(process).collect())
    }

    /// What a container uses now.
    ///
    /// # Errors
    /// When it does not run.
    pub fn usage_of(&self, info: &ContainerInfo) -> Result<ContainerUse> {
        let running = info.running()?;
        let stats = group_of(info).map_or_else(|_| running.usage(), |group| group.stats());
        let memory_limit = stats.memory.limit.unwrap_or_else(machine_memory);
        let network = match info.spec.network {
            NetworkChoice::Host => (0, 0),
            _ => traffic(&fs::read_to_string(format!("/proc/{}/net/dev", running.pid())).unwrap_or_default()),
        };
        Ok(ContainerUse { time: now(), stats, memory_limit, network })
    }

    /// Changes the limits and the restart policy of a container; what is not named stays.
    ///
    /// # Errors
    /// When there is none, or a limit cannot be.
    pub fn update(&self, name: &str, limits: &LimitSpec, restart: Option<RestartPolicy>) -> Result<()> {
        let info = self.container(name)?;
        if info.spec.remove && restart.is_some_and(|restart| restart != RestartPolicy::No) {
            return Err(Error::Usage(format!("container {} was made with --rm: it goes when it ends", info.name())));
        }
        let mut spec = info.spec.clone();
        spec.limits = spec.limits.changed_by(limits);
        let resources = spec.limits.resources()?;
        if info.status.is_running() && *limits != LimitSpec::default() {
            group_of(&info)?.update(&resources)?;
        }
        self.respecify(&info.record.id, |now| {
            now.limits = spec.limits;
            now.restart = restart.unwrap_or(now.restart);
        })?;
        self.note_event_of(&info, "update", &[]);
        Ok(())
    }
}

impl LimitSpec {
    fn changed_by(&self, change: &LimitSpec) -> LimitSpec {
        LimitSpec {
            memory: change.memory.or(self.memory),
            memory_swap: change.memory_swap.or(self.memory_swap),
            memory_reservation: change.memory_reservation.or(self.memory_reservation),
            cpu_thousandths: change.cpu_thousandths.or(self.cpu_thousandths),
            cpu_shares: change.cpu_shares.or(self.cpu_shares),
            cpu_period: change.cpu_period.or(self.cpu_period),
            cpu_quota: change.cpu_quota.or(self.cpu_quota),
            cpuset_cpus: change.cpuset_cpus.clone().or_else(|| self.cpuset_cpus.clone()),
            cpuset_mems: change.cpuset_mems.clone().or_else(|| self.cpuset_mems.clone()),
            pids: change.pids.or(self.pids),
            blkio_weight: change.blkio_weight.or(self.blkio_weight),
            ..self.clone()
        }
    }
}

pub(crate) fn machine_memory() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kilobytes: Option<u64> = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
    kilobytes.unwrap_or(0).saturating_mul(1024)
}

/// Bytes in and out of all devices but the loopback one (proc_pid_net(5): `NAME: BYTES` and seven more, then the same out).
fn traffic(devices: &str) -> (u64, u64) {
    let counts = devices.lines().filter_map(|line| {
        let (name, numbers) = line.split_once(':')?;
        let mut numbers = numbers.split_whitespace().map(|number| number.parse::<u64>().unwrap_or(0));
        (name.trim() != "lo").then_some((numbers.next()?, numbers.nth(7)?))
    });
    counts.fold((0, 0), |(all_in, all_out), (one_in, one_out)| (all_in + one_in, all_out + one_out))
}

/// Clock ticks of a second, in what the kernel tells of processes.
const TICKS: u64 = 100;

/// Unix seconds of the machine's start.
fn boot_time() -> u64 {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    text.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok()).unwrap_or(0)
}

/// The name of a terminal by its device number (proc_pid_stat(5)): of Unix98 terminals, majors 136 to 143, and of consoles.
fn terminal(device: u64) -> String {
    let (major, minor) = ((device >> 8) & 0xfff, (device & 0xff) | ((device >> 12) & 0xfff00));
    match major {
        136..=143 => format!("pts/{}", minor + (major - 136) * 256),
        4 if minor < 64 => format!("tty{minor}"),
        4 => format!("ttyS{}", minor - 64),
        5 if minor == 1 => "console".to_owned(),
        _ => "?".to_owned(),
    }
}

fn process(pid: u32) -> Option<ProcessRow> {
    use std::os::unix::fs::MetadataExt;
    let directory = format!("/proc/{pid}");
    let uid = fs::metadata(&directory).ok()?.uid();
    let stat = fs::read_to_string(format!("{directory}/stat")).ok()?;
    let (head, rest) = stat.rsplit_once(')')?;
    let name = head.split_once('(').map_or("", |(_, name)| name);
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let number = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
    let line = fs::read(format!("{directory}/cmdline")).unwrap_or_default();
    let words: Vec<String> = line
        .split(|byte| *byte == 0)
        .filter(|word| !word.is_empty())
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect();
    Some(ProcessRow {
        uid,
        pid,
        parent: u32::try_from(number(1)).unwrap_or(0),
        started: boot_time().saturating_add(number(19) / TICKS),
        terminal: terminal(number(4)),
        ticks: number(11) + number(12),
        command: if words.is_empty() { format!("[{name}]") } else { words.join(" ") },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traffic_is_that_of_all_devices_but_loopback() {
        let head = "Inter-|   Receive  |  Transmit\n face |bytes packets errs|bytes packets\n";
        let devices = "    lo: 9 1 0 0 0 0 0 0 9 1 0 0 0 0 0 0\n  eth0: 100 2 0 0 0 0 0 0 30 4 0 0 0 0 0 0\n  eth1:7 1 0 0 0 0 0 0 5 1 0 0 0 0 0 0\n";
        assert_eq!(traffic(&format!("{head}{devices}")), (107, 35));
        assert_eq!(traffic(""), (0, 0));
    }

    #[test]
    fn terminals_have_the_names_of_their_devices() {
        let names =
            [0, 136 << 8, (136 << 8) | 7, (137 << 8) | 1, (4 << 8) | 1, (4 << 8) | 64, (5 << 8) | 1].map(terminal);
        assert_eq!(names, ["?", "pts/0", "pts/7", "pts/257", "tty1", "ttyS0", "console"]);
    }
}
