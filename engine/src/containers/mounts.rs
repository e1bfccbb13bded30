//! What is mounted into a container: binds, volumes with what the image has in their place, tmpfs, devices.

use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use cache::{Follow, Image, Kind, TreeRoot};
use runtime::{BindSource, Mount};

use super::copying::{attributes_of, below_root, copy_content};
use super::spec::{ContainerSpec, DeviceSpec, MountKind, MountSpec};
use crate::Engine;
use crate::error::{Error, Result};

/// Docker's mode of a tmpfs.
const TMPFS_MODE: u32 = 0o1777;

impl Engine {
    /// The mounts of a container on `root`, its own tree.
    pub(super) fn mounts(&self, spec: &ContainerSpec, root: &TreeRoot) -> Result<Vec<Mount>> {
        let mut mounts = Vec::new();
        for mount in &spec.mounts {
            mounts.push(self.mount(mount, root)?);
        }
        for device in &spec.devices {
            device.mounts(&mut mounts)?;
        }
        Ok(mounts)
    }

    fn mount(&self, mount: &MountSpec, root: &TreeRoot) -> Result<Mount> {
        let (target, read_only) = (mount.target.clone(), mount.read_only);
        Ok(match &mount.kind {
            MountKind::Bind { source, make, recursive, propagation, mapped } => {
                if *make && !source.exists() {
                    std::fs::create_dir_all(source).map_err(|error| Error::file("make the volume", source, error))?;
                }
                let (source, recursive, mapped) = (BindSource::from(source.clone()), *recursive, *mapped);
                Mount::Bind { source, target, read_only, recursive, propagation: propagation.kernel(), mapped }
            }
            MountKind::Tmpfs { size, mode, executable } => {
                Mount::Tmpfs { target, size: *size, mode: mode.unwrap_or(TMPFS_MODE), executable: *executable }
            }
            MountKind::Volume { name, no_copy, subpath } => {
                let name = name.as_deref().unwrap_or_default();
                let volume = self.store.create_volume(Some(name), std::collections::BTreeMap::new())?;
                let data = TreeRoot::open(&self.store.volume_data(&volume))?;
                if !no_copy && subpath.is_none() {
                    fill(&data, root, &mount.target)?;
                }
                let path = below_root(subpath.as_deref().unwrap_or(Path::new("")));
                let source = BindSource::from(data.handle(&path)?);
                // Containers with other ids find the same owners in it.
                Mount::Bind { source, target, read_only, recursive: false, propagation: None, mapped: true }
            }
        })
    }

    /// Gives the volumes without a name one, and adds the image's own and those of `--volumes-from`. Tells the names.
    pub(super) fn settle_mounts(
        &self,
        spec: &mut ContainerSpec,
        image: &Image,
        others: &[VolumesFrom],
    ) -> Result<Vec<String>> {
        for other in others {
            let info = self.container(&other.container)?;
            for mut mount in info.spec.mounts {
                if matches!(mount.kind, MountKind::Tmpfs { .. }) || has_target(spec, &mount.target) {
                    continue;
                }
                mount.read_only |= other.read_only;
                spec.mounts.push(mount);
            }
        }
        for target in image.config.config.volumes.keys() {
            let target = Path::new("/").join(below_root(Path::new(target)));
            if !has_target(spec, &target) && target != Path::new("/") {
                let kind = MountKind::Volume { name: None, no_copy: false, subpath: None };
                spec.mounts.push(MountSpec { target, read_only: false, kind });
            }
        }
        let mut names = Vec::new();
        for mount in &mut spec.mounts {
            if let MountKind::Volume { name, .. } = &mut mount.kind {
                let volume = self.store.create_volume(name.as_deref(), std::collections::BTreeMap::new())?;
                *name = Some(volume.name.clone());
                names.push(volume.name);
            }
        }
        names.sort();
        names.dedup();
        Ok(names)
    }

    /// Removes the volumes among `names` that nobody named and no other container has.
    pub(super) fn remove_anonymous_volumes(&self, names: &[String]) -> Result<()> {
        for name in names {
            if self.store.volume(name)?.is_some_and(|volume| volume.anonymous) {
                match self.store.remove_volume(name) {
                    Ok(_) | Err(cache::Error::VolumeInUse { .. }) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }
}

/// `--volumes-from CONTAINER[:ro]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumesFrom {
    /// Name or id.
    pub container: String,
    /// No writing.
    pub read_only: bool,
}

fn has_target(spec: &ContainerSpec, target: &Path) -> bool {
    spec.mounts.iter().any(|mount| mount.target == target)
}

/// An empty volume begins with what the image has at its place, and with that directory's owner and mode.
fn fill(data: &TreeRoot, root: &TreeRoot, target: &Path) -> Result<()> {
    let path = below_root(target);
    let top = Path::new("");
    if !data.read_dir(top)?.is_empty() {
        return Ok(());
    }
    match root.metadata(&path, Follow::Yes)? {
        Some(metadata) if metadata.kind == Kind::Directory => {
            data.set_attributes(Path::new("."), &attributes_of(&metadata))?;
            copy_content(&root.subtree(&path)?, data)
        }
        _ => Ok(()),
    }
}

impl DeviceSpec {
    /// A device is bound by itself, a directory by the devices in it.
    fn mounts(&self, mounts: &mut Vec<Mount>) -> Result<()> {
        let failed = |error| Error::file("use the device", &self.source, error);
        let kind = std::fs::metadata(&self.source).map_err(failed)?.file_type();
        if kind.is_char_device() || kind.is_block_device() {
            mounts.push(Mount::Bind {
                source: self.source.clone().into(),
                target: self.target.clone(),
                read_only: false,
                recursive: false,
                propagation: None,
                mapped: false,
            });
            return Ok(());
        }
        if !kind.is_dir() {
            return Err(Error::Usage(format!(
                "--device {}: it is neither a device nor a directory",
                self.source.display()
            )));
        }
        for entry in std::fs::read_dir(&self.source).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let kind = entry.file_type().map_err(failed)?;
            if kind.is_char_device() || kind.is_block_device() || kind.is_dir() {
                let target = self.target.join(entry.file_name());
                DeviceSpec { source: entry.path(), target }.mounts(mounts)?;
            }
        }
        Ok(())
    }
}
