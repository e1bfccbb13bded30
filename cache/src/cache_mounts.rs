//! Cache mounts: directories that steps keep from build to build. They are in no layer and in no key.
//!
//! ```text
//! caches/NAME/            NAME is the hash of what the cache is: its id, its base, its owner and mode
//!   cache.json            the id, for people
//!   N/lock                flock: shared by sharers, exclusive for a locked or private user; its text says who
//!   N/fs/                 copy N of the directory; others than 0 are of private users
//! ```

use std::fs::{DirBuilder, File};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::lease::{entries, is_held, remove_tree};
use crate::store::{Store, lock_file, random_name, write_atomically};
use crate::tree::{Owner, TreeRoot};
use crate::usage::disk_bytes;

/// Most copies of one cache: as many private users at once.
const MOST_COPIES: u32 = 1024;

/// Most bytes of a holder's name that are kept.
const HOLDER_LIMIT: usize = 256;

/// Who may use a cache at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheSharing {
    /// Everybody.
    Shared,
    /// Each user has a copy to itself.
    Private,
    /// One user after the other.
    Locked,
}

/// What a cache is: two specifications that are equal name the same directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheSpec {
    /// Its id.
    pub id: String,
    /// What its first content comes from; empty when it begins empty.
    pub base: String,
    /// Permission bits of the directory; 0755 when absent.
    pub mode: Option<u32>,
    /// Owner of the directory; root when absent.
    pub owner: Option<Owner>,
}

impl CacheSpec {
    /// The directory's name: no id can lead anywhere.
    pub(crate) fn name(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        let owner = self.owner.map(|owner| format!("{}:{}", owner.uid, owner.gid)).unwrap_or_default();
        let mode = self.mode.map(|mode| format!("{mode:o}")).unwrap_or_default();
        for part in [&self.id, &self.base, &mode, &owner] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
        hasher.finalize().to_hex().to_string()
    }
}

/// A cache in use, until it is dropped.
#[derive(Debug)]
pub struct CacheMount {
    directory: PathBuf,
    _lock: File,
}

impl CacheMount {
    /// The directory to mount.
    pub fn directory(&self) -> &Path {
        &self.directory
    }
}

/// A cache that the store holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheMountInfo {
    /// For [`Store::remove_cache_mount`].
    pub name: String,
    /// Its id.
    pub id: String,
    /// Bytes on the disk.
    pub bytes: u64,
    /// Somebody uses it now.
    pub in_use: bool,
    /// Unix seconds at which it was taken last.
    pub used: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct CacheFile {
    id: String,
}

impl Store {
    /// Takes a cache, making it when there is none; `fill` gives a new one its first content. `Err` in the answer names
    /// who holds it.
    ///
    /// # Errors
    /// When it cannot be made or locked.
    pub fn try_cache_mount(
        &self,
        spec: &CacheSpec,
        sharing: CacheSharing,
        holder: &str,
        fill: &dyn Fn(&TreeRoot) -> Result<()>,
    ) -> Result<Result<CacheMount, String>> {
        let directory = self.path("caches").join(spec.name());
        make_private(&directory)?;
        let about = directory.join("cache.json");
        if !about.exists() {
            let bytes = serde_json::to_vec(&CacheFile { id: spec.id.clone() })
                .map_err(|error| Error::document("the cache's record", error))?;
            write_atomically(&about, &directory.join(format!(".{}", random_name()?)), &bytes)?;
        }
        let copies = if sharing == CacheSharing::Private { MOST_COPIES } else { 1 };
        for copy in 0..copies {
            let copy = Copy { path: directory.join(copy.to_string()), spec };
            if let Some(mount) = copy.take(sharing, holder, fill)? {
                return Ok(Ok(mount));
            }
        }
        let text = std::fs::read_to_string(directory.join("0/lock")).unwrap_or_default();
        Ok(Err(text.trim().to_owned()))
    }

    /// The caches of the store.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn cache_mounts(&self) -> Result<Vec<CacheMountInfo>> {
        let mut found = Vec::new();
        for (name, path) in entries(&self.path("caches"))? {
            let about = std::fs::read(path.join("cache.json")).unwrap_or_default();
            let id = serde_json::from_slice(&about).map(|file: CacheFile| file.id).unwrap_or_default();
            let mut info = CacheMountInfo { name, id, bytes: disk_bytes(&path)?, in_use: false, used: 0 };
            for lock in locks(&path)? {
                info.in_use |= is_held(&lock)?;
                let taken = std::fs::metadata(&lock).map(|metadata| metadata.mtime()).unwrap_or(0);
                info.used = info.used.max(u64::try_from(taken).unwrap_or(0));
            }
            found.push(info);
        }
        Ok(found)
    }

    /// Removes a cache and gives the bytes that this freed; `None` when somebody uses it, or it is not there.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn remove_cache_mount(&self, name: &str) -> Result<Option<u64>> {
        let Some((_, path)) = entries(&self.path("caches"))?.into_iter().find(|(there, _)| there == name) else {
            return Ok(None);
        };
        // Held until the directory is away from its name: whoever waits for a lock then finds that it is another file.
        let mut held = Vec::new();
        for lock in locks(&path)? {
            let file = File::open(&lock).map_err(Error::path("open", &lock))?;
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => held.push(file),
                Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
                Err(errno) => return Err(Error::errno("lock", &lock)(errno)),
            }
        }
        let doomed = self.path("drafts").join(format!("pruned-{}", random_name()?));
        std::fs::rename(&path, &doomed).map_err(Error::path("remove", &path))?;
        drop(held);
        remove_tree(&doomed).map(Some)
    }
}

fn locks(cache: &Path) -> Result<Vec<PathBuf>> {
    let copies = entries(cache)?.into_iter().map(|(_, path)| path.join("lock"));
    Ok(copies.filter(|lock| lock.is_file()).collect())
}

/// One copy of a cache.
struct Copy<'a> {
    path: PathBuf,
    spec: &'a CacheSpec,
}

impl Copy<'_> {
    /// `None` while somebody holds it in a way that excludes this one.
    fn take(
        &self,
        sharing: CacheSharing,
        holder: &str,
        fill: &dyn Fn(&TreeRoot) -> Result<()>,
    ) -> Result<Option<CacheMount>> {
        let directory = self.path.join("fs");
        loop {
            make_private(&self.path)?;
            let path = self.path.join("lock");
            let mut file = lock_file(&path)?;
            let shares = sharing == CacheSharing::Shared && directory.exists();
            if !try_lock(&file, &path, !shares)? {
                return Ok(None);
            }
            // It may have been removed between the look and the lock: the name then leads elsewhere or nowhere.
            if !is_same_file(&file, &path) {
                continue;
            }
            if !directory.exists() {
                if shares {
                    continue;
                }
                self.make(&directory, fill)?;
            }
            // A lock that changes its kind is given up for a moment; whoever comes in between is waited for.
            if sharing == CacheSharing::Shared && !shares && !try_lock(&file, &path, false)? {
                return Ok(None);
            }
            let text: String = holder.chars().take(HOLDER_LIMIT).filter(|c| !c.is_control()).collect();
            let written = file.set_len(0).and_then(|()| file.write_all(text.as_bytes()));
            written.map_err(Error::path("write", &path))?;
            return Ok(Some(CacheMount { directory, _lock: file }));
        }
    }

    /// Appears whole or not at all.
    fn make(&self, directory: &Path, fill: &dyn Fn(&TreeRoot) -> Result<()>) -> Result<()> {
        let draft = self.path.join("fs.new");
        remove_tree(&draft)?;
        std::fs::create_dir(&draft).map_err(Error::path("make", &draft))?;
        rustix::fs::chmod(&draft, Mode::from_raw_mode(0o755)).map_err(Error::errno("make", &draft))?;
        fill(&TreeRoot::open(&draft)?)?;
        if let Some(owner) = self.spec.owner {
            let fd = rustix::fs::open(&draft, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
            fd.and_then(|fd| crate::owner::set(&fd, owner)).map_err(Error::errno("own", &draft))?;
        }
        if let Some(mode) = self.spec.mode {
            rustix::fs::chmod(&draft, Mode::from_raw_mode(mode)).map_err(Error::errno("make", &draft))?;
        }
        std::fs::rename(&draft, directory).map_err(Error::path("make", directory))
    }
}

fn make_private(directory: &Path) -> Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(Error::path("make", directory))
}

pub(crate) fn try_lock(file: &File, path: &Path, exclusive: bool) -> Result<bool> {
    let operation =
        if exclusive { FlockOperation::NonBlockingLockExclusive } else { FlockOperation::NonBlockingLockShared };
    match flock(file, operation) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
        Err(errno) => Err(Error::errno("lock", path)(errno)),
    }
}

pub(crate) fn is_same_file(file: &File, path: &Path) -> bool {
    let (Ok(one), Ok(other)) = (file.metadata(), std::fs::metadata(path)) else { return false };
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn spec(id: &str) -> CacheSpec {
        CacheSpec { id: id.to_owned(), base: String::new(), mode: None, owner: None }
    }

    fn take(store: &Store, id: &str, sharing: CacheSharing) -> Result<CacheMount, String> {
        store.try_cache_mount(&spec(id), sharing, "RUN one", &|_| Ok(())).unwrap()
    }

    #[test]
    fn builder_r03_sharers_share_locked_users_exclude_and_private_ones_have_copies() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let shared = take(&store, "a", CacheSharing::Shared).unwrap();
        let another = take(&store, "a", CacheSharing::Shared).unwrap();
        assert_eq!(shared.directory(), another.directory());
        assert_eq!(take(&store, "a", CacheSharing::Locked).unwrap_err(), "RUN one");
        let private = take(&store, "a", CacheSharing::Private).unwrap();
        assert_ne!(private.directory(), shared.directory());
        drop((shared, another));
        // A process that a test beside this one starts has their descriptors until it executes something.
        let mut locked = None;
        testdata::until("it is free", || {
            locked = take(&store, "a", CacheSharing::Locked).ok();
            locked.is_some()
        });
        assert!(take(&store, "a", CacheSharing::Shared).is_err());
        assert!(take(&store, "b", CacheSharing::Locked).is_ok());
        drop((locked, private));
        // The first free copy, with what it held.
        testdata::until("it is free", || {
            take(&store, "a", CacheSharing::Private).unwrap().directory().ends_with("0/fs")
        });
    }

    #[test]
    fn builder_r02_content_is_filled_once_and_stays_until_the_cache_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let filled = std::cell::Cell::new(0);
        let take = || {
            let fill = |_: &TreeRoot| {
                filled.set(filled.get() + 1);
                Ok(())
            };
            store.try_cache_mount(&spec("../../x"), CacheSharing::Shared, "RUN", &fill).unwrap().unwrap()
        };
        let mount = take();
        std::fs::write(mount.directory().join("kept"), vec![1; 10_000]).unwrap();
        let listed = store.cache_mounts().unwrap();
        let [info] = listed.as_slice() else { unreachable!("{listed:?}") };
        assert!(info.id == "../../x" && info.in_use && info.bytes >= 10_000 && info.used > 0, "{info:?}");
        assert_eq!(store.remove_cache_mount(&info.name).unwrap(), None);
        drop(mount);
        assert!(take().directory().join("kept").exists());
        assert_eq!(filled.get(), 1);
        assert!(store.remove_cache_mount(&info.name).unwrap().unwrap() >= 10_000);
        assert_eq!(store.remove_cache_mount("../layers").unwrap(), None);
        assert!(store.cache_mounts().unwrap().is_empty());
        assert!(!take().directory().join("kept").exists());
    }

    #[test]
    fn a_half_made_cache_is_made_anew() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let failing = |root: &TreeRoot| {
            root.write_bytes(
                Path::new("half"),
                b"x",
                &crate::Attributes {
                    mode: 0o600,
                    owner: Owner { uid: rustix::process::getuid().as_raw(), gid: rustix::process::getgid().as_raw() },
                    mtime_ns: 0,
                    xattrs: Vec::new(),
                },
            )?;
            Err(Error::document("a seed", "broken"))
        };
        assert!(store.try_cache_mount(&spec("a"), CacheSharing::Shared, "RUN", &failing).is_err());
        let mount = take(&store, "a", CacheSharing::Shared).unwrap();
        assert!(!mount.directory().join("half").exists());
    }
}
