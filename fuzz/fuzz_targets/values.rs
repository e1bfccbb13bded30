//! Small values: git sources, mounts, modes, durations, ports, signals, sizes, the check directive.
#![no_main]

use std::collections::BTreeMap;

use grammar::{CheckChoice, Chmod, GitSource, MountFlag, Span};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let none: BTreeMap<String, String> = BTreeMap::new();
    let _ = MountFlag { text: text.to_owned(), escape: '\\', span: Span::default() }.resolve(&none);
    if let Ok(chmod) = Chmod::parse(text) {
        assert!(chmod.apply(0o644, false) <= 0o7777 && chmod.apply(0o755, true) <= 0o7777);
    }
    if let Some(Ok(git)) = GitSource::parse(text) {
        assert!(text.starts_with(&git.remote));
    }
    if let Ok(ports) = grammar::parse_port_spec(text) {
        assert!(!ports.is_empty() && ports.len() <= 65_535);
    }
    let _ = grammar::parse_duration(text);
    let _ = grammar::parse_signal(text);
    let _ = grammar::parse_size(text);
    let _ = CheckChoice::parse(text);
});
