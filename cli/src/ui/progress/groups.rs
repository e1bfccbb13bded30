//! Sections of a build service's log: a step each. One step is followed live; what others write meanwhile is held until
//! its section ends, for sections of such logs cannot overlap.

use std::collections::BTreeMap;
use std::time::SystemTime;

use engine::StepId;

use crate::config::BuildService;
use crate::ui;

/// Lines in sections.
#[derive(Debug)]
pub(super) struct Groups {
    service: BuildService,
    current: Option<StepId>,
    held: BTreeMap<StepId, Held>,
    /// Lines of no step.
    loose: Vec<String>,
}

#[derive(Debug)]
struct Held {
    title: String,
    lines: Vec<String>,
    ended: bool,
}

impl Groups {
    pub(super) fn new(service: BuildService) -> Groups {
        Groups { service, current: None, held: BTreeMap::new(), loose: Vec::new() }
    }

    /// A step begins.
    pub(super) fn open(&mut self, id: StepId, title: String) {
        if self.current.is_some() {
            self.held.insert(id, Held { title, lines: Vec::new(), ended: false });
        } else {
            self.begin(id, &title);
        }
    }

    /// A line of a step that is open, or of none.
    pub(super) fn line(&mut self, id: Option<StepId>, line: String) {
        match id {
            Some(id) if self.current == Some(id) => ui::say(&line),
            Some(id) if self.held.contains_key(&id) => {
                if let Some(held) = self.held.get_mut(&id) {
                    held.lines.push(line);
                }
            }
            _ if self.current.is_none() => ui::say(&line),
            _ => self.loose.push(line),
        }
    }

    /// A step has ended.
    pub(super) fn close(&mut self, id: StepId) {
        if self.current != Some(id) {
            if let Some(held) = self.held.get_mut(&id) {
                held.ended = true;
            }
            return;
        }
        self.end(id);
        self.loose.drain(..).for_each(|line| ui::say(&line));
        let ended: Vec<StepId> = self.held.iter().filter(|(_, held)| held.ended).map(|(id, _)| *id).collect();
        for id in ended {
            self.show_held(id);
            self.end(id);
        }
        if let Some(next) = self.held.keys().next().copied() {
            self.show_held(next);
        }
    }

    fn show_held(&mut self, id: StepId) {
        let Some(held) = self.held.remove(&id) else { return };
        self.begin(id, &held.title);
        held.lines.iter().for_each(|line| ui::say(line));
    }

    fn begin(&mut self, id: StepId, title: &str) {
        self.current = Some(id);
        match self.service {
            BuildService::Github => ui::say(&format!("::group::{title}")),
            BuildService::Gitlab => {
                ui::say_raw(&format!("\x1b[0Ksection_start:{}:step_{}\r\x1b[0K{title}", seconds(), id.0));
            }
        }
    }

    fn end(&mut self, id: StepId) {
        self.current = None;
        match self.service {
            BuildService::Github => ui::say("::endgroup::"),
            BuildService::Gitlab => ui::say_raw(&format!("\x1b[0Ksection_end:{}:step_{}\r\x1b[0K", seconds(), id.0)),
        }
    }
}

fn seconds() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_secs())
}
