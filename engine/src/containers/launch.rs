//! From a `ContainerSpec` to a `Sandbox`: users are looked up in the image, sources opened, defaults filled in.

use std::ffi::OsString;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use cache::{Image, Snapshot, TreeRoot};
use runtime::{
    CapabilitySet, Extent, Namespace, NamespaceKind, NetworkMode, ResolvedUser, Resource, Rlimit, Running, Sandbox,
    Seccomp, Stdio,
};

use super::limits::Group;
use super::network::{Begun, Named, Network};
use super::seccomp;
use super::spec::{ContainerSpec, NamespaceChoice, Ulimit};
use super::users::Users;
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
    pub(super) users: Option<Users>,
    /// Kept until the state says that it runs.
    pub(super) turns: Vec<File>,
}

/// How a container is started.
pub(super) struct Start {
    pub(super) stdio: Stdio,
    /// How much of a control group it gets.
    pub(super) extent: Extent,
    /// See [`Network::begin`].
    pub(super) begun: Begun,
}

impl Launch {
    pub(super) fn new(
        engine: &Engine,
        spec: &ContainerSpec,
        image: &Image,
        (id, name): (&str, &str),
        snapshot: &Snapshot,
        start: Start,
    ) -> Result<Launch> {
        let Start { stdio, extent, begun } = start;
        let users = engine.users(spec, id)?;
        // What is found and made in the tree on the way is by the image's own ids, whatever the container's are.
        let mut rootfs = Arc::new(builder::rootfs(snapshot, spec.remove && users.is_none())?);
        let root = TreeRoot::from_fd(rootfs.fd())?;
        let config = &image.config.config;
        let mut user = resolve_user(&root, spec.user.as_deref().unwrap_or(&config.user))?;
        user.ids.groups.extend(resolve_groups(&root, &spec.groups)?);
        let hostname = engine.host_name(spec, id);
        let cwd = spec.workdir.clone().filter(|dir| !dir.is_empty()).unwrap_or_else(|| config.working_dir.clone());
        let cwd = if cwd.is_empty() { "/".to_owned() } else { cwd };
        make_workdir(&root, &cwd)?;
        let turns = engine.take_turns(spec)?;
        let mounts = engine.mounts(spec, &root, users.as_ref().map(|users| &*users.namespace))?;
        drop(root);
        if let Some(users) = &users {
            drop(rootfs);
            rootfs = Arc::new(users.rootfs(snapshot, spec.remove)?);
        }
        let owner = users.as_ref().map(|users| &*users.namespace);
        let ahead = begun.network.filter(|_| owner.is_none());
        let named = Named { id, name, hostname: &hostname, users: owner, ahead };
        let network = Network::prepare(engine, spec, image, named)?;
        let group = Group::prepare(&spec.limits, spec.device_rules()?, id, extent)?;
        let mut sandbox = Sandbox::new(rootfs, spec.argv(image)?);
        sandbox.pretend = builder::pretended_owners();
        sandbox.users = users.as_ref().map(|users| Arc::clone(&users.namespace));
        sandbox.env = spec.environment(&config.env, &hostname, &user.home).iter().map(|entry| pair(entry)).collect();
        sandbox.cwd = cwd.into();
        sandbox.user = user.ids;
        sandbox.hostname = hostname;
        sandbox.domainname.clone_from(&spec.domainname);
        sandbox.network = network.mode();
        sandbox.files = network.files();
        sandbox.mounts = mounts;
        let brought = spec.brought_by_devices()?;
        sandbox.mounts.extend(brought.mounts);
        sandbox.user.groups.extend(brought.groups);
        for (name, value) in brought.env {
            if !sandbox.env.iter().any(|(known, _)| *known == name) {
                sandbox.env.push((name, value));
            }
        }
        sandbox.read_only = spec.read_only;
        sandbox.init = spec.init;
        sandbox.cgroup = group.cgroup();
        sandbox.open_devices = !spec.limits.device_rules.is_empty();
        sandbox.stdio = stdio;
        sandbox.spares = Some(begun.spares);
        spec.walls(&mut sandbox)?;
        engine.share_namespaces(spec, &mut sandbox)?;
        // Without root, and in a user namespace, they are set where the namespace allows them, when it is made.
        let joins = matches!(sandbox.network, NetworkMode::Join(_)) && !network.is_furnished();
        if joins && !runtime::in_user_namespace() && users.is_none() {
            sandbox.sysctls.splice(0..0, own_network_settings(&spec.sysctls));
        }
        Ok(Launch { sandbox, network, group, users, turns })
    }
}

/// As docker: programs need no privilege for low ports and pings in a network of their own.
fn own_network_settings(asked: &std::collections::BTreeMap<String, String>) -> Vec<(String, String)> {
    let defaults = [("net.ipv4.ip_unprivileged_port_start", "0"), ("net.ipv4.ping_group_range", "0 2147483647")];
    let missing = defaults.into_iter().filter(|(name, _)| !asked.contains_key(*name));
    missing.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

impl ContainerSpec {
    /// What the flags say about privileges, limits and settings. Only processes have these: `exec` takes the same.
    pub(super) fn walls(&self, sandbox: &mut Sandbox) -> Result<()> {
        sandbox.privileged = self.privileged;
        sandbox.capabilities = self.capability_set()?;
        if self.security.unconfined_seccomp {
            sandbox.seccomp = Seccomp::Unconfined;
        }
        if let Some(text) = &self.security.seccomp {
            sandbox.seccomp = Seccomp::Profile(Arc::new(seccomp::profile(text, self.granted()?)?));
        }
        sandbox.apparmor.clone_from(&self.security.apparmor);
        sandbox.selinux.clone_from(&self.security.selinux);
        sandbox.no_new_privileges = self.security.no_new_privileges;
        if self.security.unconfined_paths {
            sandbox.masked.clear();
            sandbox.read_only_paths.clear();
        }
        // As docker: 0 is the usual one.
        if let Some(size) = self.shm_size.filter(|size| *size > 0) {
            sandbox.shm_size = size;
        }
        sandbox.rlimits = self.ulimits.iter().map(Ulimit::rlimit).collect::<Result<_>>()?;
        sandbox.sysctls = self.sysctls.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        sandbox.oom_score_adj = self.oom_score_adj;
        Ok(())
    }

    fn granted(&self) -> Result<CapabilitySet> {
        if self.privileged { Ok(CapabilitySet::from_bits(u64::MAX)) } else { self.capability_set() }
    }

    /// What contradicts itself, or cannot be read.
    pub(super) fn check_walls(&self) -> Result<()> {
        let usage = |sentence: &str| Err(Error::Usage(sentence.to_owned()));
        self.capability_set()?;
        if let Some(text) = &self.security.seccomp {
            seccomp::profile(text, self.granted()?)?;
        }
        self.brought_by_devices()?;
        self.device_rules()?;
        self.log.check()?;
        for limit in &self.ulimits {
            limit.rlimit()?;
        }
        if self.remove && self.restart != super::spec::RestartPolicy::No {
            return usage("--rm and --restart contradict each other: a container that goes is not started again");
        }
        self.check_shared_network()?;
        if self.uts != NamespaceChoice::Private && (self.hostname.is_some() || self.domainname.is_some()) {
            return usage("--hostname and --domainname need a host name of the container's own: leave --uts out");
        }
        Ok(())
    }

    /// What the devices that have names bring.
    pub(super) fn brought_by_devices(&self) -> Result<builder::DeviceChanges> {
        if self.named_devices.is_empty() {
            return Ok(builder::DeviceChanges::default());
        }
        let brought = builder::machine_devices(&self.device_specs, &self.named_devices);
        brought.map_err(|reason| Error::Usage(format!("a device cannot be had: {reason}")))
    }

    /// The granted capabilities.
    ///
    /// # Errors
    /// When a name is none.
    pub(crate) fn capability_set(&self) -> Result<CapabilitySet> {
        Ok(CapabilitySet::DOCKER.adjusted(&self.capabilities.drop, &self.capabilities.add)?)
    }
}

impl Ulimit {
    pub(crate) fn rlimit(&self) -> Result<Rlimit> {
        let resource = Resource::parse(&self.name)
            .ok_or_else(|| Error::Usage(format!("--ulimit {}: no such limit; nofile and nproc are some", self.name)))?;
        Ok(Rlimit { resource, soft: self.soft, hard: self.hard })
    }
}

impl Engine {
    /// Namespaces of the machine and of other containers.
    fn share_namespaces(&self, spec: &ContainerSpec, sandbox: &mut Sandbox) -> Result<()> {
        let own = &mut sandbox.namespaces;
        for (choice, kind, place) in [
            (&spec.pid, NamespaceKind::Pid, &mut own.pid),
            (&spec.ipc, NamespaceKind::Ipc, &mut own.ipc),
            (&spec.uts, NamespaceKind::Uts, &mut own.uts),
            (&spec.cgroupns, NamespaceKind::Cgroup, &mut own.cgroup),
        ] {
            *place = match choice {
                NamespaceChoice::Private => Namespace::New,
                NamespaceChoice::None => {
                    sandbox.shm_size = 0;
                    Namespace::New
                }
                NamespaceChoice::Host => Namespace::Host,
                NamespaceChoice::Container(name) => {
                    let info = self.container(name)?;
                    let other = info.running()?;
                    if kind == NamespaceKind::Ipc {
                        if info.spec.ipc == NamespaceChoice::None {
                            return Err(Error::Usage(format!(
                                "container {name} was made with --ipc none: it has nothing that could be shared"
                            )));
                        }
                        sandbox.shared_memory = Some(other.shared_memory()?);
                    }
                    Namespace::Join(other.namespace(kind)?)
                }
            };
        }
        Ok(())
    }

    /// The running process of a container.
    pub(super) fn running(&self, name: &str) -> Result<Running> {
        self.container(name)?.running()
    }
}

/// Looks a user up in the files of the tree, and nowhere else.
pub(super) fn resolve_user(root: &TreeRoot, user: &str) -> Result<ResolvedUser> {
    let (passwd, group) = user_files(root)?;
    Ok(runtime::resolve_user(user, &passwd, &group)?)
}

fn user_files(root: &TreeRoot) -> Result<(Vec<u8>, Vec<u8>)> {
    let passwd = root.read_file(Path::new("etc/passwd"), USER_FILE_LIMIT)?.unwrap_or_default();
    let group = root.read_file(Path::new("etc/group"), USER_FILE_LIMIT)?.unwrap_or_default();
    Ok((passwd, group))
}

/// `--group-add`: names are those of the tree.
fn resolve_groups(root: &TreeRoot, groups: &[String]) -> Result<Vec<u32>> {
    if groups.is_empty() {
        return Ok(Vec::new());
    }
    let (_, file) = user_files(root)?;
    let resolve = |group: &String| Ok(runtime::resolve_user(&format!("0:{group}"), b"", &file)?.ids.gid);
    groups.iter().map(resolve).collect()
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
