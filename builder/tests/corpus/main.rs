//! A corpus of public Dockerfiles, each with what BuildKit makes of it: verdict, nodes, stages, configuration, history.
//!
//! The folder is `DUNNAGE_CORPUS`, or `shared/corpus` beside the project's. `index.tsv` names the files; `SET/NAME`
//! is a text, `SET-golden/NAME.json` its golden.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stderr)]

mod findings;
mod golden;
mod tables;

use std::collections::BTreeSet;
use std::path::Path;

use builder::{BaseImages, Options};
use cache::Platform;
use dunnage_builder as builder;
use grammar::{Dockerfile, Source};
use serde_json::{Value, json};
use testdata::corpus;

/// Name and expected verdict of each file of the index, with its set.
fn index(folder: &Path) -> Vec<(String, String, String)> {
    let text = std::fs::read_to_string(folder.join("index.tsv")).expect("the corpus has an index");
    let mut lines = text.lines();
    let header: Vec<&str> = lines.next().unwrap_or_default().split('\t').collect();
    let column = |name: &str| header.iter().position(|known| *known == name).expect("the index has the column");
    let (set, file, expect) = (column("set"), column("file"), column("expect"));
    let row = |line: &str| {
        let cells: Vec<&str> = line.split('\t').collect();
        (cells[set].to_owned(), cells[file].to_owned(), cells[expect].to_owned())
    };
    let rows: Vec<_> = lines.filter(|line| !line.is_empty()).map(row).collect();
    assert!(!rows.is_empty(), "the corpus at {} is empty", folder.display());
    nothing_is_left_out(folder, &rows);
    rows
}

/// Every file of the folder is in the index once, and has its golden; no golden is without its file.
fn nothing_is_left_out(folder: &Path, rows: &[(String, String, String)]) {
    let sets: BTreeSet<&String> = rows.iter().map(|(set, _, _)| set).collect();
    for set in sets {
        let names = |directory: String, ending: &str| -> Vec<String> {
            let paths = testdata::files(&folder.join(directory), ending);
            let names = paths.iter().filter_map(|path| path.file_name()?.to_str()?.strip_suffix(ending));
            names.map(str::to_owned).collect()
        };
        let own = rows.iter().filter(|(row, _, _)| row == set);
        let mut indexed: Vec<String> = own.map(|(_, file, _)| stem(file)).collect();
        indexed.sort();
        assert_eq!(indexed, names(set.clone(), ".Dockerfile"), "index and files of {set}");
        assert_eq!(indexed, names(format!("{set}-golden"), ".json"), "index and goldens of {set}");
    }
}

/// A file's name without its ending, which is its golden's too.
fn stem(file: &str) -> String {
    file.strip_suffix(".Dockerfile").unwrap_or(file).to_owned()
}

/// A file of the corpus and its golden.
fn pair(folder: &Path, set: &str, file: &str) -> (Source, Value) {
    let bytes = std::fs::read(folder.join(set).join(file)).unwrap();
    let golden = read_json(&folder.join(format!("{set}-golden")).join(format!("{}.json", stem(file))));
    (Source::from_bytes("Dockerfile", &bytes), golden)
}

fn read_json(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Base images that hold a PATH and one line of history.
fn bases(dockerfile: &Dockerfile) -> (Options, BaseImages) {
    let platform: Platform = "linux/amd64".parse().unwrap();
    let options = Options { platform: platform.clone(), build_platform: platform, ..Options::default() };
    let base = json!({
        "architecture": "amd64", "os": "linux",
        "config": {"Env": ["PATH=/usr/bin:/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", "0".repeat(64))]},
        "history": [{"created_by": "base"}],
    });
    let image = cache::Image::from_bytes(base.to_string().as_bytes()).unwrap();
    let bases = builder::bases(dockerfile, &options).unwrap_or_default();
    (options, bases.into_iter().map(|base| (base.reference, image.clone())).collect())
}
