//! Limits in the words of version 2: one directory for all, whose parents must hand each controller on.
use std::fs;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::io::Errno;

use super::devices::DevicePolicy;
use super::file::{errno_of, read_number, set};
use super::limits::{Bound, Resources, ThrottleKind, io_weight_of_blkio, weight_of_shares};
use super::probe::{Controller, unified_controllers};
use super::v1::no_weights;
use crate::error::{Error, Result};
use crate::sys::bpf::replace_device_program;

/// Has every parent hand on what is needed, and of the rest what can be had.
pub(super) fn delegate(
    mount: &Path,
    path: &Path,
    needed: &[(Controller, &'static str)],
    wanted: &[Controller],
) -> Result<()> {
    if wanted.is_empty() {
        return Ok(());
    }
    let mut parent = mount.to_owned();
    for name in path.components() {
        let offered = unified_controllers(&parent).map_err(Error::cgroup(&parent, "reading its controllers"))?;
        for (controller, limit) in needed {
            if !offered.contains(controller) {
                return Err(missing(*controller, limit, &parent));
            }
        }
        let control = parent.join("cgroup.subtree_control");
        let given = fs::read_to_string(&control).unwrap_or_default();
        let given: Vec<&str> = given.split_whitespace().collect();
        for controller in wanted.iter().filter(|controller| offered.contains(controller)) {
            let name = controller.unified_name();
            if given.contains(&name) {
                continue;
            }
            let written = fs::write(&control, format!("+{name}"));
            let limit = needed.iter().find(|(known, _)| known == controller).map(|(_, limit)| *limit);
            if let (Err(error), Some(limit)) = (written, limit) {
                return Err(refused(*controller, limit, &parent, &error));
            }
        }
        parent = parent.join(name);
    }
    Ok(())
}

fn missing(controller: Controller, limit: &'static str, parent: &Path) -> Error {
    let name = controller.unified_name();
    let reason = format!(
        "the {name} controller is not handed to {}; write +{name} to cgroup.subtree_control of its parents, \
         enable it in the kernel, or leave the limit out",
        parent.display()
    );
    Error::Limit { limit, reason }
}

/// The kernel lets a group hand controllers on only when no process of its own is in it.
fn refused(controller: Controller, limit: &'static str, parent: &Path, error: &std::io::Error) -> Error {
    let (name, parent) = (controller.unified_name(), parent.display());
    let reason = match errno_of(error) {
        Errno::BUSY => format!(
            "{parent} has processes of its own and so cannot hand the {name} controller on; \
             move them into a group below it, or choose another parent with --cgroup-parent"
        ),
        _ => format!(
            "{parent} does not hand the {name} controller on ({error}); ask for a delegated group, or leave the limit out"
        ),
    };
    Error::Limit { limit, reason }
}

/// Writes everything into the one directory.
pub(super) fn apply(directory: &Path, controllers: &[Controller], resources: &Resources) -> Result<()> {
    let has = |controller| controllers.contains(&controller);
    if has(Controller::Memory) {
        memory(directory, resources)?;
    }
    if has(Controller::Cpu) {
        cpu(directory, resources)?;
    }
    if has(Controller::Cpuset) {
        if let Some(cpus) = &resources.cpuset_cpus {
            set(directory, "cpuset.cpus", "set of processors", cpus)?;
        }
        if let Some(mems) = &resources.cpuset_mems {
            set(directory, "cpuset.mems", "set of memory nodes", mems)?;
        }
    }
    if let (true, Some(bound)) = (has(Controller::Pids), resources.pids) {
        set(directory, "pids.max", "pids limit", bound.or_max())?;
    }
    if has(Controller::Blkio) {
        io(directory, resources)?;
    }
    if has(Controller::Hugetlb) {
        for (size, most) in &resources.hugetlb {
            set(directory, &format!("hugetlb.{size}.max"), "huge page limit", most)?;
        }
    }
    for (file, value) in &resources.unified {
        // A name with a slash would lead to another group.
        if file.contains('/') || !file.contains('.') {
            return Err(Error::invalid("unified", format!("`{file}` is no file of a control group")));
        }
        set(directory, file, "unified", value)?;
    }
    Ok(())
}

/// Has a program answer which devices may be used.
pub(super) fn restrict_devices(directory: impl AsFd, resources: &Resources) -> Result<()> {
    if resources.devices.is_empty() {
        return Ok(());
    }
    let program = DevicePolicy::of(&resources.devices).program();
    replace_device_program(directory.as_fd(), &program).map_err(|errno| Error::Limit {
        limit: "device rule",
        reason: match errno {
            Errno::PERM | Errno::ACCESS => {
                "this process may not load a BPF program; run as root, with CAP_BPF or CAP_SYS_ADMIN".to_owned()
            }
            Errno::INVAL | Errno::NOSYS => format!("the kernel takes no BPF program for devices ({errno})"),
            _ => format!("the kernel refuses the BPF program for devices ({errno})"),
        },
    })
}

fn memory(directory: &Path, resources: &Resources) -> Result<()> {
    if resources.oom_kill_disable {
        let reason = "version 2 of the control groups always has an OOM killer; leave it out".to_owned();
        return Err(Error::Limit { limit: "disabled OOM killer", reason });
    }
    if resources.swappiness.is_some() {
        let reason = "version 2 of the control groups has none; set vm.swappiness for the machine".to_owned();
        return Err(Error::Limit { limit: "swappiness", reason });
    }
    if let Some(both) = resources.memory_swap {
        let swap =
            swap_alone(both, resources.memory.or_else(|| read_number(&directory.join("memory.max")).map(Bound::At)))?;
        set(directory, "memory.swap.max", "swap limit", swap.or_max())?;
    }
    if let Some(bound) = resources.memory {
        set(directory, "memory.max", "memory limit", bound.or_max())?;
    }
    if let Some(bound) = resources.memory_reservation {
        set(directory, "memory.low", "memory reservation", bound.or_max())?;
    }
    Ok(())
}

/// Version 1 and docker count memory and swap together, version 2 counts swap by itself.
fn swap_alone(both: Bound, memory: Option<Bound>) -> Result<Bound> {
    match (both, memory) {
        (Bound::Unlimited, _) => Ok(Bound::Unlimited),
        (Bound::At(both), Some(Bound::At(memory))) if both >= memory => Ok(Bound::At(both - memory)),
        (Bound::At(_), Some(Bound::At(_))) => Err(Error::invalid(
            "memory-swap",
            "counts memory and swap together, so it must not be less than the memory limit",
        )),
        (Bound::At(_), _) => {
            Err(Error::invalid("memory-swap", "counts memory and swap together, so it needs a memory limit as well"))
        }
    }
}

fn cpu(directory: &Path, resources: &Resources) -> Result<()> {
    if let Some(shares) = resources.cpu_shares {
        set(directory, "cpu.weight", "processor shares", weight_of_shares(shares))?;
    }
    if let Some(idle) = resources.cpu_idle {
        set(directory, "cpu.idle", "idle scheduling", idle)?;
    }
    if resources.cpu_realtime_runtime.is_some_and(|runtime| runtime != 0)
        || resources.cpu_realtime_period.is_some_and(|period| period != 0)
    {
        let reason = "version 2 of the control groups has none; leave it out".to_owned();
        return Err(Error::Limit { limit: "real-time quota", reason });
    }
    match (resources.cpu_quota, resources.cpu_period) {
        (None, None) => {}
        (quota, Some(period)) => {
            let quota = quota.map_or_else(|| current_quota(directory), Bound::or_max);
            set(directory, "cpu.max", "processor quota", format!("{quota} {period}"))?;
        }
        (Some(quota), None) => set(directory, "cpu.max", "processor quota", quota.or_max())?,
    }
    if let Some(burst) = resources.cpu_burst {
        set(directory, "cpu.max.burst", "processor burst", burst)?;
    }
    Ok(())
}

fn current_quota(directory: &Path) -> String {
    let text = fs::read_to_string(directory.join("cpu.max")).unwrap_or_default();
    text.split_whitespace().next().unwrap_or("max").to_owned()
}

fn io(directory: &Path, resources: &Resources) -> Result<()> {
    let weight_file = |limit| {
        let file = ["io.bfq.weight", "io.weight"].into_iter().find(|file| directory.join(file).exists());
        file.ok_or_else(|| no_weights(limit))
    };
    // bfq counts as version 1 does, the io controller itself up to ten times as far.
    let scaled = |file: &str, weight: u16| match file {
        "io.bfq.weight" => u64::from(weight),
        _ => io_weight_of_blkio(weight),
    };
    if let Some(weight) = resources.blkio_weight {
        let file = weight_file("disk weight")?;
        set(directory, file, "disk weight", scaled(file, weight))?;
    }
    for weight in &resources.blkio_weight_devices {
        let file = weight_file("disk weight")?;
        let (major, minor) = weight.device;
        set(directory, file, "disk weight", format!("{major}:{minor} {}", scaled(file, weight.weight)))?;
    }
    for throttle in &resources.blkio_throttles {
        let key = match throttle.kind {
            ThrottleKind::ReadBytes => "rbps",
            ThrottleKind::WriteBytes => "wbps",
            ThrottleKind::ReadOperations => "riops",
            ThrottleKind::WriteOperations => "wiops",
        };
        let (major, minor) = throttle.device;
        set(directory, "io.max", "disk throttle", format!("{major}:{minor} {key}={}", throttle.rate))?;
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn swap_is_what_is_left_of_both() {
        let at = Bound::At;
        assert_eq!(swap_alone(at(300), Some(at(100))).unwrap(), at(200));
        assert_eq!(swap_alone(at(100), Some(at(100))).unwrap(), at(0));
        assert_eq!(swap_alone(Bound::Unlimited, None).unwrap(), Bound::Unlimited);
        assert!(swap_alone(at(50), Some(at(100))).is_err() && swap_alone(at(50), None).is_err());
    }
}
