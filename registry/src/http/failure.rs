//! Why a request failed, told apart by what the user can do about it, and whether another attempt may succeed.

use std::error::Error as StdError;
use std::io;
use std::time::Duration;

use reqwest::StatusCode;
use reqwest::blocking::Response;
use reqwest::header::RETRY_AFTER;

use super::IDLE;
use super::retry::{self, Wait};

/// What kind of failure it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FailureKind {
    /// The name of the host is not known.
    Dns,
    /// The server's certificate, or the handshake, is not acceptable.
    Tls,
    /// The server does not speak TLS.
    NotTls,
    /// Nobody listens.
    Unreachable,
    /// It broke off, took too long, or is not HTTP.
    Broken,
    /// The server answered with this status.
    Refused(StatusCode),
    /// What it asks for is not done.
    Improper,
}

/// Why one attempt failed, and whether another may succeed.
#[derive(Debug, Clone)]
pub(crate) struct Failed {
    pub(crate) kind: FailureKind,
    pub(crate) reason: String,
    pub(crate) wait: Wait,
}

impl Failed {
    pub(crate) fn for_good(reason: impl Into<String>) -> Failed {
        Failed { kind: FailureKind::Improper, reason: reason.into(), wait: Wait::Never }
    }

    pub(crate) fn broken(reason: impl Into<String>) -> Failed {
        Failed { kind: FailureKind::Broken, reason: reason.into(), wait: Wait::Backoff }
    }
}

/// An answer that is no success, as a failure.
pub(crate) fn refused(response: &Response) -> Failed {
    let status = response.status();
    let again = matches!(
        status,
        StatusCode::REQUEST_TIMEOUT
            | StatusCode::TOO_MANY_REQUESTS
            | StatusCode::INTERNAL_SERVER_ERROR
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT
    );
    let wait = match asked(response) {
        _ if !again => Wait::Never,
        Some(wait) => Wait::Asked(wait),
        None => Wait::Backoff,
    };
    Failed { kind: FailureKind::Refused(status), reason: format!("the server answers {status}"), wait }
}

/// `Retry-After`.
fn asked(response: &Response) -> Option<Duration> {
    retry::after(response.headers().get(RETRY_AFTER)?.to_str().ok()?)
}

/// A request that got no answer.
pub(crate) fn failed(error: &reqwest::Error) -> Failed {
    let kind = kind(error);
    let reason = match kind {
        FailureKind::Broken if error.is_timeout() => format!("no answer within {} seconds", IDLE.as_secs()),
        _ => cause(error),
    };
    let wait = match kind {
        // A certificate that is not trusted stays so.
        FailureKind::Tls | FailureKind::NotTls => Wait::Never,
        _ if error.is_builder() || reason.contains("certificate") => Wait::Never,
        // Nobody listens, or the name is not known: that seldom changes within seconds.
        _ if error.is_connect() => Wait::Briefly,
        _ => Wait::Backoff,
    };
    Failed { kind, reason, wait }
}

fn kind(error: &reqwest::Error) -> FailureKind {
    let mut inner: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(at) = inner {
        match at.downcast_ref::<rustls::Error>() {
            Some(rustls::Error::InvalidMessage(_)) => return FailureKind::NotTls,
            Some(_) => return FailureKind::Tls,
            None => {}
        }
        if at.to_string().starts_with("dns error") {
            return FailureKind::Dns;
        }
        // What an `io::Error` wraps is not among its sources.
        let wrapped = at.downcast_ref::<io::Error>().and_then(|error| error.get_ref());
        inner = wrapped.map(|error| error as &(dyn StdError + 'static)).or_else(|| at.source());
    }
    if error.is_connect() && !error.is_timeout() { FailureKind::Unreachable } else { FailureKind::Broken }
}

/// The innermost cause: what is around it only says "error sending request".
pub(crate) fn cause(error: &dyn StdError) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}
