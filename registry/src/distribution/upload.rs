//! A blob on its way to a registry, in pieces: after a cut it goes on from where the registry says that it is.

use std::sync::Arc;

use bytes::Bytes;
use cache::Digest;
use reqwest::blocking::Response;
use reqwest::header::{CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION, RANGE};
use reqwest::{Method, StatusCode, Url};

use super::endpoint::{Ask, Endpoint};
use super::refusal::{Cause, cause_of};
use super::repository::Repository;
use crate::http::retry::{Attempts, Wait};
use crate::http::{Failed, refused};

/// Bytes of one piece: what a cut may cost, and what is in memory.
pub(super) const PIECE: usize = 8 << 20;

/// What came of asking for an upload.
pub(super) enum Begun<'a> {
    /// The blob was taken over from another repository.
    Mounted,
    /// It has to be sent.
    Session(Upload<'a>),
}

/// Why an upload did not go on.
pub(super) enum Stopped {
    /// The registry has forgotten what it had: it can begin anew.
    Lost,
    /// The registry does not take it.
    Refused(Cause),
    /// This machine cannot give it.
    Here(crate::Error),
}

impl From<Cause> for Stopped {
    fn from(cause: Cause) -> Stopped {
        Stopped::Refused(cause)
    }
}

/// One upload.
pub(super) struct Upload<'a> {
    repository: &'a Repository,
    endpoint: Arc<Endpoint>,
    scope: String,
    location: String,
    /// Bytes that the registry has.
    sent: u64,
    piece: Vec<u8>,
    tell: &'a (dyn Fn(u64) + Sync),
}

impl<'a> Upload<'a> {
    /// Asks for an upload, or with `mount` for the blob of another repository.
    pub(super) fn begin(
        repository: &'a Repository,
        mount: Option<(&Digest, &str)>,
        tell: &'a (dyn Fn(u64) + Sync),
    ) -> Result<Begun<'a>, Cause> {
        let mut path = format!("v2/{}/blobs/uploads/", repository.name);
        let scope = repository.push_scope();
        let mut asked = scope.clone();
        if let Some((digest, from)) = mount {
            path.push_str(&format!("?mount={digest}&from={from}"));
            asked.push_str(&format!(" repository:{from}:pull"));
        }
        let mut ask = Ask::new(Method::POST, &path, &asked);
        ask.body = Some(Bytes::new());
        let response = repository.endpoint.send(&ask)?;
        match response.status() {
            StatusCode::CREATED if mount.is_some() => Ok(Begun::Mounted),
            StatusCode::ACCEPTED => {
                let endpoint = Arc::clone(&repository.endpoint);
                let location = location(&endpoint, &response)?;
                Ok(Begun::Session(Upload { repository, endpoint, scope, location, sent: 0, piece: Vec::new(), tell }))
            }
            _ => Err(repository.endpoint.refusal(response, "repository")),
        }
    }

    /// Takes bytes; a full piece goes on its way.
    pub(super) fn write(&mut self, mut bytes: &[u8]) -> Result<(), Stopped> {
        while !bytes.is_empty() {
            let count = bytes.len().min(PIECE - self.piece.len());
            let (now, later) = bytes.split_at(count);
            self.piece.extend_from_slice(now);
            bytes = later;
            // The last piece goes with the end.
            if self.piece.len() == PIECE && !bytes.is_empty() {
                self.send_piece()?;
            }
        }
        Ok(())
    }

    fn send_piece(&mut self) -> Result<(), Stopped> {
        let body = Bytes::from(std::mem::take(&mut self.piece));
        self.piece.reserve_exact(PIECE);
        self.endpoint.shared.take(body.len())?;
        self.transfer(Method::PATCH, body, None)
    }

    /// Sends what is left and gives the blob its name.
    pub(super) fn finish(mut self, digest: &Digest) -> Result<(), Stopped> {
        let body = Bytes::from(std::mem::take(&mut self.piece));
        self.endpoint.shared.take(body.len())?;
        self.transfer(Method::PUT, body, Some(digest))
    }

    /// Sends bytes until the registry has all of them.
    fn transfer(&mut self, method: Method, body: Bytes, digest: Option<&Digest>) -> Result<(), Stopped> {
        let end = self.sent + body.len() as u64;
        let mut attempts = Attempts::begin();
        loop {
            let from = usize::try_from(self.sent + body.len() as u64 - end).unwrap_or(0);
            let rest = body.slice(from.min(body.len())..);
            let failed = match self.request(method.clone(), rest, digest)? {
                Ok(response) => match response.status() {
                    status if status.is_success() => {
                        if digest.is_none() {
                            self.location = location(&self.endpoint, &response)?;
                        }
                        (self.tell)(end - self.sent);
                        self.sent = end;
                        return Ok(());
                    }
                    StatusCode::NOT_FOUND => return Err(Stopped::Lost),
                    // It has another idea of where we are.
                    StatusCode::RANGE_NOT_SATISFIABLE => Failed { wait: Wait::Briefly, ..refused(&response) },
                    _ => match refused(&response) {
                        failed if failed.wait == Wait::Never => {
                            return Err(Stopped::Refused(self.endpoint.refusal(response, "repository")));
                        }
                        failed => failed,
                    },
                },
                Err(failed) => failed,
            };
            let Some(pause) = attempts.next(failed.wait) else { return Err(Stopped::Refused(cause_of(&failed))) };
            self.endpoint.pause(pause)?;
            // Who was cut at the last word does not know whether it was heard.
            if let Some(digest) = digest
                && self.repository.has_blob(digest, &self.scope)?
            {
                return Ok(());
            }
            let there = self.ask_where()?;
            // Of an upload with nothing in it registries say the same as of one with a single byte.
            if there < self.sent || there > end || there == 1 {
                return Err(Stopped::Lost);
            }
            (self.tell)(there - self.sent);
            self.sent = there;
        }
    }

    fn request(&self, method: Method, body: Bytes, digest: Option<&Digest>) -> Result<Result<Response, Failed>, Cause> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        if !body.is_empty() && (self.sent > 0 || digest.is_none()) {
            let range = format!("{}-{}", self.sent, self.sent + body.len() as u64 - 1);
            if let Ok(value) = HeaderValue::from_str(&range) {
                headers.insert(CONTENT_RANGE, value);
            }
        }
        let path = match digest {
            Some(digest) => {
                let mut url: Url = self.location.parse().map_err(|_| improper())?;
                url.query_pairs_mut().append_pair("digest", &digest.to_string());
                url.to_string()
            }
            None => self.location.clone(),
        };
        self.endpoint.send_once(&Ask { method, path: &path, headers, body: Some(body), scope: &self.scope })
    }

    /// How many bytes the registry has.
    fn ask_where(&mut self) -> Result<u64, Stopped> {
        let response = self.endpoint.send(&Ask::new(Method::GET, &self.location, &self.scope))?;
        match response.status() {
            StatusCode::NO_CONTENT | StatusCode::OK | StatusCode::ACCEPTED => {}
            StatusCode::NOT_FOUND => return Err(Stopped::Lost),
            _ => return Err(Stopped::Refused(self.endpoint.refusal(response, "repository"))),
        }
        if response.headers().contains_key(LOCATION) {
            self.location = location(&self.endpoint, &response)?;
        }
        let range = response.headers().get(RANGE).and_then(|value| value.to_str().ok());
        let last =
            range.and_then(|text| text.trim_start_matches("bytes=").split_once('-')?.1.trim().parse::<u64>().ok());
        Ok(last.map_or(0, |last| last.saturating_add(1)))
    }
}

fn improper() -> Cause {
    Cause::Invalid("it names no place for an upload".to_owned())
}

/// Where the upload goes on, as a whole URL. From https it never leads to http.
fn location(endpoint: &Endpoint, response: &Response) -> Result<String, Cause> {
    let text = response.headers().get(LOCATION).and_then(|value| value.to_str().ok()).ok_or_else(improper)?;
    let url = response.url().join(text).map_err(|_| improper())?;
    let base = endpoint.base()?;
    if !matches!(url.scheme(), "https" | "http") || (base.scheme() == "https" && url.scheme() == "http") {
        return Err(Cause::Invalid("it wants an upload sent without https".to_owned()));
    }
    Ok(url.to_string())
}
