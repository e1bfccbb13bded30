//! What a source of COPY held, file by file: kept when the copy is performed, so that the next build can name the file
//! that changed. One line a path, ended by a zero byte: `f 644 9f86d081884c7d65 src/main.c`.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use cache::{Kind, Metadata};

use crate::select::Selected;
use crate::verdict::{Change, FileChange};

/// A listing that is larger is not kept: then the source is named, and no file.
const LIMIT: usize = 16 << 20;

/// Files that are named; the others are counted.
const NAMED: usize = 20;

/// The listing of a source; `None` for a single file, which its own name tells, and for what is too large.
pub(crate) fn of(selected: &Selected, with_owner: bool) -> Option<Vec<u8>> {
    if selected.metadata.kind != Kind::Directory {
        return None;
    }
    let mut out = Vec::new();
    for entry in &selected.entries {
        let hash = match (&entry.content, &entry.link) {
            (Some(hash), _) => *hash,
            (None, Some(link)) => *blake3::hash(link.as_bytes()).as_bytes(),
            (None, None) => [0; 32],
        };
        line(&mut out, &entry.path, &entry.metadata, &hash, with_owner);
        if out.len() > LIMIT {
            return None;
        }
    }
    Some(out)
}

fn line(out: &mut Vec<u8>, path: &Path, metadata: &Metadata, hash: &[u8; 32], with_owner: bool) {
    let kind = match metadata.kind {
        Kind::File => 'f',
        Kind::Directory => 'd',
        Kind::Symlink => 'l',
        _ => 'o',
    };
    let owner = if with_owner { format!("{}:{}:", metadata.uid, metadata.gid) } else { String::new() };
    let short: String = hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    out.extend_from_slice(format!("{kind} {owner}{:o} {short} ", metadata.mode & 0o7777).as_bytes());
    out.extend_from_slice(path.as_os_str().as_bytes());
    out.push(0);
}

/// The files that differ between two listings of `source`.
pub(crate) fn difference(source: &str, old: &[u8], new: &[u8]) -> Vec<Change> {
    let (old, new) = (parse(old), parse(new));
    let mut found: Vec<(&[u8], FileChange)> = Vec::new();
    for (path, now) in &new {
        match old.get(path) {
            None => found.push((path, FileChange::Added)),
            Some(then) if then == now => {}
            Some((kind, _, _)) if *kind != now.0 => found.push((path, FileChange::Kind)),
            Some((_, _, hash)) if *hash != now.2 => found.push((path, FileChange::Content)),
            Some(_) => found.push((path, FileChange::Mode)),
        }
    }
    found.extend(old.keys().filter(|path| !new.contains_key(*path)).map(|path| (*path, FileChange::Removed)));
    found.sort_unstable_by_key(|(path, _)| *path);
    let more = found.len().saturating_sub(NAMED);
    let named = found.into_iter().take(NAMED).map(|(path, how)| {
        let path = String::from_utf8_lossy(path);
        let path = if source.is_empty() || source == "." { path.into_owned() } else { format!("{source}/{path}") };
        Change::File { path, how }
    });
    let mut changes: Vec<Change> = named.collect();
    if more > 0 {
        changes.push(Change::MoreFiles { count: more as u64 });
    }
    changes
}

/// Kind, mode (with the owner), hash.
type Line<'a> = (&'a [u8], &'a [u8], &'a [u8]);

fn parse(listing: &[u8]) -> BTreeMap<&[u8], Line<'_>> {
    let lines = listing.split(|byte| *byte == 0).filter_map(|line| {
        let mut words = line.splitn(4, |byte| *byte == b' ');
        let (kind, mode, hash) = (words.next()?, words.next()?, words.next()?);
        Some((words.next()?, (kind, mode, hash)))
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_difference_names_each_file_and_what_happened() {
        let old = b"f 644 aa a\0f 644 bb b\0f 644 cc c d\0f 644 ee e\0d 755 00 same\0";
        let new = b"f 644 a2 a\0f 755 bb b\0l 777 cc c d\0f 644 dd new\0d 755 00 same\0";
        let texts: Vec<String> = difference("src", old, new).iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "src/a changed",
                "src/b has another mode or owner",
                "src/c d is of another kind",
                "src/e was removed",
                "src/new was added"
            ]
        );
    }

    #[test]
    fn many_files_are_counted() {
        let new: Vec<u8> = (0..50).flat_map(|n| format!("f 644 aa {n:02}\0").into_bytes()).collect();
        let changes = difference("", b"", &new);
        assert_eq!(changes.len(), NAMED + 1);
        assert_eq!(changes.last(), Some(&Change::MoreFiles { count: 30 }));
    }
}
