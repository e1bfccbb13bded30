//! ADD of URLs and repositories: known by checksum or commit where that is enough, fetched where it is not.

use cache::Kind;
use grammar::GitSource;

use super::Work;
use super::place::Placer;
use crate::error::{Error, Result};
use crate::paths::clean;
use crate::select::{Selected, SourceTree};
use crate::sources::{Checkout, FetchScope, Fetched, HttpSource, SourceError};

/// One source of a COPY or ADD, known well enough for a key.
#[derive(Debug)]
pub(crate) enum Taken {
    /// Files of the context, a stage or an image.
    Files(Selected),
    /// A URL; not fetched yet where its checksum says what it holds.
    Url { source: HttpSource, fetched: Option<Fetched> },
    /// A repository at a commit.
    Git { source: GitSource, commit: String },
}

impl Taken {
    /// The files, where they are of this machine.
    pub(crate) fn files(&self) -> Option<&Selected> {
        match self {
            Taken::Files(selected) => Some(selected),
            Taken::Url { .. } | Taken::Git { .. } => None,
        }
    }

    /// Name and hash, for the key.
    pub(crate) fn part(&self, with_owner: bool) -> (String, String) {
        match self {
            Taken::Files(selected) => (selected.path.to_string_lossy().into_owned(), selected.digest(with_owner)),
            Taken::Url { source, fetched } => {
                let digest = source.checksum.as_ref().or(fetched.as_ref().map(|fetched| &fetched.digest));
                let digest = digest.map(ToString::to_string).unwrap_or_default();
                (source.url.clone(), format!("{digest} {} unpack={}", source.name, source.unpack))
            }
            Taken::Git { source, commit } => {
                let directory = source.directory.as_deref().unwrap_or_default();
                let submodules = source.submodules != Some(false);
                let mut hash = format!("{commit}:{} submodules={submodules}", clean(directory.as_ref()).display());
                if source.keep_git_dir == Some(true) {
                    // What `.git` holds tells where it came from.
                    hash.push_str(&format!(
                        " .git of {} {}",
                        source.remote,
                        source.reference.as_deref().unwrap_or("HEAD")
                    ));
                }
                (source.remote.clone(), hash)
            }
        }
    }
}

impl Work<'_> {
    fn fetch_scope(&self) -> FetchScope<'_> {
        FetchScope { store: self.solver.store, lease: self.solver.lease, cancel: self.solver.cancel }
    }

    /// A URL as a source: its bytes are needed now only where nothing says what they are.
    pub(super) fn take_url(&self, source: &HttpSource) -> Result<Taken> {
        let fetched = match source.checksum {
            Some(_) => None,
            None => Some(self.fetch(source)?),
        };
        Ok(Taken::Url { source: source.clone(), fetched })
    }

    pub(super) fn fetch(&self, source: &HttpSource) -> Result<Fetched> {
        let fetched = self.solver.sources.http(&source.url, source.checksum.as_ref(), self.fetch_scope());
        fetched.map_err(|error| self.source_failed(error))
    }

    /// A repository as a source: a whole commit id as its checksum says all that a key needs.
    pub(super) fn take_git(&self, source: &GitSource) -> Result<Taken> {
        let commit = match source.checksum.as_deref() {
            Some(checksum) if is_commit_id(checksum) => checksum.to_owned(),
            _ => self.commit_of(source)?,
        };
        Ok(Taken::Git { source: source.clone(), commit })
    }

    /// Asks the repository, and holds the answer against the checksum.
    fn commit_of(&self, source: &GitSource) -> Result<String> {
        let commit =
            self.solver.sources.git_commit(source, self.fetch_scope()).map_err(|error| self.source_failed(error))?;
        match source.checksum.as_deref() {
            Some(checksum) if !commit.starts_with(checksum) => Err(self
                .diagnostic("K0339", format!("{} does not have the checksum {checksum}", source.remote))
                .label(format!("{} is commit {commit}", source.reference.as_deref().unwrap_or("HEAD")))
                .into()),
            _ => Ok(commit),
        }
    }

    pub(super) fn checkout(&self, source: &GitSource, commit: &str) -> Result<Checkout> {
        if source.checksum.is_some() {
            self.commit_of(source)?;
        }
        let checkout = self.solver.sources.git_checkout(source, commit, self.fetch_scope());
        checkout.map_err(|error| self.source_failed(error))
    }

    /// The files of a checkout: 0644 or 0755, all of the commit's time; `.git` only where it is asked for.
    pub(super) fn select_checkout(&self, source: &GitSource, checkout: &Checkout) -> Result<Selected> {
        let tree = SourceTree { root: &checkout.root, context: None, exclude: &self.exclude };
        let found = tree.select("/")?.unwrap_or_default();
        let Some(mut selected) = found.into_iter().next() else { return Err(Error::WorkerLost) };
        let keep = source.keep_git_dir == Some(true);
        // Git itself refuses to check out anything of this name.
        selected.entries.retain(|entry| keep || !entry.path.components().any(|part| part.as_os_str() == ".git"));
        let plain = |metadata: &mut cache::Metadata| {
            let runs = metadata.kind == Kind::Directory || metadata.mode & 0o100 != 0;
            metadata.mode = if runs { 0o755 } else { 0o644 };
            metadata.mtime_ns = checkout.mtime_ns;
        };
        plain(&mut selected.metadata);
        selected.entries.iter_mut().for_each(|entry| plain(&mut entry.metadata));
        Ok(selected)
    }

    /// Places a repository's files into the destination.
    pub(super) fn place_git(
        &self,
        placer: &Placer<'_>,
        source: &GitSource,
        commit: &str,
        destination: &std::path::Path,
    ) -> Result<()> {
        let checkout = self.checkout(source, commit)?;
        let selected = self.select_checkout(source, &checkout)?;
        let placer = Placer { source: &checkout.root, ..*placer };
        placer.directory(&selected, destination)
    }

    fn source_failed(&self, error: SourceError) -> Error {
        if self.solver.cancel.is_cancelled() {
            return Error::Cancelled;
        }
        let diagnostic = self.diagnostic("K0338", error.message);
        match error.help {
            Some(help) => diagnostic.help(help),
            None => diagnostic,
        }
        .into()
    }
}

fn is_commit_id(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}
