//! The commands: from arguments to an engine verb and back to words. Each file holds the commands of one theme.

mod archive;
mod bake;
mod build;
mod builds;
mod call;
mod check;
mod container;
mod container_tree;
mod container_use;
mod debug;
mod events;
mod image;
mod inspect;
mod lent;
mod manifest;
mod metadata;
mod network;
mod oci;
mod plan;
mod prune;
mod ps;
mod registry;
mod run;
mod search;
mod serve;
mod side_by_side;
mod system;
mod timings;
mod usage;
mod volume;
mod watch;
mod why;

use std::io;
use std::path::{Path, PathBuf};

use engine::{Asked, Engine, EngineOptions, Isolation, StorageChoice};

use crate::args::{
    Arguments, Builder, Command, Container, Image, InspectKind, RegistryCommand, StorageArgs, System, Verb,
};
use crate::{config, ui};

/// Why a command ends without success.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// A verb failed.
    #[error(transparent)]
    Engine(Box<engine::Error>),
    /// Standard output is gone or full.
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
    /// The arguments or the environment contradict themselves.
    #[error("{0}")]
    Usage(String),
    /// It was told already; what is left is the exit code.
    #[error("exit code {0}")]
    Told(u8),
}

impl Failure {
    pub(crate) fn usage(sentence: impl Into<String>) -> Failure {
        Failure::Usage(sentence.into())
    }

    /// Tells it on standard error, and gives the exit code.
    fn tell(&self) -> u8 {
        match self {
            Failure::Told(code) => return *code,
            // A reader that has seen enough, such as `head`, is no failure to talk about.
            Failure::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => return 128 + 13,
            Failure::Engine(error) if !error.diagnostics().is_empty() => {
                error.diagnostics().iter().for_each(ui::diagnostic::print)
            }
            other => ui::error(&other.to_string()),
        }
        self.code()
    }

    fn code(&self) -> u8 {
        match self {
            Failure::Engine(error) => u8::try_from(error.exit_code()).unwrap_or(1),
            Failure::Output(_) => 3,
            Failure::Usage(_) => 2,
            Failure::Told(code) => *code,
        }
    }
}

impl From<engine::Error> for Failure {
    fn from(error: engine::Error) -> Self {
        Failure::Engine(Box::new(error))
    }
}

/// The exit code of a command that did what it was asked to.
type Outcome = Result<u8, Failure>;

pub(crate) use oci::oci;

/// Performs a command and gives the process's exit code.
pub(crate) fn dispatch(arguments: Arguments) -> u8 {
    ui::set_color(arguments.everywhere.color);
    // Who this is decides where the store is; in a user namespace everybody is user 0.
    let store = config::store_root(arguments.everywhere.root);
    if let Err(sentence) = config::arm_failpoints() {
        return Failure::usage(sentence).tell();
    }
    let isolation = match isolate(&arguments.command, &store) {
        Ok(isolation) => isolation,
        Err(failure) => return failure.tell(),
    };
    let root = Some(store);
    let result = match arguments.command {
        Command::Build(args) | Command::Image(Image::Build(args)) | Command::Builder(Builder::Build(args)) => {
            build::build(root, *args, build::Besides { asked: asked(&words_of_build()), ..build::Besides::default() })
        }
        Command::Bake(args) | Command::Builder(Builder::Bake(args)) => bake::bake(root, &args),
        Command::Plan(args) => plan::plan(root, *args),
        Command::Debug(args) => debug::debug(root, args),
        Command::Why(args) => why::why(root, &args),
        Command::Builds(args) => builds::builds(root, &args),
        Command::Check(args) => check::check(root, args),
        // `run` has docker's exit codes, all of them its own.
        Command::Pull(args) | Command::Image(Image::Pull(args)) => registry::pull(root, &args),
        Command::Push(args) | Command::Image(Image::Push(args)) => registry::push(root, &args),
        Command::Login(args) => registry::login(&args),
        Command::Logout(args) => registry::logout(&args),
        Command::Manifest(command) => manifest::manifest(root, &command),
        Command::Search(args) => search::search(&args),
        Command::Registry(RegistryCommand::Serve(args)) => serve::serve(root, &args),
        Command::Run(args) | Command::Container(Container::Run(args)) => return run::run(root, *args),
        Command::Verb(verb) | Command::Container(Container::Verb(verb)) => container::verb(root, verb),
        Command::Container(Container::Inspect(args)) => inspect::inspect(root, &args, Some(InspectKind::Container)),
        Command::Events(args) => events::events(root, &args),
        Command::Hold => engine::hold_terminal().map(|()| 0).map_err(Failure::from),
        Command::Monitor(args) => run::monitor(root, &args),
        Command::Images(args) | Command::Image(Image::Ls(args)) => image::list(root, &args),
        Command::Tag(args) | Command::Image(Image::Tag(args)) => image::tag(root, &args),
        Command::Rmi(args) | Command::Image(Image::Rm(args)) => image::remove(root, &args),
        Command::Inspect(args) => inspect::inspect(root, &args, None),
        Command::Image(Image::Inspect(args)) => inspect::inspect(root, &args, Some(InspectKind::Image)),
        Command::History(args) | Command::Image(Image::History(args)) => image::history(root, &args),
        Command::Bootstrap(args) => archive::bootstrap(root, &args),
        Command::Import(args) | Command::Image(Image::Import(args)) => archive::import(root, &args),
        Command::Save(args) | Command::Image(Image::Save(args)) => archive::save(root, &args),
        Command::Load(args) | Command::Image(Image::Load(args)) => archive::load(root, &args),
        Command::System(System::Info(args)) => system::info(root, &args, isolation.as_ref()),
        Command::System(System::Events(args)) => events::events(root, &args),
        Command::System(system) => system::system(root, &system),
        Command::Volume(volume) => volume::volume(root, &volume),
        Command::Network(network) => network::network(root, &network),
        Command::Builder(Builder::Prune(args)) => prune::builder(root, &args),
        Command::Container(Container::Prune(args)) => prune::containers(root, &args),
        Command::Image(Image::Prune(args)) => prune::images(root, &args),
        Command::Info(args) => system::info(root, &args, isolation.as_ref()),
        // `dunnage oci` has a command line of its own, and comes here only behind other flags.
        Command::Oci => Err(Failure::usage("`oci` comes first: `dunnage oci --help`")),
        Command::Version(args) => system::version(&args),
    };
    result.unwrap_or_else(|failure| failure.tell())
}

/// Before any thread is there: a user namespace takes a process of one thread only.
fn isolate(command: &Command, store: &Path) -> Result<Option<Isolation>, Failure> {
    if matches!(
        command,
        Command::Version(_)
            | Command::Hold
            | Command::Check(_)
            | Command::Login(_)
            | Command::Logout(_)
            | Command::Search(_)
    ) {
        return Ok(None);
    }
    Ok(Some(engine::isolate(&config::search_path(), store)?))
}

/// How a build is kept in its record: secrets of arguments are taken from the environment when it is asked again.
fn asked(words: &[String]) -> Option<Asked> {
    let mut kept = Vec::new();
    let mut is_argument = false;
    for word in words {
        // A URL with a password in it would be kept with it.
        if word.split_once("://").is_some_and(|(_, rest)| rest.split('/').next().is_some_and(|host| host.contains('@')))
        {
            return None;
        }
        let (flag, pair) = match word.strip_prefix("--build-arg=") {
            Some(pair) => ("--build-arg=", pair),
            None => ("", word.as_str()),
        };
        let name = pair.split('=').next().unwrap_or_default();
        let hidden = (is_argument || !flag.is_empty()) && grammar::is_secret(name);
        kept.push(format!("{flag}{}", if hidden { name } else { pair }));
        is_argument = word == "--build-arg";
    }
    Some(Asked { directory: config::directory()?, words: kept })
}

/// The words behind `build` of this process's command line.
fn words_of_build() -> Vec<String> {
    config::words().skip_while(|word| word != "build").skip(1).collect()
}

/// The engine of a command. What it found damaged is told when the command ends.
struct Opened(Engine);

impl std::ops::Deref for Opened {
    type Target = Engine;

    fn deref(&self) -> &Engine {
        &self.0
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.0.take_notices().iter().for_each(|sentence| ui::note(sentence));
    }
}

fn open(root: Option<PathBuf>) -> Result<Opened, engine::Error> {
    Engine::open(&EngineOptions {
        root: config::store_root(root),
        storage: StorageChoice::Auto,
        programs: config::search_path(),
        settings: config::own_settings(),
    })
    .map(Opened)
}

/// For commands that make snapshots.
fn open_for_snapshots(root: Option<PathBuf>, storage: StorageArgs) -> Result<Opened, Failure> {
    let storage = config::storage(storage.storage_driver).map_err(Failure::Usage)?;
    Ok(Opened(Engine::open(&EngineOptions {
        root: config::store_root(root),
        storage,
        programs: config::search_path(),
        settings: config::own_settings(),
    })?))
}
