//! From a `ContainerSpec` to a `Sandbox`: users are looked up in the image, sources opened, defaults filled in.

use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;

use cache::{Image, Snapshot, TreeRoot};
use runtime::{Mount, Sandbox, Stdio};

use super::limits::Group;
use super::network::{Named, Network};
use super::spec::{ContainerSpec, VolumeSpec};
use crate::Engine;
use crate::error::{Error, Result};

/// Most of `/etc/passwd` and `/etc/group` that is read from an image.
const USER_FILE_LIMIT: u64 = 1 << 20;

/// A container that can be started, and what must be given back when it has ended.
#[derive(Debug)]
pub(super) struct Launch {
    pub(super) sandbox: Sandbox,
    pub(super) network: Network,
    pub(super) group: Group,
}

impl Launch {
    pub(super) fn new(
        engine: &Engine,
        spec: &ContainerSpec,
        image: &Image,
        (id, name): (&str, &str),
        snapshot: &Snapshot,
    ) -> Result<Launch> {
        let rootfs = Arc::new(builder::rootfs(snapshot, spec.remove)?);
        let root = TreeRoot::from_fd(rootfs.fd())?;
        let config = &image.config.config;
        let user = resolve_user(&root, spec.user.as_deref().unwrap_or(&config.user))?;
        let hostname = spec.hostname.clone().unwrap_or_else(|| id.chars().take(12).collect());
        let cwd = spec.workdir.clone().filter(|dir| !dir.is_empty()).unwrap_or_else(|| config.working_dir.clone());
        let cwd = if cwd.is_empty() { "/".to_owned() } else { cwd };
        make_workdir(&root, &cwd)?;
        drop(root);
        let network = Network::prepare(engine, spec, image, &Named { id, name, hostname: &hostname })?;
        let group = Group::prepare(&spec.limits, id)?;
        let mut sandbox = Sandbox::new(rootfs, spec.argv(image)?);
        sandbox.pretend = builder::pretended_owners();
        sandbox.env = spec.environment(&config.env, &hostname, &user.home).iter().map(|entry| pair(entry)).collect();
        sandbox.cwd = cwd.into();
        sandbox.user = user.ids;
        sandbox.hostname = hostname;
        sandbox.network = network.mode();
        sandbox.files = network.files();
        sandbox.read_only = spec.read_only;
        sandbox.init = spec.init;
        sandbox.privileged = spec.privileged;
        sandbox.cgroup = group.cgroup();
        sandbox.open_devices = !spec.limits.device_rules.is_empty();
        sandbox.stdio = if spec.tty {
            Stdio::Terminal(runtime::terminal_size())
        } else {
            Stdio::Inherit { stdin: spec.interactive }
        };
        for volume in &spec.volumes {
            sandbox.mounts.push(volume.mount()?);
        }
        Ok(Launch { sandbox, network, group })
    }
}

/// Looks a user up in the files of the tree, and nowhere else.
pub(super) fn resolve_user(root: &TreeRoot, user: &str) -> Result<runtime::ResolvedUser> {
    let passwd = root.read_file(Path::new("etc/passwd"), USER_FILE_LIMIT)?.unwrap_or_default();
    let group = root.read_file(Path::new("etc/group"), USER_FILE_LIMIT)?.unwrap_or_default();
    Ok(runtime::resolve_user(user, &passwd, &group)?)
}

pub(super) fn pair(entry: &str) -> (OsString, OsString) {
    let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
    (name.into(), value.into())
}

/// A working directory that is missing is made, owned by root as docker does.
fn make_workdir(root: &TreeRoot, cwd: &str) -> Result<()> {
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
