//! What is kept of a container between two commands: a directory with its record, its configuration and its gate.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use oci_spec::runtime::Spec;
use runtime::{Cgroup, Running};
use serde::{Deserialize, Serialize};

use super::config;
use crate::error::{Error, Result};

/// The newest version of the specification that is followed.
pub(super) const OCI_VERSION: &str = "1.2.1";
const LONGEST_ID: usize = 1024;

/// What `create` writes down.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) id: String,
    pub(super) pid: u32,
    /// When its process started: with the number, it is one process and no other.
    pub(super) start: u64,
    pub(super) bundle: PathBuf,
    pub(super) rootfs: PathBuf,
    /// RFC 3339.
    pub(super) created: String,
    pub(super) cgroup: PathBuf,
    #[serde(default)]
    pub(super) annotations: BTreeMap<String, String>,
}

/// The states of the specification, and paused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It is being made, or its maker has died.
    Creating,
    /// It is ready to start.
    Created,
    /// Its program runs.
    Running,
    /// Its program is stopped in the middle.
    Paused,
    /// It has ended.
    Stopped,
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Status::Creating => "creating",
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Stopped => "stopped",
        })
    }
}

/// What `state` and `list` tell.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OciState {
    /// Version of the specification.
    pub oci_version: String,
    /// The container's name.
    pub id: String,
    /// The number of its first process; 0 when it has ended.
    pub pid: u32,
    /// What it does.
    pub status: Status,
    /// Its bundle.
    pub bundle: PathBuf,
    /// Its root.
    pub rootfs: PathBuf,
    /// RFC 3339.
    pub created: String,
    /// Annotations of its configuration.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Whose it is; always empty, since only root has containers here.
    pub owner: String,
}

/// A container's directory, with the lock that makes commands on it come one after the other.
#[derive(Debug)]
pub(super) struct Place {
    directory: PathBuf,
    id: String,
    /// Readers have none: a hook may ask for the state while its caller holds the lock.
    _lock: Option<File>,
}

impl Place {
    /// The directory of a new container.
    pub(super) fn make(root: &Path, id: &str) -> Result<Place> {
        check_id(id)?;
        let mut builder = fs::DirBuilder::new();
        builder.mode(0o711).recursive(true).create(root).map_err(|error| Error::file("make", root, error))?;
        let directory = root.join(id);
        match fs::DirBuilder::new().mode(0o700).create(&directory) {
            Ok(()) => Place::lock(directory, id),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                Err(Error::container_state(id, "container with given ID already exists"))
            }
            Err(error) => Err(Error::file("make", &directory, error)),
        }
    }

    /// The directory of a container that is there.
    pub(super) fn open(root: &Path, id: &str) -> Result<Place> {
        check_id(id)?;
        let directory = root.join(id);
        if !directory.is_dir() {
            return Err(Error::container_state(id, "container does not exist"));
        }
        Place::lock(directory, id)
    }

    /// The same without waiting for other commands.
    pub(super) fn look(root: &Path, id: &str) -> Result<Place> {
        check_id(id)?;
        let directory = root.join(id);
        if !directory.is_dir() {
            return Err(Error::container_state(id, "container does not exist"));
        }
        Ok(Place { directory, id: id.to_owned(), _lock: None })
    }

    fn lock(directory: PathBuf, id: &str) -> Result<Place> {
        let failed = |error: std::io::Error| Error::file("lock", &directory, error);
        let lock = File::open(&directory).map_err(failed)?;
        lock.lock().map_err(failed)?;
        // A deletion may have come first.
        if !directory.is_dir() {
            return Err(Error::container_state(id, "container does not exist"));
        }
        Ok(Place { directory, id: id.to_owned(), _lock: Some(lock) })
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    fn gate_path(&self) -> PathBuf {
        self.directory.join("exec.fifo")
    }

    /// The fifo that the new process waits on. It is open for writing too, so that it never ends by itself.
    pub(super) fn make_gate(&self) -> Result<OwnedFd> {
        let path = self.gate_path();
        runtime::make_fifo(&path).map_err(|error| Error::file("make", &path, error))?;
        let file = fs::OpenOptions::new().read(true).write(true).open(&path);
        Ok(file.map_err(|error| Error::file("open", &path, error))?.into())
    }

    /// Lets the process start; `false` when nobody waits there any more.
    pub(super) fn open_gate(&self) -> Result<bool> {
        const NONBLOCK: i32 = 0o4000;
        let path = self.gate_path();
        let opened = fs::OpenOptions::new().write(true).custom_flags(NONBLOCK).open(&path);
        let mut gate = match opened {
            Ok(gate) => gate,
            Err(error) if error.raw_os_error() == Some(6) => return Ok(false),
            Err(error) => return Err(Error::file("open", &path, error)),
        };
        gate.write_all(b"1").map_err(|error| Error::file("write", &path, error))?;
        fs::remove_file(&path).map_err(|error| Error::file("remove", &path, error))?;
        Ok(true)
    }

    pub(super) fn write_config(&self, bytes: &[u8]) -> Result<()> {
        write(&self.directory.join("config.json"), bytes)
    }

    /// The configuration as it was at `create`: later changes in the bundle have no effect.
    pub(super) fn config(&self) -> Result<Spec> {
        config::parse(&config::read(&self.directory.join("config.json"))?)
    }

    pub(super) fn write_record(&self, record: &Record) -> Result<()> {
        let bytes = serde_json::to_vec(record).map_err(|error| config::invalid("state.json", error))?;
        write(&self.directory.join("state.json"), &bytes)
    }

    /// `None` while the container is being made, and for ever if its maker has died.
    pub(super) fn record(&self) -> Result<Option<Record>> {
        let path = self.directory.join("state.json");
        if !path.exists() {
            return Ok(None);
        }
        serde_json::from_slice(&config::read(&path)?).map(Some).map_err(|error| config::invalid("state.json", error))
    }

    pub(super) fn remove(self) -> Result<()> {
        fs::remove_dir_all(&self.directory).map_err(|error| Error::file("remove", &self.directory, error))
    }

    /// Its process, where it still runs.
    pub(super) fn running(&self, record: &Record) -> Result<Option<Running>> {
        Ok(Running::find(record.pid, record.start)?)
    }

    pub(super) fn status(&self, record: &Record) -> Result<Status> {
        if self.running(record)?.is_none() {
            return Ok(Status::Stopped);
        }
        if self.gate_path().exists() {
            return Ok(Status::Created);
        }
        let frozen = Cgroup::open(&record.cgroup)?.is_some_and(|cgroup| cgroup.is_frozen());
        Ok(if frozen { Status::Paused } else { Status::Running })
    }

    pub(super) fn state(&self) -> Result<OciState> {
        let Some(record) = self.record()? else {
            return Err(Error::container_state(&self.id, "container is being created"));
        };
        let status = self.status(&record)?;
        Ok(report(record, status))
    }
}

/// What is told of a container.
pub(super) fn report(record: Record, status: Status) -> OciState {
    OciState {
        oci_version: OCI_VERSION.to_owned(),
        id: record.id,
        pid: if status == Status::Stopped { 0 } else { record.pid },
        status,
        bundle: record.bundle,
        rootfs: record.rootfs,
        created: record.created,
        annotations: record.annotations,
        owner: String::new(),
    }
}

/// Readers see a whole file or none.
fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let draft = path.with_extension("draft");
    fs::write(&draft, bytes).and_then(|()| fs::rename(&draft, path)).map_err(|error| Error::file("write", path, error))
}

fn check_id(id: &str) -> Result<()> {
    let valid = |c: char| c.is_ascii_alphanumeric() || "_+-.".contains(c);
    if id.is_empty() || id.len() > LONGEST_ID || id.starts_with('.') || !id.chars().all(valid) {
        let reason = "invalid container ID: letters, digits, _, +, - and . are possible, and no . at the beginning";
        return Err(Error::container_state(id, reason));
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn runtime_o02_ids_are_single_names() {
        for id in ["a", "A_b+c-d.e", "0"] {
            assert!(check_id(id).is_ok(), "{id}");
        }
        for id in ["", ".", "..", "../x", "a/b", "a b", "ä", ".a", &"x".repeat(2000)] {
            assert!(check_id(id).is_err(), "{id}");
        }
    }

    #[test]
    fn a_second_container_of_one_name_is_refused_and_changes_nothing() {
        let root = tempfile::tempdir().unwrap();
        let place = Place::make(root.path(), "one").unwrap();
        place.write_config(b"{}").unwrap();
        drop(place);
        assert!(Place::make(root.path(), "one").is_err());
        assert_eq!(fs::read(root.path().join("one/config.json")).unwrap(), b"{}");
        assert!(Place::open(root.path(), "two").is_err());
    }
}
