//! `dunnage exec`: a process more in a running container.

use std::sync::Arc;

use cache::{Image, TreeRoot};
use runtime::{AttachOptions, Cgroup, ForwardedSignals, Running, Sandbox, Stdio};

use super::attach::Left;
use super::launch::{pair, resolve_user};
use super::spec::{ContainerSpec, set_variables};
use super::state::Status;
use crate::Engine;
use crate::error::{Error, Result};

/// What to run in a container.
#[derive(Debug, Clone, Default)]
pub struct ExecSpec {
    /// The command.
    pub command: Vec<String>,
    /// `NAME=VALUE`, over the container's.
    pub env: Vec<String>,
    /// `--workdir`; the container's when absent.
    pub workdir: Option<String>,
    /// `--user`; the container's when absent.
    pub user: Option<String>,
    /// `--interactive`.
    pub interactive: bool,
    /// `--tty`.
    pub tty: bool,
    /// `--detach-keys`.
    pub detach_keys: Vec<u8>,
    /// `--privileged`.
    pub privileged: bool,
}

impl Engine {
    /// Runs a command in a container, in the foreground. Gives its exit status.
    ///
    /// # Errors
    /// When the container does not run, or the command cannot be started.
    pub fn exec(&self, name: &str, exec: &ExecSpec, notes: &dyn Fn(String)) -> Result<i32> {
        let mut sandbox = self.exec_in(name, exec)?;
        sandbox.stdio = match exec.tty {
            true => Stdio::Terminal(runtime::terminal_size()),
            false => Stdio::Inherit { stdin: exec.interactive },
        };
        let joined = exec.tty && exec.interactive;
        // One that the user leaves goes on; one whose terminal is gone is told so by the kernel.
        sandbox.outlives_caller = joined;
        let signals = ForwardedSignals::catch()?;
        let mut container = sandbox.start()?;
        container.notes().iter().cloned().for_each(notes);
        if joined {
            return Ok(match super::exec_terminal::join(container, signals, &exec.detach_keys)? {
                Left::Ended(code) => code,
                Left::Detached => 0,
            });
        }
        let exit = runtime::attach(&mut container, signals, AttachOptions { interactive: exec.interactive })?;
        Ok(exit.status_code())
    }

    /// Runs a command in a container that goes on when this process ends: whoever is process 1 there reaps it.
    ///
    /// # Errors
    /// When the container does not run, or the command cannot be started.
    pub fn exec_detached(&self, name: &str, exec: &ExecSpec) -> Result<()> {
        let mut sandbox = self.exec_in(name, exec)?;
        sandbox.stdio = match exec.tty {
            true => Stdio::Terminal(runtime::terminal_size()),
            false => Stdio::Null,
        };
        // Nobody would answer for users that are not there.
        if sandbox.pretend.take().is_some() && sandbox.user.uid != 0 {
            return Err(Error::Usage(
                "exec --detach: with this machine's one id for this user, only user 0 can be left alone; without \
                 --detach any can be had"
                    .to_owned(),
            ));
        }
        sandbox.outlives_caller = true;
        sandbox.start()?.leave();
        Ok(())
    }

    fn exec_in(&self, name: &str, exec: &ExecSpec) -> Result<Sandbox> {
        let info = self.container(name)?;
        if info.status == Status::Paused {
            return Err(Error::NotRunning { name: info.name(), status: "paused" });
        }
        let running = Arc::new(info.running()?);
        let image = self.find_image(&info.record.image.to_string())?;
        let cgroup = info.state.control_group(&info.spec, &info.record.id)?;
        let hostname = self.host_name(&info.spec, &info.record.id);
        let sandbox = exec_sandbox(&info.spec, &image, &hostname, running, cgroup, exec)?;
        self.note_event_of(&info, &format!("exec_start: {}", exec.command.join(" ")), &[]);
        Ok(sandbox)
    }
}

/// The sandbox of a process more: what is not said is as for the container's own.
pub(super) fn exec_sandbox(
    spec: &ContainerSpec,
    image: &Image,
    hostname: &str,
    running: Arc<Running>,
    cgroup: Option<Cgroup>,
    exec: &ExecSpec,
) -> Result<Sandbox> {
    let config = &image.config.config;
    let root = TreeRoot::from_fd(running.root())?;
    let asked = exec.user.as_deref().or(spec.user.as_deref()).unwrap_or(&config.user);
    let user = resolve_user(&root, asked)?;
    let mut env = spec.environment(&config.env, hostname, &user.home);
    if exec.tty && !env.iter().any(|entry| entry.starts_with("TERM=")) {
        env.push("TERM=xterm".to_owned());
    }
    set_variables(&mut env, &exec.env);
    let ids = running.ids()?;
    let mut sandbox = Sandbox::within(running, exec.command.iter());
    sandbox.ids = ids;
    spec.walls(&mut sandbox)?;
    sandbox.pretend = builder::pretended_owners();
    sandbox.cgroup = cgroup.map(Arc::new);
    // These belong to the container, and are set already.
    sandbox.sysctls.clear();
    sandbox.oom_score_adj = None;
    sandbox.privileged |= exec.privileged;
    sandbox.env = env.iter().map(|entry| pair(entry)).collect();
    sandbox.user = user.ids;
    let own = [exec.workdir.as_deref(), spec.workdir.as_deref(), Some(config.working_dir.as_str())];
    sandbox.cwd = own.into_iter().flatten().find(|path| !path.is_empty()).unwrap_or("/").into();
    Ok(sandbox)
}
