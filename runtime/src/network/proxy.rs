//! `Proxy`: published ports where no packet filter of the machine may be changed. Threads take what comes to the ports
//! and carry it into the container's namespace; with the process that holds them the ports are gone.
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::namespace::NetworkNamespace;
use super::nft::Transport;
use super::pump::pump;
use super::worker::Worker;
use crate::error::{Error, Result};

/// Connections at a time, for one container.
const MOST_CONNECTIONS: usize = 2048;
/// Senders of datagrams that are remembered at a time, for one container.
const MOST_SENDERS: usize = 1024;
/// How long a sender of datagrams that is silent is remembered.
const SILENCE: Duration = Duration::from_secs(90);
/// A container that answers nothing.
const PATIENCE: Duration = Duration::from_secs(10);
const LARGEST_DATAGRAM: usize = 65_536;
/// Connections that wait to be taken.
const BACKLOG: i32 = 128;

/// A socket of the host, bound to its port, and the port of the container that its traffic goes to.
#[derive(Debug)]
pub(super) struct Way {
    pub(super) socket: OwnedFd,
    pub(super) transport: Transport,
    pub(super) to: Target,
}

/// A port of the container.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target {
    pub(super) port: u16,
    /// What the address is of those that come.
    pub(super) is_ipv4: bool,
}

/// The container's addresses. Bytes have no family: one who comes by IPv6 is answered by IPv4 where there is no other.
#[derive(Clone, Debug)]
struct Addresses(Arc<Mutex<Vec<IpAddr>>>);

impl Addresses {
    fn find(&self, target: Target) -> Option<SocketAddr> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let same = all.iter().find(|address| address.is_ipv4() == target.is_ipv4);
        Some(SocketAddr::new(*same.or(all.first())?, target.port))
    }
}

/// Ports that are served until this ends.
#[derive(Debug)]
pub(super) struct Proxy {
    addresses: Addresses,
    _worker: Worker,
}

impl Proxy {
    pub(super) fn start(container: &NetworkNamespace, ways: Vec<Way>, addresses: &[IpAddr]) -> Result<Proxy> {
        let failed = |source| Error::Network { doing: "serving published ports".to_owned(), source };
        let (mut listeners, mut sockets) = (Vec::new(), Vec::new());
        for way in ways {
            match way.transport {
                Transport::Tcp => {
                    // It was taken with room for one.
                    rustix::net::listen(&way.socket, BACKLOG).map_err(|errno| failed(errno.into()))?;
                    let listener = TcpListener::from(way.socket);
                    listener.set_nonblocking(true).map_err(failed)?;
                    listeners.push((listener, way.to));
                }
                Transport::Udp => {
                    let socket = UdpSocket::from(way.socket);
                    socket.set_nonblocking(true).map_err(failed)?;
                    sockets.push((Arc::new(socket), way.to));
                }
            }
        }
        let inside = container.fd();
        let addresses = Addresses(Arc::new(Mutex::new(addresses.to_vec())));
        let of_server = addresses.clone();
        let worker = Worker::start("ports", move |stopped| {
            let server = Server {
                stopped: Arc::new(stopped),
                addresses: of_server,
                listeners,
                sockets,
                senders: Vec::new(),
                connections: Arc::default(),
            };
            // Sockets that this thread, and those that it makes, open are the container's.
            if super::namespace::enter(inside.as_fd()).is_ok() {
                server.serve();
            }
        });
        Ok(Proxy { addresses, _worker: worker.map_err(failed)? })
    }

    /// Those who come from now on are led to these addresses.
    pub(super) fn lead_to(&self, addresses: &[IpAddr]) {
        *self.addresses.0.lock().unwrap_or_else(PoisonError::into_inner) = addresses.to_vec();
    }
}

/// One who sent datagrams, and the socket in the container that answers come to.
struct Sender {
    from: SocketAddr,
    outside: Arc<UdpSocket>,
    inside: UdpSocket,
    to: SocketAddr,
    last: Instant,
}

struct Server {
    stopped: Arc<OwnedFd>,
    addresses: Addresses,
    listeners: Vec<(TcpListener, Target)>,
    sockets: Vec<(Arc<UdpSocket>, Target)>,
    senders: Vec<Sender>,
    connections: Arc<AtomicUsize>,
}

impl Server {
    /// Until the other end of `stopped` is closed.
    fn serve(mut self) {
        let mut buffer = vec![0; LARGEST_DATAGRAM];
        let (listeners, sockets) = (self.listeners.len(), self.sockets.len());
        loop {
            let ready = match self.wait() {
                Ok(ready) => ready,
                Err(rustix::io::Errno::INTR) => continue,
                Err(_) => return,
            };
            let is_ready = |at: usize| ready.get(at).copied().unwrap_or(false);
            if is_ready(0) {
                return;
            }
            let answers = 1 + listeners + sockets;
            for (at, sender) in self.senders.iter_mut().enumerate() {
                if is_ready(answers + at) {
                    sender.answer(&mut buffer);
                }
            }
            for at in (0..sockets).filter(|at| is_ready(1 + listeners + at)) {
                self.take_datagrams(at, &mut buffer);
            }
            for (listener, to) in
                self.listeners.iter().enumerate().filter(|(at, _)| is_ready(1 + at)).map(|(_, way)| way)
            {
                self.take_connection(listener, *to);
            }
            self.senders.retain(|sender| sender.last.elapsed() < SILENCE);
        }
    }

    fn wait(&self) -> std::result::Result<Vec<bool>, rustix::io::Errno> {
        let reads = |fd| PollFd::from_borrowed_fd(fd, PollFlags::IN);
        let mut all = vec![PollFd::new(&*self.stopped, PollFlags::empty())];
        all.extend(self.listeners.iter().map(|(listener, _)| reads(listener.as_fd())));
        all.extend(self.sockets.iter().map(|(socket, _)| reads(socket.as_fd())));
        all.extend(self.senders.iter().map(|sender| reads(sender.inside.as_fd())));
        let silence = Timespec { tv_sec: SILENCE.as_secs().cast_signed(), tv_nsec: 0 };
        poll(&mut all, (!self.senders.is_empty()).then_some(&silence))?;
        Ok(all.iter().map(|socket| !socket.revents().is_empty()).collect())
    }

    fn take_connection(&self, listener: &TcpListener, to: Target) {
        let client = match listener.accept() {
            Ok((client, _)) => client,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(_) => {
                // No descriptor is free: whoever waits goes on waiting, and this does not spin.
                std::thread::sleep(Duration::from_millis(20));
                return;
            }
        };
        // A container that nothing leads to closes the connection, as a port on which nobody listens does.
        let Some(to) = self.addresses.find(to) else { return };
        if self.connections.fetch_add(1, Ordering::Relaxed) >= MOST_CONNECTIONS {
            self.connections.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        let (stopped, connections) = (Arc::clone(&self.stopped), Arc::clone(&self.connections));
        let thread = std::thread::Builder::new().name("port".to_owned()).stack_size(128 << 10);
        let carry = move || {
            if let Ok(inside) = TcpStream::connect_timeout(&to, PATIENCE) {
                pump(&client, &inside, &stopped);
            }
            connections.fetch_sub(1, Ordering::Relaxed);
        };
        if thread.spawn(carry).is_err() {
            self.connections.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn take_datagrams(&mut self, at: usize, buffer: &mut [u8]) {
        const AT_ONCE: usize = 64;
        let Some((socket, to)) = self.sockets.get(at).map(|(socket, to)| (Arc::clone(socket), *to)) else { return };
        for _ in 0..AT_ONCE {
            let Ok((length, from)) = socket.recv_from(buffer) else { return };
            let Some(to) = self.addresses.find(to) else { continue };
            let same = |one: &Sender| one.from == from && one.to == to && Arc::ptr_eq(&one.outside, &socket);
            let known = self.senders.iter().position(same);
            let known = known.or_else(|| self.remember(from, &socket, to));
            if let Some(sender) = known.and_then(|at| self.senders.get_mut(at)) {
                sender.last = Instant::now();
                // Datagrams may be lost.
                let _ = sender.inside.send(buffer.get(..length).unwrap_or_default());
            }
        }
    }

    fn remember(&mut self, from: SocketAddr, outside: &Arc<UdpSocket>, to: SocketAddr) -> Option<usize> {
        if self.senders.len() >= MOST_SENDERS {
            let oldest = self.senders.iter().enumerate().min_by_key(|(_, sender)| sender.last)?.0;
            self.senders.swap_remove(oldest);
        }
        let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let inside = UdpSocket::bind((any, 0)).ok()?;
        inside.connect(to).and_then(|()| inside.set_nonblocking(true)).ok()?;
        self.senders.push(Sender { from, outside: Arc::clone(outside), inside, to, last: Instant::now() });
        Some(self.senders.len() - 1)
    }
}

impl Sender {
    fn answer(&mut self, buffer: &mut [u8]) {
        while let Ok(length) = self.inside.recv(buffer) {
            self.last = Instant::now();
            // Datagrams may be lost.
            let _ = self.outside.send_to(buffer.get(..length).unwrap_or_default(), self.from);
        }
    }
}
