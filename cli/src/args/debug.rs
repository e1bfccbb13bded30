//! `dunnage debug`.

use std::path::PathBuf;

use clap::Args;

use super::Progress;

/// Open a shell in the sandbox of a build step
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  dunnage debug                       the state before the step that failed in the last build of this directory
  dunnage debug 3                     before step 3, with its environment, user, directory and mounts
  dunnage debug --after build/2       what the second step of the stage `build` gave
  dunnage debug 3 -- cat /etc/passwd  one command instead of a shell

Nothing that is written there is kept. The build is asked again as it was written: steps that are no longer in the cache
are performed first, and secrets are read again.")]
pub(crate) struct DebugArgs {
    /// The step: its number, STAGE/PLACE, or the beginning of its instruction [default: the one that failed, else the last]
    pub(crate) step: Option<String>,
    /// The state that the step sees [default]
    #[arg(long, conflicts_with = "after")]
    pub(crate) before: bool,
    /// The state that the step gave
    #[arg(long)]
    pub(crate) after: bool,
    /// The build [default: the last one of the context, else the last one]
    #[arg(long, value_name = "ID", conflicts_with = "context")]
    pub(crate) build: Option<String>,
    /// The context whose last build is meant
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub(crate) context: PathBuf,
    /// How to show progress [default: $DUNNAGE_PROGRESS, else auto]
    #[arg(long, value_name = "MODE")]
    pub(crate) progress: Option<Progress>,
    /// Command and its arguments [default: /bin/sh]
    #[arg(last = true)]
    pub(crate) command: Vec<String>,
}
