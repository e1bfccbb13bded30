//! `dunnage system`.

use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(crate) enum System {
    /// Show what the store holds, in bytes on the disk
    Df(DfArgs),
    /// Remove what nothing uses
    Prune(PruneArgs),
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
