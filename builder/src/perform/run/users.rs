//! The user namespace of a step, where steps have one of their own: what they write is in the layer as they see it.

use std::sync::Arc;

use runtime::{IdLease, NetworkMode, UserNamespace};

use crate::error::Result;
use crate::perform::Work;
use crate::plan::RunOp;

/// A user namespace, and its ids for as long as this lives.
#[derive(Debug)]
pub(super) struct StepUsers {
    pub(super) namespace: Arc<UserNamespace>,
    _lease: IdLease,
}

impl Work<'_> {
    /// None for steps that may do anything: in a user namespace they could not.
    pub(super) fn step_users(&self, op: &RunOp) -> Result<Option<StepUsers>> {
        let Some((pool, count)) = self.plan.options.run.ids.as_ref().filter(|_| !op.insecure) else { return Ok(None) };
        // Steps of other builds begin to look elsewhere.
        let lease = pool.take(*count, std::process::id().wrapping_mul(31))?;
        let network = matches!(op.network.into(), NetworkMode::None);
        let namespace = Arc::new(UserNamespace::new(lease.ids().clone(), network)?);
        Ok(Some(StepUsers { namespace, _lease: lease }))
    }
}
