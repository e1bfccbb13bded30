//! What the store holds as a registry: `registry/`, beside the images, for what they cannot keep.
//!
//! ```text
//! registry/blobs/ALGORITHM/HEX            bytes as clients sent them, or as layers were packed for them
//! registry/repositories/NAME/blobs/DIGEST     an empty file: the repository has the blob
//! registry/repositories/NAME/manifests/DIGEST what a manifest is and names; sealed
//! registry/repositories/NAME/tags/TAG         a manifest's digest; sealed
//! registry/uploads/ID                         bytes of an upload so far: they outlive the process
//! ```
//!
//! An image's name in `refs/` decides: a tag or manifest of an image counts while the store has the image under that name.

mod records;
mod sweep;
mod writer;

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

pub use records::{HostedManifest, HostedTag};
pub use writer::HostedWriter;

use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::lease::{Lease, entries};
use crate::reference::Reference;
use crate::store::{Store, sync_directory, write_durably};

/// Longest file name of a repository, so that its images' names fit into one too.
const NAME_LIMIT: usize = 120;

/// The registry's side of a store.
#[derive(Debug, Clone)]
pub struct Hosted {
    store: Store,
}

/// A blob of a repository.
#[derive(Debug, Clone)]
pub struct HostedBlob {
    /// Its digest.
    pub digest: Digest,
    /// Its bytes.
    pub size: u64,
    path: PathBuf,
}

impl HostedBlob {
    /// Opens it.
    ///
    /// # Errors
    /// When it is gone or cannot be read.
    pub fn open(&self) -> Result<File> {
        File::open(&self.path).map_err(Error::path("open", &self.path))
    }
}

impl Store {
    /// What the store holds as a registry.
    pub fn hosted(&self) -> Hosted {
        Hosted { store: self.clone() }
    }

    /// Bytes that may still be written to the store's disk, where that is known.
    pub fn free_space(&self) -> Option<u64> {
        crate::error::free_bytes(self.root())
    }
}

impl Hosted {
    /// Whether a repository can be held: its name has to fit into a file's.
    pub fn can_hold(repository: &Reference) -> bool {
        escape(&repository.place()).len() <= NAME_LIMIT
    }

    fn path(&self, name: &str) -> PathBuf {
        self.store.path("registry").join(name)
    }

    fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.path("blobs").join(digest.algorithm()).join(digest.hex())
    }

    /// A directory of a repository: `blobs`, `manifests` or `tags`.
    fn part(&self, repository: &Reference, part: &str) -> PathBuf {
        self.path("repositories").join(escape(&repository.place())).join(part)
    }

    /// A blob that a repository has.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn blob(&self, repository: &Reference, digest: &Digest) -> Result<Option<HostedBlob>> {
        match exists(&self.part(repository, "blobs").join(digest.to_string()))? {
            true => self.any_blob(digest),
            false => Ok(None),
        }
    }

    fn any_blob(&self, digest: &Digest) -> Result<Option<HostedBlob>> {
        let path = self.blob_path(digest);
        match std::fs::metadata(&path) {
            Ok(metadata) => Ok(Some(HostedBlob { digest: digest.clone(), size: metadata.len(), path })),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::path("read", path)(error)),
        }
    }

    /// Gives a repository the blob of another; false when that one does not have it.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn mount(&self, repository: &Reference, from: &Reference, digest: &Digest) -> Result<bool> {
        let _lock = self.store.shared()?;
        if self.blob(from, digest)?.is_none() {
            return Ok(false);
        }
        self.link(repository, digest)?;
        Ok(true)
    }

    /// Gives a repository a blob that some repository has; false when none does.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn link_blob(&self, repository: &Reference, digest: &Digest) -> Result<bool> {
        let _lock = self.store.shared()?;
        if self.any_blob(digest)?.is_none() {
            return Ok(false);
        }
        self.link(repository, digest)?;
        Ok(true)
    }

    /// Puts a small blob. Durable when it returns.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn put_blob(&self, repository: &Reference, bytes: &[u8]) -> Result<Digest> {
        let digest = Digest::sha256_of(bytes);
        let _lock = self.store.shared()?;
        self.put_bytes(&digest, bytes)?;
        self.link(repository, &digest)?;
        Ok(digest)
    }

    /// Takes a blob from a repository; its bytes go with a garbage collection. False when it was not there.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn unlink_blob(&self, repository: &Reference, digest: &Digest) -> Result<bool> {
        let _lock = self.store.shared()?;
        remove(&self.part(repository, "blobs").join(digest.to_string()))
    }

    /// The repositories that there are, with or without something in them.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn repositories(&self) -> Result<Vec<Reference>> {
        let names = entries(&self.path("repositories"))?;
        Ok(names.iter().filter_map(|(name, _)| unescape(name).parse().ok()).collect())
    }

    /// The caller holds the store's lock.
    fn put_bytes(&self, digest: &Digest, bytes: &[u8]) -> Result<()> {
        let path = self.blob_path(digest);
        make_directory(path.parent().unwrap_or(&path))?;
        write_durably(&path, &self.store.loose_draft()?, bytes)
    }

    /// Says that a repository has a blob, as of now. The caller holds the store's lock.
    fn link(&self, repository: &Reference, digest: &Digest) -> Result<()> {
        let directory = self.part(repository, "blobs");
        make_directory(&directory)?;
        let path = directory.join(digest.to_string());
        let file = File::create(&path).map_err(Error::path("write", &path))?;
        // Its time says how long a blob has waited for its manifest.
        file.set_modified(SystemTime::now()).map_err(Error::path("write", &path))?;
        sync_directory(&directory)
    }

    /// Bytes that are being made here; they go with the lease unless they are committed.
    ///
    /// # Errors
    /// When the draft cannot be made.
    pub fn draft(&self, lease: &Lease) -> Result<HostedWriter> {
        HostedWriter::create(self, lease.draft(), None)
    }
}

/// `/` and `%` escaped, nothing else of a name can be trouble.
fn escape(name: &str) -> String {
    name.replace('%', "%25").replace('/', "%2F")
}

fn unescape(name: &str) -> String {
    name.replace("%2F", "/").replace("%25", "%")
}

fn exists(path: &Path) -> Result<bool> {
    path.try_exists().map_err(Error::path("read", path))
}

/// How deep directories lie below the store's own.
const DEPTH: usize = 4;

/// A directory that is new is made durable with those above it, which may be new too.
fn make_directory(path: &Path) -> Result<()> {
    if exists(path)? {
        return Ok(());
    }
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(Error::path("make", path))?;
    path.ancestors().skip(1).take(DEPTH).try_for_each(sync_directory)
}

fn remove(path: &Path) -> Result<bool> {
    match std::fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::path("remove", path)(error)),
    }
}
