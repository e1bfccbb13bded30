//! `--cache-to` and `--cache-from` at registries, in images, and in object stores: what one store's builds gave is a hit in
//! another's, only what is new is sent, and layers come only where they are needed.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use testdata::{
    CACHED_BUILD, DebianRegistry, Dunnage, FakeRegistry, Need, ObjectStore, RegistryKind, Reply, free_port, skipped,
};

fn dunnage() -> Option<Dunnage> {
    Dunnage::with_cached_build(env!("CARGO_BIN_EXE_dunnage"))
}

/// The same for every place that a cache can be in: exported by one store, imported by an empty one.
#[track_caller]
fn goes_round(dunnage: &Dunnage, to: &str, from: &str) {
    let export = format!("{to},mode=max");
    let (told, first) = dunnage.build_context(&["--cache-to", &export]);
    assert!(told.contains("wrote 8 records and 6 layers"), "{told}");
    let (told, _) = dunnage.build_context(&["--cache-to", &export]);
    assert!(told.contains("wrote 0 records and 0 layers (0 bytes); 6 layers were there already"), "{told}");

    // Nothing is wanted of the files: no layer comes, and the image's id is known all the same.
    let other = dunnage.elsewhere();
    let (told, id) = other.build_context(&["--cache-from", from, "-o", "type=cacheonly"]);
    assert!(told.contains("knew 6 steps; 0 layers fetched (0 bytes)"), "{told}");
    let read = told.split("0 layers fetched (0 bytes); ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap();
    assert!((500..20_000).contains(&read.parse::<u64>().unwrap()), "{told}");
    other.all_cached(6);
    assert_eq!(id, first);
    let (told, id) = other.build_context(&["-t", "app", "--cache-from", from]);
    assert!(told.contains("knew 6 steps; 3 layers fetched"), "{told}");
    other.all_cached(6);
    assert_eq!(id, first);
    assert_eq!(other.run(["run", "--rm", "app", "tail", "-c", "6", "/both"]).ok().stdout, "other\n");

    // A step that misses brings what it works on, and what it gave is all that is sent.
    let third = dunnage.elsewhere();
    third.write("context/Dockerfile", CACHED_BUILD.replace("RUN cat /out /other > /both", "RUN wc -c < /out > /count"));
    let (told, _) = third.build_context(&["--cache-from", from, "--cache-to", &export, "-o", "type=cacheonly"]);
    assert!(told.contains("knew 5 steps; 2 layers fetched"), "{told}");
    assert!(told.contains("wrote 1 record and 1 layer (") && told.contains("5 layers were there already"), "{told}");
    assert_eq!(third.statuses(), ["cached", "cached", "cached", "cached", "cached", "ran"]);
    // Both images are in it now.
    let fourth = dunnage.elsewhere();
    let (_, id) = fourth.build_context(&["--cache-from", from, "-o", "type=cacheonly"]);
    fourth.all_cached(6);
    assert_eq!(id, first);
}

#[test]
fn builder_k10_a_cache_at_a_registry_goes_from_store_to_store() {
    let Some(dunnage) = dunnage() else { return };
    if skipped(&[Need::Program("docker-registry")]) {
        return;
    }
    let registry = DebianRegistry::start(RegistryKind::Plain);
    let name = format!("{}/team/app:cache", registry.host());
    goes_round(&dunnage, &format!("type=registry,ref={name}"), &name);
    // What is no cache is told, and costs its hits alone.
    let image = format!("{}/team/app:1", registry.host());
    dunnage.run(["build", "-q", "-t", &image, "--push", "context"]).ok();
    let (told, _) = dunnage.build_context(&["--cache-from", &image]);
    assert!(told.contains("carries no cache") && told.contains("goes on without it"), "{told}");
    let export = format!("type=registry,ref={image}");
    dunnage.run(["build", "--cache-to", &export, "context"]).fails(1, "a cache needs a tag of its own");
    dunnage.run(["build", "--cache-to", &format!("{export},ignore-error=true"), "context"]).ok();
    let gone = format!("127.0.0.1:{}/x", free_port());
    dunnage.run(["build", "--cache-from", &gone, "context"]).ok();
    dunnage.run(["build", "--cache-to", &format!("type=registry,ref={gone}"), "context"]).fails(1, &gone);
}

#[test]
fn builder_k10_an_image_that_carries_its_cache_is_one() {
    let Some(dunnage) = dunnage() else { return };
    let registry = FakeRegistry::start();
    let name = format!("{}/app:1", registry.host());
    let (_, plain) = dunnage.build_context(&[]);
    let (_, first) = dunnage.build_context(&["-t", &name, "--push", "--cache-to", "type=inline"]);
    assert_ne!(first, plain);
    assert_eq!(dunnage.build_context(&["--cache-to", "type=inline"]).1, first, "equal builds are equal images");
    // What the image says of other stages is enough, as long as nobody needs their files.
    let other = dunnage.elsewhere();
    let (told, id) = other.build_context(&["-t", "app", "--cache-from", &name, "--cache-to", "type=inline"]);
    assert!(told.contains("knew 6 steps; 3 layers fetched"), "{told}");
    other.all_cached(6);
    assert_eq!(id, first);
    let file = "FROM base\nCOPY src /src\nRUN cat /src/* > /out\nRUN wc -c < /out > /count\n";
    dunnage.write("context/Dockerfile", file);
    let (_, first) = dunnage.build_context(&["-t", &name, "--push", "--cache-to", "type=inline"]);
    let third = dunnage.elsewhere();
    registry.take();
    let (told, id) = third.build_context(&["--cache-from", &name, "--cache-to", "type=inline", "-o", "type=cacheonly"]);
    assert!(told.contains("knew 3 steps; 0 layers fetched"), "{told}");
    assert_eq!(id, first);
    let asked: Vec<String> =
        registry.take().into_iter().map(|asked| format!("{} {}", asked.method, asked.path)).collect();
    assert_eq!(asked.len(), 3, "the root, the manifest and the configuration: {asked:?}");
    // An image that stands on it says nothing of its steps.
    dunnage.write("context/Dockerfile", format!("FROM {name}\nLABEL a=b\n"));
    dunnage.build_context(&["-t", "derived"]);
    dunnage.run(["save", "-o", "derived.tar", "derived"]).ok();
    let bytes = std::fs::read(dunnage.dir("").join("derived.tar")).unwrap();
    assert!(!String::from_utf8_lossy(&bytes).contains("dunnage.cache"));
}

#[test]
fn builder_k10_a_layer_that_a_registry_spoils_or_loses_is_made_anew() {
    let Some(dunnage) = dunnage() else { return };
    for lost in [false, true] {
        let registry = FakeRegistry::ruled(move |asked, reply| {
            let layer =
                asked.method == "GET" && asked.path.contains("/blobs/") && reply.body().starts_with(&[0x1f, 0x8b]);
            match (layer, lost) {
                (false, _) => reply,
                (true, true) => Reply::status(404),
                (true, false) => {
                    let mut body = reply.body().to_vec();
                    let middle = body.len() / 2;
                    body[middle] ^= 1;
                    reply.with_body(body)
                }
            }
        });
        let name = format!("{}/app:cache", registry.host());
        dunnage.build_context(&["--cache-to", &format!("type=registry,ref={name},mode=max")]);
        let other = dunnage.elsewhere();
        let (told, _) = other.build_context(&["-t", "app", "--cache-from", &name]);
        assert!(told.contains("cannot be used") && told.contains("; the step runs"), "{told}");
        assert_eq!(other.run(["run", "--rm", "app", "tail", "-c", "6", "/both"]).ok().stdout, "other\n");
        assert_eq!(other.leftovers(), Vec::<std::path::PathBuf>::new());
    }
}

#[test]
fn builder_k10_a_cache_in_an_object_store_goes_from_store_to_store() {
    let Some(dunnage) = dunnage() else { return };
    if skipped(&[Need::Program("moto_server")]) {
        return;
    }
    let store = ObjectStore::start();
    let place = store.cache("team a/app");
    // Large enough for several parts.
    let mut state = 7_u64;
    let noise = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8
    });
    dunnage.write("context/src/noise", noise.take(9 << 20).collect::<Vec<u8>>());
    goes_round(&dunnage, &place, &place);
    let listed = store.ask("GET /bucket?list-type=2&max-keys=1000");
    assert!(listed.contains("team a/app/dunnage-cache"), "{listed}");
    // Who may not, or asks for what there is not, is told before anything is built, and without the secret.
    let nowhere = place.replace("bucket=bucket", "bucket=none");
    let ran = dunnage.run(["build", "--cache-to", &nowhere, "context"]).fails(1, "no such bucket");
    assert!(!ran.stderr.contains("hidden"), "{}", ran.stderr);
    let (told, _) = dunnage.build_context(&["--cache-from", &place.replace("team a", "team b")]);
    assert!(told.contains("there is no cache of dunnage; the build goes on without it"), "{told}");
    // As the environment has it.
    let text = format!("type=s3,bucket=bucket,prefix=team a/app,endpoint_url=http://{}", store.host());
    let other = dunnage.elsewhere();
    let mut command =
        other.command(["build", "--progress", "plain", "--cache-from", &text, "-o", "type=cacheonly", "context"]);
    command.env("AWS_ACCESS_KEY_ID", "key").env("AWS_SECRET_ACCESS_KEY", "hidden").env("AWS_REGION", "eu-central-1");
    let told = String::from_utf8_lossy(&command.output().unwrap().stderr).into_owned();
    assert!(told.contains("knew 6 steps; 0 layers fetched"), "{told}");
    let leaked = testdata::files(&other.root().join("builds"), "")
        .into_iter()
        .any(|file| String::from_utf8_lossy(&std::fs::read(file).unwrap()).contains("hidden"));
    assert!(!leaked);
}

#[test]
fn blobs_that_a_build_fetches_are_told_of_in_every_form() {
    let Some(dunnage) = dunnage() else { return };
    let registry = FakeRegistry::start();
    let base = format!("{}/base:1", registry.host());
    let layer =
        testdata::archive::LayerBytes::gzip(&testdata::archive::tar([testdata::archive::file("f", &[7; 5000])]));
    registry.contents.lock().unwrap().image("1", std::slice::from_ref(&layer));
    let (blob, size) = (testdata::archive::sha256(&layer.stored)[7..19].to_owned(), layer.stored.len());
    let cache = format!("{}/app:cache", registry.host());
    dunnage.build_context(&["--cache-to", &format!("type=registry,ref={cache},mode=max")]);

    // Of a base image.
    dunnage.write("context/Dockerfile", format!("FROM {base}\nCOPY --from={base} /f /g\n"));
    let other = dunnage.elsewhere();
    let (told, _) = other.build_context(&[]);
    assert!(told.lines().any(|line| line.starts_with(&format!("{blob}: ")) && line.contains(" in ")), "{told}");
    let third = dunnage.elsewhere();
    let told = third.run(["build", "--progress", "rawjson", "context"]).ok().stderr;
    let events: Vec<serde_json::Value> = told.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |state: &str| events.iter().find(|event| event["event"] == "transfer" && event["state"] == state).cloned();
    let begun = of("begun").unwrap();
    assert_eq!((begun["blob"].as_str(), begun["size"].as_u64()), (Some(blob.as_str()), Some(size as u64)), "{begun}");
    assert_eq!(of("done").unwrap()["bytes"], size);

    // Of a cache.
    dunnage.write("context/Dockerfile", CACHED_BUILD);
    let other = dunnage.elsewhere();
    let (told, _) = other.build_context(&["--cache-from", &cache, "-t", "app"]);
    let transfers = |line: &&str| line.get(12..).is_some_and(|rest| rest.starts_with(": ") && rest.contains(" in "));
    assert_eq!(told.lines().filter(transfers).count(), 3, "{told}");
}
