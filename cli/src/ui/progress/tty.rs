//! Lines that are redrawn: one for each running step with its time, the log's tail of the one that wrote last, a count.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use engine::{Event, StepId, TransferState};
use indicatif::{ProgressBar, ProgressStyle};

use super::lines::Lines;
use super::transfers::MOVING;
use super::{Steps, units};
use crate::ui::defect::Screen;
use crate::ui::{CYAN, DIM, GREEN, RED, YELLOW};

/// Lines of the log that are in view.
const TAIL: usize = 5;

/// How often times and spinners move.
const TICK: Duration = Duration::from_millis(100);

/// The drawing.
#[derive(Debug)]
pub(super) struct Tty {
    /// What is drawn on; several builds may share it.
    screen: Screen,
    count: ProgressBar,
    tail: Vec<ProgressBar>,
    running: BTreeMap<StepId, Running>,
    transfers: BTreeMap<String, ProgressBar>,
    planned: usize,
    ended: usize,
    /// The step whose log is in view.
    shown: Option<StepId>,
}

#[derive(Debug)]
struct Running {
    bar: ProgressBar,
    lines: Lines,
    log: VecDeque<String>,
}

/// Templates are constants: one that does not parse is a defect, and then the default does.
fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}

impl Tty {
    pub(super) fn new(screen: Screen) -> Tty {
        let count = screen.add(ProgressBar::new_spinner().with_style(style("{msg}")));
        Tty {
            screen,
            count,
            tail: Vec::new(),
            running: BTreeMap::new(),
            transfers: BTreeMap::new(),
            planned: 0,
            ended: 0,
            shown: None,
        }
    }

    pub(super) fn event(&mut self, steps: &Steps, event: &Event) {
        match event {
            Event::Planned(planned) => self.planned = planned.len(),
            Event::ContextRead { .. } | Event::Recorded(_) => {}
            Event::Hit { id, .. } => self.end(steps, *id, &format!("{GREEN}✓{GREEN:#}"), "cached"),
            Event::Started { id, .. } => self.start(steps, *id),
            Event::Output(id, stream, bytes) => self.output(*id, *stream, bytes),
            Event::Finished { id, duration, same_tree, .. } => {
                let same = if *same_tree { ", same result as before" } else { "" };
                self.end(steps, *id, &format!("{GREEN}✓{GREEN:#}"), &format!("{}{same}", units::duration(*duration)));
            }
            Event::Transfer { blob, state } => self.transfer(blob, *state),
            Event::Note(_, sentence) => {
                self.print(&format!("{YELLOW}note{YELLOW:#}: {}", crate::ui::foreign::line(sentence)));
            }
            Event::Failed(id) => self.end(steps, *id, &format!("{RED}✗{RED:#}"), "failed"),
            Event::Cancelled(id) => self.end(steps, *id, &format!("{YELLOW}-{YELLOW:#}"), "stopped"),
        }
        let target = steps.target.as_ref().map_or_else(String::new, |target| format!("{target}: "));
        self.count.set_message(format!("{DIM}{target}{} of {} steps{DIM:#}", self.ended, self.planned));
    }

    /// Takes everything that is redrawn off the screen.
    pub(super) fn clear(&mut self) {
        for running in std::mem::take(&mut self.running).into_values() {
            running.bar.finish_and_clear();
        }
        for bar in std::mem::take(&mut self.transfers).into_values() {
            bar.finish_and_clear();
        }
        self.tail.drain(..).for_each(|line| line.finish_and_clear());
        self.count.finish_and_clear();
    }

    /// A bar with its rate for each blob, and a line that stays when it is here.
    fn transfer(&mut self, blob: &str, state: TransferState) {
        match state {
            TransferState::Begun(size) => {
                let bar = ProgressBar::new(size).with_style(style(MOVING));
                let bar = self.screen.insert_before(self.tail.first().unwrap_or(&self.count), bar);
                bar.set_prefix(blob.to_owned());
                bar.enable_steady_tick(TICK);
                if let Some(before) = self.transfers.insert(blob.to_owned(), bar) {
                    before.finish_and_clear();
                }
            }
            TransferState::Moved(count) => {
                if let Some(bar) = self.transfers.get(blob) {
                    bar.inc(count);
                }
            }
            TransferState::Ended(size) => {
                let took = self.transfers.remove(blob).map_or(Duration::ZERO, |bar| {
                    bar.finish_and_clear();
                    bar.elapsed()
                });
                let how = units::bytes_in(size, took);
                self.print(&format!("{GREEN}✓{GREEN:#} {blob} {CYAN}{how}{CYAN:#}"));
            }
            TransferState::Stopped => {
                if let Some(bar) = self.transfers.remove(blob) {
                    bar.finish_and_clear();
                }
            }
        }
    }

    fn start(&mut self, steps: &Steps, id: StepId) {
        let bar = ProgressBar::new_spinner().with_style(style("{spinner:.cyan} {wide_msg} {elapsed:.dim}"));
        let bar = self.screen.insert_before(self.tail.first().unwrap_or(&self.count), bar);
        bar.set_message(steps.title(id));
        bar.enable_steady_tick(TICK);
        self.running.insert(id, Running { bar, lines: Lines::default(), log: VecDeque::new() });
    }

    fn output(&mut self, id: StepId, stream: engine::Stream, bytes: &[u8]) {
        let Some(running) = self.running.get_mut(&id) else { return };
        for line in running.lines.push(stream, bytes) {
            if running.log.len() == TAIL {
                running.log.pop_front();
            }
            running.log.push_back(line);
        }
        self.shown = Some(id);
        self.draw_tail();
    }

    /// As many lines as the log in view has; none when nothing that writes is running.
    fn draw_tail(&mut self) {
        let log = self
            .shown
            .and_then(|id| self.running.get(&id))
            .map(|running| running.log.iter().cloned().collect::<Vec<_>>());
        let log = log.unwrap_or_default();
        while self.tail.len() > log.len() {
            if let Some(line) = self.tail.pop() {
                line.finish_and_clear();
            }
        }
        while self.tail.len() < log.len() {
            let line = ProgressBar::new_spinner().with_style(style("  │ {wide_msg:.dim}"));
            self.tail.push(self.screen.insert_before(&self.count, line));
        }
        for (line, text) in self.tail.iter().zip(log) {
            line.set_message(text);
        }
    }

    fn end(&mut self, steps: &Steps, id: StepId, mark: &str, how: &str) {
        self.ended += 1;
        if let Some(running) = self.running.remove(&id) {
            running.bar.finish_and_clear();
        }
        if self.shown == Some(id) {
            self.shown = self.running.keys().next_back().copied();
            self.draw_tail();
        }
        self.print(&format!("{mark} {} {CYAN}{how}{CYAN:#}", steps.title(id)));
    }

    /// Something else on the same screen.
    pub(super) fn aside<T>(&self, write: impl FnOnce() -> T) -> T {
        self.screen.suspend(write)
    }

    /// A line that stays, above those that are redrawn.
    fn print(&self, line: &str) {
        self.screen.suspend(|| crate::ui::say(line));
    }
}
