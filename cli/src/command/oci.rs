//! `dunnage oci`, with the output, the exit codes and the log that callers of OCI runtimes expect.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use engine::oci::{CreateRequest, ExecRequest, OciRuntime, ProcessIo, Status, features, stats_event, template};
use engine::{Error, Signal};
use serde_json::{Map, Value, json};

use crate::args::{
    LogFormat, OciArguments, OciCommand, OciCreateArgs, OciEventsArgs, OciExecArgs, OciIoArgs, OciListArgs, OciPsArgs,
    OciUpdateArgs, TableFormat,
};
use crate::ui;

/// What runtimes end with when they fail.
const FAILED: u8 = 1;
/// Most of a file that is read.
const FILE_LIMIT: u64 = 16 << 20;

/// Why a command fails: a sentence.
type Outcome = Result<u8, String>;

pub(crate) fn oci(arguments: OciArguments) -> u8 {
    let log = (arguments.log.clone(), arguments.log_format);
    perform(arguments).unwrap_or_else(|sentence| {
        tell(log.0.as_deref(), log.1, &sentence);
        FAILED
    })
}

/// Callers read the log; people read standard error.
fn tell(log: Option<&Path>, format: LogFormat, sentence: &str) {
    if let Some(log) = log {
        let time = jiff::Timestamp::now().to_string();
        let line = match format {
            LogFormat::Json => json!({"level": "error", "msg": sentence, "time": time}).to_string(),
            LogFormat::Text => format!("time={time:?} level=error msg={sentence:?}"),
        };
        let opened = std::fs::OpenOptions::new().create(true).append(true).open(log);
        if let Err(error) = opened.and_then(|mut file| writeln!(file, "{line}")) {
            ui::error(&format!("cannot write {}: {error}", log.display()));
        }
    }
    ui::error(sentence);
}

fn message(error: Error) -> String {
    error.oci_message()
}

fn perform(arguments: OciArguments) -> Outcome {
    if arguments.systemd_cgroup {
        return Err("--systemd-cgroup is not supported: use the cgroupfs driver (podman --cgroup-manager=cgroupfs, \
                    docker --exec-opt native.cgroupdriver=cgroupfs)"
            .to_owned());
    }
    if !matches!(arguments.rootless.as_str(), "auto" | "false") {
        return Err("--rootless: containers without root are not supported by `dunnage oci`".to_owned());
    }
    if !engine::is_superuser() {
        return Err("`dunnage oci` needs root; run it as root, or use `dunnage run`, which does not".to_owned());
    }
    let runtime = OciRuntime::new(arguments.root.unwrap_or_else(|| PathBuf::from("/run/dunnage-oci")));
    match arguments.command {
        OciCommand::Create(args) => runtime.create(&create(args)?).map_err(message).map(|()| 0),
        OciCommand::Run(args) => {
            let detach = args.detach;
            let code = runtime.run(&create(args.create)?, detach).map_err(message)?;
            Ok(u8::try_from(code).unwrap_or(FAILED))
        }
        OciCommand::Start(args) => runtime.start(&args.id).map_err(message).map(|()| 0),
        OciCommand::State(args) => {
            let state = runtime.state(&args.id).map_err(message)?;
            print(&serde_json::to_string_pretty(&state).map_err(|error| error.to_string())?)
        }
        OciCommand::Kill(args) => {
            let signal = Signal::parse(&args.signal).map_err(|error| error.to_string())?;
            runtime.kill(&args.id, signal, args.all).map_err(message).map(|()| 0)
        }
        OciCommand::Delete(args) => runtime.delete(&args.id, args.force).map_err(message).map(|()| 0),
        OciCommand::Exec(args) => {
            let code = runtime.exec(&exec(*args)?).map_err(message)?;
            Ok(u8::try_from(code).unwrap_or(FAILED))
        }
        OciCommand::List(args) => list(&runtime, &args),
        OciCommand::Ps(args) => processes(&runtime, &args),
        OciCommand::Pause(args) => runtime.pause(&args.id).map_err(message).map(|()| 0),
        OciCommand::Resume(args) => runtime.resume(&args.id).map_err(message).map(|()| 0),
        OciCommand::Update(args) => update(&runtime, *args),
        OciCommand::Events(args) => events(&runtime, &args),
        OciCommand::Features => print(&format!("{:#}", features())),
        OciCommand::Spec(args) => {
            let path = args.bundle.join("config.json");
            if path.exists() {
                return Err(format!("{} is there already: remove it first", path.display()));
            }
            std::fs::write(&path, format!("{:#}\n", template()))
                .map_err(|error| format!("cannot write {}: {error}", path.display()))
                .map(|()| 0)
        }
    }
}

fn print(text: &str) -> Outcome {
    ui::bytes(format!("{text}\n").as_bytes()).map_err(|error| format!("cannot write the output: {error}"))?;
    Ok(0)
}

fn create(args: OciCreateArgs) -> Result<CreateRequest, String> {
    if args.no_pivot {
        return Err("--no-pivot is not supported: the root is always changed by pivot_root; leave it out".to_owned());
    }
    Ok(CreateRequest { id: args.id, bundle: args.bundle, io: io(args.io)?, keep_keyring: args.no_new_keyring })
}

fn io(args: OciIoArgs) -> Result<ProcessIo, String> {
    Ok(ProcessIo {
        pid_file: args.pid_file,
        console_socket: args.console_socket,
        preserve_fds: preserved(args.preserve_fds)?,
    })
}

/// A number beyond what is open would hand on descriptors of this program.
fn preserved(count: u32) -> Result<u32, String> {
    for number in 3..3_u32.saturating_add(count.min(1024)) {
        if std::fs::symlink_metadata(format!("/proc/self/fd/{number}")).is_err() {
            return Err(format!("--preserve-fds {count}: descriptor {number} is not open"));
        }
    }
    if count > 1024 { Err(format!("--preserve-fds {count}: at most 1024 are possible")) } else { Ok(count) }
}

fn exec(args: OciExecArgs) -> Result<ExecRequest, String> {
    let process = match &args.process {
        Some(path) => Some(read(path)?),
        None if args.command.is_empty() => return Err("say what to run, or give --process".to_owned()),
        None => None,
    };
    Ok(ExecRequest {
        id: args.id,
        process,
        args: args.command,
        env: args.env,
        cwd: args.cwd,
        user: args.user,
        groups: args.additional_gids,
        capabilities: args.cap,
        no_new_privileges: args.no_new_privs,
        tty: args.tty,
        detach: args.detach,
        ignore_paused: args.ignore_paused,
        io: io(args.io)?,
    })
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let read = if path == Path::new("-") {
        std::io::stdin().take(FILE_LIMIT).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(FILE_LIMIT).read_to_end(&mut bytes))
    };
    read.map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    Ok(bytes)
}

fn list(runtime: &OciRuntime, args: &OciListArgs) -> Outcome {
    let states = runtime.list().map_err(message)?;
    if args.quiet {
        let names: String = states.iter().map(|state| format!("{}\n", state.id)).collect();
        ui::bytes(names.as_bytes()).map_err(|error| error.to_string())?;
        return Ok(0);
    }
    if args.format == TableFormat::Json {
        return print(&serde_json::to_string(&states).map_err(|error| error.to_string())?);
    }
    const COLUMNS: [&str; 6] = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"];
    let cells = |state: engine::oci::OciState| {
        let bundle = state.bundle.display().to_string();
        [state.id, state.pid.to_string(), state.status.to_string(), bundle, state.created, "root".to_owned()]
    };
    let rows: Vec<_> = states.into_iter().map(|state| row(COLUMNS.into_iter().zip(cells(state)))).collect();
    table(&rows, &COLUMNS.map(|name| (name, name)))
}

fn row<'a>(cells: impl IntoIterator<Item = (&'a str, String)>) -> Map<String, Value> {
    cells.into_iter().map(|(name, text)| (name.to_owned(), Value::String(text))).collect()
}

fn table(rows: &[Map<String, Value>], columns: &[(&'static str, &'static str)]) -> Outcome {
    ui::table::print(rows, columns, None).map_err(|failure| failure.to_string()).map(|()| 0)
}

/// What a process was started with; its words are foreign text.
fn command_line(pid: u32) -> String {
    let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let text: Vec<_> = bytes.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
    text.join(" ").trim().escape_debug().to_string()
}

fn processes(runtime: &OciRuntime, args: &OciPsArgs) -> Outcome {
    let processes = runtime.processes(&args.id).map_err(message)?;
    if args.format == TableFormat::Json {
        return print(&json!(processes).to_string());
    }
    let row = |pid: &u32| row([("PID", pid.to_string()), ("COMMAND", command_line(*pid))]);
    let rows: Vec<_> = processes.iter().map(row).collect();
    table(&rows, &[("PID", "PID"), ("COMMAND", "COMMAND")])
}

fn update(runtime: &OciRuntime, args: OciUpdateArgs) -> Outcome {
    let updated = match &args.resources {
        Some(path) => runtime.update(&args.id, &read(path)?),
        None => runtime.update_limits(&args.id, &args.limits.spec()),
    };
    updated.map_err(message).map(|()| 0)
}

/// One line of JSON for each look, and one when memory has run out; it ends with the container.
fn events(runtime: &OciRuntime, args: &OciEventsArgs) -> Outcome {
    let mut kills = None;
    loop {
        let stats = match runtime.stats(&args.id) {
            Err(_) if kills.is_some() && ended(runtime, &args.id) => return Ok(0),
            result => result.map_err(message)?,
        };
        if kills.replace(stats.memory.oom_kills).is_some_and(|before| before < stats.memory.oom_kills) {
            print(&json!({"type": "oom", "id": args.id}).to_string())?;
        }
        print(&stats_event(&args.id, &stats).to_string())?;
        if args.stats {
            return Ok(0);
        }
        std::thread::sleep(args.interval);
    }
}

fn ended(runtime: &OciRuntime, id: &str) -> bool {
    runtime.state(id).map_or(true, |state| state.status == Status::Stopped)
}
