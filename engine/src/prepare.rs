//! What comes before a build or a plan: the Dockerfile read, its bases opened, the steps planned.

use std::collections::BTreeMap;

use builder::{BaseImages, Cancel, Context, Memory, Options, Plan};
use cache::{ImageId, Lease, Reference};
use grammar::{CheckChoice, Diagnostic, Severity};

use crate::Engine;
use crate::build::{BuildRequest, as_error};
use crate::error::Result;
use crate::sources::Fetcher;

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
    /// Reads what the request names, and plans.
    pub(crate) fn prepare(
        &self,
        request: &BuildRequest,
        fetcher: &Fetcher,
        lease: &Lease,
        cancel: &Cancel,
    ) -> Result<Prepared> {
        let opened = self.open_context(request, fetcher, lease, cancel)?;
        let parsed = grammar::parse(&opened.dockerfile);
        if parsed.diagnostics.iter().any(is_error) {
            return Err(builder::Error::Dockerfile(parsed.diagnostics.into_iter().filter(is_error).collect()).into());
        }
        let choice = request.check_choice(&parsed.dockerfile)?;
        let options = request.options();
        request.check_filter(&parsed.dockerfile)?;
        let images = self.base_images(request, &parsed.dockerfile, &options, lease)?;
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
    ) -> Result<BaseImages> {
        let layouts = request.layouts();
        let mut images = BaseImages::new();
        for base in builder::bases(dockerfile, options)? {
            if let Some((path, wanted)) = layouts.get(&base.reference) {
                let image = registry::load_layout_image(&self.store, lease, path, wanted)?;
                images.insert(base.reference, image);
                continue;
            }
            let image = match self.store.resolve(&base.reference)? {
                Some(id) => self.store.image(&id)?,
                None => None,
            };
            let Some(image) = image else {
                return Err(builder::Error::from(self.base_missing(dockerfile, &base)).into());
            };
            images.insert(base.reference, image);
        }
        Ok(images)
    }

    fn base_missing(&self, dockerfile: &grammar::Dockerfile, base: &builder::Base) -> Diagnostic {
        let name = base.reference.familiar();
        let known: Vec<String> = self
            .store
            .images()
            .unwrap_or_default()
            .iter()
            .flat_map(|image| image.names.iter().map(Reference::familiar))
            .collect();
        let diagnostic = Diagnostic::error("K0370", format!("image `{name}` is not in the store"))
            .at(&dockerfile.source, base.span)
            .label("this version of dunnage does not pull");
        match grammar::nearest(&name, known.iter().map(String::as_str)) {
            Some(near) => diagnostic.help(format!("did you mean `{near}`?")),
            None => diagnostic.help(format!(
                "make it with `dunnage bootstrap {name}`, or bring it with `dunnage load` or `dunnage import`"
            )),
        }
    }
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
