//! create, start, stop, kill, restart, rm, wait: the life of a container between its commands.

use std::path::Path;
use std::time::{Duration, Instant};

use cache::{ContainerPlace, Image, NewContainer};
use runtime::{ForwardedSignals, Running, Signal};

use super::attach::{AttachRequest, Left, hello, talk};
use super::cidfile::CidFile;
use super::monitor::STOPPED;
use super::mounts::VolumesFrom;
use super::spec::ContainerSpec;
use super::state::{ContainerInfo, ContainerState, Phase, Status};
use super::wire::{Frame, Hello};
use crate::Engine;
use crate::error::{Error, Result};

/// Docker's time between the stop signal and the end.
const STOP_TIMEOUT: i64 = 10;
/// Longest time in which a monitor notes what it knows.
const SETTLE: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(5);

/// A container to be.
#[derive(Debug, Clone, Default)]
pub struct CreateRequest {
    /// `--name`.
    pub name: Option<String>,
    /// What was asked for.
    pub spec: ContainerSpec,
    /// `--volumes-from`.
    pub volumes_from: Vec<VolumesFrom>,
}

impl Engine {
    /// Makes a container and starts nothing. Gives its id.
    ///
    /// # Errors
    /// When the image is not there, the name is taken, or a flag cannot be met.
    pub fn create(&self, request: &CreateRequest, cidfile: Option<&Path>) -> Result<String> {
        let image = self.find_image(&request.spec.image)?;
        let cidfile = cidfile.map(CidFile::begin).transpose()?;
        let (place, _) = self.create_place(request, &image, false)?;
        if let Some(file) = cidfile {
            file.finish(place.id())?;
        }
        Ok(place.id().to_owned())
    }

    /// The place of a new container, held. With `remove_at_end` it goes with this process.
    pub(super) fn create_place(
        &self,
        request: &CreateRequest,
        image: &Image,
        remove_at_end: bool,
    ) -> Result<(ContainerPlace, ContainerInfo)> {
        let mut spec = request.spec.clone();
        spec.argv(image)?;
        if spec.userns.is_none() {
            spec.userns = Some(self.default_userns(&spec)?);
        }
        spec.limits.check()?;
        spec.check_walls()?;
        spec.check_users()?;
        spec.check_signals(image)?;
        self.check_links(&spec)?;
        // As with docker the same words twice are one mount.
        let mut known = Vec::new();
        spec.mounts.retain(|mount| {
            !known.contains(mount) && {
                known.push(mount.clone());
                true
            }
        });
        let mut targets: Vec<&Path> = spec.mounts.iter().map(|mount| mount.target.as_path()).collect();
        targets.sort_unstable();
        if let Some([twice, _]) = targets.windows(2).find(|pair| matches!(pair, [a, b] if a == b)) {
            return Err(Error::Usage(format!("two mounts have the target {}: leave one out", twice.display())));
        }
        let volumes = self.settle_mounts(&mut spec, image, &request.volumes_from)?;
        let written = serde_json::to_value(&spec).map_err(|error| Error::Usage(error.to_string()))?;
        let name = request.name.as_deref();
        let new = NewContainer {
            image: &image.id,
            layers: &image.layers,
            name,
            remove: remove_at_end,
            volumes,
            spec: written,
        };
        let place = self.store.create_container(new)?;
        let info = ContainerInfo::fresh(place.record().clone(), spec);
        self.note_event_of(&info, "create", &[]);
        Ok((place, info))
    }

    /// Starts a container that does not run.
    ///
    /// # Errors
    /// When there is none, or it cannot be started.
    pub fn start(&self, name: &str, notes: &dyn Fn(String)) -> Result<()> {
        let info = self.decided(name)?;
        let Some(place) = self.place_to_start(&info)? else { return Ok(()) };
        let conversation = self.spawn_monitor(place, Hello::default())?;
        conversation.notes.into_iter().for_each(notes);
        Ok(())
    }

    /// The same, joined to it until it ends or the user leaves.
    ///
    /// # Errors
    /// When there is none, or it cannot be started.
    pub fn start_attached(&self, name: &str, request: &AttachRequest, notes: &dyn Fn(String)) -> Result<Left> {
        let info = self.decided(name)?;
        let Some(place) = self.place_to_start(&info)? else { return self.attach(name, request) };
        self.start_place(place, request, notes)
    }

    pub(super) fn start_place(
        &self,
        place: ContainerPlace,
        request: &AttachRequest,
        notes: &dyn Fn(String),
    ) -> Result<Left> {
        let info = self.look_at(place.record().clone(), true)?;
        // Before the container is there: one that comes in between is for it.
        let signals = ForwardedSignals::catch()?;
        let mut conversation = self.spawn_monitor(place, hello(&info, request.streams))?;
        std::mem::take(&mut conversation.notes).into_iter().for_each(notes);
        talk(conversation, &info, self.aside(&info), request, signals, true)
    }

    /// Nothing for one that runs.
    fn place_to_start(&self, info: &ContainerInfo) -> Result<Option<ContainerPlace>> {
        if info.status == Status::Paused {
            return Err(Error::WrongState(format!("container {} is paused: unpause it", info.name())));
        }
        if matches!(info.status, Status::Running | Status::Restarting) {
            return Ok(None);
        }
        let place = self.store.lock_container(&info.record.id)?;
        match std::fs::remove_file(place.path().join(STOPPED)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::file("remove", place.path().join(STOPPED), error));
            }
            _ => {}
        }
        Ok(Some(place))
    }

    /// Sends the stop signal, and after the time ends what is still there. One that does not run is left alone.
    ///
    /// # Errors
    /// When there is none, or it cannot be signalled.
    pub fn stop(&self, name: &str, timeout: Option<i64>, signal: Option<Signal>) -> Result<()> {
        let info = self.container(name)?;
        if !info.held {
            return Ok(());
        }
        let signal = match signal {
            Some(signal) => signal,
            None => info.spec.stop_signal(&self.find_image(&info.record.image.to_string())?)?,
        };
        let timeout = timeout.or(info.spec.stop_timeout).unwrap_or(STOP_TIMEOUT);
        self.bring_to_end(&info, signal, u64::try_from(timeout).map(Duration::from_secs).ok())?;
        self.note_event_of(&info, "stop", &[]);
        Ok(())
    }

    /// Marks a container as stopped, so that no policy starts it again, and signals whatever of it runs until nobody
    /// has it any more.
    fn bring_to_end(&self, info: &ContainerInfo, signal: Signal, longest: Option<Duration>) -> Result<()> {
        self.mark_stopped(info)?;
        let end = Instant::now() + SETTLE;
        loop {
            let now = match self.container(&info.record.id) {
                // One of --rm removes itself.
                Err(error) if error.is_missing_container() => return Ok(()),
                now => now?,
            };
            if let Ok(running) = now.running() {
                self.note_event_of(info, "kill", &[("signal", signal.number().to_string())]);
                running.kill(signal)?;
                if !wait_for(&running, longest)? {
                    running.kill(Signal::KILL)?;
                    wait_for(&running, None)?;
                }
                return self.settle(&now);
            }
            if !now.held || Instant::now() > end {
                return Ok(());
            }
            // It waits to be started again, or ends just now.
            self.poke(&now);
            std::thread::sleep(LOOK);
        }
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// When there is none, or it does not run.
    pub fn kill(&self, name: &str, signal: Signal) -> Result<()> {
        let info = self.container(name)?;
        let running = info.running()?;
        if signal == Signal::KILL {
            self.mark_stopped(&info)?;
        }
        running.kill(signal)?;
        self.note_event_of(&info, "kill", &[("signal", signal.number().to_string())]);
        if signal == Signal::KILL {
            wait_for(&running, None)?;
            self.settle(&info)?;
        }
        Ok(())
    }

    /// Stops it and starts it again.
    ///
    /// # Errors
    /// When there is none, or it cannot be started.
    pub fn restart(
        &self,
        name: &str,
        timeout: Option<i64>,
        signal: Option<Signal>,
        notes: &dyn Fn(String),
    ) -> Result<()> {
        let info = self.container(name)?;
        if info.spec.remove && info.status.is_running() {
            return Err(Error::WrongState(format!(
                "container {} was made with --rm: it goes when it stops",
                info.name()
            )));
        }
        self.stop(&info.record.id, timeout, signal)?;
        self.start(&info.record.id, notes)?;
        self.note_event_of(&info, "restart", &[]);
        Ok(())
    }

    /// Removes a container; with `force` also one that runs, with `volumes` also those that nobody named.
    ///
    /// # Errors
    /// When there is none, or it runs.
    pub fn remove_container(&self, name: &str, force: bool, volumes: bool) -> Result<()> {
        let info = self.container(name)?;
        let info = match self.decided(&info.record.id) {
            // One of --rm removed itself.
            Err(error) if force && error.is_missing_container() => return Ok(()),
            info => info?,
        };
        let busy = info.status.is_running() || info.status == Status::Restarting;
        if busy && !force {
            return Err(Error::ContainerRuns { name: info.name(), status: info.status.word() });
        }
        if busy {
            self.bring_to_end(&info, Signal::KILL, None)?;
        }
        let place = match self.store.lock_container(&info.record.id) {
            Ok(place) => place,
            // One of --rm removed itself.
            Err(cache::Error::ContainerNotFound(_)) if busy => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        place.remove()?;
        if volumes {
            self.remove_anonymous_volumes(&info.record.volumes)?;
        }
        self.note_event_of(&info, "destroy", &[]);
        Ok(())
    }

    /// Waits for the end of a container and gives its exit code.
    ///
    /// # Errors
    /// When there is none.
    pub fn wait_for_end(&self, name: &str) -> Result<i32> {
        let info = self.container(name)?;
        if matches!(info.status, Status::Running | Status::Paused | Status::Restarting) {
            if let Ok(mut conversation) = self.converse(&info, Hello::default()) {
                while let Ok(Some(frame)) = conversation.next() {
                    if let Frame::Exited(code) = frame {
                        return Ok(code);
                    }
                }
            }
            if let Ok(running) = info.running() {
                wait_for(&running, None)?;
            }
            self.settle(&info)?;
        }
        match self.container(&info.record.id) {
            Ok(info) => Ok(info.state.exit_code),
            // It was removed meanwhile: what is left to tell is that it ended.
            Err(Error::Store(cache::Error::ContainerNotFound(_))) => Ok(0),
            Err(error) => Err(error),
        }
    }

    fn mark_stopped(&self, info: &ContainerInfo) -> Result<()> {
        let path = self.store.container_dir(&info.record.id).join(STOPPED);
        std::fs::write(&path, "").map_err(|error| Error::file("write", path, error))
    }

    /// Wakes a monitor that waits.
    fn poke(&self, info: &ContainerInfo) {
        // One that cannot be reached is about to end.
        let _ = self.converse(info, Hello::default());
    }

    /// Waits until whoever runs a container has let go of it.
    pub(super) fn settle(&self, info: &ContainerInfo) -> Result<()> {
        let end = Instant::now() + SETTLE;
        while Instant::now() < end {
            match self.store.container(&info.record.id)? {
                Some((_, true)) if self.phase_of(&info.record.id) != Some(Phase::Exited) => {}
                Some((_, true)) if info.spec.remove => {}
                Some((_, true)) => return self.let_go(&info.record.id, end),
                Some((_, false)) | None => return Ok(()),
            }
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    /// A container of which it is not open what becomes of it: its monitor gets a moment to decide.
    fn decided(&self, name: &str) -> Result<ContainerInfo> {
        let end = Instant::now() + SETTLE;
        loop {
            let info = self.container(name)?;
            if !info.status.is_running() || info.running().is_ok() || Instant::now() > end {
                return Ok(info);
            }
            std::thread::sleep(LOOK);
        }
    }

    fn let_go(&self, id: &str, end: Instant) -> Result<()> {
        while Instant::now() < end && self.store.container(id)?.is_some_and(|(_, held)| held) {
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    pub(super) fn phase_of(&self, id: &str) -> Option<Phase> {
        self.store.container_state::<ContainerState>(id).map(|state| state.phase)
    }
}

impl ContainerSpec {
    /// `--stop-signal`, or the image's STOPSIGNAL, or TERM.
    pub(crate) fn stop_signal(&self, image: &cache::Image) -> Result<Signal> {
        let asked = self.stop_signal.as_deref().or(image.config.config.stop_signal.as_deref());
        Ok(asked.filter(|name| !name.is_empty()).map_or(Ok(Signal::TERM), Signal::parse)?)
    }

    fn check_signals(&self, image: &cache::Image) -> Result<()> {
        self.stop_signal(image).map(drop)
    }
}

/// Without a time it waits for ever. Tells whether it has ended.
fn wait_for(running: &Running, longest: Option<Duration>) -> Result<bool> {
    let end = longest.map(|longest| Instant::now() + longest);
    loop {
        let left = end.map_or(SETTLE, |end| end.saturating_duration_since(Instant::now()));
        if running.wait(left)? {
            return Ok(true);
        }
        if end.is_some_and(|end| Instant::now() >= end) {
            return Ok(false);
        }
    }
}
