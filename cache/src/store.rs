//! The store's directory, and the locks that let many processes share it.
//!
//! ```text
//! root/                     0700
//!   format                  the layout's version, twice: damage is not taken for a newer version
//!   generation              a counter that each garbage collection raises
//!   index.db                SQLite: makes lists and pruning fast; made anew from the rest whenever it is not sound
//!   uses.log                uses that are not in the index yet, a line a command
//!   lock                    flock: shared around "look up and pin" and commits, exclusive while prune marks and sweeps
//!   blobs/sha256/HEX        content by digest
//!   layers/HEX/             a layer by diff id, whole or not there: renamed into place after it is on the disk
//!     fs/                   its tree in overlay form: whiteouts are devices 0:0, opaque directories carry an attribute
//!     original.split        gives the exact bytes of a foreign layer back, from its tree; see layer/split.rs
//!     displaced/K           files that later entries of its own archive displaced, for the split
//!     layer.json            diff id, tree hash, size, time
//!   deltas/HEX              link: the layer that this one stands on, of which it has what differs; see layer/delta.rs
//!   trees/HASH              small file: the diff id that has this tree
//!   images/HEX.json         exact configuration bytes by image id
//!   refs/NAME               small file: the image id that a name points at; NAME has / escaped
//!   records/KK/KEY.json     what a step with this key gave
//!   packings/HEX.json       what a layer is packed as in registries, and where it was seen there
//!   downloads/HASH.json    what a URL gave the last time: blob, ETag, Last-Modified
//!   stats/HASH              hashes of a context's files by device, inode, size and times
//!   drafts/LEASE/           what is being made; swept when the holder of LEASE is dead
//!   leases/LEASE            flock held by a living process; lists the layers it works with
//!   caches/NAME/N/fs        cache mounts of RUN steps, see `cache_mounts.rs`
//!   claims                  byte locks: which steps are being performed
//!   containers/ID/          writable trees of containers
//!   builds/TIME-ID/         records and logs of builds
//!   memory/HASH/            what builds of a Dockerfile saw last
//!   overlay                 which kernel and mount overlay was seen to work with
//!   namespace               the processes of a user without rights that share a user namespace (`runtime/src/userns/members.rs`)
//!   networks/NAME/          network.json, and who is on it: `endpoints/ID`, locked by the living
//!   volumes/NAME/           `_data`, and volume.json
//!   registry/               what `registry serve` keeps, see `hosted/`
//!   lists/NAME              lists of manifests that are being put together
//!   quarantine/             damaged content, put aside
//!   stubs/, empty/          the mount-point layer of sandboxes, and an empty directory
//! ```
//!
//! Truth is files named by digest and small reference files. A commit writes a draft, flushes it, checks it, renames it,
//! and flushes the directory: what was acknowledged is durable, and nothing is ever half visible.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use rustix::fs::{FlockOperation, IFlags, Mode, OFlags, flock, ioctl_getflags, ioctl_setflags};

use crate::digest::CacheKey;
use crate::error::{Error, Result, free_bytes};
use crate::failpoint::failpoint;
use crate::lease::{self, Lease};
use crate::owner;
use crate::snapshot::StorageDriver;

/// The layout's version. 1 was that of previews: it held whole copies of foreign layers, and other tree hashes. 2 had no
/// layers that stand on others: all else of it is the same, so that it becomes 3 when it is opened.
const FORMAT: u32 = 3;
const WITHOUT_DELTAS: u32 = 2;

const DIRECTORIES: [&str; 14] = [
    "blobs/sha256",
    "layers",
    "trees",
    "images",
    "refs",
    "records",
    "stats",
    "drafts",
    "leases",
    "containers",
    "volumes",
    "quarantine",
    "stubs",
    "empty",
];

/// The mark of a store in which owners are recorded.
const RECORDED_OWNERS: &str = "recorded-owners";

/// A handle on a store. Cheap to clone; any number of processes may hold one.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<Inner>,
    driver: StorageDriver,
}

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    /// Opened at the first use.
    index: Mutex<Option<rusqlite::Connection>>,
    /// Records used by this process and not yet written to the index, in order.
    used_records: Mutex<Vec<CacheKey>>,
    /// What was found damaged and not yet told.
    notices: Mutex<Vec<String>>,
}

/// The store's lock, held for as long as this lives.
#[derive(Debug)]
pub(crate) struct StoreLock {
    _file: File,
}

impl Store {
    /// Opens a store, making it when there is none, and sweeps what dead processes left.
    ///
    /// # Errors
    /// When the directory cannot be made, or a newer version wrote it.
    pub fn open(root: &Path) -> Result<Store> {
        let store = Store {
            inner: Arc::new(Inner {
                root: root.to_owned(),
                index: Mutex::default(),
                used_records: Mutex::default(),
                notices: Mutex::default(),
            }),
            driver: StorageDriver::default(),
        };
        if !root.join("format").exists() {
            store.create()?;
        }
        store.check_owner()?;
        store.check_format()?;
        store.check_ids()?;
        lease::sweep(&store)?;
        Ok(store)
    }

    /// A directory that others can write could hold anything, links to other places among it.
    fn check_owner(&self) -> Result<()> {
        let metadata = std::fs::metadata(self.root()).map_err(Error::path("open the store", self.root()))?;
        if metadata.permissions().mode() & 0o022 != 0 {
            return Err(Error::OpenToOthers(self.root().to_owned()));
        }
        let owner = metadata.uid();
        if owner != rustix::process::geteuid().as_raw() {
            return Err(Error::OfAnother { root: self.root().to_owned(), owner });
        }
        Ok(())
    }

    fn check_format(&self) -> Result<()> {
        let path = self.path("format");
        let found = std::fs::read(&path).map_err(Error::path("read", &path))?;
        if found == format_text(FORMAT) || found == FORMAT.to_string().as_bytes() {
            return Ok(());
        }
        if found == format_text(WITHOUT_DELTAS) || found == WITHOUT_DELTAS.to_string().as_bytes() {
            let _lock = self.exclusive()?;
            return self.write_format();
        }
        let text = String::from_utf8_lossy(&found);
        let version = text.lines().next().and_then(|line| line.parse::<u32>().ok());
        if let Some(version) = version.filter(|version| found == format_text(*version) || !text.contains('\n')) {
            if version < FORMAT {
                return Err(Error::PreviewFormat { root: self.root().to_owned() });
            }
            return Err(Error::NewerFormat { root: self.root().to_owned(), found: version.to_string(), known: FORMAT });
        }
        // Whole, it would be two equal lines.
        let _lock = self.exclusive()?;
        self.put_aside(&path, "format")?;
        self.notice("the store's format file was damaged and has been written anew".to_owned());
        self.write_format()
    }

    /// A store that was made with one id goes on recording owners, whatever ids there are later: what is recorded stays
    /// readable. One that was made with more needs them.
    fn check_ids(&self) -> Result<()> {
        if self.path(RECORDED_OWNERS).exists() {
            owner::record_from_now_on();
        } else if owner::has_few_ids() {
            return Err(Error::FewIds { root: self.root().to_owned() });
        }
        Ok(())
    }

    fn write_format(&self) -> Result<()> {
        write_durably(&self.path("format"), &self.loose_draft()?, &format_text(FORMAT))
    }

    fn create(&self) -> Result<()> {
        let root = self.root();
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder.create(root).map_err(Error::path("make the store", root))?;
        spread(root);
        failpoint("store.create")?;
        for name in DIRECTORIES {
            builder.create(root.join(name)).map_err(Error::path("make", root.join(name)))?;
        }
        let _lock = self.lock(FlockOperation::LockExclusive)?;
        if !root.join("format").exists() {
            let bytes = crate::sealed::seal("the generation", &1_u64)?;
            write_durably(&self.path("generation"), &self.loose_draft()?, &bytes)?;
            if owner::has_few_ids() {
                File::create(root.join(RECORDED_OWNERS)).map_err(Error::path("make", root.join(RECORDED_OWNERS)))?;
            }
            failpoint("store.format")?;
            self.write_format()?;
        }
        Ok(())
    }

    /// Where the store is.
    pub fn root(&self) -> &Path {
        &self.inner.root
    }

    /// The same store, with snapshots made by this driver.
    #[must_use]
    pub fn with_storage_driver(&self, driver: StorageDriver) -> Store {
        Store { inner: Arc::clone(&self.inner), driver }
    }

    /// What makes snapshots.
    pub fn storage_driver(&self) -> StorageDriver {
        self.driver
    }

    /// Takes a lease: what is pinned through it is not pruned while it lives.
    ///
    /// # Errors
    /// When its file cannot be made.
    pub fn lease(&self) -> Result<Lease> {
        Lease::take(self)
    }

    /// The place for the mount points of sandboxes, a lower layer; the runtime makes it.
    pub fn mount_points_dir(&self) -> PathBuf {
        self.root().join("stubs").join("v1")
    }

    /// An empty directory, for mounts that need one layer more.
    pub fn empty_dir(&self) -> PathBuf {
        self.root().join("empty")
    }

    /// How much room the store's disk has, in words for a user whose program found too little.
    pub fn room(&self) -> String {
        let free = free_bytes(self.root()).map_or_else(|| "few".to_owned(), |bytes| bytes.to_string());
        format!("{free} bytes are free on the disk of the store {}: make room there", self.root().display())
    }

    pub(crate) fn index(&self) -> &Mutex<Option<rusqlite::Connection>> {
        &self.inner.index
    }

    pub(crate) fn used_records(&self) -> &Mutex<Vec<CacheKey>> {
        &self.inner.used_records
    }

    pub(crate) fn notices(&self) -> &Mutex<Vec<String>> {
        &self.inner.notices
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root().join(name)
    }

    /// A place for a small file that becomes another at once. The caller holds the store's lock: what lies here while
    /// nobody holds it was left by a process that died.
    pub(crate) fn loose_draft(&self) -> Result<PathBuf> {
        Ok(self.path("drafts").join(format!("loose-{}", random_name()?)))
    }

    pub(crate) fn shared(&self) -> Result<StoreLock> {
        self.lock(FlockOperation::LockShared)
    }

    pub(crate) fn exclusive(&self) -> Result<StoreLock> {
        self.lock(FlockOperation::LockExclusive)
    }

    fn lock(&self, operation: FlockOperation) -> Result<StoreLock> {
        let path = self.path("lock");
        let file = lock_file(&path)?;
        failpoint("store.lock")?;
        loop {
            match flock(&file, operation) {
                Ok(()) => return Ok(StoreLock { _file: file }),
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(Error::errno("lock", &path)(errno)),
            }
        }
    }
}

/// Asks ext4 to put what is made in this directory apart from each other (chattr(1), `T`): who makes files where many were
/// removed within the last seconds passes over these one by one, and what is next to a store, or in another part of it, may
/// be busy with that. File systems that know no such mark need none.
fn spread(directory: &Path) {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(directory) = rustix::fs::open(directory, flags, Mode::empty()) else { return };
    if let Ok(flags) = ioctl_getflags(&directory) {
        // Who is not the owner's superuser may be refused, and goes without.
        let _ = ioctl_setflags(&directory, flags | IFlags::TOPDIR);
    }
}

fn format_text(version: u32) -> Vec<u8> {
    format!("{version}\n{version}\n").into_bytes()
}

/// Writes a small file so that it is either whole or as it was: draft, flush, rename, flush the directory.
pub(crate) fn write_durably(path: &Path, draft: &Path, bytes: &[u8]) -> Result<()> {
    write_file(path, draft, bytes, true)
}

/// The same without the flushes, for what may be lost in a power cut: atomic for readers all the same.
pub(crate) fn write_atomically(path: &Path, draft: &Path, bytes: &[u8]) -> Result<()> {
    write_file(path, draft, bytes, false)
}

fn write_file(path: &Path, draft: &Path, bytes: &[u8], flush: bool) -> Result<()> {
    let written = (|| -> io::Result<()> {
        failpoint("file.create")?;
        let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(draft)?;
        failpoint("file.write")?;
        file.write_all(bytes)?;
        if flush {
            failpoint("file.flush")?;
            file.sync_data()?;
        }
        failpoint("file.rename")?;
        std::fs::rename(draft, path)
    })();
    if let Err(error) = written {
        // The error of the write is the one to tell; a draft that stays is swept with its lease.
        let _ = std::fs::remove_file(draft);
        return Err(Error::at("write", path, error).needing(bytes.len() as u64));
    }
    if !flush {
        return Ok(());
    }
    failpoint("file.dirsync")?;
    sync_directory(path.parent().unwrap_or(path))
}

/// A file that is there to be locked, or to be written by who has locked it; made where there is none.
pub(crate) fn lock_file(path: &Path) -> Result<File> {
    let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path);
    file.map_err(Error::path("open", path))
}

/// Makes the names in a directory durable.
pub(crate) fn sync_directory(directory: &Path) -> Result<()> {
    File::open(directory).and_then(|file| file.sync_all()).map_err(Error::path("flush", directory))
}

/// 128 random bits as text: names of drafts and leases.
pub(crate) fn random_name() -> Result<String> {
    random_hex(16)
}

/// Random bytes as hexadecimal text.
///
/// # Errors
/// When the kernel gives none.
pub fn random_hex(count: usize) -> Result<String> {
    let mut bytes = vec![0_u8; count];
    let mut filled = 0;
    while filled < count {
        let rest = bytes.get_mut(filled..).unwrap_or_default();
        match rustix::rand::getrandom(rest, rustix::rand::GetRandomFlags::empty()) {
            Ok(got) => filled += got,
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(Error::errno("read randomness for", "a name")(errno)),
        }
    }
    Ok(crate::digest::hex(&bytes))
}

/// Unix seconds.
pub(crate) fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH).map_or(0, |now| now.as_secs())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_private_and_opens_twice() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("store");
        Store::open(&root).unwrap();
        assert_eq!(std::fs::metadata(&root).unwrap().permissions().mode() & 0o777, 0o700);
        Store::open(&root).unwrap();
    }

    #[test]
    fn a_newer_store_and_a_preview_s_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        Store::open(directory.path()).unwrap();
        std::fs::write(directory.path().join("format"), "99").unwrap();
        assert!(matches!(Store::open(directory.path()), Err(Error::NewerFormat { .. })));
        std::fs::write(directory.path().join("format"), "4\n4\n").unwrap();
        assert!(matches!(Store::open(directory.path()), Err(Error::NewerFormat { .. })));
        std::fs::write(directory.path().join("format"), "1\n1\n").unwrap();
        let error = Store::open(directory.path()).unwrap_err();
        assert!(error.is_environment() && error.to_string().contains("preview"), "{error}");
    }

    #[test]
    fn security_f12_a_damaged_format_file_is_no_newer_store() {
        let directory = tempfile::tempdir().unwrap();
        Store::open(directory.path()).unwrap();
        let path = directory.path().join("format");
        let whole = std::fs::read(&path).unwrap();
        for place in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            *bytes.get_mut(place / 8).unwrap() ^= 1 << (place % 8);
            std::fs::write(&path, &bytes).unwrap();
            Store::open(directory.path()).unwrap();
        }
    }

    #[test]
    fn a_store_that_others_can_write_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("store");
        Store::open(&root).unwrap();
        std::fs::set_permissions(&root, std::fs::Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(Store::open(&root), Err(Error::OpenToOthers(_))));
    }
}
