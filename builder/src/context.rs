//! The build context, read in place: no copy of it is made, and what did not change is not read again.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use cache::{Metadata, StatKey, StatTable, Store, TreeRoot};
use grammar::IgnoreRules;

use crate::error::{Error, Result};

/// A file changed this recently may change again within the same clock tick: its hash is used, not remembered.
const RACY_WINDOW: Duration = Duration::from_secs(2);

/// A directory of the host that COPY and ADD read, filtered by its ignore file.
#[derive(Debug)]
pub struct Context {
    name: String,
    root: TreeRoot,
    rules: IgnoreRules,
    rules_name: String,
    /// Hashes of files that stay where they are; none for what was brought here for one build.
    stats: Option<Mutex<StatTable>>,
}

impl Context {
    /// Opens the directory.
    ///
    /// `rules_name` is how messages call the ignore file.
    ///
    /// # Errors
    /// When it is no directory that can be read.
    pub fn open(path: &Path, rules: IgnoreRules, rules_name: &str, store: &Store) -> Result<Context> {
        Ok(Context {
            name: path.display().to_string(),
            root: TreeRoot::open(path)?,
            rules,
            rules_name: rules_name.to_owned(),
            stats: Some(Mutex::new(store.stat_table(path)?)),
        })
    }

    /// Of files that were brought here; `name` is how messages call them.
    pub fn of_tree(root: TreeRoot, rules: IgnoreRules, name: &str) -> Context {
        Context { name: name.to_owned(), root, rules, rules_name: ".dockerignore".to_owned(), stats: None }
    }

    /// How messages call it: where it is, or where it came from.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn root(&self) -> &TreeRoot {
        &self.root
    }

    pub(crate) fn rules(&self) -> &IgnoreRules {
        &self.rules
    }

    /// "`.dockerignore` line 3: `node_modules`", when a rule keeps `path` out.
    pub(crate) fn excluded_by(&self, path: &str) -> Option<String> {
        if !self.rules.is_ignored(path) {
            return None;
        }
        let (line, pattern) = self.rules.deciding_line(path)?;
        Some(format!("{} line {line}: `{pattern}`", self.rules_name))
    }

    /// Keeps the hashes that this build computed for the next one.
    ///
    /// # Errors
    /// When the store cannot write; the build itself does not depend on it.
    pub fn save(&self) -> Result<()> {
        match &self.stats {
            Some(stats) => Ok(stats.lock().unwrap_or_else(PoisonError::into_inner).save()?),
            None => Ok(()),
        }
    }

    /// Lets `look` ask for the hashes that are known, where any are.
    pub(crate) fn with_known(&self, look: impl FnOnce(&StatTable)) {
        if let Some(stats) = &self.stats {
            look(&stats.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }

    /// Remembers hashes of files that have been quiet for a while.
    pub(crate) fn remember(&self, hashes: &BTreeMap<StatKey, [u8; 32]>) {
        let Some(stats) = &self.stats else { return };
        let mut stats = stats.lock().unwrap_or_else(PoisonError::into_inner);
        let limit = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .map(|now| now.saturating_sub(RACY_WINDOW).as_nanos())
            .ok()
            .and_then(|nanos| i128::try_from(nanos).ok())
            .unwrap_or(0);
        for (key, hash) in hashes {
            if i128::from(key.mtime_ns.max(key.ctime_ns)) < limit {
                stats.insert(*key, *hash);
            }
        }
    }
}

pub(crate) fn stat_key(metadata: &Metadata) -> StatKey {
    StatKey {
        dev: metadata.dev,
        ino: metadata.ino,
        size: metadata.size,
        mtime_ns: metadata.mtime_ns,
        ctime_ns: metadata.ctime_ns,
    }
}

impl Error {
    pub(crate) fn unreadable(path: &Path, source: std::io::Error) -> Self {
        Error::ContextUnreadable { path: path.to_owned(), source }
    }
}
