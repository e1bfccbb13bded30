//! The record of a build: what was built, what became of each step and why. Written while the build runs.

use std::collections::BTreeMap;
use std::path::PathBuf;

use builder::{Event, MissReason, Recorded, StepId, StepInfo};
use serde::{Deserialize, Serialize};

/// The form of a record. Fields are added within a version, never changed.
pub const RECORD_VERSION: u32 = 1;

/// How a build ended, or that it has not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BuildStatus {
    /// It runs.
    Running,
    /// It gave an image.
    Ok,
    /// Something was wrong.
    Failed,
    /// The user stopped it.
    Cancelled,
    /// Its process was killed.
    Interrupted,
}

/// What became of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepStatus {
    /// Its turn did not come.
    Waiting,
    /// It is being performed, or was when the build was killed.
    Running,
    /// The cache had it.
    Cached,
    /// It was performed.
    Ran,
    /// It failed.
    Failed,
    /// It was stopped.
    Cancelled,
}

/// One build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildRecord {
    /// [`RECORD_VERSION`].
    pub version: u32,
    /// Ten hexadecimal digits.
    pub id: String,
    /// How it ended.
    pub status: BuildStatus,
    /// Unix milliseconds.
    pub started_ms: u64,
    /// Milliseconds from the beginning to the end, or to the last thing that was written.
    pub took_ms: u64,
    /// The build context, absolute.
    pub context: String,
    /// The Dockerfile, as messages name it; empty when it could not be planned.
    pub dockerfile: String,
    /// `--target`.
    pub target: Option<String>,
    /// The platform that the image is for.
    pub platform: String,
    /// Names of the image.
    pub names: Vec<String>,
    /// `--build-arg`; values of secret names are left out.
    pub args: BTreeMap<String, String>,
    /// `--no-cache`.
    pub no_cache: bool,
    /// The image's id.
    pub image: Option<String>,
    /// Bytes of file content in the image's layers.
    pub bytes: u64,
    /// The exit code of the build.
    pub exit_code: Option<i32>,
    /// Why it failed.
    pub error: Option<RecordedError>,
    /// Bytes that the steps wrote.
    pub log_bytes: u64,
    /// The log passed its limit, and the rest was not kept.
    pub log_cut: bool,
    /// The command line, where it may be kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<Asked>,
    /// In planning order.
    pub steps: Vec<StepRecord>,
}

/// How a build was asked for: enough to ask again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// The directory that relative paths are of.
    pub directory: PathBuf,
    /// The words behind `dunnage build`.
    pub words: Vec<String>,
}

/// An error with its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedError {
    /// The sentence.
    pub message: String,
    /// The Dockerfile and the line, where it is about one.
    pub place: Option<(String, usize)>,
}

/// One step of a build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepRecord {
    /// From 1.
    pub number: usize,
    /// Stage name or `stage-N`.
    pub stage: String,
    /// Place in its stage, and how many there are.
    pub position: (usize, usize),
    /// The instruction on one line.
    pub text: String,
    /// Its line in the Dockerfile.
    pub line: usize,
    /// Numbers of the steps whose files it sees.
    pub inputs: Vec<usize>,
    /// Base images whose files it sees.
    pub bases: Vec<String>,
    /// What became of it.
    pub status: StepStatus,
    /// Why it was performed.
    pub reason: Option<MissReason>,
    /// What it hit.
    pub hit: Option<Recorded>,
    /// Which worker had it.
    pub worker: usize,
    /// Milliseconds since the build began.
    pub began_ms: u64,
    /// The same, of its end.
    pub ended_ms: u64,
    /// The layer's diff id, of a step that was performed.
    pub layer: Option<String>,
    /// The hash of its tree.
    pub tree: Option<String>,
    /// The tree is one that the store had.
    pub same_tree: bool,
    /// Bytes of file content in its layer.
    pub bytes: u64,
    /// Entries and bytes that it read from the context.
    pub context: Option<(u64, u64)>,
}

impl From<&StepInfo> for StepRecord {
    fn from(info: &StepInfo) -> Self {
        StepRecord {
            number: info.number,
            stage: info.stage.clone(),
            position: info.position,
            text: info.text.clone(),
            line: info.line,
            inputs: info.inputs.clone(),
            bases: info.bases.clone(),
            status: StepStatus::Waiting,
            reason: None,
            hit: None,
            worker: 0,
            began_ms: 0,
            ended_ms: 0,
            layer: None,
            tree: None,
            same_tree: false,
            bytes: 0,
            context: None,
        }
    }
}

impl BuildRecord {
    /// One step.
    pub fn step(&self, number: usize) -> Option<&StepRecord> {
        self.steps.get(number.checked_sub(1)?)
    }

    /// How many steps ended so.
    pub fn count(&self, status: StepStatus) -> usize {
        self.steps.iter().filter(|step| step.status == status).count()
    }

    /// The steps that the build's time hangs on, first to last: from the one that ended last, back over the input that
    /// ended last.
    pub fn critical_path(&self) -> Vec<usize> {
        let mut path = Vec::new();
        let ended = |step: &&StepRecord| step.ended_ms;
        let mut next = self.steps.iter().max_by_key(ended);
        while let Some(step) = next {
            path.push(step.number);
            let earlier = step.inputs.iter().filter(|input| **input < step.number);
            next = earlier.filter_map(|input| self.step(*input)).max_by_key(ended);
        }
        path.reverse();
        path
    }

    /// Takes in what happened `at` milliseconds after the beginning.
    pub(crate) fn event(&mut self, event: &Event, at: u64, numbers: &BTreeMap<StepId, usize>) {
        let number = |id: &StepId| numbers.get(id).copied().unwrap_or(0);
        match event {
            // Of several platforms each adds its steps.
            Event::Planned(planned) => {
                self.steps.truncate(planned.len());
                let known = self.steps.len();
                self.steps.extend(planned.iter().skip(known).map(StepRecord::from));
            }
            Event::Recorded(_) | Event::Transfer { .. } | Event::Output(..) | Event::Note(..) => {}
            Event::ContextRead { id, entries, bytes } => {
                self.change(number(id), |step| step.context = Some((*entries, *bytes)))
            }
            Event::Hit { id, worker, took, record } => self.change(number(id), |step| {
                step.status = StepStatus::Cached;
                step.worker = *worker;
                step.began_ms = at.saturating_sub(millis(*took));
                step.ended_ms = at;
                step.bytes = record.bytes;
                step.tree = Some(record.tree.clone());
                step.hit = Some(record.clone());
            }),
            Event::Started { id, worker, reason } => self.change(number(id), |step| {
                step.status = StepStatus::Running;
                step.worker = *worker;
                step.began_ms = at;
                step.reason = Some(reason.clone());
            }),
            Event::Finished { id, same_tree, layer, tree, bytes, .. } => self.change(number(id), |step| {
                step.status = StepStatus::Ran;
                step.ended_ms = at;
                step.same_tree = *same_tree;
                step.layer = Some(layer.clone());
                step.tree = Some(tree.clone());
                step.bytes = *bytes;
            }),
            Event::Failed(id) => self.end(number(id), StepStatus::Failed, at),
            Event::Cancelled(id) => self.end(number(id), StepStatus::Cancelled, at),
        }
        self.took_ms = at;
    }

    fn end(&mut self, id: usize, status: StepStatus, at: u64) {
        self.change(id, |step| {
            if step.status == StepStatus::Waiting {
                step.began_ms = at;
            }
            step.status = status;
            step.ended_ms = at;
        });
    }

    fn change(&mut self, number: usize, how: impl FnOnce(&mut StepRecord)) {
        if let Some(step) = number.checked_sub(1).and_then(|index| self.steps.get_mut(index)) {
            how(step);
        }
    }
}

pub(crate) fn millis(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
