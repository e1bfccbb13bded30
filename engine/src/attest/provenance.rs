//! How an image was built, as a SLSA provenance predicate: facts of the plan and of the build's record, and nothing secret.

use builder::{CopySource, Op, Plan};
use cache::{ImageId, Platform, Reference, Store};
use serde_json::{Map, Value, json};

use super::{Provenance, ProvenanceMode};
use crate::build::BuildRequest;
use crate::record::{BuildRecord, StepRecord};

/// Where the meaning of these documents is written down.
const BUILD_TYPE: &str = concat!(env!("CARGO_PKG_REPOSITORY"), "/docs/attestations.md#build");

/// What is known of a build.
pub(crate) struct Facts<'a> {
    pub(crate) request: &'a BuildRequest,
    pub(crate) plan: &'a Plan,
    pub(crate) bases: &'a [(Reference, ImageId)],
    pub(crate) record: &'a BuildRecord,
    pub(crate) store: &'a Store,
    /// Unix seconds of the end.
    pub(crate) ended: i64,
}

pub(super) fn predicate(provenance: &Provenance, facts: &Facts<'_>) -> Value {
    let Facts { request, plan, record, .. } = facts;
    let max = provenance.mode == ProvenanceMode::Max;
    let mut parameters = json!({
        "configSource": {"path": plan.source.name()},
        "target": plan.stage(),
        "platform": request.options().platform.to_string(),
    });
    let mut internal = json!({"builderPlatform": Platform::host().to_string()});
    if max && let (Some(parameters), Some(internal)) = (parameters.as_object_mut(), internal.as_object_mut()) {
        parameters.insert("context".to_owned(), json!(without_credentials(&record.context)));
        parameters.insert("args".to_owned(), json!(record.args));
        parameters.insert("labels".to_owned(), json!(request.labels));
        parameters.insert("noCache".to_owned(), json!(record.no_cache));
        parameters.insert("secrets".to_owned(), json!(request.credentials.secrets.keys().collect::<Vec<_>>()));
        parameters.insert("ssh".to_owned(), json!(request.credentials.agents.keys().collect::<Vec<_>>()));
        internal.insert("dockerfile".to_owned(), json!(plan.source.text()));
        internal.insert("steps".to_owned(), record.steps.iter().map(step).collect());
    }
    let builder = provenance.builder.clone().unwrap_or_default();
    json!({
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": parameters,
            "internalParameters": internal,
            "resolvedDependencies": dependencies(facts),
        },
        "runDetails": {
            "builder": {"id": builder, "version": {"dunnage": env!("CARGO_PKG_VERSION")}},
            "metadata": {
                "invocationId": record.id,
                "startedOn": builder::rfc3339(i64::try_from(record.started_ms / 1000).unwrap_or_default()),
                "finishedOn": builder::rfc3339(facts.ended),
            },
        },
    })
}

fn step(step: &StepRecord) -> Value {
    json!({
        "number": step.number,
        "stage": step.stage,
        "instruction": step.text,
        "line": step.line,
        "inputs": step.inputs,
        "bases": step.bases,
        "status": step.status,
        "layer": step.layer,
        "tree": step.tree,
    })
}

/// Base images, and what was fetched from elsewhere.
fn dependencies(facts: &Facts<'_>) -> Vec<Value> {
    let mut found: Vec<Value> = Vec::new();
    for (name, id) in facts.bases {
        // An image of this store is known by its configuration.
        found.push(json!({
            "uri": registry::package_url(name, &facts.request.options().platform),
            "digest": {id.0.algorithm(): id.hex()},
            "mediaType": "application/vnd.oci.image.config.v1+json",
        }));
    }
    for step in facts.plan.steps() {
        let Op::Copy(op) = &step.op else { continue };
        for source in &op.sources {
            match source {
                CopySource::Url(source) => {
                    let fetched = || facts.store.download(&source.url).ok().flatten().map(|record| record.blob);
                    let digest = source.checksum.clone().or_else(fetched);
                    found.push(dependency(
                        &source.url,
                        digest.map(|digest| (digest.algorithm().to_owned(), digest.hex().to_owned())),
                    ));
                }
                CopySource::Git(source) => {
                    let reference = source.reference.as_deref().map_or_else(String::new, |name| format!("#{name}"));
                    let commit = source.checksum.as_ref().map(|commit| ("gitCommit".to_owned(), commit.clone()));
                    found.push(dependency(&format!("{}{reference}", source.remote), commit));
                }
                CopySource::Path(_) | CopySource::Inline { .. } => {}
            }
        }
    }
    found.dedup();
    found
}

fn dependency(uri: &str, digest: Option<(String, String)>) -> Value {
    let mut entry = Map::new();
    entry.insert("uri".to_owned(), json!(without_credentials(uri)));
    if let Some((algorithm, hex)) = digest {
        entry.insert("digest".to_owned(), json!({algorithm: hex}));
    }
    Value::Object(entry)
}

/// A URL without user and password.
fn without_credentials(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (host, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    format!("{scheme}://{host}{path}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_url_is_told_with_its_password() {
        for (url, told) in [
            ("https://user:p@ss@h.example/r.git#main", "https://h.example/r.git#main"),
            ("https://h.example/@scope/x", "https://h.example/@scope/x"),
            ("https://token@h.example", "https://h.example"),
            ("/a/directory", "/a/directory"),
        ] {
            assert_eq!(without_credentials(url), told);
        }
    }
}
