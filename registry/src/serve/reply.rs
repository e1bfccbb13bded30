//! Answers: the error document of the specification, and its codes.

use bytes::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use serde_json::json;

use super::body::Body;
use crate::error::Error;

/// What a handler gives.
pub(crate) type Handled = Result<Response<Body>, Refused>;

/// The header with a document's digest.
pub(crate) const CONTENT_DIGEST: &str = "docker-content-digest";

macro_rules! codes {
    ($($name:ident = $text:literal,)*) => {
        /// Error codes (distribution-spec, "Error Codes").
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[allow(missing_docs)]
        pub(crate) enum Code { $($name,)* }

        impl Code {
            pub(crate) fn as_str(self) -> &'static str {
                match self { $(Code::$name => $text,)* }
            }
        }
    };
}

codes! {
    BlobUnknown = "BLOB_UNKNOWN",
    BlobUploadInvalid = "BLOB_UPLOAD_INVALID",
    BlobUploadUnknown = "BLOB_UPLOAD_UNKNOWN",
    DigestInvalid = "DIGEST_INVALID",
    ManifestBlobUnknown = "MANIFEST_BLOB_UNKNOWN",
    ManifestInvalid = "MANIFEST_INVALID",
    ManifestUnknown = "MANIFEST_UNKNOWN",
    NameInvalid = "NAME_INVALID",
    NameUnknown = "NAME_UNKNOWN",
    PaginationInvalid = "PAGINATION_NUMBER_INVALID",
    SizeInvalid = "SIZE_INVALID",
    TooManyRequests = "TOOMANYREQUESTS",
    Unauthorized = "UNAUTHORIZED",
    Unknown = "UNKNOWN",
    Unsupported = "UNSUPPORTED",
}

/// Why a request is not done.
#[derive(Debug)]
pub(crate) struct Refused {
    status: u16,
    code: Code,
    message: String,
    headers: Vec<(&'static str, String)>,
    /// What only the owner of the server should read.
    detail: Option<String>,
}

impl Refused {
    pub(crate) fn new(status: u16, code: Code, message: impl Into<String>) -> Refused {
        Refused { status, code, message: message.into(), headers: Vec::new(), detail: None }
    }

    #[must_use]
    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Refused {
        self.headers.push((name, value.into()));
        self
    }

    /// Something of ours stopped; the panic's own words are on standard error.
    pub(crate) fn defect() -> Refused {
        Refused::new(500, Code::Unknown, "the registry has a defect")
    }

    /// The method is none for this path, or none at this server.
    pub(crate) fn method(allowed: &str) -> Refused {
        Refused::new(405, Code::Unsupported, "this is not done here").with("allow", allowed)
    }

    /// The machine fails. Its paths are not for clients.
    fn failing(error: &impl std::fmt::Display) -> Refused {
        let refused = Refused::new(500, Code::Unknown, "the registry's store fails");
        Refused { detail: Some(error.to_string()), ..refused }
    }

    /// What to tell the owner of the server.
    pub(crate) fn take_detail(&mut self) -> Option<String> {
        self.detail.take()
    }

    pub(crate) fn response(self) -> Response<Body> {
        let document = json!({ "errors": [{ "code": self.code.as_str(), "message": self.message }] });
        let mut answer = Answer::new(self.status).header("content-type", "application/json");
        for (name, value) in self.headers {
            answer = answer.header(name, value);
        }
        answer.bytes(document.to_string())
    }
}

/// A full disk is told so that clients do not try again at once; what else fails here is ours.
impl From<cache::Error> for Refused {
    fn from(error: cache::Error) -> Refused {
        match error {
            error if error.is_disk_full() => Refused { detail: Some(error.to_string()), ..full() },
            cache::Error::DigestMismatch { .. } => Refused::new(400, Code::DigestInvalid, error.to_string()),
            error => Refused::failing(&error),
        }
    }
}

impl From<Error> for Refused {
    fn from(error: Error) -> Refused {
        match error {
            Error::Store(error) => error.into(),
            error => Refused::failing(&error),
        }
    }
}

/// The disk has no room.
pub(crate) fn full() -> Refused {
    Refused::new(413, Code::SizeInvalid, "the registry's disk has no room for it")
}

/// An answer that is being made.
#[derive(Debug)]
pub(crate) struct Answer {
    response: Response<Body>,
}

impl Answer {
    pub(crate) fn new(status: u16) -> Answer {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Answer { response }
    }

    /// A value that no header can have is left out: none of ours is such.
    #[must_use]
    pub(crate) fn header(mut self, name: &'static str, value: impl AsRef<str>) -> Answer {
        if let Ok(value) = HeaderValue::from_str(value.as_ref()) {
            self.response.headers_mut().insert(HeaderName::from_static(name), value);
        }
        self
    }

    pub(crate) fn empty(self) -> Response<Body> {
        self.response
    }

    pub(crate) fn bytes(mut self, bytes: impl Into<Bytes>) -> Response<Body> {
        *self.response.body_mut() = Body::Bytes(bytes.into());
        self.response
    }

    pub(crate) fn json(self, value: &serde_json::Value) -> Response<Body> {
        let typed = match self.response.headers().contains_key(CONTENT_TYPE) {
            true => self,
            false => self.header("content-type", "application/json"),
        };
        typed.bytes(value.to_string())
    }

    pub(crate) fn body(mut self, body: Body) -> Response<Body> {
        *self.response.body_mut() = body;
        self.response
    }

    /// The head of a body that is not sent.
    pub(crate) fn sized(self, size: u64) -> Response<Body> {
        self.header("content-length", size.to_string()).response
    }
}
