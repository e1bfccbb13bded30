//! Manifests and tags of repositories.

use std::collections::BTreeMap;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{Hosted, exists, make_directory, remove};
use crate::builds::read_bounded;
use crate::descriptor::MediaType;
use crate::digest::{Digest, ImageId};
use crate::error::Result;
use crate::lease::entries;
use crate::reference::Reference;
use crate::sealed::{seal, unseal};
use crate::store::write_durably;

/// Most bytes of a record: one of a manifest has as many digests as that.
const RECORD_LIMIT: u64 = 8 << 20;
/// Most bytes of a manifest.
const MANIFEST_LIMIT: u64 = 4 << 20;

/// What a manifest of a repository is and names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HostedManifest {
    /// Its digest.
    pub digest: Digest,
    /// What it is.
    pub media_type: MediaType,
    /// Its bytes.
    pub size: u64,
    /// The image of the store that it is, or of an index the one for this machine. It counts while the store has that.
    pub image: Option<ImageId>,
    /// It was made from the image, and can be made again.
    pub packed: bool,
    /// Blobs that it names.
    pub blobs: Vec<Digest>,
    /// Manifests that it names.
    pub manifests: Vec<Digest>,
    /// The manifest that it says something of.
    pub subject: Option<Digest>,
    /// What it is as an artifact.
    pub artifact_type: Option<String>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
}

/// What a tag stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostedTag {
    /// The manifest.
    pub digest: Digest,
    /// Its image. With one, the tag counts while the store's name stands for it; without, while there is no such name.
    pub image: Option<ImageId>,
}

impl Hosted {
    /// Puts a manifest. Durable when it returns.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn put_manifest(&self, repository: &Reference, manifest: &HostedManifest, bytes: &[u8]) -> Result<()> {
        let _lock = self.store.shared()?;
        self.put_bytes(&manifest.digest, bytes)?;
        self.put_record(&self.part(repository, "manifests"), &manifest.digest.to_string(), manifest)
    }

    /// What a manifest is.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn manifest(&self, repository: &Reference, digest: &Digest) -> Result<Option<HostedManifest>> {
        let record: Option<HostedManifest> =
            self.record(&self.part(repository, "manifests").join(digest.to_string()))?;
        let Some(record) = record else { return Ok(None) };
        let counts = match &record.image {
            Some(id) => exists(&self.store.image_path(id))?,
            None => true,
        };
        Ok(Some(record).filter(|_| counts))
    }

    /// Its bytes; none where they are gone or damaged.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn manifest_bytes(&self, digest: &Digest) -> Result<Option<Vec<u8>>> {
        let path = self.blob_path(digest);
        let Some(bytes) = read_bounded(&path, MANIFEST_LIMIT)? else { return Ok(None) };
        let found = Digest::like(digest, &bytes);
        if found == *digest {
            return Ok(Some(bytes));
        }
        let sentence = || format!("the manifest {digest} was damaged and is in quarantine; push it again");
        self.store.set_aside_with_notice(&path, "manifest", sentence);
        Ok(None)
    }

    /// All manifests of a repository, by digest.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn manifests(&self, repository: &Reference) -> Result<Vec<HostedManifest>> {
        let mut found = Vec::new();
        for (name, _) in entries(&self.part(repository, "manifests"))? {
            let Ok(digest) = name.parse() else { continue };
            found.extend(self.manifest(repository, &digest)?);
        }
        Ok(found)
    }

    /// Takes a manifest away, and the tags that stand for it; false when it was not there.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn remove_manifest(&self, repository: &Reference, digest: &Digest) -> Result<bool> {
        let _lock = self.store.shared()?;
        for (_, path) in entries(&self.part(repository, "tags"))? {
            if self.record::<HostedTag>(&path)?.is_some_and(|tag| tag.digest == *digest) {
                remove(&path)?;
            }
        }
        remove(&self.part(repository, "manifests").join(digest.to_string()))
    }

    /// Points a tag at a manifest. Durable when it returns.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn put_tag(&self, name: &Reference, tag: &HostedTag) -> Result<()> {
        let _lock = self.store.shared()?;
        self.put_record(&self.part(name, "tags"), name.tag().unwrap_or("latest"), tag)
    }

    /// What a tag stands for, if it still counts.
    ///
    /// # Errors
    /// When the disk fails, or the image's name is damaged.
    pub fn tag(&self, name: &Reference) -> Result<Option<HostedTag>> {
        let path = self.part(name, "tags").join(name.tag().unwrap_or("latest"));
        let Some(tag) = self.record::<HostedTag>(&path)? else { return Ok(None) };
        let counts = self.store.resolve(name)? == tag.image && self.manifest(name, &tag.digest)?.is_some();
        Ok(Some(tag).filter(|_| counts))
    }

    /// The tags of a repository that count.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn tags(&self, repository: &Reference) -> Result<BTreeMap<String, HostedTag>> {
        let mut found = BTreeMap::new();
        for (name, _) in entries(&self.part(repository, "tags"))? {
            let Ok(tagged) = repository.with_tag(&name) else { continue };
            if let Some(tag) = self.tag(&tagged)? {
                found.insert(name, tag);
            }
        }
        Ok(found)
    }

    /// Names whose tag stood for a digest when it was asked for last, whether that still counts or not.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn tagged(&self, repository: &Reference, digest: &Digest) -> Result<Vec<Reference>> {
        let mut found = Vec::new();
        for (name, path) in entries(&self.part(repository, "tags"))? {
            if self.record::<HostedTag>(&path)?.is_some_and(|tag| tag.digest == *digest) {
                found.extend(repository.with_tag(&name));
            }
        }
        Ok(found)
    }

    /// Takes a tag away; false when it was not there.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn remove_tag(&self, name: &Reference) -> Result<bool> {
        let _lock = self.store.shared()?;
        remove(&self.part(name, "tags").join(name.tag().unwrap_or("latest")))
    }

    /// The caller holds the store's lock.
    fn put_record(&self, directory: &Path, name: &str, value: &impl Serialize) -> Result<()> {
        make_directory(directory)?;
        write_durably(&directory.join(name), &self.store.loose_draft()?, &seal("a record of a registry", value)?)
    }

    /// A record; a damaged one is put aside.
    pub(super) fn record<T: DeserializeOwned>(&self, path: &Path) -> Result<Option<T>> {
        let Some(bytes) = read_bounded(path, RECORD_LIMIT)? else { return Ok(None) };
        let record = unseal(&bytes);
        if record.is_none() {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            self.store.set_aside_with_notice(path, "registry", || {
                format!("the record {name} of a registry was damaged and is in quarantine; push it again")
            });
        }
        Ok(record)
    }
}
