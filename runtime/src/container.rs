//! `Container`: a running sandbox. Signals go by descriptor, so they never hit a stranger; dropping it ends and reaps it.
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::sandbox::TerminalSize;
use crate::signal::Signal;
use crate::sys::process;

/// A started process and the namespaces around it. Dropping it kills what still runs.
#[derive(Debug)]
pub struct Container {
    pid: i32,
    pidfd: Arc<OwnedFd>,
    input: Option<File>,
    outputs: [Option<File>; 2],
    terminal: Option<Terminal>,
    created: Vec<PathBuf>,
    notes: Vec<String>,
    exit: Option<Exit>,
    left: bool,
}

/// What `start` hands over.
pub(crate) struct Parts {
    pub(crate) pid: i32,
    pub(crate) pidfd: OwnedFd,
    pub(crate) input: Option<File>,
    pub(crate) outputs: [Option<File>; 2],
    pub(crate) terminal: Option<OwnedFd>,
    pub(crate) created: Vec<PathBuf>,
}

impl Container {
    pub(crate) fn new(parts: Parts) -> Container {
        Container {
            pid: parts.pid,
            pidfd: Arc::new(parts.pidfd),
            input: parts.input,
            outputs: parts.outputs,
            terminal: parts.terminal.map(|outer| Terminal { outer }),
            created: parts.created,
            notes: Vec::new(),
            exit: None,
            left: false,
        }
    }

    pub(crate) fn add_notes(&mut self, notes: impl IntoIterator<Item = String>) {
        self.notes.extend(notes);
    }

    /// The number of its first process, as the host counts.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid.unsigned_abs()
    }

    /// The write end of its standard input, once, with `Stdio::AllPipes`. Dropping it is the end of the input.
    pub fn take_stdin(&mut self) -> Option<File> {
        self.input.take()
    }

    /// The read end of its standard output, once, with `Stdio::Pipes`.
    pub fn take_stdout(&mut self) -> Option<File> {
        let [stdout, _] = &mut self.outputs;
        stdout.take()
    }

    /// The read end of its standard error, once, with `Stdio::Pipes`.
    pub fn take_stderr(&mut self) -> Option<File> {
        let [_, stderr] = &mut self.outputs;
        stderr.take()
    }

    /// The outer side of its terminal, with `Stdio::Terminal`.
    #[must_use]
    pub fn terminal(&self) -> Option<&Terminal> {
        self.terminal.as_ref()
    }

    /// Files and directories that were made in the root as mount points, outermost first; whoever keeps the root may drop them.
    #[must_use]
    pub fn created_mount_points(&self) -> &[PathBuf] {
        &self.created
    }

    /// What was asked for and could not be had in full, in words for the user.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Waits for the end of the first process; the kernel has ended all others by then. Later calls give the same answer.
    pub fn wait(&mut self) -> Result<Exit> {
        if let Some(exit) = self.exit {
            return Ok(exit);
        }
        let exit = process::wait_for(self.pid).map_err(Error::container("waiting for the process"))?;
        self.exit = Some(exit);
        Ok(exit)
    }

    /// Sends a signal to the first process. One that has ended is no error.
    pub fn kill(&self, signal: Signal) -> Result<()> {
        self.killer().kill(signal)
    }

    /// Leaves it to itself: nobody here waits for its end.
    pub fn leave(mut self) {
        self.left = true;
    }

    /// A handle that can send signals from any thread.
    #[must_use]
    pub fn killer(&self) -> Killer {
        Killer { pidfd: Arc::clone(&self.pidfd) }
    }
}

impl AsFd for Container {
    /// Ready for reading when the first process has ended.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if self.exit.is_none() && !self.left {
            // Neither can fail for an own child that nobody has reaped; there is no one to tell if they do.
            let _ = self.kill(Signal::KILL);
            let _ = process::wait_for(self.pid);
        }
    }
}

/// Sends signals to a container, from any thread and for any time: a descriptor never means another process.
#[derive(Clone, Debug)]
pub struct Killer {
    pidfd: Arc<OwnedFd>,
}

impl Killer {
    /// Sends a signal to the first process. One that has ended is no error. SIGKILL ends the whole container.
    pub fn kill(&self, signal: Signal) -> Result<()> {
        match process::send_by_descriptor(self.pidfd.as_fd(), signal.number()) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(errno) => Err(Error::container("sending a signal")(errno)),
        }
    }
}

/// The outer side of a container's terminal.
#[derive(Debug)]
pub struct Terminal {
    outer: OwnedFd,
}

impl Terminal {
    /// Tells the programs inside how large the window is.
    pub fn resize(&self, size: TerminalSize) -> Result<()> {
        crate::prepare::resize(&self.outer, size).map_err(Error::container("resizing the terminal"))
    }

    /// Hands it to whoever listens on a socket of the host, which is how OCI runtimes give terminals to their callers.
    pub fn send(&self, socket: &std::path::Path) -> Result<()> {
        let failed = |errno| Error::container("sending the terminal to the console socket")(errno);
        let address = rustix::net::SocketAddrUnix::new(socket).map_err(failed)?;
        let (family, kind) = (rustix::net::AddressFamily::UNIX, rustix::net::SocketType::STREAM);
        let stream = rustix::net::socket_with(family, kind, rustix::net::SocketFlags::CLOEXEC, None).map_err(failed)?;
        rustix::net::connect(&stream, &address).map_err(failed)?;
        let descriptors = [self.outer.as_fd()];
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = rustix::net::SendAncillaryBuffer::new(&mut space);
        ancillary.push(rustix::net::SendAncillaryMessage::ScmRights(&descriptors));
        let name = [std::io::IoSlice::new(b"/dev/ptmx")];
        rustix::net::sendmsg(&stream, &name, &mut ancillary, rustix::net::SendFlags::NOSIGNAL).map_err(failed).map(drop)
    }

    /// Its inner side, as the programs in the container have it.
    pub fn peer(&self) -> Result<OwnedFd> {
        use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer};
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        ioctl_tiocgptpeer(&self.outer, flags).map_err(Error::container("opening the terminal"))
    }

    /// A file for reading what is shown and writing what is typed. At the end of the session reading gives EIO.
    pub fn file(&self) -> Result<File> {
        let copy = rustix::io::fcntl_dupfd_cloexec(&self.outer, 3).map_err(Error::container("sharing the terminal"))?;
        Ok(copy.into())
    }
}

impl AsFd for Terminal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.outer.as_fd()
    }
}
