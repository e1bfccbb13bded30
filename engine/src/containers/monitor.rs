//! The monitor: the one process behind a container that nobody waits for in the foreground. It starts it, owns its
//! terminal or pipes, writes its log, serves clients, checks its health, and starts it again where that is wanted.

mod clients;
mod health;
mod watch;

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cache::{ContainerPlace, Image, Lease};
use runtime::{Extent, Running, Stdio, start_time};

use self::clients::Clients;
use self::watch::Live;
use super::events::Subject;
use super::launch::{Launch, Start};
use super::log::LogWriter;
use super::names::name_of;
use super::network::Network;
use super::spec::{ContainerSpec, RestartPolicy};
use super::state::{ContainerState, Phase, now};
use super::wire::Frame;
use crate::Engine;
use crate::error::{Error, Result};

pub(super) use self::clients::short;
pub(super) use self::health::HealthPlan;

/// The mark of a container that was stopped by hand: no policy starts it again.
pub(super) const STOPPED: &str = "stopped";
const FIRST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_secs(60);
/// A container that ran for so long was well.
const WELL_AFTER: Duration = Duration::from_secs(10);

/// One container and what its monitor holds for it.
pub(super) struct Monitor<'a> {
    engine: &'a Engine,
    place: ContainerPlace,
    spec: ContainerSpec,
    image: Image,
    name: String,
    lease: Lease,
    clients: Clients,
    log: LogWriter,
    state: ContainerState,
}

/// How a container was left.
enum Ended {
    /// With this code.
    With(i32),
    /// It never ran.
    Unstarted(Error),
}

impl Engine {
    /// Runs a container to its end, as its monitor. Standard input leads to the client that made this process.
    ///
    /// # Errors
    /// When the client left before it said what to do.
    pub fn monitor(&self, id: &str) -> Result<()> {
        let failed = |error| Error::Monitor { doing: "taking over the container", source: error };
        let starter = leave_session().map_err(failed)?;
        let lock = super::spawn::receive_lock(&starter).map_err(failed)?;
        let place = self.store.adopt_container(id, lock)?;
        let clients = Clients::open(place.path(), starter).map_err(failed)?;
        Monitor::new(self, place, clients)?.run()
    }
}

/// Leaves the client's terminal and group, so that no key there means this process. Gives the socket to the client.
fn leave_session() -> io::Result<UnixStream> {
    rustix::process::setsid()?;
    let starter = io::stdin().as_fd().try_clone_to_owned()?;
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    Ok(UnixStream::from(starter))
}

impl<'a> Monitor<'a> {
    fn new(engine: &'a Engine, place: ContainerPlace, clients: Clients) -> Result<Monitor<'a>> {
        let record = place.record().clone();
        let spec: ContainerSpec = serde_json::from_value(record.spec).unwrap_or_default();
        let image = engine.find_image(&record.image.to_string())?;
        if spec.remove {
            place.remove_at_end()?;
        }
        let state = engine.store.container_state(&record.id).unwrap_or_default();
        let name = record.name.unwrap_or_else(|| name_of(&record.id));
        let attributes = spec.log.attributes.of(&record.id, &name, &spec, &image);
        let log = LogWriter::open(place.path(), &spec.log, attributes)
            .map_err(|error| Error::file("write", place.path(), error))?;
        Ok(Monitor { engine, lease: place.lease(&engine.store)?, place, spec, image, name, clients, log, state })
    }

    fn run(mut self) -> Result<()> {
        let mut delay = FIRST_DELAY;
        self.state.restarts = 0;
        let code = loop {
            let began = Instant::now();
            let code = match self.run_once() {
                Ended::With(code) => code,
                Ended::Unstarted(error) if self.state.restarts == 0 => return self.give_up(&error),
                Ended::Unstarted(error) => {
                    self.state.error = error.to_string();
                    error.run_exit_code()
                }
            };
            delay = if began.elapsed() >= WELL_AFTER { FIRST_DELAY } else { delay };
            self.look_again();
            let again = self.wants_restart(code);
            self.ended(code, again)?;
            if !again {
                break code;
            }
            self.clients.exited(code);
            if !self.wait_to_restart(delay)? {
                break code;
            }
            delay = (delay * 2).min(LONGEST_DELAY);
            self.state.restarts += 1;
        };
        self.leave(code)
    }

    /// Starts it and watches it until it ends.
    fn run_once(&mut self) -> Ended {
        let live = match self.start() {
            Ok(live) => live,
            Err(error) => return Ended::Unstarted(error),
        };
        let code = live.watch(self);
        Ended::With(code)
    }

    fn start(&mut self) -> Result<Live> {
        // Before all else: it takes longest.
        let begun = Network::begin(&self.spec);
        let snapshot = self.engine.container_snapshot(&self.lease, &self.image, &self.place)?;
        let stdio = match (self.spec.tty, self.spec.interactive) {
            (true, _) => Stdio::Terminal(self.clients.window().unwrap_or_default()),
            (false, true) => Stdio::AllPipes,
            (false, false) => Stdio::Pipes,
        };
        let start = Start { stdio, extent: Extent::Whole, begun };
        let names = (self.place.id(), self.name.as_str());
        let started = Launch::new(self.engine, &self.spec, &self.image, names, &snapshot, start).and_then(|launch| {
            Ok((launch.sandbox.start()?, (launch.group, launch.network, launch.users), launch.turns))
        });
        snapshot.keep();
        let (mut container, held, turns) = started?;
        let pid = container.pid();
        self.state = ContainerState {
            phase: Phase::Running,
            pid,
            ticks: start_time(pid).unwrap_or(0),
            started: now(),
            monitor: std::process::id(),
            cgroup: held.0.delegated_path(),
            restarts: self.state.restarts,
            health: health::begin(&self.spec, &self.image),
            ..ContainerState::default()
        };
        let notes = [held.1.notes(), container.notes()].concat();
        let running = Running::find(pid, self.state.ticks)?.map(Arc::new);
        let health = running.and_then(|running| health::Checks::new(self, running));
        let live = Live::new(&mut container, held, health);
        self.place.write_state(&self.state)?;
        drop(turns);
        self.note("start", &[]);
        self.clients.started(&notes);
        runtime::give_back_memory();
        Ok(live.with(container))
    }

    /// Notes the end, and with it what comes next: nobody sees one without the other.
    fn ended(&mut self, code: i32, again: bool) -> Result<()> {
        self.state.phase = if again { Phase::Restarting } else { Phase::Exited };
        self.state.exit_code = code;
        self.state.finished = now();
        self.state.pid = 0;
        // One of --rm runs until it is gone.
        if !self.spec.remove {
            self.place.write_state(&self.state)?;
        }
        self.note("die", &[("exitCode", code.to_string())]);
        Ok(())
    }

    /// What is asked of it may have changed while it ran: `update` and `network connect` write that down.
    fn look_again(&mut self) {
        if let Ok(Some((record, _))) = self.engine.store.container(self.place.id()) {
            self.name = record.name.unwrap_or_else(|| name_of(&record.id));
            self.spec = serde_json::from_value(record.spec).unwrap_or_else(|_| self.spec.clone());
        }
    }

    fn wants_restart(&self, code: i32) -> bool {
        if self.was_stopped() {
            return false;
        }
        match self.spec.restart {
            RestartPolicy::No => false,
            RestartPolicy::OnFailure(most) => code != 0 && (most == 0 || self.state.restarts < most),
            RestartPolicy::Always | RestartPolicy::UnlessStopped => true,
        }
    }

    fn was_stopped(&self) -> bool {
        self.place.path().join(STOPPED).exists()
    }

    /// False when it was stopped meanwhile.
    fn wait_to_restart(&mut self, delay: Duration) -> Result<bool> {
        let end = Instant::now() + delay;
        loop {
            if self.was_stopped() {
                self.state.phase = Phase::Exited;
                self.place.write_state(&self.state)?;
                return Ok(false);
            }
            match end.checked_duration_since(Instant::now()) {
                Some(left) => self.clients.serve(left),
                None => return Ok(true),
            }
        }
    }

    /// It could not be started at all.
    fn give_up(mut self, error: &Error) -> Result<()> {
        let code = error.run_exit_code();
        self.state = ContainerState { error: error.to_string(), exit_code: code, ..ContainerState::default() };
        if self.spec.remove {
            let (engine, volumes) = (self.engine, self.place.record().volumes.clone());
            self.note("destroy", &[]);
            self.place.remove()?;
            engine.remove_anonymous_volumes(&volumes)?;
        } else {
            self.place.write_state(&self.state)?;
            drop(self.place);
        }
        self.clients.failed(&error.to_string(), code);
        Ok(())
    }

    /// The last word: clients hear of the end when nothing of the container is held any more.
    fn leave(self, code: i32) -> Result<()> {
        let Monitor { engine, place, spec, name, clients, lease, .. } = self;
        drop(lease);
        if spec.remove {
            let record = place.record().clone();
            let subject = Subject { id: &record.id, name: &name, image: &spec.image, labels: &spec.labels };
            engine.note_event(&subject, "destroy", &[]);
            place.remove()?;
            engine.remove_anonymous_volumes(&record.volumes)?;
        } else {
            drop(place);
        }
        clients.say_goodbye(&Frame::Exited(code));
        Ok(())
    }

    fn note(&self, action: &str, more: &[(&str, String)]) {
        let subject =
            Subject { id: self.place.id(), name: &self.name, image: &self.spec.image, labels: &self.spec.labels };
        self.engine.note_event(&subject, action, more);
    }
}

/// The socket of a container's monitor, in its directory.
pub(super) fn socket_name() -> &'static Path {
    Path::new("socket")
}
