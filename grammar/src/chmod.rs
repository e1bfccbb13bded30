//! `--chmod`: octal up to 07777, or symbolic as chmod(1) without the umask.

use crate::values::ValueError;

/// A parsed mode change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Chmod {
    /// The mode itself.
    Octal(u32),
    /// Changes, in order.
    Symbolic(Vec<Change>),
}

/// `who` `operator` `permissions`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    who: u32,
    operator: char,
    permissions: String,
}

const USER: u32 = 0o4700;
const GROUP: u32 = 0o2070;
const OTHER: u32 = 0o1007;

impl Chmod {
    /// Reads a mode.
    ///
    /// # Errors
    /// When it is neither octal nor symbolic.
    pub fn parse(text: &str) -> Result<Chmod, ValueError> {
        let bad = || {
            ValueError(format!("invalid chmod parameter: '{text}'. it should be octal string and between 0 and 07777"))
        };
        if text.starts_with(|c: char| c.is_ascii_digit()) {
            let mode = u32::from_str_radix(text, 8).map_err(|_| bad())?;
            return if mode <= 0o7777 { Ok(Chmod::Octal(mode)) } else { Err(bad()) };
        }
        let mut changes = Vec::new();
        for clause in text.split(',') {
            let end = clause.find(['+', '-', '=']).ok_or_else(bad)?;
            let (who, mut rest) = clause.split_at(end);
            let who = who.chars().try_fold(0, |mask, c| {
                Some(
                    mask | match c {
                        'u' => USER,
                        'g' => GROUP,
                        'o' => OTHER,
                        'a' => USER | GROUP | OTHER,
                        _ => return None,
                    },
                )
            });
            let who = match who.ok_or_else(bad)? {
                0 => USER | GROUP | OTHER,
                who => who,
            };
            while let Some(operator) = rest.chars().next() {
                let tail = rest.get(1..).unwrap_or_default();
                let end = tail.find(['+', '-', '=']).unwrap_or(tail.len());
                let (permissions, after) = tail.split_at(end);
                let copies = matches!(permissions, "u" | "g" | "o");
                if !copies && !permissions.chars().all(|c| "rwxXst".contains(c)) {
                    return Err(bad());
                }
                changes.push(Change { who, operator, permissions: permissions.to_owned() });
                rest = after;
            }
        }
        Ok(Chmod::Symbolic(changes))
    }

    /// The new mode of something that has `mode`.
    pub fn apply(&self, mode: u32, is_directory: bool) -> u32 {
        match self {
            Chmod::Octal(mode) => *mode,
            Chmod::Symbolic(changes) => changes.iter().fold(mode, |mode, change| change.apply(mode, is_directory)),
        }
    }
}

impl Change {
    fn apply(&self, mode: u32, is_directory: bool) -> u32 {
        let bits = self.bits(mode, is_directory) & self.who;
        match self.operator {
            '+' => mode | bits,
            '-' => mode & !bits,
            // Set-id bits of directories stay unless they are named, as chmod(1) keeps them.
            _ => (mode & !(self.who & 0o777)) & !(self.who & 0o7000) | bits,
        }
    }

    fn bits(&self, mode: u32, is_directory: bool) -> u32 {
        let copy = |shift: u32| {
            let bits = (mode >> shift) & 0o7;
            bits << 6 | bits << 3 | bits
        };
        match self.permissions.as_str() {
            "u" => return copy(6),
            "g" => return copy(3),
            "o" => return copy(0),
            _ => {}
        }
        self.permissions.chars().fold(0, |bits, c| {
            bits | match c {
                'r' => 0o444,
                'w' => 0o222,
                'x' => 0o111,
                'X' if is_directory || mode & 0o111 != 0 => 0o111,
                's' => 0o6000,
                't' => 0o1000,
                _ => 0,
            }
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn builder_c15_octal_and_symbolic_modes() {
        let cases = [
            ("755", 0o644, false, 0o755),
            ("u+x", 0o644, false, 0o744),
            ("=u=rwX,go=rX", 0o640, true, 0o755),
            ("u=rwX,go=rX", 0o640, false, 0o644),
            ("a=", 0o777, false, 0),
            ("u=g+x", 0o700, true, 0o100),
            ("g-w", 0o775, false, 0o755),
        ];
        for (text, mode, directory, expected) in cases {
            assert_eq!(Chmod::parse(text).unwrap().apply(mode, directory), expected, "{text}");
        }
    }

    #[test]
    fn builder_c16_modes_that_cannot_be() {
        for text in ["999", "17777", "", "u+q", "z=r", "rwx"] {
            assert!(Chmod::parse(text).is_err(), "{text}");
        }
    }
}
