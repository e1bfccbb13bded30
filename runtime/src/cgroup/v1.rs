//! Limits in the words of version 1: one directory in each hierarchy, one file for each number.
use std::fs;
use std::path::Path;

use super::file::{read_number, set, set_where_there};
use super::limits::{Bound, Resources, ThrottleKind};
use super::probe::Controller;
use crate::error::{Error, Result};

/// A new group has no processors and no memory nodes, and no process may join it before it has some of its parent's.
pub(super) fn inherit_cpuset(mount: &Path, directory: &Path) -> Result<()> {
    let Ok(below) = directory.strip_prefix(mount) else { return Ok(()) };
    let mut parent = mount.to_owned();
    for name in below.components() {
        let child = parent.join(name);
        for file in ["cpuset.cpus", "cpuset.mems"] {
            let own = fs::read_to_string(child.join(file)).unwrap_or_default();
            if own.trim().is_empty() {
                let inherited = fs::read_to_string(parent.join(file)).unwrap_or_default();
                set(&child, file, "set of processors", inherited.trim())?;
            }
        }
        parent = child;
    }
    Ok(())
}

/// Writes what concerns one controller into its directory.
pub(super) fn apply(controller: Controller, directory: &Path, resources: &Resources) -> Result<()> {
    match controller {
        Controller::Memory => memory(directory, resources),
        Controller::Cpu => cpu(directory, resources),
        Controller::Cpuset => cpuset(directory, resources),
        Controller::Pids => match resources.pids {
            Some(bound) => set(directory, "pids.max", "pids limit", bound.or_max()),
            None => Ok(()),
        },
        Controller::Blkio => blkio(directory, resources),
        Controller::Hugetlb => {
            let write =
                |(size, most): &(String, u64)| set(directory, &format!("hugetlb.{size}.limit_in_bytes"), HUGE, most);
            resources.hugetlb.iter().try_for_each(write)
        }
        Controller::Devices => {
            let write = |rule: &super::DeviceRule| {
                let file = if rule.allow { "devices.allow" } else { "devices.deny" };
                set(directory, file, "device rule", rule.version_1())
            };
            resources.devices.iter().try_for_each(write)
        }
        Controller::NetCls => match resources.network_class {
            Some(class) => set(directory, "net_cls.classid", "network class", class),
            None => Ok(()),
        },
        Controller::NetPrio => resources.network_priorities.iter().try_for_each(|(interface, priority)| {
            set(directory, "net_prio.ifpriomap", "network priority", format!("{interface} {priority}"))
        }),
        _ => Ok(()),
    }
}

const HUGE: &str = "huge page limit";
const MEMORY: &str = "memory.limit_in_bytes";
const SWAP: &str = "memory.memsw.limit_in_bytes";

fn memory(directory: &Path, resources: &Resources) -> Result<()> {
    memory_and_swap(directory, resources)?;
    if let Some(bound) = resources.memory_reservation {
        set(directory, "memory.soft_limit_in_bytes", "memory reservation", bound.signed())?;
    }
    if let Some(swappiness) = resources.swappiness {
        set(directory, "memory.swappiness", "swappiness", swappiness)?;
    }
    if resources.oom_kill_disable {
        set(directory, "memory.oom_control", "disabled OOM killer", 1)?;
    }
    Ok(())
}

/// The kernel keeps memory below memory and swap together at every moment, so what grows goes first.
fn memory_and_swap(directory: &Path, resources: &Resources) -> Result<()> {
    let memory = |bound: Bound| set(directory, MEMORY, "memory limit", bound.signed());
    let swap = |bound: Bound| set(directory, SWAP, "swap limit", bound.signed());
    match (resources.memory, resources.memory_swap) {
        (None, None) => Ok(()),
        (Some(limit), None) => {
            // Without limits nothing may be left of both, though only one was named.
            if limit == Bound::Unlimited {
                set_where_there(directory, SWAP, "swap limit", limit.signed())?;
            }
            memory(limit)
        }
        (None, Some(both)) => swap(both),
        (Some(limit), Some(both)) => {
            let now = read_number(&directory.join(SWAP));
            let grows = match both {
                Bound::Unlimited => true,
                Bound::At(amount) => now.is_some_and(|now| amount > now),
            };
            if grows {
                swap(both)?;
                memory(limit)
            } else {
                memory(limit)?;
                swap(both)
            }
        }
    }
}

fn cpu(directory: &Path, resources: &Resources) -> Result<()> {
    if let Some(shares) = resources.cpu_shares {
        set(directory, "cpu.shares", "processor shares", shares)?;
    }
    if let Some(idle) = resources.cpu_idle {
        set(directory, "cpu.idle", "idle scheduling", idle)?;
    }
    let period = |value| set(directory, "cpu.cfs_period_us", "processor period", value);
    let quota = |bound: Bound| set(directory, "cpu.cfs_quota_us", "processor quota", bound.signed());
    match (resources.cpu_period, resources.cpu_quota) {
        (Some(value), Some(bound)) => {
            // A parent's quota may forbid the state between the two; the other order then passes.
            if period(value).is_err() {
                quota(bound)?;
                period(value)?;
            }
            quota(bound)?;
        }
        (Some(value), None) => period(value)?,
        (None, Some(bound)) => quota(bound)?,
        (None, None) => {}
    }
    if let Some(burst) = resources.cpu_burst {
        set(directory, "cpu.cfs_burst_us", "processor burst", burst)?;
    }
    if let Some(period) = resources.cpu_realtime_period {
        set(directory, "cpu.rt_period_us", "real-time period", period)?;
    }
    if let Some(runtime) = resources.cpu_realtime_runtime {
        set(directory, "cpu.rt_runtime_us", "real-time quota", runtime)?;
    }
    Ok(())
}

fn cpuset(directory: &Path, resources: &Resources) -> Result<()> {
    if let Some(cpus) = &resources.cpuset_cpus {
        set(directory, "cpuset.cpus", "set of processors", cpus)?;
    }
    if let Some(mems) = &resources.cpuset_mems {
        set(directory, "cpuset.mems", "set of memory nodes", mems)?;
    }
    Ok(())
}

fn blkio(directory: &Path, resources: &Resources) -> Result<()> {
    if let Some(weight) = resources.blkio_weight {
        // The scheduler that the disks use decides which of the two files there is.
        let file = ["blkio.weight", "blkio.bfq.weight"].into_iter().find(|file| directory.join(file).exists());
        let file = file.ok_or_else(|| no_weights("disk weight"))?;
        set(directory, file, "disk weight", weight)?;
    }
    for weight in &resources.blkio_weight_devices {
        let file = ["blkio.weight_device", "blkio.bfq.weight_device"].into_iter();
        let file = file.into_iter().find(|file| directory.join(file).exists());
        let file = file.ok_or_else(|| no_weights("disk weight"))?;
        let (major, minor) = weight.device;
        set(directory, file, "disk weight", format!("{major}:{minor} {}", weight.weight))?;
    }
    for throttle in &resources.blkio_throttles {
        let file = match throttle.kind {
            ThrottleKind::ReadBytes => "blkio.throttle.read_bps_device",
            ThrottleKind::WriteBytes => "blkio.throttle.write_bps_device",
            ThrottleKind::ReadOperations => "blkio.throttle.read_iops_device",
            ThrottleKind::WriteOperations => "blkio.throttle.write_iops_device",
        };
        let (major, minor) = throttle.device;
        set(directory, file, "disk throttle", format!("{major}:{minor} {}", throttle.rate))?;
    }
    Ok(())
}

pub(super) fn no_weights(limit: &'static str) -> Error {
    Error::Limit {
        limit,
        reason:
            "the blkio controller of this kernel has no weights; load the bfq scheduler (modprobe bfq), or leave it out"
                .to_owned(),
    }
}
