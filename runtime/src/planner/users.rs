//! A user namespace that is there already: whose the caller's files and descriptors are, and what nobody in it may do.
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::Planner;
use crate::error::{Error, Result};
use crate::plan::{Op, Preparation, Slot};
use crate::prepare::fresh::Fresh;
use crate::sandbox::{Base, Sandbox, Stdio};
use crate::userns::UserNamespace;

/// The group of terminals (devpts of docker, podman and all distributions).
pub(super) const TTY: u32 = 5;

impl Sandbox {
    /// Whether the new process makes its user namespace itself.
    pub(super) fn makes_users(&self) -> bool {
        self.ids.is_some() && self.users.is_none() && matches!(self.base, Base::Rootfs(_))
    }

    /// The network of a user namespace that is there already.
    pub(super) fn users_network(&self) -> Option<&Arc<OwnedFd>> {
        self.users.as_deref().and_then(UserNamespace::network)
    }

    /// The superuser of a user namespace that is there already, as it is outside.
    pub(super) fn outer_root(&self) -> Option<(u32, u32)> {
        let ids = self.inner_ids().filter(|_| !self.makes_users())?;
        ids.user(0).zip(ids.group(0))
    }
}

impl Planner<'_> {
    /// What a user of the sandbox is for the caller, who makes the descriptors.
    pub(super) fn outer_user(&self, inside: u32) -> u32 {
        self.sandbox.inner_ids().and_then(|ids| ids.user(inside)).unwrap_or(inside)
    }

    /// The same of a group.
    pub(super) fn outer_group(&self, inside: u32) -> u32 {
        self.sandbox.inner_ids().and_then(|ids| ids.group(inside)).unwrap_or(inside)
    }

    pub(super) fn terminals(&self) -> Preparation {
        let group = self.sandbox.inner_ids().map_or(Some(TTY), |ids| ids.group(TTY));
        Preparation::Fresh(Fresh::Pts { group })
    }

    /// Files on mounts with mapped owners are of somebody whom these know.
    pub(super) fn file_owner(&mut self) {
        if let Some((uid, gid)) = self.sandbox.outer_root().filter(|_| self.sandbox.users.is_some()) {
            self.push(Op::FileOwner { uid, gid });
        }
    }

    /// Comes when all is mounted and limited: nobody in a user namespace may raise a limit, nor undo what was mounted
    /// before, not even with all its capabilities.
    pub(super) fn enter_users(&mut self) -> Result<()> {
        let Some(users) = &self.sandbox.users else { return Ok(()) };
        self.ids_are_there()?;
        self.prepare.push((Slot::Users, Preparation::Users(Arc::clone(users))));
        self.push(Op::EnterUsers { terminal: matches!(self.sandbox.stdio, Stdio::Terminal(_)) });
        self.push(Op::BecomeRoot);
        Ok(())
    }

    /// Before a process goes into a container's user namespace, where nobody may raise a limit: hard ones above those of
    /// now. The soft one stays until the process has done all that it needs room for.
    pub(super) fn raise_limits(&mut self) {
        for limit in &self.sandbox.rlimits {
            let now = rustix::process::getrlimit(limit.resource.kernel());
            let (limit, _) = self.host.clamp(*limit);
            if now.maximum.is_some_and(|most| limit.hard.is_none_or(|hard| hard > most)) {
                self.push(Op::Limit { resource: limit.resource, soft: now.current, hard: limit.hard });
            }
        }
    }

    /// A user whom the namespace lacks nobody can become.
    pub(super) fn ids_are_there(&self) -> Result<()> {
        let (Some(ids), user) = (self.sandbox.inner_ids(), &self.sandbox.user) else { return Ok(()) };
        let count = ids.users.iter().map(|range| range.count).max().unwrap_or(0);
        let missing = |what: &str, id: u32| {
            let reason =
                format!("{what} {id} is not among the container's {count} ids: --userns auto:size=N gives it more");
            Err(Error::User { spec: id.to_string(), reason })
        };
        if ids.user(user.uid).is_none() {
            return missing("user", user.uid);
        }
        match user.groups.iter().chain([&user.gid]).find(|group| ids.group(**group).is_none()) {
            Some(group) => missing("group", *group),
            None => Ok(()),
        }
    }
}
