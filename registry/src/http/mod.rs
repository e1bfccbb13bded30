//! HTTP: one client, with a bound on everything that a server may do.
//!
//! Redirects are followed here and not by the client library: credentials stay with the origin that they were given for,
//! https never becomes http, and a public URL cannot lead to an address of this machine's own networks.

mod address;
mod download;
mod retry;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use reqwest::blocking::{Client, ClientBuilder, Response};
use reqwest::header::{AUTHORIZATION, HeaderMap, LOCATION, RETRY_AFTER};
use reqwest::{NoProxy, Proxy, StatusCode, Url};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use self::retry::Wait;
use crate::error::{Error, Result};

pub use self::download::{Download, DownloadRequest, Downloaded, Validators};

/// Most redirects of one request.
const REDIRECT_LIMIT: usize = 10;
/// Longest silence of a server.
const IDLE: Duration = Duration::from_secs(30);
/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(15);

/// How the network is reached.
#[derive(Debug, Clone, Default)]
pub struct HttpOptions {
    /// Proxies, as the environment names them.
    pub proxies: Proxies,
    /// A PEM file of certificate authorities beside Mozilla's, which are built in.
    pub certificates: Option<PathBuf>,
}

/// The field's proxy variables.
#[derive(Debug, Clone, Default)]
pub struct Proxies {
    /// `http_proxy`
    pub http: Option<String>,
    /// `HTTPS_PROXY`
    pub https: Option<String>,
    /// `ALL_PROXY`
    pub all: Option<String>,
    /// `NO_PROXY`: hosts that are reached without one.
    pub none: Option<String>,
}

/// A client. Making it reads the certificates; connections are kept for the requests that follow.
#[derive(Debug)]
pub struct Http {
    client: Client,
    /// Refuses names that lead to private addresses.
    public_only: Client,
    /// A proxy resolves names: which addresses they have is not known here.
    proxied: bool,
}

/// Why one attempt failed, and whether another may succeed.
struct Failed {
    reason: String,
    wait: Wait,
}

impl Failed {
    fn for_good(reason: impl Into<String>) -> Failed {
        Failed { reason: reason.into(), wait: Wait::Never }
    }
}

impl Http {
    /// A client for these proxies and certificates.
    ///
    /// # Errors
    /// When the certificates or a proxy's URL cannot be read.
    pub fn new(options: &HttpOptions) -> Result<Http> {
        let tls = tls(options)?;
        let build = |builder: ClientBuilder| -> Result<Client> {
            let mut builder = builder
                .tls_backend_preconfigured(tls.clone())
                .redirect(reqwest::redirect::Policy::none())
                .retry(reqwest::retry::never())
                .referer(false)
                .no_proxy()
                .timeout(IDLE)
                .connect_timeout(CONNECT)
                .user_agent(concat!("dunnage/", env!("CARGO_PKG_VERSION")));
            for proxy in proxies(&options.proxies)? {
                builder = builder.proxy(proxy);
            }
            builder.build().map_err(|error| Error::Network(cause(&error)))
        };
        let Proxies { http, https, all, .. } = &options.proxies;
        Ok(Http {
            client: build(Client::builder())?,
            public_only: build(Client::builder().dns_resolver(Arc::new(address::PublicOnly)))?,
            proxied: http.is_some() || https.is_some() || all.is_some(),
        })
    }

    /// One GET with its redirects, and no second attempt. What is returned is a success, or 304.
    fn get(&self, first: &Url, headers: &HeaderMap) -> Result<Response, Failed> {
        let mut url = first.clone();
        let mut headers = headers.clone();
        let mut from_private = None;
        for _ in 0..=REDIRECT_LIMIT {
            let foreign = url.host_str() != first.host_str();
            // A URL that itself names a private address may lead to others: it is in the user's own network.
            let guarded = foreign && !*from_private.get_or_insert_with(|| self.is_private(first));
            if guarded && address::literal(&url).is_some_and(address::is_private) {
                return Err(Failed::for_good(format!("it leads to the private address {}", shown(&url))));
            }
            let client = if guarded { &self.public_only } else { &self.client };
            let response = client.get(url.clone()).headers(headers.clone()).send().map_err(|error| failed(&error))?;
            let status = response.status();
            if status.is_success() || status == StatusCode::NOT_MODIFIED {
                return Ok(response);
            }
            if !status.is_redirection() {
                return Err(refused(&response));
            }
            let next = target(&response, &url)?;
            if next.origin() != url.origin() {
                headers.remove(AUTHORIZATION);
            }
            url = next;
        }
        Err(Failed::for_good(format!("it redirects more than {REDIRECT_LIMIT} times")))
    }

    fn is_private(&self, url: &Url) -> bool {
        match address::literal(url) {
            Some(ip) => address::is_private(ip),
            None => !self.proxied && address::resolves_to_private(url),
        }
    }
}

/// Where a redirect leads.
fn target(response: &Response, from: &Url) -> Result<Url, Failed> {
    let bad = |what: &str| Failed::for_good(format!("the server answers {} {what}", response.status()));
    let location = response.headers().get(LOCATION).ok_or_else(|| bad("without a place to go on"))?;
    let text = location.to_str().map_err(|_| bad("with a place that is no text"))?;
    let next = from.join(text).map_err(|_| bad("with a place that is no URL"))?;
    match (from.scheme(), next.scheme()) {
        ("http", "http") | (_, "https") => Ok(next),
        ("https", "http") => Err(Failed::for_good(format!("it leads from https to {}", shown(&next)))),
        (_, other) => Err(Failed::for_good(format!("it leads to a URL of the scheme `{other}`"))),
    }
}

fn refused(response: &Response) -> Failed {
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
    let asked = response.headers().get(RETRY_AFTER).and_then(|value| retry::after(value.to_str().ok()?));
    let wait = match asked {
        _ if !again => Wait::Never,
        Some(wait) => Wait::Asked(wait),
        None => Wait::Backoff,
    };
    Failed { reason: format!("the server answers {status}"), wait }
}

fn failed(error: &reqwest::Error) -> Failed {
    // Nobody listens, or the name is not known: that seldom changes within seconds.
    let wait = if error.is_connect() { Wait::Briefly } else { Wait::Backoff };
    let wait = if error.is_builder() { Wait::Never } else { wait };
    let reason = if error.is_timeout() { format!("no answer within {} seconds", IDLE.as_secs()) } else { cause(error) };
    // A certificate that is not trusted stays so.
    let wait = if reason.contains("certificate") { Wait::Never } else { wait };
    Failed { reason, wait }
}

/// The innermost cause: what is around it only says "error sending request".
fn cause(error: &dyn std::error::Error) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}

/// A URL without what may be secret in it.
pub(crate) fn shown(url: &Url) -> String {
    let mut url = url.clone();
    // Of URLs without a host neither can be set, nor is there one.
    let _ = url.set_password(None);
    let _ = url.set_username("");
    url.to_string()
}

fn tls(options: &HttpOptions) -> Result<rustls::ClientConfig> {
    let mut roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    if let Some(path) = &options.certificates {
        let bytes = std::fs::read(path).map_err(Error::read(path))?;
        let certificates: Vec<CertificateDer<'_>> = CertificateDer::pem_slice_iter(&bytes)
            .collect::<Result<_, _>>()
            .map_err(|error| Error::document(path.display().to_string(), error))?;
        // Some systems ship certificates that are none by today's rules.
        roots.add_parsable_certificates(certificates);
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::Network(error.to_string()))?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

fn proxies(names: &Proxies) -> Result<Vec<Proxy>> {
    let none = names.none.as_deref().and_then(NoProxy::from_string);
    let (http, https, all) = (names.http.as_deref(), names.https.as_deref(), names.all.as_deref());
    let made = [http.map(Proxy::http), https.map(Proxy::https), all.map(Proxy::all)];
    made.into_iter()
        .flatten()
        .map(|proxy| match proxy {
            Ok(proxy) => Ok(proxy.no_proxy(none.clone())),
            Err(error) => Err(Error::Network(format!("the proxy is not valid: {}", cause(&error)))),
        })
        .collect()
}
