//! What a client and the monitor of a container say to each other: short frames over a socket that only the owner reaches.
//!
//! A frame is a byte that says what it is, the length of what follows in four bytes, and that.

use std::io::{self, Read, Write};

use runtime::TerminalSize;
use serde::{Deserialize, Serialize};

use super::reconnect::NetworkChange;

/// Longest content of a frame; a longer one ends the conversation.
pub(super) const LONGEST: usize = 64 << 10;
const HEAD: usize = 5;

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Frame {
    /// The client's first word.
    Hello(Hello),
    /// For the container's standard input.
    Input(Vec<u8>),
    /// The end of it.
    InputEnd,
    /// The client's window has another size.
    Resize(TerminalSize),
    /// A signal for the container.
    Signal(i32),
    /// The container is to be on other networks.
    Network(NetworkChange),
    /// The container runs; notes for the user.
    Started(Vec<String>),
    /// It could not be started: the sentence, and docker's exit code.
    Failed(String, i32),
    /// What it wrote to standard output.
    Output(Vec<u8>),
    /// What it wrote to standard error.
    Errors(Vec<u8>),
    /// It ended, with this code.
    Exited(i32),
    /// What was asked for is done.
    Done,
}

/// What a client wants.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hello {
    /// It sends input.
    pub(super) input: bool,
    /// It is sent the output.
    pub(super) output: bool,
    /// Its window, where it has one: rows and columns.
    pub(super) window: Option<(u16, u16)>,
}

#[derive(Serialize, Deserialize)]
struct Failure {
    sentence: String,
    code: i32,
}

impl Frame {
    pub(super) fn encode(&self) -> Vec<u8> {
        let (kind, content) = match self {
            Frame::Hello(hello) => (1, serde_json::to_vec(hello).unwrap_or_default()),
            Frame::Input(bytes) => (2, bytes.clone()),
            Frame::InputEnd => (3, Vec::new()),
            Frame::Resize(size) => (4, [size.rows.to_le_bytes(), size.columns.to_le_bytes()].concat()),
            Frame::Signal(number) => (5, number.to_le_bytes().to_vec()),
            Frame::Network(change) => (6, serde_json::to_vec(change).unwrap_or_default()),
            Frame::Started(notes) => (16, serde_json::to_vec(notes).unwrap_or_default()),
            Frame::Failed(sentence, code) => {
                let failure = Failure { sentence: sentence.clone(), code: *code };
                (17, serde_json::to_vec(&failure).unwrap_or_default())
            }
            Frame::Output(bytes) => (18, bytes.clone()),
            Frame::Errors(bytes) => (19, bytes.clone()),
            Frame::Exited(code) => (20, code.to_le_bytes().to_vec()),
            Frame::Done => (21, Vec::new()),
        };
        let mut frame = vec![kind];
        frame.extend_from_slice(&u32::try_from(content.len()).unwrap_or(u32::MAX).to_le_bytes());
        frame.extend_from_slice(&content);
        frame
    }

    fn decode(kind: u8, content: &[u8]) -> Option<Frame> {
        let number = || content.try_into().ok().map(i32::from_le_bytes);
        Some(match kind {
            1 => Frame::Hello(serde_json::from_slice(content).ok()?),
            2 => Frame::Input(content.to_vec()),
            3 => Frame::InputEnd,
            4 => {
                let [a, b, c, d] = content.try_into().ok()?;
                Frame::Resize(TerminalSize { rows: u16::from_le_bytes([a, b]), columns: u16::from_le_bytes([c, d]) })
            }
            5 => Frame::Signal(number()?),
            6 => Frame::Network(serde_json::from_slice(content).ok()?),
            16 => Frame::Started(serde_json::from_slice(content).ok()?),
            17 => {
                let failure: Failure = serde_json::from_slice(content).ok()?;
                Frame::Failed(failure.sentence, failure.code)
            }
            18 => Frame::Output(content.to_vec()),
            19 => Frame::Errors(content.to_vec()),
            20 => Frame::Exited(number()?),
            21 => Frame::Done,
            _ => return None,
        })
    }

    /// Takes the first whole frame out of what was read; `None` when more is needed, an error when it is none.
    pub(super) fn take(buffer: &mut Vec<u8>) -> io::Result<Option<Frame>> {
        let Some((head, rest)) = buffer.split_at_checked(HEAD) else { return Ok(None) };
        let (kind, length) = head.split_at(1);
        let length = u32::from_le_bytes(length.try_into().unwrap_or_default()) as usize;
        let broken = || io::Error::new(io::ErrorKind::InvalidData, "no frame of a container's monitor");
        if length > LONGEST {
            return Err(broken());
        }
        let Some(content) = rest.get(..length) else { return Ok(None) };
        let frame = Frame::decode(kind.first().copied().unwrap_or(0), content).ok_or_else(broken)?;
        buffer.drain(..HEAD + length);
        Ok(Some(frame))
    }

    /// Sends it, waiting as long as that takes.
    pub(super) fn send(&self, mut to: impl Write) -> io::Result<()> {
        to.write_all(&self.encode())
    }

    /// Waits for the next frame; `None` at the end of the conversation.
    pub(super) fn receive(mut from: impl Read, buffer: &mut Vec<u8>) -> io::Result<Option<Frame>> {
        loop {
            if let Some(frame) = Frame::take(buffer)? {
                return Ok(Some(frame));
            }
            let mut bytes = [0; 16 << 10];
            match from.read(&mut bytes) {
                Ok(0) => return Ok(None),
                Ok(count) => buffer.extend_from_slice(bytes.get(..count).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_through_in_pieces() {
        let frames = [
            Frame::Hello(Hello { input: true, output: false, window: Some((20, 70)) }),
            Frame::Input(b"x".to_vec()),
            Frame::InputEnd,
            Frame::Resize(TerminalSize { rows: 300, columns: 2 }),
            Frame::Signal(15),
            Frame::Network(NetworkChange::Disconnect("n".to_owned())),
            Frame::Started(vec!["note".to_owned()]),
            Frame::Failed("no".to_owned(), 127),
            Frame::Output(vec![0; LONGEST]),
            Frame::Errors(Vec::new()),
            Frame::Exited(-1),
            Frame::Done,
        ];
        let bytes: Vec<u8> = frames.iter().flat_map(Frame::encode).collect();
        let (mut buffer, mut found) = (Vec::new(), Vec::new());
        for piece in bytes.chunks(7) {
            buffer.extend_from_slice(piece);
            while let Some(frame) = Frame::take(&mut buffer).unwrap() {
                found.push(frame);
            }
        }
        assert_eq!(found, frames);
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        for bytes in [&[9, 0, 0, 0, 0][..], &[2, 255, 255, 255, 255], &[4, 1, 0, 0, 0, 1], &[20, 0, 0, 0, 0]] {
            assert!(Frame::take(&mut bytes.to_vec()).is_err(), "{bytes:?}");
        }
    }
}
