//! The tree and the configuration that each case of `testdata/trees` gives, held against what is written down in
//! `testdata/trees-golden`. `bench/peers.py trees` holds the same cases against docker and buildah.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Read;
use std::path::Path;

use serde_json::Value;
use tar::EntryType;
use testdata::{Dunnage, Need, expect_file, skipped, workspace};

/// Longest content that is shown whole.
const SHOWN: usize = 2000;

const CONFIG: [&str; 12] = [
    "Env",
    "Cmd",
    "Entrypoint",
    "User",
    "WorkingDir",
    "Labels",
    "ExposedPorts",
    "Volumes",
    "Shell",
    "Healthcheck",
    "OnBuild",
    "StopSignal",
];

/// Path, type, mode, owner, link and bytes of each entry.
fn tree(tar: &Path) -> BTreeMap<String, String> {
    let mut archive = tar::Archive::new(std::fs::File::open(tar).unwrap());
    let mut found = BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().to_string_lossy().into_owned();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        let header = entry.header();
        let owner = format!("{:04o} {}:{}", header.mode().unwrap(), header.uid().unwrap(), header.gid().unwrap());
        let link = || entry.link_name().unwrap().unwrap().to_string_lossy().into_owned();
        let line = match header.entry_type() {
            EntryType::Directory => format!("directory {owner}"),
            EntryType::Symlink => format!("link {owner} -> {}", link()),
            EntryType::Link => format!("the file {}", link()),
            EntryType::Regular => format!("file {owner} {}", content(&bytes)),
            other => format!("{other:?} {owner}"),
        };
        found.insert(format!("/{}", path.trim_end_matches('/')), line);
    }
    found
}

fn content(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if text.len() <= SHOWN => format!("{text:?}"),
        _ => format!("{} bytes", bytes.len()),
    }
}

/// What a case's image has that the base has not, and its configuration.
fn description(dunnage: &Dunnage, base: &BTreeMap<String, String>, case: &Path) -> String {
    let name = case.file_name().unwrap().to_str().unwrap();
    let output = format!("type=tar,dest={name}.tar");
    dunnage.run(["build", "-q", "-t", name, "-o", "type=image", "-o", &output, case.to_str().unwrap()]).ok();
    let found = tree(&dunnage.dir("").join(format!("{name}.tar")));
    let mut text = String::new();
    for (path, line) in found.iter().filter(|(path, line)| base.get(*path) != Some(line)) {
        writeln!(text, "{path} {line}").unwrap();
    }
    // A case that stands on nothing lacks all of the base.
    let gone: Vec<&String> = base.keys().filter(|path| !found.contains_key(*path)).collect();
    if gone.len() > base.len() / 2 {
        writeln!(text, "(nothing of the base)").unwrap();
    } else {
        gone.iter().for_each(|path| writeln!(text, "{path} gone").unwrap());
    }
    let inspected: Value = serde_json::from_str(&dunnage.run(["inspect", name]).ok().stdout).unwrap();
    for key in CONFIG {
        let value = &inspected[0]["Config"][key];
        if !value.is_null() {
            writeln!(text, "{key} {value}").unwrap();
        }
    }
    text
}

#[test]
fn builder_c15_every_case_gives_the_tree_and_configuration_that_are_written_down() {
    if skipped(&[Need::Root, Need::Program("busybox"), Need::Program("bzip2"), Need::Program("xz")]) {
        return;
    }
    let dunnage = Dunnage::new(env!("CARGO_BIN_EXE_dunnage"));
    dunnage.busybox();
    dunnage.write("plain/Dockerfile", "FROM base\n");
    dunnage.run(["build", "-q", "-o", "type=tar,dest=plain.tar", "plain"]).ok();
    let base = tree(&dunnage.dir("").join("plain.tar"));
    let mut cases: Vec<_> =
        std::fs::read_dir(workspace().join("testdata/trees")).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    assert!(cases.len() >= 20, "{} cases", cases.len());
    for case in &cases {
        let text = description(&dunnage, &base, case);
        let golden = workspace().join("testdata/trees-golden").join(case.file_name().unwrap()).with_extension("txt");
        expect_file(&golden, &text);
    }
}
