//! Containers' `registries.conf`, version 2 of its format. Keys that say nothing about where images are, are passed over.

use std::path::Path;

use serde::Deserialize;

use super::{Mirror, Rule, place, toml_error};
use crate::error::Result;

#[derive(Debug, Deserialize)]
struct Document {
    #[serde(default)]
    registry: Vec<Registry>,
}

#[derive(Debug, Deserialize)]
struct Registry {
    prefix: Option<String>,
    location: Option<String>,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    blocked: bool,
    #[serde(default)]
    mirror: Vec<MirrorOf>,
}

#[derive(Debug, Deserialize)]
struct MirrorOf {
    location: String,
    #[serde(default)]
    insecure: bool,
}

pub(super) fn parse(text: &str, path: &Path) -> Result<Vec<Rule>> {
    let document: Document = toml::from_str(text).map_err(|error| toml_error(path, text, &error))?;
    let rule = |registry: Registry| {
        let location = registry.location.as_deref().map(place);
        Some(Rule {
            place: registry.prefix.as_deref().map(place).or_else(|| location.clone())?,
            file: path.to_owned(),
            // A prefix with a star keeps the host that it met, unless something is said to stand for it.
            location: location.filter(|_| registry.prefix.is_some()),
            mirrors: registry
                .mirror
                .iter()
                .map(|mirror| Mirror { location: place(&mirror.location), insecure: mirror.insecure })
                .collect(),
            blocked: registry.blocked,
            insecure: registry.insecure,
            ..Rule::default()
        })
    };
    Ok(document.registry.into_iter().filter_map(rule).collect())
}
