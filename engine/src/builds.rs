//! `dunnage builds`: the records that builds left.

use std::path::Path;

use cache::{Log, StoredBuild};

use crate::Engine;
use crate::error::{Error, Result};
use crate::record::{BuildRecord, BuildStatus, RECORD_VERSION};
use crate::recorder::as_it_is;

impl Engine {
    /// All builds that left a record which this version can read, the last first.
    ///
    /// # Errors
    /// What the store says.
    pub fn builds(&self) -> Result<Vec<BuildRecord>> {
        Ok(self.store.builds()?.iter().filter_map(read).collect())
    }

    /// Ids of the builds that began before this, in Unix milliseconds, and have ended.
    ///
    /// # Errors
    /// What the store says.
    pub fn builds_before(&self, millis: u64) -> Result<Vec<String>> {
        let old = self.store.builds()?.into_iter().filter(|build| !build.running && build.began_ms < millis);
        Ok(old.map(|build| build.id).collect())
    }

    /// The build whose id begins so; without an id the last one.
    ///
    /// # Errors
    /// When there is none, or several ids begin so.
    pub fn build_record(&self, id: Option<&str>) -> Result<BuildRecord> {
        match id {
            Some(id) => {
                let build = self.stored_build(id)?;
                read(&build).ok_or_else(|| Error::BuildNotFound(format!("the record of build {} is damaged", build.id)))
            }
            None => {
                let mut builds = self.store.builds()?.into_iter();
                builds.find_map(|build| read(&build)).ok_or_else(nothing)
            }
        }
    }

    /// The last build of a context; where it has none, the last one at all.
    ///
    /// # Errors
    /// When there is no build.
    pub fn last_build_of(&self, context: &Path) -> Result<BuildRecord> {
        let context = std::fs::canonicalize(context).unwrap_or_else(|_| context.to_owned()).display().to_string();
        let mut builds = self.builds()?;
        let at = builds.iter().position(|build| build.context == context && !build.steps.is_empty());
        let at = at.or_else(|| builds.iter().position(|build| !build.steps.is_empty()));
        at.map(|at| builds.swap_remove(at)).ok_or_else(nothing)
    }

    /// The log of a build, and whether it goes on.
    ///
    /// # Errors
    /// What the store says.
    pub fn build_log(&self, id: &str) -> Result<(Log, bool)> {
        // Whether it runs is asked first: what is written after that is at least whole when it does not.
        let build = self.stored_build(id)?;
        Ok((build.log()?, build.running))
    }

    /// Removes the record of a build.
    ///
    /// # Errors
    /// When there is none, or it runs.
    pub fn remove_build(&self, id: &str) -> Result<String> {
        let build = self.stored_build(id)?;
        build.remove()?;
        Ok(build.id)
    }

    fn stored_build(&self, id: &str) -> Result<StoredBuild> {
        let mut found = self.store.builds()?.into_iter().filter(|build| !id.is_empty() && build.id.starts_with(id));
        match (found.next(), found.next()) {
            (Some(build), None) => Ok(build),
            (Some(_), Some(_)) => {
                Err(Error::BuildNotFound(format!("`{id}` is the beginning of several build ids: give more digits")))
            }
            (None, _) => Err(Error::BuildNotFound(format!(
                "there is no build `{id}`; `dunnage builds ls` shows those that are kept"
            ))),
        }
    }
}

fn nothing() -> Error {
    Error::BuildNotFound("no build left a record here yet: `dunnage build` makes one".to_owned())
}

fn read(build: &StoredBuild) -> Option<BuildRecord> {
    let bytes = build.record().ok()??;
    let record: BuildRecord = serde_json::from_slice(&bytes).ok()?;
    (record.version == RECORD_VERSION).then(|| as_it_is(record, build.running))
}

impl BuildStatus {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            BuildStatus::Running => "running",
            BuildStatus::Ok => "ok",
            BuildStatus::Failed => "failed",
            BuildStatus::Cancelled => "cancelled",
            BuildStatus::Interrupted => "interrupted",
        }
    }
}
