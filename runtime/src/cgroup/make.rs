//! Making a control group, and making it in more hierarchies when a limit comes later.
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rustix::io::Errno;

use super::file::{errno_of, write};
use super::place::{self, Made};
use super::probe::{Controller, Hierarchies};
use super::{CGROUP_PARENT, Cgroup, Place1, Place2, Resources, delegated, no_controller, relative, sweep, v1, wait};
use crate::error::{Error, Result};

/// In which hierarchies of version 1 a group is made, and which controllers of version 2 it gets, where there are both.
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
        Cgroup::create_in(hierarchies, base, path, extent, resources)
    }

    fn create_in(
        hierarchies: Hierarchies,
        base: PathBuf,
        path: PathBuf,
        extent: Extent,
        resources: &Resources,
    ) -> Result<Cgroup> {
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
        let bounds = needs.iter().any(|(controller, _)| *controller == Controller::Memory);
        group.bounds_memory = bounds || !resources.unified.is_empty();
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
        // Where it is all there is, it counts in any case: being born in it costs nothing.
        let counted = if hierarchies.v1.is_empty() { Extent::Whole } else { extent };
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
                match Place2::make(&mount, path, &in_v2, counted, made) {
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;

    use super::*;
    use crate::cgroup::Bound;

    const SERVICE: &str = "user.slice/user-1000.slice/user@1000.service";

    /// A machine of version 2 alone, as files: what the kernel makes with a directory is there already.
    fn tree() -> tempfile::TempDir {
        let tree = tempfile::tempdir().unwrap();
        let service = tree.path().join(SERVICE);
        let group = service.join("dunnage/one");
        fs::create_dir_all(&group).unwrap();
        for (directory, given) in [(service.as_path(), "memory pids"), (&service.join("dunnage"), ""), (&group, "")] {
            let write = |file: &str, text: &str| fs::write(directory.join(file), text).unwrap();
            write("cgroup.controllers", "cpu memory pids\n");
            write("cgroup.subtree_control", given);
            write("cgroup.procs", "");
        }
        for file in ["memory.max", "memory.swap.max", "cpu.max", "pids.max"] {
            fs::write(group.join(file), "").unwrap();
        }
        tree
    }

    fn create(tree: &Path, resources: &Resources) -> Result<Cgroup> {
        let hierarchies = Hierarchies { v1: Vec::new(), v2: Some(tree.join(SERVICE)) };
        Cgroup::create_in(hierarchies, SERVICE.into(), "dunnage/one".into(), Extent::Whole, resources)
    }

    #[test]
    fn limits_of_a_user_are_written_below_what_was_handed_over() {
        let tree = tree();
        let resources = Resources {
            memory: Some(Bound::At(64 << 20)),
            memory_swap: Some(Bound::At(128 << 20)),
            pids: Some(Bound::At(50)),
            cpu_quota: Some(Bound::At(50_000)),
            cpu_period: Some(100_000),
            ..Resources::default()
        };
        let group = create(tree.path(), &resources).unwrap();
        assert_eq!(group.delegated_path(), Some(Path::new(SERVICE).join("dunnage/one")));
        assert!(group.has(Controller::Memory) && !group.has(Controller::Cpuset));
        let read = |path: &str| fs::read_to_string(tree.path().join(SERVICE).join(path)).unwrap();
        assert_eq!(read("dunnage/one/memory.max"), "67108864");
        assert_eq!(read("dunnage/one/memory.swap.max"), "67108864");
        assert_eq!(read("dunnage/one/pids.max"), "50");
        assert_eq!(read("dunnage/one/cpu.max"), "50000 100000");
        // What was not handed on yet is; nothing is asked of the groups above.
        assert_eq!(read("cgroup.subtree_control"), "+cpu");
        assert!(!tree.path().join("cgroup.subtree_control").exists());
    }

    #[test]
    fn a_controller_that_was_not_handed_over_is_named() {
        let tree = tree();
        let resources = Resources { cpuset_cpus: Some("0".to_owned()), ..Resources::default() };
        let sentence = create(tree.path(), &resources).unwrap_err().to_string();
        assert!(
            sentence.contains("the cpuset controller is not handed to") && sentence.contains(SERVICE),
            "{sentence}"
        );
    }
}
