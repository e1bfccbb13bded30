//! What a solve reports while it works. A closed enum; every renderer matches it whole.

use std::time::Duration;

use crate::plan::StepId;
use crate::verdict::{MissReason, Recorded};

/// A step as progress shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepInfo {
    /// The step.
    pub id: StepId,
    /// The number that users see: from 1, in planning order.
    pub number: usize,
    /// Stage name, or `stage-N`.
    pub stage: String,
    /// Place among the file-system steps of its stage, 1-based, and their number.
    pub position: (usize, usize),
    /// The instruction on one line.
    pub text: String,
    /// Its line in the Dockerfile, from 1.
    pub line: usize,
    /// Numbers of the steps whose files it sees.
    pub inputs: Vec<usize>,
    /// Base images whose files it sees, `scratch` among them.
    pub bases: Vec<String>,
}

/// Which stream of a RUN wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// How far a transfer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransferState {
    /// It begins, or begins anew; of so many bytes.
    Begun(u64),
    /// So many bytes more are here.
    Moved(u64),
    /// It is here and verified; so many bytes came.
    Ended(u64),
    /// It is given up.
    Stopped,
}

/// One thing that happened in a solve.
#[derive(Debug, Clone)]
pub enum Event {
    /// The build leaves a record of this id.
    Recorded(String),
    /// The plan is known: the steps that are performed or hit, in Dockerfile order.
    Planned(Vec<StepInfo>),
    /// The context selection of a COPY was read: files, bytes.
    ContextRead {
        /// The step that reads it.
        id: StepId,
        /// Number of entries.
        entries: u64,
        /// Bytes of file content among them.
        bytes: u64,
    },
    /// The step's key hit.
    Hit {
        /// The step.
        id: StepId,
        /// Which worker looked it up, from 0.
        worker: usize,
        /// Wall time of looking it up, reading of files included.
        took: Duration,
        /// What it hit.
        record: Recorded,
    },
    /// The step is being performed.
    Started {
        /// The step.
        id: StepId,
        /// Which worker performs it, from 0.
        worker: usize,
        /// Why the cache did not have it.
        reason: MissReason,
    },
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
        /// The layer's diff id.
        layer: String,
        /// The hash of its tree, in hexadecimal.
        tree: String,
        /// Bytes of file content in it.
        bytes: u64,
    },
    /// A blob of an image or of a cache, on its way here.
    Transfer {
        /// The hexadecimal beginning of its digest.
        blob: String,
        /// How far it is.
        state: TransferState,
    },
    /// Something that the user should know, in one sentence.
    Note(Option<StepId>, String),
    /// The step failed.
    Failed(StepId),
    /// The step was stopped because another failed or the user asked.
    Cancelled(StepId),
}
