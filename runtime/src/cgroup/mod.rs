//! `Cgroup`: a control group as the place of a sandbox. It limits, counts, freezes and ends processes, and is the same to
//! its users whether the machine has version 1 (one directory for each controller), version 2, or both at once.
mod delegated;
mod devices;
mod file;
mod limits;
mod make;
mod place;
mod probe;
mod stats;
mod sweep;
mod v1;
mod v2;

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::io::Errno;

pub use delegated::{Delegated, delegated_control_group};
pub use devices::{DeviceAccess, DeviceClass, DeviceRule, DeviceSet};
pub use limits::{Bound, DeviceWeight, Resources, Throttle, ThrottleKind};
pub use make::Extent;
pub use probe::Controller;
pub use stats::{CgroupStats, CpuStats, IoStats, MemoryStats};
pub use sweep::sweep_control_groups;

use crate::error::{Error, Result};
use crate::signal::Signal;
use file::{errno_of, keyed, write};
use probe::{Hierarchy, unified_controllers};

/// The group below which those of this program are, where nobody names another.
pub const CGROUP_PARENT: &str = "dunnage";

/// How long the kernel gets to freeze processes, or to forget those that have ended.
const PATIENCE: Duration = Duration::from_secs(10);

/// A control group. It stays when this value goes; [`Cgroup::remove`] takes it away.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
    /// Where version 2 begins for it: what was handed to this user, or the root.
    base: PathBuf,
    v1: Vec<Place1>,
    v2: Option<Place2>,
    /// Where it is in hierarchies in which this process did not make it: a limit that is set later may.
    elsewhere: Vec<PathBuf>,
    /// Whether memory may run out in it before it does on the machine, as far as its maker knows.
    bounds_memory: bool,
    /// Locked as long as its maker lives: one that nobody holds and nobody is in was left behind by a kill.
    _held: Option<File>,
}

/// Its directory in a hierarchy of version 1.
#[derive(Debug)]
struct Place1 {
    hierarchy: Hierarchy,
    directory: PathBuf,
    /// The file by which a process joins; absent where it may not be written.
    entrance: Option<OwnedFd>,
}

/// Its directory in version 2.
#[derive(Debug)]
struct Place2 {
    mount: PathBuf,
    directory: PathBuf,
    descriptor: OwnedFd,
}

impl Cgroup {
    /// The group `path`, if there is one in any hierarchy.
    pub fn open(path: impl AsRef<Path>) -> Result<Option<Cgroup>> {
        let path = relative(path.as_ref())?;
        let (hierarchies, base) = delegated::hierarchies_for(&path)?;
        let mut group = Cgroup { base, ..Cgroup::nowhere(&path) };
        for hierarchy in hierarchies.v1 {
            let directory = hierarchy.mount.join(&group.path);
            if directory.is_dir() {
                group.v1.push(Place1::open(hierarchy, directory));
            }
        }
        if let Some(mount) = hierarchies.v2.filter(|mount| mount.join(&group.path).is_dir()) {
            group.v2 = Some(Place2::open(&mount, &group.path)?);
        }
        Ok((!group.v1.is_empty() || group.v2.is_some()).then_some(group))
    }

    fn nowhere(path: &Path) -> Cgroup {
        let path = path.to_owned();
        let base = PathBuf::new();
        Cgroup { path, base, v1: Vec::new(), v2: None, elsewhere: Vec::new(), bounds_memory: true, _held: None }
    }

    /// Whether memory may run out in it before it does on the machine.
    pub(crate) fn bounds_memory(&self) -> bool {
        self.bounds_memory
    }

    /// Where it is, counted from the roots of the hierarchies.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// By which path any process finds it that was made below what was handed to this user; `None` where that is
    /// [`Cgroup::path`].
    #[must_use]
    pub fn delegated_path(&self) -> Option<PathBuf> {
        (!self.base.as_os_str().is_empty()).then(|| self.base.join(&self.path))
    }

    /// Its directories, each with the controllers it has in version 1; the one of version 2 has none there. The last is the
    /// one by which the group is known.
    pub fn directories(&self) -> impl Iterator<Item = (&[Controller], &Path)> {
        let v1 = self.v1.iter().rev().map(|place| (place.hierarchy.controllers.as_slice(), place.directory.as_path()));
        v1.chain(self.v2.iter().map(|place| (<&[Controller]>::default(), place.directory.as_path())))
    }

    fn apply(&self, resources: &Resources) -> Result<()> {
        for place in &self.v1 {
            for controller in &place.hierarchy.controllers {
                v1::apply(*controller, &place.directory, resources)?;
            }
        }
        let Some(place) = &self.v2 else { return Ok(()) };
        let controllers = unified_controllers(&place.directory).unwrap_or_default();
        v2::apply(&place.directory, &controllers, resources)?;
        if !self.has_v1(Controller::Devices) {
            v2::restrict_devices(&place.descriptor, resources)?;
        }
        Ok(())
    }

    fn has_v1(&self, controller: Controller) -> bool {
        self.v1_place(controller).is_some()
    }

    fn v1_place(&self, controller: Controller) -> Option<&Path> {
        let place = self.v1.iter().find(|place| place.hierarchy.controllers.contains(&controller));
        place.map(|place| place.directory.as_path())
    }

    fn v2_place(&self, controller: Controller) -> Option<&Path> {
        let place = self.v2.as_ref()?;
        unified_controllers(&place.directory).is_ok_and(|all| all.contains(&controller)).then_some(&place.directory)
    }

    /// Whether it has this controller.
    #[must_use]
    pub fn has(&self, controller: Controller) -> bool {
        self.has_v1(controller) || self.v2_place(controller).is_some()
    }

    /// What its processes use. What no controller of it counts is summed over the processes that live. `dunnage stats` calls
    /// this.
    #[must_use]
    pub fn stats(&self) -> CgroupStats {
        let mut stats = CgroupStats::default();
        if let Some(directory) = self.v1_place(Controller::Memory) {
            stats.memory = stats::memory_v1(directory);
        } else if let Some(directory) = self.v2_place(Controller::Memory) {
            stats.memory = stats::memory_v2(directory);
        } else {
            stats.memory = stats::memory_of(&self.processes().unwrap_or_default());
        }
        match (self.v1_place(Controller::Cpuacct), self.v1_place(Controller::Cpu), &self.v2) {
            (None, None, Some(place)) => stats::cpu_v2(&place.directory, &mut stats.cpu),
            (usage, quota, unified) => {
                match (usage, unified) {
                    (Some(directory), _) => stats::cpuacct_v1(directory, &mut stats.cpu),
                    (None, Some(place)) => stats::cpu_v2(&place.directory, &mut stats.cpu),
                    (None, None) => {}
                }
                if let Some(directory) = quota {
                    stats::cpu_v1(directory, &mut stats.cpu);
                }
            }
        }
        match self.v1_place(Controller::Pids).or_else(|| self.v2_place(Controller::Pids)) {
            Some(directory) => {
                stats.pids = file::read_number(&directory.join("pids.current")).unwrap_or(0);
                stats.pids_limit = file::read_number(&directory.join("pids.max"));
            }
            None => stats.pids = self.processes().map_or(0, |all| all.len() as u64),
        }
        stats.io = match self.v1_place(Controller::Blkio) {
            Some(directory) => stats::io_v1(directory),
            None => match self.v2_place(Controller::Blkio) {
                Some(directory) => stats::io_v2(directory),
                None => stats::io_of(&self.processes().unwrap_or_default()),
            },
        };
        stats
    }

    /// How many of its processes were killed because memory ran out; zero where nobody counts.
    #[must_use]
    pub fn oom_kills(&self) -> u64 {
        let (directory, file) = match (self.v1_place(Controller::Memory), self.v2_place(Controller::Memory)) {
            (Some(directory), _) => (directory, "memory.oom_control"),
            (None, Some(directory)) => (directory, "memory.events"),
            (None, None) => return 0,
        };
        let text = std::fs::read_to_string(directory.join(file)).unwrap_or_default();
        keyed(&text, "oom_kill").unwrap_or(0)
    }

    /// Its processes and those of the groups below it, as this process counts. `dunnage top` calls this.
    pub fn processes(&self) -> Result<Vec<u32>> {
        let Some(directory) = self.any_place() else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        place::processes(directory, &mut found).map_err(Error::cgroup(directory, "listing its processes"))?;
        Ok(found)
    }

    /// All of its directories hold the same processes; some of version 1 may be missing.
    fn any_place(&self) -> Option<&Path> {
        let best = [Controller::Freezer, Controller::Memory, Controller::Pids];
        let best = || best.into_iter().find_map(|controller| self.v1_place(controller));
        self.v2
            .as_ref()
            .map(|place| place.directory.as_path())
            .or_else(best)
            .or_else(|| self.v1.first().map(|place| place.directory.as_path()))
    }

    /// Stops all its processes where they are, and returns when all have stopped. `dunnage pause` calls this.
    pub fn freeze(&self) -> Result<()> {
        self.set_frozen(true)
    }

    /// Lets them go on. `dunnage unpause` calls this.
    pub fn thaw(&self) -> Result<()> {
        self.set_frozen(false)
    }

    /// Whether its processes are stopped. `dunnage ps` asks this.
    #[must_use]
    pub fn is_frozen(&self) -> bool {
        let read = |directory: &Path, file| std::fs::read_to_string(directory.join(file)).unwrap_or_default();
        if self.v2.as_ref().is_some_and(|place| read(&place.directory, "cgroup.freeze").trim() == "1") {
            return true;
        }
        // Version 1 says FREEZING until the last of them has stopped.
        self.v1_place(Controller::Freezer).is_some_and(|directory| read(directory, "freezer.state").trim() != "THAWED")
    }

    fn set_frozen(&self, frozen: bool) -> Result<()> {
        let begun = Instant::now();
        if let Some(place) = self.v2.as_ref().filter(|place| place.directory.join("cgroup.freeze").exists()) {
            let failed = || Error::cgroup(&place.directory, if frozen { "freezing it" } else { "thawing it" });
            write(&place.directory.join("cgroup.freeze"), if frozen { "1" } else { "0" }).map_err(failed())?;
            let state = || std::fs::read_to_string(place.directory.join("cgroup.events")).unwrap_or_default();
            while frozen && keyed(&state(), "frozen") != Some(1) {
                // One whose last process has ended freezes no more, and may be gone.
                if !state().contains("populated 1") {
                    return Err(failed()(std::io::ErrorKind::NotFound.into()));
                }
                wait(begun).map_err(failed())?;
            }
            return Ok(());
        }
        let Some(directory) = self.v1_place(Controller::Freezer) else {
            return Err(no_controller(Controller::Freezer, if frozen { "pause" } else { "unpause" }));
        };
        let failed = || Error::cgroup(directory, if frozen { "freezing it" } else { "thawing it" });
        let (state, wanted) = (directory.join("freezer.state"), if frozen { "FROZEN" } else { "THAWED" });
        loop {
            // A process that was just being made is caught by writing again.
            write(&state, wanted).map_err(failed())?;
            if std::fs::read_to_string(&state).map_err(failed())?.trim() == wanted {
                return Ok(());
            }
            if let Err(error) = wait(begun) {
                let _ = write(&state, "THAWED");
                return Err(failed()(error));
            }
        }
    }

    /// Sends a signal to every process in it; SIGKILL also reaches those that are just being made, and frozen ones.
    pub fn kill(&self, signal: Signal) -> Result<()> {
        if signal != Signal::KILL {
            return self.processes()?.into_iter().try_for_each(|pid| place::signal(pid, signal));
        }
        if self.v2.as_ref().is_some_and(|place| write(&place.directory.join("cgroup.kill"), "1").is_ok()) {
            return Ok(());
        }
        let begun = Instant::now();
        loop {
            let processes = self.processes()?;
            if processes.is_empty() {
                return Ok(());
            }
            processes.into_iter().try_for_each(|pid| place::signal(pid, signal))?;
            if self.v1_place(Controller::Freezer).is_some() && self.is_frozen() {
                self.thaw()?;
            }
            wait(begun).map_err(Error::cgroup(&self.path, "ending its processes"))?;
        }
    }

    /// Takes it and the groups below it away. Its processes must have ended; one that is gone already is no error.
    pub fn remove(&self) -> Result<()> {
        let begun = Instant::now();
        let elsewhere = self.elsewhere.iter().map(PathBuf::as_path);
        for directory in elsewhere.chain(self.directories().map(|(_, directory)| directory)) {
            loop {
                match place::remove(directory) {
                    Ok(()) => break,
                    // The kernel forgets an ended process a moment after its parent has heard of it.
                    Err(error) if errno_of(&error) == Errno::BUSY && wait(begun).is_ok() => {}
                    Err(error) => return Err(Error::cgroup(directory, "removing it")(error)),
                }
            }
        }
        let v1 = self.v1.iter().map(|place| &place.hierarchy.mount);
        let mounts = v1.chain(self.v2.iter().map(|place| &place.mount));
        mounts.for_each(|mount| place::remove_own_parents(mount, &self.path));
        Ok(())
    }

    /// What the views of version 1 in a sandbox are named, how they are mounted, and the directories behind them.
    pub(crate) fn views(&self) -> impl Iterator<Item = (&str, &Path)> {
        self.v1.iter().map(|place| (place.hierarchy.options.as_str(), place.directory.as_path()))
    }

    /// The directory that a new process is cloned into.
    pub(crate) fn unified(&self) -> Option<BorrowedFd<'_>> {
        self.v2.as_ref().map(|place| place.descriptor.as_fd())
    }

    /// Whether a process must still join it after it was cloned.
    pub(crate) fn has_entrances(&self) -> bool {
        self.v1.iter().any(|place| place.entrance.is_some())
    }

    /// Lets the calling process join where version 1 is. Does not allocate.
    pub(crate) fn join(&self) -> Result<(), Errno> {
        for entrance in self.v1.iter().filter_map(|place| place.entrance.as_ref()) {
            rustix::io::write(entrance, b"0")?;
        }
        Ok(())
    }
}

/// Sleeps a moment, until the patience is at its end.
fn wait(begun: Instant) -> std::io::Result<()> {
    if begun.elapsed() > PATIENCE {
        return Err(std::io::ErrorKind::TimedOut.into());
    }
    std::thread::sleep(Duration::from_millis(2));
    Ok(())
}

fn no_controller(controller: Controller, limit: &'static str) -> Error {
    let reason = format!(
        "this machine has no {controller} controller; mount it, or boot with cgroup_enable={controller}, or leave it out"
    );
    Error::Limit { limit, reason }
}

/// A path below the roots of the hierarchies.
fn relative(path: &Path) -> Result<PathBuf> {
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(name) => clean.push(name),
            Component::ParentDir | Component::Prefix(_) => {
                return Err(Error::invalid("control group", format!("{}: must not contain '..'", path.display())));
            }
        }
    }
    if clean.as_os_str().is_empty() {
        return Err(Error::invalid("control group", "must not be the root itself"));
    }
    Ok(clean)
}
