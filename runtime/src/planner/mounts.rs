//! The mounts that a sandbox's caller asks for.
use std::collections::HashSet;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::{Planner, QUIET, c_string, place};
use crate::error::{Error, Result};
use crate::given::MountAttributes;
use crate::mount::{BindSource, Mount};
use crate::plan::{MountPoint, Op, Place, PointKind, Preparation, Slot};
use crate::prepare::fresh::Fresh;
use crate::sys::mount::{ATTR_RDONLY, Reach};
use crate::target::Target;

/// More than anyone means.
const MOST_MOUNTS: usize = 1024;

impl Planner<'_> {
    /// Outer targets come before inner ones, whatever the order of the request.
    pub(super) fn own_mounts(&mut self) -> Result<()> {
        if self.sandbox.mounts.len() > MOST_MOUNTS {
            return Err(Error::invalid("mounts", format!("at most {MOST_MOUNTS} are possible")));
        }
        let mut mounts: Vec<(Target, Slot, &Mount)> = Vec::new();
        for (slot, mount) in ordered(&self.sandbox.mounts) {
            let target = Target::new(mount.target())?;
            if target.relative().starts_with("proc") {
                return Err(Error::invalid("mounts", "/proc belongs to the kernel; mount somewhere else"));
            }
            mounts.push((target, slot, mount));
        }
        let outer: HashSet<PathBuf> = mounts.iter().map(|(target, ..)| target.relative().to_owned()).collect();
        let mut restricted = Vec::new();
        for (target, slot, mount) in mounts {
            if let Some((from, attributes)) = self.part(slot, mount)? {
                self.push(Op::Show { from, target, attributes });
                continue;
            }
            self.whole(slot, mount);
            if matches!(mount, Mount::Detached { read_only: true, .. }) {
                restricted.push(slot);
            }
            // What lies inside another mount is made after that mount is there, by the new process.
            let inside = |path: &Path| outer.contains(path) || path.starts_with("dev") || path.starts_with("sys");
            if !target.relative().ancestors().skip(1).any(inside) {
                self.points.push(MountPoint { target: target.clone(), kind: PointKind::LikeSource(slot) });
            }
            self.push(Op::Mount { slot, target });
        }
        for slot in restricted {
            self.push(Op::Restrict { slot, attributes: ATTR_RDONLY });
        }
        Ok(())
    }

    /// Where a mount that shows a part of another one has it from, and with which attributes.
    fn part(&mut self, slot: Slot, mount: &Mount) -> Result<Option<(Place, u64)>> {
        match mount {
            Mount::File { .. } => Ok(Some((place(Slot::Stage, &slot.to_string()), QUIET | ATTR_RDONLY))),
            Mount::Tree { rootfs, path, read_only, .. } => {
                self.prepare.push((slot, Preparation::Tree(Arc::clone(rootfs))));
                let path = path.strip_prefix("/").unwrap_or(path);
                let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
                let from = Place { base: slot, path: c_string("mount source", path.as_os_str())? };
                Ok(Some((from, self.attributes(*read_only))))
            }
            Mount::Bind { .. } | Mount::Tmpfs { .. } | Mount::Detached { .. } => Ok(None),
        }
    }

    /// A mount that the caller makes as a whole.
    fn whole(&mut self, slot: Slot, mount: &Mount) {
        let preparation = match mount {
            Mount::File { .. } | Mount::Tree { .. } => return,
            Mount::Bind { source: BindSource::Path(path), read_only, recursive, propagation: Some(spread), .. } => {
                let all = MountAttributes { set: self.attributes(*read_only), clear: 0 };
                let (reach, below) = match *recursive {
                    true => (Reach::Below, all),
                    false => (Reach::One, MountAttributes::default()),
                };
                let (source, propagation) = (path.clone(), Some(*spread));
                Preparation::GivenBind { source, reach, attributes: all, recursive: below, propagation }
            }
            Mount::Bind { source, read_only, recursive, mapped, .. } => {
                let attributes = self.attributes(*read_only);
                let reach = if *recursive { Reach::Below } else { Reach::One };
                let (source, mapped) = (source.clone(), *mapped && self.sandbox.users.is_some());
                Preparation::Bind { source, attributes, reach, mapped }
            }
            Mount::Tmpfs { size, mode, executable, .. } => {
                Preparation::Fresh(Fresh::Tmpfs { size: *size, mode: *mode, executable: *executable })
            }
            Mount::Detached { mount, .. } => Preparation::Mounted(Arc::clone(mount)),
        };
        self.prepare.push((slot, preparation));
    }

    fn attributes(&self, read_only: bool) -> u64 {
        self.nodev() | if read_only { ATTR_RDONLY } else { 0 }
    }
}

/// The caller's mounts with their slots, outer targets first.
pub(super) fn ordered(mounts: &[Mount]) -> Vec<(Slot, &Mount)> {
    let mut sorted: Vec<&Mount> = mounts.iter().collect();
    sorted.sort_by_key(|mount| mount.target().components().filter(|part| *part != Component::CurDir).count());
    (0_u16..).map(Slot::Mount).zip(sorted).collect()
}
