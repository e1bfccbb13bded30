//! Secrets that open sources, under BuildKit's ids: `GIT_AUTH_TOKEN[.HOST]`, `GIT_AUTH_HEADER[.HOST]`,
//! `HTTP_AUTH_TOKEN_HOST` and `HTTP_AUTH_HEADER_HOST`.
//!
//! Each goes to one origin only: the one that the URL names, and never on across a redirect. What names no host goes
//! nowhere in the clear.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use builder::{Credentials, SourceError};
use registry::Origin;

/// An `Authorization` for one origin. No debug print shows it.
#[derive(Clone)]
pub(crate) struct Authorization {
    /// The origin, as a URL.
    pub(crate) origin: String,
    /// The header's value.
    pub(crate) value: String,
}

impl fmt::Debug for Authorization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authorization({}, ***)", self.origin)
    }
}

impl Authorization {
    /// What is lent for a repository; that of its host before that of all hosts.
    pub(crate) fn of_git(lent: &Credentials, remote: &str) -> Result<Option<Authorization>, SourceError> {
        let Some(origin) = Origin::of(remote) else { return Ok(None) };
        let token = |token: &str| format!("basic {}", STANDARD.encode(format!("x-access-token:{token}")));
        let mut ids = Vec::new();
        for name in origin.names() {
            ids.extend([(format!("GIT_AUTH_HEADER.{name}"), false), (format!("GIT_AUTH_TOKEN.{name}"), true)]);
        }
        if origin.is_private() {
            ids.extend([("GIT_AUTH_HEADER".to_owned(), false), ("GIT_AUTH_TOKEN".to_owned(), true)]);
        }
        find(lent, &origin, &ids, &token)
    }

    /// What is lent for a URL.
    pub(crate) fn of_http(lent: &Credentials, url: &str) -> Result<Option<Authorization>, SourceError> {
        let Some(origin) = Origin::of(url).filter(Origin::is_private) else { return Ok(None) };
        let mut ids = Vec::new();
        for name in origin.names() {
            ids.extend([(format!("HTTP_AUTH_HEADER_{name}"), false), (format!("HTTP_AUTH_TOKEN_{name}"), true)]);
        }
        find(lent, &origin, &ids, &|token| format!("Bearer {token}"))
    }

    /// A text of somebody else, without the secret: a server may send back what it was told.
    pub(crate) fn mask(&self, text: &str) -> String {
        let secret = self.value.split_once(' ').map_or(self.value.as_str(), |(_, secret)| secret);
        text.replace(secret, "***")
    }
}

fn find(
    lent: &Credentials,
    origin: &Origin,
    ids: &[(String, bool)],
    token: &dyn Fn(&str) -> String,
) -> Result<Option<Authorization>, SourceError> {
    for (id, is_token) in ids {
        let Some(secret) = lent.secrets.get(id) else { continue };
        let bad = || SourceError::new(format!("the secret `{id}` is not one line of text, as a header must be"));
        let text = std::str::from_utf8(secret.bytes()).map_err(|_| bad())?.trim_end_matches(['\r', '\n']);
        if text.is_empty() || text.chars().any(|c| c.is_control() || !c.is_ascii()) {
            return Err(bad());
        }
        let value = if *is_token { token(text) } else { text.to_owned() };
        return Ok(Some(Authorization { origin: origin.to_string(), value }));
    }
    Ok(None)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use builder::Secret;

    fn lent(ids: &[&str]) -> Credentials {
        let secret = |id: &&str| ((*id).to_owned(), Secret::from(format!("of {id}\n").into_bytes()));
        Credentials { secrets: ids.iter().map(secret).collect(), ..Credentials::default() }
    }

    #[test]
    fn a_secret_goes_to_its_host_and_the_nearest_name_wins() {
        let all = lent(&["GIT_AUTH_TOKEN", "GIT_AUTH_HEADER.h.example", "GIT_AUTH_HEADER.h.example:81"]);
        let git = |lent: &Credentials, url: &str| Authorization::of_git(lent, url).unwrap().map(|found| found.value);
        assert_eq!(git(&all, "https://h.example/r.git").unwrap(), "of GIT_AUTH_HEADER.h.example");
        assert_eq!(git(&all, "https://h.example:81/r.git").unwrap(), "of GIT_AUTH_HEADER.h.example:81");
        let token = format!("basic {}", STANDARD.encode("x-access-token:of GIT_AUTH_TOKEN"));
        assert_eq!(git(&all, "https://other.example/r.git").unwrap(), token);
        assert_eq!(git(&all, "http://other.example/r.git"), None, "in the clear only where the user named the host");
        assert_eq!(git(&all, "http://h.example/r.git").unwrap(), "of GIT_AUTH_HEADER.h.example");
        for url in ["https://me@h.example/r.git", "ssh://h.example/r.git", "git@h.example:r.git"] {
            assert_eq!(git(&all, url), None, "{url}");
        }
    }

    #[test]
    fn urls_have_secrets_of_their_own_and_no_print_shows_them() {
        let all = lent(&["HTTP_AUTH_TOKEN_h.example", "GIT_AUTH_TOKEN"]);
        let found = Authorization::of_http(&all, "https://h.example/f").unwrap().unwrap();
        assert_eq!(found.value, "Bearer of HTTP_AUTH_TOKEN_h.example");
        assert!(!format!("{found:?}").contains("of HTTP"));
        assert!(!found.mask("said of HTTP_AUTH_TOKEN_h.example").contains("of HTTP"));
        assert!(Authorization::of_http(&all, "http://h.example/f").unwrap().is_none());
        assert!(Authorization::of_http(&all, "https://h.example.evil/f").unwrap().is_none());
        let mut bad = Credentials::default();
        bad.secrets.insert("HTTP_AUTH_HEADER_h".to_owned(), Secret::from(b"a\r\nHost: x".to_vec()));
        assert!(Authorization::of_http(&bad, "https://h/f").unwrap_err().message.contains("one line"));
    }
}
