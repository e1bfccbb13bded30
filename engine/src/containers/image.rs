//! diff, commit, export: a container's root as changes, as an image, as a tar.

use std::io::Write;
use std::path::{Path, PathBuf};

use cache::{History, Image, Layer, Lease, TreeChange};

use super::changes::changed;
use super::manage::group_of;
use super::state::{ContainerInfo, Status, now};
use super::time::rfc3339;
use crate::Engine;
use crate::error::{Error, Result};
use crate::images::parse_name;
use crate::outputs::whole_file;

/// `dunnage commit`.
#[derive(Debug, Clone, Default)]
pub struct CommitRequest {
    /// The name of the image.
    pub image: Option<String>,
    /// `--author`.
    pub author: Option<String>,
    /// `--message`.
    pub message: Option<String>,
    /// `--change`: instructions of a Dockerfile.
    pub changes: Vec<String>,
    /// The container stands still meanwhile.
    pub pause: bool,
}

impl Engine {
    /// Which files of a container's root differ from its image.
    ///
    /// # Errors
    /// When there is none, or it cannot be read.
    pub fn diff(&self, name: &str) -> Result<Vec<(TreeChange, PathBuf)>> {
        let info = self.container(name)?;
        let lease = self.store.lease()?;
        let layers = self.layers_of(&lease, &info)?;
        let mut changes = self.store.container_changes(&lease, &layers, &info.record.id)?;
        // Made for what is mounted there, which is no change that anybody made.
        let mounted = |path: &Path| info.spec.mounts.iter().any(|mount| mount.target.strip_prefix("/") == Ok(path));
        changes.retain(|(_, path)| !mounted(path));
        Ok(changes)
    }

    /// Writes a container's root as a tar.
    ///
    /// # Errors
    /// When there is none, or the output fails.
    pub fn export(&self, name: &str, output: Option<&Path>, stream: fn() -> Box<dyn Write>) -> Result<()> {
        let info = self.container(name)?;
        let lease = self.store.lease()?;
        let layers = self.layers_of(&lease, &info)?;
        let tree = self.store.container_tree(&lease, &layers, &info.record.id)?;
        match output {
            Some(path) => whole_file(path, |out| Ok(builder::write_tar(&tree, out, None)?)),
            None => {
                let mut out = std::io::BufWriter::new(stream());
                builder::write_tar(&tree, &mut out, None)?;
                out.flush().map_err(Error::Output)
            }
        }
    }

    /// Makes an image of a container's root. Gives its id.
    ///
    /// # Errors
    /// When there is none, or the image cannot be written.
    pub fn commit(&self, name: &str, request: &CommitRequest) -> Result<String> {
        let names = request.image.as_deref().map(parse_name).transpose()?;
        let info = self.container(name)?;
        // One that cannot stand still is read as it goes.
        let group = (request.pause && info.status == Status::Running).then(|| group_of(&info)).and_then(Result::ok);
        // One that has ended meanwhile stands still.
        let lives = |_: &runtime::Error| info.running().is_ok();
        if let Some(error) = group.as_ref().and_then(|group| group.freeze().err()).filter(lives) {
            return Err(error.into());
        }
        let committed = self.commit_tree_of(&info, request, names.as_slice());
        if let Some(error) = group.as_ref().and_then(|group| group.thaw().err()).filter(lives) {
            return Err(error.into());
        }
        let image = committed?;
        self.note_event_of(&info, "commit", &[("imageID", image.id.to_string())]);
        Ok(image.id.to_string())
    }

    fn commit_tree_of(
        &self,
        info: &ContainerInfo,
        request: &CommitRequest,
        names: &[cache::Reference],
    ) -> Result<Image> {
        let lease = self.store.lease()?;
        let base = self.find_image(&info.record.image.to_string())?;
        let layers = self.layers_of(&lease, info)?;
        let layer = self.store.container_layer(&lease, &layers, &info.record.id)?.layer;
        let mut config = base.config.clone();
        let created = rfc3339(now());
        config.rootfs.diff_ids.push(layer.diff_id.clone());
        config.created = Some(created.clone());
        if request.author.is_some() {
            config.author.clone_from(&request.author);
        }
        config.history.push(History {
            created: Some(created),
            created_by: Some(info.spec.argv(&base)?.join(" ")),
            comment: request.message.clone(),
            author: request.author.clone(),
            ..History::default()
        });
        super::spec::set_variables(&mut config.config.env, &info.spec.env);
        config.config.labels.extend(info.spec.labels.clone());
        if let Some(user) = &info.spec.user {
            config.config.user.clone_from(user);
        }
        if !info.spec.command.is_empty() {
            config.config.cmd = Some(info.spec.command.clone());
        }
        if !request.changes.is_empty() {
            config.config = changed(&config, &request.changes)?;
        }
        Ok(self.store.put_image(&lease, &config, names)?)
    }

    pub(super) fn layers_of(&self, lease: &Lease, info: &ContainerInfo) -> Result<Vec<Layer>> {
        let image = self.find_image(&info.record.image.to_string())?;
        let layer = |id| Ok(self.store.layer(lease, id)?.ok_or_else(|| cache::Error::LayerNotFound(id.clone()))?);
        image.layers.iter().map(layer).collect()
    }
}
