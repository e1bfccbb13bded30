//! Bytes on their way into a registry. An upload's outlive the process: it goes on where it was.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use sha2::Digest as _;

use super::{Hosted, HostedBlob, make_directory};
use crate::blob::pass;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::lease::entries;
use crate::reference::Reference;
use crate::store::{random_name, sync_directory};

/// Digits of an upload's name.
const ID_LENGTH: usize = 32;

/// Bytes that have no name yet.
#[derive(Debug)]
pub struct HostedWriter {
    hosted: Hosted,
    path: PathBuf,
    file: File,
    hasher: sha2::Sha256,
    size: u64,
    /// Of an upload.
    id: Option<String>,
}

impl Hosted {
    /// Begins an upload.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn begin_upload(&self) -> Result<HostedWriter> {
        let directory = self.path("uploads");
        make_directory(&directory)?;
        let id = random_name()?;
        HostedWriter::create(self, directory.join(&id), Some(id))
    }

    /// An upload that this process does not know: another one began it.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn resume_upload(&self, id: &str) -> Result<Option<HostedWriter>> {
        if id.len() != ID_LENGTH || !id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return Ok(None);
        }
        let path = self.path("uploads").join(id);
        let mut file = match OpenOptions::new().read(true).append(true).open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::path("open", path)(error)),
        };
        let mut hasher = sha2::Sha256::new();
        let size = pass(&mut file, |bytes| hasher.update(bytes)).map_err(Error::path("read", &path))?;
        Ok(Some(HostedWriter { hosted: self.clone(), path, file, hasher, size, id: Some(id.to_owned()) }))
    }

    /// Removes uploads that nobody went on with for a day.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn expire_uploads(&self) -> Result<()> {
        let _lock = self.store.shared()?;
        for (_, path) in entries(&self.path("uploads"))? {
            if !super::sweep::is_fresh(&path) {
                super::remove(&path)?;
            }
        }
        Ok(())
    }

    /// How many uploads are under way, here and in other processes.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn uploads(&self) -> Result<usize> {
        Ok(entries(&self.path("uploads"))?.len())
    }
}

impl HostedWriter {
    pub(super) fn create(hosted: &Hosted, path: PathBuf, id: Option<String>) -> Result<HostedWriter> {
        let file = OpenOptions::new().create_new(true).append(true).read(true).mode(0o600).open(&path);
        let file = file.map_err(Error::path("write", &path))?;
        Ok(HostedWriter { hosted: hosted.clone(), path, file, hasher: sha2::Sha256::new(), size: 0, id })
    }

    /// The upload's name; empty for other bytes.
    pub fn id(&self) -> &str {
        self.id.as_deref().unwrap_or_default()
    }

    /// Bytes so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Flushes the bytes, checks them against their digest where one is given, and gives them to a repository.
    ///
    /// # Errors
    /// When they are not what was expected, or the disk fails; an upload is over then too.
    pub fn commit(mut self, repository: &Reference, expected: Option<&Digest>) -> Result<HostedBlob> {
        // Whatever comes of it, what is left has no name to go on by.
        self.id = None;
        let found = match expected {
            Some(expected) if expected.algorithm() == "sha512" => self.sha512()?,
            _ => Digest::from_sha256(self.hasher.clone().finalize().as_slice()),
        };
        if let Some(expected) = expected.filter(|expected| **expected != found) {
            return Err(Error::DigestMismatch { expected: expected.clone(), found });
        }
        self.file.sync_all().map_err(Error::path("flush", &self.path))?;
        let path = self.hosted.blob_path(&found);
        let directory = path.parent().unwrap_or(&path).to_owned();
        let _lock = self.hosted.store.shared()?;
        make_directory(&directory)?;
        std::fs::rename(&self.path, &path).map_err(Error::path("write", &path))?;
        sync_directory(&directory)?;
        self.hosted.link(repository, &found)?;
        Ok(HostedBlob { digest: found, size: self.size, path })
    }

    /// Ends an upload that nobody wants any more.
    pub fn discard(mut self) {
        self.id = None;
    }

    fn sha512(&self) -> Result<Digest> {
        let mut hasher = sha2::Sha512::new();
        let mut file = File::open(&self.path).map_err(Error::path("read", &self.path))?;
        pass(&mut file, |bytes| hasher.update(bytes)).map_err(Error::path("read", &self.path))?;
        Ok(Digest::from_sha512(hasher.finalize().as_slice()))
    }
}

impl Write for HostedWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes).map_err(|error| Error::at("write", &self.path, error))?;
        self.hasher.update(bytes.get(..count).unwrap_or_default());
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for HostedWriter {
    fn drop(&mut self) {
        if self.id.is_none() {
            // Nothing is there after a commit; what stays is swept with its lease, or by age.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
