//! Blobs on their way: a bar for each on a terminal, a line for each that ended elsewhere. Always on standard error.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use engine::{BlobState, TransferEvent};
use indicatif::{ProgressBar, ProgressStyle};

use crate::config;
use crate::ui::defect::Screen;
use crate::ui::{self, DIM, GREEN, foreign, units};

const WAITING: &str = "{prefix:.dim}  {wide_msg:.dim}";
pub(super) const MOVING: &str = "{prefix:.cyan}  {bar:30} {bytes:>11}/{total_bytes:<11} {bytes_per_sec:>12} {eta:>4}";
const UNSIZED: &str = "{prefix:.cyan}  {spinner} {bytes:>11} {bytes_per_sec:>12}";

/// A renderer for the transfers of one command; any thread may tell it.
#[derive(Debug)]
pub(crate) struct TransferProgress {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    mode: Mode,
    blobs: BTreeMap<String, Blob>,
}

#[derive(Debug)]
enum Mode {
    Bars(Screen),
    Lines,
    Quiet,
}

#[derive(Debug)]
struct Blob {
    bar: Option<ProgressBar>,
    begun: Instant,
    moved: u64,
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

impl TransferProgress {
    /// Bars on a terminal, else lines; nothing when it is to be quiet.
    pub(crate) fn new(quiet: bool) -> TransferProgress {
        let mode = match quiet {
            true => Mode::Quiet,
            false if std::io::stderr().is_terminal() && !config::plain_output() => Mode::Bars(Screen::default()),
            false => Mode::Lines,
        };
        TransferProgress { inner: Mutex::new(Inner { mode, blobs: BTreeMap::new() }) }
    }

    /// Tells what happened.
    pub(crate) fn event(&self, event: &TransferEvent) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            TransferEvent::Blob { id, state, size } => inner.blob(id, state, *size),
            TransferEvent::Bytes { id, count } => inner.bytes(id, *count),
            TransferEvent::Note(sentence) => inner.note(sentence),
        }
    }

    /// Takes everything that is redrawn off the screen.
    pub(crate) fn finish(&self) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        for blob in std::mem::take(&mut inner.blobs).into_values() {
            if let Some(bar) = blob.bar {
                bar.finish_and_clear();
            }
        }
    }
}

impl Inner {
    fn blob(&mut self, id: &str, state: &BlobState, size: Option<u64>) {
        let bars = match &self.mode {
            Mode::Bars(all) => Some(all.clone()),
            Mode::Lines => None,
            Mode::Quiet => return,
        };
        let blob = self.blobs.entry(id.to_owned()).or_insert_with(|| Blob {
            bar: bars.map(|all| {
                let bar = all.add(ProgressBar::new(0).with_style(style(WAITING)));
                bar.set_prefix(id.to_owned());
                bar
            }),
            begun: Instant::now(),
            moved: 0,
        });
        match state {
            BlobState::Waiting => {
                if let Some(bar) = &blob.bar {
                    bar.set_message("waiting");
                }
            }
            BlobState::Moving => {
                blob.begun = Instant::now();
                if let Some(bar) = &blob.bar {
                    bar.set_style(style(if size.is_some() { MOVING } else { UNSIZED }));
                    bar.set_length(size.unwrap_or(0));
                    bar.reset();
                }
            }
            BlobState::Present => self.end(id, "already there"),
            BlobState::Mounted(from) => self.end(id, &format!("taken over from {}", foreign::line(from))),
            BlobState::Done => {
                let (bytes, took) = (blob.moved.max(size.unwrap_or(0)), blob.begun.elapsed());
                self.end(id, &units::bytes_in(bytes, took));
            }
        }
    }

    fn bytes(&mut self, id: &str, count: u64) {
        if let Some(blob) = self.blobs.get_mut(id) {
            blob.moved += count;
            if let Some(bar) = &blob.bar {
                bar.inc(count);
            }
        }
    }

    /// The bar becomes a line that stays.
    fn end(&mut self, id: &str, how: &str) {
        if let Some(bar) = self.blobs.remove(id).and_then(|blob| blob.bar) {
            bar.finish_and_clear();
        }
        self.say(&format!("{id}: {GREEN}{how}{GREEN:#}"));
    }

    fn note(&self, sentence: &str) {
        if !matches!(self.mode, Mode::Quiet) {
            self.say(&format!("{DIM}{}{DIM:#}", foreign::line(sentence)));
        }
    }

    fn say(&self, line: &str) {
        match &self.mode {
            Mode::Bars(all) => all.suspend(|| ui::say(line)),
            Mode::Lines => ui::say(line),
            Mode::Quiet => {}
        }
    }
}
