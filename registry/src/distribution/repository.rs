//! One repository at one registry: manifests, tags, referrers, removal.

use std::sync::Arc;

use cache::{Descriptor, Digest, MediaType, Reference};
use reqwest::blocking::Response;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderValue, LINK};
use reqwest::{Method, StatusCode};
use serde::Deserialize;

use super::endpoint::{Ask, Endpoint};
use super::refusal::{Cause, Refusal, cause_of};
use crate::documents::{DOCUMENT_LIMIT, Document};
use crate::error::{Error, Result};
use crate::http::bounded;

/// What manifests may be (OCI image-spec; Docker image manifest 2, schema 2).
const ACCEPTED: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json";
/// Most pages of a list.
const PAGES: usize = 1000;
/// Most entries of a list.
const ENTRIES: usize = 100_000;

/// One repository at one registry.
#[derive(Debug, Clone)]
pub struct Repository {
    pub(super) endpoint: Arc<Endpoint>,
    /// Its path there.
    pub(super) name: String,
    /// Registry and repository, as the user calls them.
    pub(super) place: String,
    /// What the user is doing, for errors.
    pub(super) doing: String,
}

/// A manifest or index as a registry has it, verified.
#[derive(Debug, Clone)]
pub struct RemoteManifest {
    /// Its digest.
    pub digest: Digest,
    /// What it is.
    pub media_type: MediaType,
    /// Its bytes.
    pub bytes: Vec<u8>,
    pub(crate) document: Document,
}

/// Which tag or digest a name asks for.
pub fn wanted(reference: &Reference) -> String {
    match reference.digest() {
        Some(digest) => digest.to_string(),
        None => reference.tag().unwrap_or("latest").to_owned(),
    }
}

impl RemoteManifest {
    /// The entries of an index; none of a manifest.
    pub fn entries(&self) -> &[Descriptor] {
        match &self.document {
            Document::Index(index) => &index.manifests,
            Document::Manifest(_) => &[],
        }
    }
}

#[derive(Deserialize)]
struct Tags {
    tags: Option<Vec<String>>,
}

impl Repository {
    /// Names what was wanted and where in an error.
    pub(super) fn refused(&self, cause: Cause) -> Error {
        if cause == Cause::Cancelled {
            return Error::Cancelled;
        }
        let registry = self.endpoint.settings.host.clone();
        Error::Refused(Box::new(Refusal { doing: self.doing.clone(), registry, cause }))
    }

    pub(super) fn pull_scope(&self) -> String {
        format!("repository:{}:pull", self.name)
    }

    pub(super) fn push_scope(&self) -> String {
        format!("repository:{}:pull,push", self.name)
    }

    /// A manifest by tag or digest, verified against the digest where one is asked for.
    ///
    /// # Errors
    /// When there is none, or it is not what it should be.
    pub fn manifest(&self, wanted: &str) -> Result<RemoteManifest> {
        self.try_manifest(wanted).map_err(|cause| self.refused(cause))
    }

    pub(super) fn try_manifest(&self, wanted: &str) -> Result<RemoteManifest, Cause> {
        let (path, scope) = (self.manifest_path(wanted), self.pull_scope());
        let mut ask = Ask::new(Method::GET, &path, &scope);
        ask.headers.insert(ACCEPT, HeaderValue::from_static(ACCEPTED));
        let response = self.endpoint.send(&ask)?;
        if !response.status().is_success() {
            return Err(self.endpoint.refusal(response, "image"));
        }
        let said = media_type(&response);
        let claimed = content_digest(&response);
        let bytes = bounded(response, DOCUMENT_LIMIT).map_err(|failed| cause_of(&failed))?;
        let pinned = wanted.parse::<Digest>().ok();
        let digest = match &pinned {
            Some(pinned) if pinned.algorithm() == "sha512" => sha512_of(&bytes)?,
            _ => Digest::sha256_of(&bytes),
        };
        for expected in
            pinned.iter().chain(claimed.as_ref().filter(|claimed| claimed.algorithm() == digest.algorithm()))
        {
            if *expected != digest {
                return Err(Cause::Invalid(format!("the manifest should be {expected}, and is {digest}")));
            }
        }
        let (document, media_type) = Document::parse(&bytes, said.as_ref()).map_err(Cause::Invalid)?;
        Ok(RemoteManifest { digest, media_type, bytes, document })
    }

    /// The digest of a tag, or `None` when there is none. Registries may not tell: then the manifest itself is read.
    pub(super) fn head_manifest(&self, wanted: &str, scope: &str) -> Result<Option<Digest>, Cause> {
        let path = self.manifest_path(wanted);
        let mut ask = Ask::new(Method::HEAD, &path, scope);
        ask.headers.insert(ACCEPT, HeaderValue::from_static(ACCEPTED));
        let response = self.endpoint.send(&ask)?;
        match response.status() {
            StatusCode::NOT_FOUND => Ok(None),
            status if status.is_success() => match content_digest(&response) {
                Some(digest) => Ok(Some(digest)),
                None => self.try_manifest(wanted).map(|manifest| Some(manifest.digest)),
            },
            // A HEAD has no body that would say why.
            _ => Err(self.endpoint.refusal(response, "image")),
        }
    }

    /// Puts a manifest under a tag or its digest.
    ///
    /// # Errors
    /// When the registry does not take it.
    pub fn put_manifest(&self, wanted: &str, media_type: &MediaType, bytes: &[u8]) -> Result<Digest> {
        let put = || -> Result<Digest, Cause> {
            let (path, scope) = (self.manifest_path(wanted), self.push_scope());
            let mut ask = Ask::new(Method::PUT, &path, &scope);
            let kind = HeaderValue::from_str(media_type.as_str())
                .map_err(|_| Cause::Invalid("the type of a manifest cannot be sent".to_owned()))?;
            ask.headers.insert(CONTENT_TYPE, kind);
            ask.body = Some(bytes::Bytes::copy_from_slice(bytes));
            let response = self.endpoint.send(&ask)?;
            if !response.status().is_success() {
                return Err(self.endpoint.refusal(response, "repository"));
            }
            let digest = Digest::sha256_of(bytes);
            match content_digest(&response).filter(|found| found.algorithm() == "sha256" && *found != digest) {
                Some(found) => Err(Cause::Invalid(format!("it took the manifest {digest} for {found}"))),
                None => Ok(digest),
            }
        };
        put().map_err(|cause| self.refused(cause))
    }

    /// Removes a manifest by digest, or a tag where the registry can.
    ///
    /// # Errors
    /// When there is none, or the registry does not remove.
    pub fn delete_manifest(&self, wanted: &str) -> Result<()> {
        let (path, scope) = (self.manifest_path(wanted), format!("repository:{}:pull,delete", self.name));
        let response =
            self.endpoint.send(&Ask::new(Method::DELETE, &path, &scope)).map_err(|cause| self.refused(cause))?;
        match response.status() {
            status if status.is_success() => Ok(()),
            StatusCode::METHOD_NOT_ALLOWED => {
                Err(self.refused(Cause::Invalid("it removes nothing: its owner has to allow that".to_owned())))
            }
            // Docker's own registry is older than tags that are removed by themselves.
            StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND if wanted.parse::<Digest>().is_err() => {
                let known = self.head_manifest(wanted, &scope).map_err(|cause| self.refused(cause))?;
                let cause = match known {
                    None => Cause::NotFound { what: "image", anonymous: self.endpoint.is_anonymous() },
                    Some(digest) => Cause::Invalid(format!(
                        "it removes no tags alone; the name by digest, with @{digest}, removes the image with all its tags"
                    )),
                };
                Err(self.refused(cause))
            }
            _ => Err(self.refused(self.endpoint.refusal(response, "image"))),
        }
    }

    /// All tags, in the registry's order.
    ///
    /// # Errors
    /// When the repository is not there, or is not shown.
    pub fn tags(&self) -> Result<Vec<String>> {
        self.try_tags().map_err(|cause| self.refused(cause))
    }

    fn try_tags(&self) -> Result<Vec<String>, Cause> {
        let mut path = format!("v2/{}/tags/list", self.name);
        let scope = self.pull_scope();
        let mut tags = Vec::new();
        for _ in 0..PAGES {
            let response = self.endpoint.send(&Ask::new(Method::GET, &path, &scope))?;
            if !response.status().is_success() {
                return Err(self.endpoint.refusal(response, "repository"));
            }
            let next = next_page(&response);
            let bytes = bounded(response, DOCUMENT_LIMIT).map_err(|failed| cause_of(&failed))?;
            let page: Tags = serde_json::from_slice(&bytes)
                .map_err(|error| Cause::Invalid(format!("its list of tags cannot be read: {error}")))?;
            tags.extend(page.tags.into_iter().flatten());
            match next {
                Some(next) if next != path && tags.len() < ENTRIES => path = next,
                _ => return Ok(tags),
            }
        }
        Err(Cause::Invalid("its list of tags does not end".to_owned()))
    }

    /// What refers to a manifest: signatures, attestations. By the API, else by the tag that stands in for it
    /// (distribution-spec, "Referrers Tag Schema").
    ///
    /// # Errors
    /// When the registry does not answer as it should.
    pub fn referrers(&self, digest: &Digest) -> Result<Vec<Descriptor>> {
        self.try_referrers(digest).map_err(|cause| self.refused(cause))
    }

    fn try_referrers(&self, digest: &Digest) -> Result<Vec<Descriptor>, Cause> {
        let (path, scope) = (format!("v2/{}/referrers/{digest}", self.name), self.pull_scope());
        let mut ask = Ask::new(Method::GET, &path, &scope);
        ask.headers.insert(ACCEPT, HeaderValue::from_static("application/vnd.oci.image.index.v1+json"));
        let response = self.endpoint.send(&ask)?;
        let document = if response.status().is_success() {
            let bytes = bounded(response, DOCUMENT_LIMIT).map_err(|failed| cause_of(&failed))?;
            Document::parse(&bytes, None).map_err(Cause::Invalid)?.0
        } else if response.status() == StatusCode::NOT_FOUND {
            match self.try_manifest(&format!("{}-{}", digest.algorithm(), digest.hex())) {
                Ok(manifest) => manifest.document,
                Err(Cause::NotFound { .. }) => return Ok(Vec::new()),
                Err(cause) => return Err(cause),
            }
        } else {
            return Err(self.endpoint.refusal(response, "image"));
        };
        match document {
            Document::Index(index) => Ok(index.manifests),
            Document::Manifest(_) => Err(Cause::Invalid("its list of referrers is no index".to_owned())),
        }
    }

    fn manifest_path(&self, wanted: &str) -> String {
        format!("v2/{}/manifests/{wanted}", self.name)
    }
}

fn media_type(response: &Response) -> Option<MediaType> {
    let text = response.headers().get(CONTENT_TYPE)?.to_str().ok()?;
    Some(MediaType::from(text.split(';').next().unwrap_or(text).trim().to_owned()))
}

fn content_digest(response: &Response) -> Option<Digest> {
    response.headers().get("docker-content-digest")?.to_str().ok()?.parse().ok()
}

/// `Link: </v2/…?last=x&n=y>; rel="next"`
pub(super) fn next_page(response: &Response) -> Option<String> {
    let link = response.headers().get(LINK)?.to_str().ok()?;
    let (target, rest) = link.trim_start().strip_prefix('<')?.split_once('>')?;
    rest.contains("next").then(|| target.to_owned())
}

pub(super) fn sha512_of(bytes: &[u8]) -> Result<Digest, Cause> {
    use sha2::Digest as _;
    let hex: String = sha2::Sha512::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha512:{hex}").parse().map_err(|error: cache::Error| Cause::Invalid(error.to_string()))
}
