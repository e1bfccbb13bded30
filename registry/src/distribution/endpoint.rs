//! One registry on the wire: how it is reached, who we are there, and requests that are tried again where that may help.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use reqwest::blocking::Response;
use reqwest::header::{AUTHORIZATION, HeaderMap, WWW_AUTHENTICATE};
use reqwest::{Method, StatusCode, Url};

use super::auth::{Authorizer, Credential};
use super::challenge::{self, Challenge};
use super::refusal::{Cause, ERROR_LIMIT, cause_of, words_of};
use super::throttle::Shared;
use crate::error::Result;
use crate::http::retry::Attempts;
use crate::http::{Exchange, Failed, FailureKind, Http, HttpOptions, bounded, is_loopback, refused};
use crate::settings::EndpointSettings;

/// The host that docker's own registry has.
const HUB: &str = "registry-1.docker.io";
/// How often a pause looks whether it is still wanted.
const SLICE: Duration = Duration::from_millis(50);

/// How a registry is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scheme {
    Https,
    Http,
}

/// Which ways are tried, in this order. Without TLS only this machine is spoken to, and who was called insecure.
pub(super) fn schemes(settings: &EndpointSettings) -> &'static [Scheme] {
    let trust = &settings.trust;
    let has_trust = !trust.authorities.is_empty() || trust.identity.is_some();
    match (settings.insecure, is_loopback(&settings.host) && !has_trust) {
        (_, true) => &[Scheme::Http, Scheme::Https],
        (true, false) => &[Scheme::Https, Scheme::Http],
        (false, false) => &[Scheme::Https],
    }
}

/// A request to a registry.
#[derive(Debug)]
pub(super) struct Ask<'a> {
    pub(super) method: Method,
    /// Below the registry's root, or a whole URL that it named.
    pub(super) path: &'a str,
    pub(super) headers: HeaderMap,
    pub(super) body: Option<bytes::Bytes>,
    /// What the token must be for.
    pub(super) scope: &'a str,
}

impl<'a> Ask<'a> {
    pub(super) fn new(method: Method, path: &'a str, scope: &'a str) -> Ask<'a> {
        Ask { method, path, headers: HeaderMap::new(), body: None, scope }
    }
}

/// One registry.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(super) settings: EndpointSettings,
    http: Http,
    authorizer: Authorizer,
    base: Mutex<Option<Url>>,
    pub(super) shared: Shared,
}

impl Endpoint {
    pub(super) fn new(
        options: &HttpOptions,
        settings: EndpointSettings,
        credential: Option<Credential>,
        shared: Shared,
    ) -> Result<Endpoint> {
        let mut trust = settings.trust.clone();
        trust.unverified = settings.insecure;
        let host = wire_host(&settings.host);
        let host = if has_port(host) { host.to_owned() } else { format!("{host}:443") };
        let http = Http::trusting(options, (trust != Default::default()).then_some((host, &trust)))?;
        let authorizer = Authorizer::new(credential, settings.realms.clone());
        Ok(Endpoint { settings, http, authorizer, base: Mutex::default(), shared })
    }

    pub(super) fn is_anonymous(&self) -> bool {
        self.authorizer.is_anonymous()
    }

    /// The registry's root, found out at the first use.
    pub(super) fn base(&self) -> Result<Url, Cause> {
        let mut base = self.base.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(base) = &*base {
            return Ok(base.clone());
        }
        let found = self.find()?;
        *base = Some(found.clone());
        Ok(found)
    }

    fn find(&self) -> Result<Url, Cause> {
        let schemes = schemes(&self.settings);
        let mut last = Cause::Other("it was not asked".to_owned());
        for scheme in schemes {
            let url = self.root(*scheme)?;
            if schemes.len() == 1 {
                return Ok(url);
            }
            match self.knock(&url) {
                // What Go's servers say to those who forget to encrypt.
                Ok(StatusCode::BAD_REQUEST) if *scheme == Scheme::Http => last = Cause::NotTls,
                Ok(_) => return Ok(url),
                // Who shows a wrong certificate is not given a second way; where nobody listens there is none.
                Err(failed) if matches!(failed.kind, FailureKind::Tls) => return Err(cause_of(&failed)),
                Err(failed) if failed.kind == FailureKind::Unreachable && *scheme == Scheme::Http => {
                    return Err(cause_of(&failed));
                }
                Err(failed) if failed.kind == FailureKind::NotTls => {}
                Err(failed) => last = cause_of(&failed),
            }
        }
        Err(last)
    }

    fn knock(&self, root: &Url) -> Result<StatusCode, Failed> {
        let url = root.join("v2/").map_err(|error| Failed::for_good(error.to_string()))?;
        let exchange = Exchange { method: Method::GET, url: &url, headers: HeaderMap::new(), body: None };
        Ok(self.http.exchange(exchange)?.status())
    }

    fn root(&self, scheme: Scheme) -> Result<Url, Cause> {
        let scheme = match scheme {
            Scheme::Https => "https",
            Scheme::Http => "http",
        };
        let url = format!("{scheme}://{}/", wire_host(&self.settings.host));
        url.parse().map_err(|error| Cause::Invalid(format!("its name is none: {error}")))
    }

    /// One request: authorized when that is asked for, tried again when the network or the server had a bad moment. What
    /// is returned is any answer but those.
    pub(super) fn send(&self, ask: &Ask<'_>) -> Result<Response, Cause> {
        let base = self.base()?;
        let url = base.join(ask.path).map_err(|_| Cause::Invalid("it names a place that is no URL".to_owned()))?;
        let mut attempts = Attempts::begin();
        loop {
            let failed = match self.authorized(ask, &base, &url)? {
                Ok(response) => {
                    let failed = refused(&response);
                    if failed.wait == crate::http::retry::Wait::Never {
                        return Ok(response);
                    }
                    failed
                }
                Err(failed) => failed,
            };
            let Some(pause) = attempts.next(failed.wait) else { return Err(cause_of(&failed)) };
            self.pause(pause)?;
        }
    }

    /// The same without another attempt: who sends bytes has to look how far they came first.
    pub(super) fn send_once(&self, ask: &Ask<'_>) -> Result<Result<Response, Failed>, Cause> {
        let base = self.base()?;
        let url = base.join(ask.path).map_err(|_| Cause::Invalid("it names a place that is no URL".to_owned()))?;
        self.authorized(ask, &base, &url)
    }

    pub(super) fn pause(&self, pause: Duration) -> Result<(), Cause> {
        let until = Instant::now() + pause;
        while let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            self.shared.go_on()?;
            std::thread::sleep(left.min(SLICE));
        }
        self.shared.go_on()
    }

    /// The request, and once more with what the registry asks for.
    fn authorized(&self, ask: &Ask<'_>, base: &Url, url: &Url) -> Result<Result<Response, Failed>, Cause> {
        self.shared.go_on()?;
        // A place that the registry named may be another's: nothing of ours is for that one.
        let own = url.origin() == base.origin();
        let mut sent = if own { self.authorizer.header(&self.http, base, ask.scope)? } else { None };
        for _ in 0..2 {
            let mut headers = ask.headers.clone();
            if let Some(header) = &sent {
                headers.insert(AUTHORIZATION, header.clone());
            }
            let exchange = Exchange { method: ask.method.clone(), url, headers, body: ask.body.clone() };
            let response = match self.http.exchange(exchange) {
                Ok(response) => response,
                Err(failed) => return Ok(Err(failed)),
            };
            if response.status() != StatusCode::UNAUTHORIZED || !own || response.url().origin() != base.origin() {
                return Ok(Ok(response));
            }
            let challenges = challenges(&response);
            match self.authorizer.answer(&self.http, base, ask.scope, &challenges, sent.as_ref())? {
                Some(header) => sent = Some(header),
                None => return Ok(Ok(response)),
            }
        }
        Err(match self.is_anonymous() {
            true => Cause::Denied { anonymous: true, words: String::new() },
            false => {
                Cause::Denied { anonymous: false, words: "the token that it asked for is not good enough".to_owned() }
            }
        })
    }

    /// An answer that is no success as a cause.
    pub(super) fn refusal(&self, response: Response, what: &'static str) -> Cause {
        let failed = refused(&response);
        let status = response.status();
        let (code, message) = words_of(&bounded(response, ERROR_LIMIT).unwrap_or_default());
        let anonymous = self.is_anonymous();
        match status {
            StatusCode::UNAUTHORIZED if !anonymous => Cause::BadLogin(message),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Cause::Denied { anonymous, words: message },
            StatusCode::NOT_FOUND => Cause::NotFound { what, anonymous },
            StatusCode::TOO_MANY_REQUESTS => cause_of(&failed),
            _ if status.is_server_error() => Cause::Other(failed.reason),
            _ => {
                let words = [code, message].into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join(": ");
                let words = if words.is_empty() { words } else { format!(" ({words})") };
                Cause::Invalid(format!("{}{words}", failed.reason))
            }
        }
    }

    /// Whether the registry lets us in with what we have.
    pub(super) fn check(&self) -> Result<(), Cause> {
        let response = self.send(&Ask::new(Method::GET, "v2/", ""))?;
        match response.status() {
            status if status.is_success() => Ok(()),
            StatusCode::NOT_FOUND => Err(Cause::Invalid("it does not speak the protocol of registries".to_owned())),
            _ => Err(self.refusal(response, "registry")),
        }
    }
}

/// All headers count, and each may have several.
fn challenges(response: &Response) -> Vec<Challenge> {
    let headers = response.headers().get_all(WWW_AUTHENTICATE).iter();
    headers.filter_map(|value| value.to_str().ok()).take(8).flat_map(challenge::parse).collect()
}

fn wire_host(host: &str) -> &str {
    if host == "docker.io" { HUB } else { host }
}

fn has_port(host: &str) -> bool {
    host.rsplit_once(':').is_some_and(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn security_r14_without_tls_only_this_machine_and_who_was_called_insecure() {
        let of = |host: &str, insecure: bool, authority: bool| {
            let mut settings = EndpointSettings { host: host.to_owned(), insecure, ..EndpointSettings::default() };
            if authority {
                settings.trust.authorities.push("/ca.crt".into());
            }
            schemes(&settings)
        };
        for host in ["r.example", "r.example:5000", "10.0.0.1:5000", "127.0.0.1.example", "localhost.example:80"] {
            assert_eq!(of(host, false, false), [Scheme::Https], "{host}");
            assert_eq!(of(host, true, false), [Scheme::Https, Scheme::Http], "{host}");
        }
        for host in ["localhost:5000", "127.0.0.1:5000", "127.9.9.9", "[::1]:5000"] {
            assert_eq!(of(host, false, false), [Scheme::Http, Scheme::Https], "{host}");
            assert_eq!(of(host, false, true), [Scheme::Https], "{host}");
        }
    }
}
