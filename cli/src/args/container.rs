//! The verbs of containers, at the top and below `dunnage container`.

use clap::{Args, Subcommand};
use engine::{CopyEnd, PortSpec, RestartPolicy, Signal};

use super::limits::LimitArgs;
use super::run::{CreateCommand, Keys, container_name, restart, split_first};

#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub(crate) enum Verb {
    /// Make a container without starting it
    Create(Box<CreateCommand>),
    /// Start containers
    Start(StartArgs),
    /// Stop containers: their stop signal, and after a time the end
    Stop(StopArgs),
    /// Stop containers and start them again
    Restart(StopArgs),
    /// Send containers a signal
    Kill(KillArgs),
    /// Remove containers
    #[command(alias = "remove")]
    Rm(RmArgs),
    /// Let the processes of containers stand still
    Pause(NamesArgs),
    /// Let them go on
    Unpause(NamesArgs),
    /// Wait until containers have ended, and print their exit codes
    Wait(NamesArgs),
    /// Join the input and output of a running container
    Attach(AttachArgs),
    /// Run a command in a running container
    Exec(ExecArgs),
    /// Show what a container wrote
    Logs(LogsArgs),
    /// List containers
    #[command(alias = "ls", alias = "list")]
    Ps(PsArgs),
    /// Give a container another name
    Rename(RenameArgs),
    /// Show which ports of this machine lead to a container
    Port(PortArgs),
    /// Show the processes of a container
    Top(TopArgs),
    /// Show what containers use
    Stats(StatsArgs),
    /// Change the limits and the restart policy of containers
    Update(UpdateArgs),
    /// Show which files of a container's root have changed
    Diff(NameArg),
    /// Make an image of a container's root
    Commit(CommitArgs),
    /// Write a container's root to a tar
    Export(ExportArgs),
    /// Copy files into a container, or out of one
    Cp(CpArgs),
}

/// Containers.
#[derive(Debug, Args)]
pub(crate) struct NamesArgs {
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    pub(crate) names: Vec<String>,
}

/// Show which ports of this machine lead to a container
#[derive(Debug, Args)]
pub(crate) struct PortArgs {
    /// Name or id
    #[arg(value_name = "CONTAINER")]
    pub(crate) name: String,
    /// One port of the container, as 80 or 53/udp
    #[arg(value_name = "PORT", value_parser = one_port)]
    pub(crate) port: Option<PortSpec>,
}

/// One container.
#[derive(Debug, Args)]
pub(crate) struct NameArg {
    /// Name or id
    #[arg(value_name = "CONTAINER")]
    pub(crate) name: String,
}

/// Start containers
#[derive(Debug, Args)]
pub(crate) struct StartArgs {
    /// Join the output, and end with the container's exit code
    #[arg(short, long)]
    pub(crate) attach: bool,
    /// Join the input too
    #[arg(short, long)]
    pub(crate) interactive: bool,
    /// Keys that leave the container running [default: ctrl-p,ctrl-q]
    #[arg(long, value_name = "KEYS", value_parser = detach_keys)]
    pub(crate) detach_keys: Option<Keys>,
    #[command(flatten)]
    pub(crate) containers: NamesArgs,
}

/// Stop containers
#[derive(Debug, Args)]
pub(crate) struct StopArgs {
    /// Signal [default: the container's, else TERM]
    #[arg(short, long, value_name = "SIGNAL", value_parser = signal)]
    pub(crate) signal: Option<Signal>,
    /// Seconds between the signal and the end; below zero for any time [default: 10]
    #[arg(short, long, visible_alias = "timeout", value_name = "SECONDS", value_parser = timeout, allow_hyphen_values = true)]
    pub(crate) time: Option<i64>,
    #[command(flatten)]
    pub(crate) containers: NamesArgs,
}

/// Send containers a signal
#[derive(Debug, Args)]
pub(crate) struct KillArgs {
    /// Signal, by name or number
    #[arg(short, long, value_name = "SIGNAL", default_value = "KILL", value_parser = signal)]
    pub(crate) signal: Signal,
    #[command(flatten)]
    pub(crate) containers: NamesArgs,
}

/// Remove containers
#[derive(Debug, Args)]
pub(crate) struct RmArgs {
    /// Also those that run; one that is not there is no error
    #[arg(short, long)]
    pub(crate) force: bool,
    /// Also their volumes that nobody gave a name
    #[arg(short, long)]
    pub(crate) volumes: bool,
    #[command(flatten)]
    pub(crate) containers: NamesArgs,
}

/// Join a running container
#[derive(Debug, Args)]
pub(crate) struct AttachArgs {
    /// Not the input
    #[arg(long)]
    pub(crate) no_stdin: bool,
    /// Hand signals on to the container
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1,
        default_missing_value = "true", require_equals = true)]
    pub(crate) sig_proxy: bool,
    /// Keys that leave the container running [default: ctrl-p,ctrl-q]
    #[arg(long, value_name = "KEYS", value_parser = detach_keys)]
    pub(crate) detach_keys: Option<Keys>,
    #[command(flatten)]
    pub(crate) container: NameArg,
}

/// Run a command in a running container
#[derive(Debug, Args)]
#[command(override_usage = "dunnage exec [OPTIONS] CONTAINER COMMAND [ARG...]")]
pub(crate) struct ExecArgs {
    /// Keep standard input open
    #[arg(short, long)]
    pub(crate) interactive: bool,
    /// Give the command a terminal
    #[arg(short, long)]
    pub(crate) tty: bool,
    /// Let it run on its own
    #[arg(short, long)]
    pub(crate) detach: bool,
    /// Keys that leave a command with a terminal running [default: ctrl-p,ctrl-q]
    #[arg(long, value_name = "KEYS", value_parser = detach_keys)]
    pub(crate) detach_keys: Option<Keys>,
    /// Variable, as NAME=VALUE, or NAME for the environment's; can be repeated
    #[arg(short, long, value_name = "NAME=VALUE", value_parser = super::lent::named)]
    pub(crate) env: Vec<String>,
    /// File with a variable a line; can be repeated
    #[arg(long, value_name = "FILE")]
    pub(crate) env_file: Vec<std::path::PathBuf>,
    /// User, as NAME or ID, with :GROUP [default: the container's]
    #[arg(short, long, value_name = "USER")]
    pub(crate) user: Option<String>,
    /// Working directory [default: the container's]
    #[arg(short, long, value_name = "DIR")]
    pub(crate) workdir: Option<String>,
    /// All capabilities
    #[arg(long)]
    pub(crate) privileged: bool,
    /// Name or id of the container; all behind it is the command and its arguments
    // One list, as of `run`: nothing behind the container is a flag of this program.
    #[arg(required = true, num_args = 2.., trailing_var_arg = true, value_name = "CONTAINER COMMAND")]
    words: Vec<String>,
}

impl ExecArgs {
    /// The container, and the command.
    pub(crate) fn container_and_command(&self) -> (String, Vec<String>) {
        let (container, mut command) = split_first(&self.words);
        // As hands know it from other tools; no program has this name.
        if command.len() > 1 && command.first().is_some_and(|word| word == "--") {
            command.remove(0);
        }
        (container, command)
    }
}

/// Show what a container wrote
#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    /// Go on until the container ends
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Only what is not older: a time, or how long ago, as 10m
    #[arg(long, value_name = "TIME", value_parser = since)]
    pub(crate) since: Option<u64>,
    /// Only what is not newer
    #[arg(long, value_name = "TIME", value_parser = until)]
    pub(crate) until: Option<u64>,
    /// The last so many lines, or `all`
    #[arg(short = 'n', long, value_name = "LINES", default_value = "all", value_parser = tail, allow_hyphen_values = true)]
    pub(crate) tail: Tail,
    /// With the time of each line
    #[arg(short, long)]
    pub(crate) timestamps: bool,
    /// With what `--log-opt tag`, `labels` and `env` wrote beside each line
    #[arg(long)]
    pub(crate) details: bool,
    #[command(flatten)]
    pub(crate) container: NameArg,
}

/// `--tail`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tail(pub(crate) Option<usize>);

/// List containers
#[derive(Debug, Args)]
#[command(after_help = "Filters: id=, name=, label=KEY[=VALUE], status=created|running|paused|restarting|exited,
exited=CODE, ancestor=IMAGE, volume=NAME, health=starting|healthy|unhealthy|none, before=CONTAINER, since=CONTAINER,
publish=PORT, expose=PORT, network=NAME, isolation=default; name= takes a pattern, as '^web$'")]
pub(crate) struct PsArgs {
    /// Also those that do not run
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Print ids only
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// The newest so many, running or not
    #[arg(short = 'n', long, value_name = "NUMBER", allow_negative_numbers = true)]
    pub(crate) last: Option<i64>,
    /// The newest one
    #[arg(short, long, conflicts_with = "last")]
    pub(crate) latest: bool,
    /// With the size of what was written
    #[arg(short, long)]
    pub(crate) size: bool,
    /// Whole ids and commands
    #[arg(long)]
    pub(crate) no_trunc: bool,
    /// KEY=VALUE; can be repeated
    #[arg(short, long, value_name = "FILTER", value_parser = filter)]
    pub(crate) filter: Vec<(String, String)>,
    /// `json`, or a template such as '{{.Names}} {{.Status}}'
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
}

/// Give a container another name
#[derive(Debug, Args)]
pub(crate) struct RenameArgs {
    #[command(flatten)]
    pub(crate) container: NameArg,
    /// The new name
    #[arg(value_parser = container_name)]
    pub(crate) new: String,
}

/// Follow what happens to containers
#[derive(Debug, Args)]
#[command(after_help = "Filters: container=NAME, event=create|start|die|stop|kill|destroy|…, label=KEY[=VALUE],
image=NAME, type=container")]
pub(crate) struct EventsArgs {
    /// From this time on: a time, or how long ago, as 10m
    #[arg(long, value_name = "TIME", value_parser = since)]
    pub(crate) since: Option<u64>,
    /// Until this time [default: without end]
    #[arg(long, value_name = "TIME", value_parser = until)]
    pub(crate) until: Option<u64>,
    /// KEY=VALUE; can be repeated
    #[arg(short, long, value_name = "FILTER", value_parser = filter)]
    pub(crate) filter: Vec<(String, String)>,
    /// `json`, or a template such as '{{.Action}} {{.Actor.ID}}'
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
}

/// The process behind a container
#[derive(Debug, Args)]
pub(crate) struct MonitorArgs {
    #[command(flatten)]
    pub(crate) storage: super::StorageArgs,
    pub(crate) id: String,
}

pub(super) fn detach_keys(text: &str) -> Result<Keys, String> {
    let keys = engine::parse_detach_keys(text);
    keys.map(Keys).ok_or_else(|| format!("`{text}` are no keys: write them like ctrl-p,ctrl-q or ctrl-x"))
}

pub(super) fn signal(text: &str) -> Result<Signal, String> {
    Signal::parse(text).map_err(|error| error.to_string())
}

/// A port of a container alone, as `80` or `53/udp`.
fn one_port(text: &str) -> Result<PortSpec, String> {
    let port: PortSpec = text.parse()?;
    match (port.address, port.host, port.count) {
        (None, None, 1) => Ok(port),
        _ => Err(format!("`{text}` is not one port of a container: write 80 or 53/udp")),
    }
}

pub(super) fn timeout(text: &str) -> Result<i64, String> {
    text.parse().ok().ok_or(format!("`{text}` is no number of seconds"))
}

/// Show the processes of a container
#[derive(Debug, Args)]
#[command(override_usage = "dunnage top [OPTIONS] CONTAINER [PS OPTIONS]")]
pub(crate) struct TopArgs {
    /// Name or id; all behind it are options of the program ps, as `aux` or `-o pid,comm`, which then finds out
    #[arg(required = true, trailing_var_arg = true, value_name = "CONTAINER")]
    words: Vec<String>,
}

impl TopArgs {
    /// The container, and the options of ps.
    pub(crate) fn container_and_options(&self) -> (String, Vec<String>) {
        split_first(&self.words)
    }
}

/// Show what containers use
#[derive(Debug, Args)]
pub(crate) struct StatsArgs {
    /// Also those that do not run
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Once, not again and again
    #[arg(long)]
    pub(crate) no_stream: bool,
    /// Whole ids
    #[arg(long)]
    pub(crate) no_trunc: bool,
    /// `json`, or a template such as '{{.Name}} {{.MemUsage}}'
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
    /// Names or ids [default: all that run]
    #[arg(value_name = "CONTAINER")]
    pub(crate) names: Vec<String>,
}

/// Change the limits and the restart policy of containers
#[derive(Debug, Args)]
pub(crate) struct UpdateArgs {
    #[command(flatten)]
    pub(crate) limits: LimitArgs,
    /// Start it again when it ends: no, on-failure[:N], always, unless-stopped
    #[arg(long, value_name = "POLICY", value_parser = restart)]
    pub(crate) restart: Option<RestartPolicy>,
    #[command(flatten)]
    pub(crate) containers: NamesArgs,
}

/// Make an image of a container's root
#[derive(Debug, Args)]
pub(crate) struct CommitArgs {
    /// Who made it
    #[arg(short, long, value_name = "NAME")]
    pub(crate) author: Option<String>,
    /// Instruction of a Dockerfile that changes the configuration, as 'CMD ["app"]'; can be repeated
    #[arg(short, long, value_name = "INSTRUCTION")]
    pub(crate) change: Vec<String>,
    /// What was done
    #[arg(short, long, value_name = "TEXT")]
    pub(crate) message: Option<String>,
    /// Let the container stand still meanwhile
    #[arg(short, long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1,
        default_missing_value = "true", require_equals = true)]
    pub(crate) pause: bool,
    #[command(flatten)]
    pub(crate) container: NameArg,
    /// Name of the image
    pub(crate) image: Option<String>,
}

/// Write a container's root to a tar
#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// File to write [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<std::path::PathBuf>,
    #[command(flatten)]
    pub(crate) container: NameArg,
}

/// Copy files into a container, or out of one
#[derive(Debug, Args)]
#[command(
    override_usage = "dunnage cp [OPTIONS] CONTAINER:SRC DEST|-\n       dunnage cp [OPTIONS] SRC|- CONTAINER:DEST",
    after_help = "A directory goes into a DEST that is there, and becomes a DEST that is not; SRC/. is what is in it. The container
may run or not; its volumes and binds count. Links are copied, and followed inside the container only.

Examples:
  dunnage cp web:/var/log/app.log .         a file of the container
  dunnage cp site/. web:/srv/www            what is in a directory
  dunnage cp web:/etc - | tar t             a tar on standard output; `-` as SRC reads one"
)]
pub(crate) struct CpArgs {
    /// Owners, set-id bits and extended attributes too; else the copies are root's in a container, and yours on this machine
    #[arg(short, long)]
    pub(crate) archive: bool,
    /// Copy what SRC leads to when it is a link
    #[arg(short = 'L', long)]
    pub(crate) follow_link: bool,
    /// Do not say how much was copied [default: say it on a terminal]
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// CONTAINER:PATH, a path of this machine, or - for a tar on standard input
    #[arg(value_name = "SRC", value_parser = copy_end, allow_hyphen_values = true)]
    pub(crate) from: CopyEnd,
    /// The same; - is a tar on standard output
    #[arg(value_name = "DEST", value_parser = copy_end, allow_hyphen_values = true)]
    pub(crate) to: CopyEnd,
}

/// What begins with `/` or `.` is a path, whatever is behind it.
fn copy_end(text: &str) -> Result<CopyEnd, String> {
    if text == "-" {
        return Ok(CopyEnd::Stream);
    }
    match text.split_once(':') {
        Some((name, _)) if name.starts_with(['/', '.']) => Ok(CopyEnd::Host(text.into())),
        Some(("", _)) => Err("a container is missing before the colon".to_owned()),
        Some((_, "")) => Err("a path is missing behind the colon".to_owned()),
        Some((name, path)) => Ok(CopyEnd::Container { name: name.to_owned(), path: path.into() }),
        None if text.is_empty() => Err("a path must not be empty".to_owned()),
        None => Ok(CopyEnd::Host(text.into())),
    }
}

/// As with docker an empty text, of a variable that is not set, is no bound.
fn since(text: &str) -> Result<u64, String> {
    if text.is_empty() { Ok(0) } else { moment(text) }
}

fn until(text: &str) -> Result<u64, String> {
    if text.is_empty() { Ok(u64::MAX) } else { moment(text) }
}

fn moment(text: &str) -> Result<u64, String> {
    let now = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap_or_default();
    let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
    engine::parse_moment(text, now)
        .ok_or(format!("`{text}` is no time: write it like 2026-01-02T15:04:05Z, as Unix seconds, or as 10m"))
}

fn tail(text: &str) -> Result<Tail, String> {
    match text {
        "all" | "-1" => Ok(Tail(None)),
        _ => text.parse().map(|count| Tail(Some(count))).map_err(|_| format!("`{text}` is no number of lines")),
    }
}

/// An empty text, as of a variable that is not set, is a filter that all pass.
fn filter(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        None if text.is_empty() => Ok((String::new(), String::new())),
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("it must be KEY=VALUE".to_owned()),
    }
}
