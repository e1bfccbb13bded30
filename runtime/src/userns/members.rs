//! Which processes are in the user namespace of a store. A later one enters it beside them: only there can it reach
//! their containers. The namespace lives as long as anybody is in it, and the list is worth what the kernel says of it:
//! a line counts while its process lives and is where the line says.
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{FlockOperation, OFlags, flock, fstat};
use rustix::io::retry_on_intr;

use crate::running::start_time;

const FILE: &str = "namespace";
/// Most of the list that is read: what is longer was written by nobody who knows it.
const LIMIT: u64 = 256 << 10;

/// The list, while nobody else may read or change it.
#[derive(Debug)]
pub(super) struct Members {
    file: File,
    known: Vec<Member>,
}

/// A process, and the namespaces that it was in, by the numbers of their files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Member {
    /// Of process numbers: others count otherwise.
    pids: u64,
    pid: u32,
    /// When it started, in ticks since the machine did.
    start: u64,
    users: u64,
}

impl Members {
    /// The list of a store, made where there is none and `make` is set.
    pub(super) fn open(store: &Path, make: bool) -> io::Result<Members> {
        if make {
            DirBuilder::new().recursive(true).mode(0o700).create(store)?;
        }
        let flags = OFlags::NOFOLLOW.bits().cast_signed();
        let mut open = OpenOptions::new();
        let file = open.read(true).write(true).create(make).mode(0o600).custom_flags(flags).open(store.join(FILE))?;
        retry_on_intr(|| flock(&file, FlockOperation::LockExclusive))?;
        let mut text = Vec::new();
        (&file).take(LIMIT).read_to_end(&mut text)?;
        Ok(Members { file, known: read(&String::from_utf8_lossy(&text)) })
    }

    /// The user namespace of those that live. The dead are struck off.
    pub(super) fn namespace(&mut self) -> io::Result<Option<OwnedFd>> {
        let pids = inode("/proc/self/ns/pid")?;
        let mut found = None;
        self.known.retain(|member| {
            if member.pids != pids {
                return true;
            }
            let namespace = member.namespace();
            let lives = namespace.is_some();
            found = found.take().or(namespace);
            lives
        });
        Ok(found)
    }

    /// Puts this process on the list, for it has come to where it stays.
    pub(super) fn add_self(mut self) -> io::Result<()> {
        let pid = std::process::id();
        let (pids, users) = (inode("/proc/self/ns/pid")?, inode("/proc/self/ns/user")?);
        self.known.retain(|member| (member.pids, member.pid) != (pids, pid));
        self.known.push(Member { pids, pid, start: start_time(pid).unwrap_or(0), users });
        let text: String = self.known.iter().map(Member::line).collect();
        // Written in place, for the lock is on this file: whoever dies in between leaves lines that mean nobody.
        self.file.write_all_at(text.as_bytes(), 0)?;
        self.file.set_len(text.len() as u64)
    }
}

impl Member {
    fn line(&self) -> String {
        let Member { pids, pid, start, users } = self;
        format!("{pids} {pid} {start} {users}\n")
    }

    /// Its user namespace, if it is the process that is meant and has stayed.
    fn namespace(&self) -> Option<OwnedFd> {
        let namespace: OwnedFd = File::open(format!("/proc/{}/ns/user", self.pid)).ok()?.into();
        let same = fstat(&namespace).is_ok_and(|stat| stat.st_ino == self.users);
        // Asked last: what was opened belongs to the process that has this start time, or to none.
        (same && start_time(self.pid) == Some(self.start)).then_some(namespace)
    }
}

fn read(text: &str) -> Vec<Member> {
    let member = |line: &str| {
        let fields: Vec<u64> = line.split(' ').map(str::parse).collect::<Result<_, _>>().ok()?;
        let [pids, pid, start, users] = <[u64; 4]>::try_from(fields).ok()?;
        Some(Member { pids, pid: u32::try_from(pid).ok()?, start, users })
    };
    text.lines().filter_map(member).collect()
}

fn inode(path: &str) -> io::Result<u64> {
    Ok(fs::metadata(path)?.ino())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn list(store: &Path) -> String {
        fs::read_to_string(store.join(FILE)).unwrap()
    }

    #[test]
    fn the_living_are_found_and_the_dead_struck_off() {
        let store = tempfile::tempdir().unwrap();
        let root = store.path().join("not/yet");
        assert!(Members::open(&root, false).is_err());
        Members::open(&root, true).unwrap().add_self().unwrap();
        let own = list(&root);
        let mut dead = std::process::Command::new("true").spawn().unwrap();
        dead.wait().unwrap();
        let (pids, users) = (inode("/proc/self/ns/pid").unwrap(), inode("/proc/self/ns/user").unwrap());
        // Of one that is dead, of one that got another's number, of one elsewhere, of nobody, and half a line.
        let mine = std::process::id();
        let text = format!("{pids} {} 1 {users}\n{pids} {mine} 1 {users}\n1 2 3 4\n{own}x\n{pids} {mine}", dead.id());
        fs::write(root.join(FILE), text).unwrap();
        let mut members = Members::open(&root, false).unwrap();
        assert_eq!(fstat(members.namespace().unwrap().unwrap()).unwrap().st_ino, users);
        members.add_self().unwrap();
        assert_eq!(list(&root), format!("1 2 3 4\n{own}"));
    }

    #[test]
    fn one_who_moved_is_nobody() {
        let store = tempfile::tempdir().unwrap();
        let pids = inode("/proc/self/ns/pid").unwrap();
        let (mine, start) = (std::process::id(), start_time(std::process::id()).unwrap());
        fs::write(store.path().join(FILE), format!("{pids} {mine} {start} 7\n")).unwrap();
        assert!(Members::open(store.path(), false).unwrap().namespace().unwrap().is_none());
    }
}
