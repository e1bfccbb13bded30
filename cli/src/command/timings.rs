//! `--timings`: a page of where the time of a build went, and a trace of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use engine::{BuildRecord, Engine, Stream};

use super::Failure;
use crate::ui;
use crate::ui::progress::Lines;
use crate::ui::timings::{Excerpt, page, trace};

/// Lines of each step's log that the page has.
const LINES: usize = 40;

/// Writes both files.
///
/// # Errors
/// When one cannot be written.
pub(super) fn write(engine: &Engine, build: &BuildRecord, path: &Path) -> Result<(), Failure> {
    let traced = trace_path(path);
    let page = page(build, &excerpts(engine, build)?);
    for (path, text) in [(path, page), (traced.as_path(), trace(build))] {
        std::fs::write(path, text)
            .map_err(|error| Failure::usage(format!("cannot write {}: {error}", path.display())))?;
    }
    let name = |path: &Path| PathBuf::from(path).display().to_string();
    ui::say(&format!("timings: {} · {} for ui.perfetto.dev or chrome://tracing", name(path), name(&traced)));
    Ok(())
}

/// Where the trace beside a page is.
pub(super) fn trace_path(page: &Path) -> PathBuf {
    page.with_extension("trace.json")
}

/// The last lines that each step wrote.
fn excerpts(engine: &Engine, build: &BuildRecord) -> Result<BTreeMap<usize, Excerpt>, Failure> {
    let (log, _) = engine.build_log(&build.id)?;
    let mut lines: BTreeMap<usize, (Lines, Excerpt)> = BTreeMap::new();
    for (origin, bytes) in log.pieces().filter(|(origin, _)| origin.step > 0) {
        let stream = if origin.stream == 2 { Stream::Stderr } else { Stream::Stdout };
        let (begun, excerpt) = lines.entry(usize::from(origin.step)).or_default();
        let ended = begun.push(stream, bytes);
        excerpt.add(ended, LINES);
    }
    let finished = lines.into_iter().map(|(step, (mut begun, mut excerpt))| {
        excerpt.add(begun.rest(), LINES);
        (step, excerpt)
    });
    Ok(finished.collect())
}
