//! Where builds leave what is to be known of them later: a directory each, locked while its build lives.
//!
//! ```text
//! builds/TIME-ID/record.json   what was built and how; rewritten while the build runs, whole or as it was
//!               /log           the bytes that its steps wrote, as they came
//!               /index         12 bytes for each piece of the log: whose it is, and when it came
//!               /lock          flock held by the living build
//! ```
//!
//! Nothing here is flushed: a power cut may lose the record of a build, never its result.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::error::{Error, Result};
use crate::lease::{entries, is_alive, remove_tree};
use crate::store::{Store, random_hex, write_atomically};

/// Characters of a build's id.
const ID_BYTES: usize = 5;

/// Most of a record that is read; a larger one is damaged.
const RECORD_LIMIT: u64 = 64 << 20;

/// The directory of a build that this process performs.
#[derive(Debug)]
pub struct BuildPlace {
    id: String,
    path: PathBuf,
    _lock: File,
}

/// A build that left its directory.
#[derive(Debug, Clone)]
pub struct StoredBuild {
    /// Its id.
    pub id: String,
    /// A living process holds its lock.
    pub running: bool,
    /// When it began, in Unix milliseconds.
    pub began_ms: u64,
    path: PathBuf,
}

impl Store {
    /// Makes the directory of a new build.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn create_build(&self) -> Result<BuildPlace> {
        let id = random_hex(ID_BYTES)?;
        let since = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH);
        let millis = since.map_or(0, |time| time.as_millis());
        // The time first: names in order are builds in order.
        let path = self.path("builds").join(format!("{millis:012x}-{id}"));
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(true).mode(0o700).create(&path).map_err(Error::path("make", &path))?;
        let lock_path = path.join("lock");
        let lock = create(&lock_path)?;
        flock(&lock, FlockOperation::LockExclusive).map_err(Error::errno("lock", &lock_path))?;
        Ok(BuildPlace { id, path, _lock: lock })
    }

    /// All builds, the last first.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn builds(&self) -> Result<Vec<StoredBuild>> {
        let mut found = Vec::new();
        for (name, path) in entries(&self.path("builds"))?.into_iter().rev() {
            let Some((time, id)) = name.split_once('-') else { continue };
            let began_ms = u64::from_str_radix(time, 16).unwrap_or(0);
            found.push(StoredBuild { id: id.to_owned(), running: is_alive(&path.join("lock"))?, began_ms, path });
        }
        Ok(found)
    }

    /// Removes all builds but the last `count` and those that run. Gives how many went.
    ///
    /// # Errors
    /// When one cannot be removed.
    pub fn keep_builds(&self, count: usize) -> Result<u64> {
        let mut removed = 0;
        let all = entries(&self.path("builds"))?;
        let old = all.len().saturating_sub(count);
        for (_, path) in all.into_iter().take(old) {
            if !is_alive(&path.join("lock"))? {
                remove_tree(&path)?;
                removed += 1;
            }
        }
        Ok(removed)
    }
}

impl BuildPlace {
    /// Its id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Replaces the record.
    ///
    /// # Errors
    /// When it cannot be written; the old one stays then.
    pub fn write_record(&self, bytes: &[u8]) -> Result<()> {
        write_atomically(&self.path.join("record.json"), &self.path.join(".record.json"), bytes)
    }

    /// Begins the log.
    ///
    /// # Errors
    /// When its files cannot be made.
    pub fn log(&self) -> Result<LogWriter> {
        Ok(LogWriter {
            log: create(&self.path.join("log"))?,
            index: create(&self.path.join("index"))?,
            path: self.path.clone(),
        })
    }
}

impl StoredBuild {
    /// The bytes of its record; `None` when the build died before it wrote one.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub fn record(&self) -> Result<Option<Vec<u8>>> {
        read_bounded(&self.path.join("record.json"), RECORD_LIMIT)
    }

    /// The log as it is now.
    ///
    /// # Errors
    /// When a file of it is there and cannot be read.
    pub fn log(&self) -> Result<Log> {
        // The index first: what it names is in the log already.
        let index = read_bounded(&self.path.join("index"), u64::MAX)?.unwrap_or_default();
        let bytes = read_bounded(&self.path.join("log"), u64::MAX)?.unwrap_or_default();
        Ok(Log { bytes, index })
    }

    /// Removes it.
    ///
    /// # Errors
    /// When it runs, or the directory cannot be removed.
    pub fn remove(&self) -> Result<()> {
        if is_alive(&self.path.join("lock"))? {
            return Err(Error::BuildRuns(self.id.clone()));
        }
        remove_tree(&self.path).map(drop)
    }
}

/// Where a piece of a log comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// The step's number; 0 is the build itself.
    pub step: u16,
    /// 1 for standard output, 2 for standard error.
    pub stream: u8,
    /// Milliseconds since the build began.
    pub millis: u32,
}

/// Writes a log.
#[derive(Debug)]
pub struct LogWriter {
    log: File,
    index: File,
    path: PathBuf,
}

/// Bytes of the index for each piece.
const PIECE: usize = 12;

impl LogWriter {
    /// Appends a piece.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn append(&mut self, origin: Origin, bytes: &[u8]) -> Result<()> {
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let mut piece = Vec::with_capacity(PIECE);
        piece.extend_from_slice(&origin.millis.to_le_bytes());
        piece.extend_from_slice(&origin.step.to_le_bytes());
        piece.extend_from_slice(&[origin.stream, 0]);
        piece.extend_from_slice(&length.to_le_bytes());
        let written = self.log.write_all(bytes).and_then(|()| self.index.write_all(&piece));
        written.map_err(Error::path("write the log of", &self.path))
    }
}

/// A log that was read.
#[derive(Debug, Clone, Default)]
pub struct Log {
    bytes: Vec<u8>,
    index: Vec<u8>,
}

impl Log {
    /// Its pieces in the order they came. What a killed build had not finished writing is left out.
    pub fn pieces(&self) -> impl Iterator<Item = (Origin, &[u8])> {
        let mut at = 0_usize;
        self.index.chunks_exact(PIECE).map_while(move |piece| {
            let [a, b, c, d, e, f, stream, _, g, h, i, j] = *piece.first_chunk::<PIECE>()?;
            let length = usize::try_from(u32::from_le_bytes([g, h, i, j])).ok()?;
            let bytes = self.bytes.get(at..at.checked_add(length)?)?;
            at += length;
            let origin = Origin { step: u16::from_le_bytes([e, f]), stream, millis: u32::from_le_bytes([a, b, c, d]) };
            Some((origin, bytes))
        })
    }
}

fn create(path: &Path) -> Result<File> {
    OpenOptions::new().create_new(true).write(true).mode(0o600).open(path).map_err(Error::path("make", path))
}

pub(crate) fn read_bounded(path: &Path, limit: u64) -> Result<Option<Vec<u8>>> {
    use std::io::Read;
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::path("read", path)(error)),
    };
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes).map_err(Error::path("read", path))?;
    Ok(Some(bytes))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, Store) {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("store")).unwrap();
        (directory, store)
    }

    #[test]
    fn a_build_runs_until_its_place_is_dropped_and_keeps_its_log() {
        let (_directory, store) = store();
        let place = store.create_build().unwrap();
        place.write_record(b"{}").unwrap();
        let mut log = place.log().unwrap();
        let one = Origin { step: 3, stream: 1, millis: 70_000 };
        log.append(one, b"hello\n").unwrap();
        log.append(Origin { step: 4, ..one }, b"").unwrap();
        log.append(Origin { step: 5, ..one }, b"cut").unwrap();
        let build = store.builds().unwrap().remove(0);
        assert!(build.running);
        assert!(matches!(build.remove(), Err(Error::BuildRuns(_))));
        // As a kill between two writes leaves it: a piece in the index whose bytes did not come.
        std::fs::write(build.path.join("log"), b"hello\ncu").unwrap();
        let log = build.log().unwrap();
        let pieces: Vec<_> = log.pieces().collect();
        assert_eq!(pieces, [(one, b"hello\n".as_slice()), (Origin { step: 4, ..one }, b"".as_slice())]);
        drop(place);
        let build = store.builds().unwrap().remove(0);
        assert!(!build.running);
        assert_eq!(build.record().unwrap().unwrap(), b"{}");
        build.remove().unwrap();
        assert!(store.builds().unwrap().is_empty());
    }

    #[test]
    fn old_builds_go_and_running_ones_stay() {
        let (_directory, store) = store();
        let running = store.create_build().unwrap();
        let mut ids = Vec::new();
        for _ in 0..4 {
            std::thread::sleep(std::time::Duration::from_millis(2));
            ids.push(store.create_build().unwrap().id().to_owned());
        }
        assert_eq!(store.keep_builds(2).unwrap(), 2);
        let left: Vec<String> = store.builds().unwrap().into_iter().map(|build| build.id).collect();
        assert_eq!(left, [ids.remove(3), ids.remove(2), running.id().to_owned()]);
    }
}
