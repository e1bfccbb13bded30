//! `dunnage logs`: reading a container's log, and following it as long as the container runs.

use std::collections::VecDeque;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::log::LogLine;
use super::log_files::{LogFile, log_files};
use super::spec::LogDriver;
use super::state::Phase;
use super::time::parse_moment;
use crate::Engine;
use crate::error::{Error, Result};

const LOOK: Duration = Duration::from_millis(25);

/// Which lines are wanted.
#[derive(Debug, Clone, Copy, Default)]
pub struct LogRequest {
    /// Unix nanoseconds; only what is not older.
    pub since: Option<u64>,
    /// Unix nanoseconds; only what is not newer.
    pub until: Option<u64>,
    /// The last so many lines.
    pub tail: Option<usize>,
    /// Goes on until the container ends.
    pub follow: bool,
}

impl Engine {
    /// Hands the lines of a container's log to `show`.
    ///
    /// # Errors
    /// When there is no log, or it cannot be read.
    pub fn logs(
        &self,
        name: &str,
        request: LogRequest,
        show: &mut dyn FnMut(&LogLine) -> io::Result<()>,
    ) -> Result<()> {
        let info = self.container(name)?;
        let directory = self.store.container_dir(&info.record.id);
        if info.spec.log.driver == LogDriver::None {
            return Err(Error::WrongState(format!(
                "container {} was made with --log-driver none: it has no log",
                info.name()
            )));
        }
        if info.status.is_running() && !directory.join(super::monitor::socket_name()).exists() {
            return Err(Error::WrongState(format!(
                "container {} runs in the foreground of `run --rm`, which shows its output: it has no log",
                info.name()
            )));
        }
        let failed = |error| Error::file("read the log in", &directory, error);
        let mut reader = Reader::open(&directory);
        let mut last = VecDeque::new();
        while let Some(line) = reader.line().map_err(failed)? {
            if !is_wanted(&line, &request) {
                continue;
            }
            match request.tail {
                Some(count) => {
                    last.push_back(line);
                    let surplus = last.len().saturating_sub(count);
                    last.drain(..surplus);
                }
                None => show(&line).map_err(Error::Output)?,
            }
        }
        for line in last {
            show(&line).map_err(Error::Output)?;
        }
        if !request.follow {
            return Ok(());
        }
        loop {
            // Asked before reading: what was written before the end is read after it. The monitor notes the end when the
            // log is whole, which is later than that of the process.
            let ended = !self.store.container(&info.record.id)?.is_some_and(|(_, held)| held)
                || self.phase_of(&info.record.id) == Some(Phase::Exited);
            while let Some(line) = reader.line().map_err(failed)? {
                if is_wanted(&line, &request) {
                    show(&line).map_err(Error::Output)?;
                }
            }
            if ended {
                return Ok(());
            }
            std::thread::sleep(LOOK);
        }
    }
}

fn is_wanted(line: &LogLine, request: &LogRequest) -> bool {
    if request.since.is_none() && request.until.is_none() {
        return true;
    }
    let time = parse_moment(&line.time, 0).unwrap_or(0);
    request.since.is_none_or(|since| time >= since) && request.until.is_none_or(|until| time <= until)
}

/// Reads the files of a log in order, and goes on with the next when the newest is moved aside.
struct Reader {
    newest: PathBuf,
    rest: Vec<PathBuf>,
    file: Option<LogFile>,
    /// It is not written any more: what is read of it now is the rest.
    leaving: bool,
    line: Vec<u8>,
}

impl Reader {
    fn open(directory: &Path) -> Reader {
        let mut rest = log_files(directory);
        let newest = rest.last().cloned().unwrap_or_default();
        rest.reverse();
        Reader { newest, rest, file: None, leaving: false, line: Vec::new() }
    }

    /// The next whole line, if there is one yet. One that is damaged is passed over.
    fn line(&mut self) -> io::Result<Option<LogLine>> {
        loop {
            let Some(file) = &mut self.file else {
                let path = self.rest.pop().unwrap_or_else(|| self.newest.clone());
                match LogFile::open(&path) {
                    Ok(file) => (self.file, self.leaving) = (Some(file), false),
                    // It was moved on while the ones before it were read.
                    Err(error) if error.kind() == io::ErrorKind::NotFound && path != self.newest => {}
                    Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                    Err(error) => return Err(error),
                }
                continue;
            };
            if file.read_line(&mut self.line)? > 0 {
                if !self.line.ends_with(b"\n") {
                    return Ok(None);
                }
                let line = serde_json::from_slice(&self.line).ok();
                self.line.clear();
                match line {
                    Some(line) => return Ok(Some(line)),
                    None => continue,
                }
            }
            let moved = match (std::fs::metadata(&self.newest), file.growing()) {
                (Ok(newest), Some(file)) => newest.ino() != file.metadata()?.ino(),
                (Ok(_), None) => true,
                (Err(_), _) => false,
            };
            if self.rest.is_empty() && !moved {
                return Ok(None);
            }
            // Something may have come between the last look at it and its being moved.
            if self.leaving {
                self.file = None;
            }
            self.leaving = true;
        }
    }
}
