//! What all transfers of a command share: whether they are still wanted, and how much they may take of the network.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::refusal::Cause;

/// Longest pause without a look whether the work is still wanted.
const SLICE: Duration = Duration::from_millis(50);

type Cancelled = dyn Fn() -> bool + Send + Sync;

/// Shared by all connections.
#[derive(Clone)]
pub(super) struct Shared {
    cancelled: Arc<Cancelled>,
    bucket: Option<Arc<Mutex<Bucket>>>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("limited", &self.bucket.is_some()).finish_non_exhaustive()
    }
}

/// When the bytes that were taken so far are paid for.
struct Bucket {
    rate: u64,
    paid: Instant,
}

impl Shared {
    pub(super) fn new(cancelled: Arc<Cancelled>, bandwidth: Option<u64>) -> Shared {
        let bucket = bandwidth.map(|rate| Arc::new(Mutex::new(Bucket { rate: rate.max(1), paid: Instant::now() })));
        Shared { cancelled, bucket }
    }

    pub(super) fn go_on(&self) -> Result<(), Cause> {
        if (self.cancelled)() { Err(Cause::Cancelled) } else { Ok(()) }
    }

    /// Waits until so many bytes are within the bandwidth.
    pub(super) fn take(&self, bytes: usize) -> Result<(), Cause> {
        self.go_on()?;
        let Some(bucket) = &self.bucket else { return Ok(()) };
        let due = {
            let mut bucket = bucket.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            bucket.paid = bucket.paid.max(now) + Duration::from_secs_f64(bytes as f64 / bucket.rate as f64);
            bucket.paid
        };
        while let Some(left) = due.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            self.go_on()?;
            std::thread::sleep(left.min(SLICE));
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_paid_for_in_time_and_a_stop_is_heard() {
        let shared = Shared::new(Arc::new(|| false), Some(1 << 20));
        let begun = Instant::now();
        (0..4).for_each(|_| shared.take(32 << 10).unwrap());
        assert!(begun.elapsed() >= Duration::from_millis(100));
        assert_eq!(Shared::new(Arc::new(|| true), None).take(1), Err(Cause::Cancelled));
    }
}
