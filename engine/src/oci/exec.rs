//! `exec`: one process more in a container that runs.

use std::path::PathBuf;
use std::sync::Arc;

use oci_spec::runtime::{Capabilities, Process, Spec};
use runtime::{AttachOptions, Cgroup, Sandbox, Seccomp, Stdio};

use super::state::{Place, Status};
use super::{OciRuntime, ProcessIo, config, process, record, seccomp, write_pid};
use crate::error::{Error, Result};

/// `exec`.
#[derive(Debug, Clone, Default)]
pub struct ExecRequest {
    /// The container's name.
    pub id: String,
    /// JSON of the process; without it, the container's own with the changes below.
    pub process: Option<Vec<u8>>,
    /// The command.
    pub args: Vec<String>,
    /// `NAME=VALUE`.
    pub env: Vec<String>,
    /// `--cwd`.
    pub cwd: Option<PathBuf>,
    /// `--user`: numbers, as UID or UID:GID.
    pub user: Option<(u32, Option<u32>)>,
    /// `--additional-gids`.
    pub groups: Vec<u32>,
    /// `--cap`.
    pub capabilities: Vec<String>,
    /// `--no-new-privs`.
    pub no_new_privileges: bool,
    /// `--tty`.
    pub tty: bool,
    /// `--detach`.
    pub detach: bool,
    /// `--ignore-paused`: it waits until the container goes on.
    pub ignore_paused: bool,
    /// The process and the caller.
    pub io: ProcessIo,
}

impl OciRuntime {
    /// Runs a process in a container. Gives its exit status, or 0 when it is to be left alone.
    ///
    /// # Errors
    /// When the container does not run, or the process cannot be started.
    pub fn exec(&self, request: &ExecRequest) -> Result<i32> {
        let place = Place::open(&self.root, &request.id)?;
        let record = record(&place)?;
        let refuse = |status| Err(Error::container_state(&request.id, format!("cannot exec in a {status} container")));
        match place.status(&record)? {
            Status::Paused if request.ignore_paused => {}
            status @ (Status::Paused | Status::Stopped | Status::Creating) => return refuse(status),
            Status::Created | Status::Running => {}
        }
        let Some(running) = place.running(&record)? else { return refuse(Status::Stopped) };
        let spec = place.config()?;
        // Another command on the container need not wait for the end of this process.
        drop(place);
        let asked = asked(request, &spec)?;
        let mut sandbox = Sandbox::within(Arc::new(running), process::argv(&asked)?);
        process::apply(&mut sandbox, &asked)?;
        sandbox.seccomp = match spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref()) {
            Some(asked) => Seccomp::Profile(Arc::new(seccomp::profile(asked)?)),
            None => Seccomp::Unconfined,
        };
        sandbox.cgroup = Cgroup::open(&record.cgroup)?.map(Arc::new);
        sandbox.descriptors = request.io.preserve_fds;
        sandbox.outlives_caller = request.detach || request.io.console_socket.is_some();
        sandbox.stdio = stdio(&asked, request)?;
        let signals = runtime::ForwardedSignals::catch()?;
        let mut process = sandbox.start()?;
        if let (Some(socket), Some(terminal)) = (&request.io.console_socket, process.terminal()) {
            terminal.send(socket)?;
        }
        write_pid(request.io.pid_file.as_deref(), process.pid())?;
        if request.detach {
            process.leave();
            return Ok(0);
        }
        let options = AttachOptions { interactive: request.io.console_socket.is_none() };
        if request.io.console_socket.is_some() {
            return Ok(process.wait()?.status_code());
        }
        Ok(runtime::attach(&mut process, signals, options)?.status_code())
    }
}

fn stdio(asked: &Process, request: &ExecRequest) -> Result<Stdio> {
    let terminal = asked.terminal().unwrap_or(false);
    match (terminal, &request.io.console_socket, request.detach) {
        (false, Some(_), _) => Err(config::invalid("process.terminal", "is off, and yet there is a console socket")),
        (false, None, _) => Ok(Stdio::Inherit { stdin: true }),
        (true, None, true) => {
            Err(config::invalid("process.terminal", "is on, and there is no console socket to send it to"))
        }
        (true, Some(_), _) => Ok(Stdio::Terminal(process::terminal_size(asked))),
        (true, None, false) => Ok(Stdio::Terminal(runtime::terminal_size())),
    }
}

/// The process that was given whole, or the container's own with changes.
fn asked(request: &ExecRequest, spec: &Spec) -> Result<Process> {
    if let Some(json) = &request.process {
        let mut process: Process = serde_json::from_slice(json).map_err(|error| config::invalid("process", error))?;
        if request.tty {
            process.set_terminal(Some(true));
        }
        return Ok(process);
    }
    let mut process = spec.process().clone().ok_or_else(|| config::invalid("process", "is missing"))?;
    process.set_args(Some(request.args.clone())).set_terminal(Some(request.tty));
    if !request.env.is_empty() {
        let mut env = process.env().clone().unwrap_or_default();
        env.extend(request.env.iter().cloned());
        process.set_env(Some(env));
    }
    if let Some(cwd) = &request.cwd {
        process.set_cwd(cwd.clone());
    }
    if let Some((uid, gid)) = request.user {
        process.user_mut().set_uid(uid);
        if let Some(gid) = gid {
            process.user_mut().set_gid(gid);
        }
    }
    if !request.groups.is_empty() {
        let mut groups = process.user().additional_gids().clone().unwrap_or_default();
        groups.extend(&request.groups);
        process.user_mut().set_additional_gids(Some(groups));
    }
    if request.no_new_privileges {
        process.set_no_new_privileges(Some(true));
    }
    add_capabilities(&mut process, &request.capabilities)?;
    Ok(process)
}

fn add_capabilities(process: &mut Process, names: &[String]) -> Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    let added: Capabilities = serde_json::from_value(names.into()).map_err(|error| config::invalid("--cap", error))?;
    let mut sets = process.capabilities().clone().unwrap_or_default();
    let with = |set: &Option<Capabilities>| Some(set.iter().flatten().chain(&added).copied().collect());
    let (bounding, effective, permitted) = (with(sets.bounding()), with(sets.effective()), with(sets.permitted()));
    sets.set_bounding(bounding).set_effective(effective).set_permitted(permitted);
    process.set_capabilities(Some(sets));
    Ok(())
}
