//! What comes before a build or a plan: the Dockerfile read, its bases opened, the steps planned.

use std::path::{Path, PathBuf};

use builder::{BaseImages, Context, Memory, Options, Plan};
use cache::Reference;
use grammar::{CheckChoice, Diagnostic, Severity};

use crate::Engine;
use crate::build::{BuildRequest, as_error};
use crate::error::Result;

/// A request with all that was read for it.
pub(crate) struct Prepared {
    /// The Dockerfile.
    pub(crate) path: PathBuf,
    pub(crate) plan: Plan,
    pub(crate) context: Context,
    pub(crate) warnings: Vec<Diagnostic>,
}

impl Engine {
    /// Reads what the request names, and plans.
    pub(crate) fn prepare(&self, request: &BuildRequest) -> Result<Prepared> {
        let (path, source) = request.source()?;
        let parsed = grammar::parse(&source);
        if parsed.diagnostics.iter().any(is_error) {
            return Err(builder::Error::Dockerfile(parsed.diagnostics.into_iter().filter(is_error).collect()).into());
        }
        let choice = request.check_choice(&parsed.dockerfile)?;
        let options = request.options();
        request.check_filter(&parsed.dockerfile)?;
        let images = self.base_images(&parsed.dockerfile, &options)?;
        let plan = builder::plan(&parsed.dockerfile, &options, &images)?;
        let warnings = doubts(&parsed, &plan, &choice);
        if choice.error && !warnings.is_empty() {
            return Err(builder::Error::Dockerfile(warnings.into_iter().map(as_error).collect()).into());
        }
        let (rules, rules_name) = request.ignore_rules(&path)?;
        let context = Context::open(&request.context, rules, &rules_name, &self.store)?;
        Ok(Prepared { path, plan, context, warnings })
    }

    /// What builds of the same Dockerfile and context saw before.
    pub(crate) fn memory(&self, request: &BuildRequest, dockerfile: &Path) -> Memory {
        let dockerfile = std::fs::canonicalize(dockerfile).unwrap_or_else(|_| dockerfile.to_owned());
        Memory::open(&self.store, &format!("{}\0{}", request.absolute_context().display(), dockerfile.display()))
    }

    /// Opens the images that the plan stands on; one that is missing is an error at its FROM.
    fn base_images(&self, dockerfile: &grammar::Dockerfile, options: &Options) -> Result<BaseImages> {
        let mut images = BaseImages::new();
        for base in builder::bases(dockerfile, options)? {
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
