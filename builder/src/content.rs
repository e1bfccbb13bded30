//! The hash of a file's content.

use std::fs::File;
use std::io::{self, Read};

/// From this size on one file is hashed by all threads.
pub(crate) const LARGE: u64 = 16 << 20;
/// What is read of a large file at once: enough for every thread.
const PIECE: usize = 4 << 20;

/// BLAKE3 of all that a file gives, and how much that was; it should be `size`.
pub(crate) fn hash(file: &mut File, size: u64) -> io::Result<([u8; 32], u64)> {
    let mut hasher = blake3::Hasher::new();
    let read = match size >= LARGE {
        true => by_all(file, &mut hasher)?,
        false => by_one(file, &mut hasher, size)?,
    };
    Ok((*hasher.finalize().as_bytes(), read))
}

fn by_one(file: &mut File, hasher: &mut blake3::Hasher, size: u64) -> io::Result<u64> {
    let mut buffer = vec![0; usize::try_from(size.clamp(1 << 10, 256 << 10)).unwrap_or(1 << 10)];
    let mut read = 0;
    loop {
        let count = file.read(&mut buffer)?;
        let Some(bytes) = buffer.get(..count).filter(|bytes| !bytes.is_empty()) else { return Ok(read) };
        hasher.update(bytes);
        read += bytes.len() as u64;
    }
}

/// All threads hash one piece while one of them reads the next.
fn by_all(file: &mut File, hasher: &mut blake3::Hasher) -> io::Result<u64> {
    let (mut piece, mut next) = (vec![0; PIECE], vec![0; PIECE]);
    let mut count = file.read(&mut piece)?;
    let mut read = 0;
    while let Some(bytes) = piece.get(..count).filter(|bytes| !bytes.is_empty()) {
        read += bytes.len() as u64;
        let (_, got) = rayon::join(
            || {
                hasher.update_rayon(bytes);
            },
            || file.read(&mut next),
        );
        count = got?;
        std::mem::swap(&mut piece, &mut next);
    }
    Ok(read)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::{Seek, Write};

    use super::*;

    #[test]
    fn the_hash_is_the_same_however_large() {
        let mut file = tempfile::tempfile().unwrap();
        let bytes: Vec<u8> = (0..9_000_001_u32).map(|number| (number % 251) as u8).collect();
        file.write_all(&bytes).unwrap();
        let expected = (*blake3::hash(&bytes).as_bytes(), bytes.len() as u64);
        for size in [0, 9_000_001, LARGE] {
            file.rewind().unwrap();
            assert_eq!(hash(&mut file, size).unwrap(), expected, "as one of {size} bytes");
        }
    }
}
