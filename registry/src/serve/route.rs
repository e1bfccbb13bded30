//! What a request is for: paths are parsed here, and nothing behind this sees one.

use std::sync::Arc;

use cache::{Digest, Hosted, Reference};
use hyper::body::Incoming;
use hyper::{Method, Request};

use super::body::Incomer;
use super::reply::{Answer, Code, Handled, Refused};
use super::{Server, blobs, lists, manifests, uploads};

/// Most bytes of a path, and of a query.
const PATH_LIMIT: usize = 4096;

/// What a path names (distribution-spec, "Endpoints").
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Route {
    Base,
    Catalog,
    Tags(Reference),
    Manifest(Reference, Wanted),
    Blob(Reference, Digest),
    Uploads(Reference),
    Upload(Reference, String),
    Referrers(Reference, Digest),
}

/// Which manifest.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Wanted {
    /// By a tag, of the name that this is.
    Tag(Reference),
    /// By digest.
    Digest(Digest),
    /// By what is neither: nothing is ever there.
    Neither,
}

/// Parameters of a query.
#[derive(Debug, Default)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    fn parse(text: &str) -> Query {
        let pair = |pair: &str| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((decoded(&name.replace('+', " "))?, decoded(&value.replace('+', " "))?))
        };
        Query(text.split('&').filter_map(pair).collect())
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn digest(&self) -> Result<Option<Digest>, Refused> {
        self.get("digest").map(digest).transpose()
    }
}

pub(super) async fn dispatch(server: Arc<Server>, request: Request<Incoming>) -> Handled {
    let (head, body) = request.into_parts();
    if head.uri.path().len() > PATH_LIMIT || head.uri.query().unwrap_or_default().len() > PATH_LIMIT {
        return Err(Refused::new(414, Code::NameInvalid, "the path is too long"));
    }
    let query = Query::parse(head.uri.query().unwrap_or_default());
    let route = parse(head.uri.path())?;
    let writes = !matches!(head.method, Method::GET | Method::HEAD);
    if server.read_only && writes {
        return Err(Refused::new(405, Code::Unsupported, "this registry is only read from").with("allow", "GET, HEAD"));
    }
    let (is_head, body) = (head.method == Method::HEAD, Incomer::new(body));
    match (&head.method, route) {
        (&Method::GET | &Method::HEAD, Route::Base) => {
            Ok(Answer::new(200).header("docker-distribution-api-version", "registry/2.0").json(&serde_json::json!({})))
        }
        (&Method::GET | &Method::HEAD, Route::Catalog) => lists::catalog(server, &query).await,
        (&Method::GET | &Method::HEAD, Route::Tags(repository)) => lists::tags(server, repository, &query).await,
        (&Method::GET | &Method::HEAD, Route::Referrers(repository, digest)) => {
            lists::referrers(server, repository, digest, &query).await
        }
        (&Method::GET | &Method::HEAD, Route::Manifest(repository, wanted)) => {
            manifests::get(server, repository, wanted, is_head).await
        }
        (&Method::PUT, Route::Manifest(repository, wanted)) => {
            manifests::put(server, repository, wanted, &head.headers, body).await
        }
        (&Method::DELETE, Route::Manifest(repository, wanted)) => manifests::delete(server, repository, wanted).await,
        (&Method::GET | &Method::HEAD, Route::Blob(repository, digest)) => {
            blobs::get(server, repository, digest, &head.headers, is_head).await
        }
        (&Method::DELETE, Route::Blob(repository, digest)) => blobs::delete(server, repository, digest).await,
        (&Method::POST, Route::Uploads(repository)) => {
            uploads::begin(server, repository, &query, &head.headers, body).await
        }
        (&Method::PATCH, Route::Upload(repository, id)) => {
            uploads::piece(server, repository, id, &head.headers, body).await
        }
        (&Method::PUT, Route::Upload(repository, id)) => {
            uploads::finish(server, repository, id, &query, &head.headers, body).await
        }
        (&Method::GET | &Method::HEAD, Route::Upload(repository, id)) => uploads::look(server, repository, id).await,
        (&Method::DELETE, Route::Upload(_, id)) => uploads::cancel(server, id).await,
        (_, route) => Err(Refused::method(match route {
            Route::Manifest(..) => "GET, HEAD, PUT, DELETE",
            Route::Blob(..) => "GET, HEAD, DELETE",
            Route::Uploads(_) => "POST",
            Route::Upload(..) => "GET, PATCH, PUT, DELETE",
            _ => "GET, HEAD",
        })),
    }
}

/// Parses a path from its end: repositories have slashes, and may be called like an endpoint.
pub(super) fn parse(path: &str) -> Result<Route, Refused> {
    let unknown = || Refused::new(404, Code::Unsupported, "there is no such endpoint");
    let path = decoded(path).ok_or_else(unknown)?;
    let rest = match path.strip_prefix("/v2") {
        Some("" | "/") => return Ok(Route::Base),
        Some("/_catalog") => return Ok(Route::Catalog),
        Some(rest) => rest.strip_prefix('/').ok_or_else(unknown)?,
        None => return Err(unknown()),
    };
    let (front, last) = rest.rsplit_once('/').ok_or_else(unknown)?;
    if let Some(name) = front.strip_suffix("/blobs/uploads") {
        let repository = repository(name)?;
        return Ok(if last.is_empty() {
            Route::Uploads(repository)
        } else {
            Route::Upload(repository, last.to_owned())
        });
    }
    let (name, endpoint) = front.rsplit_once('/').ok_or_else(unknown)?;
    match (endpoint, last) {
        ("tags", "list") => Ok(Route::Tags(repository(name)?)),
        ("blobs", "uploads") => Ok(Route::Uploads(repository(name)?)),
        ("blobs", last) => Ok(Route::Blob(repository(name)?, digest(last)?)),
        ("referrers", last) => Ok(Route::Referrers(repository(name)?, digest(last)?)),
        ("manifests", last) => {
            let repository = repository(name)?;
            let wanted = match (last.parse(), repository.with_tag(last)) {
                (Ok(digest), _) => Wanted::Digest(digest),
                (Err(_), Ok(tagged)) => Wanted::Tag(tagged),
                (Err(_), Err(_)) => Wanted::Neither,
            };
            Ok(Route::Manifest(repository, wanted))
        }
        _ => Err(unknown()),
    }
}

/// A repository is the image of that name, as `dunnage run` takes it.
pub(super) fn repository(name: &str) -> Result<Reference, Refused> {
    let bad = |reason: &str| Refused::new(400, Code::NameInvalid, reason);
    if !Reference::is_path(name) {
        return Err(bad("a repository's name is of small letters and digits, joined by . _ - and /"));
    }
    let repository: Reference = name.parse().map_err(|error: cache::Error| bad(&error.to_string()))?;
    match Hosted::can_hold(&repository) {
        true => Ok(repository),
        false => Err(bad("the repository's name is too long for this registry")),
    }
}

fn digest(text: &str) -> Result<Digest, Refused> {
    text.parse().map_err(|error: cache::Error| Refused::new(400, Code::DigestInvalid, error.to_string()))
}

/// Percent-encoding undone; `None` where it is wrong or no UTF-8 comes of it.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = [rest.next()?, rest.next()?];
        bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_from_their_end() {
        let name = |text: &str| text.parse::<Reference>().unwrap();
        let digest = Digest::sha256_of(b"");
        let encoded = digest.to_string().replace(':', "%3A");
        let cases = [
            ("/v2/".to_owned(), Route::Base),
            ("/v2/_catalog".to_owned(), Route::Catalog),
            ("/v2/a/tags/list".to_owned(), Route::Tags(name("a"))),
            ("/v2/a/b/c/tags/list".to_owned(), Route::Tags(name("a/b/c"))),
            ("/v2/a/manifests/1.0".to_owned(), Route::Manifest(name("a"), Wanted::Tag(name("a:1.0")))),
            (format!("/v2/a/manifests/{encoded}"), Route::Manifest(name("a"), Wanted::Digest(digest.clone()))),
            ("/v2/a/manifests/.x".to_owned(), Route::Manifest(name("a"), Wanted::Neither)),
            (
                "/v2/a/manifests/b/manifests/c".to_owned(),
                Route::Manifest(name("a/manifests/b"), Wanted::Tag(name("a/manifests/b:c"))),
            ),
            (format!("/v2/ghcr.io/x/y/blobs/{digest}"), Route::Blob(name("ghcr.io/x/y"), digest.clone())),
            ("/v2/a/blobs/uploads/".to_owned(), Route::Uploads(name("a"))),
            ("/v2/a/blobs/uploads".to_owned(), Route::Uploads(name("a"))),
            ("/v2/a/blobs/uploads/x".to_owned(), Route::Upload(name("a"), "x".to_owned())),
            (format!("/v2/a/referrers/{digest}"), Route::Referrers(name("a"), digest.clone())),
        ];
        for (path, route) in cases {
            assert_eq!(parse(&path).unwrap(), route, "{path}");
        }
        // Different ways to say the same name.
        assert_eq!(parse("/v2/library/a/tags/list").unwrap(), parse("/v2/a/tags/list").unwrap());
    }

    #[test]
    fn security_r19_names_that_lead_elsewhere_are_none() {
        for path in [
            "/",
            "/v1/",
            "/v2",
            "/v2x",
            "/v2/a",
            "/v2//tags/list",
            "/v2/../tags/list",
            "/v2/a/../b/tags/list",
            "/v2/%2e%2e/x/tags/list",
            "/v2/a%2f..%2fb/tags/list",
            "/v2/A/tags/list",
            "/v2/a:1/tags/list",
            "/v2/a/blobs/sha256:../../x",
            "/v2/a/blobs/sha256:00",
            "/v2/a%00b/tags/list",
            "/v2/%/tags/list",
        ] {
            assert!(path == "/v2" || parse(path).is_err(), "{path}");
        }
        assert!(parse(&format!("/v2/{}/tags/list", "a/".repeat(60) + "a")).is_err());
    }
}
