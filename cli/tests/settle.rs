//! Steps go on while the layers that they stand on are brought to the disk; what is told of is on the disk all the same.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use testdata::{Dunnage, Need, Ran, skipped};

const NEEDS: [Need; 2] = [Need::Root, Need::Program("busybox")];

/// A chain of steps, of which each gives another layer.
fn chain() -> Dunnage {
    let dunnage = Dunnage::new(env!("CARGO_BIN_EXE_dunnage"));
    dunnage.busybox();
    dunnage.write(
        "context/Dockerfile",
        "FROM base\nRUN echo one > /one\nRUN cat /one > /two\nRUN cat /one /two > /three\nCMD cat /three\n",
    );
    dunnage
}

fn build(dunnage: &Dunnage, failpoints: &str) -> Ran {
    let mut command = dunnage.command(["build", "-q", "-t", "app", "context"]);
    command.env("DUNNAGE_FAILPOINTS", failpoints).output().unwrap().into()
}

/// Nothing is left, nothing is damaged, and the same build comes to its end.
fn goes_on(dunnage: &Dunnage) {
    dunnage.run(["build", "-q", "-t", "app", "context"]).ok();
    assert_eq!(dunnage.run(["run", "--rm", "app"]).ok().stdout, "one\none\n");
    dunnage.run(["system", "check"]).ok();
    assert!(dunnage.leftovers().is_empty(), "{:?}", dunnage.leftovers());
}

#[test]
fn security_f03_steps_stand_on_layers_that_are_not_flushed_yet() {
    if skipped(&NEEDS) {
        return;
    }
    let dunnage = chain();
    let hits = dunnage.dir("").join("hits");
    build(&dunnage, &format!("*=record:{};layer.flush=delay:1500@1", hits.display())).ok();
    let text = std::fs::read_to_string(&hits).unwrap();
    std::fs::remove_file(hits).unwrap();
    let place = |name: &str, number: usize| text.lines().enumerate().filter(|(_, hit)| *hit == name).nth(number);
    let (second, named) = (place("step.start", 1).unwrap().0, place("layer.rename", 0).unwrap().0);
    assert!(second < named, "the second step waited for the layer of the first:\n{text}");
    // A layer has its name behind its flush, its record comes behind its name, and the image behind all of them.
    let image = place("image.write", 0).unwrap().0;
    let renames = text.lines().filter(|hit| *hit == "layer.rename").count();
    assert_eq!(renames, 3, "{text}");
    assert!(place("layer.flush", 0).unwrap().0 < named && named < place("record.write", 0).unwrap().0, "{text}");
    assert!(place("record.write", 2).unwrap().0 < image, "{text}");
    assert!(text.lines().skip(image).all(|hit| !hit.starts_with("layer.f") && hit != "record.write"), "{text}");
    goes_on(&dunnage);
}

#[test]
fn security_f06_a_flush_that_fails_beside_a_later_step_fails_the_build() {
    if skipped(&NEEDS) {
        return;
    }
    for failpoint in ["layer.flush", "layer.record", "layer.rename", "layer.dirsync", "layer.pointer", "record.write"] {
        let dunnage = chain();
        let ran = build(&dunnage, &format!("{failpoint}=error:EIO@1"));
        assert_eq!(ran.code, 3, "{failpoint}: {}", ran.stderr);
        let told = ran.stderr.lines().filter(|line| line.starts_with("error")).count();
        assert!(told == 1 && ran.stderr.contains("Input/output error"), "{failpoint}: {}", ran.stderr);
        assert!(dunnage.leftovers().is_empty(), "{failpoint}: {:?}", dunnage.leftovers());
        dunnage.run(["inspect", "app"]).fails(1, "app");
        goes_on(&dunnage);
    }
}

#[test]
fn security_f01_a_death_while_layers_wait_for_the_disk_loses_no_more_than_these() {
    if skipped(&NEEDS) {
        return;
    }
    // The first layer waits for as long as it takes the others to be made; then the process dies.
    for death in ["step.exit=abort@3", "image.write=abort@1"] {
        let dunnage = chain();
        let ran = build(&dunnage, &format!("layer.flush=delay:300@1;{death}"));
        assert_eq!(ran.code, 134, "{death}: {}", ran.stderr);
        goes_on(&dunnage);
    }
}

/// A tree that a step of this build gave already is one layer, whether it is on the disk by then or not.
#[test]
fn a_tree_that_is_given_twice_is_one_layer() {
    if skipped(&NEEDS) {
        return;
    }
    let dunnage = chain();
    dunnage.write(
        "context/Dockerfile",
        "FROM base AS a\nRUN mkdir /d && echo x > /d/x\nFROM a AS b\nRUN rm -r /d\nRUN mkdir /d && echo x > /d/x\nCMD cat /d/x\n",
    );
    build(&dunnage, "layer.flush=delay:300@1").ok();
    let layers = dunnage.run(["inspect", "--format", "{{json .RootFS.Layers}}", "app"]).ok().stdout;
    let ids: Vec<&str> = layers.split('"').filter(|part| part.starts_with("sha256:")).collect();
    assert_eq!((ids.len(), ids[1]), (4, ids[3]), "{layers}");
    assert_eq!(dunnage.run(["run", "--rm", "app"]).ok().stdout, "x\n");
    dunnage.run(["system", "check"]).ok();
}
