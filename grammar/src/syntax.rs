//! The shape of a Dockerfile before its meaning: each instruction with its flags and arguments, each with its place.
//!
//! Which shape a keyword's arguments have is all that is known here; unknown keywords have a shape too.

use std::ops::Range;

use crate::diagnostic::Diagnostic;
use crate::instruction::{Directive, Heredoc};
use crate::lines::{self, Logical};
use crate::rules::{self, Form, Head};
use crate::source::{Source, Span};

/// A whole text.
#[derive(Debug, Clone)]
pub struct Syntax {
    /// `\`, or what the escape directive says.
    pub escape: char,
    /// Parser directives.
    pub directives: Vec<Directive>,
    /// Instructions in file order; one that has no shape is missing and has a diagnostic.
    pub nodes: Vec<Node>,
    /// What was wrong.
    pub diagnostics: Vec<Diagnostic>,
}

/// One instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// As written.
    pub keyword: Piece,
    /// Leading `--name[=value]`.
    pub flags: Vec<Flag>,
    /// The rest.
    pub arguments: Arguments,
    /// Bodies, in the order of their openers.
    pub heredocs: Vec<Heredoc>,
    /// All of it, heredocs too.
    pub span: Span,
    /// Without heredocs.
    pub line_span: Span,
    /// First and last line, from 1.
    pub lines: (usize, usize),
    /// Continuations joined, runs of blanks as one.
    pub original: String,
}

/// A part of a line and its place.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Piece {
    /// As written, continuations joined.
    pub text: String,
    /// Its place.
    pub span: Span,
}

/// `--name` or `--name=value`, quotes and escapes taken away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flag {
    /// Without the dashes.
    pub name: String,
    /// Behind the `=`.
    pub value: Option<String>,
    /// Its place.
    pub span: Span,
    /// The value's place, quotes and all.
    pub value_span: Span,
}

/// What follows the flags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Arguments {
    /// Nothing.
    None,
    /// One text.
    Text(Piece),
    /// Words.
    List(Vec<Piece>),
    /// A JSON array of strings, and its place.
    Json(Vec<String>, Span),
    /// `NAME=VALUE …`, or the old `NAME VALUE`; of ARG also `NAME` alone.
    Pairs(Vec<Pair>),
    /// HEALTHCHECK: a kind, and the command.
    Probe(Piece, Box<Arguments>),
    /// ONBUILD: an instruction, and its text.
    Trigger(Box<Node>, String),
}

/// One pair of ENV or LABEL, or one declaration of ARG.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// Left.
    pub key: Piece,
    /// Right.
    pub value: Piece,
    /// Written with `=`.
    pub equals: bool,
    /// Both.
    pub span: Span,
}

type Result<T> = std::result::Result<T, Diagnostic>;

/// Reads the shape of a text. Never fails as a whole.
pub fn syntax(source: &Source) -> Syntax {
    syntax_at(source, None)
}

/// The same; with a place, all of it is said to stand there, in the text of another source.
pub(crate) fn syntax_at(source: &Source, place: Option<Span>) -> Syntax {
    if let Some(at) = source.text().find('\0') {
        let diagnostics = vec![no_text(source, at)];
        return Syntax { escape: '\\', directives: Vec::new(), nodes: Vec::new(), diagnostics };
    }
    let mut lines = lines::read(source);
    if let Some(place) = place {
        lines.logical.iter_mut().for_each(|logical| logical.stand_at(place));
    }
    let escape = lines.escape.unwrap_or('\\');
    let mut nodes = Vec::with_capacity(lines.logical.len());
    let mut diagnostics = lines.diagnostics;
    for logical in &lines.logical {
        match (Reader { source, logical, escape }).node() {
            Ok(node) => nodes.push(node),
            Err(diagnostic) => diagnostics.push(diagnostic),
        }
    }
    if lines.logical.is_empty() && diagnostics.is_empty() {
        let help = "begin it with a FROM line: `FROM scratch` needs no base image";
        let empty = Diagnostic::error("K0105", "the Dockerfile has no instructions").at(source, Span::default());
        diagnostics.push(empty.help(help));
    }
    Syntax { escape, directives: lines.directives, nodes, diagnostics }
}

/// Programs, archives, and text in an encoding of two bytes: one sentence rather than one for each line.
fn no_text(source: &Source, at: usize) -> Diagnostic {
    let diagnostic = Diagnostic::error("K0108", "the file is no text: it holds a NUL character");
    // With its byte order mark, which is two bytes that are no UTF-8, or without.
    let wide = at <= 1 || (at <= 7 && source.replaced().starts_with(&[0, 3]));
    diagnostic.at(source, Span::new(at, at + 1)).help(if wide {
        "it looks like UTF-16: save it as UTF-8"
    } else {
        "name the Dockerfile with -f"
    })
}

impl Syntax {
    /// The whole text in its parts: instructions, and what is between them.
    pub fn pieces<'a>(&self, source: &'a Source) -> Vec<&'a str> {
        let text = source.text();
        let mut pieces = Vec::with_capacity(self.nodes.len() * 2 + 1);
        let mut at = 0;
        for node in &self.nodes {
            pieces.extend(text.get(at..node.span.start));
            pieces.extend(text.get(node.span.start..node.span.end));
            at = node.span.end;
        }
        pieces.extend(text.get(at..));
        pieces
    }
}

impl Node {
    /// In capitals.
    pub fn command(&self) -> String {
        self.keyword.text.to_uppercase()
    }
}

/// The form of a keyword's arguments.
fn form(keyword: &str) -> Form {
    match keyword {
        "ADD" | "COPY" | "EXPOSE" | "FROM" | "VOLUME" => Form::List,
        "ARG" | "ENV" | "LABEL" => Form::Words,
        _ => Form::Text,
    }
}

#[derive(Clone, Copy)]
struct Reader<'a> {
    source: &'a Source,
    logical: &'a Logical,
    escape: char,
}

impl<'a> Reader<'a> {
    fn node(self) -> Result<Node> {
        let text = &self.logical.text;
        let keyword = text.split_whitespace().next().unwrap_or_default().to_uppercase();
        let head = rules::line(text, self.escape, form(&keyword));
        Ok(Node {
            keyword: self.piece(&head.keyword),
            flags: head.flags.iter().map(|range| self.flag(range)).collect(),
            arguments: self.arguments(&keyword, &head)?,
            heredocs: self.logical.heredocs.clone(),
            span: self.logical.span,
            line_span: self.logical.line_span,
            lines: self.logical.lines,
            original: text.split_whitespace().collect::<Vec<_>>().join(" "),
        })
    }

    fn text(self, range: &Range<usize>) -> &'a str {
        self.logical.text.get(range.clone()).unwrap_or_default()
    }

    fn piece(self, range: &Range<usize>) -> Piece {
        Piece { text: self.text(range).to_owned(), span: self.logical.place(range.start, range.end) }
    }

    fn flag(self, range: &Range<usize>) -> Flag {
        let written = self.text(range);
        let plain = unquoted(written.strip_prefix("--").unwrap_or(written));
        let (name, value) = match plain.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (plain, None),
        };
        let behind = written.find('=').map_or(range.end, |at| range.start + at + 1);
        Flag {
            name,
            value,
            span: self.logical.place(range.start, range.end),
            value_span: self.logical.place(behind, range.end),
        }
    }

    fn arguments(self, keyword: &str, head: &Head) -> Result<Arguments> {
        let pieces = || head.pieces.iter().filter(|range| !range.is_empty()).map(|range| self.piece(range)).collect();
        let range = self.whole(head);
        let whole = self.piece(&range);
        if range.is_empty() && !matches!(keyword, "ENV" | "LABEL") {
            return Ok(Arguments::None);
        }
        Ok(match keyword {
            "ADD" | "COPY" | "VOLUME" => self.json(&whole)?.unwrap_or_else(|| Arguments::List(pieces())),
            "CMD" | "ENTRYPOINT" | "RUN" | "SHELL" => self.json(&whole)?.unwrap_or(Arguments::Text(whole)),
            "EXPOSE" | "FROM" => Arguments::List(pieces()),
            "ARG" | "ENV" | "LABEL" => Arguments::Pairs(self.pairs(keyword, &head.pieces, &range)?),
            "HEALTHCHECK" => self.probe(&range)?,
            "ONBUILD" => self.trigger(&whole, head)?,
            _ => Arguments::Text(whole),
        })
    }

    /// From the first piece to the last, without blanks at the end.
    fn whole(self, head: &Head) -> Range<usize> {
        let start = head.pieces.first().map_or(0, |range| range.start);
        let end = head.pieces.last().map_or(0, |range| range.end);
        start..start + self.text(&(start..end)).trim_end().len()
    }

    /// The JSON form; `None` for anything that is no valid JSON array, which then is plain text.
    fn json(self, whole: &Piece) -> Result<Option<Arguments>> {
        if !whole.text.starts_with('[') {
            return Ok(None);
        }
        let Ok(values) = serde_json::from_str::<Vec<serde_json::Value>>(&whole.text) else { return Ok(None) };
        let mut texts = Vec::with_capacity(values.len());
        for value in values {
            match value {
                serde_json::Value::String(text) => texts.push(text),
                other => {
                    let message = format!("only string type is allowed in JSON format arrays: this one has {other}");
                    let diagnostic = Diagnostic::error("K0115", message).at(self.source, whole.span);
                    return Err(diagnostic.help(format!("write it with quotes: \"{other}\"")));
                }
            }
        }
        Ok(Some(Arguments::Json(texts, whole.span)))
    }

    fn pairs(self, keyword: &str, words: &[Range<usize>], whole: &Range<usize>) -> Result<Vec<Pair>> {
        let has_equals = |range: &Range<usize>| self.text(range).contains('=');
        match words.first() {
            None => Ok(Vec::new()),
            Some(first) if keyword != "ARG" && !has_equals(first) => {
                self.old_pair(keyword, whole).map(|pair| vec![pair])
            }
            Some(_) => words.iter().map(|word| self.pair(keyword, word)).collect(),
        }
    }

    fn pair(self, keyword: &str, word: &Range<usize>) -> Result<Pair> {
        let text = self.text(word);
        let span = self.logical.place(word.start, word.end);
        let Some(at) = text.find('=') else {
            if keyword == "ARG" {
                return Ok(Pair { key: self.piece(word), value: Piece::default(), equals: false, span });
            }
            let message = format!("Syntax error - can't find = in \"{text}\". Must be of the form: name=value");
            let diagnostic = Diagnostic::error("K0118", message).at(self.source, span);
            return Err(diagnostic.help("quote a value that has blanks: NAME=\"two words\""));
        };
        let middle = word.start + at;
        let (key, value) = (self.piece(&(word.start..middle)), self.piece(&(middle + 1..word.end)));
        Ok(Pair { key, value, equals: true, span })
    }

    /// `NAME` and all that follows it.
    fn old_pair(self, keyword: &str, whole: &Range<usize>) -> Result<Pair> {
        let span = self.logical.place(whole.start, whole.end);
        let (key, value) = self.split(whole);
        if value.is_empty() {
            let diagnostic = Diagnostic::error("K0117", format!("{keyword} must have two arguments"));
            return Err(diagnostic.at(self.source, span).help(format!("write `{keyword} NAME=VALUE`")));
        }
        Ok(Pair { key: self.piece(&key), value: self.piece(&value), equals: false, span })
    }

    fn probe(self, whole: &Range<usize>) -> Result<Arguments> {
        let (kind, command) = self.split(whole);
        let command = self.piece(&command);
        let command = match self.json(&command)? {
            Some(json) => json,
            None if command.text.is_empty() => Arguments::None,
            None => Arguments::Text(command),
        };
        Ok(Arguments::Probe(self.piece(&kind), Box::new(command)))
    }

    /// The first word of a range, and what follows it.
    fn split(self, whole: &Range<usize>) -> (Range<usize>, Range<usize>) {
        let text = self.text(whole);
        let end = text.find(char::is_whitespace).unwrap_or(text.len());
        let rest = text.get(end..).unwrap_or_default();
        let start = end + rest.len() - rest.trim_start().len();
        (whole.start..whole.start + end, whole.start + start..whole.end)
    }

    fn trigger(self, whole: &Piece, head: &Head) -> Result<Arguments> {
        let inner = self.logical.tail(head.pieces.first().map_or(0, |range| range.start));
        let node = Reader { logical: &inner, ..self }.node()?;
        let mut text = whole.text.clone();
        for heredoc in &self.logical.heredocs {
            text.push('\n');
            text.push_str(&heredoc.content);
            text.push_str(&heredoc.name);
        }
        Ok(Arguments::Trigger(Box::new(node), text))
    }
}

/// A flag without its quotes; the backslash takes the next character as it is.
fn unquoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, quote) {
            ('\\', _) => out.extend(chars.next()),
            (c, Some(open)) if c == open => quote = None,
            ('"' | '\'', None) => quote = Some(c),
            (c, _) => out.push(c),
        }
    }
    out
}

#[cfg(test)]
#[allow(clippy::indexing_slicing)]
mod tests {
    use super::*;

    fn nodes(text: &str) -> Vec<Node> {
        let syntax = syntax(&Source::new("Dockerfile", text));
        assert!(syntax.diagnostics.is_empty(), "{:?}", syntax.diagnostics);
        syntax.nodes
    }

    #[test]
    fn flags_lose_their_quotes_and_a_bare_double_dash_ends_them() {
        let node = &nodes("RUN --mount=type=cache,target=\"/a b\" --network=no\\ ne -- --not a flag")[0];
        let flags: Vec<_> = node.flags.iter().map(|flag| (flag.name.as_str(), flag.value.as_deref())).collect();
        assert_eq!(flags, [("mount", Some("type=cache,target=/a b")), ("network", Some("no ne"))]);
        assert!(matches!(&node.arguments, Arguments::Text(text) if text.text == "--not a flag"));
    }

    #[test]
    fn a_text_comes_back_whole_and_between_instructions_are_blanks_and_comments() {
        let text =
            "\u{feff}# escape=`\r\n\r\n  from a `\r\n # x\r\n as b\r\nCOPY <<E /f\r\n# in\r\nE\r\n\t# end\r\nRUN x";
        let source = Source::new("Dockerfile", text);
        let syntax = syntax(&source);
        let pieces = syntax.pieces(&source);
        assert_eq!((pieces.concat().as_str(), syntax.nodes.len()), (text, 3));
        for between in pieces.iter().step_by(2) {
            let lines = between.trim_start_matches('\u{feff}').lines().map(str::trim);
            assert!(lines.into_iter().all(|line| line.is_empty() || line.starts_with('#')), "{between:?}");
        }
    }

    #[test]
    fn what_is_no_text_is_one_mistake() {
        let wide: Vec<u8> = "\u{feff}FROM scratch\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
        for (bytes, help) in
            [(wide.as_slice(), "UTF-8"), (b"F\0R\0O\0", "UTF-8"), (b"\x7fELF\x02\x01\x01\0\0\n\0\n", "with -f")]
        {
            let source = Source::from_bytes("Dockerfile", bytes);
            let parsed = crate::parse(&source);
            assert_eq!((parsed.diagnostics.len(), parsed.diagnostics[0].code), (1, "K0108"));
            assert!(parsed.diagnostics[0].help.as_ref().is_some_and(|found| found.contains(help)), "{help}");
            assert_eq!(parsed.syntax.pieces(&source).concat(), source.text());
        }
    }

    #[test]
    fn unknown_keywords_have_a_shape() {
        let node = &nodes("console.log(\"x\");")[0];
        assert_eq!((node.command().as_str(), &node.arguments), ("CONSOLE.LOG(\"X\");", &Arguments::None));
    }

    #[test]
    fn every_piece_is_where_its_span_says() {
        let text = "LABEL ž ❬\\\n\"T\nARG ž=\\\n❬x=\nCOPY --from=x \\\n  a \\\n  # note\n  b /c/\nENV a=1 b=\"2 3\"\nENV old  value here\nHEALTHCHECK CMD true\n";
        for node in nodes(text) {
            let pieces = match node.arguments {
                Arguments::List(pieces) => pieces,
                Arguments::Pairs(pairs) => pairs.into_iter().flat_map(|pair| [pair.key, pair.value]).collect(),
                Arguments::Probe(kind, _) => vec![kind],
                _ => Vec::new(),
            };
            for piece in pieces {
                let found = text[piece.span.start..piece.span.end].replace("\\\n", "");
                assert_eq!(found, piece.text);
            }
        }
    }
}
