//! A Dockerfile: it is read, looked at and planned; every place lies in the text, and the text comes back whole.
#![no_main]

use grammar::{IgnoreRules, Severity, Source};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    read(bytes);
    // What holds a NUL is refused at once, and mutations love them: look behind it too.
    if bytes.contains(&0) {
        read(&bytes.iter().map(|byte| if *byte == 0 { b'\n' } else { *byte }).collect::<Vec<_>>());
    }
});

fn read(bytes: &[u8]) {
    let source = Source::from_bytes("Dockerfile", bytes);
    let text = source.text();
    let parsed = grammar::parse(&source);
    assert_eq!(parsed.dockerfile.to_string(), text);
    assert_eq!(parsed.syntax.pieces(&source).concat(), text);
    let mut found = parsed.diagnostics.clone();
    found.extend(grammar::lint(&parsed));
    if found.iter().all(|diagnostic| diagnostic.severity != Severity::Error) {
        let options = builder::Options::default();
        let none = builder::BaseImages::new();
        found.extend(builder::check(&parsed.dockerfile, &options, &none, &IgnoreRules::none()));
    }
    for diagnostic in found {
        let (span, text) = (diagnostic.span, diagnostic.source.text());
        assert!(text.get(span.start..span.end).is_some(), "{span:?} of {diagnostic:?}");
    }
}
