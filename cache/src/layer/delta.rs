//! Layers that are kept as what differs from another one, their base: where few of many files change, the others stay
//! where they are, and nothing has to be made for them.
//!
//! A delta has what its base does not have, or has otherwise, and it hides nothing: the one over the other is the layer,
//! whatever lies below. A base is no delta. `layer.json` names it; `deltas/ID` is a link that says so again for those who
//! ask which layers must stay, and is there before the layer is.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::LayerFile;
use crate::digest::DiffId;
use crate::error::{Error, Result};
use crate::failpoint::failpoint;
use crate::lease::entries;
use crate::store::{Store, sync_directory};

const DELTAS: &str = "deltas";

/// The layer that a delta stands on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Base {
    pub(super) id: DiffId,
    /// Its tree.
    pub(super) path: PathBuf,
}

/// Which deltas there are, and what each stands on, by hexadecimal parts of their ids.
#[derive(Debug, Default)]
pub(crate) struct Bases(BTreeMap<String, String>);

impl Store {
    /// The base that a layer's record names; an error in words where it is not there as a whole.
    pub(super) fn base_of(&self, file: &LayerFile) -> std::result::Result<Option<Base>, &'static str> {
        let Some(id) = file.over.clone() else { return Ok(None) };
        let directory = self.layer_dir(&id);
        let record = std::fs::read(directory.join("layer.json")).ok();
        let record: Option<LayerFile> = record.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        match record.filter(|record| record.over.is_none()) {
            Some(_) => Ok(Some(Base { id, path: directory.join("fs") })),
            None => Err("the layer that it stands on is gone or damaged"),
        }
    }

    /// The base that a layer's record names, whatever became of it.
    pub(crate) fn named_base(&self, id: &DiffId) -> Option<DiffId> {
        let record = std::fs::read(self.layer_dir(id).join("layer.json")).ok()?;
        serde_json::from_slice::<LayerFile>(&record).ok()?.over.filter(|base| base != id)
    }

    /// All deltas, those among them that went meanwhile too.
    pub(crate) fn bases(&self) -> Result<Bases> {
        let mut bases = BTreeMap::new();
        for (delta, path) in entries(&self.path(DELTAS))? {
            if let Ok(base) = std::fs::read_link(&path) {
                bases.insert(delta, base.to_string_lossy().into_owned());
            }
        }
        Ok(Bases(bases))
    }

    /// Says that a layer stands on another one. The caller holds the store's lock until the layer is there.
    pub(crate) fn note_base(&self, delta: &DiffId, base: &DiffId) -> Result<()> {
        let directory = self.path(DELTAS);
        std::fs::create_dir_all(&directory).map_err(Error::path("make", &directory))?;
        let path = directory.join(delta.hex());
        if std::fs::read_link(&path).is_ok_and(|there| there.as_os_str() == base.hex()) {
            return Ok(());
        }
        let draft = self.loose_draft()?;
        std::os::unix::fs::symlink(base.hex(), &draft).map_err(Error::path("write", &draft))?;
        failpoint("layer.base")?;
        std::fs::rename(&draft, &path).map_err(Error::path("write", &path))?;
        sync_directory(&directory)
    }

    /// Forgets what is said of layers that are gone. The caller holds the exclusive lock.
    pub(crate) fn forget_bases(&self) -> Result<()> {
        for (delta, path) in entries(&self.path(DELTAS))? {
            if !self.path("layers").join(&delta).exists() {
                std::fs::remove_file(&path).map_err(Error::path("remove", &path))?;
            }
        }
        Ok(())
    }

    /// Whether a layer that is there stands on this one.
    pub(crate) fn has_deltas(&self, base: &str, bases: &Bases) -> bool {
        bases.on(base).any(|delta| self.path("layers").join(delta).exists())
    }
}

impl Bases {
    /// What those among `layers` stand on that are deltas.
    pub(crate) fn below<'l>(&self, layers: impl IntoIterator<Item = &'l String>) -> Vec<String> {
        layers.into_iter().filter_map(|layer| self.0.get(layer)).cloned().collect()
    }

    /// Whether a layer is a delta.
    pub(crate) fn has(&self, layer: &str) -> bool {
        self.0.contains_key(layer)
    }

    /// The deltas that stand on a layer.
    pub(crate) fn on<'b>(&'b self, base: &'b str) -> impl Iterator<Item = &'b String> {
        self.0.iter().filter(move |(_, on)| *on == base).map(|(delta, _)| delta)
    }
}
