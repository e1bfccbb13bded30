//! Netlink: messages with nested attributes, sent many at a time, and what the kernel answers. It serves links and
//! addresses (`links`) as well as the packet filter (`nft`).
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::netlink::{NETFILTER, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, send, socket_with};

use crate::error::{Error, Result};
use crate::sys;

/// The message asks for something.
pub(crate) const REQUEST: u16 = 0x1;
/// What is there is overwritten.
pub(crate) const REPLACE: u16 = 0x100;
/// What is there is an error.
pub(crate) const EXCLUSIVE: u16 = 0x200;
/// What is not there is made.
pub(crate) const CREATE: u16 = 0x400;
/// All of a kind are asked for.
pub(crate) const DUMP: u16 = 0x300;

const NESTED: u16 = 0x8000;
const HEADER: usize = 16;
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// Attributes of an error: its text in words.
const ERROR_TEXT: u16 = 1;
/// Answers to one batch are small; a part of a dump fits in what the kernel sends at once.
const LARGEST_ANSWER: usize = 64 << 10;
const LARGEST_BATCH: usize = 4 << 20;

/// The two families that are spoken here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    /// Links, addresses, routes.
    Route,
    /// The packet filter.
    Netfilter,
}

/// Messages that are sent together.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    bytes: Vec<u8>,
    /// Where the message that is being written begins.
    begun: Option<usize>,
    /// What each message is about, for the error that names it.
    about: Vec<&'static str>,
}

impl Batch {
    /// Begins a message; what follows belongs to it.
    pub(crate) fn message(&mut self, about: &'static str, kind: u16, flags: u16, head: &[u8]) -> &mut Batch {
        self.finish();
        self.begun = Some(self.bytes.len());
        self.about.push(about);
        let number = u32::try_from(self.about.len()).unwrap_or(u32::MAX);
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&(flags | REQUEST).to_ne_bytes());
        self.bytes.extend_from_slice(&number.to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 4]);
        self.raw(head)
    }

    /// An attribute.
    pub(crate) fn put(&mut self, kind: u16, value: &[u8]) -> &mut Batch {
        let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.raw(value)
    }

    /// An attribute that is a text with a zero at its end.
    pub(crate) fn put_text(&mut self, kind: u16, text: &str) -> &mut Batch {
        let mut value = text.as_bytes().to_vec();
        value.push(0);
        self.put(kind, &value)
    }

    /// An attribute that is a number as this machine writes it.
    pub(crate) fn put_u32(&mut self, kind: u16, number: u32) -> &mut Batch {
        self.put(kind, &number.to_ne_bytes())
    }

    /// An attribute that is a number as the network writes it.
    pub(crate) fn put_be32(&mut self, kind: u16, number: u32) -> &mut Batch {
        self.put(kind, &number.to_be_bytes())
    }

    /// An attribute that holds others.
    pub(crate) fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Batch)) -> &mut Batch {
        let at = self.bytes.len();
        self.put(kind | NESTED, &[]);
        fill(self);
        let length = u16::try_from(self.bytes.len() - at).unwrap_or(u16::MAX);
        self.patch(at, &length.to_ne_bytes());
        self
    }

    /// Bytes as they are, filled up to a multiple of four.
    pub(crate) fn raw(&mut self, value: &[u8]) -> &mut Batch {
        self.bytes.extend_from_slice(value);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        self
    }

    fn finish(&mut self) {
        if let Some(at) = self.begun.take() {
            let length = u32::try_from(self.bytes.len() - at).unwrap_or(u32::MAX);
            self.patch(at, &length.to_ne_bytes());
        }
    }

    fn patch(&mut self, at: usize, value: &[u8]) {
        for (to, from) in self.bytes.iter_mut().skip(at).zip(value) {
            *to = *from;
        }
    }
}

/// A socket to the kernel. It speaks about the network namespace in which it was made, whoever holds it.
#[derive(Debug)]
pub(crate) struct Socket {
    fd: OwnedFd,
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<OwnedFd> for Socket {
    fn from(fd: OwnedFd) -> Socket {
        Socket { fd }
    }
}

impl Socket {
    /// Opens one in this thread's network namespace.
    pub(crate) fn open(family: Family) -> Result<Socket, Errno> {
        let protocol = match family {
            Family::Route => None,
            Family::Netfilter => Some(NETFILTER),
        };
        let fd = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)?;
        sys::network::explain_errors(fd.as_fd())?;
        // Many rules go in one message; where it may not be larger than usual, the usual has to do.
        let _ = rustix::net::sockopt::set_socket_send_buffer_size_force(&fd, LARGEST_BATCH);
        bind(&fd, &SocketAddrNetlink::new(0, 0))?;
        Ok(Socket { fd })
    }

    /// The number under which the kernel knows it.
    pub(crate) fn port(&self) -> Result<u32, Errno> {
        SocketAddrNetlink::try_from(rustix::net::getsockname(&self.fd)?).map(|address| address.pid())
    }

    /// Sends a batch. The kernel has worked through it when `send` returns, and answers only what it refused.
    ///
    /// # Errors
    /// The first message that was refused, in words.
    pub(crate) fn execute(&self, mut batch: Batch) -> Result<()> {
        batch.finish();
        self.send(&batch.bytes).map_err(failed("talking to the kernel"))?;
        let mut refused = None;
        let mut buffer = vec![0_u8; LARGEST_ANSWER];
        loop {
            match self.receive(&mut buffer, RecvFlags::DONTWAIT) {
                Ok(length) => {
                    for message in Messages(buffer.get(..length).unwrap_or_default()) {
                        if let (Some(errno), None) = (message.errno(), &refused) {
                            let about = batch.about.get((message.sequence as usize).wrapping_sub(1)).copied();
                            refused = Some(refusal(about.unwrap_or("the request"), errno, message.words()));
                        }
                    }
                }
                Err(Errno::AGAIN) => return refused.map_or(Ok(()), Err),
                Err(errno) => return Err(failed("listening to the kernel")(errno)),
            }
        }
    }

    /// Asks for all of a kind, and hands out the bodies of the answers.
    pub(crate) fn dump(&self, kind: u16, head: &[u8], mut each: impl FnMut(&[u8])) -> Result<()> {
        let mut batch = Batch::default();
        batch.message("a list", kind, DUMP, head);
        batch.finish();
        self.send(&batch.bytes).map_err(failed("talking to the kernel"))?;
        let mut buffer = vec![0_u8; LARGEST_ANSWER];
        loop {
            let length = self.receive(&mut buffer, RecvFlags::empty()).map_err(failed("listening to the kernel"))?;
            for message in Messages(buffer.get(..length).unwrap_or_default()) {
                match (message.kind, message.errno()) {
                    (DONE, _) => return Ok(()),
                    (_, Some(errno)) => return Err(failed("asking the kernel for a list")(errno)),
                    (ERROR, None) => {}
                    _ => each(message.body),
                }
            }
        }
    }

    /// Asks for one thing, and hands out the body of the answer.
    pub(crate) fn look_up(&self, mut batch: Batch, mut found: impl FnMut(&[u8])) -> Result<()> {
        batch.finish();
        self.send(&batch.bytes).map_err(failed("talking to the kernel"))?;
        let mut buffer = vec![0_u8; LARGEST_ANSWER];
        let length = self.receive(&mut buffer, RecvFlags::empty()).map_err(failed("listening to the kernel"))?;
        for message in Messages(buffer.get(..length).unwrap_or_default()) {
            match message.errno() {
                Some(errno) => {
                    return Err(refusal(batch.about.first().copied().unwrap_or_default(), errno, message.words()));
                }
                None => found(message.body),
            }
        }
        Ok(())
    }

    fn send(&self, bytes: &[u8]) -> Result<(), Errno> {
        rustix::io::retry_on_intr(|| send(&self.fd, bytes, SendFlags::empty())).map(drop)
    }

    fn receive(&self, buffer: &mut [u8], flags: RecvFlags) -> Result<usize, Errno> {
        rustix::io::retry_on_intr(|| recv(&self.fd, &mut *buffer, flags)).map(|(length, _)| length)
    }
}

fn failed(doing: &'static str) -> impl FnOnce(Errno) -> Error {
    move |errno| Error::Network { doing: doing.to_owned(), source: errno.into() }
}

fn refusal(about: &str, errno: Errno, words: Option<String>) -> Error {
    let doing = match words {
        Some(words) => format!("{about} ({words})"),
        None => about.to_owned(),
    };
    Error::Network { doing, source: io::Error::from_raw_os_error(errno.raw_os_error()) }
}

/// One message of an answer.
struct Message<'a> {
    kind: u16,
    flags: u16,
    sequence: u32,
    body: &'a [u8],
}

impl Message<'_> {
    /// The error that it tells, unless it tells of success.
    fn errno(&self) -> Option<Errno> {
        let code = match self.kind {
            ERROR => word(self.body, 0)? as i32,
            _ => return None,
        };
        (code != 0).then(|| Errno::from_raw_os_error(-code))
    }

    /// What the kernel says of it.
    fn words(&self) -> Option<String> {
        const CAPPED: u16 = 0x100;
        const WITH_WORDS: u16 = 0x200;
        if self.flags & WITH_WORDS == 0 {
            return None;
        }
        let quoted = if self.flags & CAPPED == 0 { word(self.body, 4)? as usize } else { HEADER };
        let attributes = self.body.get(4 + quoted.next_multiple_of(4)..)?;
        let (_, text) = Attributes(attributes).find(|(kind, _)| *kind == ERROR_TEXT)?;
        Some(String::from_utf8_lossy(text).trim_end_matches('\0').to_owned())
    }
}

/// Takes an answer apart; what is too short ends it.
struct Messages<'a>(&'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Message<'a>> {
        let length = word(self.0, 0)? as usize;
        let body = self.0.get(HEADER..length)?;
        let message = Message { kind: half(self.0, 4)?, flags: half(self.0, 6)?, sequence: word(self.0, 8)?, body };
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    }
}

/// Takes the attributes of a body apart.
pub(crate) struct Attributes<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<(u16, &'a [u8])> {
        let length = usize::from(half(self.0, 0)?);
        let kind = half(self.0, 2)? & !NESTED;
        let value = self.0.get(4..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    }
}

/// Four bytes as this machine's number.
pub(crate) fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_ne_bytes)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn messages_and_attributes_are_written_as_they_are_read() {
        let mut batch = Batch::default();
        batch.message("one", 7, 0, &[1, 2, 3]).put_text(4, "abc").nest(5, |inner| {
            inner.put_u32(1, 9).put(2, &[8]);
        });
        batch.message("two", 8, 0, &[]);
        batch.finish();
        let messages: Vec<_> = Messages(&batch.bytes).collect();
        let kinds: Vec<_> = messages.iter().map(|message| (message.kind, message.sequence)).collect();
        assert_eq!(kinds, [(7, 1), (8, 2)]);
        let body = messages.first().unwrap().body;
        assert_eq!(body.get(..4).unwrap(), [1, 2, 3, 0]);
        let attributes: Vec<_> = Attributes(body.get(4..).unwrap()).collect();
        assert_eq!(attributes.first().unwrap(), &(4, b"abc\0".as_slice()));
        let (kind, nested) = attributes.get(1).unwrap();
        assert_eq!((*kind, Attributes(nested).count()), (5, 2));
    }

    #[test]
    fn what_is_cut_short_ends_the_reading() {
        for length in 0..40_u32 {
            let mut bytes = vec![0_u8; 24];
            bytes.splice(..4, length.to_ne_bytes());
            assert!(Messages(&bytes).count() <= 1, "{length}");
            assert!(Attributes(&bytes).take(100).count() < 100);
        }
    }
}
