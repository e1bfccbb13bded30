//! Patterns of `${name#pattern}` and its kin: `*`, `?`, and `\` before a character that stands for itself.
//!
//! All of it is linear in the text times the pattern: no Dockerfile can make it slow.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    Literal(char),
    One,
    Star,
}

/// A pattern, read once.
#[derive(Debug, Clone)]
pub(crate) struct Pattern(Vec<Token>);

impl Pattern {
    pub(crate) fn new(text: &str) -> Pattern {
        let mut chars = text.chars();
        let mut tokens = Vec::new();
        while let Some(c) = chars.next() {
            tokens.push(match c {
                '*' => Token::Star,
                '?' => Token::One,
                '\\' => Token::Literal(chars.next().unwrap_or('\\')),
                c => Token::Literal(c),
            });
        }
        Pattern(tokens)
    }

    /// The text without what the pattern matches at its beginning.
    pub(crate) fn strip_prefix(&self, text: &str, longest: bool) -> String {
        let chars: Vec<char> = text.chars().collect();
        chars.iter().skip(extent(&self.0, &chars, longest)).collect()
    }

    /// The text without what the pattern matches at its end.
    pub(crate) fn strip_suffix(&self, text: &str, longest: bool) -> String {
        let mut chars: Vec<char> = text.chars().rev().collect();
        let tokens: Vec<Token> = self.0.iter().rev().copied().collect();
        let length = extent(&tokens, &chars, longest);
        chars.drain(..length);
        chars.iter().rev().collect()
    }

    /// The text with the first match, or all of them, replaced: leftmost, then longest, never empty. `None` when more than
    /// `room` bytes come of it.
    pub(crate) fn replace(&self, text: &str, with: &str, all: bool, room: usize) -> Option<String> {
        let chars: Vec<char> = text.chars().collect();
        let ends = self.longest_ends(&chars);
        let mut out = String::with_capacity(text.len());
        let mut at = 0;
        let mut done = self.0.is_empty();
        while let Some(c) = chars.get(at) {
            if out.len() > room {
                return None;
            }
            match ends.get(at).copied().flatten().filter(|end| !done && *end > at) {
                Some(end) => {
                    out.push_str(with);
                    at = end;
                    done = !all;
                }
                None => {
                    out.push(*c);
                    at += 1;
                }
            }
        }
        (out.len() <= room).then_some(out)
    }

    /// For each place of the text, where the longest match from there ends.
    fn longest_ends(&self, text: &[char]) -> Vec<Option<usize>> {
        let mut ends = vec![None; text.len() + 1];
        // One row a place, from the end back: where a match ends that has come to a token here.
        let mut behind: Vec<Option<usize>> = vec![None; self.0.len() + 1];
        for at in (0..=text.len()).rev() {
            let mut row = vec![None; self.0.len() + 1];
            for token in (0..=self.0.len()).rev() {
                let get = |row: &[Option<usize>], token: usize| row.get(token).copied().flatten();
                let end = match (self.0.get(token), text.get(at)) {
                    (None, _) => Some(at),
                    (Some(Token::Star), c) => {
                        let skipped = get(&row, token + 1);
                        skipped.max(if c.is_some() { get(&behind, token) } else { None })
                    }
                    (Some(Token::One), Some(_)) => get(&behind, token + 1),
                    (Some(Token::Literal(literal)), Some(c)) if literal == c => get(&behind, token + 1),
                    _ => None,
                };
                if let Some(slot) = row.get_mut(token) {
                    *slot = end;
                }
            }
            if let Some(slot) = ends.get_mut(at) {
                *slot = row.first().copied().flatten();
            }
            behind = row;
        }
        ends
    }
}

/// How many characters from the beginning the tokens match: the fewest, or the most; none when they do not.
fn extent(tokens: &[Token], text: &[char], longest: bool) -> usize {
    // Tokens that are reached after each character.
    let mut reached = vec![false; tokens.len() + 1];
    enter(tokens, &mut reached, 0);
    let mut found = 0;
    for (at, c) in text.iter().enumerate() {
        if reached.last() == Some(&true) {
            found = at;
            if !longest {
                return found;
            }
        }
        let mut next = vec![false; tokens.len() + 1];
        for (index, token) in tokens.iter().enumerate().filter(|(index, _)| reached.get(*index) == Some(&true)) {
            match token {
                Token::Star => enter(tokens, &mut next, index),
                Token::One => enter(tokens, &mut next, index + 1),
                Token::Literal(literal) if literal == c => enter(tokens, &mut next, index + 1),
                Token::Literal(_) => {}
            }
        }
        if !next.contains(&true) {
            return found;
        }
        reached = next;
    }
    if reached.last() == Some(&true) { text.len() } else { found }
}

/// Marks a token, and those behind it that stars let be reached at once.
fn enter(tokens: &[Token], reached: &mut [bool], mut index: usize) {
    while let Some(slot) = reached.get_mut(index) {
        if std::mem::replace(slot, true) || tokens.get(index) != Some(&Token::Star) {
            return;
        }
        index += 1;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn builder_v02_ends_are_taken_away() {
        let cases = [
            ("f*b", "arbaz", "az"),
            ("", "foobarbaz", "foobarbaz"),
            ("*", "foobarbaz", ""),
            ("x", "foobarbaz", "foobarbaz"),
            ("???", "barbaz", "barbaz"),
            ("foobarbaz*", "", ""),
        ];
        for (pattern, short, long) in cases {
            let pattern = Pattern::new(pattern);
            assert_eq!(pattern.strip_prefix("foobarbaz", false), short);
            assert_eq!(pattern.strip_prefix("foobarbaz", true), long);
        }
        let pattern = Pattern::new("b*");
        assert_eq!(pattern.strip_suffix("foobarbaz", false), "foobar");
        assert_eq!(pattern.strip_suffix("foobarbaz", true), "foo");
        assert_eq!(Pattern::new("\\*").strip_prefix("*a", false), "a");
        assert_eq!(Pattern::new("\\").strip_suffix("a\\", false), "a");
    }

    #[test]
    fn builder_v02_matches_are_replaced() {
        let replace = |pattern: &str, text: &str, all| Pattern::new(pattern).replace(text, "x", all, 9).unwrap();
        assert_eq!(replace("b", "a/b/b", false), "a/x/b");
        assert_eq!(replace("b", "a/b/b", true), "a/x/x");
        assert_eq!(replace("?", "žl", true), "xx");
        assert_eq!(replace("*", "abc", true), "x");
        assert_eq!(replace("a*a", "baaab", false), "bxb");
        assert_eq!(replace("", "abc", true), "abc");
        assert_eq!(Pattern::new("a").replace("aaa", "xxxx", true, 11), None);
    }

    #[test]
    fn long_texts_take_no_longer_than_they_are_long() {
        let text = "a".repeat(200_000);
        assert_eq!(Pattern::new("*a*a*b").strip_suffix(&text, true), text);
        assert_eq!(Pattern::new("*a*a*b").replace(&text, "x", true, text.len()).unwrap(), text);
    }
}
