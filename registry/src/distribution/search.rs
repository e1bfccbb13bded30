//! Looking for repositories: by the search that docker's registries have, else in the list of all that a registry shows.

use cache::Reference;
use reqwest::{Method, StatusCode, Url};
use serde::Deserialize;

use super::Client;
use super::endpoint::{Ask, Endpoint};
use super::refusal::{Cause, cause_of};
use super::repository::{Repository, next_page};
use crate::documents::DOCUMENT_LIMIT;
use crate::error::{Error, Result};
use crate::http::bounded;

/// Where docker's own registry is searched.
const HUB_INDEX: &str = "index.docker.io";
/// Most pages of a list of repositories.
const PAGES: usize = 100;

/// A repository that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its name, as `pull` takes it.
    pub name: String,
    /// What its owner says of it.
    pub description: String,
    /// How many people like it.
    pub stars: u64,
    /// It is one of those that docker looks after.
    pub official: bool,
}

#[derive(Deserialize)]
struct Results {
    results: Vec<Row>,
}

#[derive(Deserialize)]
struct Row {
    name: String,
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    star_count: u64,
    #[serde(default)]
    is_official: bool,
}

#[derive(Deserialize)]
struct Catalog {
    repositories: Option<Vec<String>>,
}

impl Client {
    /// Repositories of a registry that have to do with a term, `limit` at most.
    ///
    /// # Errors
    /// When the registry does not search, or cannot be asked.
    pub fn search(&self, host: &str, term: &str, limit: usize) -> Result<Vec<Found>> {
        let name: Reference = format!("{host}/search").parse()?;
        let doing = format!("search {host} for {term}");
        let mut settings = self.settings_of(&name, &doing)?;
        let is_hub = host == "docker.io";
        if is_hub && settings.host == host {
            settings.host = HUB_INDEX.to_owned();
        }
        let repository = self.open(settings, None, &name, &doing)?;
        let found = search(&repository.endpoint, term, limit).and_then(|found| match found {
            Some(found) => Ok(found),
            None => catalog(&repository, term, limit),
        });
        let mut found = found.map_err(|cause| repository.refused(cause))?;
        found.truncate(limit);
        if !is_hub {
            found.iter_mut().for_each(|found| found.name = format!("{host}/{}", found.name));
        }
        Ok(found)
    }

    /// How a registry itself is reached.
    fn settings_of(&self, name: &Reference, doing: &str) -> Result<crate::settings::EndpointSettings> {
        self.refuse_blocked(name, doing)?;
        let settings = self.settings.endpoints(name)?.pop();
        settings.ok_or_else(|| Error::Network("a registry has no place".to_owned()))
    }
}

/// Docker's search; `None` where there is none.
fn search(endpoint: &Endpoint, term: &str, limit: usize) -> Result<Option<Vec<Found>>, Cause> {
    let mut url: Url = "http://host/v1/search".parse().map_err(|_| Cause::Invalid("no URL".to_owned()))?;
    url.query_pairs_mut().append_pair("q", term).append_pair("n", &limit.to_string());
    let path = format!("v1/search?{}", url.query().unwrap_or_default());
    let response = endpoint.send(&Ask::new(Method::GET, &path, "registry:catalog:search"))?;
    match response.status() {
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => return Ok(None),
        status if !status.is_success() => return Err(endpoint.refusal(response, "search")),
        _ => {}
    }
    let bytes = bounded(response, DOCUMENT_LIMIT).map_err(|failed| cause_of(&failed))?;
    let results: Results = serde_json::from_slice(&bytes)
        .map_err(|error| Cause::Invalid(format!("what it found cannot be read: {error}")))?;
    let found = |row: Row| Found {
        name: row.name,
        description: row.description.unwrap_or_default(),
        stars: row.star_count,
        official: row.is_official,
    };
    Ok(Some(results.results.into_iter().map(found).collect()))
}

/// Those of all repositories whose name has the term in it.
fn catalog(repository: &Repository, term: &str, limit: usize) -> Result<Vec<Found>, Cause> {
    let endpoint = &repository.endpoint;
    let mut path = "v2/_catalog?n=1000".to_owned();
    let mut found = Vec::new();
    for _ in 0..PAGES {
        let response = endpoint.send(&Ask::new(Method::GET, &path, "registry:catalog:*"))?;
        if matches!(response.status(), StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED) {
            let reason = "it neither searches nor lists its repositories; look on its web page";
            return Err(Cause::Invalid(reason.to_owned()));
        }
        if !response.status().is_success() {
            return Err(endpoint.refusal(response, "list of repositories"));
        }
        let next = next_page(&response);
        let bytes = bounded(response, DOCUMENT_LIMIT).map_err(|failed| cause_of(&failed))?;
        let page: Catalog = serde_json::from_slice(&bytes)
            .map_err(|error| Cause::Invalid(format!("its list of repositories cannot be read: {error}")))?;
        let fits = page.repositories.into_iter().flatten().filter(|name| name.contains(term));
        found.extend(fits.map(|name| Found { name, description: String::new(), stars: 0, official: false }));
        match next {
            Some(next) if next != path && found.len() < limit => path = next,
            _ => return Ok(found),
        }
    }
    Err(Cause::Invalid("its list of repositories does not end".to_owned()))
}
