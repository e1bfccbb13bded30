//! When layers and records were used: by generation and turn, which no clock can disturb, and by the clock for people.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::PoisonError;

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};
use serde::{Deserialize, Serialize};

use super::told::Told;
use super::{PATIENT, row_seal};
use crate::digest::{CacheKey, DiffId};
use crate::store::{Store, now};

/// The last use of a layer or a record. The older is the smaller; of one command's, what was used last is, so that a
/// step goes before the steps that it stands on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Use {
    /// The store's generation then.
    pub(crate) generation: u64,
    /// Which of the index's transactions told it.
    pub(crate) turn: u64,
    /// Place in its transaction.
    pub(crate) place: Reverse<u64>,
    /// Unix seconds.
    pub(crate) unix: u64,
    /// How often it was used.
    pub(crate) count: u64,
}

impl Store {
    /// Remembers that a record was used; it is written with the others at the end of the command.
    pub(crate) fn note_use(&self, key: &CacheKey) {
        let mut used = self.used_records().lock().unwrap_or_else(PoisonError::into_inner);
        if !used.contains(key) {
            used.push(*key);
        }
    }

    /// Tells all uses at once.
    pub(crate) fn stamp_uses<'a>(&self, layers: impl Iterator<Item = &'a DiffId>) {
        let records = std::mem::take(&mut *self.used_records().lock().unwrap_or_else(PoisonError::into_inner));
        let mut names: Vec<String> = records.iter().map(ToString::to_string).collect();
        names.extend(layers.map(|id| id.hex().to_owned()));
        if names.is_empty() {
            return;
        }
        self.tell(&Told { generation: self.generation(), unix: now(), names });
    }

    /// All uses that are known, by the name of the layer or record.
    pub(crate) fn uses(&self) -> BTreeMap<String, Use> {
        self.fold_uses();
        self.with_index(PATIENT, |connection| {
            let mut statement = connection.prepare("SELECT name, body, seal FROM uses")?;
            let mut rows = statement.query([])?;
            let mut uses = BTreeMap::new();
            while let Some(row) = rows.next()? {
                let (name, body, seal): (String, String, Vec<u8>) = (row.get(0)?, row.get(1)?, row.get(2)?);
                if let Some(used) = whole(&name, &body, &seal) {
                    uses.insert(name, used);
                }
            }
            Ok(uses)
        })
        .unwrap_or_default()
    }

    /// The number of the last transaction that told uses.
    pub(crate) fn turn(&self) -> Option<u64> {
        self.fold_uses();
        let turn = |connection: &mut Connection| connection.query_row("SELECT number FROM turn", [], |row| row.get(0));
        self.with_index(PATIENT, turn).map(i64::unsigned_abs)
    }

    /// Writes down how old things are that no use is known of.
    pub(crate) fn adopt_uses(&self, unknown: &[(String, Use)]) {
        if unknown.is_empty() {
            return;
        }
        self.with_index(PATIENT, |connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            {
                let mut write = transaction.prepare("INSERT OR IGNORE INTO uses VALUES (?1, ?2, ?3)")?;
                for (name, used) in unknown {
                    let body = serde_json::to_string(used).unwrap_or_default();
                    write.execute(params![name, body, row_seal(name, &[], &body)])?;
                }
            }
            transaction.commit()
        });
    }

    /// Forgets uses of what is gone.
    pub(crate) fn forget_uses(&self, names: &[String]) {
        if names.is_empty() {
            return;
        }
        self.with_index(PATIENT, |connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            {
                let mut delete = transaction.prepare("DELETE FROM uses WHERE name = ?1")?;
                for name in names {
                    delete.execute([name])?;
                }
            }
            transaction.commit()
        });
    }
}

fn whole(name: &str, body: &str, seal: &[u8]) -> Option<Use> {
    if row_seal(name, &[], body) != *seal {
        return None;
    }
    serde_json::from_str(body).ok()
}

/// Writes what commands told, each with a turn of its own, in one transaction.
pub(super) fn stamp(connection: &mut Connection, told: &[Told]) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    {
        let mut known = transaction.prepare("SELECT body, seal FROM uses WHERE name = ?1")?;
        let mut write = transaction.prepare("INSERT OR REPLACE INTO uses VALUES (?1, ?2, ?3)")?;
        for Told { generation, unix, names } in told {
            let turn: i64 =
                transaction.query_row("UPDATE turn SET number = number + 1 RETURNING number", [], |row| row.get(0))?;
            for (place, name) in (0..).zip(names) {
                let before = known
                    .query_row([name], |row| Ok((row.get::<_, String>(0)?, row.get::<_, Vec<u8>>(1)?)))
                    .optional()?
                    .and_then(|(body, seal)| whole(name, &body, &seal));
                let used = Use {
                    generation: *generation,
                    turn: turn.unsigned_abs(),
                    place: Reverse(place),
                    unix: *unix,
                    count: before.map_or(0, |used| used.count).saturating_add(1),
                };
                let body = serde_json::to_string(&used).unwrap_or_default();
                write.execute(params![name, body, row_seal(name, &[], &body)])?;
            }
        }
    }
    transaction.commit()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn key(text: &str) -> CacheKey {
        CacheKey::from_bytes(*blake3::hash(text.as_bytes()).as_bytes())
    }

    fn use_all(store: &Store, names: &[&str]) {
        names.iter().for_each(|name| store.note_use(&key(name)));
        store.stamp_uses(std::iter::empty());
    }

    #[test]
    fn security_f11_age_is_by_generation_then_turn_then_place() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        use_all(&store, &["old", "old on top"]);
        use_all(&store, &["new"]);
        {
            let _lock = store.exclusive().unwrap();
            store.raise_generation(0).unwrap();
        }
        use_all(&store, &["newest", "old"]);
        let uses = store.uses();
        let mut names = ["old", "old on top", "new", "newest"];
        names.sort_by_key(|name| uses.get(&key(name).to_string()).unwrap());
        assert_eq!(names, ["old on top", "new", "old", "newest"]);
        assert_eq!(uses.get(&key("old").to_string()).unwrap().count, 2);
    }

    #[test]
    fn a_damaged_index_is_begun_anew() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        use_all(&store, &["a"]);
        assert_eq!(store.uses().len(), 1);
        store.compact_index();
        std::fs::remove_file(store.path("index.db-wal")).unwrap();
        std::fs::write(store.path("index.db"), b"no database, and long enough to be looked at".repeat(40)).unwrap();
        use_all(&store, &["b"]);
        assert_eq!(store.uses().len(), 1);
    }

    #[test]
    fn a_busy_index_is_done_without() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        use_all(&store, &["a"]);
        assert_eq!(store.uses().len(), 1);
        let mut other = Connection::open(store.path("index.db")).unwrap();
        let held = other.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
        use_all(&store, &["b"]);
        assert_eq!(store.uses().len(), 1);
        drop(held);
        use_all(&store, &["c"]);
        // What was told in the meantime is not lost.
        assert_eq!(store.uses().len(), 3);
    }
}
