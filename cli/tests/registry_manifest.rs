//! `manifest`, `search`, `image rm --remote` and `inspect --remote`: what is done at registries without pulling.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use std::process::Command;

use serde_json::{Value, json};
use testdata::archive::sha256;
use testdata::{BASE, DebianRegistry, Dunnage, FakeRegistry, Need, RegistryKind, Reply, Served, skipped, tool};

fn fresh() -> Dunnage {
    Dunnage::new(env!("CARGO_BIN_EXE_dunnage"))
}

/// A store with the image `app` of this machine and `arm`, which says that it is for another.
fn built() -> Dunnage {
    let dunnage = fresh();
    dunnage.busybox();
    dunnage.build("FROM base\nRUN echo text > /f\nCMD [\"cat\", \"/f\"]\n");
    dunnage.write("arm/Dockerfile", "FROM scratch\nCOPY Dockerfile /f\n");
    dunnage.run(["build", "-q", "--platform", "linux/arm/v6", "-t", "arm", "arm"]).ok();
    dunnage
}

#[track_caller]
fn skopeo(args: &[&str]) -> String {
    tool(Command::new("skopeo").args(args))
}

fn raw(name: &str) -> Value {
    serde_json::from_str(&skopeo(&["inspect", "--raw", "--tls-verify=false", &format!("docker://{name}")])).unwrap()
}

#[test]
fn a_list_of_images_from_here_and_from_registries() {
    if skipped(&BASE) || skipped(&[Need::Program("docker-registry"), Need::Program("skopeo")]) {
        return;
    }
    let (dunnage, one, two) =
        (built(), DebianRegistry::start(RegistryKind::Plain), DebianRegistry::start(RegistryKind::Plain));
    // One image is here alone, one in another repository of the registry, one at another registry.
    let (near, far) = (format!("{}/near:1", one.host()), format!("{}/far:1", two.host()));
    for name in [&near, &far] {
        dunnage.run(["tag", "app", name]).ok();
        dunnage.run(["push", "-q", name]).ok();
        dunnage.run(["rmi", name]).ok();
    }
    let list = format!("{}/team/app:multi", one.host());
    let manifest = |args: &[&str]| dunnage.run(["manifest"].into_iter().chain(args.iter().copied()));
    manifest(&["inspect", "nothing.invalid/x"]).fails(3, "");
    manifest(&["create", &list, "arm", &near]).ok();
    assert_eq!(manifest(&["create", "--amend", &list, &far]).ok().stdout, format!("Created manifest list {list}\n"));
    manifest(&["create", &list, "arm"]).fails(2, "--amend adds to it");
    manifest(&["annotate", &list, &far, "--os", "linux", "--arch", "riscv64", "--os-version", "5"]).ok();
    manifest(&["annotate", &list, "app", "--arch", "x"]).fails(2, "has no app:latest");
    manifest(&["annotate", "none", "app", "--arch", "x"]).fails(1, "there is no manifest list none:latest");
    let shown: Value = serde_json::from_str(&manifest(&["inspect", &list]).ok().stdout).unwrap();
    assert_eq!(shown["manifests"][0]["platform"], json!({ "architecture": "arm", "os": "linux", "variant": "v6" }));
    let digest = manifest(&["push", &list]).ok();
    assert!(digest.stderr.contains("taken over from near"), "{}", digest.stderr);
    let digest = digest.stdout.trim().to_owned();
    assert_eq!(one.digest("team/app", "multi"), digest);
    let index = raw(&list);
    let entries = index["manifests"].as_array().unwrap();
    assert_eq!(index["mediaType"], "application/vnd.oci.image.index.v1+json");
    let architectures: Vec<&str> =
        entries.iter().map(|entry| entry["platform"]["architecture"].as_str().unwrap()).collect();
    assert_eq!((architectures[0], architectures[2], entries.len()), ("arm", "riscv64", 3));
    assert_eq!(entries[2]["platform"]["os.version"], "5");
    // Each of them is there, and the one for this machine runs.
    for entry in entries {
        raw(&format!("{}/team/app@{}", one.host(), entry["digest"].as_str().unwrap()));
    }
    let other = fresh();
    assert_eq!(other.run(["run", "--rm", &list]).ok().stdout, "text\n");
    let inspected: Value = serde_json::from_str(&other.run(["manifest", "inspect", &list]).ok().stdout).unwrap();
    assert_eq!(inspected, index);
    // Again it is the same, and lists go.
    assert_eq!(manifest(&["push", "--purge", "-q", &list]).ok().stdout.trim(), digest);
    manifest(&["push", &list]).fails(1, "there is no manifest list");
    manifest(&["create", &list, &list]).ok();
    let shown: Value = serde_json::from_str(&manifest(&["inspect", &list]).ok().stdout).unwrap();
    assert_eq!(shown["manifests"].as_array().unwrap().len(), 3, "an index gives what it has");
    assert_eq!(manifest(&["rm", &list]).ok().stdout, format!("Deleted: {list}\n"));
    manifest(&["rm", &list]).fails(1, "there is no manifest list");
    manifest(&["create", &list, &format!("{}/none:1", one.host())]).fails(1, "has no such image");
}

#[test]
fn a_list_pushed_to_dunnage_is_an_image_of_its_store() {
    if skipped(&BASE) {
        return;
    }
    let (dunnage, server) = (built(), fresh());
    let served = Served::start(&server, &[]);
    let list = format!("{}/multi:1", served.host());
    dunnage.run(["manifest", "create", &list, "arm", "app"]).ok();
    let digest = dunnage.run(["manifest", "push", "-q", &list]).ok().stdout;
    assert_eq!(served.get("/v2/multi/manifests/1").is(200).header("docker-content-digest"), digest.trim());
    assert_eq!(server.run(["run", "--rm", "multi:1"]).ok().stdout, "text\n");
    let inspected = dunnage.run(["inspect", "--remote", "-f", "{{json .Platforms}}", &list]).ok().stdout;
    assert!(inspected.contains("linux/arm/v6"), "{inspected}");
}

#[test]
fn what_refers_to_an_image_is_shown_and_tags_are_removed() {
    if skipped(&BASE) {
        return;
    }
    let (dunnage, server) = (built(), fresh());
    let served = Served::start(&server, &[]);
    let name = format!("{}/app:1", served.host());
    for tag in ["1", "2", "3"] {
        dunnage.run(["tag", "app", &format!("{}/app:{tag}", served.host())]).ok();
    }
    dunnage.run(["push", "-q", "-a", &format!("{}/app", served.host())]).ok();
    let digest = served.get("/v2/app/manifests/1").is(200).header("docker-content-digest").to_owned();
    served.blob("app", b"{}");
    let empty = json!({ "mediaType": "application/vnd.oci.empty.v1+json", "digest": sha256(b"{}"), "size": 2 });
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let signature = json!({
        "schemaVersion": 2, "mediaType": kind, "artifactType": "application/sig", "config": empty, "layers": [empty],
        "subject": { "mediaType": kind, "digest": digest, "size": 2 },
    });
    served.manifest("app", "sig", &signature).is(201);
    let shown: Value = serde_json::from_str(&dunnage.run(["inspect", "--remote", &name]).ok().stdout).unwrap();
    assert_eq!(shown[0]["Referrers"][0]["ArtifactType"], "application/sig");
    let remove = |name: &str| dunnage.run(["image", "rm", "--remote", name]);
    assert_eq!(remove(&name).ok().stdout, format!("Removed: {name}\n"));
    remove(&name).fails(1, "has no such image");
    served.get("/v2/app/manifests/2").is(200);
    remove(&format!("{}/app@{digest}", served.host())).ok();
    served.get("/v2/app/manifests/3").is(404);
    assert_eq!(dunnage.run(["run", "--rm", &name]).ok().stdout, "text\n", "nothing here has changed");
    let reads = Served::start(&server, &["--read-only"]);
    remove(&format!("{}/app:sig", reads.host())).fails(1, "its owner has to allow that");
}

#[test]
fn docker_s_registry_removes_by_digest_alone() {
    if skipped(&BASE) || skipped(&[Need::Program("docker-registry")]) {
        return;
    }
    let (dunnage, registry) = (built(), DebianRegistry::start(RegistryKind::Plain));
    let name = format!("{}/app:1", registry.host());
    dunnage.run(["tag", "app", &name]).ok();
    dunnage.run(["push", "-q", &name]).ok();
    let digest = registry.digest("app", "1");
    dunnage.run(["rmi", "--remote", &name]).fails(1, &format!("the name by digest, with @{digest}, removes"));
    dunnage.run(["rmi", "--remote", &format!("{}/app@{digest}", registry.host())]).ok();
    dunnage.run(["rmi", "--remote", &name]).fails(1, "has no such image");
}

#[test]
fn registries_are_searched_or_listed() {
    let hub = FakeRegistry::ruled(|asked, reply| match asked.path.split('?').next() {
        Some("/v1/search") => Reply::ok(
            r#"{"num_results":2,"results":[
                {"name":"web","description":"A server.\u001b[31m\nIts second line is long enough to be cut off.","star_count":90,"is_official":true},
                {"name":"me/web","description":"","star_count":3,"is_official":false,"is_automated":true}]}"#,
        ),
        _ => reply,
    });
    let dunnage = fresh();
    let search = |args: &[&str]| dunnage.run(["search"].into_iter().chain(args.iter().copied()));
    let found = search(&[&format!("{}/web +x", hub.host())]).ok().stdout;
    assert!(found.starts_with("NAME") && found.contains("[OK]") && !found.contains('\u{1b}'), "{found:?}");
    assert!(found.contains(&format!("{}/me/web", hub.host())) && !found.contains("cut off"), "{found}");
    let asked = hub.take();
    assert!(asked.iter().any(|asked| asked.path == "/v1/search?q=web+%2Bx&n=25"), "{asked:?}");
    let named = |filter: &str| {
        let host = hub.host();
        search(&["--filter", filter, "--format", "{{.Name}}", &format!("{host}/web")]).ok().stdout.replace(&*host, "H")
    };
    assert_eq!((&*named("stars=50"), &*named("is-official=false")), ("H/web\n", "H/me/web\n"));
    search(&["--filter", "stars=many", "web"]).fails(2, "is no number");
    search(&["--limit", "0", "web"]).fails(2, "");
    // A registry without a search lists what it has.
    let server = fresh();
    let served = Served::start(&server, &[]);
    for repository in ["team/web", "team/other", "web"] {
        served.blob(repository, b"{}");
        let empty = json!({ "mediaType": "application/vnd.test", "digest": sha256(b"{}"), "size": 2 });
        let kind = "application/vnd.oci.image.manifest.v1+json";
        let manifest = json!({ "schemaVersion": 2, "mediaType": kind, "config": empty, "layers": [] });
        served.manifest(repository, "1", &manifest).is(201);
    }
    let found = search(&["--format", "{{.Name}}", &format!("{}/web", served.host())]).ok().stdout;
    assert_eq!(found, format!("{0}/team/web\n{0}/web\n", served.host()));
    // One that does neither says so, and so does one that is blocked: docker's own, in tests.
    let silent = FakeRegistry::start();
    search(&[&format!("{}/web", silent.host())]).fails(1, "it neither searches nor lists its repositories");
    search(&["web"]).fails(1, "blocked");
    search(&["nowhere.invalid/web"]).fails(3, "");
}
