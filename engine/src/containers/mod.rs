//! Containers without a daemon. `spec` is what was asked for, `launch` makes a sandbox of it, `monitor` is the process
//! behind one that runs on its own, `state` is what became of it; the verbs are in the files of their themes.

mod attach;
mod changes;
mod cidfile;
mod copying;
mod cp;
mod devices;
mod events;
mod exec;
mod exec_terminal;
mod image;
mod inspect;
mod inspect_rest;
mod joins;
mod launch;
mod lifecycle;
mod limits;
mod log;
mod log_attributes;
mod log_files;
mod logs;
mod manage;
mod monitor;
mod mounts;
mod names;
mod network;
mod ps_program;
mod reconnect;
mod seccomp;
mod shared_network;
mod spawn;
mod spec;
mod state;
mod time;
mod usage;
mod users;
mod volumes;
mod wire;

use std::path::PathBuf;

use cache::{ContainerPlace, Image, Lease, Snapshot, failpoint};
use runtime::{AttachOptions, Extent, ForwardedSignals, Stdio, start_time};

pub(crate) use self::changes::changed;
use self::cidfile::CidFile;
use self::launch::{Launch, Start};
use self::monitor::HealthPlan;
use self::network::{Begun, Network};
use self::state::{ContainerState as State, now};
pub(crate) use self::usage::machine_memory;
use self::wire::Hello;
pub use self::{
    attach::{AttachRequest, DETACH_KEYS, Left, parse_detach_keys},
    cp::{CopyEnd, CopyRequest, CopyStreams},
    devices::{DeviceRights, DeviceSpec},
    events::{ContainerEvent, EventWindow},
    exec::ExecSpec,
    exec_terminal::{HOLD_COMMAND, hold_terminal},
    image::CommitRequest,
    joins::{LinkSpec, Streams},
    lifecycle::CreateRequest,
    limits::{DiskRate, DiskRateKind, LimitSpec},
    log::{LogLine, Output as LogOutput},
    log_attributes::{LogAttributes, check_log_pattern, check_log_tag},
    logs::LogRequest,
    mounts::VolumesFrom,
    spawn::MONITOR_COMMAND,
    spec::{
        BindPropagation, CapabilityChange, ContainerSpec, HealthChange, LogChoice, LogDriver, MountKind, MountSpec,
        NamespaceChoice, RestartPolicy, Security, Ulimit, VolumeDraft,
    },
    state::{ContainerInfo, ContainerState, Health, HealthResult, HealthStatus, Phase, Status},
    time::{parse_duration, parse_moment, rfc3339},
    usage::{ContainerUse, ProcessRow},
    users::UsernsMode,
};
use crate::Engine;
use crate::error::Result;

/// Enough to remove a directory.
const REMOVAL_STACK: usize = 128 << 10;

const OUT_OF_MEMORY: &str = "a process of the container was killed: its memory limit was reached";

/// What to run, and how the caller stays with it.
#[derive(Debug, Clone, Default)]
pub struct RunRequest {
    /// The container.
    pub create: CreateRequest,
    /// `--detach`.
    pub detach: bool,
    /// `--cidfile`.
    pub cidfile: Option<PathBuf>,
    /// `--detach-keys`.
    pub detach_keys: Vec<u8>,
    /// `--sig-proxy`.
    pub signals: bool,
}

/// What became of `run`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunOutcome {
    /// It ended, with this code.
    Ended(i32),
    /// It runs on its own; its id.
    Detached(String),
}

/// What was begun for a container before the store was looked at.
#[derive(Debug, Default)]
pub struct RunAhead(Begun);

impl RunRequest {
    /// Begins to make what takes the kernel longest, while the caller opens the store and looks for the image.
    #[must_use]
    pub fn begin(&self) -> RunAhead {
        RunAhead(if self.may_be_alone() { Network::begin(&self.create.spec) } else { Begun::default() })
    }

    /// Whether the calling process is all that the container needs, unless its image asks for checks of its health.
    fn may_be_alone(&self) -> bool {
        let spec = &self.create.spec;
        let usual = spec.streams() == joins::Streams::usual(spec.interactive);
        let types = spec.tty && spec.interactive;
        !self.detach && usual && spec.remove && !types && spec.restart == RestartPolicy::No
    }
}

impl Engine {
    /// Runs a container: until it ends, or, detached, until it has started. `ahead` is what [`RunRequest::begin`] gave.
    ///
    /// # Errors
    /// When it could not be started; [`crate::Error::run_exit_code`] tells 125, 126 and 127 apart.
    pub fn run(&self, request: &RunRequest, ahead: RunAhead, notes: &dyn Fn(String)) -> Result<RunOutcome> {
        let spec = &request.create.spec;
        let image = self.find_image(&spec.image)?;
        let streams = spec.streams();
        let alone = request.may_be_alone() && HealthPlan::of(spec, &image).is_none();
        let cidfile = request.cidfile.as_deref().map(CidFile::begin).transpose()?;
        let (place, info) = self.create_place(&request.create, &image, alone)?;
        if let Some(file) = cidfile {
            file.finish(place.id())?;
        }
        if alone {
            return self.run_alone(place, &info, &image, ahead, notes).map(RunOutcome::Ended);
        }
        let id = place.id().to_owned();
        if request.detach || (streams.only_types() && !streams.stdin) {
            let conversation = self.spawn_monitor(place, Hello::default())?;
            conversation.notes.into_iter().for_each(notes);
            return Ok(RunOutcome::Detached(id));
        }
        let attach = AttachRequest { streams, signals: request.signals, detach_keys: request.detach_keys.clone() };
        Ok(match self.start_place(place, &attach, notes)? {
            Left::Ended(code) if !streams.only_types() => RunOutcome::Ended(code),
            _ => RunOutcome::Detached(id),
        })
    }

    /// The shortest way: this process is all that the container needs, and both end together.
    fn run_alone(
        &self,
        place: ContainerPlace,
        info: &ContainerInfo,
        image: &Image,
        RunAhead(begun): RunAhead,
        notes: &dyn Fn(String),
    ) -> Result<i32> {
        let lease = place.lease(&self.store)?;
        let snapshot = self.container_snapshot(&lease, image, &place)?;
        let stdio = match info.spec.tty {
            true => Stdio::Terminal(runtime::terminal_size()),
            false => Stdio::Inherit { stdin: info.spec.interactive },
        };
        let result = (|snapshot: Snapshot| {
            // It is gone before anybody counts what it uses, or says so by a limit; but one that is to hold containers needs all.
            let extent = if info.spec.privileged { Extent::Whole } else { Extent::Asked };
            let start = Start { stdio, extent, begun };
            let launch = Launch::new(self, &info.spec, image, (place.id(), &info.name()), &snapshot, start)?;
            launch.network.notes().iter().cloned().for_each(notes);
            let signals = ForwardedSignals::catch()?;
            failpoint("run.start")?;
            let mut container = launch.sandbox.start()?;
            container.notes().iter().cloned().for_each(notes);
            let (pid, phase) = (container.pid(), Phase::Running);
            let ticks = start_time(pid).unwrap_or(0);
            let (monitor, cgroup) = (std::process::id(), launch.group.delegated_path());
            place.write_state(&State { phase, pid, ticks, monitor, started: now(), cgroup, ..State::default() })?;
            // Others find what it has mounted.
            drop(launch.turns);
            self.note_event_of(info, "start", &[]);
            let options = AttachOptions { interactive: info.spec.interactive };
            let exit = runtime::attach(&mut container, signals, options)?;
            drop(container);
            // The kernel takes as long for this as for all that follows. Without a thread it is done here.
            let (snapshot, work) = snapshot.in_halves();
            let removal = std::thread::Builder::new().stack_size(REMOVAL_STACK).spawn(move || drop(work));
            if launch.group.ran_out_of_memory() {
                notes(OUT_OF_MEMORY.to_owned());
            }
            drop(launch.group);
            launch.network.leave();
            drop(snapshot);
            self.note_event_of(info, "die", &[("exitCode", exit.status_code().to_string())]);
            removal.map(std::thread::JoinHandle::join).ok();
            Ok(exit.status_code())
        })(snapshot);
        failpoint("run.answer")?;
        place.remove()?;
        self.remove_anonymous_volumes(&info.record.volumes)?;
        self.note_event_of(info, "destroy", &[]);
        result
    }

    fn container_snapshot(&self, lease: &Lease, image: &Image, container: &ContainerPlace) -> Result<Snapshot> {
        let mut layers = Vec::new();
        for id in &image.layers {
            let layer = self.store.layer(lease, id)?.ok_or_else(|| cache::Error::LayerNotFound(id.clone()))?;
            layers.push(layer);
        }
        runtime::mount_point_layer(&self.store.mount_points_dir())?;
        Ok(self.working_store()?.container_snapshot(lease, &layers, container)?)
    }
}
