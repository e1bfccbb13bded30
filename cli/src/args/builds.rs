//! `dunnage builds`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub(crate) enum Builds {
    /// List builds, the last first
    #[command(alias = "list")]
    Ls(BuildsLsArgs),
    /// Show what became of each step of a build
    #[command(alias = "inspect")]
    Show(BuildsShowArgs),
    /// Show what the steps of a build wrote
    Logs(BuildsLogsArgs),
    /// Remove the records of builds
    #[command(alias = "remove")]
    Rm(BuildsRmArgs),
}

/// List builds, the last first
#[derive(Debug, Args)]
pub(crate) struct BuildsLsArgs {
    /// Print ids only
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// `json`, or a template such as '{{.ID}} {{.Status}} {{.Duration}}'
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
    /// Only builds with `status=VALUE`, `name=IMAGE` or `context=DIR`; can be repeated
    #[arg(long, value_name = "FILTER")]
    pub(crate) filter: Vec<String>,
}

/// Show what became of each step of a build
#[derive(Debug, Args)]
pub(crate) struct BuildsShowArgs {
    /// The build, by the beginning of its id [default: the last one]
    pub(crate) id: Option<String>,
    /// `json`, or a template such as '{{.status}} {{.image}}'
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
    /// Write the page that `dunnage build --timings` writes, and a trace beside it
    #[arg(long, value_name = "FILE", conflicts_with = "format")]
    pub(crate) timings: Option<PathBuf>,
}

/// Show what the steps of a build wrote
#[derive(Debug, Args)]
pub(crate) struct BuildsLogsArgs {
    /// The build, by the beginning of its id [default: the last one]
    pub(crate) id: Option<String>,
    /// Only this step: its number, STAGE/PLACE, or the beginning of its instruction
    #[arg(long, value_name = "STEP")]
    pub(crate) step: Option<String>,
    /// Go on until the build ends
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// The bytes as they came, escape sequences and all
    #[arg(long)]
    pub(crate) raw: bool,
}

/// Remove the records of builds
#[derive(Debug, Args)]
pub(crate) struct BuildsRmArgs {
    /// The builds, by the beginnings of their ids
    #[arg(required_unless_present = "all")]
    pub(crate) ids: Vec<String>,
    /// All that do not run
    #[arg(short, long, conflicts_with = "ids")]
    pub(crate) all: bool,
}
