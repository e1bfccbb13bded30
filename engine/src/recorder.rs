//! Writes the record and the log of a build while it runs. Nothing here can fail a build: what cannot be written is told once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use builder::{Event, StepId, Stream};
use cache::{BuildPlace, LogWriter, Origin, Store};

use crate::build::{BuildRequest, Built};
use crate::error::{Error, Result};
use crate::record::{BuildRecord, BuildStatus, RECORD_VERSION, RecordedError, StepStatus, millis};

/// Writing records may take this part of a build's time: one in so many.
const SHARE: u32 = 100;

/// How long what was told last may wait for that.
const LATE: Duration = Duration::from_millis(100);

/// What stands in the log for what was not kept.
const CUT: &str = "\n[the log passed its limit: the rest of the build's output was not kept]\n";

/// The record of a build that runs.
pub(crate) struct Recorder<'a> {
    events: &'a (dyn Fn(Event) + Sync),
    begun: Instant,
    limit: u64,
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    place: Option<BuildPlace>,
    log: Option<LogWriter>,
    record: BuildRecord,
    numbers: BTreeMap<StepId, usize>,
    /// The record on the disk is not this one.
    changed: bool,
    /// When it was written, and how long that took.
    written: (Instant, Duration),
    /// A thread will look at it once more.
    late: bool,
}

impl<'a> Recorder<'a> {
    /// Makes the place of the record, and makes room for it.
    pub(crate) fn begin(store: &Store, request: &BuildRequest, events: &'a (dyn Fn(Event) + Sync)) -> Recorder<'a> {
        let made = store.create_build().and_then(|place| {
            store.keep_builds(request.keep_builds)?;
            Ok(place)
        });
        let begun = Instant::now();
        let (place, lost) = match made {
            Ok(place) => (Some(place), None),
            Err(error) => (None, Some(error)),
        };
        let record = first(request, place.as_ref().map_or("", BuildPlace::id));
        let written = (begun, Duration::ZERO);
        let inner = Inner { place, log: None, record, numbers: BTreeMap::new(), changed: true, written, late: false };
        let recorder = Recorder { events, begun, limit: request.log_limit, inner: Arc::new(Mutex::new(inner)) };
        match lost {
            Some(error) => recorder.lost(&error),
            None => {
                let id = recorder.lock().record.id.clone();
                recorder.written(Inner::write);
                (recorder.events)(Event::Recorded(id));
            }
        }
        recorder
    }

    /// What is known so far.
    pub(crate) fn record(&self) -> BuildRecord {
        self.lock().record.clone()
    }

    /// What is known now of what is built.
    pub(crate) fn dockerfile(&self, name: &str) {
        name.clone_into(&mut self.lock().record.dockerfile);
    }

    /// Takes an event in, and passes it on.
    pub(crate) fn event(&self, event: Event) {
        let at = millis(self.begun.elapsed());
        let limit = self.limit;
        self.written(|inner| {
            inner.take(&event, at, limit)?;
            if inner.changed && inner.written.0.elapsed() >= inner.written.1 * SHARE {
                return inner.write();
            }
            if inner.changed && !inner.late {
                inner.late = self.write_later();
            }
            Ok(())
        });
        (self.events)(event);
    }

    /// Sees to it that what was told last is written though nothing follows for long. Tells whether that could be done.
    fn write_later(&self) -> bool {
        let shared = Arc::downgrade(&self.inner);
        let thread = std::thread::Builder::new().name("record".to_owned()).stack_size(256 << 10);
        let write = move || {
            std::thread::sleep(LATE);
            let Some(inner) = shared.upgrade() else { return };
            let mut inner = inner.lock().unwrap_or_else(PoisonError::into_inner);
            inner.late = false;
            if inner.changed {
                // What cannot be written is told at the next event.
                let _ = inner.write();
            }
        };
        thread.spawn(write).is_ok()
    }

    /// Writes the end. Gives the build's id.
    pub(crate) fn finish(&self, result: Result<&Built, &Error>) -> String {
        let took = millis(self.begun.elapsed());
        self.written(|inner| {
            let record = &mut inner.record;
            record.took_ms = took;
            match result {
                Ok(built) => {
                    record.status = BuildStatus::Ok;
                    record.image = Some(built.id.clone());
                    record.names.clone_from(&built.names);
                    record.bytes = built.size;
                    record.exit_code = Some(0);
                }
                Err(error) => {
                    let code = error.exit_code();
                    record.status = if code == 130 { BuildStatus::Cancelled } else { BuildStatus::Failed };
                    record.exit_code = Some(code);
                    record.error = Some(described(error));
                }
            }
            inner.write()
        });
        self.lock().record.id.clone()
    }

    fn written(&self, how: impl FnOnce(&mut Inner) -> Result<(), cache::Error>) {
        let result = how(&mut self.lock());
        if let Err(error) = result {
            self.lock().place = None;
            self.lost(&error);
        }
    }

    fn lost(&self, error: &cache::Error) {
        (self.events)(Event::Note(None, format!("this build leaves no whole record: {error}")));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn take(&mut self, event: &Event, at: u64, limit: u64) -> Result<(), cache::Error> {
        if let Event::Planned(planned) = event {
            self.numbers = planned.iter().map(|info| (info.id, info.number)).collect();
        }
        if let Event::Output(id, stream, bytes) = event {
            return self.output(*id, *stream, bytes, at, limit);
        }
        self.record.event(event, at, &self.numbers);
        self.changed = true;
        Ok(())
    }

    fn output(&mut self, id: StepId, stream: Stream, bytes: &[u8], at: u64, limit: u64) -> Result<(), cache::Error> {
        let Some(place) = &self.place else { return Ok(()) };
        let log = match &mut self.log {
            Some(log) => log,
            none => none.insert(place.log()?),
        };
        let step = self.numbers.get(&id).and_then(|number| u16::try_from(*number).ok()).unwrap_or(u16::MAX);
        let stream = if stream == Stream::Stdout { 1 } else { 2 };
        let origin = Origin { step, stream, millis: u32::try_from(at).unwrap_or(u32::MAX) };
        let room = usize::try_from(limit.saturating_sub(self.record.log_bytes)).unwrap_or(usize::MAX);
        self.record.log_bytes += bytes.len() as u64;
        if self.record.log_cut {
            return Ok(());
        }
        log.append(origin, bytes.get(..room).unwrap_or(bytes))?;
        if bytes.len() > room {
            self.record.log_cut = true;
            self.changed = true;
            log.append(Origin { step: 0, ..origin }, CUT.as_bytes())?;
        }
        Ok(())
    }

    fn write(&mut self) -> Result<(), cache::Error> {
        let Some(place) = &self.place else { return Ok(()) };
        let begun = Instant::now();
        place.write_record(&serde_json::to_vec(&self.record).unwrap_or_default())?;
        self.changed = false;
        self.written = (Instant::now(), begun.elapsed());
        Ok(())
    }
}

/// What is known before anything was read.
fn first(request: &BuildRequest, id: &str) -> BuildRecord {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let hidden = |(name, value): (&String, &String)| {
        let value = if grammar::is_secret(name) { "(not shown)" } else { value };
        (name.clone(), value.to_owned())
    };
    BuildRecord {
        version: RECORD_VERSION,
        id: id.to_owned(),
        status: BuildStatus::Running,
        started_ms: millis(since),
        took_ms: 0,
        context: request.context_label(),
        dockerfile: String::new(),
        target: request.target.clone(),
        platform: request.options().platform.to_string(),
        names: request.names.clone(),
        args: request.build_args.iter().map(hidden).collect(),
        no_cache: request.no_cache,
        image: None,
        bytes: 0,
        exit_code: None,
        error: None,
        log_bytes: 0,
        log_cut: false,
        asked: request.asked.clone(),
        steps: Vec::new(),
    }
}

fn described(error: &Error) -> RecordedError {
    let first = error.diagnostics().first();
    let place = first
        .map(|diagnostic| (diagnostic.source.name().to_owned(), diagnostic.source.location(diagnostic.span.start).0));
    RecordedError { message: error.to_string(), place }
}

/// A record that was read of a build whose process is gone says that it runs: it was killed.
pub(crate) fn as_it_is(mut record: BuildRecord, running: bool) -> BuildRecord {
    if record.status == BuildStatus::Running && !running {
        record.status = BuildStatus::Interrupted;
        let took = record.took_ms;
        for step in record.steps.iter_mut().filter(|step| step.status == StepStatus::Running) {
            step.ended_ms = took.max(step.began_ms);
        }
    }
    record
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_could_not_be_written_later_is_told_at_the_end() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let told = Mutex::new(Vec::new());
        let events = |event: Event| {
            if let Event::Note(None, sentence) = event {
                told.lock().unwrap().push(sentence);
            }
        };
        let recorder = Recorder::begin(&store, &BuildRequest::default(), &events);
        std::fs::remove_dir_all(directory.path().join("builds")).unwrap();
        // The one before took long: this one has to wait.
        recorder.lock().written = (Instant::now(), Duration::from_secs(3600));
        recorder.event(Event::Planned(Vec::new()));
        assert!(recorder.lock().late && told.lock().unwrap().is_empty());
        let begun = Instant::now();
        while recorder.lock().late {
            assert!(begun.elapsed() < Duration::from_secs(60), "nobody wrote it later");
            std::thread::sleep(LATE / 4);
        }
        recorder.finish(Err(&Error::Usage("wrong".to_owned())));
        let told = told.into_inner().unwrap();
        assert!(told.len() == 1 && told[0].contains("leaves no whole record"), "{told:?}");
    }
}
