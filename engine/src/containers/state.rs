//! What became of a container. The monitor writes it; a reader believes it only as far as the lock and the process agree.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use cache::ContainerRecord;
use runtime::{Cgroup, Running};
use serde::{Deserialize, Serialize};

use super::names::name_of;
use super::spec::ContainerSpec;
use crate::Engine;
use crate::error::{Error, Result};

/// The exit code of a container whose monitor was killed: the kernel killed it too.
const KILLED: i32 = 137;
/// The fewest digits of an id that make no name.
const ID_DIGITS: usize = 64;

/// `state.json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerState {
    /// What it did when this was written.
    pub phase: Phase,
    /// Its first process, as the host counts.
    pub pid: u32,
    /// When that process started, in the kernel's ticks.
    pub ticks: u64,
    /// Unix nanoseconds of the last start.
    pub started: u64,
    /// Unix nanoseconds of the last end.
    pub finished: u64,
    /// Who started it and decides what becomes of it when it has ended: its monitor, or the caller of `run`.
    pub monitor: u32,
    /// Its control group, where that is below one that was handed to a user without root.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<PathBuf>,
    /// How it ended.
    pub exit_code: i32,
    /// It ran out of the memory that it was given.
    pub oom_killed: bool,
    /// Why it could not be started.
    pub error: String,
    /// How often it was started again.
    pub restarts: u32,
    /// What its health checks found.
    pub health: Option<Health>,
}

impl ContainerState {
    /// The control group of a container that runs, where it has one.
    pub(super) fn control_group(&self, spec: &ContainerSpec, id: &str) -> Result<Option<Cgroup>> {
        let path = self.cgroup.clone().unwrap_or_else(|| spec.limits.cgroup_path(id));
        Ok(Cgroup::open(path)?)
    }
}

/// What a container does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// It was never started.
    #[default]
    Created,
    /// It runs.
    Running,
    /// It waits to be started again.
    Restarting,
    /// It ended.
    Exited,
}

/// What health checks found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// The verdict.
    pub status: HealthStatus,
    /// Failures in a row.
    pub failing_streak: u32,
    /// The last five checks.
    pub log: Vec<HealthResult>,
}

/// The verdict of health checks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "the variants are docker's words")]
pub enum HealthStatus {
    #[default]
    Starting,
    Healthy,
    Unhealthy,
}

/// One health check.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthResult {
    /// Unix nanoseconds.
    pub start: u64,
    /// Unix nanoseconds.
    pub end: u64,
    /// 0 is healthy; -1 is one that took too long.
    pub exit_code: i32,
    /// The first 4096 bytes of what it printed.
    pub output: String,
}

/// What a container is now, in docker's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the variants are docker's words")]
pub enum Status {
    Created,
    Running,
    Paused,
    Restarting,
    Exited,
}

impl Status {
    /// Docker's word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Restarting => "restarting",
            Status::Exited => "exited",
        }
    }

    /// Whether processes of it are there.
    #[must_use]
    pub fn is_running(self) -> bool {
        matches!(self, Status::Running | Status::Paused)
    }
}

impl HealthStatus {
    /// Docker's word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            HealthStatus::Starting => "starting",
            HealthStatus::Healthy => "healthy",
            HealthStatus::Unhealthy => "unhealthy",
        }
    }
}

/// A container: what was asked for, and what became of it.
#[derive(Debug, Clone)]
pub struct ContainerInfo {
    /// What the store knows.
    pub record: ContainerRecord,
    /// What was asked for.
    pub spec: ContainerSpec,
    /// What became of it.
    pub state: ContainerState,
    /// What it is now.
    pub status: Status,
    /// A process has it: it runs, or is about to run or to end.
    pub(crate) held: bool,
}

impl ContainerInfo {
    /// One that this process has just made.
    pub(super) fn fresh(record: ContainerRecord, spec: ContainerSpec) -> ContainerInfo {
        ContainerInfo { record, spec, state: ContainerState::default(), status: Status::Created, held: true }
    }

    /// Its name, given or made up.
    #[must_use]
    pub fn name(&self) -> String {
        self.record.name.clone().unwrap_or_else(|| name_of(&self.record.id))
    }

    /// The first twelve digits of its id.
    #[must_use]
    pub fn short_id(&self) -> &str {
        self.record.id.get(..12).unwrap_or(&self.record.id)
    }

    /// Its running process.
    ///
    /// # Errors
    /// When it does not run.
    pub(crate) fn running(&self) -> Result<Running> {
        let running = match self.status.is_running() {
            true => Running::find(self.state.pid, self.state.ticks)?,
            false => None,
        };
        let status = if self.status.is_running() { "about to end" } else { self.status.word() };
        running.ok_or_else(|| Error::NotRunning { name: self.name(), status })
    }
}

impl Engine {
    /// All containers, newest first.
    ///
    /// # Errors
    /// What the store says.
    pub fn containers(&self) -> Result<Vec<ContainerInfo>> {
        let mut found = Vec::new();
        for (record, held) in self.store.containers()? {
            match self.look_at(record, held) {
                // It went while it was looked at.
                Err(error) if error.is_missing_container() => {}
                info => found.push(info?),
            }
        }
        found.sort_by(|a, b| {
            let key = |info: &ContainerInfo| (info.record.created, info.record.created_nanos);
            key(b).cmp(&key(a)).then_with(|| a.record.id.cmp(&b.record.id))
        });
        Ok(found)
    }

    /// A container by its name, or the beginning of its id.
    ///
    /// # Errors
    /// When there is none, or the beginning is that of several.
    pub fn container(&self, text: &str) -> Result<ContainerInfo> {
        let missing = || Error::Store(cache::Error::ContainerNotFound(text.to_owned()));
        if text.len() == ID_DIGITS && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            let (record, held) = self.store.container(text)?.ok_or_else(missing)?;
            return self.look_at(record, held);
        }
        let all = self.store.containers()?;
        let named = |(record, _): &&(ContainerRecord, bool)| record.name.as_deref() == Some(text);
        let made_up = |(record, _): &&(ContainerRecord, bool)| record.name.is_none() && name_of(&record.id) == text;
        if let Some((record, held)) = all.iter().find(named).or_else(|| all.iter().find(made_up)) {
            return self.look_at(record.clone(), *held);
        }
        let mut by_id = all.iter().filter(|(record, _)| !text.is_empty() && record.id.starts_with(text));
        match (by_id.next(), by_id.next()) {
            (Some((record, held)), None) => self.look_at(record.clone(), *held),
            (None, _) => Err(missing()),
            (Some(_), Some(_)) => {
                Err(Error::Usage(format!("several containers have an id that begins with `{text}`: give more of it")))
            }
        }
    }

    pub(super) fn look_at(&self, record: ContainerRecord, held: bool) -> Result<ContainerInfo> {
        let spec = spec_of(&record);
        let read = self.store.container_state(&record.id);
        if read.is_none() {
            self.is_there_still(&record)?;
        }
        let mut state: ContainerState = read.unwrap_or_default();
        let lives =
            |state: &ContainerState| -> Result<bool> { Ok(held && Running::find(state.pid, state.ticks)?.is_some()) };
        let status = match state.phase {
            Phase::Created => Status::Created,
            Phase::Running if lives(&state)? => {
                let group = state.control_group(&spec, &record.id).ok().flatten();
                if group.is_some_and(|group| group.is_frozen()) { Status::Paused } else { Status::Running }
            }
            // It has ended, and whether that is the end is still to be decided.
            Phase::Running if held && is_there(state.monitor) => Status::Running,
            Phase::Restarting if held => Status::Restarting,
            Phase::Running | Phase::Restarting => {
                // Whoever would have written how it ended was killed, or has just written it.
                if let Some(last) = self.store.container_state::<ContainerState>(&record.id) {
                    state = last;
                }
                if state.phase != Phase::Exited {
                    self.is_there_still(&record)?;
                    state = ContainerState { exit_code: KILLED, finished: now(), phase: Phase::Exited, ..state };
                }
                Status::Exited
            }
            Phase::Exited => Status::Exited,
        };
        Ok(ContainerInfo { record, spec, state, status, held })
    }
}

impl Engine {
    /// What a container left that removed itself tells nothing of how it ended.
    fn is_there_still(&self, record: &ContainerRecord) -> Result<()> {
        match self.store.container(&record.id)? {
            Some(_) => Ok(()),
            None => Err(Error::Store(cache::Error::ContainerNotFound(record.id.clone()))),
        }
    }
}

/// Whether a process has this number. It counts beside a lock that a stranger with the same number does not hold.
fn is_there(pid: u32) -> bool {
    pid != 0 && Path::new("/proc").join(pid.to_string()).exists()
}

fn spec_of(record: &ContainerRecord) -> ContainerSpec {
    serde_json::from_value(record.spec.clone()).unwrap_or_default()
}

/// Unix nanoseconds.
pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
