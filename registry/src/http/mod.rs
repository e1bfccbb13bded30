//! HTTP: one client, with a bound on everything that a server may do.
//!
//! Redirects are followed here and not by the client library: credentials stay with the origin that they were given for,
//! https never becomes http, and a public URL cannot lead to an address of this machine's own networks.

mod address;
mod download;
mod failure;
mod origin;
pub(crate) mod retry;
mod tls;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use reqwest::blocking::{Body, Client, ClientBuilder, Response};
use reqwest::header::{AUTHORIZATION, HeaderMap, LOCATION};
use reqwest::{Method, NoProxy, Proxy, StatusCode, Url};

use self::failure::failed;
use crate::error::{Error, Result};

pub(crate) use self::address::is_loopback;
pub use self::download::{Download, DownloadRequest, Downloaded, Validators};
pub(crate) use self::failure::{Failed, FailureKind, cause, refused};
pub use self::origin::Origin;
pub use self::tls::Trust;
pub(crate) use self::tls::certificates;

/// Most redirects of one request.
const REDIRECT_LIMIT: usize = 10;
/// Longest silence of a server.
const IDLE: Duration = Duration::from_secs(30);
/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(15);
/// Bytes per second below which an upload is given up.
const LOWEST_RATE: u64 = 32 << 10;
/// Longest time that a document takes.
const DOCUMENT_TIME: Duration = Duration::from_secs(60);
/// Bytes that one read asks for.
const PIECE: usize = 16 << 10;

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
    /// For one origin alone, with the trust that was set up for it.
    own: Option<(String, Client)>,
    /// A proxy resolves names: which addresses they have is not known here.
    proxied: bool,
}

/// One request, with all that a redirect needs to make it again.
#[derive(Debug)]
pub(crate) struct Exchange<'a> {
    pub(crate) method: Method,
    pub(crate) url: &'a Url,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Option<bytes::Bytes>,
}

impl Http {
    /// A client for these proxies and certificates.
    ///
    /// # Errors
    /// When the certificates or a proxy's URL cannot be read.
    pub fn new(options: &HttpOptions) -> Result<Http> {
        Http::trusting(options, None)
    }

    /// The same with a trust of its own for one host and port, and for no other.
    pub(crate) fn trusting(options: &HttpOptions, own: Option<(String, &Trust)>) -> Result<Http> {
        let tls = tls::config(options, &Trust::default())?;
        let build = |builder: ClientBuilder, tls: rustls::ClientConfig| -> Result<Client> {
            let mut builder = builder
                .tls_backend_preconfigured(tls)
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
        let own = match own {
            Some((host, trust)) => Some((host, build(Client::builder(), tls::config(options, trust)?)?)),
            None => None,
        };
        Ok(Http {
            client: build(Client::builder(), tls.clone())?,
            public_only: build(Client::builder().dns_resolver(Arc::new(address::PublicOnly)), tls)?,
            own,
            proxied: http.is_some() || https.is_some() || all.is_some(),
        })
    }

    /// One GET with its redirects, and no second attempt. What is returned is a success, or 304.
    fn get(&self, first: &Url, headers: &HeaderMap) -> Result<Response, Failed> {
        let response =
            self.exchange(Exchange { method: Method::GET, url: first, headers: headers.clone(), body: None })?;
        if response.status().is_success() || response.status() == StatusCode::NOT_MODIFIED {
            return Ok(response);
        }
        Err(refused(&response))
    }

    /// One request with its redirects, whatever is answered at the end of them.
    pub(crate) fn exchange(&self, exchange: Exchange<'_>) -> Result<Response, Failed> {
        let first = exchange.url;
        let mut url = first.clone();
        let mut headers = exchange.headers;
        let mut from_private = None;
        let patience = patience(exchange.body.as_ref().map_or(0, bytes::Bytes::len));
        for _ in 0..=REDIRECT_LIMIT {
            let foreign = url.host_str() != first.host_str();
            // A URL that itself names a private address may lead to others: it is in the user's own network.
            let guarded = foreign && !*from_private.get_or_insert_with(|| self.is_private(first));
            if guarded && address::literal(&url).is_some_and(address::is_private) {
                return Err(Failed::for_good(format!("it leads to the private address {}", shown(&url))));
            }
            let client = if guarded { &self.public_only } else { self.client_for(&url) };
            let mut request = client.request(exchange.method.clone(), url.clone()).headers(headers.clone());
            if let Some(body) = &exchange.body {
                request = request.body(Body::from(body.clone())).timeout(patience);
            }
            let response = request.send().map_err(|error| failed(&error))?;
            let status = response.status();
            let same_method = matches!(exchange.method, Method::GET | Method::HEAD)
                || matches!(status, StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT);
            if !status.is_redirection() || status == StatusCode::NOT_MODIFIED || !same_method {
                return Ok(response);
            }
            let next = target(&response, &url)?;
            if next.origin() != url.origin() {
                headers.remove(AUTHORIZATION);
            }
            url = next;
        }
        Err(Failed::for_good(format!("it redirects more than {REDIRECT_LIMIT} times")))
    }

    fn client_for(&self, url: &Url) -> &Client {
        match &self.own {
            Some((host, client)) if *host == host_and_port(url) => client,
            _ => &self.client,
        }
    }

    /// A URL that a server named, seen from another: whether it leads from the internet into this machine's networks.
    pub(crate) fn leads_inside(&self, from: &Url, to: &Url) -> bool {
        from.host_str() != to.host_str() && self.is_private(to) && !self.is_private(from)
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

/// How long an answer to so many bytes may take: at the lowest rate that is of use.
fn patience(bytes: usize) -> Duration {
    IDLE + Duration::from_secs(bytes as u64 / LOWEST_RATE)
}

/// `host:port`, the port also where the scheme implies it.
pub(crate) fn host_and_port(url: &Url) -> String {
    format!("{}:{}", url.host_str().unwrap_or_default(), url.port_or_known_default().unwrap_or_default())
}

/// The whole body, when it is no more than `limit`.
pub(crate) fn bounded(response: Response, limit: u64) -> Result<Vec<u8>, Failed> {
    use std::io::Read;
    let begun = std::time::Instant::now();
    let (mut bytes, mut response) = (Vec::new(), response.take(limit + 1));
    loop {
        let before = bytes.len();
        bytes.resize(before + PIECE, 0);
        let read = response.read(bytes.get_mut(before..).unwrap_or_default());
        let count = read.map_err(|error| Failed::broken(format!("the answer broke off: {}", cause(&error))))?;
        bytes.truncate(before + count);
        if bytes.len() as u64 > limit {
            return Err(Failed::for_good(format!("the answer has more than {limit} bytes")));
        }
        if count == 0 {
            return Ok(bytes);
        }
        if begun.elapsed() > DOCUMENT_TIME {
            return Err(Failed::broken(format!("the answer was not whole after {} seconds", DOCUMENT_TIME.as_secs())));
        }
    }
}

/// A URL without what may be secret in it.
pub(crate) fn shown(url: &Url) -> String {
    let mut url = url.clone();
    // Of URLs without a host neither can be set, nor is there one.
    let _ = url.set_password(None);
    let _ = url.set_username("");
    url.to_string()
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
