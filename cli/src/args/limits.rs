//! Limits of a container: the flags that `run`, `create` and `update` share.

use std::path::PathBuf;

use clap::Args;
use engine::{DiskRate, DiskRateKind, LimitSpec};

use crate::ui::units::parse_bytes;

/// Limits of memory, processors, processes, disks and devices.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Limits")]
pub(crate) struct LimitArgs {
    /// Memory, as 512m or 2g
    #[arg(short, long, value_name = "BYTES", value_parser = bytes)]
    pub(crate) memory: Option<i64>,
    /// Memory and swap together, -1 for as much swap as there is [default: twice the memory]
    #[arg(long, value_name = "BYTES", value_parser = bytes, allow_hyphen_values = true)]
    pub(crate) memory_swap: Option<i64>,
    /// Memory that is left to the container when the machine runs short
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    pub(crate) memory_reservation: Option<i64>,
    /// Processors, as 0.5 or 2
    #[arg(long, value_name = "NUMBER", value_parser = thousandths)]
    pub(crate) cpus: Option<u64>,
    /// Share of the processors under load; 1024 is usual
    #[arg(short, long, value_name = "NUMBER")]
    pub(crate) cpu_shares: Option<u64>,
    /// Period of the quota in microseconds
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1000..=1_000_000))]
    pub(crate) cpu_period: Option<u64>,
    /// Microseconds of processor time in each period
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    pub(crate) cpu_quota: Option<i64>,
    /// Processors to run on, as 0-3,7
    #[arg(long, value_name = "LIST", value_parser = number_list)]
    pub(crate) cpuset_cpus: Option<String>,
    /// Memory nodes to use, as 0-1
    #[arg(long, value_name = "LIST", value_parser = number_list)]
    pub(crate) cpuset_mems: Option<String>,
    /// Processes and threads; 0 or -1 for any number
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    pub(crate) pids_limit: Option<i64>,
    /// Share of the disks under load, 10 to 1000
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u16).range(10..=1000))]
    pub(crate) blkio_weight: Option<u16>,
}

/// Limits that are set once, when a container is made.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Limits")]
pub(crate) struct FirstLimitArgs {
    /// How readily it swaps, 0 to 100; control groups of version 1 only
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(0..=100))]
    pub(crate) memory_swappiness: Option<u64>,
    /// Processes wait for memory where they would be killed; control groups of version 1 only
    #[arg(long)]
    pub(crate) oom_kill_disable: bool,
    /// Period of real-time scheduling in microseconds; control groups of version 1 only
    #[arg(long, value_name = "NUMBER")]
    pub(crate) cpu_rt_period: Option<u64>,
    /// Real-time scheduling in each of these periods, in microseconds
    #[arg(long, value_name = "NUMBER")]
    pub(crate) cpu_rt_runtime: Option<i64>,
    /// Weight of one disk, as /dev/sda:500; can be repeated
    #[arg(long, value_name = "DISK:NUMBER", value_parser = disk_weight)]
    pub(crate) blkio_weight_device: Vec<(PathBuf, u16)>,
    /// Most bytes a second that are read of a disk, as /dev/sda:1mb; can be repeated
    #[arg(long, value_name = "DISK:BYTES", value_parser = disk_bytes)]
    pub(crate) device_read_bps: Vec<(PathBuf, u64)>,
    /// Most bytes a second that are written to a disk; can be repeated
    #[arg(long, value_name = "DISK:BYTES", value_parser = disk_bytes)]
    pub(crate) device_write_bps: Vec<(PathBuf, u64)>,
    /// Most reads a second of a disk, as /dev/sda:1000; can be repeated
    #[arg(long, value_name = "DISK:NUMBER", value_parser = disk_operations)]
    pub(crate) device_read_iops: Vec<(PathBuf, u64)>,
    /// Most writes a second to a disk; can be repeated
    #[arg(long, value_name = "DISK:NUMBER", value_parser = disk_operations)]
    pub(crate) device_write_iops: Vec<(PathBuf, u64)>,
}

impl FirstLimitArgs {
    /// Adds them to the others.
    pub(crate) fn add_to(self, limits: LimitSpec) -> LimitSpec {
        let rates = [
            (DiskRateKind::ReadBytes, self.device_read_bps),
            (DiskRateKind::WriteBytes, self.device_write_bps),
            (DiskRateKind::ReadOperations, self.device_read_iops),
            (DiskRateKind::WriteOperations, self.device_write_iops),
        ];
        let rates = rates
            .into_iter()
            .flat_map(|(kind, rates)| rates.into_iter().map(move |(disk, rate)| DiskRate { disk, kind, rate }));
        LimitSpec {
            swappiness: self.memory_swappiness,
            oom_kill_disable: self.oom_kill_disable,
            cpu_realtime_period: self.cpu_rt_period,
            cpu_realtime_runtime: self.cpu_rt_runtime,
            disk_weights: self.blkio_weight_device,
            disk_rates: rates.collect(),
            ..limits
        }
    }
}

fn disk(text: &str) -> Result<(PathBuf, &str), String> {
    match text.rsplit_once(':') {
        Some((disk, number)) if disk.starts_with('/') => Ok((disk.into(), number)),
        _ => Err("it must be a disk and a number, as in /dev/sda:1000".to_owned()),
    }
}

fn disk_weight(text: &str) -> Result<(PathBuf, u16), String> {
    let (disk, weight) = disk(text)?;
    let weight = weight.parse().ok().filter(|weight| (10..=1000).contains(weight));
    weight.map(|weight| (disk, weight)).ok_or_else(|| "weights go from 10 to 1000".to_owned())
}

fn disk_bytes(text: &str) -> Result<(PathBuf, u64), String> {
    let (disk, bytes) = disk(text)?;
    Ok((disk, parse_bytes(bytes)?))
}

fn disk_operations(text: &str) -> Result<(PathBuf, u64), String> {
    let (disk, count) = disk(text)?;
    let count = count.parse().map_err(|_| format!("`{count}` is no number"))?;
    Ok((disk, count))
}

impl LimitArgs {
    /// As the engine takes them.
    pub(crate) fn spec(self) -> LimitSpec {
        LimitSpec {
            memory: self.memory,
            memory_swap: self.memory_swap,
            memory_reservation: self.memory_reservation,
            cpu_thousandths: self.cpus,
            cpu_shares: self.cpu_shares,
            cpu_period: self.cpu_period,
            cpu_quota: self.cpu_quota,
            cpuset_cpus: self.cpuset_cpus,
            cpuset_mems: self.cpuset_mems,
            pids: self.pids_limit,
            blkio_weight: self.blkio_weight,
            ..LimitSpec::default()
        }
    }
}

fn bytes(text: &str) -> Result<i64, String> {
    match text {
        "-1" => Ok(-1),
        _ => i64::try_from(parse_bytes(text)?).map_err(|_| format!("`{text}` is more than any machine has")),
    }
}

/// Three digits behind the point are more than the kernel tells apart.
fn thousandths(text: &str) -> Result<u64, String> {
    let bad = || format!("`{text}` is no number of processors: write it like 0.5 or 2, and 0.01 at the least");
    let number: f64 = text.parse().map_err(|_| bad())?;
    if !(0.01..=100_000.0).contains(&number) {
        return Err(bad());
    }
    Ok((number * 1000.0).round() as u64)
}

fn number_list(text: &str) -> Result<String, String> {
    let number = |text: &str| text.parse::<u32>().ok();
    let valid = |part: &str| match part.split_once('-') {
        Some((first, last)) => matches!((number(first), number(last)), (Some(first), Some(last)) if first <= last),
        None => number(part).is_some(),
    };
    if text.split(',').all(valid) { Ok(text.to_owned()) } else { Err(format!("`{text}` is no list like 0-3,7")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_docker_reads_them() {
        assert_eq!((bytes("32m"), bytes("-1")), (Ok(32 << 20), Ok(-1)));
        assert_eq!((thousandths("0.5"), thousandths("2"), thousandths("1.2345")), (Ok(500), Ok(2000), Ok(1235)));
        for text in ["", "0", "-1", "x", "NaN", "1e9"] {
            assert!(thousandths(text).is_err(), "{text}");
        }
        assert!(number_list("0-3,7").is_ok());
        for text in ["", "3-1", "a", "1,", "-1"] {
            assert!(number_list(text).is_err(), "{text}");
        }
    }
}
