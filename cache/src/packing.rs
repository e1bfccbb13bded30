//! What layers are packed as in registries, and where they were seen there: a push asks for them by digest before it packs.
//!
//! An aid: a registry decides what it has, and a record that is lost costs packing the layer once more.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::builds::read_bounded;
use crate::descriptor::Descriptor;
use crate::digest::DiffId;
use crate::error::{Error, Result};
use crate::sealed::{seal, unseal};
use crate::store::{Store, write_atomically};

/// Forms of one layer that are remembered.
const FORMS: usize = 8;
/// Places of one form that are remembered.
const PLACES: usize = 16;
/// Most bytes of a record.
const LIMIT: u64 = 1 << 20;

/// One form of a layer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Packing {
    /// Type, digest and size of the packed bytes.
    pub descriptor: Descriptor,
    /// Registries and repositories that had it, the latest first: `docker.io/library/busybox`.
    pub places: Vec<String>,
}

impl Store {
    fn packing_path(&self, id: &DiffId) -> PathBuf {
        self.path("packings").join(format!("{}.json", id.hex()))
    }

    /// The known forms of a layer, the latest first. A damaged record counts as none.
    pub fn packings(&self, id: &DiffId) -> Vec<Packing> {
        let bytes = read_bounded(&self.packing_path(id), LIMIT).ok().flatten();
        bytes.and_then(|bytes| unseal(&bytes)).unwrap_or_default()
    }

    /// Remembers that a layer was seen in this form at this place. Atomic, not flushed.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn note_packing(&self, id: &DiffId, descriptor: &Descriptor, place: &str) -> Result<()> {
        let mut forms = self.packings(id);
        let known = forms.iter().position(|form| form.descriptor.digest == descriptor.digest);
        let mut form = match known {
            Some(at) => forms.remove(at),
            None => Packing { descriptor: descriptor.clone(), places: Vec::new() },
        };
        if known == Some(0) && form.places.first().is_some_and(|first| first == place) {
            return Ok(());
        }
        form.places.retain(|there| there != place);
        form.places.insert(0, place.to_owned());
        form.places.truncate(PLACES);
        forms.insert(0, form);
        forms.truncate(FORMS);
        let bytes = seal("the forms of a layer", &forms)?;
        let directory = self.path("packings");
        let _lock = self.shared()?;
        std::fs::create_dir_all(&directory).map_err(Error::path("make", &directory))?;
        write_atomically(&self.packing_path(id), &self.loose_draft()?, &bytes)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use crate::{Digest, MediaType};

    #[test]
    fn forms_and_places_come_back_the_latest_first() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let id = DiffId(Digest::sha256_of(b"layer"));
        let form = |text: &[u8]| Descriptor {
            media_type: MediaType::OciLayerGzip,
            digest: Digest::sha256_of(text),
            size: 3,
            platform: None,
            annotations: Default::default(),
            rest: Default::default(),
        };
        assert!(store.packings(&id).is_empty());
        store.note_packing(&id, &form(b"a"), "r.example/x").unwrap();
        store.note_packing(&id, &form(b"b"), "r.example/x").unwrap();
        store.note_packing(&id, &form(b"a"), "r.example/y").unwrap();
        let found = store.packings(&id);
        assert_eq!(
            found.iter().map(|form| &form.descriptor.digest).collect::<Vec<_>>(),
            [&Digest::sha256_of(b"a"), &Digest::sha256_of(b"b")]
        );
        assert_eq!(found[0].places, ["r.example/y", "r.example/x"]);
        for number in 0..40 {
            store.note_packing(&id, &form(b"a"), &format!("r.example/{number}")).unwrap();
        }
        assert_eq!(store.packings(&id)[0].places.len(), PLACES);
        std::fs::write(store.packing_path(&id), "{").unwrap();
        assert!(store.packings(&id).is_empty());
    }
}
