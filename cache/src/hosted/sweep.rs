//! Garbage collection and check of what is held as a registry.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::Hosted;
use super::records::{HostedManifest, HostedTag};
use crate::digest::{Digest, ImageId};
use crate::error::{Error, Result};
use crate::lease::entries;
use crate::sealed::unseal;

/// How long blobs wait for their manifest, and uploads for their next piece.
const PATIENCE: Duration = Duration::from_secs(24 * 60 * 60);

/// What of a registry is of no use.
#[derive(Debug, Default)]
pub(crate) struct DoomedFiles {
    /// All of it.
    pub(crate) files: Vec<PathBuf>,
}

/// Something that is not as it was written.
pub(crate) struct HostedProblem {
    pub(crate) path: PathBuf,
    pub(crate) what: String,
}

impl Hosted {
    /// What nothing needs: manifests and tags of images that are gone, of `gone` among them, and what only they had. With
    /// `whole` also what can be made again from the images. The caller holds the store's lock.
    pub(crate) fn doomed(&self, whole: bool, gone: &BTreeSet<ImageId>) -> Result<DoomedFiles> {
        let mut doomed = DoomedFiles::default();
        let mut kept: BTreeSet<Digest> = BTreeSet::new();
        for (_, repository) in entries(&self.path("repositories"))? {
            self.doomed_of(&repository, whole, gone, &mut kept, &mut doomed)?;
        }
        for (algorithm, directory) in entries(&self.path("blobs"))? {
            for (hex, path) in entries(&directory)? {
                let named = format!("{algorithm}:{hex}").parse::<Digest>();
                if !named.is_ok_and(|digest| kept.contains(&digest)) {
                    doomed.files.push(path);
                }
            }
        }
        for (_, path) in entries(&self.path("uploads"))? {
            if !is_fresh(&path) {
                doomed.files.push(path);
            }
        }
        Ok(doomed)
    }

    fn doomed_of(
        &self,
        repository: &Path,
        whole: bool,
        gone: &BTreeSet<ImageId>,
        kept: &mut BTreeSet<Digest>,
        doomed: &mut DoomedFiles,
    ) -> Result<()> {
        let counts = |manifest: &HostedManifest| {
            let has = |id: &ImageId| !gone.contains(id) && self.store.image_path(id).exists();
            manifest.image.as_ref().is_none_or(has)
        };
        let mut needed: BTreeSet<String> = BTreeSet::new();
        let mut dead: BTreeSet<Digest> = BTreeSet::new();
        // Blobs that only what goes had are not waiting for a manifest.
        let mut freed: BTreeSet<String> = BTreeSet::new();
        for (_, path) in entries(&repository.join("manifests"))? {
            let Some(manifest) = self.record::<HostedManifest>(&path)? else { continue };
            let blobs = manifest.blobs.iter().map(Digest::to_string);
            let counts = counts(&manifest);
            if counts && !(whole && manifest.packed) {
                needed.extend(blobs);
                kept.insert(manifest.digest);
                continue;
            }
            freed.extend(blobs);
            doomed.files.push(path);
            // A tag says which image has to be packed again when the digest is asked for.
            if !counts {
                dead.insert(manifest.digest);
            }
        }
        for (_, path) in entries(&repository.join("tags"))? {
            if self.record::<HostedTag>(&path)?.is_some_and(|tag| dead.contains(&tag.digest)) {
                doomed.files.push(path);
            }
        }
        for (name, path) in entries(&repository.join("blobs"))? {
            if needed.contains(&name) || (is_fresh(&path) && !freed.contains(&name)) {
                kept.extend(name.parse::<Digest>());
            } else {
                doomed.files.push(path);
            }
        }
        Ok(())
    }

    /// How many blobs there are.
    pub(crate) fn blob_count(&self) -> Result<u64> {
        let mut count = 0;
        for (_, directory) in entries(&self.path("blobs"))? {
            count += entries(&directory)?.len() as u64;
        }
        Ok(count)
    }

    /// Reads everything again, and gives the number of blobs and bytes too.
    pub(crate) fn check(&self) -> Result<(usize, u64, Vec<HostedProblem>)> {
        let (mut blobs, mut bytes, mut problems) = (0, 0, Vec::new());
        for (algorithm, directory) in entries(&self.path("blobs"))? {
            for (hex, path) in entries(&directory)? {
                let Ok(digest) = format!("{algorithm}:{hex}").parse::<Digest>() else { continue };
                let (found, size) = digest_of(&digest, &path)?;
                blobs += 1;
                bytes += size;
                if found != digest {
                    let what = format!("blob {digest} of the registry is damaged: its bytes are those of {found}");
                    problems.push(HostedProblem { path, what });
                }
            }
        }
        for (name, repository) in entries(&self.path("repositories"))? {
            let shown = super::unescape(&name);
            for (part, is_sound) in
                [("manifests", sound::<HostedManifest> as fn(&[u8]) -> bool), ("tags", sound::<HostedTag>)]
            {
                for (name, path) in entries(&repository.join(part))? {
                    let text = std::fs::read(&path).map_err(Error::path("read", &path))?;
                    if !is_sound(&text) {
                        let what = format!("the record {name} of {shown} in the registry is damaged: push it again");
                        problems.push(HostedProblem { path, what });
                    }
                }
            }
        }
        Ok((blobs, bytes, problems))
    }
}

fn sound<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> bool {
    unseal::<T>(bytes).is_some()
}

/// A clock that was set back makes things young: they stay.
pub(super) fn is_fresh(path: &Path) -> bool {
    let written = std::fs::metadata(path).and_then(|metadata| metadata.modified());
    written.is_ok_and(|written| written + PATIENCE > SystemTime::now())
}

fn digest_of(like: &Digest, path: &Path) -> Result<(Digest, u64)> {
    use sha2::Digest as _;
    let mut file = std::fs::File::open(path).map_err(Error::path("read", path))?;
    let (mut short, mut long) = (sha2::Sha256::new(), sha2::Sha512::new());
    let of_512 = like.algorithm() == "sha512";
    let take = |bytes: &[u8]| if of_512 { long.update(bytes) } else { short.update(bytes) };
    let size = crate::blob::pass(&mut file, take).map_err(Error::path("read", path))?;
    Ok(match of_512 {
        true => (Digest::from_sha512(long.finalize().as_slice()), size),
        false => (Digest::from_sha256(short.finalize().as_slice()), size),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::{ImageConfig, MediaType, PruneOptions, Reference, Store};

    fn names(store: &Store) -> Vec<String> {
        let blobs = entries(&store.path("registry/blobs/sha256")).unwrap();
        blobs.into_iter().map(|(name, _)| name.chars().take(4).collect()).collect()
    }

    fn age(store: &Store) {
        for directory in ["repositories/docker.io%2Flibrary%2Fapp/blobs", "uploads"] {
            for (_, path) in entries(&store.path("registry").join(directory)).unwrap() {
                let file = std::fs::File::options().write(true).open(path).unwrap();
                file.set_modified(SystemTime::now() - 2 * PATIENCE).unwrap();
            }
        }
    }

    fn manifest(blob: &Digest, image: Option<ImageId>, packed: bool) -> (HostedManifest, Vec<u8>) {
        let bytes = format!("{packed}{image:?}").into_bytes();
        let record = HostedManifest {
            digest: Digest::sha256_of(&bytes),
            media_type: MediaType::OciManifest,
            size: bytes.len() as u64,
            image,
            packed,
            blobs: vec![blob.clone()],
            manifests: Vec::new(),
            subject: None,
            artifact_type: None,
            annotations: Default::default(),
        };
        (record, bytes)
    }

    #[test]
    fn blobs_wait_a_day_for_a_manifest_and_stay_as_long_as_it() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let (hosted, app) = (store.hosted(), "app:1".parse::<Reference>().unwrap());
        let prune = || store.prune(&PruneOptions { cache: crate::CachePolicy::Orphans, ..Default::default() }).unwrap();
        let waiting = hosted.put_blob(&app, b"waiting").unwrap();
        let named = hosted.put_blob(&app, b"named").unwrap();
        let (record, bytes) = manifest(&named, None, false);
        hosted.put_manifest(&app, &record, &bytes).unwrap();
        hosted.put_tag(&app, &HostedTag { digest: record.digest.clone(), image: None }).unwrap();
        let mut upload = hosted.begin_upload().unwrap();
        upload.write_all(b"begun").unwrap();
        let id = upload.id().to_owned();
        drop(upload);
        prune();
        assert_eq!(names(&store).len(), 3);
        assert_eq!(hosted.resume_upload(&id).unwrap().unwrap().size(), 5);
        age(&store);
        prune();
        assert!(hosted.blob(&app, &waiting).unwrap().is_none() && hosted.resume_upload(&id).unwrap().is_none());
        assert!(hosted.blob(&app, &named).unwrap().is_some() && hosted.tag(&app).unwrap().is_some());
        // Nothing is left of it once its manifest is taken away.
        hosted.remove_manifest(&app, &record.digest).unwrap();
        prune();
        assert!(names(&store).is_empty() && hosted.tags(&app).unwrap().is_empty());
    }

    #[test]
    fn what_was_made_of_an_image_goes_with_it_and_with_the_whole_cache() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let (hosted, app) = (store.hosted(), "app:1".parse::<Reference>().unwrap());
        let lease = store.lease().unwrap();
        let image = store.put_image(&lease, &ImageConfig::default(), std::slice::from_ref(&app)).unwrap();
        let blob = hosted.put_blob(&app, b"packed").unwrap();
        let put = |packed| {
            let (record, bytes) = manifest(&blob, Some(image.id.clone()), packed);
            hosted.put_manifest(&app, &record, &bytes).unwrap();
            hosted.put_tag(&app, &HostedTag { digest: record.digest, image: Some(image.id.clone()) }).unwrap();
        };
        put(true);
        let cache = |cache| store.prune(&PruneOptions { cache, ..Default::default() }).unwrap();
        cache(crate::CachePolicy::Orphans);
        assert_eq!(names(&store).len(), 2);
        let forecast = PruneOptions { cache: crate::CachePolicy::All, dry_run: true, ..Default::default() };
        assert!(store.prune(&forecast).unwrap().bytes >= 8192);
        cache(crate::CachePolicy::All);
        assert!(names(&store).is_empty() && hosted.tag(&app).unwrap().is_none());
        // What was pushed cannot be made again, and goes with the image alone.
        hosted.put_blob(&app, b"packed").unwrap();
        put(false);
        cache(crate::CachePolicy::All);
        assert!(hosted.tag(&app).unwrap().is_some());
        store.untag(&app).unwrap();
        assert!(hosted.tag(&app).unwrap().is_none(), "the name is gone");
        store.remove_image(&image.id).unwrap();
        cache(crate::CachePolicy::Orphans);
        assert!(names(&store).is_empty());
    }

    #[test]
    fn every_flipped_bit_of_a_record_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let (hosted, app) = (store.hosted(), "app:1".parse::<Reference>().unwrap());
        let blob = hosted.put_blob(&app, b"blob").unwrap();
        let (record, bytes) = manifest(&blob, None, false);
        hosted.put_manifest(&app, &record, &bytes).unwrap();
        assert!(store.check(false).unwrap().problems.is_empty());
        let (_, path) =
            entries(&store.path("registry/repositories/docker.io%2Flibrary%2Fapp/manifests")).unwrap().remove(0);
        let mut text = std::fs::read(&path).unwrap();
        *text.get_mut(9).unwrap() ^= 1;
        std::fs::write(&path, text).unwrap();
        std::fs::write(hosted.blob_path(&blob), b"blab").unwrap();
        assert_eq!(store.check(true).unwrap().problems.len(), 2);
        assert!(store.check(false).unwrap().problems.is_empty());
        assert!(hosted.manifest(&app, &record.digest).unwrap().is_none());
        assert!(hosted.blob(&app, &blob).unwrap().is_none());
    }
}
