//! pause, unpause, rename, and small questions about containers.

use runtime::Cgroup;

use super::state::{ContainerInfo, Status};
use crate::Engine;
use crate::error::{Error, Result};

impl Engine {
    /// Lets the processes of a container stand still.
    ///
    /// # Errors
    /// When it does not run, or has no control group.
    pub fn pause(&self, name: &str) -> Result<()> {
        let info = self.container(name)?;
        if info.status == Status::Paused {
            return Err(Error::WrongState(format!("container {} is paused already", info.name())));
        }
        info.running()?;
        group_of(&info)?.freeze()?;
        self.note_event_of(&info, "pause", &[]);
        Ok(())
    }

    /// Lets them go on.
    ///
    /// # Errors
    /// When it is not paused.
    pub fn unpause(&self, name: &str) -> Result<()> {
        let info = self.container(name)?;
        if info.status != Status::Paused {
            return Err(Error::WrongState(format!("container {} is not paused", info.name())));
        }
        group_of(&info)?.thaw()?;
        self.note_event_of(&info, "unpause", &[]);
        Ok(())
    }

    /// Gives a container another name.
    ///
    /// # Errors
    /// When there is none, or the name is taken.
    pub fn rename_container(&self, name: &str, new: &str) -> Result<()> {
        let info = self.container(name)?;
        if info.name() == new {
            return Err(Error::WrongState(format!("container {new} has this name already")));
        }
        self.store.rename_container(&info.record.id, new)?;
        let renamed = self.container(&info.record.id)?;
        self.note_event_of(&renamed, "rename", &[("oldName", info.name())]);
        Ok(())
    }

    /// The command of a container, image and flags together.
    ///
    /// # Errors
    /// When its image cannot be read.
    pub fn command_of(&self, info: &ContainerInfo) -> Result<Vec<String>> {
        match self.store.image(&info.record.image)? {
            Some(image) => info.spec.argv(&image),
            None => Ok(info.spec.command.clone()),
        }
    }

    /// Docker's word for the network of a container.
    #[must_use]
    pub fn network_name(&self, info: &ContainerInfo) -> String {
        info.spec.network.name()
    }

    /// Bytes in the files that a container wrote.
    ///
    /// # Errors
    /// When that cannot be looked at.
    pub fn container_size(&self, info: &ContainerInfo) -> Result<u64> {
        if let Some(bytes) = self.store.container_bytes(&info.record.id)? {
            return Ok(bytes);
        }
        let lease = self.store.lease()?;
        let layers = self.layers_of(&lease, info)?;
        Ok(self.store.copied_container_bytes(&lease, &layers, &info.record.id)?)
    }

    /// Bytes that a container wrote, and that its root has in all.
    ///
    /// # Errors
    /// When its files or its image cannot be read.
    pub fn container_sizes(&self, info: &ContainerInfo) -> Result<(u64, u64)> {
        let written = self.container_size(info)?;
        let image = self.store.images()?.into_iter().find(|stored| stored.image.id == info.record.image);
        Ok((written, written.saturating_add(image.map_or(0, |stored| stored.size))))
    }

    /// The id of an image, where there is one.
    #[must_use]
    pub fn image_id(&self, name: &str) -> Option<String> {
        self.find_image(name).ok().map(|image| image.id.to_string())
    }
}

/// The control group of a container that runs.
pub(super) fn group_of(info: &ContainerInfo) -> Result<Cgroup> {
    info.state.control_group(&info.spec, &info.record.id)?.ok_or_else(|| {
        let remedy = match runtime::in_user_namespace() {
            true => {
                "none was delegated to this user: start the container with \
                 `systemd-run --user --scope -p Delegate=yes dunnage …`, or as root"
            }
            false => "this machine has none that could be made",
        };
        Error::WrongState(format!("container {} has no control group, which this needs; {remedy}", info.name()))
    })
}
