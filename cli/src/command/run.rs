//! `dunnage run`, `create` and `exec`, with the exit codes of docker.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use engine::{
    CapabilityChange, ContainerSpec, CreateRequest, DETACH_KEYS, ExecSpec, HealthChange, LogChoice, RunOutcome,
    RunRequest, Streams,
};

use super::{Failure, Outcome, open, open_for_snapshots};
use crate::args::{
    CreateArgs, CreateCommand, DeviceFlag, ExecArgs, Keys, LogOption, RunArgs, SecurityOption, StreamName,
};
use crate::{config, ui};

/// Most of a file of variables that is read.
const ENV_FILE_LIMIT: u64 = 1 << 20;

/// dunnage itself failed.
const TOOL_FAILED: u8 = 125;

pub(super) fn run(root: Option<PathBuf>, args: RunArgs) -> u8 {
    with_dockers_codes(perform(root, args))
}

pub(super) fn create(root: Option<PathBuf>, args: CreateCommand) -> u8 {
    with_dockers_codes((|| {
        let (cidfile, pull, quiet) = (args.create.cidfile.clone(), args.create.pull, args.create.quiet);
        let platform = args.create.platform.clone();
        let request = request(args.create, true)?;
        let engine = open_for_snapshots(root, args.storage)?;
        super::registry::ensure(&engine, &request.spec.image, pull, quiet, platform.as_ref())?;
        let id = engine.create(&request, cidfile.as_deref())?;
        ui::line(&id)?;
        Ok(0)
    })())
}

pub(super) fn exec(root: Option<PathBuf>, args: ExecArgs) -> u8 {
    with_dockers_codes(exec_in(root, args))
}

fn with_dockers_codes(result: Result<i32, Failure>) -> u8 {
    match result {
        Ok(code) => u8::try_from(code).unwrap_or(TOOL_FAILED),
        Err(Failure::Engine(error)) => {
            ui::error(&error.to_string());
            u8::try_from(error.run_exit_code()).unwrap_or(TOOL_FAILED)
        }
        Err(failure) => {
            ui::error(&failure.to_string());
            TOOL_FAILED
        }
    }
}

fn perform(root: Option<PathBuf>, args: RunArgs) -> Result<i32, Failure> {
    let (storage, pull, quiet) = (args.storage, args.create.pull, args.create.quiet);
    let platform = args.create.platform.clone();
    if args.detach && !args.create.attach.is_empty() {
        return Err(Failure::usage("--attach and --detach contradict each other: leave one out".to_owned()));
    }
    // Who hears nothing of it has its id to ask for it.
    let hears = args.create.attach.iter().any(|stream| *stream != StreamName::Stdin);
    let says_id = args.detach || !(hears || args.create.attach.is_empty());
    let request = RunRequest {
        detach: args.detach,
        cidfile: args.create.cidfile.clone(),
        detach_keys: keys(args.detach_keys),
        signals: args.sig_proxy,
        create: request(args.create, !args.detach)?,
    };
    let ahead = request.begin();
    let engine = open_for_snapshots(root, storage)?;
    super::registry::ensure(&engine, &request.create.spec.image, pull, quiet, platform.as_ref())?;
    match engine.run(&request, ahead, &|sentence| ui::note(&sentence))? {
        RunOutcome::Ended(code) => Ok(code),
        RunOutcome::Detached(id) => {
            if says_id {
                ui::line(&id)?;
            }
            Ok(0)
        }
    }
}

pub(super) fn keys(asked: Option<Keys>) -> Vec<u8> {
    asked.map_or_else(|| DETACH_KEYS.to_vec(), |keys| keys.0)
}

fn exec_in(root: Option<PathBuf>, args: ExecArgs) -> Result<i32, Failure> {
    let mut env = Vec::new();
    for path in &args.env_file {
        env.extend(pairs_file("--env-file", path, variable)?);
    }
    env.extend(args.env.iter().map(|text| variable(text)));
    let (name, command) = args.container_and_command();
    let exec = ExecSpec {
        command,
        env,
        workdir: args.workdir,
        user: args.user,
        interactive: args.interactive,
        tty: args.tty,
        detach_keys: keys(args.detach_keys),
        privileged: args.privileged,
    };
    let engine = open(root)?;
    if args.detach {
        engine.exec_detached(&name, &exec)?;
        return Ok(0);
    }
    Ok(engine.exec(&name, &exec, &|sentence| ui::note(&sentence))?)
}

/// The process behind a container.
pub(super) fn monitor(root: Option<PathBuf>, args: &crate::args::MonitorArgs) -> Outcome {
    open_for_snapshots(root, args.storage)?.monitor(&args.id)?;
    Ok(0)
}

/// `attached`: the one who makes it is the one who types.
fn request(args: CreateArgs, attached: bool) -> Result<CreateRequest, Failure> {
    let (image, command) = args.image_and_command();
    if args.network.publishes_in_vain() {
        ui::note("with --network host no port is published: they are this machine's already");
    }
    let mut env = Vec::new();
    for path in &args.env_file {
        env.extend(pairs_file("--env-file", path, variable)?);
    }
    env.extend(args.env.iter().map(|text| variable(text)));
    let mut labels = BTreeMap::new();
    for path in &args.label_file {
        labels.extend(pairs_file("--label-file", path, str::to_owned)?.iter().map(|line| label(line)));
    }
    labels.extend(args.label.iter().map(|text| label(text)));
    let mut log = LogChoice { driver: args.log_driver, ..LogChoice::default() };
    for option in args.log_opt {
        match option {
            LogOption::MaxSize(bytes) => log.max_size = Some(bytes),
            LogOption::MaxFile(count) => log.max_file = Some(count),
            LogOption::Compress(on) => log.compress = on,
            LogOption::Tag(text) => log.attributes.tag = Some(text),
            LogOption::Labels(names) => log.attributes.labels = names,
            LogOption::LabelsRegex(text) => log.attributes.labels_regex = Some(text),
            LogOption::Env(names) => log.attributes.env = names,
            LogOption::EnvRegex(text) => log.attributes.env_regex = Some(text),
        }
    }
    let mut limits = args.limits.spec();
    limits = args.first_limits.add_to(limits);
    limits.device_rules = args.device_cgroup_rule;
    limits.cgroup_parent = args.cgroup_parent;
    let (files, walls, health) = (args.mounts, args.isolation, args.health);
    let (mut devices, mut named_devices) = (Vec::new(), Vec::new());
    for device in files.device {
        match device {
            DeviceFlag::Path(device) => devices.push(device),
            DeviceFlag::Named(name) => named_devices.push(name),
        }
    }
    named_devices.extend(files.gpus.into_iter().flat_map(|gpus| gpus.0));
    let spec = ContainerSpec {
        image,
        command,
        env,
        mounts: [files.volume, files.mount, files.tmpfs].concat(),
        workdir: args.workdir,
        user: args.user,
        groups: args.group_add,
        hostname: args.hostname.filter(|name| !name.is_empty()),
        domainname: args.domainname.filter(|name| !name.is_empty()),
        annotations: args.annotation.into_iter().collect(),
        exposed: args.network.exposed(),
        entrypoint: args.entrypoint,
        links: args.network.links(),
        network: args.network.choice().map_err(Failure::Usage)?,
        pid: walls.pid.unwrap_or_default(),
        ipc: walls.ipc.unwrap_or_default(),
        uts: walls.uts.unwrap_or_default(),
        cgroupns: walls.cgroupns.unwrap_or_default(),
        userns: walls.userns,
        ports: args.network.ports(config::publish_address().map_err(Failure::Usage)?),
        publish_all: args.network.publishes_all(),
        names: args.network.names(),
        interactive: args.interactive,
        stdin_once: attached,
        // Nobody hears one that runs on its own.
        attached: if attached { streams(&args.attach) } else { Some(NO_STREAMS) },
        tty: args.tty,
        remove: args.rm,
        read_only: files.read_only,
        init: args.init,
        privileged: walls.privileged,
        capabilities: CapabilityChange { add: walls.cap_add, drop: walls.cap_drop },
        security: SecurityOption::all(&walls.security_opt),
        devices,
        device_specs: if named_devices.is_empty() { Vec::new() } else { config::device_specs() },
        named_devices,
        sysctls: walls.sysctl.into_iter().collect(),
        ulimits: args.ulimit,
        shm_size: args.shm_size,
        oom_score_adj: args.oom_score_adj,
        labels,
        health: HealthChange {
            none: health.no_healthcheck,
            command: health.health_cmd,
            interval: health.health_interval,
            timeout: health.health_timeout,
            start_period: health.health_start_period,
            start_interval: health.health_start_interval,
            retries: health.health_retries,
        },
        stop_signal: args.stop_signal.map(|signal| signal.to_string()),
        stop_timeout: args.stop_timeout,
        log,
        restart: args.restart,
        limits,
    };
    Ok(CreateRequest { name: args.name, spec, volumes_from: files.volumes_from })
}

const NO_STREAMS: Streams = Streams { stdin: false, stdout: false, stderr: false };

fn streams(asked: &[StreamName]) -> Option<Streams> {
    let has = |stream| asked.contains(&stream);
    let (stdin, stdout, stderr) = (has(StreamName::Stdin), has(StreamName::Stdout), has(StreamName::Stderr));
    (!asked.is_empty()).then_some(Streams { stdin, stdout, stderr })
}

fn label(text: &str) -> (String, String) {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    (name.to_owned(), value.to_owned())
}

/// `NAME` alone takes this process's value; where there is none the name stays bare, which takes the image's away.
fn variable(text: &str) -> String {
    match (text.contains('='), config::variable(text)) {
        (false, Some(value)) => format!("{text}={value}"),
        _ => text.to_owned(),
    }
}

/// A pair a line, taken as it stands: no quotes, no expansion; `#` begins a comment line.
fn pairs_file(flag: &str, path: &Path, take: impl Fn(&str) -> String) -> Result<Vec<String>, Failure> {
    use std::io::Read;
    let cannot = |error| Failure::usage(format!("cannot read {flag} {}: {error}", path.display()));
    let mut text = String::new();
    std::fs::File::open(path).map_err(cannot)?.take(ENV_FILE_LIMIT).read_to_string(&mut text).map_err(cannot)?;
    let mut pairs = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let line = line.trim_start_matches('\u{feff}').trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let name = line.split('=').next().unwrap_or_default();
        if name.is_empty() || name.contains(char::is_whitespace) {
            return Err(Failure::usage(format!("{}:{}: `{name}` is no name of a variable", path.display(), at + 1)));
        }
        pairs.push(take(line));
    }
    Ok(pairs)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_variables_is_taken_as_it_stands() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let read = |path| pairs_file("--env-file", path, variable);
        std::fs::write(file.path(), "# remark\n\nA=1\n  B=\"x y\"\nC=\n").unwrap();
        assert_eq!(read(file.path()).unwrap(), ["A=1", "B=\"x y\"", "C="]);
        std::fs::write(file.path(), "A=1\nB C=2\n").unwrap();
        assert!(read(file.path()).unwrap_err().to_string().contains(":2: `B C`"));
    }
}
