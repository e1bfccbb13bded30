//! `dunnage volume`: create, list, inspect and remove.

use std::collections::BTreeMap;
use std::path::PathBuf;

use cache::Volume;

use crate::Engine;
use crate::error::{Error, Result};
use crate::volume_options::VolumeMount;

impl Engine {
    /// Makes a volume, or gives the one of that name; without a name it gets one. With options it is what these say:
    /// docker's `type`, `device` and `o`.
    ///
    /// # Errors
    /// When the name or an option is not valid, another one with this name has other options, or the disk fails.
    pub fn create_volume(
        &self,
        name: Option<&str>,
        labels: BTreeMap<String, String>,
        options: BTreeMap<String, String>,
    ) -> Result<Volume> {
        VolumeMount::read(&options)?;
        let volume = self.store.create_volume(name, labels, options.clone())?;
        if !options.is_empty() && volume.options != options {
            return Err(Error::Usage(format!("volume `{}` is there already, with other options", volume.name)));
        }
        Ok(volume)
    }

    /// All volumes, by name, and whether a container has each.
    ///
    /// # Errors
    /// What the store says.
    pub fn volumes(&self) -> Result<Vec<(Volume, bool)>> {
        let containers = self.store.containers()?;
        let used = |volume: &Volume| containers.iter().any(|(record, _)| record.volumes.contains(&volume.name));
        Ok(self.store.volumes()?.into_iter().map(|volume| (volume.clone(), used(&volume))).collect())
    }

    /// A volume, and the directory that containers mount.
    ///
    /// # Errors
    /// When there is none.
    pub fn volume(&self, name: &str) -> Result<(Volume, PathBuf)> {
        let volume = self.store.volume(name)?.ok_or_else(|| Error::VolumeNotFound(name.to_owned()))?;
        let data = self.store.volume_data(&volume);
        Ok((volume, data))
    }

    /// Removes a volume with its data.
    ///
    /// # Errors
    /// When there is none or a container has it.
    pub fn remove_volume(&self, name: &str) -> Result<()> {
        if self.store.remove_volume(name)? { Ok(()) } else { Err(Error::VolumeNotFound(name.to_owned())) }
    }
}
