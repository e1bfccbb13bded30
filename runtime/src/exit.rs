//! `Exit`: how a container's first process ended, and what it used.
use std::time::Duration;

use crate::signal::Signal;

/// How a container's first process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// The exit code, if it ended by itself.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// What it and the processes that it waited for used.
    pub usage: Usage,
}

/// Resources used by a process and the descendants that it waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Usage {
    /// The largest resident set of one process, in bytes.
    pub max_resident: u64,
    /// Time in user mode.
    pub user_time: Duration,
    /// Time in the kernel.
    pub system_time: Duration,
}

impl Exit {
    /// Whether it ended by itself with code 0.
    #[must_use]
    pub fn success(&self) -> bool {
        self.code == Some(0)
    }

    /// The code that a shell would show: the exit code, or 128 and the signal's number.
    #[must_use]
    pub fn status_code(&self) -> i32 {
        match (self.code, self.signal) {
            (Some(code), _) => code,
            (None, Some(signal)) => 128 + signal,
            (None, None) => 255,
        }
    }

    /// The signal that ended it.
    #[must_use]
    pub fn signal(&self) -> Option<Signal> {
        self.signal.and_then(|number| Signal::from_number(number).ok())
    }
}
