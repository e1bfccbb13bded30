//! What the user sees: messages, diagnostics, tables, progress. Nothing else of the program writes to a stream.

pub(crate) mod defect;
pub(crate) mod diagnostic;
pub(crate) mod findings;
pub(crate) mod foreign;
pub(crate) mod graph;
pub(crate) mod interrupt;
pub(crate) mod progress;
pub(crate) mod prompt;
pub(crate) mod table;
pub(crate) mod template;
pub(crate) mod timings;
pub(crate) mod units;

use std::io::{self, Write};

use anstream::ColorChoice;
use anstyle::{AnsiColor, Style};

use crate::args::Color;

pub(crate) const BOLD: Style = Style::new().bold();
pub(crate) const DIM: Style = Style::new().dimmed();
pub(crate) const RED: Style = AnsiColor::Red.on_default().bold();
pub(crate) const YELLOW: Style = AnsiColor::Yellow.on_default().bold();
pub(crate) const GREEN: Style = AnsiColor::Green.on_default();
pub(crate) const CYAN: Style = AnsiColor::Cyan.on_default();

/// Decides once for both streams; `auto` follows the terminal and NO_COLOR.
pub(crate) fn set_color(color: Color) {
    let choice = match color {
        Color::Auto => ColorChoice::Auto,
        Color::Always => ColorChoice::AlwaysAnsi,
        Color::Never => ColorChoice::Never,
    };
    choice.write_global();
}

/// Writes a line of the answer to standard output.
///
/// # Errors
/// When it cannot be written: a closed pipe, a full disk.
pub(crate) fn line(text: &str) -> io::Result<()> {
    let mut out = anstream::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()
}

/// Standard output for bytes that are no text.
pub(crate) fn stream() -> Box<dyn Write> {
    Box::new(io::stdout())
}

/// One sentence on standard error. A stream that is gone has nobody to tell.
pub(crate) fn error(sentence: &str) {
    say(&format!("{RED}error{RED:#}: {}", foreign::lines(sentence)));
}

/// Something worth knowing that stops nothing.
pub(crate) fn note(sentence: &str) {
    say(&format!("{YELLOW}note{YELLOW:#}: {}", foreign::lines(sentence)));
}

/// A line on standard error.
pub(crate) fn say(text: &str) {
    let _ = writeln!(anstream::stderr().lock(), "{text}");
}

/// Help, the version, or what is wrong with the arguments.
pub(crate) fn print_clap(error: &clap::Error) {
    let _ = error.print();
}

/// A line on standard error as it is, escape sequences and all: for those that a build service or a program reads.
pub(crate) fn say_raw(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Bytes as they are, on standard error.
///
/// # Errors
/// When they cannot be written.
pub(crate) fn error_bytes(bytes: &[u8]) -> io::Result<()> {
    io::stderr().lock().write_all(bytes)
}

/// Bytes of an answer as they are, on standard output.
///
/// # Errors
/// When they cannot be written.
pub(crate) fn bytes(bytes: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)?;
    out.flush()
}
