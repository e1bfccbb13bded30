//! When a request is tried again, and after how long.

use std::time::{Duration, Instant, SystemTime};

/// Attempts of one request.
const TRIES: u32 = 5;
/// Attempts where nobody answers at all.
const BRIEF_TRIES: u32 = 3;
/// The first pause; each further one may be twice as long.
const FIRST: Duration = Duration::from_millis(500);
/// The longest pause that we choose.
const LONGEST: Duration = Duration::from_secs(20);
/// The longest pause that a server may ask for.
const LONGEST_ASKED: Duration = Duration::from_secs(120);
/// All attempts and pauses of one request.
const BUDGET: Duration = Duration::from_secs(600);

/// Whether and when another attempt makes sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    /// It would fail again.
    Never,
    /// A few times, soon.
    Briefly,
    /// After a pause that grows.
    Backoff,
    /// After what the server asked for.
    Asked(Duration),
}

/// The attempts of one request.
#[derive(Debug)]
pub(crate) struct Attempts {
    used: u32,
    began: Instant,
}

impl Attempts {
    pub(crate) fn begin() -> Attempts {
        Attempts { used: 0, began: Instant::now() }
    }

    /// Takes one more attempt: the pause before it, or `None` when there have been enough.
    pub(crate) fn next(&mut self, wait: Wait) -> Option<Duration> {
        self.used += 1;
        let step = FIRST.saturating_mul(2_u32.saturating_pow(self.used - 1)).min(LONGEST);
        let (tries, pause) = match wait {
            Wait::Never => return None,
            Wait::Briefly => (BRIEF_TRIES, jittered(step / 4)),
            Wait::Backoff => (TRIES, jittered(step)),
            Wait::Asked(pause) => (TRIES, pause.min(LONGEST_ASKED)),
        };
        (self.used < tries && self.began.elapsed() + pause < BUDGET).then_some(pause)
    }

    pub(crate) fn used(&self) -> u32 {
        self.used
    }
}

/// Full jitter: anything up to the pause, so that clients which failed together do not come back together.
fn jittered(pause: Duration) -> Duration {
    use std::hash::{BuildHasher, Hasher};
    // Every `RandomState` is keyed anew.
    let random = std::collections::hash_map::RandomState::new().build_hasher().finish();
    let share = u32::try_from(random % 1000).unwrap_or(0);
    pause / 1000 * share
}

/// `Retry-After`: seconds, or a date (RFC 9110, 10.2.3). What is neither, or in the past, is as if it were not there.
pub(crate) fn after(text: &str) -> Option<Duration> {
    if let Ok(seconds) = text.trim().parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(unix_seconds(text)?).ok()?);
    at.duration_since(SystemTime::now()).ok()
}

/// A date of HTTP (RFC 9110, 5.6.7) in Unix seconds.
pub(crate) fn unix_seconds(date: &str) -> Option<i64> {
    let parser = jiff::fmt::rfc2822::DateTimeParser::new();
    parser.parse_timestamp(date.trim()).ok().map(|time| time.as_second())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn security_r13_pauses_are_capped_and_attempts_are_counted() {
        let mut attempts = Attempts::begin();
        assert_eq!(attempts.next(Wait::Asked(after("1000000000").unwrap())), Some(LONGEST_ASKED));
        assert!(attempts.next(Wait::Backoff).unwrap() <= FIRST * 2);
        assert!(attempts.next(Wait::Backoff).unwrap() <= FIRST * 4);
        assert!(attempts.next(Wait::Backoff).is_some());
        assert_eq!(attempts.next(Wait::Backoff), None);
        assert_eq!(Attempts::begin().next(Wait::Never), None);
        assert_eq!((after("-1"), after("Wed, 21 Oct 2015 07:28:00 GMT"), after("soon")), (None, None, None));
        assert!(after("Thu, 31 Dec 2099 23:59:59 GMT").unwrap() > LONGEST_ASKED);
        assert_eq!(unix_seconds("Thu, 01 Jan 1970 00:00:10 GMT"), Some(10));
    }
}
