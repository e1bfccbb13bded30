//! `dunnage build`.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use clap::ValueEnum;
use engine::{
    Asked, Attest, BuildRequest, Built, Cancel, ContextSource, DockerfileSource, Engine, Entitlement, Event,
    NamedSource, NetworkMode, Output, Platform, PullPolicy, PushRequest, RunSettings,
};

use super::watch::Starter;
use super::{Failure, Outcome, lent, open_for_snapshots};
use crate::args::{BuildArgs, BuildNetwork, CheckFormat, Progress as Mode, StorageArgs, StorageDriver};
use crate::ui::interrupt::Interrupt;
use crate::ui::progress::{Progress, Target};
use crate::{config, ui};

/// Files that a build is asked to write beside the image.
struct Files {
    iidfile: Option<PathBuf>,
    metadata: Option<PathBuf>,
    timings: Option<PathBuf>,
    collected: Option<(String, Collected)>,
}

/// What is told of the builds of several targets, in one file.
pub(super) type Collected = Arc<Mutex<serde_json::Map<String, serde_json::Value>>>;

/// What a build has besides its arguments.
#[derive(Default)]
pub(super) struct Besides {
    /// How it was asked for.
    pub(super) asked: Option<Asked>,
    /// The text of its Dockerfile.
    pub(super) inline: Option<String>,
    /// The target that it is, where several are built side by side.
    pub(super) target: Option<Target>,
    /// Where to tell of it, under which name.
    pub(super) collected: Option<(String, Collected)>,
}

pub(super) fn build(root: Option<PathBuf>, args: BuildArgs, besides: Besides) -> Outcome {
    if args.check || args.call.is_some() {
        let call = args.call;
        let mut request = request(args)?;
        request.dockerfile = besides.inline.map(DockerfileSource::Text).or(request.dockerfile);
        return match call {
            Some(call) => super::call::call(root, call, &request),
            None => super::check::found(root, &request, None, CheckFormat::Text),
        };
    }
    if args.debug && !(io::stdin().is_terminal() && io::stdout().is_terminal()) {
        return Err(Failure::usage("--debug opens a shell, which needs a terminal on standard input and output"));
    }
    let (storage, watches) = (args.storage, args.watch);
    let starter = args.run.as_deref().map(|flags| starter(root.as_deref(), storage, flags));
    let job = Job::read(args, besides)?;
    if starter.is_some() && !(job.request.outputs.is_empty() || job.request.outputs.iter().any(Output::is_image)) {
        return Err(Failure::usage("--run needs the image in the store: add --load to the outputs"));
    }
    let engine = open_for_snapshots(root, storage)?;
    let cancel = Cancel::default();
    let interrupt = ui::interrupt::watch(&cancel)?;
    if watches {
        return super::watch::watch(&engine, &job, starter.as_ref(), &interrupt);
    }
    job.perform(&engine, &cancel, &interrupt).map(|_| 0)
}

/// `--run`: the flags for each start of the container.
fn starter(root: Option<&Path>, storage: StorageArgs, flags: &str) -> Starter {
    let root = root.map(|root| ["--root".into(), root.into()]).into_iter().flatten();
    let driver = storage.storage_driver.as_ref().and_then(StorageDriver::to_possible_value);
    let driver = driver.map(|driver| format!("--storage-driver={}", driver.get_name()));
    let flags = driver.into_iter().chain(flags.split_whitespace().map(str::to_owned)).collect();
    Starter { options: root.collect(), flags }
}

/// A build as it was asked for; it can be performed more than once.
pub(super) struct Job {
    pub(super) request: BuildRequest,
    mode: Mode,
    debug: bool,
    quiet: bool,
    tells_id: bool,
    push: bool,
    files: Files,
    target: Option<Target>,
}

impl Job {
    /// Reads what a build is asked for; what it is lent is read too.
    pub(super) fn read(args: BuildArgs, besides: Besides) -> Result<Job, Failure> {
        let Besides { asked, inline, target, collected } = besides;
        let mode = mode(args.progress, args.quiet)?;
        if args.push && args.tag.is_empty() {
            return Err(Failure::usage("--push needs a name to push under: add -t NAME"));
        }
        let outputs = outputs(&args)?;
        // What goes to standard output is then the image, and nothing else.
        let streams = outputs.iter().any(Output::is_stream);
        let mut job = Job {
            mode,
            debug: args.debug,
            quiet: args.quiet,
            tells_id: args.quiet && !streams,
            // Of several platforms an index is pushed, which is an output.
            push: args.push && !pushes_index(&args),
            files: Files {
                iidfile: args.iidfile.clone(),
                metadata: args.metadata_file.clone(),
                timings: args.timings.clone(),
                collected,
            },
            target,
            request: request(args)?,
        };
        job.request = BuildRequest { outputs, owner: config::owner(), stream: Some(ui::stream), asked, ..job.request };
        if let Some(text) = inline {
            job.request.dockerfile = Some(DockerfileSource::Text(text));
        }
        Ok(job)
    }

    /// Whether it writes the image to standard output.
    pub(super) fn streams(&self) -> bool {
        self.request.outputs.iter().any(Output::is_stream)
    }

    /// Tells why it failed. Of several targets one has failed, and the others were stopped for it.
    fn tell(&self, failure: &Failure) -> u8 {
        match &self.target {
            Some(target) if failure.code() == 130 => {
                ui::note(&format!("target {} was stopped", target.name));
                failure.code()
            }
            Some(target) => {
                ui::note(&format!("target {} failed", target.name));
                failure.tell()
            }
            None => failure.tell(),
        }
    }

    /// What is written besides the outputs.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        let Files { iidfile, metadata, timings, .. } = &self.files;
        let trace = timings.as_deref().map(super::timings::trace_path);
        [iidfile, metadata, timings, &trace].into_iter().flatten().cloned().collect()
    }

    /// Builds, with everything that is shown and written. What failed has been told.
    pub(super) fn perform(&self, engine: &Engine, cancel: &Cancel, interrupt: &Interrupt) -> Result<Built, Failure> {
        let progress = Progress::new(self.mode, self.target.as_ref());
        let told = Cell::new(false);
        let announce = |error: &engine::Error| {
            told.set(true);
            progress.finish(Err(error));
            error.diagnostics().iter().for_each(ui::diagnostic::print);
            ui::say("A shell in the state of the failed step; `exit` ends it, and what it changes is lost.");
        };
        let on_failure: Option<&dyn Fn(&engine::Error)> = if self.debug { Some(&announce) } else { None };
        let record = Mutex::new(None);
        let tell = |event: Event| {
            if let Event::Recorded(id) = &event {
                *record.lock().unwrap_or_else(PoisonError::into_inner) = Some(id.clone());
            }
            progress.event(&event);
        };
        let result = engine.build_or_debug(&self.request, &tell, cancel, on_failure);
        if !told.get() {
            progress.finish(result.as_ref());
        }
        let id = record.into_inner().unwrap_or_else(PoisonError::into_inner);
        let timed = timings(engine, id.as_deref(), self.files.timings.as_deref());
        match result {
            Ok(built) => {
                progress.aside(|| finish(engine, &built, self.quiet, &self.files))?;
                if self.push {
                    let request = PushRequest { names: built.names.clone(), ..PushRequest::default() };
                    super::registry::perform_push(engine, &request, self.quiet, !self.quiet, cancel, interrupt)?;
                }
                if self.tells_id {
                    ui::line(&built.id)?;
                }
                timed.map(|()| built)
            }
            Err(error) => {
                let failure = Failure::from(error);
                // Which signal it was is known here; the engine knows only that it was asked to stop.
                let code = interrupt.code().filter(|_| failure.code() == 130);
                let code = if progress.tells_errors() || told.get() {
                    code.unwrap_or(failure.code())
                } else {
                    code.unwrap_or(progress.aside(|| self.tell(&failure)))
                };
                if let Err(failure) = timed {
                    failure.tell();
                }
                Err(Failure::Told(code))
            }
        }
    }
}

/// A failed build has its page too: where it failed is in it.
fn timings(engine: &Engine, id: Option<&str>, path: Option<&Path>) -> Result<(), Failure> {
    match (id, path) {
        (Some(id), Some(path)) => super::timings::write(engine, &engine.build_record(Some(id))?, path),
        (None, Some(_)) => Err(Failure::usage("there is no record of this build: no page of its timings can be made")),
        (_, None) => Ok(()),
    }
}

fn finish(engine: &Engine, built: &Built, quiet: bool, files: &Files) -> Result<(), Failure> {
    if !quiet {
        ui::diagnostic::summary(&built.warnings);
    }
    if let Some(path) = &files.iidfile {
        std::fs::write(path, &built.id)
            .map_err(|error| Failure::usage(format!("cannot write --iidfile {}: {error}", path.display())))?;
    }
    if files.metadata.is_some() || files.collected.is_some() {
        let record = if built.build.is_empty() { None } else { Some(engine.build_record(Some(&built.build))?) };
        let document = super::metadata::document(built, record.as_ref());
        if let Some(path) = &files.metadata {
            super::metadata::write(path, &document)?;
        }
        if let Some((name, all)) = &files.collected {
            all.lock().unwrap_or_else(PoisonError::into_inner).insert(name.clone(), document);
        }
    }
    Ok(())
}

/// `--push` of something that the store does not hold: several platforms, or what is said of an image.
fn pushes_index(args: &BuildArgs) -> bool {
    let attest = args.attest.iter().chain(&args.sbom).chain(&args.provenance).cloned();
    args.push && (args.platform.len() > 1 || !args.annotation.is_empty() || !Attest::of(attest).is_empty())
}

fn outputs(args: &BuildArgs) -> Result<Vec<Output>, Failure> {
    let mut outputs = args.output.clone();
    let index = pushes_index(args);
    if index {
        outputs.push(Output::Registry { names: Vec::new(), compression: None, rewrite: false });
    }
    // What is pushed as it stands there has to be in the store.
    let wanted = args.load || (args.push && !index && !outputs.is_empty());
    if wanted && !outputs.iter().any(Output::is_image) {
        outputs.push(Output::Image { names: Vec::new(), rewrite: false });
    }
    match outputs.iter().filter(|output| output.is_stream()).count() {
        0 => {}
        1 if io::stdout().is_terminal() => {
            return Err(Failure::usage("a tar is not written to a terminal: add dest=FILE, or use a pipe"));
        }
        1 => {}
        _ => return Err(Failure::usage("only one --output can go to standard output: add dest=FILE to the others")),
    }
    Ok(outputs)
}

pub(super) fn mode(flag: Option<Mode>, quiet: bool) -> Result<Mode, Failure> {
    if quiet {
        return Ok(Mode::Quiet);
    }
    match (flag, config::progress()) {
        (Some(mode), _) => Ok(mode),
        (None, Some(text)) => Mode::from_str(&text, true).map_err(|_| {
            Failure::usage(format!(
                "the progress mode `{text}` of the environment is not known: auto, tty, plain, rawjson and quiet are"
            ))
        }),
        (None, None) => Ok(Mode::Auto),
    }
}

pub(super) fn request(args: BuildArgs) -> Result<BuildRequest, Failure> {
    let mut allow: BTreeSet<Entitlement> = args.allow.into_iter().collect();
    // As with buildx: who gives the host's network to all steps allows a step to ask for it.
    if args.network == BuildNetwork::Host {
        allow.insert(Entitlement::NetworkHost);
    }
    let mut platforms: Vec<Platform> = Vec::new();
    for platform in args.platform {
        if !platforms.contains(&platform) {
            platforms.push(platform);
        }
    }
    let (platform, platforms) =
        if platforms.len() > 1 { (None, platforms) } else { (platforms.into_iter().next(), Vec::new()) };
    let usual = BuildRequest::default();
    let mut build_args = build_args(&args.build_arg);
    let source_date_epoch = config::source_date_epoch(&mut build_args).map_err(Failure::Usage)?;
    Ok(BuildRequest {
        context: ContextSource::parse(&args.context)?,
        contexts: contexts(&args.build_context)?,
        dockerfile: args.file.map(DockerfileSource::parse),
        names: args.tag,
        build_args,
        target: args.target,
        labels: pairs(&args.label),
        no_cache: args.no_cache,
        network: Some(match args.network {
            BuildNetwork::Default | BuildNetwork::Host => NetworkMode::Host,
            BuildNetwork::None => NetworkMode::None,
        }),
        allow,
        platform,
        platforms,
        annotations: args.annotation,
        attest: Attest::of(args.attest.into_iter().chain(args.sbom).chain(args.provenance)),
        no_cache_filter: args.no_cache_filter.into_iter().collect(),
        run: RunSettings {
            hosts: args.add_host,
            limits: args.ulimit,
            shm_size: args.shm_size.filter(|size| *size > 0),
            cgroup_parent: args.cgroup_parent,
            device_specs: config::device_specs(),
            ids: None,
        },
        credentials: lent::credentials(args.secret, args.ssh)?,
        jobs: args.jobs.map(usize::from),
        fetch: config::fetch(),
        pull: if args.pull { PullPolicy::Always } else { PullPolicy::Missing },
        cache_from: args.cache_from,
        cache_to: args.cache_to,
        source_date_epoch,
        log_limit: config::log_limit().map_err(Failure::Usage)?.unwrap_or(usual.log_limit),
        keep_builds: config::keep_builds().map_err(Failure::Usage)?.unwrap_or(usual.keep_builds),
        ..usual
    })
}

/// `NAME` alone takes the environment's value; a name that has none there is as if it were not given.
fn build_arg(text: &str) -> Option<(String, String)> {
    match text.split_once('=') {
        Some((name, value)) => Some((name.to_owned(), value.to_owned())),
        None => Some((text.to_owned(), config::variable(text)?)),
    }
}

pub(super) fn build_args(texts: &[String]) -> BTreeMap<String, String> {
    texts.iter().filter_map(|text| build_arg(text)).collect()
}

/// `--build-context NAME=VALUE`
fn contexts(texts: &[String]) -> Result<BTreeMap<String, NamedSource>, Failure> {
    let mut contexts = BTreeMap::new();
    for text in texts {
        let Some((name, value)) = text.split_once('=').filter(|(name, value)| !name.is_empty() && !value.is_empty())
        else {
            return Err(Failure::usage(format!("--build-context must be NAME=VALUE, and `{text}` is not")));
        };
        contexts.insert(name.to_owned(), NamedSource::parse(value)?);
    }
    Ok(contexts)
}

pub(super) fn pairs(texts: &[String]) -> BTreeMap<String, String> {
    texts
        .iter()
        .map(|text| text.split_once('=').unwrap_or((text, "")))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}
