//! The allowed edges between crates: the list in ARCHITECTURE.md against what cargo sees.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

type Edges = BTreeMap<String, BTreeSet<String>>;

fn documented() -> Edges {
    let text = std::fs::read_to_string(testdata_root().join("ARCHITECTURE.md")).unwrap();
    let block = text.split("```edges").nth(1).unwrap().split("```").next().unwrap();
    let mut edges = Edges::new();
    for line in block.lines().filter(|line| !line.trim().is_empty()) {
        let (from, to) = line.split_once(" -> ").unwrap();
        edges.insert(from.to_owned(), to.split_whitespace().map(str::to_owned).collect());
    }
    edges
}

fn testdata_root() -> std::path::PathBuf {
    dunnage_testdata::workspace()
}

fn actual() -> Edges {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
        .current_dir(testdata_root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let short = |name: &str| match name {
        "dunnage" => Some("cli".to_owned()),
        other => other.strip_prefix("dunnage-").map(str::to_owned),
    };
    let mut edges = Edges::new();
    for package in metadata["packages"].as_array().unwrap() {
        let from = short(package["name"].as_str().unwrap()).unwrap();
        for dependency in package["dependencies"].as_array().unwrap() {
            let normal = dependency["kind"].is_null();
            if let Some(to) = short(dependency["name"].as_str().unwrap()).filter(|_| normal) {
                edges.entry(from.clone()).or_default().insert(to);
            }
        }
    }
    edges
}

#[test]
fn crates_use_only_what_they_stand_on() {
    let documented = documented();
    for (from, to) in actual() {
        let allowed = documented.get(&from).cloned().unwrap_or_default();
        let extra: Vec<_> = to.difference(&allowed).collect();
        assert!(extra.is_empty(), "{from} uses {extra:?}, which ARCHITECTURE.md does not allow");
    }
}

#[test]
fn the_documented_edges_exist() {
    let actual = actual();
    for (from, to) in documented() {
        let missing: Vec<_> = to.difference(&actual[&from]).cloned().collect();
        assert!(missing.is_empty(), "ARCHITECTURE.md names edges {from} -> {missing:?} that no crate has");
    }
}
