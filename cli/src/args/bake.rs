//! `dunnage bake`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{Arguments, BuildArgs, Command, Lacking, Progress, StorageArgs, StorageDriver, unknown_flag};

/// Build the targets of a project file
#[derive(Debug, Args)]
#[command(after_help = "Files: dunnage.toml, else docker-bake.json, docker-bake.override.json, docker-bake.hcl and
docker-bake.override.hcl, the later over the earlier.

Examples:
  dunnage bake                               the group or target `default`
  dunnage bake --print                       what would be built, as JSON; nothing is built
  dunnage bake app --set app.args.VERSION=2  one target, with another value")]
pub(crate) struct BakeArgs {
    #[command(flatten)]
    pub(crate) storage: StorageArgs,
    /// Targets and groups [default: default]
    #[arg(value_name = "TARGET")]
    pub(crate) targets: Vec<String>,
    /// Project file; can be repeated, the later over the earlier
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: Vec<PathBuf>,
    /// Value of a target, as TARGET.KEY=VALUE, or += to add to a list; TARGET may have *; can be repeated
    #[arg(long, value_name = "TARGET.KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// Print the targets with all their values as JSON, and build nothing
    #[arg(long)]
    pub(crate) print: bool,
    /// Print what the files have, and build nothing
    #[arg(long, value_name = "WHAT", conflicts_with = "print")]
    pub(crate) list: Option<BakeList>,
    /// Perform every step of every target
    #[arg(long)]
    pub(crate) no_cache: bool,
    /// Keep all images in the store, whatever else their outputs are
    #[arg(long)]
    pub(crate) load: bool,
    /// How to show progress [default: $DUNNAGE_PROGRESS, else auto]
    #[arg(long, value_name = "MODE")]
    pub(crate) progress: Option<Progress>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum BakeList {
    /// Targets and groups
    Targets,
    /// Variables with their values
    Variables,
}

impl BakeArgs {
    /// The flags that go to every build.
    pub(crate) fn flags(&self) -> Vec<OsString> {
        let named = |flag: &str, value: Option<clap::builder::PossibleValue>| {
            value.map(|value| format!("{flag}={}", value.get_name()).into())
        };
        let driver = self.storage.storage_driver.as_ref().and_then(StorageDriver::to_possible_value);
        let progress = self.progress.as_ref().and_then(Progress::to_possible_value);
        let mut flags: Vec<OsString> =
            [named("--storage-driver", driver), named("--progress", progress)].into_iter().flatten().collect();
        flags.extend(self.no_cache.then(|| "--no-cache".into()));
        flags.extend(self.load.then(|| "--load".into()));
        flags
    }
}

/// Reads what a target comes to as the command line of a build: one meaning of every value, one sentence for every mistake.
///
/// # Errors
/// The sentence to show.
pub(crate) fn build_args(words: Vec<OsString>) -> Result<BuildArgs, String> {
    let line = ["dunnage".into(), "build".into()].into_iter().chain(words);
    match super::habits::read(line.collect()) {
        Ok(Arguments { command: Command::Build(args), .. }) => Ok(*args),
        Ok(_) => Err("it is no build".to_owned()),
        Err(error) => {
            if let Some(name) = unknown_flag(&error).filter(|name| Lacking::Build.lacks(name)) {
                return Err(format!("{name} is not supported by this version of dunnage"));
            }
            let text = error.to_string();
            let first = text.lines().next().unwrap_or_default();
            Err(first.strip_prefix("error: ").unwrap_or(first).to_owned())
        }
    }
}
