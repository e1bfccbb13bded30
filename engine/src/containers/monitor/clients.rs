//! Who is attached to a container: clients at its socket, each with what is still to be sent to it.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use runtime::TerminalSize;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};

use super::super::reconnect::NetworkChange;
use super::super::wire::{Frame, Hello, LONGEST};
use super::socket_name;

/// A client that has not read so much keeps the container's output waiting.
const MOST_WAITING: usize = 256 << 10;
/// More clients than anyone has.
const MOST_CLIENTS: usize = 64;
const GOODBYE: Duration = Duration::from_secs(5);

/// One client.
#[derive(Debug)]
struct Client {
    /// Its own among all that ever were.
    serial: u64,
    stream: UnixStream,
    hello: Option<Hello>,
    received: Vec<u8>,
    waiting: Vec<u8>,
    gone: bool,
}

/// All of them, and the socket at which they come.
#[derive(Debug)]
pub(super) struct Clients {
    listener: UnixListener,
    clients: Vec<Client>,
    /// How many there ever were.
    count: u64,
    started: bool,
}

/// What a client asks of the container.
#[derive(Debug)]
pub(super) enum Request {
    Input(Vec<u8>),
    InputEnd,
    Resize(TerminalSize),
    Signal(i32),
    /// Of a client that waits for the answer.
    Network(u64, NetworkChange),
}

/// A descriptor of a client, and what it waits for.
pub(super) type Waiting<'a> = (Option<usize>, BorrowedFd<'a>, PollFlags);

impl Clients {
    /// Opens the socket in the container's directory. The starter is the first client.
    pub(super) fn open(directory: &Path, starter: UnixStream) -> io::Result<Clients> {
        let _ = std::fs::remove_file(directory.join(socket_name()));
        let listener = UnixListener::bind(short(directory)?.path())?;
        std::fs::set_permissions(directory.join(socket_name()), PermissionsExt::from_mode(0o600))?;
        listener.set_nonblocking(true)?;
        let mut clients = Clients { listener, clients: Vec::new(), count: 1, started: false };
        // Its first word comes before the container is started: it says how large the window is.
        let mut received = Vec::new();
        let hello = match Frame::receive(&starter, &mut received)? {
            Some(Frame::Hello(hello)) => Some(hello),
            _ => return Err(io::ErrorKind::InvalidData.into()),
        };
        starter.set_nonblocking(true)?;
        clients.clients.push(Client { serial: 0, stream: starter, hello, received, waiting: Vec::new(), gone: false });
        Ok(clients)
    }

    pub(super) fn window(&self) -> Option<TerminalSize> {
        let hello = self.clients.iter().find_map(|client| client.hello.as_ref()?.window);
        hello.map(|(rows, columns)| TerminalSize { rows, columns })
    }

    /// What to wait for.
    pub(super) fn waiting(&self, takes_input: bool) -> Vec<Waiting<'_>> {
        let mut waiting = vec![(None, self.listener.as_fd(), PollFlags::IN)];
        for (number, client) in self.clients.iter().enumerate() {
            let mut flags = PollFlags::empty();
            // Who types waits for the container to read; who does not is heard all the same.
            flags.set(PollFlags::IN, takes_input || client.hello.as_ref().is_none_or(|hello| !hello.input));
            flags.set(PollFlags::OUT, !client.waiting.is_empty());
            waiting.push((Some(number), client.stream.as_fd(), flags));
        }
        waiting
    }

    /// Whether all of them have room for more output.
    pub(super) fn have_room(&self) -> bool {
        self.clients.iter().all(|client| client.waiting.len() < MOST_WAITING)
    }

    /// Does what a descriptor is ready for, and gives what clients ask for.
    pub(super) fn ready(&mut self, number: Option<usize>, flags: PollFlags, requests: &mut Vec<Request>) {
        let Some(client) = number.and_then(|number| self.clients.get_mut(number)) else {
            return self.accept();
        };
        if flags.contains(PollFlags::OUT) {
            client.flush();
        }
        if flags.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
            client.read(self.started, requests);
        }
    }

    /// Forgets those that left. Their numbers go to others.
    pub(super) fn sweep(&mut self) {
        self.clients.retain(|client| !client.gone);
    }

    fn accept(&mut self) {
        let Ok((stream, _)) = self.listener.accept() else { return };
        // The directory is the owner's alone; the kernel says who it is all the same.
        let own = rustix::process::geteuid();
        let allowed =
            rustix::net::sockopt::socket_peercred(&stream).is_ok_and(|peer| peer.uid == own || peer.uid.is_root());
        if allowed && self.clients.len() < MOST_CLIENTS && stream.set_nonblocking(true).is_ok() {
            let serial = self.count;
            self.count += 1;
            let (received, waiting) = (Vec::new(), Vec::new());
            self.clients.push(Client { serial, stream, hello: None, received, waiting, gone: false });
        }
    }

    /// Serves them for a while in which there is no container.
    pub(super) fn serve(&mut self, longest: Duration) {
        let waiting = self.waiting(true);
        let mut descriptors: Vec<PollFd<'_>> =
            waiting.iter().map(|(_, fd, flags)| PollFd::from_borrowed_fd(*fd, *flags)).collect();
        let time = Timespec::try_from(longest).ok();
        if poll(&mut descriptors, time.as_ref()).is_err() {
            return;
        }
        let ready: Vec<(Option<usize>, PollFlags)> =
            waiting.iter().zip(&descriptors).map(|((number, ..), fd)| (*number, fd.revents())).collect();
        let mut requests = Vec::new();
        for (number, flags) in ready.into_iter().filter(|(_, flags)| !flags.is_empty()) {
            self.ready(number, flags, &mut requests);
        }
        self.sweep();
        for request in requests {
            if let Request::Network(client, _) = request {
                let sentence = "the container waits to be started again: try once more".to_owned();
                self.answer(client, &Frame::Failed(sentence, 1));
            }
        }
    }

    /// Sends a frame to one of them, if it is still there.
    pub(super) fn answer(&mut self, serial: u64, frame: &Frame) {
        if let Some(client) = self.clients.iter_mut().find(|client| client.serial == serial) {
            client.waiting.extend_from_slice(&frame.encode());
            client.flush();
        }
    }

    pub(super) fn started(&mut self, notes: &[String]) {
        self.started = true;
        self.send_all(|_| true, &Frame::Started(notes.to_vec()));
    }

    pub(super) fn exited(&mut self, code: i32) {
        self.started = false;
        self.send_all(|_| true, &Frame::Exited(code));
    }

    /// Sends output to those that want it.
    pub(super) fn output(&mut self, frame: &Frame) {
        self.send_all(|hello| hello.output, frame);
    }

    fn send_all(&mut self, wants: impl Fn(&Hello) -> bool, frame: &Frame) {
        let bytes = frame.encode();
        for client in &mut self.clients {
            if client.hello.as_ref().is_some_and(&wants) {
                client.waiting.extend_from_slice(&bytes);
                client.flush();
            }
        }
    }

    pub(super) fn failed(self, sentence: &str, code: i32) {
        self.say_goodbye(&Frame::Failed(sentence.to_owned(), code));
    }

    /// Sends a last word, and what waits, for a while.
    pub(super) fn say_goodbye(mut self, frame: &Frame) {
        let bytes = frame.encode();
        for client in &mut self.clients {
            if client.hello.is_some() {
                client.waiting.extend_from_slice(&bytes);
            }
            // A client that does not listen is not waited for.
            let _ = client.stream.set_nonblocking(false);
            let _ = client.stream.set_write_timeout(Some(GOODBYE));
            let _ = client.stream.write_all(&client.waiting);
        }
    }
}

impl Client {
    fn flush(&mut self) {
        while !self.waiting.is_empty() {
            match self.stream.write(&self.waiting) {
                Ok(count) => drop(self.waiting.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => {
                    self.waiting.clear();
                    self.gone = true;
                }
            }
        }
    }

    fn read(&mut self, started: bool, requests: &mut Vec<Request>) {
        let mut bytes = [0; LONGEST / 4];
        match self.stream.read(&mut bytes) {
            Ok(0) => self.gone = true,
            Ok(count) => self.received.extend_from_slice(bytes.get(..count).unwrap_or_default()),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(_) => self.gone = true,
        }
        loop {
            match Frame::take(&mut self.received) {
                Ok(Some(frame)) => self.hear(frame, started, requests),
                Ok(None) => break,
                Err(_) => {
                    self.gone = true;
                    break;
                }
            }
        }
        if self.gone && self.hello.as_ref().is_some_and(|hello| hello.input) {
            requests.push(Request::InputEnd);
        }
    }

    fn hear(&mut self, frame: Frame, started: bool, requests: &mut Vec<Request>) {
        let takes_input = self.hello.as_ref().is_some_and(|hello| hello.input);
        match frame {
            Frame::Hello(hello) => {
                if let Some((rows, columns)) = hello.window {
                    // A program draws its screen anew when the size changes, and whoever comes has seen nothing of it yet.
                    let rows_but_one = rows.saturating_sub(1);
                    requests.push(Request::Resize(TerminalSize { rows: rows_but_one, columns }));
                    requests.push(Request::Resize(TerminalSize { rows, columns }));
                }
                self.hello = Some(hello);
                if started {
                    self.waiting.extend_from_slice(&Frame::Started(Vec::new()).encode());
                    self.flush();
                }
            }
            Frame::Input(bytes) if takes_input => requests.push(Request::Input(bytes)),
            Frame::InputEnd if takes_input => requests.push(Request::InputEnd),
            Frame::Resize(size) => requests.push(Request::Resize(size)),
            Frame::Signal(number) => requests.push(Request::Signal(number)),
            // Who joined a container that takes no input may type all the same.
            Frame::Input(_) | Frame::InputEnd => {}
            Frame::Network(change) => requests.push(Request::Network(self.serial, change)),
            _ => self.gone = true,
        }
    }
}

/// A directory by a descriptor: the path of a socket has room for a hundred bytes only.
pub(in crate::containers) struct Short(rustix::fd::OwnedFd);

impl Short {
    /// Of the socket in it.
    pub(in crate::containers) fn path(&self) -> std::path::PathBuf {
        use std::os::fd::AsRawFd;
        Path::new("/proc/self/fd").join(self.0.as_raw_fd().to_string()).join(socket_name())
    }
}

pub(in crate::containers) fn short(directory: &Path) -> io::Result<Short> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(Short(rustix::fs::open(directory, flags, Mode::empty())?))
}
