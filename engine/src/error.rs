//! What can go wrong in a verb, and the exit code that a command ends with.

use std::path::PathBuf;

use grammar::Diagnostic;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Variants are named by what the user was doing.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The Dockerfile is not there.
    #[error("no Dockerfile in {}: looked for {looked_for}; name it with -f", .context.display())]
    DockerfileNotFound {
        /// The build context.
        context: PathBuf,
        /// The names that were tried.
        looked_for: String,
    },
    /// A file that the user named cannot be read or written.
    #[error("cannot {doing} {}: {source}", .path.display())]
    File {
        /// "read", "write", …
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The context is no directory.
    #[error("the build context {} is not a directory", .0.display())]
    ContextNotDirectory(PathBuf),
    /// A context that is no directory of this machine cannot be had.
    #[error("cannot use {context} as a build context: {reason}")]
    ContextUnavailable {
        /// What it is.
        context: String,
        /// What is wrong.
        reason: String,
    },
    /// The ignore file has a line that is no pattern.
    #[error("{}: {reason}", .path.display())]
    IgnoreFile {
        /// The file.
        path: PathBuf,
        /// What is wrong, with the line.
        reason: String,
    },
    /// An image that a Dockerfile stands on, or that the user named, is not in the store.
    #[error(
        "image `{name}` is not in the store; bring it with `dunnage pull`, `dunnage load` or `dunnage import`, or make it with `dunnage bootstrap`"
    )]
    ImageNotFound {
        /// As the user wrote it.
        name: String,
    },
    /// Nothing that can be inspected has this name.
    #[error("no container, image, network or volume `{name}`{near}")]
    NothingNamed {
        /// As the user wrote it.
        name: String,
        /// A name that is there and may be meant.
        near: String,
    },
    /// No list of manifests has this name.
    #[error("there is no manifest list {0}: `dunnage manifest create` makes one")]
    ManifestListNotFound(String),
    /// A configuration that an OCI runtime was given cannot be followed.
    #[error("{field}: {reason}")]
    OciConfig {
        /// The place in it.
        field: String,
        /// What is wrong.
        reason: String,
    },
    /// A container of the OCI runtime is not in the state that a command needs.
    #[error("{reason}: {id:?}")]
    ContainerState {
        /// The container.
        id: String,
        /// What is the matter.
        reason: String,
    },
    /// A hook of an OCI configuration failed.
    #[error("{0}")]
    Hook(String),
    /// A volume cannot be mounted as its options say.
    #[error("volume `{name}`: {source}")]
    Volume {
        /// Its name.
        name: String,
        /// Why.
        source: Box<Error>,
    },
    /// No volume has this name.
    #[error("no volume `{0}`: `dunnage volume ls` lists them")]
    VolumeNotFound(String),
    /// A container does not run, and must.
    #[error("container {name} is not running: it is {status}")]
    NotRunning {
        /// Its name.
        name: String,
        /// What it is.
        status: &'static str,
    },
    /// A container is not in the state that is needed.
    #[error("{0}")]
    WrongState(String),
    /// A container runs, and must not.
    #[error("container {name} is {status}: stop it first, or remove it with --force")]
    ContainerRuns {
        /// Its name.
        name: String,
        /// What it is.
        status: &'static str,
    },
    /// A container is not on the network that it should leave.
    #[error("container {name} is not on network `{network}`")]
    NotOnNetwork {
        /// The container.
        name: String,
        /// The network.
        network: String,
    },
    /// The process behind a container failed.
    #[error("the container's monitor: {doing}: {source}")]
    Monitor {
        /// What was being done.
        doing: &'static str,
        /// The cause.
        source: std::io::Error,
    },
    /// A container runs in the foreground of another command.
    #[error(
        "container {name} runs in the foreground of `run --rm`: no other command can join it, or change its networks"
    )]
    NoMonitor {
        /// Its name.
        name: String,
    },
    /// The monitor could not start the container.
    #[error("{sentence}")]
    Unstarted {
        /// What it said.
        sentence: String,
        /// Docker's exit code.
        code: i32,
    },
    /// Standard output is gone.
    #[error("cannot write the output: {0}")]
    Output(std::io::Error),
    /// A name breaks the rules of references.
    #[error("`{name}` is not a valid image name: {reason}")]
    BadName {
        /// As the user wrote it.
        name: String,
        /// The rule.
        reason: String,
    },
    /// A project file says something that cannot be.
    #[error("{file}: {reason}")]
    ProjectFile {
        /// The file, or the part of it.
        file: String,
        /// What is wrong.
        reason: String,
    },
    /// `--storage-driver overlay` where the kernel has none for the store.
    #[error("overlay cannot be had: {why}; {remedy}, or use --storage-driver copy")]
    NoOverlay {
        /// What is in the way.
        why: String,
        /// What would help.
        remedy: String,
    },
    /// No build has this id, or its record cannot be read.
    #[error("{0}")]
    BuildNotFound(String),
    /// A limit is more than the machine has.
    #[error("{0}")]
    BeyondMachine(String),
    /// A combination of options that cannot be.
    #[error("{0}")]
    Usage(String),
    /// An archive that cannot be understood.
    #[error(transparent)]
    Archive(#[from] registry::Error),
    /// A base image could not be made.
    #[error("cannot make the base image: {0}")]
    Bootstrap(String),
    /// The build failed.
    #[error(transparent)]
    Build(#[from] builder::Error),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] cache::Error),
    /// The sandbox failed.
    #[error(transparent)]
    Sandbox(#[from] runtime::Error),
}

impl Error {
    /// What is wrong in the Dockerfile, where it is that.
    pub fn diagnostics(&self) -> &[Diagnostic] {
        match self {
            Error::Build(builder::Error::Dockerfile(diagnostics)) => diagnostics,
            Error::Build(builder::Error::RunFailed { diagnostic, .. }) => std::slice::from_ref(diagnostic.as_ref()),
            _ => &[],
        }
    }

    /// 1 for input that cannot be built or found, 2 for usage, 3 for the environment (disk, kernel), 130 for a cancelled build.
    pub fn exit_code(&self) -> i32 {
        match self {
            Error::Usage(_) | Error::BadName { .. } | Error::Store(cache::Error::BadVolumeName { .. }) => 2,
            Error::Build(builder::Error::Cancelled) | Error::Archive(registry::Error::Cancelled) => 130,
            Error::Build(builder::Error::Sandbox(_)) | Error::Sandbox(_) | Error::NoOverlay { .. } => 3,
            Error::Build(builder::Error::Store(error)) | Error::Store(error) if error.is_environment() => 3,
            Error::Archive(error) if error.is_environment() => 3,
            _ => 1,
        }
    }

    /// The sentence in the words that docker and podman look for, to tell a missing program from one that may not run.
    #[must_use]
    pub fn oci_message(&self) -> String {
        use runtime::Error as Sandbox;
        match self {
            Error::Sandbox(Sandbox::NotFound { program }) if program.contains('/') => {
                format!("exec: \"{program}\": stat {program}: no such file or directory")
            }
            Error::Sandbox(Sandbox::NotFound { program }) => {
                format!("exec: \"{program}\": executable file not found in $PATH")
            }
            Error::Sandbox(Sandbox::InterpreterNotFound { program }) => {
                format!("exec: \"{program}\": no such file or directory")
            }
            Error::Sandbox(Sandbox::NotExecutable { program, source }) => {
                let text = source.to_string().to_lowercase();
                let text = text.split(" (os error").next().unwrap_or_default().to_owned();
                format!("exec: \"{program}\": {text}")
            }
            other => other.to_string(),
        }
    }

    /// There is no image of the name that was given.
    #[must_use]
    pub fn is_missing_image(&self) -> bool {
        matches!(self, Error::ImageNotFound { .. } | Error::Store(cache::Error::ImageNotFound { .. }))
    }

    /// There is nothing of this name; `image` is what was said of images.
    #[must_use]
    pub fn nothing_named(name: &str, image: &Error) -> Error {
        let near = match image {
            Error::Store(cache::Error::ImageNotFound { nearest, .. }) => nearest.as_deref(),
            _ => None,
        };
        let near = near.map(|near| format!("; did you mean the image `{near}`?")).unwrap_or_default();
        Error::NothingNamed { name: name.to_owned(), near }
    }

    /// There is no container of the name that was given.
    #[must_use]
    pub fn is_missing_container(&self) -> bool {
        matches!(self, Error::Store(cache::Error::ContainerNotFound(_)))
    }

    /// The code of `dunnage run` when the container could not be started: 125, 126 or 127.
    pub fn run_exit_code(&self) -> i32 {
        match self {
            Error::Sandbox(error) => error.exit_code(),
            Error::Unstarted { code, .. } => *code,
            _ => 125,
        }
    }

    pub(crate) fn container_state(id: &str, reason: impl Into<String>) -> Self {
        Error::ContainerState { id: id.to_owned(), reason: reason.into() }
    }

    pub(crate) fn file(doing: &'static str, path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        match cache::Error::at(doing, path, source) {
            cache::Error::Path { doing, path, source } => Error::File { doing, path, source },
            full => Error::Store(full),
        }
    }
}
