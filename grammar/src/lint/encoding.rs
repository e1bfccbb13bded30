//! What stands in the text and is not read as it was meant: directives in the wrong place, bytes that are no text.

use super::rule::Rule;
use crate::diagnostic::Diagnostic;
use crate::nearest::nearest;
use crate::parse::Parsed;
use crate::rules;
use crate::source::{Source, Span};

const DIRECTIVES: [&str; 3] = ["syntax", "escape", "check"];

pub(super) fn check(parsed: &Parsed, found: &mut Vec<Diagnostic>) {
    directives(parsed, found);
    bytes(parsed, found);
}

/// Comments before the first instruction that look like directives and are none.
fn directives(parsed: &Parsed, found: &mut Vec<Diagnostic>) {
    let source = &parsed.dockerfile.source;
    let known = &parsed.dockerfile.directives;
    let top = parsed.syntax.nodes.first().map_or(0, |node| node.span.start);
    let mut at = known.last().map_or(0, |directive| directive.span.end);
    for line in source.text().get(at..top).unwrap_or_default().split_inclusive('\n') {
        let place = Span::new(at, at + line.trim_end().len());
        at += line.len();
        if let Some(diagnostic) = without_effect(source, place, known.is_empty()) {
            found.push(diagnostic);
        }
    }
}

fn without_effect(source: &Source, place: Span, is_first: bool) -> Option<Diagnostic> {
    let line = source.text().get(place.start..place.end)?;
    let (name, value) = rules::directive(line.trim_start_matches('\u{feff}'))?;
    let near = nearest(name, DIRECTIVES)?;
    let exact = near.eq_ignore_ascii_case(name);
    // What a version of the language would change is the same here; and one word is a comment's, not a directive's value.
    if value.contains(char::is_whitespace) || (exact && (near == "syntax" || (near == "escape" && value == "\\"))) {
        return None;
    }
    let diagnostic = Rule::DirectiveWithoutEffect.at(source, place, format!("`# {name}=` is a comment here"));
    match exact {
        true => Some(diagnostic),
        false if is_first && name.chars().count().abs_diff(near.len()) <= 1 => {
            Some(diagnostic.help(format!("did you mean `# {near}={value}`?")))
        }
        false => None,
    }
}

/// Bytes that are no UTF-8, outside of comments: one finding for each instruction.
fn bytes(parsed: &Parsed, found: &mut Vec<Diagnostic>) {
    let source = &parsed.dockerfile.source;
    let replaced = source.replaced();
    for node in &parsed.syntax.nodes {
        let first = replaced.partition_point(|at| *at < node.span.start);
        let inside = replaced.get(first..).unwrap_or_default().iter().take_while(|at| **at < node.span.end);
        let is_comment = |at: usize| {
            let line = source.text().get(node.line_span.start..at).unwrap_or_default().rsplit('\n').next();
            at < node.line_span.end && line.is_some_and(|line| line.trim_start().starts_with('#'))
        };
        if let Some(at) = inside.copied().find(|at| !is_comment(*at)) {
            let span = Span::new(at, at + char::REPLACEMENT_CHARACTER.len_utf8());
            found.push(Rule::InvalidBytes.at(source, span, "This is no UTF-8"));
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{Source, lint, parse};

    fn codes(bytes: &[u8]) -> Vec<(&'static str, usize)> {
        let source = Source::from_bytes("Dockerfile", bytes);
        let found = lint(&parse(&source)).into_iter();
        found.map(|diagnostic| (diagnostic.code, source.location(diagnostic.span.start).0)).collect()
    }

    #[test]
    fn directives_that_are_none_are_told() {
        let rule = "DirectiveWithoutEffect";
        for (text, lines) in [
            ("# escpae=`\nFROM scratch\n", vec![1]),
            ("# syntx=docker/dockerfile:1\nFROM scratch\n", vec![1]),
            ("# plain\n# escape=`\nFROM scratch\n", vec![2]),
            ("# syntax=docker/dockerfile:1\n\n# check=skip=all\nFROM scratch\n", vec![3]),
            ("# plain\n# syntax=docker/dockerfile:1\nFROM scratch\n", vec![]),
            ("# version=1\n# check = the sums of it\nFROM scratch\n# escape=`\n", vec![]),
            ("\u{feff}# escape=`\r\n# check=error=true\r\nFROM scratch\r\n", vec![]),
        ] {
            assert_eq!(codes(text.as_bytes()), lines.iter().map(|line| (rule, *line)).collect::<Vec<_>>(), "{text}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_told_where_they_are_built_in() {
        let rule = "InvalidBytes";
        assert_eq!(codes(b"# caf\xe9\nFROM scratch\nLABEL a=caf\xe9 b=\xe9\n"), [(rule, 3)]);
        assert_eq!(codes(b"FROM scratch\nCOPY <<E /f\n# \xe9\nE\n"), [(rule, 3)]);
        assert_eq!(codes(b"FROM scratch\nLABEL a=1 \\\n  # \xe9\n  b=2\n"), []);
        assert_eq!(codes("FROM scratch\nLABEL a=\u{fffd}\n".as_bytes()), []);
    }
}
