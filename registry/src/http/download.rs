//! A URL's bytes on their way into the store: verified, resumed where the server allows it, never half visible.

use std::io::{Read, Write};
use std::time::Duration;

use cache::{Blob, BlobWriter, Digest, Lease, Store};
use reqwest::blocking::Response;
use reqwest::header::{
    AUTHORIZATION, CONTENT_RANGE, ETAG, HeaderMap, HeaderName, HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE,
    LAST_MODIFIED, RANGE,
};
use reqwest::{StatusCode, Url};
use sha2::{Digest as _, Sha512};

use super::retry::{self, Attempts};
use super::{Failed, Http, shown};
use crate::error::{Error, Result};

/// Most bytes of one download.
const LIMIT: u64 = 64 << 30;
/// How often a pause looks whether it is still wanted.
const SLICE: Duration = Duration::from_millis(50);

/// What a server said of the bytes it gave, to be asked with the next time (RFC 9110, 13).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Validators {
    /// `ETag`, as it came.
    pub etag: Option<String>,
    /// `Last-Modified`, as it came.
    pub last_modified: Option<String>,
}

impl Validators {
    fn of(response: &Response) -> Validators {
        let text = |name| Some(response.headers().get(name)?.to_str().ok()?.to_owned());
        Validators { etag: text(ETAG), last_modified: text(LAST_MODIFIED) }
    }

    /// `Last-Modified` in Unix seconds.
    pub fn modified(&self) -> Option<i64> {
        retry::unix_seconds(self.last_modified.as_deref()?)
    }

    /// What names exactly these bytes: a weak tag does not.
    fn strong(&self) -> Option<&str> {
        self.etag.as_deref().filter(|tag| !tag.starts_with("W/"))
    }
}

/// What is wanted.
#[derive(Debug, Clone, Default)]
pub struct DownloadRequest {
    /// The URL.
    pub url: String,
    /// What the bytes must be.
    pub checksum: Option<Digest>,
    /// What is said of the bytes that the asker has: the answer may be that they are still the ones.
    pub known: Validators,
    /// `Authorization`, for the URL's own origin only.
    pub authorization: Option<String>,
}

/// What was got.
#[derive(Debug)]
pub enum Downloaded {
    /// The bytes that the asker has.
    NotModified,
    /// New bytes.
    New(Download),
}

/// Bytes of a URL, in the store.
#[derive(Debug, Clone)]
pub struct Download {
    /// The bytes.
    pub blob: Blob,
    /// What the server said of them.
    pub validators: Validators,
}

/// The bytes so far.
struct Part {
    writer: BlobWriter,
    sha512: Option<Sha512>,
    validators: Validators,
}

impl Http {
    /// Downloads into the store. `cancelled` is asked during pauses and between pieces.
    ///
    /// # Errors
    /// When the server cannot be reached or refuses, the bytes are not what the checksum says, or the disk fails.
    pub fn download(
        &self,
        request: &DownloadRequest,
        store: &Store,
        lease: &Lease,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Downloaded> {
        let url: Url = request.url.parse().map_err(|error| Error::fetch(&request.url, format!("{error}")))?;
        let mut attempts = Attempts::begin();
        let mut part: Option<Part> = None;
        loop {
            let failed = match self.attempt(&url, request, store, lease, &mut part, cancelled)? {
                Ok(Some(validators)) => return finish(&url, request, part.take(), validators),
                Ok(None) => return Ok(Downloaded::NotModified),
                Err(failed) => failed,
            };
            let Some(pause) = attempts.next(failed.wait) else {
                let tried =
                    if attempts.used() > 1 { format!(" (tried {} times)", attempts.used()) } else { String::new() };
                return Err(Error::fetch(&shown(&url), format!("{}{tried}", failed.reason)));
            };
            sleep(pause, cancelled);
            if cancelled() {
                return Err(Error::fetch(&shown(&url), "the build was stopped".to_owned()));
            }
        }
    }

    /// One request. The outer error is of this machine, the inner one of the network.
    fn attempt(
        &self,
        url: &Url,
        request: &DownloadRequest,
        store: &Store,
        lease: &Lease,
        part: &mut Option<Part>,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Result<Option<Validators>, Failed>> {
        let headers = headers(request, part.as_ref());
        let mut response = match self.get(url, &headers) {
            Ok(response) => response,
            Err(failed) => return Ok(Err(failed)),
        };
        let validators = Validators::of(&response);
        if response.status() == StatusCode::NOT_MODIFIED {
            return Ok(if part.is_none() { Ok(None) } else { Err(Failed::for_good("the server contradicts itself")) });
        }
        let resumed = response.status() == StatusCode::PARTIAL_CONTENT;
        match part {
            Some(part) if resumed && begins_at(&response, part.writer.size()) => {}
            _ if resumed => return Ok(Err(Failed::for_good("the server answers with a part that was not asked for"))),
            // The server begins anew.
            _ => {
                let sha512 = request.checksum.as_ref().is_some_and(|digest| digest.algorithm() == "sha512");
                let writer = store.blob_writer(lease)?;
                *part = Some(Part { writer, sha512: sha512.then(Sha512::new), validators: validators.clone() });
            }
        }
        let Some(part) = part else { return Ok(Err(Failed::for_good("nothing was begun"))) };
        Ok(fill(&mut response, part, cancelled)?.map(|()| Some(part.validators.clone())))
    }
}

fn headers(request: &DownloadRequest, part: Option<&Part>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let mut set = |name: HeaderName, value: &str| {
        // What a server sent as a header can be sent back as one.
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    };
    if let Some(text) = &request.authorization {
        set(AUTHORIZATION, text);
    }
    match part.and_then(|part| Some((part.writer.size(), part.validators.strong()?))) {
        Some((size, tag)) if size > 0 => {
            set(RANGE, &format!("bytes={size}-"));
            set(IF_RANGE, tag);
        }
        Some(_) => {}
        None if part.is_some() => {}
        None => {
            if let Some(tag) = &request.known.etag {
                set(IF_NONE_MATCH, tag);
            } else if let Some(date) = &request.known.last_modified {
                set(IF_MODIFIED_SINCE, date);
            }
        }
    }
    headers
}

/// `Content-Range: bytes 5-…`
fn begins_at(response: &Response, size: u64) -> bool {
    let range = response.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
    let first = range.and_then(|text| text.strip_prefix("bytes ")?.split_once('-')?.0.trim().parse::<u64>().ok());
    first == Some(size)
}

fn fill(response: &mut Response, part: &mut Part, cancelled: &dyn Fn() -> bool) -> Result<Result<(), Failed>> {
    let mut buffer = vec![0_u8; 256 * 1024];
    loop {
        let count = match response.read(&mut buffer) {
            Ok(count) => count,
            Err(error) => {
                let reason = format!("it broke off after {} bytes: {}", part.writer.size(), super::cause(&error));
                return Ok(Err(Failed::broken(reason)));
            }
        };
        let Some(bytes) = buffer.get(..count).filter(|bytes| !bytes.is_empty()) else { return Ok(Ok(())) };
        part.writer.write_all(bytes).map_err(Error::write("the store"))?;
        if let Some(hasher) = &mut part.sha512 {
            hasher.update(bytes);
        }
        if part.writer.size() > LIMIT {
            return Ok(Err(Failed::for_good(format!("it has more than {LIMIT} bytes"))));
        }
        if cancelled() {
            return Ok(Err(Failed::for_good("the build was stopped")));
        }
    }
}

/// Checks before anything gets a name.
fn finish(url: &Url, request: &DownloadRequest, part: Option<Part>, validators: Validators) -> Result<Downloaded> {
    let Some(part) = part else { return Err(Error::fetch(&shown(url), "nothing was begun".to_owned())) };
    let mismatch =
        |expected: &Digest, found: Digest| Error::Checksum { url: shown(url), expected: expected.clone(), found };
    if let (Some(hasher), Some(expected)) = (part.sha512, &request.checksum) {
        let hex: String = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        let found: Digest = format!("sha512:{hex}").parse()?;
        if found != *expected {
            return Err(mismatch(expected, found));
        }
    }
    let sha256 = request.checksum.as_ref().filter(|digest| digest.algorithm() == "sha256");
    match part.writer.commit(sha256) {
        Ok(blob) => Ok(Downloaded::New(Download { blob, validators })),
        Err(cache::Error::DigestMismatch { expected, found }) => Err(mismatch(&expected, found)),
        Err(error) => Err(error.into()),
    }
}

fn sleep(pause: Duration, cancelled: &dyn Fn() -> bool) {
    let until = std::time::Instant::now() + pause;
    while let Some(left) = until.checked_duration_since(std::time::Instant::now()).filter(|left| !left.is_zero()) {
        if cancelled() {
            return;
        }
        std::thread::sleep(left.min(SLICE));
    }
}
