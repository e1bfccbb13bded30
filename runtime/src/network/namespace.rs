//! `NetworkNamespace`: a network namespace by its descriptor. Nothing is mounted for it: it lives as long as somebody
//! holds it, and goes with everything in it.
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::Builder;

use rustix::io::Errno;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::links::routes;
use super::netlink::{Family, Socket};
use crate::error::{Error, Result};
use crate::sys;
use crate::userns::UserNamespace;

/// A network namespace, and a socket that speaks about it.
#[derive(Debug)]
pub struct NetworkNamespace {
    fd: Arc<OwnedFd>,
    pub(super) links: Socket,
    furnished: bool,
}

impl NetworkNamespace {
    /// A new one with its loopback device up, in which every user may ping and listen below port 1024.
    ///
    /// # Errors
    /// Where the kernel does not allow it.
    pub fn new() -> Result<NetworkNamespace> {
        on_thread(NetworkNamespace::own)
    }

    /// Begins to make the same, while the caller does something else: of all that a container needs the kernel takes
    /// longest for this. What else has time until then, `meanwhile`, follows on the same thread.
    #[must_use]
    pub fn ahead(meanwhile: impl FnOnce() + Send + 'static) -> NamespaceAhead {
        let (tell, made) = sync_channel(1);
        // Who has gone away meanwhile needs none.
        let thread = thread().spawn(move || {
            drop(tell.send(NetworkNamespace::own()));
            meanwhile();
        });
        NamespaceAhead { made: thread.ok().map(|_| made) }
    }

    /// This thread's.
    fn own() -> Result<NetworkNamespace> {
        sys::network::own_namespace().map_err(failed("making a network namespace"))?;
        NetworkNamespace::furnish()
    }

    /// The one that belongs to a user namespace, made ready in the same way.
    ///
    /// # Errors
    /// When the user namespace was made without.
    pub fn of(users: &UserNamespace) -> Result<NetworkNamespace> {
        let namespace =
            users.network().ok_or(Errno::NODEV).map_err(failed("finding the network of a user namespace"))?;
        within(namespace.as_fd(), NetworkNamespace::furnish)
    }

    fn furnish() -> Result<NetworkNamespace> {
        sys::network::loopback_up().map_err(failed("bringing the loopback device up"))?;
        // As docker sets them: there is nothing in it yet that could be protected. A kernel without them is as good.
        let settings = [("ping_group_range", "0 2147483647"), ("ip_unprivileged_port_start", "0")];
        let written = settings.map(|(name, value)| std::fs::write(format!("/proc/sys/net/ipv4/{name}"), value));
        let furnished = written.iter().all(io::Result::is_ok);
        Ok(NetworkNamespace { furnished, ..NetworkNamespace::here()? })
    }

    /// Whether it was made here, and every user may ping and listen below port 1024 in it. Where /proc/sys cannot be written
    /// to, the sandbox may still set that by its own.
    #[must_use]
    pub fn is_furnished(&self) -> bool {
        self.furnished
    }

    /// A new one whose devices have no addresses, not even such as they would give themselves.
    pub(super) fn for_switching() -> Result<NetworkNamespace> {
        on_thread(|| {
            sys::network::own_namespace().map_err(failed("making a network namespace"))?;
            // A kernel without IPv6 has no such file and needs none.
            let _ = std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
            NetworkNamespace::here()
        })
    }

    /// The one of the caller.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn current() -> Result<NetworkNamespace> {
        NetworkNamespace::here()
    }

    /// The one behind a descriptor.
    ///
    /// # Errors
    /// When it is none, or may not be entered.
    pub fn from_fd(fd: OwnedFd) -> Result<NetworkNamespace> {
        let links = within(fd.as_fd(), || Socket::open(Family::Route).map_err(failed("opening a netlink socket")))?;
        Ok(NetworkNamespace { fd: Arc::new(fd), links, furnished: false })
    }

    /// The descriptor, for a sandbox that joins it.
    #[must_use]
    pub fn fd(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.fd)
    }

    /// Calls this on a thread that is inside: sockets that it makes belong there for ever.
    ///
    /// # Errors
    /// When it may not be entered, and what `call` says.
    pub fn within<T: Send>(&self, call: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        within(self.fd.as_fd(), call)
    }

    /// Whether there is a way out of it.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn has_way_out(&self) -> Result<bool> {
        Ok(routes(&self.links)?.iter().any(|route| route.to.is_none() && route.device != 0))
    }

    /// What tells it from all others that live.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub fn identity(&self) -> Result<u64> {
        rustix::fs::fstat(&self.fd).map(|stat| stat.st_ino).map_err(failed("asking for a network namespace"))
    }

    /// Holds what is decided for the namespace as a whole: nobody else decides meanwhile, in whatever store.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn lock(&self) -> Result<NamespaceLock> {
        // Another description of the same file, so that closing it frees the lock.
        let path = format!("/proc/thread-self/fd/{}", self.fd.as_raw_fd());
        let file =
            File::open(path).map_err(|source| Error::Network { doing: "locking the network".to_owned(), source })?;
        let lock = || rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive);
        rustix::io::retry_on_intr(lock).map_err(failed("locking the network"))?;
        Ok(NamespaceLock { _file: file })
    }

    fn here() -> Result<NetworkNamespace> {
        let fd = File::open("/proc/thread-self/ns/net")
            .map_err(|source| Error::Network { doing: "opening a network namespace".to_owned(), source })?;
        let links = Socket::open(Family::Route).map_err(failed("opening a netlink socket"))?;
        Ok(NetworkNamespace { fd: Arc::new(fd.into()), links, furnished: false })
    }
}

/// A network namespace in the making.
#[derive(Debug)]
pub struct NamespaceAhead {
    /// Nothing where no thread could be had.
    made: Option<Receiver<Result<NetworkNamespace>>>,
}

impl NamespaceAhead {
    /// Waits for it.
    ///
    /// # Errors
    /// As of [`NetworkNamespace::new`].
    pub fn finish(self) -> Result<NetworkNamespace> {
        match self.made {
            Some(made) => made.recv().unwrap_or_else(|_| Err(no_thread(io::ErrorKind::Other.into()))),
            None => NetworkNamespace::new(),
        }
    }
}

/// A namespace, held for a decision.
#[derive(Debug)]
pub struct NamespaceLock {
    _file: File,
}

impl AsFd for NetworkNamespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn within<T: Send>(namespace: BorrowedFd<'_>, call: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    on_thread(|| {
        enter(namespace)?;
        call()
    })
}

/// Moves the calling thread, and those that it starts, into a namespace.
pub(super) fn enter(namespace: BorrowedFd<'_>) -> Result<()> {
    let net = Some(LinkNameSpaceType::Network);
    move_into_link_name_space(namespace, net).map_err(failed("entering a network namespace"))
}

/// A namespace is a thread's, so another one goes in and ends there.
fn on_thread<T: Send>(call: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| match thread().spawn_scoped(scope, call) {
        Ok(thread) => thread.join().unwrap_or_else(|_| Err(no_thread(io::ErrorKind::Other.into()))),
        Err(error) => Err(no_thread(error)),
    })
}

/// What it does is shallow.
fn thread() -> Builder {
    Builder::new().stack_size(256 << 10)
}

fn no_thread(source: io::Error) -> Error {
    Error::Network { doing: "using a thread".to_owned(), source }
}

pub(super) fn failed(doing: &'static str) -> impl FnOnce(Errno) -> Error {
    move |errno| Error::Network { doing: doing.to_owned(), source: errno.into() }
}
