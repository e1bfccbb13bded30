//! Times of files: what a step did not change keeps them, and outputs rewrite them.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde_json::Value;
use testdata::{BASE, Dunnage, Ran};

const EPOCH: u64 = 1_700_000_000;

fn dunnage() -> Option<Dunnage> {
    Dunnage::with_base(env!("CARGO_BIN_EXE_dunnage"), &BASE)
}

fn read_json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn blob(layout: &Path, digest: &Value) -> PathBuf {
    layout.join("blobs").join(digest.as_str().unwrap().replace(':', "/"))
}

/// The manifest's digest, the manifest and the configuration of a layout with one image.
fn layout(path: &Path) -> (Value, Value, Value) {
    let digest = read_json(&path.join("index.json"))["manifests"][0]["digest"].clone();
    let manifest = read_json(&blob(path, &digest));
    let config = read_json(&blob(path, &manifest["config"]["digest"]));
    (digest, manifest, config)
}

fn mtimes(tar: &Path) -> BTreeMap<String, u64> {
    let mut archive = tar::Archive::new(std::fs::File::open(tar).unwrap());
    let entries = archive.entries().unwrap().map(|entry| {
        let entry = entry.unwrap();
        (entry.path().unwrap().to_string_lossy().into_owned(), entry.header().mtime().unwrap())
    });
    entries.collect()
}

/// Builds the image of the test, with files as old as said, as a layout; its name is given back.
fn build_layout(dunnage: &Dunnage, age: u64, options: &str, name: &str) -> PathBuf {
    dunnage.write(
        "context/Dockerfile",
        "FROM base\nCOPY dir /dir\nRUN date > /dev/null; echo x > /made; mkdir -p /etc/more\nWORKDIR /work\n",
    );
    let file = dunnage.write("context/dir/file", "content");
    let time = SystemTime::now() - Duration::from_secs(age);
    std::fs::File::options().write(true).open(file).unwrap().set_modified(time).unwrap();
    let output = format!("type=oci,tar=false,compression=uncompressed,dest={name}{options}");
    let mut command = dunnage.command(["build", "-q", "-t", "app", "-o", &output, "context"]);
    let ran: Ran = command.env("SOURCE_DATE_EPOCH", EPOCH.to_string()).output().unwrap().into();
    ran.ok();
    dunnage.dir("").join(name)
}

#[test]
fn builder_l06_two_hosts_give_one_manifest_and_the_base_stays_as_it_is() {
    let Some(one) = dunnage() else { return };
    let other = Dunnage::new(env!("CARGO_BIN_EXE_dunnage"));
    let base = one.dir("").join("base.tar");
    one.run(["save", "-o", base.to_str().unwrap(), "base"]).ok();
    other.run(["load", "-i", base.to_str().unwrap()]).ok();
    let first = layout(&build_layout(&one, 5000, ",rewrite-timestamp=true", "out"));
    // Another host, at another second, with files of another time.
    std::thread::sleep(Duration::from_millis(1100));
    let place = build_layout(&other, 60, ",rewrite-timestamp=true", "out");
    let second = layout(&place);
    assert_eq!(first.0, second.0, "{} {}", first.1, second.1);
    assert_ne!(first.0, layout(&build_layout(&one, 5000, "", "plain")).0, "without the option times stay");

    one.run(["save", "--format", "oci", "-o", "saved/", "base"]).ok();
    let (_, _, base) = layout(&one.dir("").join("saved"));
    let (_, manifest, config) = second;
    let below = base["rootfs"]["diff_ids"].as_array().unwrap();
    assert_eq!(&config["rootfs"]["diff_ids"].as_array().unwrap()[..below.len()], below.as_slice());
    let history = base["history"].as_array().unwrap();
    assert_eq!(&config["history"].as_array().unwrap()[..history.len()], history.as_slice());
    let layers = manifest["layers"].as_array().unwrap();
    assert_eq!(layers.len(), below.len() + 3);
    for layer in &layers[below.len()..] {
        let times = mtimes(&blob(&place, &layer["digest"]));
        assert!(times.values().all(|time| *time <= EPOCH), "{times:?}");
    }
}

#[test]
fn builder_l06_an_image_of_the_store_is_rewritten_too_and_the_steps_still_hit() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.write("context/Dockerfile", "FROM base\nRUN echo x > /made\n");
    let build = |words: &[&str]| {
        let mut command = dunnage.command([&["build", "-q", "-t", "app"], words, &["context"]].concat());
        let ran: Ran = command.env("SOURCE_DATE_EPOCH", EPOCH.to_string()).output().unwrap().into();
        ran
    };
    let plain = build(&[]).ok().stdout;
    let clamped = build(&["-o", "type=image,rewrite-timestamp=true"]).ok().stdout;
    assert_ne!(plain, clamped);
    let time = dunnage.run(["run", "--rm", "app", "stat", "-c", "%Y", "/made"]).ok().stdout;
    assert_eq!(time.trim(), EPOCH.to_string());
    assert_eq!(build(&["-o", "type=image,rewrite-timestamp=true"]).ok().stdout, clamped);
    assert_eq!(build(&[]).ok().stdout, plain, "what the step gave is what it gave");
    let arg = ["--build-arg", "SOURCE_DATE_EPOCH=1600000000", "-o", "type=image,rewrite-timestamp=true"];
    build(&arg).ok();
    let time = dunnage.run(["run", "--rm", "app", "stat", "-c", "%Y", "/made"]).ok().stdout;
    assert_eq!(time.trim(), "1600000000", "the argument goes before the environment");
    dunnage.run(["build", "-o", "type=image,rewrite-timestamp=true", "context"]).fails(2, "SOURCE_DATE_EPOCH");
}

#[test]
fn builder_what_a_run_did_not_change_keeps_its_time() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.write(
        "context/Dockerfile",
        "FROM base\nCOPY number /n\nRUN mkdir -p /d/e && echo same > /d/same && cat /n > /d/e/other && ln -s same /d/link \
         && echo a > /d/changed-mode && chmod $(cat /n) /d/changed-mode\nRUN echo after > /after\n",
    );
    let build = |number: &str, tar: &str| {
        dunnage.write("context/number", number);
        dunnage.run(["build", "-q", "-o", &format!("type=tar,dest={tar}"), "context"]).ok();
        mtimes(&dunnage.dir("").join(tar))
    };
    let before = build("600", "one.tar");
    std::thread::sleep(Duration::from_millis(1100));
    let after = build("640", "two.tar");
    for same in ["d", "d/e", "d/same", "d/link", "after"] {
        assert_eq!(before[same], after[same], "{same}");
    }
    for changed in ["d/e/other", "d/changed-mode"] {
        assert!(before[changed] < after[changed], "{changed}");
    }
    // Builds that failed at the step take nothing away.
    dunnage.write("context/number", "no-mode");
    (0..2).for_each(|_| drop(dunnage.run(["build", "context"]).fails(1, "chmod")));
    let later = build("644", "three.tar");
    for same in ["d", "d/e", "d/same", "d/link", "after"] {
        assert_eq!(before[same], later[same], "{same}");
    }
}
