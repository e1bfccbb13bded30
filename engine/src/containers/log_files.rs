//! The files of a container's log: `log.json` is the newest, `log.json.1` or `log.json.1.gz` the one before it, and so on.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;

pub(super) const NAME: &str = "log.json";

/// How a file that is not written any more ends when it is packed.
const PACKED: &str = "gz";

pub(super) fn rotated(directory: &Path, number: u32) -> PathBuf {
    directory.join(format!("{NAME}.{number}"))
}

fn packed(path: &Path) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(".");
    path.push(PACKED);
    path.into()
}

/// Moves every file on by one; the last of so many goes.
pub(super) fn move_on(directory: &Path, most: u32) {
    for number in (1..most).rev() {
        let to = rotated(directory, number);
        let from = if number == 1 { directory.join(NAME) } else { rotated(directory, number - 1) };
        // What was packed last time is not what comes now.
        let _ = std::fs::remove_file(packed(&to));
        let _ = std::fs::rename(packed(&from), packed(&to));
        let moved = std::fs::rename(&from, &to).is_ok();
        if !moved {
            let _ = std::fs::remove_file(&to);
        }
    }
}

/// Packs the file before the newest one. It counts until the packed one is whole.
pub(super) fn pack(directory: &Path) -> io::Result<()> {
    let (from, to) = (rotated(directory, 1), packed(&rotated(directory, 1)));
    let draft = directory.join(format!("{NAME}.draft"));
    let file = File::options().create(true).write(true).truncate(true).mode(0o600).open(&draft)?;
    let mut packer = GzEncoder::new(file, Compression::default());
    io::copy(&mut File::open(&from)?, &mut packer)?;
    packer.finish()?;
    std::fs::rename(draft, to)?;
    std::fs::remove_file(from)
}

/// The files of a container's log that are there, oldest first.
pub(super) fn log_files(directory: &Path) -> Vec<PathBuf> {
    let there = |number| {
        let plain = rotated(directory, number);
        [packed(&plain), plain].into_iter().rev().find(|path| path.exists())
    };
    let mut files: Vec<PathBuf> = (1..).map_while(there).collect();
    files.reverse();
    files.push(directory.join(NAME));
    files
}

/// A file of a log that is read.
pub(super) enum LogFile {
    Plain(BufReader<File>),
    Packed(Box<BufReader<GzDecoder<File>>>),
}

impl LogFile {
    /// Opens one; it may have been packed since it was found.
    pub(super) fn open(path: &Path) -> io::Result<LogFile> {
        let mut is_packed = path.extension().is_some_and(|ending| ending == PACKED);
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && !is_packed => {
                is_packed = true;
                File::open(packed(path))?
            }
            result => result?,
        };
        Ok(match is_packed {
            true => LogFile::Packed(Box::new(BufReader::new(GzDecoder::new(file)))),
            false => LogFile::Plain(BufReader::new(file)),
        })
    }

    pub(super) fn read_line(&mut self, line: &mut Vec<u8>) -> io::Result<usize> {
        match self {
            LogFile::Plain(file) => file.read_until(b'\n', line),
            LogFile::Packed(file) => file.read_until(b'\n', line),
        }
    }

    /// What may still be written to; nothing of one that is packed.
    pub(super) fn growing(&self) -> Option<&File> {
        match self {
            LogFile::Plain(file) => Some(file.get_ref()),
            LogFile::Packed(_) => None,
        }
    }
}
