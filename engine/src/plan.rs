//! `dunnage plan`: what a build of the same request would do, and why; nothing is performed.

use builder::{Cancel, Event, Forecast, Solver};

use crate::Engine;
use crate::build::BuildRequest;
use crate::error::Result;
use crate::remote_caches::OpenCaches;
use crate::sources::Fetcher;

/// A build that was not made.
#[derive(Debug, Clone)]
pub struct Planned {
    /// The Dockerfile, as messages name it.
    pub dockerfile: String,
    /// The name of the stage that the image is of.
    pub target: String,
    /// Each step and what would become of it, in planning order.
    pub steps: Vec<Forecast>,
}

impl Engine {
    /// Plans a build.
    ///
    /// # Errors
    /// As a build: what is wrong in the Dockerfile, a base that is not there, a source that is missing.
    pub fn plan(&self, request: &BuildRequest) -> Result<Planned> {
        request.one_platform()?;
        let lease = self.store.lease()?;
        let fetcher = Fetcher::new(&request.fetch, &request.credentials);
        let prepared = self.prepare(request, &fetcher, &lease, &Cancel::default(), None)?;
        let store = self.working_store()?;
        let platform = request.options().platform;
        let caches = OpenCaches::open(request, &platform, &Cancel::default(), &|_: Event| {})?;
        let solver = Solver {
            store: &store,
            lease: &lease,
            context: &prepared.context,
            contexts: &prepared.contexts,
            sources: &fetcher,
            memory: &self.memory(request, prepared.plan.source.name()),
            events: &|_: Event| {},
            cancel: &Cancel::default(),
            remotes: &caches.remotes(),
            credentials: &request.credentials,
            failed: None,
            no_cache: request.no_cache,
            jobs: 1,
        };
        let steps = solver.forecast(&prepared.plan)?;
        let target = prepared.plan.stage().to_owned();
        Ok(Planned { dockerfile: prepared.plan.source.name().to_owned(), target, steps })
    }
}
