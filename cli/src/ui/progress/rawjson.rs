//! One JSON object a line, for programs. `v` is the version of this form: fields are added, never changed.
//! `docs/events.md` describes it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use engine::{Built, Event, MissReason, Stream, TransferState};
use serde_json::{Value, json};

use super::Steps;
use crate::ui::foreign;

/// How often a blob on its way is told of.
const TOLD: Duration = Duration::from_millis(500);

/// The renderer.
#[derive(Debug)]
pub(super) struct RawJson {
    target: Option<String>,
    /// Blobs on their way.
    transfers: BTreeMap<String, Moving>,
}

#[derive(Debug)]
struct Moving {
    size: u64,
    bytes: u64,
    told: Instant,
}

impl RawJson {
    pub(super) fn new(target: Option<String>) -> RawJson {
        RawJson { target, transfers: BTreeMap::new() }
    }

    pub(super) fn event(&mut self, steps: &Steps, event: &Event) {
        let target = self.target.clone();
        let emit = |event: &str, fields: Value| emit(target.as_deref(), event, fields);
        match event {
            Event::Recorded(build) => emit("build", json!({"build": build})),
            Event::Planned(planned) => {
                for step in planned {
                    let (place, count) = step.position;
                    emit(
                        "planned",
                        json!({"step": step.number, "stage": step.stage, "position": place, "of": count, "text": step.text,
                            "line": step.line, "inputs": step.inputs, "bases": step.bases}),
                    );
                }
            }
            Event::ContextRead { id, entries, bytes } => {
                emit("context", json!({"step": steps.number(*id), "entries": entries, "bytes": bytes}));
            }
            Event::Hit { id, took, record, .. } => emit(
                "cached",
                json!({"step": steps.number(*id), "seconds": took.as_secs_f64(), "key": record.key, "created": record.created,
                    "bytes": record.bytes, "tree": record.tree}),
            ),
            Event::Started { id, worker, reason } => emit(
                "started",
                json!({"step": steps.number(*id), "worker": worker, "reason": reason_name(reason), "changes": changes(reason)}),
            ),
            Event::Output(id, stream, bytes) => {
                let stream = if *stream == Stream::Stdout { "stdout" } else { "stderr" };
                let data = String::from_utf8_lossy(bytes);
                emit("output", json!({"step": steps.number(*id), "stream": stream, "data": data}));
            }
            Event::Finished { id, duration, same_tree, layer, tree, bytes } => emit(
                "done",
                json!({"step": steps.number(*id), "seconds": duration.as_secs_f64(), "same_result": same_tree, "layer": layer,
                    "tree": tree, "bytes": bytes}),
            ),
            Event::Transfer { blob, state } => {
                if let Some(fields) = self.transfer(blob, *state) {
                    emit("transfer", fields);
                }
            }
            Event::Note(id, sentence) => {
                emit("note", json!({"step": id.map(|id| steps.number(id)), "message": sentence}));
            }
            Event::Failed(id) => emit("failed", json!({"step": steps.number(*id)})),
            Event::Cancelled(id) => emit("cancelled", json!({"step": steps.number(*id)})),
        }
    }

    /// What is to be told of a blob: its beginning, its end, and now and then how far it is.
    fn transfer(&mut self, blob: &str, state: TransferState) -> Option<Value> {
        let line = |state: &str, bytes: u64, size: u64| {
            Some(json!({"blob": blob, "state": state, "bytes": bytes, "size": size}))
        };
        match state {
            TransferState::Begun(size) => {
                self.transfers.insert(blob.to_owned(), Moving { size, bytes: 0, told: Instant::now() });
                line("begun", 0, size)
            }
            TransferState::Moved(count) => {
                let moving = self.transfers.get_mut(blob)?;
                moving.bytes += count;
                if moving.told.elapsed() < TOLD {
                    return None;
                }
                moving.told = Instant::now();
                line("moving", moving.bytes, moving.size)
            }
            TransferState::Ended(size) => {
                self.transfers.remove(blob);
                line("done", size, size)
            }
            TransferState::Stopped => {
                let moving = self.transfers.remove(blob)?;
                line("stopped", moving.bytes, moving.size)
            }
        }
    }

    pub(super) fn finish(&mut self, built: Result<&Built, &engine::Error>, took: Duration) {
        let emit = |event: &str, fields: Value| emit(self.target.as_deref(), event, fields);
        match built {
            Ok(built) => emit(
                "built",
                json!({"id": built.id, "names": built.names, "cached": built.hits, "ran": built.performed, "bytes": built.size,
                    "seconds": took.as_secs_f64(), "build": built.build}),
            ),
            Err(error) if error.diagnostics().is_empty() => emit("error", json!({"message": error.to_string()})),
            Err(error) => {
                for diagnostic in error.diagnostics() {
                    let (line, column) = diagnostic.source.location(diagnostic.span.start);
                    emit(
                        "error",
                        json!({"message": diagnostic.message, "code": diagnostic.code, "file": diagnostic.source.name(),
                            "line": line, "column": column, "help": diagnostic.help, "notes": diagnostic.notes}),
                    );
                }
            }
        }
    }
}

fn reason_name(reason: &MissReason) -> &'static str {
    match reason {
        MissReason::NotAsked => "no-cache",
        MissReason::New => "new",
        MissReason::Unfinished => "unfinished",
        MissReason::RecordGone => "record-gone",
        MissReason::LayerGone => "layer-gone",
        MissReason::Changed { .. } => "changed",
    }
}

fn changes(reason: &MissReason) -> Value {
    match reason {
        MissReason::Changed { changes } => json!(changes),
        _ => json!([]),
    }
}

fn emit(target: Option<&str>, event: &str, fields: Value) {
    let mut line = json!({"v": 1, "event": event});
    if let (Some(line), Some(target)) = (line.as_object_mut(), target) {
        line.insert("target".to_owned(), target.into());
    }
    if let (Some(line), Value::Object(fields)) = (line.as_object_mut(), fields) {
        line.extend(fields);
    }
    crate::ui::say_raw(&foreign::json(&line));
}
