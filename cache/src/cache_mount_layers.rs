//! Cache mounts as layers: how caches beyond the store keep them, and how an empty store begins with them.

use std::fs::OpenOptions;
use std::path::PathBuf;

use crate::cache_mounts::{CacheMountInfo, CacheSpec, is_same_file, try_lock};
use crate::digest::CacheKey;
use crate::error::{Error, Result};
use crate::layer::share::Shared;
use crate::layer::{DraftDir, Layer};
use crate::lease::Lease;
use crate::snapshot::{MergedTree, copy_into};
use crate::store::Store;
use crate::tree::TreeRoot;

/// What its keys are hashes of: no step has such a one.
const KEY: &[u8] = b"dunnage cache mount 1\n";

fn key(name: &str) -> CacheKey {
    let mut hasher = blake3::Hasher::new();
    hasher.update(KEY);
    hasher.update(name.as_bytes());
    CacheKey::from_bytes(*hasher.finalize().as_bytes())
}

impl CacheSpec {
    /// Under which caches beyond the store keep it.
    pub fn key(&self) -> CacheKey {
        key(&self.name())
    }
}

impl CacheMountInfo {
    /// Under which caches beyond the store keep it.
    pub fn key(&self) -> CacheKey {
        key(&self.name)
    }
}

impl Store {
    fn first_copy(&self, cache: &CacheMountInfo) -> PathBuf {
        self.path("caches").join(&cache.name).join("0")
    }

    /// A layer of what a cache holds, taken while nobody uses it; `None` when it holds nothing yet. `Err` in the answer names
    /// who uses it. Of a cache with copies it is the first.
    ///
    /// # Errors
    /// When it cannot be read, or the layer not be written.
    pub fn cache_mount_layer(&self, lease: &Lease, cache: &CacheMountInfo) -> Result<Result<Option<Layer>, String>> {
        let copy = self.first_copy(cache);
        let (path, directory) = (copy.join("lock"), copy.join("fs"));
        let lock = match OpenOptions::new().read(true).open(&path) {
            Ok(lock) => lock,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Ok(None)),
            Err(error) => return Err(Error::path("open", path)(error)),
        };
        if !try_lock(&lock, &path, true)? {
            return Ok(Err(std::fs::read_to_string(&path).unwrap_or_default().trim().to_owned()));
        }
        if !is_same_file(&lock, &path) || !directory.exists() {
            return Ok(Ok(None));
        }
        let draft = DraftDir::make(&lease.draft())?;
        let root = TreeRoot::open(&draft.path.join("fs"))?;
        copy_into(&MergedTree::of_directories(vec![directory]), &root.reopened()?)?;
        Ok(Ok(Some(self.commit_large_tree(lease, draft, &Shared::new())?.layer)))
    }

    /// Gives a new cache the files of a layer.
    ///
    /// # Errors
    /// When they cannot be copied.
    pub fn fill_cache_mount(&self, layer: &Layer, root: &TreeRoot) -> Result<()> {
        copy_into(&MergedTree::new(std::slice::from_ref(layer)), &root.reopened()?)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::{CacheMount, CacheSharing};

    fn taken(store: &Store, spec: &CacheSpec, fill: &dyn Fn(&TreeRoot) -> Result<()>) -> CacheMount {
        store.try_cache_mount(spec, CacheSharing::Locked, "RUN one", fill).unwrap().unwrap()
    }

    #[test]
    fn builder_r02_a_cache_goes_through_a_layer_into_a_new_one() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let lease = store.lease().unwrap();
        let spec = CacheSpec { id: "a".to_owned(), base: String::new(), mode: None, owner: None };
        let mount = taken(&store, &spec, &|_| Ok(()));
        std::fs::create_dir(mount.directory().join("d")).unwrap();
        std::fs::write(mount.directory().join("d/one"), "one").unwrap();
        std::fs::hard_link(mount.directory().join("d/one"), mount.directory().join("two")).unwrap();
        std::os::unix::fs::symlink("/nowhere", mount.directory().join("link")).unwrap();
        let info = store.cache_mounts().unwrap().remove(0);
        assert_eq!(info.key(), spec.key());
        assert_eq!(store.cache_mount_layer(&lease, &info).unwrap().unwrap_err(), "RUN one");
        drop(mount);
        let layer = store.cache_mount_layer(&lease, &info).unwrap().unwrap().unwrap();
        assert_eq!(layer.size, 3);
        // Nothing changed: it is the same layer.
        assert_eq!(store.cache_mount_layer(&lease, &info).unwrap().unwrap().unwrap(), layer);
        let other = CacheSpec { mode: Some(0o700), ..spec.clone() };
        assert_ne!(other.key(), spec.key());
        let mount = taken(&store, &other, &|root| store.fill_cache_mount(&layer, root));
        assert_eq!(std::fs::read(mount.directory().join("two")).unwrap(), b"one");
        assert_eq!(std::fs::read_link(mount.directory().join("link")).unwrap().to_str(), Some("/nowhere"));
        assert!(mount.directory().join("d").is_dir());
        drop(mount);
        store.remove_cache_mount(&info.name).unwrap();
        assert_eq!(store.cache_mount_layer(&lease, &info).unwrap().unwrap(), None);
    }
}
