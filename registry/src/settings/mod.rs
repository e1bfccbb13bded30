//! What the user's files say of registries: mirrors, blocks, trust, credentials. Reading gives data; deciding is pure.
//!
//! Dunnage's own `config.toml` comes first, then containers' `registries.conf`; docker's `certs.d` adds trust.

mod certs;
mod containers;
pub(crate) mod credentials;
mod own;

use std::path::{Path, PathBuf};

use cache::Reference;

use crate::error::{Error, Result};
use crate::http::Trust;

pub use credentials::{CredentialFile, Lookup, credential_key};

/// Most bytes of a file of settings.
const FILE_LIMIT: u64 = 1 << 20;

/// Where settings are.
#[derive(Debug, Clone, Default)]
pub struct SettingsFiles {
    /// Dunnage's own, the first rules.
    pub own: Vec<PathBuf>,
    /// `registries.conf`, the first that is there; with the `.conf` files of the directory of that name and `.d`.
    pub containers: Vec<PathBuf>,
    /// Directories like `certs.d`.
    pub certificates: Vec<PathBuf>,
}

/// One statement about a registry, or a part of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Rule {
    /// Host, or host and the beginning of a path, or `*.` and the end of a host.
    pub(crate) place: String,
    /// The file that says so.
    pub(crate) file: PathBuf,
    /// What stands for the place on the wire.
    pub(crate) location: Option<String>,
    pub(crate) mirrors: Vec<Mirror>,
    pub(crate) blocked: bool,
    pub(crate) insecure: bool,
    pub(crate) authorities: Vec<PathBuf>,
    pub(crate) identity: Option<(PathBuf, PathBuf)>,
    /// Hosts whose token services may have the registry's password.
    pub(crate) realms: Vec<String>,
}

/// Another place that has the same images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mirror {
    pub(crate) location: String,
    pub(crate) insecure: bool,
}

/// How transfers are done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransferSettings {
    /// Layers at once.
    pub concurrency: usize,
    /// Connections for one big layer.
    pub ranges: usize,
    /// Bytes per second of all transfers together.
    pub bandwidth: Option<u64>,
}

impl Default for TransferSettings {
    fn default() -> Self {
        TransferSettings { concurrency: 4, ranges: 3, bandwidth: None }
    }
}

/// All that the files say.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    rules: Vec<Rule>,
    certificates: Vec<PathBuf>,
    transfers: TransferSettings,
}

/// Where a repository is on the wire.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct EndpointSettings {
    /// As users call the registry: the key of credentials.
    pub(crate) host: String,
    /// The path of the repository there.
    pub(crate) repository: String,
    pub(crate) insecure: bool,
    pub(crate) trust: Trust,
    pub(crate) realms: Vec<String>,
    pub(crate) mirror: bool,
}

impl Settings {
    /// Reads what is there.
    ///
    /// # Errors
    /// When a file cannot be read or understood: with its name, and the line.
    pub fn read(files: &SettingsFiles) -> Result<Settings> {
        let mut settings = Settings { certificates: files.certificates.clone(), ..Settings::default() };
        for path in files.own.iter().rev() {
            // The first file's word on transfers is the last one heard.
            if let Some(text) = read_settings(path)? {
                let (rules, transfers) = own::parse(&text, path, settings.transfers)?;
                settings.rules.splice(..0, rules);
                settings.transfers = transfers;
            }
        }
        for path in &files.containers {
            let Some(text) = read_settings(path)? else { continue };
            let mut rules = containers::parse(&text, path)?;
            for more in configurations(&path.with_extension("conf.d")) {
                if let Some(text) = read_settings(&more)? {
                    // A later file's word on the same place replaces an earlier one's.
                    let found = containers::parse(&text, &more)?;
                    rules.retain(|rule| found.iter().all(|new| new.place != rule.place));
                    rules.extend(found);
                }
            }
            settings.rules.extend(rules);
            break;
        }
        Ok(settings)
    }

    /// How transfers are done.
    pub fn transfers(&self) -> TransferSettings {
        self.transfers
    }

    /// The file that blocks a name, where one does.
    pub(crate) fn blocked_by(&self, reference: &Reference) -> Option<&Path> {
        self.rule(&reference.place()).filter(|rule| rule.blocked).map(|rule| rule.file.as_path())
    }

    /// Where a name is asked for, in this order: its mirrors, then itself.
    pub(crate) fn endpoints(&self, reference: &Reference) -> Result<Vec<EndpointSettings>> {
        let place = reference.place();
        let rule = self.rule(&place);
        let mut endpoints = Vec::new();
        for mirror in rule.map(|rule| rule.mirrors.as_slice()).unwrap_or_default() {
            let tail = rule.map_or(reference.repository(), |rule| below(&place, &rule.place));
            let endpoint = self.endpoint(&joined(&mirror.location, tail))?;
            endpoints.push(EndpointSettings {
                insecure: endpoint.insecure || mirror.insecure,
                mirror: true,
                ..endpoint
            });
        }
        let own = match rule.and_then(|rule| Some((rule, rule.location.as_ref()?))) {
            Some((rule, location)) => self.endpoint(&joined(location, below(&place, &rule.place)))?,
            None => self.endpoint(&place)?,
        };
        endpoints.push(EndpointSettings { insecure: own.insecure || rule.is_some_and(|rule| rule.insecure), ..own });
        Ok(endpoints)
    }

    fn endpoint(&self, place: &str) -> Result<EndpointSettings> {
        let (host, repository) = place.split_once('/').unwrap_or((place, ""));
        let rule = self.rule(place);
        let mut trust = certs::trust(&self.certificates, host)?;
        if let Some(rule) = rule {
            trust.authorities.extend(rule.authorities.iter().cloned());
            trust.identity = rule.identity.clone().or(trust.identity);
        }
        Ok(EndpointSettings {
            host: host.to_owned(),
            repository: repository.to_owned(),
            insecure: rule.is_some_and(|rule| rule.insecure),
            trust,
            realms: rule.map(|rule| rule.realms.clone()).unwrap_or_default(),
            mirror: false,
        })
    }

    /// The rule with the longest place; of equal ones the first.
    fn rule(&self, place: &str) -> Option<&Rule> {
        let fitting = self.rules.iter().filter(|rule| fits(&rule.place, place));
        fitting.fold(None, |best: Option<&Rule>, rule| match best {
            Some(best) if best.place.len() >= rule.place.len() => Some(best),
            _ => Some(rule),
        })
    }
}

/// `host`, `host/path` and `*.end.of.host` against a whole place.
fn fits(pattern: &str, place: &str) -> bool {
    if let Some(ending) = pattern.strip_prefix('*') {
        return ending.starts_with('.') && place.split('/').next().is_some_and(|host| host.ends_with(ending));
    }
    place.strip_prefix(pattern).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// What of a place is below a pattern: all of its path for a pattern with a star.
fn below<'a>(place: &'a str, pattern: &str) -> &'a str {
    match pattern.starts_with('*') {
        true => place.split_once('/').map_or("", |(_, path)| path),
        false => place.strip_prefix(pattern).unwrap_or(place).trim_start_matches('/'),
    }
}

fn joined(location: &str, tail: &str) -> String {
    if tail.is_empty() { location.to_owned() } else { format!("{location}/{tail}") }
}

/// A host, or a host and a path, as files write it: with a scheme or a slash at its end it means the same.
fn place(text: &str) -> String {
    let text = text.trim();
    let bare = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).unwrap_or(text);
    let bare = bare.trim_end_matches('/');
    let bare = bare.strip_suffix("/v1").or_else(|| bare.strip_suffix("/v2")).unwrap_or(bare);
    match bare {
        "index.docker.io" | "registry-1.docker.io" | "registry.hub.docker.com" => "docker.io".to_owned(),
        other => other.to_owned(),
    }
}

/// The text of a file that a user keeps settings in; `None` where there is none.
///
/// # Errors
/// When it cannot be read, or is larger than 1 MiB.
pub fn read_settings(path: &Path) -> Result<Option<String>> {
    use std::io::Read;
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(Error::read(path)(error)),
    };
    let mut text = String::new();
    file.take(FILE_LIMIT + 1).read_to_string(&mut text).map_err(Error::read(path))?;
    if text.len() as u64 > FILE_LIMIT {
        return Err(Error::settings(path.display(), format!("it is larger than {FILE_LIMIT} bytes")));
    }
    Ok(Some(text))
}

/// The `.conf` files of a directory, in their order.
fn configurations(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> =
        entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|end| end == "conf")).collect();
    found.sort();
    found
}

/// A parser's words with the line that they are about.
fn toml_error(path: &Path, text: &str, error: &toml::de::Error) -> Error {
    let line = error.span().map_or(1, |span| text.get(..span.start).unwrap_or_default().matches('\n').count() + 1);
    Error::settings(format!("{}:{line}", path.display()), error.message().trim())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    fn settings(own: &str, containers: &str) -> Settings {
        let directory = tempfile::tempdir().unwrap();
        let (first, second) = (directory.path().join("config.toml"), directory.path().join("registries.conf"));
        std::fs::write(&first, own).unwrap();
        std::fs::write(&second, containers).unwrap();
        Settings::read(&SettingsFiles { own: vec![first], containers: vec![second], certificates: vec![] }).unwrap()
    }

    fn asked(settings: &Settings, name: &str) -> Vec<String> {
        let endpoints = settings.endpoints(&name.parse().unwrap()).unwrap();
        endpoints
            .iter()
            .map(|at| format!("{}/{}{}", at.host, at.repository, if at.insecure { " !" } else { "" }))
            .collect()
    }

    #[test]
    fn mirrors_come_before_the_registry_itself() {
        let settings = settings(
            "[registries.\"docker.io\"]\nmirrors = [\"m.example:5000\", \"https://n.example/hub/\"]\n\
             [registries.\"m.example:5000\"]\ninsecure = true\n[transfers]\nconcurrency = 2\nbandwidth = \"1m\"\n",
            "",
        );
        assert_eq!(
            asked(&settings, "busybox"),
            ["m.example:5000/library/busybox !", "n.example/hub/library/busybox", "docker.io/library/busybox"]
        );
        assert_eq!(settings.transfers(), TransferSettings { concurrency: 2, ranges: 3, bandwidth: Some(1 << 20) });
    }

    #[test]
    fn registries_conf_rewrites_blocks_and_is_overruled() {
        let settings = settings(
            "[registries.\"b.example\"]\nblocked = false\n",
            "unqualified-search-registries = [\"docker.io\"]\n[[registry]]\nprefix = \"a.example/team\"\n\
             location = \"b.example/other\"\n[[registry.mirror]]\nlocation = \"c.example/x\"\ninsecure = true\n\
             [[registry]]\nlocation = \"b.example\"\nblocked = true\n[[registry]]\nprefix = \"*.bad.example\"\nblocked = true\n",
        );
        assert_eq!(asked(&settings, "a.example/team/app:1"), ["c.example/x/app !", "b.example/other/app"]);
        assert_eq!(asked(&settings, "a.example/teams/app:1"), ["a.example/teams/app"]);
        assert!(settings.blocked_by(&"b.example/x".parse().unwrap()).is_none());
        assert!(settings.blocked_by(&"very.bad.example/x".parse().unwrap()).is_some());
        assert!(settings.blocked_by(&"bad.example/x".parse().unwrap()).is_none());
    }

    #[test]
    fn mistakes_are_told_with_file_and_line() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.toml");
        for (text, wanted) in [
            ("[registries.x]\nmirror = []\n", ":2: unknown field `mirror`"),
            ("\n\n[registries", ":3: "),
            ("[transfers]\nconcurrency = 0\n", ":2: it must be 1 to 64"),
        ] {
            std::fs::write(&path, text).unwrap();
            let files = SettingsFiles { own: vec![path.clone()], ..SettingsFiles::default() };
            let error = Settings::read(&files).unwrap_err().to_string();
            assert!(error.contains(wanted), "{error}");
        }
    }
}
