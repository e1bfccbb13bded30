//! How much of a foreign archive is accepted. Everything foreign is bounded; all of it can be set.

/// Bounds of one archive.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Bytes after decompression.
    pub unpacked_bytes: u64,
    /// Unpacked to packed bytes, once more than a gibibyte has been unpacked.
    pub ratio: u64,
    /// Entries.
    pub entries: u64,
    /// Bytes of one extension header.
    pub extension_bytes: u64,
    /// Bytes of a path or link target.
    pub path_bytes: usize,
    /// Bytes of one extended attribute.
    pub xattr_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            unpacked_bytes: 64 << 30,
            ratio: 1000,
            entries: 2_000_000,
            extension_bytes: 1 << 20,
            path_bytes: 4096,
            xattr_bytes: 64 << 10,
        }
    }
}
