//! Why a build could not be planned or performed.

use std::path::PathBuf;

use grammar::Diagnostic;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Variants are named by what the user was doing.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The Dockerfile, or a step of it, is wrong: each diagnostic names its line.
    #[error("{}", summary(.0))]
    Dockerfile(Vec<Diagnostic>),
    /// A RUN ended with a failure. The diagnostic names the line.
    #[error("{}", .diagnostic.message)]
    RunFailed {
        /// What and where.
        diagnostic: Box<Diagnostic>,
        /// The exit code, 128+n for a signal.
        code: i32,
    },
    /// The user stopped the build.
    #[error("the build was cancelled")]
    Cancelled,
    /// The build context cannot be read.
    #[error("cannot read {path:?} of the build context: {source}")]
    ContextUnreadable {
        /// The path inside the context.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// A file changed between hashing and copying.
    #[error("{path:?} changed while it was being copied; build again when nothing writes to the context")]
    ContextChanged {
        /// The path inside the context.
        path: PathBuf,
    },
    /// What the build was asked to give cannot be written.
    #[error("cannot write {what}: {source}")]
    Output {
        /// The file, or the path inside the tree.
        what: String,
        /// The cause.
        source: std::io::Error,
    },
    /// The store refused or failed.
    #[error(transparent)]
    Store(#[from] cache::Error),
    /// A cache beyond the store did not give what it promised: who solves goes on without that.
    #[error("{0}")]
    BrokenCache(cache::Error),
    /// A cache beyond the store knew what a step gave and has no layer of it: the step runs where the files are needed.
    #[error("a cache does not have the layers of all steps that it knows")]
    NotCarried,
    /// The sandbox could not be made.
    #[error(transparent)]
    Sandbox(#[from] runtime::Error),
    /// A thread of the build ended without an answer: a defect of ours.
    #[error("a build worker stopped without an answer; this is a defect of dunnage")]
    WorkerLost,
}

fn summary(diagnostics: &[Diagnostic]) -> String {
    match diagnostics {
        [] => "the Dockerfile cannot be built".to_owned(),
        [only] => only.message.clone(),
        [first, rest @ ..] => format!("{} (and {} more)", first.message, rest.len()),
    }
}

impl From<Diagnostic> for Error {
    fn from(diagnostic: Diagnostic) -> Self {
        Error::Dockerfile(vec![diagnostic])
    }
}

impl Error {
    pub(crate) fn output(what: impl std::fmt::Display) -> impl FnOnce(std::io::Error) -> Error {
        let what = what.to_string();
        move |source| Error::Output { what, source }
    }
}
