//! `dunnage oci`: the command line of an OCI runtime, as docker, podman and containerd call it.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Callers look for the word `version` in the first line.
const VERSION: &str = concat!("version ", env!("CARGO_PKG_VERSION"), "\nspec: 1.2.1");

/// Run containers that another program describes: an OCI runtime for docker, podman and containerd
#[derive(Debug, Parser)]
#[command(name = "dunnage-oci", version = VERSION, disable_help_subcommand = true, max_term_width = 100)]
#[command(after_help = "docker:  dockerd --add-runtime dunnage=/usr/local/bin/dunnage-oci --default-runtime dunnage
podman:  podman --runtime /usr/local/bin/dunnage-oci --cgroup-manager cgroupfs run ...
dunnage-oci is a link to dunnage; `dunnage oci` is the same.")]
pub(crate) struct OciArguments {
    /// Directory of the containers' states [default: /run/dunnage-oci]
    #[arg(long, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,
    /// File that errors are written to
    #[arg(long, value_name = "FILE")]
    pub(crate) log: Option<PathBuf>,
    /// How they are written
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) log_format: LogFormat,
    /// Tell more; there is nothing more to tell, and callers pass it
    #[arg(long, hide = true)]
    pub(crate) debug: bool,
    /// Control groups by systemd: not supported
    #[arg(long, hide = true)]
    pub(crate) systemd_cgroup: bool,
    /// Rootless mode: only `auto` and `false`
    #[arg(long, hide = true, value_name = "MODE", default_value = "auto")]
    pub(crate) rootless: String,
    #[command(subcommand)]
    pub(crate) command: OciCommand,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// A line of words
    Text,
    /// A line of JSON
    Json,
}

#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub(crate) enum OciCommand {
    /// Make a container whose process is ready and waits
    Create(OciCreateArgs),
    /// Let the process of a created container start
    Start(OciIdArgs),
    /// Show the state of a container as JSON
    State(OciIdArgs),
    /// Send a signal to a container
    Kill(OciKillArgs),
    /// Take a container away
    Delete(OciDeleteArgs),
    /// Make a container and start it
    Run(OciRunArgs),
    /// Run one process more in a container
    Exec(Box<OciExecArgs>),
    /// List containers
    List(OciListArgs),
    /// List the processes of a container
    Ps(OciPsArgs),
    /// Stop all processes of a container where they are
    Pause(OciIdArgs),
    /// Let them go on
    Resume(OciIdArgs),
    /// Change the limits of a container
    Update(Box<OciUpdateArgs>),
    /// Tell what a container uses
    Events(OciEventsArgs),
    /// Tell what this runtime can do, as JSON
    Features,
    /// Write a configuration to begin with
    Spec(OciSpecArgs),
}

#[derive(Debug, Args)]
pub(crate) struct OciIdArgs {
    /// Name of the container
    pub(crate) id: String,
}

/// How the caller stays with a process.
#[derive(Debug, Args)]
pub(crate) struct OciIoArgs {
    /// Socket that gets the terminal
    #[arg(long, value_name = "SOCKET")]
    pub(crate) console_socket: Option<PathBuf>,
    /// File for the number of the process
    #[arg(long, value_name = "FILE")]
    pub(crate) pid_file: Option<PathBuf>,
    /// Descriptors from 3 up that are handed on
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    pub(crate) preserve_fds: u32,
}

#[derive(Debug, Args)]
pub(crate) struct OciCreateArgs {
    /// Directory with config.json
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    pub(crate) bundle: PathBuf,
    #[command(flatten)]
    pub(crate) io: OciIoArgs,
    /// Refused: the root is always changed by pivot_root
    #[arg(long)]
    pub(crate) no_pivot: bool,
    /// Keep the caller's session keyring
    #[arg(long)]
    pub(crate) no_new_keyring: bool,
    /// Name of the container
    pub(crate) id: String,
}

#[derive(Debug, Args)]
pub(crate) struct OciRunArgs {
    /// Do not wait for its end
    #[arg(short, long)]
    pub(crate) detach: bool,
    #[command(flatten)]
    pub(crate) create: OciCreateArgs,
}

#[derive(Debug, Args)]
pub(crate) struct OciKillArgs {
    /// All processes, not only the first
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Name of the container
    pub(crate) id: String,
    /// Name or number of the signal
    #[arg(default_value = "SIGTERM")]
    pub(crate) signal: String,
}

#[derive(Debug, Args)]
pub(crate) struct OciDeleteArgs {
    /// End it when it runs; a name without container is no error
    #[arg(short, long)]
    pub(crate) force: bool,
    /// Name of the container
    pub(crate) id: String,
}

#[derive(Debug, Args)]
pub(crate) struct OciExecArgs {
    /// File with the JSON of the process
    #[arg(short, long, value_name = "FILE")]
    pub(crate) process: Option<PathBuf>,
    /// Do not wait for its end
    #[arg(short, long)]
    pub(crate) detach: bool,
    /// Give it a terminal
    #[arg(short, long)]
    pub(crate) tty: bool,
    #[command(flatten)]
    pub(crate) io: OciIoArgs,
    /// Working directory
    #[arg(long, value_name = "DIR")]
    pub(crate) cwd: Option<PathBuf>,
    /// Variable; can be repeated
    #[arg(short, long, value_name = "NAME=VALUE")]
    pub(crate) env: Vec<String>,
    /// User, as UID or UID:GID
    #[arg(short, long, value_name = "UID[:GID]", value_parser = ids)]
    pub(crate) user: Option<(u32, Option<u32>)>,
    /// Group more; can be repeated
    #[arg(short = 'g', long, value_name = "GID")]
    pub(crate) additional_gids: Vec<u32>,
    /// Capability more; can be repeated
    #[arg(short, long, value_name = "NAME")]
    pub(crate) cap: Vec<String>,
    /// No exec grants more than the process has
    #[arg(long)]
    pub(crate) no_new_privs: bool,
    /// Wait in a paused container until it goes on
    #[arg(long)]
    pub(crate) ignore_paused: bool,
    /// Name of the container
    pub(crate) id: String,
    /// Command and its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) command: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct OciListArgs {
    /// How they are shown
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub(crate) format: TableFormat,
    /// Names only
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum TableFormat {
    /// Columns
    Table,
    /// JSON
    Json,
}

#[derive(Debug, Args)]
pub(crate) struct OciPsArgs {
    /// How they are shown
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub(crate) format: TableFormat,
    /// Name of the container
    pub(crate) id: String,
}

#[derive(Debug, Args)]
pub(crate) struct OciUpdateArgs {
    /// File with the JSON of the limits, - for standard input
    #[arg(short, long, value_name = "FILE", conflicts_with_all = ["memory", "cpus", "pids_limit"])]
    pub(crate) resources: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) limits: super::limits::LimitArgs,
    /// Name of the container
    pub(crate) id: String,
}

#[derive(Debug, Args)]
pub(crate) struct OciEventsArgs {
    /// Once, and no more
    #[arg(long)]
    pub(crate) stats: bool,
    /// Time between two of them
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = interval)]
    pub(crate) interval: std::time::Duration,
    /// Name of the container
    pub(crate) id: String,
}

#[derive(Debug, Args)]
pub(crate) struct OciSpecArgs {
    /// Directory for config.json
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    pub(crate) bundle: PathBuf,
}

fn ids(text: &str) -> Result<(u32, Option<u32>), String> {
    let number = |text: &str| text.parse::<u32>().map_err(|_| format!("`{text}` is no number of a user or group"));
    match text.split_once(':') {
        Some((user, group)) => Ok((number(user)?, Some(number(group)?))),
        None => Ok((number(text)?, None)),
    }
}

fn interval(text: &str) -> Result<std::time::Duration, String> {
    let bad = || format!("`{text}` is no time: write it like 5s or 100ms");
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let number: u64 = digits.parse().map_err(|_| bad())?;
    let millis = match unit {
        "ms" => number,
        "s" => number.saturating_mul(1000),
        "m" => number.saturating_mul(60_000),
        _ => return Err(bad()),
    };
    if millis == 0 { Err(bad()) } else { Ok(std::time::Duration::from_millis(millis)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_sound() {
        OciArguments::command().debug_assert();
    }

    #[test]
    fn callers_are_understood() {
        let call =
            "dunnage-oci --root /r --log /l --log-format json create --bundle /b --pid-file /p --preserve-fds 2 id";
        let arguments = OciArguments::try_parse_from(call.split(' ')).expect("a call of containerd");
        assert!(
            matches!(arguments.command, OciCommand::Create(create) if create.id == "id" && create.io.preserve_fds == 2)
        );
        let call = "dunnage-oci exec --process /p --console-socket /s --tty --detach --pid-file /q id";
        assert!(OciArguments::try_parse_from(call.split(' ')).is_ok());
        let call = "dunnage-oci update --resources - id";
        assert!(OciArguments::try_parse_from(call.split(' ')).is_ok());
        assert_eq!(ids("1:2"), Ok((1, Some(2))));
        assert!(ids("root").is_err() && interval("5").is_err());
    }
}
