//! What is mounted into a container: binds, volumes with what the image has in their place, tmpfs.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use cache::{Image, TreeRoot};
use runtime::{BindSource, Mount, MountAttributes, NewFilesystem, UserNamespace};

use super::copying::below_root;
use super::spec::{ContainerSpec, MountKind, MountSpec, VolumeDraft};
use super::volumes::fill;
use crate::Engine;
use crate::error::{Error, Result};
use crate::volume_options::VolumeMount;

/// Docker's mode of a tmpfs.
const TMPFS_MODE: u32 = 0o1777;

impl Engine {
    /// The mounts of a container on `root`, its own tree, with owners as its users have them.
    pub(super) fn mounts(
        &self,
        spec: &ContainerSpec,
        root: &TreeRoot,
        users: Option<&UserNamespace>,
    ) -> Result<Vec<Mount>> {
        let mut mounts = Vec::new();
        for mount in &spec.mounts {
            mounts.push(self.mount(mount, root, users)?);
        }
        for device in &spec.devices {
            device.mounts(&mut mounts)?;
        }
        Ok(mounts)
    }

    fn mount(&self, mount: &MountSpec, root: &TreeRoot, users: Option<&UserNamespace>) -> Result<Mount> {
        let (target, read_only) = (mount.target.clone(), mount.read_only);
        Ok(match &mount.kind {
            MountKind::Bind { source, make, recursive, propagation, mapped } => {
                if *make && !source.exists() {
                    std::fs::create_dir_all(source).map_err(|error| Error::file("make the volume", source, error))?;
                }
                let (source, recursive, mapped) = (BindSource::from(source.clone()), *recursive, *mapped);
                Mount::Bind { source, target, read_only, recursive, propagation: propagation.kernel(), mapped }
            }
            MountKind::Tmpfs { size, mode, executable, options, attributes }
                if !read_only && options.is_empty() && attributes.is_empty() =>
            {
                Mount::Tmpfs { target, size: *size, mode: mode.unwrap_or(TMPFS_MODE), executable: *executable }
            }
            MountKind::Tmpfs { .. } => {
                Mount::Detached { mount: Arc::new(tmpfs(&mount.kind, users)?), target, read_only }
            }
            MountKind::Volume { name, no_copy, subpath, .. } => {
                let name = name.as_deref().unwrap_or_default();
                let volume = self.store.create_volume(Some(name), BTreeMap::new(), BTreeMap::new())?;
                if let Some(what) = VolumeMount::read(&volume.options)? {
                    return self.local_volume(&volume, &what, mount, (root, users));
                }
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
                let made_with = VolumeDraft::default();
                let kind = MountKind::Volume { name: None, no_copy: false, subpath: None, made_with };
                spec.mounts.push(MountSpec { target, read_only: false, kind });
            }
        }
        let mut names = Vec::new();
        for mount in &mut spec.mounts {
            if let MountKind::Volume { name, made_with, .. } = &mut mount.kind {
                let VolumeDraft { labels, options } = std::mem::take(made_with);
                let volume = self.create_volume(name.as_deref(), labels, options)?;
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

/// A file system in memory that more is asked of than a size.
fn tmpfs(kind: &MountKind, users: Option<&UserNamespace>) -> Result<OwnedFd> {
    let MountKind::Tmpfs { size, mode, executable, options, attributes } = kind else {
        return Err(Error::Usage("it is no tmpfs".to_owned()));
    };
    let mut all = vec![("mode".to_owned(), Some(format!("{:o}", mode.unwrap_or(TMPFS_MODE))))];
    all.extend(size.map(|size| ("size".to_owned(), Some(size.to_string()))));
    all.extend(options.iter().map(|(name, value)| (name.clone(), Some(value.clone()))));
    if let Some(users) = users {
        map_owners(&mut all, users)?;
    }
    let usual = ["nosuid", "nodev", if *executable { "exec" } else { "noexec" }];
    let attributes = usual.into_iter().chain(attributes.iter().map(String::as_str)).filter_map(MountAttributes::option);
    let attributes = attributes.fold(MountAttributes::default(), MountAttributes::and);
    let tmpfs = NewFilesystem { kind: "tmpfs", source: "tmpfs", options: &all, attributes };
    Ok(tmpfs.make(None)?)
}

/// It is made by this process: the owner is told as this process counts, and the container's root where nobody is named.
fn map_owners(options: &mut Vec<(String, Option<String>)>, users: &UserNamespace) -> Result<()> {
    for (name, is_user) in [("uid", true), ("gid", false)] {
        let at = options.iter().position(|(known, _)| known == name);
        let inside = at.and_then(|at| options.remove(at).1).and_then(|value| value.parse().ok()).unwrap_or(0);
        let outside = if is_user { users.ids().user(inside) } else { users.ids().group(inside) };
        let missing = || Error::Usage(format!("{name}={inside} of a tmpfs is not among the container's ids"));
        options.push((name.to_owned(), Some(outside.ok_or_else(missing)?.to_string())));
    }
    Ok(())
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
