//! Physical lines to logical ones: BOM, directives, comments, continuations and heredocs, before any grammar.
//!
//! A heredoc ends where its name stands alone, several are read in the order of their openers, and the escape directive
//! changes what a continuation is: none of it fits a grammar, so it is done here, line by line.

use std::ops::Range;

use crate::diagnostic::Diagnostic;
use crate::instruction::{Directive, Heredoc};
use crate::lint::Rule;
use crate::rules;
use crate::source::{Source, Span};

/// Instructions whose lines may open heredocs.
const WITH_HEREDOCS: [&str; 3] = ["RUN", "COPY", "ADD"];

/// One instruction's text, continuations joined.
#[derive(Debug, Clone)]
pub(crate) struct Logical {
    /// Without comments and line ends.
    pub(crate) text: String,
    /// Where pieces of the text come from: (offset in the text, offset in the source), ascending.
    map: Vec<(usize, usize)>,
    /// All of it, heredocs too.
    pub(crate) span: Span,
    /// Of the instruction itself.
    pub(crate) line_span: Span,
    /// First and last line, from 1.
    pub(crate) lines: (usize, usize),
    pub(crate) heredocs: Vec<Heredoc>,
    /// Where all of it stands when it is not of this source.
    elsewhere: Option<Span>,
}

impl Logical {
    /// Says that all of it stands at one place of another source.
    pub(crate) fn stand_at(&mut self, place: Span) {
        self.elsewhere = Some(place);
        (self.span, self.line_span) = (place, place);
        self.heredocs.iter_mut().for_each(|heredoc| heredoc.span = place);
    }

    /// The place in the source of a range of the text.
    pub(crate) fn place(&self, start: usize, end: usize) -> Span {
        if let Some(place) = self.elsewhere {
            return place;
        }
        let start = self.offset(start);
        let last = self.offset(end.saturating_sub(1));
        Span::new(start, (last + usize::from(end > 0)).max(start))
    }

    /// What follows an offset of the text, as a line of its own (ONBUILD).
    pub(crate) fn tail(&self, from: usize) -> Logical {
        let mut map = vec![(0, self.offset(from))];
        map.extend(self.map.iter().filter(|(text, _)| *text > from).map(|(text, source)| (text - from, *source)));
        Logical { text: self.text.get(from..).unwrap_or_default().to_owned(), map, ..self.clone() }
    }

    fn offset(&self, at: usize) -> usize {
        let index = self.map.partition_point(|(text, _)| *text <= at).saturating_sub(1);
        self.map.get(index).map_or(self.span.start, |(text, source)| source + at.saturating_sub(*text))
    }
}

/// What the line layer makes of a text.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    pub(crate) escape: Option<char>,
    pub(crate) directives: Vec<Directive>,
    pub(crate) logical: Vec<Logical>,
    pub(crate) diagnostics: Vec<Diagnostic>,
}

/// A physical line and its place, without its end.
#[derive(Clone, Copy)]
struct Physical<'a> {
    text: &'a str,
    start: usize,
}

impl Physical<'_> {
    fn span(self) -> Span {
        Span::new(self.start, self.start + self.text.len())
    }
}

pub(crate) fn read(source: &Source) -> Lines {
    let mut reader = Reader { source, lines: physical(source.text()), at: 0, out: Lines::default() };
    reader.directives();
    while let Some(line) = reader.next() {
        let trimmed = line.text.trim();
        if !trimmed.is_empty() && !trimmed.starts_with('#') {
            reader.logical(line);
        }
    }
    reader.out
}

fn physical(text: &str) -> Vec<Physical<'_>> {
    let mut lines = Vec::new();
    let bom = if text.starts_with('\u{feff}') { 3 } else { 0 };
    let mut start = bom;
    for line in text.get(bom..).unwrap_or_default().split_inclusive('\n') {
        let plain = line.strip_suffix('\n').unwrap_or(line);
        lines.push(Physical { text: plain.strip_suffix('\r').unwrap_or(plain), start });
        start += line.len();
    }
    lines
}

struct Reader<'a> {
    source: &'a Source,
    lines: Vec<Physical<'a>>,
    at: usize,
    out: Lines,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Option<Physical<'a>> {
        let line = self.lines.get(self.at).copied();
        self.at += usize::from(line.is_some());
        line
    }

    fn error(&mut self, code: &'static str, span: Span, message: String, help: &str) {
        let diagnostic = Diagnostic::error(code, message).at(self.source, span);
        self.out.diagnostics.push(if help.is_empty() { diagnostic } else { diagnostic.help(help) });
    }

    /// `# name=value` lines at the very top; the first other line ends them.
    fn directives(&mut self) {
        while let Some(line) = self.lines.get(self.at).copied() {
            let Some((name, value)) = rules::directive(line.text) else { return };
            let (name, value) = (name.to_lowercase(), value.to_owned());
            if !matches!(name.as_str(), "syntax" | "escape" | "check") {
                return;
            }
            self.at += 1;
            if self.out.directives.iter().any(|known| known.name == name) {
                self.error(
                    "K0101",
                    line.span(),
                    format!("only one {name} parser directive can be used"),
                    "remove this line",
                );
                continue;
            }
            if name == "escape" {
                match value.as_str() {
                    "\\" | "`" => self.out.escape = value.chars().next(),
                    other => self.error(
                        "K0102",
                        line.span(),
                        format!("invalid escape token '{other}' does not match ` or \\"),
                        "write `# escape=\\` or `# escape=` and a backtick",
                    ),
                }
            }
            if name == "syntax" && !is_known_frontend(&value) {
                let message = format!(
                    "the syntax image `{value}` is not supported: dunnage reads the Dockerfile language itself"
                );
                self.error("K0103", line.span(), message, "remove the line, or name docker/dockerfile");
            }
            self.out.directives.push(Directive { name, value, span: line.span() });
        }
    }

    fn escape(&self) -> char {
        self.out.escape.unwrap_or('\\')
    }

    fn logical(&mut self, first: Physical<'a>) {
        let indent = first.text.len() - first.text.trim_start().len();
        let mut logical = Logical {
            text: String::new(),
            map: Vec::new(),
            span: first.span(),
            line_span: first.span(),
            lines: (self.at, self.at),
            heredocs: Vec::new(),
            elsewhere: None,
        };
        logical.span.start = first.start + indent;
        let mut line = Physical { text: first.text.trim_start(), start: first.start + indent };
        let mut warned = false;
        loop {
            let (text, goes_on) = continuation(line.text, self.escape());
            logical.map.push((logical.text.len(), line.start));
            logical.text.push_str(text);
            logical.span.end = line.start + line.text.trim_end().len();
            if !goes_on {
                break;
            }
            match self.continued(line, &mut warned) {
                Some(next) => line = next,
                None => break,
            }
        }
        logical.line_span = logical.span;
        self.heredocs(&mut logical);
        logical.lines.1 = self.at;
        self.out.logical.push(logical);
    }

    /// The next line of a continued instruction: comments are dropped, empty lines too, with a word of warning.
    fn continued(&mut self, from: Physical<'a>, warned: &mut bool) -> Option<Physical<'a>> {
        loop {
            let line = self.next()?;
            let trimmed = line.text.trim();
            if trimmed.starts_with('#') {
                continue;
            }
            if !trimmed.is_empty() {
                return Some(line);
            }
            if !std::mem::replace(warned, true) {
                let rule = Rule::NoEmptyContinuation;
                self.out.diagnostics.push(rule.at(self.source, from.span(), "Empty continuation line"));
            }
        }
    }

    fn heredocs(&mut self, logical: &mut Logical) {
        if !may_open(&logical.text) {
            return;
        }
        for (range, opener) in openers(&logical.text) {
            let opener = Heredoc { span: logical.place(range.start, range.end), ..opener };
            let start = self.lines.get(self.at).map_or(self.source.text().len(), |line| line.start);
            let mut content = String::new();
            let mut end = start;
            let closed = loop {
                let Some(line) = self.next() else { break false };
                let text = if opener.chomp { line.text.trim_start_matches('\t') } else { line.text };
                if text == opener.name {
                    logical.span.end = line.span().end;
                    break true;
                }
                content.push_str(line.text);
                content.push('\n');
                end = line.span().end;
            };
            if !closed {
                let help = near_end(&opener, &content, self.source.location(start).0);
                let message = format!("unterminated heredoc: no line is exactly `{}`", opener.name);
                self.error("K0104", opener.span, message, &help);
            }
            logical.heredocs.push(Heredoc { content, span: Span::new(start, end.max(start)), ..opener });
        }
    }
}

/// Frontends that read the language which dunnage reads.
fn is_known_frontend(value: &str) -> bool {
    let name = value.strip_prefix("docker.io/").unwrap_or(value);
    let repository = name.split(['@', ':']).next().unwrap_or(name);
    matches!(repository, "docker/dockerfile" | "docker/dockerfile-upstream")
}

/// The text without its continuation mark, and whether there was one: one escape, not two, before trailing blanks.
/// Three are no mark either, as other builders read them.
fn continuation(text: &str, escape: char) -> (&str, bool) {
    match text.trim_end_matches([' ', '\t']).strip_suffix(escape) {
        Some(before) if !before.ends_with(escape) => (before, true),
        _ => (text, false),
    }
}

fn may_open(text: &str) -> bool {
    let mut words = text.split_whitespace();
    let mut keyword = words.next().unwrap_or_default().to_uppercase();
    let mut rest = words.next().unwrap_or_default();
    if keyword == "ONBUILD" {
        keyword = rest.to_uppercase();
        rest = words.next().unwrap_or_default();
    }
    // The JSON form is no shell text.
    WITH_HEREDOCS.contains(&keyword.as_str())
        && !(rest.starts_with('[')
            && serde_json::from_str::<serde_json::Value>(text.get(text.find('[').unwrap_or(0)..).unwrap_or_default())
                .is_ok())
}

/// The heredoc openers of a line: unquoted words that begin with `[n]<<[-]NAME`.
///
/// Whatever the escape directive says, these are a shell's words: the backslash escapes.
fn openers(text: &str) -> Vec<(Range<usize>, Heredoc)> {
    if !text.contains("<<") {
        return Vec::new();
    }
    let words = rules::shell_words(text).into_iter();
    words.filter_map(|range| Some((range.clone(), opener(text.get(range)?)?))).collect()
}

/// What to do about a heredoc that is not closed: most often its end is there, with blanks around it or in another case.
fn near_end(opener: &Heredoc, content: &str, first: usize) -> String {
    let name = &opener.name;
    let near = content.lines().position(|line| line.trim().eq_ignore_ascii_case(name));
    let Some((index, line)) = near.and_then(|index| Some((index, content.lines().nth(index)?))) else {
        return format!("write a line that is `{name}` and nothing else where it ends");
    };
    let number = first + index;
    if line.trim() != name {
        return format!("line {number} is `{}`: write `{name}`", line.trim());
    }
    if line.trim_start_matches('\t') == name {
        return format!("line {number} begins with tabs: write `<<-{name}`, which allows them, or remove them");
    }
    format!("line {number} has blanks beside `{name}`: remove them")
}

/// Whether a text is nothing but one opener.
pub(crate) fn is_opener(text: &str) -> bool {
    !text.contains(char::is_whitespace) && opener(text).is_some()
}

/// Reads `[n]<<[-]NAME`; a quoted name asks for a literal body.
pub(crate) fn opener(word: &str) -> Option<Heredoc> {
    let (number, chomp, tag) = rules::opener(word)?;
    let name: String = tag.chars().filter(|c| !matches!(c, '"' | '\'' | '\\')).collect();
    if name.is_empty() {
        return None;
    }
    let expand = name == tag;
    Some(Heredoc {
        name,
        content: String::new(),
        expand,
        chomp,
        fd: number.parse().unwrap_or(0),
        span: Span::default(),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    fn texts(text: &str) -> Vec<String> {
        read(&Source::new("Dockerfile", text)).logical.into_iter().map(|line| line.text).collect()
    }

    #[test]
    fn builder_p01_p02_p04_p05_continuations_and_comments() {
        assert_eq!(texts("RUN a && \\\n# c\n  # d\n\n  b\n"), ["RUN a &&   b"]);
        let warned = read(&Source::new("", "RUN a && \\\n# c\n  # d\n\n\n  b\n")).diagnostics;
        assert_eq!(warned.iter().map(|warning| warning.code).collect::<Vec<_>>(), ["NoEmptyContinuation"]);
        assert_eq!(texts("ENV A=x\\\\\nENV B=y\n"), ["ENV A=x\\\\", "ENV B=y"]);
        assert_eq!(texts("ENV A=x\\\\\\\nENV B=y\n").len(), 2);
        assert_eq!(texts("RUN a\\ \t\n b\\\n"), ["RUN a b"]);
        assert_eq!(texts("# escape=`\nCOPY a c:\\\nRUN a `\n b\n"), ["COPY a c:\\", "RUN a  b"]);
        assert_eq!(texts("# plain\n# escape=`\nRUN a \\\nb\n"), ["RUN a b"]);
    }

    #[test]
    fn builder_p07_p08_directives_bom_and_crlf() {
        let lines = read(&Source::new("Dockerfile", "\u{feff}# escape=\\\r\n# escape=`\r\nRUN a\r\n"));
        assert_eq!(lines.logical[0].text, "RUN a");
        assert_eq!((lines.diagnostics.len(), lines.diagnostics[0].span), (1, Span::new(15, 25)));
        let diagnostics = read(&Source::new("", "# syntax=docker/dockerfile:1\n# escape=^\n")).diagnostics;
        assert_eq!((diagnostics.len(), diagnostics[0].span), (1, Span::new(29, 39)));
    }

    #[test]
    fn builder_h07_h09_heredocs() {
        let lines = read(&Source::new(
            "",
            "RUN cat <<A 3<<-\"B\"\na $x\nA\n\tb\n\tB\nRUN echo $((1<<2)) \"<<E\" '<<E' \\<<F\n",
        ));
        assert_eq!(lines.logical.len(), 2);
        let [a, b] = lines.logical[0].heredocs.as_slice() else { unreachable!() };
        assert_eq!((a.content.as_str(), a.expand, a.fd), ("a $x\n", true, 0));
        assert_eq!((&*b.body(), b.expand, b.fd, b.chomp), ("b\n", false, 3, true));
        assert!(lines.logical[1].heredocs.is_empty());
    }

    #[test]
    fn builder_h09_a_heredoc_that_is_not_closed_says_where_it_begins_and_how_to_close_it() {
        for (text, help) in [
            ("RUN cat <<E\nx\n", "write a line that is `E`"),
            ("RUN cat <<E\nx\n  E\n", "line 3 has blanks beside `E`"),
            ("RUN cat <<E\nE \n", "line 2 has blanks beside `E`"),
            ("RUN cat <<E\n\tE\n", "line 2 begins with tabs: write `<<-E`"),
            ("RUN cat <<E\nx\ne\n", "line 3 is `e`: write `E`"),
        ] {
            let diagnostics = read(&Source::new("", text)).diagnostics;
            let [diagnostic] = diagnostics.as_slice() else { unreachable!() };
            assert!(diagnostic.help.as_ref().unwrap().contains(help), "{text:?} {diagnostic:?}");
            assert_eq!(&text[diagnostic.span.start..diagnostic.span.end], "<<E");
        }
    }

    #[test]
    fn places_point_into_the_source() {
        let text = "RUN a \\\n  # note\n  bcd\n";
        let source = Source::new("", text);
        let line = &read(&source).logical[0];
        let at = line.text.find("bcd").unwrap();
        let span = line.place(at, at + 3);
        assert_eq!(&text[span.start..span.end], "bcd");
    }
}
