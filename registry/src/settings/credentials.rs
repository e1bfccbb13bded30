//! Docker's `config.json` and containers' `auth.json`: who we are at which registry.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use serde_json::{Map, Value, json};

use super::place;
use crate::distribution::Credential;
use crate::error::{Error, Result};

/// The key that docker writes for its own registry.
const HUB: &str = "https://index.docker.io/v1/";

/// A file of credentials, with all that else is in it.
#[derive(Debug, Clone)]
pub struct CredentialFile {
    document: Map<String, Value>,
    indent: String,
}

/// What a file says of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// The program `docker-credential-NAME` knows, under this key.
    Helper {
        /// The program's name without its beginning.
        name: String,
        /// What it is asked for.
        key: String,
    },
    /// The file itself knows.
    Known(Credential),
}

/// What docker calls a registry in its files and to its helpers.
pub fn credential_key(host: &str) -> &str {
    if host == "docker.io" { HUB } else { host }
}

impl CredentialFile {
    /// Reads a document.
    ///
    /// # Errors
    /// When it is not an object of JSON.
    pub fn parse(text: &str, path: &Path) -> Result<CredentialFile> {
        let trimmed = text.trim_start_matches('\u{feff}');
        let document = match trimmed.trim().is_empty() {
            true => Map::new(),
            false => serde_json::from_str(trimmed).map_err(|error| Error::settings(path.display(), error))?,
        };
        let indent =
            trimmed.lines().nth(1).map(|line| line.chars().take_while(|c| c.is_whitespace()).collect::<String>());
        Ok(CredentialFile {
            document,
            indent: indent.filter(|text| !text.is_empty()).unwrap_or_else(|| "\t".to_owned()),
        })
    }

    /// What is said of a repository at a host: a helper comes before the file's own words.
    ///
    /// # Errors
    /// When its entry cannot be read.
    pub fn look_up(&self, host: &str, repository: &str) -> Result<Option<Lookup>> {
        let helpers = self.document.get("credHelpers").and_then(Value::as_object);
        let named = helpers.and_then(|helpers| helpers.iter().find(|(key, _)| place(key) == host));
        if let Some((key, name)) = named.and_then(|(key, name)| Some((key, name.as_str()?))) {
            return Ok(Some(Lookup::Helper { name: name.to_owned(), key: key.clone() }));
        }
        if let Some(known) = self.entry(host, repository)? {
            return Ok(Some(Lookup::Known(known)));
        }
        let store = self.document.get("credsStore").and_then(Value::as_str).filter(|name| !name.is_empty());
        Ok(store.map(|name| Lookup::Helper { name: name.to_owned(), key: credential_key(host).to_owned() }))
    }

    /// The helper that `login` gives a credential to.
    pub fn helper(&self, host: &str) -> Option<String> {
        let helpers = self.document.get("credHelpers").and_then(Value::as_object);
        let named = helpers.and_then(|helpers| helpers.iter().find(|(key, _)| place(key) == host)?.1.as_str());
        let store = || self.document.get("credsStore").and_then(Value::as_str);
        named.or_else(store).filter(|name| !name.is_empty()).map(str::to_owned)
    }

    /// The entry with the longest key that fits: `host/path/to`, …, `host`.
    fn entry(&self, host: &str, repository: &str) -> Result<Option<Credential>> {
        let Some(auths) = self.document.get("auths").and_then(Value::as_object) else { return Ok(None) };
        let whole = format!("{host}/{repository}");
        let fits = |key: &str| {
            let key = place(key);
            whole.strip_prefix(&key).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let best = auths.iter().filter(|(key, _)| fits(key)).max_by_key(|(key, _)| place(key).len());
        best.map_or(Ok(None), |(key, value)| credential(key, value))
    }

    /// Writes a credential down under a host.
    pub fn set(&mut self, host: &str, credential: &Credential) {
        let value = match credential {
            Credential::Password { user, password } => json!({ "auth": STANDARD.encode(format!("{user}:{password}")) }),
            Credential::Identity(token) => json!({ "identitytoken": token }),
            Credential::Bearer(token) => json!({ "registrytoken": token }),
        };
        self.put(host, value);
    }

    /// Notes that a helper has the credential of a host, as docker does.
    pub fn set_kept_by_helper(&mut self, host: &str) {
        self.put(host, json!({}));
    }

    fn put(&mut self, host: &str, value: Value) {
        let auths = self.document.entry("auths").or_insert_with(|| json!({}));
        if !auths.is_object() {
            *auths = json!({});
        }
        if let Some(auths) = auths.as_object_mut() {
            auths.retain(|key, _| place(key) != host || key == credential_key(host));
            auths.insert(credential_key(host).to_owned(), value);
        }
    }

    /// Takes a host's credential away; true when there was one.
    pub fn remove(&mut self, host: &str) -> bool {
        let Some(auths) = self.document.get_mut("auths").and_then(Value::as_object_mut) else { return false };
        let before = auths.len();
        auths.retain(|key, _| place(key) != host);
        auths.len() != before
    }

    /// The document as it was, but for what was set or removed.
    ///
    /// # Errors
    /// When it cannot be written as JSON.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        use serde::Serialize;
        let mut bytes = Vec::new();
        let formatter = serde_json::ser::PrettyFormatter::with_indent(self.indent.as_bytes());
        let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
        self.document.serialize(&mut serializer).map_err(|error| Error::settings("the credentials", error))?;
        Ok(bytes)
    }
}

fn credential(key: &str, value: &Value) -> Result<Option<Credential>> {
    let text = |name: &str| value.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    if let Some(token) = text("registrytoken") {
        return Ok(Some(Credential::Bearer(token.to_owned())));
    }
    if let Some(token) = text("identitytoken") {
        return Ok(Some(Credential::Identity(token.to_owned())));
    }
    if let (Some(user), Some(password)) = (text("username"), text("password")) {
        return Ok(Some(Credential::Password { user: user.to_owned(), password: password.to_owned() }));
    }
    let Some(packed) = text("auth") else { return Ok(None) };
    let bad = || Error::settings(format!("the credential of {key}"), "it is not USER:PASSWORD in base64");
    let bytes = STANDARD.decode(packed).or_else(|_| STANDARD_NO_PAD.decode(packed)).map_err(|_| bad())?;
    let plain = String::from_utf8(bytes).map_err(|_| bad())?;
    let (user, password) = plain.trim_end_matches('\0').split_once(':').ok_or_else(bad)?;
    Ok(Some(Credential::Password { user: user.to_owned(), password: password.to_owned() }))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn file(text: &str) -> CredentialFile {
        CredentialFile::parse(text, Path::new("config.json")).unwrap()
    }

    fn password(user: &str, password: &str) -> Option<Lookup> {
        Some(Lookup::Known(Credential::Password { user: user.to_owned(), password: password.to_owned() }))
    }

    #[test]
    fn entries_are_found_by_any_of_their_spellings_and_the_longest_wins() {
        let text = r#"{"auths":{"https://index.docker.io/v1/":{"auth":"aHViOnB3"},"r.example:5000":{"auth":"YTpi"},
            "r.example:5000/team":{"auth":"Yzpk"},"t.example":{"identitytoken":"T"},"e.example":{}},
            "credHelpers":{"h.example":"pass"}}"#;
        let file = file(text);
        assert_eq!(file.look_up("docker.io", "library/x").unwrap(), password("hub", "pw"));
        assert_eq!(file.look_up("r.example:5000", "x").unwrap(), password("a", "b"));
        assert_eq!(file.look_up("r.example:5000", "team/x").unwrap(), password("c", "d"));
        assert_eq!(file.look_up("r.example", "x").unwrap(), None);
        assert_eq!(file.look_up("e.example", "x").unwrap(), None);
        let token = Some(Lookup::Known(Credential::Identity("T".to_owned())));
        assert_eq!(file.look_up("t.example", "x").unwrap(), token);
        let helper = Some(Lookup::Helper { name: "pass".to_owned(), key: "h.example".to_owned() });
        assert_eq!(file.look_up("h.example", "x").unwrap(), helper);
        let all = self::file(r#"{"credsStore":"desktop"}"#).look_up("docker.io", "x").unwrap();
        assert_eq!(all, Some(Lookup::Helper { name: "desktop".to_owned(), key: HUB.to_owned() }));
    }

    #[test]
    fn platform_c32_other_keys_stay_byte_for_byte() {
        let text = "{\n\t\"psFormat\": \"table {{.ID}}\",\n\t\"auths\": {\n\t\t\"a.example\": {\n\t\t\t\"auth\": \"YTpi\"\n\t\t}\n\t},\n\t\"z\": [\n\t\t1,\n\t\t2\n\t]\n}";
        let mut file = file(text);
        file.set("r.example", &Credential::Password { user: "u".into(), password: "p:x".into() });
        let with = String::from_utf8(file.to_bytes().unwrap()).unwrap();
        assert!(with.contains("\"r.example\": {\n\t\t\t\"auth\": \"dTpwOng=\"\n"), "{with}");
        assert!(file.remove("r.example") && !file.remove("r.example"));
        assert_eq!(String::from_utf8(file.to_bytes().unwrap()).unwrap(), text);
    }

    #[test]
    fn damaged_entries_are_told_and_show_no_secret() {
        for auth in ["***", "bm9jb2xvbg=="] {
            let file = file(&format!(r#"{{"auths":{{"r.example":{{"auth":"{auth}"}}}}}}"#));
            let error = file.look_up("r.example", "x").unwrap_err().to_string();
            assert!(error.contains("r.example") && !error.contains(auth), "{error}");
        }
    }
}
