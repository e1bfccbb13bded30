//! From a request to images in every output: a plan for each platform, solved, assembled, and handed on with what is said of it.

use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use builder::{Cancel, Event, Solved, Solver, StepId, StepInfo};
use cache::{Image, Lease, Platform, Reference, failpoint};
use registry::{ArchiveFormat, BuiltImage, ImagePart};

use crate::attest::{Annotated, Facts};
use crate::build::{BuildRequest, Built, default_jobs};
use crate::contexts::{ContextSource, DockerfileSource};
use crate::error::{Error, Result};
use crate::outputs::{Delivery, Output};
use crate::prepare::Prepared;
use crate::recorder::Recorder;
use crate::remote_caches::{OpenCaches, check_mounts};
use crate::sources::Fetcher;
use crate::{Engine, record};

/// What a build has besides its request.
#[derive(Clone, Copy)]
pub(crate) struct Call<'a> {
    pub(crate) names: &'a [Reference],
    pub(crate) recorder: &'a Recorder<'a>,
    pub(crate) cancel: &'a Cancel,
    pub(crate) on_failure: Option<&'a dyn Fn(&Error)>,
}

/// The build of one platform.
struct OnePlatform {
    request: BuildRequest,
    prepared: Prepared,
    solved: Solved,
    platform: Platform,
}

impl Engine {
    /// Builds, and hands the result to every output.
    pub(crate) fn produce(&self, request: &BuildRequest, call: Call<'_>) -> Result<Built> {
        request.check_outputs()?;
        let lease = self.store.lease()?;
        let shown = Mutex::new(Vec::new());
        let mut builds = Vec::new();
        for request in request.each_platform() {
            builds.push(self.one_platform(request, call, &lease, &shown)?);
        }
        failpoint("build.image")?;
        let images = HandOut { engine: self, request, builds: &builds, lease: &lease, call }.all()?;
        failpoint("build.answer")?;
        // The one that this machine can run, where there are several.
        let host = Platform::host();
        let at = builds.iter().position(|build| build.platform == host).unwrap_or_default();
        let sum = |of: fn(&Solved) -> usize| builds.iter().map(|build| of(&build.solved)).sum();
        let layers = builds.iter().flat_map(|build| &build.solved.layers);
        Ok(Built {
            id: images.get(at).map(|image| image.id.to_string()).unwrap_or_default(),
            names: call.names.iter().map(Reference::familiar).collect(),
            performed: sum(|solved| solved.performed),
            hits: sum(|solved| solved.hits),
            size: layers.map(|layer| layer.size).sum(),
            warnings: builds.into_iter().next().map(|build| build.prepared.warnings).unwrap_or_default(),
            build: String::new(),
        })
    }

    fn one_platform(
        &self,
        request: BuildRequest,
        call: Call<'_>,
        lease: &Lease,
        shown: &Mutex<Vec<StepInfo>>,
    ) -> Result<OnePlatform> {
        let fetcher = Fetcher::new(&request.fetch, &request.credentials);
        let pulls = |event| call.recorder.event(event);
        let prepared = self.prepare(&request, &fetcher, lease, call.cancel, Some(&pulls))?;
        call.recorder.dockerfile(prepared.plan.source.name());
        let store = self.working_store()?;
        let platform = request.options().platform;
        let before = shown.lock().unwrap_or_else(PoisonError::into_inner).len();
        let several = request.platforms.len() > 1;
        let events = |event| {
            let event = if several { joined(event, before, &platform, shown) } else { event };
            call.recorder.event(event);
        };
        let failed = Mutex::new(None);
        check_mounts(&request.cache_to, &prepared.plan, &store)?;
        let caches = OpenCaches::open(&request, &platform, call.cancel, &events)?;
        let remotes = caches.remotes();
        let solver = Solver {
            store: &store,
            lease,
            context: &prepared.context,
            contexts: &prepared.contexts,
            sources: &fetcher,
            memory: &self.memory(&request, prepared.plan.source.name()),
            events: &events,
            cancel: call.cancel,
            remotes: &remotes,
            credentials: &request.credentials,
            failed: call.on_failure.map(|_| &failed),
            no_cache: request.no_cache,
            jobs: request.jobs.unwrap_or_else(default_jobs),
        };
        let solved = solver.solve(&prepared.plan, request.needs_files());
        // A step that found its result damaged has run again: worth a line, and nothing more.
        self.store.take_notices().into_iter().for_each(|sentence| events(Event::Note(None, sentence)));
        let mut solved = solved.map_err(|error| {
            let error = Error::from(error);
            let failed = failed.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let (Some(on_failure), Some(failed)) = (call.on_failure, failed) {
                on_failure(&error);
                if let Err(cause) = crate::debug::failed_shell(&solver, &prepared.plan, failed) {
                    events(Event::Note(None, format!("there is no shell: {cause}")));
                }
            }
            error
        })?;
        if let Some(note) = self.storage()?.note().filter(|_| solved.performed > 0) {
            events(Event::Note(None, note));
        }
        caches.tell_inline(&remotes, &mut solved);
        caches.export(&solver, &solved, &events)?;
        Ok(OnePlatform { request, prepared, solved, platform })
    }
}

/// What it takes to hand images out.
struct HandOut<'a> {
    engine: &'a Engine,
    request: &'a BuildRequest,
    builds: &'a [OnePlatform],
    lease: &'a Lease,
    call: Call<'a>,
}

impl HandOut<'_> {
    /// The images, handed to every output; second ones where outputs want other times of files than others do.
    fn all(&self) -> Result<Vec<Image>> {
        let (rewritten, plain): (Vec<_>, Vec<_>) =
            self.request.outputs.iter().partition(|output| output.rewrites_times());
        let mut solved: Vec<Solved> = self.builds.iter().map(|build| build.solved.clone()).collect();
        if rewritten.is_empty() {
            return self.to(&solved, &plain);
        }
        let Some(epoch) = self.request.source_date_epoch else {
            let sentence = "--output: rewrite-timestamp=true needs a time: set SOURCE_DATE_EPOCH to Unix seconds";
            return Err(Error::Usage(sentence.to_owned()));
        };
        if !plain.is_empty() {
            self.to(&solved, &plain)?;
        }
        for (build, solved) in self.builds.iter().zip(&mut solved) {
            let base_layers = solved.base_layers(&build.prepared.plan);
            for layer in solved.layers.iter_mut().skip(base_layers) {
                *layer = self.engine.store.clamped_layer(self.lease, layer, epoch)?;
            }
        }
        self.to(&solved, &rewritten)
    }

    /// The images of these layers, to these outputs. Where none of them is the store, they are not left there.
    fn to(&self, solved: &[Solved], outputs: &[&Output]) -> Result<Vec<Image>> {
        let configs = self.builds.iter().zip(solved);
        let configs =
            configs.map(|(build, solved)| Ok(builder::image_config(&build.prepared.plan, solved).to_bytes()?));
        let configs = configs.collect::<Result<Vec<Vec<u8>>>>()?;
        if !self.request.needs_files() {
            return configs.iter().map(|config| Ok(Image::from_bytes(config)?)).collect();
        }
        let store = &self.engine.store;
        let kept = outputs.is_empty() || outputs.iter().any(|output| output.is_image());
        let own = outputs.iter().flat_map(|output| output.image_names());
        let names: Vec<Reference> =
            if kept { self.call.names.iter().chain(own).cloned().collect() } else { Vec::new() };
        let (mut images, mut new) = (Vec::new(), Vec::new());
        for config in &configs {
            // One that is there and damaged is written anew.
            let known = !matches!(store.image(&Image::from_bytes(config)?.id), Ok(None));
            let image = store.put_image_bytes(self.lease, config, &names)?;
            new.extend((!kept && !known).then(|| image.id.clone()));
            images.push(image);
        }
        let delivered = self.deliver(&images, outputs);
        for id in new {
            store.remove_image(&id)?;
        }
        delivered.map(|()| images)
    }

    fn deliver(&self, images: &[Image], outputs: &[&Output]) -> Result<()> {
        let HandOut { request, call, .. } = self;
        let delivery = Delivery {
            fetch: &request.fetch,
            cancel: call.cancel,
            owner: request.owner,
            clamp: request.source_date_epoch,
            stream: request.stream,
        };
        let built = self.said(images)?;
        for output in outputs {
            if let Some(note) = self.engine.deliver(self.lease, &built, call.names, output, &delivery)? {
                call.recorder.event(Event::Note(None, note));
            }
            let said = !request.attest.is_empty() || !request.annotations.is_empty();
            if said && !output.holds_more() {
                let note = format!("annotations and attestations are not in the output {}", output.word());
                call.recorder.event(Event::Note(None, note));
            }
        }
        Ok(())
    }

    /// The images with their annotations and attestations.
    fn said(&self, images: &[Image]) -> Result<BuiltImage> {
        let HandOut { request, builds, lease, call, .. } = self;
        let annotated = Annotated(&request.annotations);
        let record = call.recorder.record();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let ended = i64::try_from(record::millis(now) / 1000).unwrap_or_default();
        let mut parts = Vec::new();
        for (build, image) in builds.iter().zip(images) {
            let (manifest, descriptor) = annotated.of_manifest(&build.platform);
            let facts = Facts {
                request: &build.request,
                plan: &build.prepared.plan,
                bases: &build.prepared.bases,
                record: &record,
                store: &self.engine.store,
                ended,
            };
            let attestations = match request.attest.is_empty() {
                true => Vec::new(),
                false => request.attest.attestations(image, &self.engine.tree(lease, image)?, &facts)?,
            };
            parts.push(ImagePart { image: image.clone(), manifest, descriptor, attestations });
        }
        let (index, index_descriptor) = annotated.of_index();
        Ok(BuiltImage { names: Vec::new(), parts, index, index_descriptor })
    }
}

impl BuildRequest {
    /// A request for each platform; each knows how many there are.
    fn each_platform(&self) -> Vec<BuildRequest> {
        match self.platforms.as_slice() {
            [] => vec![self.clone()],
            several => several.iter().map(|one| BuildRequest { platform: Some(one.clone()), ..self.clone() }).collect(),
        }
    }

    /// What is shown of a build is of one platform.
    pub(crate) fn one_platform(&self) -> Result<()> {
        if self.platforms.len() > 1 {
            return Err(Error::Usage("this is for one platform: name one with --platform".to_owned()));
        }
        Ok(())
    }

    /// What no output can hold is refused before anything is built.
    fn check_outputs(&self) -> Result<()> {
        let nameless = |output: &Output| matches!(output, Output::Registry { names, .. } if names.is_empty());
        if self.names.is_empty() && self.outputs.iter().any(nameless) {
            return Err(Error::Usage(
                "--output type=registry needs a name to push under: add name=NAME or -t NAME".to_owned(),
            ));
        }
        let several = self.platforms.len() > 1;
        let said = !self.attest.is_empty() || !self.annotations.is_empty();
        if said && !self.outputs.iter().any(Output::holds_more) {
            return Err(Error::Usage(
                "annotations and attestations need an output that holds them: add --output type=oci,dest=FILE or \
                 type=registry; an image of the store, a docker archive and plain files have no place for them"
                    .to_owned(),
            ));
        }
        if Annotated(&self.annotations).need_index() && !several && self.attest.is_empty() {
            return Err(Error::Usage(
                "an annotation of the index needs an index: several platforms, --sbom or --provenance".to_owned(),
            ));
        }
        if !several {
            return Ok(());
        }
        let unfit = self.outputs.iter().find(|output| !output.holds_platforms());
        if self.outputs.is_empty() || unfit.is_some() {
            return Err(Error::Usage(format!(
                "{} holds one platform: use --output type=oci,dest=FILE, type=local,dest=DIR or type=registry, or build one platform after \
                 the other",
                unfit.map_or("an image of the store", Output::word)
            )));
        }
        if self.context == ContextSource::Stdin || self.dockerfile == Some(DockerfileSource::Stdin) {
            return Err(Error::Usage(
                "standard input can be read once: it cannot be built for several platforms".to_owned(),
            ));
        }
        Ok(())
    }
}

impl Output {
    /// Annotations and attestations have a place in it.
    fn holds_more(&self) -> bool {
        matches!(self, Output::Archive { format: ArchiveFormat::Oci, .. } | Output::Registry { .. })
    }

    /// It can be of several platforms.
    fn holds_platforms(&self) -> bool {
        self.holds_more() || matches!(self, Output::Local { .. } | Output::CacheOnly)
    }

    fn word(&self) -> &'static str {
        match self {
            Output::Image { .. } => "an image of the store",
            Output::Local { .. } => "type=local",
            Output::Tar { .. } => "type=tar",
            Output::Archive { format: ArchiveFormat::Docker, .. } => "type=docker",
            Output::Archive { .. } => "type=oci",
            Output::Registry { .. } => "type=registry",
            Output::CacheOnly => "type=cacheonly",
        }
    }
}

/// An event of one of several platforms, as one of the whole build: its steps come behind those of the platforms before.
fn joined(event: Event, before: usize, platform: &Platform, shown: &Mutex<Vec<StepInfo>>) -> Event {
    let id = |id: StepId| StepId(id.0 + before * SPREAD);
    match event {
        Event::Planned(planned) => {
            let mut shown = shown.lock().unwrap_or_else(PoisonError::into_inner);
            shown.truncate(before);
            shown.extend(planned.into_iter().map(|info| StepInfo {
                id: id(info.id),
                number: info.number + before,
                stage: format!("{platform} {}", info.stage),
                inputs: info.inputs.iter().map(|number| number + before).collect(),
                ..info
            }));
            Event::Planned(shown.clone())
        }
        Event::ContextRead { id: step, entries, bytes } => Event::ContextRead { id: id(step), entries, bytes },
        Event::Hit { id: step, worker, took, record } => Event::Hit { id: id(step), worker, took, record },
        Event::Started { id: step, worker, reason } => Event::Started { id: id(step), worker, reason },
        Event::Output(step, stream, bytes) => Event::Output(id(step), stream, bytes),
        Event::Finished { id: step, duration, same_tree, layer, tree, bytes } => {
            Event::Finished { id: id(step), duration, same_tree, layer, tree, bytes }
        }
        Event::Note(step, sentence) => Event::Note(step.map(id), sentence),
        Event::Failed(step) => Event::Failed(id(step)),
        Event::Cancelled(step) => Event::Cancelled(id(step)),
        Event::Recorded(build) => Event::Recorded(build),
        Event::Transfer { blob, state } => Event::Transfer { blob, state },
    }
}

/// More than there are nodes of a plan for each of its steps: ids of different platforms are different.
const SPREAD: usize = 1 << 16;
