//! `dunnage bake`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use engine::{AttestFlag, Entitlement};

use super::{Arguments, BuildArgs, Call, Command, Lacking, Progress, StorageArgs, StorageDriver, unknown_flag};

/// Build the targets of a project file
#[derive(Debug, Args)]
#[command(after_help = "Files: dunnage.toml, else docker-bake.json, docker-bake.override.json, docker-bake.hcl and
docker-bake.override.hcl, the later over the earlier.

Examples:
  dunnage bake                               the group or target `default`
  dunnage bake --print                       what would be built, as JSON; nothing is built
  dunnage bake app --set app.args.VERSION=2  one target, with another value
  dunnage bake --push --metadata-file built.json  push what is built, and write down what it is")]
pub(crate) struct BakeArgs {
    #[command(flatten)]
    pub(crate) storage: StorageArgs,
    /// Targets and groups [default: default]
    #[arg(value_name = "TARGET")]
    pub(crate) targets: Vec<String>,
    /// Project file, or - for standard input; can be repeated, the later over the earlier
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: Vec<PathBuf>,
    /// Value of a target, as TARGET.KEY=VALUE, or += to add to a list; TARGET may have *; can be repeated
    #[arg(long, value_name = "TARGET.KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// Value of a variable of the files, before the environment's; can be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = variable)]
    pub(crate) var: Vec<(String, String)>,
    /// Print the targets with all their values as JSON, and build nothing
    #[arg(long)]
    pub(crate) print: bool,
    /// Print what the files have, and build nothing: targets or variables, with `,format=json` for programs
    #[arg(long, value_name = "WHAT", value_parser = BakeList::parse, conflicts_with = "print")]
    pub(crate) list: Option<BakeList>,
    /// Build nothing and tell of each Dockerfile: `check`, `outline` or `targets`
    #[arg(long, value_name = "METHOD", value_parser = Call::parse)]
    pub(crate) call: Option<Call>,
    /// Look for mistakes, and build nothing: --call check
    #[arg(long, conflicts_with = "call")]
    pub(crate) check: bool,
    /// Perform every step of every target
    #[arg(long)]
    pub(crate) no_cache: bool,
    /// Ask the registries for all base images, also for those that are here
    #[arg(long)]
    pub(crate) pull: bool,
    /// Push the images under their names when they are built; not those that are only the contexts of others
    #[arg(long)]
    pub(crate) push: bool,
    /// Attest the packages of the images
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = AttestFlag::sbom)]
    pub(crate) sbom: Option<AttestFlag>,
    /// Attest how the images were built
    #[arg(long, value_name = "BOOL|mode=MODE", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = AttestFlag::provenance)]
    pub(crate) provenance: Option<AttestFlag>,
    /// What RUN may ask for, in all targets, as with `build`. Docker's `fs=…` and `ssh` are taken, and nothing here needs them;
    /// can be repeated
    #[arg(long, value_name = "WHAT", value_delimiter = ',', value_parser = allow)]
    pub(crate) allow: Vec<Option<Entitlement>>,
    /// File to write what was built to, as JSON by target
    #[arg(long, value_name = "FILE")]
    pub(crate) metadata_file: Option<PathBuf>,
    /// Keep all images in the store, whatever else their outputs are
    #[arg(long)]
    pub(crate) load: bool,
    /// How to show progress [default: $DUNNAGE_PROGRESS, else auto]
    #[arg(long, value_name = "MODE")]
    pub(crate) progress: Option<Progress>,
}

/// What `--list` prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BakeList {
    /// Variables, else targets and groups.
    pub(crate) variables: bool,
    pub(crate) json: bool,
}

impl BakeList {
    /// `targets`, or docker's longer `type=targets,format=json`.
    fn parse(text: &str) -> Result<BakeList, String> {
        let mut list = BakeList { variables: false, json: false };
        for field in text.split(',') {
            match field {
                "targets" | "type=targets" => list.variables = false,
                "variables" | "type=variables" => list.variables = true,
                "format=json" => list.json = true,
                "format=table" => list.json = false,
                other => return Err(format!("`{other}` is not known: targets, variables and format=json are")),
            }
        }
        Ok(list)
    }
}

fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=').filter(|(name, _)| !name.is_empty()) {
        Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
        None => Err("it must be NAME=VALUE".to_owned()),
    }
}

/// None for what docker asks leave for and needs none here: the files of targets are those of whoever runs the command.
fn allow(text: &str) -> Result<Option<Entitlement>, String> {
    let kind = text.split(['=', '.']).next().unwrap_or_default();
    if matches!(kind, "fs" | "ssh") { Ok(None) } else { super::lent::allow(text).map(Some) }
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
        for (flag, on) in
            [("--no-cache", self.no_cache), ("--load", self.load), ("--pull", self.pull), ("--check", self.check)]
        {
            flags.extend(on.then(|| flag.into()));
        }
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
