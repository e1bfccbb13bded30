//! Who asks an object store: requests signed as Amazon's Signature Version 4 has it.

use std::fmt;

use reqwest::Url;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use ring::hmac;

use crate::error::{Error, Result};

/// A key of an object store.
#[derive(Clone, PartialEq, Eq)]
pub struct S3Credentials {
    /// Which key.
    pub access_key_id: String,
    /// The key itself.
    pub secret_access_key: String,
    /// Of a key that is good for some time.
    pub session_token: Option<String>,
}

/// Never the secret.
impl fmt::Debug for S3Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "S3Credentials({:?})", self.access_key_id)
    }
}

/// What is signed.
pub(super) struct Request<'a> {
    pub(super) method: &'a str,
    pub(super) url: &'a Url,
    /// SHA-256 of the body, in hexadecimal.
    pub(super) payload: &'a str,
    pub(super) region: &'a str,
    pub(super) time: jiff::Timestamp,
}

/// Adds what proves who we are; without a key nothing but the hash of the body is added.
pub(super) fn sign(request: &Request<'_>, credentials: Option<&S3Credentials>, headers: &mut HeaderMap) -> Result<()> {
    let time = request.time.strftime("%Y%m%dT%H%M%SZ").to_string();
    let day = time.get(..8).unwrap_or_default();
    let mut put = |name: &'static str, value: &str| {
        let value = HeaderValue::from_str(value)
            .map_err(|_| Error::Network(format!("the value of {name} cannot be sent as a header")))?;
        headers.insert(HeaderName::from_static(name), value);
        Ok::<(), Error>(())
    };
    put("x-amz-content-sha256", request.payload)?;
    let Some(credentials) = credentials else { return Ok(()) };
    put("x-amz-date", &time)?;
    if let Some(token) = &credentials.session_token {
        put("x-amz-security-token", token)?;
    }
    let scope = format!("{day}/{}/s3/aws4_request", request.region);
    let (canonical, signed) = canonical(request, credentials, &time);
    let text = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{}", sha256(canonical.as_bytes()));
    let mut key = format!("AWS4{}", credentials.secret_access_key).into_bytes();
    for part in [day, request.region, "s3", "aws4_request"] {
        key = hmac_of(&key, part);
    }
    let signature = hex(&hmac_of(&key, &text));
    let header = format!(
        "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={signed}, Signature={signature}",
        credentials.access_key_id
    );
    let mut value = HeaderValue::from_str(&header)
        .map_err(|_| Error::Network("the access key id cannot be sent as a header".to_owned()))?;
    value.set_sensitive(true);
    headers.insert(AUTHORIZATION, value);
    Ok(())
}

/// The canonical request, and the names of the headers in it.
fn canonical(request: &Request<'_>, credentials: &S3Credentials, time: &str) -> (String, &'static str) {
    let url = request.url;
    let host = match (url.host_str().unwrap_or_default(), url.port()) {
        (host, Some(port)) => format!("{host}:{port}"),
        (host, None) => host.to_owned(),
    };
    let mut pairs: Vec<(String, String)> =
        url.query_pairs().map(|(name, value)| (encoded(&name, false), encoded(&value, false))).collect();
    pairs.sort();
    let query: Vec<String> = pairs.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    let mut headers = format!("host:{host}\nx-amz-content-sha256:{}\nx-amz-date:{time}\n", request.payload);
    let mut signed = "host;x-amz-content-sha256;x-amz-date";
    if let Some(token) = &credentials.session_token {
        headers.push_str(&format!("x-amz-security-token:{token}\n"));
        signed = "host;x-amz-content-sha256;x-amz-date;x-amz-security-token";
    }
    let Request { method, payload, .. } = request;
    (format!("{method}\n{}\n{}\n{headers}\n{signed}\n{payload}", url.path(), query.join("&")), signed)
}

/// Every byte but the unreserved ones as `%XX`; a path keeps its slashes.
pub(super) fn encoded(text: &str, is_path: bool) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            b'/' if is_path => out.push('/'),
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

fn hmac_of(key: &[u8], text: &str) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes()).as_ref().to_vec()
}

/// In hexadecimal.
pub(super) fn sha256(bytes: &[u8]) -> String {
    hex(&<sha2::Sha256 as sha2::Digest>::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    /// Amazon's own example of a signed GET ("Signature Calculations for the Authorization Header", GET Bucket Lifecycle).
    #[test]
    fn requests_are_signed_as_the_specification_s_example() {
        let credentials = S3Credentials {
            access_key_id: "AKIAIOSFODNN7EXAMPLE".to_owned(),
            secret_access_key: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".to_owned(),
            session_token: None,
        };
        let url: Url = "https://examplebucket.s3.amazonaws.com/?lifecycle".parse().unwrap();
        let payload = sha256(b"");
        let time = "2013-05-24T00:00:00Z".parse().unwrap();
        let request = Request { method: "GET", url: &url, payload: &payload, region: "us-east-1", time };
        let mut headers = HeaderMap::new();
        sign(&request, Some(&credentials), &mut headers).unwrap();
        let header = headers[AUTHORIZATION].to_str().unwrap();
        assert!(
            header.ends_with("Signature=fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"),
            "{header}"
        );
        assert!(!format!("{credentials:?}").contains("wJalr"));
        assert_eq!(encoded("a b/c+ü", true), "a%20b/c%2B%C3%BC");
    }
}
