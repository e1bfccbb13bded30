//! Volumes in a container: what an empty one begins with, and such as are mounted in place of the store's own directory.

use std::path::Path;
use std::sync::Arc;

use cache::{Follow, Kind, TreeRoot, Volume};
use runtime::{BindSource, Mount, UserNamespace};

use super::copying::{attributes_of, below_root, copy_content};
use super::spec::{ContainerSpec, MountKind, MountSpec};
use crate::Engine;
use crate::error::{Error, Result};
use crate::volume_options::{self, VolumeMount};

impl Engine {
    /// A volume that has options. It is mounted for each container by itself; what is in memory is the same for all, and
    /// goes with the last of them.
    pub(super) fn local_volume(
        &self,
        volume: &Volume,
        what: &VolumeMount,
        mount: &MountSpec,
        (root, users): (&TreeRoot, Option<&UserNamespace>),
    ) -> Result<Mount> {
        let MountKind::Volume { no_copy, subpath, .. } = &mount.kind else {
            return Err(Error::Usage("it is no volume".to_owned()));
        };
        let target = mount.target.clone();
        let failed = |error: Error| Error::Volume { name: volume.name.clone(), source: Box::new(error) };
        match what {
            VolumeMount::Bind { source, recursive, read_only } => {
                let (recursive, read_only) = (*recursive, mount.read_only || *read_only);
                let data = TreeRoot::open(source).map_err(|error| failed(error.into()))?;
                if !no_copy && !read_only && subpath.is_none() {
                    fill(&data, root, &target)?;
                }
                let path = below_root(subpath.as_deref().unwrap_or(Path::new("")));
                let source = BindSource::from(data.handle(&path)?);
                Ok(Mount::Bind { source, target, read_only, recursive, propagation: None, mapped: true })
            }
            VolumeMount::Filesystem { kind, device, options, attributes, read_only } => {
                let refuse = |sentence: &str| Err(failed(Error::Usage(sentence.to_owned())));
                if subpath.is_some() {
                    return refuse("volume-subpath is for volumes that are directories");
                }
                let read_only = mount.read_only || *read_only;
                if what.is_memory() {
                    if users.is_some() {
                        return refuse(
                            "a volume in memory cannot be shared with a container of --userns auto: use --tmpfs",
                        );
                    }
                    if let Some(shared) = self.memory_of_others(volume)? {
                        return Ok(Mount::Detached { mount: Arc::new(shared), target, read_only });
                    }
                }
                let made = volume_options::make((kind, device), options, attributes, users).map_err(failed)?;
                if !no_copy && !read_only {
                    fill(&TreeRoot::from_fd(&made)?, root, &target)?;
                }
                Ok(Mount::Detached { mount: Arc::new(made), target, read_only })
            }
        }
    }

    /// What another container that runs has mounted for a volume in memory.
    fn memory_of_others(&self, volume: &Volume) -> Result<Option<std::os::fd::OwnedFd>> {
        for (record, held) in self.store.containers()? {
            if !held || !record.volumes.contains(&volume.name) {
                continue;
            }
            // One that has just ended has nothing any more.
            let Ok(info) = self.container(&record.id) else { continue };
            let Ok(running) = info.running() else { continue };
            let is_it = |mount: &&MountSpec| matches!(&mount.kind, MountKind::Volume { name: Some(name), .. } if *name == volume.name);
            let Some(mount) = info.spec.mounts.iter().find(is_it) else { continue };
            if let Ok(Some(shared)) = running.mounted_memory(&mount.target) {
                return Ok(Some(shared));
            }
        }
        Ok(None)
    }

    /// Held until the container can be found: who starts at the same time with the same volume in memory waits.
    pub(super) fn take_turns(&self, spec: &ContainerSpec) -> Result<Vec<std::fs::File>> {
        let mut turns = Vec::new();
        let mut names: Vec<&str> = spec.mounts.iter().filter_map(MountSpec::volume).collect();
        names.sort_unstable();
        names.dedup();
        for name in names {
            let Some(volume) = self.store.volume(name)?.filter(|volume| !volume.options.is_empty()) else { continue };
            if VolumeMount::read(&volume.options)?.is_some_and(|what| what.is_memory()) {
                turns.push(self.store.lock_volume(&volume)?);
            }
        }
        Ok(turns)
    }
}

impl MountSpec {
    /// The volume that it is.
    fn volume(&self) -> Option<&str> {
        match &self.kind {
            MountKind::Volume { name, .. } => name.as_deref(),
            _ => None,
        }
    }
}

/// An empty volume begins with what the image has at its place, and with that directory's owner and mode.
pub(super) fn fill(data: &TreeRoot, root: &TreeRoot, target: &Path) -> Result<()> {
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
