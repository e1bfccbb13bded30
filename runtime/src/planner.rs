//! From `Sandbox` to `SetupPlan`: which descriptors, which steps, in which order. Pure but for a look at the machine (`Host`).
mod cgroup;
mod devices;
mod etc;
mod given;
mod join;
mod kernel;
mod labels;
mod mounts;
mod privileges;
mod program;
mod settings;
mod users;

use std::ffi::{CString, OsStr};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

pub(crate) use devices::usual_parts;

use crate::capability::Capability;
use crate::error::{Error, Result};
use crate::hooks::PreparedHook;
use crate::host::Host;
use crate::plan::{
    Birth, KernelFilesystem, Memory, Missing, MountPoint, Op, Place, PointKind, Preparation, SetupOp, SetupPlan, Slot,
    Turn,
};
use crate::sandbox::{Base, Namespace, NetworkMode, Sandbox, Seccomp, Stdio};
use crate::seccomp;
use crate::spares::Spares;
use crate::sys::mount::{ATTR_NODEV, ATTR_NOEXEC, ATTR_NOSUID, ATTR_RDONLY, Reach};
use crate::target::Target;
use crate::user::UserIds;

const QUIET: u64 = ATTR_NOSUID | ATTR_NODEV | ATTR_NOEXEC;

impl Sandbox {
    /// Works out everything between this sandbox and its process. Nothing is made yet.
    pub fn plan(&self) -> Result<SetupPlan> {
        self.plan_in(None)
    }

    /// The same with what lies ready for it.
    pub(crate) fn plan_in(&self, spares: Option<&Spares>) -> Result<SetupPlan> {
        let host = Host::probe(self.privileged, self.init)?;
        let room = spares.filter(|_| self.fits_a_room(&host)).and_then(Spares::take_room);
        plan(self, &host, room)
    }

    /// Whether it needs nothing of the machine's mounts once all is prepared, and has the rights to move into others.
    fn fits_a_room(&self, host: &Host) -> bool {
        let usual = matches!(self.base, Base::Rootfs(_)) && self.layout.is_none();
        // Who is asked before the start, and hooks, see the machine's root.
        let alone = self.gate.is_none() && self.hooks.create.is_empty() && self.hooks.start.is_empty();
        let users = self.makes_users() || self.users.is_some() || host.user_namespace;
        usual && alone && !users
    }
}

/// As `Sandbox::plan`, on a machine as described.
pub(crate) fn plan(sandbox: &Sandbox, host: &Host, room: Option<OwnedFd>) -> Result<SetupPlan> {
    let mut planner =
        Planner { sandbox, host, room, prepare: Vec::new(), ops: Vec::new(), points: Vec::new(), notes: Vec::new() };
    let program = planner.program()?;
    planner.guard();
    match &sandbox.base {
        Base::Running(container) => planner.enter(container)?,
        Base::Rootfs(_) => planner.build_walls()?,
    }
    planner.surroundings()?;
    planner.privileges()?;
    planner.stdio()?;
    let (namespaces, birth) = sandbox.new_namespaces(host, planner.room.is_some())?;
    let Planner { room, mut prepare, ops, notes, .. } = planner;
    prepare.extend(room.map(|room| (Slot::Room, Preparation::Namespace(Arc::new(room)))));
    Ok(SetupPlan {
        prepare,
        namespaces,
        memory: sandbox.memory(host, birth.as_ref()),
        birth,
        ids: sandbox.ids.clone().filter(|_| sandbox.makes_users()),
        users: sandbox.users.clone(),
        outer_root: sandbox.outer_root(),
        cgroup: sandbox.cgroup.clone(),
        ops,
        program,
        notes,
    })
}

impl Sandbox {
    /// Memory is shared with a process that the caller waits for, and that nothing of an image can look at meanwhile: it is
    /// alone in its pid namespace, and hides from all but the machine's superuser. The caller stays hidden after that, so it
    /// has to be who sees such processes all the same. A group in which memory runs out ends all who share it.
    fn memory(&self, host: &Host, birth: Option<&Birth>) -> Memory {
        let alone = matches!(self.base, Base::Rootfs(_)) && matches!(self.namespaces.pid, Namespace::New);
        let superuser = !host.user_namespace && host.capabilities.contains(Capability::SysPtrace);
        let users = self.makes_users() || self.users.is_some() || self.pretend.is_some();
        let hooks = !self.hooks.create.is_empty() || !self.hooks.start.is_empty();
        let answered = self.gate.is_some() || hooks || self.init;
        let bounded = self.cgroup.as_ref().is_some_and(|cgroup| cgroup.bounds_memory());
        let hidden = !self.exposed;
        let possible = cfg!(target_arch = "x86_64") && birth.is_none();
        if possible && alone && superuser && hidden && !users && !answered && !bounded {
            return Memory::Shared;
        }
        Memory::Copied
    }
}

struct Planner<'a> {
    sandbox: &'a Sandbox,
    host: &'a Host,
    /// A mount namespace that is ready.
    room: Option<OwnedFd>,
    prepare: Vec<(Slot, Preparation)>,
    ops: Vec<SetupOp>,
    points: Vec<MountPoint>,
    notes: Vec<String>,
}

impl Planner<'_> {
    fn push(&mut self, op: Op) {
        self.ops.push(SetupOp(op));
    }

    fn guard(&mut self) {
        let makes_users = self.sandbox.makes_users();
        if makes_users || self.sandbox.gate.is_some() {
            self.prepare.push((Slot::Turn, Preparation::Turn));
        }
        if makes_users {
            self.push(Op::Turn(Turn::Ids));
        }
        if makes_users {
            self.push(Op::BecomeRoot);
        }
        self.file_owner();
        if !self.sandbox.exposed {
            self.push(Op::HideMemory);
        }
        self.die_with_parent();
        if !self.sandbox.keep_keyring {
            self.push(Op::OwnKeyring);
        }
        self.join_cgroup();
    }

    fn die_with_parent(&mut self) {
        if !self.sandbox.outlives_caller {
            self.push(Op::DieWithParent);
        }
    }

    fn build_walls(&mut self) -> Result<()> {
        self.hostname_is_valid()?;
        self.join();
        self.push(if self.room.is_some() { Op::Room } else { Op::PrivateMounts });
        match &self.sandbox.layout {
            Some(layout) => self.given(layout)?,
            None => self.usual_layout()?,
        }
        // While the process still is who may write them.
        self.labels()?;
        if matches!(self.sandbox.namespaces.uts, Namespace::New) && !self.keeps_hostname() {
            self.push(Op::Hostname(c_string("hostname", OsStr::new(&self.sandbox.hostname))?));
        }
        if let Some(name) = &self.sandbox.domainname {
            self.push(Op::Domainname(c_string("domainname", OsStr::new(name))?));
        }
        if matches!(self.sandbox.network, NetworkMode::None) {
            self.push(Op::LoopbackUp);
        }
        Ok(())
    }

    fn usual_layout(&mut self) -> Result<()> {
        self.runtime_mounts();
        self.settings()?;
        self.etc_files()?;
        self.restrict()?;
        self.own_mounts()?;
        self.root();
        Ok(())
    }

    /// No mount that a sandbox can write shows a device, unless its rules are to decide.
    fn nodev(&self) -> u64 {
        if self.sandbox.privileged || self.sandbox.open_devices { 0 } else { ATTR_NODEV }
    }

    fn kernel(&mut self, filesystem: KernelFilesystem, slot: Slot, attributes: u64, at: Place) {
        self.push(Op::Kernel { filesystem, slot, attributes: attributes as u32, at });
    }

    fn attach(&mut self, slot: Slot, preparation: Preparation, at: Place) {
        self.prepare.push((slot, preparation));
        self.push(Op::Attach { slot, at });
    }

    fn bind(&mut self, from: Place, at: Place, attributes: u64, missing: Missing) {
        self.push(Op::Bind { from, at, attributes, reach: Reach::One, missing });
    }

    /// Comes last, so that mount points can be made like the sources that are open by then.
    fn root(&mut self) {
        let read_only = if self.sandbox.read_only { ATTR_RDONLY } else { 0 };
        let attributes = read_only | self.nodev();
        let mount_points = std::mem::take(&mut self.points);
        self.prepare.push((Slot::Root, Preparation::Root { attributes, mount_points }));
        self.push(if self.room.is_some() { Op::TakeRoot } else { Op::PivotRoot });
    }

    fn surroundings(&mut self) -> Result<()> {
        let sandbox = self.sandbox;
        if !sandbox.cwd.is_absolute() {
            return Err(Error::invalid("working directory", "must be an absolute path in the container"));
        }
        for limit in &sandbox.rlimits {
            let (limit, note) = self.host.clamp(*limit);
            self.notes.extend(note);
            self.push(Op::Limit { resource: limit.resource, soft: limit.soft, hard: limit.hard });
        }
        self.enter_users()?;
        self.push(Op::WorkingDirectory(c_string("working directory", sandbox.cwd.as_os_str())?));
        self.push(Op::Umask(sandbox.umask));
        Ok(())
    }

    /// Whether ids are those of a table and not the kernel's.
    fn pretend(&self) -> bool {
        self.sandbox.pretend.is_some()
    }

    fn stdio(&mut self) -> Result<()> {
        if self.sandbox.init {
            self.push(Op::Init { arguments: self.host.arguments.clone() });
        }
        self.push(Op::Session);
        let UserIds { uid, gid, .. } = match self.pretend() {
            true => UserIds::default(),
            false => self.sandbox.user.clone(),
        };
        let (uid, gid) = (self.outer_user(uid), self.outer_group(gid));
        let pipe = Preparation::Pipe { uid, gid };
        let terminal = matches!(self.sandbox.stdio, Stdio::Terminal(_));
        let sources = match self.sandbox.stdio {
            Stdio::Null => [Preparation::Null, Preparation::Null, Preparation::Null],
            Stdio::Inherit { stdin: true } => [Preparation::Inherit, Preparation::Inherit, Preparation::Inherit],
            Stdio::Inherit { stdin: false } => [Preparation::Null, Preparation::Inherit, Preparation::Inherit],
            Stdio::Pipes => [Preparation::Null, pipe.clone(), pipe],
            Stdio::AllPipes => [pipe.clone(), pipe.clone(), pipe],
            Stdio::Terminal(size) => [Preparation::Terminal { size, uid }, Preparation::Same, Preparation::Same],
        };
        for (number, source) in (0_u8..).zip(sources) {
            self.prepare.push((Slot::Stdio(number), source));
        }
        if terminal {
            self.push(Op::ControllingTerminal);
        }
        // The change of ids has cleared the death signal.
        self.push(Op::Stdio);
        self.die_with_parent();
        self.push(Op::DefaultSignals);
        self.push(Op::CloseOnExec { from: 3_u32.saturating_add(self.sandbox.descriptors) });
        self.last_steps()
    }

    /// Everything is ready; what is left is to be told to start.
    fn last_steps(&mut self) -> Result<()> {
        let sandbox = self.sandbox;
        if let Some(gate) = &sandbox.gate {
            self.prepare.push((Slot::Gate, Preparation::Namespace(Arc::clone(gate))));
            self.push(Op::Gate { descriptors: sandbox.descriptors });
        }
        for hook in &sandbox.hooks.start {
            self.push(Op::Hook(PreparedHook::new(hook)?));
        }
        if let (Seccomp::Profile(profile), true) = (&sandbox.seccomp, sandbox.no_new_privileges) {
            self.push(Op::Filter(seccomp::Program::custom(profile)?));
        }
        Ok(())
    }

    /// The caller's part, and the hooks that still see the host's root.
    fn before_pivot(&mut self) -> Result<()> {
        let hooks = &self.sandbox.hooks;
        if !hooks.create.is_empty() || !hooks.start.is_empty() {
            self.prepare.push((Slot::State, Preparation::Memory));
        }
        if self.sandbox.gate.is_some() {
            self.push(Op::Turn(Turn::Mounted));
        }
        for hook in &hooks.create {
            self.push(Op::Hook(PreparedHook::new(hook)?));
        }
        Ok(())
    }

    fn point(&mut self, name: &str, kind: PointKind) {
        // A single name below the root is always a valid target.
        if let Ok(target) = Target::new(&Path::new("/").join(name)) {
            self.points.push(MountPoint { target, kind });
        }
    }

    /// A given layout may leave the name as it is.
    fn keeps_hostname(&self) -> bool {
        self.sandbox.layout.is_some() && self.sandbox.hostname.is_empty()
    }

    fn hostname_is_valid(&self) -> Result<()> {
        if self.keeps_hostname() {
            return Ok(());
        }
        let name = &self.sandbox.hostname;
        let valid = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
        if name.is_empty() || name.len() > 64 || !name.bytes().all(valid) {
            return Err(Error::invalid("hostname", "needs 1 to 64 letters, digits, dots, hyphens or underscores"));
        }
        Ok(())
    }
}

fn c_string(field: &'static str, text: &OsStr) -> Result<CString> {
    CString::new(text.as_bytes()).map_err(|_| Error::invalid(field, "contains a zero byte"))
}

fn place(base: Slot, path: &str) -> Place {
    Place { base, path: CString::new(path).unwrap_or_default() }
}
