//! What the user sees: messages, diagnostics, tables, progress. Nothing else of the program writes to a stream.

pub(crate) mod diagnostic;
pub(crate) mod findings;
pub(crate) mod interrupt;
pub(crate) mod progress;
pub(crate) mod table;
pub(crate) mod template;
pub(crate) mod units;

use std::io::{self, Write};

use anstream::ColorChoice;
use anstyle::{AnsiColor, Style};

use crate::args::Color;

const BOLD: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();
const RED: Style = AnsiColor::Red.on_default().bold();
const YELLOW: Style = AnsiColor::Yellow.on_default().bold();
const GREEN: Style = AnsiColor::Green.on_default();
const CYAN: Style = AnsiColor::Cyan.on_default();

/// Decides once for both streams; `auto` follows the terminal and NO_COLOR.
pub(crate) fn set_color(color: Color) {
    let choice = match color {
        Color::Auto => ColorChoice::Auto,
        Color::Always => ColorChoice::AlwaysAnsi,
        Color::Never => ColorChoice::Never,
    };
    choice.write_global();
}

/// One sentence in place of the runtime's report: a panic is our defect, and the user needs to know what to send.
pub(crate) fn report_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(|place| format!(" at {}:{}", place.file(), place.line())).unwrap_or_default();
        let payload = panic.payload();
        let cause =
            payload.downcast_ref::<&str>().copied().or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        error(&format!("dunnage has a defect{place}: {}; please report this line", cause.unwrap_or("unknown cause")));
    }));
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
    say(&format!("{RED}error{RED:#}: {sentence}"));
}

/// Something worth knowing that stops nothing.
pub(crate) fn note(sentence: &str) {
    say(&format!("{YELLOW}note{YELLOW:#}: {sentence}"));
}

/// A line on standard error.
pub(crate) fn say(text: &str) {
    let _ = writeln!(anstream::stderr().lock(), "{text}");
}

/// Help, the version, or what is wrong with the arguments.
pub(crate) fn print_clap(error: &clap::Error) {
    let _ = error.print();
}

/// Text of a foreign program, safe to show: escape sequences and control characters are taken out.
pub(crate) fn plain_text(text: &str) -> String {
    let stripped = anstream::adapter::strip_str(text).to_string();
    stripped.chars().filter(|c| *c == '\t' || !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_cannot_steer_the_terminal() {
        assert_eq!(plain_text("\u{1b}[31mred\u{1b}[0m\u{7}\tx\u{1b}]0;title\u{7}"), "red\tx");
    }
}
