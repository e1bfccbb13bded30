//! A large COPY of which little changed takes over the files of the layer before: what is built must not show it.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use testdata::{Dunnage, Need};

const NEEDS: [Need; 2] = [Need::Root, Need::Program("busybox")];
/// More than a layer's guard watches: smaller ones share nothing.
const FILES: usize = 1200;

fn dunnage() -> Option<Dunnage> {
    let dunnage = Dunnage::with_base(env!("CARGO_BIN_EXE_dunnage"), &NEEDS)?;
    for number in 0..FILES {
        dunnage.write(&format!("context/src/d{}/f{number}", number % 7), format!("file {number}\n"));
    }
    Some(dunnage)
}

fn build(dunnage: &Dunnage, tag: &str, args: &[&str]) -> String {
    let mut all = vec!["build", "-q", "-t", tag];
    all.extend_from_slice(args);
    all.push("context");
    dunnage.run(all).ok().stdout
}

/// The layer of the store that has this file.
fn layer_with(dunnage: &Dunnage, file: &str, text: &str) -> PathBuf {
    let layers = std::fs::read_dir(dunnage.root().join("layers")).unwrap();
    let found = layers
        .map(|layer| layer.unwrap().path().join("fs"))
        .find(|layer| std::fs::read_to_string(layer.join(file)).is_ok_and(|found| found == text));
    found.unwrap_or_else(|| panic!("no layer has {file} with {text:?}"))
}

fn inode(path: &Path) -> (u64, u64) {
    let metadata = std::fs::metadata(path).unwrap();
    (metadata.ino(), metadata.nlink())
}

#[test]
fn files_that_did_not_change_are_one_and_the_image_does_not_show_it() {
    let Some(dunnage) = dunnage() else { return };
    // A second name given by RUN is one in the layer, also where the first has one more in another layer of the store.
    let file = "FROM base AS copied\nCOPY src /src\nFROM copied\nRUN ln /src/d0/f0 /src/linked && stat -c %h /src/linked > /count\n";
    dunnage.write("context/Dockerfile", file);
    build(&dunnage, "first", &[]);
    dunnage.write("context/src/d1/f1", "changed\n");
    // What is gone cannot stay below: the new layer is one of its own (`deltas.rs` has the others).
    std::fs::remove_file(dunnage.dir("context").join("src/d3/f3")).unwrap();
    build(&dunnage, "second", &[]);
    let (old, new) = (layer_with(&dunnage, "src/d1/f1", "file 1\n"), layer_with(&dunnage, "src/d1/f1", "changed\n"));
    assert_ne!(old, new);
    assert_eq!(inode(&old.join("src/d2/f2")), inode(&new.join("src/d2/f2")));
    assert_eq!(inode(&new.join("src/d2/f2")).1, 2);
    assert_eq!(inode(&new.join("src/d1/f1")).1, 1);

    let other = Dunnage::with_base(env!("CARGO_BIN_EXE_dunnage"), &NEEDS).unwrap();
    let context = dunnage.dir("context").display().to_string();
    let copied = ["build", "-q", "--build-arg", "SOURCE_DATE_EPOCH=1", "--target", "copied", &context];
    assert_eq!(other.run(copied).ok().stdout, dunnage.run(copied).ok().stdout);

    for (dunnage, tag, text) in [(&dunnage, "first", "file 1\n"), (&dunnage, "second", "changed\n")] {
        let run = |script: &str| dunnage.run(["run", "--rm", tag, "sh", "-c", script]).ok().stdout;
        assert_eq!(run("cat /src/d1/f1"), text);
        assert_eq!(run("cat /count; test /src/linked -ef /src/d0/f0 && echo one"), "2\none\n");
        // What a container writes is its own.
        assert_eq!(run("echo mine >> /src/d2/f2; cat /src/d2/f2"), "file 2\nmine\n");
        assert_eq!(run("cat /src/d2/f2"), "file 2\n");
    }
    assert_eq!(dunnage.run(["system", "check"]).ok().code, 0);
    // The first goes with what is its own alone.
    dunnage.run(["rmi", "first"]).ok();
    dunnage.run(["builder", "prune", "-f"]).ok();
    assert_eq!(inode(&new.join("src/d2/f2")).1, 1);
    assert_eq!(dunnage.run(["run", "--rm", "second", "cat", "/src/d2/f2"]).ok().stdout, "file 2\n");
    assert_eq!(dunnage.run(["system", "check"]).ok().code, 0);
}

#[test]
fn a_stage_copied_from_another_shares_too_and_links_stay_links() {
    let Some(dunnage) = dunnage() else { return };
    let file = "FROM base AS make\nCOPY src /src\nRUN ln /src/d0/f0 /src/d0/twin\n\
        FROM base\nCOPY --from=make /src /app\nRUN test /app/d0/f0 -ef /app/d0/twin && test ! /app/d0/f0 -ef /app/d2/f2\n";
    dunnage.write("context/Dockerfile", file);
    build(&dunnage, "first", &[]);
    dunnage.write("context/src/d1/f1", "changed\n");
    let second = build(&dunnage, "second", &[]);
    let new = layer_with(&dunnage, "app/d1/f1", "changed\n");
    assert_eq!(inode(&new.join("app/d2/f2")).1, 2);
    assert_eq!(inode(&new.join("app/d0/f0")), inode(&new.join("app/d0/twin")));
    assert_eq!(build(&dunnage, "third", &["--no-cache"]), second);
    let script = "cd /app; test d0/f0 -ef d0/twin && cat d1/f1";
    assert_eq!(dunnage.run(["run", "--rm", "second", "sh", "-c", script]).ok().stdout, "changed\n");
}
