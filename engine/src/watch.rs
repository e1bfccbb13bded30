//! `dunnage build --watch`: what a build reads, watched until something of it changes.
//!
//! Watched are the Dockerfile, the ignore files, and of each context the directories that the plan reads, those that are
//! ignored left out. What the build itself writes is no change.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use builder::{Cancel, Reads};
use grammar::{IgnoreRules, IgnoreVerdict};
use notify::event::{AccessKind, AccessMode, EventKind, MetadataKind, ModifyKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};

use crate::build::{BuildRequest, ignore_rules_of};
use crate::check::known_images;
use crate::contexts::{DockerfileSource, NamedSource};
use crate::error::{Error, Result};
use crate::outputs::{Destination, Output};
use crate::remote_caches::{CachePlace, CacheTo};
use crate::{ContextSource, Engine};

/// A change is followed by others: an editor writes a file in several steps, a checkout many files.
const QUIET: Duration = Duration::from_millis(100);
/// The longest that a change waits for the next.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often a cancelled wait is noticed.
const POLL: Duration = Duration::from_millis(50);

/// Watches what a build reads.
#[derive(Debug)]
pub struct Watch {
    watcher: RecommendedWatcher,
    events: Receiver<notify::Result<notify::Event>>,
    watched: BTreeSet<PathBuf>,
    interest: Interest,
}

/// Which paths matter.
#[derive(Debug, Default)]
struct Interest {
    /// Dockerfiles and ignore files.
    files: BTreeSet<PathBuf>,
    contexts: Vec<WatchedContext>,
    /// Files and directories that the build writes.
    own: Vec<PathBuf>,
}

#[derive(Debug)]
struct WatchedContext {
    root: PathBuf,
    rules: IgnoreRules,
    reads: Vec<Reads>,
}

impl Engine {
    /// Begins to watch: what changes from now on is noticed. `own` is what is written beside the outputs of the request.
    ///
    /// # Errors
    /// When there is nothing on this machine to watch, or the kernel refuses.
    pub fn watch(&self, request: &BuildRequest, own: &[PathBuf]) -> Result<Watch> {
        if request.context.directory().is_none() {
            return Err(Error::Usage("--watch needs a directory of this machine as its context".to_owned()));
        }
        if request.dockerfile == Some(DockerfileSource::Stdin) {
            return Err(Error::Usage("--watch needs a Dockerfile that can change: standard input cannot".to_owned()));
        }
        let (sender, events) = channel();
        let watcher = notify::recommended_watcher(sender).map_err(refused)?;
        let mut watch = Watch { watcher, events, watched: BTreeSet::new(), interest: Interest::default() };
        watch.renew(self, request, own)?;
        Ok(watch)
    }

    fn interest(&self, request: &BuildRequest, own: &[PathBuf]) -> Result<Interest> {
        let context = absolute(request.context_directory()?);
        let mut interest = Interest { own: written(request, own), ..Interest::default() };
        interest.own.push(absolute(self.root()));
        let dockerfiles = match &request.dockerfile {
            Some(DockerfileSource::Path(path)) => vec![absolute(path)],
            Some(_) => Vec::new(),
            None => vec![context.join("Dockerfile"), context.join("Containerfile")],
        };
        for path in dockerfiles {
            let mut beside = path.clone().into_os_string();
            beside.push(".dockerignore");
            interest.files.extend([path, beside.into()]);
        }
        interest.files.insert(context.join(".dockerignore"));
        let reads = self.reads(request);
        let of = |name: Option<&str>| -> Vec<Reads> {
            match &reads {
                Some(reads) => reads.iter().filter(|one| one.context.as_deref() == name).cloned().collect(),
                // A file that cannot be read says nothing of what it will read.
                None => vec![Reads::all(name.map(str::to_owned))],
            }
        };
        let dockerfile = request.source().ok().and_then(|(path, _)| path);
        let (rules, _) = request.ignore_rules(dockerfile.as_deref()).unwrap_or((IgnoreRules::none(), String::new()));
        interest.contexts.push(WatchedContext { root: context, rules, reads: of(None) });
        for (name, source) in &request.contexts {
            if let NamedSource::Files(ContextSource::Directory(directory)) = source {
                let root = absolute(directory);
                let ignore = root.join(".dockerignore");
                let rules = ignore_rules_of(std::slice::from_ref(&ignore)).map_or(IgnoreRules::none(), |found| found.0);
                let reads = of(Some(name));
                if !reads.is_empty() {
                    interest.files.insert(ignore);
                    interest.contexts.push(WatchedContext { root, rules, reads });
                }
            }
        }
        Ok(interest)
    }

    fn reads(&self, request: &BuildRequest) -> Option<Vec<Reads>> {
        let (_, source) = request.source().ok()?;
        let parsed = grammar::parse(&source);
        let options = request.options();
        builder::reads(&parsed.dockerfile, &options, &known_images(self, &parsed.dockerfile, &options))
    }
}

impl Watch {
    /// Looks again at what the build reads: the Dockerfile may have changed, and directories may have come.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn renew(&mut self, engine: &Engine, request: &BuildRequest, own: &[PathBuf]) -> Result<()> {
        self.interest = engine.interest(request, own)?;
        let wanted = self.interest.directories();
        for gone in self.watched.difference(&wanted) {
            // One that was removed is watched no longer anyway.
            let _ = self.watcher.unwatch(gone);
        }
        for new in wanted.difference(&self.watched) {
            match self.watcher.watch(new, RecursiveMode::NonRecursive) {
                Err(error) if new.is_dir() => return Err(refused(error)),
                _ => {}
            }
        }
        self.watched = wanted;
        Ok(())
    }

    /// How many directories are watched.
    pub fn directories(&self) -> usize {
        self.watched.len()
    }

    /// Waits until something changed, and tells what; `None` when the wait was cancelled. `tick` is called again and again.
    pub fn wait(&mut self, cancel: &Cancel, tick: &mut dyn FnMut()) -> Option<Vec<PathBuf>> {
        let mut changed: BTreeSet<PathBuf> = BTreeSet::new();
        let mut first: Option<Instant> = None;
        loop {
            if cancel.is_cancelled() {
                return None;
            }
            tick();
            match self.events.recv_timeout(if changed.is_empty() { POLL } else { QUIET }) {
                Ok(event) => {
                    let before = changed.len();
                    changed.extend(self.interest.of(event));
                    if before == 0 && !changed.is_empty() {
                        first = Some(Instant::now());
                    }
                    if first.is_none_or(|first| first.elapsed() < PATIENCE) {
                        continue;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return None,
            }
            if !changed.is_empty() {
                let here = |path: PathBuf| self.interest.shown(&path);
                return Some(changed.into_iter().map(here).collect());
            }
        }
    }
}

impl Interest {
    /// What of an event matters.
    fn of(&self, event: notify::Result<notify::Event>) -> Vec<PathBuf> {
        let Ok(event) = event else { return Vec::new() };
        if event.need_rescan() {
            // The kernel lost count: anything may have changed.
            return self.contexts.first().map(|context| context.root.clone()).into_iter().collect();
        }
        let written = match event.kind {
            EventKind::Access(kind) => kind == AccessKind::Close(AccessMode::Write),
            EventKind::Modify(ModifyKind::Metadata(kind)) => kind != MetadataKind::AccessTime,
            _ => true,
        };
        let paths = if written { event.paths } else { Vec::new() };
        paths.into_iter().filter(|path| self.concerns(path)).collect()
    }

    fn concerns(&self, path: &Path) -> bool {
        if self.files.contains(path) {
            return true;
        }
        if self.own.iter().any(|own| path.starts_with(own)) || is_draft(path) {
            return false;
        }
        self.contexts.iter().any(|context| {
            let Ok(below) = path.strip_prefix(&context.root) else { return false };
            // Of the root itself only its attributes changed, which no build sees.
            !below.as_os_str().is_empty()
                && !context.rules.is_ignored(&below.to_string_lossy())
                && context.reads.iter().any(|reads| reads.concerns(below))
        })
    }

    fn directories(&self) -> BTreeSet<PathBuf> {
        let mut found: BTreeSet<PathBuf> =
            self.files.iter().filter_map(|file| Some(file.parent()?.to_owned())).filter(|path| path.is_dir()).collect();
        for context in &self.contexts {
            self.below(context, Path::new(""), &mut found);
        }
        found
    }

    fn below(&self, context: &WatchedContext, directory: &Path, found: &mut BTreeSet<PathBuf>) {
        let path = context.root.join(directory);
        if self.own.iter().any(|own| path.starts_with(own)) {
            return;
        }
        // A directory that went meanwhile, or may not be read, is the build's to complain about.
        let Ok(entries) = std::fs::read_dir(&path) else { return };
        for entry in entries.flatten() {
            let below = directory.join(entry.file_name());
            let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if is_directory
                && context.rules.verdict(&below.to_string_lossy(), true) != IgnoreVerdict::Prune
                && context.reads.iter().any(|reads| reads.concerns(&below))
            {
                self.below(context, &below, found);
            }
        }
        found.insert(path);
    }

    /// A path as users know it: below the context where it is there.
    fn shown(&self, path: &Path) -> PathBuf {
        let context = self.contexts.first().and_then(|context| path.strip_prefix(&context.root).ok());
        context.filter(|below| !below.as_os_str().is_empty()).unwrap_or(path).to_owned()
    }
}

/// What the build writes, which may lie in its own context.
fn written(request: &BuildRequest, own: &[PathBuf]) -> Vec<PathBuf> {
    let outputs = request.outputs.iter().filter_map(|output| match output {
        Output::Local { directory } => Some(directory),
        Output::Tar { destination: Destination::File(path) }
        | Output::Archive { destination: Destination::File(path), .. } => Some(path),
        _ => None,
    });
    let caches = request.cache_to.iter().filter_map(|cache| match cache {
        CacheTo::Place { place: CachePlace::Local(directory), .. } => Some(directory),
        _ => None,
    });
    outputs.chain(caches).chain(own).map(|path| absolute(path)).collect()
}

/// A file of ours that is not whole yet.
fn is_draft(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(".dunnage-"))
}

/// The path that events have: links of its directory resolved, those of the name itself kept.
fn absolute(path: &Path) -> PathBuf {
    if path.is_dir()
        && let Ok(path) = std::fs::canonicalize(path)
    {
        return path;
    }
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    match (path.parent().map(std::fs::canonicalize), path.file_name()) {
        (Some(Ok(parent)), Some(name)) => parent.join(name),
        _ => path,
    }
}

fn refused(error: notify::Error) -> Error {
    match error.kind {
        notify::ErrorKind::MaxFilesWatch => Error::Usage(
            "the kernel watches no more directories for this user: raise /proc/sys/fs/inotify/max_user_watches and \
             max_user_instances, or ignore more in .dockerignore"
                .to_owned(),
        ),
        _ => Error::Usage(format!("cannot watch the build context: {error}")),
    }
}
