//! config.json: read with bounds, checked, and turned into a sandbox.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use oci_spec::runtime::{Hook, LinuxIdMapping, LinuxNamespaceType, Spec};
use runtime::{HookCall, IdRange, IdRanges, Namespace, NetworkMode, Resources, Rootfs, Sandbox, Seccomp};

use super::{mounts, process, resources, seccomp};
use crate::error::{Error, Result};

/// More than any configuration has.
const CONFIG_LIMIT: u64 = 16 << 20;
/// Versions of the specification that are understood.
const VERSION: &str = "1.";

/// A mistake in a configuration, with the place in it.
pub(super) fn invalid(field: &str, reason: impl std::fmt::Display) -> Error {
    Error::OciConfig { field: field.to_owned(), reason: reason.to_string() }
}

/// Reads a whole file, if it is no larger than configurations are.
pub(super) fn read(path: &Path) -> Result<Vec<u8>> {
    let failed = |source| Error::file("read", path, source);
    let mut bytes = Vec::new();
    File::open(path).map_err(failed)?.take(CONFIG_LIMIT + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > CONFIG_LIMIT {
        return Err(invalid(&path.display().to_string(), "is larger than 16 MiB"));
    }
    Ok(bytes)
}

pub(super) fn parse(bytes: &[u8]) -> Result<Spec> {
    let spec: Spec = serde_json::from_slice(bytes).map_err(|error| invalid("config.json", error))?;
    if !spec.version().starts_with(VERSION) {
        return Err(invalid("ociVersion", format!("`{}` is not supported: versions 1.x are", spec.version())));
    }
    if spec.linux().is_none() {
        return Err(invalid("linux", "is missing: this runtime makes Linux containers"));
    }
    Ok(spec)
}

/// The root file system's path on the host.
pub(super) fn rootfs_path(spec: &Spec, bundle: &Path) -> Result<PathBuf> {
    let root = spec.root().as_ref().ok_or_else(|| invalid("root", "is missing"))?;
    let path = bundle.join(root.path());
    path.canonicalize().map_err(|error| invalid("root.path", format!("{}: {error}", path.display())))
}

/// What `linux.resources` asks for.
pub(super) fn limits(spec: &Spec) -> Result<Resources> {
    let asked = spec.linux().as_ref().and_then(|linux| linux.resources().as_ref());
    asked.map(resources::resources).transpose().map(Option::unwrap_or_default)
}

/// Where the container's control group is.
pub(super) fn cgroup_path(spec: &Spec, id: &str) -> Result<PathBuf> {
    let path = spec.linux().as_ref().and_then(|linux| linux.cgroups_path().clone());
    match path.filter(|path| !path.as_os_str().is_empty()) {
        Some(path) if path.to_string_lossy().matches(':').count() == 2 => Err(invalid(
            "linux.cgroupsPath",
            format!("`{}` is a unit of systemd; use the cgroupfs driver of the caller", path.display()),
        )),
        Some(path) => Ok(path),
        None => Ok(Path::new(runtime::CGROUP_PARENT).join(id)),
    }
}

/// The sandbox of a container, all but its control group, its terminal and its gate.
pub(super) fn sandbox(spec: &Spec, bundle: &Path) -> Result<Sandbox> {
    refuse_unsupported(spec)?;
    let asked = spec.process().as_ref().ok_or_else(|| invalid("process", "is missing: there is nothing to run"))?;
    let rootfs = Rootfs::with_mounts(rootfs_path(spec, bundle)?)?;
    let mut sandbox = Sandbox::new(Arc::new(rootfs), process::argv(asked)?);
    process::apply(&mut sandbox, asked)?;
    sandbox.layout = Some(Arc::new(mounts::layout(spec, bundle)?));
    sandbox.hostname = spec.hostname().clone().unwrap_or_default();
    sandbox.domainname = spec.domainname().clone().filter(|name| !name.is_empty());
    sandbox.read_only = spec.root().as_ref().and_then(|root| root.readonly()).unwrap_or(false);
    set_linux(&mut sandbox, spec)?;
    let hooks = spec.hooks().as_ref();
    sandbox.hooks.create = calls(hooks.and_then(|hooks| hooks.create_container().as_ref()));
    sandbox.hooks.start = calls(hooks.and_then(|hooks| hooks.start_container().as_ref()));
    Ok(sandbox)
}

fn set_linux(sandbox: &mut Sandbox, spec: &Spec) -> Result<()> {
    let Some(linux) = spec.linux() else { return Ok(()) };
    set_namespaces(sandbox, spec)?;
    let paths = |list: &Option<Vec<String>>| list.iter().flatten().map(PathBuf::from).collect();
    sandbox.masked = paths(linux.masked_paths());
    sandbox.read_only_paths = paths(linux.readonly_paths());
    sandbox.seccomp = match linux.seccomp() {
        Some(asked) => Seccomp::Profile(Arc::new(seccomp::profile(asked)?)),
        None => Seccomp::Unconfined,
    };
    sandbox.sysctls = linux.sysctl().iter().flatten().map(|(name, value)| (name.clone(), value.clone())).collect();
    sandbox.sysctls.sort();
    Ok(())
}

/// A namespace that is not listed is the caller's.
fn set_namespaces(sandbox: &mut Sandbox, spec: &Spec) -> Result<()> {
    sandbox.network = NetworkMode::Host;
    let all = &mut sandbox.namespaces;
    (all.pid, all.ipc, all.uts, all.cgroup) = (Namespace::Host, Namespace::Host, Namespace::Host, Namespace::Host);
    let (mut own_mounts, mut own_users) = (false, false);
    for listed in spec.linux().iter().filter_map(|linux| linux.namespaces().as_ref()).flatten() {
        let joined = match listed.path().as_ref().filter(|path| !path.as_os_str().is_empty()) {
            Some(path) => Some(open(path)?),
            None => None,
        };
        let namespace = joined.clone().map_or(Namespace::New, Namespace::Join);
        match listed.typ() {
            LinuxNamespaceType::Pid => all.pid = namespace,
            LinuxNamespaceType::Ipc => all.ipc = namespace,
            LinuxNamespaceType::Uts => all.uts = namespace,
            LinuxNamespaceType::Cgroup => all.cgroup = namespace,
            LinuxNamespaceType::Network => sandbox.network = joined.map_or(NetworkMode::None, NetworkMode::Join),
            LinuxNamespaceType::Mount if joined.is_none() => own_mounts = true,
            LinuxNamespaceType::Mount => {
                return Err(invalid(
                    "linux.namespaces",
                    "a mount namespace by path is not supported: a container has its own",
                ));
            }
            LinuxNamespaceType::User if joined.is_none() => own_users = true,
            LinuxNamespaceType::User => {
                return Err(invalid("linux.namespaces", "a user namespace by path is not supported by this version"));
            }
            LinuxNamespaceType::Time => {
                return Err(invalid("linux.namespaces", "time namespaces are not supported by this version"));
            }
        }
    }
    sandbox.ids = ids(spec, own_users)?;
    if !own_mounts {
        return Err(invalid("linux.namespaces", "the mount namespace is missing: a container has its own"));
    }
    if !matches!(sandbox.namespaces.uts, Namespace::New) && !sandbox.hostname.is_empty() {
        return Err(invalid("hostname", "needs a uts namespace of the container's own"));
    }
    Ok(())
}

/// The ids of a user namespace. Without the namespace there is nobody to have them.
fn ids(spec: &Spec, own: bool) -> Result<Option<IdRanges>> {
    let ranges = |list: Option<&Vec<LinuxIdMapping>>| -> Vec<IdRange> {
        let range =
            |one: &LinuxIdMapping| IdRange { inside: one.container_id(), outside: one.host_id(), count: one.size() };
        list.into_iter().flatten().map(range).collect()
    };
    let linux = spec.linux().as_ref();
    let ids = IdRanges {
        users: ranges(linux.and_then(|linux| linux.uid_mappings().as_ref())),
        groups: ranges(linux.and_then(|linux| linux.gid_mappings().as_ref())),
    };
    match (own, ids.users.is_empty() && ids.groups.is_empty()) {
        (false, true) => Ok(None),
        (false, false) => Err(invalid("linux.uidMappings", "needs a user namespace")),
        (true, _) if ids.user(0).is_none() || ids.group(0).is_none() => {
            Err(invalid("linux.uidMappings", "must map user 0 and group 0, which set the container up"))
        }
        (true, _) => Ok(Some(ids)),
    }
}

fn open(path: &Path) -> Result<Arc<OwnedFd>> {
    let file = File::open(path).map_err(|error| invalid("linux.namespaces", format!("{}: {error}", path.display())))?;
    Ok(Arc::new(file.into()))
}

/// What would be ignored is refused.
fn refuse_unsupported(spec: &Spec) -> Result<()> {
    let Some(linux) = spec.linux() else { return Ok(()) };
    let asked = [
        (linux.intel_rdt().is_some(), "linux.intelRdt"),
        (linux.memory_policy().is_some(), "linux.memoryPolicy"),
        (linux.personality().is_some(), "linux.personality"),
        (linux.time_offsets().as_ref().is_some_and(|offsets| !offsets.is_empty()), "linux.timeOffsets"),
        (linux.net_devices().as_ref().is_some_and(|devices| !devices.is_empty()), "linux.netDevices"),
        (linux.mount_label().as_ref().is_some_and(|label| !label.is_empty()), "linux.mountLabel"),
    ];
    match asked.into_iter().find(|(asked, _)| *asked) {
        Some((_, field)) => Err(invalid(field, "is not supported by this version; leave it out")),
        None => Ok(()),
    }
}

/// Hooks as programs to call.
pub(super) fn calls(hooks: Option<&Vec<Hook>>) -> Vec<HookCall> {
    let call = |hook: &Hook| HookCall {
        path: hook.path().clone(),
        argv: hook.args().clone().unwrap_or_default(),
        env: hook.env().clone().unwrap_or_default(),
        seconds: hook.timeout().and_then(|seconds| u64::try_from(seconds).ok()).filter(|seconds| *seconds > 0),
    };
    hooks.into_iter().flatten().map(call).collect()
}
