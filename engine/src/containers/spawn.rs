//! Making a monitor: this program once more, in a session of its own, which is handed the container's lock.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use cache::{ContainerPlace, StorageDriver};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
};

use super::wire::{Frame, Hello};
use crate::Engine;
use crate::error::{Error, Result};

/// The command, unknown to users, by which this program is a container's monitor. It is given the container's id.
pub const MONITOR_COMMAND: &str = "container-monitor";
/// What every conversation with it begins with, along with the lock.
const GREETING: &[u8] = b"M";

impl Engine {
    /// Starts a container under a monitor of its own. The conversation with it goes on where this ends.
    pub(super) fn spawn_monitor(&self, place: ContainerPlace, hello: Hello) -> Result<Conversation> {
        let failed = |error| Error::Monitor { doing: "starting its process", source: error };
        let (own, its) = UnixStream::pair().map_err(failed)?;
        let driver = match self.storage()?.driver {
            StorageDriver::Overlay => "overlay",
            StorageDriver::Copy => "copy",
        };
        let root = std::path::absolute(self.root()).map_err(failed)?;
        // Nobody waits for it: it outlives this process, or ends with the container that this process waits for.
        Command::new("/proc/self/exe")
            .arg0("dunnage")
            .args([MONITOR_COMMAND, "--root"])
            .arg(root)
            .args(["--storage-driver", driver, place.id()])
            .current_dir("/")
            .stdin(OwnedFd::from(its))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(failed)?;
        send_lock(&own, &place).map_err(failed)?;
        Frame::Hello(hello).send(&own).map_err(failed)?;
        drop(place);
        let mut conversation = Conversation { stream: own, received: Vec::new(), notes: Vec::new() };
        match conversation.next().map_err(failed)? {
            Some(Frame::Started(notes)) => conversation.notes = notes,
            Some(Frame::Failed(sentence, code)) => return Err(Error::Unstarted { sentence, code }),
            _ => return Err(failed(io::ErrorKind::UnexpectedEof.into())),
        }
        Ok(conversation)
    }
}

/// A client's side of the talk with a monitor.
#[derive(Debug)]
pub(super) struct Conversation {
    pub(super) stream: UnixStream,
    pub(super) received: Vec<u8>,
    /// What the user should know about the start.
    pub(super) notes: Vec<String>,
}

impl Conversation {
    pub(super) fn send(&self, frame: &Frame) -> io::Result<()> {
        frame.send(&self.stream)
    }

    pub(super) fn next(&mut self) -> io::Result<Option<Frame>> {
        Frame::receive(&self.stream, &mut self.received)
    }
}

fn send_lock(socket: &UnixStream, place: &ContainerPlace) -> io::Result<()> {
    let lock = [place.lock()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    ancillary.push(SendAncillaryMessage::ScmRights(&lock));
    rustix::net::sendmsg(socket, &[IoSlice::new(GREETING)], &mut ancillary, SendFlags::empty())?;
    Ok(())
}

/// The monitor's side of it.
pub(super) fn receive_lock(socket: &UnixStream) -> io::Result<OwnedFd> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut greeting = [0];
    let mut parts = [IoSliceMut::new(&mut greeting)];
    rustix::net::recvmsg(socket.as_fd(), &mut parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    let mut locks = ancillary.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    locks.next().and_then(|mut descriptors| descriptors.next()).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}
