//! Caches beyond the store as a build uses them: asked after the store, and fetched from only where somebody needs the files.
//!
//! A layer of theirs is known by its tree long before it is here: all keys can be made, and a build that hits throughout
//! moves no byte of the layers that only its steps stand on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use cache::{
    CacheKey, CacheSpec, DiffId, InlineRecord, Layer, RemoteCache, RemoteLayer, RemoteRecord, StepRecord, Store,
};

use crate::error::Result;
use crate::event::{Event, TransferState};
use crate::key::KeyParts;
use crate::plan::StepId;
use crate::solve::{Solved, Solver, lock};

/// Layers that are fetched or packed at once.
const TRANSFERS: usize = 4;
/// Hexadecimal digits by which blobs are called.
const SHORT: usize = 12;

/// The caches that a build asks, in order, and what became of asking.
#[derive(Debug, Default)]
pub struct Remotes<'a> {
    caches: Vec<&'a dyn RemoteCache>,
    /// They will be given what the steps gave.
    exports: bool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Keys that were looked up, found or not.
    asked: BTreeMap<CacheKey, Option<Known>>,
    /// Layers that a cache promised and did not give, or gave damaged: it is as if they were not there.
    broken: BTreeSet<DiffId>,
    /// Layers that a cache has and the store had not.
    away: BTreeMap<DiffId, Arc<Away>>,
    traffic: BTreeMap<usize, RemoteTraffic>,
    /// What each step gave, with all keys that are known of it.
    gave: BTreeMap<StepId, Gave>,
}

#[derive(Debug, Clone)]
struct Known {
    cache: usize,
    record: RemoteRecord,
    /// Where the cache has it: of some steps it has the record alone.
    layer: Option<RemoteLayer>,
}

/// A layer that is fetched at most once.
#[derive(Debug)]
struct Away {
    known: Known,
    /// What the store is told when the layer is there, or at once where it is.
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    here: bool,
    records: Vec<(KeyParts, StepRecord)>,
}

#[derive(Debug, Clone)]
struct Gave {
    keys: Vec<CacheKey>,
    /// So many of them need no file to be read: these are known in every build of the step. Of none the first one is.
    said: usize,
    record: StepRecord,
    layer: Layer,
}

/// What came from a cache.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RemoteTraffic {
    /// The cache.
    pub name: String,
    /// Steps that it knew.
    pub steps: usize,
    /// Layers that were fetched.
    pub layers: usize,
    /// Bytes of them, as they were sent.
    pub bytes: u64,
    /// Bytes of records that were read.
    pub records: u64,
    /// Why it was asked no longer, where it failed.
    pub failed: Option<String>,
}

/// What went into a cache.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Exported {
    /// Records that are new there.
    pub records: usize,
    /// Layers that are new there.
    pub layers: usize,
    /// Bytes of them.
    pub bytes: u64,
    /// Layers that were there.
    pub known: usize,
}

/// What a cache is given of the steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ExportMode {
    /// All, with the layers that are in the image.
    #[default]
    Min,
    /// All, with all layers.
    Max,
}

impl<'a> Remotes<'a> {
    /// The caches to ask, and whether [`Solver::export`] will follow.
    pub fn new(caches: Vec<&'a dyn RemoteCache>, exports: bool) -> Remotes<'a> {
        Remotes { caches, exports, state: Mutex::default() }
    }

    /// What came from each cache that knew a step, or failed.
    pub fn traffic(&self) -> Vec<RemoteTraffic> {
        let traffic = lock(&self.state).traffic.clone();
        let read = |index: usize| self.caches.get(index).map_or(0, |cache| cache.bytes_read());
        traffic.into_iter().map(|(index, traffic)| RemoteTraffic { records: read(index), ..traffic }).collect()
    }

    /// What a cache knows of a key. One that fails once is not asked again.
    fn known(&self, key: &CacheKey) -> Option<Known> {
        if let Some(known) = lock(&self.state).asked.get(key) {
            return known.clone();
        }
        let mut found: Option<Known> = None;
        for (index, cache) in self.caches.iter().enumerate() {
            let failed = |state: &State| state.traffic.get(&index).is_some_and(|traffic| traffic.failed.is_some());
            if failed(&lock(&self.state)) {
                continue;
            }
            let known = cache.record(key).and_then(|record| {
                let Some(record) = record else { return Ok(None) };
                if lock(&self.state).broken.contains(&record.layer) {
                    return Ok(None);
                }
                let layer = cache.layer(&record.layer)?.filter(|layer| layer.tree == record.tree);
                Ok(Some(Known { cache: index, record, layer }))
            });
            match known {
                Ok(Some(known @ Known { layer: Some(_), .. })) => {
                    found = Some(known);
                    break;
                }
                // Another one may have the layer too.
                Ok(known) => found = found.or(known),
                Err(error) => self.count(index, |traffic| traffic.failed = Some(error.to_string())),
            }
        }
        lock(&self.state).asked.insert(*key, found.clone());
        found
    }

    /// A layer that could not be had is forgotten with all that is known by it.
    fn forget(&self, id: &DiffId) {
        let mut state = lock(&self.state);
        state.broken.insert(id.clone());
        state.away.remove(id);
        state.asked.retain(|_, known| known.as_ref().is_none_or(|known| known.record.layer != *id));
    }

    /// The files of a cache mount, of a cache that has them: its name, the bytes that came, the layer.
    pub(crate) fn bring_mount(
        &self,
        solver: &Solver<'_>,
        spec: &CacheSpec,
    ) -> std::result::Result<Option<(&'a str, u64, Layer)>, cache::Error> {
        let known = if self.caches.is_empty() { None } else { self.known(&spec.key()) };
        let Some(Known { cache: index, layer: Some(layer), .. }) = known else { return Ok(None) };
        let Some(cache) = self.caches.get(index) else { return Ok(None) };
        let fetched = match solver.store.layer(solver.lease, &layer.diff_id)?.filter(|there| there.tree == layer.tree) {
            Some(there) => return Ok(Some((cache.name(), 0, there))),
            None => solver.fetch(*cache, &layer),
        };
        if fetched.is_err() {
            self.forget(&layer.diff_id);
        }
        let fetched = fetched?;
        self.count(index, |traffic| {
            traffic.layers += 1;
            traffic.bytes += layer.blob.size;
        });
        Ok(Some((cache.name(), layer.blob.size, fetched)))
    }

    fn count(&self, index: usize, how: impl FnOnce(&mut RemoteTraffic)) {
        let mut state = lock(&self.state);
        let traffic = state.traffic.entry(index).or_default();
        if let Some(cache) = self.caches.get(index) {
            cache.name().clone_into(&mut traffic.name);
        }
        how(traffic);
    }

    /// More keys of what a cache knew: written when the layer comes, or now where it is here.
    pub(crate) fn expect(&self, keys: &[KeyParts], record: &StepRecord, store: &Store) -> Result<()> {
        let away = record.layer.as_ref().and_then(|id| lock(&self.state).away.get(id).cloned());
        let mut waiting = away.as_ref().map(|away| lock(&away.waiting));
        for parts in keys {
            let record = StepRecord { parts: parts.parts().to_vec(), ..record.clone() };
            match waiting.as_deref_mut().filter(|waiting| !waiting.here) {
                Some(waiting) => waiting.records.push((parts.clone(), record)),
                None => store.put_record(&parts.key(), &record)?,
            }
        }
        Ok(())
    }

    /// Remembers what a step gave, for those who are told later.
    pub(crate) fn gave(
        &self,
        step: StepId,
        (keys, said): (&[KeyParts], usize),
        record: &StepRecord,
        layer: Option<&Layer>,
    ) {
        if let Some(layer) = layer.filter(|_| self.exports) {
            let keys = keys.iter().map(KeyParts::key).collect();
            let gave = Gave { keys, said, record: record.clone(), layer: layer.clone() };
            lock(&self.state).gave.insert(step, gave);
        }
    }

    /// What an image can say of its steps: the keys of each that are the same in every build of it.
    pub fn inline(&self) -> BTreeMap<StepId, InlineRecord> {
        let state = lock(&self.state);
        let record = |gave: &Gave| InlineRecord {
            layer: gave.layer.diff_id.clone(),
            tree: gave.layer.tree,
            size: None,
            keys: gave.keys.iter().take(gave.said.max(1)).copied().collect(),
        };
        state.gave.iter().map(|(step, gave)| (*step, record(gave))).collect()
    }
}

impl Solver<'_> {
    /// What the caches beyond the store have for a key. The layer may not be here yet: see [`need`](Solver::need).
    pub(crate) fn look_beyond(&self, parts: &KeyParts) -> Result<Option<(StepRecord, Layer)>> {
        let remotes = self.remotes;
        let key = parts.key();
        let Some(known) = (if remotes.caches.is_empty() { None } else { remotes.known(&key) }) else { return Ok(None) };
        let record = StepRecord {
            layer: Some(known.record.layer.clone()),
            tree: Some(known.record.tree),
            parts: parts.parts().to_vec(),
            created: known.record.created,
            duration_ms: known.record.duration_ms,
            text: known.record.text.clone(),
        };
        if let Some(layer) =
            self.store.layer(self.lease, &known.record.layer)?.filter(|layer| layer.tree == known.record.tree)
        {
            self.store.put_record(&key, &record)?;
            return Ok(Some((record, layer)));
        }
        let layer = self.store.distant_layer(&known.record, known.layer.as_ref());
        let away = Away { known, waiting: Mutex::default() };
        lock(&remotes.state).away.entry(layer.diff_id.clone()).or_insert_with(|| Arc::new(away));
        remotes.expect(std::slice::from_ref(parts), &record, self.store)?;
        Ok(Some((record, layer)))
    }

    /// Counts a step that a cache beyond the store knew.
    pub(crate) fn knew(&self, keys: &[KeyParts]) {
        let index = {
            let state = lock(&self.remotes.state);
            let known = keys.iter().find_map(|parts| state.asked.get(&parts.key())?.as_ref());
            known.map(|known| known.cache)
        };
        if let Some(index) = index {
            self.remotes.count(index, |traffic| traffic.steps += 1);
        }
    }

    /// Brings those of the layers that are not here.
    ///
    /// # Errors
    /// [`BrokenCache`](crate::Error::BrokenCache) when a cache does not give what it promised: it is not asked for that again.
    /// [`NotCarried`](crate::Error::NotCarried) when it has a record alone: that is as if it were not there from then on.
    pub fn need(&self, layers: &[Layer]) -> Result<()> {
        let wanted: Vec<Arc<Away>> = {
            let state = lock(&self.remotes.state);
            layers.iter().filter_map(|layer| state.away.get(&layer.diff_id).cloned()).collect()
        };
        let mut carried = true;
        for away in wanted.iter().filter(|away| away.known.layer.is_none()) {
            carried &= self.came(away)?;
        }
        if !carried {
            return Err(crate::Error::NotCarried);
        }
        side_by_side(&wanted, |away| self.bring(away))
    }

    /// Whether a layer that no cache has is here by now, since another step gave it; else it is forgotten.
    fn came(&self, away: &Away) -> Result<bool> {
        let record = &away.known.record;
        let mut waiting = lock(&away.waiting);
        waiting.here = waiting.here || self.store.layer(self.lease, &record.layer)?.is_some();
        if !waiting.here {
            self.remotes.forget(&record.layer);
        }
        Ok(waiting.here)
    }

    /// Brings a layer, and tells how it goes.
    fn fetch(&self, cache: &dyn RemoteCache, layer: &RemoteLayer) -> std::result::Result<Layer, cache::Error> {
        let blob: String = layer.blob.digest.hex().chars().take(SHORT).collect();
        let tell = |state| (self.events)(Event::Transfer { blob: blob.clone(), state });
        tell(TransferState::Begun(layer.blob.size));
        let fetched = self.store.fetch_layer(self.lease, cache, layer, &|count| tell(TransferState::Moved(count)));
        tell(if fetched.is_ok() { TransferState::Ended(layer.blob.size) } else { TransferState::Stopped });
        fetched
    }

    fn bring(&self, away: &Away) -> Result<()> {
        // Whoever comes second waits here for the first.
        let mut waiting = lock(&away.waiting);
        let Known { cache: index, layer, .. } = &away.known;
        if !waiting.here {
            let (Some(cache), Some(layer)) = (self.remotes.caches.get(*index), layer) else {
                return Err(crate::Error::NotCarried);
            };
            if self.cancel.is_cancelled() {
                return Err(crate::Error::Cancelled);
            }
            self.fetch(*cache, layer).map_err(|error| {
                if error.is_disk_full() {
                    return error.into();
                }
                self.remotes.forget(&layer.diff_id);
                crate::Error::BrokenCache(error)
            })?;
            waiting.here = true;
            self.remotes.count(*index, |traffic| {
                traffic.layers += 1;
                traffic.bytes += layer.blob.size;
            });
        }
        for (parts, record) in waiting.records.drain(..) {
            self.store.put_record(&parts.key(), &record)?;
        }
        Ok(())
    }

    /// Gives a cache what it does not have of the steps of a solved plan.
    ///
    /// # Errors
    /// When a layer cannot be read, or the cache not be written.
    pub fn export(&self, solved: &Solved, mode: ExportMode, to: &dyn RemoteCache) -> Result<Exported> {
        let (gave, broken) = {
            let state = lock(&self.remotes.state);
            (state.gave.clone(), state.broken.clone())
        };
        // Records are small, and all that a build needs of another stage that did not change.
        let wanted = |step: &StepId| mode == ExportMode::Max || solved.made_by.contains(step);
        let mut layers: BTreeMap<&DiffId, &Layer> =
            gave.iter().filter(|(step, _)| wanted(step)).map(|(_, gave)| (&gave.layer.diff_id, &gave.layer)).collect();
        let mut exported = Exported::default();
        for id in layers.keys().copied().cloned().collect::<Vec<_>>() {
            // What was found damaged may be so in this cache.
            if !broken.contains(&id) && to.layer(&id)?.is_some() {
                layers.remove(&id);
                exported.known += 1;
            }
        }
        let new: Vec<&Layer> = layers.into_values().collect();
        let (bytes, lost) = (Mutex::new(0), Mutex::new(0));
        side_by_side(&new, |layer| {
            match self.need(std::slice::from_ref(*layer)) {
                Err(crate::Error::BrokenCache(error)) => {
                    (self.events)(Event::Note(None, format!("{error}; its layer is not exported")));
                    *lock(&lost) += 1;
                    return Ok(());
                }
                // The record is exported as it came.
                Err(crate::Error::NotCarried) => {
                    *lock(&lost) += 1;
                    return Ok(());
                }
                needed => needed?,
            }
            let written = to.put_layer(self.store, self.lease, layer)?;
            *lock(&bytes) += written;
            Ok(())
        })?;
        exported.layers = new.len() - *lock(&lost);
        exported.bytes = *lock(&bytes);
        for Gave { keys, record, layer, .. } in gave.values() {
            let record = RemoteRecord {
                layer: layer.diff_id.clone(),
                tree: layer.tree,
                created: record.created,
                duration_ms: record.duration_ms,
                text: record.text.clone(),
            };
            for key in keys {
                if to.record(key)?.as_ref() != Some(&record) {
                    to.put_record(key, &record)?;
                    exported.records += 1;
                }
            }
        }
        exported.bytes += to.finish(self.store, self.lease)?;
        Ok(exported)
    }

    /// Tells of caches that failed: a build goes on without them.
    pub(crate) fn tell_failed_caches(&self) {
        for traffic in self.remotes.traffic() {
            if let Some(failed) = traffic.failed {
                (self.events)(Event::Note(None, format!("{failed}; the build went on without it")));
            }
        }
    }
}

/// A few at once; the first error ends it.
fn side_by_side<T: Sync>(all: &[T], each: impl Fn(&T) -> Result<()> + Sync) -> Result<()> {
    if let [only] = all {
        return each(only);
    }
    let next = AtomicUsize::new(0);
    let work = || -> Result<()> {
        while let Some(one) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
            each(one)?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..TRANSFERS.min(all.len())).map(|_| scope.spawn(work)).collect();
        threads.into_iter().try_for_each(|thread| thread.join().unwrap_or(Err(crate::Error::WorkerLost)))
    })
}
