//! What is said of an image in an OCI layout: annotations, attestations, several platforms; and that its id is the same.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};
use testdata::{BASE, Dunnage, Need, skipped};

const STATUS: &str = "Package: libx\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1.2\n";

fn dunnage() -> Option<Dunnage> {
    let dunnage = Dunnage::with_base(env!("CARGO_BIN_EXE_dunnage"), &BASE)?;
    dunnage.write(
        "context/Dockerfile",
        "FROM base\nARG TOKEN\nARG V\nCOPY status /var/lib/dpkg/status\nRUN --mount=type=secret,id=s cat /run/secrets/s > /dev/null; echo $V > /v\n",
    );
    dunnage.write("context/status", STATUS);
    dunnage.write("secret", "swordfish-in-a-file");
    Some(dunnage)
}

struct Layout(PathBuf);

impl Layout {
    fn json(&self, name: &str) -> Value {
        serde_json::from_slice(&std::fs::read(self.0.join(name)).unwrap()).unwrap()
    }

    fn blob(&self, descriptor: &Value) -> Value {
        let digest = descriptor["digest"].as_str().unwrap().replace(':', "/");
        let bytes = std::fs::read(self.0.join("blobs").join(digest)).unwrap();
        assert_eq!(descriptor["size"], bytes.len(), "{descriptor}");
        serde_json::from_slice(&bytes).unwrap()
    }

    fn top(&self) -> Value {
        let index = self.json("index.json");
        assert_eq!(index["manifests"].as_array().unwrap().len(), 1, "{index}");
        index["manifests"][0].clone()
    }
}

/// Builds into a layout of that name.
fn layout(dunnage: &Dunnage, name: &str, args: &[&str]) -> Layout {
    let output = format!("type=oci,tar=false,dest={name}");
    let mut all = vec!["build", "-t", "app:1", "--build-arg", "TOKEN=swordfish", "--build-arg", "V=7"];
    all.extend(["--secret", "id=s,src=secret", "-o", &output]);
    all.extend_from_slice(args);
    all.push("context");
    dunnage.run(all).ok();
    Layout(dunnage.dir(name))
}

#[test]
fn attestations_stand_beside_the_image_and_change_nothing_of_it() {
    let Some(dunnage) = dunnage() else { return };
    let plain = layout(&dunnage, "plain", &[]);
    let attested = layout(&dunnage, "attested", &["--sbom", "--provenance=mode=max"]);
    let top = attested.top();
    assert_eq!(top["mediaType"], "application/vnd.oci.image.index.v1+json");
    assert_eq!(top["annotations"]["io.containerd.image.name"], "docker.io/library/app:1");
    let index = attested.blob(&top);
    let (image, attestation) = (&index["manifests"][0], &index["manifests"][1]);
    assert_eq!(image["digest"], plain.top()["digest"], "the manifest is the same");
    assert_eq!(attestation["platform"], json!({"os": "unknown", "architecture": "unknown"}));
    assert_eq!(attestation["annotations"]["vnd.docker.reference.type"], "attestation-manifest");
    assert_eq!(attestation["annotations"]["vnd.docker.reference.digest"], image["digest"]);

    let manifest = attested.blob(attestation);
    let statements = manifest["layers"].as_array().unwrap();
    assert_eq!(attested.blob(&manifest["config"])["rootfs"]["diff_ids"][0], statements[0]["digest"]);
    let of = |predicate: &str| {
        let layer = statements.iter().find(|layer| layer["annotations"]["in-toto.io/predicate-type"] == predicate);
        assert_eq!(layer.unwrap()["mediaType"], "application/vnd.in-toto+json");
        let statement = attested.blob(layer.unwrap());
        let digest = image["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
        assert_eq!(statement["_type"], "https://in-toto.io/Statement/v1");
        assert_eq!(statement["subject"][0]["digest"]["sha256"], digest);
        assert!(statement["subject"][0]["name"].as_str().unwrap().starts_with("pkg:docker/app@1?platform=linux%2F"));
        statement["predicate"].clone()
    };
    let spdx = of("https://spdx.dev/Document");
    assert_eq!(spdx["spdxVersion"], "SPDX-2.3");
    assert_eq!(spdx["packages"][1]["name"], "libx");
    let provenance = of("https://slsa.dev/provenance/v1");
    let build = &provenance["buildDefinition"];
    assert_eq!(build["externalParameters"]["args"], json!({"TOKEN": "(not shown)", "V": "7"}));
    assert!(build["internalParameters"]["dockerfile"].as_str().unwrap().starts_with("FROM base"));
    assert_eq!(build["internalParameters"]["steps"].as_array().unwrap().len(), 2);
    assert!(build["resolvedDependencies"][0]["uri"].as_str().unwrap().starts_with("pkg:docker/base@latest"));
    assert!(!provenance.to_string().contains("swordfish"), "{provenance}");

    // Without more words there is less of it, and both load as what they are.
    let min = layout(&dunnage, "min", &["--attest", "type=provenance"]);
    let index = min.blob(&min.top());
    let manifest = min.blob(&index["manifests"][1]);
    assert_eq!(manifest["layers"].as_array().unwrap().len(), 1);
    let predicate = &min.blob(&manifest["layers"][0])["predicate"];
    assert!(predicate["buildDefinition"]["internalParameters"]["steps"].is_null());
    let other = Dunnage::new(env!("CARGO_BIN_EXE_dunnage"));
    for name in ["plain", "attested", "min"] {
        let loaded = other.run(["load", "-i", dunnage.dir(name).to_str().unwrap()]).ok().stdout;
        assert_eq!(loaded, "Loaded image: app:1\n");
    }
    assert_eq!(other.run(["images", "-q"]).ok().stdout.lines().count(), 1);
}

#[test]
fn annotations_stand_where_they_are_asked_for() {
    let Some(dunnage) = dunnage() else { return };
    let one = layout(&dunnage, "one", &["--annotation", "a=1", "--annotation", "manifest-descriptor:b=2"]);
    let top = one.top();
    assert_eq!((&top["annotations"]["b"], &one.blob(&top)["annotations"]), (&json!("2"), &json!({"a": "1"})));
    let args = ["--sbom", "--annotation", "index,manifest:c=3", "--annotation", "index-descriptor:d=4"];
    let both = layout(&dunnage, "both", &args);
    let index = both.blob(&both.top());
    assert_eq!((&both.top()["annotations"]["d"], &index["annotations"]), (&json!("4"), &json!({"c": "3"})));
    assert_eq!(both.blob(&index["manifests"][0])["annotations"], json!({"c": "3"}));

    let refused = |args: &[&str], text: &str| {
        let mut all = vec!["build"];
        all.extend_from_slice(args);
        all.push("context");
        dunnage.run(all).fails(2, text);
    };
    refused(&["--annotation", "a=1"], "need an output that holds them");
    refused(&["--sbom", "-o", "type=docker,dest=x"], "need an output that holds them");
    refused(&["--annotation", "index:a=1", "-o", "type=oci,dest=x"], "needs an index");
    refused(&["--annotation", "layer:a=1", "-o", "type=oci,dest=x"], "it stands in manifest");
    refused(&["--sbom=generator=x", "-o", "type=oci,dest=x"], "there is no generator");
    let told = dunnage
        .run(["build", "--secret", "id=s,src=secret", "--sbom", "-o", "type=oci,dest=x", "-o", "files", "context"])
        .ok();
    assert!(told.stderr.contains("are not in the output type=local"), "{}", told.stderr);
}

#[test]
fn several_platforms_are_one_index() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.write(
        "context/Dockerfile",
        "FROM --platform=$BUILDPLATFORM base AS make\nARG TARGETPLATFORM\nRUN echo $TARGETPLATFORM > /p\nFROM scratch\nCOPY --from=make /p /p\n",
    );
    let platforms = "linux/s390x,linux/amd64,linux/arm64,linux/amd64";
    let many = layout(&dunnage, "many", &["--platform", platforms, "-o", "files", "--provenance=mode=max"]);
    let index = many.blob(&many.top());
    let manifests = index["manifests"].as_array().unwrap();
    let names: Vec<&str> = manifests.iter().map(|entry| entry["platform"]["architecture"].as_str().unwrap()).collect();
    assert_eq!(names, ["s390x", "amd64", "arm64", "unknown", "unknown", "unknown"]);
    for (at, name) in names.iter().take(3).enumerate() {
        let config = many.blob(&many.blob(&manifests[at])["config"]);
        assert_eq!(config["architecture"], **name);
        assert_eq!(manifests[at + 3]["annotations"]["vnd.docker.reference.digest"], manifests[at]["digest"]);
        let file = std::fs::read_to_string(dunnage.dir("files").join(format!("linux_{name}/p"))).unwrap();
        assert_eq!(file, format!("linux/{name}\n"));
    }
    let record = dunnage.run(["builds", "show", "--format", "json"]).ok().stdout;
    let record: Value = serde_json::from_str(&record).unwrap();
    let steps = record["steps"].as_array().unwrap();
    assert_eq!(steps.len(), 6);
    assert!(steps.iter().all(|step| step["status"] == "ran" || step["status"] == "cached"), "{steps:?}");
    assert_eq!(steps[2]["stage"], "linux/amd64 make");
    // Built again it is all there.
    let again = layout(&dunnage, "again", &["--platform", platforms]);
    assert_eq!(again.blob(&again.top())["manifests"], json!(manifests[..3]));
    let record = dunnage.run(["builds", "show", "--format", "json"]).ok().stdout;
    assert_eq!(record.matches("\"cached\"").count(), 6, "{record}");

    let other = Dunnage::new(env!("CARGO_BIN_EXE_dunnage"));
    other.run(["load", "-i", dunnage.dir("many").to_str().unwrap()]).ok();
    assert!(other.run(["inspect", "app:1"]).ok().stdout.contains("\"amd64\"") || !cfg!(target_arch = "x86_64"));

    let refused = |args: &[&str], text: &str| {
        let mut all = vec!["build", "--platform", "linux/amd64", "--platform", "linux/arm64"];
        all.extend_from_slice(args);
        dunnage.run(all).fails(2, text);
    };
    refused(&["context"], "an image of the store holds one platform");
    refused(&["-o", "type=docker,dest=x", "context"], "type=docker holds one platform");
    refused(&["-o", "type=oci,dest=x", "-"], "standard input can be read once");
    dunnage.run(["plan", "--platform", platforms, "context"]).fails(2, "name one with --platform");
}

#[test]
fn skopeo_reads_an_index_with_attestations() {
    let Some(dunnage) = dunnage() else { return };
    if skipped(&[Need::Program("skopeo")]) {
        return;
    }
    layout(&dunnage, "lay", &["--sbom", "--provenance"]);
    let run = |args: &[&str]| {
        let output = Command::new("skopeo").args(args).current_dir(dunnage.dir("")).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert!(run(&["inspect", "oci:lay:1"]).contains("\"Architecture\""));
    run(&["copy", "-q", "--all", "oci:lay:1", "oci:copy:1"]);
}
