//! Doors for `fuzz/`: readers of foreign bytes without a disk.

use std::path::Path;

use super::header::Entries;
use super::limits::Limits;
use super::sparse::Part;
use super::split::{Record, SplitReader};
use crate::error::Result;

#[derive(Default)]
struct Count {
    literals: u64,
}

impl Record for Count {
    const KEEPS: bool = true;

    fn literal(&mut self, bytes: &[u8]) -> Result<()> {
        self.literals += bytes.len() as u64;
        Ok(())
    }

    fn content(&mut self, _path: &Path, _size: u64, _hash: &blake3::Hash) -> Result<()> {
        Ok(())
    }

    fn parts(&mut self, _path: &Path, _parts: &[Part]) -> Result<()> {
        Ok(())
    }

    fn moved(&mut self, _path: &Path, _number: u64) -> Result<()> {
        Ok(())
    }
}

/// Reads a plain tar as the extractor does. Gives its entries, the bytes beside their contents, and those of the contents.
///
/// # Errors
/// When it is malformed.
pub fn read_archive(bytes: &[u8]) -> Result<(u64, u64, u64)> {
    let limits = Limits::default();
    let mut entries = Entries::new(bytes, Count::default(), &limits);
    let (mut count, mut contents) = (0, 0);
    while let Some(entry) = entries.next()? {
        count += 1;
        // Every second content is left to be passed over.
        if count % 2 == 0 {
            contents += read_content(&mut entries)?;
        }
        drop(entry);
    }
    Ok((count, entries.finish()?.literals, contents))
}

fn read_content(entries: &mut Entries<'_, &[u8], Count>) -> Result<u64> {
    let mut bytes = 0;
    loop {
        let chunk = entries.chunk()?.len();
        if chunk == 0 {
            return Ok(bytes);
        }
        entries.used(chunk);
        bytes += chunk as u64;
    }
}

/// Reads a split; its records may be damaged, and so may what they are packed in.
///
/// # Errors
/// When it is damaged.
pub fn read_split(bytes: &[u8]) -> Result<()> {
    let read = |mut split: SplitReader<'_>| -> Result<()> {
        while split.next()?.is_some() {}
        Ok(())
    };
    read(SplitReader::unpacked(bytes))?;
    read(SplitReader::new(bytes)?)
}
