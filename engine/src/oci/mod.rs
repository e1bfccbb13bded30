//! The OCI runtime face: containers that another program describes with a bundle, and the commands by which docker,
//! podman and containerd make, start, watch and end them. The way from `Sandbox` to process is the one of `run`.

mod config;
mod events;
mod exec;
mod features;
mod hooks;
mod mounts;
mod process;
mod resources;
pub(crate) mod seccomp;
mod state;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use oci_spec::runtime::Spec;
use runtime::{Cgroup, Container, Extent, Sandbox, Signal, Stdio};

use crate::error::{Error, Result};
pub use events::stats_event;
pub use exec::ExecRequest;
pub use features::{features, template};
pub use state::{OciState, Status};
use state::{Place, Record};

/// Containers below one directory of states.
#[derive(Debug, Clone)]
pub struct OciRuntime {
    root: PathBuf,
}

/// How the process and the caller are joined.
#[derive(Debug, Clone, Default)]
pub struct ProcessIo {
    /// Where the number of the process is written.
    pub pid_file: Option<PathBuf>,
    /// The socket that gets the terminal.
    pub console_socket: Option<PathBuf>,
    /// How many descriptors from 3 up are handed on.
    pub preserve_fds: u32,
}

/// `create`.
#[derive(Debug, Clone)]
pub struct CreateRequest {
    /// The container's name.
    pub id: String,
    /// The directory with config.json.
    pub bundle: PathBuf,
    /// The process and the caller.
    pub io: ProcessIo,
    /// Whether it keeps the caller's session keyring.
    pub keep_keyring: bool,
}

impl OciRuntime {
    /// The runtime whose states are in this directory.
    #[must_use]
    pub fn new(root: PathBuf) -> OciRuntime {
        OciRuntime { root }
    }

    /// Makes a container whose process is ready and waits. When it cannot be, nothing stays behind.
    ///
    /// # Errors
    /// When the configuration cannot be followed, or the kernel refuses.
    pub fn create(&self, request: &CreateRequest) -> Result<()> {
        if let Some(container) = self.make(request, Waiting::Detached)? {
            container.leave();
        }
        Ok(())
    }

    /// `create` and `start` in one; waits for its end and deletes it unless it is to be detached. Gives its exit status.
    ///
    /// # Errors
    /// As for both.
    pub fn run(&self, request: &CreateRequest, detach: bool) -> Result<i32> {
        let waiting = if detach || request.io.console_socket.is_some() { Waiting::Detached } else { Waiting::Here };
        let signals = runtime::ForwardedSignals::catch()?;
        let container = self.make(request, waiting)?;
        if let Err(error) = self.start(&request.id) {
            drop(container);
            let _ = self.delete(&request.id, true);
            return Err(error);
        }
        let Some(mut container) = container else { return Ok(0) };
        if detach {
            container.leave();
            return Ok(0);
        }
        let exit = runtime::attach(&mut container, signals, runtime::AttachOptions { interactive: true })?;
        self.delete(&request.id, true)?;
        Ok(exit.status_code())
    }

    fn make(&self, request: &CreateRequest, waiting: Waiting) -> Result<Option<Container>> {
        let bundle = request.bundle.canonicalize().map_err(|error| Error::file("open", &request.bundle, error))?;
        let bytes = config::read(&bundle.join("config.json"))?;
        let spec = config::parse(&bytes)?;
        let mut sandbox = config::sandbox(&spec, &bundle)?;
        sandbox.stdio = stdio(&spec, &request.io, waiting)?;
        sandbox.descriptors = request.io.preserve_fds;
        sandbox.outlives_caller = true;
        sandbox.keep_keyring = request.keep_keyring;
        let path = config::cgroup_path(&spec, &request.id)?;
        let limits = config::limits(&spec)?;
        let place = Place::make(&self.root, &request.id)?;
        let mut made = Made { place: Some(place), cgroup: None };
        let made_in = made.in_place(&bytes, &path, &limits);
        let (gate, cgroup) = made_in?;
        sandbox.gate = Some(Arc::new(gate));
        sandbox.cgroup = Some(cgroup);
        let record = Record {
            id: request.id.clone(),
            pid: 0,
            start: 0,
            rootfs: config::rootfs_path(&spec, &bundle)?,
            bundle,
            created: jiff::Timestamp::now().to_string(),
            cgroup: path,
            annotations: annotations(&spec),
        };
        let container = launch(sandbox, &spec, &record, &request.io)?;
        let record =
            Record { pid: container.pid(), start: runtime::start_time(container.pid()).unwrap_or(0), ..record };
        made.place()?.write_record(&record)?;
        write_pid(request.io.pid_file.as_deref(), record.pid)?;
        made.keep();
        Ok(Some(container))
    }

    /// Lets the program of a created container run.
    ///
    /// # Errors
    /// When it is in any other state, or a hook fails.
    pub fn start(&self, id: &str) -> Result<()> {
        let place = Place::open(&self.root, id)?;
        let record = record(&place)?;
        let status = place.status(&record)?;
        if status != Status::Created {
            return Err(Error::container_state(id, format!("cannot start a container that is {status}")));
        }
        if !place.open_gate()? {
            return Err(Error::container_state(id, "cannot start a container that is stopped"));
        }
        let spec = place.config()?;
        let after = config::calls(spec.hooks().as_ref().and_then(|hooks| hooks.poststart().as_ref()));
        if after.is_empty() {
            return Ok(());
        }
        let text = state_text(&record, Status::Running)?;
        hooks::run("poststart", &after, &text).map_err(|reason| {
            // A container whose poststart hook has failed does not go on.
            let _ = Cgroup::open(&record.cgroup).map(|cgroup| cgroup.map(|cgroup| cgroup.kill(Signal::KILL)));
            Error::Hook(reason)
        })
    }

    /// What a container is and does.
    ///
    /// # Errors
    /// When there is none of this name.
    pub fn state(&self, id: &str) -> Result<OciState> {
        Place::look(&self.root, id)?.state()
    }

    /// All containers; one that is being made, or taken away, is left out.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn list(&self) -> Result<Vec<OciState>> {
        let entries = match fs::read_dir(&self.root) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            result => result.map_err(|error| Error::file("read", &self.root, error))?,
        };
        let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
        let mut states: Vec<OciState> = names.filter_map(|id| self.state(&id).ok()).collect();
        states.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(states)
    }

    /// Sends a signal to the first process, or to all.
    ///
    /// # Errors
    /// When the container does not run.
    pub fn kill(&self, id: &str, signal: Signal, all: bool) -> Result<()> {
        let place = Place::open(&self.root, id)?;
        let record = record(&place)?;
        let cgroup = Cgroup::open(&record.cgroup)?;
        match (place.running(&record)?, cgroup) {
            (_, Some(cgroup)) if all => Ok(cgroup.kill(signal)?),
            (Some(process), cgroup) => {
                process.kill(signal)?;
                // Without a pid namespace the kernel does not end the others together with the first. A frozen process
                // of version 1 hears of its end only when it goes on.
                match cgroup.filter(|_| signal == Signal::KILL) {
                    Some(cgroup) => Ok(cgroup.kill(signal)?),
                    None => Ok(()),
                }
            }
            (None, _) => Err(Error::container_state(id, "container not running")),
        }
    }

    /// Takes a stopped container away; with `force` also one that runs, or is not there.
    ///
    /// # Errors
    /// When it still runs.
    pub fn delete(&self, id: &str, force: bool) -> Result<()> {
        let place = match Place::open(&self.root, id) {
            Err(Error::ContainerState { .. }) if force && !self.root.join(id).is_dir() => return Ok(()),
            result => result?,
        };
        let Some(record) = place.record()? else {
            // Its maker has died before it had a process to tell of.
            let path = place.config().and_then(|spec| config::cgroup_path(&spec, id));
            if let Some(cgroup) = path.map(Cgroup::open).unwrap_or(Ok(None))? {
                cgroup.kill(Signal::KILL)?;
                cgroup.remove()?;
            }
            return place.remove();
        };
        let status = place.status(&record)?;
        if status != Status::Stopped && status != Status::Created && !force {
            let reason = format!("cannot delete container {id} that is not stopped: {status}");
            return Err(Error::container_state(id, reason));
        }
        if let Some(process) = place.running(&record)? {
            process.kill(Signal::KILL)?;
        }
        if let Some(cgroup) = Cgroup::open(&record.cgroup)? {
            cgroup.kill(Signal::KILL)?;
            cgroup.remove()?;
        }
        let spec = place.config();
        let text = state_text(&record, Status::Stopped)?;
        place.remove()?;
        let after =
            spec.ok().map(|spec| config::calls(spec.hooks().as_ref().and_then(|hooks| hooks.poststop().as_ref())));
        // The container is gone whatever they say: a failure is a warning.
        hooks::run("poststop", &after.unwrap_or_default(), &text).map_err(Error::Hook)
    }

    /// Stops all processes of a container where they are.
    ///
    /// # Errors
    /// When it does not run.
    pub fn pause(&self, id: &str) -> Result<()> {
        let place = Place::open(&self.root, id)?;
        let record = record(&place)?;
        match place.status(&record)? {
            Status::Running | Status::Created => Ok(self.cgroup(&record)?.freeze()?),
            status => Err(Error::container_state(id, format!("container not running: it is {status}"))),
        }
    }

    /// Lets them go on.
    ///
    /// # Errors
    /// When it is not paused.
    pub fn resume(&self, id: &str) -> Result<()> {
        let place = Place::open(&self.root, id)?;
        let record = record(&place)?;
        let cgroup = self.cgroup(&record)?;
        if !cgroup.is_frozen() {
            return Err(Error::container_state(id, "container not paused"));
        }
        Ok(cgroup.thaw()?)
    }

    /// Numbers of all its processes, as this process counts.
    ///
    /// # Errors
    /// When there is no such container.
    pub fn processes(&self, id: &str) -> Result<Vec<u32>> {
        let record = record(&Place::open(&self.root, id)?)?;
        Ok(self.cgroup(&record)?.processes()?)
    }

    /// Changes limits: `resources` is the JSON of `linux.resources`.
    ///
    /// # Errors
    /// When the container has ended, or the kernel refuses one.
    pub fn update(&self, id: &str, resources: &[u8]) -> Result<()> {
        let place = Place::open(&self.root, id)?;
        let record = record(&place)?;
        if place.status(&record)? == Status::Stopped {
            return Err(Error::container_state(id, "container not running"));
        }
        let asked = serde_json::from_slice(resources).map_err(|error| config::invalid("resources", error))?;
        let mut resources = resources::resources(&asked)?;
        // Callers repeat the rest of what they know; devices are decided when a container is made.
        resources.devices.clear();
        Ok(self.cgroup(&record)?.update(&resources)?)
    }

    /// The same from flags.
    ///
    /// # Errors
    /// As for `update`.
    pub fn update_limits(&self, id: &str, limits: &crate::LimitSpec) -> Result<()> {
        let place = Place::open(&self.root, id)?;
        let record = record(&place)?;
        if place.status(&record)? == Status::Stopped {
            return Err(Error::container_state(id, "container not running"));
        }
        Ok(self.cgroup(&record)?.update(&limits.resources()?)?)
    }

    /// What it uses, and how often memory ran out.
    ///
    /// # Errors
    /// When there is no such container.
    pub fn stats(&self, id: &str) -> Result<runtime::CgroupStats> {
        let place = Place::open(&self.root, id)?;
        let record = record(&place)?;
        if place.status(&record)? == Status::Stopped {
            return Err(Error::container_state(id, "container not running"));
        }
        Ok(self.cgroup(&record)?.stats())
    }

    fn cgroup(&self, record: &Record) -> Result<Cgroup> {
        Cgroup::open(&record.cgroup)?.ok_or_else(|| Error::container_state(&record.id, "its control group is gone"))
    }
}

/// Whose the terminal is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waiting {
    /// Somebody else's, or there is none.
    Detached,
    /// This process's.
    Here,
}

fn stdio(spec: &Spec, io: &ProcessIo, waiting: Waiting) -> Result<Stdio> {
    let process = spec.process().as_ref();
    let terminal = process.and_then(|process| process.terminal()).unwrap_or(false);
    match (terminal, &io.console_socket, waiting) {
        (false, Some(_), _) => Err(config::invalid("process.terminal", "is off, and yet there is a console socket")),
        (false, None, _) => Ok(Stdio::Inherit { stdin: true }),
        (true, None, Waiting::Detached) => {
            Err(config::invalid("process.terminal", "is on, and there is no console socket to send it to"))
        }
        (true, Some(_), _) => Ok(Stdio::Terminal(process.map(process::terminal_size).unwrap_or_default())),
        (true, None, Waiting::Here) => Ok(Stdio::Terminal(runtime::terminal_size())),
    }
}

/// Starts the process up to its gate. The hooks of the host's side run when its namespaces are there.
fn launch(sandbox: Sandbox, spec: &Spec, record: &Record, io: &ProcessIo) -> Result<Container> {
    let hooks = spec.hooks().as_ref();
    let before = config::calls(hooks.and_then(|hooks| hooks.prestart().as_ref()));
    let create = config::calls(hooks.and_then(|hooks| hooks.create_runtime().as_ref()));
    let container = sandbox.start_with(&mut |pid| {
        let record = Record { pid, ..record.clone() };
        let text = state_text(&record, Status::Creating).map_err(|error| hook_failed(&error.to_string()))?;
        hooks::run("prestart", &before, &text).map_err(|reason| hook_failed(&reason))?;
        hooks::run("createRuntime", &create, &text).map_err(|reason| hook_failed(&reason))?;
        state_text(&record, Status::Created).map_err(|error| hook_failed(&error.to_string()))
    })?;
    if let (Some(socket), Some(terminal)) = (&io.console_socket, container.terminal()) {
        terminal.send(socket)?;
    }
    Ok(container)
}

/// A group with processes is somebody else's: they would be limited, frozen and ended together with the container.
fn refuse_foreign(path: &Path, id: &str) -> Result<()> {
    let Some(cgroup) = Cgroup::open(path)? else { return Ok(()) };
    if cgroup.processes()?.is_empty() {
        return Ok(());
    }
    let reason = format!("the control group {} has processes already; give linux.cgroupsPath", path.display());
    Err(Error::container_state(id, reason))
}

fn hook_failed(reason: &str) -> runtime::Error {
    runtime::Error::Hook { reason: reason.to_owned() }
}

fn state_text(record: &Record, status: Status) -> Result<Vec<u8>> {
    let mut report = state::report(record.clone(), status);
    report.pid = if status == Status::Stopped { 0 } else { record.pid };
    serde_json::to_vec(&report).map_err(|error| config::invalid("state", error))
}

fn annotations(spec: &Spec) -> BTreeMap<String, String> {
    spec.annotations().iter().flatten().map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn record(place: &Place) -> Result<Record> {
    place.record()?.ok_or_else(|| Error::container_state(place.id(), "container is being created"))
}

/// Readers see the whole number or no file.
fn write_pid(path: Option<&Path>, pid: u32) -> Result<()> {
    let Some(path) = path else { return Ok(()) };
    let mut draft = path.as_os_str().to_owned();
    draft.push(".draft");
    fs::write(&draft, pid.to_string())
        .and_then(|()| fs::rename(&draft, path))
        .map_err(|error| Error::file("write", path, error))
}

/// What a container has on the machine, until it is said to stay.
struct Made {
    place: Option<Place>,
    cgroup: Option<Arc<Cgroup>>,
}

impl Made {
    fn place(&self) -> Result<&Place> {
        self.place.as_ref().ok_or_else(|| Error::container_state("", "container does not exist"))
    }

    fn in_place(
        &mut self,
        config: &[u8],
        path: &Path,
        limits: &runtime::Resources,
    ) -> Result<(std::os::fd::OwnedFd, Arc<Cgroup>)> {
        refuse_foreign(path, self.place()?.id())?;
        let gate = self.place()?.make_gate()?;
        self.place()?.write_config(config)?;
        let cgroup = Arc::new(Cgroup::create(path, Extent::Whole, limits)?);
        self.cgroup = Some(Arc::clone(&cgroup));
        Ok((gate, cgroup))
    }

    fn keep(mut self) {
        self.place = None;
        self.cgroup = None;
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        if let Some(cgroup) = self.cgroup.take() {
            // The reason to be told is another.
            let _ = cgroup.kill(Signal::KILL).and_then(|()| cgroup.remove());
        }
        if let Some(place) = self.place.take() {
            let _ = place.remove();
        }
    }
}
