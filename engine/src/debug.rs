//! `dunnage debug`: a process in the sandbox of a step, before or after it; and the shell of `dunnage build --debug`.

use builder::{Cancel, Event, FailedRun, Plan, Remotes, Shell, Side, Solver};

use crate::build::{BuildRequest, default_jobs};
use crate::error::Result;
use crate::sources::Fetcher;
use crate::{Engine, Error};

/// Which sandbox, and what runs in it.
#[derive(Debug, Clone)]
pub struct DebugRequest {
    /// The number of the step.
    pub step: usize,
    /// Its stage and instruction, as they were: the file may have changed.
    pub text: (String, String),
    /// Before or after it.
    pub side: Side,
    /// Program and arguments; a shell when there are none.
    pub command: Vec<String>,
    /// It has the caller's terminal.
    pub terminal: bool,
}

impl Engine {
    /// Runs a process in the state before or after a step of a build. What that stands on is looked up, or performed where it
    /// is not in the cache; `ready` is told when the process is about to begin. Gives the exit code.
    ///
    /// # Errors
    /// As of a build, and when the Dockerfile has no such step any more.
    pub fn debug(
        &self,
        request: &BuildRequest,
        debug: &DebugRequest,
        events: &(dyn Fn(Event) + Sync),
        cancel: &Cancel,
        ready: &dyn Fn(),
    ) -> Result<i32> {
        request.one_platform()?;
        let lease = self.store.lease()?;
        let fetcher = Fetcher::new(&request.fetch, &request.credentials);
        let prepared = self.prepare(request, &fetcher, &lease, cancel, None)?;
        let (stage, text) = &debug.text;
        let same = |info: &builder::StepInfo| info.number == debug.step && info.stage == *stage && info.text == *text;
        if !prepared.plan.infos().any(|info| same(&info)) {
            return Err(Error::Usage(format!(
                "the Dockerfile has changed: step {} is no longer `{text}`; build it again",
                debug.step
            )));
        }
        let store = self.working_store()?;
        let remotes = Remotes::default();
        let solver = Solver {
            store: &store,
            lease: &lease,
            context: &prepared.context,
            contexts: &prepared.contexts,
            sources: &fetcher,
            memory: &self.memory(request, prepared.plan.source.name()),
            events,
            cancel,
            remotes: &remotes,
            credentials: &request.credentials,
            failed: None,
            no_cache: false,
            jobs: request.jobs.unwrap_or_else(default_jobs),
        };
        let mut shell = solver.sandbox_at(&prepared.plan, debug.step, debug.side)?;
        shell.command(&debug.command, debug.terminal.then(runtime::terminal_size));
        ready();
        run(shell, debug.terminal)
    }
}

/// The shell of a step that just failed, on the caller's terminal, until it ends.
pub(crate) fn failed_shell(solver: &Solver<'_>, plan: &Plan, failed: FailedRun) -> Result<()> {
    // The build itself was stopped; its shell was not.
    let cancel = Cancel::default();
    let solver = Solver { cancel: &cancel, failed: None, ..*solver };
    run(solver.shell(plan, failed, runtime::terminal_size())?, true).map(drop)
}

fn run(shell: Shell, interactive: bool) -> Result<i32> {
    let Shell { sandbox, held } = shell;
    let signals = runtime::ForwardedSignals::catch()?;
    let mut container = sandbox.start()?;
    let exit = runtime::attach(&mut container, signals, runtime::AttachOptions { interactive })?;
    drop(container);
    drop(held);
    Ok(exit.status_code())
}
