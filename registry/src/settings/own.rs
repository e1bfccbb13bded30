//! Dunnage's own `config.toml`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;

use super::{Mirror, Rule, TransferSettings, place, toml_error};
use crate::error::{Error, Result};

/// Most layers, and most connections of one, at once.
const MOST: u64 = 64;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    registries: BTreeMap<String, Registry>,
    #[serde(default)]
    transfers: Transfers,
    /// Not about registries: others read it.
    #[serde(default, rename = "userns")]
    _userns: serde::de::IgnoredAny,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Registry {
    #[serde(default)]
    mirrors: Vec<String>,
    #[serde(default)]
    blocked: bool,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    ca: Option<PathBuf>,
    #[serde(default)]
    cert: Option<PathBuf>,
    #[serde(default)]
    key: Option<PathBuf>,
    #[serde(default)]
    realms: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Transfers {
    concurrency: Option<Spanned<u64>>,
    ranges: Option<Spanned<u64>>,
    bandwidth: Option<Spanned<String>>,
}

/// Rules, and transfers as `before` with what the file says.
pub(super) fn parse(text: &str, path: &Path, before: TransferSettings) -> Result<(Vec<Rule>, TransferSettings)> {
    let document: Document = toml::from_str(text).map_err(|error| toml_error(path, text, &error))?;
    let mut rules = Vec::new();
    for (name, registry) in document.registries {
        let name = place(&name);
        let whole = |file: PathBuf| path.parent().unwrap_or(path).join(file);
        let identity = match (registry.cert, registry.key) {
            (Some(cert), Some(key)) => Some((whole(cert), whole(key))),
            (None, None) => None,
            _ => {
                let reason = format!("[registries.\"{name}\"] has one of `cert` and `key`, and needs both");
                return Err(Error::settings(path.display(), reason));
            }
        };
        rules.push(Rule {
            place: name,
            file: path.to_owned(),
            location: None,
            mirrors: registry.mirrors.iter().map(|at| Mirror { location: place(at), insecure: false }).collect(),
            blocked: registry.blocked,
            insecure: registry.insecure,
            authorities: registry.ca.map(whole).into_iter().collect(),
            identity,
            realms: registry.realms,
        });
    }
    let at = |span: std::ops::Range<usize>, reason: String| {
        let line = text.get(..span.start).unwrap_or_default().matches('\n').count() + 1;
        Error::settings(format!("{}:{line}", path.display()), reason)
    };
    let number = |value: Option<Spanned<u64>>, before: usize| match value {
        None => Ok(before),
        Some(value) if (1..=MOST).contains(value.get_ref()) => Ok(usize::try_from(*value.get_ref()).unwrap_or(before)),
        Some(value) => Err(at(value.span(), format!("it must be 1 to {MOST}"))),
    };
    let bandwidth = match document.transfers.bandwidth {
        None => before.bandwidth,
        Some(value) => Some(
            rate(value.get_ref())
                .ok_or_else(|| at(value.span(), "it must be bytes per second, such as 500k or 10m".to_owned()))?,
        ),
    };
    let transfers = TransferSettings {
        concurrency: number(document.transfers.concurrency, before.concurrency)?,
        ranges: number(document.transfers.ranges, before.ranges)?,
        bandwidth,
    };
    Ok((rules, transfers))
}

/// `500k`, `10m`, `1g`: powers of 1024; at least 1 KiB per second.
fn rate(text: &str) -> Option<u64> {
    let text = text.trim().to_ascii_lowercase();
    let (number, power) = match text.strip_suffix(['k', 'm', 'g']) {
        Some(number) if text.ends_with('k') => (number, 10),
        Some(number) if text.ends_with('m') => (number, 20),
        Some(number) => (number, 30),
        None => (text.as_str(), 0),
    };
    let bytes = number.trim().parse::<u64>().ok()?.checked_mul(1 << power)?;
    (bytes >= 1024).then_some(bytes)
}
