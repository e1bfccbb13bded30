//! `dunnage why`: from what a build recorded, why a step ran, back to what began it.

use builder::{Change, MissReason};

use crate::error::{Error, Result};
use crate::record::{BuildRecord, StepRecord, StepStatus};

/// The reason of one step, and of the steps below that are behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explained<'a> {
    /// The step that was asked about.
    pub step: &'a StepRecord,
    /// Steps whose other files are why it ran, nearest first; each one's own reason follows from its record.
    pub behind: Vec<&'a StepRecord>,
}

impl BuildRecord {
    /// Explains a step of this build.
    pub fn explain<'a>(&'a self, step: &'a StepRecord) -> Explained<'a> {
        let mut behind: Vec<&StepRecord> = Vec::new();
        let mut open = causes(step);
        while let Some(number) = open.pop() {
            let Some(cause) = self.step(number) else { continue };
            // Inputs come before: a record that says otherwise is not followed in a circle.
            if cause.number < step.number && !behind.iter().any(|known| known.number == number) {
                behind.push(cause);
                open.extend(causes(cause));
            }
        }
        behind.sort_by_key(|cause| std::cmp::Reverse(cause.number));
        Explained { step, behind }
    }

    /// The steps that were performed, or begun.
    pub fn that_ran(&self) -> impl Iterator<Item = &StepRecord> {
        self.steps.iter().filter(|step| {
            matches!(step.status, StepStatus::Ran | StepStatus::Running | StepStatus::Failed | StepStatus::Cancelled)
                && step.reason.is_some()
        })
    }

    /// The step that `text` names: its number (with or without `#`), `STAGE/PLACE`, or the beginning of its instruction.
    ///
    /// # Errors
    /// When it names none, or several.
    pub fn find_step(&self, text: &str) -> Result<&StepRecord> {
        let plain = text.strip_prefix('#').unwrap_or(text);
        if let Ok(number) = plain.parse::<usize>() {
            return self.step(number).ok_or_else(|| {
                Error::Usage(format!("build {} has no step {number}: it has {}", self.id, self.steps.len()))
            });
        }
        if let Some((stage, place)) = text.rsplit_once('/')
            && let Ok(place) = place.parse::<usize>()
            && let Some(step) =
                self.steps.iter().find(|step| step.stage.eq_ignore_ascii_case(stage) && step.position.0 == place)
        {
            return Ok(step);
        }
        let lower = text.to_lowercase();
        let mut found = self.steps.iter().filter(|step| step.text.to_lowercase().starts_with(&lower));
        match (found.next(), found.next()) {
            (Some(step), None) => Ok(step),
            (Some(one), Some(other)) => Err(Error::Usage(format!(
                "`{text}` is the beginning of several steps: #{} and #{}; give a number",
                one.number, other.number
            ))),
            (None, _) => Err(Error::Usage(format!(
                "no step of build {} begins with `{text}`: give its number, STAGE/PLACE, or the beginning of its instruction",
                self.id
            ))),
        }
    }
}

fn causes(step: &StepRecord) -> Vec<usize> {
    let Some(MissReason::Changed { changes }) = &step.reason else { return Vec::new() };
    let steps = changes.iter().filter_map(|change| match change {
        Change::Step { step } => Some(*step),
        _ => None,
    });
    steps.collect()
}
