//! What a step writes: both streams read to their ends, on the thread that waits for the step anyway.

use std::fs::File;
use std::io::{ErrorKind, Read};

use rustix::event::{PollFd, PollFlags, poll};

use super::Work;
use super::failure::Tail;
use super::mask::Mask;
use crate::event::{Event, Stream};

/// Most that is read at once.
const PIECE: usize = 64 * 1024;

struct Side {
    file: File,
    stream: Stream,
    mask: Mask,
}

impl Work<'_> {
    /// Reads both streams to their ends and keeps the last lines.
    pub(super) fn pump(&self, stdout: Option<File>, stderr: Option<File>, mask: &Mask) -> Vec<String> {
        let files = [(stdout, Stream::Stdout), (stderr, Stream::Stderr)];
        let side = |(file, stream): (Option<File>, Stream)| Some(Side { file: file?, stream, mask: mask.clone() });
        let mut open: Vec<Side> = files.into_iter().filter_map(side).collect();
        let mut tail = Tail::default();
        let mut show = |stream: Stream, bytes: Vec<u8>| {
            if !bytes.is_empty() {
                tail.push(&bytes);
                (self.solver.events)(Event::Output(self.step.id, stream, bytes));
            }
        };
        let mut buffer = vec![0_u8; PIECE];
        while !open.is_empty() {
            for ready in wait(&open).into_iter().rev() {
                let Some(side) = open.get_mut(ready) else { continue };
                match side.read(&mut buffer) {
                    Some(bytes) => show(side.stream, bytes),
                    None => {
                        let mut ended = open.swap_remove(ready);
                        show(ended.stream, ended.mask.finish());
                    }
                }
            }
        }
        tail.lines()
    }
}

impl Side {
    /// What can be shown of the next piece; `None` at the end. An error is an end too: the exit status tells what became of
    /// the process.
    fn read(&mut self, buffer: &mut [u8]) -> Option<Vec<u8>> {
        match self.file.read(buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => Some(Vec::new()),
            Ok(0) | Err(_) => None,
            Ok(count) => Some(self.mask.push(buffer.get(..count)?)),
        }
    }
}

/// Waits until some can be read, and gives their places in order. Where waiting fails, reading waits.
fn wait(open: &[Side]) -> Vec<usize> {
    let mut descriptors: Vec<_> = open.iter().map(|side| PollFd::new(&side.file, PollFlags::IN)).collect();
    let waited = rustix::io::retry_on_intr(|| poll(&mut descriptors, None));
    let is_ready = |at: &usize| waited.is_err() || descriptors.get(*at).is_some_and(|fd| !fd.revents().is_empty());
    (0..open.len()).filter(is_ready).collect()
}
