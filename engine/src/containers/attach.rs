//! A client of a container: the user's terminal, input and signals joined to it through its monitor.

use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use runtime::{ForwardedSignals, RawMode, terminal_size};

use super::joins::Streams;
use super::monitor::short;
use super::spawn::Conversation;
use super::state::ContainerInfo;
use super::wire::{Frame, Hello};
use crate::Engine;
use crate::error::{Error, Result};

/// How a client joins a container.
#[derive(Debug, Clone)]
pub struct AttachRequest {
    /// Which streams lead to and from it.
    pub streams: Streams,
    /// Signals of this process go to the container.
    pub signals: bool,
    /// The keys that leave it; none where it is empty.
    pub detach_keys: Vec<u8>,
}

/// Ctrl-D, twice: the first one may only end a line that has begun.
pub(super) const END_OF_INPUT: [u8; 2] = [4, 4];

/// Ctrl-P Ctrl-Q.
pub const DETACH_KEYS: [u8; 2] = [16, 17];

/// How it came that a client no longer hears of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// It ended, with this code.
    Ended(i32),
    /// The user left it.
    Detached,
}

/// Reads docker's `--detach-keys`: letters, and `ctrl-` with a letter or one of `@[\]^_`, separated by commas.
#[must_use]
pub fn parse_detach_keys(text: &str) -> Option<Vec<u8>> {
    let key = |part: &str| match (part.strip_prefix("ctrl-"), part.as_bytes()) {
        (Some(name), _) => match name.as_bytes() {
            [letter @ (b'a'..=b'z' | b'A'..=b'Z' | b'@' | b'['..=b'_')] => Some(letter.to_ascii_uppercase() & 0x1f),
            _ => None,
        },
        (None, [byte]) => Some(*byte),
        _ => None,
    };
    if text.is_empty() { Some(Vec::new()) } else { text.split(',').map(key).collect() }
}

impl Engine {
    /// Joins a container that runs already.
    ///
    /// # Errors
    /// When it does not run, or runs in the foreground of another command.
    pub fn attach(&self, name: &str, request: &AttachRequest) -> Result<Left> {
        let info = self.container(name)?;
        info.running()?;
        let hello = hello(&info, request.streams);
        let conversation = self.converse(&info, hello)?;
        talk(conversation, &info, self.aside(&info), request, ForwardedSignals::catch()?, false)
    }

    /// A way to the monitor of a container beside the one that what is typed goes.
    pub(super) fn aside(&self, info: &ContainerInfo) -> Aside {
        Aside { directory: self.store.container_dir(&info.record.id), stream: None }
    }

    /// Begins a talk with the monitor of a container.
    pub(super) fn converse(&self, info: &ContainerInfo, hello: Hello) -> Result<Conversation> {
        let no_monitor = |_| Error::NoMonitor { name: info.name() };
        let stream = reach(&self.store.container_dir(&info.record.id), hello).map_err(no_monitor)?;
        Ok(Conversation { stream, received: Vec::new(), notes: Vec::new() })
    }
}

fn reach(directory: &Path, hello: Hello) -> io::Result<UnixStream> {
    let stream = UnixStream::connect(short(directory)?.path())?;
    Frame::Hello(hello).send(&stream)?;
    Ok(stream)
}

/// For what is to be heard at once: a container that does not read keeps what is typed waiting, and all that comes after it
/// on the same way.
pub(super) struct Aside {
    directory: PathBuf,
    /// Made when there is something to say.
    stream: Option<UnixStream>,
}

impl Aside {
    fn send(&mut self, frame: &Frame) {
        let quiet = Hello { input: false, output: false, window: None };
        // A monitor that is gone is found by who listens to it.
        if self.stream.is_none() {
            self.stream = reach(&self.directory, quiet).ok();
        }
        let _ = self.stream.as_ref().map(|stream| frame.send(stream));
    }
}

pub(super) fn hello(info: &ContainerInfo, streams: Streams) -> Hello {
    let input = streams.stdin && info.spec.interactive;
    let size = terminal_size();
    let window = (info.spec.tty && size.rows > 0).then_some((size.rows, size.columns));
    Hello { input, output: !streams.only_types(), window }
}

/// Joins the user to a container until it ends or the user leaves. Signals that came since they are caught are handed on.
/// `starts`: the container is this client's, and so is the end of its input.
pub(super) fn talk(
    mut conversation: Conversation,
    info: &ContainerInfo,
    mut aside: Aside,
    request: &AttachRequest,
    signals: ForwardedSignals,
    starts: bool,
) -> Result<Left> {
    let failed = |source| Error::Monitor { doing: "talking to it", source };
    let tty = info.spec.tty;
    let whole = conversation.stream.try_clone().map_err(failed)?;
    let writer = conversation.stream.try_clone().map_err(failed)?;
    let detached = Arc::new(AtomicBool::new(false));
    let stdin = io::stdin();
    let raw = if tty && request.streams.stdin { RawMode::enter(stdin.as_fd())? } else { None };
    let forward = request.signals;
    std::thread::spawn(move || {
        signals.each(|signal| {
            let frame = match signal {
                Some(signal) if forward => Frame::Signal(signal.number()),
                // Without it they mean this client; leaving it leaves the container alone.
                Some(_) => return drop(whole.shutdown(std::net::Shutdown::Both)),
                None if tty => Frame::Resize(terminal_size()),
                None => return,
            };
            aside.send(&frame);
        });
    });
    if request.streams.stdin {
        let (keys, leaves_at_end) = (request.detach_keys.clone(), request.streams.only_types());
        let ends_terminal = starts && tty && !stdin.is_terminal();
        let keyboard = Keyboard { writer, keys, detached: Arc::clone(&detached), tty, ends_terminal, leaves_at_end };
        // It may wait for a key for ever, so nobody waits for it: it ends with the process.
        std::thread::spawn(move || keyboard.read());
    }
    let left = listen(&mut conversation, &detached, request.streams);
    drop(raw);
    left
}

fn listen(conversation: &mut Conversation, detached: &AtomicBool, streams: Streams) -> Result<Left> {
    let failed = |source| Error::Monitor { doing: "talking to it", source };
    let shown = |error| Error::Monitor { doing: "showing its output", source: error };
    loop {
        match conversation.next() {
            Ok(Some(Frame::Output(bytes))) if streams.stdout => {
                let mut out = io::stdout().lock();
                out.write_all(&bytes).and_then(|()| out.flush()).map_err(shown)?;
            }
            Ok(Some(Frame::Errors(bytes))) if streams.stderr => io::stderr().lock().write_all(&bytes).map_err(shown)?,
            Ok(Some(Frame::Exited(code))) => return Ok(Left::Ended(code)),
            Ok(Some(Frame::Failed(sentence, code))) => return Err(Error::Unstarted { sentence, code }),
            Ok(Some(_)) => {}
            Ok(None) | Err(_) if detached.load(Ordering::SeqCst) => return Ok(Left::Detached),
            Ok(None) => return Err(failed(io::ErrorKind::UnexpectedEof.into())),
            Err(error) => return Err(failed(error)),
        }
    }
}

fn send(writer: &UnixStream, frame: &Frame) {
    // A monitor that is gone is found by who listens to it.
    let _ = frame.send(writer);
}

/// What the user types, on its way to the container.
struct Keyboard {
    writer: UnixStream,
    keys: Vec<u8>,
    detached: Arc<AtomicBool>,
    tty: bool,
    /// What is typed comes from a pipe or a file: the container's terminal is told of its end.
    ends_terminal: bool,
    /// Nobody here listens, so there is nothing to stay for when all is typed.
    leaves_at_end: bool,
}

impl Keyboard {
    fn read(&self) {
        let mut bytes = [0; 16 << 10];
        let mut filter = KeyFilter::new(if self.tty { self.keys.clone() } else { Vec::new() });
        loop {
            let count = match io::stdin().read(&mut bytes) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => 0,
            };
            if count == 0 {
                if self.ends_terminal {
                    send(&self.writer, &Frame::Input(END_OF_INPUT.to_vec()));
                }
                send(&self.writer, &Frame::InputEnd);
                if self.leaves_at_end {
                    self.leave();
                }
                return;
            }
            let (typed, leaves) = filter.pass(bytes.get(..count).unwrap_or_default());
            if !typed.is_empty() {
                send(&self.writer, &Frame::Input(typed));
            }
            if leaves {
                return self.leave();
            }
        }
    }

    fn leave(&self) {
        self.detached.store(true, Ordering::SeqCst);
        let _ = self.writer.shutdown(std::net::Shutdown::Both);
    }
}

/// Holds back the keys that may be the beginning of those that leave.
pub(super) struct KeyFilter {
    keys: Vec<u8>,
    matched: usize,
}

impl KeyFilter {
    pub(super) fn new(keys: Vec<u8>) -> KeyFilter {
        KeyFilter { keys, matched: 0 }
    }

    /// What is typed, and whether the keys that leave were among it.
    pub(super) fn pass(&mut self, bytes: &[u8]) -> (Vec<u8>, bool) {
        let mut passed = Vec::new();
        for byte in bytes {
            if self.keys.get(self.matched) == Some(byte) {
                self.matched += 1;
                if self.matched == self.keys.len() {
                    return (passed, true);
                }
                continue;
            }
            passed.extend_from_slice(self.keys.get(..self.matched).unwrap_or_default());
            self.matched = usize::from(self.keys.first() == Some(byte));
            if self.matched == 0 {
                passed.push(*byte);
            }
        }
        (passed, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_as_docker_reads_them() {
        assert_eq!(parse_detach_keys("ctrl-p,ctrl-q").as_deref(), Some(&DETACH_KEYS[..]));
        assert_eq!(parse_detach_keys("ctrl-@,x,ctrl-\\").as_deref(), Some(&[0, b'x', 28][..]));
        assert_eq!(parse_detach_keys("").as_deref(), Some(&[][..]));
        for bad in ["ctrl-", "ctrl-1", "xy", ","] {
            assert_eq!(parse_detach_keys(bad), None, "{bad}");
        }
    }

    #[test]
    fn only_the_whole_sequence_leaves() {
        let mut filter = KeyFilter { keys: DETACH_KEYS.to_vec(), matched: 0 };
        assert_eq!(filter.pass(b"a\x10"), (b"a".to_vec(), false));
        assert_eq!(filter.pass(b"b"), (b"\x10b".to_vec(), false));
        assert_eq!(filter.pass(b"\x10\x10"), (b"\x10".to_vec(), false));
        assert_eq!(filter.pass(b"\x11x"), (Vec::new(), true));
    }
}
