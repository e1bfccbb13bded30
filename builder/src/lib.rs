//! From a Dockerfile to an image: bases, plan, keys, schedule, steps, assembly.
//!
//! The way of a build, each word a module of that name:
//! [`bases`] says which images the reachable stages need, [`plan`] turns the text into a DAG of [`Step`]s (pure),
//! [`solve`] walks the DAG against a store and a kernel, [`image_config`] is the image.
//! HTTP, system calls and terminals are not known here.
#![forbid(unsafe_code)]

mod assemble;
mod bases;
mod cancel;
mod cdi;
mod config;
mod content;
mod context;
mod credentials;
mod doubts;
mod error;
mod event;
mod explain;
mod forecast;
mod key;
mod listing;
mod lookup;
mod memory;
mod mounts;
mod options;
mod outline;
mod outputs;
mod paths;
mod perform;
mod plan;
mod reads;
mod reason;
mod remote_mounts;
mod remotes;
mod scope;
mod select;
mod settle;
mod solve;
mod sources;
mod stages;
mod verdict;
mod walk;
mod walk_files;
mod walk_run;

pub use assemble::{image_config, rfc3339};
pub use bases::{Base, BaseImages, bases, contexts};
pub use cancel::Cancel;
pub use context::Context;
pub use credentials::{Credentials, Secret};
pub use error::{Error, Result};
pub use event::{Event, StepInfo, Stream, TransferState};
pub use forecast::{Fate, Forecast};
pub use key::KeyParts;
pub use memory::Memory;
pub use mounts::{FileRights, MountFrom, Mounted, RunMount};
pub use options::{Entitlement, NamedContext, Options, RunSettings};
pub use outline::{Outline, OutlineArg, OutlineMount, Target, outline, targets};
pub use outputs::{Written, write_directory, write_tar, write_tar_of};
pub use paths::clean;
pub use perform::{DeviceChanges, FailedRun, Shell, Side, machine_devices, pretended_owners, rootfs, rootfs_of};
pub use plan::{CopyOp, CopySource, Op, Plan, RunOp, Script, Step, StepId, WorkdirOp, check, plan};
pub use reads::{Reads, reads};
pub use remote_mounts::{ExportedMount, cache_mount_ids};
pub use remotes::{ExportMode, Exported, RemoteTraffic, Remotes};
pub use solve::{Solved, Solver};
pub use sources::{Checkout, FetchScope, Fetched, HttpSource, SourceError, Sources};
pub use verdict::{Change, FileChange, MissReason, Recorded, Verdict};
