//! Devices of the machine in a container: what is bound where, and which rules keep it to what was asked for.

use std::fs::{FileType, Metadata};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::PathBuf;

use runtime::{DeviceAccess, DeviceClass, DeviceRule, DeviceSet, Mount};
use serde::{Deserialize, Serialize};

use super::spec::{ContainerSpec, MountKind};
use crate::error::{Error, Result};

/// `--device HOST[:CONTAINER[:RIGHTS]]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceSpec {
    /// A device of the machine, or a directory of devices.
    pub source: PathBuf,
    /// Where it is in the container.
    pub target: PathBuf,
    /// What may be done with it.
    #[serde(default)]
    pub rights: DeviceRights,
}

/// What a container may do with a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct DeviceRights {
    pub read: bool,
    pub write: bool,
    pub mknod: bool,
}

impl Default for DeviceRights {
    fn default() -> Self {
        DeviceRights { read: true, write: true, mknod: true }
    }
}

impl DeviceRights {
    /// Reads `rwm`, or a part of it.
    #[must_use]
    pub fn parse(text: &str) -> Option<DeviceRights> {
        let valid = !text.is_empty() && text.bytes().all(|byte| b"rwm".contains(&byte));
        let has = |letter| text.contains(letter);
        valid.then(|| DeviceRights { read: has('r'), write: has('w'), mknod: has('m') })
    }

    /// The letters.
    #[must_use]
    pub fn word(self) -> String {
        self.kernel().to_string()
    }

    fn kernel(self) -> DeviceAccess {
        DeviceAccess { read: self.read, write: self.write, mknod: self.mknod }
    }

    /// All containers may make nodes of anything, and open few of them.
    fn is_part(self) -> bool {
        !(self.read && self.write)
    }
}

impl DeviceSpec {
    /// What is bound into the container.
    pub(super) fn mounts(&self, mounts: &mut Vec<Mount>) -> Result<()> {
        self.each(&mut |source, target, _| {
            mounts.push(Mount::Bind {
                source: source.into(),
                target,
                read_only: false,
                recursive: false,
                propagation: None,
                mapped: false,
            });
        })
    }

    /// A device is itself, a directory the devices in it.
    fn each(&self, show: &mut dyn FnMut(PathBuf, PathBuf, &Metadata)) -> Result<()> {
        let failed = |error| Error::file("use the device", &self.source, error);
        let metadata = std::fs::metadata(&self.source).map_err(failed)?;
        if is_device(metadata.file_type()) {
            show(self.source.clone(), self.target.clone(), &metadata);
            return Ok(());
        }
        if !metadata.is_dir() {
            return Err(Error::Usage(format!(
                "--device {}: it is neither a device nor a directory",
                self.source.display()
            )));
        }
        for entry in std::fs::read_dir(&self.source).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let kind = entry.file_type().map_err(failed)?;
            if is_device(kind) || kind.is_dir() {
                let target = self.target.join(entry.file_name());
                DeviceSpec { source: entry.path(), target, ..*self }.each(show)?;
            }
        }
        Ok(())
    }
}

fn is_device(kind: FileType) -> bool {
    kind.is_char_device() || kind.is_block_device()
}

/// The rule that allows what a device may be used for.
fn rule(metadata: &Metadata, rights: DeviceRights) -> DeviceRule {
    let kind = if metadata.file_type().is_block_device() { DeviceClass::Block } else { DeviceClass::Character };
    let number = metadata.rdev();
    let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
    let devices = DeviceSet { kind: Some(kind), major: Some(major), minor: Some(minor) };
    DeviceRule { allow: true, devices, access: rights.kernel() }
}

impl ContainerSpec {
    /// Rules for its devices; none where those that it is shown, without restriction, are all that it can open.
    pub(super) fn device_rules(&self) -> Result<Vec<DeviceRule>> {
        let brought = self.brought_by_devices()?.rules;
        let asked = self.devices.iter().filter(|device| device.rights.is_part());
        let asked = asked.map(|device| (device.source.display().to_string(), device.rights.word()));
        let named = brought.iter().filter(|rule| !(rule.access.read && rule.access.write));
        let part = asked.chain(named.map(|rule| (self.named_devices.join(", "), rule.access.to_string()))).next();
        if let Some((device, rights)) = part.as_ref().filter(|_| runtime::in_user_namespace()) {
            return Err(Error::Usage(format!(
                "--device {device}: without root nothing keeps a container from reading and writing a device that it is \
                 shown, where `{rights}` was asked for: run it as root"
            )));
        }
        if self.privileged || (part.is_none() && self.limits.device_rules.is_empty() && !self.opens_nodes()) {
            return Ok(Vec::new());
        }
        let mut rules = DeviceRule::usual();
        for device in &self.devices {
            device.each(&mut |_, _, metadata| rules.push(rule(metadata, device.rights)))?;
        }
        rules.extend(brought);
        for text in &self.limits.device_rules {
            rules.push(DeviceRule::parse(text)?);
        }
        Ok(rules)
    }

    /// On a tmpfs of `dev` nodes could be opened that the container made. In a user namespace nobody can make any.
    fn opens_nodes(&self) -> bool {
        let opens = |kind: &MountKind| match kind {
            MountKind::Tmpfs { attributes, .. } => attributes.iter().any(|word| word == "dev"),
            _ => false,
        };
        !runtime::in_user_namespace() && self.mounts.iter().any(|mount| opens(&mount.kind))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn spec(rights: &str) -> ContainerSpec {
        let device = DeviceSpec {
            source: "/dev/null".into(),
            target: "/dev/n".into(),
            rights: DeviceRights::parse(rights).unwrap(),
        };
        ContainerSpec { devices: vec![device], ..ContainerSpec::default() }
    }

    #[test]
    fn rights_are_letters() {
        assert_eq!(DeviceRights::parse("mr").unwrap().word(), "rm");
        assert!(DeviceRights::parse("").is_none() && DeviceRights::parse("rx").is_none());
    }

    #[test]
    fn rules_are_made_where_something_is_to_be_kept_from_a_container() {
        assert!(spec("rw").device_rules().unwrap().is_empty());
        if runtime::in_user_namespace() {
            assert!(spec("r").device_rules().is_err());
            return;
        }
        let last = |spec: &ContainerSpec| spec.device_rules().unwrap().pop().unwrap();
        assert_eq!(last(&spec("rm")), DeviceRule::parse("c 1:3 rm").unwrap());
        let mut both = spec("rwm");
        both.limits.device_rules.push("c 10:229 rw".to_owned());
        let rules = both.device_rules().unwrap();
        assert!(rules.contains(&DeviceRule::parse("c 1:3 rwm").unwrap()));
        assert_eq!(last(&both), DeviceRule::parse("c 10:229 rw").unwrap());
        both.privileged = true;
        assert!(both.device_rules().unwrap().is_empty());
    }
}
