//! Where volumes live: `volumes/NAME/_data` is what containers mount, `volume.json` beside it what is known of it.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::lease::{entries, remove_tree};
use crate::sealed::{seal, unseal};
use crate::store::{Store, now, random_hex, sync_directory, write_durably};

/// Longest name: what a file name may have.
const LONGEST_NAME: usize = 255;

/// A volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// Unix seconds when it was made.
    pub created: u64,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Nobody gave it its name.
    pub anonymous: bool,
    /// What is mounted in place of its own directory, in docker's words.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
}

impl Store {
    /// The directory that containers mount.
    pub fn volume_data(&self, volume: &Volume) -> PathBuf {
        self.volume_dir(&volume.name).join("_data")
    }

    pub(crate) fn volume_dir(&self, name: &str) -> PathBuf {
        self.path("volumes").join(name)
    }

    /// Makes a volume; without a name it gets 64 hexadecimal digits. One that is there is given back as it is. Options say
    /// what is mounted in place of its own directory.
    ///
    /// # Errors
    /// When the name is not valid or the disk fails.
    pub fn create_volume(
        &self,
        name: Option<&str>,
        labels: BTreeMap<String, String>,
        options: BTreeMap<String, String>,
    ) -> Result<Volume> {
        let (name, anonymous) = match name {
            Some(name) => (name.to_owned(), false),
            None => (random_hex(32)?, true),
        };
        check_name(&name)?;
        let _lock = self.exclusive()?;
        if let Some(volume) = self.volume(&name)? {
            return Ok(volume);
        }
        let volume = Volume { name, created: now(), labels, anonymous, options };
        let draft = self.loose_draft()?;
        for (path, mode) in [(draft.clone(), 0o711), (draft.join("_data"), 0o755)] {
            std::fs::DirBuilder::new().mode(mode).create(&path).map_err(Error::path("make", &path))?;
            // Whatever the caller's umask: users of containers work in it.
            rustix::fs::chmod(&path, rustix::fs::Mode::from_raw_mode(mode)).map_err(Error::errno("make", &path))?;
        }
        write_durably(&draft.join("volume.json"), &draft.join(".volume.json"), &seal("the volume", &volume)?)?;
        let target = self.volume_dir(&volume.name);
        std::fs::rename(&draft, &target).map_err(Error::path("make the volume", &target))?;
        sync_directory(&self.path("volumes"))?;
        Ok(volume)
    }

    /// Held while a container with it starts: who comes at the same time finds what the first one mounted.
    ///
    /// # Errors
    /// When it is gone.
    pub fn lock_volume(&self, volume: &Volume) -> Result<File> {
        let path = self.volume_dir(&volume.name).join("volume.json");
        let file = File::open(&path).map_err(Error::path("open", &path))?;
        file.lock().map_err(Error::path("lock", &path))?;
        Ok(file)
    }

    /// Looks a volume up. One whose record is damaged is there still, with its data: it lost only its labels.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn volume(&self, name: &str) -> Result<Option<Volume>> {
        if check_name(name).is_err() {
            return Ok(None);
        }
        let directory = self.volume_dir(name);
        let path = directory.join("volume.json");
        match std::fs::read(&path) {
            Ok(bytes) => {
                if let Some(volume) = unseal(&bytes) {
                    return Ok(Some(volume));
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::path("read", path)(error)),
        }
        Ok(directory.is_dir().then(|| bare_volume(name, &directory)))
    }

    /// All volumes, by name.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn volumes(&self) -> Result<Vec<Volume>> {
        let mut volumes = Vec::new();
        for (name, _) in entries(&self.path("volumes"))? {
            volumes.extend(self.volume(&name)?);
        }
        Ok(volumes)
    }

    /// Removes a volume with its data; false when there is none.
    ///
    /// # Errors
    /// When a container has it, or the disk fails.
    pub fn remove_volume(&self, name: &str) -> Result<bool> {
        if check_name(name).is_err() {
            return Ok(false);
        }
        let lease = self.lease()?;
        let doomed = lease.draft();
        {
            let _lock = self.exclusive()?;
            if let Some((holder, _)) = self.containers_locked()?.into_iter().find(|(record, _)| has(record, name)) {
                return Err(Error::VolumeInUse { name: name.to_owned(), container: holder.id });
            }
            match std::fs::rename(self.volume_dir(name), &doomed) {
                Ok(()) => {}
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
                Err(error) => return Err(Error::path("remove the volume", self.volume_dir(name))(error)),
            }
        }
        remove_tree(&doomed)?;
        Ok(true)
    }
}

fn has(record: &crate::ContainerRecord, name: &str) -> bool {
    record.volumes.iter().any(|volume| volume == name)
}

/// What is known of a volume without its record.
pub(crate) fn bare_volume(name: &str, directory: &Path) -> Volume {
    use std::os::unix::fs::MetadataExt;
    let created = std::fs::metadata(directory).map_or(0, |metadata| metadata.mtime().max(0).unsigned_abs());
    Volume { name: name.to_owned(), created, labels: BTreeMap::new(), anonymous: false, options: BTreeMap::new() }
}

/// Docker's rule.
fn check_name(name: &str) -> Result<()> {
    let bad =
        |reason: &str| Err(Error::BadVolumeName { name: name.chars().take(100).collect(), reason: reason.into() });
    let mut bytes = name.bytes();
    if name.len() < 2 {
        return bad("names have at least two characters");
    }
    if name.len() > LONGEST_NAME {
        return bad("names have at most 255 characters");
    }
    let first = bytes.next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    if !first || !bytes.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-')) {
        return bad(
            "only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed; for a directory of this machine give an absolute path",
        );
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::digest::{Digest, ImageId};

    fn store() -> (tempfile::TempDir, Store) {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("store")).unwrap();
        (directory, store)
    }

    #[test]
    fn volumes_come_and_go() {
        let (_directory, store) = store();
        let labels = BTreeMap::from([("k".to_owned(), "v".to_owned())]);
        let made = store.create_volume(Some("data"), labels.clone(), BTreeMap::new()).unwrap();
        std::fs::write(store.volume_data(&made).join("f"), "x").unwrap();
        assert_eq!(store.create_volume(Some("data"), BTreeMap::new(), BTreeMap::new()).unwrap().labels, labels);
        assert!(store.volume_data(&made).join("f").exists());
        let anonymous = store.create_volume(None, BTreeMap::new(), BTreeMap::new()).unwrap();
        assert!(anonymous.anonymous && anonymous.name.len() == 64);
        assert_eq!(store.volumes().unwrap().len(), 2);
        assert!(store.remove_volume("data").unwrap() && !store.remove_volume("data").unwrap());
        assert_eq!(store.volume("data").unwrap(), None);
    }

    #[test]
    fn names_are_dockers() {
        let (_directory, store) = store();
        for name in ["ab", "a.b_c-d", "0x"] {
            store.create_volume(Some(name), BTreeMap::new(), BTreeMap::new()).unwrap();
        }
        for name in ["", "a", "../x", "/abs", "a/b", ".hidden", "-flag", "a b", &"x".repeat(256)] {
            let made = store.create_volume(Some(name), BTreeMap::new(), BTreeMap::new());
            assert!(matches!(made, Err(Error::BadVolumeName { .. })), "{name}");
            assert!(!store.remove_volume(name).unwrap());
        }
    }

    #[test]
    fn a_volume_that_a_container_has_stays() {
        let (_directory, store) = store();
        store.create_volume(Some("data"), BTreeMap::new(), BTreeMap::new()).unwrap();
        let image = ImageId(Digest::sha256_of(b""));
        let volumes = vec!["data".to_owned()];
        let spec = serde_json::Value::Null;
        let new = crate::NewContainer { image: &image, layers: &[], name: None, remove: false, volumes, spec };
        let place = store.create_container(new).unwrap();
        assert!(matches!(store.remove_volume("data"), Err(Error::VolumeInUse { .. })));
        place.remove().unwrap();
        assert!(store.remove_volume("data").unwrap());
    }

    #[test]
    fn security_f12_a_volume_outlives_its_record() {
        let (_directory, store) = store();
        let made = store.create_volume(Some("data"), BTreeMap::new(), BTreeMap::new()).unwrap();
        std::fs::write(store.volume_dir("data").join("volume.json"), "{").unwrap();
        assert_eq!(store.volume("data").unwrap().unwrap().name, made.name);
        assert!(store.volume_data(&made).is_dir());
    }
}
