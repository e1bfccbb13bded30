//! The processes of a running container, where no control group holds them together.
use std::fs;
use std::path::PathBuf;

use crate::cgroup::CgroupStats;
use crate::running::Running;

impl Running {
    /// Its processes, as this process counts: all in its pid namespace, or, where that is this process's own too, the first
    /// one and what descends from it. `dunnage top` calls this for a container without a control group.
    #[must_use]
    pub fn processes(&self) -> Vec<u32> {
        let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
        let own = namespace(&self.pid().to_string());
        let shared = own.is_none() || own == namespace("self");
        let listed = fs::read_dir("/proc").into_iter().flatten().flatten();
        let all: Vec<u32> = listed.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
        if shared {
            return descendants(self.pid(), &all, parent);
        }
        let is_inside = |pid: &u32| namespace(&pid.to_string()) == own;
        all.into_iter().filter(is_inside).collect()
    }

    /// What its processes that live use, summed over them. `dunnage stats` calls this for a container without a control
    /// group, of which nobody counts what those used that have ended.
    #[must_use]
    pub fn usage(&self) -> CgroupStats {
        CgroupStats::of_processes(&self.processes())
    }
}

fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(PathBuf::from(format!("/proc/{pid}/stat"))).ok()?;
    stat.rsplit(')').next()?.split_whitespace().nth(1)?.parse().ok()
}

/// Whoever was adopted by a stranger is not found: without a control group nobody knows whose it was.
fn descendants(first: u32, all: &[u32], parent: impl Fn(u32) -> Option<u32>) -> Vec<u32> {
    let parents: Vec<(u32, u32)> = all.iter().filter_map(|pid| Some((*pid, parent(*pid)?))).collect();
    let mut found = vec![first];
    let mut looked = 0;
    while let Some(one) = found.get(looked).copied() {
        looked += 1;
        let children = parents.iter().filter(|(_, parent)| *parent == one).map(|(child, _)| *child);
        let children: Vec<u32> = children.filter(|child| !found.contains(child)).collect();
        found.extend(children);
    }
    found
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn descent_goes_over_generations() {
        let parent = |pid: u32| {
            Some(match pid {
                7 => 5,
                9 => 7,
                8 => 1,
                _ => 0,
            })
        };
        assert_eq!(descendants(5, &[1, 5, 7, 8, 9], parent), [5, 7, 9]);
    }

    #[test]
    fn this_process_is_found_with_its_children_and_counted() {
        let mut child = std::process::Command::new("sleep").arg("100").spawn().unwrap();
        let me = std::process::id();
        let running = Running::find(me, crate::start_time(me).unwrap()).unwrap().unwrap();
        let found = running.processes();
        let usage = running.usage();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(found.contains(&me) && found.contains(&child.id()), "{found:?}");
        assert!(usage.pids >= 2 && usage.memory.usage > 0, "{usage:?}");
    }
}
