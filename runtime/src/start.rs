//! From `Sandbox` to `Container`: plan, prepare, clone, and listen to what the new process tells until it has become the program.
use std::ffi::{CString, c_char};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::ptr;

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{PidfdFlags, getpid, pidfd_open};
use rustix::thread::{LinkNameSpaceType, ThreadNameSpaceType, move_into_link_name_space, move_into_thread_name_spaces};

use crate::container::{Container, Parts};
use crate::error::{Error, Result};
use crate::idmap::{self, IdRanges};
use crate::plan::{Birth, Memory, Op, SetupOp, SetupPlan};
use crate::prepare::{Prepared, prepare};
use crate::pretend::{self, OwnerAttributes};
use crate::sandbox::Sandbox;
use crate::sys::child::{Child, Report, ReportKind};
use crate::sys::notify::receive_descriptor;
use crate::sys::process::SignalsBlocked;
use crate::user::UserIds;
use crate::userns::{self, UserNamespace};

impl Sandbox {
    /// Starts the process. Returns when it has become the program, or with the reason why it could not.
    ///
    /// The kernel kills the container when the *thread* that called this ends: wait on the same thread, or keep it alive.
    pub fn start(self) -> Result<Container> {
        self.start_with(&mut |_| Ok(Vec::new()))
    }

    /// As `start`, but for a sandbox with a gate: calls `turn` with the number of the new process when its namespaces and
    /// mounts are made and it still sees the host's root. What `turn` gives is the state that hooks find as their input.
    pub fn start_with(self, turn: &mut dyn FnMut(u32) -> Result<Vec<u8>>) -> Result<Container> {
        if userns::needs_user_namespace()? {
            return Err(userns::refused(Errno::PERM));
        }
        let plan = self.plan_in(self.spares.as_deref())?;
        let prepared = {
            let _owner = plan.users.as_deref().map(UserNamespace::file_owner).transpose()?;
            prepare(&plan, &self.base, self.spares.as_deref().filter(|_| plan.users.is_none()))?
        };
        let (listen, tell) = pipe_with(PipeFlags::CLOEXEC).map_err(Error::container("making a pipe"))?;
        let Prepared { mut slots, input, outputs, terminal, turn: proceed, state, created, ids } = prepared;
        let (pid, pidfd) = split(&plan, &mut slots, &listen, tell)?;
        // The child has its own copies of all of these by now.
        drop(slots);
        let mut container = Container::new(Parts { pid, pidfd, input, outputs, terminal, created });
        container.add_notes(plan.notes.clone());
        let pid = container.pid();
        let mut at_turn = |which: u32| {
            let failed = |errno| Error::container("telling the new process to go on")(errno);
            match (&plan.ids, which) {
                (Some(ids), IDS) => give_ids(pid, ids)?,
                _ => {
                    let text = turn(pid)?;
                    if let Some(state) = &state {
                        rustix::io::write(state, &text).map_err(failed)?;
                    }
                }
            }
            if let Some(proceed) = &proceed {
                rustix::io::write(proceed, b"1").map_err(failed)?;
            }
            Ok(())
        };
        let reports = listen_to(listen, &mut at_turn)?;
        if let Some(users) = &plan.users {
            users.settle();
        }
        let container = conclude(&plan, &self.cwd, reports, container)?;
        if let (Some(socket), Some(attributes)) = (ids, self.pretend) {
            answer_for_ids(&socket, &self.user, attributes)?;
        }
        Ok(container)
    }
}

/// The listener lies in the socket since before the program began.
fn answer_for_ids(socket: &OwnedFd, user: &UserIds, attributes: OwnerAttributes) -> Result<()> {
    let listener = receive_descriptor(socket.as_fd()).map_err(Error::container("taking over the ids"))?;
    listener.map_or(Ok(()), |listener| pretend::answer(listener, user, attributes))
}

/// Clones. Everything that the child touches is made here, so that it allocates nothing.
fn split(plan: &SetupPlan, slots: &mut [Option<OwnedFd>], listen: &OwnedFd, tell: OwnedFd) -> Result<(i32, OwnedFd)> {
    let argv = pointers(&plan.program.argv);
    let env = pointers(&plan.program.env);
    let child = Child {
        ops: &plan.ops,
        slots,
        parent_side: listen.as_raw_fd(),
        report: tell.as_fd(),
        candidates: &plan.program.candidates,
        argv: &argv,
        env: &env,
    };
    let failed = |errno: Errno| Error::Setup { step: "joining the pid namespace".to_owned(), source: errno.into() };
    let _blocked = SignalsBlocked::new();
    let cgroup = plan.cgroup.as_ref().and_then(|cgroup| cgroup.unified());
    let split = match &plan.birth {
        // There is no way back into the machine's own pid namespace.
        Some(birth) if userns::in_user_namespace() => {
            child.split_off_beside(plan.namespaces, cgroup, || be_born_in(birth))
        }
        None if plan.memory == Memory::Shared => child.split_off_sharing(plan.namespaces, cgroup),
        birth => {
            let _born = birth.as_ref().map(BirthPlace::choose).transpose().map_err(failed)?;
            child.split_off(plan.namespaces, cgroup)
        }
    };
    split.map_err(|errno| match errno {
        Errno::PERM => userns::refused(errno),
        // Moving into a group takes the right to write the lowest one that is above both places.
        Errno::ACCESS if cgroup.is_some() => {
            let step = "joining the container's control group from outside of the one that was delegated to this user";
            Error::Setup { step: step.to_owned(), source: errno.into() }
        }
        errno => Error::Setup { step: format!("clone {}", plan.namespaces), source: errno.into() },
    })
}

/// Children of this thread are born in another pid namespace for as long as this lives.
struct BirthPlace {
    own: OwnedFd,
}

impl BirthPlace {
    fn choose(birth: &Birth) -> Result<BirthPlace, Errno> {
        let own = pidfd_open(getpid(), PidfdFlags::empty())?;
        be_born_in(birth)?;
        Ok(BirthPlace { own })
    }
}

fn be_born_in(birth: &Birth) -> Result<(), Errno> {
    match birth {
        Birth::Namespace(namespace) => move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::ProcessID)),
        Birth::Beside(container) => move_into_thread_name_spaces(container.as_fd(), ThreadNameSpaceType::PROCESS_ID),
    }
}

impl Drop for BirthPlace {
    fn drop(&mut self) {
        // The machine's superuser may always go back to its own.
        let _ = move_into_thread_name_spaces(self.own.as_fd(), ThreadNameSpaceType::PROCESS_ID);
    }
}

/// The number by which the new process says that it waits for its ids.
pub(crate) const IDS: u32 = 0;

/// Gives the user namespace of a new process its ids.
pub(crate) fn give_ids(pid: u32, ids: &IdRanges) -> Result<()> {
    for (file, ranges) in [("uid_map", &ids.users), ("gid_map", &ids.groups)] {
        std::fs::write(format!("/proc/{pid}/{file}"), idmap::text(ranges))
            .map_err(|source| Error::Setup { step: format!("giving the user namespace its {file}"), source })?;
    }
    Ok(())
}

fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect()
}

/// Reads until the pipe closes, which exec, the wait for the start, or the end of the process does.
fn listen_to(listen: OwnedFd, at_turn: &mut dyn FnMut(u32) -> Result<()>) -> Result<Vec<Report>> {
    let mut reports = Vec::new();
    let mut listen = File::from(listen);
    let mut bytes = [0_u8; Report::SIZE];
    loop {
        match listen.read_exact(&mut bytes) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(reports),
            Err(source) => return Err(Error::Container { doing: "listening to the new process", source }),
        }
        match Report::decode(&bytes) {
            Some(report) if report.kind == ReportKind::Turn => at_turn(report.step)?,
            report => reports.extend(report),
        }
    }
}

fn conclude(
    plan: &SetupPlan,
    cwd: &std::path::Path,
    reports: Vec<Report>,
    mut container: Container,
) -> Result<Container> {
    for report in reports {
        let step = plan.ops.get(report.step as usize);
        let source = io::Error::from_raw_os_error(report.errno);
        let program = plan.program.name.clone();
        let error = match report.kind {
            ReportKind::Noted => {
                container.add_notes(step.map(|op| note(op, &source)));
                continue;
            }
            ReportKind::Turn => continue,
            ReportKind::Failed => failed_step(step, cwd, source),
            ReportKind::NoInterpreter => Error::InterpreterNotFound { program },
            ReportKind::NotExecuted if report.errno == Errno::NOENT.raw_os_error() => Error::NotFound { program },
            ReportKind::NotExecuted => Error::NotExecutable { program, source },
        };
        // Dropping the container reaps what is left of the process.
        return Err(error);
    }
    Ok(container)
}

fn note(op: &SetupOp, source: &io::Error) -> String {
    match &op.0 {
        Op::Bind { at, .. } => {
            format!("/{} is left as the image has it: {source}", at.path.to_string_lossy().escape_debug())
        }
        _ => format!("{op}: {source}"),
    }
}

fn failed_step(step: Option<&SetupOp>, cwd: &std::path::Path, source: io::Error) -> Error {
    match step.map(|op| &op.0) {
        Some(Op::WorkingDirectory(_)) => Error::WorkingDirectory { path: cwd.to_owned(), source },
        Some(Op::Hook(hook)) => {
            let path = hook.path.to_string_lossy().escape_debug().to_string();
            let reason = match Errno::from_io_error(&source) {
                Some(Errno::CANCELED) => format!("hook {path}: it ended without success"),
                Some(Errno::TIME) => format!("hook {path}: it did not end in time"),
                _ => format!("hook {path}: {source}"),
            };
            Error::Hook { reason }
        }
        Some(Op::Mount { target, .. } | Op::Show { target, .. } | Op::MountGiven { target, .. }) => {
            Error::Mount { target: PathBuf::from("/").join(target.relative()), source }
        }
        Some(_) => Error::Setup { step: step.map(ToString::to_string).unwrap_or_default(), source },
        None => Error::Setup { step: "unknown step".to_owned(), source },
    }
}
