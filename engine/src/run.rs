//! `dunnage run`: a container from an image, in the foreground.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cache::{Image, Lease, Snapshot, TreeRoot, failpoint};
use runtime::{AttachOptions, Mount, Rootfs, Sandbox, Stdio};

use crate::error::{Error, Result};
use crate::{Engine, NetworkMode};

/// Most of `/etc/passwd` and `/etc/group` that is read from an image.
const USER_FILE_LIMIT: u64 = 1 << 20;

/// What to run and how.
#[derive(Debug, Clone, Default)]
pub struct RunRequest {
    /// Name or id of the image.
    pub image: String,
    /// Replaces the image's CMD when it is not empty.
    pub command: Vec<String>,
    /// `NAME=VALUE`.
    pub env: Vec<String>,
    /// Directories and files of the host.
    pub volumes: Vec<VolumeSpec>,
    /// `--workdir`.
    pub workdir: Option<String>,
    /// `--user`.
    pub user: Option<String>,
    /// `--name`.
    pub name: Option<String>,
    /// `--hostname`; the first 12 digits of the container's id when absent.
    pub hostname: Option<String>,
    /// `--entrypoint`; an empty text clears the image's.
    pub entrypoint: Option<String>,
    /// `--network`; when absent, a network namespace of its own with nothing but loopback.
    pub network: Option<NetworkMode>,
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
}

/// `--volume SOURCE:TARGET[:ro]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeSpec {
    /// On the host; a directory that is missing is made, as `docker run -v` does.
    pub source: PathBuf,
    /// In the container, absolute.
    pub target: PathBuf,
    /// No writing.
    pub read_only: bool,
}

impl Engine {
    /// Runs a container until it ends. Gives its exit status: its code, or 128+n for a signal.
    ///
    /// # Errors
    /// When it could not be started; [`Error::run_exit_code`] tells 125, 126 and 127 apart.
    pub fn run(&self, request: &RunRequest, notes: &dyn Fn(String)) -> Result<i32> {
        let image = self.find_image(&request.image)?;
        let argv = request.argv(&image)?;
        let lease = self.store.lease()?;
        let container = self.store.create_container(&image.id, request.name.as_deref(), request.remove)?;
        let snapshot = self.container_snapshot(&lease, &image, &container)?;
        let result = self.run_in(request, &image, argv, &snapshot, container.id(), notes);
        failpoint("run.answer")?;
        if request.remove {
            drop(snapshot);
            container.remove()?;
        } else {
            snapshot.keep();
        }
        result
    }

    fn container_snapshot(&self, lease: &Lease, image: &Image, container: &cache::ContainerPlace) -> Result<Snapshot> {
        let mut layers = Vec::new();
        for id in &image.layers {
            let layer = self.store.layer(lease, id)?.ok_or_else(|| cache::Error::LayerNotFound(id.clone()))?;
            layers.push(layer);
        }
        runtime::mount_point_layer(&self.store.mount_points_dir())?;
        Ok(self.working_store()?.container_snapshot(lease, &layers, container)?)
    }

    fn run_in(
        &self,
        request: &RunRequest,
        image: &Image,
        argv: Vec<String>,
        snapshot: &Snapshot,
        id: &str,
        notes: &dyn Fn(String),
    ) -> Result<i32> {
        let rootfs = Arc::new(builder::rootfs(snapshot, request.remove)?);
        let root = TreeRoot::from_fd(rootfs.fd())?;
        let sandbox = request.sandbox(image, argv, id, rootfs, &root)?;
        drop(root);
        let signals = runtime::ForwardedSignals::catch()?;
        failpoint("run.start")?;
        let mut container = sandbox.start()?;
        for note in container.notes() {
            notes(note.clone());
        }
        let exit = runtime::attach(&mut container, signals, AttachOptions { interactive: request.interactive })?;
        Ok(exit.status_code())
    }
}

impl RunRequest {
    /// ENTRYPOINT and CMD of the image, replaced by what was asked for.
    fn argv(&self, image: &Image) -> Result<Vec<String>> {
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

    fn sandbox(
        &self,
        image: &Image,
        argv: Vec<String>,
        id: &str,
        rootfs: Arc<Rootfs>,
        root: &TreeRoot,
    ) -> Result<Sandbox> {
        let config = &image.config.config;
        let passwd = root.read_file(Path::new("etc/passwd"), USER_FILE_LIMIT)?.unwrap_or_default();
        let group = root.read_file(Path::new("etc/group"), USER_FILE_LIMIT)?.unwrap_or_default();
        let user = runtime::resolve_user(self.user.as_deref().unwrap_or(&config.user), &passwd, &group)?;
        let hostname = self.hostname.clone().unwrap_or_else(|| id.chars().take(12).collect());
        let cwd = self.workdir.clone().filter(|dir| !dir.is_empty()).unwrap_or_else(|| config.working_dir.clone());
        let cwd = if cwd.is_empty() { "/".to_owned() } else { cwd };
        make_workdir(root, &cwd, &user)?;
        let mut sandbox = Sandbox::new(rootfs, argv);
        sandbox.env = self.environment(&config.env, &hostname, &user.home).iter().map(|entry| pair(entry)).collect();
        sandbox.cwd = cwd.into();
        sandbox.user = user.ids;
        sandbox.hostname = hostname;
        sandbox.network = self.network.unwrap_or(NetworkMode::None);
        sandbox.read_only = self.read_only;
        sandbox.init = self.init;
        sandbox.privileged = self.privileged;
        sandbox.stdio = if self.tty {
            Stdio::Terminal(runtime::terminal_size())
        } else {
            Stdio::Inherit { stdin: self.interactive }
        };
        for volume in &self.volumes {
            sandbox.mounts.push(volume.mount()?);
        }
        Ok(sandbox)
    }

    /// The image's variables, then docker's own (HOSTNAME, HOME, TERM) where nobody set them, then `--env`.
    fn environment(&self, image: &[String], hostname: &str, home: &Path) -> Vec<String> {
        let mut env: Vec<String> = image.to_vec();
        let defaults = [
            Some(format!("PATH={}", DEFAULT_PATH)),
            Some(format!("HOSTNAME={hostname}")),
            Some(format!("HOME={}", home.display())),
            self.tty.then(|| "TERM=xterm".to_owned()),
        ];
        for entry in defaults.into_iter().flatten() {
            if !has_name(&env, name_of(&entry)) {
                env.push(entry);
            }
        }
        for entry in &self.env {
            env.retain(|known| name_of(known) != name_of(entry));
            // `--env NAME` of a name that the caller has not set takes it away.
            if entry.contains('=') {
                env.push(entry.clone());
            }
        }
        env
    }
}

fn pair(entry: &str) -> (OsString, OsString) {
    let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
    (name.into(), value.into())
}

/// PATH of an image that sets none.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

fn name_of(entry: &str) -> &str {
    entry.split_once('=').map_or(entry, |(name, _)| name)
}

fn has_name(env: &[String], name: &str) -> bool {
    env.iter().any(|entry| name_of(entry) == name)
}

/// A working directory that is missing is made, owned by root as docker does.
fn make_workdir(root: &TreeRoot, cwd: &str, _user: &runtime::ResolvedUser) -> Result<()> {
    let path = Path::new(cwd);
    let Ok(relative) = path.strip_prefix("/") else {
        return Err(Error::Usage(format!("the working directory `{cwd}` is invalid: it must be an absolute path")));
    };
    Ok(root.make_dirs(relative, 0o755, cache::Owner { uid: 0, gid: 0 })?)
}

impl VolumeSpec {
    fn mount(&self) -> Result<Mount> {
        if !self.target.is_absolute() {
            return Err(Error::Usage(format!(
                "invalid volume target `{}`: it must be absolute",
                self.target.display()
            )));
        }
        if !self.source.exists() {
            std::fs::create_dir_all(&self.source)
                .map_err(|error| Error::file("make the volume", &self.source, error))?;
        }
        Ok(Mount::Bind {
            source: self.source.clone().into(),
            target: self.target.clone(),
            read_only: self.read_only,
            recursive: true,
        })
    }
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
        let request = |entrypoint: Option<&str>, command: &[&str]| RunRequest {
            entrypoint: entrypoint.map(str::to_owned),
            command: command.iter().map(|arg| (*arg).to_owned()).collect(),
            ..RunRequest::default()
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
        let request = RunRequest { env: vec!["A=2".to_owned(), "GONE".to_owned()], ..RunRequest::default() };
        let image = ["PATH=/p".to_owned(), "A=1".to_owned(), "GONE=x".to_owned()];
        let env = request.environment(&image, "h", Path::new("/root"));
        assert_eq!(env, ["PATH=/p", "HOSTNAME=h", "HOME=/root", "A=2"]);
    }
}
