//! What happened to containers, as a log of JSON lines in the store that every process appends to.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::state::{ContainerInfo, now};
use crate::Engine;
use crate::error::{Error, Result};

const NAME: &str = "events.jsonl";
/// The file before is kept, so that the newest megabyte of events is always there.
const MAX_SIZE: u64 = 1 << 20;
const LOOK: Duration = Duration::from_millis(50);

/// One event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerEvent {
    /// Unix nanoseconds.
    pub time: u64,
    /// Docker's word: create, start, die, …
    pub action: String,
    /// The container.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its image, as it was asked for.
    pub image: String,
    /// What else is known of it: `exitCode`, `signal`, the container's labels.
    pub attributes: BTreeMap<String, String>,
}

/// Which events are wanted, by time.
#[derive(Debug, Clone, Copy, Default)]
pub struct EventWindow {
    /// Unix nanoseconds; only what is newer.
    pub since: Option<u64>,
    /// Unix nanoseconds; without it the log is followed for ever.
    pub until: Option<u64>,
}

impl Engine {
    /// Notes what happened to a container. A log that cannot be written stops nobody.
    pub(super) fn note_event(&self, info: &Subject<'_>, action: &str, more: &[(&str, String)]) {
        let mut attributes = info.labels.clone();
        attributes.extend(more.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        let event = ContainerEvent {
            time: now(),
            action: action.to_owned(),
            id: info.id.to_owned(),
            name: info.name.to_owned(),
            image: info.image.to_owned(),
            attributes,
        };
        let _ = append(&self.store.root().join(NAME), &event);
    }

    /// Hands the events of a window to `see`, oldest first, until it says that it has seen enough.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn events(&self, window: EventWindow, see: &mut dyn FnMut(&ContainerEvent) -> bool) -> Result<()> {
        let path = self.store.root().join(NAME);
        let failed = |error| Error::file("read", &path, error);
        let since = window.since.unwrap_or_else(|| if window.until.is_some() { 0 } else { now() });
        let mut reader = Follower::open(&path).map_err(failed)?;
        loop {
            while let Some(line) = reader.line().map_err(failed)? {
                let Ok(event) = serde_json::from_str::<ContainerEvent>(&line) else { continue };
                if window.until.is_some_and(|until| event.time > until) {
                    return Ok(());
                }
                if event.time >= since && !see(&event) {
                    return Ok(());
                }
            }
            if window.until.is_some_and(|until| now() > until) {
                return Ok(());
            }
            std::thread::sleep(LOOK);
        }
    }
}

/// The container of an event.
#[derive(Debug)]
pub(super) struct Subject<'a> {
    pub(super) id: &'a str,
    pub(super) name: &'a str,
    pub(super) image: &'a str,
    pub(super) labels: &'a BTreeMap<String, String>,
}

impl Engine {
    /// The same for a container that was looked up.
    pub(super) fn note_event_of(&self, info: &ContainerInfo, action: &str, more: &[(&str, String)]) {
        let name = info.name();
        let subject = Subject { id: &info.record.id, name: &name, image: &info.spec.image, labels: &info.spec.labels };
        self.note_event(&subject, action, more);
    }
}

fn append(path: &Path, event: &ContainerEvent) -> io::Result<()> {
    let mut line = serde_json::to_vec(event)?;
    line.push(b'\n');
    let open = || OpenOptions::new().create(true).append(true).mode(0o600).open(path);
    let mut file = open()?;
    if file.metadata()?.len() > MAX_SIZE && flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
        // Another process may have moved it meanwhile.
        if std::fs::metadata(path).is_ok_and(|named| file.metadata().is_ok_and(|open| open.ino() == named.ino())) {
            std::fs::rename(path, before(path))?;
        }
        file = open()?;
    }
    file.write_all(&line)
}

fn before(path: &Path) -> PathBuf {
    path.with_extension("jsonl.1")
}

/// Reads a log that others append to and sometimes move aside.
struct Follower {
    path: PathBuf,
    rest: Vec<PathBuf>,
    file: Option<BufReader<File>>,
    line: String,
}

impl Follower {
    fn open(path: &Path) -> io::Result<Follower> {
        let mut rest: Vec<PathBuf> = [path.to_owned(), before(path)].into_iter().filter(|path| path.exists()).collect();
        let file = rest.pop().map(File::open).transpose()?.map(BufReader::new);
        Ok(Follower { path: path.to_owned(), rest, file, line: String::new() })
    }

    /// The next whole line, if there is one yet.
    fn line(&mut self) -> io::Result<Option<String>> {
        loop {
            let Some(file) = &mut self.file else {
                if !self.path.exists() {
                    return Ok(None);
                }
                self.file = Some(BufReader::new(File::open(&self.path)?));
                continue;
            };
            if file.read_line(&mut self.line)? > 0 {
                if self.line.ends_with('\n') {
                    return Ok(Some(std::mem::take(&mut self.line)));
                }
                return Ok(None);
            }
            if let Some(next) = self.rest.pop() {
                self.file = Some(BufReader::new(File::open(next)?));
                continue;
            }
            let moved = match std::fs::metadata(&self.path) {
                Ok(named) => named.ino() != file.get_ref().metadata()?.ino(),
                Err(_) => false,
            };
            if !moved {
                return Ok(None);
            }
            self.file = None;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn event(number: u64) -> ContainerEvent {
        let (action, name) = (number.to_string(), "x".repeat(1000));
        ContainerEvent { time: number, action, id: "i".into(), name, image: "i".into(), attributes: BTreeMap::new() }
    }

    #[test]
    fn a_log_that_is_moved_aside_is_followed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(NAME);
        append(&path, &event(0)).unwrap();
        let mut reader = Follower::open(&path).unwrap();
        let mut seen = 0;
        for number in 0..3000 {
            if number > 0 {
                append(&path, &event(number)).unwrap();
            }
            while let Some(line) = reader.line().unwrap() {
                assert_eq!(serde_json::from_str::<ContainerEvent>(&line).unwrap().time, seen);
                seen += 1;
            }
        }
        assert_eq!(seen, 3000);
        assert!(std::fs::metadata(&path).unwrap().len() < MAX_SIZE + 2000 && before(&path).exists());
    }
}
