//! The content of files on its way to the disk: hashed as it is written, holes left out.

use std::fs::File;
use std::io::{self, BufRead, Seek, SeekFrom, Write};
use std::path::Path;

use super::flush::{Flusher, Progress};
use super::header::Entries;
use super::sparse::Part;
use super::split::Record;
use crate::error::{Error, Result};

/// Zeros of this length become a hole.
const HOLE: usize = 64 * 1024;

/// Why a file could not be filled: the archive, or the disk.
pub(crate) enum Unfilled {
    Archive(Error),
    Disk(io::Error),
}

impl Unfilled {
    pub(crate) fn at(self, path: &Path) -> Error {
        match self {
            Unfilled::Archive(error) => error,
            Unfilled::Disk(error) => Error::path("write", path)(error),
        }
    }
}

impl From<Error> for Unfilled {
    fn from(error: Error) -> Self {
        Unfilled::Archive(error)
    }
}

impl From<io::Error> for Unfilled {
    fn from(error: io::Error) -> Self {
        Unfilled::Disk(error)
    }
}

/// Writes an entry's content and hashes it on the way. Long runs of zeros become holes.
pub(crate) fn fill<S: Record>(
    file: &mut File,
    size: u64,
    entries: &mut Entries<'_, impl BufRead, S>,
    flusher: Option<&Flusher>,
) -> Result<blake3::Hash, Unfilled> {
    let chunk = entries.chunk()?;
    if chunk.len() as u64 == size {
        let (hash, count) = (blake3::hash(chunk), chunk.len());
        if count >= HOLE && is_zero(chunk) {
            file.set_len(size)?;
        } else {
            file.write_all(chunk)?;
        }
        entries.used(count);
        return Ok(hash);
    }
    let mut hasher = blake3::Hasher::new();
    let (mut in_hole, mut progress) = (false, Progress::default());
    loop {
        let chunk = entries.chunk()?;
        if chunk.is_empty() {
            break;
        }
        hasher.update(chunk);
        in_hole = write_around_holes(file, chunk)?;
        let count = chunk.len();
        entries.used(count);
        if let Some(flusher) = flusher {
            flusher.written(file, count, &mut progress);
        }
    }
    if in_hole {
        file.set_len(size)?;
    }
    Ok(hasher.finalize())
}

/// Writes what is not zero, in as few calls as that takes; true when the end is a hole.
fn write_around_holes(file: &mut File, chunk: &[u8]) -> io::Result<bool> {
    let (mut data, mut hole) = (0, false);
    for (number, piece) in chunk.chunks(HOLE).enumerate() {
        hole = piece.len() == HOLE && is_zero(piece);
        if hole {
            let at = number * HOLE;
            file.write_all(chunk.get(data..at).unwrap_or_default())?;
            file.seek(SeekFrom::Current(HOLE as i64))?;
            data = at + HOLE;
        }
    }
    file.write_all(chunk.get(data..).unwrap_or_default())?;
    Ok(hole)
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.chunks(64).all(|chunk| chunk.iter().fold(0, |all, byte| all | byte) == 0)
}

/// Writes the parts of a sparse file; what is between them is hashed as the zeros that it is.
pub(crate) fn fill_parts<S: Record>(
    file: &mut File,
    parts: &[Part],
    size: u64,
    entries: &mut Entries<'_, impl BufRead, S>,
) -> Result<blake3::Hash, Unfilled> {
    let mut hasher = blake3::Hasher::new();
    let mut at = 0;
    for part in parts {
        zeros(&mut hasher, part.offset - at);
        file.seek(SeekFrom::Start(part.offset))?;
        let mut left = part.length;
        while left > 0 {
            let chunk = entries.chunk()?;
            let count = usize::try_from(left).unwrap_or(usize::MAX).min(chunk.len());
            let bytes = chunk.get(..count).unwrap_or_default();
            hasher.update(bytes);
            file.write_all(bytes)?;
            entries.used(count);
            left -= count as u64;
        }
        at = part.offset + part.length;
    }
    zeros(&mut hasher, size - at);
    file.set_len(size)?;
    Ok(hasher.finalize())
}

fn zeros(hasher: &mut blake3::Hasher, count: u64) {
    static ZEROS: [u8; HOLE] = [0; HOLE];
    let mut left = count;
    while left > 0 {
        let count = usize::try_from(left).unwrap_or(HOLE).min(HOLE);
        hasher.update(ZEROS.get(..count).unwrap_or_default());
        left -= count as u64;
    }
}
