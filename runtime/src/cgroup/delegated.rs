//! Without root: the group of version 2 that was handed to this user, below which this program makes its own.
use std::fs;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD, accessat};

use super::CGROUP_PARENT;
use super::probe::{Controller, Hierarchies, unified_controllers};
use crate::error::Result;
use crate::userns::in_user_namespace;

/// What a user without root may do with control groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delegated {
    /// The group, from the root of version 2.
    pub path: PathBuf,
    /// What it can limit.
    pub controllers: Vec<Controller>,
}

/// What was handed to this user; `None` where nothing was.
///
/// # Errors
/// When it cannot be read what is mounted.
pub fn delegated_control_group() -> Result<Option<Delegated>> {
    let Some(mount) = &Hierarchies::probe()?.v2 else { return Ok(None) };
    let path = of_this_process(mount);
    Ok(path.map(|path| Delegated { controllers: unified_controllers(&mount.join(&path)).unwrap_or_default(), path }))
}

/// Hierarchies as the group `path` finds them, and where version 2 begins for it: a group of this program's own begins where
/// this user may make it. Root may everywhere.
pub(super) fn hierarchies_for(path: &Path) -> Result<(Hierarchies, PathBuf)> {
    let mut found = Hierarchies::probe()?.clone();
    let mut base = PathBuf::new();
    if path.starts_with(CGROUP_PARENT)
        && in_user_namespace()
        && let Some(mount) = &mut found.v2
        && let Some(own) = of_this_process(mount)
    {
        *mount = mount.join(&own);
        base = own;
    }
    Ok((found, base))
}

fn of_this_process(mount: &Path) -> Option<PathBuf> {
    let text = fs::read_to_string("/proc/self/cgroup").ok()?;
    highest(mount, own(&text)?, &may_write)
}

/// The group of version 2 in cgroups(7)'s list; `None` where it lies outside of what is shown.
fn own(text: &str) -> Option<&Path> {
    let path = Path::new(text.lines().find_map(|line| line.strip_prefix("0::/"))?);
    path.components().all(|part| matches!(part, std::path::Component::Normal(_))).then_some(path)
}

/// The highest of a group and those above it that may be written without a gap: below it a process can be moved, for the
/// kernel asks who may write the lowest group that is above both places.
fn highest(mount: &Path, own: &Path, may_write: &dyn Fn(&Path) -> bool) -> Option<PathBuf> {
    let is_given = |group: &&Path| {
        let directory = mount.join(group);
        let files = ["cgroup.procs", "cgroup.subtree_control"].map(|file| directory.join(file));
        may_write(&directory) && files.iter().all(|file| may_write(file))
    };
    own.ancestors().take_while(is_given).last().map(Path::to_owned)
}

fn may_write(path: &Path) -> bool {
    accessat(CWD, path, Access::WRITE_OK, AtFlags::EACCESS).is_ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_group_is_that_of_version_2() {
        assert_eq!(own("4:memory:/x\n0::/user.slice/a\n"), Some(Path::new("user.slice/a")));
        assert_eq!(own("0::/\n"), Some(Path::new("")));
        assert_eq!(own("0::/../other\n"), None);
        assert_eq!(own("4:memory:/x\n"), None);
    }

    #[test]
    fn what_is_handed_over_begins_where_the_user_may_write() {
        // As systemd lays it out: user@1000.service and all below it are the user's.
        let service = "user.slice/user-1000.slice/user@1000.service";
        let terminal = format!("{service}/app.slice/terminal.scope");
        let of_user = |path: &Path| path.starts_with(Path::new("/m").join(service));
        let found = |own: &str| highest(Path::new("/m"), Path::new(own), &of_user);
        assert_eq!(found(&terminal), Some(service.into()));
        assert_eq!(found(service), Some(service.into()));
        // A login over the network is beside it.
        assert_eq!(found("user.slice/user-1000.slice/session-4.scope"), None);
        // A group without a file that may be written was not handed over.
        let no_control = |path: &Path| of_user(path) && !path.ends_with("app.slice/cgroup.subtree_control");
        assert_eq!(highest(Path::new("/m"), Path::new(&terminal), &no_control), Some(terminal.into()));
        // The root of a namespace that is the user's whole.
        assert_eq!(highest(Path::new("/m"), Path::new(""), &|_| true), Some(PathBuf::new()));
    }
}
