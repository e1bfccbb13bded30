//! Words: text with quotes, escapes and variables, and the one way to make plain text of it.
//!
//! One pass, as the field's builders do it: what a variable holds is not expanded again. Modifiers are `:-` `-` `:+` `+`
//! `:?` `?`, `#` `##` `%` `%%`, `/` and `//`; patterns know `*` and `?` alone.
//!
//! Lines that double a variable each would soon fill any memory: what variables add to a text is bounded.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use crate::pattern::Pattern;
use crate::source::Span;

/// Deepest nesting of `${…${…}…}`.
const DEPTH: usize = 64;
/// Most bytes that variables add to a text: eight times what Linux lets a process have in one of them.
const GROWTH: usize = 1 << 20;
/// Most steps that a pattern takes on a value: about a tenth of a second.
const PATTERN_STEPS: usize = 1 << 25;

/// Unexpanded text with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    raw: String,
    escape: char,
    span: Span,
}

/// What a word became.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Expansion {
    /// The text.
    pub text: String,
    /// Names that had no value.
    pub unmatched: BTreeSet<String>,
    /// Names that had one.
    pub matched: BTreeSet<String>,
}

/// Why a word cannot be expanded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ExpandError {
    message: String,
    help: &'static str,
}

const CLOSE: &str = "close it; the escape character before it makes text of it";
const MODIFIERS: &str = "the modifiers are :- - :+ + :? ? # ## % %% / //";
const GIVE_VALUE: &str = "give it a value: with --build-arg, or with a default behind its ARG";

impl ExpandError {
    fn new(message: String, help: &'static str) -> ExpandError {
        ExpandError { message, help }
    }

    /// What to do about it.
    pub fn help(&self) -> &'static str {
        self.help
    }
}

/// Where variables come from.
pub trait Scope {
    /// The value of a name.
    fn get(&self, name: &str) -> Option<&str>;
    /// All names, for "did you mean".
    fn names(&self) -> Vec<&str>;
}

impl Scope for BTreeMap<String, String> {
    fn get(&self, name: &str) -> Option<&str> {
        BTreeMap::get(self, name).map(String::as_str)
    }

    fn names(&self) -> Vec<&str> {
        self.keys().map(String::as_str).collect()
    }
}

impl Word {
    /// A word of a text whose escape character is `escape`.
    pub fn new(raw: impl Into<String>, escape: char, span: Span) -> Word {
        Word { raw: raw.into(), escape, span }
    }

    /// A word that stands for exactly this text.
    pub fn literal(text: &str) -> Word {
        let quoted = text.chars().fold(String::new(), |mut out, c| {
            if !c.is_alphanumeric() && !"_-./:".contains(c) {
                out.push('\\');
            }
            out.push(c);
            out
        });
        Word::new(quoted, '\\', Span::default())
    }

    /// As written.
    pub fn raw(&self) -> &str {
        &self.raw
    }

    /// Its place.
    pub fn span(&self) -> Span {
        self.span
    }

    /// One text: quotes removed, variables replaced.
    ///
    /// # Errors
    /// When a quote or brace is not closed, a modifier is unknown, a required variable has no value, or variables make the
    /// text too long.
    pub fn expand(&self, scope: &dyn Scope) -> Result<Expansion, ExpandError> {
        let mut expander = Expander::new(&self.raw, self.escape, scope, false);
        let text = expander.until(None, 0)?;
        Ok(Expansion { text, unmatched: expander.unmatched, matched: expander.matched })
    }

    /// Several texts: what an unquoted variable holds is split at blanks (EXPOSE).
    ///
    /// # Errors
    /// As [`Word::expand`].
    pub fn expand_words(&self, scope: &dyn Scope) -> Result<(Vec<String>, BTreeSet<String>), ExpandError> {
        let mut expander = Expander::new(&self.raw, self.escape, scope, false);
        expander.words = Some(Vec::new());
        let last = expander.until(None, 0)?;
        let mut words = expander.words.take().unwrap_or_default();
        if !last.is_empty() {
            words.push(last);
        }
        Ok((words, expander.unmatched))
    }
}

/// The body of an unquoted heredoc: variables replaced, quotes kept; the escape character is one before `$` and itself.
///
/// # Errors
/// As [`Word::expand`].
pub fn expand_heredoc(body: &str, escape: char, scope: &dyn Scope) -> Result<Expansion, ExpandError> {
    let mut expander = Expander::new(body, escape, scope, true);
    let text = expander.until(None, 0)?;
    Ok(Expansion { text, unmatched: expander.unmatched, matched: expander.matched })
}

struct Expander<'a> {
    rest: std::iter::Peekable<std::str::Chars<'a>>,
    escape: char,
    scope: &'a dyn Scope,
    /// In a heredoc: quotes are text.
    raw_quotes: bool,
    /// In a pattern: escapes are for the one who matches it.
    raw_escapes: bool,
    unmatched: BTreeSet<String>,
    matched: BTreeSet<String>,
    /// Finished words, when they are split.
    words: Option<Vec<String>>,
    /// How many bytes variables may still add.
    room: usize,
}

impl<'a> Expander<'a> {
    fn new(text: &'a str, escape: char, scope: &'a dyn Scope, raw_quotes: bool) -> Self {
        Expander {
            rest: text.chars().peekable(),
            escape,
            scope,
            raw_quotes,
            raw_escapes: false,
            unmatched: BTreeSet::new(),
            matched: BTreeSet::new(),
            words: None,
            // A literal in braces counts once for each level.
            room: text.len() + GROWTH,
        }
    }

    /// Expands up to an unquoted `stop`, which is eaten, or to the end when there is none.
    fn until(&mut self, stop: Option<char>, depth: usize) -> Result<String, ExpandError> {
        if depth > DEPTH {
            return Err(ExpandError::new(
                "variables are nested too deeply".to_owned(),
                "name a part with ARG or ENV first",
            ));
        }
        let mut out = String::new();
        while let Some(c) = self.rest.next() {
            match c {
                c if Some(c) == stop => return Ok(out),
                '\'' if !self.raw_quotes => self.single(&mut out)?,
                '"' if !self.raw_quotes => self.double(&mut out, depth)?,
                '$' => {
                    let value = self.dollar(depth)?;
                    self.append(&mut out, &value, depth == 0)?;
                }
                c if c == self.escape => self.escaped(&mut out),
                c => out.push(c),
            }
        }
        match stop {
            None => Ok(out),
            Some(stop) => Err(unclosed(&stop.to_string())),
        }
    }

    fn append(&mut self, out: &mut String, value: &str, splits: bool) -> Result<(), ExpandError> {
        self.room = self.room.checked_sub(value.len()).ok_or_else(too_long)?;
        let Some(words) = self.words.as_mut().filter(|_| splits) else {
            out.push_str(value);
            return Ok(());
        };
        for c in value.chars() {
            if !c.is_whitespace() {
                out.push(c);
            } else if !out.is_empty() {
                words.push(std::mem::take(out));
            }
        }
        Ok(())
    }

    fn escaped(&mut self, out: &mut String) {
        match self.rest.peek().copied() {
            Some(next) if self.raw_quotes && next != '$' && next != self.escape => out.push(self.escape),
            Some(next) => {
                self.rest.next();
                if self.raw_escapes {
                    out.push(self.escape);
                }
                out.push(next);
            }
            None if self.raw_quotes => out.push(self.escape),
            None => {}
        }
    }

    fn single(&mut self, out: &mut String) -> Result<(), ExpandError> {
        for c in self.rest.by_ref() {
            if c == '\'' {
                return Ok(());
            }
            out.push(c);
        }
        Err(unclosed("single-quote"))
    }

    fn double(&mut self, out: &mut String, depth: usize) -> Result<(), ExpandError> {
        while let Some(c) = self.rest.next() {
            match c {
                '"' => return Ok(()),
                '$' => {
                    let value = self.dollar(depth)?;
                    self.append(out, &value, false)?;
                }
                c if c == self.escape => match self.rest.peek().copied() {
                    Some(next) if next == '"' || next == '$' || next == self.escape => {
                        self.rest.next();
                        if self.raw_escapes {
                            out.push(c);
                        }
                        out.push(next);
                    }
                    _ => out.push(c),
                },
                c => out.push(c),
            }
        }
        Err(unclosed("double-quote"))
    }

    fn dollar(&mut self, depth: usize) -> Result<Cow<'a, str>, ExpandError> {
        if self.rest.peek() != Some(&'{') {
            let name = self.name();
            return Ok(Cow::Borrowed(if name.is_empty() { "$" } else { self.value(&name).unwrap_or_default() }));
        }
        self.rest.next();
        let name = self.name();
        if name.is_empty() {
            return Err(unsupported("", self.rest.peek().copied()));
        }
        let Some(modifier) = self.rest.next() else {
            return Err(unclosed("}"));
        };
        match modifier {
            '}' => Ok(Cow::Borrowed(self.value(&name).unwrap_or_default())),
            ':' => match self.rest.next() {
                Some(kind @ ('+' | '-' | '?')) => self.conditional(&name, kind, true, depth),
                other => Err(unsupported(":", other)),
            },
            kind @ ('+' | '-' | '?') => self.conditional(&name, kind, false, depth),
            kind @ ('#' | '%') => {
                let longest = self.rest.next_if_eq(&kind).is_some();
                let pattern = self.pattern_text('}', depth)?;
                let value = self.value(&name).unwrap_or_default();
                let pattern = pattern_for(&name, value, &pattern)?;
                Ok(Cow::Owned(if kind == '#' {
                    pattern.strip_prefix(value, longest)
                } else {
                    pattern.strip_suffix(value, longest)
                }))
            }
            '/' => {
                let all = self.rest.next_if_eq(&'/').is_some();
                let pattern = self.pattern_text('/', depth)?;
                let with = self.pattern_text('}', depth)?;
                let value = self.value(&name).unwrap_or_default();
                let pattern = pattern_for(&name, value, &pattern)?;
                pattern.replace(value, &with, all, self.room).map(Cow::Owned).ok_or_else(too_long)
            }
            other => Err(unsupported("", Some(other))),
        }
    }

    /// Text with its escapes kept.
    fn pattern_text(&mut self, stop: char, depth: usize) -> Result<String, ExpandError> {
        let outer = std::mem::replace(&mut self.raw_escapes, true);
        let pattern = self.until(Some(stop), depth + 1);
        self.raw_escapes = outer;
        pattern
    }

    fn conditional(
        &mut self,
        name: &str,
        kind: char,
        empty_counts: bool,
        depth: usize,
    ) -> Result<Cow<'a, str>, ExpandError> {
        let word = self.until(Some('}'), depth + 1)?;
        let value = self.value(name).filter(|value| !empty_counts || !value.is_empty());
        match (kind, value) {
            ('+', Some(_)) | ('-', None) => Ok(Cow::Owned(word)),
            ('+', None) => Ok(Cow::Borrowed("")),
            (_, Some(value)) => Ok(Cow::Borrowed(value)),
            _ => {
                let why = match (word.is_empty(), empty_counts) {
                    (false, _) => word.as_str(),
                    (true, true) => "not allowed to be empty",
                    (true, false) => "is not allowed to be unset",
                };
                Err(ExpandError::new(format!("{name}: {why}"), GIVE_VALUE))
            }
        }
    }

    /// A variable's name, or one of the shell's special parameters, which are never set here.
    fn name(&mut self) -> String {
        let mut name = String::new();
        if let Some(c) = self.rest.next_if(|c| "@*#?-$!0".contains(*c)) {
            name.push(c);
            return name;
        }
        let digits = self.rest.peek().is_some_and(char::is_ascii_digit);
        while let Some(c) =
            self.rest.next_if(|c| if digits { c.is_ascii_digit() } else { c.is_alphanumeric() || *c == '_' })
        {
            name.push(c);
        }
        name
    }

    fn value(&mut self, name: &str) -> Option<&'a str> {
        match self.scope.get(name) {
            Some(value) => {
                self.matched.insert(name.to_owned());
                Some(value)
            }
            None => {
                self.unmatched.insert(name.to_owned());
                None
            }
        }
    }
}

fn unclosed(what: &str) -> ExpandError {
    ExpandError::new(format!("unexpected end of statement while looking for matching {what}"), CLOSE)
}

fn unsupported(before: &str, modifier: Option<char>) -> ExpandError {
    let modifier = modifier.map_or_else(String::new, String::from);
    ExpandError::new(format!("unsupported modifier ({before}{modifier}) in substitution"), MODIFIERS)
}

fn too_long() -> ExpandError {
    let message = format!("variables add more than {} MiB to the text", GROWTH >> 20);
    ExpandError::new(message, "put long texts into a file, and COPY it")
}

/// A pattern for this value. Both can be long, and matching takes the product of their lengths.
fn pattern_for(name: &str, value: &str, pattern: &str) -> Result<Pattern, ExpandError> {
    if value.len().saturating_mul(pattern.len()) > PATTERN_STEPS {
        let lengths = format!("a pattern of {} bytes, a value of {}", pattern.len(), value.len());
        let message = format!("{name}: too long to match: {lengths}");
        return Err(ExpandError::new(message, "match a shorter value, or do it in a RUN step"));
    }
    Ok(Pattern::new(pattern))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn scope() -> BTreeMap<String, String> {
        [("A", "alpha"), ("B", "b/b/b"), ("EMPTY", ""), ("P", "foobarbaz"), ("Q", "a b  c")]
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect()
    }

    #[test]
    fn builder_v01_v02_v04_expansion() {
        let cases = [
            ("'$A'", "$A"),
            ("\"$A\"", "alpha"),
            ("\\$A", "$A"),
            ("x${A}y", "xalphay"),
            ("${X:-d}${X-d}${EMPTY:-d}${EMPTY-d}", "ddd"),
            ("${A:+s}${X+s}${EMPTY+s}", "ss"),
            ("${P#f*b}|${P##f*b}|${P%b*}|${P%%b*}", "arbaz|az|foobar|foo"),
            ("${B/b/x}|${B//b/x}", "x/b/b|x/x/x"),
            ("$1$@$X", ""),
            ("a$", "a$"),
            ("${X:-${A}}", "alpha"),
        ];
        for (raw, expected) in cases {
            let word = Word::new(raw, '\\', Span::default());
            assert_eq!(word.expand(&scope()).unwrap().text, expected, "{raw}");
        }
    }

    #[test]
    fn what_cannot_be_expanded_says_why() {
        for (raw, why) in [
            ("${X:?must}", "X: must"),
            ("${A:#x}", "(:#)"),
            ("${A", "end of statement"),
            ("'x", "single-quote"),
            ("\"x", "double-quote"),
        ] {
            let error = Word::new(raw, '\\', Span::default()).expand(&scope()).unwrap_err().to_string();
            assert!(error.contains(why), "{raw}: {error}");
        }
        let deep = "${A:-".repeat(100_000);
        assert!(Word::new(deep, '\\', Span::default()).expand(&scope()).is_err());
    }

    #[test]
    fn what_variables_add_is_bounded() {
        let mut scope = scope();
        scope.insert("V".to_owned(), "x".repeat(1000));
        scope.insert("BIG".to_owned(), "x".repeat(GROWTH));
        let expand = |raw: &str| Word::new(raw, '\\', Span::default()).expand(&scope).map(|found| found.text.len());
        assert_eq!(expand("$BIG"), Ok(GROWTH));
        // Unless it is written out.
        assert_eq!(expand(&"x".repeat(3 * GROWTH)), Ok(3 * GROWTH));
        assert_eq!(expand("${BIG+}${BIG+}${BIG:+x}"), Ok(1));
        for raw in ["$BIG$V", "\"$BIG\"$V", "${V//x/${V//x/$V}}", "${NO:-${BIG}}${V}", "${V//x/$BIG}"] {
            assert!(expand(raw).unwrap_err().to_string().contains("more than 1 MiB"), "{raw}");
        }
        assert!(expand("${BIG//$V/x}").unwrap_err().to_string().contains("BIG: too long to match"));
        assert!(Word::new("$BIG$V", '\\', Span::default()).expand_words(&scope).is_err());
        assert!(expand_heredoc("$BIG$V", '\\', &scope).is_err());
    }

    #[test]
    fn values_are_split_in_lists_only() {
        let word = Word::new("$Q", '\\', Span::default());
        assert_eq!(word.expand_words(&scope()).unwrap().0, ["a", "b", "c"]);
        assert_eq!(word.expand(&scope()).unwrap().text, "a b  c");
        assert_eq!(Word::new("\"$Q\"", '\\', Span::default()).expand_words(&scope()).unwrap().0, ["a b  c"]);
    }

    #[test]
    fn builder_h04_heredocs_keep_quotes() {
        let text = expand_heredoc("\"$A\" '$A' \\$A \\n\n", '\\', &scope()).unwrap().text;
        assert_eq!(text, "\"alpha\" 'alpha' $A \\n\n");
    }
}
