//! Questions to whoever sits at the terminal.

use std::io::{self, BufRead, Write};

use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

/// Asks for a line.
///
/// # Errors
/// When the terminal is gone.
pub(crate) fn line(question: &str) -> io::Result<String> {
    let mut err = anstream::stderr().lock();
    write!(err, "{question}")?;
    err.flush()?;
    drop(err);
    let mut text = String::new();
    io::stdin().lock().read_line(&mut text)?;
    Ok(text.trim_end_matches(['\n', '\r']).to_owned())
}

/// Asks for a line that is not shown while it is typed.
///
/// # Errors
/// When the terminal is gone.
pub(crate) fn secret(question: &str) -> io::Result<String> {
    let before = tcgetattr(io::stdin())?;
    let mut quiet = before.clone();
    quiet.local_modes.remove(LocalModes::ECHO);
    tcsetattr(io::stdin(), OptionalActions::Flush, &quiet)?;
    let answer = line(question);
    // The terminal is its user's, whatever came of the question.
    let restored = tcsetattr(io::stdin(), OptionalActions::Now, &before);
    super::say("");
    restored?;
    answer
}
