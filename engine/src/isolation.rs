//! What separates containers from the machine when there is no root: decided once, before anything else happens.

use std::path::Path;

use runtime::{IdHelpers, Ids};

use crate::bootstrap::SearchPath;
use crate::error::{Error, Result};

/// The ids of this process's containers, or why there are no containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Isolation {
    /// There are containers, with these ids.
    Containers(Ids),
    /// No process can be started in a container; images can still be moved, and built of files alone.
    FilesOnly {
        /// What is in the way.
        why: String,
        /// What would help.
        remedy: String,
    },
}

/// Enters a user namespace if this process needs one to work with the containers of a store; all that work with it are in
/// the same. Call it before any thread is started.
///
/// # Errors
/// When the namespace was entered only in part: nothing can be done in there.
pub fn isolate(programs: &SearchPath, store: &Path) -> Result<Isolation> {
    let helpers = match runtime::needs_user_namespace()? {
        true => IdHelpers { newuidmap: programs.find("newuidmap"), newgidmap: programs.find("newgidmap") },
        false => IdHelpers::default(),
    };
    match runtime::enter_user_namespace(&helpers, store) {
        Ok(ids) => Ok(Isolation::Containers(ids)),
        Err(runtime::Error::UserNamespace { why, remedy }) => Ok(Isolation::FilesOnly { why, remedy }),
        Err(error) => Err(Error::Sandbox(error)),
    }
}
