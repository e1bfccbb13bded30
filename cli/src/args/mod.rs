//! Arguments: one definition gives the parser, the help, and the refusals.

mod bake;
mod build;
mod builds;
mod check;
mod container;
mod debug;
mod devices;
mod habits;
mod image;
mod isolation;
mod lent;
mod limits;
mod logging;
mod manifest;
mod missing;
mod mounts;
mod network;
mod networking;
mod oci;
mod plan;
mod prune;
mod registry;
mod run;
mod system;
mod tmpfs;
mod volume;
mod why;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand, ValueEnum};

pub(crate) use bake::{BakeArgs, BakeList, build_args as bake_build_args};
pub(crate) use build::{BuildArgs, BuildNetwork, Call, CallMethod, Progress};
pub(crate) use builds::{Builds, BuildsLogsArgs, BuildsLsArgs, BuildsRmArgs, BuildsShowArgs};
pub(crate) use check::{CheckArgs, CheckFormat};
pub(crate) use container::{
    AttachArgs, CommitArgs, CpArgs, EventsArgs, ExecArgs, ExportArgs, LogsArgs, MonitorArgs, NameArg, PortArgs, PsArgs,
    RenameArgs, StartArgs, StatsArgs, TopArgs, UpdateArgs, Verb,
};
pub(crate) use debug::DebugArgs;
pub(crate) use devices::DeviceFlag;
pub(crate) use image::{
    BootstrapArgs, HistoryArgs, ImageFilter, ImagesArgs, ImportArgs, InspectArgs, InspectKind, LoadArgs, RmiArgs,
    SaveArgs, SaveFormat, TagArgs,
};
pub(crate) use isolation::SecurityOption;
pub(crate) use lent::{SecretSource, SecretSpec, SshSpec};
pub(crate) use logging::LogOption;
pub(crate) use manifest::{ManifestAnnotateArgs, ManifestCommand, ManifestCreateArgs, ManifestPushArgs};
use missing::Lacking;
pub(crate) use network::{
    NetworkCommand, NetworkConnectArgs, NetworkCreateArgs, NetworkDisconnectArgs, NetworkFilter, NetworkInspectArgs,
    NetworkLsArgs, NetworkRmArgs,
};
pub(crate) use oci::{
    LogFormat, OciArguments, OciCommand, OciCreateArgs, OciEventsArgs, OciExecArgs, OciIoArgs, OciListArgs, OciPsArgs,
    OciUpdateArgs, TableFormat,
};
pub(crate) use plan::{PlanArgs, PlanFormat};
pub(crate) use prune::{
    BuilderPruneArgs, Consent, ContainerPruneArgs, ImagePruneArgs, NetworkPruneArgs, SystemPruneArgs, VolumePruneArgs,
    filters,
};
pub(crate) use registry::{
    LoginArgs, LogoutArgs, Pull, PullArgs, PushArgs, RegistryCommand, SearchArgs, SearchFilter, ServeArgs,
};
pub(crate) use run::{CreateArgs, CreateCommand, Keys, RunArgs, StreamName};
pub(crate) use system::{DfArgs, InfoArgs, StorageArgs, StorageDriver, StoreCheckArgs, System, VersionArgs};
pub(crate) use volume::{Volume, VolumeCreateArgs, VolumeFilter, VolumeInspectArgs, VolumeLsArgs, VolumeRmArgs};
pub(crate) use why::{WhyArgs, WhyFormat};

/// Build and run container images: one binary, no daemon.
#[derive(Debug, Parser)]
#[command(
    name = "dunnage",
    version,
    propagate_version = true,
    disable_help_subcommand = true,
    max_term_width = 100,
    args_override_self = true
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) everywhere: Everywhere,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Everywhere {
    /// Directory of the store [default: $DUNNAGE_ROOT, else /var/lib/dunnage for root, ~/.local/share/dunnage for others]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,
    /// When to use colours
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub(crate) color: Color,
}

/// The commands that scripts and this program itself call most, without all the others, whose definitions take longer than
/// the parsing, and would stay in the memory of a monitor. What it cannot read is read by [`Arguments`], which tells what is
/// wrong.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true, disable_help_subcommand = true, args_override_self = true)]
struct Often {
    #[command(flatten)]
    everywhere: Everywhere,
    #[command(subcommand)]
    command: OftenCalled,
}

#[derive(Debug, Subcommand)]
#[command(defer = true)]
enum OftenCalled {
    Run(Box<RunArgs>),
    Exec(ExecArgs),
    Build(Box<BuildArgs>),
    #[command(name = engine::MONITOR_COMMAND)]
    Monitor(MonitorArgs),
}

impl Often {
    /// The arguments, where the first word is one of these commands and all is well.
    fn read(words: &[std::ffi::OsString]) -> Option<Arguments> {
        let first = words.get(1).and_then(|word| word.to_str())?;
        if !["run", "exec", "build", engine::MONITOR_COMMAND].contains(&first) {
            return None;
        }
        let Often { everywhere, command } = Often::try_parse_from(words).ok()?;
        let command = match command {
            OftenCalled::Run(arguments) => Command::Run(arguments),
            OftenCalled::Exec(arguments) => Command::Verb(Verb::Exec(arguments)),
            OftenCalled::Build(arguments) => Command::Build(arguments),
            OftenCalled::Monitor(arguments) => Command::Monitor(arguments),
        };
        Some(Arguments { everywhere, command })
    }
}

/// When to use colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    /// On a terminal, unless NO_COLOR is set
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub(crate) enum Command {
    /// Build an image from a Dockerfile
    Build(Box<BuildArgs>),
    /// Build the targets of a project file
    Bake(BakeArgs),
    /// Show what a build would do and why, without building
    Plan(Box<PlanArgs>),
    /// Show why the steps of a build ran again
    Why(WhyArgs),
    /// Open a shell in the sandbox of a build step
    Debug(DebugArgs),
    /// Look at the builds that were made
    #[command(subcommand)]
    Builds(Builds),
    /// Look for mistakes in a Dockerfile, without building
    Check(CheckArgs),
    /// Run a command in a new container
    Run(Box<RunArgs>),
    /// Download images from a registry
    Pull(PullArgs),
    /// Upload images to a registry
    Push(PushArgs),
    /// Log in to a registry
    Login(LoginArgs),
    /// Log out of a registry
    Logout(LogoutArgs),
    /// Put images of several platforms together under one name
    #[command(subcommand)]
    Manifest(ManifestCommand),
    /// Look for images at a registry
    Search(SearchArgs),
    /// Be a registry
    #[command(subcommand)]
    Registry(RegistryCommand),
    #[command(flatten)]
    Verb(Verb),
    /// Follow what happens to containers
    Events(EventsArgs),
    /// The process behind a container, which [`Often`] reads
    #[command(skip)]
    Monitor(MonitorArgs),
    #[command(name = engine::HOLD_COMMAND, hide = true)]
    Hold,
    /// List images
    Images(ImagesArgs),
    /// Give an image another name
    Tag(TagArgs),
    /// Remove images
    Rmi(RmiArgs),
    /// Show all that is known of containers, images, networks and volumes, as JSON
    Inspect(InspectArgs),
    /// Show how an image came to be
    History(HistoryArgs),
    /// Make a base image with no registry at hand
    Bootstrap(BootstrapArgs),
    /// Make an image from a root file system in a tar
    Import(ImportArgs),
    /// Write images to an archive
    Save(SaveArgs),
    /// Read images from an archive
    Load(LoadArgs),
    /// Look after the store
    #[command(subcommand)]
    System(System),
    /// Manage volumes
    #[command(subcommand)]
    Volume(Volume),
    /// Manage networks
    #[command(subcommand)]
    Network(NetworkCommand),
    /// Manage the build cache
    #[command(subcommand, visible_alias = "buildx")]
    Builder(Builder),
    /// Manage containers, in docker's long spelling
    #[command(subcommand)]
    Container(Container),
    /// Manage images, in docker's long spelling
    #[command(subcommand)]
    Image(Image),
    /// Be an OCI runtime for docker, podman and containerd; `dunnage oci --help` has its commands
    Oci,
    /// Show what this machine and this dunnage are
    Info(InfoArgs),
    /// Show the version
    Version(VersionArgs),
}

#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub(crate) enum Image {
    /// Build an image from a Dockerfile
    Build(Box<BuildArgs>),
    /// Download images from a registry
    Pull(PullArgs),
    /// Upload images to a registry
    Push(PushArgs),
    /// List images
    #[command(alias = "list")]
    Ls(ImagesArgs),
    /// Give an image another name
    Tag(TagArgs),
    /// Remove images
    #[command(alias = "remove")]
    Rm(RmiArgs),
    /// Show all that is known of images, as JSON
    Inspect(InspectArgs),
    /// Show how an image came to be
    History(HistoryArgs),
    /// Make an image from a root file system in a tar
    Import(ImportArgs),
    /// Write images to an archive
    Save(SaveArgs),
    /// Read images from an archive
    Load(LoadArgs),
    /// Remove unused images
    Prune(ImagePruneArgs),
}

#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub(crate) enum Builder {
    /// Build an image from a Dockerfile
    #[command(alias = "b")]
    Build(Box<BuildArgs>),
    /// Build the targets of a project file
    #[command(alias = "f")]
    Bake(BakeArgs),
    /// Remove build cache
    Prune(BuilderPruneArgs),
}

#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub(crate) enum Container {
    /// Run a command in a new container
    Run(Box<RunArgs>),
    #[command(flatten)]
    Verb(Verb),
    /// Show all that is known of containers, as JSON
    Inspect(InspectArgs),
    /// Remove all stopped containers
    Prune(ContainerPruneArgs),
}

/// Names under which the program is an OCI runtime: callers take a path to one executable.
const OCI_NAMES: [&str; 2] = ["dunnage-oci", "dunnage-runtime"];

/// What the process was called as.
pub(crate) enum Called {
    /// The command line of people.
    Dunnage(Box<Arguments>),
    /// The command line of an OCI runtime, whose own globals come before the command.
    Oci(Box<OciArguments>),
}

/// The commands that start processes in containers; in the long spelling and as an OCI runtime too.
const STARTERS: [&str; 14] = [
    "run", "exec", "start", "restart", "create", "cp", "build", "bake", "debug", "plan", "oci", "builder", "buildx",
    "image",
];

/// Whether this process is to start processes that nobody trusts. It is asked before the words are understood, and one
/// that only might do so counts.
pub(crate) fn starts_containers() -> bool {
    let mut words = std::env::args_os();
    let starts =
        |word: &std::ffi::OsString| word == engine::MONITOR_COMMAND || STARTERS.iter().any(|known| word == *known);
    names_oci_runtime(words.next()) || words.take(8).any(|word| starts(&word))
}

/// Whether the program was called by a name under which it is an OCI runtime.
fn names_oci_runtime(program: Option<std::ffi::OsString>) -> bool {
    let name = program.map(PathBuf::from).unwrap_or_default();
    OCI_NAMES.iter().any(|known| name.file_name().is_some_and(|name| name == *known))
}

/// Parses the process's arguments in the command line that its name and its first word choose.
pub(crate) fn parse_called() -> Result<Called, ExitCode> {
    let mut words = std::env::args_os();
    let named = names_oci_runtime(words.next());
    let mut rest: Vec<_> = words.collect();
    if !named && rest.first().is_none_or(|word| word != "oci") {
        return parse().map(|arguments| Called::Dunnage(Box::new(arguments)));
    }
    if !named {
        rest.remove(0);
    }
    let words = std::iter::once("dunnage-oci".into()).chain(rest);
    OciArguments::try_parse_from(words).map(|arguments| Called::Oci(Box::new(arguments))).map_err(|error| {
        crate::ui::print_clap(&error);
        end(&error, 1)
    })
}

/// Parses the process's arguments, or gives the code to end with. A usage error of `run` has docker's code for it.
fn parse() -> Result<Arguments, ExitCode> {
    habits::read(std::env::args_os().collect()).map_err(|error| {
        let command = Lacking::of(std::env::args_os());
        let name = unknown_flag(&error);
        if let Some(sentence) = missing::command(&error) {
            crate::ui::error(&sentence);
        } else if let Some(name) = name.filter(|name| command.is_some_and(|command| command.lacks(name))) {
            crate::ui::error(&format!("{name} is not supported by this version of dunnage"));
        } else {
            crate::ui::print_clap(&error);
        }
        end(&error, if command.is_some_and(Lacking::starts_a_process) { 125 } else { 2 })
    })
}

/// The flag that is not known, where this is what is wrong.
fn unknown_flag(error: &clap::Error) -> Option<String> {
    if error.kind() != ErrorKind::UnknownArgument {
        return None;
    }
    let flag = error.get(clap::error::ContextKind::InvalidArg)?.to_string();
    Some(flag.split('=').next().unwrap_or(&flag).trim().to_owned())
}

fn end(error: &clap::Error, usage: u8) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitCode::SUCCESS,
        _ => ExitCode::from(usage),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_sound() {
        Arguments::command().debug_assert();
    }
}
