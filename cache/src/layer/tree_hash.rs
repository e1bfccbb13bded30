//! The hash of a tree: one of each entry's facts, then one over all entries in the packer's order. No time is in it, and
//! the order of the stream that a tree came from is not either.

use std::ffi::OsString;

use crate::digest::TreeHash;
use crate::tree::{Kind, Metadata};

/// Keeps these hashes apart from others over the same bytes.
const CONTEXT: &str = "dunnage 2026-11 tree of a layer";

/// What an entry is, beside its path.
#[derive(Debug)]
pub(crate) struct Facts<'a> {
    /// The type letter of its header.
    pub(crate) letter: u8,
    pub(crate) metadata: &'a Metadata,
    /// Text of a link, or path of the file that a hard link names.
    pub(crate) link: &'a [u8],
    pub(crate) xattrs: &'a [(OsString, Vec<u8>)],
    pub(crate) size: u64,
}

/// Takes entries in the packer's order.
#[derive(Debug)]
pub(crate) struct TreeHasher {
    tree: blake3::Hasher,
    facts: Vec<u8>,
}

impl TreeHasher {
    pub(crate) fn new() -> Self {
        TreeHasher { tree: blake3::Hasher::new_derive_key(CONTEXT), facts: Vec::new() }
    }

    /// `content` is the hash of a file's bytes.
    pub(crate) fn entry(&mut self, path: &[u8], facts: &Facts<'_>, content: &blake3::Hash) {
        let metadata = facts.metadata;
        let rdev = if matches!(metadata.kind, Kind::CharDevice | Kind::BlockDevice) { metadata.rdev } else { 0 };
        self.facts.clear();
        self.facts.push(facts.letter);
        for id in [metadata.mode, metadata.uid, metadata.gid] {
            self.facts.extend_from_slice(&id.to_le_bytes());
        }
        self.facts.extend_from_slice(&rdev.to_le_bytes());
        self.field(facts.link);
        self.facts.extend_from_slice(&(facts.xattrs.len() as u64).to_le_bytes());
        for (name, value) in facts.xattrs {
            self.field(name.as_encoded_bytes());
            self.field(value);
        }
        self.facts.extend_from_slice(&facts.size.to_le_bytes());
        self.facts.extend_from_slice(content.as_bytes());
        let entry = blake3::hash(&self.facts);
        self.tree.update(&(path.len() as u64).to_le_bytes());
        self.tree.update(path);
        self.tree.update(entry.as_bytes());
    }

    /// With its length before it: what follows cannot be taken for a part of it.
    fn field(&mut self, bytes: &[u8]) {
        self.facts.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        self.facts.extend_from_slice(bytes);
    }

    pub(crate) fn finish(self) -> TreeHash {
        TreeHash::from_bytes(*self.tree.finalize().as_bytes())
    }
}
