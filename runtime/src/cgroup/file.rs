//! Reading and writing the small files of a control group, with words for what the kernel does not take.
use std::fmt::Display;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use rustix::io::Errno;

use crate::error::{Error, Result};

pub(super) fn errno_of(error: &io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

/// Writes one value in one go: the kernel takes each write as a whole.
pub(super) fn write(path: &Path, value: &str) -> io::Result<()> {
    OpenOptions::new().write(true).open(path)?.write_all(value.as_bytes())
}

/// Sets a limit.
pub(super) fn set(directory: &Path, file: &str, limit: &'static str, value: impl Display) -> Result<()> {
    let value = value.to_string();
    write(&directory.join(file), &value).map_err(|error| {
        let controller = file.split('.').next().unwrap_or(file);
        let reason = match errno_of(&error) {
            Errno::NOENT => {
                format!("the {controller} controller of this kernel has no {file}; leave it out, or use a kernel that has it")
            }
            Errno::INVAL | Errno::RANGE | Errno::NOSPC => {
                format!("the {controller} controller does not take {value:?}; see what the machine and the parent group have")
            }
            Errno::BUSY => {
                format!("the {controller} controller cannot go to {value:?} now: more is in use; stop some of it first")
            }
            Errno::PERM | Errno::ACCESS | Errno::ROFS => {
                format!("{} may not be written here; run as root, or in a delegated control group", directory.display())
            }
            _ => format!("writing {value:?} to {}: {error}", directory.join(file).display()),
        };
        Error::Limit { limit, reason }
    })
}

/// As `set`, where a kernel without the file has nothing to set.
pub(super) fn set_where_there(directory: &Path, file: &str, limit: &'static str, value: impl Display) -> Result<()> {
    if directory.join(file).exists() { set(directory, file, limit, value) } else { Ok(()) }
}

/// A number; `None` where there is no such file, or it says `max`.
pub(super) fn read_number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// The number behind a key in a file of `KEY NUMBER` lines.
pub(super) fn keyed(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
    line.and_then(|number| number.trim().parse().ok())
}
