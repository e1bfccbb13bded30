//! `dunnage check`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// Look for mistakes in a Dockerfile, without building
#[derive(Debug, Args)]
#[command(after_help = "Exit code 1 says that there are errors; --error, or `# check=error=true` in the file, makes
errors of warnings. Hints never fail a check.

Examples:
  dunnage check                              the Dockerfile of this directory
  dunnage check -f deploy/Dockerfile src     another Dockerfile, another context
  dunnage check --format sarif > out.sarif   for code scanning services
  dunnage check --rules                      every rule, why it is there and what to do")]
pub(crate) struct CheckArgs {
    /// The Dockerfile, `-` for standard input [default: CONTEXT/Dockerfile, else CONTEXT/Containerfile]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// How to show what was found
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) format: CheckFormat,
    /// Value of an ARG, as NAME=VALUE, or NAME for the environment's; can be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = super::lent::named)]
    pub(crate) build_arg: Vec<String>,
    /// Stage to begin with [default: the last]
    #[arg(long, value_name = "STAGE")]
    pub(crate) target: Option<String>,
    /// Rules to leave out, by name, or `all`; instead of the file's own choice
    #[arg(long, value_name = "RULE,…", value_delimiter = ',')]
    pub(crate) skip: Vec<String>,
    /// Experimental rules to look at too, by name, or `all`
    #[arg(long, value_name = "RULE,…", value_delimiter = ',')]
    pub(crate) experimental: Vec<String>,
    /// Make errors of warnings
    #[arg(long)]
    pub(crate) error: bool,
    /// List the rules
    #[arg(long)]
    pub(crate) rules: bool,
    /// Directory that COPY and ADD would read
    #[arg(default_value = ".")]
    pub(crate) context: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum CheckFormat {
    /// For people
    Text,
    /// One JSON object
    Json,
    /// SARIF 2.1.0
    Sarif,
}
