//! Archives that ADD unpacks: told by content, never by name.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};

use super::compress::{Compression, Ratio, RatioGuard, Tap, decompress};
use super::header::{BLOCK, checksum};
use super::limits::Limits;
use super::read::{ExtractOptions, Whiteouts, extract};
use crate::error::{Error, Result};
use crate::tree::{Owner, TreeRoot};

/// Bytes read at once.
const BUFFER: usize = 128 * 1024;

/// A file that holds a tar, compressed or not.
#[derive(Debug)]
pub struct Archive {
    file: File,
}

/// Tells whether a file is an archive: decompressed, it begins with a tar header.
///
/// # Errors
/// When it cannot be read.
pub fn open_archive(mut file: File) -> Result<Option<Archive>> {
    let found = {
        let copy = file.try_clone().map_err(Error::path("open", "the archive"))?;
        let (compression, reader) = decompress(copy)?;
        let mut block = Vec::new();
        // Damaged compression means that it is no archive: it is copied as it is.
        let read = reader.take(BLOCK).read_to_end(&mut block);
        is_tar(&block) && (read.is_ok() || compression == Compression::None)
    };
    file.seek(SeekFrom::Start(0)).map_err(Error::path("read", "the archive"))?;
    Ok(found.then_some(Archive { file }))
}

/// The checksum of the first header decides.
fn is_tar(block: &[u8]) -> bool {
    let Ok(bytes) = <&[u8; 512]>::try_from(block) else { return false };
    if bytes.iter().all(|byte| *byte == 0) {
        return false;
    }
    tar::Header::from_byte_slice(bytes).cksum().is_ok_and(|found| found == checksum(bytes))
}

/// Unpacks an archive over a directory. `owner` is given to every entry (`--chown`).
///
/// # Errors
/// When the archive is malformed, too large, or in the way of what is there.
pub fn extract_archive(archive: Archive, root: &TreeRoot, owner: Option<Owner>) -> Result<()> {
    extract_stream(archive.file, root, owner)
}

/// The same for a stream, which is a tar from its first byte on, compressed or not.
///
/// # Errors
/// When it is malformed, too large, or in the way of what is there.
pub fn extract_stream(stream: impl Read + Send + 'static, root: &TreeRoot, owner: Option<Owner>) -> Result<()> {
    let limits = Limits::default();
    let tap = Tap::new(stream, None);
    let packed = tap.counter();
    let (_, plain) = decompress(tap)?;
    let reader = RatioGuard::new(plain, Ratio::new(packed, &limits));
    let options = ExtractOptions { whiteouts: Whiteouts::Literal, owner, limits: &limits, flusher: None };
    extract(BufReader::with_capacity(BUFFER, reader), (), root, None, &options).map(drop)
}
