//! What a build would do, without doing it: the solver's look-ups, and nothing performed or written.
//!
//! Below a step that would run nothing is certain: it may give the files that it gave before, and then all after it hits.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::error::Result;
use crate::event::StepInfo;
use crate::perform::Work;
use crate::plan::{Op, Plan, Step, StepId};
use crate::reason;
use crate::solve::{Job, Solver, Tree};
use crate::verdict::{Change, MissReason, Recorded};

/// One step of a build that was not made.
#[derive(Debug, Clone)]
pub struct Forecast {
    /// The step.
    pub step: StepInfo,
    /// What would become of it.
    pub fate: Fate,
}

/// What would become of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "fate", rename_all = "kebab-case")]
pub enum Fate {
    /// The cache has it.
    Cached(Recorded),
    /// It would run.
    Runs(MissReason),
    /// Known when these steps have run.
    Depends {
        /// Their numbers.
        on: Vec<usize>,
        /// What differs already in the step itself.
        changes: Vec<Change>,
    },
}

impl Solver<'_> {
    /// Tells what [`Solver::solve`] would do.
    ///
    /// # Errors
    /// As `solve`, for what is known to fail: a missing source, a step that cannot be performed.
    pub fn forecast(&self, plan: &Plan) -> Result<Vec<Forecast>> {
        plan.check_supported()?;
        let mut trees: BTreeMap<StepId, Tree> = BTreeMap::new();
        let mut forecasts = Vec::new();
        for step in plan.steps() {
            if let Some(tree) = self.base(step)? {
                trees.insert(step.id, tree);
                continue;
            }
            let (fate, tree) = self.fate(plan, step, &trees)?;
            forecasts.push(Forecast { step: plan.info(step), fate });
            trees.extend(tree.map(|tree| (step.id, tree)));
        }
        Ok(forecasts)
    }

    fn fate(&self, plan: &Plan, step: &Step, trees: &BTreeMap<StepId, Tree>) -> Result<(Fate, Option<Tree>)> {
        if self.no_cache {
            return Ok((Fate::Runs(MissReason::NotAsked), None));
        }
        let unknown = step.inputs.iter().filter(|id| !trees.contains_key(*id));
        let on: Vec<usize> = unknown.filter_map(|id| Some(plan.step(*id)?.number)).collect();
        if !on.is_empty() {
            let changes = self.own_changes(plan, step)?;
            return Ok((Fate::Depends { on, changes }, None));
        }
        let inputs: Vec<Tree> = step.inputs.iter().filter_map(|id| trees.get(id).cloned()).collect();
        let job = Job { plan, step, inputs: &inputs, worker: 0 };
        let mut work = Work::prepare(self, plan, step, &inputs)?;
        let lost = match self.find(&job, &mut work)? {
            Ok(found) => return Ok((Fate::Cached(found.recorded), Some(found.tree))),
            Err(lost) => lost,
        };
        let mut keys = work.keys();
        keys.extend(work.content_key()?);
        Ok((Fate::Runs(reason::of_miss(self, &job, &keys, &work.listings(), lost)), None))
    }

    fn own_changes(&self, plan: &Plan, step: &Step) -> Result<Vec<Change>> {
        let mut work = Work::prepare(self, plan, step, &[])?;
        let mut keys = work.keys();
        // Files of a stage that is not there yet cannot be looked at.
        if matches!(&step.op, Op::Copy(op) if op.from_context) {
            keys.extend(work.content_key()?);
        }
        Ok(reason::own_changes(self, step, &keys, &work.listings()))
    }
}
