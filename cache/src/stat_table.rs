//! Hashes of a context's files by what `stat` says, so that an unchanged context is one walk.
//!
//! A file is known by device, inode, size, mtime and ctime: ctime shows the change behind an old mtime. Records are 72
//! bytes, sorted, between a header and the BLAKE3 hash of all before it: a wrong hash here would be a wrong build, so a
//! table that is damaged is put aside and counts as empty, as does one of another version.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::error::Result;
use crate::failpoint::failpoint;
use crate::store::{Store, write_atomically};

const MAGIC: &[u8; 8] = b"dnstat02";
const RECORD: usize = 72;
const CHECK: usize = 32;

/// What tells a file's content apart without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StatKey {
    /// Device.
    pub dev: u64,
    /// Inode.
    pub ino: u64,
    /// Bytes.
    pub size: u64,
    /// Nanoseconds since 1970.
    pub mtime_ns: i64,
    /// Nanoseconds since 1970.
    pub ctime_ns: i64,
}

/// The table of one context.
#[derive(Debug)]
pub struct StatTable {
    store: Store,
    path: PathBuf,
    /// As it was read: sorted.
    known: Vec<(StatKey, [u8; 32])>,
    /// What this build adds.
    fresh: BTreeMap<StatKey, [u8; 32]>,
}

impl Store {
    /// Reads the table of a context directory.
    ///
    /// # Errors
    /// Never for a damaged table, which counts as empty.
    pub fn stat_table(&self, context: &Path) -> Result<StatTable> {
        use std::os::unix::ffi::OsStrExt;
        let absolute = std::fs::canonicalize(context).unwrap_or_else(|_| context.to_owned());
        let name = blake3::hash(absolute.as_os_str().as_bytes()).to_hex();
        let path = self.path("stats").join(name.as_str());
        let known = match std::fs::read(&path).map(|bytes| parse(&bytes)) {
            Ok(Some(known)) => known,
            Ok(None) => {
                self.set_aside_with_notice(&path, "stats", || {
                    "the table of the context's files was damaged and is in quarantine: they are read again".to_owned()
                });
                Vec::new()
            }
            Err(_) => Vec::new(),
        };
        Ok(StatTable { store: self.clone(), path, known, fresh: BTreeMap::new() })
    }
}

impl StatTable {
    /// The hash of a file that is known.
    pub fn lookup(&self, key: &StatKey) -> Option<[u8; 32]> {
        if let Some(hash) = self.fresh.get(key) {
            return Some(*hash);
        }
        let at = self.known.binary_search_by(|(known, _)| known.cmp(key)).ok()?;
        self.known.get(at).map(|(_, hash)| *hash)
    }

    /// Remembers a file; older states of the same inode are forgotten.
    pub fn insert(&mut self, key: StatKey, hash: [u8; 32]) {
        let old: Vec<StatKey> = states_of(&key, &self.fresh).collect();
        for key in old {
            self.fresh.remove(&key);
        }
        self.fresh.insert(key, hash);
    }

    /// Writes the table, when it changed.
    ///
    /// # Errors
    /// When the disk fails; the old table stays then.
    pub fn save(&mut self) -> Result<()> {
        if self.fresh.is_empty() {
            return Ok(());
        }
        self.known.retain(|(key, _)| states_of(key, &self.fresh).next().is_none());
        self.known.extend(std::mem::take(&mut self.fresh));
        self.known.sort_unstable_by_key(|(key, _)| *key);
        let mut bytes = Vec::with_capacity(MAGIC.len() + self.known.len() * RECORD + CHECK);
        bytes.extend_from_slice(MAGIC);
        for (key, hash) in &self.known {
            for number in [key.dev, key.ino, key.size] {
                bytes.extend_from_slice(&number.to_le_bytes());
            }
            for time in [key.mtime_ns, key.ctime_ns] {
                bytes.extend_from_slice(&time.to_le_bytes());
            }
            bytes.extend_from_slice(hash);
        }
        let check = blake3::hash(&bytes);
        bytes.extend_from_slice(check.as_bytes());
        let _lock = self.store.shared()?;
        failpoint("stats.save")?;
        write_atomically(&self.path, &self.store.loose_draft()?, &bytes)?;
        Ok(())
    }
}

/// The states of a key's inode that a map holds.
fn states_of<'a>(key: &StatKey, map: &'a BTreeMap<StatKey, [u8; 32]>) -> impl Iterator<Item = StatKey> + 'a {
    let first = StatKey { size: 0, mtime_ns: i64::MIN, ctime_ns: i64::MIN, ..*key };
    let last = StatKey { size: u64::MAX, mtime_ns: i64::MAX, ctime_ns: i64::MAX, ..*key };
    map.range(first..=last).map(|(key, _)| *key)
}

/// The records of a table, when it is whole.
pub(crate) fn parse(bytes: &[u8]) -> Option<Vec<(StatKey, [u8; 32])>> {
    let (body, check) = bytes.split_last_chunk::<CHECK>()?;
    if blake3::hash(body).as_bytes() != check {
        return None;
    }
    let records = body.strip_prefix(MAGIC)?.chunks_exact(RECORD);
    if !records.remainder().is_empty() {
        return None;
    }
    let known: Vec<(StatKey, [u8; 32])> = records.map(record).collect::<Option<_>>()?;
    known.is_sorted_by_key(|(key, _)| *key).then_some(known)
}

fn record(bytes: &[u8]) -> Option<(StatKey, [u8; 32])> {
    let number = |at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
    let time = |at: usize| Some(i64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
    let key = StatKey { dev: number(0)?, ino: number(8)?, size: number(16)?, mtime_ns: time(24)?, ctime_ns: time(32)? };
    Some((key, bytes.get(40..72)?.try_into().ok()?))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_kept_and_forgets_old_states() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let mut table = store.stat_table(directory.path()).unwrap();
        let key = StatKey { dev: 1, ino: 2, size: 3, mtime_ns: -4, ctime_ns: 5 };
        let newer = StatKey { ctime_ns: 6, ..key };
        table.insert(key, [1; 32]);
        table.insert(newer, [2; 32]);
        table.save().unwrap();
        let again = store.stat_table(directory.path()).unwrap();
        assert_eq!((again.lookup(&key), again.lookup(&newer)), (None, Some([2; 32])));
        let mut bytes = std::fs::read(&again.path).unwrap();
        *bytes.get_mut(60).unwrap() ^= 1;
        std::fs::write(&again.path, &bytes).unwrap();
        assert_eq!(store.stat_table(directory.path()).unwrap().lookup(&newer), None);
        assert_eq!(store.take_notices().len(), 1);
    }
}
