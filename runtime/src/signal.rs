//! Signals by name and number. Sending them is the container's business.
use std::fmt;

use crate::error::{Error, Result};

/// One signal, 1 to 64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Signal(i32);

const NAMES: &[(&str, i32)] = &[
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("PWR", 30),
    ("SYS", 31),
    ("RTMIN", 34),
    ("RTMAX", 64),
];

impl Signal {
    /// Ask to end.
    pub const TERM: Signal = Signal(15);
    /// End at once.
    pub const KILL: Signal = Signal(9);
    /// Interrupt from the keyboard.
    pub const INT: Signal = Signal(2);
    /// The terminal is gone.
    pub const HUP: Signal = Signal(1);
    /// Quit from the keyboard.
    pub const QUIT: Signal = Signal(3);
    /// For the program's own use.
    pub const USR1: Signal = Signal(10);
    /// For the program's own use.
    pub const USR2: Signal = Signal(12);

    /// A signal by number.
    pub fn from_number(number: i32) -> Result<Signal> {
        match number {
            1..=64 => Ok(Signal(number)),
            _ => Err(Error::UnknownSignal { name: number.to_string() }),
        }
    }

    /// Reads `TERM`, `SIGTERM`, `15`, `RTMIN+3` or `RTMAX-2`, in any case.
    pub fn parse(text: &str) -> Result<Signal> {
        let unknown = || Error::UnknownSignal { name: text.to_owned() };
        if let Ok(number) = text.parse() {
            return Signal::from_number(number).map_err(|_| unknown());
        }
        let upper = text.to_ascii_uppercase();
        let bare = upper.strip_prefix("SIG").unwrap_or(&upper);
        let offset = |rest: &str| rest.parse::<i32>().ok().filter(|offset| (0..=30).contains(offset));
        let number = if let Some(rest) = bare.strip_prefix("RTMIN+") {
            offset(rest).map(|offset| 34 + offset)
        } else if let Some(rest) = bare.strip_prefix("RTMAX-") {
            offset(rest).map(|offset| 64 - offset)
        } else {
            NAMES.iter().find(|(name, _)| *name == bare).map(|(_, number)| *number)
        };
        number.map(Signal).ok_or_else(unknown)
    }

    /// The kernel's number.
    #[must_use]
    pub const fn number(self) -> i32 {
        self.0
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.iter().find(|(_, number)| *number == self.0) {
            Some((name, _)) => write!(f, "SIG{name}"),
            None => write!(f, "SIGRTMIN+{}", self.0 - 34),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn runtime_r21_names_and_numbers_mean_the_same() {
        for text in ["USR1", "sigusr1", "10", "SIGUSR1"] {
            assert_eq!(Signal::parse(text).unwrap(), Signal::USR1);
        }
        assert_eq!(Signal::parse("SIGRTMIN+3").unwrap().number(), 37);
        assert_eq!(Signal::parse("RTMAX-1").unwrap().to_string(), "SIGRTMIN+29");
    }

    #[test]
    fn what_is_no_signal_is_refused() {
        for text in ["", "0", "65", "-9", "SIG", "NOPE", "RTMIN+31", "RTMIN+-1"] {
            assert!(Signal::parse(text).is_err(), "{text}");
        }
    }
}
