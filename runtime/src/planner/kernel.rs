//! /proc, /sys and what else is made of kernel objects, and what of it a sandbox does not see.
use std::path::Path;

use super::mounts::ordered;
use super::{Planner, QUIET, c_string, place};
use crate::error::{Error, Result};
use crate::mount::{BindSource, Mount};
use crate::plan::{KernelFilesystem, Missing, Op, Place, PointKind, Preparation, Slot, StagePlace};
use crate::sandbox::NetworkMode;
use crate::sys::mount::{ATTR_RDONLY, Reach};
use crate::target::Target;

impl Planner<'_> {
    /// /proc, /dev and /sys: made of kernel objects before any path that an image chose is walked.
    pub(super) fn runtime_mounts(&mut self) {
        self.stage();
        for (slot, mount) in ordered(&self.sandbox.mounts) {
            if matches!(mount, Mount::Tree { .. }) {
                // Not over the root: `..` in it would then lead up into what lies over it.
                self.push(Op::Attach { slot, at: place(Slot::Stage, &slot.to_string()) });
            }
        }
        self.push(Op::Stage(Slot::Root, StagePlace::Root));
        for directory in ["proc", "dev", "sys"] {
            self.point(directory, PointKind::Directory);
        }
        self.proc(QUIET);
        self.devices();
        let read_only = if self.sandbox.privileged { 0 } else { ATTR_RDONLY };
        self.sys(QUIET | read_only);
        self.cgroup_views(QUIET | read_only);
    }

    pub(super) fn stage(&mut self) {
        // A hook that sees the host's root sees all of it.
        let aside = self.sandbox.hooks.create.is_empty();
        self.push(Op::Stage(Slot::Stage, if aside { StagePlace::Aside } else { StagePlace::Root }));
    }

    fn proc(&mut self, attributes: u64) {
        if !self.sandbox.shows_hosts_processes(self.host) {
            return self.kernel(KernelFilesystem::Proc, Slot::Proc, attributes, place(Slot::Root, "proc"));
        }
        let source = BindSource::Path("/proc".into());
        let bind = Preparation::Bind { source, attributes, reach: Reach::Below, mapped: false };
        self.attach(Slot::Proc, bind, place(Slot::Root, "proc"));
        self.notes.push(
            "its processes are not apart from those outside, for /proc is covered in part here: \
             --security-opt systempaths=unconfined for the container around this helps"
                .to_owned(),
        );
    }

    /// Sysfs shows devices of a network, so only the owner of that network may make it: another shows the machine's own. Where
    /// that is covered in part, as in containers, there is none but that.
    fn sys(&mut self, attributes: u64) {
        let covered = self.host.covered_sys || matches!(self.sandbox.network, NetworkMode::Host);
        if self.host.user_namespace && covered {
            let source = BindSource::Path("/sys".into());
            let bind = Preparation::Bind { source, attributes, reach: Reach::Below, mapped: false };
            self.attach(Slot::Sys, bind, place(Slot::Root, "sys"));
        } else {
            self.kernel(KernelFilesystem::Sysfs, Slot::Sys, attributes, place(Slot::Root, "sys"));
        }
    }

    pub(super) fn restrict(&mut self) -> Result<()> {
        if self.sandbox.privileged {
            return Ok(());
        }
        for path in &self.sandbox.read_only_paths {
            let at = kernel_place(path, "read_only_paths")?;
            let (from, reach) = (at.clone(), Reach::Below);
            self.push(Op::Bind { from, at, attributes: ATTR_RDONLY, reach, missing: Missing::Skip });
        }
        for path in &self.sandbox.masked {
            let at = kernel_place(path, "masked")?;
            self.push(Op::Mask(at));
        }
        Ok(())
    }
}

/// A path below /proc or /sys, seen from the mount that the sandbox itself makes there.
fn kernel_place(path: &Path, field: &'static str) -> Result<Place> {
    let target = Target::new(path)?;
    let relative = target.relative();
    let (base, rest) = if let Ok(rest) = relative.strip_prefix("proc") {
        (Slot::Proc, rest)
    } else if let Ok(rest) = relative.strip_prefix("sys") {
        (Slot::Sys, rest)
    } else {
        return Err(Error::invalid(field, format!("{}: only paths below /proc and /sys are possible", path.display())));
    };
    if rest.as_os_str().is_empty() {
        return Err(Error::invalid(field, format!("{}: name something below it", path.display())));
    }
    Ok(Place { base, path: c_string(field, rest.as_os_str())? })
}
