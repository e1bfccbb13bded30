//! What the user is told of a panic: it is our defect, and the line says what to send. While something is drawn on the
//! terminal it waits, for what is redrawn would take it off again.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use indicatif::{MultiProgress, ProgressDrawTarget};

struct Told {
    drawings: usize,
    waiting: Vec<String>,
}

static TOLD: Mutex<Told> = Mutex::new(Told { drawings: 0, waiting: Vec::new() });

fn told() -> MutexGuard<'static, Told> {
    TOLD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One sentence in place of the runtime's report.
pub(crate) fn report_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(|place| format!(" at {}:{}", place.file(), place.line())).unwrap_or_default();
        let payload = panic.payload();
        let cause =
            payload.downcast_ref::<&str>().copied().or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        let sentence =
            format!("dunnage has a defect{place}: {}; please report this line", cause.unwrap_or("unknown cause"));
        let mut told = told();
        if told.drawings > 0 {
            told.waiting.push(sentence);
            return;
        }
        drop(told);
        super::error(&sentence);
    }));
}

/// What is redrawn on the terminal; the last of its copies to go ends it.
#[derive(Debug, Clone)]
pub(crate) struct Screen(Arc<Drawing>);

#[derive(Debug)]
struct Drawing(MultiProgress);

impl Default for Screen {
    fn default() -> Screen {
        told().drawings += 1;
        Screen(Arc::new(Drawing(MultiProgress::with_draw_target(ProgressDrawTarget::stderr()))))
    }
}

impl std::ops::Deref for Screen {
    type Target = MultiProgress;

    fn deref(&self) -> &MultiProgress {
        &self.0.0
    }
}

impl Drop for Drawing {
    fn drop(&mut self) {
        let mut told = told();
        told.drawings -= 1;
        if told.drawings > 0 || told.waiting.is_empty() {
            return;
        }
        let waiting = std::mem::take(&mut told.waiting);
        drop(told);
        // What ended with a defect has left what it drew, and may draw it again. It stays: nothing is cleared by a thread
        // that panics.
        self.0.set_draw_target(ProgressDrawTarget::hidden());
        waiting.iter().for_each(|sentence| super::error(sentence));
    }
}
