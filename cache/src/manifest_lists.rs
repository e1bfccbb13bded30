//! Lists of manifests that are being put together: `lists/NAME`, sealed. They become an index when they are pushed.

use serde::{Deserialize, Serialize};

use crate::builds::read_bounded;
use crate::descriptor::{Descriptor, Platform};
use crate::digest::ImageId;
use crate::error::{Error, Result};
use crate::lease::entries;
use crate::reference::Reference;
use crate::sealed::{seal, unseal};
use crate::store::{Store, write_durably};

/// Most bytes of a list.
const LIMIT: u64 = 4 << 20;

/// A list of manifests.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ManifestList {
    /// Its entries, in order.
    pub entries: Vec<ListEntry>,
}

/// One entry of a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ListEntry {
    /// The name that it was given by.
    pub source: String,
    /// What it is.
    pub content: ListContent,
    /// What it is for.
    pub platform: Platform,
    /// Features of the operating system.
    pub os_features: Vec<String>,
    /// Version of the operating system.
    pub os_version: Option<String>,
}

/// Where the manifest of an entry is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ListContent {
    /// An image of the store: it has a manifest when it is pushed.
    Image(ImageId),
    /// In the repository of the name.
    Remote(Descriptor),
}

impl Store {
    fn list_path(&self, name: &Reference) -> std::path::PathBuf {
        self.path("lists").join(name.to_string().replace('%', "%25").replace('/', "%2F"))
    }

    /// A list by its name; a damaged one is put aside.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn manifest_list(&self, name: &Reference) -> Result<Option<ManifestList>> {
        let path = self.list_path(name);
        let Some(bytes) = read_bounded(&path, LIMIT)? else { return Ok(None) };
        let list = unseal(&bytes);
        if list.is_none() {
            let sentence =
                || format!("the manifest list {} was damaged and is in quarantine; create it again", name.familiar());
            self.set_aside_with_notice(&path, "list", sentence);
        }
        Ok(list)
    }

    /// Writes a list. Durable when it returns.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn put_manifest_list(&self, name: &Reference, list: &ManifestList) -> Result<()> {
        let bytes = seal("the manifest list", list)?;
        let directory = self.path("lists");
        let _lock = self.shared()?;
        std::fs::create_dir_all(&directory).map_err(Error::path("make", &directory))?;
        write_durably(&self.list_path(name), &self.loose_draft()?, &bytes)
    }

    /// Takes a list away; false when there is none.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn remove_manifest_list(&self, name: &Reference) -> Result<bool> {
        let _lock = self.shared()?;
        let path = self.list_path(name);
        match std::fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(Error::path("remove", path)(error)),
        }
    }

    /// Lists that are not as they were written, by file name.
    pub(crate) fn damaged_lists(&self) -> Result<Vec<(String, std::path::PathBuf)>> {
        let mut damaged = Vec::new();
        for (name, path) in entries(&self.path("lists"))? {
            let bytes = std::fs::read(&path).map_err(Error::path("read", &path))?;
            if unseal::<ManifestList>(&bytes).is_none() {
                damaged.push((name.replace("%2F", "/").replace("%25", "%"), path));
            }
        }
        Ok(damaged)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn lists_come_back_and_damage_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let name: Reference = "r.example:5000/team/app:1".parse().unwrap();
        let entry = ListEntry {
            source: "app".to_owned(),
            content: ListContent::Image(ImageId(crate::Digest::sha256_of(b"image"))),
            platform: "linux/arm/v7".parse().unwrap(),
            os_features: Vec::new(),
            os_version: None,
        };
        let list = ManifestList { entries: vec![entry] };
        assert!(store.manifest_list(&name).unwrap().is_none());
        store.put_manifest_list(&name, &list).unwrap();
        assert_eq!(store.manifest_list(&name).unwrap(), Some(list));
        let mut bytes = std::fs::read(store.list_path(&name)).unwrap();
        *bytes.get_mut(5).unwrap() ^= 1;
        std::fs::write(store.list_path(&name), bytes).unwrap();
        assert_eq!(store.check(false).unwrap().problems.len(), 1);
        assert!(store.manifest_list(&name).unwrap().is_none());
        assert!(!store.remove_manifest_list(&name).unwrap() && store.take_notices().len() == 1);
    }
}
