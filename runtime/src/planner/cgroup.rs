//! The control group: joined before its namespace is made, and shown below /sys/fs/cgroup.
use std::ffi::CString;
use std::sync::Arc;

use super::{Planner, place};
use crate::plan::{KernelFilesystem, Op, Preparation, Slot};
use crate::prepare::fresh::Fresh;
use crate::sandbox::Namespace;

impl Planner<'_> {
    /// A process is cloned into a group of version 2, and writes itself into those of version 1.
    pub(super) fn join_cgroup(&mut self) {
        if let Some(cgroup) = self.sandbox.cgroup.as_ref().filter(|cgroup| cgroup.has_entrances()) {
            self.push(Op::JoinCgroup(Arc::clone(cgroup)));
        }
    }

    /// Programs look there for how much memory and how many processors they have.
    pub(super) fn cgroup_views(&mut self, attributes: u64) {
        let at = place(Slot::Sys, "fs/cgroup");
        if self.host.unified_cgroups {
            self.kernel(KernelFilesystem::Cgroup2, Slot::Cgroup, attributes, at);
            return;
        }
        // A view of version 1 is of the namespace; the caller's own would show the whole machine.
        let own = matches!(self.sandbox.namespaces.cgroup, Namespace::New);
        let Some(cgroup) = self.sandbox.cgroup.as_ref().filter(|_| own) else { return };
        let views: Vec<String> = cgroup.views().map(|(view, _)| view.to_owned()).collect();
        if views.is_empty() {
            return;
        }
        let name = |view: &str| view.strip_prefix("name=").unwrap_or(view).to_owned();
        let names = views.iter().filter_map(|view| CString::new(name(view)).ok()).collect();
        self.attach(Slot::Cgroup, Preparation::Fresh(Fresh::Directories(names)), at);
        for view in views {
            let options = view.split(',').filter_map(|option| CString::new(option).ok()).collect();
            let at = place(Slot::Cgroup, &name(&view));
            self.push(Op::CgroupView { options, attributes: attributes as u32, at });
        }
    }
}
