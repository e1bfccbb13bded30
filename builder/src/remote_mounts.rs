//! Cache mounts that go to caches beyond the store (`--cache-to …,mounts=ID`), and come from there where the store has none.

use std::collections::BTreeSet;

use cache::{CacheMountInfo, CacheSpec, Layer, RemoteCache, RemoteRecord, TreeRoot};

use crate::error::{Error, Result};
use crate::event::Event;
use crate::mounts::Mounted;
use crate::plan::{Op, Plan};
use crate::solve::{CLAIM_POLL, Solver};

/// What a cache was given of a cache mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportedMount {
    /// Its id.
    pub id: String,
    /// Bytes that were sent; `None` when the cache had it as it is.
    pub bytes: Option<u64>,
}

/// The ids of the cache mounts that the steps of a plan have.
pub fn cache_mount_ids(plan: &Plan) -> BTreeSet<&str> {
    let mut ids = BTreeSet::new();
    for step in plan.steps() {
        let Op::Run(run) = &step.op else { continue };
        ids.extend(run.mounts.iter().filter_map(|mount| match &mount.what {
            Mounted::Cache { id, .. } => Some(id.as_str()),
            _ => None,
        }));
    }
    ids
}

impl Solver<'_> {
    /// Gives a cache the cache mounts of these ids, as they are now. [`export`](Solver::export) has to follow.
    ///
    /// # Errors
    /// When one cannot be read, or the cache not be written.
    pub fn export_mounts(&self, ids: &[String], to: &dyn RemoteCache) -> Result<Vec<ExportedMount>> {
        let mut exported = Vec::new();
        if ids.is_empty() {
            return Ok(exported);
        }
        for info in self.store.cache_mounts()?.into_iter().filter(|info| ids.contains(&info.id)) {
            let Some(layer) = self.mount_layer(&info)? else { continue };
            let (key, record) = (info.key(), record(&info, &layer));
            let known = to.layer(&layer.diff_id)?.is_some();
            let bytes = if known { None } else { Some(to.put_layer(self.store, self.lease, &layer)?) };
            if to.record(&key)?.as_ref() != Some(&record) {
                to.put_record(&key, &record)?;
            }
            exported.push(ExportedMount { id: info.id, bytes });
        }
        Ok(exported)
    }

    /// Waits for whoever uses it.
    fn mount_layer(&self, info: &CacheMountInfo) -> Result<Option<Layer>> {
        let mut told = false;
        loop {
            match self.store.cache_mount_layer(self.lease, info)? {
                Ok(layer) => return Ok(layer),
                Err(holder) if !told => {
                    let who = if holder.is_empty() { "another step" } else { &holder };
                    let note = format!("the cache `{}` is in use by {who}: waiting for it", info.id);
                    (self.events)(Event::Note(None, note));
                    told = true;
                }
                Err(_) => {}
            }
            if self.cancel.is_cancelled() {
                return Err(Error::Cancelled);
            }
            std::thread::sleep(CLAIM_POLL);
        }
    }

    /// Gives a new cache mount what a cache beyond the store has of it; false when none has it, or it cannot be had.
    pub(crate) fn import_mount(&self, spec: &CacheSpec, root: &TreeRoot) -> Result<bool> {
        match self.remotes.bring_mount(self, spec) {
            Ok(Some((cache, bytes, layer))) => {
                self.store.fill_cache_mount(&layer, root)?;
                let note = format!("the cache mount `{}` came from {cache} ({bytes} bytes)", spec.id);
                (self.events)(Event::Note(None, note));
                Ok(true)
            }
            Ok(None) => Ok(false),
            Err(error) if error.is_disk_full() => Err(error.into()),
            Err(error) => {
                let note = format!("{error}; the cache mount `{}` begins without it", spec.id);
                (self.events)(Event::Note(None, note));
                Ok(false)
            }
        }
    }
}

fn record(info: &CacheMountInfo, layer: &Layer) -> RemoteRecord {
    RemoteRecord {
        layer: layer.diff_id.clone(),
        tree: layer.tree,
        created: layer.created,
        duration_ms: 0,
        text: format!("cache mount {}", info.id),
    }
}
