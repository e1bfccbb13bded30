//! The devices of a RUN: what this machine's specifications say of them, as mounts, variables and groups.

use std::ffi::OsString;
use std::fs;
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use grammar::DeviceRequest;
use runtime::{DeviceAccess, DeviceClass, DeviceRule, DeviceSet, Mount};

use super::mounts::Opened;
use crate::cdi::{DeviceMount, DeviceNode, Edits, Format, Spec, resolve};
use crate::error::Result;
use crate::event::Event;
use crate::perform::Work;
use crate::plan::RunOp;

/// Most bytes of a specification.
const SPEC_LIMIT: u64 = 4 << 20;
/// Most specifications of a directory.
const MOST_SPECS: usize = 256;
/// What can be asked of a mount. Binds show no devices and are nobody else's anyway; setuid programs a step has of its own.
const OPTIONS: [&str; 11] =
    ["ro", "rw", "bind", "rbind", "nosuid", "nodev", "private", "rprivate", "slave", "rslave", "defaults"];

/// What the directories have.
#[derive(Default)]
struct Found {
    levels: Vec<Vec<Spec>>,
}

/// What devices of the machine bring to a container.
#[derive(Debug, Default)]
pub struct DeviceChanges {
    /// Their nodes and files.
    pub mounts: Vec<Mount>,
    /// Variables.
    pub env: Vec<(OsString, OsString)>,
    /// Groups that may use them.
    pub groups: Vec<u32>,
    /// What may be done with each node.
    pub rules: Vec<DeviceRule>,
}

/// What this machine's specifications say of devices, by `VENDOR/CLASS=DEVICE`.
///
/// # Errors
/// The reason, when there is no such device, or a container cannot have it.
pub fn machine_devices(directories: &[PathBuf], names: &[String]) -> std::result::Result<DeviceChanges, String> {
    let mut opened = Opened::default();
    let found = Found::read(directories)?;
    for name in names {
        let request = DeviceRequest { name: name.clone(), required: true };
        let edits = resolve(&found.levels, &request).map_err(|reason| format!("{name}: {reason}"))?;
        if edits.is_empty() {
            let places: Vec<String> = directories.iter().map(|path| path.display().to_string()).collect();
            return Err(format!("no specification (CDI) in {} has the device {name}", places.join(", ")));
        }
        for edit in edits {
            apply(edit, &mut opened, &mut Vec::new()).map_err(|reason| format!("{name}: {reason}"))?;
        }
    }
    let Opened { mounts, env, groups, rules, .. } = opened;
    Ok(DeviceChanges { mounts, env, groups, rules })
}

impl Work<'_> {
    /// Adds what the devices bring; gives the places of their mounts, and whether they are directories.
    pub(super) fn open_devices(&self, op: &RunOp, opened: &mut Opened) -> Result<Vec<(PathBuf, bool)>> {
        let mut places = Vec::new();
        if op.devices.is_empty() {
            return Ok(places);
        }
        let found = Found::read(&self.plan.options.run.device_specs)
            .map_err(|reason| self.diagnostic("K0357", format!("cannot read what devices there are: {reason}")))?;
        for request in &op.devices {
            let failed = |reason: String| {
                self.diagnostic("K0357", format!("the device {} cannot be had: {reason}", request.name))
            };
            let edits = resolve(&found.levels, request).map_err(failed)?;
            if edits.is_empty() {
                self.lacks_device(request)?;
            }
            for edit in edits {
                apply(edit, opened, &mut places).map_err(failed)?;
            }
            if opened.rules.iter().any(|rule| !(rule.access.read && rule.access.write)) {
                let reason = "a node of it is for reading or writing alone, which steps cannot tell apart";
                return Err(failed(reason.to_owned()).into());
            }
        }
        Ok(places)
    }

    /// A step can do without a device that is not required.
    fn lacks_device(&self, request: &DeviceRequest) -> Result<()> {
        let directories: Vec<String> =
            self.plan.options.run.device_specs.iter().map(|path| path.display().to_string()).collect();
        let message = format!("no specification in {} has the device {}", directories.join(", "), request.name);
        if request.required {
            return Err(self.diagnostic("K0357", message).into());
        }
        (self.solver.events)(Event::Note(Some(self.step.id), format!("{message}: the step goes on without it")));
        Ok(())
    }
}

impl Found {
    fn read(directories: &[PathBuf]) -> Result<Found, String> {
        let mut found = Found::default();
        for directory in directories {
            let failed = |error: std::io::Error| format!("{}: {error}", directory.display());
            let entries = match fs::read_dir(directory) {
                Ok(entries) => entries,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => return Err(failed(error)),
            };
            let mut paths = Vec::new();
            for entry in entries {
                let path = entry.map_err(failed)?.path();
                if let Some(format) = Format::of(&path) {
                    paths.push((path, format));
                }
            }
            if paths.len() > MOST_SPECS {
                return Err(format!("{} has more than {MOST_SPECS} specifications", directory.display()));
            }
            paths.sort_by(|a, b| a.0.cmp(&b.0));
            found.levels.push(paths.iter().map(|(path, format)| spec(path, *format)).collect::<Result<_, _>>()?);
        }
        Ok(found)
    }
}

fn spec(path: &Path, format: Format) -> Result<Spec, String> {
    let failed = |reason: String| format!("{}: {reason}", path.display());
    let file = fs::File::open(path).map_err(|error| failed(error.to_string()))?;
    if !file.metadata().is_ok_and(|metadata| metadata.is_file()) {
        return Err(failed("it is not a regular file".to_owned()));
    }
    let mut text = Vec::new();
    file.take(SPEC_LIMIT + 1).read_to_end(&mut text).map_err(|error| failed(error.to_string()))?;
    if text.len() as u64 > SPEC_LIMIT {
        return Err(failed(format!("it is larger than {} MiB", SPEC_LIMIT >> 20)));
    }
    Spec::parse(&text, format).map_err(failed)
}

/// Two devices may bring the same; it is there once.
fn apply(edits: &Edits, opened: &mut Opened, places: &mut Vec<(PathBuf, bool)>) -> Result<(), String> {
    for pair in &edits.env {
        let (name, value) =
            pair.split_once('=').ok_or_else(|| format!("{pair:?} of its specification is no NAME=VALUE"))?;
        opened.env.retain(|(known, _)| known != name);
        opened.env.push((name.into(), value.into()));
    }
    opened.groups.extend(&edits.groups);
    let made = edits.device_nodes.iter().map(node).chain(edits.mounts.iter().map(mount));
    for made in made {
        let Made { mount, directory, rule } = made?;
        opened.rules.extend(rule);
        let target = mount.target().clone();
        if !target.is_absolute() || target.parent().is_none() || target.starts_with("/proc") {
            return Err(format!("{} of its specification is no place for a mount", target.display()));
        }
        if opened.mounts.iter().all(|known| *known.target() != target) {
            opened.mounts.push(mount);
            places.push((target, directory));
        }
    }
    Ok(())
}

/// What becomes of a part of a specification.
struct Made {
    mount: Mount,
    /// Whether its place is one.
    directory: bool,
    rule: Option<DeviceRule>,
}

/// The host's own node is shown. One that the specification describes otherwise is not what it means.
fn node(node: &DeviceNode) -> Result<Made, String> {
    let source = node.host_path.as_ref().unwrap_or(&node.path);
    let shown = source.display();
    let there = fs::metadata(source).map_err(|error| format!("its node {shown}: {error}"))?;
    let kind = there.file_type();
    let letters: &[&str] = match (kind.is_char_device(), kind.is_block_device(), kind.is_fifo()) {
        (true, ..) => &["c", "u"],
        (_, true, _) => &["b"],
        (.., true) => &["p"],
        _ => return Err(format!("its node {shown} is no device")),
    };
    let (major, minor) = (rustix::fs::major(there.rdev()), rustix::fs::minor(there.rdev()));
    let same = node.kind.as_deref().is_none_or(|kind| kind.is_empty() || letters.contains(&kind))
        && node.major.is_none_or(|number| number == 0 || number == i64::from(major))
        && node.minor.is_none_or(|number| node.major.unwrap_or(0) == 0 || number == i64::from(minor))
        && node.file_mode.is_none_or(|mode| mode & 0o777 == there.mode() & 0o777)
        && node.uid.is_none_or(|uid| uid == there.uid())
        && node.gid.is_none_or(|gid| gid == there.gid());
    if !same {
        return Err(format!("its node {shown} has another type, number, mode or owner than its specification says"));
    }
    let rights = node.permissions.as_deref().filter(|rights| !rights.is_empty()).unwrap_or("rwm");
    let access = DeviceAccess::parse(rights).map_err(|error| format!("its node {shown}: {error}"))?;
    let class = if kind.is_block_device() { DeviceClass::Block } else { DeviceClass::Character };
    let devices = DeviceSet { kind: Some(class), major: Some(major), minor: Some(minor) };
    // A fifo is a file like others.
    let rule = (!kind.is_fifo()).then_some(DeviceRule { allow: true, devices, access });
    let bind = Mount::Bind {
        source: source.clone().into(),
        target: node.path.clone(),
        read_only: false,
        recursive: false,
        propagation: None,
        mapped: false,
    };
    Ok(Made { mount: bind, directory: false, rule })
}

fn mount(mount: &DeviceMount) -> Result<Made, String> {
    let shown = mount.host_path.display();
    if let Some(kind) = mount.kind.as_deref().filter(|kind| !matches!(*kind, "" | "bind" | "none")) {
        return Err(format!("its mount {shown} is of the type {kind}: bind can be had"));
    }
    if let Some(option) = mount.options.iter().find(|option| !OPTIONS.contains(&option.as_str())) {
        return Err(format!("its mount {shown} has the option {option:?}, which containers do not have"));
    }
    let there = fs::metadata(&mount.host_path).map_err(|error| format!("its mount {shown}: {error}"))?;
    let has = |option: &str| mount.options.iter().any(|known| known == option);
    let bind = Mount::Bind {
        source: mount.host_path.clone().into(),
        target: mount.container_path.clone(),
        read_only: has("ro"),
        recursive: has("rbind"),
        propagation: None,
        mapped: false,
    };
    Ok(Made { mount: bind, directory: there.is_dir(), rule: None })
}
