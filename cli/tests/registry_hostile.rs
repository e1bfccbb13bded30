//! Registries that misbehave, against what must hold: nothing wrong is kept, no secret leaves its registry, cuts are mended.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use testdata::archive::{LayerBytes, file, sha256, tar};
use testdata::{Asked, DebianRegistry, Dunnage, FakeRegistry, Need, RegistryKind, Reply, Server, skipped};

fn dunnage() -> Option<Dunnage> {
    if skipped(&[Need::Root]) {
        return None;
    }
    Some(Dunnage::new(env!("CARGO_BIN_EXE_dunnage")))
}

/// Bytes that do not compress.
fn noise(count: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8
    };
    (0..count).map(|_| next()).collect()
}

fn layer(name: &str, size: usize) -> LayerBytes {
    LayerBytes::gzip(&tar([file(name, &noise(size))]))
}

fn put(registry: &FakeRegistry, layers: &[LayerBytes]) -> String {
    registry.contents.lock().unwrap().image("1", layers)
}

fn is_layer(asked: &Asked, layer: &LayerBytes) -> bool {
    asked.path.contains(&sha256(&layer.stored))
}

/// Nothing of a failed pull is left, and the store is whole.
#[track_caller]
fn nothing_is_kept(dunnage: &Dunnage) {
    assert_eq!(dunnage.run(["images", "-aq"]).ok().stdout, "");
    let left = std::fs::read_dir(dunnage.root().join("layers")).unwrap().count();
    assert_eq!((left, dunnage.leftovers()), (0, Vec::new()));
    dunnage.run(["system", "check"]).ok();
}

#[test]
fn an_image_of_a_registry_is_pulled_once() {
    let Some(dunnage) = dunnage() else { return };
    let registry = FakeRegistry::start();
    let digest = put(&registry, &[layer("a", 5000), layer("b", 100)]);
    let name = format!("{}/team/app:1", registry.host());
    let ran = dunnage.run(["pull", &name]).ok();
    assert_eq!(ran.stdout, format!("Digest: {digest}\nStatus: Downloaded newer image for {name}\n{name}\n"));
    registry.take();
    let ran = dunnage.run(["pull", &name]).ok();
    assert!(ran.stdout.contains("Image is up to date"), "{}", ran.stdout);
    let asked: Vec<String> = registry.take().iter().map(|asked| format!("{} {}", asked.method, asked.path)).collect();
    assert_eq!(asked, ["GET /v2/", "HEAD /v2/team/app/manifests/1"]);
    assert_eq!(dunnage.run(["pull", "-q", &name]).ok().stdout, format!("{name}\n"));
    let list = dunnage.run(["images", "--digests", "--format", "{{.Tag}} {{.Digest}}"]).ok().stdout;
    assert_eq!(list, format!("1 {digest}\n"));
    let out = dunnage.run(["rmi", &name]).ok().stdout;
    let by_digest = format!("{}/team/app@{digest}", registry.host());
    assert!(out.starts_with(&format!("Untagged: {name}\nUntagged: {by_digest}\nDeleted: sha256:")), "{out}");
    dunnage.run(["pull", "-q", &by_digest]).ok();
    assert_eq!(dunnage.run(["images", "--format", "{{.Tag}}"]).ok().stdout, "<none>\n");
}

#[test]
fn security_r01_a_flipped_bit_is_found_and_not_stored() {
    let Some(dunnage) = dunnage() else { return };
    let layer = layer("a", 300_000);
    for what in ["layer", "config"] {
        let bad = layer.clone();
        let registry = FakeRegistry::ruled(move |asked, reply| {
            let flipped =
                asked.method == "GET" && asked.path.contains("/blobs/") && is_layer(asked, &bad) == (what == "layer");
            if !flipped {
                return reply;
            }
            let mut body = reply.body().to_vec();
            let at = body.len() / 2;
            body[at] ^= 1;
            reply.with_body(body)
        });
        put(&registry, std::slice::from_ref(&layer));
        dunnage.run(["pull", &format!("{}/app:1", registry.host())]).fails(1, "is not valid");
        nothing_is_kept(&dunnage);
    }
}

#[test]
fn security_r02_a_digest_means_these_bytes() {
    let Some(dunnage) = dunnage() else { return };
    let registry = FakeRegistry::start();
    put(&registry, &[layer("a", 100)]);
    let wanted = sha256(b"another manifest");
    {
        let mut contents = registry.contents.lock().unwrap();
        let there = contents.manifests["1"].clone();
        contents.manifests.insert(wanted.clone(), there);
    }
    dunnage.run(["pull", &format!("{}/app@{wanted}", registry.host())]).fails(1, &wanted);
    nothing_is_kept(&dunnage);
}

#[test]
fn security_r04_a_document_is_one_thing() {
    let Some(dunnage) = dunnage() else { return };
    let registry = FakeRegistry::start();
    let name = format!("{}/app:1", registry.host());
    let mut both = registry.contents.lock().unwrap().manifest(&[layer("a", 100)]);
    both["manifests"] = serde_json::json!([]);
    registry.contents.lock().unwrap().tag("1", both.to_string().into_bytes());
    dunnage.run(["pull", &name]).fails(1, "both the parts of an index and those of a manifest");
    // What the server calls it must be what it calls itself.
    let mut other = registry.contents.lock().unwrap().manifest(&[layer("a", 100)]);
    other["mediaType"] = "application/vnd.oci.image.index.v1+json".into();
    registry.contents.lock().unwrap().tag("1", other.to_string().into_bytes());
    dunnage.run(["pull", &name]).fails(1, "and it calls itself");
    let artifact = other
        .to_string()
        .replace("image.index.v1+json", "image.manifest.v1+json")
        .replace("image.config.v1+json", "x.y");
    registry.contents.lock().unwrap().tag("1", artifact.into_bytes());
    dunnage.run(["pull", &name]).fails(1, "an artifact of the type");
    nothing_is_kept(&dunnage);
}

fn log_in_by_file(dunnage: &Dunnage, host: &str) {
    // me:open sesame
    dunnage.write("docker/config.json", format!(r#"{{"auths":{{"{host}":{{"auth":"bWU6b3BlbiBzZXNhbWU="}}}}}}"#));
}

/// A registry that wants tokens of this service.
fn with_tokens(realm: String) -> FakeRegistry {
    FakeRegistry::ruled(move |asked, reply| match asked.headers.get("authorization").map(String::as_str) {
        Some("Bearer good") => reply,
        _ => Reply::status(401).header("WWW-Authenticate", format!("Bearer realm=\"{realm}\",service=\"s\"")),
    })
}

#[test]
fn security_r06_a_password_is_not_for_another_s_token_service() {
    let Some(dunnage) = dunnage() else { return };
    let other = Server::start(|_| Reply::ok(r#"{"token":"good"}"#));
    let registry = with_tokens(other.url("/token"));
    put(&registry, &[layer("a", 100)]);
    let name = format!("{}/app:1", registry.host());
    log_in_by_file(&dunnage, &registry.host());
    dunnage.run(["pull", &name]).fails(1, "realms");
    assert!(other.take().iter().all(|asked| !asked.headers.contains_key("authorization")));
    // Whoever means it says so.
    let realm = format!("127.0.0.1:{}", other.port());
    dunnage.write("config.toml", format!("[registries.\"{}\"]\nrealms = [\"{realm}\"]\n", registry.host()));
    dunnage.run(["pull", &name]).ok();
    let asked = other.take();
    assert!(
        asked[0].path.contains("scope=repository%3Aapp%3Apull") && asked[0].path.contains("service=s"),
        "{asked:?}"
    );
    assert_eq!(asked[0].headers["authorization"], "Basic bWU6b3BlbiBzZXNhbWU=");
    // One token serves all requests of a pull.
    assert_eq!(asked.len(), 1);
}

#[test]
fn security_r06_without_a_password_any_token_service_may_be_asked() {
    let Some(dunnage) = dunnage() else { return };
    let other = Server::start(|_| Reply::ok(r#"{"access_token":"good"}"#));
    let registry = with_tokens(other.url("/token"));
    put(&registry, &[layer("a", 100)]);
    dunnage.run(["pull", &format!("{}/app:1", registry.host())]).ok();
}

#[test]
fn security_r07_credentials_stay_behind_at_a_redirect() {
    let Some(dunnage) = dunnage() else { return };
    let layer = layer("a", 4000);
    let stored = layer.stored.clone();
    let elsewhere = Arc::new(Server::start(move |_| Reply::ok(stored.clone())));
    let (to, moved) = (elsewhere.url("/there"), layer.clone());
    let registry = FakeRegistry::ruled(move |asked, reply| {
        if asked.headers.get("authorization").map(String::as_str) != Some("Basic bWU6b3BlbiBzZXNhbWU=") {
            return Reply::status(401).header("WWW-Authenticate", "Basic realm=\"r\"");
        }
        if is_layer(asked, &moved) { Reply::status(307).header("Location", to.clone()) } else { reply }
    });
    put(&registry, std::slice::from_ref(&layer));
    log_in_by_file(&dunnage, &registry.host());
    dunnage.run(["pull", &format!("{}/app:1", registry.host())]).ok();
    let asked = elsewhere.take();
    assert_eq!(asked.len(), 1);
    assert!(!asked[0].headers.contains_key("authorization"), "{asked:?}");
    // And what is there is held against the digest.
    let lies = Server::start(|_| Reply::ok("no layer"));
    let to = lies.url("/there");
    let moved = layer.clone();
    let registry = FakeRegistry::ruled(move |asked, reply| {
        if is_layer(asked, &moved) { Reply::status(307).header("Location", to.clone()) } else { reply }
    });
    put(&registry, std::slice::from_ref(&layer));
    let fresh = Dunnage::new(env!("CARGO_BIN_EXE_dunnage"));
    assert_ne!(fresh.run(["pull", &format!("{}/app:1", registry.host())]).code, 0);
    nothing_is_kept(&fresh);
}

#[test]
fn security_r09_urls_of_a_layer_are_not_fetched() {
    let Some(dunnage) = dunnage() else { return };
    let layer = layer("a", 4000);
    let elsewhere = Server::start(|_| Reply::ok("x"));
    let registry = FakeRegistry::start();
    {
        let mut contents = registry.contents.lock().unwrap();
        let mut manifest = contents.manifest(std::slice::from_ref(&layer));
        manifest["layers"][0]["urls"] = serde_json::json!([elsewhere.url("/layer")]);
        contents.tag("1", manifest.to_string().into_bytes());
        contents.blobs.remove(&sha256(&layer.stored));
    }
    dunnage.run(["pull", &format!("{}/app:1", registry.host())]).fails(1, "has no such layer");
    assert!(elsewhere.take().is_empty());
    nothing_is_kept(&dunnage);
}

#[test]
fn security_r11_a_registry_that_drips_is_given_up() {
    let Some(dunnage) = dunnage() else { return };
    let layer = layer("a", 4000);
    let slow = layer.clone();
    let registry = FakeRegistry::ruled(
        move |asked, reply| {
            if is_layer(asked, &slow) { reply.slow(Duration::from_secs(1)) } else { reply }
        },
    );
    put(&registry, &[layer]);
    dunnage.run(["pull", &format!("{}/app:1", registry.host())]).fails(3, "it gives less than");
    nothing_is_kept(&dunnage);
}

#[test]
fn security_r13_a_busy_registry_is_waited_for() {
    let Some(dunnage) = dunnage() else { return };
    let asked_for = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked_for);
    let registry = FakeRegistry::ruled(move |asked, reply| {
        if !asked.path.contains("/manifests/") {
            return reply;
        }
        match count.fetch_add(1, Ordering::SeqCst) {
            0 => Reply::status(429).header("Retry-After", "2"),
            1 | 2 => Reply::status(503),
            _ => reply,
        }
    });
    put(&registry, &[layer("a", 100)]);
    let begun = Instant::now();
    dunnage.run(["pull", &format!("{}/app:1", registry.host())]).ok();
    assert!(begun.elapsed() >= Duration::from_secs(2));
    assert_eq!(asked_for.load(Ordering::SeqCst), 4);
}

#[test]
fn security_r14_a_wrong_certificate_is_no_reason_to_leave_tls() {
    if skipped(&[Need::Root, Need::Program("docker-registry"), Need::Program("openssl")]) {
        return;
    }
    let dunnage = Dunnage::new(env!("CARGO_BIN_EXE_dunnage"));
    let registry = DebianRegistry::start(RegistryKind::Tls);
    let ran = dunnage.run(["pull", &format!("{}/app:1", registry.host())]).fails(3, "certs.d");
    assert!(ran.stderr.contains("certificate"), "{}", ran.stderr);
    // Of a registry elsewhere nothing but TLS is spoken, and the sentence names the setting.
    let plain = FakeRegistry::start();
    dunnage.write(
        "config.toml",
        format!("[registries.\"{}\"]\nca = \"{}\"\n", plain.host(), registry.authority().display()),
    );
    let ran = dunnage.run(["pull", &format!("{}/app:1", plain.host())]);
    assert!(ran.code != 0 && plain.take().is_empty(), "{}", ran.stderr);
}

#[test]
fn security_f16_a_layer_that_is_cut_goes_on_where_it_was() {
    let Some(dunnage) = dunnage() else { return };
    let layer = layer("a", 3_000_000);
    let (cut, sent) = (layer.clone(), Arc::new(Mutex::new(Vec::new())));
    let log = Arc::clone(&sent);
    let registry = FakeRegistry::ruled(move |asked, reply| {
        if !is_layer(asked, &cut) {
            return reply;
        }
        let mut log = log.lock().unwrap();
        let whole = reply.body().len();
        if log.is_empty() {
            log.push(whole / 2);
            return reply.cut(whole / 2);
        }
        log.push(whole);
        reply
    });
    put(&registry, std::slice::from_ref(&layer));
    dunnage.run(["pull", &format!("{}/app:1", registry.host())]).ok();
    let sent = sent.lock().unwrap();
    let total: usize = sent.iter().sum();
    assert!(sent.len() == 2 && total <= layer.stored.len() * 21 / 20, "{sent:?} of {}", layer.stored.len());
    let ranges: Vec<String> = registry.take().iter().filter_map(|asked| asked.headers.get("range").cloned()).collect();
    assert_eq!(ranges.len(), 1, "{ranges:?}");
}

#[test]
fn a_big_layer_comes_in_parts_and_each_may_be_cut() {
    let Some(dunnage) = dunnage() else { return };
    let layer = layer("a", 40 << 20);
    let (big, count) = (layer.clone(), AtomicUsize::new(0));
    let registry = FakeRegistry::ruled(move |asked, reply| {
        if !is_layer(asked, &big) {
            return reply;
        }
        let whole = reply.body().len();
        if count.fetch_add(1, Ordering::SeqCst) % 4 == 1 { reply.cut(whole / 3) } else { reply }
    });
    put(&registry, std::slice::from_ref(&layer));
    dunnage.run(["pull", &format!("{}/app:1", registry.host())]).ok();
    let parts = registry.take().iter().filter(|asked| asked.headers.contains_key("range")).count();
    assert!(parts >= 10, "{parts}");
    dunnage.run(["system", "check"]).ok();
}

fn built(dunnage: &Dunnage, size: usize) {
    for name in ["a", "b", "c"] {
        dunnage.write(&format!("tree-{name}/{name}"), noise(size));
    }
    dunnage.write("tree/x", noise(size));
    let here = dunnage.dir(".");
    let status = std::process::Command::new("tar").args(["-cf", "x.tar", "-C", "tree", "."]).current_dir(here).status();
    assert!(status.unwrap().success());
    dunnage.run(["import", "x.tar", "base"]).ok();
    dunnage.write("f/Dockerfile", "FROM base\nCOPY a /a\nCOPY b /b\n");
    dunnage.write("f/a", noise(size / 2));
    dunnage.write("f/b", noise(size / 3));
}

#[test]
fn security_r16_an_upload_that_is_cut_goes_on_where_the_registry_is() {
    let Some(dunnage) = dunnage() else { return };
    built(&dunnage, 4_000_000);
    let cut_once = AtomicUsize::new(0);
    let registry = FakeRegistry::cutting(
        |_, reply| reply,
        move |asked| {
            let length: usize = asked.headers.get("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
            let big = length > 1_000_000 && cut_once.fetch_add(1, Ordering::SeqCst) == 0;
            big.then_some(length / 2)
        },
    );
    let name = format!("{}/app:1", registry.host());
    dunnage.run(["tag", "base", &name]).ok();
    dunnage.run(["push", &name]).ok();
    let asked = registry.take();
    let sent: usize = asked.iter().filter(|asked| asked.path.contains("/uploads/")).map(|asked| asked.body.len()).sum();
    let stored: usize = registry.contents.lock().unwrap().blobs.values().map(Vec::len).sum();
    assert!(sent <= stored * 21 / 20, "{sent} bytes for {stored}");
    assert!(asked.iter().any(|asked| asked.method == "GET" && asked.path.contains("/uploads/")));
    // What arrived is what was sent.
    let fresh = Dunnage::new(env!("CARGO_BIN_EXE_dunnage"));
    fresh.run(["pull", &name]).ok();
    let id = |dunnage: &Dunnage| dunnage.run(["images", "-q", "--no-trunc", &name]).ok().stdout;
    assert_eq!(id(&fresh), id(&dunnage));
}

#[test]
fn security_f18_a_registry_that_stumbles_never_has_a_manifest_without_blobs() {
    let Some(dunnage) = dunnage() else { return };
    built(&dunnage, 300_000);
    let (blobs, manifests) = (AtomicUsize::new(0), Arc::new(AtomicUsize::new(0)));
    let lost = Arc::clone(&manifests);
    let registry = FakeRegistry::cutting(
        move |asked, reply| {
            let finished = asked.method == "PUT" && asked.path.contains("/uploads/");
            if finished && blobs.fetch_add(1, Ordering::SeqCst) == 2 { Reply::status(500) } else { reply }
        },
        // The answer to the first manifest is never heard.
        move |asked| {
            let manifest = asked.method == "PUT" && asked.path.contains("/manifests/");
            let length = asked.headers.get("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
            (manifest && lost.fetch_add(1, Ordering::SeqCst) == 0).then_some(length)
        },
    );
    let name = format!("{}/app:1", registry.host());
    dunnage.run(["build", "-q", "-t", &name, "f"]).ok();
    dunnage.run(["push", &name]).ok();
    assert!(manifests.load(Ordering::SeqCst) >= 2);
    let contents = registry.contents.lock().unwrap();
    assert_eq!(contents.early, 0);
    // Three layers and a configuration.
    assert_eq!(contents.blobs.len(), 4);
    assert!(contents.manifests.contains_key("1"));
}

#[test]
fn a_push_that_changes_nothing_asks_once_for_each_blob_at_most() {
    let Some(dunnage) = dunnage() else { return };
    built(&dunnage, 20_000);
    let registry = FakeRegistry::start();
    let name = format!("{}/app:1", registry.host());
    dunnage.run(["build", "-q", "-t", &name, "f"]).ok();
    dunnage.run(["push", &name]).ok();
    let digest = registry.contents.lock().unwrap().manifests["1"].1.clone();
    registry.take();
    let ran = dunnage.run(["push", &name]).ok();
    assert!(ran.stdout.contains(&sha256(&digest)), "{}", ran.stdout);
    assert_eq!(registry.take().iter().map(|asked| asked.method.as_str()).collect::<Vec<_>>(), ["GET", "HEAD"]);
    // One more layer: the others are asked for, and not sent.
    dunnage.write("f/Dockerfile", "FROM base\nCOPY a /a\nCOPY b /b\nCOPY Dockerfile /d\n");
    dunnage.run(["build", "-q", "-t", &name, "f"]).ok();
    dunnage.run(["push", &name]).ok();
    let asked = registry.take();
    let sent = asked.iter().filter(|asked| asked.method == "PUT" && asked.path.contains("/uploads/")).count();
    assert_eq!(sent, 2, "the layer and the configuration");
}

#[test]
fn what_is_packed_is_chosen_and_told_by_its_type() {
    let Some(dunnage) = dunnage() else { return };
    built(&dunnage, 20_000);
    for (kind, wanted) in [("zstd:5", "tar+zstd"), ("uncompressed", "v1.tar\""), ("gzip:9", "tar+gzip")] {
        let registry = FakeRegistry::start();
        let name = format!("{}/app:1", registry.host());
        dunnage.run(["tag", "base", &name]).ok();
        dunnage.run(["push", "--compression", kind, &name]).ok();
        let manifest = String::from_utf8(registry.contents.lock().unwrap().manifests["1"].1.clone()).unwrap();
        assert!(manifest.contains(wanted), "{manifest}");
        let fresh = Dunnage::new(env!("CARGO_BIN_EXE_dunnage"));
        fresh.run(["pull", "-q", &name]).ok();
        fresh.run(["system", "check"]).ok();
    }
    dunnage.run(["push", "--compression", "xz", "base"]).fails(2, "gzip, zstd and uncompressed");
}

#[test]
fn a_mirror_is_asked_first_and_passed_over_when_it_fails() {
    let Some(dunnage) = dunnage() else { return };
    let (mirror, empty) = (FakeRegistry::start(), FakeRegistry::start());
    mirror.contents.lock().unwrap().image("latest", &[layer("a", 4000)]);
    let config = |mirrors: &str| format!("[registries.\"docker.io\"]\nmirrors = [{mirrors}]\n");
    dunnage.write("config.toml", config(&format!("\"{}\", \"{}\"", empty.host(), mirror.host())));
    let ran = dunnage.run(["pull", "busybox"]).ok();
    assert!(ran.stdout.ends_with("docker.io/library/busybox:latest\n"), "{}", ran.stdout);
    assert!(ran.stderr.contains("is passed over"), "{}", ran.stderr);
    assert!(mirror.take().iter().any(|asked| asked.path.contains("/v2/library/busybox/manifests/latest")));
    assert!(dunnage.run(["images"]).ok().stdout.contains("busybox"));
    // A blocked one is not asked at all.
    dunnage.write("config.toml", format!("[registries.\"{}\"]\nblocked = true\n", mirror.host()));
    mirror.take();
    dunnage.run(["pull", &format!("{}/x", mirror.host())]).fails(1, "config.toml blocks");
    assert!(mirror.take().is_empty());
}

#[test]
fn a_base_that_is_missing_is_pulled_and_pull_asks_anew() {
    let Some(dunnage) = dunnage() else { return };
    let registry = FakeRegistry::start();
    put(&registry, &[layer("a", 4000)]);
    let base = format!("{}/base:1", registry.host());
    dunnage.write("f/Dockerfile", format!("FROM {base}\nCOPY x /x\n"));
    dunnage.write("f/x", "x");
    let ran = dunnage.run(["build", "-t", "app", "f"]).ok();
    assert!(ran.stderr.contains(&format!("pulling {base}")), "{}", ran.stderr);
    registry.take();
    dunnage.run(["build", "-t", "app", "f"]).ok();
    assert!(registry.take().is_empty(), "what is here is not asked for");
    dunnage.run(["build", "--pull", "-t", "app", "f"]).ok();
    assert!(registry.take().iter().any(|asked| asked.method == "HEAD"));
    // One that cannot be had is told at its line.
    dunnage.write("f/Dockerfile", format!("# x\nFROM {}/none:9\n", registry.host()));
    let ran = dunnage.run(["build", "f"]).fails(1, "Dockerfile:2");
    assert!(ran.stderr.contains("has no such image"), "{}", ran.stderr);
    // And pushed where it was asked for.
    let target = format!("{}/out:2", registry.host());
    dunnage.write("f/Dockerfile", format!("FROM {base}\nCOPY x /x\n"));
    dunnage.run(["build", "--push", "-t", &target, "f"]).ok();
    assert!(registry.contents.lock().unwrap().manifests.contains_key("2"));
}

#[test]
fn an_image_is_looked_at_where_it_is() {
    let Some(dunnage) = dunnage() else { return };
    let registry = FakeRegistry::start();
    let layer = layer("a", 4000);
    let digest = put(&registry, std::slice::from_ref(&layer));
    let name = format!("{}/app:1", registry.host());
    let out = dunnage.run(["image", "inspect", "--remote", &name]).ok().stdout;
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(json[0]["RepoDigests"][0], format!("{}/app@{digest}", registry.host()));
    assert_eq!(json[0]["RootFS"]["Layers"][0], layer.diff_id);
    assert_eq!(json[0]["Size"], layer.stored.len());
    assert!(registry.take().iter().all(|asked| !is_layer(asked, &layer)), "no layer is fetched");
    let format = ["inspect", "--remote", "-f", "{{index .Platforms 0}}", &name];
    assert!(dunnage.run(format).ok().stdout.starts_with("linux/"));
    dunnage.run(["inspect", "--remote", &format!("{name}x")]).fails(1, "has no such image");
}
