//! Who we are at a registry: passwords stay with it, tokens are fetched for what they are needed for and kept for as long
//! as they are good.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Method, Url};
use serde::Deserialize;

use super::challenge::Challenge;
use super::refusal::Cause;
use crate::http::{Exchange, Http, bounded, host_and_port, shown};

/// Most bytes of a token document.
const TOKEN_LIMIT: u64 = 1 << 20;
/// How long a token is good when nothing is said (distribution's token specification).
const TOKEN_LIFE: Duration = Duration::from_secs(60);
/// Tokens are fetched anew so long before they end.
const MARGIN: Duration = Duration::from_secs(10);
/// Who we are to token services.
const CLIENT_ID: &str = "dunnage";

/// What we prove ourselves with.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    /// User and password.
    Password {
        /// The user.
        user: String,
        /// The password.
        password: String,
    },
    /// A token that other tokens are given for.
    Identity(String),
    /// A token for the registry itself.
    Bearer(String),
}

/// Never the secret.
impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Credential::Password { user, .. } => write!(f, "Password({user:?})"),
            Credential::Identity(_) => f.write_str("Identity"),
            Credential::Bearer(_) => f.write_str("Bearer"),
        }
    }
}

struct Token {
    header: HeaderValue,
    until: Instant,
}

/// The state of one registry.
#[derive(Default)]
struct State {
    /// What the registry asked for, once it has.
    challenge: Option<Challenge>,
    tokens: HashMap<String, Token>,
}

/// Answers a registry's challenges.
pub(super) struct Authorizer {
    credential: Option<Credential>,
    realms: Vec<String>,
    state: Mutex<State>,
}

impl fmt::Debug for Authorizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authorizer").field("credential", &self.credential).finish_non_exhaustive()
    }
}

impl Authorizer {
    pub(super) fn new(credential: Option<Credential>, realms: Vec<String>) -> Authorizer {
        Authorizer { credential, realms, state: Mutex::default() }
    }

    pub(super) fn is_anonymous(&self) -> bool {
        self.credential.is_none()
    }

    /// The header of a request with this scope, where what the registry asks for is known already. A token is fetched for
    /// one request; those that need the same wait for it.
    pub(super) fn header(&self, http: &Http, base: &Url, scope: &str) -> Result<Option<HeaderValue>, Cause> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match &state.challenge {
            None => Ok(None),
            Some(Challenge::Basic) => Ok(self.basic()),
            Some(Challenge::Bearer { .. }) => self.token(&mut state, http, base, scope).map(Some),
        }
    }

    /// Takes a challenge: gives the header to try again with, or `None` when there is nothing to say to it.
    pub(super) fn answer(
        &self,
        http: &Http,
        base: &Url,
        scope: &str,
        challenges: &[Challenge],
        sent: Option<&HeaderValue>,
    ) -> Result<Option<HeaderValue>, Cause> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let bearer = challenges.iter().find(|challenge| matches!(challenge, Challenge::Bearer { .. }));
        let basic = challenges.iter().find(|challenge| matches!(challenge, Challenge::Basic));
        let header = match (bearer, basic) {
            (Some(challenge), _) => {
                state.challenge = Some(challenge.clone());
                // Another request may have got a better one meanwhile.
                if state.tokens.get(scope).is_some_and(|token| Some(&token.header) == sent) {
                    state.tokens.remove(scope);
                }
                Some(self.token(&mut state, http, base, scope)?)
            }
            (None, Some(challenge)) => {
                state.challenge = Some(challenge.clone());
                self.basic()
            }
            (None, None) => None,
        };
        Ok(header.filter(|header| Some(header) != sent))
    }

    fn basic(&self) -> Option<HeaderValue> {
        match &self.credential {
            Some(Credential::Password { user, password }) => basic(user, password),
            _ => None,
        }
    }

    fn token(&self, state: &mut State, http: &Http, base: &Url, scope: &str) -> Result<HeaderValue, Cause> {
        if let Some(Credential::Bearer(token)) = &self.credential {
            return bearer(token);
        }
        if let Some(token) = state.tokens.get(scope).filter(|token| token.until > Instant::now()) {
            return Ok(token.header.clone());
        }
        let Some(Challenge::Bearer { realm, service, scope: asked, .. }) = &state.challenge else {
            return Err(Cause::Invalid("its challenge is none".to_owned()));
        };
        // What the registry names is what it wants where we have no need of our own.
        let scopes = if scope.is_empty() { asked.clone().unwrap_or_default() } else { scope.to_owned() };
        let document = self.fetch(http, base, realm, service.as_deref(), &scopes)?;
        let text = document.token.or(document.access_token).filter(|token| !token.is_empty());
        let text = text.ok_or_else(|| Cause::Invalid(format!("{realm} gives no token")))?;
        let header = bearer(&text)?;
        let life = document.expires_in.map_or(TOKEN_LIFE, Duration::from_secs).min(Duration::from_secs(86_400));
        let until = Instant::now() + life.saturating_sub(MARGIN);
        state.tokens.insert(scope.to_owned(), Token { header: header.clone(), until });
        Ok(header)
    }

    fn fetch(
        &self,
        http: &Http,
        base: &Url,
        realm: &str,
        service: Option<&str>,
        scopes: &str,
    ) -> Result<TokenDocument, Cause> {
        let invalid = |reason: &str| Cause::Invalid(format!("its token service `{realm}` {reason}"));
        let mut url: Url = realm.parse().map_err(|_| invalid("is no URL"))?;
        if !matches!(url.scheme(), "https" | "http") || (base.scheme() == "https" && url.scheme() == "http") {
            return Err(invalid("is not reached by https"));
        }
        if http.leads_inside(base, &url) {
            return Err(invalid("is inside of this machine's own networks"));
        }
        let trusted = may_know(base, &url, &self.realms);
        if self.credential.is_some() && !trusted {
            return Err(Cause::Realm(shown(&url)));
        }
        let scopes = scopes.split(' ').filter(|scope| !scope.is_empty());
        let mut headers = HeaderMap::new();
        let mut body = None;
        let mut method = Method::GET;
        if let Some(Credential::Identity(token)) = &self.credential {
            method = Method::POST;
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
            let scopes: Vec<&str> = scopes.collect();
            let mut form = url.clone();
            form.query_pairs_mut()
                .clear()
                .append_pair("grant_type", "refresh_token")
                .append_pair("service", service.unwrap_or_default())
                .append_pair("client_id", CLIENT_ID)
                .append_pair("scope", &scopes.join(" "))
                .append_pair("refresh_token", token);
            body = form.query().map(|query| bytes::Bytes::from(query.to_owned()));
        } else {
            let mut query = url.query_pairs_mut();
            service.iter().for_each(|service| {
                query.append_pair("service", service);
            });
            scopes.for_each(|scope| {
                query.append_pair("scope", scope);
            });
            if let Some(Credential::Password { user, .. }) = &self.credential {
                query.append_pair("account", user).append_pair("client_id", CLIENT_ID);
            }
            drop(query);
            if let Some(header) = self.basic() {
                headers.insert(AUTHORIZATION, header);
            }
        }
        let response = http
            .exchange(Exchange { method, url: &url, headers, body })
            .map_err(|failed| super::refusal::cause_of(&failed))?;
        let status = response.status();
        let bytes = bounded(response, TOKEN_LIMIT).map_err(|failed| super::refusal::cause_of(&failed))?;
        match status.as_u16() {
            200..=299 => serde_json::from_slice(&bytes).map_err(|_| invalid("gives no token document")),
            400 | 401 | 403 => {
                let (_, words) = super::refusal::words_of(&bytes);
                Err(match self.credential {
                    Some(_) => Cause::BadLogin(words),
                    None => Cause::Denied { anonymous: true, words },
                })
            }
            429 => Err(Cause::RateLimited(None)),
            _ => Err(Cause::Other(format!("the token service {} answers {status}", shown(&url)))),
        }
    }
}

#[derive(Deserialize)]
struct TokenDocument {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

fn basic(user: &str, password: &str) -> Option<HeaderValue> {
    let mut header = HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))).ok()?;
    header.set_sensitive(true);
    Some(header)
}

fn bearer(token: &str) -> Result<HeaderValue, Cause> {
    let mut header = HeaderValue::from_str(&format!("Bearer {token}"))
        .map_err(|_| Cause::Invalid("the token cannot be sent".to_owned()))?;
    header.set_sensitive(true);
    Ok(header)
}

/// Whether a token service may have the password of a registry: it is the same server, or one of the same owner, or the
/// user says so. Of hosts that are addresses, the port counts too.
fn may_know(registry: &Url, realm: &Url, named: &[String]) -> bool {
    if registry.origin() == realm.origin() {
        return true;
    }
    let host = realm.host_str().unwrap_or_default();
    if named.iter().any(|name| name == host || *name == host_and_port(realm)) {
        return true;
    }
    let registry_host = registry.host_str().unwrap_or_default();
    let secure =
        registry.scheme() == "https" && realm.scheme() == "https" && realm.port_or_known_default() == Some(443);
    secure && owner(registry_host).is_some_and(|owner_of| Some(owner_of) == owner(host))
}

/// The part of a name that somebody registered: two labels, three where the second is like `co.uk`. None of an address.
fn owner(host: &str) -> Option<&str> {
    if host.parse::<std::net::IpAddr>().is_ok() || host.starts_with('[') {
        return None;
    }
    let labels: Vec<&str> = host.split('.').collect();
    let count = match labels.as_slice() {
        [.., second, top] if top.len() == 2 && second.len() <= 3 => 3,
        _ => 2,
    };
    let length: usize = labels.iter().rev().take(count).map(|label| label.len() + 1).sum();
    if labels.len() < count { None } else { host.get((host.len() + 1).checked_sub(length)?..) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn security_r06_passwords_go_to_the_registry_and_its_owner_only() {
        let cases = [
            ("https://r.example/", "https://r.example/token", true),
            ("https://registry-1.docker.io/", "https://auth.docker.io/token", true),
            ("https://registry.example.co.uk/", "https://auth.example.co.uk/t", true),
            ("https://registry.example.co.uk/", "https://evil.co.uk/t", false),
            ("https://r.example.com/", "https://r.example.com.evil.net/t", false),
            ("https://r.example.com/", "http://auth.example.com/t", false),
            ("https://r.example.com/", "https://auth.example.com:8443/t", false),
            ("https://r.example.com/", "https://b.example/t", false),
            ("http://127.0.0.1:5000/", "http://127.0.0.1:5001/token", false),
            ("http://127.0.0.1:5000/", "http://127.0.0.1:5000/token", true),
            ("https://10.0.0.1/", "https://10.9.0.1/token", false),
            ("https://localhost/", "https://other/t", false),
        ];
        for (registry, realm, wanted) in cases {
            assert_eq!(
                may_know(&registry.parse().unwrap(), &realm.parse().unwrap(), &[]),
                wanted,
                "{registry} {realm}"
            );
        }
        let (registry, realm) =
            ("http://127.0.0.1:5000/".parse().unwrap(), "http://127.0.0.1:5001/token".parse().unwrap());
        assert!(may_know(&registry, &realm, &["127.0.0.1:5001".to_owned()]));
    }

    #[test]
    fn secrets_are_not_shown() {
        let credential = Credential::Password { user: "me".to_owned(), password: "hidden".to_owned() };
        let authorizer = Authorizer::new(Some(credential), Vec::new());
        assert!(!format!("{authorizer:?}").contains("hidden") && format!("{authorizer:?}").contains("me"));
    }
}
