//! `dunnage run` and `dunnage create`.

use std::path::PathBuf;

use clap::Args;
use engine::{LogDriver, MountSpec, Platform, RestartPolicy, Signal, Ulimit, VolumesFrom};

use super::container::{detach_keys, signal, timeout};
use super::devices::{DeviceFlag, Gpus, device, gpus};
use super::isolation::IsolationArgs;
use super::lent::{named, platform, size};
use super::limits::{FirstLimitArgs, LimitArgs};
use super::logging::{LogOption, log_driver, log_option};
use super::mounts::{mount, tmpfs, volume};
use super::networking::NetworkArgs;
use super::{Pull, StorageArgs};
use crate::ui::units::parse_duration;

/// Run a command in a new container
#[derive(Debug, Args)]
#[command(
    disable_help_flag = true,
    override_usage = "dunnage run [OPTIONS] IMAGE [COMMAND] [ARG...]",
    after_help = "Examples:
  dunnage run --rm app                        the image's own command; its files go when it ends
  dunnage run --rm -it debian:bookworm bash   a shell
  dunnage run --rm -v \"$PWD:/src\" app make    with a directory of this machine
  dunnage run -d --name web app               on its own; `dunnage logs web`, `dunnage stop web`

The exit code is the container's own; 125 when dunnage failed, 126 when the command cannot be executed, 127 when it is
not found, 128+n when signal n ended it."
)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) storage: StorageArgs,
    /// Let it run on its own and print its id
    #[arg(short, long)]
    pub(crate) detach: bool,
    /// Keys that leave the container running [default: ctrl-p,ctrl-q]
    #[arg(long, value_name = "KEYS", value_parser = detach_keys)]
    pub(crate) detach_keys: Option<Keys>,
    /// Hand signals on to the container
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1,
        default_missing_value = "true", require_equals = true)]
    pub(crate) sig_proxy: bool,
    #[command(flatten)]
    pub(crate) create: CreateArgs,
}

/// Make a container without starting it
#[derive(Debug, Args)]
#[command(disable_help_flag = true, override_usage = "dunnage create [OPTIONS] IMAGE [COMMAND] [ARG...]")]
pub(crate) struct CreateCommand {
    #[command(flatten)]
    pub(crate) storage: StorageArgs,
    #[command(flatten)]
    pub(crate) create: CreateArgs,
}

/// One `--attach`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum StreamName {
    Stdin,
    Stdout,
    Stderr,
}

/// What a container is asked to be.
#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// When to pull the image
    #[arg(long, value_name = "WHEN", default_value = "missing")]
    pub(crate) pull: Pull,
    /// Print nothing while the image is pulled
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Remove the container's files when it ends
    #[arg(long)]
    pub(crate) rm: bool,
    /// Keep standard input open
    #[arg(short, long)]
    pub(crate) interactive: bool,
    /// Give the container a terminal
    #[arg(short, long)]
    pub(crate) tty: bool,
    /// Stream that leads to this command: stdin, stdout or stderr; can be repeated [default: the output, and with
    /// --interactive the input]
    #[arg(short, long, value_name = "STREAM", ignore_case = true)]
    pub(crate) attach: Vec<StreamName>,
    /// Variable, as NAME=VALUE, or NAME for the environment's; can be repeated
    #[arg(short, long, value_name = "NAME=VALUE", value_parser = named)]
    pub(crate) env: Vec<String>,
    /// File with a variable a line; can be repeated
    #[arg(long, value_name = "FILE")]
    pub(crate) env_file: Vec<PathBuf>,
    /// Working directory [default: the image's]
    #[arg(short, long, value_name = "DIR")]
    pub(crate) workdir: Option<String>,
    /// User, as NAME or ID, with :GROUP [default: the image's]
    #[arg(short, long, value_name = "USER")]
    pub(crate) user: Option<String>,
    /// Group besides those of the user; can be repeated
    #[arg(long, value_name = "GROUP")]
    pub(crate) group_add: Vec<String>,
    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    pub(crate) help: Option<bool>,
    /// NIS domain name
    #[arg(long, value_name = "NAME", value_parser = host_name)]
    pub(crate) domainname: Option<String>,
    /// Host name [default: the container's id]
    #[arg(short = 'h', long, value_name = "NAME", value_parser = host_name)]
    pub(crate) hostname: Option<String>,
    /// Name of the container
    #[arg(long, value_name = "NAME", value_parser = container_name)]
    pub(crate) name: Option<String>,
    /// Label, as NAME=VALUE; can be repeated
    #[arg(short, long, value_name = "NAME=VALUE", value_parser = named)]
    pub(crate) label: Vec<String>,
    /// File with a label a line; can be repeated
    #[arg(long, value_name = "FILE")]
    pub(crate) label_file: Vec<PathBuf>,
    /// Note for other programs, as NAME=VALUE: it is shown by `inspect`; can be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    pub(crate) annotation: Vec<(String, String)>,
    /// Use the image for this platform, as linux/amd64
    #[arg(long, value_name = "PLATFORM", value_parser = platform)]
    pub(crate) platform: Option<Platform>,
    /// File to write the container's id to
    #[arg(long, value_name = "FILE")]
    pub(crate) cidfile: Option<PathBuf>,
    /// Program instead of the image's ENTRYPOINT
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) entrypoint: Option<String>,
    /// A tiny init as process 1: reaps, and hands signals on
    #[arg(long)]
    pub(crate) init: bool,
    /// Start it again when it ends: no, on-failure[:N], always, unless-stopped
    #[arg(long, value_name = "POLICY", default_value = "no", value_parser = restart)]
    pub(crate) restart: RestartPolicy,
    /// Signal that stops it [default: the image's, else TERM]
    #[arg(long, value_name = "SIGNAL", value_parser = signal)]
    pub(crate) stop_signal: Option<Signal>,
    /// Seconds between that signal and the end; below zero for any time [default: 10]
    #[arg(long, value_name = "SECONDS", value_parser = timeout, allow_hyphen_values = true)]
    pub(crate) stop_timeout: Option<i64>,
    /// What keeps the output: json-file, local or none
    #[arg(long, value_name = "DRIVER", default_value = "json-file", value_parser = log_driver)]
    pub(crate) log_driver: LogDriver,
    /// max-size=BYTES [default: 20m], max-file=NUMBER [default: 5], compress=true for old files; and what each line gets
    /// besides: tag=TEMPLATE as {{.Name}}/{{.ID}}, labels=NAME,…, labels-regex=, env= and env-regex=; can be repeated
    #[arg(long, value_name = "OPTION", value_parser = log_option)]
    pub(crate) log_opt: Vec<LogOption>,
    #[command(flatten)]
    pub(crate) mounts: MountArgs,
    #[command(flatten)]
    pub(crate) isolation: IsolationArgs,
    #[command(flatten)]
    pub(crate) network: NetworkArgs,
    #[command(flatten)]
    pub(crate) health: HealthArgs,
    #[command(flatten)]
    pub(crate) limits: LimitArgs,
    #[command(flatten)]
    pub(crate) first_limits: FirstLimitArgs,
    /// Rule for devices that are made inside, as 'c 10:229 rwm'; can be repeated
    #[arg(long, value_name = "RULE", help_heading = "Limits")]
    pub(crate) device_cgroup_rule: Vec<String>,
    /// Control group to make the container's in [default: dunnage]
    #[arg(long, value_name = "PATH", help_heading = "Limits")]
    pub(crate) cgroup_parent: Option<String>,
    /// Limit of the processes, as NAME=SOFT[:HARD]; can be repeated
    #[arg(long, value_name = "LIMIT", value_parser = ulimit, help_heading = "Limits")]
    pub(crate) ulimit: Vec<Ulimit>,
    /// Size of /dev/shm [default: 64m]
    #[arg(long, value_name = "BYTES", value_parser = size, help_heading = "Limits")]
    pub(crate) shm_size: Option<u64>,
    /// How readily the kernel ends it when memory runs out, -1000 to 1000
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true, help_heading = "Limits",
        value_parser = clap::value_parser!(i32).range(-1000..=1000))]
    pub(crate) oom_score_adj: Option<i32>,
    /// Name or id of the image; all behind it is the container's: the command and its arguments [default: the image's]
    // One list: what stands behind the image is never read as a flag of this program.
    #[arg(required = true, trailing_var_arg = true, value_name = "IMAGE [COMMAND]")]
    pub(crate) words: Vec<String>,
}

impl CreateArgs {
    /// The image, and the command.
    pub(crate) fn image_and_command(&self) -> (String, Vec<String>) {
        split_first(&self.words)
    }
}

/// What a command is about, and what stands behind it.
pub(super) fn split_first(words: &[String]) -> (String, Vec<String>) {
    words.split_first().map(|(first, rest)| (first.clone(), rest.to_vec())).unwrap_or_default()
}

/// Files.
#[derive(Debug, Args)]
#[command(next_help_heading = "Files")]
pub(crate) struct MountArgs {
    /// Directory of this machine or volume, as SOURCE:TARGET[:ro,nocopy], or TARGET; can be repeated
    #[arg(short, long, value_name = "SPEC", value_parser = volume)]
    pub(crate) volume: Vec<MountSpec>,
    /// The same in words: type=bind|volume|tmpfs,src=SOURCE,dst=TARGET,readonly; can be repeated
    #[arg(long, value_name = "SPEC", value_parser = mount)]
    pub(crate) mount: Vec<MountSpec>,
    /// A file system in memory, as TARGET[:size=64m,mode=1777,uid=1000,gid=1000,nr_inodes=1k,ro,exec,suid,dev,noatime];
    /// can be repeated
    #[arg(long, value_name = "SPEC", value_parser = tmpfs)]
    pub(crate) tmpfs: Vec<MountSpec>,
    /// All mounts of another container, as NAME[:ro]; can be repeated
    #[arg(long, value_name = "CONTAINER", value_parser = volumes_from)]
    pub(crate) volumes_from: Vec<VolumesFrom>,
    /// Only `local` is there: what makes the volumes that are named
    #[arg(long, value_name = "DRIVER", value_parser = ["local"])]
    pub(crate) volume_driver: Option<String>,
    /// No writing in the container's root
    #[arg(long)]
    pub(crate) read_only: bool,
    /// Device of this machine, as SOURCE[:TARGET[:rwm]] with what may be done (read, write, make nodes), or by the name that a specification (CDI) has, as
    /// vendor.com/class=name; can be repeated
    #[arg(long, value_name = "DEVICE", value_parser = device)]
    pub(crate) device: Vec<DeviceFlag>,
    /// GPUs, as all or device=0,1: short for the devices nvidia.com/gpu=… of the machine's specifications (CDI)
    #[arg(long, value_name = "GPUS", value_parser = gpus)]
    pub(crate) gpus: Vec<Gpus>,
}

/// Health checks.
#[derive(Debug, Args)]
#[command(next_help_heading = "Health")]
pub(crate) struct HealthArgs {
    /// Line for the shell that tells whether it is well
    #[arg(long, value_name = "COMMAND")]
    pub(crate) health_cmd: Option<String>,
    /// Time between checks [default: 30s]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub(crate) health_interval: Option<u64>,
    /// Longest time of one [default: 30s]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub(crate) health_timeout: Option<u64>,
    /// Failures in a row that make it unhealthy [default: 3]
    #[arg(long, value_name = "NUMBER")]
    pub(crate) health_retries: Option<u32>,
    /// Time in which failures do not count [default: 0s]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub(crate) health_start_period: Option<u64>,
    /// Time between checks meanwhile [default: 5s]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub(crate) health_start_interval: Option<u64>,
    /// No checks, whatever the image says
    #[arg(long, conflicts_with = "health_cmd")]
    pub(crate) no_healthcheck: bool,
}

/// Bytes of keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Keys(pub(crate) Vec<u8>);

pub(super) fn restart(text: &str) -> Result<RestartPolicy, String> {
    match text.split_once(':') {
        None => match text {
            "no" | "" => Ok(RestartPolicy::No),
            "always" => Ok(RestartPolicy::Always),
            "unless-stopped" => Ok(RestartPolicy::UnlessStopped),
            "on-failure" => Ok(RestartPolicy::OnFailure(0)),
            _ => Err("policies are no, on-failure[:N], always and unless-stopped".to_owned()),
        },
        Some(("on-failure", count)) => {
            count.parse().map(RestartPolicy::OnFailure).map_err(|_| format!("`{count}` is no number of times"))
        }
        Some(_) => Err("only on-failure takes a number of times".to_owned()),
    }
}

fn ulimit(text: &str) -> Result<Ulimit, String> {
    let parsed = super::lent::limit(text)?;
    let name = text.split('=').next().unwrap_or_default().to_owned();
    Ok(Ulimit { name, soft: parsed.soft, hard: parsed.hard })
}

fn volumes_from(text: &str) -> Result<VolumesFrom, String> {
    let (container, read_only) = match text.rsplit_once(':') {
        Some((container, "ro")) => (container, true),
        Some((container, "rw")) => (container, false),
        Some((_, mode)) => return Err(format!("`{mode}` is not supported: ro and rw are")),
        None => (text, false),
    };
    Ok(VolumesFrom { container: container.to_owned(), read_only })
}

pub(super) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("it must be NAME=VALUE".to_owned()),
    }
}

pub(crate) fn container_name(text: &str) -> Result<String, String> {
    let text = text.strip_prefix('/').unwrap_or(text);
    let valid = text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.len() > 1
        && text.len() <= 255
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
    if valid {
        Ok(text.to_owned())
    } else {
        Err("names begin with a letter or digit, and go on with letters, digits, `_`, `.` and `-`".to_owned())
    }
}

fn host_name(text: &str) -> Result<String, String> {
    // As with docker an empty one, of a variable that is not set, is none.
    let valid = text.len() <= 63
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c))
        && !text.starts_with('-');
    match valid {
        true => Ok(text.to_owned()),
        false => Err("a host name has up to 63 letters, digits, `-`, `_` and `.`".to_owned()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn words_are_dockers() {
        assert_eq!(restart("on-failure:3").unwrap(), RestartPolicy::OnFailure(3));
        assert!(restart("sometimes").is_err() && restart("always:2").is_err() && restart("on-failure:x").is_err());
        assert!(container_name("a").is_err() && container_name("a b").is_err() && container_name("ok.1").is_ok());
    }
}
