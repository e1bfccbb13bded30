//! Git sources: `url[#ref[:directory]]`, or the same as a query (`?ref=…&subdir=…`).

use crate::values::{ValueError, parse_bool};

/// A repository and what is wanted of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct GitSource {
    /// What git clones, as written; `github.com/…` stands for its https URL.
    pub remote: String,
    /// A branch, a tag, a commit; the remote's HEAD when absent.
    pub reference: Option<String>,
    /// The directory that is taken.
    pub directory: Option<String>,
    /// The commit that the reference must be.
    pub checksum: Option<String>,
    /// Whether `.git` is taken too.
    pub keep_git_dir: Option<bool>,
    /// Whether submodules are taken.
    pub submodules: Option<bool>,
}

impl GitSource {
    /// Reads a source; `None` when it is no git source.
    ///
    /// `git://`, `ssh://`, `user@host:path` and `github.com/…` are, and HTTP URLs whose path ends in `.git`.
    ///
    /// # Errors
    /// An unknown query, or two answers to one question.
    pub fn parse(text: &str) -> Option<Result<GitSource, ValueError>> {
        let (rest, fragment) = text.split_once('#').unwrap_or((text, ""));
        let (remote, query) = match rest.split_once('?') {
            Some((remote, query)) if !is_scp(rest) => (remote, query),
            _ => (rest, ""),
        };
        let http = remote.strip_prefix("https://").or_else(|| remote.strip_prefix("http://"));
        let known = match http {
            Some(path) => path.contains('/') && path.ends_with(".git"),
            None => {
                ["git://", "ssh://", "github.com/"].iter().any(|prefix| remote.starts_with(prefix)) || is_scp(remote)
            }
        };
        known.then(|| GitSource::read(remote, query, fragment))
    }

    fn read(remote: &str, query: &str, fragment: &str) -> Result<GitSource, ValueError> {
        let mut source = GitSource { remote: remote.to_owned(), ..GitSource::default() };
        let (reference, directory) = fragment.split_once(':').unwrap_or((fragment, ""));
        set("ref", &mut source.reference, reference)?;
        set("subdir", &mut source.directory, directory)?;
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = percent_decoded(value);
            match key {
                "ref" => set(key, &mut source.reference, &value)?,
                "branch" => set("ref", &mut source.reference, &format!("refs/heads/{value}"))?,
                "tag" => set("ref", &mut source.reference, &format!("refs/tags/{value}"))?,
                "subdir" => set(key, &mut source.directory, &value)?,
                "checksum" | "commit" => set("checksum", &mut source.checksum, &value)?,
                "keep-git-dir" => source.keep_git_dir = Some(switch(key, &value)?),
                "submodules" => source.submodules = Some(switch(key, &value)?),
                _ => return Err(ValueError(format!("unexpected query {key:?}"))),
            }
        }
        Ok(source)
    }

    /// The last name of the remote, without `.git`.
    pub fn name(&self) -> &str {
        let name = self.remote.rsplit(['/', ':']).next().unwrap_or_default();
        name.strip_suffix(".git").unwrap_or(name)
    }

    /// Whether the transport keeps what it carries from others.
    pub fn is_encrypted(&self) -> bool {
        !self.remote.starts_with("http://") && !self.remote.starts_with("git://")
    }
}

/// `user@host:path`
fn is_scp(text: &str) -> bool {
    let plain = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    text.split_once('@').is_some_and(|(user, rest)| {
        plain(user) && rest.split_once(':').is_some_and(|(host, path)| plain(host) && !path.is_empty())
    })
}

fn set(what: &str, slot: &mut Option<String>, value: &str) -> Result<(), ValueError> {
    match slot {
        _ if value.is_empty() => Ok(()),
        Some(known) if known != value => Err(ValueError(format!("{what} conflicts: {known:?} vs {value:?}"))),
        _ => {
            *slot = Some(value.to_owned());
            Ok(())
        }
    }
}

/// A key alone means yes.
fn switch(key: &str, value: &str) -> Result<bool, ValueError> {
    let bad = || ValueError(format!("invalid {key} value: {value:?}"));
    if value.is_empty() { Ok(true) } else { parse_bool(value).ok_or_else(bad) }
}

/// Text with its encoded bytes decoded (RFC 3986, 2.1); what is not an encoded byte stays.
pub fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let code = (*first == b'%').then(|| after.get(..2)).flatten();
        let byte = code.and_then(|code| u8::from_str_radix(std::str::from_utf8(code).ok()?, 16).ok());
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { after.get(2..).unwrap_or_default() } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn fragments_and_queries_say_the_same() {
        let fragment = GitSource::parse("https://h.invalid/a/b.git#v1:sub/dir").unwrap().unwrap();
        let query = GitSource::parse("https://h.invalid/a/b.git?ref=v1&subdir=sub%2Fdir").unwrap().unwrap();
        assert_eq!(fragment, query);
        assert_eq!((fragment.name(), fragment.is_encrypted()), ("b", true));
        assert_eq!(GitSource::parse("git@h.invalid:a/b").unwrap().unwrap().name(), "b");
        assert!(!GitSource::parse("git://h.invalid/b").unwrap().unwrap().is_encrypted());
    }

    #[test]
    fn what_is_no_git_source_and_what_is_a_wrong_one() {
        for text in ["gitlab.com/u/r", "https://h.invalid/a/b#v1", "https://h.invalid/b.tar.gz", "./x@y:z", "a", ""] {
            assert!(GitSource::parse(text).is_none(), "{text}");
        }
        for text in ["https://h.invalid/b.git?bogus=1", "https://h.invalid/b.git?ref=a#b", "git://h/b?submodules=x"] {
            assert!(GitSource::parse(text).unwrap().is_err(), "{text}");
        }
    }
}
