//! Lines that stay: for logs of build services. The words are those of BuildKit, which people grep for.

use std::collections::BTreeMap;
use std::time::Instant;

use engine::{Event, StepId};

use super::lines::Lines;
use super::{Steps, units};
use crate::ui::{self, DIM, GREEN, RED};

/// What is known of the steps that run.
#[derive(Debug, Default)]
pub(super) struct Plain {
    running: BTreeMap<StepId, (Instant, Lines)>,
}

impl Plain {
    pub(super) fn event(&mut self, steps: &Steps, event: &Event) {
        match event {
            Event::Planned(_) | Event::ContextRead { .. } => {}
            Event::Hit(id) => {
                self.title(steps, *id);
                ui::say(&format!("#{} {GREEN}CACHED{GREEN:#}", steps.number(*id)));
            }
            Event::Started(id, _) => {
                self.running.insert(*id, (Instant::now(), Lines::default()));
                self.title(steps, *id);
            }
            Event::Output(id, stream, bytes) => {
                if let Some((begun, lines)) = self.running.get_mut(id) {
                    show(steps.number(*id), *begun, &lines.push(*stream, bytes));
                }
            }
            Event::Finished { id, duration, same_tree } => {
                self.end(steps, *id);
                let same = if *same_tree { ", same result as before" } else { "" };
                ui::say(&format!("#{} {GREEN}DONE{GREEN:#} {}{same}", steps.number(*id), units::duration(*duration)));
            }
            Event::Note(_, sentence) => ui::note(sentence),
            Event::Failed(id) => {
                self.end(steps, *id);
                ui::say(&format!("#{} {RED}ERROR{RED:#}", steps.number(*id)));
            }
            Event::Cancelled(id) => {
                self.end(steps, *id);
                ui::say(&format!("#{} CANCELED", steps.number(*id)));
            }
        }
    }

    fn title(&self, steps: &Steps, id: StepId) {
        ui::say(&format!("#{} {}", steps.number(id), steps.title(id)));
    }

    fn end(&mut self, steps: &Steps, id: StepId) {
        if let Some((begun, mut lines)) = self.running.remove(&id) {
            show(steps.number(id), begun, &lines.rest());
        }
    }
}

fn show(number: usize, begun: Instant, lines: &[String]) {
    let time = begun.elapsed().as_secs_f64();
    for line in lines {
        ui::say(&format!("#{number} {DIM}{time:.3}{DIM:#} {line}"));
    }
}
