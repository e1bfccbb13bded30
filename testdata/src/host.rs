//! What a command may leave on the machine outside of its store.

use std::path::Path;
use std::time::{Duration, Instant};

/// Longest time in which what a killed process had goes.
const LONGEST: Duration = Duration::from_secs(60);

/// Mounts of a store, and the control groups, network namespaces, interfaces and temporary files of this program.
#[derive(Debug)]
pub struct Host(Vec<String>);

impl Host {
    /// What is there now. Mounts of other stores, whose tests run at the same time, do not count.
    pub fn look(store: &Path) -> Host {
        let store = store.to_string_lossy();
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let mut there: Vec<String> = mounts.lines().filter(|line| line.contains(&*store)).map(str::to_owned).collect();
        there.extend(control_groups());
        there.extend(names_like(Path::new("/run/netns"), "", 1));
        there.extend(names_like(Path::new("/sys/class/net"), "veth", 1));
        there.extend(names_like(&std::env::temp_dir(), "dunnage", 1));
        Host(there)
    }

    /// Waits until nothing is there that was not: what the kernel ends together with a killed process takes it a moment.
    ///
    /// # Panics
    /// When something stays.
    #[track_caller]
    pub fn expect(&self, store: &Path) {
        self.expect_after(store, || {});
    }

    /// The same, doing something between two looks: what a killed process left behind goes with the next command.
    ///
    /// # Panics
    /// When something stays.
    #[track_caller]
    pub fn expect_after(&self, store: &Path, mut step: impl FnMut()) {
        let begun = Instant::now();
        // Those of other stores come and go meanwhile: what stays all the time was left behind.
        let mut left = Host::look(store).0;
        left.retain(|thing| !self.0.contains(thing));
        while !left.is_empty() && begun.elapsed() < LONGEST {
            step();
            std::thread::sleep(Duration::from_millis(20));
            let now = Host::look(store).0;
            left.retain(|thing| now.contains(thing));
        }
        assert!(left.is_empty(), "left behind on the machine: {left:?}");
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
