//! `attach`: the user's terminal and signals joined to a container in the foreground, until it ends.
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr};
use signal_hook::consts::signal::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH};
use signal_hook::iterator::Signals;

use crate::container::{Container, Killer, Terminal};
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
pub struct ForwardedSignals(Signals);

impl ForwardedSignals {
    /// Catches them.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn catch() -> Result<ForwardedSignals> {
        let failed = |source| Error::Container { doing: "catching signals", source };
        Signals::new(FORWARDED.iter().chain(&[SIGWINCH])).map(ForwardedSignals).map_err(failed)
    }

    /// Hands on each that comes, as long as the process lives; `None` is a window of another size.
    pub fn each(mut self, mut handle: impl FnMut(Option<Signal>)) {
        for number in self.0.forever() {
            match Signal::from_number(number) {
                Ok(_) if number == SIGWINCH => handle(None),
                Ok(signal) => handle(Some(signal)),
                Err(_) => {}
            }
        }
    }
}

/// Waits for the end of a container. Signals are handed on; with a terminal, what it shows is copied to standard output,
/// and the user's own terminal is raw meanwhile and as it was afterwards.
///
/// # Errors
/// When the terminal cannot be set.
pub fn attach(container: &mut Container, signals: ForwardedSignals, options: AttachOptions) -> Result<Exit> {
    let failed = |doing| move |source| Error::Container { doing, source };
    let ForwardedSignals(mut signals) = signals;
    let stop = signals.handle();
    let killer = container.killer();
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
        let resize = container.terminal().map(Terminal::sharer).transpose()?;
        scope.spawn(move || forward(&mut signals, &killer, resize.as_ref()));
        let output = screen.map(|mut screen| scope.spawn(move || copy(&mut screen, &mut io::stdout())));
        let exit = container.wait();
        stop.close();
        if let Some(output) = output {
            // What was written before the end is shown to its last byte.
            let _ = output.join();
        }
        exit
    });
    drop(raw);
    exit
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

fn forward(signals: &mut Signals, killer: &Killer, terminal: Option<&Terminal>) {
    for number in signals.forever() {
        // Either fails only when the container has just ended.
        if number == SIGWINCH {
            let _ = terminal.map(|terminal| terminal.resize(terminal_size()));
        } else if let Ok(signal) = Signal::from_number(number) {
            let _ = killer.kill(signal);
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
