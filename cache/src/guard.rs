//! The guard of a layer, `guard.json` beside it: a copy of its record, and a hash of what `stat` says of each entry of its tree.
//!
//! Reading all content at every use is too dear. The guard sees every change that goes through the file system, also one
//! that keeps size and mtime, for it moves ctime. It does not see a disk that gives other bytes than were written: that is
//! found when a layer is exported, which hashes it, and by `system check`, which reads everything.

use std::ffi::CString;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RawDir, Stat, fstat, openat, statat};
use serde::{Deserialize, Serialize};

use crate::digest::DiffId;
use crate::error::{Error, Result};
use crate::layer::Layer;
use crate::sealed::{seal, unseal};
use crate::store::{Store, write_atomically};

const RECORD: &str = "layer.json";
const GUARD: &str = "guard.json";

/// `guard.json`.
#[derive(Debug, Serialize, Deserialize)]
struct Guard {
    /// The text of `layer.json`.
    record: String,
    /// See [`guard_of`].
    tree: Option<String>,
}

/// What a look at a layer's record and guard gave.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Sight {
    /// Both are as they were written, and so is the tree as far as `stat` tells.
    Sound,
    /// The record was damaged; the guard has a copy.
    RecordDamaged,
    /// An entry of the tree is not as it was, or the store was copied: only reading everything can tell.
    TreeTouched,
    /// The guard is damaged or missing: only reading everything can tell.
    NoGuard,
}

/// Writes the guard of a layer that is being made; its record is there.
pub(crate) fn write(directory: &Path) -> Result<()> {
    let path = directory.join(RECORD);
    let record = std::fs::read_to_string(&path).map_err(Error::path("read", &path))?;
    let tree = directory.join("fs");
    let tree = guard_of(&tree).map_err(Error::path("read", &tree))?;
    let bytes = seal("the layer's guard", &Guard { record, tree })?;
    write_atomically(&directory.join(GUARD), &directory.join(".guard.json"), &bytes)
}

fn read(directory: &Path) -> Option<Guard> {
    std::fs::read(directory.join(GUARD)).ok().and_then(|bytes| unseal(&bytes))
}

/// Whether a tree of so many entries has a guard.
pub(crate) fn watches(entries: u64) -> bool {
    entries <= MOST_ENTRIES as u64
}

/// Whether a change that `stat` shows in a layer's tree would be taken for damage.
pub(crate) fn watches_tree(directory: &Path) -> bool {
    read(directory).is_none_or(|guard| guard.tree.is_some())
}

/// Looks at a layer without reading its files.
pub(crate) fn look(directory: &Path) -> Sight {
    let Some(guard) = read(directory) else { return Sight::NoGuard };
    if !std::fs::read(directory.join(RECORD)).is_ok_and(|bytes| bytes == guard.record.as_bytes()) {
        return Sight::RecordDamaged;
    }
    let touched = guard.tree.is_some() && guard_of(&directory.join("fs")).ok().flatten() != guard.tree;
    if touched { Sight::TreeTouched } else { Sight::Sound }
}

impl Store {
    /// A layer, when what can be seen of it without reading its files is sound. A damaged one is put aside.
    pub(crate) fn sound_layer(&self, id: &DiffId) -> Result<Option<Layer>> {
        let directory = self.path("layers").join(id.hex());
        let sight = look(&directory);
        if sight == Sight::Sound {
            let layer = self.read_layer(id)?;
            if layer.is_some() {
                return Ok(layer);
            }
            // What it stands on is gone, unless it is the record alone that cannot be read.
            if let Some(base) = self.named_base(id)
                && self.sound_layer(&base)?.is_some()
                && let Some(layer) = self.read_layer(id)?
            {
                return Ok(Some(layer));
            }
        }
        if !directory.exists() {
            return Ok(None);
        }
        if sight == Sight::RecordDamaged {
            self.restore_record(&directory)?;
            self.notice(format!("the record of layer {id} was damaged and has been written anew"));
            if look(&directory) == Sight::Sound {
                return self.read_layer(id);
            }
        }
        // A store that was copied looks like this too: its content decides.
        if let Err(why) = self.verify_layer(id.hex())? {
            let short: String = id.hex().chars().take(12).collect();
            self.set_aside_with_notice(&directory, "layer", || {
                format!("layer {short} was damaged and is in quarantine: {why}")
            });
            return Ok(None);
        }
        write(&directory)?;
        self.read_layer(id)
    }

    /// Writes a layer's record from the copy in its guard.
    pub(crate) fn restore_record(&self, directory: &Path) -> Result<()> {
        let Some(guard) = read(directory) else { return Ok(()) };
        write_atomically(&directory.join(RECORD), &directory.join(".layer.json"), guard.record.as_bytes())
    }
}

/// Trees with more entries have no guard: looking at it would be felt at each rebuild.
const MOST_ENTRIES: usize = 1000;

/// The guard of a tree; none for a large one.
fn guard_of(tree: &Path) -> io::Result<Option<String>> {
    let root = openat(CWD, tree, DIRECTORY, Mode::empty())?;
    let mut hasher = blake3::Hasher::new();
    let mut left = MOST_ENTRIES;
    add(&mut hasher, &fstat(&root)?);
    Ok(walk(&root, &mut hasher, &mut left)?.then(|| hasher.finalize().to_hex().to_string()))
}

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Each name from its own directory: of a long path the kernel would look up every part again.
fn walk(directory: &OwnedFd, hasher: &mut blake3::Hasher, left: &mut usize) -> io::Result<bool> {
    for Name { name, link } in names(directory)? {
        let Some(fewer) = left.checked_sub(1) else { return Ok(false) };
        *left = fewer;
        hasher.update(&(name.count_bytes() as u64).to_le_bytes());
        hasher.update(name.to_bytes());
        if let Some(number) = link {
            hasher.update(&number.to_le_bytes());
            continue;
        }
        let stat = statat(directory, &name, AtFlags::SYMLINK_NOFOLLOW)?;
        add(hasher, &stat);
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            let below = openat(directory, &name, DIRECTORY, Mode::empty())?;
            if !walk(&below, hasher, left)? {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// An entry of a directory. A link cannot be written: another text is another link, which has a number of its own and
/// moves the times of its directory. So what the directory says of it is enough.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Name {
    name: CString,
    link: Option<u64>,
}

fn names(directory: &OwnedFd) -> io::Result<Vec<Name>> {
    let mut buffer = [MaybeUninit::uninit(); 8 << 10];
    let mut entries = RawDir::new(directory, &mut buffer);
    let mut names = Vec::new();
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            let link = (entry.file_type() == FileType::Symlink).then(|| entry.ino());
            names.push(Name { name: name.to_owned(), link });
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// What `stat` says of an entry, but for what changes with its use.
fn add(hasher: &mut blake3::Hasher, stat: &Stat) {
    let numbers = [stat.st_ino, u64::from(stat.st_mode), stat.st_size.unsigned_abs()];
    let times = [stat.st_mtime, stat.st_mtime_nsec.cast_signed(), stat.st_ctime, stat.st_ctime_nsec.cast_signed()];
    for bytes in numbers.map(u64::to_le_bytes).into_iter().chain(times.map(i64::to_le_bytes)) {
        hasher.update(&bytes);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_change_that_keeps_size_and_time_is_seen() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("d/f");
        std::fs::create_dir(directory.path().join("d")).unwrap();
        std::fs::write(&file, "one").unwrap();
        let before = guard_of(directory.path()).unwrap();
        assert!(before.is_some());
        assert_eq!(guard_of(directory.path()).unwrap(), before);
        let time = std::fs::metadata(&file).unwrap().modified().unwrap();
        // The kernel's clock of file times ticks in milliseconds.
        std::thread::sleep(std::time::Duration::from_millis(20));
        std::fs::write(&file, "two").unwrap();
        std::fs::File::options().write(true).open(&file).unwrap().set_modified(time).unwrap();
        assert_ne!(guard_of(directory.path()).unwrap(), before);
    }

    #[test]
    fn another_link_is_seen() {
        let directory = tempfile::tempdir().unwrap();
        let link = directory.path().join("l");
        std::os::unix::fs::symlink("one", &link).unwrap();
        let before = guard_of(directory.path()).unwrap();
        std::fs::remove_file(&link).unwrap();
        std::os::unix::fs::symlink("two", &link).unwrap();
        assert_ne!(guard_of(directory.path()).unwrap(), before);
    }

    #[test]
    fn a_large_tree_has_none() {
        let directory = tempfile::tempdir().unwrap();
        for number in 0..=MOST_ENTRIES {
            std::fs::write(directory.path().join(number.to_string()), "").unwrap();
        }
        assert_eq!(guard_of(directory.path()).unwrap(), None);
    }
}
