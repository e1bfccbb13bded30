//! The grammar of single lines at work: from `line.pest` to ranges of the text.

use std::ops::Range;

use pest::Parser as _;
use pest::iterators::Pair;

use generated::{Lines, Rule};

#[allow(missing_docs, reason = "pest names each rule of the grammar and documents none")]
mod generated {
    #[derive(pest_derive::Parser)]
    #[grammar = "line.pest"]
    pub(super) struct Lines;
}

/// How the part behind the flags is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// As one text.
    Text,
    /// Parted at blanks alone.
    List,
    /// Parted as a shell would.
    Words,
}

/// An instruction's line, as ranges of it.
#[derive(Debug, Default)]
pub(crate) struct Head {
    pub(crate) keyword: Range<usize>,
    pub(crate) flags: Vec<Range<usize>>,
    /// The text, or its words.
    pub(crate) pieces: Vec<Range<usize>>,
}

/// Reads an instruction. Every line that is not blank has one.
pub(crate) fn line(text: &str, escape: char, form: Form) -> Head {
    let rule = match form {
        Form::Text => Rule::text,
        Form::List => Rule::list,
        Form::Words if escape == '`' => Rule::words_backtick,
        Form::Words => Rule::words,
    };
    let mut head = Head::default();
    let Some(line) = read(rule, text) else { return head };
    if form == Form::Text {
        head.pieces.push(line.as_span().end()..text.len());
    }
    for pair in line.into_inner() {
        let range = range(&pair);
        match pair.as_rule() {
            Rule::keyword => head.keyword = range,
            Rule::flag => head.flags.push(range),
            Rule::plain | Rule::word | Rule::word_backtick => head.pieces.push(range),
            _ => {}
        }
    }
    head
}

fn range(pair: &Pair<'_, Rule>) -> Range<usize> {
    let span = pair.as_span();
    span.start()..span.end()
}

/// The words of a shell line, quotes and escapes kept.
pub(crate) fn shell_words(text: &str) -> Vec<Range<usize>> {
    let words = inner(Rule::shell, text).filter(|pair| pair.as_rule() == Rule::word);
    words.map(|pair| range(&pair)).collect()
}

/// A heredoc opener: number, whether tabs go, and the tag as written.
pub(crate) fn opener(word: &str) -> Option<(&str, bool, &str)> {
    // Most words are none, and this is asked for each.
    if !word.contains("<<") {
        return None;
    }
    let mut parts = inner(Rule::opener, word).map(|pair| pair.as_str());
    Some((parts.next()?, !parts.next()?.is_empty(), parts.next()?))
}

/// `# name=value`
pub(crate) fn directive(line: &str) -> Option<(&str, &str)> {
    let mut parts = inner(Rule::directive, line).map(|pair| pair.as_str());
    Some((parts.next()?, parts.next()?))
}

/// The fields of comma-separated values (RFC 4180), as flags of the form `type=bind,target=/a` are written; `None` when
/// a quote stands where none may.
pub fn comma_separated(text: &str) -> Option<Vec<String>> {
    let mut fields = Vec::new();
    for field in inner(Rule::options, text).filter(|pair| pair.as_rule() == Rule::field) {
        let text = field.as_str();
        let unquoted = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
        fields.push(unquoted.map_or_else(|| text.to_owned(), |text| text.replace("\"\"", "\"")));
    }
    if fields.is_empty() { None } else { Some(fields) }
}

fn inner(rule: Rule, input: &str) -> impl Iterator<Item = Pair<'_, Rule>> {
    read(rule, input).into_iter().flat_map(Pair::into_inner)
}

fn read(rule: Rule, input: &str) -> Option<Pair<'_, Rule>> {
    Lines::parse(rule, input).ok()?.next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comma_separated_values_as_rfc_4180_has_them() {
        let fields = |text| comma_separated(text).map(|fields| fields.join("|"));
        assert_eq!(fields("type=bind,target=/a").as_deref(), Some("type=bind|target=/a"));
        assert_eq!(fields("\"target=/a,b\",x=\"\"").as_deref(), None);
        assert_eq!(fields("\"a \"\"b\"\"\",c").as_deref(), Some("a \"b\"|c"));
    }

    #[test]
    fn openers() {
        assert_eq!(opener("3<<-EOF"), Some(("3", true, "EOF")));
        assert_eq!(opener("<<'E F'"), None);
        for other in ["<<", "a<<b", "<<<x", "\"<<E\"", "<<a<b"] {
            assert_eq!(opener(other), None, "{other}");
        }
    }

    #[test]
    fn directives() {
        assert_eq!(directive("#  Escape = ` "), Some(("Escape", "`")));
        assert_eq!(directive("# two words = x"), None);
    }
}
