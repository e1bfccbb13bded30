//! One run of a container: its output goes to the log and the clients, their input to it, until it ends.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use runtime::{Container, Signal};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::super::limits::Group;
use super::super::log::Output;
use super::super::network::Network;
use super::super::reconnect::NetworkChange;
use super::super::users::Users;
use super::super::wire::Frame;
use super::Monitor;
use super::clients::Request;
use super::health::Checks;
use crate::error::Result;

/// Input that the container has not read yet.
const MOST_INPUT: usize = 64 << 10;

type Held = (Group, Network, Option<Users>);

/// A container that runs, and what belongs to this run.
pub(super) struct Live {
    container: Option<Container>,
    input: Option<File>,
    typed: Vec<u8>,
    /// The input ends with what was typed so far.
    closing: bool,
    outputs: Vec<Pipe>,
    /// The inner side of the terminal: programs may close theirs and open it again.
    _peer: Option<OwnedFd>,
    health: Option<Checks>,
    /// Ends with this run: first the group with all that is in it, then the network, then its ids are free.
    held: Held,
}

/// Where output comes from.
struct Pipe {
    stream: Output,
    file: File,
    open: bool,
}

/// What a descriptor is.
#[derive(Clone, Copy)]
enum Source {
    Process,
    Input,
    Output(usize),
    Client(Option<usize>),
    Health(usize),
}

impl Live {
    pub(super) fn new(container: &mut Container, held: Held, health: Option<Checks>) -> Live {
        let mut files = Vec::new();
        let (mut input, mut peer) = (container.take_stdin(), None);
        if let Some(terminal) = container.terminal() {
            files.extend(terminal.file().ok().map(|file| (Output::Stdout, file)));
            input = terminal.file().ok();
            peer = terminal.peer().ok();
        }
        files.extend(container.take_stdout().map(|file| (Output::Stdout, file)));
        files.extend(container.take_stderr().map(|file| (Output::Stderr, file)));
        for file in files.iter().map(|(_, file)| file).chain(&input) {
            // Only this end of it: each end of a pipe has flags of its own.
            let _ = rustix::io::ioctl_fionbio(file, true);
        }
        let outputs = files.into_iter().map(|(stream, file)| Pipe { stream, file, open: true }).collect();
        let (typed, closing) = (Vec::new(), false);
        Live { container: None, input, typed, closing, outputs, _peer: peer, health, held }
    }

    pub(super) fn with(self, container: Container) -> Live {
        Live { container: Some(container), ..self }
    }

    /// Gives the exit code.
    pub(super) fn watch(mut self, monitor: &mut Monitor<'_>) -> i32 {
        loop {
            let ready = self.wait(monitor);
            let mut requests = Vec::new();
            let mut ended = false;
            for (source, flags) in ready {
                match source {
                    Source::Process => ended = true,
                    Source::Input => self.feed(),
                    Source::Output(number) => drop(self.copy(number, monitor)),
                    Source::Client(number) => monitor.clients.ready(number, flags, &mut requests),
                    Source::Health(number) => {
                        if let Some(health) = &mut self.health {
                            health.ready(number);
                        }
                    }
                }
            }
            monitor.clients.sweep();
            for request in requests {
                self.serve(request, monitor);
            }
            if ended {
                break;
            }
            if let Some(health) = &mut self.health {
                health.turn(monitor);
            }
        }
        self.finish(monitor)
    }

    fn finish(mut self, monitor: &mut Monitor<'_>) -> i32 {
        let code = match self.container.as_mut().map(Container::wait) {
            Some(Ok(exit)) => exit.status_code(),
            _ => 255,
        };
        // What was written before the end is there to be read; what others hold open is not waited for.
        for number in 0..self.outputs.len() {
            while self.copy(number, monitor) {}
        }
        monitor.log.finish();
        let (group, network, _users) = self.held;
        monitor.state.oom_killed = group.ran_out_of_memory();
        drop(group);
        if monitor.wants_restart(code) {
            // Not in a hurry, and this process has no use for children that end unseen.
            drop(network);
        } else {
            network.leave();
        }
        code
    }

    fn wait(&self, monitor: &Monitor<'_>) -> Vec<(Source, PollFlags)> {
        let mut sources: Vec<(Source, BorrowedFd<'_>, PollFlags)> = Vec::new();
        if let Some(container) = &self.container {
            sources.push((Source::Process, container.as_fd(), PollFlags::IN));
        }
        if monitor.clients.have_room() {
            let open = self.outputs.iter().enumerate().filter(|(_, pipe)| pipe.open);
            sources.extend(open.map(|(number, pipe)| (Source::Output(number), pipe.file.as_fd(), PollFlags::IN)));
        }
        if let Some(input) = self.input.as_ref().filter(|_| !self.typed.is_empty()) {
            sources.push((Source::Input, input.as_fd(), PollFlags::OUT));
        }
        for (number, fd, flags) in monitor.clients.waiting(self.typed.len() < MOST_INPUT) {
            sources.push((Source::Client(number), fd, flags));
        }
        let health = self.health.iter().flat_map(Checks::descriptors).enumerate();
        sources.extend(health.map(|(number, fd)| (Source::Health(number), fd, PollFlags::IN)));
        let mut descriptors: Vec<PollFd<'_>> =
            sources.iter().map(|(_, fd, flags)| PollFd::from_borrowed_fd(*fd, *flags)).collect();
        let deadline = self.health.as_ref().map(Checks::deadline);
        let longest = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let time = longest.and_then(|longest| Timespec::try_from(longest).ok());
        if poll(&mut descriptors, time.as_ref()).is_err() {
            return Vec::new();
        }
        let ready = sources.iter().zip(&descriptors).map(|((source, ..), fd)| (*source, fd.revents()));
        ready.filter(|(_, flags)| !flags.is_empty()).collect()
    }

    /// Copies a piece of output. Tells whether there may be more.
    fn copy(&mut self, number: usize, monitor: &mut Monitor<'_>) -> bool {
        let Some(pipe) = self.outputs.get_mut(number) else { return false };
        let mut bytes = [0; 16 << 10];
        match pipe.file.read(&mut bytes) {
            Ok(count) if count > 0 => {
                let bytes = bytes.get(..count).unwrap_or_default();
                monitor.log.write(pipe.stream, bytes);
                let frame = match pipe.stream {
                    Output::Stdout => Frame::Output(bytes.to_vec()),
                    Output::Stderr => Frame::Errors(bytes.to_vec()),
                };
                monitor.clients.output(&frame);
                true
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => true,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
            // The end, which is an error for a terminal.
            _ => {
                pipe.open = false;
                false
            }
        }
    }

    fn serve(&mut self, request: Request, monitor: &mut Monitor<'_>) {
        match request {
            Request::Input(bytes) => {
                if self.input.is_some() {
                    self.typed.extend_from_slice(&bytes);
                    self.feed();
                }
            }
            // A terminal has no end that could be closed.
            Request::InputEnd if monitor.spec.stdin_once && !monitor.spec.tty => {
                self.closing = true;
                self.feed();
            }
            Request::InputEnd => {}
            Request::Resize(size) => {
                if let Some(terminal) = self.container.as_ref().and_then(Container::terminal) {
                    // Fails only where the container has just ended.
                    let _ = terminal.resize(size);
                }
            }
            Request::Signal(number) => {
                if let (Some(container), Ok(signal)) = (&self.container, Signal::from_number(number)) {
                    let _ = container.kill(signal);
                }
            }
            Request::Network(client, change) => {
                let answer = match self.change_network(&change, monitor) {
                    Ok(()) => Frame::Done,
                    Err(error) => Frame::Failed(error.to_string(), error.exit_code()),
                };
                monitor.clients.answer(client, &answer);
            }
        }
    }

    /// What was changed stays so when it is started again.
    fn change_network(&mut self, change: &NetworkChange, monitor: &mut Monitor<'_>) -> Result<()> {
        let choice = change.applied(&monitor.spec.network, &monitor.name)?;
        let id = monitor.place.id().to_owned();
        self.held.1.change(monitor.engine, (&id, &monitor.name), change)?;
        monitor.spec.network = choice.clone();
        monitor.engine.respecify(&id, |spec| spec.network = choice)
    }

    /// Writes what was typed as far as the container takes it.
    fn feed(&mut self) {
        let Some(input) = &mut self.input else { return self.typed.clear() };
        while !self.typed.is_empty() {
            match input.write(&self.typed) {
                Ok(count) => drop(self.typed.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => {
                    // It reads no more.
                    self.input = None;
                    return self.typed.clear();
                }
            }
        }
        if self.closing {
            self.input = None;
        }
    }
}
