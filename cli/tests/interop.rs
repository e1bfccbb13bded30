//! Images go out to the field's tools and come back: skopeo and umoci of the distribution.
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::Path;
use std::process::Command;

use testdata::{Dunnage, Need, skipped};

#[track_caller]
fn tool(program: &str, args: &[&str], directory: &Path) -> String {
    testdata::tool(Command::new(program).args(args).current_dir(directory))
}

fn built() -> Option<Dunnage> {
    if skipped(&[Need::Root, Need::Program("busybox"), Need::Program("skopeo"), Need::Program("umoci")]) {
        return None;
    }
    let dunnage = Dunnage::new(env!("CARGO_BIN_EXE_dunnage"));
    dunnage.busybox();
    dunnage.build("FROM base\nENV A=1\nRUN mkdir /d && echo text > /d/f && rm -f /etc/group\nLABEL l=v\nCMD [\"cat\", \"/d/f\"]\n");
    Some(dunnage)
}

#[test]
fn an_oci_layout_passes_skopeo_and_unpacks_with_umoci() {
    let Some(dunnage) = built() else { return };
    let here = dunnage.dir(".");
    dunnage.run(["save", "--format", "oci", "-o", "layout/", "app"]).ok();
    let inspected = tool("skopeo", &["inspect", "oci:layout:latest"], &here);
    let json: serde_json::Value = serde_json::from_str(&inspected).unwrap();
    assert_eq!(json.pointer("/Labels/l").unwrap(), "v");
    tool("umoci", &["unpack", "--image", "layout:latest", "bundle"], &here);
    assert_eq!(std::fs::read_to_string(here.join("bundle/rootfs/d/f")).unwrap(), "text\n");
    assert!(!here.join("bundle/rootfs/etc/group").exists());
    // The tar form of the same layout.
    dunnage.run(["save", "--format", "oci", "-o", "layout.tar", "app"]).ok();
    tool("skopeo", &["inspect", "oci-archive:layout.tar"], &here);
}

#[test]
fn a_docker_archive_of_skopeo_loads_and_runs() {
    let Some(dunnage) = built() else { return };
    let here = dunnage.dir(".");
    dunnage.run(["save", "--format", "oci", "-o", "layout/", "app"]).ok();
    tool("skopeo", &["copy", "-q", "oci:layout:latest", "docker-archive:other.tar:other:tag"], &here);
    let fresh = Dunnage::new(env!("CARGO_BIN_EXE_dunnage"));
    let loaded = fresh.run(["load", "-i", here.join("other.tar").to_str().unwrap()]).ok();
    assert_eq!(loaded.stdout, "Loaded image: other:tag\n");
    assert_eq!(fresh.run(["run", "--rm", "other:tag"]).ok().stdout, "text\n");
    // And what it loaded goes out again, equal: the configuration's bytes are kept.
    let id = |dunnage: &Dunnage, name: &str| dunnage.run(["images", "-q", "--no-trunc", name]).ok().stdout;
    assert_eq!(id(&fresh, "other:tag"), id(&dunnage, "app"));
}

#[test]
fn platform_c27_save_and_load_keep_the_id() {
    let Some(dunnage) = built() else { return };
    for format in ["docker", "oci"] {
        let file = dunnage.dir(".").join(format!("{format}.tar"));
        dunnage.run(["save", "--format", format, "-o", file.to_str().unwrap(), "app"]).ok();
        let fresh = Dunnage::new(env!("CARGO_BIN_EXE_dunnage"));
        assert_eq!(fresh.run(["load", "-i", file.to_str().unwrap()]).ok().stdout, "Loaded image: app:latest\n");
        let id = |dunnage: &Dunnage| dunnage.run(["images", "-q", "--no-trunc", "app"]).ok().stdout;
        assert_eq!(id(&fresh), id(&dunnage), "{format}");
    }
}

#[test]
fn a_docker_archive_is_readable_by_skopeo() {
    let Some(dunnage) = built() else { return };
    let here = dunnage.dir(".");
    dunnage.run(["save", "-o", "app.tar", "app"]).ok();
    let inspected = tool("skopeo", &["inspect", "docker-archive:app.tar"], &here);
    assert!(inspected.contains("\"l\": \"v\""), "{inspected}");
}
