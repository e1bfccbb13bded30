//! `dunnage system`.

use clap::{Args, Subcommand, ValueEnum};

use super::container::EventsArgs;
use super::prune::SystemPruneArgs;

#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub(crate) enum System {
    /// Show what the store holds, in bytes on the disk
    Df(DfArgs),
    /// Remove what nothing uses
    Prune(SystemPruneArgs),
    /// Read everything in the store again and say what is damaged
    Check(StoreCheckArgs),
    /// Show what this machine and this dunnage are
    Info(InfoArgs),
    /// Follow what happens to containers
    Events(EventsArgs),
}

/// Show what this machine and this dunnage are
#[derive(Debug, Args)]
pub(crate) struct InfoArgs {
    #[command(flatten)]
    pub(crate) storage: StorageArgs,
    /// `json`, or a template such as '{{.Driver}} {{.NCPU}}'
    #[arg(short, long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
}

/// Show the version
#[derive(Debug, Args)]
pub(crate) struct VersionArgs {
    /// `json`, or a template such as '{{.Client.Version}}'; client and server are one program
    #[arg(short, long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
}

/// Show what the store holds, in bytes on the disk
#[derive(Debug, Args)]
pub(crate) struct DfArgs {
    /// Each image, container, volume and cached step
    #[arg(short, long)]
    pub(crate) verbose: bool,
    /// `json`, or a template such as '{{.Type}} {{.Size}}'
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
}

/// Read everything in the store again and say what is damaged
#[derive(Debug, Args)]
#[command(after_help = "Exit code 0 says that all is well, or was repaired; 1 that something is damaged.")]
pub(crate) struct StoreCheckArgs {
    /// Take what is damaged out of use: steps run again, images have to be built or loaded again
    #[arg(long)]
    pub(crate) repair: bool,
    /// `json`, for scripts
    #[arg(long, value_name = "FORMAT", value_parser = ["json"])]
    pub(crate) format: Option<String>,
}

/// What makes snapshots.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct StorageArgs {
    /// How layers become a tree that can be written [default: $DUNNAGE_STORAGE_DRIVER, else auto]
    #[arg(long, value_name = "DRIVER")]
    pub(crate) storage_driver: Option<StorageDriver>,
}

/// How files of layers become a tree to write in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum StorageDriver {
    /// Overlay where it can be had, else copies
    Auto,
    /// The kernel's overlayfs: nothing is copied
    Overlay,
    /// A copy of all files for each step and container
    Copy,
}
