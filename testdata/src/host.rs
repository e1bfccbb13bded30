//! What a command may leave on the machine outside of its store.

use std::path::Path;
use std::time::{Duration, Instant};

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
            cgroups: names_like(Path::new("/sys/fs/cgroup"), "dunnage", 4),
            networks: [names_like(Path::new("/run/netns"), "", 1), names_like(Path::new("/sys/class/net"), "veth", 1)]
                .concat(),
            temporary: names_like(&std::env::temp_dir(), "dunnage", 1),
        }
    }

    /// Waits until all is as it was: what the kernel ends together with a killed process takes it a moment.
    ///
    /// # Panics
    /// When it does not become so.
    #[track_caller]
    pub fn expect(&self, store: &Path) {
        let begun = Instant::now();
        let mut now = Host::look(store);
        while now != *self && begun.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(20));
            now = Host::look(store);
        }
        assert_eq!(now, *self, "the machine is not as it was");
    }
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
