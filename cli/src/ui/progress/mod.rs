//! The progress of a build: one account of its steps, drawn in one of four ways, always on standard error.

mod groups;
mod lines;
mod plain;
mod rawjson;
pub(crate) mod transfers;
mod tty;

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::Instant;

use engine::{Built, Event, StepId, StepInfo};

use super::{BOLD, DIM, units};
use crate::args;
use crate::config;

pub(crate) use lines::Lines;
use plain::Plain;
use rawjson::RawJson;
use tty::Tty;

/// A renderer for the events of one build; any thread may tell it.
#[derive(Debug)]
pub(crate) struct Progress {
    begun: Instant,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    steps: Steps,
    renderer: Renderer,
}

#[derive(Debug)]
enum Renderer {
    Tty(Tty),
    Plain(Plain),
    RawJson(RawJson),
    Quiet,
}

/// The steps by their ids.
#[derive(Debug, Default)]
struct Steps {
    known: BTreeMap<StepId, StepInfo>,
}

impl Steps {
    fn number(&self, id: StepId) -> usize {
        self.known.get(&id).map_or(0, |info| info.number)
    }

    /// `[build 2/4] RUN make`
    fn title(&self, id: StepId) -> String {
        let Some(info) = self.known.get(&id) else { return String::new() };
        let (place, count) = info.position;
        super::foreign::line(&format!("[{} {place}/{count}] {}", info.stage, info.text))
    }
}

impl Progress {
    /// Chooses by the flag, else the environment, else the terminal.
    ///
    /// # Errors
    /// The sentence to show when the environment names no mode.
    pub(crate) fn new(mode: args::Progress) -> Progress {
        let renderer = match mode {
            args::Progress::Auto if std::io::stderr().is_terminal() && !config::plain_output() => {
                Renderer::Tty(Tty::new())
            }
            args::Progress::Auto | args::Progress::Plain => Renderer::Plain(Plain::new(config::build_service())),
            args::Progress::Tty => Renderer::Tty(Tty::new()),
            args::Progress::Rawjson => Renderer::RawJson(RawJson::default()),
            args::Progress::Quiet => Renderer::Quiet,
        };
        Progress { begun: Instant::now(), inner: Mutex::new(Inner { steps: Steps::default(), renderer }) }
    }

    /// Tells what happened.
    pub(crate) fn event(&self, event: &Event) {
        let mut inner = self.lock();
        let Inner { steps, renderer } = &mut *inner;
        if let Event::Planned(planned) = event {
            steps.known = planned.iter().map(|info| (info.id, info.clone())).collect();
        }
        match renderer {
            Renderer::Tty(tty) => tty.event(steps, event),
            Renderer::Plain(plain) => plain.event(steps, event),
            Renderer::RawJson(raw) => raw.event(steps, event),
            Renderer::Quiet => {}
        }
    }

    /// Ends the drawing and, after a success, says what came of it.
    pub(crate) fn finish(&self, built: Result<&Built, &engine::Error>) {
        let mut inner = self.lock();
        let took = self.begun.elapsed();
        match (&mut inner.renderer, built) {
            (Renderer::Quiet, _) => {}
            (Renderer::RawJson(raw), built) => raw.finish(built, took),
            (Renderer::Plain(_), Ok(built)) => summary(built, took),
            (Renderer::Plain(_), Err(_)) => {}
            (Renderer::Tty(tty), built) => {
                tty.clear();
                if let Ok(built) = built {
                    summary(built, took);
                }
            }
        }
    }

    /// Takes what is redrawn off the screen: something else is shown there now.
    pub(crate) fn clear(&self) {
        if let Renderer::Tty(tty) = &mut self.lock().renderer {
            tty.clear();
        }
    }

    /// True where the renderer itself has told the error.
    pub(crate) fn tells_errors(&self) -> bool {
        matches!(self.lock().renderer, Renderer::RawJson(_))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn summary(built: &Built, took: std::time::Duration) {
    let total = built.hits + built.performed;
    let time = units::duration(took);
    super::say(&format!("{BOLD}{} of {total} steps cached{BOLD:#} · ran {} · {time}", built.hits, built.performed));
    let names = if built.names.is_empty() { String::new() } else { format!(" · {}", built.names.join(", ")) };
    super::say(&format!("{DIM}image{DIM:#} {} · {}{names}", built.id, units::bytes(built.size)));
}
