//! Why a step of this build missed: what it sees, held against what its Dockerfile's memory has.

use std::collections::BTreeMap;

use crate::explain::{Explainer, Maker};
use crate::key::KeyParts;
use crate::memory::StepName;
use crate::plan::{Op, Plan, Step};
use crate::solve::{Job, Solver, Tree};
use crate::verdict::{Change, MissReason};

/// What a look-up did not find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lost {
    /// There is no record of this key.
    NoRecord,
    /// Its layer is no longer in the store.
    LayerGone,
}

/// The name of a step in its Dockerfile's memory.
pub(crate) fn name(step: &Step) -> StepName {
    StepName { stage: step.stage.clone(), text: step.text.clone(), place: step.position.0 }
}

/// The reason of a miss.
pub(crate) fn of_miss(
    solver: &Solver<'_>,
    job: &Job<'_>,
    keys: &[KeyParts],
    listings: &BTreeMap<String, Vec<u8>>,
    lost: Lost,
) -> MissReason {
    let Some(before) = solver.memory.before(&name(job.step)) else {
        return if lost == Lost::LayerGone { MissReason::LayerGone } else { MissReason::New };
    };
    let makers = makers(job.plan, job.inputs);
    let explainer = Explainer { memory: solver.memory, makers: &makers, listings, text: &job.step.text };
    let changes = explainer.changes(keys, before);
    match lost {
        _ if !changes.is_empty() => MissReason::Changed { changes },
        Lost::LayerGone => MissReason::LayerGone,
        Lost::NoRecord if before.tree.is_none() => MissReason::Unfinished,
        Lost::NoRecord => MissReason::RecordGone,
    }
}

/// What is known to differ in a step whose inputs are not known yet: all but the trees below it.
pub(crate) fn own_changes(
    solver: &Solver<'_>,
    step: &Step,
    keys: &[KeyParts],
    listings: &BTreeMap<String, Vec<u8>>,
) -> Vec<Change> {
    let Some(before) = solver.memory.before(&name(step)) else { return Vec::new() };
    let makers = BTreeMap::new();
    let mut before = before.clone();
    before.keys.iter_mut().for_each(|parts| parts.retain(|(name, _)| !crate::explain::is_tree(name)));
    Explainer { memory: solver.memory, makers: &makers, listings, text: &step.text }.changes(keys, &before)
}

fn makers(plan: &Plan, inputs: &[Tree]) -> BTreeMap<String, Maker> {
    let mut makers = BTreeMap::new();
    for tree in inputs {
        for (layer, id) in tree.layers.iter().zip(tree.made_by.iter()) {
            let Some(step) = plan.step(*id) else { continue };
            let maker = match &step.op {
                Op::Image { reference, .. } => Maker::Base(reference.familiar()),
                _ => Maker::Step(step.number),
            };
            makers.entry(layer.tree.to_string()).or_insert(maker);
        }
    }
    makers
}
