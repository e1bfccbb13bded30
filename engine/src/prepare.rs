//! What comes before a build or a plan: the Dockerfile read, its bases opened, the steps planned.

use std::collections::BTreeMap;

use builder::{BaseImages, Cancel, Context, Event, Memory, Options, Plan, TransferState};
use cache::{ImageId, Lease, Reference};
use grammar::{CheckChoice, Diagnostic, Severity};
use registry::{BlobState, TransferEvent};

use crate::build::{BuildRequest, as_error};
use crate::error::{Error, Result};
use crate::pull::Supply;
use crate::sources::Fetcher;
use crate::{Engine, PullPolicy};

/// A request with all that was read for it.
pub(crate) struct Prepared {
    pub(crate) plan: Plan,
    pub(crate) context: Context,
    /// The named contexts that the plan reads.
    pub(crate) contexts: BTreeMap<String, Context>,
    pub(crate) warnings: Vec<Diagnostic>,
    /// The images that it stands on.
    pub(crate) bases: Vec<(Reference, ImageId)>,
}

impl Engine {
    /// Reads what the request names, and plans. Bases are pulled where the request allows it and `pulls` can be told.
    pub(crate) fn prepare(
        &self,
        request: &BuildRequest,
        fetcher: &Fetcher,
        lease: &Lease,
        cancel: &Cancel,
        pulls: Option<&(dyn Fn(Event) + Sync)>,
    ) -> Result<Prepared> {
        let opened = self.open_context(request, fetcher, lease, cancel)?;
        let parsed = grammar::parse(&opened.dockerfile);
        if parsed.diagnostics.iter().any(is_error) {
            return Err(builder::Error::Dockerfile(parsed.diagnostics.into_iter().filter(is_error).collect()).into());
        }
        let choice = request.check_choice(&parsed.dockerfile)?;
        let mut options = request.options();
        options.run.ids = self.build_ids()?;
        request.check_filter(&parsed.dockerfile)?;
        let pulls = pulls.map(|events| Pulls { request, events, cancel });
        let images = self.base_images(request, &parsed.dockerfile, &options, lease, pulls.as_ref())?;
        let plan = builder::plan(&parsed.dockerfile, &options, &images)?;
        let warnings = doubts(&parsed, &plan, &choice);
        if choice.error && !warnings.is_empty() {
            return Err(builder::Error::Dockerfile(warnings.into_iter().map(as_error).collect()).into());
        }
        let bases = images.iter().map(|(name, image)| (name.clone(), image.id.clone())).collect();
        let named = builder::contexts(&parsed.dockerfile, &options)?;
        let contexts = self.open_named(request, &named, fetcher, lease, cancel)?;
        Ok(Prepared { plan, context: opened.context, contexts, warnings, bases })
    }

    /// What builds of the same Dockerfile and context saw before.
    pub(crate) fn memory(&self, request: &BuildRequest, dockerfile: &str) -> Memory {
        let path = std::fs::canonicalize(dockerfile).unwrap_or_else(|_| dockerfile.into());
        let mut name = format!("{}\0{}", request.context_label(), path.display());
        if request.platforms.len() > 1 {
            name.push_str(&format!("\0{}", request.options().platform));
        }
        Memory::open(&self.store, &name)
    }

    /// Opens the images that the plan stands on; one that is missing is an error at its FROM.
    fn base_images(
        &self,
        request: &BuildRequest,
        dockerfile: &grammar::Dockerfile,
        options: &Options,
        lease: &Lease,
        pulls: Option<&Pulls<'_>>,
    ) -> Result<BaseImages> {
        let layouts = request.layouts();
        let mut images = BaseImages::new();
        for base in builder::bases(dockerfile, options)? {
            if let Some((path, wanted)) = layouts.get(&base.reference) {
                let image = registry::load_layout_image(&self.store, lease, path, wanted)?;
                images.insert(base.reference, image);
                continue;
            }
            let why = match pulls.map(|pulls| self.pull_base(&base.reference, options, pulls)) {
                Some(Err(error @ Error::Archive(registry::Error::Cancelled))) => return Err(error),
                Some(Err(error)) => Some(error),
                _ => None,
            };
            // What was asked for anew and cannot be had is not replaced by what is here; one for another platform, which
            // was only looked for, is.
            let usable = why.is_none() || request.pull == PullPolicy::Missing;
            let image = match self.store.resolve(&base.reference)? {
                Some(id) if usable => self.store.image(&id)?,
                _ => None,
            };
            let Some(image) = image else {
                return Err(builder::Error::from(self.base_missing(dockerfile, &base, why.as_ref())).into());
            };
            images.insert(base.reference, image);
        }
        Ok(images)
    }

    /// Pulls a base as the request wants it.
    fn pull_base(&self, reference: &Reference, options: &Options, pulls: &Pulls<'_>) -> Result<()> {
        let Pulls { request, events, cancel } = pulls;
        let note = |sentence: String| events(Event::Note(None, sentence));
        let begins = |name: &Reference| note(format!("pulling {}", name.familiar()));
        let told = |event: TransferEvent| {
            let (blob, state) = match event {
                TransferEvent::Blob { id, state: BlobState::Moving, size } => {
                    (id, TransferState::Begun(size.unwrap_or(0)))
                }
                TransferEvent::Blob { id, state: BlobState::Done, size } => {
                    (id, TransferState::Ended(size.unwrap_or(0)))
                }
                TransferEvent::Bytes { id, count } => (id, TransferState::Moved(count)),
                TransferEvent::Note(sentence) => return note(sentence),
                TransferEvent::Blob { .. } => return,
            };
            events(Event::Transfer { blob, state });
        };
        let platform = options.platform_given.then_some(&options.platform);
        let supply =
            Supply { policy: request.pull, platform, fetch: &request.fetch, begins: &begins, events: &told, cancel };
        self.ensure_reference(reference, &supply)
    }

    fn base_missing(&self, dockerfile: &grammar::Dockerfile, base: &builder::Base, why: Option<&Error>) -> Diagnostic {
        let name = base.reference.familiar();
        let known: Vec<String> = self
            .store
            .images()
            .unwrap_or_default()
            .iter()
            .flat_map(|image| image.names.iter().map(Reference::familiar))
            .collect();
        let here = known.contains(&name);
        let what = match why {
            Some(_) if here => format!("image `{name}` cannot be pulled"),
            Some(_) => format!("image `{name}` is not in the store, and cannot be pulled"),
            None => format!("image `{name}` is not in the store"),
        };
        let diagnostic = Diagnostic::error("K0370", what)
            .at(&dockerfile.source, base.span)
            .label(why.map_or_else(|| "nothing was pulled".to_owned(), ToString::to_string));
        match grammar::nearest(&name, known.iter().map(String::as_str)) {
            _ if here => diagnostic.help("one of this name is in the store: without --pull it is taken"),
            Some(near) => diagnostic.help(format!("did you mean `{near}`?")),
            None => diagnostic.help(format!(
                "bring it with `dunnage pull`, `dunnage load` or `dunnage import`, or make it with `dunnage bootstrap {name}`"
            )),
        }
    }
}

/// How bases are pulled.
struct Pulls<'a> {
    request: &'a BuildRequest,
    events: &'a (dyn Fn(Event) + Sync),
    cancel: &'a Cancel,
}

fn is_error(diagnostic: &Diagnostic) -> bool {
    diagnostic.severity == Severity::Error
}

/// Warnings of all rules that are wanted; hints are for `dunnage check`.
fn doubts(parsed: &grammar::Parsed, plan: &builder::Plan, choice: &CheckChoice) -> Vec<Diagnostic> {
    let found = parsed.diagnostics.iter().cloned().chain(grammar::lint(parsed)).chain(plan.warnings.iter().cloned());
    let wanted = |diagnostic: &Diagnostic| diagnostic.severity == Severity::Warning && choice.wants(diagnostic);
    let mut wanted: Vec<Diagnostic> = found.filter(wanted).collect();
    wanted.sort_by_key(|diagnostic| diagnostic.span.start);
    wanted
}
