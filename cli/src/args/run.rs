//! `dunnage run` and `dunnage create`.

use std::io::Read;
use std::path::PathBuf;

use clap::Args;
use engine::{
    DeviceRights, DeviceSpec, LogDriver, MountSpec, NamespaceChoice, Platform, RestartPolicy, Security, Signal, Ulimit,
    UsernsMode, VolumesFrom,
};

use super::container::{detach_keys, signal, timeout};
use super::lent::{named, platform, size};
use super::limits::{FirstLimitArgs, LimitArgs};
use super::logging::{LogOption, log_driver, log_option};
use super::mounts::{mount, tmpfs, volume};
use super::networking::NetworkArgs;
use super::{Pull, StorageArgs};
use crate::ui::units::parse_duration;

/// Most bytes of a profile.
const PROFILE_LIMIT: u64 = 1 << 20;

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
    /// Seconds between that signal and the end [default: 10]
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

/// Isolation.
#[derive(Debug, Args)]
#[command(next_help_heading = "Isolation")]
pub(crate) struct IsolationArgs {
    /// All capabilities, no filter, the machine's devices
    #[arg(long)]
    pub(crate) privileged: bool,
    /// Capability besides docker's fourteen, or ALL; can be repeated
    #[arg(long, value_name = "NAME")]
    pub(crate) cap_add: Vec<String>,
    /// Capability to take away, or ALL; can be repeated
    #[arg(long, value_name = "NAME")]
    pub(crate) cap_drop: Vec<String>,
    /// no-new-privileges, seccomp=unconfined or a file with a profile, apparmor=PROFILE, label=TYPE:VALUE,
    /// systempaths=unconfined; can be repeated
    #[arg(long, value_name = "OPTION", value_parser = security)]
    pub(crate) security_opt: Vec<SecurityOption>,
    /// Kernel setting of the container's own namespaces, as NAME=VALUE; can be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    pub(crate) sysctl: Vec<(String, String)>,
    /// Process numbers: host, or container:NAME
    #[arg(long, value_name = "MODE", value_parser = pid)]
    pub(crate) pid: Option<NamespaceChoice>,
    /// Shared memory: private, shareable, none (without /dev/shm), host, or container:NAME
    #[arg(long, value_name = "MODE", value_parser = ipc)]
    pub(crate) ipc: Option<NamespaceChoice>,
    /// Host name: private, host, or container:NAME
    #[arg(long, value_name = "MODE", value_parser = uts)]
    pub(crate) uts: Option<NamespaceChoice>,
    /// User namespace: host, or auto[:size=N], in which the container has ids of its own on this machine (65536 of them), so
    /// that its root is nobody there [default: host, or what config.toml says]
    #[arg(long, value_name = "MODE", value_parser = UsernsMode::parse)]
    pub(crate) userns: Option<UsernsMode>,
    /// View of control groups: private or host
    #[arg(long, value_name = "MODE", value_parser = host_only)]
    pub(crate) cgroupns: Option<NamespaceChoice>,
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

/// One `--device`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum DeviceFlag {
    Path(DeviceSpec),
    /// `VENDOR/CLASS=DEVICE`.
    Named(String),
}

/// The devices of one `--gpus`, by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Gpus(pub(crate) Vec<String>);

fn gpus(text: &str) -> Result<Gpus, String> {
    let text = text.trim_matches('"');
    if text == "all" {
        return Ok(Gpus(vec!["nvidia.com/gpu=all".to_owned()]));
    }
    match text.strip_prefix("device=").filter(|list| list.split(',').all(|one| !one.is_empty())) {
        Some(list) => Ok(Gpus(list.split(',').map(|one| format!("nvidia.com/gpu={one}")).collect())),
        None => Err("it must be all, or device=0,1: which GPUs, not how many".to_owned()),
    }
}

/// Bytes of keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Keys(pub(crate) Vec<u8>);

/// One `--security-opt`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SecurityOption {
    NoNewPrivileges(bool),
    /// What the file says.
    Seccomp(String),
    AppArmor(String),
    Label(LabelPart, String),
    UnconfinedSeccomp,
    UnconfinedPaths,
    /// What is so anyway.
    Usual,
}

/// A part of an SELinux label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LabelPart {
    User,
    Role,
    Type,
    Level,
}

impl SecurityOption {
    pub(crate) fn all(options: &[SecurityOption]) -> Security {
        let mut security = Security::default();
        let mut label = ["system_u", "system_r", "container_t", "s0"].map(str::to_owned);
        for option in options {
            match option {
                SecurityOption::Seccomp(text) => security.seccomp = Some(text.clone()),
                SecurityOption::AppArmor(profile) => security.apparmor = Some(profile.clone()),
                SecurityOption::Label(part, value) => {
                    let [user, role, kind, level] = &mut label;
                    let place = match part {
                        LabelPart::User => user,
                        LabelPart::Role => role,
                        LabelPart::Type => kind,
                        LabelPart::Level => level,
                    };
                    place.clone_from(value);
                    security.selinux = Some(label.join(":"));
                }
                SecurityOption::NoNewPrivileges(on) => security.no_new_privileges = *on,
                SecurityOption::UnconfinedSeccomp => security.unconfined_seccomp = true,
                SecurityOption::UnconfinedPaths => security.unconfined_paths = true,
                SecurityOption::Usual => {}
            }
        }
        security
    }
}

fn security(text: &str) -> Result<SecurityOption, String> {
    let (name, value) = text.split_once(['=', ':']).map_or((text, None), |(name, value)| (name, Some(value)));
    match (name, value) {
        ("no-new-privileges", None | Some("true")) => Ok(SecurityOption::NoNewPrivileges(true)),
        ("no-new-privileges", Some("false")) => Ok(SecurityOption::NoNewPrivileges(false)),
        ("seccomp", Some("unconfined")) => Ok(SecurityOption::UnconfinedSeccomp),
        ("seccomp", Some("builtin")) => Ok(SecurityOption::Usual),
        ("seccomp", Some(path)) => profile(path).map(SecurityOption::Seccomp),
        ("systempaths", Some("unconfined")) => Ok(SecurityOption::UnconfinedPaths),
        ("apparmor", Some("unconfined")) | ("label", Some("disable")) => Ok(SecurityOption::Usual),
        ("apparmor", Some(profile)) if !profile.is_empty() => Ok(SecurityOption::AppArmor(profile.to_owned())),
        ("label", Some(part)) => label_part(part),
        _ => Err("options are no-new-privileges, seccomp=, systempaths=, apparmor= and label=".to_owned()),
    }
}

/// The file is read where it is named: a container is started again without it.
fn profile(path: &str) -> Result<String, String> {
    let failed = |error: std::io::Error| format!("cannot read the profile {path}: {error}");
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(PROFILE_LIMIT + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > PROFILE_LIMIT {
        return Err(format!("the profile {path} is larger than {} KiB", PROFILE_LIMIT >> 10));
    }
    Ok(text)
}

fn label_part(text: &str) -> Result<SecurityOption, String> {
    let part = match text.split_once(':') {
        Some(("user", value)) => Some((LabelPart::User, value)),
        Some(("role", value)) => Some((LabelPart::Role, value)),
        Some(("type", value)) => Some((LabelPart::Type, value)),
        Some(("level", value)) => Some((LabelPart::Level, value)),
        _ => None,
    };
    let valid = |value: &str| !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_graphic());
    match part.filter(|(_, value)| valid(value)) {
        Some((part, value)) => Ok(SecurityOption::Label(part, value.to_owned())),
        None => {
            Err("labels are label=disable, label=user:USER, label=role:ROLE, label=type:TYPE and label=level:LEVEL"
                .to_owned())
        }
    }
}

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

fn device(text: &str) -> Result<DeviceFlag, String> {
    if let Some((kind, name)) = text.split_once('=').filter(|(kind, _)| !kind.starts_with('/')) {
        let valid = kind.split('/').count() == 2 && kind.split('/').all(|part| !part.is_empty()) && !name.is_empty();
        return match valid {
            true => Ok(DeviceFlag::Named(text.to_owned())),
            false => Err("names of devices are VENDOR/CLASS=DEVICE".to_owned()),
        };
    }
    let parts: Vec<&str> = text.split(':').collect();
    let usual = DeviceRights::default();
    let (source, target, rights) = match parts.as_slice() {
        [source] => (*source, *source, usual),
        [source, rest] => match DeviceRights::parse(rest) {
            Some(rights) => (*source, *source, rights),
            None => (*source, *rest, usual),
        },
        [source, target, rights] => {
            let rights = DeviceRights::parse(rights).ok_or_else(|| format!("`{rights}` must be made of r, w and m"))?;
            (*source, *target, rights)
        }
        _ => return Err("it must be SOURCE[:TARGET[:rwm]]".to_owned()),
    };
    if !source.starts_with('/') || !target.starts_with('/') {
        return Err("devices are absolute paths, as in /dev/fuse, or names as in vendor.com/class=device".to_owned());
    }
    Ok(DeviceFlag::Path(DeviceSpec { source: source.into(), target: target.into(), rights }))
}

pub(super) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("it must be NAME=VALUE".to_owned()),
    }
}

fn shared(text: &str) -> Option<NamespaceChoice> {
    match text.split_once(':') {
        Some(("container", name)) if !name.is_empty() => Some(NamespaceChoice::Container(name.to_owned())),
        None if text == "host" => Some(NamespaceChoice::Host),
        _ => None,
    }
}

fn pid(text: &str) -> Result<NamespaceChoice, String> {
    shared(text).ok_or_else(|| "it must be host or container:NAME".to_owned())
}

fn uts(text: &str) -> Result<NamespaceChoice, String> {
    match text {
        "private" => Ok(NamespaceChoice::Private),
        _ => shared(text).ok_or_else(|| "it must be private, host or container:NAME".to_owned()),
    }
}

fn ipc(text: &str) -> Result<NamespaceChoice, String> {
    match text {
        "private" | "shareable" => Ok(NamespaceChoice::Private),
        "none" => Ok(NamespaceChoice::None),
        _ => shared(text).ok_or_else(|| "it must be none, private, shareable, host or container:NAME".to_owned()),
    }
}

fn host_only(text: &str) -> Result<NamespaceChoice, String> {
    match text {
        "private" => Ok(NamespaceChoice::Private),
        "host" => Ok(NamespaceChoice::Host),
        _ => Err("it must be private or host".to_owned()),
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
        assert!(pid("private").is_err() && ipc("shareable").is_ok() && host_only("container:x").is_err());
        assert!(device("/dev/fuse:/dev/f:rwm").is_ok() && device("/dev/fuse:x").is_err() && device("fuse").is_err());
        assert_eq!(device("v.com/c=d").unwrap(), DeviceFlag::Named("v.com/c=d".to_owned()));
        assert!(device("v.com=d").is_err() && gpus("2").is_err() && gpus("device=").is_err());
        assert_eq!(gpus("device=0,1").unwrap().0, ["nvidia.com/gpu=0", "nvidia.com/gpu=1"]);
        assert!(security("seccomp=/no-such-profile").unwrap_err().contains("/no-such-profile"));
        assert!(security("x").is_err() && security("label=x:y").is_err() && security("apparmor=").is_err());
        let label = ["label=type:a_t", "label=level:s0:c1"].map(|text| security(text).unwrap());
        assert_eq!(SecurityOption::all(&label).selinux.as_deref(), Some("system_u:system_r:a_t:s0:c1"));
        assert_eq!(security("no-new-privileges:true").unwrap(), SecurityOption::NoNewPrivileges(true));
        assert!(container_name("a").is_err() && container_name("a b").is_err() && container_name("ok.1").is_ok());
    }
}
