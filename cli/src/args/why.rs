//! `dunnage why`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// Show why the steps of a build ran again
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  dunnage why                 every step that ran in the last build of this directory
  dunnage why 3               step 3 of it, and the steps that are behind it
  dunnage why build/2         the second step of the stage `build`
  dunnage why 'RUN make'      the step that begins so")]
pub(crate) struct WhyArgs {
    /// The step: its number, STAGE/PLACE, or the beginning of its instruction [default: all that ran]
    pub(crate) step: Option<String>,
    /// The build [default: the last one of the context, else the last one]
    #[arg(long, value_name = "ID", conflicts_with = "context")]
    pub(crate) build: Option<String>,
    /// The context whose last build is meant
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub(crate) context: PathBuf,
    /// How to show it
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) format: WhyFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum WhyFormat {
    /// For people
    Text,
    /// One JSON object
    Json,
}
