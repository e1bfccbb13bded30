//! Manifests on their way from one repository to another.

use std::sync::Arc;

use cache::{Descriptor, Digest, Reference};

use super::blob::{BlobReader, Slot, taken};
use super::pull::short;
use super::refusal::Cause;
use super::repository::{RemoteManifest, Repository};
use super::upload::{Begun, Stopped, Upload};
use super::{BlobState, Client, TransferEvent};
use crate::documents::Document;
use crate::error::{Error, Result};

/// How often a blob is sent anew when the registry loses it.
const RESTARTS: usize = 3;
/// Deepest nesting of indexes.
const DEPTH: usize = 4;

/// Brings a manifest with all that it names into a repository, where it is not there.
///
/// # Errors
/// When one of the registries does not do its part.
pub fn copy_manifest(
    client: &Client,
    from: &Reference,
    digest: &Digest,
    to: &Reference,
    events: &(dyn Fn(TransferEvent) + Sync),
) -> Result<()> {
    let source = client.repository(from, &format!("read {}", from.familiar()))?;
    let target = client.repository(to, &format!("push {}", to.familiar()))?;
    let is_same_registry = from.registry() == to.registry();
    if is_same_registry && from.repository() == to.repository() {
        return Ok(());
    }
    Copy { source: &source, target: &target, is_same_registry, events }.manifest(digest, DEPTH)
}

struct Copy<'a> {
    source: &'a Repository,
    target: &'a Repository,
    is_same_registry: bool,
    events: &'a (dyn Fn(TransferEvent) + Sync),
}

impl Copy<'_> {
    fn manifest(&self, digest: &Digest, depth: usize) -> Result<()> {
        let there = self.target.head_manifest(&digest.to_string(), &self.target.push_scope());
        if there.map_err(|cause| self.target.refused(cause))?.as_ref() == Some(digest) {
            return Ok(());
        }
        let found: RemoteManifest = self.source.manifest(&digest.to_string())?;
        match &found.document {
            Document::Manifest(manifest) => {
                for blob in std::iter::once(&manifest.config).chain(&manifest.layers) {
                    self.blob(blob)?;
                }
            }
            Document::Index(index) => {
                let depth = depth
                    .checked_sub(1)
                    .ok_or_else(|| self.source.refused(Cause::Invalid("indexes are nested too deeply".to_owned())))?;
                for entry in &index.manifests {
                    self.manifest(&entry.digest, depth)?;
                }
            }
        }
        self.target.put_manifest(&digest.to_string(), &found.media_type, &found.bytes)?;
        Ok(())
    }

    fn blob(&self, blob: &Descriptor) -> Result<()> {
        let id = short(&blob.digest);
        let tell = |state| (self.events)(TransferEvent::Blob { id: id.clone(), state, size: Some(blob.size) });
        let there = self.target.has_blob(&blob.digest, &self.target.push_scope());
        if there.map_err(|cause| self.target.refused(cause))? {
            tell(BlobState::Present);
            return Ok(());
        }
        if self.is_same_registry {
            // One that does not want to gives an upload instead.
            if let Ok(Begun::Mounted) = Upload::begin(self.target, Some((&blob.digest, &self.source.name)), &|_| ()) {
                tell(BlobState::Mounted(self.source.name.clone()));
                return Ok(());
            }
        }
        tell(BlobState::Moving);
        for _ in 0..RESTARTS {
            match self.send(blob, &id) {
                Ok(()) => {
                    tell(BlobState::Done);
                    return Ok(());
                }
                Err(Stopped::Lost) => {}
                Err(Stopped::Refused(cause)) => return Err(self.target.refused(cause)),
                Err(Stopped::Here(error)) => return Err(error),
            }
        }
        Err(self.target.refused(Cause::Other("it loses uploads again and again".to_owned())))
    }

    /// From one connection to the other; the target holds it against its digest.
    fn send(&self, blob: &Descriptor, id: &str) -> Result<(), Stopped> {
        use std::io::Read;
        let tell = |count| (self.events)(TransferEvent::Bytes { id: id.to_owned(), count });
        let mut upload = match Upload::begin(self.target, None, &tell)? {
            Begun::Session(upload) => upload,
            Begun::Mounted => return Ok(()),
        };
        let slot = Slot::default();
        let mut reader = BlobReader::new(self.source, blob, Arc::clone(&slot), &|_| ());
        let mut buffer = vec![0; 1 << 20];
        loop {
            let read = reader.read(&mut buffer);
            if let Some(cause) = taken(&slot) {
                return Err(Stopped::Here(self.source.refused(cause)));
            }
            match read {
                Ok(0) => return upload.finish(&blob.digest),
                Ok(count) => upload.write(buffer.get(..count).unwrap_or_default())?,
                Err(error) => return Err(Stopped::Here(Error::Network(error.to_string()))),
            }
        }
    }
}
