//! The caller's SSH agent inside a step: a socket of the step's own, whose connections are carried on to the agent's.
//!
//! The agent's socket itself would be of no use there: agents answer their own user only.

use std::collections::BTreeMap;
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use cache::TreeRoot;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use super::scratch::Scratch;
use crate::mounts::FileRights;

/// Most connections at once: each costs this process descriptors.
const MOST_CONNECTIONS: usize = 64;

/// Carries connections on until it is dropped.
#[derive(Debug)]
pub(super) struct AgentSocket {
    /// The socket, for mounting.
    pub(super) handle: Arc<OwnedFd>,
    directory: OwnedFd,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    _scratch: Scratch,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    open: Mutex<BTreeMap<u64, [UnixStream; 2]>>,
}

impl Shared {
    fn open(&self) -> MutexGuard<'_, BTreeMap<u64, [UnixStream; 2]>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// By descriptor: the path of a socket may have 107 bytes only.
fn socket_path(directory: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}/agent", directory.as_raw_fd()))
}

impl AgentSocket {
    /// Listens in an empty directory of ours.
    pub(super) fn listen(scratch: Scratch, agent: &Path, rights: &FileRights) -> io::Result<AgentSocket> {
        let tree = TreeRoot::open(scratch.path()).map_err(io::Error::other)?;
        let directory = tree.handle(Path::new("")).map_err(io::Error::other)?;
        let path = socket_path(&directory);
        let listener = UnixListener::bind(&path)?;
        chown(&path, Some(rights.uid.unwrap_or(0)), Some(rights.gid.unwrap_or(0)))?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(rights.mode.unwrap_or(0o600)))?;
        let handle = Arc::new(tree.handle(Path::new("agent")).map_err(io::Error::other)?);
        let shared = Arc::new(Shared::default());
        let (agent, others) = (agent.to_owned(), Arc::clone(&shared));
        let thread = std::thread::spawn(move || accept(&listener, &agent, &others));
        Ok(AgentSocket { handle, directory, shared, thread: Some(thread), _scratch: scratch })
    }
}

impl Drop for AgentSocket {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        for stream in self.shared.open().values().flatten() {
            let _ = stream.shutdown(Shutdown::Both);
        }
        // One more connection wakes the thread.
        if UnixStream::connect(socket_path(&self.directory)).is_ok()
            && let Some(thread) = self.thread.take()
        {
            let _ = thread.join();
        }
    }
}

fn accept(listener: &UnixListener, agent: &Path, shared: &Arc<Shared>) {
    for (number, stream) in (0_u64..).zip(listener.incoming()) {
        if shared.stop.load(Ordering::SeqCst) {
            return;
        }
        if shared.open().len() >= MOST_CONNECTIONS {
            continue;
        }
        // A step whose agent is gone sees a connection that closes, as it would without us.
        let (Ok(inner), Ok(outer)) = (stream, reach(agent)) else { continue };
        let (Ok(kept_inner), Ok(kept_outer)) = (inner.try_clone(), outer.try_clone()) else { continue };
        // Asked again under the lock: who ends us closes what is in the list, and nobody would close what comes after.
        let mut open = shared.open();
        if shared.stop.load(Ordering::SeqCst) {
            return;
        }
        open.insert(number, [kept_inner, kept_outer]);
        drop(open);
        let shared = Arc::clone(shared);
        std::thread::spawn(move || {
            std::thread::scope(|scope| {
                scope.spawn(|| carry(&inner, &outer));
                carry(&outer, &inner);
            });
            shared.open().remove(&number);
        });
    }
}

/// A connection to the agent. One that takes none is not waited for: neither would be the end of the step.
fn reach(agent: &Path) -> io::Result<UnixStream> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    connect(&socket, &SocketAddrUnix::new(agent)?)?;
    let stream = UnixStream::from(socket);
    stream.set_nonblocking(false)?;
    Ok(stream)
}

fn carry(mut from: &UnixStream, mut to: &UnixStream) {
    let _ = io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::time::Duration;

    /// A socket of a step, where its agent listens, and what both lie in.
    fn step() -> (AgentSocket, UnixListener, (cache::Lease, tempfile::TempDir)) {
        let directory = tempfile::tempdir().unwrap();
        let agent = directory.path().join("outer");
        let listener = UnixListener::bind(&agent).unwrap();
        let store = cache::Store::open(&directory.path().join("store")).unwrap();
        let rights = FileRights {
            mode: Some(0o640),
            uid: Some(rustix::process::getuid().as_raw()),
            gid: Some(rustix::process::getgid().as_raw()),
        };
        let lease = store.lease().unwrap();
        let socket = AgentSocket::listen(Scratch::make(&lease).unwrap(), &agent, &rights).unwrap();
        (socket, listener, (lease, directory))
    }

    fn connected(path: &Path) -> UnixStream {
        let stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
        stream
    }

    #[track_caller]
    fn ends(mut stream: UnixStream) {
        match stream.read(&mut [0; 1]) {
            Ok(count) => assert_eq!(count, 0),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "the connection outlived its step"),
        }
    }

    /// Does it on a thread, and waits for no longer than it may take.
    #[track_caller]
    fn soon(what: &str, work: impl FnOnce() + Send + 'static) {
        let (done, told) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            work();
            done.send(()).unwrap();
        });
        told.recv_timeout(Duration::from_secs(120)).unwrap_or_else(|_| panic!("{what} does not come to an end"));
    }

    #[test]
    fn connections_are_carried_on_and_end_with_the_step() {
        // Often: one that comes while the step ends is met at a different moment each time.
        (0..200).for_each(|_| soon("a step with an agent", one_step));
    }

    fn one_step() {
        let (socket, listener, _held) = step();
        std::thread::spawn(move || {
            for stream in listener.incoming().take(2) {
                let mut stream = stream.unwrap();
                let mut asked = [0; 3];
                if stream.read_exact(&mut asked).is_ok() {
                    stream.write_all(&[asked.as_slice(), b"!"].concat()).unwrap();
                }
            }
        });
        let path = socket_path(&socket.directory);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o640);
        let mut inner = connected(&path);
        inner.write_all(b"key").unwrap();
        let mut answer = String::new();
        inner.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "key!");
        let idle = connected(&path);
        drop(socket);
        ends(idle);
    }

    #[test]
    fn an_agent_that_takes_no_connections_keeps_no_step() {
        let (socket, listener, _held) = step();
        // The queue of those who wait is as short as it can be, and full.
        rustix::net::listen(&listener, 0).unwrap();
        let path = listener.local_addr().unwrap().as_pathname().unwrap().to_owned();
        let _waiting = UnixStream::connect(path).unwrap();
        let inside = connected(&socket_path(&socket.directory));
        ends(inside);
        soon("a step whose agent is stuck", move || drop(socket));
    }
}
