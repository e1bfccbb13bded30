//! Questions that are not ours: asked of the upstream resolvers in turn, and their answers handed back.
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use super::message::{Outcome, Question, UDP_LIMIT, renumber};
use super::send;

/// How long one upstream may think before the next is asked.
const PATIENCE: Duration = Duration::from_millis(1500);
/// A client says no more on its connection.
const IDLE: Duration = Duration::from_secs(5);
/// Questions on one connection.
const MOST_QUESTIONS: usize = 64;
/// Questions that wait for an upstream.
const MOST_RELAYS: usize = 128;

/// A question that an upstream has.
#[derive(Debug)]
pub(super) struct Relay {
    question: Question,
    query: Vec<u8>,
    client: SocketAddr,
    upstreams: Vec<SocketAddr>,
    socket: UdpSocket,
    /// The number under which it was asked: nobody else can guess it, nor the socket's port.
    id: u16,
    deadline: Instant,
}

impl Relay {
    /// Asks the first upstream that can be asked.
    pub(super) fn begin(
        question: Question,
        query: &[u8],
        client: SocketAddr,
        upstreams: Vec<SocketAddr>,
        answers: &UdpSocket,
        relays: &mut Vec<Relay>,
    ) {
        let mut upstreams = upstreams;
        upstreams.reverse();
        match ask(query, &mut upstreams) {
            Some((socket, id)) if relays.len() < MOST_RELAYS => {
                let deadline = Instant::now() + PATIENCE;
                relays.push(Relay { question, query: query.to_vec(), client, upstreams, socket, id, deadline });
            }
            _ => send(answers, &question.answer(query, Outcome::Failed, &[], UDP_LIMIT), client),
        }
    }

    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Hands an answer on; whether the question still waits.
    pub(super) fn take_answer(&mut self, answers: &UdpSocket, buffer: &mut [u8]) -> bool {
        match self.socket.recv(buffer) {
            Ok(length) => {
                let message = buffer.get_mut(..length).unwrap_or_default();
                if !self.question.is_answered_by(message, self.id) {
                    return true;
                }
                renumber(message, self.question.id);
                send(answers, message, self.client);
                false
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => true,
            // Nobody listens there.
            Err(_) => self.next(answers),
        }
    }

    /// Asks the next upstream when this one had its time; whether the question still waits.
    pub(super) fn wait(&mut self, answers: &UdpSocket) -> bool {
        self.deadline > Instant::now() || self.next(answers)
    }

    fn next(&mut self, answers: &UdpSocket) -> bool {
        match ask(&self.query, &mut self.upstreams) {
            Some((socket, id)) => {
                (self.socket, self.id) = (socket, id);
                self.deadline = Instant::now() + PATIENCE;
                true
            }
            None => {
                let failure = self.question.answer(&self.query, Outcome::Failed, &[], UDP_LIMIT);
                send(answers, &failure, self.client);
                false
            }
        }
    }
}

impl AsFd for Relay {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Asks the last of these that can be asked, and takes all that were tried away.
fn ask(query: &[u8], upstreams: &mut Vec<SocketAddr>) -> Option<(UdpSocket, u16)> {
    while let Some(upstream) = upstreams.pop() {
        let asked = || -> io::Result<(UdpSocket, u16)> {
            let any = match upstream {
                SocketAddr::V4(_) => SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0),
                SocketAddr::V6(_) => SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 0),
            };
            let socket = UdpSocket::bind(any)?;
            socket.set_nonblocking(true)?;
            socket.connect(upstream)?;
            let mut bytes = [0_u8; 2];
            rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
            let id = u16::from_ne_bytes(bytes);
            let mut query = query.to_vec();
            renumber(&mut query, id);
            socket.send(&query)?;
            Ok((socket, id))
        };
        if let Ok(asked) = asked() {
            return Some(asked);
        }
    }
    None
}

/// Answers the questions of one connection.
pub(super) fn serve_tcp(stream: &TcpStream, mut answer: impl FnMut(&[u8]) -> Option<Vec<u8>>) {
    let mut serve = || -> io::Result<()> {
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(IDLE))?;
        stream.set_write_timeout(Some(IDLE))?;
        for _ in 0..MOST_QUESTIONS {
            let query = read_message(stream)?;
            match answer(&query) {
                Some(message) => write_message(stream, &message)?,
                None => return Ok(()),
            }
        }
        Ok(())
    };
    // A client that went away or said nothing has had its answer.
    let _ = serve();
}

/// What the first upstream that answers says.
pub(super) fn ask_by_tcp(question: &Question, query: &[u8], upstreams: &[SocketAddr]) -> Vec<u8> {
    for upstream in upstreams {
        let asked = || -> io::Result<Vec<u8>> {
            let stream = TcpStream::connect_timeout(upstream, PATIENCE)?;
            stream.set_read_timeout(Some(IDLE))?;
            stream.set_write_timeout(Some(IDLE))?;
            write_message(&stream, query)?;
            read_message(&stream)
        };
        if let Ok(message) = asked()
            && question.is_answered_by(&message, question.id)
        {
            return message;
        }
    }
    question.answer(query, Outcome::Failed, &[], UDP_LIMIT)
}

fn read_message(mut stream: &TcpStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut message)?;
    Ok(message)
}

fn write_message(mut stream: &TcpStream, message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(|_| io::ErrorKind::InvalidData)?;
    let mut bytes = length.to_be_bytes().to_vec();
    bytes.extend_from_slice(message);
    stream.write_all(&bytes)
}
