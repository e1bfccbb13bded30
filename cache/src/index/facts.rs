//! Facts: what the files of layers, records and images say, remembered under the `stat` of each file.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use rusqlite::{Connection, TransactionBehavior, params};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{PATIENT, row_seal};
use crate::digest::{DiffId, Digest};
use crate::error::{Error, Result};
use crate::image::Image;
use crate::layer::delta::Bases;
use crate::lease::entries;
use crate::record::StepRecord;
use crate::sealed::unseal;
use crate::store::Store;
use crate::usage::disk_bytes;

/// What is known of a layer.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct LayerFact {
    /// Bytes on the disk.
    pub(crate) disk: u64,
    /// Bytes of file content.
    pub(crate) content: u64,
    /// Unix seconds when it was made.
    pub(crate) created: u64,
    /// Its tree's hash; none when its own file is damaged.
    pub(crate) tree: Option<String>,
}

/// What is known of a step record.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct RecordFact {
    /// Bytes on the disk.
    pub(crate) disk: u64,
    /// Hexadecimal part of its layer.
    pub(crate) layer: Option<String>,
    /// The step's text.
    pub(crate) text: String,
    /// Unix seconds when its layer was made first.
    pub(crate) created: u64,
    /// Unix seconds when the record was written.
    pub(crate) written: u64,
}

/// What is known of an image.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct ImageFact {
    /// Bytes of its configuration on the disk.
    pub(crate) disk: u64,
    /// Hexadecimal parts of its layers; empty when it is damaged.
    pub(crate) layers: Vec<String>,
    /// RFC 3339.
    pub(crate) created: Option<String>,
    /// Unix seconds when it was written here.
    pub(crate) written: u64,
    /// Its labels.
    pub(crate) labels: BTreeMap<String, String>,
}

/// One kind of thing that the store keeps files of.
trait Fact: Clone + Serialize + DeserializeOwned + Send + Sync {
    const TABLE: &'static str;
    /// Reads it from the file; what is damaged gives a fact all the same, for its bytes count too.
    fn read(store: &Store, name: &str, path: &Path) -> Result<Self>;
}

impl Fact for LayerFact {
    const TABLE: &'static str = "layers";

    fn read(store: &Store, name: &str, path: &Path) -> Result<Self> {
        let disk = disk_bytes(path)?;
        let layer = layer_id(name).and_then(|id| store.read_layer(&id).ok().flatten());
        Ok(match layer {
            Some(layer) => {
                LayerFact { disk, content: layer.size, created: layer.created, tree: Some(layer.tree.to_string()) }
            }
            None => LayerFact { disk, ..LayerFact::default() },
        })
    }
}

impl Fact for RecordFact {
    const TABLE: &'static str = "records";

    fn read(_: &Store, _: &str, path: &Path) -> Result<Self> {
        let (disk, written) = (disk_bytes(path)?, written(path));
        let record: Option<StepRecord> = std::fs::read(path).ok().and_then(|bytes| unseal(&bytes));
        Ok(match record {
            Some(record) => RecordFact {
                disk,
                layer: record.layer.map(|id| id.hex().to_owned()),
                text: record.text,
                created: record.created,
                written,
            },
            None => RecordFact { disk, written, ..RecordFact::default() },
        })
    }
}

impl Fact for ImageFact {
    const TABLE: &'static str = "images";

    fn read(_: &Store, name: &str, path: &Path) -> Result<Self> {
        let (disk, written) = (disk_bytes(path)?, written(path));
        let image = std::fs::read(path).ok().and_then(|bytes| Image::from_bytes(&bytes).ok());
        Ok(match image.filter(|image| image.id.hex() == name) {
            Some(image) => ImageFact {
                disk,
                layers: image.layers.iter().map(|id| id.hex().to_owned()).collect(),
                created: image.config.created,
                written,
                labels: image.config.config.labels,
            },
            None => ImageFact { disk, written, ..ImageFact::default() },
        })
    }
}

fn written(path: &Path) -> u64 {
    std::fs::symlink_metadata(path).map_or(0, |metadata| metadata.mtime().max(0).unsigned_abs())
}

/// A layer's id by the name of its directory.
pub(crate) fn layer_id(name: &str) -> Option<DiffId> {
    format!("sha256:{name}").parse::<Digest>().ok().map(DiffId)
}

/// A file or directory that a fact is of.
#[derive(Debug)]
struct Found {
    name: String,
    path: PathBuf,
    stamp: Vec<u8>,
}

impl Found {
    /// What vanished meanwhile is not found.
    fn at(name: String, path: PathBuf) -> Result<Option<Found>> {
        let metadata = match std::fs::symlink_metadata(&path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::path("read", path)(error)),
        };
        let numbers = [metadata.ino(), metadata.size(), metadata.blocks()].map(u64::to_le_bytes);
        let times = [metadata.mtime(), metadata.mtime_nsec(), metadata.ctime(), metadata.ctime_nsec()];
        let stamp = numbers.into_iter().chain(times.map(i64::to_le_bytes)).flatten().collect();
        Ok(Some(Found { name, path, stamp }))
    }
}

impl Store {
    /// All layers, by the hexadecimal part of their ids.
    pub(crate) fn layer_facts(&self) -> Result<BTreeMap<String, LayerFact>> {
        let mut found = Vec::new();
        for (name, path) in entries(&self.path("layers"))? {
            found.extend(Found::at(name, path)?);
        }
        self.facts(found)
    }

    /// All step records, by their keys.
    pub(crate) fn record_facts(&self) -> Result<BTreeMap<String, RecordFact>> {
        let mut found = Vec::new();
        for (_, shard) in entries(&self.path("records"))? {
            for (name, path) in entries(&shard)? {
                if let Some(key) = name.strip_suffix(".json") {
                    found.extend(Found::at(key.to_owned(), path)?);
                }
            }
        }
        self.facts(found)
    }

    /// All images, by the hexadecimal part of their ids.
    pub(crate) fn image_facts(&self) -> Result<BTreeMap<String, ImageFact>> {
        let mut found = Vec::new();
        for (name, path) in entries(&self.path("images"))? {
            if let Some(id) = name.strip_suffix(".json") {
                found.extend(Found::at(id.to_owned(), path)?);
            }
        }
        self.facts(found)
    }

    /// The same with the layers that those of each image stand on among its layers.
    pub(crate) fn image_facts_with(&self, bases: &Bases) -> Result<BTreeMap<String, ImageFact>> {
        let mut images = self.image_facts()?;
        for image in images.values_mut() {
            let below = bases.below(&image.layers);
            image.layers.extend(below);
        }
        Ok(images)
    }

    /// The remembered facts where the file is as it was, the others from the files, which are remembered then.
    fn facts<F: Fact>(&self, found: Vec<Found>) -> Result<BTreeMap<String, F>> {
        let mut known: BTreeMap<String, (Vec<u8>, F)> =
            self.with_index(PATIENT, |connection| remembered(connection)).unwrap_or_default();
        let mut facts = BTreeMap::new();
        let mut unknown = Vec::new();
        for found in found {
            match known.remove(&found.name) {
                Some((stamp, fact)) if stamp == found.stamp => {
                    facts.insert(found.name, fact);
                }
                _ => unknown.push(found),
            }
        }
        let read = |found: Found| F::read(self, &found.name, &found.path).map(|fact| (found, fact));
        let fresh: Vec<(Found, F)> = unknown.into_par_iter().map(read).collect::<Result<_>>()?;
        if !fresh.is_empty() || !known.is_empty() {
            self.with_index(PATIENT, |connection| remember(connection, &fresh, known.keys()));
        }
        facts.extend(fresh.into_iter().map(|(found, fact)| (found.name, fact)));
        Ok(facts)
    }
}

fn remembered<F: Fact>(connection: &Connection) -> rusqlite::Result<BTreeMap<String, (Vec<u8>, F)>> {
    let mut statement = connection.prepare(&format!("SELECT name, stamp, body, seal FROM {}", F::TABLE))?;
    let mut rows = statement.query([])?;
    let mut known = BTreeMap::new();
    while let Some(row) = rows.next()? {
        let (name, stamp, body): (String, Vec<u8>, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let seal: Vec<u8> = row.get(3)?;
        if row_seal(&name, &stamp, &body) == *seal
            && let Ok(fact) = serde_json::from_str(&body)
        {
            known.insert(name, (stamp, fact));
        }
    }
    Ok(known)
}

fn remember<'a, F: Fact>(
    connection: &mut Connection,
    fresh: &[(Found, F)],
    gone: impl Iterator<Item = &'a String>,
) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    {
        let mut write = transaction.prepare(&format!("INSERT OR REPLACE INTO {} VALUES (?1, ?2, ?3, ?4)", F::TABLE))?;
        for (found, fact) in fresh {
            let body = serde_json::to_string(fact).unwrap_or_default();
            write.execute(params![found.name, found.stamp, body, row_seal(&found.name, &found.stamp, &body)])?;
        }
        let mut delete = transaction.prepare(&format!("DELETE FROM {} WHERE name = ?1", F::TABLE))?;
        for name in gone {
            delete.execute([name])?;
        }
    }
    transaction.commit()
}

/// Rows that are not what was written.
pub(super) fn unsealed_rows(connection: &Connection) -> rusqlite::Result<u64> {
    let mut count = 0;
    for query in [
        "SELECT name, stamp, body, seal FROM layers",
        "SELECT name, stamp, body, seal FROM records",
        "SELECT name, stamp, body, seal FROM images",
        "SELECT name, x'', body, seal FROM uses",
    ] {
        let mut statement = connection.prepare(query)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let (name, stamp, body): (String, Vec<u8>, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
            let seal: Vec<u8> = row.get(3)?;
            count += u64::from(row_seal(&name, &stamp, &body) != *seal);
        }
    }
    Ok(count)
}
