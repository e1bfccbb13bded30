//! A word with variables, in all the ways that it is expanded.
#![no_main]

use std::collections::BTreeMap;

use grammar::{Span, Word};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (bool, &str, &str)| {
    let (backslash, value, text) = input;
    let escape = if backslash { '\\' } else { '`' };
    let pairs = [("A", "alpha"), ("EMPTY", ""), ("V", value), ("UNI", "žluť"), ("P", "a/b/c*?")];
    let scope: BTreeMap<String, String> =
        pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let word = Word::new(text, escape, Span::default());
    if let Ok(expansion) = word.expand(&scope) {
        assert!(expansion.matched.iter().all(|name| scope.contains_key(name)));
        // A literal of what came out stands for exactly that.
        assert_eq!(Word::literal(&expansion.text).expand(&scope).map(|again| again.text), Ok(expansion.text));
    }
    let _ = word.expand_words(&scope);
    let _ = grammar::expand_heredoc(text, escape, &scope);
});
