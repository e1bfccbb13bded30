//! `ContainerSpec`: what was asked of a container, as durable data: the flags of `run` and `create` after parsing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cache::Image;
use runtime::{Propagation, PropagationKind};
use serde::{Deserialize, Serialize};

use super::devices::DeviceSpec;
use super::joins::{LinkSpec, Streams};
use super::limits::LimitSpec;
use super::log_attributes::LogAttributes;
use super::users::UsernsMode;
use crate::error::{Error, Result};
use crate::networks::{NameFiles, NetworkChoice, PortSpec};

/// What was asked of a container. What is not said is the image's, or docker's default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerSpec {
    /// Name or id of the image.
    pub image: String,
    /// Replaces the image's CMD when it is not empty.
    pub command: Vec<String>,
    /// `NAME=VALUE`; a bare name takes the image's variable away.
    pub env: Vec<String>,
    /// `--volume`, `--mount`, `--tmpfs`, and the image's VOLUMEs.
    pub mounts: Vec<MountSpec>,
    /// `--workdir`.
    pub workdir: Option<String>,
    /// `--user`.
    pub user: Option<String>,
    /// `--group-add`.
    pub groups: Vec<String>,
    /// `--domainname`.
    pub domainname: Option<String>,
    /// `--hostname`; the first 12 digits of the container's id when absent.
    pub hostname: Option<String>,
    /// `--entrypoint`; an empty text clears the image's.
    pub entrypoint: Option<String>,
    /// `--network`.
    pub network: NetworkChoice,
    /// `--publish`.
    pub ports: Vec<PortSpec>,
    /// `--expose`, as `80/tcp`.
    pub exposed: Vec<String>,
    /// `--annotation`: kept for whoever asks.
    pub annotations: BTreeMap<String, String>,
    /// `--publish-all`: what the image exposes.
    pub publish_all: bool,
    /// `--pid`.
    pub pid: NamespaceChoice,
    /// `--ipc`.
    pub ipc: NamespaceChoice,
    /// `--uts`.
    pub uts: NamespaceChoice,
    /// `--cgroupns`.
    pub cgroupns: NamespaceChoice,
    /// `--userns`; once the container is there it is always said.
    pub userns: Option<UsernsMode>,
    /// `--add-host`, `--dns`, `--dns-search`, `--dns-option`.
    pub names: NameFiles,
    /// `--interactive`: standard input stays open.
    pub interactive: bool,
    /// The first client that closes its input closes the container's.
    pub stdin_once: bool,
    /// `--attach`, where it is given.
    pub attached: Option<Streams>,
    /// `--link`.
    pub links: Vec<LinkSpec>,
    /// `--tty`.
    pub tty: bool,
    /// `--rm`: the container's files go when it ends.
    pub remove: bool,
    /// `--read-only`.
    pub read_only: bool,
    /// `--init`.
    pub init: bool,
    /// `--privileged`.
    pub privileged: bool,
    /// `--memory`, `--cpus` and the like.
    pub limits: LimitSpec,
    /// `--cap-add` and `--cap-drop`.
    pub capabilities: CapabilityChange,
    /// `--security-opt`.
    pub security: Security,
    /// `--device`.
    pub devices: Vec<DeviceSpec>,
    /// `--gpus`, and devices by name: `VENDOR/CLASS=DEVICE`.
    pub named_devices: Vec<String>,
    /// Directories with the specifications of those.
    pub device_specs: Vec<PathBuf>,
    /// `--sysctl`.
    pub sysctls: BTreeMap<String, String>,
    /// `--ulimit`.
    pub ulimits: Vec<Ulimit>,
    /// `--shm-size`.
    pub shm_size: Option<u64>,
    /// `--oom-score-adj`.
    pub oom_score_adj: Option<i32>,
    /// `--label`, over the image's.
    pub labels: BTreeMap<String, String>,
    /// `--health-*`, over the image's HEALTHCHECK.
    pub health: HealthChange,
    /// `--stop-signal`.
    pub stop_signal: Option<String>,
    /// `--stop-timeout` in seconds; below zero waits for ever.
    pub stop_timeout: Option<i64>,
    /// `--log-driver` and `--log-opt`.
    pub log: LogChoice,
    /// `--restart`.
    pub restart: RestartPolicy,
}

/// Whose a namespace is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NamespaceChoice {
    /// The container's own.
    #[default]
    Private,
    /// The machine's.
    Host,
    /// Another container's.
    Container(String),
    /// The container's own, which nobody can share: of shared memory there is none.
    None,
}

/// Changes of docker's fourteen capabilities.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CapabilityChange {
    /// Names, or `ALL`.
    pub add: Vec<String>,
    /// Names, or `ALL`.
    pub drop: Vec<String>,
}

/// `--security-opt`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Security {
    /// `seccomp=unconfined`.
    pub unconfined_seccomp: bool,
    /// `seccomp=FILE`: what the file says.
    pub seccomp: Option<String>,
    /// `apparmor=PROFILE`.
    pub apparmor: Option<String>,
    /// `label=…`, as one label.
    pub selinux: Option<String>,
    /// `no-new-privileges`.
    pub no_new_privileges: bool,
    /// `systempaths=unconfined`.
    pub unconfined_paths: bool,
}

/// `--ulimit NAME=SOFT[:HARD]`; no number is unlimited.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ulimit {
    /// The kernel's word in small letters.
    pub name: String,
    /// What counts until the process changes it.
    pub soft: Option<u64>,
    /// What it cannot pass.
    pub hard: Option<u64>,
}

/// `--health-*`. What is not said is the image's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HealthChange {
    /// `--no-healthcheck`.
    pub none: bool,
    /// `--health-cmd`, a line for the shell.
    pub command: Option<String>,
    /// Nanoseconds.
    pub interval: Option<u64>,
    /// Nanoseconds.
    pub timeout: Option<u64>,
    /// Nanoseconds.
    pub start_period: Option<u64>,
    /// Nanoseconds.
    pub start_interval: Option<u64>,
    /// Failures in a row that make it unhealthy.
    pub retries: Option<u32>,
}

/// `--log-driver` and `--log-opt`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LogChoice {
    /// What is written.
    pub driver: LogDriver,
    /// `max-size` in bytes; 0 is no limit.
    pub max_size: Option<u64>,
    /// `max-file`.
    pub max_file: Option<u32>,
    /// `compress`: files that are not written any more are packed.
    pub compress: bool,
    /// What is written beside each line.
    #[serde(skip_serializing_if = "LogAttributes::is_empty")]
    pub attributes: LogAttributes,
}

impl LogChoice {
    /// What contradicts itself.
    pub(super) fn check(&self) -> Result<()> {
        let usage = |sentence: &str| Err(Error::Usage(sentence.to_owned()));
        if self.compress && (self.max_file == Some(1) || self.max_size == Some(0)) {
            return usage("--log-opt compress=true needs old files: max-file of 2 or more, and a max-size");
        }
        if self.driver == LogDriver::Local && !self.attributes.is_empty() {
            return usage("--log-opt tag, labels and env are for --log-driver json-file");
        }
        Ok(())
    }
}

/// What becomes of the output of a container.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogDriver {
    /// A file of JSON lines.
    #[default]
    JsonFile,
    /// The same.
    Local,
    /// Nothing is kept.
    None,
}

impl LogDriver {
    /// Docker's word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            LogDriver::JsonFile => "json-file",
            LogDriver::Local => "local",
            LogDriver::None => "none",
        }
    }
}

/// `--restart`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestartPolicy {
    /// Never.
    #[default]
    No,
    /// When the exit code is not 0, so often at most; 0 is without end.
    OnFailure(u32),
    /// Always, but not after it was stopped.
    Always,
    /// The same.
    UnlessStopped,
}

impl RestartPolicy {
    /// Docker's word, and how often at most.
    #[must_use]
    pub fn parts(self) -> (&'static str, u32) {
        match self {
            RestartPolicy::No => ("no", 0),
            RestartPolicy::OnFailure(most) => ("on-failure", most),
            RestartPolicy::Always => ("always", 0),
            RestartPolicy::UnlessStopped => ("unless-stopped", 0),
        }
    }
}

/// Something that is mounted into a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountSpec {
    /// In the container, absolute.
    pub target: PathBuf,
    /// No writing.
    pub read_only: bool,
    /// What it is.
    pub kind: MountKind,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MountKind {
    /// A directory or file of the machine.
    Bind {
        /// Absolute.
        source: PathBuf,
        /// A source that is missing is made, as `docker run -v` does.
        make: bool,
        /// What is mounted below the source is shown too.
        recursive: bool,
        /// How later mounts spread; not at all when it is not said.
        #[serde(default)]
        propagation: BindPropagation,
        /// Owners are mapped by the container's own user namespace.
        #[serde(default)]
        mapped: bool,
    },
    /// A volume of the store.
    Volume {
        /// Its name; one is made up when there is none.
        name: Option<String>,
        /// An empty volume is not filled with what the image has there.
        no_copy: bool,
        /// A directory in it.
        subpath: Option<PathBuf>,
        /// What it is made with, where it is not there yet.
        #[serde(default, skip_serializing_if = "VolumeDraft::is_empty")]
        made_with: VolumeDraft,
    },
    /// A fresh file system in memory.
    Tmpfs {
        /// Bytes.
        size: Option<u64>,
        /// Permission bits.
        mode: Option<u32>,
        /// What is in it may be executed.
        executable: bool,
        /// What else it is told, as `uid` and `1000`.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        options: Vec<(String, String)>,
        /// mount(8)'s words for what holds for the mount, where that is not so anyway.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        attributes: Vec<String>,
    },
}

/// `volume-label` and `volume-opt` of `--mount`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct VolumeDraft {
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Docker's `type`, `device` and `o`.
    pub options: BTreeMap<String, String>,
}

impl VolumeDraft {
    fn is_empty(&self) -> bool {
        *self == VolumeDraft::default()
    }
}

/// How mounts below a bind spread between this machine and the container.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "the variants are mount(8)'s words")]
pub enum BindPropagation {
    Private,
    #[default]
    Rprivate,
    Slave,
    Rslave,
    Shared,
    Rshared,
}

impl BindPropagation {
    /// Reads mount(8)'s word.
    #[must_use]
    pub fn parse(word: &str) -> Option<BindPropagation> {
        Some(match word {
            "private" => BindPropagation::Private,
            "rprivate" => BindPropagation::Rprivate,
            "slave" => BindPropagation::Slave,
            "rslave" => BindPropagation::Rslave,
            "shared" => BindPropagation::Shared,
            "rshared" => BindPropagation::Rshared,
            _ => return None,
        })
    }

    /// The word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            BindPropagation::Private => "private",
            BindPropagation::Rprivate => "rprivate",
            BindPropagation::Slave => "slave",
            BindPropagation::Rslave => "rslave",
            BindPropagation::Shared => "shared",
            BindPropagation::Rshared => "rshared",
        }
    }

    /// Nothing for what is so anyway.
    pub(super) fn kernel(self) -> Option<Propagation> {
        let (kind, recursive) = match self {
            BindPropagation::Private | BindPropagation::Rprivate => return None,
            BindPropagation::Slave => (PropagationKind::Slave, false),
            BindPropagation::Rslave => (PropagationKind::Slave, true),
            BindPropagation::Shared => (PropagationKind::Shared, false),
            BindPropagation::Rshared => (PropagationKind::Shared, true),
        };
        Some(Propagation { kind, recursive })
    }
}

impl ContainerSpec {
    /// ENTRYPOINT and CMD of the image, replaced by what was asked for.
    pub(crate) fn argv(&self, image: &Image) -> Result<Vec<String>> {
        let config = &image.config.config;
        let (mut argv, inherits_cmd) = match &self.entrypoint {
            Some(text) if text.is_empty() => (Vec::new(), false),
            Some(text) => (vec![text.clone()], false),
            None => (config.entrypoint.clone().unwrap_or_default(), true),
        };
        if !self.command.is_empty() {
            argv.extend(self.command.iter().cloned());
        } else if inherits_cmd {
            argv.extend(config.cmd.iter().flatten().cloned());
        }
        if argv.is_empty() {
            return Err(Error::Usage(format!(
                "image `{}` has neither CMD nor ENTRYPOINT: say what to run, as in `dunnage run {} COMMAND`",
                self.image, self.image
            )));
        }
        Ok(argv)
    }

    /// The image's variables, then docker's own (HOSTNAME, HOME, TERM) where nobody set them, then `--env`.
    pub(crate) fn environment(&self, image: &[String], hostname: &str, home: &Path) -> Vec<String> {
        let mut env: Vec<String> = image.to_vec();
        let defaults = [
            Some(format!("PATH={}", runtime::DEFAULT_PATH)),
            Some(format!("HOSTNAME={hostname}")),
            Some(format!("HOME={}", home.display())),
            self.tty.then(|| "TERM=xterm".to_owned()),
        ];
        for entry in defaults.into_iter().flatten() {
            if !env.iter().any(|known| name_of(known) == name_of(&entry)) {
                env.push(entry);
            }
        }
        set_variables(&mut env, &self.env);
        env
    }
}

/// Later entries win; a bare name takes the variable away.
pub(crate) fn set_variables(env: &mut Vec<String>, entries: &[String]) {
    for entry in entries {
        env.retain(|known| name_of(known) != name_of(entry));
        if entry.contains('=') {
            env.push(entry.clone());
        }
    }
}

fn name_of(entry: &str) -> &str {
    entry.split_once('=').map_or(entry, |(name, _)| name)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn image(entrypoint: Option<&[&str]>, cmd: Option<&[&str]>) -> Image {
        let own = |argv: &[&str]| argv.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>();
        let mut config = cache::ImageConfig::default();
        config.config.entrypoint = entrypoint.map(own);
        config.config.cmd = cmd.map(own);
        Image::from_config(config).unwrap()
    }

    #[test]
    fn entrypoint_and_command_combine_as_docker_combines_them() {
        let request = |entrypoint: Option<&str>, command: &[&str]| ContainerSpec {
            entrypoint: entrypoint.map(str::to_owned),
            command: command.iter().map(|arg| (*arg).to_owned()).collect(),
            ..ContainerSpec::default()
        };
        let image = image(Some(&["/e", "-x"]), Some(&["c"]));
        assert_eq!(request(None, &[]).argv(&image).unwrap(), ["/e", "-x", "c"]);
        assert_eq!(request(None, &["d"]).argv(&image).unwrap(), ["/e", "-x", "d"]);
        assert_eq!(request(Some("/f"), &[]).argv(&image).unwrap(), ["/f"]);
        assert_eq!(request(Some("/f"), &["d"]).argv(&image).unwrap(), ["/f", "d"]);
        assert!(request(Some(""), &[]).argv(&image).is_err());
    }

    #[test]
    fn environment_keeps_the_image_first_and_the_user_last() {
        let request = ContainerSpec { env: vec!["A=2".to_owned(), "GONE".to_owned()], ..ContainerSpec::default() };
        let image = ["PATH=/p".to_owned(), "A=1".to_owned(), "GONE=x".to_owned()];
        let env = request.environment(&image, "h", Path::new("/root"));
        assert_eq!(env, ["PATH=/p", "HOSTNAME=h", "HOME=/root", "A=2"]);
    }
}
