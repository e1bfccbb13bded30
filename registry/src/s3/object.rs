//! Objects of one bucket: get, put, look; tried again when the network or the store had a bad moment.

use std::fs::File;
use std::io::{self, Read};
use std::time::{Duration, Instant};

use bytes::Bytes;
use cache::Descriptor;
use reqwest::blocking::Response;
use reqwest::header::{CONTENT_LENGTH, ETAG, HeaderMap, HeaderValue, RANGE};
use reqwest::{Method, StatusCode, Url};

use super::sign::{Request, S3Credentials, encoded, sha256, sign};
use super::{Cancelled, S3Environment, S3Place};
use crate::http::retry::{Attempts, Wait};
use crate::http::{Exchange, Failed, Http, HttpOptions, bounded, cause, refused};

/// Where no region is said.
const REGION: &str = "us-east-1";
/// Bytes of one part of a large object: what is in memory, and what a failure costs. The protocol wants 5 MiB at least.
const PART: usize = 8 << 20;
/// Most parts that the protocol has.
const PARTS: u64 = 10_000;
/// Most bytes of an answer in words.
const WORDS: u64 = 64 << 10;
/// How often a pause looks whether it is still wanted.
const SLICE: Duration = Duration::from_millis(50);

/// The objects below a prefix of a bucket.
pub(super) struct Objects {
    http: Http,
    /// The bucket.
    base: Url,
    prefix: String,
    region: String,
    credentials: Option<S3Credentials>,
    cancelled: Cancelled,
}

impl std::fmt::Debug for Objects {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Objects")
            .field("base", &self.base.as_str())
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

/// What became of a request, or why it failed, in words.
type Answer<T> = Result<T, String>;

impl Objects {
    pub(super) fn new(
        place: &S3Place,
        environment: &S3Environment,
        options: &HttpOptions,
        cancelled: Cancelled,
    ) -> Answer<Objects> {
        let region = place.region.as_ref().or(environment.region.as_ref()).map_or(REGION, String::as_str).to_owned();
        let endpoint = place.endpoint.as_ref().or(environment.endpoint.as_ref());
        let base = base(&place.bucket, &region, endpoint.map(String::as_str), place.path_style)?;
        let mut prefix = place.prefix.clone();
        if !prefix.is_empty() && !prefix.ends_with('/') {
            prefix.push('/');
        }
        let http = Http::new(options).map_err(|error| error.to_string())?;
        let credentials = place.credentials.clone().or_else(|| environment.credentials.clone());
        Ok(Objects { http, base, prefix, region, credentials, cancelled })
    }

    fn url(&self, key: &str, query: &[(&str, &str)]) -> Answer<Url> {
        let path = encoded(&format!("{}{key}", self.prefix), true);
        let mut url = self.base.join(&path).map_err(|error| format!("{key} makes no URL: {error}"))?;
        if !query.is_empty() {
            let pairs: Vec<String> = query
                .iter()
                .map(|(name, value)| format!("{}={}", encoded(name, false), encoded(value, false)))
                .collect();
            url.set_query(Some(&pairs.join("&")));
        }
        Ok(url)
    }

    /// One request until it has an answer that another attempt would not change.
    fn send(&self, method: &Method, url: &Url, mut headers: HeaderMap, body: Option<Bytes>) -> Answer<Response> {
        let payload = sha256(body.as_deref().unwrap_or_default());
        let mut attempts = Attempts::begin();
        loop {
            if (self.cancelled)() {
                return Err("it was stopped".to_owned());
            }
            let time = jiff::Timestamp::now();
            let request = Request { method: method.as_str(), url, payload: &payload, region: &self.region, time };
            sign(&request, self.credentials.as_ref(), &mut headers).map_err(|error| error.to_string())?;
            let exchange = Exchange { method: method.clone(), url, headers: headers.clone(), body: body.clone() };
            let failed = match self.http.exchange(exchange) {
                Ok(response) => match refused(&response) {
                    failed if failed.wait == Wait::Never => return Ok(response),
                    failed => failed,
                },
                Err(failed) => failed,
            };
            self.pause(&mut attempts, &failed)?;
        }
    }

    /// Waits for the next attempt, or tells that there is none.
    fn pause(&self, attempts: &mut Attempts, failed: &Failed) -> Answer<()> {
        let pause = attempts.next(failed.wait).ok_or_else(|| failed.reason.clone())?;
        let until = Instant::now() + pause;
        while let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            if (self.cancelled)() {
                return Err("it was stopped".to_owned());
            }
            std::thread::sleep(left.min(SLICE));
        }
        Ok(())
    }

    fn get_range(&self, key: &str, from: u64) -> Answer<Response> {
        let mut headers = HeaderMap::new();
        if from > 0
            && let Ok(range) = HeaderValue::from_str(&format!("bytes={from}-"))
        {
            headers.insert(RANGE, range);
        }
        self.send(&Method::GET, &self.url(key, &[])?, headers, None)
    }

    /// A small object; `None` where there is none.
    pub(super) fn get(&self, key: &str, limit: u64) -> Answer<Option<Vec<u8>>> {
        let response = self.get_range(key, 0)?;
        match response.status() {
            StatusCode::OK => bounded(response, limit).map(Some).map_err(|failed| failed.reason),
            StatusCode::NOT_FOUND => absent(response).map(|()| None),
            _ => Err(words(response)),
        }
    }

    /// The bytes of an object; `None` where there is none.
    pub(super) fn size(&self, key: &str) -> Answer<Option<u64>> {
        let response = self.send(&Method::HEAD, &self.url(key, &[])?, HeaderMap::new(), None)?;
        match response.status() {
            StatusCode::OK => {
                let length = response.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
                Ok(length.and_then(|text| text.parse().ok()))
            }
            StatusCode::NOT_FOUND => Ok(None),
            _ => Err(words(response)),
        }
    }

    /// Writes an object; it appears whole.
    pub(super) fn put(&self, key: &str, bytes: Bytes) -> Answer<()> {
        let response = self.send(&Method::PUT, &self.url(key, &[])?, HeaderMap::new(), Some(bytes))?;
        if response.status().is_success() { Ok(()) } else { Err(words(response)) }
    }

    /// Writes what may be large, part by part.
    pub(super) fn put_file(&self, key: &str, file: &mut File, blob: &Descriptor) -> Answer<()> {
        if blob.size <= PART as u64 {
            return self.put(key, part(file)?);
        }
        if blob.size.div_ceil(PART as u64) > PARTS {
            return Err(format!("a layer of {} bytes is more than an object can have here", blob.size));
        }
        let begun =
            self.send(&Method::POST, &self.url(key, &[("uploads", "")])?, HeaderMap::new(), Some(Bytes::new()))?;
        let upload = element(&answered(begun)?, "UploadId").ok_or("it gives no id for an upload")?;
        let sent = self.put_parts(key, file, &upload);
        if sent.is_err() {
            // What is left of it costs its owner, not us: the store's own rules remove it too.
            let _ = self.send(&Method::DELETE, &self.url(key, &[("uploadId", &upload)])?, HeaderMap::new(), None);
        }
        sent
    }

    fn put_parts(&self, key: &str, file: &mut File, upload: &str) -> Answer<()> {
        let mut list = String::from("<CompleteMultipartUpload>");
        for number in 1.. {
            let bytes = part(file)?;
            if bytes.is_empty() {
                break;
            }
            let number = number.to_string();
            let url = self.url(key, &[("partNumber", &number), ("uploadId", upload)])?;
            let response = self.send(&Method::PUT, &url, HeaderMap::new(), Some(bytes))?;
            if !response.status().is_success() {
                return Err(words(response));
            }
            let tag = response.headers().get(ETAG).and_then(|value| value.to_str().ok());
            let tag = tag.ok_or("it gives no tag for a part")?.replace('&', "&amp;").replace('<', "&lt;");
            list.push_str(&format!("<Part><PartNumber>{number}</PartNumber><ETag>{tag}</ETag></Part>"));
        }
        list.push_str("</CompleteMultipartUpload>");
        let url = self.url(key, &[("uploadId", upload)])?;
        let answer = answered(self.send(&Method::POST, &url, HeaderMap::new(), Some(list.into()))?)?;
        // A success may turn out to be none while it is told.
        match element(&answer, "Code") {
            Some(code) if answer.contains("<Error>") => Err(format!("it does not put the parts together: {code}")),
            _ => Ok(()),
        }
    }
}

/// An object on its way, which goes on after a cut.
pub(super) struct ObjectReader<'a> {
    objects: &'a Objects,
    key: String,
    at: u64,
    size: u64,
    response: Option<Response>,
    attempts: Attempts,
}

impl<'a> ObjectReader<'a> {
    pub(super) fn new(objects: &'a Objects, key: String, size: u64) -> Self {
        ObjectReader { objects, key, at: 0, size, response: None, attempts: Attempts::begin() }
    }

    fn open(&self) -> Answer<Response> {
        let response = self.objects.get_range(&self.key, self.at)?;
        let wanted = if self.at > 0 { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK };
        match response.status() {
            status if status == wanted => Ok(response),
            StatusCode::OK => Err("it breaks off, and cannot go on where it did".to_owned()),
            StatusCode::NOT_FOUND => Err("the bytes of a layer are not there".to_owned()),
            _ => Err(words(response)),
        }
    }
}

impl Read for ObjectReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.size - self.at).unwrap_or(usize::MAX).min(buffer.len());
        let Some(wanted) = buffer.get_mut(..left).filter(|wanted| !wanted.is_empty()) else { return Ok(0) };
        loop {
            let mut response = match self.response.take() {
                Some(response) => response,
                None => self.open().map_err(io::Error::other)?,
            };
            let reason = match response.read(wanted) {
                Ok(count) if count > 0 => {
                    self.at += count as u64;
                    self.response = Some(response);
                    return Ok(count);
                }
                Ok(_) => "the answer ended too early".to_owned(),
                Err(error) => cause(&error),
            };
            self.objects.pause(&mut self.attempts, &Failed::broken(reason)).map_err(io::Error::other)?;
        }
    }
}

/// The URL of a bucket.
fn base(bucket: &str, region: &str, endpoint: Option<&str>, path_style: Option<bool>) -> Answer<Url> {
    let amazon = format!("https://s3.{region}.amazonaws.com/");
    let text = endpoint.unwrap_or(&amazon);
    let mut url: Url = text.parse().map_err(|error| format!("endpoint_url={text} is no URL: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("endpoint_url={text} must be of http or https"));
    }
    // Other services have buckets in their paths more often than names for each.
    if path_style.unwrap_or(endpoint.is_some()) {
        let path = format!("{}/{}/", url.path().trim_end_matches('/'), encoded(bucket, false));
        url.set_path(&path);
    } else {
        let host = format!("{bucket}.{}", url.host_str().unwrap_or_default());
        url.set_host(Some(&host)).map_err(|_| format!("the bucket {bucket} cannot be part of a host's name"))?;
    }
    Ok(url)
}

/// The next part of a file; empty at its end.
fn part(file: &mut File) -> Answer<Bytes> {
    let mut bytes = Vec::new();
    let read = file.take(PART as u64).read_to_end(&mut bytes);
    read.map_err(|error| format!("the packed layer cannot be read: {error}"))?;
    Ok(bytes.into())
}

fn answered(response: Response) -> Answer<String> {
    if !response.status().is_success() {
        return Err(words(response));
    }
    let bytes = bounded(response, WORDS).map_err(|failed| failed.reason)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// That an object is not there is said so; that the bucket is not, as well.
fn absent(response: Response) -> Answer<()> {
    let bytes = bounded(response, WORDS).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    match element(&text, "Code").as_deref() {
        Some("NoSuchBucket") => Err("there is no such bucket".to_owned()),
        _ => Ok(()),
    }
}

/// What an answer that is no success says.
fn words(response: Response) -> String {
    let status = response.status();
    let bytes = bounded(response, WORDS).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let code = element(&text, "Code").unwrap_or_default();
    let help = match status {
        StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED => {
            "; give access_key_id and secret_access_key, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        }
        _ => "",
    };
    let code: String = code.chars().filter(char::is_ascii_alphanumeric).take(60).collect();
    if code.is_empty() {
        format!("the server answers {status}{help}")
    } else {
        format!("the server answers {status} ({code}){help}")
    }
}

/// The text of the first element of this name: all that is read of these answers are words without markup.
fn element(text: &str, name: &str) -> Option<String> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    let (value, _) = rest.split_once(&format!("</{name}>"))?;
    Some(value.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&amp;", "&"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_hosts_at_amazon_and_paths_elsewhere() {
        let of = |endpoint, style| base("b", "eu-west-1", endpoint, style).map(|url| url.to_string());
        assert_eq!(of(None, None).unwrap(), "https://b.s3.eu-west-1.amazonaws.com/");
        assert_eq!(of(None, Some(true)).unwrap(), "https://s3.eu-west-1.amazonaws.com/b/");
        assert_eq!(of(Some("http://127.0.0.1:9000"), None).unwrap(), "http://127.0.0.1:9000/b/");
        assert_eq!(of(Some("https://s.example/x"), Some(false)).unwrap(), "https://b.s.example/x");
        assert!(of(Some("ftp://s.example"), None).is_err());
        let answer = "<Error><Code>NoSuchKey</Code><Message>a &amp; b</Message></Error>";
        assert_eq!(element(answer, "Message").as_deref(), Some("a & b"));
        assert_eq!(element(answer, "Other"), None);
    }
}
