//! The store's generation: a counter that each garbage collection raises, so that age does not hang on a clock.

use crate::error::Result;
use crate::failpoint::failpoint;
use crate::sealed::{seal, unseal};
use crate::store::{Store, write_durably};

impl Store {
    /// The generation of now. A file that is gone or damaged counts as the first one.
    pub(crate) fn generation(&self) -> u64 {
        std::fs::read(self.path("generation")).ok().and_then(|bytes| unseal(&bytes)).unwrap_or(1)
    }

    /// Begins the next generation, past `known` in any case. The caller holds the exclusive lock.
    pub(crate) fn raise_generation(&self, known: u64) -> Result<()> {
        let next = self.generation().max(known).saturating_add(1);
        let bytes = seal("the generation", &next)?;
        failpoint("prune.generation")?;
        write_durably(&self.path("generation"), &self.loose_draft()?, &bytes)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn generations_only_grow() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        assert_eq!(store.generation(), 1);
        let _lock = store.exclusive().unwrap();
        store.raise_generation(0).unwrap();
        assert_eq!(store.generation(), 2);
        store.raise_generation(7).unwrap();
        assert_eq!(store.generation(), 8);
        std::fs::write(store.path("generation"), "9").unwrap();
        assert_eq!(store.generation(), 1);
        store.raise_generation(8).unwrap();
        assert_eq!(store.generation(), 9);
    }
}
