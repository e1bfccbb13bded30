//! The trace event format, which Perfetto and `chrome://tracing` read.

use std::collections::BTreeMap;

use engine::{BuildRecord, StepStatus};
use serde_json::{Value, json};

use super::{time, word};
use crate::ui::foreign;

/// One complete event for each step that had a turn, on the thread of its worker.
pub(crate) fn trace(build: &BuildRecord) -> String {
    let mut events: Vec<Value> = vec![json!({
        "name": "process_name", "ph": "M", "pid": 1, "args": {"name": format!("dunnage build {}", build.id)},
    })];
    let mut workers: BTreeMap<usize, Value> = BTreeMap::new();
    for step in build.steps.iter().filter(|step| step.status != StepStatus::Waiting) {
        let worker = step.worker;
        workers.entry(worker).or_insert_with(|| {
            json!({"name": "thread_name", "ph": "M", "pid": 1, "tid": worker, "args": {"name": format!("worker {}", worker + 1)}})
        });
        let (place, count) = step.position;
        events.push(json!({
            "name": foreign::line(&step.text),
            "cat": word(step),
            "ph": "X",
            "ts": step.began_ms * 1000,
            "dur": time(step) * 1000,
            "pid": 1,
            "tid": worker,
            "args": {
                "step": step.number,
                "stage": format!("{} {place}/{count}", step.stage),
                "line": step.line,
                "bytes": step.bytes,
                "reason": step.reason.as_ref().map(|reason| foreign::line(&reason.to_string())),
            },
        }));
    }
    events.extend(workers.into_values());
    foreign::json(&json!({"displayTimeUnit": "ms", "traceEvents": events}))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn each_step_is_a_complete_event_on_its_worker() {
        let value: Value = serde_json::from_str(&trace(&super::super::tests::build())).unwrap();
        let events = value["traceEvents"].as_array().unwrap();
        let complete: Vec<&Value> = events.iter().filter(|event| event["ph"] == "X").collect();
        assert_eq!(complete.len(), 4);
        assert_eq!(
            (&complete[1]["ts"], &complete[1]["dur"], &complete[1]["tid"]),
            (&json!(4000), &json!(2_996_000), &json!(0))
        );
        assert_eq!(events.iter().filter(|event| event["name"] == "thread_name").count(), 2);
    }
}
