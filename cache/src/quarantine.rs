//! Damaged content is put aside, never used and never silently lost: it is kept for a look until `system prune --all`.

use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::PoisonError;

use crate::error::{Error, Result};
use crate::failpoint::failpoint;
use crate::store::{Store, random_hex};

impl Store {
    /// Moves a damaged file or directory out of the way. True when it was there still: another process may be faster.
    pub(crate) fn put_aside(&self, path: &Path, kind: &str) -> Result<bool> {
        failpoint("check.quarantine")?;
        let quarantine = self.path("quarantine");
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder.create(&quarantine).map_err(Error::path("make", &quarantine))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let target = quarantine.join(format!("{kind}-{}-{}", name.trim_start_matches('.'), random_hex(4)?));
        failpoint("check.rename")?;
        match std::fs::rename(path, &target) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(Error::path("put aside", path)(error)),
        }
    }

    /// The same on the way of a command that goes on without it: says so once. A store that cannot be written stays as it is.
    pub(crate) fn set_aside_with_notice(&self, path: &Path, kind: &str, sentence: impl FnOnce() -> String) {
        match self.put_aside(path, kind) {
            Ok(true) => self.notice(sentence()),
            Ok(false) => {}
            Err(error) => self.notice(format!("{} ({error})", sentence())),
        }
    }

    /// Keeps a sentence that the user should read.
    pub(crate) fn notice(&self, sentence: String) {
        self.notices().lock().unwrap_or_else(PoisonError::into_inner).push(sentence);
    }

    /// What was found damaged since the last call, one sentence each.
    pub fn take_notices(&self) -> Vec<String> {
        std::mem::take(&mut *self.notices().lock().unwrap_or_else(PoisonError::into_inner))
    }
}
