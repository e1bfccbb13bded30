//! Cache keys: exactly what a step can see, as named parts.
//!
//! The parts are kept with each record, so that the reason of a miss is the difference of two part lists.
//! A parent enters as the tree hashes of its layers, never as the steps that made them: what gave the same files is the same.

use cache::{CacheKey, Layer};

use crate::plan::{CopyOp, CopySource, Network, RunOp, WorkdirOp};

/// Changes whenever the meaning of a part, or what a step does with it, changes.
const KEY_VERSION: &str = "1";

/// Named parts of a key, in a fixed order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyParts {
    parts: Vec<(String, String)>,
}

impl KeyParts {
    fn new(kind: &str) -> Self {
        let mut parts = KeyParts::default();
        parts.add("version", KEY_VERSION);
        parts.add("step", kind);
        parts
    }

    pub(crate) fn add(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.parts.push((name.into(), value.into()));
    }

    fn add_tree(&mut self, name: &str, layers: &[Layer]) {
        for (index, layer) in layers.iter().enumerate() {
            self.add(format!("{name} layer {index}"), layer.tree.to_string());
        }
    }

    /// The parts by name.
    pub fn parts(&self) -> &[(String, String)] {
        &self.parts
    }

    /// BLAKE3 over the parts, each length-prefixed so that no two lists collide by concatenation.
    pub fn key(&self) -> CacheKey {
        let mut hasher = blake3::Hasher::new();
        for (name, value) in &self.parts {
            for text in [name, value] {
                hasher.update(&(text.len() as u64).to_le_bytes());
                hasher.update(text.as_bytes());
            }
        }
        CacheKey::from_bytes(*hasher.finalize().as_bytes())
    }
}

/// The key of a RUN: no proxies, no times.
pub(crate) fn run_key(op: &RunOp, platform: &str, parent: &[Layer]) -> KeyParts {
    let mut parts = KeyParts::new("RUN");
    parts.add("platform", platform);
    for (index, arg) in op.argv.iter().enumerate() {
        parts.add(format!("argument {index}"), arg.as_str());
    }
    for (name, value) in &op.env {
        parts.add(format!("environment {name}"), value.as_str());
    }
    parts.add("working directory", op.cwd.as_str());
    parts.add("user", op.user.as_str());
    parts.add(
        "network",
        match op.network {
            Network::None => "none",
            Network::Host => "host",
        },
    );
    if let Some(script) = &op.script {
        parts.add("script", script.body.as_str());
    }
    parts.add_tree("input", parent);
    parts
}

/// What COPY and ADD do, without the files.
fn copy_parts(kind: &str, op: &CopyOp, parent: &[Layer]) -> KeyParts {
    let mut parts = KeyParts::new(kind);
    parts.add("destination", op.destination.to_string_lossy());
    parts.add("destination is a directory", op.into_directory.to_string());
    parts.add("--chown", op.chown.as_deref().unwrap_or_default());
    parts.add("--chmod", op.chmod.as_deref().unwrap_or_default());
    parts.add("--parents", op.parents.to_string());
    parts.add("--link", op.link.to_string());
    parts.add("unpack", op.unpack.to_string());
    if !op.link || op.chown.is_some() {
        parts.add_tree("input", parent);
    }
    parts
}

/// The key of a COPY from a stage or image by what the instruction says and the trees it names: needs no file to be read.
pub(crate) fn copy_definition_key(op: &CopyOp, parent: &[Layer], source: &[Layer]) -> KeyParts {
    let mut parts = copy_parts("COPY by definition", op, parent);
    for (index, source) in op.sources.iter().enumerate() {
        match source {
            CopySource::Path(path) => parts.add(format!("source {index}"), path.as_str()),
            CopySource::Inline { name, content } => {
                parts.add(format!("source {index}"), format!("<<{name}\n{content}"));
            }
        }
    }
    for pattern in &op.exclude {
        parts.add("--exclude", pattern.as_str());
    }
    parts.add_tree("source", source);
    parts
}

/// The key of a COPY by the content of what it selects: one part a selected source.
pub(crate) fn copy_content_key(op: &CopyOp, parent: &[Layer], selected: &[(String, String)]) -> KeyParts {
    let mut parts = copy_parts("COPY by content", op, parent);
    for (name, hash) in selected {
        parts.add(format!("content of {name}"), hash.as_str());
    }
    parts
}

/// The key of a WORKDIR.
pub(crate) fn workdir_key(op: &WorkdirOp, parent: &[Layer]) -> KeyParts {
    let mut parts = KeyParts::new("WORKDIR");
    parts.add("path", op.path.to_string_lossy());
    parts.add("user", op.user.as_str());
    parts.add_tree("input", parent);
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(argv: &[&str], env: &[(&str, &str)], hidden: &[(&str, &str)]) -> RunOp {
        let own =
            |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect::<Vec<_>>();
        RunOp {
            argv: argv.iter().map(|arg| (*arg).to_owned()).collect(),
            env: own(env),
            hidden_env: own(hidden),
            cwd: "/".to_owned(),
            user: String::new(),
            network: Network::Host,
            script: None,
        }
    }

    #[test]
    fn parts_do_not_run_into_each_other() {
        let one = run_key(&run(&["a", "bc"], &[], &[]), "linux/amd64", &[]).key();
        let two = run_key(&run(&["ab", "c"], &[], &[]), "linux/amd64", &[]).key();
        assert_ne!(one, two);
    }

    #[test]
    fn builder_a07_proxies_are_in_no_key() {
        let without = run_key(&run(&["a"], &[("A", "1")], &[]), "linux/amd64", &[]).key();
        let with = run_key(&run(&["a"], &[("A", "1")], &[("HTTP_PROXY", "p")]), "linux/amd64", &[]).key();
        assert_eq!(without, with);
    }

    #[test]
    fn builder_a11_an_argument_in_scope_is_in_the_key() {
        let one = run_key(&run(&["a"], &[("A", "1")], &[]), "linux/amd64", &[]).key();
        let two = run_key(&run(&["a"], &[("A", "2")], &[]), "linux/amd64", &[]).key();
        assert_ne!(one, two);
    }
}
