//! The verbs: build, plan, why, builds, check, run, images, pull, push, save, load, import, bootstrap, volumes, prune. No algorithm lives here.
//!
//! An [`Engine`] is a handle on a store; each verb is a method in the file of its name. What happens on the way is
//! told through events; nothing here prints, exits or reads the environment.
#![forbid(unsafe_code)]

mod archives;
mod attest;
mod bake;
mod bootstrap;
mod build;
mod builds;
mod check;
mod containers;
mod contexts;
mod credential_helper;
mod debug;
mod elf;
mod error;
mod git;
mod housekeeping;
mod images;
mod isolation;
mod login;
mod manifests;
mod networks;
pub mod oci;
mod outline;
mod outputs;
mod plan;
mod prepare;
mod produce;
mod pull;
mod push;
mod record;
mod recorder;
mod registries;
mod remote;
mod remote_caches;
mod said;
mod serve;
mod source_secrets;
mod sources;
mod storage;
mod userns;
mod volume_options;
mod volumes;
mod watch;
mod why;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

pub use archives::{ArchiveFormat, ImportRequest, LoadInput, Loaded, SaveOutput};
pub use attest::{Annotation, Attest, AttestFlag, Provenance, ProvenanceMode};
pub use bake::{
    BakeChoice, BakeFile, BakeFormat, BakeGroup, BakePlan, BakeTarget, BakeVariable, COMMAND_CONTEXT, Fields, Project,
};
pub use bootstrap::{BootstrapBase, SearchPath};
pub use build::{BuildRequest, Built};
pub use builder::{
    Cancel, Change, Credentials, Entitlement, Event, Fate, FileChange, Forecast, MissReason, Recorded, RunSettings,
    Secret, Side, StepId, StepInfo, Stream, TransferState,
};
#[cfg(feature = "failpoints")]
pub use cache::FAILPOINTS;
pub use cache::{
    Budget, CachePolicy, CacheUsage, ContainerUsage, EndpointRecord, FAILPOINTS_VARIABLE, Filters, ImagePolicy,
    ImageUsage, LabelFilter, Log, NetworkRecord, NetworkSubnet, Origin, Owner, Part, Platform, Problem, PruneOptions,
    Pruned, PrunedCache, PrunedImage, Reference, StoreCheck, StoredImage, TreeChange, Usage, Volume, VolumePolicy,
    VolumeUsage, arm_failpoints,
};
pub use check::{Checked, check};
pub use containers::{
    AttachRequest, BindPropagation, CapabilityChange, CommitRequest, ContainerEvent, ContainerInfo, ContainerSpec,
    ContainerState, ContainerUse, CopyEnd, CopyRequest, CopyStreams, CreateRequest, DETACH_KEYS, DeviceRights,
    DeviceSpec, DiskRate, DiskRateKind, EventWindow, ExecSpec, HOLD_COMMAND, Health, HealthChange, HealthResult,
    HealthStatus, Left, LimitSpec, LinkSpec, LogAttributes, LogChoice, LogDriver, LogLine, LogOutput, LogRequest,
    MONITOR_COMMAND, MountKind, MountSpec, NamespaceChoice, Phase, ProcessRow, RestartPolicy, RunAhead, RunOutcome,
    RunRequest, Security, Status, Streams, Ulimit, UsernsMode, VolumeDraft, VolumesFrom, check_log_pattern,
    check_log_tag, hold_terminal, parse_detach_keys, parse_duration, parse_moment, rfc3339,
};
pub use contexts::{ContextSource, DockerfileSource, NamedSource};
pub use debug::DebugRequest;
pub use error::{Error, Result};
pub use housekeeping::{Cgroups, Info};
pub use images::{HistoryEntry, Removed};
pub use isolation::{Isolation, isolate};
pub use login::Kept;
pub use manifests::ListAnnotation;
pub use networks::{
    DEFAULT as DEFAULT_NETWORK, HostEntry, MacAddress, Membership, NameFiles, NetworkChoice, NetworkDriver,
    NetworkInfo, NewNetwork, PortBinding, PortSpec, Protocol, is_link_local,
};
pub use outline::{outline, targets};
pub use outputs::{Destination, Output};
pub use plan::Planned;
pub use pull::{PullPolicy, PullRequest, PulledImage, Supply, Transfers};
pub use push::{PushRequest, PushedImage};
pub use record::{Asked, BuildRecord, BuildStatus, RECORD_VERSION, RecordedError, StepRecord, StepStatus};
pub use registries::RegistryFiles;
pub use registry::{
    BlobState, Found, HttpOptions, LayerCompression, Proxies, S3Credentials, S3Environment, ServeEvent, ServeOptions,
    SettingsFiles, TransferEvent,
};
pub use remote_caches::{CacheFrom, CachePlace, CacheTo};
pub use runtime::{Delegated, Ids, NetworkMode, Resource, Rlimit, Signal, is_superuser, seal_program};
pub use sources::FetchOptions;
pub use storage::{Storage, StorageChoice};
pub use userns::UsernsRanges;
pub use watch::Watch;
pub use why::Explained;

/// How an engine is opened.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// The store's directory; made when it is missing.
    pub root: PathBuf,
    /// What makes snapshots.
    pub storage: StorageChoice,
    /// Where programs of this machine are.
    pub programs: SearchPath,
    /// The user's own files of settings, the first one first.
    pub settings: Vec<PathBuf>,
}

/// A handle on a store and what works on it.
#[derive(Debug)]
pub struct Engine {
    store: cache::Store,
    choice: StorageChoice,
    programs: SearchPath,
    storage: OnceLock<Storage>,
    settings: Vec<PathBuf>,
    userns: OnceLock<userns::UsernsSettings>,
}

impl Engine {
    /// Opens the store, and sweeps what processes that died left in it.
    ///
    /// # Errors
    /// When the directory cannot be made or was written by a newer version.
    pub fn open(options: &EngineOptions) -> Result<Engine> {
        let store = cache::Store::open(&options.root)?;
        runtime::sweep_control_groups();
        Ok(Engine {
            store,
            choice: options.storage,
            programs: options.programs.clone(),
            storage: OnceLock::new(),
            settings: options.settings.clone(),
            userns: OnceLock::new(),
        })
    }

    /// Where the store is.
    pub fn root(&self) -> &Path {
        self.store.root()
    }
}
