//! Patterns of one path: `*`, `?` and `[…]`, none of which crosses a `/` (Go's `filepath.Match`).

/// A pattern that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("syntax error in pattern")]
pub struct BadPattern;

/// Whether a text has characters that make it a pattern.
pub fn has_glob(text: &str) -> bool {
    text.contains(['*', '?', '[', '\\'])
}

/// Matches a whole path.
///
/// # Errors
/// When a bracket is not closed or an escape is last.
pub fn glob_match(pattern: &str, path: &str) -> Result<bool, BadPattern> {
    let pattern: Vec<char> = pattern.chars().collect();
    let path: Vec<char> = path.chars().collect();
    matches(&pattern, &path)
}

/// Two cursors and one place to come back to: linear for each star, so no pattern can be made slow.
fn matches(pattern: &[char], path: &[char]) -> Result<bool, BadPattern> {
    let (mut at, mut on) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    loop {
        let step = match pattern.get(at) {
            Some('*') => {
                star = Some((at + 1, on));
                at += 1;
                continue;
            }
            None => on == path.len(),
            Some(_) => match one(pattern, at, path.get(on).copied())? {
                Some(next) => {
                    at = next;
                    on += 1;
                    continue;
                }
                None => false,
            },
        };
        if step {
            return Ok(true);
        }
        match star {
            Some((after, from)) if path.get(from).is_some_and(|c| *c != '/') => {
                star = Some((after, from + 1));
                (at, on) = (after, from + 1);
            }
            _ => {
                check(pattern, at)?;
                return Ok(false);
            }
        }
    }
}

/// Matches one character; gives the place behind what matched.
fn one(pattern: &[char], at: usize, c: Option<char>) -> Result<Option<usize>, BadPattern> {
    match pattern.get(at) {
        Some('?') => Ok(c.filter(|c| *c != '/').map(|_| at + 1)),
        Some('[') => {
            let (hit, next) = class(pattern, at, c)?;
            Ok(hit.then_some(next))
        }
        Some('\\') => {
            let literal = pattern.get(at + 1).ok_or(BadPattern)?;
            Ok((c == Some(*literal)).then_some(at + 2))
        }
        Some(literal) => Ok((c == Some(*literal)).then_some(at + 1)),
        None => Ok(None),
    }
}

fn class(pattern: &[char], open: usize, c: Option<char>) -> Result<(bool, usize), BadPattern> {
    let mut at = open + 1;
    let negated = pattern.get(at) == Some(&'^');
    at += usize::from(negated);
    let mut hit = false;
    let mut ranges = 0;
    loop {
        if pattern.get(at) == Some(&']') && ranges > 0 {
            let hit = c.is_some_and(|c| c != '/') && hit != negated;
            return Ok((hit, at + 1));
        }
        let (low, next) = class_char(pattern, at)?;
        at = next;
        let mut high = low;
        if pattern.get(at) == Some(&'-') {
            (high, at) = class_char(pattern, at + 1)?;
        }
        hit |= c.is_some_and(|c| low <= c && c <= high);
        ranges += 1;
    }
}

fn class_char(pattern: &[char], at: usize) -> Result<(char, usize), BadPattern> {
    match pattern.get(at) {
        None | Some('-' | ']') => Err(BadPattern),
        Some('\\') => pattern.get(at + 1).map(|c| (*c, at + 2)).ok_or(BadPattern),
        Some(c) => Ok((*c, at + 1)),
    }
}

/// The rest of a pattern that did not match must still be well-formed.
fn check(pattern: &[char], mut at: usize) -> Result<(), BadPattern> {
    while at < pattern.len() {
        at = match pattern.get(at) {
            Some('[') => class(pattern, at, None)?.1,
            Some('\\') if at + 1 == pattern.len() => return Err(BadPattern),
            Some('\\') => at + 2,
            _ => at + 1,
        };
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_go() {
        let cases = [
            ("*.txt", "a.txt", true),
            ("*.txt", "d/a.txt", false),
            ("a?c", "abc", true),
            ("[ab]x", "bx", true),
            ("[^ab]x", "bx", false),
            ("[a-c]*", "cat", true),
            ("a*b*c", "aXbYc", true),
            ("a\\*", "a*", true),
            ("*", "", true),
            ("?", "/", false),
            ("[]a]", "]", false),
        ];
        for (pattern, path, expected) in cases {
            match glob_match(pattern, path) {
                Ok(found) => assert_eq!(found, expected, "{pattern} {path}"),
                Err(BadPattern) => assert!(!expected, "{pattern}"),
            }
        }
        assert_eq!(glob_match("[", "a"), Err(BadPattern));
        assert_eq!(glob_match("a\\", "a"), Err(BadPattern));
    }
}
