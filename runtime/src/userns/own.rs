//! `UserNamespace`: a user namespace for one container, by its descriptor. Its users are others on the machine, and what
//! it is shown of the machine's files is shown by mounts that map their owners, so that nothing is changed on any disk.
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::idmap::IdRanges;
use crate::start::give_ids;
use crate::sys::clone::{Cloneable, NewNamespaces};
use crate::sys::file_owner::FileOwner;
use crate::sys::mount::{Reach, map_ids};
use crate::sys::userns::Holder;

/// A user namespace that nobody need be in: it lives as long as somebody holds it.
#[derive(Debug)]
pub struct UserNamespace {
    fd: OwnedFd,
    /// A network that belongs to it, where one was asked for.
    network: Option<Arc<OwnedFd>>,
    ids: IdRanges,
    /// Who was in it at first, until somebody has time to wait for its end.
    holder: Mutex<Option<Holder>>,
}

impl UserNamespace {
    /// A new one with these ids, which must have a user 0 and a group 0. With `network` it owns a network namespace too:
    /// only the owner of a network is its superuser.
    ///
    /// # Errors
    /// Where the kernel allows no such namespace, or not these ids.
    pub fn new(ids: IdRanges, network: bool) -> Result<UserNamespace> {
        if ids.user(0).is_none() || ids.group(0).is_none() {
            return Err(Error::invalid("user namespace", "needs a user 0 and a group 0, which set the container up"));
        }
        let mut namespaces = NewNamespaces::default();
        namespaces.insert(Cloneable::User);
        if network {
            namespaces.insert(Cloneable::Net);
        }
        let holder = Holder::split_off(namespaces).map_err(super::refused)?;
        let pid = holder.pid.unsigned_abs();
        give_ids(pid, &ids)?;
        let open = |name: &str| -> Result<OwnedFd> {
            let file = File::open(format!("/proc/{pid}/ns/{name}"));
            file.map(OwnedFd::from)
                .map_err(|source| Error::Container { doing: "opening the user namespace of the container", source })
        };
        let fd = open("user")?;
        let network = if network { Some(Arc::new(open("net")?)) } else { None };
        holder.end();
        Ok(UserNamespace { fd, network, ids, holder: Mutex::new(Some(holder)) })
    }

    /// Which ids its users are on the machine.
    #[must_use]
    pub fn ids(&self) -> &IdRanges {
        &self.ids
    }

    /// Leaves no process behind. It has long ended when a container has begun.
    pub(crate) fn settle(&self) {
        self.holder.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    pub(crate) fn network(&self) -> Option<&Arc<OwnedFd>> {
        self.network.as_ref()
    }

    /// This thread makes files as the namespace's user 0 until this is dropped. What it makes on a mount with mapped ids
    /// can be of no other.
    pub(crate) fn file_owner(&self) -> Result<FileOwner> {
        let (uid, gid) = (self.ids.user(0).unwrap_or(0), self.ids.group(0).unwrap_or(0));
        FileOwner::hold(uid, gid).map_err(Error::container("making files as the container's user 0"))
    }

    /// Maps the ids of the files of a mount that is attached nowhere yet.
    pub(crate) fn map(&self, mount: impl AsFd, reach: Reach, of: &Path) -> Result<()> {
        map_ids(mount, self.fd.as_fd(), reach).map_err(|errno| cannot_map(of, errno))
    }
}

impl AsFd for UserNamespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn cannot_map(of: &Path, errno: Errno) -> Error {
    let (why, remedy) = match errno {
        Errno::INVAL => (
            format!("the file system of {} shows no files with mapped owners", of.display()),
            "use ext4, xfs or btrfs there, or --userns host",
        ),
        Errno::PERM => (
            "only the machine's own root may show files with mapped owners".to_owned(),
            "run as root outside of containers, or with --userns host",
        ),
        Errno::NOSYS => {
            ("this kernel shows no files with mapped owners".to_owned(), "use Linux 5.12 or newer, or --userns host")
        }
        errno => (
            format!("the kernel shows no files of {} with mapped owners ({errno})", of.display()),
            "--userns host does without",
        ),
    };
    Error::UserNamespace { why, remedy: remedy.to_owned() }
}
