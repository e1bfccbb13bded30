//! Limits of a container: what was asked for as durable data, and the control group that it comes to.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use runtime::{
    Bound, CGROUP_PARENT, Cgroup, DeviceRule, DeviceWeight, Extent, Resources, Signal, Throttle, ThrottleKind,
};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Less memory starts no process: docker's own bound.
const LEAST_MEMORY: i64 = 6 << 20;

/// Limits in docker's words. Below zero is unlimited.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LimitSpec {
    /// `--memory`, in bytes.
    pub memory: Option<i64>,
    /// `--memory-swap`: memory and swap together, in bytes.
    pub memory_swap: Option<i64>,
    /// `--memory-reservation`, in bytes.
    pub memory_reservation: Option<i64>,
    /// `--cpus`, in thousandths of a processor.
    pub cpu_thousandths: Option<u64>,
    /// `--cpu-shares`.
    pub cpu_shares: Option<u64>,
    /// `--cpu-period`, in microseconds.
    pub cpu_period: Option<u64>,
    /// `--cpu-quota`, in microseconds.
    pub cpu_quota: Option<i64>,
    /// `--cpuset-cpus`.
    pub cpuset_cpus: Option<String>,
    /// `--cpuset-mems`.
    pub cpuset_mems: Option<String>,
    /// `--pids-limit`; zero is unlimited too.
    pub pids: Option<i64>,
    /// `--blkio-weight`.
    pub blkio_weight: Option<u16>,
    /// `--memory-swappiness`.
    pub swappiness: Option<u64>,
    /// `--oom-kill-disable`.
    pub oom_kill_disable: bool,
    /// `--cpu-rt-period`, in microseconds.
    pub cpu_realtime_period: Option<u64>,
    /// `--cpu-rt-runtime`, in microseconds.
    pub cpu_realtime_runtime: Option<i64>,
    /// `--blkio-weight-device`: a disk, and its weight.
    pub disk_weights: Vec<(PathBuf, u16)>,
    /// `--device-read-bps` and its like.
    pub disk_rates: Vec<DiskRate>,
    /// `--device-cgroup-rule`.
    pub device_rules: Vec<String>,
    /// `--cgroup-parent`.
    pub cgroup_parent: Option<String>,
}

/// Most bytes or operations a second on one disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskRate {
    /// The disk's device.
    pub disk: PathBuf,
    /// What is counted.
    pub kind: DiskRateKind,
    /// How many of them a second.
    pub rate: u64,
}

/// What is counted of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "the names say it")]
pub enum DiskRateKind {
    ReadBytes,
    WriteBytes,
    ReadOperations,
    WriteOperations,
}

impl DiskRateKind {
    fn kernel(self) -> ThrottleKind {
        match self {
            DiskRateKind::ReadBytes => ThrottleKind::ReadBytes,
            DiskRateKind::WriteBytes => ThrottleKind::WriteBytes,
            DiskRateKind::ReadOperations => ThrottleKind::ReadOperations,
            DiskRateKind::WriteOperations => ThrottleKind::WriteOperations,
        }
    }
}

/// The number of a disk.
fn disk_number(path: &Path) -> Result<(u32, u32)> {
    let found = std::fs::metadata(path).map_err(|error| Error::file("find the disk", path, error))?;
    if !found.file_type().is_block_device() {
        return Err(Error::Usage(format!("{} is no disk: limits of disks name a block device", path.display())));
    }
    Ok((rustix::fs::major(found.rdev()), rustix::fs::minor(found.rdev())))
}

impl LimitSpec {
    /// What the runtime is asked for. `dunnage update` hands this to [`Cgroup::update`].
    ///
    /// # Errors
    /// When two of them contradict each other, or one cannot be.
    pub fn resources(&self) -> Result<Resources> {
        self.check()?;
        let swap = match (self.memory, self.memory_swap) {
            // Docker's default: as much swap as memory.
            (Some(memory), None) if memory > 0 && swap_is_counted() => Some(memory.saturating_mul(2)),
            (_, swap) => swap,
        };
        let mut resources = Resources {
            memory: self.memory.map(Bound::from_signed),
            memory_swap: swap.map(Bound::from_signed),
            memory_reservation: self.memory_reservation.map(Bound::from_signed),
            cpu_shares: self.cpu_shares,
            cpu_period: self.cpu_period,
            cpu_quota: self.cpu_quota.map(Bound::from_signed),
            cpuset_cpus: self.cpuset_cpus.clone(),
            cpuset_mems: self.cpuset_mems.clone(),
            pids: self.pids.map(|pids| if pids == 0 { Bound::Unlimited } else { Bound::from_signed(pids) }),
            blkio_weight: self.blkio_weight,
            swappiness: self.swappiness,
            oom_kill_disable: self.oom_kill_disable,
            cpu_realtime_period: self.cpu_realtime_period,
            cpu_realtime_runtime: self.cpu_realtime_runtime,
            ..Resources::default()
        };
        if let Some(thousandths) = self.cpu_thousandths {
            resources = resources.with_processors(thousandths);
        }
        for (disk, weight) in &self.disk_weights {
            resources.blkio_weight_devices.push(DeviceWeight { device: disk_number(disk)?, weight: *weight });
        }
        for DiskRate { disk, kind, rate } in &self.disk_rates {
            let (device, kind, rate) = (disk_number(disk)?, kind.kernel(), *rate);
            resources.blkio_throttles.push(Throttle { device, kind, rate });
        }
        if !self.device_rules.is_empty() {
            resources.devices = DeviceRule::usual();
            for rule in &self.device_rules {
                resources.devices.push(DeviceRule::parse(rule)?);
            }
        }
        Ok(resources)
    }

    /// Whether they can be, on this machine.
    ///
    /// # Errors
    /// When two of them contradict each other, or one cannot be.
    pub(super) fn check(&self) -> Result<()> {
        self.check_processors()?;
        let usage = |sentence: &str| Err(Error::Usage(sentence.to_owned()));
        if self.memory.is_some_and(|memory| (0..LEAST_MEMORY).contains(&memory)) {
            return usage("--memory must be 6MB at the least");
        }
        if self.cpu_thousandths.is_some() && (self.cpu_quota.is_some() || self.cpu_period.is_some()) {
            return usage("--cpus is a quota and a period in one: give it, or --cpu-quota and --cpu-period");
        }
        match (self.memory, self.memory_swap) {
            (None, Some(swap)) if swap > 0 => {
                usage("--memory-swap counts memory and swap together: give --memory as well")
            }
            (Some(memory), Some(swap)) if swap >= 0 && swap < memory => {
                usage("--memory-swap counts memory and swap together: it must not be less than --memory")
            }
            _ => Ok(()),
        }
    }

    fn check_processors(&self) -> Result<()> {
        if self.cpu_thousandths.is_none() && self.cpuset_cpus.is_none() {
            return Ok(());
        }
        let Some(online) = online_processors() else { return Ok(()) };
        if let Some(asked) = self.cpu_thousandths
            && let Some(most) = count_of(&online).filter(|most| asked > most.saturating_mul(1000))
        {
            return Err(Error::BeyondMachine(format!(
                "--cpus {} is more than this machine has: it goes from 0.01 to {most}.00",
                asked as f64 / 1000.0
            )));
        }
        match &self.cpuset_cpus {
            Some(asked) if !is_within(asked, &online) => Err(Error::BeyondMachine(format!(
                "set of processors: --cpuset-cpus {asked} is beyond this machine, which has {online}"
            ))),
            _ => Ok(()),
        }
    }

    /// Where the container's group is.
    #[must_use]
    pub fn cgroup_path(&self, id: &str) -> PathBuf {
        PathBuf::from(self.cgroup_parent.as_deref().unwrap_or(CGROUP_PARENT)).join(id)
    }
}

/// The processors of the machine, whichever of them this process may use, as `0-3,7`. Nothing where the kernel does not say.
fn online_processors() -> Option<String> {
    Some(std::fs::read_to_string("/sys/devices/system/cpu/online").ok()?.trim().to_owned())
}

/// First and last of each part of a list such as `0-3,7`.
fn ranges(list: &str) -> Option<Vec<(u64, u64)>> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.parse().ok()?, last.parse().ok()?);
        (first <= last).then_some((first, last))
    };
    list.split(',').map(range).collect()
}

fn count_of(list: &str) -> Option<u64> {
    Some(ranges(list)?.into_iter().map(|(first, last)| (last - first).saturating_add(1)).sum())
}

/// Whether all of a list is in another; what is no list is for the kernel to judge.
fn is_within(asked: &str, all: &str) -> bool {
    let (Some(asked), Some(all)) = (ranges(asked), ranges(all)) else { return true };
    asked.iter().all(|(first, last)| all.iter().any(|(low, high)| low <= first && last <= high))
}

/// Version 1 counts swap only where the kernel was told to.
fn swap_is_counted() -> bool {
    let swap_off = std::path::Path::new("/sys/fs/cgroup/memory/memory.limit_in_bytes").exists()
        && !std::path::Path::new("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes").exists();
    !swap_off
}

/// The control group of a container that this process started. It ends with all that is in it when this is dropped.
#[derive(Debug)]
pub(super) struct Group(Option<Arc<Cgroup>>);

impl Group {
    /// Makes the group. Where nothing is asked for and none may be made, there is none.
    pub(super) fn prepare(limits: &LimitSpec, devices: Vec<DeviceRule>, id: &str, extent: Extent) -> Result<Group> {
        let resources = Resources { devices, ..limits.resources()? };
        match Cgroup::create(limits.cgroup_path(id), extent, &resources) {
            Ok(cgroup) => Ok(Group(Some(Arc::new(cgroup)))),
            Err(_) if resources.is_empty() && limits.cgroup_parent.is_none() => Ok(Group(None)),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) fn cgroup(&self) -> Option<Arc<Cgroup>> {
        self.0.clone()
    }

    /// By which path others find it, where that is not where it is for everybody.
    pub(super) fn delegated_path(&self) -> Option<PathBuf> {
        self.0.as_ref().and_then(|cgroup| cgroup.delegated_path())
    }

    /// Whether the kernel has killed a process of it because memory ran out.
    pub(super) fn ran_out_of_memory(&self) -> bool {
        self.0.as_ref().is_some_and(|cgroup| cgroup.oom_kills() > 0)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(cgroup) = &self.0 {
            // An empty group that stays does no harm; one that does not end is told by `ps`.
            let _ = cgroup.kill(Signal::KILL).and_then(|()| cgroup.remove());
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_contradicts_itself_is_refused() {
        let wrong = [
            LimitSpec { memory: Some(1 << 20), ..LimitSpec::default() },
            LimitSpec { memory: Some(64 << 20), memory_swap: Some(32 << 20), ..LimitSpec::default() },
            LimitSpec { memory_swap: Some(32 << 20), ..LimitSpec::default() },
            LimitSpec { cpu_thousandths: Some(500), cpu_quota: Some(1000), ..LimitSpec::default() },
            LimitSpec { cpu_thousandths: Some(100_000_000), ..LimitSpec::default() },
            LimitSpec { cpuset_cpus: Some("0,100000".to_owned()), ..LimitSpec::default() },
            LimitSpec { device_rules: vec!["x".to_owned()], ..LimitSpec::default() },
        ];
        for limits in wrong {
            assert!(limits.resources().is_err(), "{limits:?}");
        }
        assert!(LimitSpec::default().resources().unwrap().is_empty());
    }

    #[test]
    fn processors_are_counted_as_the_kernel_lists_them() {
        assert_eq!(["0", "0-1", "0-3,7", "0,2-5"].map(count_of), [Some(1), Some(2), Some(5), Some(5)]);
        assert_eq!(["", "x", "3-1"].map(count_of), [None; 3]);
        assert!(["0", "0-3", "1,7", "no list"].iter().all(|asked| is_within(asked, "0-3,7")));
        assert!(["4", "0-7", "0,8"].iter().all(|asked| !is_within(asked, "0-3,7")));
    }

    #[test]
    fn zero_pids_are_no_limit() {
        let limits = LimitSpec { pids: Some(0), ..LimitSpec::default() };
        assert_eq!(limits.resources().unwrap().pids, Some(Bound::Unlimited));
    }
}
