//! Secrets taken out of what a step writes, wherever the pieces of a stream are cut.

/// What stands for a secret.
const SHOWN: &[u8] = b"***";

/// Shorter texts are in every log by chance; to hide them would hide the log.
const SHORTEST: usize = 4;

/// Replaces secrets in one stream.
#[derive(Debug, Clone, Default)]
pub(super) struct Mask {
    /// Longest first.
    patterns: Vec<Vec<u8>>,
    /// What may be the beginning of a secret.
    held: Vec<u8>,
}

impl Mask {
    /// Each secret without the line end that files have, and each line of it.
    pub(super) fn new<'a>(secrets: impl IntoIterator<Item = &'a [u8]>) -> Mask {
        let mut patterns: Vec<Vec<u8>> = Vec::new();
        for secret in secrets {
            let whole = secret.trim_ascii();
            patterns.push(whole.to_vec());
            patterns.extend(whole.split(|byte| *byte == b'\n').map(|line| line.trim_ascii().to_vec()));
        }
        patterns.retain(|pattern| pattern.len() >= SHORTEST);
        patterns.sort_by(|one, other| other.len().cmp(&one.len()).then_with(|| one.cmp(other)));
        patterns.dedup();
        Mask { patterns, held: Vec::new() }
    }

    /// What can be shown by now.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Vec<u8> {
        if self.patterns.is_empty() {
            return bytes.to_vec();
        }
        self.held.extend_from_slice(bytes);
        self.drain(false)
    }

    /// The rest, at the end of the stream.
    pub(super) fn finish(&mut self) -> Vec<u8> {
        self.drain(true)
    }

    fn drain(&mut self, last: bool) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.held.len());
        let mut rest = self.held.as_slice();
        while let Some((first, after)) = rest.split_first() {
            // A longer secret that may still come goes before a shorter one that is there.
            let found = self.patterns.iter().find(|pattern| {
                rest.starts_with(pattern) || (!last && pattern.len() > rest.len() && pattern.starts_with(rest))
            });
            match found {
                Some(pattern) if pattern.len() > rest.len() => break,
                Some(pattern) => {
                    out.extend_from_slice(SHOWN);
                    rest = rest.get(pattern.len()..).unwrap_or_default();
                }
                None => {
                    out.push(*first);
                    rest = after;
                }
            }
        }
        self.held = rest.to_vec();
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(secrets: &[&str], chunks: &[&str]) -> String {
        let mut mask = Mask::new(secrets.iter().map(|secret| secret.as_bytes()));
        let mut out = Vec::new();
        for chunk in chunks {
            out.extend(mask.push(chunk.as_bytes()));
        }
        out.extend(mask.finish());
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn security_d09_secrets_are_masked_wherever_the_stream_is_cut() {
        let text = "a hunter22 b hunter22";
        for cut in 0..text.len() {
            let (one, other) = text.split_at(cut);
            assert_eq!(shown(&["hunter22\n"], &[one, other]), "a *** b ***", "cut at {cut}");
        }
        let bytes: Vec<&str> = text.split("").collect();
        assert_eq!(shown(&["hunter22"], &bytes), "a *** b ***");
    }

    #[test]
    fn lines_of_a_secret_are_secrets_and_short_ones_are_not() {
        let secret = "first-line\nab\nlast-line\n";
        assert_eq!(shown(&[secret], &["x first-line\nab\nlast-", "line y"]), "x *** y");
        assert_eq!(shown(&[secret], &["last-line ab first-line"]), "*** ab ***");
        assert_eq!(shown(&["abc"], &["abc"]), "abc");
        assert_eq!(shown(&[], &["plain"]), "plain");
    }

    #[test]
    fn a_beginning_that_does_not_go_on_is_shown() {
        assert_eq!(shown(&["abcdef"], &["abcd", "x abc"]), "abcdx abc");
        let mut mask = Mask::new([b"abcdef".as_slice()]);
        assert_eq!(mask.push(b"prompt> "), b"prompt> ");
    }
}
