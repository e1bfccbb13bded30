//! What a target of a project file may say, in the words of `docker buildx bake`.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

/// One build of a project file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct BakeTarget {
    /// What it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Targets whose values it starts from, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub inherits: Vec<String>,
    /// The directory that COPY and ADD read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
    /// The Dockerfile, relative to the context.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dockerfile: Option<String>,
    /// The Dockerfile's text itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dockerfile_inline: Option<String>,
    /// `--build-context`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub contexts: BTreeMap<String, String>,
    /// `--build-arg`; null takes the environment's value.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "optional_texts")]
    pub args: BTreeMap<String, Option<String>>,
    /// `--label`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "optional_texts")]
    pub labels: BTreeMap<String, Option<String>>,
    /// `--annotation`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub annotations: Vec<String>,
    /// `--tag`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// `--target`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// `--platform`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub platforms: Vec<String>,
    /// `--output`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub output: Vec<Fields>,
    /// `--cache-from`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cache_from: Vec<Fields>,
    /// `--cache-to`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cache_to: Vec<Fields>,
    /// `--secret`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub secret: Vec<Fields>,
    /// `--ssh`.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "agents")]
    pub ssh: Vec<Fields>,
    /// `--attest`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub attest: Vec<Fields>,
    /// `--no-cache`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_cache: Option<bool>,
    /// `--no-cache-filter`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub no_cache_filter: Vec<String>,
    /// `--pull`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pull: Option<bool>,
    /// `--network`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// `--add-host`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub extra_hosts: BTreeMap<String, String>,
    /// `--allow`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub entitlements: Vec<String>,
    /// `--shm-size`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shm_size: Option<String>,
    /// `--ulimit`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ulimits: Vec<String>,
    /// `--call`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub call: Option<String>,
}

/// A value of the form `type=local,dest=out`, which files may also write as a map.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Fields(pub String);

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Text(String),
            Map(BTreeMap<String, Scalar>),
        }
        Ok(match Written::deserialize(deserializer)? {
            Written::Text(text) => Fields(text),
            Written::Map(mut map) => {
                // The type comes first, as everyone writes it.
                let kind = map.remove_entry("type");
                let fields: Vec<String> = kind
                    .into_iter()
                    .chain(map)
                    .map(|(key, value)| quoted(&format!("{key}={}", value.text())))
                    .collect();
                Fields(fields.join(","))
            }
        })
    }
}

/// A field of comma-separated values; one with a comma or a quote stands in quotes.
fn quoted(field: &str) -> String {
    if field.contains([',', '"']) { format!("\"{}\"", field.replace('"', "\"\"")) } else { field.to_owned() }
}

/// What may stand where a text is wanted.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Scalar {
    Bool(bool),
    Number(serde_json::Number),
    Text(String),
}

impl Scalar {
    pub(super) fn text(self) -> String {
        match self {
            Scalar::Bool(value) => value.to_string(),
            Scalar::Number(value) => value.to_string(),
            Scalar::Text(value) => value,
        }
    }
}

fn optional_texts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, Option<String>>, D::Error> {
    let written = BTreeMap::<String, Option<Scalar>>::deserialize(deserializer)?;
    Ok(written.into_iter().map(|(key, value)| (key, value.map(Scalar::text))).collect())
}

/// Agents: `ID=PATH` as a text, or a map of the two.
fn agents<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Fields>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Agent {
        Text(String),
        Map {
            id: String,
            #[serde(default)]
            paths: Vec<String>,
        },
    }
    let text = |agent| match agent {
        Agent::Text(text) => text,
        Agent::Map { id, paths } if paths.is_empty() => id,
        Agent::Map { id, paths } => format!("{id}={}", paths.join(",")),
    };
    Ok(Vec::<Agent>::deserialize(deserializer)?.into_iter().map(|agent| Fields(text(agent))).collect())
}

impl BakeTarget {
    /// This target with `parent` below it: what it does not say is the parent's, maps are joined, of lists the own one rules
    /// but for those that only ever add (annotations, secrets, agents, entitlements).
    pub(super) fn over(self, parent: &BakeTarget) -> BakeTarget {
        let BakeTarget {
            description,
            inherits,
            context,
            dockerfile,
            dockerfile_inline,
            contexts,
            args,
            labels,
            annotations,
            tags,
            target,
            platforms,
            output,
            cache_from,
            cache_to,
            secret,
            ssh,
            attest,
            no_cache,
            no_cache_filter,
            pull,
            network,
            extra_hosts,
            entitlements,
            shm_size,
            ulimits,
            call,
        } = self;
        BakeTarget {
            description: description.or_else(|| parent.description.clone()),
            inherits,
            context: context.or_else(|| parent.context.clone()),
            dockerfile: dockerfile.or_else(|| parent.dockerfile.clone()),
            dockerfile_inline: dockerfile_inline.or_else(|| parent.dockerfile_inline.clone()),
            contexts: joined(contexts, &parent.contexts),
            args: joined(args, &parent.args),
            labels: joined(labels, &parent.labels),
            annotations: added(annotations, &parent.annotations),
            tags: either(tags, &parent.tags),
            target: target.or_else(|| parent.target.clone()),
            platforms: either(platforms, &parent.platforms),
            output: either(output, &parent.output),
            cache_from: added(cache_from, &parent.cache_from),
            cache_to: either(cache_to, &parent.cache_to),
            secret: added(secret, &parent.secret),
            ssh: added(ssh, &parent.ssh),
            attest: added(attest, &parent.attest),
            no_cache: no_cache.or(parent.no_cache),
            no_cache_filter: either(no_cache_filter, &parent.no_cache_filter),
            pull: pull.or(parent.pull),
            network: network.or_else(|| parent.network.clone()),
            extra_hosts: joined(extra_hosts, &parent.extra_hosts),
            entitlements: added(entitlements, &parent.entitlements),
            shm_size: shm_size.or_else(|| parent.shm_size.clone()),
            ulimits: either(ulimits, &parent.ulimits),
            call: call.or_else(|| parent.call.clone()),
        }
    }
}

fn joined<V: Clone>(own: BTreeMap<String, V>, parent: &BTreeMap<String, V>) -> BTreeMap<String, V> {
    let mut all = parent.clone();
    all.extend(own);
    all
}

fn either<T: Clone>(own: Vec<T>, parent: &[T]) -> Vec<T> {
    if own.is_empty() { parent.to_vec() } else { own }
}

fn added<T: Clone + PartialEq>(own: Vec<T>, parent: &[T]) -> Vec<T> {
    let mut all = parent.to_vec();
    all.extend(own.into_iter().filter(|one| !parent.contains(one)));
    all
}
