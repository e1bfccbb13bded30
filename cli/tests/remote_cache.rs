//! `--cache-to` and `--cache-from`: what one store's builds gave is a hit in another's, and layers come only where they are needed.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::path::Path;

use testdata::{CACHED_BUILD, Dunnage, copy_tree};

fn dunnage() -> Option<Dunnage> {
    Dunnage::with_cached_build(env!("CARGO_BIN_EXE_dunnage"))
}

fn build(dunnage: &Dunnage, args: &[&str]) -> String {
    dunnage.build_context(args).0
}

fn id(dunnage: &Dunnage) -> String {
    std::fs::read_to_string(dunnage.dir("").join("iid")).unwrap()
}

fn layers(dunnage: &Dunnage) -> usize {
    std::fs::read_dir(dunnage.root().join("layers")).unwrap().count()
}

#[test]
fn builder_k10_all_steps_hit_after_a_wipe_and_layers_come_only_where_needed() {
    let Some(dunnage) = dunnage() else { return };
    let told = build(&dunnage, &["--cache-to", "type=local,dest=cache,mode=max"]);
    assert!(told.contains("wrote 8 records and 6 layers"), "{told}");
    let first = id(&dunnage);
    let told = build(&dunnage, &["--cache-to", "type=local,dest=cache,mode=max"]);
    assert!(told.contains("wrote 0 records and 0 layers (0 bytes); 6 layers were there already"), "{told}");

    // Nothing is wanted of the files: no layer comes, and the image's id is known all the same.
    let other = dunnage.elsewhere();
    let before = layers(&other);
    let told = build(&other, &["--cache-from", "type=local,src=cache", "-o", "type=cacheonly"]);
    assert!(told.contains("knew 6 steps; 0 layers fetched (0 bytes)"), "{told}");
    other.all_cached(6);
    assert_eq!((id(&other), layers(&other)), (first.clone(), before));

    // The image of the store has three layers of its own; those of the other stages stay away.
    let told = build(&other, &["-t", "app", "--cache-from", "type=local,src=cache"]);
    assert!(told.contains("knew 6 steps; 3 layers fetched"), "{told}");
    other.all_cached(6);
    assert_eq!((id(&other), layers(&other)), (first.clone(), before + 3));
    assert_eq!(other.run(["run", "--rm", "app", "tail", "-c", "6", "/both"]).ok().stdout, "other\n");

    // A step that misses brings what it works on, and nothing more.
    let third = dunnage.elsewhere();
    third.write("context/Dockerfile", CACHED_BUILD.replace("RUN cat /out /other > /both", "RUN wc -c < /out > /count"));
    let told = build(&third, &["--cache-from", "type=local,src=cache", "-o", "type=cacheonly"]);
    assert!(told.contains("knew 5 steps; 2 layers fetched"), "{told}");
    assert_eq!(third.statuses(), ["cached", "cached", "cached", "cached", "cached", "ran"]);

    // What was fetched is the store's own: it hits with no cache at hand.
    std::fs::remove_dir_all(third.dir("cache")).unwrap();
    third.write("context/Dockerfile", "FROM base AS other\nRUN mkdir /d && echo other > /d/other\n");
    build(&third, &[]);
    assert_eq!(third.statuses(), ["ran"], "its layer never came");
}

#[test]
fn builder_k10_a_cache_that_is_damaged_or_gone_never_gives_a_wrong_image() {
    let Some(dunnage) = dunnage() else { return };
    build(&dunnage, &["--cache-to", "type=local,dest=cache,mode=max"]);
    for short in [false, true] {
        let other = dunnage.elsewhere();
        for blob in testdata::files(&other.dir("cache/blobs"), "") {
            let mut bytes = std::fs::read(&blob).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            std::fs::write(&blob, &bytes[..if short { 10 } else { bytes.len() }]).unwrap();
        }
        let told = build(&other, &["--cache-from", "type=local,src=cache", "-t", "app"]);
        // What is short is known at once. What is damaged is found when it comes: its step runs then.
        assert_eq!(
            told.contains("the cache cache cannot be used") && told.contains("; the step runs"),
            !short,
            "{told}"
        );
        assert!(other.statuses().contains(&"ran".to_owned()));
        assert_eq!(other.run(["run", "--rm", "app", "tail", "-c", "6", "/both"]).ok().stdout, "other\n");
        assert_eq!(other.leftovers(), Vec::<std::path::PathBuf>::new());
    }
    // A build that reads and writes a cache mends what it found damaged.
    let mender = dunnage.elsewhere();
    mender.write("context/Dockerfile", "FROM base\nCOPY src /src\n");
    build(&mender, &["--cache-to", "type=local,dest=own"]);
    let blob = testdata::files(&mender.dir("own/blobs"), "").remove(0);
    let (whole, fresh) = (std::fs::read(&blob).unwrap(), mender.elsewhere());
    copy_tree(&mender.dir("own"), &fresh.dir("own"));
    let blob = testdata::files(&fresh.dir("own/blobs"), "").remove(0);
    std::fs::write(&blob, vec![0; whole.len()]).unwrap();
    build(&fresh, &["--cache-from", "type=local,src=own", "--cache-to", "type=local,dest=own"]);
    assert!(std::fs::read(&blob).unwrap() == whole);
    // Damaged records are none.
    let other = dunnage.elsewhere();
    for file in testdata::files(&other.dir("cache/records"), ".json") {
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, text.replace("\"created\":1", "\"created\":2")).unwrap();
    }
    let told = build(&other, &["--cache-from", "type=local,src=cache", "--cache-from", "type=local,src=nowhere"]);
    assert!(
        told.contains("nowhere cannot be used: there is no such directory; the build goes on without it"),
        "{told}"
    );
    assert!(!other.statuses().contains(&"cached".to_owned()));
}

#[test]
fn builder_k10_min_has_all_records_and_the_layers_of_the_image() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.dir("cache");
    let told = build(&dunnage, &["--cache-to", "type=local,dest=min,compression=zstd"]);
    assert!(told.contains("wrote 8 records and 3 layers"), "{told}");
    let import = |other: &Dunnage, args: &[&str]| {
        copy_tree(&dunnage.dir("min"), &other.dir("min"));
        build(other, &[&["--cache-from", "type=local,src=min"], args].concat())
    };
    // All hits, though the layers of the other stages are nowhere.
    let other = dunnage.elsewhere();
    let told = import(&other, &["-t", "app"]);
    assert!(told.contains("knew 6 steps; 3 layers fetched"), "{told}");
    other.all_cached(6);
    assert_eq!(id(&other), id(&dunnage));
    assert_eq!(other.run(["run", "--rm", "app", "tail", "-c", "6", "/both"]).ok().stdout, "other\n");
    // A step that needs one of them brings its own stage to run, and no other.
    let third = dunnage.elsewhere();
    third.write(
        "context/Dockerfile",
        CACHED_BUILD.replace("echo other > /d/other", "echo other > /d/other\nRUN cp /d/other /d/more"),
    );
    import(&third, &["-t", "app"]);
    assert_eq!(third.statuses(), ["cached", "cached", "ran", "ran", "cached", "cached", "cached"]);
    assert_eq!(third.run(["run", "--rm", "app", "tail", "-c", "6", "/both"]).ok().stdout, "other\n");
    // From one cache into another, with what there is.
    let fourth = dunnage.elsewhere();
    let told = import(&fourth, &["--cache-to", "type=local,dest=all,mode=max", "-o", "type=cacheonly"]);
    assert!(told.contains("wrote 6 records and 3 layers"), "{told}");
    assert!(Path::new(&fourth.dir("all")).join("dunnage-cache").is_file());
}

#[test]
fn caches_that_cannot_be_are_refused_before_anything_is_built() {
    let dunnage = Dunnage::new(env!("CARGO_BIN_EXE_dunnage"));
    dunnage.write("context/Dockerfile", "FROM scratch\nCOPY Dockerfile /\n");
    dunnage.write("file", "");
    let run = |flag: &str, value: &str| dunnage.run(["build", flag, value, "context"]);
    run("--cache-to", "type=local,dest=file").fails(3, "file");
    run("--cache-to", "type=local,dest=context").fails(1, "it is no cache of dunnage");
    run("--cache-to", "type=azblob,name=x").fails(2, "type=azblob are not supported");
    run("--cache-to", "type=registry,ref=x,mounts=id").fails(2, "no step and no cache of the store has this id");
    run("--cache-from", "type=local").fails(2, "needs src=DIRECTORY");
    dunnage.run(["build", "--cache-to", "type=local,dest=file,ignore-error=true", "context"]).ok();
    dunnage.run(["plan", "--cache-to", "type=local,dest=c", "context"]).fails(2, "--cache-to is for `dunnage build`");
}
