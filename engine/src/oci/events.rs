//! What a container uses, in the words of `runc events`, which callers read.

use runtime::CgroupStats;
use serde_json::{Value, json};

/// One line of `events --stats`.
#[must_use]
pub fn stats_event(id: &str, stats: &CgroupStats) -> Value {
    let nanos = |time: std::time::Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    let (cpu, memory) = (&stats.cpu, &stats.memory);
    let percpu: Vec<u64> = cpu.by_processor.iter().map(|time| nanos(*time)).collect();
    let disks = |read: fn(&runtime::IoStats) -> u64, written: fn(&runtime::IoStats) -> u64| -> Vec<Value> {
        let entry = |disk: &runtime::IoStats, op: &str, value: u64| json!({"major": disk.device.0, "minor": disk.device.1, "op": op, "value": value});
        stats
            .io
            .iter()
            .flat_map(|disk| [entry(disk, "Read", read(disk)), entry(disk, "Write", written(disk))])
            .collect()
    };
    json!({
        "type": "stats",
        "id": id,
        "data": {
            "cpu": {
                "usage": {
                    "total": nanos(cpu.total), "percpu": percpu, "kernel": nanos(cpu.system), "user": nanos(cpu.user),
                },
                "throttling": {
                    "periods": cpu.periods,
                    "throttledPeriods": cpu.throttled_periods,
                    "throttledTime": nanos(cpu.throttled),
                },
            },
            "memory": {
                "cache": memory.cache,
                "usage": {
                    "usage": memory.usage, "max": memory.max_usage, "failcnt": memory.failures,
                    "limit": memory.limit.unwrap_or(u64::MAX),
                },
                "swap": {"usage": memory.usage.saturating_add(memory.swap), "max": 0, "failcnt": 0, "limit": 0},
                "kernel": {"failcnt": 0, "limit": 0}, "kernelTCP": {"failcnt": 0, "limit": 0},
                "raw": memory.raw,
            },
            "pids": {"current": stats.pids, "limit": stats.pids_limit.unwrap_or(0)},
            "blkio": {
                "ioServiceBytesRecursive": disks(|disk| disk.read_bytes, |disk| disk.written_bytes),
                "ioServicedRecursive": disks(|disk| disk.reads, |disk| disk.writes),
            },
            "hugetlb": {},
        },
    })
}

#[cfg(test)]
#[allow(clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn the_words_are_those_of_runc() {
        let mut stats = CgroupStats { pids: 3, ..CgroupStats::default() };
        stats.memory.usage = 7;
        let event = stats_event("x", &stats);
        assert_eq!((&event["type"], &event["data"]["pids"]["current"]), (&json!("stats"), &json!(3)));
        assert_eq!(event["data"]["memory"]["usage"]["usage"], 7);
    }
}
