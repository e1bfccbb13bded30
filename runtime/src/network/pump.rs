//! Bytes from one connection to another and back, until both sides have said all.
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};

const ROOM: usize = 64 << 10;

/// One direction: what was read and not yet written.
struct Flow {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Nothing more will be read.
    said_all: bool,
    /// The other side was told so.
    told: bool,
}

impl Flow {
    fn new() -> Flow {
        Flow { buffer: vec![0; ROOM], start: 0, end: 0, said_all: false, told: false }
    }

    fn is_empty(&self) -> bool {
        self.start == self.end
    }

    fn wants_to_read(&self) -> bool {
        self.is_empty() && !self.said_all
    }

    /// As much as goes without waiting.
    fn step(&mut self, mut from: &TcpStream, mut to: &TcpStream) -> io::Result<()> {
        if self.wants_to_read()
            && let Some(length) = without_waiting(from.read(&mut self.buffer))?
        {
            (self.start, self.end) = (0, length);
            self.said_all = length == 0;
        }
        if !self.is_empty()
            && let Some(length) = without_waiting(to.write(self.buffer.get(self.start..self.end).unwrap_or_default()))?
        {
            self.start += length;
        }
        if self.said_all && self.is_empty() && !self.told {
            self.told = true;
            to.shutdown(Shutdown::Write)?;
        }
        Ok(())
    }
}

fn without_waiting(result: io::Result<usize>) -> io::Result<Option<usize>> {
    match result {
        Ok(length) => Ok(Some(length)),
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Carries both ways until both have ended, one fails, or the other end of `stopped` is closed.
pub(super) fn pump(one: &TcpStream, other: &TcpStream, stopped: &OwnedFd) {
    // A connection that fails is closed, which is all that can be said about it.
    let _ = carry(one, other, stopped);
}

fn carry(one: &TcpStream, other: &TcpStream, stopped: &OwnedFd) -> io::Result<()> {
    for stream in [one, other] {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
    }
    let (mut there, mut back) = (Flow::new(), Flow::new());
    while !(there.told && back.told) {
        let interest = |read: &Flow, write: &Flow| {
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::IN, read.wants_to_read());
            flags.set(PollFlags::OUT, !write.is_empty());
            flags
        };
        // One that nothing is wanted of would report its end again and again.
        let wanted = [(one, interest(&there, &back)), (other, interest(&back, &there))];
        let mut all = vec![PollFd::new(stopped, PollFlags::empty())];
        let wanted = wanted.iter().filter(|(_, flags)| !flags.is_empty());
        all.extend(wanted.map(|(stream, flags)| PollFd::from_borrowed_fd(stream.as_fd(), *flags)));
        match poll(&mut all, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        if all.first().is_some_and(|stop| !stop.revents().is_empty()) {
            return Ok(());
        }
        there.step(one, other)?;
        back.step(other, one)?;
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::net::TcpListener;
    use std::time::Duration;

    use super::*;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let one = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let other = listener.accept().unwrap().0;
        // What does not come ends the test, and the test what it waits for.
        for stream in [&one, &other] {
            stream.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
            stream.set_write_timeout(Some(Duration::from_secs(120))).unwrap();
        }
        (one, other)
    }

    #[test]
    fn both_ways_to_the_end_and_half_closed_ones_go_on() {
        let ((mut client, one), (other, mut server)) = (pair(), pair());
        let (stopped, stop) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        let carrier = std::thread::spawn(move || pump(&one, &other, &stopped));
        let text = vec![b'x'; 3 << 20];
        let sent = text.clone();
        let sender = std::thread::spawn(move || {
            client.write_all(&sent).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
            let mut answer = String::new();
            client.read_to_string(&mut answer).unwrap();
            answer
        });
        let mut received = Vec::new();
        server.read_to_end(&mut received).unwrap();
        assert!(received == text, "{} bytes", received.len());
        server.write_all(b"had all").unwrap();
        drop(server);
        assert_eq!(sender.join().unwrap(), "had all");
        carrier.join().unwrap();
        drop(stop);
    }

    #[test]
    fn a_stop_ends_what_is_idle() {
        let ((mut client, one), (other, _server)) = (pair(), pair());
        let (stopped, stop) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        let carrier = std::thread::spawn(move || pump(&one, &other, &stopped));
        drop(stop);
        carrier.join().unwrap();
        assert_eq!(client.read(&mut [0]).unwrap(), 0);
    }
}
