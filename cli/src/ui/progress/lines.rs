//! Bytes of a log, in lines.

use engine::Stream;

/// Bytes of a line without an end that are held back; a longer one is shown in parts.
const LINE_LIMIT: usize = 64 << 10;

/// The begun lines of one step's two streams.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Lines {
    /// Takes bytes and gives the lines that they end.
    pub(crate) fn push(&mut self, stream: Stream, bytes: &[u8]) -> Vec<String> {
        let begun = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        begun.extend_from_slice(bytes);
        let ended = begun.iter().rposition(|byte| *byte == b'\n').map(|at| at + 1);
        let ended = ended.or_else(|| (begun.len() > LINE_LIMIT).then_some(begun.len()));
        let whole: Vec<u8> = begun.drain(..ended.unwrap_or(0)).collect();
        if whole.is_empty() { Vec::new() } else { shown(&whole) }
    }

    /// What is left at the end of the streams.
    pub(crate) fn rest(&mut self) -> Vec<String> {
        let rest = [std::mem::take(&mut self.stdout), std::mem::take(&mut self.stderr)];
        rest.iter().filter(|bytes| !bytes.is_empty()).flat_map(|bytes| shown(bytes)).collect()
    }
}

/// A line that was redrawn with carriage returns is shown as it was at last.
fn shown(bytes: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(bytes);
    text.lines()
        .map(|line| crate::ui::foreign::line(line.trim_end_matches('\r').rsplit('\r').next().unwrap_or_default()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_whole_and_streams_do_not_mix() {
        let mut lines = Lines::default();
        assert!(lines.push(Stream::Stdout, b"one").is_empty());
        assert!(lines.push(Stream::Stderr, b"err").is_empty());
        assert_eq!(lines.push(Stream::Stdout, b" more\ntwo\nthr"), ["one more", "two"]);
        assert_eq!(lines.rest(), ["thr", "err"]);
        assert_eq!(lines.push(Stream::Stdout, b" 10%\r 50%\r100%\n"), ["100%"]);
        assert_eq!(lines.push(Stream::Stdout, &vec![b'x'; LINE_LIMIT + 1]).len(), 1);
    }
}
