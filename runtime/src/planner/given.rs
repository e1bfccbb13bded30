//! A layout that is given mount by mount: the same steps as the usual one, in the order that was asked for.
use std::ffi::{CString, OsStr};
use std::path::{Path, PathBuf};

use super::devices::usual_devices;
use super::{Planner, c_string, place};
use crate::error::{Error, Result};
use crate::given::{GivenDevice, GivenLayout, GivenMount, GivenSource, NodeKind};
use crate::plan::{Device, DeviceKind, Missing, Op, Place, Preparation, Slot, StagePlace};
use crate::prepare::fresh::Fresh;
use crate::sandbox::{Namespace, Stdio};
use crate::sys::mount::{ATTR_RDONLY, Reach};
use crate::target::Target;

/// File systems of the new namespaces: only the new process can make them.
const OF_NAMESPACES: [&str; 5] = ["proc", "sysfs", "mqueue", "cgroup", "cgroup2"];
/// What lxcfs and its like put over the kernel's own files. Nothing else may lie in /proc.
const IN_PROC: [&str; 9] =
    ["cpuinfo", "diskstats", "loadavg", "meminfo", "slabinfo", "stat", "swaps", "sys/kernel/ns_last_pid", "uptime"];
const DEVICE_LINKS: [(&str, &str); 6] = [
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
    ("/proc/kcore", "/dev/core"),
    ("pts/ptmx", "/dev/ptmx"),
];

impl Planner<'_> {
    pub(super) fn given(&mut self, layout: &GivenLayout) -> Result<()> {
        let mut devices = usual_devices();
        if self.sandbox.ids.is_some() {
            devices.extend(layout.devices.iter().enumerate().filter_map(staged));
        }
        self.prepare
            .push((Slot::Stage, Preparation::Fresh(Fresh::Stage { files: Vec::new(), devices, places: Vec::new() })));
        self.stage();
        self.push(Op::Stage(Slot::Root, StagePlace::Root));
        let mut read_only = Vec::new();
        for (number, mount) in (0_u16..).zip(&layout.mounts) {
            self.given_mount(Slot::Mount(number), mount, &mut read_only)?;
        }
        self.given_devices(layout)?;
        self.settings()?;
        self.given_walls()?;
        if self.sandbox.read_only {
            read_only.push(Slot::Root);
        }
        // What is made inside a mount is made before it can be written no more.
        for slot in read_only {
            self.push(Op::Restrict { slot, attributes: ATTR_RDONLY });
        }
        self.prepare.push((Slot::Root, Preparation::Root { attributes: 0, mount_points: Vec::new() }));
        self.before_pivot()?;
        self.push(Op::PivotRoot);
        if let Some(propagation) = layout.propagation {
            self.push(Op::RootPropagation(propagation));
        }
        Ok(())
    }

    fn given_mount(&mut self, slot: Slot, mount: &GivenMount, read_only: &mut Vec<Slot>) -> Result<()> {
        let target = Target::new(&mount.target)?;
        match &mount.source {
            GivenSource::Bind { source, recursive } => {
                let bind = Preparation::GivenBind {
                    source: source.clone(),
                    reach: if *recursive { Reach::Below } else { Reach::One },
                    attributes: mount.attributes,
                    recursive: mount.recursive,
                    propagation: mount.propagation,
                };
                self.prepare.push((slot, bind));
                let over_proc = target
                    .relative()
                    .strip_prefix("proc")
                    .is_ok_and(|rest| IN_PROC.iter().any(|name| rest == Path::new(name)));
                self.push(Op::MountGiven { slot, target, over_proc, links: true });
            }
            GivenSource::Filesystem { kind, source, options } => {
                let slot = match kind.as_str() {
                    "proc" => Slot::Proc,
                    "sysfs" => Slot::Sys,
                    "devpts" if target.relative() == Path::new("dev/pts") => Slot::Pts,
                    _ => slot,
                };
                let text = |text: &str| c_string("mounts", OsStr::new(text));
                let mut all = vec![(c"source".to_owned(), Some(text(source)?))];
                for (name, value) in self.outer_options(kind, options) {
                    all.push((text(&name)?, value.as_deref().map(text).transpose()?));
                }
                // Later steps may still have to write below it.
                let attributes = (mount.attributes.set & !ATTR_RDONLY) as u32;
                if mount.attributes.set & ATTR_RDONLY != 0 {
                    read_only.push(slot);
                }
                let links = !OF_NAMESPACES.contains(&kind.as_str());
                if links {
                    let copy_up = mount.copy_up.then(|| target.clone());
                    let made = Preparation::Filesystem { kind: text(kind)?, options: all, attributes, copy_up };
                    self.prepare.push((slot, made));
                } else {
                    self.push(Op::Filesystem { slot, kind: text(kind)?, options: all, attributes });
                }
                self.push(Op::MountGiven { slot, target, over_proc: false, links });
            }
            GivenSource::Cgroup => self.given_cgroup(slot, target, mount)?,
        }
        Ok(())
    }

    /// With a namespace of its own the container's group is the root of what it sees. Without one, only the group's
    /// own directory is shown, which comes to the same.
    fn given_cgroup(&mut self, slot: Slot, target: Target, mount: &GivenMount) -> Result<()> {
        let attributes = mount.attributes.set;
        let own = matches!(self.sandbox.namespaces.cgroup, Namespace::New);
        if self.host.unified_cgroups && own {
            let options = vec![(c"source".to_owned(), Some(c"cgroup".to_owned()))];
            self.push(Op::Filesystem { slot, kind: c"cgroup2".to_owned(), options, attributes: attributes as u32 });
            self.push(Op::MountGiven { slot, target, over_proc: false, links: false });
            return Ok(());
        }
        let bind = |source: &Path| Preparation::GivenBind {
            source: source.to_owned(),
            reach: Reach::Below,
            attributes: mount.attributes,
            recursive: mount.recursive,
            propagation: mount.propagation,
        };
        let Some(cgroup) = &self.sandbox.cgroup else {
            self.prepare.push((Slot::Cgroup, Preparation::Fresh(Fresh::Directories(Vec::new()))));
            self.push(Op::MountGiven { slot: Slot::Cgroup, target, over_proc: false, links: false });
            return Ok(());
        };
        if self.host.unified_cgroups {
            let directory = cgroup.directories().next().map_or(Path::new("/sys/fs/cgroup"), |(_, directory)| directory);
            self.prepare.push((slot, bind(directory)));
            self.push(Op::MountGiven { slot, target, over_proc: false, links: false });
            return Ok(());
        }
        let views: Vec<(String, PathBuf)> =
            cgroup.views().map(|(view, directory)| (view.to_owned(), directory.to_owned())).collect();
        let name = |view: &str| view.strip_prefix("name=").unwrap_or(view).to_owned();
        let names = views.iter().filter_map(|(view, _)| CString::new(name(view)).ok()).collect();
        self.prepare.push((Slot::Cgroup, Preparation::Fresh(Fresh::Directories(names))));
        self.push(Op::MountGiven { slot: Slot::Cgroup, target, over_proc: false, links: false });
        for (number, (view, directory)) in (0_u8..).zip(views) {
            let at = place(Slot::Cgroup, &name(&view));
            // Version 1 cannot be mounted in a user namespace.
            if own && self.sandbox.ids.is_none() {
                let options = view.split(',').filter_map(|option| CString::new(option).ok()).collect();
                self.push(Op::CgroupView { options, attributes: attributes as u32, at });
            } else {
                self.prepare.push((Slot::View(number), bind(&directory)));
                self.push(Op::Attach { slot: Slot::View(number), at });
            }
        }
        Ok(())
    }

    /// Every container has the harmless devices, unless /dev itself is one of the host's.
    fn given_devices(&mut self, layout: &GivenLayout) -> Result<()> {
        let bound =
            |mount: &GivenMount| mount.target == Path::new("/dev") && matches!(mount.source, GivenSource::Bind { .. });
        if !layout.mounts.iter().any(bound) {
            for device in usual_devices() {
                let path = Path::new("/dev").join(OsStr::new(device.name.to_str().unwrap_or_default()));
                if layout.devices.iter().any(|given| given.path == path) {
                    continue;
                }
                if self.sandbox.ids.is_some() {
                    self.show_device(&device.name.to_string_lossy(), &path)?;
                } else {
                    let number = (device.major, device.minor);
                    self.device(&GivenDevice {
                        path,
                        kind: NodeKind::Character,
                        number,
                        mode: device.mode,
                        uid: 0,
                        gid: 0,
                    })?;
                }
            }
            for (to, path) in DEVICE_LINKS {
                let (parent, name) = parent_and_name(Path::new(path))?;
                self.push(Op::Link { parent, name, to: c_string("devices", OsStr::new(to))? });
            }
        }
        for (number, device) in layout.devices.iter().enumerate() {
            match staged((number, device)).filter(|_| self.sandbox.ids.is_some()) {
                Some(ready) => self.show_device(&ready.name.to_string_lossy(), &device.path)?,
                None => self.device(device)?,
            }
        }
        if matches!(self.sandbox.stdio, Stdio::Terminal(_)) {
            if !self.prepare.iter().any(|(slot, _)| *slot == Slot::Pts) {
                return Err(Error::invalid("terminal", "needs a devpts on /dev/pts; add it to the mounts"));
            }
            let target = Target::new(Path::new("/dev/console"))?;
            self.push(Op::Show { from: place(Slot::Pts, "0"), target, attributes: 0 });
        }
        Ok(())
    }

    /// The caller makes these file systems, and so in its own ids.
    fn outer_options(&self, kind: &str, options: &[(String, Option<String>)]) -> Vec<(String, Option<String>)> {
        let Some(ids) = self.sandbox.ids.as_ref().filter(|_| matches!(kind, "tmpfs" | "devpts")) else {
            return options.to_vec();
        };
        let asked = |name: &str| options.iter().rev().find(|(known, _)| known == name)?.1.as_deref()?.parse().ok();
        let owner = [("uid", ids.user(asked("uid").unwrap_or(0))), ("gid", ids.group(asked("gid").unwrap_or(0)))];
        let mut all: Vec<_> = options.iter().filter(|(name, _)| name != "uid" && name != "gid").cloned().collect();
        for (name, outside) in owner {
            all.extend(outside.map(|outside| (name.to_owned(), Some(outside.to_string()))));
        }
        all
    }

    /// A user namespace may show nodes that it could not make: the caller has them ready.
    fn show_device(&mut self, staged: &str, path: &Path) -> Result<()> {
        let target = Target::new(path)?;
        self.push(Op::Show { from: place(Slot::Stage, staged), target, attributes: 0 });
        Ok(())
    }

    fn device(&mut self, device: &GivenDevice) -> Result<()> {
        let (parent, name) = parent_and_name(&device.path)?;
        self.push(Op::Device { parent, name, device: device.clone() });
        Ok(())
    }

    /// Whatever is named is hidden or made read-only, wherever it lies in the root.
    fn given_walls(&mut self) -> Result<()> {
        let at = |path: &Path, field| {
            let target = Target::new(path)?;
            Ok::<_, Error>(Place { base: Slot::Root, path: c_string(field, target.relative().as_os_str())? })
        };
        for path in &self.sandbox.read_only_paths {
            let at = at(path, "read_only_paths")?;
            let (from, reach) = (at.clone(), Reach::Below);
            self.push(Op::Bind { from, at, attributes: ATTR_RDONLY, reach, missing: Missing::Skip });
        }
        for path in &self.sandbox.masked {
            let at = at(path, "masked")?;
            self.push(Op::Mask(at));
        }
        Ok(())
    }
}

/// A node that is made for a user namespace; pipes it can make itself.
fn staged((number, device): (usize, &GivenDevice)) -> Option<Device> {
    let kind = match device.kind {
        NodeKind::Character => DeviceKind::Character,
        NodeKind::Block => DeviceKind::Block,
        NodeKind::Fifo => return None,
    };
    let (major, minor) = device.number;
    Some(Device { name: CString::new(format!("given{number}")).ok()?, kind, mode: device.mode, major, minor })
}

fn parent_and_name(path: &Path) -> Result<(Option<Target>, CString)> {
    let parent = path.parent().filter(|parent| *parent != Path::new("/")).map(Target::new).transpose()?;
    // The whole path is checked for what no path may hold.
    Target::new(path)?;
    let name = path.file_name().ok_or_else(|| Error::invalid("devices", format!("{}: has no name", path.display())))?;
    Ok((parent, c_string("devices", name)?))
}
