//! Without root: a user namespace in which this process is user 0 and may mount. Entered once, by a process with one thread.
//!
//! Which one can be had is a chain: none is needed; a superuser without the right to mount gives all its ids; newuidmap
//! grants the ranges of subuid(5); else the caller's own id alone.
mod map;
mod members;
mod own;
mod ranges;

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::process::{getgid, getuid};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

use self::map::{IdMap, name_of};
use self::members::Members;
pub use self::own::UserNamespace;
pub use self::ranges::{IdExtent, IdLease, IdPool, USUAL_IDS};
use crate::capability::Capability;
use crate::error::{Error, Result};
use crate::sys::{self, capability};

/// The ids that a process has for its containers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ids {
    /// It may mount as it is: all ids of its own user namespace.
    Own,
    /// A superuser without the right to mount: all its ids, in a namespace where it has that right.
    All,
    /// The caller as user 0, and this many ids with the ranges of /etc/subuid and /etc/subgid.
    Ranges(u64),
    /// The caller as user 0 and no other id.
    Single {
        /// Why there are no more.
        why: String,
        /// What would give more.
        remedy: String,
    },
}

/// Programs of the machine that grant ids.
#[derive(Clone, Debug, Default)]
pub struct IdHelpers {
    /// newuidmap(1).
    pub newuidmap: Option<PathBuf>,
    /// newgidmap(1).
    pub newgidmap: Option<PathBuf>,
}

/// The number of the machine's first user namespace (PROC_USER_INIT_INO of linux/proc_ns.h).
const FIRST: u64 = 0xEFFF_FFFD;

/// Whether this process needs a user namespace of its own to mount anything.
pub fn needs_user_namespace() -> Result<bool> {
    let held = capability::permitted().map_err(Error::container("reading capabilities"))?;
    Ok(!held.contains(Capability::SysAdmin))
}

/// Enters a user namespace in which this process may mount, if it needs one: that of the processes which work with this
/// store already, else a new one. The process must have one thread.
///
/// # Errors
/// When this machine allows no user namespaces: the sentence names the setting.
pub fn enter_user_namespace(helpers: &IdHelpers, store: &Path) -> Result<Ids> {
    if !needs_user_namespace()? {
        stay(store);
        return Ok(Ids::Own);
    }
    let plan = plan(helpers)?;
    // A store whose list cannot be kept is opened all the same, or says itself what is wrong with it.
    let mut members = Members::open(store, true).ok();
    let known = members.as_mut().and_then(|members| members.namespace().ok().flatten());
    let joined =
        known.is_some_and(|known| move_into_link_name_space(known.as_fd(), Some(LinkNameSpaceType::User)).is_ok());
    if !joined {
        make(&plan)?;
    }
    sys::userns::become_root(groups_allowed()).map_err(Error::namespace)?;
    // The list is short of one whom nobody can find by it, which is no harm to the one.
    let _ = members.map(Members::add_self);
    sys::userns::unshare(UnshareFlags::NEWNS).map_err(refused)?;
    // What is mounted on the machine later shows here; nothing that is mounted here shows there.
    let flags = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    mount_change("/", flags).map_err(Error::namespace)?;
    Ok(if joined { found(plan.ids) } else { plan.ids })
}

/// A process that another one started in its namespace: others find the way by it when that one has ended.
fn stay(store: &Path) {
    if in_user_namespace() {
        // Without a list nobody has entered anything for this store.
        let _ = Members::open(store, false).map(Members::add_self);
    }
}

/// A new user namespace for this process.
fn make(plan: &Plan) -> Result<()> {
    let me = std::process::id();
    let deny_groups = matches!(plan.ids, Ids::Single { .. }) && !plan.is_superuser;
    let helper = sys::userns::Helper::split_off(|| grant(me, plan, deny_groups)).map_err(Error::namespace)?;
    sys::userns::unshare(UnshareFlags::NEWUSER).map_err(refused)?;
    if helper.work().map_err(Error::namespace)? != 0 {
        return Err(Error::Ids { file: "/etc/subuid and /etc/subgid", reason: plan.shown() });
    }
    Ok(())
}

/// What a namespace has that others made: what this process would have got is another matter.
fn found(planned: Ids) -> Ids {
    let count = |file: &str| fs::read_to_string(file).map_or(1, |map| IdMap::identity(&map).count());
    match (planned, count("/proc/self/uid_map").min(count("/proc/self/gid_map"))) {
        (Ids::All, _) => Ids::All,
        (single @ Ids::Single { .. }, 1) => single,
        (_, 1) => Ids::Single {
            why: "that is what the containers which run have".to_owned(),
            remedy: "stop them, and all else that works with this store".to_owned(),
        },
        (_, count) => Ids::Ranges(count),
    }
}

/// Whether this process is in a user namespace that is not the machine's first. To be asked once it is where it stays.
#[must_use]
pub fn in_user_namespace() -> bool {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    // The ids tell nothing: a superuser without the right to mount takes all of them along.
    *ANSWER.get_or_init(|| fs::metadata("/proc/self/ns/user").is_ok_and(|namespace| namespace.ino() != FIRST))
}

/// Whether processes of this user namespace may choose their groups.
pub(crate) fn may_set_groups() -> bool {
    !in_user_namespace() || groups_allowed()
}

fn groups_allowed() -> bool {
    fs::read_to_string("/proc/self/setgroups").map_or(true, |text| text.trim() != "deny")
}

struct Plan {
    ids: Ids,
    users: IdMap,
    groups: IdMap,
    /// The helper may write the maps itself.
    is_superuser: bool,
    helpers: Option<(PathBuf, PathBuf)>,
}

impl Plan {
    fn shown(&self) -> String {
        format!("users {}, groups {}", self.users.text().replace('\n', "; "), self.groups.text().replace('\n', "; "))
    }
}

fn plan(helpers: &IdHelpers) -> Result<Plan> {
    let (uid, gid) = (getuid().as_raw(), getgid().as_raw());
    let held = capability::permitted().map_err(Error::container("reading capabilities"))?;
    if held.contains(Capability::Setuid) && held.contains(Capability::Setgid) {
        let read = |path: &str| fs::read_to_string(path).map(|text| IdMap::identity(&text));
        let (users, groups) =
            (read("/proc/self/uid_map").map_err(io_error)?, read("/proc/self/gid_map").map_err(io_error)?);
        return Ok(Plan { ids: Ids::All, users, groups, is_superuser: true, helpers: None });
    }
    let single = |why: &str, remedy: String| Plan {
        ids: Ids::Single { why: why.to_owned(), remedy },
        users: IdMap::single(uid),
        groups: IdMap::single(gid),
        is_superuser: false,
        helpers: None,
    };
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = name_of(uid, &passwd);
    // The ranges of groups belong to the user too (subgid(5)).
    let ranges = |own: u32, path: &str| {
        let file = fs::read_to_string(path).unwrap_or_default();
        let map = IdMap::with_ranges(uid, name, &file)?;
        Some(map.with_own(own))
    };
    let (Some(users), Some(groups)) = (ranges(uid, "/etc/subuid"), ranges(gid, "/etc/subgid")) else {
        let name = name.map_or_else(|| uid.to_string(), str::to_owned);
        let remedy = format!(
            "let an administrator run `usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {name}`"
        );
        return Ok(single("/etc/subuid and /etc/subgid grant this user no ids", remedy));
    };
    let (Some(newuidmap), Some(newgidmap)) = (&helpers.newuidmap, &helpers.newgidmap) else {
        let remedy = "install it (package uidmap on Debian, shadow-utils on Fedora)".to_owned();
        return Ok(single("newuidmap and newgidmap are not on the PATH", remedy));
    };
    let ids = Ids::Ranges(users.count().min(groups.count()));
    Ok(Plan { ids, users, groups, is_superuser: false, helpers: Some((newuidmap.clone(), newgidmap.clone())) })
}

/// In the old namespace: gives the process its ids. Gives an exit code.
fn grant(process: u32, plan: &Plan, deny_groups: bool) -> i32 {
    let Some((newuidmap, newgidmap)) = &plan.helpers else {
        let write = |file: &str, text: &str| fs::write(format!("/proc/{process}/{file}"), text);
        let groups = if deny_groups { write("setgroups", "deny") } else { Ok(()) };
        let written = groups
            .and_then(|()| write("uid_map", &plan.users.text()))
            .and_then(|()| write("gid_map", &plan.groups.text()));
        return i32::from(written.is_err());
    };
    // Side by side: neither needs what the other does, and each takes longer to start than to work.
    let started = [(newuidmap, &plan.users), (newgidmap, &plan.groups)].map(|(program, map)| {
        let mut command = Command::new(program);
        command.arg(process.to_string()).args(map.arguments()).stdin(Stdio::null());
        command.spawn()
    });
    let ended = started.map(|child| child.and_then(|mut child| child.wait()));
    i32::from(!ended.iter().all(|status| status.as_ref().is_ok_and(std::process::ExitStatus::success)))
}

fn io_error(source: io::Error) -> Error {
    Error::Container { doing: "reading this process's ids", source }
}

/// Why the kernel gives no namespace, as far as its settings tell.
pub(crate) fn refused(errno: Errno) -> Error {
    let setting = |path: &str| fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default();
    let (why, remedy) = if setting("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == "1" {
        (
            "AppArmor restricts user namespaces on this machine",
            "`sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0`, or an AppArmor profile with `userns,` for dunnage",
        )
    } else if setting("/proc/sys/kernel/unprivileged_userns_clone") == "0" {
        ("this machine forbids user namespaces", "`sudo sysctl kernel.unprivileged_userns_clone=1`")
    } else if setting("/proc/sys/user/max_user_namespaces") == "0" {
        ("this machine allows no user namespaces", "`sudo sysctl user.max_user_namespaces=15000`")
    } else if errno == Errno::INVAL {
        (
            "this process has more than one thread, or a root directory of its own (chroot)",
            "start dunnage outside of the chroot",
        )
    } else {
        (
            "a filter of system calls or the kernel refuses user namespaces, as in most containers",
            "start the container with `--security-opt seccomp=unconfined --security-opt apparmor=unconfined \
             --security-opt systempaths=unconfined` (Kubernetes: hostUsers: false, procMount: Unmasked), or run as root",
        )
    };
    Error::UserNamespace { why: format!("{why} ({})", io::Error::from(errno)), remedy: remedy.to_owned() }
}
