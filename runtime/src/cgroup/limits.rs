//! What a control group may be asked for, as plain data, and how one version's numbers become the other's.
use std::collections::BTreeMap;

use super::devices::DeviceRule;
use super::probe::Controller;

/// An amount, or no limit at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// As much as the parent allows.
    Unlimited,
    /// At most this.
    At(u64),
}

impl Bound {
    /// Reads the numbers of docker and OCI, where anything below zero is unlimited.
    #[must_use]
    pub fn from_signed(number: i64) -> Bound {
        u64::try_from(number).map_or(Bound::Unlimited, Bound::At)
    }

    /// As version 1 writes it.
    pub(super) fn signed(self) -> String {
        match self {
            Bound::Unlimited => "-1".to_owned(),
            Bound::At(amount) => amount.to_string(),
        }
    }

    /// As version 2, and the pids controller of both, write it.
    pub(super) fn or_max(self) -> String {
        match self {
            Bound::Unlimited => "max".to_owned(),
            Bound::At(amount) => amount.to_string(),
        }
    }
}

/// What is asked of a control group. What is `None` or empty is left as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// Memory in bytes.
    pub memory: Option<Bound>,
    /// Memory and swap together, in bytes.
    pub memory_swap: Option<Bound>,
    /// Memory that is left to the group under pressure, in bytes.
    pub memory_reservation: Option<Bound>,
    /// How readily the group swaps, 0 to 100; version 1 only.
    pub swappiness: Option<u64>,
    /// Processes wait where they would be killed; version 1 only.
    pub oom_kill_disable: bool,
    /// Share of the processors under load, 2 to 262144; 1024 is usual.
    pub cpu_shares: Option<u64>,
    /// Microseconds of processor time in each period.
    pub cpu_quota: Option<Bound>,
    /// The period in microseconds, 1000 to 1000000; 100000 is usual.
    pub cpu_period: Option<u64>,
    /// Microseconds that may be saved up for later.
    pub cpu_burst: Option<u64>,
    /// Whether the group runs only when nothing else wants to.
    pub cpu_idle: Option<i64>,
    /// Microseconds of real-time scheduling in each real-time period; version 1 only.
    pub cpu_realtime_runtime: Option<i64>,
    /// The real-time period in microseconds; version 1 only.
    pub cpu_realtime_period: Option<u64>,
    /// Processors, as `0-3,7`.
    pub cpuset_cpus: Option<String>,
    /// Memory nodes, as `0-1`.
    pub cpuset_mems: Option<String>,
    /// Processes and threads.
    pub pids: Option<Bound>,
    /// Share of the disks under load, 10 to 1000.
    pub blkio_weight: Option<u16>,
    /// The same for single disks.
    pub blkio_weight_devices: Vec<DeviceWeight>,
    /// Most bytes or operations a second on single disks.
    pub blkio_throttles: Vec<Throttle>,
    /// Bytes of huge pages, by page size as the kernel names it (`2MB`).
    pub hugetlb: Vec<(String, u64)>,
    /// Class of network packets; version 1 only.
    pub network_class: Option<u32>,
    /// Priorities of network packets by interface; version 1 only.
    pub network_priorities: Vec<(String, u32)>,
    /// Which devices may be made, read and written: each rule changes what the earlier ones said. Empty: all of them.
    pub devices: Vec<DeviceRule>,
    /// Files of version 2 and what to write there.
    pub unified: BTreeMap<String, String>,
}

/// Weight of one disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceWeight {
    /// Its number.
    pub device: (u32, u32),
    /// 10 to 1000.
    pub weight: u16,
}

/// A limit on one disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Throttle {
    /// Its number.
    pub device: (u32, u32),
    /// What is counted.
    pub kind: ThrottleKind,
    /// How many of them a second.
    pub rate: u64,
}

/// What a throttle counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum ThrottleKind {
    ReadBytes,
    WriteBytes,
    ReadOperations,
    WriteOperations,
}

impl Resources {
    /// Whether nothing at all is asked for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Resources::default()
    }

    /// `--cpus`: so many processors' worth of time, in thousandths.
    #[must_use]
    pub fn with_processors(mut self, thousandths: u64) -> Resources {
        self.cpu_period = Some(100_000);
        self.cpu_quota = Some(Bound::At(thousandths * 100));
        self
    }

    /// The controllers that are needed, each with the name of what needs it.
    pub(super) fn needs(&self) -> Vec<(Controller, &'static str)> {
        let asked = [
            (self.memory.is_some(), Controller::Memory, "memory limit"),
            (self.memory_swap.is_some(), Controller::Memory, "swap limit"),
            (self.memory_reservation.is_some(), Controller::Memory, "memory reservation"),
            (self.swappiness.is_some(), Controller::Memory, "swappiness"),
            (self.oom_kill_disable, Controller::Memory, "disabled OOM killer"),
            (self.cpu_shares.is_some(), Controller::Cpu, "processor shares"),
            (self.cpu_quota.is_some() || self.cpu_period.is_some(), Controller::Cpu, "processor quota"),
            (self.cpu_burst.is_some(), Controller::Cpu, "processor burst"),
            (self.cpu_idle.is_some(), Controller::Cpu, "idle scheduling"),
            (self.cpu_realtime_runtime.is_some(), Controller::Cpu, "real-time quota"),
            (self.cpu_realtime_period.is_some(), Controller::Cpu, "real-time period"),
            (self.cpuset_cpus.is_some(), Controller::Cpuset, "set of processors"),
            (self.cpuset_mems.is_some(), Controller::Cpuset, "set of memory nodes"),
            (self.pids.is_some(), Controller::Pids, "pids limit"),
            (self.blkio_weight.is_some(), Controller::Blkio, "disk weight"),
            (!self.blkio_weight_devices.is_empty(), Controller::Blkio, "disk weight"),
            (!self.blkio_throttles.is_empty(), Controller::Blkio, "disk throttle"),
            (!self.hugetlb.is_empty(), Controller::Hugetlb, "huge page limit"),
            (self.network_class.is_some(), Controller::NetCls, "network class"),
            (!self.network_priorities.is_empty(), Controller::NetPrio, "network priority"),
        ];
        asked.into_iter().filter(|(asked, ..)| *asked).map(|(_, controller, what)| (controller, what)).collect()
    }
}

/// Version 2's weight, 1 to 10000, for version 1's shares, 2 to 262144. The usual 1024 becomes the usual 100; the curve is
/// the one that runtimes agreed on in 2025, a parabola through the logarithms of both ends and the middle.
pub(super) fn weight_of_shares(shares: u64) -> u64 {
    let logarithm = (shares.clamp(2, 262_144) as f64).log2();
    let exponent = (logarithm * logarithm + 125.0 * logarithm) / 612.0 - 7.0 / 34.0;
    (10_f64.powf(exponent).ceil() as u64).clamp(1, 10_000)
}

/// The io controller's weight, 1 to 10000, for version 1's, 10 to 1000.
pub(super) fn io_weight_of_blkio(weight: u16) -> u64 {
    1 + (u64::from(weight).clamp(10, 1000) - 10) * 9999 / 990
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_become_weights() {
        for (shares, weight) in [(0, 1), (2, 1), (1024, 100), (262_144, 10_000), (1 << 40, 10_000)] {
            assert_eq!(weight_of_shares(shares), weight, "{shares}");
        }
        assert!((2..262_144).step_by(101).all(|shares| weight_of_shares(shares) <= weight_of_shares(shares + 101)));
        assert_eq!((io_weight_of_blkio(10), io_weight_of_blkio(1000)), (1, 10_000));
    }

    #[test]
    fn runtime_l03_half_a_processor_is_half_a_period() {
        let resources = Resources::default().with_processors(500);
        assert_eq!((resources.cpu_quota, resources.cpu_period), (Some(Bound::At(50_000)), Some(100_000)));
        assert_eq!(resources.needs(), [(Controller::Cpu, "processor quota")]);
    }

    #[test]
    fn below_zero_is_unlimited() {
        assert_eq!(Bound::from_signed(-1), Bound::Unlimited);
        assert_eq!((Bound::from_signed(7).or_max(), Bound::Unlimited.or_max()), ("7".to_owned(), "max".to_owned()));
    }
}
