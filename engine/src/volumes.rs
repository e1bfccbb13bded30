//! `dunnage volume`: create, list, inspect and remove.

use std::collections::BTreeMap;
use std::path::PathBuf;

use cache::Volume;

use crate::Engine;
use crate::error::{Error, Result};

impl Engine {
    /// Makes a volume, or gives the one of that name; without a name it gets one.
    ///
    /// # Errors
    /// When the name is not valid or the disk fails.
    pub fn create_volume(&self, name: Option<&str>, labels: BTreeMap<String, String>) -> Result<Volume> {
        Ok(self.store.create_volume(name, labels)?)
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
