//! The /dev of a sandbox: which devices are in it, and how they come there.
use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::{Planner, QUIET, join, place, users};
use crate::mount::BindSource;
use crate::plan::{Device, DeviceKind, KernelFilesystem, Missing, Place, Preparation, Slot};
use crate::prepare::fresh::Fresh;
use crate::sandbox::Stdio;
use crate::sys::mount::{ATTR_NODEV, ATTR_NOEXEC, ATTR_NOSUID, Reach};

/// Devices of the machine that a privileged sandbox is shown, beside the usual ones, where it cannot make nodes.
const MOST_BOUND_DEVICES: usize = 200;

impl Planner<'_> {
    /// A sandbox may make device nodes (docker grants MKNOD) but not open them: every mount that it can write is nodev,
    /// and the usual devices are bound one by one from a mount that it cannot reach.
    pub(super) fn devices(&mut self) {
        let console = matches!(self.sandbox.stdio, Stdio::Terminal(_));
        let bound = self.bound_devices();
        let dev = match self.makes_devices() {
            true => {
                let places = if console { vec![c"console".to_owned()] } else { Vec::new() };
                Fresh::Dev { places, devices: self.host.devices.clone(), attributes: ATTR_NOSUID }
            }
            false => device_places(&bound, console, self.nodev()),
        };
        self.attach(Slot::Dev, Preparation::Fresh(dev), place(Slot::Root, "dev"));
        for (number, device) in (0_u8..).zip(bound) {
            let at = Place { base: Slot::Dev, path: device.name };
            if self.host.user_namespace {
                let path = Path::new("/dev").join(OsStr::from_bytes(at.path.to_bytes()));
                let (source, reach) = (BindSource::Path(path), Reach::One);
                let bind = Preparation::Bind { source, attributes: 0, reach, mapped: false };
                self.attach(Slot::Device(number), bind, at);
            } else {
                self.bind(Place { base: Slot::Stage, path: at.path.clone() }, at, 0, Missing::Fail);
            }
        }
        self.attach(Slot::Pts, self.terminals(), place(Slot::Dev, "pts"));
        if self.sandbox.shm_size > 0 || self.sandbox.shared_memory.is_some() {
            self.attach(Slot::Shm, self.shared_memory(), place(Slot::Dev, "shm"));
        }
        self.kernel(KernelFilesystem::Mqueue, Slot::Mqueue, QUIET, place(Slot::Dev, "mqueue"));
        if console {
            self.bind(place(Slot::Pts, "0"), place(Slot::Dev, "console"), 0, Missing::Fail);
        }
    }

    /// A privileged sandbox has the machine's devices as nodes of its own, where nodes can be made.
    fn makes_devices(&self) -> bool {
        self.sandbox.privileged && !self.host.user_namespace
    }

    /// The devices that are shown one by one.
    pub(super) fn bound_devices(&self) -> Vec<Device> {
        let mut devices = if self.makes_devices() { Vec::new() } else { usual_devices() };
        if self.sandbox.privileged && self.host.user_namespace {
            let known = |device: &Device| devices.iter().any(|usual| usual.name == device.name);
            let others: Vec<Device> = self.host.devices.iter().filter(|device| !known(device)).cloned().collect();
            devices.extend(others.into_iter().take(MOST_BOUND_DEVICES));
        }
        devices
    }
}

/// The /dev of a sandbox that makes no nodes.
fn device_places(bound: &[Device], console: bool, nodev: u64) -> Fresh {
    let mut places: Vec<CString> = bound.iter().map(|device| device.name.clone()).collect();
    if console {
        places.push(c"console".to_owned());
    }
    Fresh::Dev { places, devices: Vec::new(), attributes: ATTR_NOSUID | ATTR_NOEXEC | nodev }
}

/// What nearly every sandbox has, whatever it is for and whatever it is called.
pub(crate) fn usual_parts(shm_size: u64, console: bool) -> [Fresh; 3] {
    [
        device_places(&usual_devices(), console, ATTR_NODEV),
        Fresh::Pts { group: Some(users::TTY) },
        join::own_shared_memory(shm_size),
    ]
}

pub(super) fn usual_devices() -> Vec<Device> {
    [(c"null", 1, 3), (c"zero", 1, 5), (c"full", 1, 7), (c"random", 1, 8), (c"urandom", 1, 9), (c"tty", 5, 0)]
        .into_iter()
        .map(|(name, major, minor)| Device {
            name: name.to_owned(),
            kind: DeviceKind::Character,
            mode: 0o666,
            major,
            minor,
        })
        .collect()
}
