//! Why an archive cannot be read or written.

use std::io;
use std::path::PathBuf;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Variants are named by what the user was doing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The input is neither a docker archive nor an OCI layout.
    #[error("this is no image archive: it has neither a manifest.json (docker) nor an index.json (OCI)")]
    NotAnArchive,
    /// The input is not even a tar.
    #[error("this is no image archive: {0}")]
    NotATar(String),
    /// A document of the archive breaks its format.
    #[error("the archive's {name} is not valid: {reason}")]
    Document {
        /// Which document.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// A document names something that the archive does not hold.
    #[error("the archive names {0} and does not hold it")]
    Missing(String),
    /// No image of the archive is for this machine.
    #[error("the archive has no image for {0}")]
    NoPlatform(String),
    /// Writing failed.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// Where.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Reading failed.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// What.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A URL cannot be fetched.
    #[error("cannot fetch {url}: {reason}")]
    Fetch {
        /// The URL, without credentials.
        url: String,
        /// What the server, or the way to it, is at fault of.
        reason: String,
    },
    /// What a URL gives is not what was asked for.
    #[error("{url} does not have the checksum {expected}: it has {found}")]
    Checksum {
        /// The URL, without credentials.
        url: String,
        /// As asked.
        expected: cache::Digest,
        /// As it came.
        found: cache::Digest,
    },
    /// A file of the user's about registries says what cannot be.
    #[error("{file}: {reason}")]
    Settings {
        /// The file, with the line where there is one.
        file: String,
        /// What is wrong.
        reason: String,
    },
    /// A registry did not do it.
    #[error("{0}")]
    Refused(Box<crate::distribution::Refusal>),
    /// A server has no place.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Where.
        address: std::net::SocketAddr,
        /// The cause.
        source: io::Error,
    },
    /// The work was stopped.
    #[error("it was stopped")]
    Cancelled,
    /// The network cannot be used as it is set up.
    #[error("cannot use the network: {0}")]
    Network(String),
    /// The store failed, or refused what the archive holds.
    #[error(transparent)]
    Store(#[from] cache::Error),
}

impl Error {
    /// The machine is to blame (disk, rights), not the input.
    pub fn is_environment(&self) -> bool {
        match self {
            Error::Store(error) => error.is_environment(),
            Error::Refused(refusal) => refusal.is_environment(),
            Error::Write { .. } | Error::Listen { .. } => true,
            _ => false,
        }
    }

    pub(crate) fn document(name: impl Into<String>, reason: impl ToString) -> Self {
        Error::Document { name: name.into(), reason: reason.to_string() }
    }

    pub(crate) fn settings(file: impl std::fmt::Display, reason: impl ToString) -> Self {
        Error::Settings { file: file.to_string(), reason: reason.to_string() }
    }

    pub(crate) fn fetch(url: &str, reason: String) -> Self {
        Error::Fetch { url: url.to_owned(), reason }
    }

    pub(crate) fn write(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Error {
        let path = path.into();
        move |source| match cache::Error::at("write", path, source) {
            cache::Error::Path { path, source, .. } => Error::Write { path, source },
            full => Error::Store(full),
        }
    }

    pub(crate) fn read(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Error {
        let path = path.into();
        move |source| Error::Read { path, source }
    }
}
