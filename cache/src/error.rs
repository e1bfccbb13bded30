//! What can go wrong in the store, named by what the user was doing.

use std::io;
use std::path::{Path, PathBuf};

use crate::digest::{DiffId, Digest};

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why the store could not do it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A path of the store, or one that the user named.
    #[error("cannot {doing} {}: {source}", path.display())]
    Path {
        /// The verb.
        doing: &'static str,
        /// On which path.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// No space is left on a disk, or of the user's share of it.
    #[error("cannot {doing} {}: {}", path.display(), no_space(*needed, *free, *quota))]
    DiskFull {
        /// The verb.
        doing: &'static str,
        /// On which path.
        path: PathBuf,
        /// Bytes that were to be written there, where that is known.
        needed: Option<u64>,
        /// Bytes that are free, where that is known.
        free: Option<u64>,
        /// The user's share is used up, whatever the disk has.
        quota: bool,
    },
    /// A store of more ids than there are now.
    #[error(
        "the store {} was made with more user ids than this process has: give it those of /etc/subuid again, or use another DUNNAGE_ROOT",
        root.display()
    )]
    FewIds {
        /// The store.
        root: PathBuf,
    },
    /// A device node where this process may make none.
    #[error("{} is a device node, and without root none can be made: build it as root, or leave it out", escaped(path.as_os_str().as_encoded_bytes()))]
    DeviceNode {
        /// Its path in the tree.
        path: PathBuf,
    },
    /// The store was written by a newer version.
    #[error("the store {} has format {found}, and this dunnage knows {known}: use a newer dunnage or another DUNNAGE_ROOT", root.display())]
    NewerFormat {
        /// The store.
        root: PathBuf,
        /// What it says.
        found: String,
        /// What we write.
        known: u32,
    },
    /// Others could put anything into the store.
    #[error("the store {} can be written by others, so nothing in it can be trusted: chmod 700 it, or use another DUNNAGE_ROOT", .0.display())]
    OpenToOthers(PathBuf),
    /// The store belongs to somebody else.
    #[error("the store {} belongs to user {owner}: work as that user, or use another DUNNAGE_ROOT", root.display())]
    OfAnother {
        /// The store.
        root: PathBuf,
        /// Its owner.
        owner: u32,
    },
    /// The store was written by a preview.
    #[error("the store {} was made by a preview of dunnage (format 1): remove it, or use another DUNNAGE_ROOT, and build or load its images again", root.display())]
    PreviewFormat {
        /// The store.
        root: PathBuf,
    },
    /// Text that is no digest.
    #[error("`{0}` is not a digest: it must be like sha256: and 64 hexadecimal digits")]
    BadDigest(String),
    /// Text that is no image name.
    #[error("{0}")]
    BadReference(String),
    /// Text that is no platform.
    #[error("`{0}` is not a platform: it must be like linux/amd64 or linux/arm/v7")]
    BadPlatform(String),
    /// Bytes that are not what their name says.
    #[error("content is damaged: expected {expected}, found {found}")]
    DigestMismatch {
        /// The name.
        expected: Digest,
        /// What the bytes give.
        found: Digest,
    },
    /// A layer that an image needs is gone.
    #[error("layer {0} is not in the store: build or load the image again")]
    LayerNotFound(DiffId),
    /// No image has this name or id.
    #[error("no image `{text}` in the store{}", suggestion(nearest.as_deref()))]
    ImageNotFound {
        /// As the user wrote it.
        text: String,
        /// A name much alike.
        nearest: Option<String>,
    },
    /// An image's configuration is not what its id says.
    #[error(
        "the configuration of image {0} is damaged: build or load it again, or put it aside with `dunnage system check --repair`"
    )]
    ImageDamaged(String),
    /// A name's file holds no image id.
    #[error("the name `{0}` is damaged: give it again with `dunnage tag`, or build or load its image again")]
    NameDamaged(String),
    /// Several images have ids that begin so.
    #[error("`{0}` is the beginning of several image ids: give more digits")]
    AmbiguousId(String),
    /// An archive breaks the rules of its format.
    #[error("the archive is malformed at `{entry}`: {reason}")]
    Archive {
        /// The entry, escaped.
        entry: String,
        /// What is wrong.
        reason: String,
    },
    /// An archive is larger than what is accepted.
    #[error("the archive passes a limit: {0}")]
    Limit(String),
    /// A document of the store or an archive cannot be read as what it should be.
    #[error("{what} cannot be read: {reason}")]
    Document {
        /// What it is.
        what: String,
        /// The parser's words.
        reason: String,
    },
    /// A cache beyond the store fails, or holds what it should not.
    #[error("the cache {name} cannot be used: {reason}")]
    RemoteCache {
        /// Where it is.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// A container of this name exists.
    #[error(
        "the container name `{name}` is in use by container {id}: choose another, or remove that one with `dunnage rm`"
    )]
    NameInUse {
        /// The name.
        name: String,
        /// Its holder.
        id: String,
    },
    /// A name that no network can have.
    #[error("invalid network name `{0}`: it begins with a letter or digit, and has letters, digits, `_`, `.` and `-`")]
    BadNetworkName(String),
    /// A network has this name.
    #[error("a network named `{0}` is there already: remove it first, or take another name")]
    NetworkExists(String),
    /// No network has this name.
    #[error("no network `{0}`: `dunnage network ls` shows all, `dunnage network create {0}` makes it")]
    NetworkNotFound(String),
    /// Containers are on the network.
    #[error("network `{name}` is in use by {containers}: stop them first, or disconnect them")]
    NetworkInUse {
        /// The network.
        name: String,
        /// Who is on it.
        containers: String,
    },
    /// No container has this id.
    #[error("no container `{0}`: `dunnage ps -a` lists them")]
    ContainerNotFound(String),
    /// A container stands on the image.
    #[error("image {image} is used by container {}: {remedy}", container.chars().take(12).collect::<String>())]
    ImageInUse {
        /// As the user wrote it.
        image: String,
        /// The container's id.
        container: String,
        /// What helps.
        remedy: &'static str,
    },
    /// Another process runs the container, or is about to.
    #[error("container {id} is in use by another process")]
    ContainerInUse {
        /// The container.
        id: String,
    },
    /// A volume's name breaks the rules.
    #[error("`{name}` is not a valid volume name: {reason}")]
    BadVolumeName {
        /// As the user wrote it.
        name: String,
        /// The rule.
        reason: String,
    },
    /// A container has the volume.
    #[error("volume `{name}` is in use by container {}: remove that one first", container.chars().take(12).collect::<String>())]
    VolumeInUse {
        /// Its name.
        name: String,
        /// The container's id.
        container: String,
    },
    /// A build that is still running cannot be removed.
    #[error("build {0} is running: stop it first")]
    BuildRuns(String),
    /// A file that two layers have is not what the later one must hold.
    #[error("{}: is not what it was when a layer before held it", .0.display())]
    NotAsShared(PathBuf),
    /// A path inside a tree cannot be what it should be.
    #[error("{}: {reason}", path.display())]
    Tree {
        /// Inside the tree.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

fn suggestion(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |name| format!("; did you mean `{name}`?"))
}

fn no_space(needed: Option<u64>, free: Option<u64>, quota: bool) -> String {
    let what = if quota { "your share of the disk is used up" } else { "no space is left on the disk" };
    let figures = match (needed, free) {
        (Some(needed), Some(free)) => format!(" ({needed} bytes are needed, {free} are free)"),
        (Some(needed), None) => format!(" ({needed} bytes are needed)"),
        (None, Some(free)) => format!(" ({free} bytes are free)"),
        (None, None) => String::new(),
    };
    format!("{what}{figures}; make room, with `dunnage system prune` for instance, and try again")
}

/// Bytes that a user may still write to the disk of a path, or of what is there above it.
pub(crate) fn free_bytes(path: &Path) -> Option<u64> {
    let stat = path.ancestors().filter(|path| path.is_absolute()).find_map(|path| rustix::fs::statvfs(path).ok())?;
    stat.f_bavail.checked_mul(stat.f_frsize)
}

/// An error of the store on its way through a reader or writer.
impl From<Error> for io::Error {
    fn from(error: Error) -> io::Error {
        let kind = match &error {
            Error::Path { source, .. } => source.kind(),
            Error::DiskFull { .. } => io::ErrorKind::StorageFull,
            _ => io::ErrorKind::Other,
        };
        io::Error::new(kind, error)
    }
}

impl Error {
    /// What the kernel said of a path. A full disk is told apart: there is a way out of it.
    pub fn at(doing: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Error {
        let path = path.into();
        match source.kind() {
            kind @ (io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) => {
                let quota = kind == io::ErrorKind::QuotaExceeded;
                Error::DiskFull { doing, free: free_bytes(&path), path, needed: None, quota }
            }
            _ => Error::Path { doing, path, source },
        }
    }

    /// Adds how much was to be written.
    #[must_use]
    pub fn needing(mut self, bytes: u64) -> Error {
        if let Error::DiskFull { needed, .. } = &mut self {
            *needed = needed.or(Some(bytes));
        }
        self
    }

    /// Adds in which directory of the host the path of a tree was to be written.
    #[must_use]
    pub fn below(mut self, directory: &Path) -> Error {
        if let Error::DiskFull { path, free, .. } = &mut self
            && path.is_relative()
        {
            *path = directory.join(&path);
            *free = free_bytes(directory);
        }
        self
    }

    pub(crate) fn kernel_error(&self) -> Option<i32> {
        match self {
            Error::Path { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }

    /// The kernel could not read: this says nothing of what is there, as an entry that is missing does.
    pub(crate) fn is_failed_read(&self) -> bool {
        self.kernel_error()
            .is_some_and(|errno| ![libc::ENOENT, libc::ENOTDIR, libc::ELOOP, libc::EISDIR].contains(&errno))
    }

    /// There was no room for it.
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Error::DiskFull { .. })
    }

    /// The machine is to blame (disk, rights), not the input.
    pub fn is_environment(&self) -> bool {
        matches!(
            self,
            Error::Path { .. }
                | Error::DiskFull { .. }
                | Error::NewerFormat { .. }
                | Error::PreviewFormat { .. }
                | Error::OpenToOthers(_)
                | Error::FewIds { .. }
                | Error::OfAnother { .. }
        )
    }

    /// The same error, and a better one where the kernel lets nobody but root make devices.
    pub(crate) fn of_device(self, path: &std::path::Path) -> Error {
        match self {
            Error::Path { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                Error::DeviceNode { path: path.to_owned() }
            }
            other => other,
        }
    }

    /// Whether this tells that there is no such network.
    pub fn is_missing_network(&self) -> bool {
        matches!(self, Error::NetworkNotFound(_))
    }

    pub(crate) fn path(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Error {
        let path = path.into();
        move |source| Error::at(doing, path, source)
    }

    pub(crate) fn errno(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(rustix::io::Errno) -> Error {
        let path = path.into();
        move |errno| Error::at(doing, path, errno.into())
    }

    pub(crate) fn archive(entry: impl AsRef<[u8]>, reason: impl Into<String>) -> Error {
        Error::Archive { entry: escaped(entry.as_ref()), reason: reason.into() }
    }

    pub(crate) fn document(what: impl Into<String>, reason: impl ToString) -> Error {
        Error::Document { what: what.into(), reason: reason.to_string() }
    }
}

/// Foreign bytes as text that cannot drive a terminal, at most 200 characters.
pub(crate) fn escaped(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).chars().take(200).flat_map(char::escape_debug).collect()
}
