//! Bytes on their way between threads, in a few buffers that go round: who makes them waits for who takes them.
//!
//! A small file costs no hop of its own: a buffer goes on when it is full.

use std::fs::File;
use std::io::{self, BufRead, Read};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::scope;

use sha2::Digest as _;

use super::compress::archive_error;
use crate::digest::Digest;
use crate::error::{Error, Result};

/// Bytes of one buffer: large against the cost of waking a thread, small against the caches.
const BUFFER: usize = 256 * 1024;
/// Bytes of the first one, which is all that a small layer needs.
const FIRST: usize = 16 * 1024;
/// Buffers of one stream.
const BUFFERS: usize = 6;
/// Buffers of one stream with those that are lent.
const LENT: usize = 10;

/// Bytes, of which the first `len` count.
pub(crate) struct Buffer {
    bytes: Box<[u8]>,
    len: usize,
}

impl Buffer {
    pub(crate) fn filled(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// Where the bytes of a lent one come.
    pub(crate) fn space(&mut self) -> &mut [u8] {
        self.bytes.get_mut(..self.len).unwrap_or_default()
    }
}

type Message = Result<Buffer>;

/// The making end of a stream.
pub(crate) struct Feed {
    full: SyncSender<Message>,
    empty: Receiver<Buffer>,
    current: Option<Buffer>,
    /// Buffers that were made: memory that is never needed is never touched.
    made: usize,
}

/// Where bytes go one after the other.
pub(crate) trait Outlet {
    /// Appends bytes.
    fn write(&mut self, bytes: &[u8]) -> Result<()>;
    /// Appends what one `read` gives, `limit` bytes at most, and shows it; nothing at the end.
    fn read(&mut self, reader: &mut impl Read, limit: u64) -> io::Result<&[u8]>;
}

impl Feed {
    fn new(full: SyncSender<Message>, empty: Receiver<Buffer>) -> Feed {
        Feed { full, empty, current: None, made: 0 }
    }

    /// Room for bytes; the buffer before it goes on when it is full.
    fn room(&mut self) -> Result<&mut Buffer> {
        if self.current.as_ref().is_some_and(|buffer| buffer.len == buffer.bytes.len()) {
            self.send()?;
        }
        if self.current.is_none() {
            self.current = Some(self.next()?);
        }
        self.current.as_mut().ok_or_else(abandoned)
    }

    fn next(&mut self) -> Result<Buffer> {
        if let Ok(buffer) = self.empty.try_recv() {
            return Ok(buffer);
        }
        if self.made >= BUFFERS {
            return self.empty.recv().map_err(|_| abandoned());
        }
        let bytes = vec![0; if self.made == 0 { FIRST } else { BUFFER }];
        self.made += 1;
        Ok(Buffer { bytes: bytes.into_boxed_slice(), len: 0 })
    }

    /// A buffer that is filled elsewhere with so many bytes, and comes back by [`give`](Feed::give). Who has as many as are
    /// made waits for one: some have to be given meanwhile.
    pub(crate) fn lend(&mut self, len: usize) -> Result<Buffer> {
        let used = match self.empty.try_recv() {
            Ok(used) => Some(used),
            Err(_) if self.made < LENT => None,
            Err(_) => Some(self.empty.recv().map_err(|_| abandoned())?),
        };
        match used {
            Some(used) if used.bytes.len() >= len => Ok(Buffer { len, ..used }),
            Some(_) => Ok(Buffer { bytes: vec![0; len].into_boxed_slice(), len }),
            None => {
                self.made += 1;
                Ok(Buffer { bytes: vec![0; len].into_boxed_slice(), len })
            }
        }
    }

    /// Sends a lent buffer on, after all that was written.
    pub(crate) fn give(&mut self, buffer: Buffer) -> Result<()> {
        self.send()?;
        self.current = Some(buffer);
        self.send()
    }

    fn send(&mut self) -> Result<()> {
        match self.current.take() {
            Some(buffer) => self.full.send(Ok(buffer)).map_err(|_| abandoned()),
            None => Ok(()),
        }
    }
}

impl Outlet for Feed {
    fn write(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let buffer = self.room()?;
            let spare = buffer.bytes.get_mut(buffer.len..).unwrap_or_default();
            let count = spare.len().min(bytes.len());
            let (now, later) = bytes.split_at(count);
            spare.get_mut(..count).unwrap_or_default().copy_from_slice(now);
            buffer.len += count;
            bytes = later;
        }
        Ok(())
    }

    fn read(&mut self, reader: &mut impl Read, limit: u64) -> io::Result<&[u8]> {
        let buffer = self.room().map_err(io::Error::other)?;
        let from = buffer.len;
        let wanted = usize::try_from(limit).unwrap_or(BUFFER).min(buffer.bytes.len() - from);
        let got = read_some(reader, buffer.bytes.get_mut(from..from + wanted).unwrap_or_default())?;
        buffer.len += got;
        Ok(buffer.bytes.get(from..from + got).unwrap_or_default())
    }
}

fn read_some(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match reader.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// The SHA-256 of what passes, taken on the spot: for what is so small that a thread would be the larger part of it.
#[derive(Default)]
pub(crate) struct Hashed {
    hasher: sha2::Sha256,
    buffer: Vec<u8>,
}

impl Hashed {
    pub(crate) fn finish(self) -> Digest {
        Digest::from_sha256(self.hasher.finalize().as_slice())
    }
}

impl Outlet for Hashed {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.hasher.update(bytes);
        Ok(())
    }

    fn read(&mut self, reader: &mut impl Read, limit: u64) -> io::Result<&[u8]> {
        let wanted = usize::try_from(limit).unwrap_or(FIRST).min(FIRST);
        self.buffer.resize(wanted.max(self.buffer.len()), 0);
        let got = read_some(reader, self.buffer.get_mut(..wanted).unwrap_or_default())?;
        let bytes = self.buffer.get(..got).unwrap_or_default();
        self.hasher.update(bytes);
        Ok(bytes)
    }
}

/// The taking end: a reader that gives each buffer back.
pub(crate) struct Stream {
    full: Receiver<Message>,
    empty: Sender<Buffer>,
    current: Option<Buffer>,
    at: usize,
}

impl Stream {
    /// The next whole buffer's bytes; `None` at the end. Not to be mixed with reading.
    pub(crate) fn next(&mut self) -> Result<Option<&[u8]>> {
        self.turn()?;
        Ok(self.current.as_ref().map(Buffer::filled))
    }

    fn turn(&mut self) -> Result<()> {
        if let Some(mut used) = self.current.take() {
            used.len = 0;
            // Nobody takes it when the making end is done.
            let _ = self.empty.send(used);
        }
        self.at = 0;
        match self.full.recv() {
            Ok(message) => self.current = Some(message?),
            Err(_) => self.current = None,
        }
        Ok(())
    }
}

impl BufRead for Stream {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.current.as_ref().is_none_or(|buffer| self.at >= buffer.len) {
            self.turn().map_err(io::Error::other)?;
            if self.current.is_none() {
                break;
            }
        }
        Ok(self.current.as_ref().and_then(|buffer| buffer.filled().get(self.at..)).unwrap_or_default())
    }

    fn consume(&mut self, count: usize) {
        self.at += count;
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let count = available.len().min(buffer.len());
        for (to, from) in buffer.iter_mut().zip(available) {
            *to = *from;
        }
        self.consume(count);
        Ok(count)
    }
}

/// Runs `make` on a thread of its own and `take` on this one. An error of either ends both; the maker's is the one to tell.
pub(crate) fn piped<M: Send, T>(
    make: impl FnOnce(&mut Feed) -> Result<M> + Send,
    take: impl FnOnce(&mut Stream) -> Result<T>,
) -> Result<(M, T)> {
    let (full, filled) = sync_channel(BUFFERS);
    let (empty, emptied) = channel();
    scope(|threads| {
        let maker = threads.spawn(move || run(make, Feed::new(full, emptied)));
        let mut stream = Stream { full: filled, empty, current: None, at: 0 };
        let taken = take(&mut stream);
        drop(stream);
        let made = maker.join().map_err(|_| stopped())?;
        ends(made, taken)
    })
}

/// The same with a thread between the two that takes the SHA-256 of all that passes. `take` must read to the end.
pub(crate) fn hashed<M: Send, T>(
    make: impl FnOnce(&mut Feed) -> Result<M> + Send,
    take: impl FnOnce(&mut Stream) -> Result<T>,
) -> Result<(M, T, Digest)> {
    let (full, filled) = sync_channel::<Message>(BUFFERS);
    let (onward, arrived) = sync_channel(BUFFERS);
    let (empty, emptied) = channel();
    scope(|threads| {
        let maker = threads.spawn(move || run(make, Feed::new(full, emptied)));
        let hasher = threads.spawn(move || {
            let mut hasher = sha2::Sha256::new();
            for message in filled {
                if let Ok(buffer) = &message {
                    hasher.update(buffer.filled());
                }
                if onward.send(message).is_err() {
                    break;
                }
            }
            Digest::from_sha256(hasher.finalize().as_slice())
        });
        let mut stream = Stream { full: arrived, empty, current: None, at: 0 };
        let taken = take(&mut stream);
        drop(stream);
        let digest = hasher.join().map_err(|_| stopped())?;
        let made = maker.join().map_err(|_| stopped())?;
        let (made, taken) = ends(made, taken)?;
        Ok((made, taken, digest))
    })
}

/// Makes, and sends what is left over; an error goes to the taking end, in its place among the bytes.
fn run<M>(make: impl FnOnce(&mut Feed) -> Result<M>, mut feed: Feed) -> Option<M> {
    match make(&mut feed).and_then(|made| feed.send().map(|()| made)) {
        Ok(made) => Some(made),
        Err(error) => {
            // When the taking end is gone it has an error of its own.
            let _ = feed.full.send(Err(error));
            None
        }
    }
}

fn ends<M, T>(made: Option<M>, taken: Result<T>) -> Result<(M, T)> {
    let taken = taken?;
    Ok((made.ok_or_else(abandoned)?, taken))
}

fn abandoned() -> Error {
    Error::document("the stream", "its reader stopped")
}

fn stopped() -> Error {
    Error::document("the stream", "one of its threads stopped")
}

/// Reads all of a reader into a stream.
pub(crate) fn pump(reader: &mut impl Read, feed: &mut Feed) -> Result<()> {
    while !feed.read(reader, u64::MAX).map_err(archive_error)?.is_empty() {}
    Ok(())
}

/// Reads exactly `size` bytes of a file into a stream, each piece shown to `see`.
pub(crate) fn pump_file(
    file: &mut File,
    size: u64,
    feed: &mut impl Outlet,
    mut see: impl FnMut(&[u8]),
) -> io::Result<()> {
    let mut left = size;
    while left > 0 {
        let bytes = feed.read(file, left)?;
        if bytes.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        left -= bytes.len() as u64;
        see(bytes);
    }
    Ok(())
}
