//! `exec -it`: the user's terminal joined to a process more, until it ends or the user leaves it to itself.

use std::fs::File;
use std::io::{self, IsTerminal, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use runtime::{Container, ForwardedSignals, RawMode, terminal_size};
use rustix::event::{PollFd, PollFlags, poll};

use super::attach::{END_OF_INPUT, KeyFilter, Left};
use crate::error::{Error, Result};

/// The command, unknown to users, by which this program holds a terminal that the user left.
pub const HOLD_COMMAND: &str = "terminal-holder";
const BUFFER: usize = 16 << 10;

/// Joins them. A process that is left goes on: its terminal is held by a process of its own, which shows it to nobody.
pub(super) fn join(mut container: Container, signals: ForwardedSignals, keys: &[u8]) -> Result<Left> {
    let failed = |source| Error::Monitor { doing: "joining the terminal", source };
    let terminal = container.terminal().map(runtime::Terminal::file).transpose()?;
    let terminal = terminal.ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
    let (left, leave) = io::pipe().map_err(failed)?;
    let stdin = io::stdin();
    let raw = RawMode::enter(stdin.as_fd())?;
    forward(&container, signals)?;
    let keyboard = terminal.try_clone().map_err(failed)?;
    let filter = KeyFilter::new(keys.to_vec());
    // It may wait for a key for ever, so nobody waits for it: it ends with the process.
    std::thread::spawn(move || read_keys(keyboard, filter, leave));
    let screen = terminal.try_clone().map_err(failed)?;
    let output = std::thread::spawn(move || show(screen));
    if has_left(&container, &left).map_err(failed)? {
        hold(terminal).map_err(failed)?;
        container.leave();
        drop(raw);
        return Ok(Left::Detached);
    }
    let exit = container.wait()?;
    drop(terminal);
    // What was written before the end is shown to its last byte.
    let _ = output.join();
    drop(raw);
    Ok(Left::Ended(exit.status_code()))
}

fn forward(container: &Container, signals: ForwardedSignals) -> Result<()> {
    let killer = container.killer();
    let size = container.terminal().map(runtime::Terminal::file).transpose()?;
    std::thread::spawn(move || {
        signals.each(|signal| match (signal, &size) {
            (Some(signal), _) => drop(killer.kill(signal)),
            (None, Some(terminal)) => drop(runtime::resize_terminal(terminal, terminal_size())),
            (None, None) => {}
        });
    });
    Ok(())
}

fn read_keys(mut keyboard: File, mut filter: KeyFilter, leave: PipeWriter) {
    let mut bytes = [0; BUFFER];
    loop {
        let count = match io::stdin().read(&mut bytes) {
            Ok(0) => {
                // A pipe or a file that ends, ends what is typed; a terminal that is gone ends nothing.
                if !io::stdin().is_terminal() {
                    let _ = keyboard.write_all(&END_OF_INPUT);
                }
                break;
            }
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => break,
        };
        let (typed, leaves) = filter.pass(bytes.get(..count).unwrap_or_default());
        if keyboard.write_all(&typed).is_err() {
            break;
        }
        if leaves {
            // Nobody reads it only when the program has ended.
            let _ = (&leave).write_all(b"1");
            return;
        }
    }
    // An end of the keys is none of the program: the pipe stays open as long as this process is there.
    std::mem::forget(leave);
}

fn show(mut screen: File) {
    let mut bytes = [0; BUFFER];
    loop {
        match screen.read(&mut bytes) {
            Ok(count) if count > 0 => {
                let mut out = io::stdout().lock();
                if out.write_all(bytes.get(..count).unwrap_or_default()).and_then(|()| out.flush()).is_err() {
                    return;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // The end, which is an error for a terminal.
            _ => return,
        }
    }
}

/// Waits for whichever comes first.
fn has_left(container: &Container, left: &PipeReader) -> io::Result<bool> {
    loop {
        let mut both = [PollFd::new(container, PollFlags::IN), PollFd::new(left, PollFlags::IN)];
        match poll(&mut both, None) {
            Ok(_) => {
                let [process, keys] = both.map(|one| !one.revents().is_empty());
                if process || keys {
                    return Ok(keys && !process);
                }
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

fn hold(terminal: File) -> io::Result<()> {
    let mut holder = Command::new("/proc/self/exe");
    holder.arg0("dunnage").arg(HOLD_COMMAND).current_dir("/");
    holder.stdin(OwnedFd::from(terminal)).stdout(Stdio::null()).stderr(Stdio::null());
    holder.spawn().map(drop)
}

/// Reads the terminal on standard input to its end.
///
/// # Errors
/// When this process cannot leave the terminal that it was started from.
pub fn hold_terminal() -> Result<()> {
    rustix::process::setsid().map_err(|errno| Error::Monitor { doing: "holding a terminal", source: errno.into() })?;
    runtime::give_back_memory();
    let mut bytes = [0; BUFFER];
    loop {
        match io::stdin().read(&mut bytes) {
            Ok(0) => return Ok(()),
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Ok(()),
            _ => {}
        }
    }
}
