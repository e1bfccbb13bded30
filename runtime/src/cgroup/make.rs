//! Making a control group, and making it in more hierarchies when a limit comes later.
use std::collections::HashSet;
use std::path::Path;
use std::time::Instant;

use rustix::io::Errno;

use super::file::{errno_of, write};
use super::place::{self, Made};
use super::probe::{Controller, Hierarchies};
use super::{CGROUP_PARENT, Cgroup, Place1, Place2, Resources, delegated, no_controller, relative, sweep, v1, wait};
use crate::error::{Error, Result};

/// In which hierarchies of version 1 a group is made, where there is version 2 as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// In all: everything is counted from the beginning, and shown to programs that look for it.
    Whole,
    /// Where something is asked of it. Version 2 is enough to freeze, end and tell apart processes, and they are born in it;
    /// one that joins version 1 waits milliseconds for the kernel.
    Asked,
}

impl Cgroup {
    /// Makes the group `path`, counted from the roots of the hierarchies, such as `dunnage/ID`, and sets its limits. One that
    /// is there already is taken over. When a limit cannot be had, nothing stays behind.
    ///
    /// # Errors
    /// [`Error::Limit`] names the limit, the controller and the remedy.
    pub fn create(path: impl AsRef<Path>, extent: Extent, resources: &Resources) -> Result<Cgroup> {
        let path = relative(path.as_ref())?;
        let (hierarchies, base) = delegated::hierarchies_for(&path)?;
        let needs = resources.needs();
        for (controller, limit) in &needs {
            let in_v1 = hierarchies.v1.iter().any(|hierarchy| hierarchy.controllers.contains(controller));
            if !in_v1 && hierarchies.v2.is_none() {
                return Err(no_controller(*controller, limit));
            }
        }
        let own = path.starts_with(CGROUP_PARENT);
        // Held until the new group is: nobody takes it for one that was left behind.
        let entering = if own { sweep::enter(&hierarchies) } else { None };
        let mut made = Made::default();
        let held = if own { sweep::hold(&hierarchies, &path, &mut made) } else { None };
        let mut group = Cgroup::make(&path, extent, resources, hierarchies, &mut made)?;
        group._held = held;
        group.base = base;
        drop(entering);
        group.apply(resources)?;
        made.keep();
        Ok(group)
    }

    fn make(
        path: &Path,
        extent: Extent,
        resources: &Resources,
        hierarchies: Hierarchies,
        made: &mut Made,
    ) -> Result<Cgroup> {
        let needs = resources.needs();
        let mut group = Cgroup::nowhere(path);
        let in_unified = hierarchies.v2.as_ref().is_some_and(|mount| mount.join(path).is_dir());
        let mut in_v2 = needs.clone();
        for hierarchy in hierarchies.v1 {
            let has = |controller| hierarchy.controllers.contains(&controller);
            in_v2.retain(|(controller, _)| !has(*controller));
            let needed = needs.iter().find(|(controller, _)| has(*controller)).map(|(_, limit)| *limit);
            let needed =
                needed.or((has(Controller::Devices) && !resources.devices.is_empty()).then_some("device rule"));
            let directory = hierarchy.mount.join(path);
            if extent == Extent::Asked && in_unified && needed.is_none() {
                group.elsewhere.push(directory);
                continue;
            }
            match (made.directory(&hierarchy.mount, path), needed) {
                (Ok(()), _) => {}
                // Nothing was asked of this one.
                (Err(_), None) => continue,
                (Err(error), Some(limit)) => return Err(place::cannot_make(limit, &directory, &error)),
            }
            if has(Controller::Cpuset) {
                v1::inherit_cpuset(&hierarchy.mount, &directory)?;
            }
            group.v1.push(Place1::open(hierarchy, directory));
        }
        let devices_in_v2 = !resources.devices.is_empty() && !group.has_v1(Controller::Devices);
        let needed = !in_v2.is_empty() || devices_in_v2 || !resources.unified.is_empty();
        match hierarchies.v2 {
            Some(mount) => {
                let limit = in_v2.first().map_or("control group", |(_, limit)| *limit);
                match Place2::make(&mount, path, &in_v2, made) {
                    Ok(place) => group.v2 = Some(place),
                    Err(place::Refused::Limit(error)) => return Err(error),
                    Err(place::Refused::Directory(error)) if needed => {
                        return Err(place::cannot_make(limit, &mount.join(path), &error));
                    }
                    Err(place::Refused::Directory(_)) => {}
                }
            }
            None if needed => {
                let (limit, missing) =
                    if devices_in_v2 { ("device rule", "devices controller") } else { ("unified", "version 2") };
                let reason = format!("this machine has no {missing} of the control groups; mount it, or leave it out");
                return Err(Error::Limit { limit, reason });
            }
            _ => {}
        }
        Ok(group)
    }

    /// Changes limits while processes are in it; what `resources` does not name stays. `dunnage update` calls this.
    pub fn update(&self, resources: &Resources) -> Result<()> {
        if resources.needs().iter().all(|(controller, _)| self.has(*controller)) {
            return self.apply(resources);
        }
        // The limit is of a hierarchy that it is not in yet.
        Cgroup::create(&self.path, Extent::Asked, resources)?.gather()
    }

    /// Brings its processes into all hierarchies in which it is.
    fn gather(&self) -> Result<()> {
        let begun = Instant::now();
        let mut brought = HashSet::new();
        loop {
            let new: Vec<u32> = self.processes()?.into_iter().filter(|pid| brought.insert(*pid)).collect();
            if new.is_empty() {
                return Ok(());
            }
            for pid in new {
                self.take_in(pid)?;
            }
            wait(begun).map_err(Error::cgroup(&self.path, "moving its processes"))?;
        }
    }

    /// Puts a running process into it. One that has ended meanwhile is no error.
    fn take_in(&self, pid: u32) -> Result<()> {
        for (_, directory) in self.directories() {
            match write(&directory.join("cgroup.procs"), &pid.to_string()) {
                Err(error) if errno_of(&error) == Errno::SRCH => return Ok(()),
                other => other.map_err(Error::cgroup(directory, "moving a process into it"))?,
            }
        }
        Ok(())
    }
}
