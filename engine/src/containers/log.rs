//! The log of a container: JSON lines as docker's json-file driver writes them, in files of bounded size. A line longer
//! than 16 KiB is cut into pieces, of which only the last ends with a newline.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use serde::{Deserialize, Serialize};

use super::log_files::{NAME, move_on, pack};
use super::spec::{LogChoice, LogDriver};
use super::state::now;
use super::time::rfc3339;

const LONGEST_LINE: usize = 16 << 10;
/// No log fills a disk unless that is asked for.
pub(crate) const MAX_SIZE: u64 = 20 << 20;
pub(crate) const MAX_FILES: u32 = 5;

/// Which of the two outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Output {
    /// Standard output, or the terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

/// One line of the log.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct LogLine {
    /// What was written, with its newline if it had one.
    pub log: String,
    /// Where.
    pub stream: Output,
    /// `--log-opt tag` and its like.
    #[serde(default)]
    pub attrs: BTreeMap<String, String>,
    /// When, RFC 3339 in UTC.
    pub time: String,
}

/// The same as it is written.
#[derive(Serialize)]
struct Line<'a> {
    log: &'a str,
    stream: Output,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    attrs: &'a BTreeMap<String, String>,
    time: &'a str,
}

/// Writes the log of a container while it runs.
#[derive(Debug)]
pub(super) struct LogWriter {
    directory: PathBuf,
    file: Option<File>,
    size: u64,
    max_size: u64,
    max_files: u32,
    /// Files that are not written any more are packed, by a thread: the container does not wait for it.
    packs: bool,
    packer: Option<JoinHandle<()>>,
    attributes: BTreeMap<String, String>,
    /// Lines that have no end yet, of either output.
    open: [Vec<u8>; 2],
    lines: Vec<u8>,
}

impl LogWriter {
    /// Opens it. Each line gets these attributes.
    pub(super) fn open(
        directory: &Path,
        choice: &LogChoice,
        attributes: BTreeMap<String, String>,
    ) -> io::Result<LogWriter> {
        let file = match choice.driver {
            LogDriver::None => None,
            LogDriver::JsonFile | LogDriver::Local => Some(append(&directory.join(NAME))?),
        };
        let size = file.as_ref().map_or(Ok(0), |file| file.metadata().map(|metadata| metadata.len()))?;
        Ok(LogWriter {
            directory: directory.to_owned(),
            file,
            size,
            max_size: choice.max_size.unwrap_or(MAX_SIZE),
            max_files: choice.max_file.unwrap_or(MAX_FILES),
            packs: choice.compress,
            packer: None,
            attributes,
            open: [Vec::new(), Vec::new()],
            lines: Vec::new(),
        })
    }

    /// Takes what was written. A disk that is full loses lines of the log and nothing else.
    pub(super) fn write(&mut self, stream: Output, bytes: &[u8]) {
        if self.file.is_none() {
            return;
        }
        let time = rfc3339(now());
        let [stdout, stderr] = &mut self.open;
        let open = if stream == Output::Stdout { stdout } else { stderr };
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let mut piece = piece;
            while open.len() + piece.len() > LONGEST_LINE {
                let (head, tail) = piece.split_at(LONGEST_LINE - open.len());
                open.extend_from_slice(head);
                piece = tail;
                take_line(&mut self.lines, open, stream, &self.attributes, &time);
            }
            open.extend_from_slice(piece);
            if open.ends_with(b"\n") {
                take_line(&mut self.lines, open, stream, &self.attributes, &time);
            }
        }
        self.flush();
    }

    /// Writes the lines that never got an end.
    pub(super) fn finish(&mut self) {
        let time = rfc3339(now());
        let [stdout, stderr] = &mut self.open;
        for (open, stream) in [(stdout, Output::Stdout), (stderr, Output::Stderr)] {
            if !open.is_empty() {
                take_line(&mut self.lines, open, stream, &self.attributes, &time);
            }
        }
        self.flush();
        self.wait_for_packer();
    }

    fn wait_for_packer(&mut self) {
        if let Some(packer) = self.packer.take() {
            // What it could not pack is there as it was.
            let _ = packer.join();
        }
    }

    fn flush(&mut self) {
        let lines = std::mem::take(&mut self.lines);
        let mut rest = lines.as_slice();
        while !rest.is_empty() {
            let (now, later) = rest.split_at(self.room_for(rest));
            rest = later;
            if now.is_empty() {
                self.rotate();
                continue;
            }
            self.size += now.len() as u64;
            if let Some(file) = &mut self.file {
                // What cannot be written is lost: the container must not wait for a disk.
                let _ = file.write_all(now);
            }
        }
        self.lines = lines;
        self.lines.clear();
    }

    /// How many bytes of whole lines go into this file; one line at the least goes into an empty one.
    fn room_for(&self, lines: &[u8]) -> usize {
        let room = usize::try_from(self.max_size.saturating_sub(self.size)).unwrap_or(usize::MAX);
        if self.max_size == 0 || lines.len() <= room {
            return lines.len();
        }
        let whole =
            lines.get(..room).unwrap_or_default().iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        if whole == 0 && self.size == 0 {
            return lines.iter().position(|byte| *byte == b'\n').map_or(lines.len(), |at| at + 1);
        }
        whole
    }

    fn rotate(&mut self) {
        self.wait_for_packer();
        move_on(&self.directory, self.max_files);
        let path = self.directory.join(NAME);
        if self.max_files <= 1 {
            let _ = std::fs::remove_file(&path);
        }
        self.size = 0;
        if let Ok(file) = append(&path) {
            self.file = Some(file);
        }
        if self.packs && self.max_files > 1 {
            let directory = self.directory.clone();
            let thread = std::thread::Builder::new().name("log".to_owned()).stack_size(256 << 10);
            self.packer = thread.spawn(move || drop(pack(&directory))).ok();
        }
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

fn take_line(lines: &mut Vec<u8>, open: &mut Vec<u8>, stream: Output, attrs: &BTreeMap<String, String>, time: &str) {
    let line = Line { log: &String::from_utf8_lossy(open), stream, attrs, time };
    if serde_json::to_writer(&mut *lines, &line).is_ok() {
        lines.push(b'\n');
    }
    open.clear();
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::log_files::{LogFile, log_files};
    use super::*;

    fn lines(directory: &Path) -> Vec<LogLine> {
        let mut found = Vec::new();
        for path in log_files(directory) {
            let (mut file, mut line) = (LogFile::open(&path).unwrap(), Vec::new());
            while file.read_line(&mut line).unwrap() > 0 {
                found.push(serde_json::from_slice(&line).unwrap());
                line.clear();
            }
        }
        found
    }

    #[test]
    fn old_files_are_packed_and_lines_have_what_was_asked_for() {
        let directory = tempfile::tempdir().unwrap();
        let choice = LogChoice { max_size: Some(1000), max_file: Some(4), compress: true, ..LogChoice::default() };
        let attributes = BTreeMap::from([("tag".to_owned(), "t".to_owned())]);
        let mut log = LogWriter::open(directory.path(), &choice, attributes.clone()).unwrap();
        for number in 0..100 {
            log.write(Output::Stdout, format!("line {number}\n").as_bytes());
        }
        log.finish();
        let files = log_files(directory.path());
        let endings: Vec<_> = files.iter().map(|path| path.extension().unwrap().to_str().unwrap()).collect();
        assert_eq!(endings, ["gz", "gz", "gz", "json"]);
        let kept = lines(directory.path());
        let texts: Vec<&str> = kept.iter().map(|line| line.log.trim()).collect();
        let first = 100 - kept.len();
        let wanted: Vec<String> = (first..100).map(|number| format!("line {number}")).collect();
        assert_eq!(texts, wanted, "nothing is lost or doubled between the files");
        assert!(kept.len() > 20 && kept.iter().all(|line| line.attrs == attributes));
        let newest = std::fs::read_to_string(directory.path().join(NAME)).unwrap();
        assert!(newest.contains(r#""stream":"stdout","attrs":{"tag":"t"},"time":"#), "{newest}");
    }

    #[test]
    fn lines_are_cut_at_their_end_and_at_16_kib() {
        let directory = tempfile::tempdir().unwrap();
        let mut log = LogWriter::open(directory.path(), &LogChoice::default(), BTreeMap::new()).unwrap();
        log.write(Output::Stdout, b"one\ntw");
        log.write(Output::Stderr, b"err\n");
        log.write(Output::Stdout, b"o\n");
        log.write(Output::Stdout, &vec![b'x'; LONGEST_LINE + 3]);
        log.finish();
        let found: Vec<(usize, Output)> =
            lines(directory.path()).iter().map(|line| (line.log.len(), line.stream)).collect();
        let out = Output::Stdout;
        assert_eq!(found, [(4, out), (4, Output::Stderr), (4, out), (LONGEST_LINE, out), (3, out)]);
    }

    #[test]
    fn old_files_make_room() {
        let directory = tempfile::tempdir().unwrap();
        let choice = LogChoice { max_size: Some(1000), max_file: Some(3), ..LogChoice::default() };
        let mut log = LogWriter::open(directory.path(), &choice, BTreeMap::new()).unwrap();
        for number in 0..100 {
            log.write(Output::Stdout, format!("line {number}\n").as_bytes());
        }
        assert_eq!(log_files(directory.path()).len(), 3);
        let kept = lines(directory.path());
        assert_eq!(kept.last().unwrap().log, "line 99\n");
        assert!(kept.len() > 20 && kept.len() < 50, "{}", kept.len());
        assert!(std::fs::metadata(directory.path().join(NAME)).unwrap().len() <= 1000);
    }

    #[test]
    fn nothing_is_kept_where_nothing_is_wanted() {
        let directory = tempfile::tempdir().unwrap();
        let choice = LogChoice { driver: LogDriver::None, ..LogChoice::default() };
        let mut log = LogWriter::open(directory.path(), &choice, BTreeMap::new()).unwrap();
        log.write(Output::Stdout, b"x\n");
        log.finish();
        assert!(std::fs::read_dir(directory.path()).unwrap().next().is_none());
    }
}
