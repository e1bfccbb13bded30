//! `ContainerSpec`: what was asked of a container, as durable data: the flags of `run` and `create` after parsing.

use std::path::{Path, PathBuf};

use cache::Image;
use serde::{Deserialize, Serialize};

use super::limits::LimitSpec;
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
    /// Directories and files of the host.
    pub volumes: Vec<VolumeSpec>,
    /// `--workdir`.
    pub workdir: Option<String>,
    /// `--user`.
    pub user: Option<String>,
    /// `--hostname`; the first 12 digits of the container's id when absent.
    pub hostname: Option<String>,
    /// `--entrypoint`; an empty text clears the image's.
    pub entrypoint: Option<String>,
    /// `--network`.
    pub network: NetworkChoice,
    /// `--publish`.
    pub ports: Vec<PortSpec>,
    /// `--publish-all`: what the image exposes.
    pub publish_all: bool,
    /// `--add-host`, `--dns`, `--dns-search`, `--dns-option`.
    pub names: NameFiles,
    /// `--interactive`: standard input stays open.
    pub interactive: bool,
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
}

/// `--volume SOURCE:TARGET[:ro]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeSpec {
    /// On the host; a directory that is missing is made, as `docker run -v` does.
    pub source: PathBuf,
    /// In the container, absolute.
    pub target: PathBuf,
    /// No writing.
    pub read_only: bool,
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
