//! A container as docker's documents show it, so that scripts written for them work.

use std::collections::BTreeMap;

use cache::Image;
use serde_json::{Map, Value, json};

use super::log::{MAX_FILES, MAX_SIZE};
use super::monitor::HealthPlan;
use super::spec::{ContainerSpec, MountKind, MountSpec, NamespaceChoice};
use super::state::{ContainerInfo, Status};
use super::time::rfc3339;
use super::users::UsernsMode;
use crate::Engine;
use crate::error::Result;
use crate::networks::NetworkChoice;

impl Engine {
    /// The document of a container.
    ///
    /// # Errors
    /// When there is none.
    pub fn inspect_container(&self, name: &str) -> Result<Value> {
        let info = self.container(name)?;
        let image = self.find_image(&info.record.image.to_string())?;
        let argv = info.spec.argv(&image)?;
        let (path, args) =
            argv.split_first().map_or((String::new(), Vec::new()), |(path, args)| (path.clone(), args.to_vec()));
        let directory = self.store.container_dir(&info.record.id);
        let log = directory.join("log.json");
        Ok(json!({
            "Id": info.record.id,
            "Created": rfc3339(info.record.created.saturating_mul(1_000_000_000).saturating_add(info.record.created_nanos.into())),
            "Path": path,
            "Args": args,
            "State": state(&info),
            "Image": info.record.image.to_string(),
            "ResolvConfPath": "",
            "HostnamePath": "",
            "HostsPath": "",
            "LogPath": if log.exists() { log.display().to_string() } else { String::new() },
            "Name": format!("/{}", info.name()),
            "RestartCount": info.state.restarts,
            "Driver": self.storage()?.driver.to_string(),
            "Platform": "linux",
            "MountLabel": "",
            "ProcessLabel": "",
            "AppArmorProfile": "",
            "ExecIDs": null,
            "HostConfig": host_config(&info.spec),
            "GraphDriver": self.graph_driver(&info)?,
            "Mounts": self.mount_list(&info.spec)?,
            "Config": config(&info, &image, &self.host_name(&info.spec, &info.record.id)),
            "NetworkSettings": self.network_settings(&info)?,
        }))
    }

    fn mount_list(&self, spec: &ContainerSpec) -> Result<Vec<Value>> {
        let mut list = Vec::new();
        for mount in &spec.mounts {
            let mut entry = Map::new();
            match &mount.kind {
                MountKind::Bind { source, .. } => {
                    entry.insert("Type".into(), json!("bind"));
                    entry.insert("Source".into(), json!(source.display().to_string()));
                }
                MountKind::Volume { name, .. } => {
                    let name = name.clone().unwrap_or_default();
                    let source = self.volume(&name).map(|(_, data)| data.display().to_string()).unwrap_or_default();
                    entry.insert("Type".into(), json!("volume"));
                    entry.insert("Name".into(), json!(name));
                    entry.insert("Source".into(), json!(source));
                    entry.insert("Driver".into(), json!("local"));
                }
                MountKind::Tmpfs { .. } => {
                    entry.insert("Type".into(), json!("tmpfs"));
                    entry.insert("Source".into(), json!(""));
                }
            }
            entry.insert("Destination".into(), json!(mount.target.display().to_string()));
            entry.insert("Mode".into(), json!(if mount.read_only { "ro" } else { "" }));
            entry.insert("RW".into(), json!(!mount.read_only));
            entry.insert(
                "Propagation".into(),
                json!(if entry.get("Type") == Some(&json!("bind")) { "rprivate" } else { "" }),
            );
            list.push(Value::Object(entry));
        }
        Ok(list)
    }
}

fn state(info: &ContainerInfo) -> Value {
    let state = &info.state;
    let mut shown = json!({
        "Status": info.status.word(),
        "Running": info.status.is_running() || info.status == Status::Restarting,
        "Paused": info.status == Status::Paused,
        "Restarting": info.status == Status::Restarting,
        "OOMKilled": state.oom_killed,
        "Dead": false,
        "Pid": if info.status.is_running() { state.pid } else { 0 },
        "ExitCode": if info.status.is_running() { 0 } else { state.exit_code },
        "Error": state.error,
        "StartedAt": rfc3339(state.started),
        "FinishedAt": rfc3339(state.finished),
    });
    if let (Some(health), Some(shown)) = (&state.health, shown.as_object_mut()) {
        let log: Vec<Value> = health
            .log
            .iter()
            .map(|result| {
                json!({
                    "Start": rfc3339(result.start),
                    "End": rfc3339(result.end),
                    "ExitCode": result.exit_code,
                    "Output": result.output,
                })
            })
            .collect();
        let health = json!({ "Status": health.status.word(), "FailingStreak": health.failing_streak, "Log": log });
        shown.insert("Health".to_owned(), health);
    }
    shown
}

fn config(info: &ContainerInfo, image: &Image, hostname: &str) -> Value {
    let spec = &info.spec;
    let own = &image.config.config;
    let command =
        if spec.command.is_empty() && spec.entrypoint.is_none() { own.cmd.clone() } else { Some(spec.command.clone()) };
    let entrypoint = match &spec.entrypoint {
        Some(text) if text.is_empty() => None,
        Some(text) => Some(vec![text.clone()]),
        None => own.entrypoint.clone(),
    };
    let mut env = own.env.clone();
    super::spec::set_variables(&mut env, &spec.env);
    let mut labels = own.labels.clone();
    labels.extend(spec.labels.clone());
    let health = HealthPlan::of(spec, image).map(|plan| {
        let test = match (&spec.health.command, &own.healthcheck) {
            (Some(line), _) => vec!["CMD-SHELL".to_owned(), line.clone()],
            (None, image) => image.as_ref().map(|health| health.test.clone()).unwrap_or_default(),
        };
        json!({
            "Test": test,
            "Interval": plan.interval.as_nanos() as u64,
            "Timeout": plan.timeout.as_nanos() as u64,
            "StartPeriod": plan.start_period.as_nanos() as u64,
            "StartInterval": plan.start_interval.as_nanos() as u64,
            "Retries": plan.retries,
        })
    });
    let mut shown = json!({
        "Hostname": hostname,
        "Domainname": spec.domainname.clone().unwrap_or_default(),
        "User": spec.user.clone().unwrap_or_else(|| own.user.clone()),
        "AttachStdin": spec.streams().stdin,
        "AttachStdout": spec.streams().stdout,
        "AttachStderr": spec.streams().stderr,
        "Tty": spec.tty,
        "OpenStdin": spec.interactive,
        "StdinOnce": spec.interactive && spec.stdin_once,
        "Env": env,
        "Cmd": command,
        "Image": spec.image,
        "Volumes": own.volumes.keys().map(|path| (path.clone(), json!({}))).collect::<Map<_, _>>(),
        "WorkingDir": spec.workdir.clone().unwrap_or_else(|| own.working_dir.clone()),
        "Entrypoint": entrypoint,
        "ExposedPorts": exposed(spec, own),
        "OnBuild": null,
        "Labels": labels,
    });
    if let Some(shown) = shown.as_object_mut() {
        if let Some(health) = health {
            shown.insert("Healthcheck".to_owned(), health);
        }
        if let Some(signal) = spec.stop_signal.clone().or_else(|| own.stop_signal.clone()) {
            shown.insert("StopSignal".to_owned(), json!(signal));
        }
        if let Some(timeout) = spec.stop_timeout {
            shown.insert("StopTimeout".to_owned(), json!(timeout));
        }
    }
    shown
}

/// Those of the image, those of `--expose`, and those that are published.
fn exposed(spec: &ContainerSpec, own: &cache::RunConfig) -> Map<String, Value> {
    let published = spec.ports.iter().flat_map(|port| {
        let key = |at| format!("{}/{}", port.container.saturating_add(at), port.protocol.word());
        (0..port.count).map(key)
    });
    let all = own.exposed_ports.keys().chain(&spec.exposed).cloned().chain(published);
    all.map(|port| (port, json!({}))).collect()
}

fn host_config(spec: &ContainerSpec) -> Value {
    let (restart, most) = spec.restart.parts();
    let limits = &spec.limits;
    let mut security: Vec<String> = Vec::new();
    security.extend(spec.security.no_new_privileges.then(|| "no-new-privileges".to_owned()));
    security.extend(spec.security.seccomp.iter().map(|text| format!("seccomp={text}")));
    security.extend(spec.security.apparmor.iter().map(|profile| format!("apparmor={profile}")));
    security.extend(spec.security.selinux.iter().map(|label| format!("label={label}")));
    security.extend(spec.security.unconfined_seccomp.then(|| "seccomp=unconfined".to_owned()));
    let mut log: BTreeMap<&str, String> = [
        ("max-size", spec.log.max_size.unwrap_or(MAX_SIZE).to_string()),
        ("max-file", spec.log.max_file.unwrap_or(MAX_FILES).to_string()),
    ]
    .into();
    log.extend(spec.log.compress.then(|| ("compress", "true".to_owned())));
    let attributes = &spec.log.attributes;
    for (name, list) in [("labels", &attributes.labels), ("env", &attributes.env)] {
        log.extend((!list.is_empty()).then(|| (name, list.join(","))));
    }
    for (name, text) in
        [("tag", &attributes.tag), ("labels-regex", &attributes.labels_regex), ("env-regex", &attributes.env_regex)]
    {
        log.extend(text.clone().map(|text| (name, text)));
    }
    let ulimits: Vec<Value> = spec
        .ulimits
        .iter()
        .map(|limit| {
            let number = |limit: Option<u64>| limit.and_then(|limit| i64::try_from(limit).ok()).unwrap_or(-1);
            json!({ "Name": limit.name, "Soft": number(limit.soft), "Hard": number(limit.hard) })
        })
        .collect();
    let devices: Vec<Value> = spec
        .devices
        .iter()
        .map(|device| {
            json!({
                "PathOnHost": device.source.display().to_string(),
                "PathInContainer": device.target.display().to_string(),
                "CgroupPermissions": device.rights.word(),
            })
        })
        .collect();
    let mut shown = json!({
        "Binds": spec.mounts.iter().filter_map(bind).collect::<Vec<_>>(),
        "LogConfig": { "Type": spec.log.driver.word(), "Config": log },
        "NetworkMode": spec.network.name(),
        "RestartPolicy": { "Name": restart, "MaximumRetryCount": most },
        "AutoRemove": spec.remove,
        "CapAdd": capabilities(&spec.capabilities.add),
        "CapDrop": capabilities(&spec.capabilities.drop),
        "CgroupnsMode": mode(&spec.cgroupns, "private"),
        "Dns": spec.names.servers.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "DnsOptions": spec.names.options,
        "DnsSearch": spec.names.search,
        "ExtraHosts": spec.names.hosts.iter().map(|host| {
            let address = host.address.map_or_else(|| "host-gateway".to_owned(), |address| address.to_string());
            format!("{}:{address}", host.name)
        }).collect::<Vec<_>>(),
        "GroupAdd": spec.groups,
        "IpcMode": mode(&spec.ipc, "private"),
        "OomScoreAdj": spec.oom_score_adj.unwrap_or(0),
        "PidMode": mode(&spec.pid, ""),
        "Privileged": spec.privileged,
        "ReadonlyRootfs": spec.read_only,
        "SecurityOpt": security,
        "Annotations": spec.annotations,
        "UsernsMode": match spec.userns {
            None | Some(UsernsMode::Host) => String::new(),
            Some(mode) => mode.word(),
        },
        "UTSMode": mode(&spec.uts, ""),
        "ShmSize": spec.shm_size.unwrap_or(runtime::DEFAULT_SHM_SIZE),
        "Sysctls": spec.sysctls,
        "Init": spec.init,
        "Memory": limits.memory.unwrap_or(0),
        // Without the flag it is twice the memory, and docker shows it so.
        "MemorySwap": limits.memory_swap.or(limits.memory.map(|bytes| bytes.max(0).saturating_mul(2))).unwrap_or(0),
        "MemoryReservation": limits.memory_reservation.unwrap_or(0),
        "NanoCpus": limits.cpu_thousandths.unwrap_or(0).saturating_mul(1_000_000),
        "CpuShares": limits.cpu_shares.unwrap_or(0),
        "CpuPeriod": limits.cpu_period.unwrap_or(0),
        "CpuQuota": limits.cpu_quota.unwrap_or(0),
        "CpusetCpus": limits.cpuset_cpus.clone().unwrap_or_default(),
        "CpusetMems": limits.cpuset_mems.clone().unwrap_or_default(),
        "PidsLimit": limits.pids,
        "BlkioWeight": limits.blkio_weight.unwrap_or(0),
        "CgroupParent": limits.cgroup_parent.clone().unwrap_or_default(),
        "Devices": devices,
        "DeviceCgroupRules": limits.device_rules,
        "Ulimits": ulimits,
        "PortBindings": asked_ports(spec),
    });
    if let Some(shown) = shown.as_object_mut() {
        let links = spec.links.iter().map(|link| format!("/{}:{}", link.container, link.alias)).collect::<Vec<_>>();
        shown.insert("Links".to_owned(), json!(links));
        shown.insert("PublishAllPorts".to_owned(), json!(spec.publish_all));
        shown.insert("VolumeDriver".to_owned(), json!(""));
        let tmpfs = spec.mounts.iter().filter_map(tmpfs).collect::<Map<_, _>>();
        if !tmpfs.is_empty() {
            shown.insert("Tmpfs".to_owned(), Value::Object(tmpfs));
        }
        shown.insert("Runtime".to_owned(), json!("dunnage"));
        shown.extend(super::inspect_rest::host_config(spec));
    }
    shown
}

/// With their prefix, as docker shows them.
fn capabilities(names: &[String]) -> Vec<String> {
    let whole = |name: &String| match name.as_str() {
        "ALL" => name.clone(),
        name => format!("CAP_{}", name.trim_start_matches("CAP_")),
    };
    names.iter().map(whole).collect()
}

fn bind(mount: &MountSpec) -> Option<String> {
    let source = match &mount.kind {
        MountKind::Bind { source, .. } => source.display().to_string(),
        MountKind::Volume { name, .. } => name.clone()?,
        MountKind::Tmpfs { .. } => return None,
    };
    let mode = if mount.read_only { ":ro" } else { "" };
    Some(format!("{source}:{}{mode}", mount.target.display()))
}

/// As `--tmpfs` takes it.
fn tmpfs(mount: &MountSpec) -> Option<(String, Value)> {
    let MountKind::Tmpfs { size, mode, executable, options, attributes } = &mount.kind else { return None };
    let mut words: Vec<String> = Vec::new();
    words.extend(mount.read_only.then(|| "ro".to_owned()));
    words.extend(size.map(|size| format!("size={size}")));
    words.extend(mode.map(|mode| format!("mode={mode:o}")));
    words.extend(executable.then(|| "exec".to_owned()));
    words.extend(options.iter().map(|(name, value)| format!("{name}={value}")));
    words.extend(attributes.iter().cloned());
    Some((mount.target.display().to_string(), json!(words.join(","))))
}

fn mode(choice: &NamespaceChoice, own: &str) -> String {
    match choice {
        NamespaceChoice::Private => own.to_owned(),
        NamespaceChoice::Host => "host".to_owned(),
        NamespaceChoice::None => "none".to_owned(),
        NamespaceChoice::Container(name) => format!("container:{name}"),
    }
}

impl NetworkChoice {
    /// Docker's word for it.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            NetworkChoice::Default => crate::networks::DEFAULT.to_owned(),
            NetworkChoice::Networks(memberships) => {
                memberships.first().map_or_else(String::new, |membership| membership.network.clone())
            }
            NetworkChoice::None => "none".to_owned(),
            NetworkChoice::Host => "host".to_owned(),
            NetworkChoice::Container(name) => format!("container:{name}"),
        }
    }
}

/// By port of the container: where it was asked to be published.
fn asked_ports(spec: &ContainerSpec) -> Value {
    let mut ports: Map<String, Value> = Map::new();
    for port in &spec.ports {
        for at in 0..port.count {
            let key = format!("{}/{}", port.container.saturating_add(at), port.protocol.word());
            let address = port.address.map_or_else(String::new, |address| address.to_string());
            let host = match (port.host, port.host_last) {
                (None, _) => String::new(),
                (Some(first), None) => first.saturating_add(at).to_string(),
                (Some(first), Some(last)) => format!("{first}-{last}"),
            };
            let binding = json!({ "HostIp": address, "HostPort": host });
            if let Some(list) = ports.entry(key).or_insert_with(|| json!([])).as_array_mut() {
                list.push(binding);
            }
        }
    }
    Value::Object(ports)
}

impl Engine {
    fn network_settings(&self, info: &ContainerInfo) -> Result<Value> {
        let mut networks = Map::new();
        for (record, endpoint) in self.container_endpoints(&info.record.id)? {
            let own = |ipv4: bool| {
                let address = endpoint.addresses.iter().find(|address| address.is_ipv4() == ipv4);
                let subnet = record.subnets.iter().find(|subnet| subnet.address.is_ipv4() == ipv4);
                address.zip(subnet).map_or_else(
                    || (String::new(), String::new(), 0),
                    |(address, subnet)| (address.to_string(), subnet.gateway.to_string(), subnet.length),
                )
            };
            let ((four, gateway, length), (six, gateway6, length6)) = (own(true), own(false));
            let shown = json!({
                "NetworkID": record.id,
                "EndpointID": "",
                "Aliases": endpoint.aliases,
                "MacAddress": endpoint.mac,
                "IPAddress": four,
                "IPPrefixLen": length,
                "Gateway": gateway,
                "GlobalIPv6Address": six,
                "GlobalIPv6PrefixLen": length6,
                "IPv6Gateway": gateway6,
            });
            networks.insert(record.name, shown);
        }
        let name = info.spec.network.name();
        let first = networks.get(&name).cloned().unwrap_or_default();
        let of_first = |key: &str| first.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        if networks.is_empty() && !name.starts_with("container:") {
            networks.insert(name, super::inspect_rest::no_endpoint());
        }
        let mut ports: Map<String, Value> = Map::new();
        for port in self.port_bindings(&info.record.id)? {
            let key = format!("{}/{}", port.container, port.protocol.word());
            let binding = json!({ "HostIp": port.address.to_string(), "HostPort": port.host.to_string() });
            if let Some(list) = ports.entry(key).or_insert_with(|| json!([])).as_array_mut() {
                list.push(binding);
            }
        }
        Ok(json!({
            "Bridge": "",
            "SandboxKey": super::inspect_rest::sandbox_key(info),
            "Ports": ports,
            "IPAddress": of_first("IPAddress"),
            "IPPrefixLen": first.get("IPPrefixLen").cloned().unwrap_or_else(|| json!(0)),
            "Gateway": of_first("Gateway"),
            "GlobalIPv6Address": of_first("GlobalIPv6Address"),
            "GlobalIPv6PrefixLen": first.get("GlobalIPv6PrefixLen").cloned().unwrap_or_else(|| json!(0)),
            "IPv6Gateway": of_first("IPv6Gateway"),
            "MacAddress": of_first("MacAddress"),
            "Networks": networks,
        }))
    }
}
