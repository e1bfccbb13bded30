//! Blobs going out: whole, in part, or only their head.

use std::sync::Arc;

use cache::{Digest, Reference};
use hyper::HeaderMap;
use hyper::header::{IF_NONE_MATCH, RANGE};

use super::body::Body;
use super::reply::{Answer, CONTENT_DIGEST, Code, Handled, Refused};
use super::{Server, blocking};

pub(super) async fn get(
    server: Arc<Server>,
    repository: Reference,
    digest: Digest,
    headers: &HeaderMap,
    is_head: bool,
) -> Handled {
    let wanted = digest.clone();
    let found = blocking(move || {
        let Some(blob) = server.hosted.blob(&repository, &wanted)? else { return Ok(None) };
        let file = blob.open()?;
        Ok(Some((blob, file)))
    });
    let Some((blob, file)) = found.await? else { return Err(unknown()) };
    let answer = |status| {
        let answer = Answer::new(status).header(CONTENT_DIGEST, digest.to_string());
        answer.header("etag", format!("\"{digest}\"")).header("accept-ranges", "bytes")
    };
    let same = headers.get(IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    if same.is_some_and(|same| same.contains(&digest.to_string())) {
        return Ok(answer(304).empty());
    }
    let range = headers.get(RANGE).and_then(|value| value.to_str().ok()).filter(|_| !is_head);
    let (status, from, to) = match range.map_or(Part::Whole, |range| part(range, blob.size)) {
        Part::Whole => (200, 0, blob.size),
        Part::Some(from, to) => (206, from, to),
        Part::Outside => {
            return Err(Refused::new(416, Code::SizeInvalid, "the blob has no such range")
                .with("content-range", format!("bytes */{}", blob.size)));
        }
    };
    let mut answer = answer(status).header("content-type", "application/octet-stream");
    if status == 206 {
        answer = answer.header("content-range", format!("bytes {from}-{}/{}", to - 1, blob.size));
    }
    if is_head {
        return Ok(answer.sized(blob.size));
    }
    let body = Body::file(file, from, to).map_err(|error| cache::Error::at("read", digest.hex(), error))?;
    Ok(answer.body(body))
}

pub(super) async fn delete(server: Arc<Server>, repository: Reference, digest: Digest) -> Handled {
    match blocking(move || Ok(server.hosted.unlink_blob(&repository, &digest)?)).await? {
        true => Ok(Answer::new(202).empty()),
        false => Err(unknown()),
    }
}

fn unknown() -> Refused {
    Refused::new(404, Code::BlobUnknown, "the repository has no such blob")
}

/// What a `Range` asks for (RFC 9110, section 14).
#[derive(Debug, PartialEq, Eq)]
enum Part {
    Whole,
    /// From the first byte to before the second.
    Some(u64, u64),
    Outside,
}

/// What cannot be read, and several ranges at once, count as no range.
fn part(range: &str, size: u64) -> Part {
    let Some((from, to)) = range.strip_prefix("bytes=").and_then(|range| range.trim().split_once('-')) else {
        return Part::Whole;
    };
    let number = |text: &str| match text.bytes().all(|byte| byte.is_ascii_digit()) {
        true => text.parse::<u64>().ok(),
        false => None,
    };
    match (from.is_empty(), to.is_empty(), number(from), number(to)) {
        (false, true, Some(from), _) if from < size => Part::Some(from, size),
        (false, true, Some(_), _) => Part::Outside,
        (false, false, Some(from), Some(to)) if from <= to => match from < size {
            true => Part::Some(from, to.saturating_add(1).min(size)),
            false => Part::Outside,
        },
        (true, false, _, Some(last)) => match last.min(size) {
            0 => Part::Outside,
            last => Part::Some(size - last, size),
        },
        _ => Part::Whole,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_http_has_them() {
        let cases = [
            ("bytes=0-3", Part::Some(0, 4)),
            ("bytes=4-", Part::Some(4, 10)),
            ("bytes=-3", Part::Some(7, 10)),
            ("bytes=-30", Part::Some(0, 10)),
            ("bytes=9-99", Part::Some(9, 10)),
            ("bytes=10-", Part::Outside),
            ("bytes=10-12", Part::Outside),
            ("bytes=-0", Part::Outside),
            ("bytes=5-4", Part::Whole),
            ("bytes=0-1,3-4", Part::Whole),
            ("bytes=+1-2", Part::Whole),
            ("bytes=-", Part::Whole),
            ("lines=1-2", Part::Whole),
            ("bytes=0-18446744073709551615", Part::Some(0, 10)),
        ];
        for (range, expected) in cases {
            assert_eq!(part(range, 10), expected, "{range}");
        }
        assert_eq!(part("bytes=0-", 0), Part::Outside);
    }
}
