//! Outputs at registries: `-o type=registry`, `push=true`, and `--push` of what the store has no form for.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use serde_json::Value;
use testdata::{Dunnage, FakeRegistry, Need, skipped};

fn dunnage() -> Option<Dunnage> {
    if skipped(&[Need::Root]) {
        return None;
    }
    let dunnage = Dunnage::new(env!("CARGO_BIN_EXE_dunnage"));
    dunnage.write("context/Dockerfile", "FROM scratch\nARG TARGETARCH\nCOPY $TARGETARCH /arch\nCOPY amd64 /same\n");
    dunnage.write("context/amd64", "a".repeat(1000));
    dunnage.write("context/arm64", "b".repeat(1000));
    Some(dunnage)
}

fn manifest(registry: &FakeRegistry, name: &str) -> Value {
    let contents = registry.contents.lock().unwrap();
    let (kind, bytes) = &contents.manifests[name];
    let document: Value = serde_json::from_slice(bytes).unwrap();
    assert_eq!(document["mediaType"], *kind);
    document
}

#[test]
fn several_platforms_are_pushed_as_one_index() {
    let Some(dunnage) = dunnage() else { return };
    let registry = FakeRegistry::start();
    let name = format!("{}/team/app:1", registry.host());
    let platforms = "linux/amd64,linux/arm64";
    let ran = dunnage.run(["build", "--platform", platforms, "-t", &name, "--push", "context"]).ok();
    assert!(ran.stderr.contains(&format!("pushed {name}@sha256:")), "{}", ran.stderr);
    let index = manifest(&registry, "1");
    let entries = index["manifests"].as_array().unwrap();
    let architectures: Vec<&str> =
        entries.iter().map(|entry| entry["platform"]["architecture"].as_str().unwrap()).collect();
    assert_eq!(architectures, ["amd64", "arm64"]);
    let images: Vec<Value> =
        entries.iter().map(|entry| manifest(&registry, entry["digest"].as_str().unwrap())).collect();
    assert_eq!(images[0]["layers"][1], images[1]["layers"][1], "what both have is there once");
    assert_ne!(images[0]["layers"][0], images[1]["layers"][0]);
    let blobs = registry.contents.lock().unwrap().blobs.len();
    assert_eq!((blobs, registry.contents.lock().unwrap().early), (5, 0));
    assert_eq!(dunnage.run(["images", "-aq"]).ok().stdout, "", "nothing of it was asked for in the store");
    // Each is pulled as what it is.
    for platform in ["linux/amd64", "linux/arm64"] {
        let other = Dunnage::new(env!("CARGO_BIN_EXE_dunnage"));
        other.run(["pull", "-q", "--platform", platform, &name]).ok();
        let found = other.run(["inspect", "-f", "{{.Os}}/{{.Architecture}}", &name]).ok().stdout;
        assert_eq!(found.trim(), platform);
    }
    // The same once more is the same, and sends no layer.
    registry.take();
    dunnage.run(["build", "--platform", platforms, "-t", &name, "--push", "context"]).ok();
    assert_eq!(manifest(&registry, "1"), index);
    let sent = registry.take().iter().filter(|asked| asked.path.contains("/uploads/")).count();
    assert_eq!(sent, 0);
}

#[test]
fn an_output_at_a_registry_has_what_is_said_of_the_image() {
    let Some(dunnage) = dunnage() else { return };
    let registry = FakeRegistry::start();
    let name = format!("{}/app:1", registry.host());
    let output = format!("type=registry,name={name},compression=zstd,compression-level=9");
    dunnage.run(["build", "--platform", "linux/amd64", "-o", &output, "--annotation", "a=b", "context"]).ok();
    let document = manifest(&registry, "1");
    assert_eq!(document["annotations"]["a"], "b");
    assert_eq!(document["layers"][0]["mediaType"], "application/vnd.oci.image.layer.v1.tar+zstd");
    // In the store too, where that is asked for; attestations make it an index.
    let pushed = format!("type=image,push=true,name={name}");
    dunnage.run(["build", "-t", "app", "--load", "-o", &pushed, "--provenance", "context"]).ok();
    dunnage.run(["inspect", "app"]).ok();
    let index = manifest(&registry, "1");
    assert_eq!(index["manifests"].as_array().unwrap().len(), 2, "{index}");
    assert_eq!(index["manifests"][1]["annotations"]["vnd.docker.reference.type"], "attestation-manifest");
    dunnage.run(["build", "-o", "type=registry", "context"]).fails(2, "needs a name to push under");
    dunnage.run(["build", "-o", &format!("{output},push=false"), "context"]).fails(2, "leaves nothing to do");
    dunnage.run(["build", "-o", "type=registry,name=127.0.0.1:9/x", "context"]).fails(3, "127.0.0.1:9");
}
