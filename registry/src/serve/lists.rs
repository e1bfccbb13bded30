//! Lists: tags, repositories, and what refers to a manifest. All come in pages.

use std::collections::BTreeSet;
use std::sync::Arc;

use cache::{Digest, HostedManifest, Reference};
use hyper::Response;
use serde_json::{Value, json};

use super::body::Body;
use super::reply::{Answer, Code, Handled, Refused};
use super::route::Query;
use super::uploads::path_name;
use super::{Server, blocking};

/// Most entries of a page.
const PAGE: usize = 1000;
/// Most bytes of a page of referrers; the specification has 4 MiB for an index.
const PAGE_BYTES: usize = 3 << 20;

pub(super) async fn tags(server: Arc<Server>, repository: Reference, query: &Query) -> Handled {
    let page = Page::of(query)?;
    let name = path_name(&repository);
    let found = blocking(move || {
        let names = server.names(&repository)?;
        let tags: BTreeSet<String> = names.iter().filter_map(Reference::tag).map(str::to_owned).collect();
        let exists = !tags.is_empty() || !server.hosted.manifests(&repository)?.is_empty();
        Ok(exists.then_some(tags))
    });
    let Some(tags) = found.await? else {
        return Err(Refused::new(404, Code::NameUnknown, "the registry has no such repository"));
    };
    let (tags, more) = page.cut(tags);
    Ok(paged(&format!("/v2/{name}/tags/list"), &page, more.as_deref(), &json!({ "name": name, "tags": tags })))
}

pub(super) async fn catalog(server: Arc<Server>, query: &Query) -> Handled {
    let page = Page::of(query)?;
    let names = blocking(move || {
        let mut names: BTreeSet<String> = BTreeSet::new();
        let stored = server.store.image_names()?;
        // Names with a port in them cannot be asked for.
        names.extend(stored.iter().map(path_name).filter(|name| Reference::is_path(name)));
        for repository in server.hosted.repositories()? {
            let name = path_name(&repository);
            if !names.contains(&name) && !server.hosted.manifests(&repository)?.is_empty() {
                names.insert(name);
            }
        }
        Ok(names)
    });
    let (names, more) = page.cut(names.await?);
    Ok(paged("/v2/_catalog", &page, more.as_deref(), &json!({ "repositories": names })))
}

/// What refers to a manifest, be that here or not.
pub(super) async fn referrers(server: Arc<Server>, repository: Reference, digest: Digest, query: &Query) -> Handled {
    let wanted = query.get("artifactType").map(str::to_owned);
    let last = query.get("last").map(str::to_owned).unwrap_or_default();
    let (name, subject, filter) = (path_name(&repository), digest.clone(), wanted.clone());
    let found = blocking(move || {
        let all = server.hosted.manifests(&repository)?.into_iter();
        let refers = |manifest: &HostedManifest| {
            manifest.subject.as_ref() == Some(&subject)
                && (filter.is_none() || manifest.artifact_type == filter)
                && manifest.digest.to_string() > last
        };
        Ok(all.filter(refers).collect::<Vec<_>>())
    });
    let (mut entries, mut bytes, mut next) = (Vec::new(), 0, None);
    for manifest in found.await? {
        let entry = described(&manifest);
        bytes += entry.to_string().len();
        if bytes > PAGE_BYTES && !entries.is_empty() {
            next = entries.last().and_then(|last: &Value| last.get("digest")?.as_str().map(str::to_owned));
            break;
        }
        entries.push(entry);
    }
    let kind = "application/vnd.oci.image.index.v1+json";
    let mut answer = Answer::new(200).header("content-type", kind);
    if wanted.is_some() {
        answer = answer.header("oci-filters-applied", "artifactType");
    }
    if let Some(next) = next {
        let filter = wanted.map(|kind| format!("&artifactType={}", encoded(&kind))).unwrap_or_default();
        answer = answer.header("link", format!("</v2/{name}/referrers/{digest}?last={next}{filter}>; rel=\"next\""));
    }
    Ok(answer.json(&json!({ "schemaVersion": 2, "mediaType": kind, "manifests": entries })))
}

fn described(manifest: &HostedManifest) -> Value {
    let mut entry = serde_json::Map::new();
    let mut put = |name: &str, value| entry.insert(name.to_owned(), value);
    put("mediaType", json!(manifest.media_type.as_str()));
    put("digest", json!(manifest.digest.to_string()));
    put("size", json!(manifest.size));
    if let Some(kind) = &manifest.artifact_type {
        put("artifactType", json!(kind));
    }
    if !manifest.annotations.is_empty() {
        put("annotations", json!(manifest.annotations));
    }
    Value::Object(entry)
}

/// Which part of a list is asked for.
#[derive(Debug)]
struct Page {
    count: Option<usize>,
    last: Option<String>,
}

impl Page {
    fn of(query: &Query) -> Result<Page, Refused> {
        let bad = || Refused::new(400, Code::PaginationInvalid, "n has to be a number");
        let count = query.get("n").map(|text| text.parse().map_err(|_| bad())).transpose()?;
        Ok(Page { count, last: query.get("last").map(str::to_owned) })
    }

    /// The entries of the page, in order, and its last one where there are more.
    fn cut(&self, all: BTreeSet<String>) -> (Vec<String>, Option<String>) {
        let count = self.count.unwrap_or(PAGE).min(PAGE);
        let after = |entry: &String| self.last.as_ref().is_none_or(|last| entry > last);
        let mut rest = all.into_iter().filter(after);
        let page: Vec<String> = rest.by_ref().take(count).collect();
        let more = rest.next().and_then(|_| page.last().cloned());
        (page, more)
    }
}

fn paged(path: &str, page: &Page, last: Option<&str>, document: &Value) -> Response<Body> {
    let answer = Answer::new(200);
    let answer = match last {
        Some(last) => {
            let count = page.count.unwrap_or(PAGE).min(PAGE);
            answer.header("link", format!("<{path}?last={}&n={count}>; rel=\"next\"", encoded(last)))
        }
        None => answer,
    };
    answer.json(document)
}

/// Text in a query.
fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/:".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_follow_each_other() {
        let all = || ["a", "b", "c"].map(str::to_owned).into_iter().collect::<BTreeSet<String>>();
        let page = |count, last: Option<&str>| Page { count, last: last.map(str::to_owned) }.cut(all());
        assert_eq!(page(None, None), (vec!["a".to_owned(), "b".to_owned(), "c".to_owned()], None));
        assert_eq!(page(Some(2), None), (vec!["a".to_owned(), "b".to_owned()], Some("b".to_owned())));
        assert_eq!(page(Some(2), Some("b")), (vec!["c".to_owned()], None));
        assert_eq!(page(Some(0), None), (Vec::new(), None));
        // A last entry that is gone meanwhile is a place all the same.
        assert_eq!(page(Some(1), Some("aa")), (vec!["b".to_owned()], Some("b".to_owned())));
    }

    #[test]
    fn what_goes_into_a_query_is_encoded() {
        assert_eq!(encoded("application/x+json a"), "application/x%2Bjson%20a");
    }
}
