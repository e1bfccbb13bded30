//! Cache keys: exactly what a step can see, as named parts.
//!
//! The parts are kept with each record, so that the reason of a miss is the difference of two part lists.
//! A parent enters as the tree hashes of its layers, never as the steps that made them: what gave the same files is the same.

use std::path::Path;

use cache::{CacheKey, Layer};

use crate::mounts::{FileRights, MountFrom, Mounted, RunMount};
use crate::options::RunSettings;
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

/// The key of a RUN by what the instruction says and the trees it names: no proxies, no times, no secret, no content of
/// caches. `inputs` are the parent and what mounts show; a tree whose content is keyed by `content` is left out.
pub(crate) fn run_key(
    op: &RunOp,
    settings: &RunSettings,
    inputs: &[&[Layer]],
    content: &[(usize, String)],
) -> KeyParts {
    let parent = inputs.first().copied().unwrap_or_default();
    let mut parts = KeyParts::new("RUN");
    parts.add("platform", op.platform.to_string());
    for (index, arg) in op.argv.iter().enumerate() {
        parts.add(format!("argument {index}"), arg.as_str());
    }
    for (name, value) in &op.env {
        parts.add(format!("environment {name}"), variable(name, value));
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
    if op.insecure {
        parts.add("security", "insecure");
    }
    for device in &op.devices {
        parts.add("device", device.name.as_str());
    }
    if let Some(script) = &op.script {
        parts.add("script", script.body.as_str());
    }
    add_settings(&mut parts, settings);
    for (index, mount) in op.mounts.iter().enumerate() {
        add_mount(&mut parts, index, mount, inputs, content);
    }
    parts.add_tree("input", parent);
    parts
}

/// Names of hosts, not their addresses, as with BuildKit: those change from day to day.
fn add_settings(parts: &mut KeyParts, settings: &RunSettings) {
    for (name, _) in &settings.hosts {
        parts.add("extra host", name.as_str());
    }
    for limit in &settings.limits {
        parts.add("limit", format!("{:?} {:?}:{:?}", limit.resource, limit.soft, limit.hard));
    }
    if let Some(size) = settings.shm_size {
        parts.add("size of /dev/shm", size.to_string());
    }
}

fn add_mount(parts: &mut KeyParts, index: usize, mount: &RunMount, inputs: &[&[Layer]], content: &[(usize, String)]) {
    let target = mount.target.as_deref().unwrap_or(Path::new("")).display();
    let rights = |file: &FileRights| {
        let octal = file.mode.map(|mode| format!("{mode:o}"));
        format!("mode {octal:?} owner {:?}:{:?}", file.uid, file.gid)
    };
    let read_only = |on: bool| if on { "ro" } else { "rw" };
    let tree = |number: usize| inputs.get(number).copied().unwrap_or_default();
    let name = format!("mount {index}");
    match &mount.what {
        Mounted::Bind { from, source, read_only: ro } => {
            parts.add(&name, format!("bind {} on {target} {}", source.display(), read_only(*ro)));
            match (content.iter().find(|(known, _)| *known == index), from) {
                (Some((_, hash)), _) => parts.add(format!("{name} content"), hash.as_str()),
                (None, MountFrom::Input(number)) => parts.add_tree(&name, tree(*number)),
                (None, MountFrom::Context) => {}
            }
        }
        Mounted::Cache { seed, read_only: ro, file, .. } => {
            parts.add(&name, format!("cache on {target} {} {}", read_only(*ro), rights(file)));
            if let Some((number, source)) = seed {
                parts.add(format!("{name} source"), source.to_string_lossy());
                parts.add_tree(&name, tree(*number));
            }
        }
        Mounted::Tmpfs { size } => parts.add(&name, format!("tmpfs on {target} of {size:?}")),
        Mounted::Secret { id, env, file, .. } => {
            parts.add(&name, format!("secret {id} on {target} as {env:?} {}", rights(file)));
        }
        Mounted::Ssh { id, file, .. } => parts.add(&name, format!("ssh {id} on {target} {}", rights(file))),
    }
}

/// The value of a variable; where its name says that it is a secret a hash of it, for records are kept.
fn variable(name: &str, value: &str) -> String {
    if grammar::is_secret(name) {
        format!("blake3:{}", blake3::hash(value.as_bytes()).to_hex())
    } else {
        value.to_owned()
    }
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
            // Never of a stage or an image.
            CopySource::Url(_) | CopySource::Git(_) => {}
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
            insecure: false,
            platform: cache::Platform::host(),
            mounts: Vec::new(),
            devices: Vec::new(),
            script: None,
        }
    }

    fn key(op: &RunOp) -> CacheKey {
        run_key(op, &RunSettings::default(), &[&[]], &[]).key()
    }

    #[test]
    fn parts_do_not_run_into_each_other() {
        let one = key(&run(&["a", "bc"], &[], &[]));
        let two = key(&run(&["ab", "c"], &[], &[]));
        assert_ne!(one, two);
    }

    #[test]
    fn builder_a07_proxies_are_in_no_key() {
        let without = key(&run(&["a"], &[("A", "1")], &[]));
        let with = key(&run(&["a"], &[("A", "1")], &[("HTTP_PROXY", "p")]));
        assert_eq!(without, with);
    }

    #[test]
    fn values_of_secret_names_are_not_in_the_parts() {
        let with = |value| run_key(&run(&["a"], &[("API_TOKEN", value)], &[]), &RunSettings::default(), &[], &[]);
        assert_ne!(with("hunter2").key(), with("hunter3").key());
        assert!(with("hunter2").parts().iter().all(|(_, value)| !value.contains("hunter2")));
    }

    #[test]
    fn builder_a11_an_argument_in_scope_is_in_the_key() {
        let one = key(&run(&["a"], &[("A", "1")], &[]));
        let two = key(&run(&["a"], &[("A", "2")], &[]));
        assert_ne!(one, two);
    }

    #[test]
    fn builder_r02_r06_caches_and_secrets_are_in_the_key_by_their_places_only() {
        let mount = |what: Mounted| {
            let target = Some("/m".into());
            key(&RunOp { mounts: vec![RunMount { target, what }], ..run(&["a"], &[], &[]) })
        };
        let file = FileRights::default();
        let cache = |id: &str, sharing, uid| {
            let file = FileRights { uid, ..file };
            mount(Mounted::Cache { id: id.to_owned(), sharing, seed: None, read_only: false, file })
        };
        use grammar::Sharing;
        assert_eq!(cache("a", Sharing::Shared, None), cache("b", Sharing::Locked, None));
        assert_ne!(cache("a", Sharing::Shared, None), cache("a", Sharing::Shared, Some(7)));
        let secret = |id: &str, required| mount(Mounted::Secret { id: id.to_owned(), env: None, required, file });
        assert_eq!(secret("a", true), secret("a", false));
        assert_ne!(secret("a", true), secret("b", true));
        assert_ne!(key(&RunOp { insecure: true, ..run(&["a"], &[], &[]) }), key(&run(&["a"], &[], &[])));
    }

    #[test]
    fn a_host_is_in_the_key_by_name_and_not_by_address() {
        let with = |hosts: &[(&str, [u8; 4])]| {
            let hosts = hosts.iter().map(|(name, address)| ((*name).to_owned(), (*address).into())).collect();
            run_key(&run(&["a"], &[], &[]), &RunSettings { hosts, ..RunSettings::default() }, &[&[]], &[]).key()
        };
        assert_eq!(with(&[("h", [1, 2, 3, 4])]), with(&[("h", [4, 3, 2, 1])]));
        assert_ne!(with(&[("h", [1, 2, 3, 4])]), with(&[("i", [1, 2, 3, 4])]));
    }
}
