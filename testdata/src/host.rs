//! What a command may leave on the machine outside of its store.

use std::path::Path;
use std::time::{Duration, Instant};

/// Longest time in which what a killed process had goes.
const LONGEST: Duration = Duration::from_secs(60);

/// Mounts, control groups, network namespaces and interfaces, and temporary files that have to do with a store.
#[derive(Debug, PartialEq, Eq)]
pub struct Host {
    mounts: Vec<String>,
    cgroups: Vec<String>,
    networks: Vec<String>,
    temporary: Vec<String>,
}

impl Host {
    /// What is there now. Mounts of other stores, whose tests run at the same time, do not count.
    pub fn look(store: &Path) -> Host {
        let store = store.to_string_lossy();
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        Host {
            mounts: mounts.lines().filter(|line| line.contains(&*store)).map(str::to_owned).collect(),
            cgroups: control_groups(),
            networks: [names_like(Path::new("/run/netns"), "", 1), names_like(Path::new("/sys/class/net"), "veth", 1)]
                .concat(),
            temporary: names_like(&std::env::temp_dir(), "dunnage", 1),
        }
    }

    fn without_groups(&self) -> [&Vec<String>; 3] {
        [&self.mounts, &self.networks, &self.temporary]
    }

    /// Waits until all is as it was: what the kernel ends together with a killed process takes it a moment.
    ///
    /// # Panics
    /// When it does not become so.
    #[track_caller]
    pub fn expect(&self, store: &Path) {
        self.expect_after(store, || {});
    }

    /// The same, doing something between two looks: what a killed process left behind goes with the next command.
    ///
    /// # Panics
    /// When it does not become so.
    #[track_caller]
    pub fn expect_after(&self, store: &Path, mut step: impl FnMut()) {
        let begun = Instant::now();
        let mut now = Host::look(store);
        // Containers of other stores come and go meanwhile: what stays all the time was left behind.
        let mut left: Vec<String> = now.cgroups.iter().filter(|group| !self.cgroups.contains(group)).cloned().collect();
        while !(left.is_empty() && now.without_groups() == self.without_groups()) && begun.elapsed() < LONGEST {
            step();
            std::thread::sleep(Duration::from_millis(20));
            now = Host::look(store);
            left.retain(|group| now.cgroups.contains(group));
        }
        assert_eq!(now.without_groups(), self.without_groups(), "the machine is not as it was");
        assert!(left.is_empty(), "control groups are left behind: {left:?}");
    }
}

/// The groups below those of this program, in every hierarchy.
fn control_groups() -> Vec<String> {
    let parents = names_like(Path::new("/sys/fs/cgroup"), "dunnage", 2);
    parents
        .iter()
        .flat_map(|parent| names_like(Path::new(parent), "", 2))
        .filter(|path| Path::new(path).is_dir())
        .collect()
}

fn names_like(directory: &Path, word: &str, depth: usize) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_name().to_string_lossy().contains(word) {
            found.push(path.display().to_string());
        }
        if depth > 1 && path.is_dir() && !path.is_symlink() {
            found.extend(names_like(&path, word, depth - 1));
        }
    }
    found.sort();
    found
}
