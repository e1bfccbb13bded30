//! A big blob in parts, over several connections at once: the parts come in any order, and are read in theirs.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use cache::Descriptor;
use reqwest::header::{HeaderValue, RANGE};
use reqwest::{Method, StatusCode};

use super::blob::{BlobReader, Slot, begins_at, blob_path};
use super::endpoint::Ask;
use super::refusal::Cause;
use super::repository::Repository;

/// Bytes of one part.
const PART: u64 = 4 << 20;
/// Smaller blobs come in one piece.
const BIG: u64 = 4 * PART;

/// Gives `take` a stream of a blob, which comes over up to `connections` connections. The cause of a failing stream is in
/// `slot`.
pub(super) fn read_blob<T>(
    repository: &Repository,
    blob: &Descriptor,
    connections: usize,
    slot: &Slot,
    tell: &(dyn Fn(u64) + Sync),
    take: impl FnOnce(&mut (dyn Read + Send)) -> T,
) -> T {
    let reader = BlobReader::new(repository, blob, Arc::clone(slot), tell);
    if blob.size < BIG || connections < 2 {
        return take(&mut { reader });
    }
    // The first part shows whether the server gives parts.
    let first = match ask_part(repository, blob) {
        Ok(response) => response,
        // The stream has the same trouble, and its own ways with it.
        Err(_) => return take(&mut { reader }),
    };
    if first.status() != StatusCode::PARTIAL_CONTENT || !begins_at(&first, 0) {
        return match first.status() {
            StatusCode::OK => take(&mut reader.with(first)),
            _ => take(&mut { reader }),
        };
    }
    let work = Work { state: Mutex::default(), changed: Condvar::new(), ahead: connections as u64 + 1, slot };
    let first = Mutex::new(Some(first));
    std::thread::scope(|threads| {
        for _ in 0..connections {
            threads.spawn(|| work.fetch(repository, blob, &first, tell));
        }
        let mut parts = Parts { work: &work, blob, current: Vec::new(), at: 0, number: 0 };
        let taken = take(&mut parts);
        work.lock().stopped = true;
        work.changed.notify_all();
        taken
    })
}

fn ask_part(repository: &Repository, blob: &Descriptor) -> Result<reqwest::blocking::Response, Cause> {
    let (path, scope) = (blob_path(repository, &blob.digest), repository.pull_scope());
    let mut ask = Ask::new(Method::GET, &path, &scope);
    if let Ok(value) = HeaderValue::from_str(&format!("bytes=0-{}", PART - 1)) {
        ask.headers.insert(RANGE, value);
    }
    repository.endpoint.send(&ask)
}

#[derive(Default)]
struct State {
    /// The next part that nobody fetches yet.
    next: u64,
    /// The part that is read now.
    reading: u64,
    ready: BTreeMap<u64, Vec<u8>>,
    /// Nobody reads any more, or nobody can go on.
    stopped: bool,
    failed: bool,
}

struct Work<'a> {
    state: Mutex<State>,
    changed: Condvar,
    /// Parts that are fetched before their turn: so many are in memory at most.
    ahead: u64,
    slot: &'a Slot,
}

impl Work<'_> {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fetch(
        &self,
        repository: &Repository,
        blob: &Descriptor,
        first: &Mutex<Option<reqwest::blocking::Response>>,
        tell: &(dyn Fn(u64) + Sync),
    ) {
        while let Some(number) = self.claim(blob) {
            let (from, to) = (number * PART, (number * PART + PART).min(blob.size));
            let mut reader = BlobReader::new(repository, blob, Arc::clone(self.slot), tell).part(from, to);
            if number == 0
                && let Some(response) = first.lock().unwrap_or_else(PoisonError::into_inner).take()
            {
                reader = reader.with(response);
            }
            let mut bytes = vec![0; usize::try_from(to - from).unwrap_or(0)];
            let read = self.read(&mut reader, &mut bytes);
            let mut state = self.lock();
            match read {
                Ok(()) => {
                    state.ready.insert(number, bytes);
                }
                Err(_) => state.failed = true,
            }
            drop(state);
            self.changed.notify_all();
        }
    }

    /// In pieces, so that a reader that has enough is not waited for.
    fn read(&self, reader: &mut BlobReader<'_>, bytes: &mut [u8]) -> io::Result<()> {
        for piece in bytes.chunks_mut(1 << 18) {
            if self.lock().stopped {
                return Err(io::ErrorKind::Interrupted.into());
            }
            reader.read_exact(piece)?;
        }
        Ok(())
    }

    fn claim(&self, blob: &Descriptor) -> Option<u64> {
        let mut state = self.lock();
        loop {
            let over = state.stopped || state.failed || state.next * PART >= blob.size;
            if over {
                return None;
            }
            if state.next < state.reading + self.ahead {
                state.next += 1;
                return Some(state.next - 1);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// A part whose turn it is.
    fn part(&self, number: u64) -> io::Result<Vec<u8>> {
        let mut state = self.lock();
        loop {
            if let Some(bytes) = state.ready.remove(&number) {
                state.reading = number + 1;
                drop(state);
                self.changed.notify_all();
                return Ok(bytes);
            }
            if state.failed {
                return Err(io::Error::other("the transfer failed"));
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// The parts in their order.
struct Parts<'a> {
    work: &'a Work<'a>,
    blob: &'a Descriptor,
    current: Vec<u8>,
    at: usize,
    number: u64,
}

impl Read for Parts<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.current.len() {
            if self.number * PART >= self.blob.size {
                return Ok(0);
            }
            self.current = self.work.part(self.number)?;
            self.number += 1;
            self.at = 0;
        }
        let there = self.current.get(self.at..).unwrap_or_default();
        let count = there.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..count), there.get(..count)) {
            to.copy_from_slice(from);
        }
        self.at += count;
        Ok(count)
    }
}
