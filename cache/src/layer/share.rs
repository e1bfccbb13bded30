//! Files that a layer takes over from the one that the same step gave before: it stands on that one where it differs in
//! little (see `delta.rs`), and has other names for the same inodes else, where a copy would have to make new ones.
//!
//! Only large layers share: those have no guard, which an inode's change time would break. A file keeps the path that it had,
//! so that one image never shows one inode under two names. And what was taken over is read when the layer is packed and
//! held against the hash that it must have: a damaged file does not live on in a new layer.

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use super::Layer;
use super::delta::Base;
use crate::error::{Error, Result};
use crate::store::Store;
use crate::tree::{Attributes, Kind, Metadata, TreeRoot, metadata_of, xattrs};

/// Hashes that shared files must have, by inode number.
pub(crate) type Shared = HashMap<u64, [u8; 32]>;

/// The layer that a step gave before.
#[derive(Debug)]
pub struct Earlier {
    root: TreeRoot,
    base: Base,
    shared: Mutex<Shared>,
    /// The new layer stands on it.
    stands: AtomicBool,
}

/// One of its directories.
#[derive(Debug)]
pub struct EarlierDirectory<'e> {
    earlier: &'e Earlier,
    root: TreeRoot,
}

/// What a file has to be.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// Its attributes.
    pub attributes: &'a Attributes,
    /// Its bytes.
    pub size: u64,
    /// BLAKE3 of its content.
    pub content: [u8; 32],
}

impl Store {
    /// A layer as one that another, of so many entries or more, shares files with, of a delta what it stands on; `None` where
    /// the files of one of the two must stay untouched. The caller has it pinned.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn earlier(&self, layer: &Layer, entries: u64) -> Result<Option<Earlier>> {
        let own = || Base { id: layer.diff_id.clone(), path: layer.path().to_owned() };
        let base = layer.base.clone().unwrap_or_else(own);
        if crate::guard::watches(entries) || crate::guard::watches_tree(&self.layer_dir(&base.id)) {
            return Ok(None);
        }
        let root = TreeRoot::open(&base.path)?.without_links();
        Ok(Some(Earlier { root, base, shared: Mutex::default(), stands: AtomicBool::default() }))
    }
}

/// How an entry stands to what the layer before has at its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Against {
    /// It is there as it has to be.
    Same,
    /// It is not there, or has to be made anew.
    Differs,
    /// It cannot stand over what is there.
    Clashes,
}

impl Earlier {
    /// A directory of it, when there is one at this very path.
    #[must_use]
    pub fn directory(&self, path: &Path) -> Option<EarlierDirectory<'_>> {
        Some(EarlierDirectory { earlier: self, root: self.root.subtree(path).ok()? })
    }

    /// The layer that is made is only what differs from this one.
    pub fn stand(&self) {
        self.stands.store(true, Ordering::Relaxed);
    }

    /// Nothing was taken from it after all.
    pub fn forget(&self) {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// What the new layer stands on, if it does, and what it shares.
    pub(crate) fn into_parts(self) -> (Option<Base>, Shared) {
        let shared = self.shared.into_inner().unwrap_or_else(PoisonError::into_inner);
        (Some(self.base).filter(|_| self.stands.into_inner()), shared)
    }

    fn share(&self, found: &Metadata, content: [u8; 32]) -> bool {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).insert(found.ino, content).is_none()
    }
}

impl EarlierDirectory<'_> {
    /// Gives `to` the file of this name, when it is as it has to be as far as `stat` tells. Whatever stands in the way, too
    /// many names of one file for instance, leaves it to the caller to write one.
    #[must_use]
    pub fn give(&self, name: &Path, wanted: &Wanted<'_>, to: &TreeRoot) -> bool {
        let name = name.as_os_str();
        let found = self.root.look(name).ok().flatten();
        let Some(found) = found.filter(|found| wanted.is(found)) else { return false };
        if to.link_from(&self.root, name).is_err() {
            return false;
        }
        self.earlier.share(&found, wanted.content);
        true
    }

    /// Whether it has no other names than these.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn has_only(&self, names: &HashSet<&OsStr>) -> Result<bool> {
        Ok(self.root.names()?.iter().all(|name| names.contains(name)))
    }

    /// Whether a file may stay where it is, as far as `stat` tells. What is the same is taken over by the layer that is
    /// made.
    pub fn file(&self, name: &OsStr, wanted: &Wanted<'_>) -> Against {
        match self.root.look(name) {
            Ok(None) => Against::Differs,
            // A second name of a file that the layer has already would have to be one in the new layer as well.
            Ok(Some(found)) if wanted.is(&found) => match self.earlier.share(&found, wanted.content) {
                true => Against::Same,
                false => Against::Clashes,
            },
            Ok(Some(found)) if found.kind == Kind::File => Against::Differs,
            Ok(Some(_)) | Err(_) => Against::Clashes,
        }
    }

    /// The same of a link.
    pub fn link(&self, name: &OsStr, to: &OsStr, attributes: &Attributes) -> Against {
        match self.root.look(name) {
            Ok(None) => Against::Differs,
            Ok(Some(found)) if found.kind == Kind::Symlink => {
                let there: Option<OsString> = self.root.read_link(Path::new(name)).ok();
                let facts = (found.uid, found.gid, found.mtime_ns);
                let same = facts == (attributes.owner.uid, attributes.owner.gid, attributes.mtime_ns);
                if same && there.as_deref() == Some(to) { Against::Same } else { Against::Differs }
            }
            Ok(Some(_)) | Err(_) => Against::Clashes,
        }
    }

    /// The same of a directory, what is in it aside.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn directory(&self, name: &OsStr, attributes: &Attributes) -> Result<Against> {
        match self.root.look(name) {
            Ok(None) => return Ok(Against::Differs),
            Ok(Some(found)) if found.kind == Kind::Directory => {}
            Ok(Some(_)) | Err(_) => return Ok(Against::Clashes),
        }
        let fd = self.root.subtree(Path::new(name))?.readable()?;
        let found = metadata_of(&fd).map_err(Error::errno("read", "a directory"))?;
        let Attributes { mode, owner, mtime_ns, .. } = attributes;
        let facts = (found.mode & 0o7777, found.uid, found.gid, found.mtime_ns);
        let plain =
            attributes.xattrs.is_empty() && xattrs(&fd).map_err(Error::errno("read", "a directory"))?.is_empty();
        let same = plain && facts == (*mode, owner.uid, owner.gid, *mtime_ns);
        Ok(if same { Against::Same } else { Against::Differs })
    }
}

impl Wanted<'_> {
    fn is(&self, found: &Metadata) -> bool {
        let Attributes { mode, owner, mtime_ns, xattrs } = self.attributes;
        let facts = (found.mode & 0o7777, found.uid, found.gid, found.mtime_ns, found.size);
        // The time on the disk is the file system's idea of it: what it keeps coarser is never equal, and copied.
        found.kind == Kind::File && xattrs.is_empty() && facts == (*mode, owner.uid, owner.gid, *mtime_ns, self.size)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::lease::Lease;
    use crate::tree::Owner;
    use crate::{Committed, LayerDraft};

    /// More files than a guard watches.
    const FILES: usize = 1100;

    struct Fixture {
        store: Store,
        lease: Lease,
        _directory: tempfile::TempDir,
    }

    impl Fixture {
        fn new() -> Fixture {
            let directory = tempfile::tempdir().unwrap();
            let store = Store::open(directory.path()).unwrap();
            Fixture { lease: store.lease().unwrap(), store, _directory: directory }
        }

        fn text(number: usize, changed: usize) -> String {
            if number == changed { format!("changed {number}") } else { format!("file {number}") }
        }

        /// Files in `d`, of which one has another content. Gives how many were shared, too.
        fn draft(&self, changed: usize, earlier: Option<&Earlier>) -> (LayerDraft, usize) {
            let draft = self.store.layer_draft(&self.lease).unwrap();
            let root = draft.root().unwrap();
            root.make_dirs(Path::new("d"), 0o755, Owner { uid: 0, gid: 0 }).unwrap();
            root.set_times(Path::new("d"), 0).unwrap();
            let to = root.subtree(Path::new("d")).unwrap();
            let from = earlier.and_then(|earlier| earlier.directory(Path::new("d")));
            let attributes =
                Attributes { mode: 0o644, owner: Owner { uid: 0, gid: 0 }, mtime_ns: 7_000_000_000, xattrs: vec![] };
            let mut shared = 0;
            for number in 0..FILES {
                let (name, text) = (format!("{number}"), Fixture::text(number, changed));
                let (size, content) = (text.len() as u64, *blake3::hash(text.as_bytes()).as_bytes());
                let wanted = Wanted { attributes: &attributes, size, content };
                if from.as_ref().is_some_and(|from| from.give(Path::new(&name), &wanted, &to)) {
                    shared += 1;
                } else {
                    to.write_bytes(Path::new(&name), text.as_bytes(), &attributes).unwrap();
                }
            }
            root.set_times(Path::new("d"), 0).unwrap();
            (draft, shared)
        }

        fn plain(&self, changed: usize) -> Committed {
            let sealed = self.draft(changed, None).0.seal(&self.store, &self.lease, true).unwrap();
            sealed.commit(&self.store, &self.lease).unwrap()
        }
    }

    #[test]
    fn a_layer_with_shared_files_is_the_layer_with_copies() {
        if testdata::skipped(&[testdata::Need::Root]) {
            return;
        }
        let (fixture, other) = (Fixture::new(), Fixture::new());
        let first = fixture.plain(3).layer;
        let earlier = fixture.store.earlier(&first, FILES as u64).unwrap().unwrap();
        let (draft, shared) = fixture.draft(5, Some(&earlier));
        assert_eq!(shared, FILES - 2);
        let second = draft.commit_sharing(&fixture.store, &fixture.lease, earlier).unwrap().unwrap().layer;
        assert_eq!((&second.diff_id, second.tree), (&other.plain(5).layer.diff_id, other.plain(5).layer.tree));
        let file = std::fs::metadata(second.path().join("d/0")).unwrap();
        assert_eq!((file.nlink(), file.ino()), (2, std::fs::metadata(first.path().join("d/0")).unwrap().ino()));
        // The first is what it was, and its bytes are told as far as they go with it.
        assert!(fixture.store.verify_layer(first.diff_id.hex()).unwrap().is_ok());
        let (whole, rest) = (crate::usage::disk_bytes(first.path()), crate::usage::freed_bytes(first.path()));
        assert!(rest.unwrap() < whole.unwrap());
        std::fs::remove_dir_all(first.path()).unwrap();
        assert!(fixture.store.verify_layer(second.diff_id.hex()).unwrap().is_ok());
    }

    #[test]
    fn security_f12_a_damaged_file_is_not_shared() {
        if testdata::skipped(&[testdata::Need::Root]) {
            return;
        }
        let fixture = Fixture::new();
        let first = fixture.plain(3).layer;
        // As a disk does it: size and time stay.
        let file = first.path().join("d/9");
        let time = std::fs::metadata(&file).unwrap().modified().unwrap();
        std::fs::write(&file, "fale 9").unwrap();
        std::fs::File::options().write(true).open(&file).unwrap().set_modified(time).unwrap();
        let earlier = fixture.store.earlier(&first, FILES as u64).unwrap().unwrap();
        let (draft, shared) = fixture.draft(5, Some(&earlier));
        assert_eq!(shared, FILES - 2);
        assert!(draft.commit_sharing(&fixture.store, &fixture.lease, earlier).unwrap().is_none());
    }

    #[test]
    fn a_small_layer_shares_nothing() {
        let fixture = Fixture::new();
        let draft = fixture.store.layer_draft(&fixture.lease).unwrap();
        let attributes = Attributes { mode: 0o644, owner: Owner { uid: 0, gid: 0 }, mtime_ns: 0, xattrs: vec![] };
        if testdata::skipped(&[testdata::Need::Root]) {
            return;
        }
        draft.root().unwrap().write_bytes(Path::new("f"), b"x", &attributes).unwrap();
        let sealed = draft.seal(&fixture.store, &fixture.lease, false).unwrap();
        let layer = sealed.commit(&fixture.store, &fixture.lease).unwrap().layer;
        assert!(fixture.store.earlier(&layer, FILES as u64).unwrap().is_none());
        assert!(fixture.store.earlier(&fixture.plain(3).layer, 1000).unwrap().is_none());
    }
}
