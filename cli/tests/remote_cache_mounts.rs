//! `--cache-to …,mounts=ID`: cache mounts of one store begin those of another, wherever the cache is, and touch none that is there.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use testdata::{DebianRegistry, Dunnage, Need, ObjectStore, RegistryKind, skipped};

/// Each run of its step leaves a line in one cache mount, and the image has the lines so far.
const BUILD: &str = "FROM base
RUN --mount=type=cache,target=/c,id=one --mount=type=cache,target=/two,mode=0700 \\
    date +%s%N >> /c/lines && cat /c/lines > /seen && echo two > /two/file
";

fn dunnage() -> Option<Dunnage> {
    let dunnage = Dunnage::with_cached_build(env!("CARGO_BIN_EXE_dunnage"))?;
    dunnage.write("context/Dockerfile", BUILD);
    Some(dunnage)
}

#[track_caller]
fn lines(dunnage: &Dunnage) -> usize {
    dunnage.run(["run", "--rm", "app", "cat", "/seen"]).ok().stdout.lines().count()
}

#[track_caller]
fn goes_round(dunnage: &Dunnage, to: &str, from: &str) {
    let export = format!("{to},mode=max,mounts=one,mounts=/two");
    let (told, _) = dunnage.build_context(&["-t", "app", "--cache-to", &export]);
    assert!(
        told.contains("wrote the cache mount `one` (") && told.contains("wrote the cache mount `/two` ("),
        "{told}"
    );
    let (told, _) = dunnage.build_context(&["--cache-to", &export]);
    assert!(told.contains("`one` was there already") && told.contains("`/two` was there already"), "{told}");

    // Who hits needs none of them; who runs begins with what they were.
    let other = dunnage.elsewhere();
    let (told, _) = other.build_context(&["-t", "app", "--cache-from", from]);
    assert!(!told.contains("came from"), "{told}");
    other.all_cached(1);
    let (told, _) = other.build_context(&["-t", "app", "--no-cache", "--cache-from", from]);
    assert!(told.contains("the cache mount `one` came from") && told.contains("`/two` came from"), "{told}");
    assert_eq!(lines(&other), 2);
    // What is here is never touched.
    let (told, _) = other.build_context(&["-t", "app", "--no-cache", "--cache-from", from]);
    assert!(!told.contains("came from"), "{told}");
    assert_eq!(lines(&other), 3);

    // What changed is sent; what did not is not.
    let (told, _) = other.build_context(&["--cache-to", &export]);
    assert!(told.contains("wrote the cache mount `one` (") && told.contains("`/two` was there already"), "{told}");
    let third = dunnage.elsewhere();
    third.build_context(&["-t", "app", "--no-cache", "--cache-from", from]);
    assert_eq!(lines(&third), 4);
    assert_eq!(third.leftovers(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn builder_k10_cache_mounts_go_through_a_directory() {
    let Some(dunnage) = dunnage() else { return };
    let cache = dunnage.dir("cache").display().to_string();
    goes_round(&dunnage, &format!("type=local,dest={cache}"), &format!("type=local,src={cache}"));
}

#[test]
fn builder_k10_cache_mounts_go_through_registries() {
    let Some(dunnage) = dunnage() else { return };
    if skipped(&[Need::Program("docker-registry")]) {
        return;
    }
    let registry = DebianRegistry::start(RegistryKind::Plain);
    let name = format!("{}/team/app:cache", registry.host());
    goes_round(&dunnage, &format!("type=registry,ref={name}"), &name);
}

#[test]
fn builder_k10_cache_mounts_go_through_an_object_store() {
    let Some(dunnage) = dunnage() else { return };
    if skipped(&[Need::Program("moto_server")]) {
        return;
    }
    let store = ObjectStore::start();
    let place = store.cache("cache");
    goes_round(&dunnage, &place, &place);
}

#[test]
fn cache_mounts_that_nobody_has_are_refused_before_anything_is_built() {
    let Some(dunnage) = dunnage() else { return };
    let ran = dunnage.run(["build", "--cache-to", "type=local,dest=cache,mounts=onne", "context"]);
    ran.fails(2, "mounts=onne: no step and no cache of the store has this id; there are /two, one");
    assert_eq!(dunnage.dir("cache").read_dir().unwrap().count(), 0);
    // One that a step makes is known, and one that the store alone has.
    dunnage.write("context/Dockerfile", format!("{BUILD}RUN --mount=type=cache,target=/c,id=late false\n"));
    dunnage.run(["build", "context"]).fails(1, "exit code 1");
    dunnage.write("context/Dockerfile", format!("{BUILD}RUN --mount=type=cache,target=/c,id=late true\n"));
    let (told, _) = dunnage.build_context(&["--cache-to", "type=local,dest=cache,\"mounts=late\",mounts=one"]);
    assert!(told.contains("wrote the cache mount `one` (") && told.contains("wrote the cache mount `late`"), "{told}");
    dunnage.write("context/Dockerfile", "FROM base\nRUN true\n");
    let (told, _) = dunnage.build_context(&["--cache-to", "type=local,dest=other,mounts=/two"]);
    assert!(told.contains("wrote the cache mount `/two` ("), "{told}");
}

#[test]
fn a_cache_mount_that_is_damaged_costs_a_note() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.build_context(&["--cache-to", "type=local,dest=cache,mounts=one"]);
    for blob in testdata::files(&dunnage.dir("cache/blobs"), "") {
        let mut bytes = std::fs::read(&blob).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&blob, &bytes).unwrap();
    }
    let other = dunnage.elsewhere();
    let (told, _) = other.build_context(&["-t", "app", "--no-cache", "--cache-from", "type=local,src=cache"]);
    assert!(told.contains("the cache mount `one` begins without it"), "{told}");
    assert_eq!(lines(&other), 1);
}
