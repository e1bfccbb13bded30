//! Repositories, through the `git` program in an environment of its own: no configuration of the machine or the user, no
//! hooks, no filters, no prompts, and only the protocols that a Dockerfile may name.
//!
//! What a repository holds decides nothing on the host: it is checked out below the lease's drafts, and read by descriptor.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use builder::{Credentials, FetchScope, SourceError};
use cache::{Follow, Kind, TreeRoot};
use grammar::GitSource;

use crate::said::Said;
use crate::source_secrets::Authorization;
use crate::sources::{FetchOptions, source_error};

/// What git may speak. `file` and `ext` read this machine and run its programs.
const PROTOCOLS: &str = "https:http:ssh:git";
/// Most of git's output that is kept.
const OUTPUT_LIMIT: usize = 16 << 20;
/// How often a running git is looked after.
const POLL: Duration = Duration::from_millis(5);

/// Set for every command, over whatever a repository says.
const CONFIG: [(&str, &str); 12] = [
    ("core.hooksPath", "/dev/null"),
    ("core.attributesFile", "/dev/null"),
    ("core.excludesFile", "/dev/null"),
    ("core.fsmonitor", "false"),
    ("core.autocrlf", "false"),
    ("core.symlinks", "true"),
    ("credential.helper", ""),
    ("gc.auto", "0"),
    ("init.defaultBranch", "main"),
    ("advice.detachedHead", "false"),
    ("http.lowSpeedLimit", "1000"),
    ("http.lowSpeedTime", "30"),
];

/// The program, and what it works for.
pub(crate) struct Git<'a> {
    program: PathBuf,
    options: &'a FetchOptions,
    /// For the repository's own origin.
    authorization: Option<Authorization>,
    scope: FetchScope<'a>,
    home: PathBuf,
}

/// A commit's files on the disk.
pub(crate) struct CheckedOut {
    pub(crate) directory: PathBuf,
    /// Of the commit, in Unix seconds.
    pub(crate) time: i64,
}

impl<'a> Git<'a> {
    pub(crate) fn find(
        options: &'a FetchOptions,
        lent: &Credentials,
        source: &GitSource,
        scope: FetchScope<'a>,
    ) -> Result<Git<'a>, SourceError> {
        let Some(program) = options.programs.find("git") else {
            return Err(SourceError {
                message: "a git source needs the program `git`, which is not on this machine's PATH".to_owned(),
                help: Some("install git, or give the files as a directory or an archive".to_owned()),
            });
        };
        let authorization = Authorization::of_git(lent, &remote(source)?)?;
        let home = scope.lease.draft();
        std::fs::create_dir(&home).map_err(source_error)?;
        Ok(Git { program, options, authorization, scope, home })
    }

    /// The commit that a source means now.
    pub(crate) fn commit(&self, source: &GitSource) -> Result<String, SourceError> {
        let remote = remote(source)?;
        let Some(reference) = source.reference.as_deref() else {
            let listed = self.run(None, ["ls-remote", "--", &remote, "HEAD"])?;
            return first_of(&listed, "HEAD").ok_or_else(|| no_reference(source, "HEAD"));
        };
        check_reference(source, reference)?;
        if is_commit_id(reference) {
            return Ok(reference.to_ascii_lowercase());
        }
        // What git itself prefers: a branch, then a tag (what it points at, not itself), then any other reference.
        let name = reference.strip_prefix("refs/").unwrap_or(reference);
        let branch = format!("refs/heads/{}", reference.strip_prefix("refs/heads/").unwrap_or(reference));
        let tag = format!("refs/tags/{}", reference.strip_prefix("refs/tags/").unwrap_or(reference));
        let peeled = format!("{tag}^{{}}");
        let other = format!("refs/{name}");
        let listed = self.run(None, ["ls-remote", "--", &remote, &branch, &tag, &peeled, &other])?;
        let found = [&branch, &peeled, &tag, &other].into_iter().find_map(|name| first_of(&listed, name));
        found.ok_or_else(|| no_reference(source, reference))
    }

    /// Fetches one commit, without history where the server can do that, and checks it out.
    pub(crate) fn checkout(&self, source: &GitSource, commit: &str) -> Result<CheckedOut, SourceError> {
        let remote = remote(source)?;
        let directory = self.scope.lease.draft();
        std::fs::create_dir(&directory).map_err(source_error)?;
        let at = Some(directory.as_path());
        self.run(at, ["init", "--quiet"])?;
        self.run(at, ["remote", "add", "--", "origin", &remote])?;
        let shallow = self.run(at, ["fetch", "--quiet", "--no-tags", "--depth=1", "--", "origin", commit]);
        if let Err(error) = shallow {
            // A server that gives no single commits, or no shallow histories, gives all that it has.
            let wanted = ["fetch", "--quiet", "--tags", "--", "origin", "+refs/*:refs/remotes/origin/*"];
            self.run(at, wanted).map_err(|_| error)?;
        }
        self.run(at, ["checkout", "--quiet", "--detach", commit, "--"])?;
        let time = self.run(at, ["show", "--no-patch", "--format=%ct", commit, "--"])?;
        if source.submodules != Some(false) && directory.join(".gitmodules").exists() {
            self.run(at, ["submodule", "--quiet", "update", "--init", "--recursive", "--depth=1"])?;
        }
        Ok(CheckedOut { directory, time: time.trim().parse().unwrap_or(0) })
    }

    /// Runs git to its end and gives its standard output; a failure is told in git's own first words.
    fn run<S: AsRef<OsStr>>(
        &self,
        directory: Option<&Path>,
        args: impl IntoIterator<Item = S>,
    ) -> Result<String, SourceError> {
        let mut command = self.command(directory.unwrap_or(&self.home));
        command.args(args);
        let mut child = command.spawn().map_err(|error| SourceError::new(format!("cannot start git: {error}")))?;
        let stdout = child.stdout.take().map(|pipe| Said::listen(pipe, OUTPUT_LIMIT));
        let stderr = child.stderr.take().map(|pipe| Said::listen(pipe, OUTPUT_LIMIT));
        let status = loop {
            match child.try_wait().map_err(source_error)? {
                Some(status) => break status,
                None if self.scope.cancel.is_cancelled() => {
                    // It may have ended just now.
                    let _ = child.kill();
                    child.wait().map_err(source_error)?;
                    return Err(SourceError::new("the build was stopped"));
                }
                None => std::thread::sleep(POLL),
            }
        };
        let text = |said: Option<Said>| {
            let bytes = said.map(Said::all).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let (stdout, stderr) = (text(stdout), text(stderr));
        if status.success() {
            return Ok(stdout);
        }
        let lines = || stderr.lines().map(str::trim).filter(|line| !line.is_empty());
        let said = lines().find(|line| line.starts_with("fatal:")).or_else(|| lines().next_back());
        let said: String =
            said.map_or_else(|| status.to_string(), |line| line.trim_start_matches("fatal:").trim().to_owned());
        let said = self.authorization.as_ref().map_or_else(|| said.clone(), |authorization| authorization.mask(&said));
        Err(SourceError::new(format!("git failed: {said}")))
    }

    fn command(&self, directory: &Path) -> Command {
        let mut command = Command::new(&self.program);
        let path = std::env::join_paths(&self.options.programs.0).unwrap_or_default();
        command
            .current_dir(directory)
            .env_clear()
            .env("PATH", path)
            .env("HOME", &self.home)
            .env("LC_ALL", "C")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_ATTR_NOSYSTEM", "1")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_ASKPASS", "/bin/false")
            .env("GIT_SSH_COMMAND", "ssh -o BatchMode=yes")
            .env("GIT_ALLOW_PROTOCOL", PROTOCOLS)
            .env("GIT_PROTOCOL_FROM_USER", "0")
            .env("GIT_NO_LAZY_FETCH", "1")
            .env("GIT_LFS_SKIP_SMUDGE", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut config: Vec<(String, String)> =
            CONFIG.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        if let Some(Authorization { origin, value }) = &self.authorization {
            config.push((format!("http.{origin}/.extraHeader"), format!("Authorization: {value}")));
            // Git would take the header along to wherever it is led.
            config.push((format!("http.{origin}/.followRedirects"), "false".to_owned()));
        }
        command.env("GIT_CONFIG_COUNT", config.len().to_string());
        // The environment of a process is for its own user; its arguments are for everybody.
        for (index, (key, value)) in config.iter().enumerate() {
            command.env(format!("GIT_CONFIG_KEY_{index}"), key).env(format!("GIT_CONFIG_VALUE_{index}"), value);
        }
        let proxies = &self.options.http.proxies;
        let proxies = [
            ("http_proxy", &proxies.http),
            ("https_proxy", &proxies.https),
            ("all_proxy", &proxies.all),
            ("no_proxy", &proxies.none),
        ];
        for (name, value) in proxies {
            if let Some(value) = value {
                command.env(name, value);
            }
        }
        if let Some(path) = &self.options.http.certificates {
            command.env("GIT_SSL_CAINFO", path);
        }
        command
    }
}

/// What git clones: `github.com/…` is short for its https URL.
fn remote(source: &GitSource) -> Result<String, SourceError> {
    let remote = &source.remote;
    let host = remote.split_once("://").map_or(remote.as_str(), |(_, rest)| rest);
    if remote.starts_with('-') || host.starts_with('-') || remote.contains("::") {
        return Err(SourceError::new(format!("{remote} is not a repository that git may be asked for")));
    }
    Ok(if remote.starts_with("github.com/") { format!("https://{remote}") } else { remote.clone() })
}

/// What could be read as an option, or as more than a name, is none.
fn check_reference(source: &GitSource, reference: &str) -> Result<(), SourceError> {
    let bad = reference.starts_with('-')
        || reference.contains("..")
        || reference.chars().any(|c| c.is_control() || " ~^:?*[\\".contains(c));
    if bad {
        return Err(SourceError::new(format!("`{reference}` is not a valid reference of {}", source.remote)));
    }
    Ok(())
}

fn no_reference(source: &GitSource, reference: &str) -> SourceError {
    let short = (7..40).contains(&reference.len()) && reference.bytes().all(|byte| byte.is_ascii_hexdigit());
    SourceError {
        message: format!("{} has no branch, tag or reference `{reference}`", source.remote),
        help: short.then(|| "a commit must be named by its whole id".to_owned()),
    }
}

/// The object of a reference in the output of `ls-remote`.
fn first_of(listed: &str, name: &str) -> Option<String> {
    let line = listed.lines().find_map(|line| line.split_once('\t').filter(|(_, found)| *found == name))?;
    is_commit_id(line.0).then(|| line.0.to_owned())
}

fn is_commit_id(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// A directory of a checkout. No part of the way to it may be a link.
pub(crate) fn real_directory(root: &TreeRoot, directory: &str) -> Result<TreeRoot, SourceError> {
    let mut path = PathBuf::new();
    for part in directory.split('/').filter(|part| !matches!(*part, "" | ".")) {
        path.push(part);
        let there = if part == ".." { None } else { root.metadata(&path, Follow::No).map_err(source_error)? };
        match there {
            Some(metadata) if metadata.kind == Kind::Directory => {}
            Some(metadata) if metadata.kind == Kind::Symlink => {
                return Err(SourceError::new(format!(
                    "the repository's {} is a link, and `{directory}` must be a directory",
                    path.display()
                )));
            }
            _ => return Err(SourceError::new(format!("the repository has no directory `{directory}`"))),
        }
    }
    root.subtree(&path).map_err(source_error)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn source(text: &str) -> GitSource {
        GitSource::parse(text).unwrap().unwrap()
    }

    #[test]
    fn security_d08_what_looks_like_an_option_is_refused() {
        assert!(remote(&source("ssh://-oProxyCommand=x/r.git")).is_err());
        assert!(remote(&source("-x@h.invalid:r")).is_err());
        for reference in ["-x", "--upload-pack=x", "a..b", "a:b", "a b", "a^{}", "a\nb"] {
            let source = GitSource { reference: Some(reference.to_owned()), ..source("https://h.invalid/r.git") };
            assert!(check_reference(&source, reference).is_err(), "{reference}");
        }
        assert_eq!(remote(&source("github.com/u/r#dev")).unwrap(), "https://github.com/u/r");
    }

    #[test]
    fn security_d08_a_directory_is_reached_through_directories_only() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(directory.path().join("a/b")).unwrap();
        std::fs::write(directory.path().join("a/f"), "").unwrap();
        std::os::unix::fs::symlink("a", directory.path().join("l")).unwrap();
        std::os::unix::fs::symlink("/etc", directory.path().join("a/out")).unwrap();
        let root = TreeRoot::open(directory.path()).unwrap();
        for good in ["a", "a/b", "/a/./b/", ""] {
            assert!(real_directory(&root, good).is_ok(), "{good}");
        }
        for bad in ["l", "l/b", "a/out", "a/f", "..", "a/../..", "none"] {
            assert!(real_directory(&root, bad).is_err(), "{bad}");
        }
    }
}
