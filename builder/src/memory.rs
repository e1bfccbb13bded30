//! What the steps of a Dockerfile saw in its last build: the parts of their keys, by stage and text.
//!
//! The file is read once when a build begins and written once when it ends. It explains; nothing is looked up by it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use cache::{MemoryPlace, Store};
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::key::KeyParts;

/// The form of the document; another one counts as none.
const VERSION: u32 = 1;

const DOCUMENT: &str = "steps.json";

/// Most steps that are remembered of one Dockerfile.
const STEPS: usize = 4096;

/// A longer value is kept by its beginning and a hash.
const VALUE: usize = 1024;

/// Which step of a Dockerfile: the same from build to build.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct StepName {
    /// Stage name or `stage-N`.
    pub(crate) stage: String,
    /// The instruction on one line.
    pub(crate) text: String,
    /// Place among the performed steps of the stage.
    pub(crate) place: usize,
}

/// What one step saw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Seen {
    pub(crate) name: StepName,
    /// Parts of each kind of key that was asked.
    pub(crate) keys: Vec<Vec<(String, String)>>,
    /// The tree it gave; `None` when it was not finished.
    pub(crate) tree: Option<String>,
    /// Of one that was not finished: the tree that it gave when it was last.
    #[serde(default)]
    earlier: Option<String>,
}

impl Seen {
    /// The tree that it gave last, in whichever build that was.
    pub(crate) fn gave(&self) -> Option<&str> {
        self.tree.as_deref().or(self.earlier.as_deref())
    }
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Document {
    version: u32,
    steps: Vec<Seen>,
}

/// The memory of one Dockerfile. Any thread may tell and ask.
#[derive(Debug)]
pub struct Memory {
    store: Store,
    place: MemoryPlace,
    before: Vec<Seen>,
    now: Mutex<BTreeMap<StepName, Seen>>,
}

impl Memory {
    /// Opens the memory of the Dockerfile that `name` names: any text that is the same in each of its builds.
    pub fn open(store: &Store, name: &str) -> Memory {
        let place = store.memory(name);
        let document = place.read(DOCUMENT).and_then(|bytes| serde_json::from_slice::<Document>(&bytes).ok());
        let before = document.filter(|document| document.version == VERSION).unwrap_or_default().steps;
        Memory { store: store.clone(), place, before, now: Mutex::default() }
    }

    /// What this step saw in the build before. One whose text changed is found by its place and keyword.
    pub(crate) fn before(&self, name: &StepName) -> Option<&Seen> {
        let here = || self.before.iter().filter(|seen| seen.name.stage == name.stage);
        let distance = |seen: &&Seen| seen.name.place.abs_diff(name.place);
        let same_text = here().filter(|seen| seen.name.text == name.text).min_by_key(distance);
        same_text.or_else(|| here().find(|seen| seen.name.place == name.place && keyword(seen) == word(&name.text)))
    }

    /// The step that gave this tree when it was finished last.
    pub(crate) fn maker(&self, tree: &str) -> Option<&StepName> {
        Some(&self.before.iter().find(|seen| seen.gave() == Some(tree))?.name)
    }

    /// Remembers what a step saw and gave.
    pub(crate) fn saw(&self, name: StepName, keys: &[KeyParts], tree: Option<String>) {
        let mut keys: Vec<_> = keys.iter().map(|key| key.parts().iter().map(shortened).collect()).collect();
        // A key that was not asked this time says what it said, where those that were asked did not change.
        let before = self.before(&name);
        if let Some(before) = before.filter(|before| keys.iter().all(|key| before.keys.contains(key))) {
            keys.clone_from(&before.keys);
        }
        // What a step shares with, and takes times from, is worth as much after a build that failed at it.
        let earlier = if tree.is_none() { before.and_then(Seen::gave).map(str::to_owned) } else { None };
        self.now().insert(name.clone(), Seen { name, keys, tree, earlier });
    }

    /// The listing of a source that a build before copied.
    pub(crate) fn listing(&self, digest: &str) -> Option<Vec<u8>> {
        self.place.read(digest)
    }

    /// Keeps the listing of a source.
    pub(crate) fn keep_listing(&self, digest: &str, listing: &[u8]) -> Result<()> {
        Ok(self.place.write(&self.store, digest, listing)?)
    }

    /// Writes what was seen, over what was remembered. After a whole build what its stages had before and have no more is
    /// forgotten.
    pub(crate) fn save(&self, whole: bool) -> Result<()> {
        let now = std::mem::take(&mut *self.now());
        if now.is_empty() || now.values().all(|seen| self.before.contains(seen)) {
            return Ok(());
        }
        let stages: BTreeSet<&str> = now.keys().map(|name| name.stage.as_str()).collect();
        let gone = |seen: &&Seen| whole && stages.contains(seen.name.stage.as_str());
        let others = self.before.iter().filter(|seen| !now.contains_key(&seen.name) && !gone(seen));
        let steps: Vec<Seen> = now.values().chain(others).take(STEPS).cloned().collect();
        let document = Document { version: VERSION, steps };
        let bytes = serde_json::to_vec(&document).unwrap_or_default();
        self.place.write(&self.store, DOCUMENT, &bytes)?;
        let mut names: BTreeSet<String> = [DOCUMENT.to_owned()].into();
        let parts = document.steps.iter().flat_map(|seen| seen.keys.iter().flatten());
        names.extend(parts.filter(|(name, _)| name.starts_with("content of ")).map(|(_, value)| value.clone()));
        Ok(self.place.keep(&names)?)
    }

    fn now(&self) -> std::sync::MutexGuard<'_, BTreeMap<StepName, Seen>> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn keyword(seen: &Seen) -> &str {
    word(&seen.name.text)
}

fn word(text: &str) -> &str {
    text.split_whitespace().next().unwrap_or_default()
}

/// A part as it is remembered.
pub(crate) fn shortened((name, value): &(String, String)) -> (String, String) {
    if value.len() <= VALUE {
        return (name.clone(), value.clone());
    }
    let begin: String = value.chars().take(VALUE / 8).collect();
    (name.clone(), format!("{begin}… ({})", blake3::hash(value.as_bytes()).to_hex()))
}
