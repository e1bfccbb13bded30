//! `.dockerignore`: which paths of a context are left out.
//!
//! One pattern a line, `#` in the first column is a comment, `!` brings back, the last match decides, `**` crosses
//! directories, and what matches a directory covers all below it.

use crate::values::ValueError;

/// The rules of one file.
#[derive(Debug, Clone, Default)]
pub struct IgnoreRules {
    patterns: Vec<Pattern>,
    brings_back: bool,
}

/// What a walk does with a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IgnoreVerdict {
    /// It is in.
    Keep,
    /// It is out, but something below may be in.
    Drop,
    /// It is out with all below it.
    Prune,
}

#[derive(Debug, Clone)]
struct Pattern {
    line: usize,
    text: String,
    brings_back: bool,
    tokens: Vec<Token>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Literal(char),
    /// `?`
    One,
    /// `*`
    Star,
    /// `**`
    Any,
    /// `**/`: nothing, or what [`Token::InDirectories`] passes over.
    Directories,
    /// Names and slashes up to a slash.
    InDirectories,
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
}

impl IgnoreRules {
    /// Reads a file.
    ///
    /// # Errors
    /// When a line is no pattern; the sentence names it.
    pub fn parse(text: &str) -> Result<IgnoreRules, ValueError> {
        let mut rules = IgnoreRules::default();
        for (index, line) in text.strip_prefix('\u{feff}').unwrap_or(text).lines().enumerate() {
            if line.starts_with('#') {
                continue;
            }
            let line = line.trim();
            if line.is_empty() {
                continue;
            }
            let (brings_back, pattern) = match line.strip_prefix('!') {
                Some(rest) => (true, rest.trim()),
                None => (false, line),
            };
            if pattern.is_empty() {
                return Err(ValueError(format!("line {}: illegal exclusion pattern: \"!\"", index + 1)));
            }
            let clean = clean(pattern);
            if clean.is_empty() {
                continue;
            }
            let tokens = tokens(&clean)
                .ok_or_else(|| ValueError(format!("line {}: syntax error in pattern `{pattern}`", index + 1)))?;
            rules.patterns.push(Pattern { line: index + 1, text: line.to_owned(), brings_back, tokens });
            rules.brings_back |= brings_back;
        }
        Ok(rules)
    }

    /// Nothing is left out.
    pub fn none() -> IgnoreRules {
        IgnoreRules::default()
    }

    /// Whether there are no rules.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Whether a path, relative to the context and with `/`, is left out.
    pub fn is_ignored(&self, path: &str) -> bool {
        self.deciding(path).is_some_and(|pattern| !pattern.brings_back)
    }

    /// The line and text of the rule that decides on a path.
    pub fn deciding_line(&self, path: &str) -> Option<(usize, &str)> {
        self.deciding(path).map(|pattern| (pattern.line, pattern.text.as_str()))
    }

    fn deciding(&self, path: &str) -> Option<&Pattern> {
        let chars: Vec<char> = path.chars().collect();
        self.patterns.iter().rev().find(|pattern| pattern.matches(&chars))
    }

    /// What a walk does with a path. A directory that is out is only opened where a `!` rule could bring something back.
    pub fn verdict(&self, path: &str, is_dir: bool) -> IgnoreVerdict {
        if !self.is_ignored(path) {
            return IgnoreVerdict::Keep;
        }
        let below = is_dir
            && self.brings_back
            && self.patterns.iter().any(|pattern| pattern.brings_back && pattern.reaches_below(path));
        if below { IgnoreVerdict::Drop } else { IgnoreVerdict::Prune }
    }
}

impl Pattern {
    /// Matches the path or a directory above it: one run over the path, looking at each `/`.
    fn matches(&self, path: &[char]) -> bool {
        let mut run = Run::new(&self.tokens);
        for (position, c) in path.iter().enumerate() {
            if *c == '/' && position > 0 && run.is_at_end() {
                return true;
            }
            if !run.feed(*c) {
                return false;
            }
        }
        run.is_at_end()
    }

    /// Whether something below a directory can match. The same run as for a path: a slash may stand inside of brackets.
    fn reaches_below(&self, directory: &str) -> bool {
        let mut run = Run::new(&self.tokens);
        directory.chars().chain(['/']).all(|c| run.feed(c) || run.was_at_end)
    }
}

/// Where in a pattern one can be after some text.
struct Run<'a> {
    tokens: &'a [Token],
    reached: Vec<bool>,
    next: Vec<bool>,
    /// A directory above matched.
    was_at_end: bool,
}

impl<'a> Run<'a> {
    fn new(tokens: &'a [Token]) -> Run<'a> {
        let mut reached = vec![false; tokens.len() + 1];
        if let Some(slot) = reached.first_mut() {
            *slot = true;
        }
        close(tokens, &mut reached);
        Run { tokens, next: vec![false; reached.len()], reached, was_at_end: false }
    }

    fn is_at_end(&self) -> bool {
        self.reached.last() == Some(&true)
    }

    /// Goes on by one character; false when there is nowhere to be.
    fn feed(&mut self, c: char) -> bool {
        self.was_at_end |= c == '/' && self.is_at_end();
        self.next.fill(false);
        let mut alive = false;
        for (at, token) in self.tokens.iter().enumerate().filter(|(at, _)| self.reached.get(*at) == Some(&true)) {
            let (stays, goes_on) = token.step(c);
            for to in [stays.then_some(at), goes_on.then_some(at + 1)].into_iter().flatten() {
                alive = true;
                if let Some(slot) = self.next.get_mut(to) {
                    *slot = true;
                }
            }
        }
        std::mem::swap(&mut self.reached, &mut self.next);
        if alive {
            close(self.tokens, &mut self.reached);
        }
        alive
    }
}

impl Token {
    /// Whether it can stay for the next character after this one, and whether the token behind it can begin.
    fn step(&self, c: char) -> (bool, bool) {
        match self {
            Token::Literal(literal) => (false, *literal == c),
            Token::One => (false, c != '/'),
            Token::Star => (c != '/', false),
            Token::Any => (true, false),
            Token::Directories => (false, false),
            // Stays while a directory's name goes by; behind its slash the rest may begin.
            Token::InDirectories => (true, c == '/'),
            Token::Class { negated, ranges } => {
                let hit = ranges.iter().any(|(low, high)| *low <= c && c <= *high);
                (false, c != '/' && hit != *negated)
            }
        }
    }
}

/// Tokens that match nothing let the next one begin too.
fn close(tokens: &[Token], reached: &mut [bool]) {
    for (at, token) in tokens.iter().enumerate() {
        let skips: &[usize] = match token {
            Token::Star | Token::Any => &[1],
            Token::Directories => &[1, 2],
            _ => &[],
        };
        if reached.get(at) != Some(&true) {
            continue;
        }
        for skip in skips {
            if let Some(slot) = reached.get_mut(at + skip) {
                *slot = true;
            }
        }
    }
}

fn clean(pattern: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in pattern.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            name => parts.push(name),
        }
    }
    parts.join("/")
}

fn tokens(pattern: &str) -> Option<Vec<Token>> {
    let mut chars = pattern.chars().peekable();
    let mut tokens = Vec::new();
    while let Some(c) = chars.next() {
        let token = match c {
            '*' if chars.peek() == Some(&'*') => {
                while chars.next_if_eq(&'*').is_some() {}
                if chars.next_if_eq(&'/').is_some() {
                    tokens.push(Token::Directories);
                    Token::InDirectories
                } else {
                    Token::Any
                }
            }
            '*' => Token::Star,
            '?' => Token::One,
            '\\' => Token::Literal(chars.next()?),
            '[' => class(&mut chars)?,
            literal => Token::Literal(literal),
        };
        tokens.push(token);
    }
    Some(tokens)
}

fn class(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<Token> {
    let negated = chars.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    loop {
        let low = match chars.next()? {
            ']' if !ranges.is_empty() => return Some(Token::Class { negated, ranges }),
            '\\' => chars.next()?,
            c => c,
        };
        let high = if chars.next_if_eq(&'-').is_some() { chars.next()? } else { low };
        ranges.push((low, high));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn ignored(file: &str, path: &str) -> bool {
        IgnoreRules::parse(file).unwrap().is_ignored(path)
    }

    #[test]
    fn builder_i01_patterns() {
        let cases = [
            ("a", "a/b/c", true),
            ("a", "ab", false),
            ("*.log", "a.log", true),
            ("*.log", "logs/a.log", false),
            ("**/*.log", "logs/a.log", true),
            ("**/*.log", "a.log", true),
            ("**/node_modules", "x/node_modules/y", true),
            ("**/node_modules", "x/not_node_modules", false),
            ("src/**", "src/a/b", true),
            ("src/**", "src", false),
            ("a/**/b", "a/b", true),
            ("a/**/b", "a/x/y/b", true),
            ("a/**/b", "a/xb", false),
            ("./a/", "a", true),
            ("/a", "a", true),
            ("a\n!a/b", "a/b", false),
            ("a\n!a/b", "a/c", true),
            ("!a\na", "a", true),
            ("# a\n#b", "a", false),
            ("foo\\?", "foo?", true),
            ("[ab]", "b", true),
            ("*", "x/y", true),
        ];
        for (file, path, expected) in cases {
            assert_eq!(ignored(file, path), expected, "{file:?} {path}");
        }
        assert!(IgnoreRules::parse("a\n!\n").is_err());
        assert!(IgnoreRules::parse("[a").is_err());
    }

    #[test]
    fn builder_i06_directories_are_not_opened_for_nothing() {
        let rules = IgnoreRules::parse("node_modules\nlogs\n!logs/keep.log\n").unwrap();
        assert_eq!(rules.verdict("node_modules", true), IgnoreVerdict::Prune);
        assert_eq!(rules.verdict("logs", true), IgnoreVerdict::Drop);
        assert_eq!(rules.verdict("logs/a.log", false), IgnoreVerdict::Prune);
        assert_eq!(rules.verdict("src", true), IgnoreVerdict::Keep);
        // Names that a class or an escape hides the slash of are looked into.
        let hidden = IgnoreRules::parse("*\n!a[/]b]c\n!d/**/e\n!f/[^x]/g\n").unwrap();
        let verdicts = ["a", "d", "d/x/y", "f", "f/x", "f/y", "z"].map(|path| hidden.verdict(path, true));
        use IgnoreVerdict::{Drop, Prune};
        assert_eq!(verdicts, [Prune, Drop, Drop, Drop, Prune, Drop, Prune]);
        assert_eq!(rules.deciding_line("logs/a.log"), Some((2, "logs")));
    }

    #[test]
    fn a_directory_is_opened_wherever_something_below_can_come_back() {
        for (file, directory, verdict) in [
            ("a\n!a/*/c", "a/b", IgnoreVerdict::Drop),
            ("a\n!a/x/c", "a/b", IgnoreVerdict::Prune),
            ("*\n!**/c", "a/b", IgnoreVerdict::Drop),
            ("*\n!a", "b", IgnoreVerdict::Prune),
            ("*\n!ab/c", "a", IgnoreVerdict::Prune),
            // Found by fuzzing: a slash inside of brackets parts nothing.
            ("a\n![x/a]/c", "a", IgnoreVerdict::Drop),
        ] {
            assert_eq!(IgnoreRules::parse(file).unwrap().verdict(directory, true), verdict, "{file:?} {directory}");
        }
        assert!(!ignored("a\n![x/a]/c", "a/c"));
    }
}
