//! `dunnage build`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use engine::Output;

use super::StorageArgs;

/// Build an image from a Dockerfile
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  dunnage build -t app .                     build the directory and name the image app:latest
  dunnage build -f deploy/Dockerfile src     another Dockerfile, another context
  dunnage build --target test --no-cache .   one stage, and nothing from the cache
  dunnage build -o out .                     the files of the last stage into the directory out")]
pub(crate) struct BuildArgs {
    #[command(flatten)]
    pub(crate) storage: StorageArgs,
    /// Name of the image, as NAME or NAME:TAG; can be repeated
    #[arg(short, long, value_name = "NAME")]
    pub(crate) tag: Vec<String>,
    /// The Dockerfile [default: CONTEXT/Dockerfile, else CONTEXT/Containerfile]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// Value of an ARG, as NAME=VALUE, or NAME for the environment's; can be repeated
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) build_arg: Vec<String>,
    /// Stage to build [default: the last]
    #[arg(long, value_name = "STAGE")]
    pub(crate) target: Option<String>,
    /// Perform every step, whatever the cache has
    #[arg(long)]
    pub(crate) no_cache: bool,
    /// Label of the image, as NAME=VALUE; can be repeated
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) label: Vec<String>,
    /// Network of RUN steps
    #[arg(long, value_name = "MODE", default_value = "host")]
    pub(crate) network: BuildNetwork,
    /// How to show progress [default: $DUNNAGE_PROGRESS, else auto]
    #[arg(long, value_name = "MODE")]
    pub(crate) progress: Option<Progress>,
    /// Print nothing but the image's id
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Look for mistakes, as `dunnage check` does, and build nothing
    #[arg(long)]
    pub(crate) check: bool,
    /// File to write the image's id to
    #[arg(long, value_name = "FILE")]
    pub(crate) iidfile: Option<PathBuf>,
    /// Where the result goes, as DIRECTORY, - for a tar, or type=local|tar|oci|docker|image|cacheonly,dest=PATH; can be
    /// repeated [default: an image of the store]
    #[arg(short, long, value_name = "OUTPUT")]
    pub(crate) output: Vec<Output>,
    /// Keep the image in the store, as is done without --output
    #[arg(long)]
    pub(crate) load: bool,
    /// Steps to perform at once [default: by the machine]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) jobs: Option<u16>,
    /// Directory that COPY and ADD read
    #[arg(default_value = ".", value_parser = context)]
    pub(crate) context: PathBuf,
}

/// An empty argument is most often a shell variable that was not set.
fn context(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() {
        return Err("the build context is an empty text: is a variable not set?".to_owned());
    }
    Ok(PathBuf::from(text))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum BuildNetwork {
    /// The host's network
    #[value(alias = "default")]
    Host,
    /// Loopback only
    None,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Progress {
    /// tty on a terminal, else plain
    Auto,
    /// Lines that are redrawn
    Tty,
    /// Lines that stay
    Plain,
    /// One JSON object a line
    Rawjson,
    /// Nothing
    Quiet,
}
