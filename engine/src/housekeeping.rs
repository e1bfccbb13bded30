//! `dunnage system df`, `check`, all forms of `prune`, and `info`.

use std::fs;
use std::path::{Path, PathBuf};

use cache::{Platform, PruneOptions, Pruned, Usage, failpoint};

use crate::Engine;
use crate::error::Result;
use crate::networks::UplinkProgram;
use crate::storage::Storage;
use crate::userns::UsernsRanges;

impl Engine {
    /// Reads everything in the store again, and repairs what can be.
    ///
    /// # Errors
    /// What the store says.
    pub fn check_store(&self, repair: bool) -> Result<cache::StoreCheck> {
        Ok(self.store.check(repair)?)
    }

    /// What the store holds, in true bytes on disk.
    ///
    /// # Errors
    /// What the store says.
    pub fn disk_usage(&self) -> Result<Usage> {
        Ok(self.store.usage()?)
    }

    /// Removes what nothing uses. Running builds and containers keep what they work with.
    ///
    /// # Errors
    /// What the store says; what was removed before stays removed.
    pub fn prune(&self, options: &PruneOptions) -> Result<Pruned> {
        let pruned = self.store.prune(options)?;
        failpoint("prune.answer")?;
        Ok(pruned)
    }

    /// What was found damaged on the way and not yet told, one sentence each.
    pub fn take_notices(&self) -> Vec<String> {
        self.store.take_notices()
    }

    /// What this machine is and what is used of it.
    ///
    /// # Errors
    /// What the store says.
    pub fn info(&self) -> Result<Info> {
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Ok(Info {
            root: self.root().to_owned(),
            images: self.store.images()?.len(),
            platform: Platform::host().to_string(),
            kernel: kernel.trim().to_owned(),
            host_name: fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned(),
            system: system_name(&fs::read_to_string("/etc/os-release").unwrap_or_default()),
            memory: crate::containers::machine_memory(),
            cpus: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            storage: self.storage()?.clone(),
            cgroups: cgroups(),
            delegated: match runtime::in_user_namespace() {
                true => Some(runtime::delegated_control_group()?),
                false => None,
            },
            networks: runtime::network::probe_networks().map_err(|error| error.to_string()),
            uplinks: runtime::in_user_namespace()
                .then(|| UplinkProgram::all(&self.programs).iter().map(UplinkProgram::name).collect()),
            userns: self.probe_userns(),
            seccomp: Path::new("/proc/sys/kernel/seccomp").exists(),
        })
    }
}

/// What `dunnage info` tells.
#[derive(Debug, Clone)]
pub struct Info {
    /// The store.
    pub root: PathBuf,
    /// Images in it.
    pub images: usize,
    /// What is built and run here, as `linux/amd64`.
    pub platform: String,
    /// The kernel's release.
    pub kernel: String,
    /// The machine's name.
    pub host_name: String,
    /// What the distribution calls itself.
    pub system: String,
    /// Bytes of memory that the machine has.
    pub memory: u64,
    /// Processors that this process may use.
    pub cpus: usize,
    /// What makes snapshots.
    pub storage: Storage,
    /// How control groups are laid out.
    pub cgroups: Cgroups,
    /// Without root, what was handed to this user of them.
    pub delegated: Option<Option<runtime::Delegated>>,
    /// Whether containers can have networks, or why not.
    pub networks: std::result::Result<(), String>,
    /// Without root, the programs that can be their way out, the first one first.
    pub uplinks: Option<Vec<&'static str>>,
    /// Whether containers can have a user namespace of their own, or why not.
    pub userns: std::result::Result<UsernsRanges, String>,
    /// The kernel filters system calls.
    pub seccomp: bool,
}

/// `PRETTY_NAME` of os-release(5).
fn system_name(text: &str) -> String {
    let name = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.unwrap_or("Linux").trim_matches(['"', '\'']).to_owned()
}

/// The layout of control groups on a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cgroups {
    /// None are mounted.
    None,
    /// Version 1 alone.
    V1,
    /// Version 1 with an empty version 2 beside it.
    Hybrid,
    /// Version 2.
    V2,
}

fn cgroups() -> Cgroups {
    let root = Path::new("/sys/fs/cgroup");
    if root.join("cgroup.controllers").exists() {
        return Cgroups::V2;
    }
    match (root.join("unified").exists(), fs::read_dir(root).is_ok_and(|mut entries| entries.next().is_some())) {
        (true, _) => Cgroups::Hybrid,
        (false, true) => Cgroups::V1,
        (false, false) => Cgroups::None,
    }
}
