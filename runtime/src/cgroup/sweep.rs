//! Groups whose makers were killed: nobody is in them and nobody holds them, and so the next one to come takes them away.
use std::fs::File;
use std::path::{Path, PathBuf};

use super::place::Made;
use super::probe::Hierarchies;
use super::{CGROUP_PARENT, delegated, place};

/// The hierarchy by which groups are known.
fn lead(hierarchies: &Hierarchies) -> Option<&PathBuf> {
    hierarchies.v2.as_ref().or_else(|| hierarchies.v1.first().map(|hierarchy| &hierarchy.mount))
}

/// Takes away what was left behind, and keeps others from doing so until the lock that it gives is dropped.
pub(super) fn enter(hierarchies: &Hierarchies) -> Option<File> {
    let parent = lead(hierarchies)?.join(CGROUP_PARENT);
    // What cannot be made or locked is found out by the steps that follow.
    std::fs::create_dir_all(&parent).ok()?;
    let lock = File::open(&parent).ok()?;
    if lock.try_lock().is_ok() {
        for name in left_behind(&parent) {
            // The one by which it is known comes last: a kill on the way leaves something to go on from.
            let mounts = hierarchies.v1.iter().rev().map(|hierarchy| &hierarchy.mount).chain(&hierarchies.v2);
            for mount in mounts {
                // One that is in use after all stays: the kernel refuses.
                let _ = place::remove(&mount.join(CGROUP_PARENT).join(&name));
            }
        }
    }
    lock.lock_shared().ok()?;
    Some(lock)
}

/// Takes away the groups that killed processes of this program left behind.
pub fn sweep_control_groups() {
    let Ok((hierarchies, _)) = delegated::hierarchies_for(Path::new(CGROUP_PARENT)) else { return };
    let there = lead(&hierarchies).is_some_and(|mount| mount.join(CGROUP_PARENT).is_dir());
    if there {
        drop(enter(&hierarchies));
        for hierarchy in &hierarchies.v1 {
            place::remove_own_parents(&hierarchy.mount, &Path::new(CGROUP_PARENT).join("x"));
        }
        hierarchies.v2.iter().for_each(|mount| place::remove_own_parents(mount, &Path::new(CGROUP_PARENT).join("x")));
    }
}

fn left_behind(parent: &Path) -> Vec<std::ffi::OsString> {
    let is_left = |directory: &PathBuf| {
        let mut processes = Vec::new();
        let nobody_holds = File::open(directory).is_ok_and(|file| file.try_lock().is_ok());
        nobody_holds && place::processes(directory, &mut processes).is_ok() && processes.is_empty()
    };
    let left = place::children(parent).into_iter().filter(is_left);
    left.filter_map(|directory| directory.file_name().map(ToOwned::to_owned)).collect()
}

/// Makes the directory by which a group is known, before all others, and says that it has a maker as long as this lives.
pub(super) fn hold(hierarchies: &Hierarchies, path: &Path, made: &mut Made) -> Option<File> {
    let mount = lead(hierarchies)?;
    // What cannot be made is found out by the steps that follow.
    made.directory(mount, path).ok()?;
    let lock = File::open(mount.join(path)).ok()?;
    lock.lock_shared().ok()?;
    Some(lock)
}
