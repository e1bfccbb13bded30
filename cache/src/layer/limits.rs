//! How much of a foreign archive is accepted. Everything foreign is bounded; all of it can be set.

use crate::error::Error;

/// Bounds of one archive.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Bytes after decompression, and bytes of all files with their holes.
    pub unpacked_bytes: u64,
    /// Unpacked to packed bytes.
    pub ratio: u64,
    /// Unpacked bytes from which the ratio counts.
    pub ratio_from: u64,
    /// Entries.
    pub entries: u64,
    /// Bytes of one extension header.
    pub extension_bytes: u64,
    /// Extension headers before one entry.
    pub extensions: u64,
    /// Bytes of a path or link target.
    pub path_bytes: usize,
    /// Directories in each other.
    pub depth: usize,
    /// Bytes of one extended attribute.
    pub xattr_bytes: usize,
    /// Extended attributes of one entry.
    pub xattrs: usize,
    /// Parts of one sparse file.
    pub sparse_parts: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            unpacked_bytes: 64 << 30,
            ratio: 1000,
            ratio_from: 1 << 30,
            entries: 1_000_000,
            extension_bytes: 1 << 20,
            extensions: 16,
            path_bytes: 4096,
            depth: 512,
            xattr_bytes: 64 << 10,
            xattrs: 1000,
            sparse_parts: 1 << 20,
        }
    }
}

impl Limits {
    pub(crate) fn too_large(&self) -> Error {
        Error::Limit(format!("it unpacks to more than {} bytes", self.unpacked_bytes))
    }
}
