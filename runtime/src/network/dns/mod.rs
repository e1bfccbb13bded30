//! `Resolver`: the names of a container's networks, answered at 127.0.0.11 inside the container by the process that looks
//! after it. What is not theirs is asked of the host's own resolvers, from the host.
mod message;
mod relay;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use self::message::{A, AAAA, Outcome, PTR, Question, Record, UDP_LIMIT};
use self::relay::{Relay, ask_by_tcp, serve_tcp};
use super::namespace::NetworkNamespace;
use super::worker::Worker;
use crate::error::{Error, Result};

/// Where a container asks for names.
pub const RESOLVER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);
const PORT: u16 = 53;
/// The largest message that there is.
const LARGEST_MESSAGE: usize = 65535;
/// Connections that are served at a time.
const MOST_CONNECTIONS: usize = 16;

/// Whose a name or an address is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Known<T> {
    /// It is ours, and this is what is known of it; nothing, perhaps.
    Ours(T),
    /// Others may know of it.
    Elsewhere,
}

/// What a resolver knows. It is asked anew each time.
pub trait Names: Send {
    /// The addresses of a name, in small letters.
    fn addresses(&mut self, name: &str) -> Known<Option<Vec<IpAddr>>>;
    /// The name of an address.
    fn name_of(&mut self, address: IpAddr) -> Known<Option<String>>;
    /// Who is asked for what is not ours, in this order.
    fn upstreams(&mut self) -> Vec<SocketAddr>;
}

type Shared = Arc<Mutex<Box<dyn Names>>>;

/// A resolver that answers until this ends.
#[derive(Debug)]
pub struct Resolver {
    _worker: Worker,
}

impl Resolver {
    /// Starts one inside a container.
    ///
    /// # Errors
    /// When its port is taken.
    pub fn start(container: &NetworkNamespace, names: Box<dyn Names>) -> Result<Resolver> {
        let failed = |source| Error::Network { doing: "serving names to the container".to_owned(), source };
        let address = SocketAddr::new(RESOLVER.into(), PORT);
        let (udp, tcp) = container.within(|| {
            let udp = UdpSocket::bind(address).map_err(failed)?;
            let tcp = TcpListener::bind(address).map_err(failed)?;
            Ok((udp, tcp))
        })?;
        udp.set_nonblocking(true).and_then(|()| tcp.set_nonblocking(true)).map_err(failed)?;
        let names: Shared = Arc::new(Mutex::new(names));
        let server = Server { udp, tcp, names, relays: Vec::new(), connections: Arc::default() };
        let worker = Worker::start("names", move |stopped| server.serve(&stopped)).map_err(failed)?;
        Ok(Resolver { _worker: worker })
    }
}

struct Server {
    udp: UdpSocket,
    tcp: TcpListener,
    names: Shared,
    relays: Vec<Relay>,
    connections: Arc<AtomicUsize>,
}

impl Server {
    /// Until the other end of `stopped` is closed.
    fn serve(mut self, stopped: &OwnedFd) {
        let mut buffer = vec![0; LARGEST_MESSAGE];
        loop {
            let mut sockets = vec![
                PollFd::new(stopped, PollFlags::empty()),
                PollFd::new(&self.udp, PollFlags::IN),
                PollFd::new(&self.tcp, PollFlags::IN),
            ];
            sockets.extend(self.relays.iter().map(|relay| PollFd::from_borrowed_fd(relay.as_fd(), PollFlags::IN)));
            let timeout = self.relays.iter().map(Relay::deadline).min().map(from_now);
            match poll(&mut sockets, timeout.as_ref()) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(_) => return,
            }
            let ready: Vec<bool> = sockets.iter().map(|socket| !socket.revents().is_empty()).collect();
            drop(sockets);
            let is_ready = |at: usize| ready.get(at).copied().unwrap_or(false);
            if is_ready(0) {
                return;
            }
            let mut at = 3;
            self.relays.retain_mut(|relay| {
                let goes_on =
                    if is_ready(at) { relay.take_answer(&self.udp, &mut buffer) } else { relay.wait(&self.udp) };
                at += 1;
                goes_on
            });
            if is_ready(1) {
                self.take_queries(&mut buffer);
            }
            if is_ready(2) {
                self.take_connection();
            }
        }
    }

    fn take_queries(&mut self, buffer: &mut [u8]) {
        const AT_ONCE: usize = 32;
        for _ in 0..AT_ONCE {
            let Ok((length, client)) = self.udp.recv_from(buffer) else { return };
            let query = buffer.get(..length).unwrap_or_default();
            match answer(&self.names, query, UDP_LIMIT) {
                Answer::Ours(message) => send(&self.udp, &message, client),
                Answer::Ask(question, upstreams) => {
                    Relay::begin(question, query, client, upstreams, &self.udp, &mut self.relays);
                }
                Answer::Silence => {}
            }
        }
    }

    /// Each connection has a thread for its time: they are rare, and upstream connections may be slow.
    fn take_connection(&mut self) {
        let Ok((stream, _)) = self.tcp.accept() else { return };
        if self.connections.fetch_add(1, Ordering::Relaxed) >= MOST_CONNECTIONS {
            self.connections.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        let (names, connections) = (Arc::clone(&self.names), Arc::clone(&self.connections));
        let spawned = std::thread::Builder::new().stack_size(256 << 10).spawn(move || {
            serve_tcp(&stream, |query| match answer(&names, query, LARGEST_MESSAGE) {
                Answer::Ours(message) => Some(message),
                Answer::Ask(question, upstreams) => Some(ask_by_tcp(&question, query, &upstreams)),
                Answer::Silence => None,
            });
            connections.fetch_sub(1, Ordering::Relaxed);
        });
        if spawned.is_err() {
            self.connections.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// What is to be done with a query.
enum Answer {
    /// This is sent back.
    Ours(Vec<u8>),
    /// Others are asked.
    Ask(Question, Vec<SocketAddr>),
    /// It is none.
    Silence,
}

fn answer(names: &Shared, query: &[u8], limit: usize) -> Answer {
    let Some(question) = Question::read(query) else { return Answer::Silence };
    let Ok(mut names) = names.lock() else { return Answer::Silence };
    let reply = |outcome, records: &[Record]| Answer::Ours(question.answer(query, outcome, records, limit));
    let known = match (question.kind, question.reversed()) {
        (PTR, Some(address)) => match names.name_of(address) {
            Known::Ours(name) => Known::Ours(name.map(|name| vec![Record::Pointer(name)])),
            Known::Elsewhere => Known::Elsewhere,
        },
        _ => match names.addresses(&question.name) {
            Known::Ours(addresses) => Known::Ours(addresses.map(|all| wanted(&question, all))),
            Known::Elsewhere => Known::Elsewhere,
        },
    };
    match known {
        Known::Ours(Some(records)) => reply(Outcome::Found, &records),
        Known::Ours(None) => reply(Outcome::NoSuchName, &[]),
        Known::Elsewhere => match names.upstreams() {
            upstreams if upstreams.is_empty() => reply(Outcome::NoSuchName, &[]),
            upstreams => Answer::Ask(question, upstreams),
        },
    }
}

/// Those of the family that is asked for, beginning with another one each time.
fn wanted(question: &Question, mut addresses: Vec<IpAddr>) -> Vec<Record> {
    addresses.retain(|address| match question.kind {
        A => address.is_ipv4(),
        AAAA => address.is_ipv6(),
        _ => false,
    });
    if !addresses.is_empty() {
        let first = usize::from(question.id) % addresses.len();
        addresses.rotate_left(first);
    }
    addresses.into_iter().map(Record::Address).collect()
}

fn send(socket: &UdpSocket, message: &[u8], client: SocketAddr) {
    // A client that is gone asks no more; one that is there asks again.
    let _: io::Result<usize> = socket.send_to(message, client);
}

fn from_now(deadline: Instant) -> Timespec {
    let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
    Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() }
}
