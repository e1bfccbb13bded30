//! Blobs coming in: at once, in one stream, or in pieces that may come hours apart.

use std::io::Write;
use std::sync::Arc;

use bytes::Bytes;
use cache::{Digest, HostedWriter, Reference};
use hyper::HeaderMap;
use hyper::header::{CONTENT_LENGTH, CONTENT_RANGE};
use tokio::sync::mpsc;

use super::body::Incomer;
use super::reply::{Answer, CONTENT_DIGEST, Code, Handled, Refused, full};
use super::route::{Query, repository as parse_repository};
use super::{Server, blocking};

/// Bytes that the disk must keep free.
const RESERVE: u64 = 256 << 20;
/// How often that is looked at within a body.
const LOOK: u64 = 64 << 20;
/// Bytes that are read of a body which is refused: two pieces of most clients.
const HEARD_OUT: usize = 16 << 20;
/// Pieces of a body that wait to be written.
const WAITING: usize = 8;

/// `POST …/blobs/uploads/`: takes over, takes all at once, or begins.
pub(super) async fn begin(
    server: Arc<Server>,
    repository: Reference,
    query: &Query,
    headers: &HeaderMap,
    mut body: Incomer,
) -> Handled {
    if let (Some(mount), Some(from)) = (query.get("mount"), query.get("from")) {
        let digest: Digest =
            mount.parse().map_err(|error: cache::Error| Refused::new(400, Code::DigestInvalid, error.to_string()))?;
        // A place that cannot be, like one that does not have it, is answered with an upload.
        if let Ok(from) = parse_repository(from) {
            let (shared, to, wanted) = (Arc::clone(&server), repository.clone(), digest.clone());
            if blocking(move || Ok(shared.hosted.mount(&to, &from, &wanted)?)).await? {
                return Ok(created(&path_name(&repository), digest));
            }
        }
    }
    let digest = query.digest()?;
    or_heard(room(&server, headers), &mut body).await?;
    let writer = {
        let server = Arc::clone(&server);
        blocking(move || server.sessions.begin(&server.hosted)).await?
    };
    let id = writer.id().to_owned();
    let Some(digest) = digest else {
        server.sessions.give_back(writer);
        return Ok(session(202, &repository, &id, 0));
    };
    receive(&server, writer, body, None).await?;
    commit(server, repository, id, digest).await
}

/// `PATCH`: a piece, or all of it as a stream.
pub(super) async fn piece(
    server: Arc<Server>,
    repository: Reference,
    id: String,
    headers: &HeaderMap,
    mut body: Incomer,
) -> Handled {
    or_heard(room(&server, headers), &mut body).await?;
    let (writer, length) = or_heard(take(&server, &repository, &id, headers).await, &mut body).await?;
    let size = receive(&server, writer, body, length).await?;
    Ok(session(202, &repository, &id, size))
}

/// `PUT`: the last piece, which may be nothing, and the name.
pub(super) async fn finish(
    server: Arc<Server>,
    repository: Reference,
    id: String,
    query: &Query,
    headers: &HeaderMap,
    mut body: Incomer,
) -> Handled {
    let missing = || Refused::new(400, Code::DigestInvalid, "the end of an upload needs ?digest=");
    let digest = query.digest()?.ok_or_else(missing)?;
    or_heard(room(&server, headers), &mut body).await?;
    let (writer, length) = or_heard(take(&server, &repository, &id, headers).await, &mut body).await?;
    receive(&server, writer, body, length).await?;
    commit(server, repository, id, digest).await
}

/// `GET`: how far it is.
pub(super) async fn look(server: Arc<Server>, repository: Reference, id: String) -> Handled {
    let known = id.clone();
    let size = blocking(move || {
        let writer = server.sessions.take(&server.hosted, &known)?;
        let size = writer.size();
        server.sessions.give_back(writer);
        Ok(size)
    });
    Ok(session(204, &repository, &id, size.await?))
}

/// `DELETE`.
pub(super) async fn cancel(server: Arc<Server>, id: String) -> Handled {
    blocking(move || {
        server.sessions.take(&server.hosted, &id)?.discard();
        server.sessions.forget(&id);
        Ok(Answer::new(204).empty())
    })
    .await
}

/// Takes an upload for this request, where the piece is the next one. Gives the length that the piece must have too.
async fn take(
    server: &Arc<Server>,
    repository: &Reference,
    id: &str,
    headers: &HeaderMap,
) -> Result<(HostedWriter, Option<u64>), Refused> {
    let range = headers.get(CONTENT_RANGE).map(|value| {
        let bad = || Refused::new(400, Code::BlobUploadInvalid, "Content-Range has to be FIRST-LAST");
        value.to_str().ok().and_then(content_range).ok_or_else(bad)
    });
    let range = range.transpose()?;
    let (shared, known) = (Arc::clone(server), id.to_owned());
    let writer = blocking(move || shared.sessions.take(&shared.hosted, &known)).await?;
    let Some((first, last)) = range else { return Ok((writer, None)) };
    let size = writer.size();
    let length = (last + 1).saturating_sub(first);
    if first != size || content_length(headers).is_some_and(|given| given != length) {
        server.sessions.give_back(writer);
        return Err(Refused::new(416, Code::BlobUploadInvalid, format!("the upload goes on at byte {size}"))
            .with("range", last_range(size))
            .with("location", place(repository, id))
            .with("docker-upload-uuid", id));
    }
    Ok((writer, Some(length)))
}

/// Writes a body to an upload, and gives its size then. What came before a cut stays.
async fn receive(
    server: &Arc<Server>,
    writer: HostedWriter,
    mut body: Incomer,
    length: Option<u64>,
) -> Result<u64, Refused> {
    let (pieces, queue) = mpsc::channel::<Bytes>(WAITING);
    let shared = Arc::clone(server);
    // It ends with the channel: also when the client is gone, and this function with it.
    let writing = tokio::task::spawn_blocking(move || write(&shared, writer, queue));
    let mut left = length;
    let received = loop {
        match body.next().await {
            Ok(Some(bytes)) => {
                if let Some(left) = &mut left {
                    let Some(rest) = left.checked_sub(bytes.len() as u64) else {
                        break Err(Refused::new(400, Code::SizeInvalid, "the piece is longer than its Content-Range"));
                    };
                    *left = rest;
                }
                if pieces.send(bytes).await.is_err() {
                    hear_out(&mut body).await;
                    break Ok(());
                }
            }
            Ok(None) if left.is_some_and(|left| left > 0) => {
                break Err(Refused::new(400, Code::SizeInvalid, "the piece is shorter than its Content-Range"));
            }
            Ok(None) => break Ok(()),
            Err(refused) => break Err(refused),
        }
    };
    drop(pieces);
    // Why it was not written is the better answer.
    let size = writing.await.unwrap_or_else(|_| Err(Refused::defect()))?;
    received.map(|()| size)
}

/// A refusal, but only when the client has sent what it was sending.
async fn or_heard<T>(result: Result<T, Refused>, body: &mut Incomer) -> Result<T, Refused> {
    if result.is_err() {
        hear_out(body).await;
    }
    result
}

/// Reads what nobody takes: who still sends when the answer comes may see the end of the connection instead of it.
async fn hear_out(body: &mut Incomer) {
    let mut heard = 0;
    while heard < HEARD_OUT
        && let Ok(Some(bytes)) = body.next().await
    {
        heard += bytes.len();
    }
}

fn write(server: &Server, mut writer: HostedWriter, mut queue: mpsc::Receiver<Bytes>) -> Result<u64, Refused> {
    let mut looked = writer.size();
    let mut failed = Ok(());
    while let Some(bytes) = queue.blocking_recv() {
        failed = writer.write_all(&bytes).map_err(|error| cache::Error::at("write", "an upload", error).into());
        if failed.is_ok() && writer.size() - looked >= LOOK {
            looked = writer.size();
            failed = if has_room(server, 0) { Ok(()) } else { Err(full()) };
        }
        if failed.is_err() {
            break;
        }
    }
    let size = writer.size();
    server.sessions.give_back(writer);
    failed.map(|()| size)
}

async fn commit(server: Arc<Server>, repository: Reference, id: String, digest: Digest) -> Handled {
    let place = repository.clone();
    let blob = blocking(move || {
        let writer = server.sessions.take(&server.hosted, &id)?;
        let committed = writer.commit(&repository, Some(&digest));
        server.sessions.forget(&id);
        Ok(committed?)
    });
    Ok(created(&path_name(&place), blob.await?.digest))
}

fn created(name: &str, digest: Digest) -> hyper::Response<super::body::Body> {
    let answer = Answer::new(201).header("location", format!("/v2/{name}/blobs/{digest}"));
    answer.header(CONTENT_DIGEST, digest.to_string()).empty()
}

fn session(status: u16, repository: &Reference, id: &str, size: u64) -> hyper::Response<super::body::Body> {
    let answer = Answer::new(status).header("location", place(repository, id)).header("range", last_range(size));
    answer.header("docker-upload-uuid", id).empty()
}

fn place(repository: &Reference, id: &str) -> String {
    format!("/v2/{}/blobs/uploads/{id}", path_name(repository))
}

/// The name of a repository in paths.
pub(super) fn path_name(repository: &Reference) -> String {
    repository.familiar_name()
}

/// Of an empty upload docker's registry says the same as of one byte, and clients know it so.
fn last_range(size: u64) -> String {
    format!("0-{}", size.saturating_sub(1))
}

fn content_range(text: &str) -> Option<(u64, u64)> {
    let text = text.trim().strip_prefix("bytes ").unwrap_or(text.trim());
    let (first, last) = text.split('/').next()?.split_once('-')?;
    let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    (first <= last && last < u64::MAX).then_some((first, last))
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn room(server: &Server, headers: &HeaderMap) -> Result<(), Refused> {
    if has_room(server, content_length(headers).unwrap_or(0)) { Ok(()) } else { Err(full()) }
}

fn has_room(server: &Server, wanted: u64) -> bool {
    server.store.free_space().is_none_or(|free| free >= wanted.saturating_add(RESERVE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges_have_two_forms() {
        assert_eq!(content_range("0-5"), Some((0, 5)));
        assert_eq!(content_range("bytes 6-9/10"), Some((6, 9)));
        for bad in ["", "5", "5-", "-5", "6-5", "a-b", "0-18446744073709551615"] {
            assert_eq!(content_range(bad), None, "{bad}");
        }
    }
}
