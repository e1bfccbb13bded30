//! Image names: the distribution grammar with Docker's familiar short forms.

use std::fmt;
use std::str::FromStr;

use crate::digest::Digest;
use crate::error::{Error, escaped};

/// The registry that names without one belong to.
const DEFAULT_REGISTRY: &str = "docker.io";
/// The namespace of its one-word names.
const DEFAULT_NAMESPACE: &str = "library/";
/// Longest registry and repository together (distribution reference grammar).
const NAME_LIMIT: usize = 255;
/// Longest tag.
const TAG_LIMIT: usize = 128;

/// `registry/repository[:tag][@digest]`, complete: a name without tag and digest has the tag `latest`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// Host, and port where there is one.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// Path within the registry.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// Whether text can be a repository's path at a registry: components of small letters and digits.
    pub fn is_path(text: &str) -> bool {
        text.len() <= NAME_LIMIT && text.split('/').all(is_component)
    }

    /// Registry and repository with neither tag nor digest.
    pub fn place(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// The same repository with this digest and no tag: exactly one document.
    #[must_use]
    pub fn with_digest(&self, digest: &Digest) -> Reference {
        Reference { tag: None, digest: Some(digest.clone()), ..self.clone() }
    }

    /// The same repository with this tag and no digest.
    ///
    /// # Errors
    /// When it is no tag.
    pub fn with_tag(&self, tag: &str) -> Result<Reference, Error> {
        if !is_tag(tag) {
            return Err(Error::BadReference(format!("`{}` is not a valid tag", escaped(tag.as_bytes()))));
        }
        Ok(Reference { tag: Some(tag.to_owned()), digest: None, ..self.clone() })
    }

    /// Registry and repository as Docker shows them: without what goes without saying.
    pub fn familiar_name(&self) -> String {
        if self.registry != DEFAULT_REGISTRY {
            return format!("{}/{}", self.registry, self.repository);
        }
        match self.repository.strip_prefix(DEFAULT_NAMESPACE) {
            Some(short) if !short.contains('/') => short.to_owned(),
            _ => self.repository.clone(),
        }
    }

    /// The whole name as Docker shows it: `app:latest`.
    pub fn familiar(&self) -> String {
        format!("{}{}", self.familiar_name(), self.suffix())
    }

    fn suffix(&self) -> String {
        let tag = self.tag.as_ref().map(|tag| format!(":{tag}")).unwrap_or_default();
        let digest = self.digest.as_ref().map(|digest| format!("@{digest}")).unwrap_or_default();
        tag + &digest
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}{}", self.registry, self.repository, self.suffix())
    }
}

impl FromStr for Reference {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let bad = || Error::BadReference("invalid reference format".to_owned());
        if text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(Error::BadReference(format!(
                "invalid repository name ({text}), cannot specify 64-byte hexadecimal strings"
            )));
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse::<Digest>().map_err(|_| bad())?)),
            None => (text, None),
        };
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (rest, None),
        };
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(bad());
        }
        let (registry, repository) = split_registry(name);
        let repository = if registry == DEFAULT_REGISTRY && !repository.contains('/') {
            format!("{DEFAULT_NAMESPACE}{repository}")
        } else {
            repository.to_owned()
        };
        check_repository(&repository, name)?;
        if !is_registry(registry) {
            return Err(bad());
        }
        if registry.len() + 1 + repository.len() > NAME_LIMIT {
            return Err(Error::BadReference(format!("repository name must not be more than {NAME_LIMIT} characters")));
        }
        let tag = match (tag, &digest) {
            (Some(tag), _) => Some(tag.to_owned()),
            (None, Some(_)) => None,
            (None, None) => Some("latest".to_owned()),
        };
        Ok(Reference { registry: registry.to_owned(), repository, tag, digest })
    }
}

/// The first part is a registry when it could not be a path component: it has a dot, a port, capitals, or is localhost.
fn split_registry(name: &str) -> (&str, &str) {
    match name.split_once('/') {
        Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" || first.to_lowercase() != first => {
            if first == "index.docker.io" {
                (DEFAULT_REGISTRY, rest)
            } else {
                (first, rest)
            }
        }
        _ => (DEFAULT_REGISTRY, name),
    }
}

fn check_repository(repository: &str, given: &str) -> Result<(), Error> {
    if repository.split('/').all(is_component) {
        return Ok(());
    }
    let shown = escaped(given.as_bytes());
    let lower = repository.to_lowercase();
    if lower != repository && lower.split('/').all(is_component) {
        return Err(Error::BadReference(format!(
            "invalid reference format: repository name ({}) must be lowercase",
            escaped(repository.as_bytes())
        )));
    }
    Err(Error::BadReference(if shown.is_empty() {
        "invalid reference format: the name is empty".to_owned()
    } else {
        "invalid reference format".to_owned()
    }))
}

/// `[a-z0-9]+` joined by one of `.`, `_`, `__`, or any number of `-`.
fn is_component(component: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = component.as_bytes();
    if !bytes.first().copied().is_some_and(is_word) || !bytes.last().copied().is_some_and(is_word) {
        return false;
    }
    component
        .split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        .all(|separator| matches!(separator, "" | "." | "_" | "__") || separator.bytes().all(|byte| byte == b'-'))
}

fn is_tag(tag: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    tag.len() <= TAG_LIMIT
        && tag.bytes().next().is_some_and(is_word)
        && tag.bytes().all(|byte| is_word(byte) || byte == b'.' || byte == b'-')
}

/// Domain components joined by dots or a bracketed IPv6 address, and a port.
fn is_registry(registry: &str) -> bool {
    let (host, port) = match registry.strip_prefix('[') {
        Some(rest) => {
            let Some((address, rest)) = rest.split_once(']') else { return false };
            let port = if rest.is_empty() { None } else { rest.strip_prefix(':').or(Some("?")) };
            if !address.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b':') || address.is_empty() {
                return false;
            }
            (None, port)
        }
        None => match registry.split_once(':') {
            Some((host, port)) => (Some(host), Some(port)),
            None => (Some(registry), None),
        },
    };
    let is_label = |label: &str| {
        let bytes = label.as_bytes();
        bytes.first().is_some_and(u8::is_ascii_alphanumeric)
            && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
            && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
    };
    host.is_none_or(|host| host.split('.').all(is_label))
        && port.is_none_or(|port| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn short_names_become_whole_and_back() {
        let digest = Digest::sha256_of(b"");
        let by_digest = format!("a@{digest}");
        let cases = [
            ("app", "docker.io/library/app:latest", "app:latest"),
            ("user/app:1", "docker.io/user/app:1", "user/app:1"),
            ("localhost:5000/a/b", "localhost:5000/a/b:latest", "localhost:5000/a/b:latest"),
            ("r.example/x:y", "r.example/x:y", "r.example/x:y"),
            ("debian:bookworm", "docker.io/library/debian:bookworm", "debian:bookworm"),
            ("docker.io/library/app", "docker.io/library/app:latest", "app:latest"),
            (&by_digest, &format!("docker.io/library/{by_digest}"), &by_digest),
            ("[::1]:5000/a:b", "[::1]:5000/a:b", "[::1]:5000/a:b"),
        ];
        for (text, full, familiar) in cases {
            let reference: Reference = text.parse().unwrap();
            assert_eq!(reference.to_string(), full);
            assert_eq!(reference.familiar(), familiar);
            assert_eq!(full.parse::<Reference>().unwrap(), reference);
        }
    }

    #[test]
    fn security_r19_names_outside_the_grammar_are_refused() {
        let long = "a".repeat(256);
        for bad in [
            "",
            "a:",
            ":a",
            "a//b",
            "/a",
            "a/",
            "-a",
            "a..b",
            "a___b",
            "a:b:c",
            "a@b",
            "a b",
            "a/../b",
            "é",
            "a:.x",
            "_a",
            "A_:x",
            "a.b:port/c",
            &long,
        ] {
            assert!(bad.parse::<Reference>().is_err(), "{bad}");
        }
        let error = "library/BUG_stage".parse::<Reference>().unwrap_err().to_string();
        assert_eq!(error, "invalid reference format: repository name (library/BUG_stage) must be lowercase");
    }

    /// The published grammar (distribution's reference package) with docker's rules for short names, as expressions.
    fn is_in_the_grammar(text: &str) -> bool {
        let hexadecimal = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
        if text.len() == 64 && text.chars().all(hexadecimal) {
            return false;
        }
        let (first, rest) = text.split_once('/').unwrap_or((text, ""));
        let has_domain =
            text.contains('/') && (first.contains(['.', ':']) || first == "localhost" || first.to_lowercase() != first);
        let (domain, rest) = match has_domain {
            true if first == "index.docker.io" => ("docker.io", rest),
            true => (first, rest),
            false => ("docker.io", text),
        };
        let rest =
            if domain == "docker.io" && !rest.contains('/') { format!("library/{rest}") } else { rest.to_owned() };
        let label = "(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])";
        let component = "[a-z0-9]+(?:(?:[._]|__|[-]+)[a-z0-9]+)*";
        let digest = "sha256:[a-f0-9]{64}|sha512:[a-f0-9]{128}";
        let whole = format!(
            "^((?:{label}(?:\\.{label})*|\\[[a-fA-F0-9:]+\\])(?::[0-9]+)?/{component}(?:/{component})*)(?::[a-zA-Z0-9_][a-zA-Z0-9_.-]{{0,127}})?(?:@(?:{digest}))?$"
        );
        let expression = regex_lite::Regex::new(&whole).unwrap();
        expression
            .captures(&format!("{domain}/{rest}"))
            .is_some_and(|found| found.get(1).unwrap().as_str().len() <= 255)
    }

    #[test]
    fn security_r19_two_thousand_names_against_the_grammar() {
        let digest = Digest::sha256_of(b"").to_string();
        let valid = [
            "a",
            "app:1.0",
            "user/app",
            "localhost/a/b:c",
            "localhost:5000/a__b/c-d--e.f_g:T.a-G_1",
            "r.example:5000/a/b:c",
            "UPPER/x",
            "[::1]:5000/a:b",
            "index.docker.io/a",
            "sub.r-x.example.co/team/a0",
        ];
        let odd = [
            "", "..", "__", "___", ".", "_", "-", "--", ":", "@", "/", "//", "A", "é", " ", "\n", "%", "a:b", ":80",
            "[", "]",
        ];
        let mut names: Vec<String> = valid.iter().map(|name| (*name).to_owned()).collect();
        for name in valid {
            names.push(format!("{name}@{digest}"));
            names.push(format!("{name}@{}", digest.to_uppercase()));
            names.push(name.to_uppercase());
            names.push(format!("{name}{}", "x".repeat(256 - name.len())));
            for at in (0..=name.len()).filter(|at| name.is_char_boundary(*at)) {
                let (before, after) = name.split_at(at);
                names.extend(odd.iter().map(|odd| format!("{before}{odd}{after}")));
            }
        }
        let (mut good, mut bad) = (0, 0);
        for name in &names {
            let parsed = name.parse::<Reference>();
            assert_eq!(parsed.is_ok(), is_in_the_grammar(name), "{name:?}: {parsed:?}");
            *if parsed.is_ok() { &mut good } else { &mut bad } += 1;
        }
        assert!(names.len() >= 2000 && good > 300 && bad > 1000, "{good} {bad}");
    }
}
