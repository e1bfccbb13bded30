//! Manifests by tag and digest.

use std::sync::Arc;

use cache::{Digest, HostedManifest, HostedTag, MediaType, Reference};
use hyper::HeaderMap;
use hyper::header::CONTENT_TYPE;

use super::body::Incomer;
use super::images::{Said, is_elsewhere};
use super::reply::{Answer, CONTENT_DIGEST, Code, Handled, Refused};
use super::route::Wanted;
use super::uploads::path_name;
use super::{ServeEvent, Server, blocking};
use crate::documents::{DOCUMENT_LIMIT, Document};

pub(super) async fn get(server: Arc<Server>, repository: Reference, wanted: Wanted, is_head: bool) -> Handled {
    let found = blocking(move || {
        let Some(manifest) = server.find(&repository, &wanted)? else { return Ok(None) };
        let bytes = server.hosted.manifest_bytes(&manifest.digest)?;
        Ok(bytes.map(|bytes| (manifest, bytes)))
    });
    let Some((manifest, bytes)) = found.await? else { return Err(unknown()) };
    let answer = Answer::new(200)
        .header("content-type", manifest.media_type.as_str())
        .header(CONTENT_DIGEST, manifest.digest.to_string())
        .header("etag", format!("\"{}\"", manifest.digest));
    Ok(if is_head { answer.sized(bytes.len() as u64) } else { answer.bytes(bytes) })
}

pub(super) async fn put(
    server: Arc<Server>,
    repository: Reference,
    wanted: Wanted,
    headers: &HeaderMap,
    body: Incomer,
) -> Handled {
    let said = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let said = said.map(|text| MediaType::from(text.split(';').next().unwrap_or(text).trim().to_owned()));
    let bytes = body.all(usize::try_from(DOCUMENT_LIMIT).unwrap_or(usize::MAX)).await?;
    let place = path_name(&repository);
    let taken = blocking(move || take(&server, &repository, &wanted, said.as_ref(), &bytes));
    let manifest = taken.await?;
    let answer = Answer::new(201)
        .header("location", format!("/v2/{place}/manifests/{}", manifest.digest))
        .header(CONTENT_DIGEST, manifest.digest.to_string());
    Ok(match manifest.subject {
        Some(subject) => answer.header("oci-subject", subject.to_string()).empty(),
        None => answer.empty(),
    })
}

/// Takes a manifest: its record, its image where it is one, and last of all its tag.
fn take(
    server: &Server,
    repository: &Reference,
    wanted: &Wanted,
    said: Option<&MediaType>,
    bytes: &[u8],
) -> Result<HostedManifest, Refused> {
    let invalid = |reason: String| Refused::new(400, Code::ManifestInvalid, reason);
    let digest = match wanted {
        Wanted::Neither => return Err(invalid("a manifest is put under a tag, or under its digest".to_owned())),
        Wanted::Tag(_) => Digest::sha256_of(bytes),
        Wanted::Digest(digest) => match Digest::like(digest, bytes) {
            found if found == *digest => found,
            found => return Err(Refused::new(400, Code::DigestInvalid, format!("the manifest's digest is {found}"))),
        },
    };
    let (document, media_type) = Document::parse(bytes, said).map_err(invalid)?;
    let about: Said = serde_json::from_slice(bytes).map_err(|error| invalid(error.to_string()))?;
    complete(server, repository, &document)?;
    let mut names = vec![repository.with_digest(&digest)];
    if let Wanted::Tag(name) = wanted {
        names.push(name.clone());
    }
    let mut record = about.record(digest.clone(), media_type, bytes.len() as u64, &document);
    record.image = match adopted(server, repository, &document, &names) {
        Ok(image) => image,
        Err(error) if error.is_environment() => return Err(error.into()),
        Err(error) => {
            // What cannot be unpacked here may be right for others.
            server.note(format!("{} is kept, but is no image of this store: {error}", names_shown(&names)));
            None
        }
    };
    if record.image.is_some() {
        server.remember(bytes)?;
    }
    server.hosted.put_manifest(repository, &record, bytes)?;
    if let Wanted::Tag(name) = wanted {
        if record.image.is_none() {
            // The name stands for something else now.
            server.store.untag(name)?;
        }
        server.hosted.put_tag(name, &HostedTag { digest: digest.clone(), image: record.image.clone() })?;
    }
    let (name, is_image) = (names.pop().unwrap_or_else(|| repository.clone()), record.image.is_some());
    server.tell(ServeEvent::Pushed { name, digest, is_image });
    Ok(record)
}

fn adopted(
    server: &Server,
    repository: &Reference,
    document: &Document,
    names: &[Reference],
) -> crate::Result<Option<cache::ImageId>> {
    match document {
        Document::Manifest(manifest) => server.adopt(repository, manifest, names),
        Document::Index(index) => server.adopt_index(repository, index, names),
    }
}

fn names_shown(names: &[Reference]) -> String {
    names.last().map(Reference::familiar).unwrap_or_default()
}

/// Whatever a manifest names has to be there, of the size that it says.
fn complete(server: &Server, repository: &Reference, document: &Document) -> Result<(), Refused> {
    let missing = |digest: &Digest| {
        Refused::new(404, Code::ManifestBlobUnknown, format!("the repository does not have {digest}; push it first"))
    };
    let size = |digest: &Digest, size: u64| {
        Refused::new(400, Code::SizeInvalid, format!("{digest} has {size} bytes, and the manifest says another size"))
    };
    match document {
        Document::Manifest(manifest) => {
            let layers = manifest.layers.iter().filter(|layer| !is_elsewhere(layer));
            for named in std::iter::once(&manifest.config).chain(layers) {
                let found = server.hosted.blob(repository, &named.digest)?.ok_or_else(|| missing(&named.digest))?;
                if found.size != named.size {
                    return Err(size(&named.digest, found.size));
                }
            }
        }
        Document::Index(index) => {
            for named in &index.manifests {
                let found = server.hosted.manifest(repository, &named.digest)?.ok_or_else(|| missing(&named.digest))?;
                if found.size != named.size {
                    return Err(size(&named.digest, found.size));
                }
            }
        }
    }
    Ok(())
}

pub(super) async fn delete(server: Arc<Server>, repository: Reference, wanted: Wanted) -> Handled {
    let removed = blocking(move || {
        let name = match &wanted {
            Wanted::Tag(name) => name.clone(),
            Wanted::Digest(digest) => repository.with_digest(digest),
            Wanted::Neither => return Ok(false),
        };
        let removed = match wanted {
            Wanted::Digest(digest) => server.remove_manifest(&repository, &digest)?,
            _ => server.remove_tag(&name)?,
        };
        if removed {
            server.tell(ServeEvent::Removed(name));
        }
        Ok(removed)
    });
    match removed.await? {
        true => Ok(Answer::new(202).empty()),
        false => Err(unknown()),
    }
}

fn unknown() -> Refused {
    Refused::new(404, Code::ManifestUnknown, "the repository has no such manifest")
}
