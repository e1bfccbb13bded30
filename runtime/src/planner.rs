//! From `Sandbox` to `SetupPlan`: which descriptors, which steps, in which order. Pure but for a look at the machine (`Host`).
mod cgroup;
mod given;
mod join;
mod labels;
mod settings;
mod users;

use std::collections::HashSet;
use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use crate::capability::{Capability, CapabilitySet};
use crate::error::{Error, Result};
use crate::given::MountAttributes;
use crate::hooks::PreparedHook;
use crate::host::Host;
use crate::mount::{BindSource, Content, Mount};
use crate::plan::{
    Birth, Device, DeviceKind, KernelFilesystem, Memory, Missing, MountPoint, Op, Place, PointKind, Preparation,
    Program, SetupOp, SetupPlan, Slot, StagePlace, StagedFile, Turn,
};
use crate::prepare::fresh::Fresh;
use crate::pretend;
use crate::sandbox::{Base, CapabilitySets, DEFAULT_PATH, Namespace, NetworkMode, Sandbox, Seccomp, Stdio};
use crate::seccomp;
use crate::sys::mount::{ATTR_NODEV, ATTR_NOEXEC, ATTR_NOSUID, ATTR_RDONLY, Reach};
use crate::target::Target;
use crate::user::UserIds;

const QUIET: u64 = ATTR_NOSUID | ATTR_NODEV | ATTR_NOEXEC;
/// More than anyone means.
const MOST_MOUNTS: usize = 1024;
/// Devices of the machine that a privileged sandbox is shown, beside the usual ones, where it cannot make nodes.
const MOST_BOUND_DEVICES: usize = 200;
const ETC_FILES: [&str; 3] = ["hosts", "hostname", "resolv.conf"];

impl Sandbox {
    /// Works out everything between this sandbox and its process. Nothing is made yet.
    pub fn plan(&self) -> Result<SetupPlan> {
        plan(self, &Host::probe(self.privileged, self.init)?)
    }
}

/// As `Sandbox::plan`, on a machine as described.
pub(crate) fn plan(sandbox: &Sandbox, host: &Host) -> Result<SetupPlan> {
    let mut planner =
        Planner { sandbox, host, prepare: Vec::new(), ops: Vec::new(), points: Vec::new(), notes: Vec::new() };
    let program = planner.program()?;
    planner.guard();
    match &sandbox.base {
        Base::Running(container) => planner.enter(container)?,
        Base::Rootfs(_) => planner.build_walls()?,
    }
    planner.surroundings()?;
    planner.privileges()?;
    planner.stdio()?;
    let (namespaces, birth) = sandbox.new_namespaces(host)?;
    let Planner { prepare, ops, notes, .. } = planner;
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
        self.push(Op::PrivateMounts);
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

    fn stage(&mut self) {
        // A hook that sees the host's root sees all of it.
        let aside = self.sandbox.hooks.create.is_empty();
        self.push(Op::Stage(Slot::Stage, if aside { StagePlace::Aside } else { StagePlace::Root }));
    }

    /// /proc, /dev and /sys: made of kernel objects before any path that an image chose is walked.
    fn runtime_mounts(&mut self) {
        self.stage();
        for (slot, mount) in ordered(&self.sandbox.mounts) {
            if matches!(mount, Mount::Tree { .. }) {
                // Not over the root: `..` in it would then lead up into what lies over it.
                self.push(Op::Attach { slot, at: place(Slot::Stage, &slot.to_string()) });
            }
        }
        self.push(Op::Stage(Slot::Root, StagePlace::Root));
        for directory in ["proc", "dev", "sys"] {
            self.point(directory, PointKind::Directory);
        }
        self.proc(QUIET);
        self.devices();
        let read_only = if self.sandbox.privileged { 0 } else { ATTR_RDONLY };
        self.sys(QUIET | read_only);
        self.cgroup_views(QUIET | read_only);
    }

    fn proc(&mut self, attributes: u64) {
        if !self.sandbox.shows_hosts_processes(self.host) {
            return self.kernel(KernelFilesystem::Proc, Slot::Proc, attributes, place(Slot::Root, "proc"));
        }
        let source = BindSource::Path("/proc".into());
        let bind = Preparation::Bind { source, attributes, reach: Reach::Below, mapped: false };
        self.attach(Slot::Proc, bind, place(Slot::Root, "proc"));
        self.notes.push(
            "its processes are not apart from those outside, for /proc is covered in part here: \
             --security-opt systempaths=unconfined for the container around this helps"
                .to_owned(),
        );
    }

    /// Sysfs shows devices of a network, so only the owner of that network may make it: another shows the machine's own. Where
    /// that is covered in part, as in containers, there is none but that.
    fn sys(&mut self, attributes: u64) {
        let covered = self.host.covered_sys || matches!(self.sandbox.network, NetworkMode::Host);
        if self.host.user_namespace && covered {
            let source = BindSource::Path("/sys".into());
            let bind = Preparation::Bind { source, attributes, reach: Reach::Below, mapped: false };
            self.attach(Slot::Sys, bind, place(Slot::Root, "sys"));
        } else {
            self.kernel(KernelFilesystem::Sysfs, Slot::Sys, attributes, place(Slot::Root, "sys"));
        }
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

    /// A sandbox may make device nodes (docker grants MKNOD) but not open them: every mount that it can write is nodev,
    /// and the usual devices are bound one by one from a mount that it cannot reach.
    fn devices(&mut self) {
        let console = matches!(self.sandbox.stdio, Stdio::Terminal(_));
        let bound = self.bound_devices();
        let dev = match self.makes_devices() {
            true => {
                let places = if console { vec![c"console".to_owned()] } else { Vec::new() };
                Fresh::Dev { places, devices: self.host.devices.clone(), attributes: ATTR_NOSUID }
            }
            false => device_places(&bound, console, self.nodev()),
        };
        self.attach(Slot::Dev, Preparation::Fresh(dev), place(Slot::Root, "dev"));
        for (number, device) in (0_u8..).zip(bound) {
            let at = Place { base: Slot::Dev, path: device.name };
            if self.host.user_namespace {
                let path = Path::new("/dev").join(OsStr::from_bytes(at.path.to_bytes()));
                let (source, reach) = (BindSource::Path(path), Reach::One);
                let bind = Preparation::Bind { source, attributes: 0, reach, mapped: false };
                self.attach(Slot::Device(number), bind, at);
            } else {
                self.bind(Place { base: Slot::Stage, path: at.path.clone() }, at, 0, Missing::Fail);
            }
        }
        self.attach(Slot::Pts, self.terminals(), place(Slot::Dev, "pts"));
        if self.sandbox.shm_size > 0 || self.sandbox.shared_memory.is_some() {
            self.attach(Slot::Shm, self.shared_memory(), place(Slot::Dev, "shm"));
        }
        self.kernel(KernelFilesystem::Mqueue, Slot::Mqueue, QUIET, place(Slot::Dev, "mqueue"));
        if console {
            self.bind(place(Slot::Pts, "0"), place(Slot::Dev, "console"), 0, Missing::Fail);
        }
    }

    /// A privileged sandbox has the machine's devices as nodes of its own, where nodes can be made.
    fn makes_devices(&self) -> bool {
        self.sandbox.privileged && !self.host.user_namespace
    }

    /// The devices that are shown one by one.
    fn bound_devices(&self) -> Vec<Device> {
        let mut devices = if self.makes_devices() { Vec::new() } else { usual_devices() };
        if self.sandbox.privileged && self.host.user_namespace {
            let known = |device: &Device| devices.iter().any(|usual| usual.name == device.name);
            let others: Vec<Device> = self.host.devices.iter().filter(|device| !known(device)).cloned().collect();
            devices.extend(others.into_iter().take(MOST_BOUND_DEVICES));
        }
        devices
    }

    fn bind(&mut self, from: Place, at: Place, attributes: u64, missing: Missing) {
        self.push(Op::Bind { from, at, attributes, reach: Reach::One, missing });
    }

    fn etc_files(&mut self) -> Result<()> {
        let own: HashSet<&Path> = self.sandbox.mounts.iter().map(|mount| mount.target().as_path()).collect();
        let mut files = Vec::new();
        let mut places = Vec::new();
        for (name, content) in ETC_FILES.into_iter().zip(self.etc_contents()) {
            let name_c = c_string("files", OsStr::new(name))?;
            let content = Content::from(content.as_slice());
            files.push(StagedFile {
                name: name_c,
                content,
                mode: 0o644,
                uid: self.outer_user(0),
                gid: self.outer_group(0),
            });
            let target = Path::new("/etc").join(name);
            if own.contains(target.as_path()) {
                continue;
            }
            self.points.push(MountPoint { target: Target::new(&target)?, kind: PointKind::File });
            let at = place(Slot::Root, &format!("etc/{name}"));
            self.bind(place(Slot::Stage, name), at, 0, Missing::Note);
        }
        for (slot, mount) in ordered(&self.sandbox.mounts) {
            let name = c_string("files", OsStr::new(&slot.to_string()))?;
            match mount {
                Mount::File { content, mode, uid, gid, .. } => {
                    let (uid, gid) = (self.outer_user(*uid), self.outer_group(*gid));
                    files.push(StagedFile { name, content: content.clone(), mode: *mode, uid, gid });
                }
                Mount::Tree { .. } => places.push(name),
                Mount::Bind { .. } | Mount::Tmpfs { .. } | Mount::Detached { .. } => {}
            }
        }
        let devices = if self.host.user_namespace { Vec::new() } else { self.bound_devices() };
        self.prepare.push((Slot::Stage, Preparation::Fresh(Fresh::Stage { files, devices, places })));
        Ok(())
    }

    fn etc_contents(&self) -> [Vec<u8>; 3] {
        let Sandbox { hostname, files, network, .. } = self.sandbox;
        let mut hosts = match files.hosts.is_empty() {
            true => format!("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n127.0.1.1\t{hostname}\n")
                .into_bytes(),
            false => files.hosts.clone(),
        };
        for (name, address) in &files.extra_hosts {
            hosts.extend_from_slice(format!("{address}\t{name}\n").as_bytes());
        }
        let resolv_conf = match (files.resolv_conf.is_empty(), network) {
            (true, NetworkMode::Host) => self.host.resolv_conf.clone(),
            _ => files.resolv_conf.clone(),
        };
        [hosts, format!("{hostname}\n").into_bytes(), resolv_conf]
    }

    fn restrict(&mut self) -> Result<()> {
        if self.sandbox.privileged {
            return Ok(());
        }
        for path in &self.sandbox.read_only_paths {
            let at = kernel_place(path, "read_only_paths")?;
            let (from, reach) = (at.clone(), Reach::Below);
            self.push(Op::Bind { from, at, attributes: ATTR_RDONLY, reach, missing: Missing::Skip });
        }
        for path in &self.sandbox.masked {
            let at = kernel_place(path, "masked")?;
            self.push(Op::Mask(at));
        }
        Ok(())
    }

    /// Outer targets come before inner ones, whatever the order of the request.
    fn own_mounts(&mut self) -> Result<()> {
        if self.sandbox.mounts.len() > MOST_MOUNTS {
            return Err(Error::invalid("mounts", format!("at most {MOST_MOUNTS} are possible")));
        }
        let mut mounts: Vec<(Target, Slot, &Mount)> = Vec::new();
        for (slot, mount) in ordered(&self.sandbox.mounts) {
            let target = Target::new(mount.target())?;
            if target.relative().starts_with("proc") {
                return Err(Error::invalid("mounts", "/proc belongs to the kernel; mount somewhere else"));
            }
            mounts.push((target, slot, mount));
        }
        let outer: HashSet<PathBuf> = mounts.iter().map(|(target, ..)| target.relative().to_owned()).collect();
        let sandbox_users = self.sandbox.users.is_some();
        let mut restricted = Vec::new();
        for (target, slot, mount) in mounts {
            let nodev = self.nodev();
            match mount {
                Mount::File { .. } => {
                    let from = place(Slot::Stage, &slot.to_string());
                    self.push(Op::Show { from, target, attributes: QUIET | ATTR_RDONLY });
                    continue;
                }
                Mount::Tree { rootfs, path, read_only, .. } => {
                    self.prepare.push((slot, Preparation::Tree(Arc::clone(rootfs))));
                    let path = path.strip_prefix("/").unwrap_or(path);
                    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
                    let from = Place { base: slot, path: c_string("mount source", path.as_os_str())? };
                    let attributes = nodev | if *read_only { ATTR_RDONLY } else { 0 };
                    self.push(Op::Show { from, target, attributes });
                    continue;
                }
                Mount::Bind {
                    source: BindSource::Path(path), read_only, recursive, propagation: Some(spread), ..
                } => {
                    let set = nodev | if *read_only { ATTR_RDONLY } else { 0 };
                    let all = MountAttributes { set, clear: 0 };
                    let (reach, below) = match *recursive {
                        true => (Reach::Below, all),
                        false => (Reach::One, MountAttributes::default()),
                    };
                    let (source, propagation) = (path.clone(), Some(*spread));
                    let bind = Preparation::GivenBind { source, reach, attributes: all, recursive: below, propagation };
                    self.prepare.push((slot, bind));
                }
                Mount::Bind { source, read_only, recursive, mapped, .. } => {
                    let attributes = nodev | if *read_only { ATTR_RDONLY } else { 0 };
                    let reach = if *recursive { Reach::Below } else { Reach::One };
                    let (source, mapped) = (source.clone(), *mapped && sandbox_users);
                    self.prepare.push((slot, Preparation::Bind { source, attributes, reach, mapped }));
                }
                Mount::Tmpfs { size, mode, executable, .. } => {
                    let tmpfs = Preparation::Fresh(Fresh::Tmpfs { size: *size, mode: *mode, executable: *executable });
                    self.prepare.push((slot, tmpfs));
                }
                Mount::Detached { mount, read_only, .. } => {
                    self.prepare.push((slot, Preparation::Mounted(Arc::clone(mount))));
                    restricted.extend(read_only.then_some(slot));
                }
            }
            // What lies inside another mount is made after that mount is there, by the new process.
            let inside = |path: &Path| outer.contains(path) || path.starts_with("dev") || path.starts_with("sys");
            if !target.relative().ancestors().skip(1).any(inside) {
                self.points.push(MountPoint { target: target.clone(), kind: PointKind::LikeSource(slot) });
            }
            self.push(Op::Mount { slot, target });
        }
        for slot in restricted {
            self.push(Op::Restrict { slot, attributes: ATTR_RDONLY });
        }
        Ok(())
    }

    /// Comes last, so that mount points can be made like the sources that are open by then.
    fn root(&mut self) {
        let read_only = if self.sandbox.read_only { ATTR_RDONLY } else { 0 };
        let attributes = read_only | self.nodev();
        let mount_points = std::mem::take(&mut self.points);
        self.prepare.push((Slot::Root, Preparation::Root { attributes, mount_points }));
        self.push(Op::PivotRoot);
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

    /// The filter comes first: loading it needs the privileges that the next steps give up.
    fn privileges(&mut self) -> Result<()> {
        let sandbox = self.sandbox;
        let asked = if sandbox.privileged { CapabilitySet::from_bits(u64::MAX) } else { sandbox.capabilities };
        let granted = asked.intersection(self.host.capabilities);
        if sandbox.no_new_privileges {
            self.push(Op::NoNewPrivileges);
        }
        match &sandbox.seccomp {
            Seccomp::Default if !sandbox.privileged => self.filter(granted),
            // Without new privileges a filter may come last, where it need not allow what the steps before do.
            Seccomp::Profile(profile) if !sandbox.no_new_privileges => {
                self.push(Op::Filter(seccomp::Program::custom(profile)?));
            }
            Seccomp::Default | Seccomp::Unconfined | Seccomp::Profile(_) => {}
        }
        let sets = sandbox.capability_sets;
        let asked = sets.map_or(asked, |sets| sets.bounding);
        if sets.is_some_and(|sets| sets.permitted != CapabilitySet::EMPTY) && sandbox.user.uid != 0 {
            self.push(Op::KeepCapabilities);
        }
        if self.pretend()
            && let Some(program) = pretend::filter()
        {
            self.prepare.push((Slot::Ids, Preparation::Socket));
            self.push(Op::Pretend(program));
        }
        self.push(Op::BoundingSet { keep: asked, last: self.host.last_capability });
        let mut groups = sandbox.user.groups.clone();
        if !groups.contains(&sandbox.user.gid) {
            groups.insert(0, sandbox.user.gid);
        }
        // Where ids are pretended, the process stays who it is: user 0, the only one that there is.
        if !self.pretend() {
            let groups = Some(groups).filter(|_| self.host.may_set_groups);
            self.push(Op::Ids { uid: sandbox.user.uid, gid: sandbox.user.gid, groups });
        }
        // Any other user lost effective and permitted with the change of ids; the call still empties the rest.
        let root = sandbox.user.uid == 0;
        match sets {
            Some(sets) => self.push(Op::CapabilitySets(self.had(sets))),
            None => self.push(Op::Capabilities(if root { granted } else { CapabilitySet::EMPTY })),
        }
        Ok(())
    }

    /// What this machine can give of them.
    fn had(&self, sets: CapabilitySets) -> CapabilitySets {
        let had = |set: CapabilitySet| set.intersection(self.host.capabilities);
        let (permitted, inheritable) = (had(sets.permitted), had(sets.inheritable));
        CapabilitySets {
            bounding: sets.bounding,
            effective: sets.effective.intersection(permitted),
            permitted,
            inheritable,
            // The kernel takes only what both others have.
            ambient: sets.ambient.intersection(permitted).intersection(inheritable),
        }
    }

    /// Whether ids are those of a table and not the kernel's.
    fn pretend(&self) -> bool {
        self.sandbox.pretend.is_some()
    }

    fn filter(&mut self, granted: CapabilitySet) {
        match seccomp::Program::standard(granted) {
            Some(program) => self.push(Op::Filter(program)),
            None => self.notes.push("system calls are not filtered: there is no list for this architecture".to_owned()),
        }
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

    fn program(&self) -> Result<Program> {
        let Sandbox { argv, env, .. } = self.sandbox;
        let name = argv.first().ok_or_else(|| Error::invalid("command", "is empty; give a program to run"))?;
        let env = env.iter().map(|(name, value)| environment(name, value)).collect::<Result<_>>()?;
        Ok(Program {
            name: name.to_string_lossy().escape_debug().to_string(),
            candidates: self.candidates(name)?,
            argv: argv.iter().map(|word| c_string("command", word)).collect::<Result<_>>()?,
            env,
        })
    }

    /// Relative entries of PATH are passed over: what they mean would depend on the working directory.
    fn candidates(&self, name: &OsStr) -> Result<Vec<CString>> {
        if name.as_bytes().contains(&b'/') {
            return Ok(vec![c_string("command", name)?]);
        }
        if name.is_empty() {
            return Ok(Vec::new());
        }
        let path = self.sandbox.env.iter().rev().find(|(key, _)| key == "PATH").map(|(_, value)| value.as_os_str());
        path.unwrap_or(OsStr::new(DEFAULT_PATH))
            .as_bytes()
            .split(|byte| *byte == b':')
            .filter(|directory| directory.starts_with(b"/"))
            .map(|directory| c_string("command", Path::new(OsStr::from_bytes(directory)).join(name).as_os_str()))
            .collect()
    }
}

/// The caller's mounts with their slots, outer targets first.
fn ordered(mounts: &[Mount]) -> Vec<(Slot, &Mount)> {
    let mut sorted: Vec<&Mount> = mounts.iter().collect();
    sorted.sort_by_key(|mount| mount.target().components().filter(|part| *part != Component::CurDir).count());
    (0_u16..).map(Slot::Mount).zip(sorted).collect()
}

fn environment(name: &OsString, value: &OsString) -> Result<CString> {
    if name.is_empty() || name.as_bytes().contains(&b'=') {
        return Err(Error::invalid("environment", format!("{name:?} is no name; names are not empty and have no '='")));
    }
    let mut entry = name.clone();
    entry.push("=");
    entry.push(value);
    c_string("environment", &entry)
}

fn c_string(field: &'static str, text: &OsStr) -> Result<CString> {
    CString::new(text.as_bytes()).map_err(|_| Error::invalid(field, "contains a zero byte"))
}

fn place(base: Slot, path: &str) -> Place {
    Place { base, path: CString::new(path).unwrap_or_default() }
}

/// A path below /proc or /sys, seen from the mount that the sandbox itself makes there.
fn kernel_place(path: &Path, field: &'static str) -> Result<Place> {
    let target = Target::new(path)?;
    let relative = target.relative();
    let (base, rest) = if let Ok(rest) = relative.strip_prefix("proc") {
        (Slot::Proc, rest)
    } else if let Ok(rest) = relative.strip_prefix("sys") {
        (Slot::Sys, rest)
    } else {
        return Err(Error::invalid(field, format!("{}: only paths below /proc and /sys are possible", path.display())));
    };
    if rest.as_os_str().is_empty() {
        return Err(Error::invalid(field, format!("{}: name something below it", path.display())));
    }
    Ok(Place { base, path: c_string(field, rest.as_os_str())? })
}

/// The /dev of a sandbox that makes no nodes.
fn device_places(bound: &[Device], console: bool, nodev: u64) -> Fresh {
    let mut places: Vec<CString> = bound.iter().map(|device| device.name.clone()).collect();
    if console {
        places.push(c"console".to_owned());
    }
    Fresh::Dev { places, devices: Vec::new(), attributes: ATTR_NOSUID | ATTR_NOEXEC | nodev }
}

/// What nearly every sandbox has, whatever it is for and whatever it is called.
pub(crate) fn usual_parts(shm_size: u64, console: bool) -> [Fresh; 3] {
    [
        device_places(&usual_devices(), console, ATTR_NODEV),
        Fresh::Pts { group: Some(users::TTY) },
        join::own_shared_memory(shm_size),
    ]
}

fn usual_devices() -> Vec<Device> {
    [(c"null", 1, 3), (c"zero", 1, 5), (c"full", 1, 7), (c"random", 1, 8), (c"urandom", 1, 9), (c"tty", 5, 0)]
        .into_iter()
        .map(|(name, major, minor)| Device {
            name: name.to_owned(),
            kind: DeviceKind::Character,
            mode: 0o666,
            major,
            minor,
        })
        .collect()
}
