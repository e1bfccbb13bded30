//! `dunnage system`.

use clap::{Args, Subcommand, ValueEnum};

#[derive(Debug, Subcommand)]
pub(crate) enum System {
    /// Show what the store holds, in bytes on the disk
    Df(DfArgs),
    /// Remove what nothing uses
    Prune(PruneArgs),
    /// Read everything in the store again and say what is damaged
    Check(StoreCheckArgs),
}

/// Show what the store holds, in bytes on the disk
#[derive(Debug, Args)]
pub(crate) struct DfArgs {
    /// `json`, or a template such as '{{.Type}} {{.Size}}'
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
}

/// Remove what nothing uses: stopped containers, images without a name, layers that no image or cached step has
#[derive(Debug, Args)]
pub(crate) struct PruneArgs {
    /// Also the whole build cache, and images that no container stands on
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Do not ask
    #[arg(short, long)]
    pub(crate) force: bool,
    /// Only tell what would go
    #[arg(long)]
    pub(crate) dry_run: bool,
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
