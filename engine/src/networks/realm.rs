//! `Realm`: where the networks of a user without rights are. It plays the part that the machine's own network namespace
//! plays for root: the bridges' cables end in it, and from it there is one way out. All who have a container on a network
//! hold it, and it ends with the last of them.

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use runtime::network::{NetworkNamespace, share_descriptor};
use rustix::fs::{FlockOperation, OFlags, flock, fstat};
use serde::{Deserialize, Serialize};

use super::uplink::{Uplink, UplinkProgram};
use crate::Engine;
use crate::error::{Error, Result};

/// Who holds it, in the store.
const FILE: &str = "realm";
const LIMIT: u64 = 256 << 10;

/// A namespace for networks, held.
#[derive(Debug)]
pub(crate) struct Realm {
    namespace: NetworkNamespace,
    uplink: Option<Uplink>,
    closed: Option<String>,
}

/// Where a living process holds it.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Holder {
    pid: u32,
    /// When that started: with its number it is one process and no other.
    start: u64,
    namespace: (i32, u64),
    uplink: Option<(i32, u64)>,
}

impl Engine {
    /// Where the networks are whose host is not the machine: none where this process has the machine's rights.
    pub(crate) fn realm(&self) -> Result<Option<Realm>> {
        if !runtime::in_user_namespace() {
            return Ok(None);
        }
        Realm::enter(self.root(), &UplinkProgram::all(&self.programs)).map(Some)
    }
}

impl Realm {
    /// That of those who hold it already, else a new one.
    fn enter(store: &Path, programs: &[UplinkProgram]) -> Result<Realm> {
        let path = store.join(FILE);
        let failed = |source| Error::file("open", &path, source);
        let flags = OFlags::NOFOLLOW.bits().cast_signed();
        let mut open = OpenOptions::new();
        let open = open.read(true).append(true).create(true).mode(0o600).custom_flags(flags);
        let mut file = open.open(&path).map_err(failed)?;
        rustix::io::retry_on_intr(|| flock(&file, FlockOperation::LockExclusive))
            .map_err(|errno| failed(errno.into()))?;
        let mut text = Vec::new();
        (&file).take(LIMIT).read_to_end(&mut text).map_err(failed)?;
        let text = String::from_utf8_lossy(&text);
        let mut holders: Vec<Holder> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        holders.retain(|holder| runtime::start_time(holder.pid) == Some(holder.start));
        let known = holders.iter().find_map(Holder::adopt);
        let (namespace, uplink) = match known {
            Some((namespace, uplink)) => (namespace, uplink.filter(Uplink::lives)),
            None => (NetworkNamespace::new()?, None),
        };
        let mut realm = Realm { namespace, uplink, closed: None };
        if realm.uplink.is_none() {
            match Uplink::start(programs, &realm.namespace) {
                Ok(uplink) => realm.uplink = Some(uplink),
                Err(error) => realm.closed = Some(error.to_string()),
            }
        }
        holders.push(realm.holder()?);
        let lines: Vec<String> = holders.iter().filter_map(|holder| serde_json::to_string(holder).ok()).collect();
        // In place, for the lock is on this file: whoever dies in between leaves lines that mean nobody.
        file.set_len(0).and_then(|()| file.write_all((lines.join("\n") + "\n").as_bytes())).map_err(failed)?;
        Ok(realm)
    }

    /// What plays the host's part.
    pub(crate) fn namespace(&self) -> &NetworkNamespace {
        &self.namespace
    }

    /// Why there is no way out.
    pub(crate) fn closed(&self) -> Option<&str> {
        self.closed.as_deref()
    }

    fn holder(&self) -> Result<Holder> {
        let pid = std::process::id();
        let uplink = self.uplink.as_ref().map(|uplink| (uplink.hold().as_raw_fd(), inode(uplink.hold())));
        Ok(Holder {
            pid,
            start: runtime::start_time(pid).unwrap_or(0),
            namespace: (self.namespace.fd().as_raw_fd(), self.namespace.identity()?),
            uplink,
        })
    }
}

impl Holder {
    /// What it holds, if it does so still.
    fn adopt(&self) -> Option<(NetworkNamespace, Option<Uplink>)> {
        let shared = |(number, identity): (i32, u64)| {
            let descriptor = share_descriptor(self.pid, number).ok()?;
            (inode(&descriptor) == identity).then_some(descriptor)
        };
        let namespace = NetworkNamespace::from_fd(shared(self.namespace)?).ok()?;
        Some((namespace, self.uplink.and_then(shared).map(Uplink::shared)))
    }
}

fn inode(descriptor: &OwnedFd) -> u64 {
    fstat(descriptor).map_or(0, |stat| stat.st_ino)
}
