//! Rules of the house that a compiler does not check.
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::Path;

use dunnage_testdata::{files, workspace};

fn sources() -> Vec<(String, String)> {
    let root = workspace();
    let found: Vec<_> = files(&root, ".rs")
        .into_iter()
        .map(|path| {
            let text = std::fs::read_to_string(&path).unwrap();
            (path.strip_prefix(&root).unwrap().to_string_lossy().into_owned(), text)
        })
        .collect();
    assert!(found.len() > 30, "the walk lost the sources: {} found", found.len());
    found
}

#[test]
fn every_file_says_what_it_is_for() {
    let silent: Vec<_> = sources()
        .into_iter()
        .filter(|(_, text)| {
            !text.lines().find(|line| !line.starts_with("#!")).is_some_and(|line| line.starts_with("//!"))
        })
        .map(|(name, _)| name)
        .collect();
    assert!(silent.is_empty(), "no //! at the top of {silent:?}");
}

#[test]
fn unsafe_code_stays_in_runtime_sys() {
    let word = concat!("un", "safe ");
    for (name, text) in sources() {
        let used = text.lines().any(|line| {
            let code = line.split("//").next().unwrap_or_default();
            code.contains(&format!("{word}{{"))
                || code.contains(&format!("{word}fn"))
                || code.contains(&format!("{word}impl"))
        });
        assert!(!used || name.starts_with("runtime/src/sys/"), "{name} has unsafe code");
    }
}

#[test]
fn grammar_sees_no_disk_and_no_clock() {
    for (name, text) in sources() {
        if !name.starts_with("grammar/src/") {
            continue;
        }
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        for banned in ["std::fs", "std::net", "std::process", "std::env", "SystemTime", "Instant::now"] {
            assert!(!code.contains(banned), "{name} uses {banned}");
        }
    }
}

#[test]
fn only_the_cli_reads_the_environment() {
    for (name, text) in sources() {
        let in_cli = name.starts_with("cli/")
            || name.starts_with("testdata/")
            || name.contains("/tests/")
            || name.contains("/benches/")
            || name.contains("/examples/");
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        assert!(in_cli || !code.contains("env::var"), "{name} reads the environment");
    }
}

#[test]
fn nothing_is_left_for_later_without_a_word() {
    let marks = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X:")];
    for (name, text) in sources() {
        for mark in marks {
            assert!(!text.contains(mark), "{name} has a {mark}");
        }
    }
}

#[test]
fn documents_are_there() {
    for document in ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "LICENSE", "Makefile", ".ci/run"] {
        assert!(Path::new(&workspace()).join(document).is_file(), "{document} is missing");
    }
}
