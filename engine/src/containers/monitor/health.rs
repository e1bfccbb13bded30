//! Health checks: a command in the container, again and again, and the verdict that follows from how it ends.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cache::Image;
use runtime::{Container, Running, Stdio};

use super::super::exec::{ExecSpec, exec_sandbox};
use super::super::spec::ContainerSpec;
use super::super::state::{Health, HealthResult, HealthStatus, now};
use super::Monitor;

/// Docker's limit of what is kept of a check's output.
const MOST_OUTPUT: usize = 4096;
const MOST_RESULTS: usize = 5;
const TIMED_OUT: i32 = -1;

/// What is checked, and how often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HealthPlan {
    pub(crate) argv: Vec<String>,
    pub(crate) interval: Duration,
    pub(crate) timeout: Duration,
    pub(crate) start_period: Duration,
    pub(crate) start_interval: Duration,
    pub(crate) retries: u32,
}

impl HealthPlan {
    /// The image's HEALTHCHECK, changed by the flags; none where there is none.
    pub(crate) fn of(spec: &ContainerSpec, image: &Image) -> Option<HealthPlan> {
        if spec.health.none {
            return None;
        }
        let config = image.config.config.healthcheck.clone().unwrap_or_default();
        let shell = |line: String| vec!["/bin/sh".to_owned(), "-c".to_owned(), line];
        let argv = match (&spec.health.command, config.test.split_first()) {
            (Some(line), _) => shell(line.clone()),
            (None, Some((kind, rest))) if kind == "CMD-SHELL" => shell(rest.join(" ")),
            (None, Some((kind, rest))) if kind == "CMD" => rest.to_vec(),
            _ => return None,
        };
        let time = |flag: Option<u64>, image: Option<i64>, default: u64| {
            let image = image.and_then(|time| u64::try_from(time).ok());
            Duration::from_nanos(flag.or(image).filter(|time| *time > 0).unwrap_or(default * 1_000_000_000))
        };
        Some(HealthPlan {
            argv,
            interval: time(spec.health.interval, config.interval, 30),
            timeout: time(spec.health.timeout, config.timeout, 30),
            start_period: time(spec.health.start_period, config.start_period, 0),
            start_interval: time(spec.health.start_interval, config.start_interval, 5),
            retries: spec.health.retries.or(config.retries).filter(|retries| *retries > 0).unwrap_or(3),
        })
    }
}

/// What is known before the first check.
pub(super) fn begin(spec: &ContainerSpec, image: &Image) -> Option<Health> {
    HealthPlan::of(spec, image).map(|_| Health::default())
}

/// The checks of a container that runs.
pub(super) struct Checks {
    plan: HealthPlan,
    running: Arc<Running>,
    exec: ExecSpec,
    began: Instant,
    next: Instant,
    probe: Option<Probe>,
}

/// A check that runs.
struct Probe {
    container: Container,
    outputs: [Option<File>; 2],
    printed: Vec<u8>,
    began: u64,
    deadline: Instant,
    ended: bool,
}

impl Checks {
    pub(super) fn new(monitor: &Monitor<'_>, running: Arc<Running>) -> Option<Checks> {
        let plan = HealthPlan::of(&monitor.spec, &monitor.image)?;
        let exec = ExecSpec { command: plan.argv.clone(), ..ExecSpec::default() };
        let began = Instant::now();
        let next =
            began + if plan.start_period.is_zero() { plan.interval } else { plan.interval.min(plan.start_interval) };
        Some(Checks { plan, running, exec, began, next, probe: None })
    }

    /// When there is something to do, whatever happens.
    pub(super) fn deadline(&self) -> Instant {
        self.probe.as_ref().map_or(self.next, |probe| probe.deadline)
    }

    /// What to wait for: in this order are their numbers.
    pub(super) fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        let Some(probe) = &self.probe else { return Vec::new() };
        let outputs = probe.outputs.iter().flatten().map(AsFd::as_fd);
        std::iter::once(probe.container.as_fd()).chain(outputs).collect()
    }

    /// A descriptor is ready.
    pub(super) fn ready(&mut self, number: usize) {
        let Some(probe) = &mut self.probe else { return };
        let Some(number) = number.checked_sub(1) else {
            probe.ended = true;
            return;
        };
        if let Some(place) = probe.outputs.iter_mut().filter(|output| output.is_some()).nth(number) {
            let mut bytes = [0; MOST_OUTPUT];
            match place.as_mut().map(|file| file.read(&mut bytes)) {
                Some(Ok(count)) if count > 0 => probe.keep(bytes.get(..count).unwrap_or_default()),
                _ => *place = None,
            }
        }
    }

    /// Does what is due: a check that ended or took too long is judged, the next one is begun.
    pub(super) fn turn(&mut self, monitor: &mut Monitor<'_>) {
        let time = Instant::now();
        if let Some(probe) = self.probe.take_if(|probe| probe.ended || time >= probe.deadline) {
            let result = probe.result();
            self.judge(result, monitor);
            self.next = Instant::now() + self.pause(monitor);
        }
        if self.probe.is_none() && time >= self.next {
            match self.begin(monitor) {
                Ok(probe) => self.probe = Some(probe),
                Err(sentence) => {
                    let time = now();
                    let result = HealthResult { start: time, end: time, exit_code: TIMED_OUT, output: sentence };
                    self.judge(result, monitor);
                    self.next = Instant::now() + self.pause(monitor);
                }
            }
        }
    }

    fn in_start_period(&self) -> bool {
        self.began.elapsed() < self.plan.start_period
    }

    fn pause(&self, monitor: &Monitor<'_>) -> Duration {
        let starting = monitor.state.health.as_ref().is_some_and(|health| health.status == HealthStatus::Starting);
        if starting && self.in_start_period() { self.plan.start_interval } else { self.plan.interval }
    }

    fn begin(&self, monitor: &Monitor<'_>) -> std::result::Result<Probe, String> {
        let start = || -> crate::Result<Container> {
            let cgroup = monitor.state.control_group(&monitor.spec, monitor.place.id())?;
            let (spec, running) = (&monitor.spec, Arc::clone(&self.running));
            let hostname = monitor.engine.host_name(spec, monitor.place.id());
            let mut sandbox = exec_sandbox(spec, &monitor.image, &hostname, running, cgroup, &self.exec)?;
            sandbox.stdio = Stdio::Pipes;
            Ok(sandbox.start()?)
        };
        let mut container = start().map_err(|error| error.to_string())?;
        let outputs = [container.take_stdout(), container.take_stderr()];
        let deadline = Instant::now() + self.plan.timeout;
        Ok(Probe { container, outputs, printed: Vec::new(), began: now(), deadline, ended: false })
    }

    fn judge(&self, result: HealthResult, monitor: &mut Monitor<'_>) {
        let health = monitor.state.health.get_or_insert_default();
        let before = health.status;
        if result.exit_code == 0 {
            health.failing_streak = 0;
            health.status = HealthStatus::Healthy;
        } else if before != HealthStatus::Starting || !self.in_start_period() {
            // Failures while it starts do not count; the first success ends that time.
            health.failing_streak += 1;
            if health.failing_streak >= self.plan.retries {
                health.status = HealthStatus::Unhealthy;
            }
        }
        health.log.push(result);
        let surplus = health.log.len().saturating_sub(MOST_RESULTS);
        health.log.drain(..surplus);
        let status = health.status;
        // A state that cannot be written is written with the next change.
        let _ = monitor.place.write_state(&monitor.state);
        if status != before {
            monitor.note(&format!("health_status: {}", status.word()), &[]);
        }
    }
}

impl Probe {
    fn keep(&mut self, bytes: &[u8]) {
        let room = MOST_OUTPUT - self.printed.len().min(MOST_OUTPUT);
        self.printed.extend_from_slice(bytes.get(..room.min(bytes.len())).unwrap_or_default());
    }

    fn result(mut self) -> HealthResult {
        let exit_code = if self.ended {
            let code = self.container.wait().map_or(TIMED_OUT, |exit| exit.status_code());
            for place in 0..self.outputs.len() {
                self.drain(place);
            }
            code
        } else {
            self.printed = b"the health check took too long and was killed".to_vec();
            TIMED_OUT
        };
        let output = String::from_utf8_lossy(&self.printed).into_owned();
        // Dropping the container kills what still runs.
        HealthResult { start: self.began, end: now(), exit_code, output }
    }

    /// What is there without waiting: a process that the check left behind may hold the other end for ever.
    fn drain(&mut self, place: usize) {
        let Some(mut file) = self.outputs.get_mut(place).and_then(Option::take) else { return };
        if rustix::io::ioctl_fionbio(&file, true).is_err() {
            return;
        }
        let mut bytes = [0; MOST_OUTPUT];
        while let Ok(count @ 1..) = file.read(&mut bytes) {
            self.keep(bytes.get(..count).unwrap_or_default());
        }
    }
}
