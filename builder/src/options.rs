//! What the user asked of a build, beside the Dockerfile and the context.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;

use cache::{Platform, Reference};

/// The pure inputs of [`plan`](crate::plan): no path, no handle, nothing that performs.
#[derive(Debug, Clone)]
pub struct Options {
    /// `--build-arg` pairs.
    pub build_args: BTreeMap<String, String>,
    /// `--target`: a stage name or index; the last stage when absent.
    pub target: Option<String>,
    /// `--build-context` by name: what stands in for stages and images of that name.
    pub contexts: BTreeMap<String, NamedContext>,
    /// The platform that the image is for.
    pub platform: Platform,
    /// The platform that runs the build.
    pub build_platform: Platform,
    /// `--label` pairs, set last.
    pub labels: BTreeMap<String, String>,
    /// `--network`: what RUN steps without a flag of their own get.
    pub network: runtime::NetworkMode,
    /// The platform was asked for: the image carries it whatever its base says.
    pub platform_given: bool,
    /// `--allow`.
    pub allow: BTreeSet<Entitlement>,
    /// `--no-cache-filter`: stages, by name or number, whose steps are performed whatever the cache has.
    pub no_cache_stages: BTreeSet<String>,
    /// What every RUN gets.
    pub run: RunSettings,
    /// Unix seconds that `created` and history carry instead of the clock (SOURCE_DATE_EPOCH).
    pub source_date_epoch: Option<i64>,
}

/// What a `--build-context` puts in the place of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamedContext {
    /// Files, read as those of the build context are.
    Files,
    /// An image.
    Image(Reference),
    /// A stage of the file.
    Stage(String),
}

impl Default for Options {
    fn default() -> Self {
        Options {
            build_args: BTreeMap::new(),
            target: None,
            contexts: BTreeMap::new(),
            platform: Platform::host(),
            build_platform: Platform::host(),
            labels: BTreeMap::new(),
            network: runtime::NetworkMode::Host,
            platform_given: false,
            allow: BTreeSet::new(),
            no_cache_stages: BTreeSet::new(),
            run: RunSettings::default(),
            source_date_epoch: None,
        }
    }
}

/// What a RUN may ask for only when the caller says so.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Entitlement {
    /// `RUN --network=host`.
    NetworkHost,
    /// `RUN --security=insecure`.
    SecurityInsecure,
    /// `RUN --device` of any device.
    Devices,
    /// `RUN --device` of this name, or of this kind.
    Device(String),
}

impl std::fmt::Display for Entitlement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Entitlement::NetworkHost => f.write_str("network.host"),
            Entitlement::SecurityInsecure => f.write_str("security.insecure"),
            Entitlement::Devices => f.write_str("device"),
            Entitlement::Device(name) => write!(f, "device={name}"),
        }
    }
}

/// Settings of the build that every RUN sees.
#[derive(Debug, Clone, Default)]
pub struct RunSettings {
    /// `--add-host`: names and addresses of /etc/hosts.
    pub hosts: Vec<(String, IpAddr)>,
    /// `--ulimit`.
    pub limits: Vec<runtime::Rlimit>,
    /// `--shm-size` in bytes.
    pub shm_size: Option<u64>,
    /// `--cgroup-parent`: the control group below which steps are; in no key, as with BuildKit.
    pub cgroup_parent: Option<String>,
    /// What the ids of a user namespace for each step are taken from, and how many; in no key, for no layer shows them.
    pub ids: Option<(runtime::IdPool, u32)>,
    /// Directories with the specifications of devices, the later over the earlier; in no key.
    pub device_specs: Vec<PathBuf>,
}

/// Proxy variables that need no ARG, reach RUN, and stay out of keys, history and configuration.
pub(crate) const PROXY_ARGS: [&str; 10] = [
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "FTP_PROXY",
    "ftp_proxy",
    "NO_PROXY",
    "no_proxy",
    "ALL_PROXY",
    "all_proxy",
];

impl Options {
    /// The arguments that every Dockerfile has without declaring them in the global scope
    /// (docs: "automatic platform ARGs"), and that a stage sees after `ARG NAME`.
    pub(crate) fn automatic_args(&self, target_stage: &str) -> BTreeMap<String, String> {
        let mut args = BTreeMap::new();
        for (prefix, platform) in [("TARGET", &self.platform), ("BUILD", &self.build_platform)] {
            args.insert(format!("{prefix}PLATFORM"), platform.to_string());
            args.insert(format!("{prefix}OS"), platform.os.clone());
            args.insert(format!("{prefix}ARCH"), platform.architecture.clone());
            args.insert(format!("{prefix}VARIANT"), platform.variant.clone().unwrap_or_default());
        }
        args.insert("TARGETSTAGE".to_owned(), target_stage.to_owned());
        args
    }

    /// The named context that stands in for a name, `NAME::PLATFORM` first.
    pub(crate) fn context(&self, name: &str) -> Option<(&str, &NamedContext)> {
        let wanted = plain_name(name);
        let of_platform = |key: &str| {
            key.split_once("::").is_some_and(|(key, platform)| {
                plain_name(key) == wanted && platform.parse::<Platform>().is_ok_and(|found| found == self.platform)
            })
        };
        let found = self.contexts.iter().find(|(key, _)| of_platform(key));
        let found = found.or_else(|| self.contexts.iter().find(|(key, _)| plain_name(key) == wanted));
        found.map(|(key, context)| (key.as_str(), context))
    }

    /// The proxy variables among the build arguments.
    pub(crate) fn proxies(&self) -> Vec<(String, String)> {
        PROXY_ARGS.iter().filter_map(|name| Some(((*name).to_owned(), self.build_args.get(*name)?.clone()))).collect()
    }
}

/// All spellings of an image's name are one; other names are compared in lower case.
fn plain_name(name: &str) -> String {
    let lower = name.to_lowercase();
    match name.parse::<Reference>().or_else(|_| lower.parse()) {
        Ok(reference) => reference.to_string(),
        Err(_) => lower,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn named_contexts_stand_for_every_spelling_and_those_of_the_platform_come_first() {
        let contexts = ["alpine", "Tools", "tools::linux/s390x", "alpine::linux/amd64"];
        let contexts = contexts.into_iter().map(|name| (name.to_owned(), NamedContext::Files)).collect();
        let options = Options { contexts, platform: "linux/amd64".parse().unwrap(), ..Options::default() };
        let key = |name: &str| options.context(name).map(|(key, _)| key);
        assert_eq!(key("docker.io/library/alpine:latest"), Some("alpine::linux/amd64"));
        assert_eq!((key("tools"), key("TOOLS")), (Some("Tools"), Some("Tools")));
        assert_eq!((key("alpine:3"), key("other")), (None, None));
    }
}
