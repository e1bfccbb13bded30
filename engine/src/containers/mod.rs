//! Containers: `dunnage run` and what goes with it. `spec` is what was asked for, `launch` makes a sandbox of it.

mod launch;
mod limits;
mod network;
mod spec;
mod uplink;

use cache::{Image, Lease, Snapshot, failpoint};
use runtime::AttachOptions;

use crate::Engine;
use crate::error::Result;
use launch::Launch;
pub use limits::LimitSpec;
pub use spec::{ContainerSpec, VolumeSpec};

/// What to run, and how the caller stays with it.
#[derive(Debug, Clone, Default)]
pub struct RunRequest {
    /// `--name`.
    pub name: Option<String>,
    /// The container.
    pub spec: ContainerSpec,
}

impl Engine {
    /// Runs a container until it ends. Gives its exit status: its code, or 128+n for a signal.
    ///
    /// # Errors
    /// When it could not be started; [`crate::Error::run_exit_code`] tells 125, 126 and 127 apart.
    pub fn run(&self, request: &RunRequest, notes: &dyn Fn(String)) -> Result<i32> {
        let spec = &request.spec;
        let image = self.find_image(&spec.image)?;
        spec.argv(&image)?;
        let lease = self.store.lease()?;
        let container = self.store.create_container(&image.id, request.name.as_deref(), spec.remove)?;
        let snapshot = self.container_snapshot(&lease, &image, &container)?;
        let result = self.run_in(request, &image, &snapshot, container.id(), notes);
        failpoint("run.answer")?;
        if spec.remove {
            drop(snapshot);
            container.remove()?;
        } else {
            snapshot.keep();
        }
        result
    }

    fn container_snapshot(&self, lease: &Lease, image: &Image, container: &cache::ContainerPlace) -> Result<Snapshot> {
        let mut layers = Vec::new();
        for id in &image.layers {
            let layer = self.store.layer(lease, id)?.ok_or_else(|| cache::Error::LayerNotFound(id.clone()))?;
            layers.push(layer);
        }
        runtime::mount_point_layer(&self.store.mount_points_dir())?;
        Ok(self.working_store()?.container_snapshot(lease, &layers, container)?)
    }

    fn run_in(
        &self,
        request: &RunRequest,
        image: &Image,
        snapshot: &Snapshot,
        id: &str,
        notes: &dyn Fn(String),
    ) -> Result<i32> {
        let spec = &request.spec;
        let name = request.name.as_deref().unwrap_or_else(|| id.get(..12).unwrap_or(id));
        let launch = Launch::new(self, spec, image, (id, name), snapshot)?;
        launch.network.notes().iter().for_each(|note| notes(note.clone()));
        let signals = runtime::ForwardedSignals::catch()?;
        failpoint("run.start")?;
        let mut container = launch.sandbox.start()?;
        for note in container.notes() {
            notes(note.clone());
        }
        let exit = runtime::attach(&mut container, signals, AttachOptions { interactive: spec.interactive })?;
        if launch.group.ran_out_of_memory() {
            notes("a process of the container was killed: its memory limit was reached".to_owned());
        }
        drop(launch.group);
        launch.network.leave();
        Ok(exit.status_code())
    }
}
