//! What a process may do: its system calls, ids and capabilities.
use super::Planner;
use crate::capability::CapabilitySet;
use crate::error::Result;
use crate::plan::{Op, Preparation, Slot};
use crate::pretend;
use crate::sandbox::{CapabilitySets, Seccomp};
use crate::seccomp;

impl Planner<'_> {
    /// The filter comes first: loading it needs the privileges that the next steps give up.
    pub(super) fn privileges(&mut self) -> Result<()> {
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

    fn filter(&mut self, granted: CapabilitySet) {
        match seccomp::Program::standard(granted) {
            Some(program) => self.push(Op::Filter(program)),
            None => self.notes.push("system calls are not filtered: there is no list for this architecture".to_owned()),
        }
    }
}
