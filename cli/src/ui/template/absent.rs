//! Fields that JSON leaves out or calls null, and docker's typed answers have: what a template sees of them.

use serde_json::{Map, Value, json};

const TEXTS: [&str; 17] = [
    "Name",
    "Driver",
    "Hostname",
    "Domainname",
    "User",
    "WorkingDir",
    "StopSignal",
    "Author",
    "Comment",
    "Parent",
    "Container",
    "DockerVersion",
    "Variant",
    "MacAddress",
    "IPRange",
    "Gateway",
    "IPAddress",
];
const LISTS: [&str; 12] = [
    "VolumesFrom",
    "ExecIDs",
    "Entrypoint",
    "Cmd",
    "Env",
    "OnBuild",
    "Shell",
    "RepoDigests",
    "RepoTags",
    "Aliases",
    "Links",
    "DNSNames",
];
const MAPS: [&str; 5] = ["Labels", "Volumes", "ExposedPorts", "Options", "Annotations"];
const FLAGS: [&str; 7] =
    ["Tty", "OpenStdin", "StdinOnce", "AttachStdin", "AttachStdout", "AttachStderr", "NetworkDisabled"];
const POINTERS: [&str; 5] = ["MemorySwappiness", "Health", "Healthcheck", "StopTimeout", "UsageData"];
/// Maps whose keys are the users' own: what is not in them is no mistake of the template.
const FREE: [&str; 13] = [
    "Labels",
    "Networks",
    "Ports",
    "PortBindings",
    "ExposedPorts",
    "Volumes",
    "Options",
    "Sysctls",
    "Annotations",
    "Attributes",
    "Containers",
    "Config",
    "Data",
];

/// What stands for a field that is not there, or is null. None where docker has no such field.
pub(super) fn field(name: &str) -> Option<Value> {
    if TEXTS.contains(&name) {
        Some(json!(""))
    } else if LISTS.contains(&name) {
        Some(json!([]))
    } else if MAPS.contains(&name) {
        Some(json!({}))
    } else if FLAGS.contains(&name) {
        Some(json!(false))
    } else {
        POINTERS.contains(&name).then_some(Value::Null)
    }
}

/// What `index` gives for a key that a map of the users' own does not have: docker's maps of texts have the empty one, those
/// of lists the empty list.
pub(super) fn entry(name: &str, map: &Map<String, Value>) -> Value {
    match name {
        _ if !is_free(name, map) => Value::Null,
        "Ports" | "PortBindings" => json!([]),
        "Networks" | "ExposedPorts" | "Volumes" | "Containers" => Value::Null,
        _ => json!(""),
    }
}

/// Whether a map has the users' own keys. `Config` is such a one only in LogConfig, which has no fields of a container's.
pub(super) fn is_free(name: &str, map: &Map<String, Value>) -> bool {
    FREE.contains(&name) && (name != "Config" || !map.contains_key("Env"))
}
