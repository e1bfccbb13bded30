//! `dunnage build --watch`: build, wait for a change of what was read, build again; with `--run` the container starts anew.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use engine::{Built, Cancel, Engine};
use rustix::process::{Pid, Signal, kill_process};

use super::build::Job;
use super::{Failure, Outcome};
use crate::config;
use crate::ui::interrupt::Interrupt;
use crate::ui::{self, BOLD, DIM, foreign};

/// Changed files that are named.
const NAMED: usize = 5;

/// How long a container may end by itself; shorter than the patience of an interrupt.
const GRACE: Duration = Duration::from_millis(1000);

/// The container of the last build.
struct Running {
    child: Child,
}

/// How containers are started.
pub(super) struct Starter {
    /// `--root` and the storage driver, as they were given.
    pub(super) options: Vec<std::ffi::OsString>,
    /// Flags for `dunnage run`.
    pub(super) flags: Vec<String>,
}

/// Builds until it is interrupted.
pub(super) fn watch(engine: &Engine, job: &Job, run: Option<&Starter>, interrupt: &Interrupt) -> Outcome {
    let own = job.files();
    let mut watch = engine.watch(&job.request, &own)?;
    let mut running: Option<Running> = None;
    loop {
        let cancel = Cancel::default();
        interrupt.aim(&cancel);
        let built = job.perform(engine, &cancel, interrupt);
        if let Some(code) = interrupt.code() {
            stop(running.take());
            return Ok(code);
        }
        match built {
            Ok(built) => {
                stop(running.take());
                running = run.map(|run| run.start(&built)).transpose()?;
            }
            // The old container goes on: it is the last one that could be built.
            Err(Failure::Told(_)) => {}
            Err(failure) => {
                failure.tell();
            }
        }
        let count = watch.directories();
        let directories = if count == 1 { "directory" } else { "directories" };
        ui::say(&format!("{DIM}watching {count} {directories} · Ctrl-C ends it{DIM:#}"));
        // A failed build has used its own up.
        let cancel = Cancel::default();
        interrupt.aim(&cancel);
        let changed = watch.wait(&cancel, &mut || Running::tell_end(&mut running));
        let Some(changed) = changed else {
            stop(running.take());
            return Ok(interrupt.code().unwrap_or(130));
        };
        ui::say(&format!("{BOLD}changed:{BOLD:#} {}", named(&changed)));
        watch.renew(engine, &job.request, &own)?;
    }
}

fn named(changed: &[PathBuf]) -> String {
    let names: Vec<String> = changed.iter().take(NAMED).map(|path| foreign::line(&path.to_string_lossy())).collect();
    let more = changed.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", names.join(", "))
}

impl Starter {
    /// A process of its own: the container's end is then not ours.
    fn start(&self, built: &Built) -> Result<Running, Failure> {
        let mut command = Command::new(config::OWN_PROGRAM);
        command.arg0("dunnage");
        command.args(&self.options).args(["run", "--rm"]).args(&self.flags).arg(&built.id).stdin(Stdio::null());
        Ok(Running { child: command.spawn().map_err(Failure::Output)? })
    }
}

impl Running {
    fn tell_end(running: &mut Option<Running>) {
        let ended = running.as_mut().and_then(|running| running.child.try_wait().ok().flatten());
        if let Some(status) = ended {
            *running = None;
            let how = status.code().map_or_else(|| status.to_string(), |code| format!("exit code {code}"));
            ui::note(&format!("the container ended with {how}"));
        }
    }
}

/// Asks a container to end, and then makes it.
fn stop(running: Option<Running>) {
    let Some(Running { mut child }) = running else { return };
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let asked = pid.is_some_and(|pid| kill_process(pid, Signal::TERM).is_ok());
    let begun = Instant::now();
    while asked && begun.elapsed() < GRACE {
        if !matches!(child.try_wait(), Ok(None)) {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let _ = child.kill();
    let _ = child.wait();
}
