//! Where the time of a build went: one page that needs nothing else, and a trace for Chrome or Perfetto.

mod page;
mod trace;

use std::collections::VecDeque;
use std::time::Duration;

use engine::{BuildRecord, StepRecord, StepStatus};

use super::graph::{Graph, Node, Tone};

pub(crate) use page::page;
pub(crate) use trace::trace;

/// The last lines of a step's log, and how many there were before them.
#[derive(Debug, Default)]
pub(crate) struct Excerpt {
    lines: VecDeque<String>,
    before: usize,
}

impl Excerpt {
    /// Takes lines, and keeps the last `limit`.
    pub(crate) fn add(&mut self, lines: Vec<String>, limit: usize) {
        for line in lines {
            if self.lines.len() == limit {
                self.lines.pop_front();
                self.before += 1;
            }
            self.lines.push_back(line);
        }
    }
}

fn tone(step: &StepRecord) -> Tone {
    match step.status {
        StepStatus::Cached => Tone::Cached,
        StepStatus::Ran if step.same_tree => Tone::Same,
        StepStatus::Ran | StepStatus::Running => Tone::Runs,
        StepStatus::Waiting => Tone::Open,
        StepStatus::Failed | StepStatus::Cancelled => Tone::Failed,
    }
}

/// The word for what became of a step.
fn word(step: &StepRecord) -> &'static str {
    match step.status {
        StepStatus::Waiting => "not reached",
        StepStatus::Running => "running",
        StepStatus::Cached => "cached",
        StepStatus::Ran if step.same_tree => "known files",
        StepStatus::Ran => "ran",
        StepStatus::Failed => "failed",
        StepStatus::Cancelled => "stopped",
    }
}

fn time(step: &StepRecord) -> u64 {
    step.ended_ms.saturating_sub(step.began_ms)
}

fn shown(millis: u64) -> String {
    super::units::duration(Duration::from_millis(millis))
}

/// The steps that had a turn, each with the first lane that was free when it began: workers are as good as each other, and
/// as few lanes as there were steps at once are easiest to read.
fn lanes(build: &BuildRecord) -> Vec<(usize, &StepRecord)> {
    let mut steps: Vec<&StepRecord> = build.steps.iter().filter(|step| step.status != StepStatus::Waiting).collect();
    steps.sort_by_key(|step| (step.began_ms, step.number));
    let mut free_at: Vec<u64> = Vec::new();
    let mut placed = Vec::new();
    for step in steps {
        let lane = free_at.iter().position(|at| *at <= step.began_ms).unwrap_or(free_at.len());
        match free_at.get_mut(lane) {
            Some(at) => *at = step.ended_ms,
            None => free_at.push(step.ended_ms),
        }
        placed.push((lane, step));
    }
    placed
}

fn graph(build: &BuildRecord, critical: &[usize]) -> Graph {
    let nodes = build.steps.iter().map(|step| Node {
        number: step.number,
        stage: step.stage.clone(),
        bases: step.bases.clone(),
        text: step.text.clone(),
        note: if step.status == StepStatus::Waiting {
            word(step).to_owned()
        } else {
            format!("{} · {}", word(step), shown(time(step)))
        },
        inputs: step.inputs.clone(),
        tone: tone(step),
        strong: critical.contains(&step.number),
    });
    Graph { title: format!("build {}", build.id), nodes: nodes.collect() }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use engine::{BuildStatus, RECORD_VERSION};

    pub(super) fn build() -> BuildRecord {
        let step = |number: usize, stage: &str, text: &str, inputs: &[usize], status, began_ms, ended_ms| StepRecord {
            number,
            stage: stage.to_owned(),
            position: (1, 2),
            text: text.to_owned(),
            line: number,
            inputs: inputs.to_vec(),
            bases: if inputs.is_empty() { vec!["base".to_owned()] } else { Vec::new() },
            status,
            reason: None,
            hit: None,
            worker: number % 2,
            began_ms,
            ended_ms,
            layer: None,
            tree: None,
            same_tree: false,
            bytes: 1000,
            context: None,
        };
        BuildRecord {
            version: RECORD_VERSION,
            id: "0123456789".to_owned(),
            status: BuildStatus::Ok,
            started_ms: 1_764_000_000_000,
            took_ms: 3200,
            context: "/src/</script>".to_owned(),
            dockerfile: "Dockerfile".to_owned(),
            target: None,
            platform: "linux/amd64".to_owned(),
            names: vec!["app:latest".to_owned()],
            args: std::collections::BTreeMap::new(),
            no_cache: false,
            image: Some("sha256:abc".to_owned()),
            bytes: 2000,
            exit_code: Some(0),
            error: None,
            log_bytes: 0,
            log_cut: false,
            asked: None,
            steps: vec![
                step(1, "a", "RUN echo '</script><img src=x onerror=alert(1)>'", &[], StepStatus::Cached, 0, 4),
                step(2, "a", "RUN make \"x\"", &[1], StepStatus::Ran, 4, 3000),
                step(3, "b", "RUN other", &[], StepStatus::Ran, 2, 900),
                step(4, "b", "COPY --from=a /x /", &[3, 2], StepStatus::Ran, 3000, 3190),
            ],
        }
    }

    #[test]
    fn the_critical_path_goes_back_over_what_ended_last() {
        assert_eq!(build().critical_path(), [1, 2, 4]);
    }

    #[test]
    fn steps_share_as_few_lanes_as_there_were_at_once() {
        let build = build();
        let placed: Vec<(usize, usize)> = lanes(&build).iter().map(|(lane, step)| (*lane, step.number)).collect();
        assert_eq!(placed, [(0, 1), (1, 3), (0, 2), (0, 4)]);
    }

    #[test]
    fn an_excerpt_keeps_the_last_lines() {
        let mut excerpt = Excerpt::default();
        excerpt.add((0..10).map(|n| n.to_string()).collect(), 3);
        assert_eq!((excerpt.lines.len(), excerpt.before, excerpt.lines.back().map(String::as_str)), (3, 7, Some("9")));
    }
}
