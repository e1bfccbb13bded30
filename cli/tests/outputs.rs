//! `--output`: directories, tars and archives instead of an image of the store, or besides it.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use testdata::{BASE, Dunnage};

const FILE: &str = "FROM base AS make
RUN mkdir -p /out/sub && echo one > /out/one && chmod 640 /out/one && chown 5:6 /out/one && ln /out/one /out/hard && ln -s one /out/link && echo two > /out/sub/two
FROM scratch
COPY --from=make /out /
";

fn dunnage() -> Option<Dunnage> {
    let dunnage = Dunnage::with_base(env!("CARGO_BIN_EXE_dunnage"), &BASE)?;
    dunnage.write("context/Dockerfile", FILE);
    Some(dunnage)
}

fn images(dunnage: &Dunnage) -> usize {
    dunnage.run(["images", "-aq"]).ok().stdout.lines().count()
}

#[test]
fn builder_o01_local_gives_the_files() {
    let Some(dunnage) = dunnage() else { return };
    let before = images(&dunnage);
    dunnage.write("out/kept", "kept");
    dunnage.run(["build", "-o", "out", "context"]).ok();
    let out = dunnage.dir("out");
    assert_eq!(std::fs::read_to_string(out.join("sub/two")).unwrap(), "two\n");
    assert_eq!(std::fs::read_to_string(out.join("kept")).unwrap(), "kept");
    assert_eq!(std::fs::read_link(out.join("link")).unwrap().to_str(), Some("one"));
    let one = std::fs::metadata(out.join("one")).unwrap();
    assert_eq!((one.permissions().mode() & 0o7777, one.uid(), one.gid()), (0o640, 0, 0));
    assert_eq!(one.ino(), std::fs::metadata(out.join("hard")).unwrap().ino());
    assert_eq!(images(&dunnage), before, "no image is left in the store");
}

#[test]
fn builder_o01_local_never_leaves_its_directory() {
    let Some(dunnage) = dunnage() else { return };
    let canary = dunnage.dir("canary");
    let out = dunnage.dir("out");
    std::os::unix::fs::symlink(&canary, out.join("sub")).unwrap();
    dunnage.run(["build", "-o", "out", "context"]).fails(1, "sub");
    // What it wrote until then stays; the next try goes over it.
    std::fs::remove_file(out.join("sub")).unwrap();
    std::fs::remove_file(out.join("one")).unwrap();
    std::os::unix::fs::symlink(canary.join("one"), out.join("one")).unwrap();
    dunnage.run(["build", "-o", "out", "context"]).ok();
    assert_eq!(std::fs::read_dir(&canary).unwrap().count(), 0);
    assert!(out.join("one").symlink_metadata().unwrap().is_file());
}

#[test]
fn builder_o01_tar_gives_the_tree_as_a_stream() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.run(["build", "-q", "-o", "type=tar,dest=out.tar", "context"]).ok();
    let file = dunnage.dir("").join("out.tar");
    let mut archive = tar::Archive::new(std::fs::File::open(&file).unwrap());
    let mut found = BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let entry = entry.unwrap();
        let header = entry.header();
        let line = format!(
            "{:?} {:o} {}:{}",
            header.entry_type(),
            header.mode().unwrap(),
            header.uid().unwrap(),
            header.gid().unwrap()
        );
        found.insert(entry.path().unwrap().to_string_lossy().into_owned(), line);
    }
    let names: Vec<&str> = found.keys().map(String::as_str).collect();
    assert_eq!(names, ["hard", "link", "one", "sub", "sub/two"]);
    assert_eq!(found["hard"], "Regular 640 5:6");
    assert_eq!(found["one"], "Link 640 5:6");
    let streamed = dunnage.command(["build", "-q", "-o", "-", "context"]).output().unwrap();
    assert!(streamed.status.success());
    assert_eq!(streamed.stdout, std::fs::read(&file).unwrap(), "nothing but the tar is on standard output");
}

#[test]
fn builder_o01_archives_load_again() {
    let Some(dunnage) = dunnage() else { return };
    dunnage
        .run([
            "build",
            "-t",
            "app",
            "-o",
            "type=docker,dest=d.tar",
            "-o",
            "type=oci,dest=o.tar,compression=zstd,compression-level=9",
            "-o",
            "type=oci,dest=lay,tar=false,name=other:1",
            "context",
        ])
        .ok();
    let other = Dunnage::new(env!("CARGO_BIN_EXE_dunnage"));
    let at = |name: &str| dunnage.dir("").join(name).to_str().unwrap().to_owned();
    assert_eq!(other.run(["load", "-i", &at("d.tar")]).ok().stdout, "Loaded image: app:latest\n");
    other.run(["load", "-i", &at("o.tar")]).ok();
    let loaded = other.run(["load", "-i", &at("lay")]).ok().stdout;
    assert!(loaded.contains("app:latest") && loaded.contains("other:1"), "{loaded}");
    // One image under all these names, and none in the store that built it.
    assert_eq!(
        other.run(["images", "-q", "--no-trunc"]).ok().stdout.lines().collect::<std::collections::BTreeSet<_>>().len(),
        1
    );
    dunnage.run(["inspect", "app"]).fails(1, "app");
}

#[test]
fn an_image_may_be_kept_besides() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.run(["build", "-t", "app", "-o", "out", "-o", "type=image,name=more:2", "context"]).ok();
    let id = |name: &str| dunnage.run(["inspect", "--format", "{{.Id}}", name]).ok().stdout;
    assert_eq!(id("app"), id("more:2"));
    dunnage.run(["build", "-t", "again", "--load", "-o", "out", "context"]).ok();
    assert_eq!(id("app"), id("again"));
    dunnage.run(["build", "-t", "cached", "-o", "type=cacheonly", "context"]).ok();
    dunnage.run(["inspect", "cached"]).fails(1, "cached");
}

#[test]
fn outputs_that_cannot_be_are_refused_before_anything_runs() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.run(["build", "-o", "type=loca,dest=x", "context"]).fails(2, "did you mean `local`");
    dunnage.run(["build", "-o", "-", "-o", "type=oci", "context"]).fails(2, "only one --output");
    dunnage.run(["build", "-o", "type=image,push=true", "context"]).fails(2, "needs a name to push under");
    let full = dunnage.run(["build", "-o", "type=tar,dest=/dev/full/x", "context"]);
    full.fails(3, "/dev/full/x");
}
