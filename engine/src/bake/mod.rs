//! Project files: `dunnage.toml`, `docker-bake.json` and `docker-bake.hcl` as one plan of builds.
//!
//! Pure: texts go in, and out come targets with every variable, matrix and inheritance resolved. What they build is done by
//! the build verb; this module opens no file and starts nothing.
//!
//! ```text
//! text ─read→ blocks ─expand→ targets ─overrides→ targets ─select→ plan (dependencies first)
//! ```

mod expand;
mod functions;
mod inline;
mod model;
mod more;
mod overrides;
mod read;
mod select;

use std::collections::BTreeMap;

use serde::Serialize;

pub use self::model::{BakeTarget, Fields};
pub use self::read::BakeFormat;
use crate::error::Result;

/// What a context begins with that is a path of the place where the command was given.
pub const COMMAND_CONTEXT: &str = "cwd://";

/// A project file, read by the caller.
#[derive(Debug, Clone)]
pub struct BakeFile {
    /// As messages call it.
    pub name: String,
    /// What it is written in.
    pub format: BakeFormat,
    /// Its text.
    pub text: String,
}

/// What was asked for on the command line.
#[derive(Debug, Clone, Default)]
pub struct BakeChoice {
    /// Targets and groups; `default` when there are none.
    pub targets: Vec<String>,
    /// `--set`: `TARGET.KEY=VALUE`, the target may have `*`.
    pub set: Vec<String>,
}

/// A variable as `--list variables` shows it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BakeVariable {
    /// Its name.
    pub name: String,
    /// Its value now.
    pub value: serde_json::Value,
    /// What it is for.
    pub description: Option<String>,
}

/// Everything that project files say.
#[derive(Debug, Clone, Default)]
pub struct Project {
    pub(crate) groups: BTreeMap<String, Vec<String>>,
    pub(crate) targets: BTreeMap<String, BakeTarget>,
    pub(crate) variables: Vec<BakeVariable>,
}

/// The builds that were chosen.
#[derive(Debug, Clone, Serialize)]
pub struct BakePlan {
    /// The groups that lead to them.
    pub group: BTreeMap<String, BakeGroup>,
    /// The targets by name.
    pub target: BTreeMap<String, BakeTarget>,
    /// Their names, what a target stands on before it.
    #[serde(skip)]
    pub order: Vec<String>,
    /// Those of them that were asked for by name or group; the others are the contexts of these.
    #[serde(skip)]
    pub chosen: Vec<String>,
}

/// A named set of targets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BakeGroup {
    /// Names of targets and groups.
    pub targets: Vec<String>,
}

impl Project {
    /// Reads project files; a later one adds to and overrides the earlier ones. `environment` is asked for the value of
    /// each declared variable.
    ///
    /// # Errors
    /// With the file's name, and the line where the format tells it.
    pub fn read(files: &[BakeFile], environment: &dyn Fn(&str) -> Option<String>) -> Result<Project> {
        let mut blocks = read::Blocks::default();
        for file in files {
            blocks.add(read::read(file)?);
        }
        expand::expand(blocks, environment)
    }

    /// The targets of all files, inheritance resolved.
    pub fn targets(&self) -> &BTreeMap<String, BakeTarget> {
        &self.targets
    }

    /// The groups of all files.
    pub fn groups(&self) -> &BTreeMap<String, Vec<String>> {
        &self.groups
    }

    /// The declared variables.
    pub fn variables(&self) -> &[BakeVariable] {
        &self.variables
    }

    /// The plan of what was chosen.
    ///
    /// # Errors
    /// For a target that is not there, an override that fits nothing, or targets that stand on each other in a circle.
    pub fn plan(&self, choice: &BakeChoice) -> Result<BakePlan> {
        let mut project = self.clone();
        overrides::apply(&mut project, &choice.set)?;
        select::select(&project, &choice.targets)
    }
}

#[cfg(test)]
mod tests;
