//! What is not on this machine, fetched for a build: URLs through the registry's client, repositories through git.

use std::sync::OnceLock;

use builder::{Checkout, Credentials, FetchScope, Fetched, SourceError, Sources};
use cache::{Digest, DownloadRecord, TreeRoot};
use grammar::GitSource;
use registry::{DownloadRequest, Downloaded, Http, HttpOptions, S3Environment, Validators};

use crate::git::Git;
use crate::source_secrets::Authorization;
use crate::{RegistryFiles, SearchPath};

/// How the network is reached.
#[derive(Debug, Clone, Default)]
pub struct FetchOptions {
    /// Proxies and certificates.
    pub http: HttpOptions,
    /// Where the `git` program, and those that keep passwords, are looked for.
    pub programs: SearchPath,
    /// What is known of registries.
    pub registries: RegistryFiles,
    /// What is known of object stores.
    pub s3: S3Environment,
}

/// Fetches for one build. The network is first touched when something is asked for.
#[derive(Debug)]
pub(crate) struct Fetcher {
    options: FetchOptions,
    lent: Credentials,
    http: OnceLock<Http>,
}

impl Fetcher {
    pub(crate) fn new(options: &FetchOptions, lent: &Credentials) -> Fetcher {
        Fetcher { options: options.clone(), lent: lent.clone(), http: OnceLock::new() }
    }

    fn client(&self) -> Result<&Http, SourceError> {
        if let Some(http) = self.http.get() {
            return Ok(http);
        }
        let made = Http::new(&self.options.http).map_err(source_error)?;
        Ok(self.http.get_or_init(|| made))
    }

    fn git<'a>(&'a self, source: &GitSource, scope: FetchScope<'a>) -> Result<Git<'a>, SourceError> {
        Git::find(&self.options, &self.lent, source, scope)
    }
}

impl Sources for Fetcher {
    fn http(&self, url: &str, checksum: Option<&Digest>, scope: FetchScope<'_>) -> Result<Fetched, SourceError> {
        let known = scope.store.download(url).map_err(source_error)?;
        let validators = known
            .as_ref()
            .map(|record| Validators { etag: record.etag.clone(), last_modified: record.last_modified.clone() });
        let request = DownloadRequest {
            url: url.to_owned(),
            checksum: checksum.cloned(),
            // A checksum is held against bytes, not against what a server says of them.
            known: if checksum.is_none() { validators.unwrap_or_default() } else { Validators::default() },
            authorization: Authorization::of_http(&self.lent, url)?.map(|authorization| authorization.value),
        };
        let cancelled = || scope.cancel.is_cancelled();
        let got = self.client()?.download(&request, scope.store, scope.lease, &cancelled).map_err(source_error)?;
        let record = match (got, known) {
            (Downloaded::NotModified, Some(record)) => record,
            (Downloaded::NotModified, None) => {
                return Err(SourceError::new(format!(
                    "cannot fetch {url}: the server says that it was fetched before"
                )));
            }
            (Downloaded::New(download), _) => {
                let record = DownloadRecord {
                    blob: download.blob.digest.clone(),
                    etag: download.validators.etag,
                    last_modified: download.validators.last_modified,
                };
                scope.store.put_download(url, &record).map_err(source_error)?;
                record
            }
        };
        let blob = scope.store.blob(&record.blob).map_err(source_error)?;
        let Some(blob) = blob else {
            return Err(SourceError::new(format!("cannot fetch {url}: what was fetched was pruned meanwhile")));
        };
        let validators = Validators { etag: None, last_modified: record.last_modified };
        Ok(Fetched {
            file: blob.open().map_err(source_error)?,
            digest: blob.digest,
            size: blob.size,
            mtime_ns: validators.modified().and_then(|seconds| seconds.checked_mul(1_000_000_000)),
        })
    }

    fn git_commit(&self, source: &GitSource, scope: FetchScope<'_>) -> Result<String, SourceError> {
        self.git(source, scope)?.commit(source)
    }

    fn git_checkout(&self, source: &GitSource, commit: &str, scope: FetchScope<'_>) -> Result<Checkout, SourceError> {
        let git = self.git(source, scope)?;
        let checked_out = git.checkout(source, commit)?;
        let root = TreeRoot::open(&checked_out.directory).map_err(source_error)?;
        let root = match source.directory.as_deref() {
            Some(directory) => crate::git::real_directory(&root, directory)?,
            None => root,
        };
        Ok(Checkout { root, mtime_ns: checked_out.time.saturating_mul(1_000_000_000) })
    }
}

/// Every cause is one sentence already.
pub(crate) fn source_error(error: impl std::fmt::Display) -> SourceError {
    SourceError::new(error.to_string())
}
