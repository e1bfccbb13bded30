//! What docker's document of a container has besides: settings that are seldom given, and those that cannot be given here,
//! so that a script which asks for one gets docker's word for "not set" and no error.

use serde_json::{Map, Value, json};

use super::limits::DiskRateKind;
use super::spec::ContainerSpec;

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
