//! Bodies of answers and requests: bytes, or a part of a file that is read ahead by one piece.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Frame, Incoming, SizeHint};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use super::reply::{Code, Refused};

/// Bytes that are read from a file at once.
const PIECE: usize = 512 << 10;
/// How long a client may be silent within a body.
const SILENCE: Duration = Duration::from_secs(30);
/// Fewest bytes of a body in a window of time.
const WINDOW: Duration = Duration::from_secs(30);
const FEWEST: usize = 4 << 10;

/// What an answer holds.
#[derive(Debug)]
pub(crate) enum Body {
    /// Bytes; taken when they are sent.
    Bytes(Bytes),
    /// A part of a file.
    File(FilePart),
}

/// So many bytes of a file from where it stands.
#[derive(Debug)]
pub(crate) struct FilePart {
    left: u64,
    reading: Option<JoinHandle<io::Result<(File, Bytes)>>>,
}

impl Body {
    pub(crate) fn empty() -> Body {
        Body::Bytes(Bytes::new())
    }

    /// Bytes `from` to before `to` of a file.
    pub(crate) fn file(mut file: File, from: u64, to: u64) -> io::Result<Body> {
        file.seek(SeekFrom::Start(from))?;
        let left = to.saturating_sub(from);
        let reading = (left > 0).then(|| read(file, left));
        Ok(Body::File(FilePart { left, reading }))
    }
}

fn read(mut file: File, left: u64) -> JoinHandle<io::Result<(File, Bytes)>> {
    tokio::task::spawn_blocking(move || {
        let size = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
        let mut bytes = vec![0; size];
        file.read_exact(&mut bytes)?;
        Ok((file, Bytes::from(bytes)))
    })
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match &mut *self {
            Body::Bytes(bytes) if bytes.is_empty() => Poll::Ready(None),
            Body::Bytes(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Body::File(part) => {
                let Some(reading) = &mut part.reading else { return Poll::Ready(None) };
                let read_now =
                    ready!(Pin::new(reading).poll(context)).unwrap_or_else(|error| Err(io::Error::other(error)));
                part.reading = None;
                Poll::Ready(Some(read_now.map(|(file, bytes)| {
                    part.left -= bytes.len() as u64;
                    part.reading = (part.left > 0).then(|| read(file, part.left));
                    Frame::data(bytes)
                })))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Body::Bytes(bytes) => bytes.is_empty(),
            Body::File(part) => part.reading.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Body::Bytes(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Body::File(part) => SizeHint::with_exact(part.left),
        }
    }
}

/// A request's body, which has to come at some pace.
#[derive(Debug)]
pub(crate) struct Incomer {
    body: Incoming,
    since: Instant,
    bytes: usize,
}

impl Incomer {
    pub(crate) fn new(body: Incoming) -> Incomer {
        Incomer { body, since: Instant::now(), bytes: 0 }
    }

    /// Some bytes more; `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Refused> {
        loop {
            let frame =
                std::future::poll_fn(|context| hyper::body::Body::poll_frame(Pin::new(&mut self.body), context));
            let frame = match timeout(SILENCE, frame).await {
                Ok(Some(Ok(frame))) => frame,
                Ok(None) => return Ok(None),
                Ok(Some(Err(_))) => return Err(Refused::new(400, Code::BlobUploadInvalid, "the request broke off")),
                Err(_) => return Err(slow()),
            };
            let Ok(bytes) = frame.into_data() else { continue };
            self.bytes += bytes.len();
            if self.bytes >= FEWEST {
                (self.since, self.bytes) = (Instant::now(), 0);
            } else if self.since.elapsed() >= WINDOW {
                return Err(slow());
            }
            if !bytes.is_empty() {
                return Ok(Some(bytes));
            }
        }
    }

    /// All of it, when it is no more than `limit`.
    pub(crate) async fn all(mut self, limit: usize) -> Result<Vec<u8>, Refused> {
        let mut all = Vec::new();
        while let Some(bytes) = self.next().await? {
            if all.len() + bytes.len() > limit {
                let sentence = format!("a manifest has at most {} MiB", limit >> 20);
                return Err(Refused::new(413, Code::ManifestInvalid, sentence));
            }
            all.extend_from_slice(&bytes);
        }
        Ok(all)
    }
}

fn slow() -> Refused {
    Refused::new(408, Code::BlobUploadInvalid, "the request's body comes too slowly")
}
