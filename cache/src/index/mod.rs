//! The index: a SQLite database that makes lists, usage and pruning fast. It is an aid, never the truth.
//!
//! It holds two things. *Facts* are what a walk of the files gave, each bound to the `stat` of the file that it was read
//! from: a fact whose file changed is read again. *Uses* are which layers and records were used when; a use that is lost
//! makes something look older, nothing else. Every row carries a hash of itself, so that a damaged page cannot lie. A
//! database that is missing, damaged or of another version is thrown away and begun anew; one that is busy is done without.

pub(crate) mod facts;
mod told;
pub(crate) mod uses;

use std::path::Path;
use std::sync::PoisonError;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

use crate::store::Store;

/// Changes with the tables.
const SCHEMA_VERSION: i64 = 1;

const SCHEMA: &str = "
    CREATE TABLE layers(name TEXT PRIMARY KEY, stamp BLOB NOT NULL, body TEXT NOT NULL, seal BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE records(name TEXT PRIMARY KEY, stamp BLOB NOT NULL, body TEXT NOT NULL, seal BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE images(name TEXT PRIMARY KEY, stamp BLOB NOT NULL, body TEXT NOT NULL, seal BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE uses(name TEXT PRIMARY KEY, body TEXT NOT NULL, seal BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE turn(number INTEGER NOT NULL);
    INSERT INTO turn VALUES (0);
";

/// How long a command that lives on the index waits for another process.
pub(crate) const PATIENT: Duration = Duration::from_secs(5);
/// How long a command waits that could do without.
pub(crate) const HASTY: Duration = Duration::from_millis(100);

const DATABASE: &str = "index.db";
const LOG: &str = "index.db-wal";
const FILES: [&str; 3] = [DATABASE, LOG, "index.db-shm"];

/// Bytes from which a log is long: the writes of some ten commands.
const LONG_LOG: u64 = 192 << 10;

impl Store {
    /// Works on the index, opening it at the first use. `None` where it cannot be had: the caller does without.
    pub(crate) fn with_index<T>(
        &self,
        patience: Duration,
        work: impl Fn(&mut Connection) -> rusqlite::Result<T>,
    ) -> Option<T> {
        let mut slot = self.index().lock().unwrap_or_else(PoisonError::into_inner);
        for _ in 0..2 {
            let opened = slot.take().map_or_else(|| open(self.root()), Ok);
            let result = opened.and_then(|mut connection| {
                connection.busy_timeout(patience)?;
                let given = work(&mut connection)?;
                *slot = Some(connection);
                Ok(given)
            });
            match result {
                Ok(given) => return Some(given),
                Err(error) if is_damage(&error) => self.remove_index_files(),
                Err(_) => return None,
            }
        }
        None
    }

    /// Closes the index: its files are as large then as they will be.
    pub(crate) fn close_index(&self) {
        self.index().lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Writes the log into the database and closes it.
    pub(crate) fn compact_index(&self) {
        self.write_log_back();
        self.close_index();
    }

    /// The same when the log is long: each command reads all of it first.
    pub(crate) fn tidy_log(&self) {
        let length = std::fs::metadata(self.path(LOG)).map_or(0, |metadata| metadata.len());
        if length > LONG_LOG {
            self.write_log_back();
        }
    }

    fn write_log_back(&self) {
        self.with_index(HASTY, |connection| connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())));
    }

    /// Throws the index away: it is made anew from the files at the next use.
    pub(crate) fn discard_index(&self) {
        self.close_index();
        self.remove_index_files();
    }

    fn remove_index_files(&self) {
        for name in FILES {
            // What cannot be removed is damaged still, and done without.
            let _ = std::fs::remove_file(self.path(name));
        }
    }

    /// Whether the database is sound; one that is not there is.
    pub(crate) fn index_is_sound(&self) -> bool {
        if !self.path(DATABASE).exists() {
            return true;
        }
        self.close_index();
        let verdict = open(self.root()).and_then(|connection| {
            let text: String = connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
            Ok(text == "ok" && facts::unsealed_rows(&connection)? == 0)
        });
        verdict.unwrap_or_else(|error| !is_damage(&error))
    }

    /// Bytes of the index on the disk.
    pub(crate) fn index_bytes(&self) -> u64 {
        use std::os::unix::fs::MetadataExt;
        FILES.iter().filter_map(|name| Some(std::fs::metadata(self.path(name)).ok()?.blocks() * 512)).sum()
    }
}

fn open(root: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(root.join(DATABASE), flags)?;
    connection.busy_timeout(HASTY)?;
    // The last one to close would write the log into the database, at the end of every command: `tidy_log` does it now and
    // then. Nothing is flushed: what a power cut damages is begun anew.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    connection.execute_batch("PRAGMA synchronous = OFF; PRAGMA wal_autocheckpoint = 0;")?;
    let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if version == SCHEMA_VERSION {
        return Ok(connection);
    }
    if version != 0 {
        return Err(damage("the index of another version"));
    }
    connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Another process may have been faster between the look and the lock.
    let version: i64 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if version == 0 {
        transaction.execute_batch(SCHEMA)?;
        transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
    }
    transaction.commit()?;
    Ok(connection)
}

fn damage(why: &str) -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT), Some(why.to_owned()))
}

/// Whether a new database is the remedy. A table that is missing or a value of another type are damage too.
fn is_damage(error: &rusqlite::Error) -> bool {
    match error {
        rusqlite::Error::SqliteFailure(failure, _) => {
            matches!(failure.code, ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::Unknown)
        }
        rusqlite::Error::SqlInputError { .. }
        | rusqlite::Error::InvalidColumnType(..)
        | rusqlite::Error::FromSqlConversionFailure(..)
        | rusqlite::Error::IntegralValueOutOfRange(..)
        | rusqlite::Error::QueryReturnedNoRows => true,
        _ => false,
    }
}

/// The hash that a row carries of itself.
fn row_seal(name: &str, stamp: &[u8], body: &str) -> [u8; 8] {
    let mut hasher = blake3::Hasher::new();
    for part in [name.as_bytes(), stamp, body.as_bytes()] {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hasher.finalize().as_bytes().first_chunk().copied().unwrap_or_default()
}
