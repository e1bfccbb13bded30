//! An ignore file and a path: a directory that is pruned has nothing below it that is kept.
#![no_main]

use grammar::{IgnoreRules, IgnoreVerdict};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&str, &str)| {
    let (file, path) = input;
    let Ok(rules) = IgnoreRules::parse(file) else { return };
    let names: Vec<&str> = path.split('/').filter(|name| !matches!(*name, "" | "." | "..")).collect();
    for length in 1..names.len() {
        let directory = names[..length].join("/");
        if rules.verdict(&directory, true) == IgnoreVerdict::Prune {
            let below = names.join("/");
            assert!(rules.is_ignored(&below), "{directory} is pruned and {below} is kept by {file:?}");
            return;
        }
    }
    let _ = rules.deciding_line(&names.join("/"));
    let _ = grammar::glob_match(file, path);
});
