//! The mounts and devices of a configuration as the runtime takes them.

use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxDevice, LinuxDeviceType, Mount, Spec};
use runtime::{
    GivenDevice, GivenLayout, GivenMount, GivenSource, MountAttributes, NodeKind, Propagation, PropagationKind,
};

use super::config::invalid;
use crate::error::Result;

/// Options that say what is so anyway, or that only mount(8) knows.
const MEANT_FOR_OTHERS: [&str; 11] =
    ["", "defaults", "async", "nomand", "nolazytime", "noiversion", "loud", "user", "nouser", "auto", "noauto"];

pub(super) fn layout(spec: &Spec, bundle: &Path) -> Result<GivenLayout> {
    let linux = spec.linux().as_ref();
    let mounts = spec.mounts().iter().flatten().map(|mount| one(mount, bundle)).collect::<Result<Vec<_>>>()?;
    let devices = linux.and_then(|linux| linux.devices().as_ref()).into_iter().flatten();
    let propagation = match linux.and_then(|linux| linux.rootfs_propagation().as_deref()) {
        None | Some("") => None,
        Some(name) => Some(
            propagation(name)
                .ok_or_else(|| invalid("linux.rootfsPropagation", format!("`{name}` is no propagation")))?,
        ),
    };
    Ok(GivenLayout { mounts, devices: devices.map(device).collect::<Result<Vec<_>>>()?, propagation })
}

fn one(mount: &Mount, bundle: &Path) -> Result<GivenMount> {
    let target = absolute(mount.destination());
    let refuse = |reason: String| invalid("mounts", format!("{}: {reason}", target.display()));
    if mount.uid_mappings().as_ref().is_some_and(|map| !map.is_empty())
        || mount.gid_mappings().as_ref().is_some_and(|map| !map.is_empty())
    {
        return Err(refuse("mounts with mapped ids are not supported by this version".to_owned()));
    }
    let mut read = Options::default();
    for option in mount.options().iter().flatten() {
        read.add(option);
    }
    let source = mount.source().clone().unwrap_or_default();
    let kind = mount.typ().clone().unwrap_or_default();
    let shown = if read.bind || kind == "bind" || kind == "rbind" {
        if let Some((name, _)) = read.rest.first() {
            return Err(refuse(format!("the option `{name}` is not known for a bind mount")));
        }
        if source.as_os_str().is_empty() {
            return Err(refuse("a bind mount needs a source".to_owned()));
        }
        GivenSource::Bind { source: bundle.join(source), recursive: read.recursive || kind == "rbind" }
    } else if kind == "cgroup" || kind == "cgroup2" {
        GivenSource::Cgroup
    } else if kind.is_empty() {
        return Err(refuse("needs a type, or the option bind".to_owned()));
    } else {
        let source = match source.to_str() {
            Some("") | None => kind.clone(),
            Some(source) => source.to_owned(),
        };
        GivenSource::Filesystem { kind, source, options: read.rest }
    };
    if read.remount {
        return Err(refuse("remounts are not supported: give the options to the mount itself".to_owned()));
    }
    Ok(GivenMount {
        target,
        source: shown,
        attributes: read.attributes,
        recursive: read.below,
        propagation: read.propagation,
        copy_up: read.copy_up,
    })
}

#[derive(Debug, Default)]
struct Options {
    bind: bool,
    recursive: bool,
    remount: bool,
    copy_up: bool,
    attributes: MountAttributes,
    below: MountAttributes,
    propagation: Option<Propagation>,
    /// What only the file system itself can know.
    rest: Vec<(String, Option<String>)>,
}

impl Options {
    fn add(&mut self, option: &str) {
        let below = || option.strip_prefix('r').and_then(MountAttributes::option);
        match option {
            "bind" => self.bind = true,
            "rbind" => (self.bind, self.recursive) = (true, true),
            "remount" => self.remount = true,
            "tmpcopyup" => self.copy_up = true,
            _ if MEANT_FOR_OTHERS.contains(&option) => {}
            _ => {
                if let Some(attribute) = MountAttributes::option(option) {
                    self.attributes = self.attributes.and(attribute);
                } else if let Some(propagation) = propagation(option) {
                    self.propagation = Some(propagation);
                } else if let Some(attribute) = below() {
                    self.below = self.below.and(attribute);
                } else {
                    let (name, value) =
                        option.split_once('=').map_or((option, None), |(name, value)| (name, Some(value)));
                    self.rest.push((name.to_owned(), value.map(str::to_owned)));
                }
            }
        }
    }
}

fn propagation(name: &str) -> Option<Propagation> {
    let (kind, recursive) = match name {
        "private" => (PropagationKind::Private, false),
        "rprivate" => (PropagationKind::Private, true),
        "slave" => (PropagationKind::Slave, false),
        "rslave" => (PropagationKind::Slave, true),
        "shared" => (PropagationKind::Shared, false),
        "rshared" => (PropagationKind::Shared, true),
        "unbindable" => (PropagationKind::Unbindable, false),
        "runbindable" => (PropagationKind::Unbindable, true),
        _ => return None,
    };
    Some(Propagation { kind, recursive })
}

fn device(device: &LinuxDevice) -> Result<GivenDevice> {
    let path = device.path().clone();
    let refuse = |reason: &str| invalid("linux.devices", format!("{}: {reason}", path.display()));
    let kind = match device.typ() {
        LinuxDeviceType::C | LinuxDeviceType::U => NodeKind::Character,
        LinuxDeviceType::B => NodeKind::Block,
        LinuxDeviceType::P => NodeKind::Fifo,
        LinuxDeviceType::A => return Err(refuse("is of no single type")),
    };
    let number = |number: i64| u32::try_from(number).map_err(|_| refuse("has no valid number"));
    let number = match kind {
        NodeKind::Fifo => (0, 0),
        NodeKind::Character | NodeKind::Block => (number(device.major())?, number(device.minor())?),
    };
    Ok(GivenDevice {
        path: absolute(&path),
        kind,
        number,
        mode: device.file_mode().unwrap_or(0o666) & 0o7777,
        uid: device.uid().unwrap_or(0),
        gid: device.gid().unwrap_or(0),
    })
}

/// Old configurations have paths that begin at the root without saying so.
pub(super) fn absolute(path: &Path) -> PathBuf {
    Path::new("/").join(path)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn mount(text: serde_json::Value) -> Result<GivenMount> {
        one(&serde_json::from_value(text).unwrap(), Path::new("/bundle"))
    }

    #[test]
    fn options_are_sorted_by_who_takes_them() {
        let tmpfs = mount(serde_json::json!({
            "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755", "size=65536k"],
        }));
        let GivenSource::Filesystem { kind, options, .. } = tmpfs.unwrap().source else { unreachable!() };
        assert_eq!(kind, "tmpfs");
        assert_eq!(
            options,
            [("mode".to_owned(), Some("755".to_owned())), ("size".to_owned(), Some("65536k".to_owned()))]
        );
        let bind = mount(serde_json::json!({
            "destination": "data", "source": "here", "options": ["rbind", "rro", "ro", "rslave"],
        }))
        .unwrap();
        assert_eq!(bind.target, Path::new("/data"));
        assert_eq!(bind.source, GivenSource::Bind { source: "/bundle/here".into(), recursive: true });
        assert_eq!(bind.propagation.unwrap().kind, PropagationKind::Slave);
        assert!(bind.attributes != MountAttributes::default() && bind.recursive != MountAttributes::default());
    }

    #[test]
    fn what_would_be_ignored_is_refused() {
        for options in [&["bind", "nosuch"][..], &["bind", "remount"]] {
            let text = serde_json::json!({"destination": "/a", "source": "/b", "options": options});
            assert!(mount(text).is_err(), "{options:?}");
        }
        assert!(mount(serde_json::json!({"destination": "/a", "options": ["bind"]})).is_err());
        assert!(mount(serde_json::json!({"destination": "/a", "source": "x"})).is_err());
    }
}
