//! Why a registry did not do it, in one sentence: what was wanted, where, the cause, and what helps.

use std::fmt;
use std::time::Duration;

use reqwest::StatusCode;
use serde::Deserialize;

use crate::http::retry::Wait;
use crate::http::{Failed, FailureKind};

/// Most bytes of an error document.
pub(super) const ERROR_LIMIT: u64 = 64 << 10;
/// Most characters of a server's own words.
const WORDS: usize = 200;

/// What a registry did not do, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// `pull r.example/app:1`
    pub doing: String,
    /// As users call it.
    pub registry: String,
    /// Why.
    pub cause: Cause,
}

/// Causes, told apart by what helps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// There is no such thing, or it is not shown to us.
    NotFound {
        /// `image`, `layer` …
        what: &'static str,
        /// Nobody was named to the registry.
        anonymous: bool,
    },
    /// It does not say who may.
    Denied {
        /// Nobody was named to the registry.
        anonymous: bool,
        /// The registry's words.
        words: String,
    },
    /// The user or the password is wrong.
    BadLogin(String),
    /// Too many requests, and when there may be more.
    RateLimited(Option<Duration>),
    /// The host's name is not known.
    Dns,
    /// The certificate or the handshake is not acceptable.
    Tls(String),
    /// It speaks no TLS, and is not on this machine.
    NotTls,
    /// Nobody listens.
    Unreachable(String),
    /// The user's own files forbid it.
    Blocked(String),
    /// A token service that must not have the password.
    Realm(String),
    /// What it gives is not what was asked for, or breaks the protocol.
    Invalid(String),
    /// It broke off, or answered something else.
    Other(String),
    /// The work was stopped here.
    Cancelled,
}

impl Refusal {
    /// The network, or the machine on the other side, is at fault, and not what was asked for.
    pub fn is_environment(&self) -> bool {
        matches!(
            self.cause,
            Cause::RateLimited(_) | Cause::Dns | Cause::Tls(_) | Cause::Unreachable(_) | Cause::Other(_)
        )
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = &self.registry;
        write!(f, "cannot {}: ", self.doing)?;
        match &self.cause {
            Cause::NotFound { what, anonymous: true } => {
                write!(f, "{at} has no such {what}, or shows it only to users; check the name, or `dunnage login {at}`")
            }
            Cause::NotFound { what, anonymous: false } => {
                write!(f, "{at} has no such {what}, or does not show it to you; check the name and your rights")
            }
            Cause::Denied { anonymous: true, words } => {
                write!(f, "{at} wants to know who you are{}; `dunnage login {at}` first", said(words))
            }
            Cause::Denied { anonymous: false, words } => {
                write!(
                    f,
                    "{at} denies it to you{}; ask its owner for the right, or log in as another user",
                    said(words)
                )
            }
            Cause::BadLogin(words) => {
                write!(f, "{at} does not know this user with this password{}; log in anew", said(words))
            }
            Cause::RateLimited(Some(wait)) => {
                write!(f, "{at} had too many requests; try again in {} seconds, or log in", wait.as_secs().max(1))
            }
            Cause::RateLimited(None) => write!(f, "{at} had too many requests; try again later, or log in"),
            Cause::Dns => write!(f, "the name {at} is not known; check its spelling, and this machine's name server"),
            Cause::Tls(reason) => write!(
                f,
                "the certificate of {at} is not accepted ({reason}); put its authority into \
                 /etc/docker/certs.d/{at}/ca.crt, or name it as `ca` of [registries.\"{at}\"] in config.toml"
            ),
            Cause::NotTls => write!(
                f,
                "{at} does not speak https; where that is meant, set `insecure = true` for [registries.\"{at}\"] in \
                 config.toml"
            ),
            Cause::Unreachable(reason) => {
                write!(f, "nobody answers at {at} ({reason}); is it running, and is the port right?")
            }
            Cause::Blocked(file) => write!(f, "{file} blocks {at}; change it, or use another registry"),
            Cause::Realm(realm) => write!(
                f,
                "{at} wants the password sent to {realm}, which is another's; where that is right, add it to `realms` \
                 of [registries.\"{at}\"] in config.toml"
            ),
            Cause::Invalid(reason) => write!(f, "what {at} gives is not valid: {reason}"),
            Cause::Cancelled => f.write_str("it was stopped"),
            Cause::Other(reason) => write!(f, "{at}: {reason}; try again later"),
        }
    }
}

fn said(words: &str) -> String {
    if words.is_empty() { String::new() } else { format!(" ({words})") }
}

/// A failure of the network as a cause.
pub(super) fn cause_of(failed: &Failed) -> Cause {
    match failed.kind {
        FailureKind::Dns => Cause::Dns,
        FailureKind::Tls => Cause::Tls(failed.reason.clone()),
        FailureKind::NotTls => Cause::NotTls,
        FailureKind::Unreachable => Cause::Unreachable(failed.reason.clone()),
        FailureKind::Improper => Cause::Invalid(failed.reason.clone()),
        FailureKind::Refused(StatusCode::TOO_MANY_REQUESTS) => Cause::RateLimited(match failed.wait {
            Wait::Asked(wait) => Some(wait),
            _ => None,
        }),
        FailureKind::Refused(_) | FailureKind::Broken => Cause::Other(failed.reason.clone()),
    }
}

#[derive(Debug, Deserialize)]
struct ErrorDocument {
    #[serde(default)]
    errors: Vec<ErrorEntry>,
}

#[derive(Debug, Deserialize)]
struct ErrorEntry {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

/// The first code and message of an error document (distribution-spec, "Error Codes"); empty where there is none.
pub(super) fn words_of(body: &[u8]) -> (String, String) {
    let document = serde_json::from_slice::<ErrorDocument>(body).ok();
    let Some(entry) = document.and_then(|document| document.errors.into_iter().next()) else {
        return (String::new(), String::new());
    };
    let short = |text: &str| -> String { text.chars().filter(|c| !c.is_control()).take(WORDS).collect() };
    (short(&entry.code), short(&entry.message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sentence_names_the_registry_and_a_remedy() {
        let causes = [
            Cause::NotFound { what: "image", anonymous: true },
            Cause::Denied { anonymous: false, words: "no right".to_owned() },
            Cause::BadLogin(String::new()),
            Cause::RateLimited(Some(Duration::from_secs(42))),
            Cause::Dns,
            Cause::Tls("unknown issuer".to_owned()),
            Cause::NotTls,
            Cause::Unreachable("connection refused".to_owned()),
            Cause::Blocked("/etc/x".to_owned()),
            Cause::Realm("https://b.example/token".to_owned()),
            Cause::Other("it broke off".to_owned()),
        ];
        for cause in causes {
            let refusal = Refusal { doing: "pull r.example/a:1".to_owned(), registry: "r.example".to_owned(), cause };
            let text = refusal.to_string();
            assert!(text.starts_with("cannot pull r.example/a:1: ") && text.matches("r.example").count() > 1, "{text}");
            assert!(text.contains(';'), "no remedy in: {text}");
        }
    }

    #[test]
    fn error_documents_are_read_with_bounds() {
        let long = format!(r#"{{"errors":[{{"code":"DENIED","message":"no\u001b[2J{}"}}]}}"#, "x".repeat(1000));
        let (code, message) = words_of(long.as_bytes());
        assert_eq!(code, "DENIED");
        assert!(message.len() <= WORDS && message.starts_with("no[2Jx"), "{message}");
        for odd in ["", "{", "[]", r#"{"errors":null}"#, r#"{"errors":[]}"#, "<html>"] {
            assert_eq!(words_of(odd.as_bytes()), (String::new(), String::new()), "{odd}");
        }
    }
}
