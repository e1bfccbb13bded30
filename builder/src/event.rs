//! What a solve reports while it works. A closed enum; every renderer matches it whole.

use std::time::Duration;

use crate::plan::StepId;

/// A step as progress shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepInfo {
    /// The step.
    pub id: StepId,
    /// Stage name, or `stage-N`.
    pub stage: String,
    /// Place among the file-system steps of its stage, 1-based, and their number.
    pub position: (usize, usize),
    /// The instruction on one line.
    pub text: String,
}

/// Which stream of a RUN wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Whether the cache had a step's result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// A record with this key exists and its layer is here.
    Hit,
    /// The step must be performed.
    Miss(MissReason),
}

/// Why a step has to be performed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MissReason {
    /// The cache was told not to be asked.
    NotAsked,
    /// There is no record of a step with this key.
    NoRecord,
    /// The record names a layer that is no longer in the store.
    LayerGone,
}

/// One thing that happened in a solve.
#[derive(Debug, Clone)]
pub enum Event {
    /// The plan is known: the steps that are performed or hit, in Dockerfile order.
    Planned(Vec<StepInfo>),
    /// The context selection of a COPY was read: files, bytes.
    ContextRead {
        /// Number of entries.
        entries: u64,
        /// Bytes of file content among them.
        bytes: u64,
    },
    /// The step's key hit.
    Hit(StepId),
    /// The step is being performed.
    Started(StepId, MissReason),
    /// A RUN wrote these bytes.
    Output(StepId, Stream, Vec<u8>),
    /// The step has its layer.
    Finished {
        /// The step.
        id: StepId,
        /// Wall time of performing it.
        duration: Duration,
        /// The tree equals one that the store had: everything after it can hit.
        same_tree: bool,
    },
    /// Something that the user should know, in one sentence.
    Note(Option<StepId>, String),
    /// The step failed.
    Failed(StepId),
    /// The step was stopped because another failed or the user asked.
    Cancelled(StepId),
}
