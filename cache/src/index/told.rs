//! Uses on their way into the index: a line a command in `uses.log`, for opening a database is dearer than many a command.
//! Whoever asks for uses folds the lines in first; what a kill or a power cut takes of them makes something look older.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;

use rustix::fs::{FlockOperation, flock};

use super::uses::stamp;
use super::{HASTY, row_seal};
use crate::store::Store;

/// The file; its lock is held by several who add, or by one who folds.
pub(super) const TOLD: &str = "uses.log";

/// Bytes from which whoever adds a line folds them all.
const LONG: u64 = 64 << 10;

/// Bytes that are never passed, also where the index cannot be had.
const MOST: u64 = 1 << 20;

/// What one command used.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) generation: u64,
    /// Unix seconds.
    pub(super) unix: u64,
    /// Layers and records, in the order of use.
    pub(super) names: Vec<String>,
}

impl Told {
    /// `SEAL GENERATION UNIX NAME…`, a line.
    fn encode(&self) -> String {
        let rest = format!("{} {} {}", self.generation, self.unix, self.names.join(" "));
        format!("{} {rest}\n", seal(&rest))
    }

    fn decode(line: &str) -> Option<Told> {
        let (sealed, rest) = line.split_once(' ')?;
        if sealed != seal(rest) {
            return None;
        }
        let mut words = rest.split(' ');
        let (generation, unix) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        Some(Told { generation, unix, names: words.map(str::to_owned).collect() })
    }
}

fn seal(rest: &str) -> String {
    row_seal(rest, &[], "").iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Store {
    /// Adds what a command used. A store that cannot be written loses it, which is no harm.
    pub(super) fn tell(&self, told: &Told) {
        let Ok(mut file) = self.open_told() else { return };
        if flock(&file, FlockOperation::LockShared).is_err() {
            return;
        }
        let length = file.metadata().map_or(0, |metadata| metadata.len());
        let _ = file.write_all(told.encode().as_bytes());
        drop(file);
        if length > LONG {
            self.fold_uses();
        }
    }

    /// Brings what was told into the index. Where the index is busy it stays told.
    pub(super) fn fold_uses(&self) {
        if std::fs::metadata(self.path(TOLD)).map_or(0, |metadata| metadata.len()) == 0 {
            return;
        }
        let Ok(mut file) = self.open_told() else { return };
        if flock(&file, FlockOperation::LockExclusive).is_err() {
            return;
        }
        let Some(text) = read_told(&mut file) else { return };
        let told: Vec<Told> = text.lines().filter_map(Told::decode).collect();
        let folded = self.with_index(HASTY, |connection| stamp(connection, &told)).is_some();
        if folded || text.len() as u64 >= MOST {
            // What is not cut off is told twice, and counts twice.
            let _ = file.set_len(0);
        }
        drop(file);
        self.tidy_log();
    }

    fn open_told(&self) -> std::io::Result<File> {
        OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(self.path(TOLD))
    }
}

fn read_told(file: &mut File) -> Option<String> {
    let mut bytes = Vec::new();
    file.take(MOST).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn told(names: &[&str]) -> Told {
        Told { generation: 1, unix: 2, names: names.iter().map(ToString::to_string).collect() }
    }

    #[test]
    fn a_line_that_was_changed_says_nothing() {
        let line = told(&["a", "b"]).encode();
        assert_eq!(Told::decode(line.trim_end()), Some(told(&["a", "b"])));
        assert_eq!(Told::decode(line.trim_end().replace(" 2 ", " 3 ").as_str()), None);
        assert_eq!(Told::decode(""), None);
        assert_eq!(Told::decode(&line.repeat(2).replace('\n', "")), None);
    }

    #[test]
    fn a_long_log_is_folded_by_who_adds() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let name = "n".repeat(1 << 10);
        let length = || std::fs::metadata(store.path(TOLD)).unwrap().len();
        let mut count = 0;
        while count == 0 || length() > 0 {
            assert!(count < 100);
            store.tell(&told(&[&name]));
            count += 1;
        }
        assert!(count > 60);
        assert_eq!(store.uses().get(&name).unwrap().count, count);
    }

    #[test]
    fn a_log_of_rubbish_is_cut_off() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        std::fs::write(store.path(TOLD), vec![0xff; 2 << 20]).unwrap();
        assert!(store.uses().is_empty());
        assert_eq!(std::fs::metadata(store.path(TOLD)).unwrap().len(), 0);
    }
}
