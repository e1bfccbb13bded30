//! Build contexts: where the Dockerfile and the files of COPY and ADD come from.
//!
//! A directory is read in place. Anything else (an archive on standard input or behind a URL, a repository) is unpacked
//! into the lease's drafts, by the extractor that unpacks layers, and goes when the build ends.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Seek;
use std::path::{Path, PathBuf};

use builder::{Cancel, Context, FetchScope, SourceError, Sources};
use cache::{Follow, Kind, Lease, TreeRoot};
use grammar::{GitSource, IgnoreRules, Source};

use crate::Engine;
use crate::build::{BuildRequest, TEXT_LIMIT, bytes_of, ignore_rules_of};
use crate::error::{Error, Result};
use crate::sources::{Fetcher, source_error};

/// A build context as the user names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContextSource {
    /// A directory of this machine.
    Directory(PathBuf),
    /// `-`: an archive on standard input, or a lone Dockerfile.
    Stdin,
    /// A repository, or a directory of it.
    Git(GitSource),
    /// An archive behind a URL, or a lone Dockerfile.
    Url(String),
}

impl Default for ContextSource {
    fn default() -> Self {
        ContextSource::Directory(PathBuf::from("."))
    }
}

impl ContextSource {
    /// Reads the argument of `build`.
    ///
    /// # Errors
    /// When it is a git URL that cannot be.
    pub fn parse(text: &Path) -> Result<ContextSource> {
        let Some(plain) = text.to_str() else { return Ok(ContextSource::Directory(text.to_owned())) };
        // What is there is meant, whatever else its name could be read as.
        if plain != "-" && text.is_dir() {
            return Ok(ContextSource::Directory(text.to_owned()));
        }
        match GitSource::parse(plain) {
            Some(Ok(git)) => Ok(ContextSource::Git(git)),
            Some(Err(error)) => Err(Error::Usage(format!("the build context {plain:?} is not valid: {error}"))),
            None if plain == "-" => Ok(ContextSource::Stdin),
            None if grammar::is_http_url(plain) => Ok(ContextSource::Url(plain.to_owned())),
            None => Ok(ContextSource::Directory(text.to_owned())),
        }
    }

    /// The directory, where it is one.
    pub(crate) fn directory(&self) -> Option<&Path> {
        match self {
            ContextSource::Directory(path) => Some(path),
            ContextSource::Stdin | ContextSource::Git(_) | ContextSource::Url(_) => None,
        }
    }

    pub(crate) fn label(&self) -> String {
        match self {
            ContextSource::Directory(path) => path.display().to_string(),
            ContextSource::Stdin => "what was read from standard input".to_owned(),
            ContextSource::Git(git) => format!("the repository {}", git.remote),
            ContextSource::Url(url) => url.clone(),
        }
    }
}

/// How messages call a Dockerfile that is a text of a project file.
pub(crate) const INLINE: &str = "dockerfile-inline";

/// The Dockerfile as the user names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DockerfileSource {
    /// A file: of this machine, or of a context that is no directory of it.
    Path(PathBuf),
    /// `-`
    Stdin,
    /// A URL.
    Url(String),
    /// The text itself, of a project file.
    Text(String),
}

impl DockerfileSource {
    /// Reads the argument of `--file`.
    pub fn parse(path: PathBuf) -> DockerfileSource {
        match path.to_str() {
            Some("-") => DockerfileSource::Stdin,
            Some(text) if grammar::is_http_url(text) => DockerfileSource::Url(text.to_owned()),
            _ => DockerfileSource::Path(path),
        }
    }
}

/// `--build-context NAME=…`
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamedSource {
    /// Files.
    Files(ContextSource),
    /// `docker-image://NAME`
    Image(cache::Reference),
    /// `oci-layout://PATH[:TAG|@DIGEST]`
    Layout {
        /// The directory.
        path: PathBuf,
        /// Which of its images.
        wanted: registry::LayoutImage,
    },
    /// `target:STAGE`
    Stage(String),
}

impl NamedSource {
    /// Reads what stands behind `NAME=`.
    ///
    /// # Errors
    /// With the rule that it breaks.
    pub fn parse(text: &str) -> Result<NamedSource> {
        let usage = |what: String| Error::Usage(format!("--build-context: {what}"));
        if let Some(name) = text.strip_prefix("docker-image://") {
            let bad = |error: cache::Error| usage(format!("`{name}` is not a valid image name: {error}"));
            return Ok(NamedSource::Image(name.parse().map_err(bad)?));
        }
        if let Some(stage) = text.strip_prefix("target:") {
            return Ok(NamedSource::Stage(stage.to_owned()));
        }
        if let Some(layout) = text.strip_prefix("oci-layout://") {
            let (path, wanted) = match layout.split_once('@') {
                Some((path, digest)) => {
                    let digest = digest.parse().map_err(|error: cache::Error| usage(error.to_string()))?;
                    (path, registry::LayoutImage::Digest(digest))
                }
                None => match layout.rsplit_once(':').filter(|(_, tag)| !tag.contains('/')) {
                    Some((path, tag)) => (path, registry::LayoutImage::Tag(tag.to_owned())),
                    None => (layout, registry::LayoutImage::Default),
                },
            };
            return Ok(NamedSource::Layout { path: PathBuf::from(path), wanted });
        }
        match ContextSource::parse(Path::new(text.strip_prefix("local:").unwrap_or(text)))? {
            ContextSource::Stdin => Err(usage("standard input can only be the build's own context".to_owned())),
            source => Ok(NamedSource::Files(source)),
        }
    }
}

/// The build's own context and its Dockerfile.
pub(crate) struct Opened {
    pub(crate) context: Context,
    pub(crate) dockerfile: Source,
}

/// A context that was brought here.
struct Brought {
    root: TreeRoot,
    rules: IgnoreRules,
    /// The lone Dockerfile that it was instead of an archive.
    lone: Option<Vec<u8>>,
}

impl Engine {
    /// Opens the context and reads the Dockerfile.
    pub(crate) fn open_context(
        &self,
        request: &BuildRequest,
        fetcher: &Fetcher,
        lease: &Lease,
        cancel: &Cancel,
    ) -> Result<Opened> {
        let scope = FetchScope { store: &self.store, lease, cancel };
        if request.context == ContextSource::Stdin && request.dockerfile == Some(DockerfileSource::Stdin) {
            return Err(Error::Usage("the context and the Dockerfile cannot both be standard input".to_owned()));
        }
        if let Some(directory) = request.context.directory() {
            let dockerfile = match &request.dockerfile {
                Some(DockerfileSource::Url(url)) => {
                    request.context_directory()?;
                    (None, Source::from_bytes(url, &fetched_bytes(fetcher, url, scope)?))
                }
                _ => request.source()?,
            };
            let (rules, name) = request.ignore_rules(dockerfile.0.as_deref())?;
            let context = Context::open(directory, rules, &name, &self.store)?;
            return Ok(Opened { context, dockerfile: dockerfile.1 });
        }
        let brought = bring(&request.context, fetcher, scope)?;
        let dockerfile = match (&request.dockerfile, &brought.lone) {
            (Some(DockerfileSource::Url(url)), _) => Source::from_bytes(url, &fetched_bytes(fetcher, url, scope)?),
            (Some(DockerfileSource::Text(text)), _) => Source::new(INLINE, text.as_str()),
            (Some(DockerfileSource::Stdin), _) => Source::from_bytes("stdin", &stdin_bytes()?),
            (None, Some(text)) => Source::from_bytes("Dockerfile", text),
            (Some(DockerfileSource::Path(path)), _) => inner(&brought.root, &request.context, Some(path))?,
            (None, None) => inner(&brought.root, &request.context, None)?,
        };
        let context = Context::of_tree(brought.root, brought.rules, &request.context.label());
        Ok(Opened { context, dockerfile })
    }

    /// Opens the named contexts that a build reads files of.
    pub(crate) fn open_named(
        &self,
        request: &BuildRequest,
        used: &[String],
        fetcher: &Fetcher,
        lease: &Lease,
        cancel: &Cancel,
    ) -> Result<BTreeMap<String, Context>> {
        let scope = FetchScope { store: &self.store, lease, cancel };
        let mut opened = BTreeMap::new();
        for name in used {
            let Some(NamedSource::Files(source)) = request.contexts.get(name) else { continue };
            let context = match source.directory() {
                Some(directory) => {
                    if !directory.is_dir() {
                        return Err(Error::ContextNotDirectory(directory.to_owned()));
                    }
                    let (rules, file) = ignore_rules_of(&[directory.join(".dockerignore")])?;
                    Context::open(directory, rules, &file, &self.store)?
                }
                None => {
                    let brought = bring(source, fetcher, scope)?;
                    if brought.lone.is_some() {
                        let what = source.label();
                        return Err(Error::Usage(format!("--build-context {name}: {what} is not an archive")));
                    }
                    Context::of_tree(brought.root, brought.rules, &source.label())
                }
            };
            opened.insert(name.clone(), context);
        }
        Ok(opened)
    }
}

/// Brings a context that is no directory of this machine into the drafts.
fn bring(source: &ContextSource, fetcher: &Fetcher, scope: FetchScope<'_>) -> Result<Brought> {
    let failed = |error: SourceError| Error::ContextUnavailable { context: source.label(), reason: error.to_string() };
    match source {
        ContextSource::Git(git) => {
            let commit = fetcher.git_commit(git, scope).map_err(failed)?;
            if let Some(checksum) = git.checksum.as_deref().filter(|checksum| !commit.starts_with(*checksum)) {
                return Err(failed(SourceError::new(format!("its commit is {commit}, not {checksum}"))));
            }
            let checkout = fetcher.git_checkout(git, &commit, scope).map_err(failed)?;
            let hidden = if git.keep_git_dir == Some(true) { "" } else { "**/.git" };
            let rules = IgnoreRules::parse(hidden).map_err(|error| failed(source_error(error)))?;
            Ok(Brought { root: checkout.root, rules, lone: None })
        }
        ContextSource::Url(url) => {
            let fetched = fetcher.http(url, None, scope).map_err(failed)?;
            unpack(fetched.file, source, scope)
        }
        ContextSource::Stdin => {
            // An archive is told by its content, and read again from the start.
            let path = scope.lease.draft();
            let open = File::options().read(true).write(true).create_new(true).open(&path);
            let mut file = open.map_err(|error| Error::file("write", &path, error))?;
            std::io::copy(&mut std::io::stdin().lock(), &mut file)
                .map_err(|error| Error::file("keep the context of standard input in", &path, error))?;
            unpack(file, source, scope)
        }
        ContextSource::Directory(path) => Err(Error::ContextNotDirectory(path.clone())),
    }
}

/// Unpacks an archive; a text is the Dockerfile of an empty context.
fn unpack(mut file: File, source: &ContextSource, scope: FetchScope<'_>) -> Result<Brought> {
    let directory = scope.lease.draft();
    std::fs::create_dir(&directory).map_err(|error| Error::file("make", &directory, error))?;
    let root = TreeRoot::open(&directory)?;
    let rewound = |file: &mut File| file.rewind().map_err(|error| Error::file("read", source.label(), error));
    rewound(&mut file)?;
    let copy = file.try_clone().map_err(|error| Error::file("read", source.label(), error))?;
    if let Some(archive) = cache::open_archive(copy)? {
        cache::extract_archive(archive, &root, Some(cache::Owner::default()))?;
        return Ok(Brought { root, rules: IgnoreRules::none(), lone: None });
    }
    rewound(&mut file)?;
    let lone = bytes_of(file, Path::new(&source.label()))?;
    if lone.contains(&0) {
        let reason = "it is neither an archive nor a Dockerfile".to_owned();
        return Err(Error::ContextUnavailable { context: source.label(), reason });
    }
    Ok(Brought { root, rules: IgnoreRules::none(), lone: Some(lone) })
}

/// The Dockerfile of a context that was brought here: links in it lead nowhere else.
fn inner(root: &TreeRoot, source: &ContextSource, wanted: Option<&PathBuf>) -> Result<Source> {
    let names = match wanted {
        Some(path) => vec![path.as_path()],
        None => vec![Path::new("Dockerfile"), Path::new("Containerfile")],
    };
    for name in &names {
        let there = root.metadata(name, Follow::Yes)?;
        if there.is_some_and(|metadata| metadata.kind == Kind::File)
            && let Some(bytes) = root.read_file(name, TEXT_LIMIT)?
        {
            return Ok(Source::from_bytes(name.display().to_string(), &bytes));
        }
    }
    let looked_for: Vec<String> = names.iter().map(|name| name.display().to_string()).collect();
    Err(Error::DockerfileNotFound { context: source.label().into(), looked_for: looked_for.join(", ") })
}

fn fetched_bytes(fetcher: &Fetcher, url: &str, scope: FetchScope<'_>) -> Result<Vec<u8>> {
    let failed = |error: SourceError| Error::ContextUnavailable { context: url.to_owned(), reason: error.to_string() };
    let fetched = fetcher.http(url, None, scope).map_err(failed)?;
    bytes_of(fetched.file, Path::new(url))
}

/// The Dockerfile on standard input.
pub(crate) fn stdin_bytes() -> Result<Vec<u8>> {
    bytes_of(std::io::stdin().lock(), Path::new("standard input"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn contexts_are_told_by_what_they_look_like() {
        let parse = |text: &str| ContextSource::parse(Path::new(text)).unwrap();
        assert_eq!(parse("-"), ContextSource::Stdin);
        assert_eq!(parse("none/here"), ContextSource::Directory("none/here".into()));
        assert!(matches!(parse("https://h.invalid/r.git#v1:d"), ContextSource::Git(_)));
        assert!(matches!(parse("git@h.invalid:r"), ContextSource::Git(_)));
        assert!(matches!(parse("https://h.invalid/c.tar.gz"), ContextSource::Url(_)));
        assert!(ContextSource::parse(Path::new("https://h.invalid/r.git?bogus=1")).is_err());
    }

    #[test]
    fn named_contexts_have_schemes() {
        let parse = |text: &str| NamedSource::parse(text).unwrap();
        let layout = |path: &str, wanted| NamedSource::Layout { path: path.into(), wanted };
        assert_eq!(parse("oci-layout:///a/b:v1"), layout("/a/b", registry::LayoutImage::Tag("v1".to_owned())));
        assert_eq!(parse("oci-layout://./a:b/c"), layout("./a:b/c", registry::LayoutImage::Default));
        assert_eq!(parse("target:x"), NamedSource::Stage("x".to_owned()));
        assert!(matches!(parse("docker-image://alpine"), NamedSource::Image(_)));
        for bad in ["docker-image://A B", "oci-layout:///a@sha256:x", "-"] {
            assert!(NamedSource::parse(bad).is_err(), "{bad}");
        }
    }
}
