//! `attach`: the user's terminal and signals joined to a container in the foreground, until it ends.
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr};
use signal_hook::consts::signal::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH};
use signal_hook::iterator::backend::SignalDelivery;
use signal_hook::iterator::exfiltrator::SignalOnly;

use crate::container::{Container, Terminal};
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::sandbox::TerminalSize;
use crate::signal::Signal;

/// Signals that are the container's business. Process 1 ignores those that it has no handler for: that is the kernel's rule.
const FORWARDED: [i32; 6] = [SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2];

/// How a container is joined.
#[derive(Clone, Copy, Debug, Default)]
pub struct AttachOptions {
    /// What is typed goes to the container's terminal.
    pub interactive: bool,
}

/// The size of the terminal that standard output, or input, is; zeros where neither is one.
#[must_use]
pub fn terminal_size() -> TerminalSize {
    let size = tcgetwinsize(io::stdout()).or_else(|_| tcgetwinsize(io::stdin()));
    size.map_or_else(|_| TerminalSize::default(), |size| TerminalSize { rows: size.ws_row, columns: size.ws_col })
}

/// Tells the programs on the inner side of a terminal how large the window is.
///
/// # Errors
/// When it is no terminal.
pub fn resize_terminal(outer: impl AsFd, size: TerminalSize) -> Result<()> {
    crate::prepare::resize(outer, size).map_err(Error::container("resizing the terminal"))
}

/// Signals to this process that are the container's business, caught from the moment that this is made.
///
/// It is made before the container is started: one that comes in between waits, and is handed on.
#[derive(Debug)]
pub struct ForwardedSignals(SignalDelivery<UnixStream, SignalOnly>);

impl ForwardedSignals {
    /// Catches them.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn catch() -> Result<ForwardedSignals> {
        let failed = |source| Error::Container { doing: "catching signals", source };
        let (read, write) = UnixStream::pair().map_err(failed)?;
        let numbers = FORWARDED.iter().chain(&[SIGWINCH]);
        SignalDelivery::with_pipe(read, write, SignalOnly, numbers).map(ForwardedSignals).map_err(failed)
    }

    /// Hands on each that comes, as long as the process lives; `None` is a window of another size.
    pub fn each(mut self, mut handle: impl FnMut(Option<Signal>)) {
        while wait_for_any(&mut [PollFd::new(self.0.get_read(), PollFlags::IN)]).is_ok() {
            self.pending(&mut handle);
        }
    }

    /// Hands on those that have come.
    fn pending(&mut self, handle: &mut impl FnMut(Option<Signal>)) {
        for number in self.0.pending() {
            match Signal::from_number(number) {
                Ok(_) if number == SIGWINCH => handle(None),
                Ok(signal) => handle(Some(signal)),
                Err(_) => {}
            }
        }
    }
}

fn wait_for_any(descriptors: &mut [PollFd<'_>]) -> Result<()> {
    rustix::io::retry_on_intr(|| poll(descriptors, None)).map(drop).map_err(Error::container("waiting for signals"))
}

/// Waits for the end of a container. Signals are handed on; with a terminal, what it shows is copied to standard output,
/// and the user's own terminal is raw meanwhile and as it was afterwards.
///
/// # Errors
/// When the terminal cannot be set.
pub fn attach(container: &mut Container, signals: ForwardedSignals, options: AttachOptions) -> Result<Exit> {
    let failed = |doing| move |source| Error::Container { doing, source };
    let terminal = container.terminal().map(Terminal::file).transpose()?;
    let stdin = io::stdin();
    let raw = match &terminal {
        Some(_) if options.interactive => RawMode::enter(stdin.as_fd())?,
        _ => None,
    };
    if let (Some(terminal), true) = (&terminal, options.interactive) {
        let keyboard = terminal.try_clone().map_err(failed("sharing the terminal"))?;
        // It may wait for a key for ever, so nobody waits for it: it ends with the process.
        std::thread::spawn(move || copy(&mut io::stdin(), &mut &keyboard));
    }
    let screen = terminal.as_ref().map(File::try_clone).transpose().map_err(failed("sharing the terminal"))?;
    let exit = std::thread::scope(|scope| {
        let output = screen.map(|mut screen| scope.spawn(move || copy(&mut screen, &mut io::stdout())));
        let exit = forward_until_the_end(container, signals).and_then(|()| container.wait());
        if let Some(output) = output {
            // What was written before the end is shown to its last byte.
            let _ = output.join();
        }
        exit
    });
    drop(raw);
    exit
}

/// Hands signals on until the first process has ended. On the thread that waits: one more would be a fifth of a short run.
fn forward_until_the_end(container: &Container, mut signals: ForwardedSignals) -> Result<()> {
    loop {
        let ended = {
            let mut descriptors =
                [PollFd::new(container, PollFlags::IN), PollFd::new(signals.0.get_read(), PollFlags::IN)];
            wait_for_any(&mut descriptors)?;
            let [end, _] = &descriptors;
            !end.revents().is_empty()
        };
        // Either fails only when the container has just ended.
        signals.pending(&mut |signal| {
            let _ = match signal {
                Some(signal) => container.kill(signal),
                None => container.terminal().map_or(Ok(()), |terminal| terminal.resize(terminal_size())),
            };
        });
        if ended {
            return Ok(());
        }
    }
}

/// Copies until either side ends; EIO is the end of a terminal.
fn copy(from: &mut impl Read, to: &mut impl Write) {
    let mut buffer = [0_u8; 16 * 1024];
    loop {
        let count = match from.read(&mut buffer) {
            Ok(0) => return,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => return,
        };
        let bytes = buffer.get(..count).unwrap_or_default();
        if to.write_all(bytes).and_then(|()| to.flush()).is_err() {
            return;
        }
    }
}

/// The user's terminal without line editing, for as long as this lives.
#[derive(Debug)]
pub struct RawMode<'a> {
    terminal: BorrowedFd<'a>,
    before: Termios,
}

impl<'a> RawMode<'a> {
    /// `None` where it is no terminal.
    ///
    /// # Errors
    /// When it cannot be set.
    pub fn enter(terminal: BorrowedFd<'a>) -> Result<Option<RawMode<'a>>> {
        if !isatty(terminal) {
            return Ok(None);
        }
        let before = tcgetattr(terminal).map_err(Error::container("reading the terminal's settings"))?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(terminal, OptionalActions::Now, &raw).map_err(Error::container("setting the terminal"))?;
        Ok(Some(RawMode { terminal, before }))
    }
}

impl Drop for RawMode<'_> {
    fn drop(&mut self) {
        // A terminal that has gone away needs no restoring.
        let _ = tcsetattr(self.terminal, OptionalActions::Now, &self.before);
    }
}
