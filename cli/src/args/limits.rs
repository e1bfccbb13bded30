//! Limits of a container: the flags that `run`, `create` and `update` share.

use clap::Args;
use engine::LimitSpec;

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
            device_rules: Vec::new(),
            cgroup_parent: None,
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
