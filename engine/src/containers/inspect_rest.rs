//! What docker's document of a container has besides: settings that are seldom given, and those that cannot be given here,
//! so that a script which asks for one gets docker's word for "not set" and no error.

use serde_json::{Map, Value, json};

use super::limits::DiskRateKind;
use super::spec::ContainerSpec;
use super::state::ContainerInfo;
use crate::Engine;
use crate::error::Result;

/// Fields of `HostConfig`.
pub(super) fn host_config(spec: &ContainerSpec) -> Map<String, Value> {
    let limits = &spec.limits;
    let weights = limits.disk_weights.iter().map(|(disk, weight)| json!({ "Path": disk, "Weight": weight }));
    let rates = |kind: DiskRateKind| -> Vec<Value> {
        let of_kind = limits.disk_rates.iter().filter(|rate| rate.kind == kind);
        of_kind.map(|rate| json!({ "Path": rate.disk, "Rate": rate.rate })).collect()
    };
    let open = spec.privileged || spec.security.unconfined_paths;
    let paths = |paths: Vec<std::path::PathBuf>| if open { Value::Null } else { json!(paths) };
    let shown = json!({
        "BlkioWeightDevice": weights.collect::<Vec<_>>(),
        "BlkioDeviceReadBps": rates(DiskRateKind::ReadBytes),
        "BlkioDeviceWriteBps": rates(DiskRateKind::WriteBytes),
        "BlkioDeviceReadIOps": rates(DiskRateKind::ReadOperations),
        "BlkioDeviceWriteIOps": rates(DiskRateKind::WriteOperations),
        "CpuRealtimePeriod": limits.cpu_realtime_period.unwrap_or(0),
        "CpuRealtimeRuntime": limits.cpu_realtime_runtime.unwrap_or(0),
        "MemorySwappiness": limits.swappiness,
        "OomKillDisable": limits.oom_kill_disable,
        "MaskedPaths": paths(runtime::default_masked_paths()),
        "ReadonlyPaths": paths(runtime::default_read_only_paths()),
        "Cgroup": "",
        "ConsoleSize": [0, 0],
        "ContainerIDFile": "",
        "CpuCount": 0,
        "CpuPercent": 0,
        "DeviceRequests": null,
        "IOMaximumBandwidth": 0,
        "IOMaximumIOps": 0,
        "Isolation": "",
        // Their mounts are in `Binds`.
        "VolumesFrom": null,
    });
    match shown {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

impl Engine {
    /// Where a container's root is on this machine. A container that never ran, or whose root is a copy, has no directories
    /// of overlay; the root as a whole is seen through its first process alone.
    pub(super) fn graph_driver(&self, info: &ContainerInfo) -> Result<Value> {
        let mut data = Map::new();
        if let Some(directories) = self.store.container_directories(&info.record.id) {
            data.insert("UpperDir".to_owned(), json!(directories.upper));
            data.insert("WorkDir".to_owned(), json!(directories.work));
        }
        if info.status.is_running() {
            data.insert("MergedDir".to_owned(), json!(format!("/proc/{}/root", info.state.pid)));
        }
        Ok(json!({ "Name": self.storage()?.driver.to_string(), "Data": data }))
    }
}

/// The network namespace of a container that runs, as `nsenter` and `ip` take it.
pub(super) fn sandbox_key(info: &ContainerInfo) -> String {
    if info.status.is_running() { format!("/proc/{}/ns/net", info.state.pid) } else { String::new() }
}

/// The place of a container on a network while it is not there.
pub(super) fn no_endpoint() -> Value {
    json!({
        "NetworkID": "",
        "EndpointID": "",
        "Aliases": null,
        "MacAddress": "",
        "IPAddress": "",
        "IPPrefixLen": 0,
        "Gateway": "",
        "GlobalIPv6Address": "",
        "GlobalIPv6PrefixLen": 0,
        "IPv6Gateway": "",
    })
}
