//! Ctrl-C and the polite signals: the first stops the work and lets it clean up for a moment, the second ends at once.

use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use engine::Cancel;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};

/// How long the work may clean up. It may hang in a lock that another process holds, or in a slow disk.
const PATIENCE: Duration = Duration::from_millis(1500);

/// Watches until it is dropped.
#[derive(Debug)]
pub(crate) struct Interrupt {
    handle: Handle,
    first: Arc<AtomicI32>,
    target: Arc<Mutex<Cancel>>,
}

/// Cancels the work on the first signal.
///
/// # Errors
/// When the kernel refuses the handlers.
pub(crate) fn watch(cancel: &Cancel) -> std::io::Result<Interrupt> {
    watch_for(cancel, PATIENCE)
}

/// The same for work that may take longer to end.
///
/// # Errors
/// When the kernel refuses the handlers.
pub(crate) fn watch_for(cancel: &Cancel, patience: Duration) -> std::io::Result<Interrupt> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    let handle = signals.handle();
    let first = Arc::new(AtomicI32::new(0));
    let target = Arc::new(Mutex::new(cancel.clone()));
    let (seen, aimed) = (Arc::clone(&first), Arc::clone(&target));
    std::thread::spawn(move || {
        for signal in signals.forever() {
            if seen.swap(signal, Ordering::SeqCst) == 0 {
                aimed.lock().unwrap_or_else(PoisonError::into_inner).cancel();
                std::thread::spawn(move || {
                    std::thread::sleep(patience);
                    end(signal);
                });
            } else {
                end(signal);
            }
        }
    });
    Ok(Interrupt { handle, first, target })
}

/// What is left is swept by the next command: leases die with their process.
fn end(signal: i32) -> ! {
    signal_hook::low_level::exit(128 + signal)
}

impl Interrupt {
    /// Cancels this work instead: at once, where a signal came already.
    pub(crate) fn aim(&self, cancel: &Cancel) {
        *self.target.lock().unwrap_or_else(PoisonError::into_inner) = cancel.clone();
        if self.code().is_some() {
            cancel.cancel();
        }
    }

    /// 128+n for the signal that came, if one did.
    pub(crate) fn code(&self) -> Option<u8> {
        match self.first.load(Ordering::SeqCst) {
            0 => None,
            signal => u8::try_from(128 + signal).ok(),
        }
    }
}

impl Drop for Interrupt {
    fn drop(&mut self) {
        self.handle.close();
    }
}
