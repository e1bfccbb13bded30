//! Lines that stay: for logs of build services. The words are those of BuildKit, which people grep for.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use engine::{Event, MissReason, StepId, TransferState};

use super::groups::Groups;
use super::lines::Lines;
use super::{Steps, units};
use crate::config::BuildService;
use crate::ui::{self, DIM, GREEN, RED, YELLOW, foreign};

/// Changes that the line of a reason names.
const CHANGES: usize = 3;

/// What is known of the steps that run.
#[derive(Debug, Default)]
pub(super) struct Plain {
    running: BTreeMap<StepId, (Instant, Lines)>,
    groups: Option<Groups>,
    /// Blobs on their way, and since when.
    transfers: BTreeMap<String, Instant>,
    /// What every line begins with.
    target: Option<String>,
}

impl Plain {
    pub(super) fn new(service: Option<BuildService>, target: Option<String>) -> Plain {
        Plain { groups: service.map(Groups::new), target, ..Plain::default() }
    }

    pub(super) fn event(&mut self, steps: &Steps, event: &Event) {
        match event {
            Event::Planned(_) | Event::ContextRead { .. } | Event::Recorded(_) => {}
            Event::Hit { id, .. } => {
                let number = steps.number(*id);
                self.say(None, format!("#{number} {}", steps.title(*id)));
                self.say(None, format!("#{number} {GREEN}CACHED{GREEN:#}"));
            }
            Event::Started { id, reason, .. } => self.start(steps, *id, reason),
            Event::Output(id, stream, bytes) => {
                if let Some((begun, lines)) = self.running.get_mut(id) {
                    let (begun, ended) = (*begun, lines.push(*stream, bytes));
                    self.show(steps, *id, begun, &ended);
                }
            }
            Event::Finished { id, duration, same_tree, .. } => {
                let same = if *same_tree { ", same result as before" } else { "" };
                self.end(steps, *id, &format!("{GREEN}DONE{GREEN:#} {}{same}", units::duration(*duration)));
            }
            Event::Transfer { blob, state } => self.transfer(blob, *state),
            Event::Note(id, sentence) => {
                let sentence = foreign::line(sentence);
                self.say(*id, format!("{YELLOW}note{YELLOW:#}: {sentence}"));
            }
            Event::Failed(id) => self.end(steps, *id, &format!("{RED}ERROR{RED:#}")),
            Event::Cancelled(id) => self.end(steps, *id, "CANCELED"),
        }
    }

    /// One line for each, when it is here.
    fn transfer(&mut self, blob: &str, state: TransferState) {
        match state {
            TransferState::Begun(_) => drop(self.transfers.insert(blob.to_owned(), Instant::now())),
            TransferState::Moved(_) => {}
            TransferState::Stopped => drop(self.transfers.remove(blob)),
            TransferState::Ended(size) => {
                let took = self.transfers.remove(blob).map_or(Duration::ZERO, |begun| begun.elapsed());
                let how = units::bytes_in(size, took);
                self.say(None, format!("{}: {GREEN}{how}{GREEN:#}", foreign::line(blob)));
            }
        }
    }

    fn start(&mut self, steps: &Steps, id: StepId, reason: &MissReason) {
        self.running.insert(id, (Instant::now(), Lines::default()));
        let title = format!("#{} {}", steps.number(id), steps.title(id));
        match &mut self.groups {
            Some(groups) => groups.open(id, title),
            None => self.say(None, title),
        }
        if let MissReason::Changed { changes } = reason {
            let mut parts: Vec<String> = changes.iter().take(CHANGES).map(ToString::to_string).collect();
            if changes.len() > CHANGES {
                parts.push(format!("and {} more", changes.len() - CHANGES));
            }
            let why = foreign::line(&parts.join("; "));
            self.say(Some(id), format!("#{} {DIM}why: {why}{DIM:#}", steps.number(id)));
        }
    }

    fn end(&mut self, steps: &Steps, id: StepId, how: &str) {
        if let Some((begun, mut lines)) = self.running.remove(&id) {
            self.show(steps, id, begun, &lines.rest());
        }
        self.say(Some(id), format!("#{} {how}", steps.number(id)));
        if let Some(groups) = &mut self.groups {
            groups.close(id);
        }
    }

    fn show(&mut self, steps: &Steps, id: StepId, begun: Instant, lines: &[String]) {
        let time = begun.elapsed().as_secs_f64();
        for line in lines {
            self.say(Some(id), format!("#{} {DIM}{time:.3}{DIM:#} {line}", steps.number(id)));
        }
    }

    fn say(&mut self, id: Option<StepId>, line: String) {
        match &mut self.groups {
            Some(groups) => groups.line(id, line),
            None => match &self.target {
                Some(target) => ui::say(&format!("{target} {line}")),
                None => ui::say(&line),
            },
        }
    }
}
