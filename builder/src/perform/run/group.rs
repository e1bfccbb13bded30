//! The control group of a step, below the one that the caller named for the steps of a build.

use std::path::Path;
use std::sync::Arc;

use runtime::{Cgroup, Extent, Resources, Sandbox, Signal};

use crate::error::Result;
use crate::perform::Work;

/// A step's own group. It ends with all that is in it when this is dropped.
#[derive(Debug)]
pub(super) struct StepGroup(Arc<Cgroup>);

impl StepGroup {
    /// The step is born in it.
    pub(super) fn hold(&self, sandbox: &mut Sandbox) {
        sandbox.cgroup = Some(Arc::clone(&self.0));
    }
}

impl Work<'_> {
    /// A group of its own below `--cgroup-parent`: a step that is stopped takes nothing else with it.
    pub(super) fn step_group(&self) -> Result<Option<StepGroup>> {
        let Some(parent) = self.plan.options.run.cgroup_parent.as_deref() else { return Ok(None) };
        // A draft's name is given once on this machine, as long as there is the store.
        let draft = self.solver.lease.draft();
        let name = draft.file_name().unwrap_or_default().to_string_lossy();
        let failed = |cause: String| {
            let message = format!("the step cannot be put below the control group {parent}: {cause}");
            self.diagnostic("K0356", message)
        };
        let path = Path::new(parent).join(format!("build-{name}"));
        let group = Cgroup::create(path, Extent::Whole, &Resources::default())
            .map_err(|error| failed(error.to_string()))
            .map(|group| StepGroup(Arc::new(group)))?;
        if group.0.directories().next().is_none() {
            let cause = "no hierarchy of control groups can be written here".to_owned();
            let help = "run as root, name a group that was delegated to you, or leave --cgroup-parent out";
            return Err(failed(cause).help(help).into());
        }
        Ok(Some(group))
    }
}

impl Drop for StepGroup {
    fn drop(&mut self) {
        // An empty group that stays does no harm; the step itself has ended before.
        let _ = self.0.kill(Signal::KILL).and_then(|()| self.0.remove());
    }
}
