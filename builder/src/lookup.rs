//! Looking a step up: in the store, then in the caches beyond it; by what it says first, and by content where that is not enough.

use cache::{CacheKey, Layer, StepRecord};

use crate::error::Result;
use crate::key::KeyParts;
use crate::perform::Work;
use crate::reason::Lost;
use crate::solve::{Job, Solver, Tree, on_top};
use crate::verdict::Recorded;

/// What an earlier build left for a step.
pub(crate) struct Found {
    pub(crate) tree: Tree,
    pub(crate) record: StepRecord,
    pub(crate) recorded: Recorded,
    /// It was found by the content of files, and not by what the instruction says.
    pub(crate) by_content: bool,
    /// A cache beyond the store had it; its layer may not be here.
    pub(crate) beyond: bool,
}

impl Solver<'_> {
    /// What an earlier build left for this step. Keys that need no file to be read are asked first. Writes nothing.
    pub(crate) fn find(&self, job: &Job<'_>, work: &mut Work<'_>) -> Result<Result<Found, Lost>> {
        let mut lost = Lost::NoRecord;
        for parts in work.keys() {
            match self.look_up(job, &parts, false)? {
                Ok(found) => return Ok(Ok(found)),
                Err(why) => lost = why,
            }
        }
        match work.content_key()? {
            Some(parts) => self.look_up(job, &parts, true),
            None => Ok(Err(lost)),
        }
    }

    /// In the store, then in the caches beyond it.
    fn look_up(&self, job: &Job<'_>, parts: &KeyParts, by_content: bool) -> Result<Result<Found, Lost>> {
        let lost = match self.in_store(&parts.key())? {
            Ok((record, layer)) => return Ok(Ok(found(job, record, &parts.key(), layer, by_content))),
            Err(lost) => lost,
        };
        let Some((record, layer)) = self.look_beyond(parts)? else { return Ok(Err(lost)) };
        Ok(Ok(Found { beyond: true, ..found(job, record, &parts.key(), layer, by_content) }))
    }

    fn in_store(&self, key: &CacheKey) -> Result<Result<(StepRecord, Layer), Lost>> {
        let Some(record) = self.store.record(key)? else { return Ok(Err(Lost::NoRecord)) };
        let layer = match &record.layer {
            Some(id) => self.store.layer(self.lease, id)?,
            None => None,
        };
        Ok(layer.map(|layer| (record, layer)).ok_or(Lost::LayerGone))
    }

    /// Of a layer that is not here yet the records are written when it comes.
    pub(crate) fn record_found(&self, keys: &[KeyParts], found: &Found) -> Result<()> {
        if found.beyond {
            self.remotes.expect(keys, &found.record, self.store)
        } else {
            self.record_all(keys, &found.record)
        }
    }
}

fn found(job: &Job<'_>, record: StepRecord, key: &CacheKey, layer: Layer, by_content: bool) -> Found {
    let recorded = Recorded {
        key: key.to_string(),
        created: record.created,
        took_ms: record.duration_ms,
        bytes: layer.size,
        tree: layer.tree.to_string(),
    };
    let tree = on_top(job, layer, record.created, true);
    Found { tree, record, recorded, by_content, beyond: false }
}
