//! What the runtime itself puts into a sandbox's /etc, and the files that its caller shows in it.
use std::collections::HashSet;
use std::ffi::OsStr;
use std::path::Path;

use super::mounts::ordered;
use super::{Planner, c_string, place};
use crate::error::Result;
use crate::mount::{Content, Mount};
use crate::plan::{Missing, MountPoint, PointKind, Preparation, Slot, StagedFile};
use crate::prepare::fresh::Fresh;
use crate::sandbox::{NetworkMode, Sandbox};
use crate::target::Target;

const ETC_FILES: [&str; 3] = ["hosts", "hostname", "resolv.conf"];

impl Planner<'_> {
    pub(super) fn etc_files(&mut self) -> Result<()> {
        let own: HashSet<&Path> = self.sandbox.mounts.iter().map(|mount| mount.target().as_path()).collect();
        let mut files = Vec::new();
        let mut places = Vec::new();
        for (name, content) in ETC_FILES.into_iter().zip(self.etc_contents()) {
            let name_c = c_string("files", OsStr::new(name))?;
            let content = Content::from(content.as_slice());
            files.push(StagedFile {
                name: name_c,
                content,
                mode: 0o644,
                uid: self.outer_user(0),
                gid: self.outer_group(0),
            });
            let target = Path::new("/etc").join(name);
            if own.contains(target.as_path()) {
                continue;
            }
            self.points.push(MountPoint { target: Target::new(&target)?, kind: PointKind::File });
            let at = place(Slot::Root, &format!("etc/{name}"));
            self.bind(place(Slot::Stage, name), at, 0, Missing::Note);
        }
        for (slot, mount) in ordered(&self.sandbox.mounts) {
            let name = c_string("files", OsStr::new(&slot.to_string()))?;
            match mount {
                Mount::File { content, mode, uid, gid, .. } => {
                    let (uid, gid) = (self.outer_user(*uid), self.outer_group(*gid));
                    files.push(StagedFile { name, content: content.clone(), mode: *mode, uid, gid });
                }
                Mount::Tree { .. } => places.push(name),
                Mount::Bind { .. } | Mount::Tmpfs { .. } | Mount::Detached { .. } => {}
            }
        }
        let devices = if self.host.user_namespace { Vec::new() } else { self.bound_devices() };
        self.prepare.push((Slot::Stage, Preparation::Fresh(Fresh::Stage { files, devices, places })));
        Ok(())
    }

    fn etc_contents(&self) -> [Vec<u8>; 3] {
        let Sandbox { hostname, files, network, .. } = self.sandbox;
        let mut hosts = match files.hosts.is_empty() {
            true => format!("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n127.0.1.1\t{hostname}\n")
                .into_bytes(),
            false => files.hosts.clone(),
        };
        for (name, address) in &files.extra_hosts {
            hosts.extend_from_slice(format!("{address}\t{name}\n").as_bytes());
        }
        let resolv_conf = match (files.resolv_conf.is_empty(), network) {
            (true, NetworkMode::Host) => self.host.resolv_conf.clone(),
            _ => files.resolv_conf.clone(),
        };
        [hosts, format!("{hostname}\n").into_bytes(), resolv_conf]
    }
}
