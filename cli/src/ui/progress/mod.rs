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

use super::defect::Screen;
use super::{BOLD, DIM, units};
use crate::args;
use crate::config;

/// One of several targets that are built side by side.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// Its name, which all that is told of it begins with.
    pub(crate) name: String,
    /// What all of them are drawn on.
    pub(crate) screen: Screen,
}

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
    target: Option<String>,
}

impl Steps {
    fn number(&self, id: StepId) -> usize {
        self.known.get(&id).map_or(0, |info| info.number)
    }

    /// `[build 2/4] RUN make`
    fn title(&self, id: StepId) -> String {
        let Some(info) = self.known.get(&id) else { return String::new() };
        let (place, count) = info.position;
        let target = self.target.as_ref().map_or_else(String::new, |target| format!("{target} "));
        super::foreign::line(&format!("[{target}{} {place}/{count}] {}", info.stage, info.text))
    }
}

impl Progress {
    /// Chooses by the flag, else the environment, else the terminal.
    ///
    /// # Errors
    /// The sentence to show when the environment names no mode.
    pub(crate) fn new(mode: args::Progress, target: Option<&Target>) -> Progress {
        let tty = || Renderer::Tty(Tty::new(target.map_or_else(Screen::default, |target| target.screen.clone())));
        // Sections of a build service's log cannot overlap, and those of several targets would.
        let service = config::build_service().filter(|_| target.is_none());
        let name = target.map(|target| target.name.clone());
        let renderer = match mode {
            args::Progress::Auto if std::io::stderr().is_terminal() && !config::plain_output() => tty(),
            args::Progress::Auto | args::Progress::Plain => Renderer::Plain(Plain::new(service, name.clone())),
            args::Progress::Tty => tty(),
            args::Progress::Rawjson => Renderer::RawJson(RawJson::new(name.clone())),
            args::Progress::Quiet => Renderer::Quiet,
        };
        Progress {
            begun: Instant::now(),
            inner: Mutex::new(Inner { steps: Steps { known: BTreeMap::new(), target: name }, renderer }),
        }
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
        let inner = &mut *inner;
        let took = self.begun.elapsed();
        match (&mut inner.renderer, built) {
            (Renderer::Quiet, _) => {}
            (Renderer::RawJson(raw), built) => raw.finish(built, took),
            (Renderer::Plain(_), Ok(built)) => summary(inner.steps.target.as_deref(), built, took),
            (Renderer::Plain(_), Err(_)) => {}
            (Renderer::Tty(tty), built) => {
                tty.clear();
                if let Ok(built) = built {
                    let target = inner.steps.target.as_deref();
                    tty.aside(|| summary(target, built, took));
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

    /// Writes something else to the screen, while other targets may be drawn on it.
    pub(crate) fn aside<T>(&self, write: impl FnOnce() -> T) -> T {
        match &self.lock().renderer {
            Renderer::Tty(tty) => tty.aside(write),
            _ => write(),
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

fn summary(target: Option<&str>, built: &Built, took: std::time::Duration) {
    let of = target.map_or_else(String::new, |target| format!("{target}: "));
    let total = built.hits + built.performed;
    let time = units::duration(took);
    super::say(&format!("{of}{BOLD}{} of {total} steps cached{BOLD:#} · ran {} · {time}", built.hits, built.performed));
    let names = if built.names.is_empty() { String::new() } else { format!(" · {}", built.names.join(", ")) };
    super::say(&format!("{of}{DIM}image{DIM:#} {} · {}{names}", built.id, units::bytes(built.size)));
}
