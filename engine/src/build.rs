//! `dunnage build`: from a Dockerfile and a context to a named image.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Path, PathBuf};

use builder::{Cancel, Credentials, Entitlement, Event, NamedContext, Options, RunSettings};
use cache::{Owner, Platform, Reference};
use grammar::{CheckChoice, Diagnostic, IgnoreRules, Severity, Source};

use crate::attest::{Annotation, Attest};
use crate::contexts::{ContextSource, DockerfileSource, INLINE, NamedSource, stdin_bytes};
use crate::error::{Error, Result};
use crate::images::parse_name;
use crate::outputs::Output;
use crate::produce::Call;
use crate::record::Asked;
use crate::recorder::Recorder;
use crate::remote_caches::{CacheFrom, CacheTo};
use crate::{Engine, FetchOptions, NetworkMode, PullPolicy};

/// Most of a Dockerfile or ignore file that is read.
pub(crate) const TEXT_LIMIT: u64 = 16 << 20;

/// Bytes of a build's log that are kept, unless the request says otherwise.
const LOG_LIMIT: u64 = 256 << 20;

/// Builds whose records are kept, unless the request says otherwise.
const BUILDS: usize = 100;

/// What to build and how.
#[derive(Debug, Clone)]
pub struct BuildRequest {
    /// What COPY and ADD read.
    pub context: ContextSource,
    /// `--build-context` by name.
    pub contexts: BTreeMap<String, NamedSource>,
    /// The Dockerfile; `Dockerfile`, then `Containerfile`, of the context when absent.
    pub dockerfile: Option<DockerfileSource>,
    /// Names for the image.
    pub names: Vec<String>,
    /// `--build-arg`.
    pub build_args: BTreeMap<String, String>,
    /// `--target`.
    pub target: Option<String>,
    /// `--label`.
    pub labels: BTreeMap<String, String>,
    /// Performs every step.
    pub no_cache: bool,
    /// The network of RUN steps; the host's when absent.
    pub network: Option<NetworkMode>,
    /// Steps at once; chosen from the machine when absent.
    pub jobs: Option<usize>,
    /// `--platform`; this machine's when absent.
    pub platform: Option<Platform>,
    /// `--platform` with several, each of which is built; `platform` is for one.
    pub platforms: Vec<Platform>,
    /// `--annotation`.
    pub annotations: Vec<Annotation>,
    /// `--attest`, `--sbom` and `--provenance`.
    pub attest: Attest,
    /// `--no-cache-filter`.
    pub no_cache_filter: BTreeSet<String>,
    /// `--allow`.
    pub allow: BTreeSet<Entitlement>,
    /// `--add-host`, `--ulimit`, `--shm-size`.
    pub run: RunSettings,
    /// `--secret` and `--ssh`.
    pub credentials: Credentials,
    /// SOURCE_DATE_EPOCH.
    pub source_date_epoch: Option<i64>,
    /// `--cache-from`, in order.
    pub cache_from: Vec<CacheFrom>,
    /// `--cache-to`.
    pub cache_to: Vec<CacheTo>,
    /// `--output`; an image of the store when there are none.
    pub outputs: Vec<Output>,
    /// Whom the files of `type=local` belong to.
    pub owner: Owner,
    /// Where an output goes that names no file.
    pub stream: Option<fn() -> Box<dyn std::io::Write>>,
    /// How the network is reached.
    pub fetch: FetchOptions,
    /// How the caller wrote it, for [`Engine::debug`] to be asked again; credentials are not in it.
    pub asked: Option<Asked>,
    /// When bases are pulled.
    pub pull: PullPolicy,
    /// Bytes of the log that are kept.
    pub log_limit: u64,
    /// Builds whose records are kept, this one among them.
    pub keep_builds: usize,
}

impl Default for BuildRequest {
    fn default() -> Self {
        BuildRequest {
            context: ContextSource::default(),
            contexts: BTreeMap::new(),
            dockerfile: None,
            names: Vec::new(),
            build_args: BTreeMap::new(),
            target: None,
            labels: BTreeMap::new(),
            no_cache: false,
            network: None,
            jobs: None,
            platform: None,
            platforms: Vec::new(),
            annotations: Vec::new(),
            attest: Attest::default(),
            no_cache_filter: BTreeSet::new(),
            allow: BTreeSet::new(),
            run: RunSettings::default(),
            credentials: Credentials::default(),
            source_date_epoch: None,
            cache_from: Vec::new(),
            cache_to: Vec::new(),
            outputs: Vec::new(),
            owner: Owner::default(),
            stream: None,
            fetch: FetchOptions::default(),
            asked: None,
            pull: PullPolicy::default(),
            log_limit: LOG_LIMIT,
            keep_builds: BUILDS,
        }
    }
}

/// A finished build.
#[derive(Debug, Clone)]
pub struct Built {
    /// Image id, `sha256:…`.
    pub id: String,
    /// The names that now point at it.
    pub names: Vec<String>,
    /// Steps performed.
    pub performed: usize,
    /// Steps that hit.
    pub hits: usize,
    /// Bytes of file content in its layers.
    pub size: u64,
    /// What `dunnage check` would say of the stages that were built, hints aside.
    pub warnings: Vec<Diagnostic>,
    /// The id of the build's record.
    pub build: String,
}

impl Engine {
    /// Builds an image.
    ///
    /// # Errors
    /// With the Dockerfile's line where there is one; the store is as it was, plus the steps that ended well.
    pub fn build(&self, request: &BuildRequest, events: &(dyn Fn(Event) + Sync), cancel: &Cancel) -> Result<Built> {
        self.build_or_debug(request, events, cancel, None)
    }

    /// Builds an image. When a RUN fails, `on_failure` is told, and then the caller's terminal has a shell in what the step left.
    ///
    /// # Errors
    /// As of [`Engine::build`].
    pub fn build_or_debug(
        &self,
        request: &BuildRequest,
        events: &(dyn Fn(Event) + Sync),
        cancel: &Cancel,
        on_failure: Option<&dyn Fn(&Error)>,
    ) -> Result<Built> {
        let names = request.names.iter().map(|name| parse_name(name)).collect::<Result<Vec<Reference>>>()?;
        if request.context.directory().is_some() {
            request.context_directory()?;
        }
        let recorder = Recorder::begin(&self.store, request, events);
        let call = Call { names: &names, recorder: &recorder, cancel, on_failure };
        let mut result = self.produce(request, call);
        let id = recorder.finish(result.as_ref());
        if let Ok(built) = &mut result {
            built.build = id;
        }
        result
    }
}

impl BuildRequest {
    /// Something becomes of the image's files.
    pub(crate) fn needs_files(&self) -> bool {
        self.outputs.is_empty() || self.outputs.iter().any(|output| *output != Output::CacheOnly)
    }

    /// What a context is called in records: its path where it has one.
    pub(crate) fn context_label(&self) -> String {
        match self.context.directory() {
            Some(path) => std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned()).display().to_string(),
            None => self.context.label(),
        }
    }

    /// The context, which must be a directory of this machine.
    pub(crate) fn context_directory(&self) -> Result<&Path> {
        let Some(context) = self.context.directory() else {
            return Err(Error::Usage("this needs a directory of this machine as its context".to_owned()));
        };
        match std::fs::metadata(context) {
            Ok(metadata) if metadata.is_dir() => Ok(context),
            Ok(_) => Err(Error::ContextNotDirectory(context.to_owned())),
            Err(error) => Err(Error::file("read the build context", context, error)),
        }
    }

    /// The Dockerfile of a context directory, and its path where it has one.
    pub(crate) fn source(&self) -> Result<(Option<PathBuf>, Source)> {
        let context = self.context_directory()?;
        let candidates = match &self.dockerfile {
            Some(DockerfileSource::Path(path)) => vec![path.clone()],
            Some(DockerfileSource::Stdin) => return Ok((None, Source::from_bytes("stdin", &stdin_bytes()?))),
            Some(DockerfileSource::Text(text)) => return Ok((None, Source::new(INLINE, text.as_str()))),
            Some(DockerfileSource::Url(url)) => {
                return Err(Error::Usage(format!("{url} is only fetched for a build")));
            }
            None => vec![context.join("Dockerfile"), context.join("Containerfile")],
        };
        let Some(path) = candidates.iter().find(|path| self.dockerfile.is_some() || path.exists()) else {
            return Err(Error::DockerfileNotFound {
                context: context.to_owned(),
                looked_for: "Dockerfile, Containerfile".to_owned(),
            });
        };
        let file = std::fs::File::open(path).map_err(|error| Error::file("read the Dockerfile", path, error))?;
        Ok((Some(path.clone()), Source::from_bytes(display_name(path), &bytes_of(file, path)?)))
    }

    /// `<Dockerfile>.dockerignore` rules alone where it exists; else the context's `.dockerignore`.
    pub(crate) fn ignore_rules(&self, dockerfile: Option<&Path>) -> Result<(IgnoreRules, String)> {
        let beside = dockerfile.map(|path| {
            let mut beside = path.as_os_str().to_owned();
            beside.push(".dockerignore");
            PathBuf::from(beside)
        });
        let context = self.context.directory().map(|context| context.join(".dockerignore"));
        ignore_rules_of(&beside.into_iter().chain(context).collect::<Vec<_>>())
    }

    /// The images of layouts, by the names that stand for them.
    pub(crate) fn layouts(&self) -> BTreeMap<Reference, (&PathBuf, &registry::LayoutImage)> {
        let mut layouts = BTreeMap::new();
        for (name, source) in &self.contexts {
            if let (NamedSource::Layout { path, wanted }, Some(reference)) = (source, layout_reference(name)) {
                layouts.insert(reference, (path, wanted));
            }
        }
        layouts
    }

    fn named_contexts(&self) -> BTreeMap<String, NamedContext> {
        let named = |(name, source): (&String, &NamedSource)| {
            let named = match source {
                NamedSource::Files(_) => NamedContext::Files,
                NamedSource::Image(reference) => NamedContext::Image(reference.clone()),
                NamedSource::Layout { .. } => NamedContext::Image(layout_reference(name)?),
                NamedSource::Stage(stage) => NamedContext::Stage(stage.clone()),
            };
            Some((name.clone(), named))
        };
        self.contexts.iter().filter_map(named).collect()
    }

    /// The build argument that BuildKit has for it, else the file's own directive.
    pub(crate) fn check_choice(&self, dockerfile: &grammar::Dockerfile) -> Result<CheckChoice> {
        if let Some(text) = self.build_args.get("BUILDKIT_DOCKERFILE_CHECK") {
            return CheckChoice::parse(text).map_err(|error| Error::Usage(error.to_string()));
        }
        CheckChoice::of(dockerfile).map_err(|diagnostic| builder::Error::from(diagnostic).into())
    }

    /// `--no-cache-filter` names stages of the file.
    pub(crate) fn check_filter(&self, dockerfile: &grammar::Dockerfile) -> Result<()> {
        let names: Vec<&str> = dockerfile.stages.iter().filter_map(|stage| stage.name.as_deref()).collect();
        for wanted in &self.no_cache_filter {
            let lower = wanted.to_lowercase();
            let number = wanted.parse::<usize>().is_ok_and(|number| number < dockerfile.stages.len());
            if number || names.contains(&lower.as_str()) {
                continue;
            }
            let near = grammar::nearest(&lower, names.iter().copied());
            let near = near.map_or_else(String::new, |near| format!(": did you mean `{near}`?"));
            return Err(Error::Usage(format!("--no-cache-filter: no stage is named `{wanted}`{near}")));
        }
        Ok(())
    }

    pub(crate) fn options(&self) -> Options {
        Options {
            build_args: self.build_args.clone(),
            target: self.target.clone(),
            contexts: self.named_contexts(),
            labels: self.labels.clone(),
            network: self.network.clone().unwrap_or(NetworkMode::Host),
            platform: self.platform.clone().unwrap_or_else(Platform::host),
            platform_given: self.platform.is_some(),
            allow: self.allow.clone(),
            no_cache_stages: self.no_cache_filter.clone(),
            run: self.run.clone(),
            source_date_epoch: self.source_date_epoch,
            ..Options::default()
        }
    }
}

/// The name by which a layout's image is known in one build; it is never looked up.
fn layout_reference(name: &str) -> Option<Reference> {
    let known = name.split("::").next().and_then(|name| name.parse().ok());
    known.or_else(|| "oci-layout".parse().ok())
}

/// The rules of the first of these files that is there.
pub(crate) fn ignore_rules_of(candidates: &[PathBuf]) -> Result<(IgnoreRules, String)> {
    for path in candidates {
        let bad = |reason: String| Error::IgnoreFile { path: path.clone(), reason };
        // A link could point anywhere on the host: only a file of the context decides what the context is.
        match std::fs::symlink_metadata(path) {
            Ok(metadata) if metadata.is_file() => {}
            Ok(_) => return Err(bad("is not a regular file".to_owned())),
            Err(_) => continue,
        }
        let text = read_text(path)?;
        let rules = IgnoreRules::parse(&text).map_err(|error| bad(error.to_string()))?;
        return Ok((rules, display_name(path)));
    }
    Ok((IgnoreRules::none(), ".dockerignore".to_owned()))
}

pub(crate) fn as_error(diagnostic: Diagnostic) -> Diagnostic {
    Diagnostic { severity: Severity::Error, ..diagnostic }
}

/// Steps mostly wait for processes, so a few more than there are cores.
pub(crate) fn default_jobs() -> usize {
    std::thread::available_parallelism().map_or(8, |cores| (cores.get() * 2).max(8))
}

fn display_name(path: &Path) -> String {
    let text = path.to_string_lossy();
    text.strip_prefix("./").unwrap_or(&text).to_owned()
}

fn read_text(path: &Path) -> Result<String> {
    let file = std::fs::File::open(path).map_err(|error| Error::file("read", path, error))?;
    Ok(String::from_utf8_lossy(&bytes_of(file, path)?).into_owned())
}

/// Bounded bytes; `path` is how messages call where they come from.
pub(crate) fn bytes_of(reader: impl Read, path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.take(TEXT_LIMIT + 1).read_to_end(&mut bytes).map_err(|error| Error::file("read", path, error))?;
    if bytes.len() as u64 > TEXT_LIMIT {
        return Err(Error::Usage(format!(
            "{} is larger than {} MiB: is it the right file?",
            path.display(),
            TEXT_LIMIT >> 20
        )));
    }
    Ok(bytes)
}
