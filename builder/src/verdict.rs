//! Whether the cache had a step's result, and if not, why: as data that records keep and every renderer shows.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Whether the cache had a step's result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "kebab-case")]
pub enum Verdict {
    /// A record with this key exists and its layer is here.
    Hit(Recorded),
    /// The step must be performed.
    Miss(MissReason),
}

/// The record that a step hit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recorded {
    /// Its key, in hexadecimal.
    pub key: String,
    /// Unix seconds when the layer was made first.
    pub created: u64,
    /// How long the step took then, in milliseconds.
    pub took_ms: u64,
    /// Bytes of file content in the layer.
    pub bytes: u64,
    /// The tree, in hexadecimal.
    pub tree: String,
}

/// Why a step has to be performed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "why", rename_all = "kebab-case")]
pub enum MissReason {
    /// The cache was told not to be asked.
    NotAsked,
    /// No build of this Dockerfile had this step before.
    New,
    /// The build before began it with the same inputs and did not finish it.
    Unfinished,
    /// It was performed with the same inputs before, and its record was removed.
    RecordGone,
    /// The record names a layer that is no longer in the store.
    LayerGone,
    /// What it sees is not what it saw in the build before.
    Changed {
        /// Each part that differs; never empty.
        changes: Vec<Change>,
    },
}

/// One part of a key that differs from what it was in the build before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "part", rename_all = "kebab-case")]
pub enum Change {
    /// A file that COPY or ADD selects.
    File {
        /// In the source's tree.
        path: String,
        /// What happened to it.
        how: FileChange,
    },
    /// Files beyond those that are named.
    MoreFiles {
        /// How many.
        count: u64,
    },
    /// A whole source, where the single files are not known.
    Source {
        /// As selected.
        path: String,
        /// What happened to it.
        how: FileChange,
    },
    /// What the instruction says.
    Instruction {
        /// As it was.
        old: String,
        /// As it is.
        new: String,
    },
    /// A variable in scope: ARG, `--build-arg` or ENV.
    Variable {
        /// Its name.
        name: String,
        /// Its value, shortened; `None` when it was not set. Of a secret only that there is one.
        old: Option<String>,
        /// The same, as it is.
        new: Option<String>,
    },
    /// The files of a base image.
    Base {
        /// The image.
        image: String,
    },
    /// The files that an earlier step gave.
    Step {
        /// Its number.
        step: usize,
    },
    /// A step before this one that is no more.
    Removed {
        /// The instruction.
        text: String,
    },
    /// A flag, mount or other setting of the step.
    Setting {
        /// In the words of the key.
        name: String,
        /// As it was, shortened.
        old: Option<String>,
        /// As it is.
        new: Option<String>,
    },
}

/// What happened to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FileChange {
    /// It was not there.
    Added,
    /// It is no longer there.
    Removed,
    /// Its bytes, or where a link points.
    Content,
    /// Mode or owner.
    Mode,
    /// A file became a directory, or the like.
    Kind,
}

impl fmt::Display for FileChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FileChange::Added => "was added",
            FileChange::Removed => "was removed",
            FileChange::Content => "changed",
            FileChange::Mode => "has another mode or owner",
            FileChange::Kind => "is of another kind",
        })
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Change::File { path, how } | Change::Source { path, how } => write!(f, "{path} {how}"),
            Change::MoreFiles { count } => write!(f, "{count} more files differ"),
            Change::Instruction { old, new } => write!(f, "the instruction changed: {old} → {new}"),
            Change::Variable { name, old, new } => changed(f, name, old.as_deref(), new.as_deref()),
            Change::Base { image } => write!(f, "the base image {image} has other files"),
            Change::Step { step } => write!(f, "step #{step} gave other files"),
            Change::Removed { text } => write!(f, "an earlier step is gone: {text}"),
            Change::Setting { name, old, new } => changed(f, name, old.as_deref(), new.as_deref()),
        }
    }
}

fn changed(f: &mut fmt::Formatter<'_>, name: &str, old: Option<&str>, new: Option<&str>) -> fmt::Result {
    match (old, new) {
        (Some(old), Some(new)) => write!(f, "{name} changed: {old} → {new}"),
        (None, Some(new)) => write!(f, "{name} is new: {new}"),
        (Some(old), None) => write!(f, "{name} is gone: it was {old}"),
        (None, None) => write!(f, "{name} changed"),
    }
}

impl fmt::Display for MissReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MissReason::NotAsked => f.write_str("the cache was not asked"),
            MissReason::New => f.write_str("no earlier build of this Dockerfile had this step"),
            MissReason::Unfinished => f.write_str("the build before did not finish it"),
            MissReason::RecordGone => f.write_str("its record is no longer in the cache"),
            MissReason::LayerGone => f.write_str("its layer is no longer in the store"),
            MissReason::Changed { changes } => {
                for (index, change) in changes.iter().enumerate() {
                    let separator = if index == 0 { "" } else { "; " };
                    write!(f, "{separator}{change}")?;
                }
                Ok(())
            }
        }
    }
}
