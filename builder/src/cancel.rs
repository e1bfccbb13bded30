//! Stopping a build: what every worker asks, and the processes that are killed at once.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use runtime::{Killer, Signal};

use crate::solve::lock;

/// Stops a build from another thread: a flag, and the processes to kill.
#[derive(Debug, Clone, Default)]
pub struct Cancel {
    inner: Arc<CancelState>,
}

#[derive(Debug, Default)]
struct CancelState {
    flag: AtomicBool,
    killers: Mutex<BTreeMap<u64, Killer>>,
    next: std::sync::atomic::AtomicU64,
}

impl Cancel {
    /// Asks the build to stop and kills what runs.
    pub fn cancel(&self) {
        self.inner.flag.store(true, Ordering::SeqCst);
        for killer in lock(&self.inner.killers).values() {
            let _ = killer.kill(Signal::KILL);
        }
    }

    /// Whether a stop was asked for.
    pub fn is_cancelled(&self) -> bool {
        self.inner.flag.load(Ordering::SeqCst)
    }

    /// Registers a process for the time that the guard lives.
    pub(crate) fn watch(&self, killer: Killer) -> Watched {
        let id = self.inner.next.fetch_add(1, Ordering::Relaxed);
        let late = killer.clone();
        lock(&self.inner.killers).insert(id, killer);
        if self.is_cancelled() {
            let _ = late.kill(Signal::KILL);
        }
        Watched { cancel: self.clone(), id }
    }
}

/// See [`Cancel::watch`].
pub(crate) struct Watched {
    cancel: Cancel,
    id: u64,
}

impl Drop for Watched {
    fn drop(&mut self) {
        lock(&self.cancel.inner.killers).remove(&self.id);
    }
}
