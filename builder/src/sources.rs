//! Sources on the network as a build asks for them: what is wanted, never how it is fetched.

use std::fs::File;

use cache::{Digest, Lease, Store, TreeRoot};
use grammar::GitSource;

use crate::cancel::Cancel;

/// ADD of a URL.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HttpSource {
    /// The URL.
    pub url: String,
    /// The file's name where the destination is a directory.
    pub name: String,
    /// `--checksum`.
    pub checksum: Option<Digest>,
    /// `--unpack`: an archive is unpacked.
    pub unpack: bool,
}

/// Bytes that were fetched, in the store.
#[derive(Debug)]
pub struct Fetched {
    /// Open: what prunes the store meanwhile does not matter.
    pub file: File,
    /// Their digest.
    pub digest: Digest,
    /// Their number.
    pub size: u64,
    /// `Last-Modified`, in nanoseconds since 1970.
    pub mtime_ns: Option<i64>,
}

/// A commit's files, or a directory of them.
#[derive(Debug)]
pub struct Checkout {
    /// The directory that was asked for.
    pub root: TreeRoot,
    /// The time of the commit, in nanoseconds since 1970.
    pub mtime_ns: i64,
}

/// Why a source could not be had: one sentence, and perhaps what to do.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct SourceError {
    /// What is wrong.
    pub message: String,
    /// What helps.
    pub help: Option<String>,
}

impl SourceError {
    /// With nothing to advise.
    pub fn new(message: impl Into<String>) -> SourceError {
        SourceError { message: message.into(), help: None }
    }
}

/// What fetches go through: where to put things, and whether they are still wanted.
#[derive(Debug, Clone, Copy)]
pub struct FetchScope<'a> {
    /// The store.
    pub store: &'a Store,
    /// Keeps what is fetched.
    pub lease: &'a Lease,
    /// Stops it.
    pub cancel: &'a Cancel,
}

/// Fetches what is not on this machine.
pub trait Sources: Sync {
    /// The bytes of a URL, checked against `checksum`.
    ///
    /// # Errors
    /// When they cannot be had, or are others.
    fn http(&self, url: &str, checksum: Option<&Digest>, scope: FetchScope<'_>) -> Result<Fetched, SourceError>;

    /// The commit that a repository's reference means now: forty or sixty-four hexadecimal digits.
    ///
    /// # Errors
    /// When the repository cannot be asked, or has no such reference.
    fn git_commit(&self, source: &GitSource, scope: FetchScope<'_>) -> Result<String, SourceError>;

    /// The files of a commit, or of the directory of it that the source names.
    ///
    /// # Errors
    /// When it cannot be fetched, or the directory is none.
    fn git_checkout(&self, source: &GitSource, commit: &str, scope: FetchScope<'_>) -> Result<Checkout, SourceError>;
}

/// The last name of a URL's path, fit to be a file's name.
pub(crate) fn name_of_url(url: &str) -> String {
    let path = url.split_once("://").map_or(url, |(_, rest)| rest);
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let path = path.split_once('/').map_or("", |(_, path)| path).trim_end_matches('/');
    let name = grammar::percent_decoded(path.rsplit('/').next().unwrap_or_default());
    // What is decoded may hold a slash again.
    let name = name.rsplit('/').next().unwrap_or_default();
    if matches!(name, "" | "." | "..") || name.contains(['\0', '\\']) || name.len() > 255 {
        return "__unnamed__".to_owned();
    }
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn builder_d04_names_come_from_the_path_and_lead_nowhere() {
        for (url, name) in [
            ("https://h/a/b.tar.gz", "b.tar.gz"),
            ("https://h/a/b.tar.gz?x=/y#z", "b.tar.gz"),
            ("https://h/a/", "a"),
            ("https://h/", "__unnamed__"),
            ("https://h", "__unnamed__"),
            ("https://h/a%20b", "a b"),
            ("https://h/..%2f..%2fetc%2fpasswd", "passwd"),
            ("https://h/%2e%2e", "__unnamed__"),
            ("https://h/a/..", "__unnamed__"),
            ("https://h/x%00y", "__unnamed__"),
        ] {
            assert_eq!(name_of_url(url), name, "{url}");
        }
    }
}
