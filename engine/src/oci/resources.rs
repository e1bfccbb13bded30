//! `linux.resources` as the runtime takes them.

use oci_spec::runtime::{
    LinuxBlockIo, LinuxCpu, LinuxDeviceCgroup, LinuxDeviceType, LinuxMemory, LinuxResources, LinuxThrottleDevice,
};
use runtime::{
    Bound, DeviceAccess, DeviceClass, DeviceRule, DeviceSet, DeviceWeight, Resources, Throttle, ThrottleKind,
};

use super::config::invalid;
use crate::error::Result;

/// Zero means that nothing is asked for, as callers write it.
pub(super) fn resources(asked: &LinuxResources) -> Result<Resources> {
    let mut resources = Resources::default();
    if let Some(memory) = asked.memory() {
        set_memory(&mut resources, memory)?;
    }
    if let Some(cpu) = asked.cpu() {
        set_cpu(&mut resources, cpu);
    }
    resources.pids = asked.pids().as_ref().map(|pids| pids.limit()).filter(|limit| *limit != 0).map(Bound::from_signed);
    if let Some(disks) = asked.block_io() {
        set_disks(&mut resources, disks)?;
    }
    for limit in asked.hugepage_limits().iter().flatten() {
        let most = u64::try_from(limit.limit())
            .map_err(|_| invalid("linux.resources.hugepageLimits", "must not be negative"))?;
        resources.hugetlb.push((limit.page_size().clone(), most));
    }
    if let Some(network) = asked.network() {
        resources.network_class = network.class_id().filter(|class| *class != 0);
        let priorities = network.priorities().iter().flatten();
        resources.network_priorities = priorities.map(|one| (one.name().clone(), one.priority())).collect();
    }
    if asked.rdma().as_ref().is_some_and(|rdma| !rdma.is_empty()) {
        return Err(invalid("linux.resources.rdma", "is not supported by this version; leave it out"));
    }
    for (file, value) in asked.unified().iter().flatten() {
        resources.unified.insert(file.clone(), value.clone());
    }
    for rule in asked.devices().iter().flatten() {
        resources.devices.push(device_rule(rule)?);
    }
    if !resources.devices.is_empty() {
        // The harmless devices are there in every container, whatever the list forgets.
        resources.devices.extend(DeviceRule::usual().into_iter().filter(|rule| rule.allow));
    }
    Ok(resources)
}

fn set_memory(resources: &mut Resources, memory: &LinuxMemory) -> Result<()> {
    let bound = |value: Option<i64>| value.filter(|value| *value != 0).map(Bound::from_signed);
    resources.memory = bound(memory.limit());
    resources.memory_swap = bound(memory.swap());
    resources.memory_reservation = bound(memory.reservation());
    resources.swappiness = memory.swappiness();
    resources.oom_kill_disable = memory.disable_oom_killer().unwrap_or(false);
    let kernel = [memory.kernel(), memory.kernel_tcp()];
    if kernel.into_iter().flatten().any(|limit| limit > 0) {
        return Err(invalid("linux.resources.memory.kernel", "kernels have no such limit any more; leave it out"));
    }
    Ok(())
}

fn set_cpu(resources: &mut Resources, cpu: &LinuxCpu) {
    let set = |list: &Option<String>| list.clone().filter(|list| !list.is_empty());
    resources.cpu_shares = cpu.shares().filter(|shares| *shares != 0);
    resources.cpu_quota = cpu.quota().filter(|quota| *quota != 0).map(Bound::from_signed);
    resources.cpu_period = cpu.period().filter(|period| *period != 0);
    resources.cpu_burst = cpu.burst();
    resources.cpu_idle = cpu.idle();
    resources.cpu_realtime_runtime = cpu.realtime_runtime().filter(|runtime| *runtime != 0);
    resources.cpu_realtime_period = cpu.realtime_period().filter(|period| *period != 0);
    resources.cpuset_cpus = set(cpu.cpus());
    resources.cpuset_mems = set(cpu.mems());
}

fn set_disks(resources: &mut Resources, disks: &LinuxBlockIo) -> Result<()> {
    let number =
        |number: i64| u32::try_from(number).map_err(|_| invalid("linux.resources.blockIO", "has no valid device"));
    if disks.leaf_weight().is_some_and(|weight| weight != 0) {
        return Err(invalid(
            "linux.resources.blockIO.leafWeight",
            "kernels have no such weight any more; leave it out",
        ));
    }
    resources.blkio_weight = disks.weight().filter(|weight| *weight != 0);
    for weight in disks.weight_device().iter().flatten() {
        if let Some(value) = weight.weight().filter(|weight| *weight != 0) {
            let device = (number(weight.major())?, number(weight.minor())?);
            resources.blkio_weight_devices.push(DeviceWeight { device, weight: value });
        }
    }
    let mut add = |list: &Option<Vec<LinuxThrottleDevice>>, kind| -> Result<()> {
        for one in list.iter().flatten() {
            let device = (number(one.major())?, number(one.minor())?);
            resources.blkio_throttles.push(Throttle { device, kind, rate: one.rate() });
        }
        Ok(())
    };
    add(disks.throttle_read_bps_device(), ThrottleKind::ReadBytes)?;
    add(disks.throttle_write_bps_device(), ThrottleKind::WriteBytes)?;
    add(disks.throttle_read_iops_device(), ThrottleKind::ReadOperations)?;
    add(disks.throttle_write_iops_device(), ThrottleKind::WriteOperations)
}

fn device_rule(rule: &LinuxDeviceCgroup) -> Result<DeviceRule> {
    let refuse = |reason: String| invalid("linux.resources.devices", reason);
    let kind = match rule.typ() {
        None | Some(LinuxDeviceType::A) => None,
        Some(LinuxDeviceType::B) => Some(DeviceClass::Block),
        Some(LinuxDeviceType::C | LinuxDeviceType::U) => Some(DeviceClass::Character),
        Some(LinuxDeviceType::P) => return Err(refuse("a fifo is no device".to_owned())),
    };
    // Below zero is every number.
    let number = |number: Option<i64>| match number {
        None => Ok(None),
        Some(number) if number < 0 => Ok(None),
        Some(number) => {
            u32::try_from(number).map(Some).map_err(|_| refuse(format!("{number} is no number of a device")))
        }
    };
    let access = match rule.access().as_deref() {
        None | Some("") => DeviceAccess::ALL,
        Some(text) => DeviceAccess::parse(text)?,
    };
    let devices = DeviceSet { kind, major: number(rule.major())?, minor: number(rule.minor())? };
    Ok(DeviceRule { allow: rule.allow(), devices, access })
}
