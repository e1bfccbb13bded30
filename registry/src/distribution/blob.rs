//! A blob on its way here: a stream that goes on where it was cut, and gives up a server that is too slow to be of use.
//!
//! Whoever reads hashes: the stream is one, however many answers it came in.

use std::io::{self, Read};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use cache::{Descriptor, Digest};
use reqwest::blocking::Response;
use reqwest::header::{CONTENT_RANGE, HeaderValue, RANGE};
use reqwest::{Method, StatusCode};

use super::endpoint::Ask;
use super::refusal::Cause;
use super::repository::Repository;
use crate::http::cause;
use crate::http::retry::{Attempts, Wait};

/// Within this time a server must give [`SLOW_BYTES`].
const SLOW_WINDOW: Duration = Duration::from_secs(20);
/// Less in that time is no transfer.
const SLOW_BYTES: u64 = 4 << 10;
/// After so many bytes a cut is a new one, and not the last one again.
const FRESH: u64 = 1 << 20;
/// Most cuts of one blob.
const CUTS: u32 = 100;
/// Bytes that one look at the bandwidth is for.
const PIECE: usize = 128 << 10;

/// Where a stream leaves the cause of its failure: what reads it has only words for bytes.
pub(super) type Slot = Arc<Mutex<Option<Cause>>>;

/// A blob, or a part of one.
pub(super) struct BlobReader<'a> {
    repository: &'a Repository,
    path: String,
    scope: String,
    /// The next byte, and the one after the last.
    at: u64,
    end: u64,
    /// All of the blob is wanted: no range is asked for at first.
    whole: bool,
    response: Option<Response>,
    attempts: Attempts,
    progress_at: u64,
    cuts: u32,
    pace: Pace,
    slot: Slot,
    tell: &'a (dyn Fn(u64) + Sync),
}

impl std::fmt::Debug for BlobReader<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BlobReader").field("path", &self.path).field("at", &self.at).finish_non_exhaustive()
    }
}

impl<'a> BlobReader<'a> {
    /// All of a blob. `tell` hears of bytes as they come.
    pub(super) fn new(
        repository: &'a Repository,
        blob: &Descriptor,
        slot: Slot,
        tell: &'a (dyn Fn(u64) + Sync),
    ) -> Self {
        BlobReader {
            repository,
            path: blob_path(repository, &blob.digest),
            scope: repository.pull_scope(),
            at: 0,
            end: blob.size,
            whole: true,
            response: None,
            attempts: Attempts::begin(),
            progress_at: 0,
            cuts: 0,
            pace: Pace::begin(),
            slot,
            tell,
        }
    }

    /// A part of it. The caller has seen that the server gives parts.
    pub(super) fn part(self, from: u64, to: u64) -> Self {
        BlobReader { at: from, progress_at: from, end: to, whole: false, ..self }
    }

    /// Begins with an answer that came already.
    pub(super) fn with(self, response: Response) -> Self {
        BlobReader { response: Some(response), ..self }
    }

    fn open(&mut self) -> Result<Response, Cause> {
        let mut ask = Ask::new(Method::GET, &self.path, &self.scope);
        let ranged = !self.whole || self.at > 0;
        if ranged {
            let range = format!("bytes={}-{}", self.at, self.end.saturating_sub(1));
            if let Ok(value) = HeaderValue::from_str(&range) {
                ask.headers.insert(RANGE, value);
            }
        }
        let endpoint = &self.repository.endpoint;
        let mut response = endpoint.send(&ask)?;
        match response.status() {
            StatusCode::PARTIAL_CONTENT if ranged && begins_at(&response, self.at) => Ok(response),
            StatusCode::PARTIAL_CONTENT => Err(Cause::Invalid("it gives a part that was not asked for".to_owned())),
            StatusCode::OK => {
                // The server knows no ranges: what was read is read once more.
                let skipped = io::copy(&mut response.by_ref().take(self.at), &mut io::sink());
                match skipped {
                    Ok(count) if count == self.at => Ok(response),
                    _ => Err(Cause::Other("it breaks off again and again, and cannot go on where it did".to_owned())),
                }
            }
            _ => Err(endpoint.refusal(response, "layer")),
        }
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, Cause> {
        let limit = usize::try_from(self.end - self.at).unwrap_or(usize::MAX).min(buffer.len()).min(PIECE);
        let Some(wanted) = buffer.get_mut(..limit).filter(|wanted| !wanted.is_empty()) else {
            return if self.whole && !buffer.is_empty() { self.no_more() } else { Ok(0) };
        };
        loop {
            let mut response = match self.response.take() {
                Some(response) => response,
                None => self.open()?,
            };
            match response.read(wanted) {
                Ok(count) if count > 0 => {
                    self.at += count as u64;
                    self.response = Some(response);
                    if self.pace.is_slow(count as u64) {
                        return Err(Cause::Other(format!(
                            "it gives less than {SLOW_BYTES} bytes in {} seconds",
                            SLOW_WINDOW.as_secs()
                        )));
                    }
                    self.repository.endpoint.shared.take(count)?;
                    (self.tell)(count as u64);
                    return Ok(count);
                }
                Ok(_) => self.cut("the answer ended too early")?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => self.response = Some(response),
                Err(error) => self.cut(&cause(&error))?,
            }
        }
    }

    /// All that was promised is here: the server must have no more.
    fn no_more(&mut self) -> Result<usize, Cause> {
        let Some(mut response) = self.response.take() else { return Ok(0) };
        match response.read(&mut [0]) {
            Ok(count) if count > 0 => Err(Cause::Invalid("it gives more bytes than the manifest says".to_owned())),
            _ => Ok(0),
        }
    }

    fn cut(&mut self, reason: &str) -> Result<(), Cause> {
        self.cuts += 1;
        if self.at >= self.progress_at + FRESH {
            self.attempts = Attempts::begin();
        }
        self.progress_at = self.at;
        let pause = self.attempts.next(Wait::Backoff).filter(|_| self.cuts < CUTS);
        let Some(pause) = pause else {
            return Err(Cause::Other(format!(
                "a layer broke off {} times, at last after {} bytes: {reason}",
                self.cuts, self.at
            )));
        };
        self.repository.endpoint.pause(pause)?;
        self.pace = Pace::begin();
        Ok(())
    }
}

impl Read for BlobReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.fill(buffer).map_err(|cause| {
            self.slot.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(cause);
            io::Error::other("the transfer failed")
        })
    }
}

/// How fast bytes come.
#[derive(Debug)]
struct Pace {
    since: Instant,
    bytes: u64,
}

impl Pace {
    fn begin() -> Pace {
        Pace { since: Instant::now(), bytes: 0 }
    }

    /// Counts, and says at the end of a window whether it had too few.
    fn is_slow(&mut self, count: u64) -> bool {
        self.bytes += count;
        if self.bytes >= SLOW_BYTES {
            *self = Pace::begin();
            return false;
        }
        self.since.elapsed() >= SLOW_WINDOW
    }
}

pub(super) fn blob_path(repository: &Repository, digest: &Digest) -> String {
    format!("v2/{}/blobs/{digest}", repository.name)
}

/// `Content-Range: bytes 5-…`
pub(super) fn begins_at(response: &Response, at: u64) -> bool {
    let range = response.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
    let first = range.and_then(|text| text.strip_prefix("bytes ")?.split_once('-')?.0.trim().parse::<u64>().ok());
    first == Some(at)
}

impl Repository {
    /// Whether the registry has a blob.
    pub(super) fn has_blob(&self, digest: &Digest, scope: &str) -> Result<bool, Cause> {
        let response = self.endpoint.send(&Ask::new(Method::HEAD, &blob_path(self, digest), scope))?;
        match response.status() {
            StatusCode::NOT_FOUND => Ok(false),
            status if status.is_success() => Ok(true),
            _ => Err(self.endpoint.refusal(response, "layer")),
        }
    }

    /// A small blob, verified.
    pub(super) fn small_blob(
        &self,
        blob: &Descriptor,
        limit: u64,
        tell: &(dyn Fn(u64) + Sync),
    ) -> Result<Vec<u8>, Cause> {
        if blob.size > limit {
            return Err(Cause::Invalid(format!("a document of {} bytes is more than {limit}", blob.size)));
        }
        let slot = Slot::default();
        let mut bytes = Vec::new();
        let read = BlobReader::new(self, blob, Arc::clone(&slot), tell).read_to_end(&mut bytes);
        if let Some(cause) = taken(&slot) {
            return Err(cause);
        }
        read.map_err(|error| Cause::Other(error.to_string()))?;
        let found = match blob.digest.algorithm() {
            "sha512" => super::repository::sha512_of(&bytes)?,
            _ => Digest::sha256_of(&bytes),
        };
        if found != blob.digest {
            return Err(Cause::Invalid(format!("{} should have come, and {found} did", blob.digest)));
        }
        Ok(bytes)
    }
}

/// The cause that a stream left.
pub(super) fn taken(slot: &Slot) -> Option<Cause> {
    slot.lock().unwrap_or_else(PoisonError::into_inner).take()
}
