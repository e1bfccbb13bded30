//! One JSON object a line, for programs. `v` is the version of this form: fields are added, never changed.

use std::time::Duration;

use engine::{Built, Event, MissReason, Stream};
use serde_json::{Value, json};

use super::Steps;

/// The renderer; it keeps nothing.
#[derive(Debug, Default)]
pub(super) struct RawJson {}

impl RawJson {
    pub(super) fn event(&mut self, steps: &Steps, event: &Event) {
        match event {
            Event::Planned(planned) => {
                for step in planned {
                    let (place, count) = step.position;
                    emit(
                        json!({"v": 1, "event": "planned", "step": steps.number(step.id), "stage": step.stage, "position": place, "of": count, "text": step.text}),
                    );
                }
            }
            Event::ContextRead { entries, bytes } => {
                emit(json!({"v": 1, "event": "context", "entries": entries, "bytes": bytes}))
            }
            Event::Hit(id) => emit(json!({"v": 1, "event": "cached", "step": steps.number(*id)})),
            Event::Started(id, reason) => {
                emit(json!({"v": 1, "event": "started", "step": steps.number(*id), "reason": reason_name(reason)}))
            }
            Event::Output(id, stream, bytes) => {
                let stream = if *stream == Stream::Stdout { "stdout" } else { "stderr" };
                emit(
                    json!({"v": 1, "event": "output", "step": steps.number(*id), "stream": stream, "data": String::from_utf8_lossy(bytes)}),
                );
            }
            Event::Finished { id, duration, same_tree } => {
                emit(
                    json!({"v": 1, "event": "done", "step": steps.number(*id), "seconds": duration.as_secs_f64(), "same_result": same_tree}),
                );
            }
            Event::Note(id, sentence) => {
                emit(json!({"v": 1, "event": "note", "step": id.map(|id| steps.number(id)), "message": sentence}))
            }
            Event::Failed(id) => emit(json!({"v": 1, "event": "failed", "step": steps.number(*id)})),
            Event::Cancelled(id) => emit(json!({"v": 1, "event": "cancelled", "step": steps.number(*id)})),
        }
    }

    pub(super) fn finish(&mut self, built: Result<&Built, &engine::Error>, took: Duration) {
        match built {
            Ok(built) => emit(json!({
                "v": 1, "event": "built", "id": built.id, "names": built.names, "cached": built.hits, "ran": built.performed,
                "bytes": built.size, "seconds": took.as_secs_f64(),
            })),
            Err(error) if error.diagnostics().is_empty() => {
                emit(json!({"v": 1, "event": "error", "message": error.to_string()}))
            }
            Err(error) => {
                for diagnostic in error.diagnostics() {
                    let (line, column) = diagnostic.source.location(diagnostic.span.start);
                    emit(json!({
                        "v": 1, "event": "error", "message": diagnostic.message, "code": diagnostic.code, "file": diagnostic.source.name(),
                        "line": line, "column": column, "help": diagnostic.help, "notes": diagnostic.notes,
                    }));
                }
            }
        }
    }
}

fn reason_name(reason: &MissReason) -> &'static str {
    match reason {
        MissReason::NotAsked => "no-cache",
        MissReason::NoRecord => "no-record",
        MissReason::LayerGone => "layer-gone",
    }
}

fn emit(value: Value) {
    crate::ui::say(&value.to_string());
}
