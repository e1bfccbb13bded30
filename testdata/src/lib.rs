//! Helpers that tests share. Nothing of the product depends on this crate.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, clippy::indexing_slicing)]

pub mod archive;
mod cached;
mod cli;
mod docker;
mod host;
mod machine;
mod object_store;
mod random;
mod registry;
mod repository;
mod served;
mod server;
mod user;
mod watchdog;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

pub use cached::CACHED_BUILD;
pub use cli::{Dunnage, Ran, copy_tree};
pub use docker::Docker;
pub use host::Host;
pub use machine::{Foreground, Machine};
pub use object_store::ObjectStore;
pub use random::{Random, rounds};
pub use registry::{Contents, DebianRegistry, FakeRegistry, RegistryKind, certificates, free_port};
pub use repository::{GitDaemon, Repository};
pub use served::{Heard, Served, heard};
pub use server::{Asked, Reply, Server};
pub use user::{Granted, User};

/// The root of the workspace.
pub fn workspace() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

/// The corpus of public Dockerfiles: `DUNNAGE_CORPUS`, or `shared/corpus` beside the project's folder. `None`, with a word
/// of why, where it is not.
pub fn corpus() -> Option<PathBuf> {
    let beside = workspace().join("../shared/corpus");
    let folder = std::env::var_os("DUNNAGE_CORPUS").map_or(beside, PathBuf::from);
    if !folder.is_dir() {
        // Past the test harness, which shows nothing of tests that pass.
        let word = format!("skipped: no corpus at {}\n", folder.display());
        let _ = std::io::Write::write_all(&mut std::io::stderr(), word.as_bytes());
        return None;
    }
    Some(folder)
}

/// All files below `directory` with this ending, sorted; build output is left out.
pub fn files(directory: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![directory.to_owned()];
    while let Some(directory) = open.pop() {
        let Ok(entries) = std::fs::read_dir(&directory) else { continue };
        for entry in entries.flatten() {
            let path = entry.path();
            let name = entry.file_name();
            if path.is_dir() && !path.is_symlink() {
                if name != "target" && name != ".git" {
                    open.push(path);
                }
            } else if name.to_string_lossy().ends_with(ending) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Compares a text with the file that holds what is expected. With `DUNNAGE_BLESS` set the file is written instead: look at
/// what changed before you commit it.
///
/// # Panics
/// When they differ, or the file cannot be read or written.
#[track_caller]
pub fn expect_file(path: &Path, found: &str) {
    if std::env::var_os("DUNNAGE_BLESS").is_some() {
        std::fs::write(path, found).expect("the expected text is written");
        return;
    }
    let expected = std::fs::read_to_string(path)
        .unwrap_or_else(|error| panic!("{}: {error}; DUNNAGE_BLESS=1 writes it", path.display()));
    assert!(
        expected == found,
        "{} differs; DUNNAGE_BLESS=1 writes it anew\n--- expected\n{expected}\n--- found\n{found}",
        path.display()
    );
}

/// Waits for something that another process does.
///
/// # Panics
/// When it is not so after two minutes: a machine may have much else to do.
#[track_caller]
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(120);
    while !is_so() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Runs a tool to its end, which must be a good one, and gives its standard output.
///
/// # Panics
/// When it fails.
#[track_caller]
pub fn tool(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().expect("the tool starts");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What a container of the image `base` needs: root, and a static busybox.
pub const BASE: [Need; 2] = [Need::Root, Need::Program("busybox")];

/// What a test may need from the machine.
#[derive(Debug, Clone, Copy)]
pub enum Need {
    /// To run as root.
    Root,
    /// A program on PATH.
    Program(&'static str),
    /// A device that every user may open, as distributions have it.
    OpenDevice(&'static str),
}

/// True when the test must be skipped; says why. Where `DUNNAGE_TESTS_REQUIRE=all` is set, as in CI, a skip is a failure.
pub fn skipped(needs: &[Need]) -> bool {
    watchdog::begin();
    let missing: Vec<String> = needs.iter().filter_map(|need| need.missing()).collect();
    if missing.is_empty() {
        return false;
    }
    let reason = missing.join(", ");
    assert!(
        std::env::var("DUNNAGE_TESTS_REQUIRE").as_deref() != Ok("all"),
        "this machine must run every test, but: {reason}"
    );
    eprintln!("skipped: {reason}");
    true
}

impl Need {
    fn missing(self) -> Option<String> {
        match self {
            Need::Root => (!is_root()).then(|| "needs root".to_owned()),
            Need::OpenDevice(path) => {
                let mode = std::fs::metadata(path).map(|metadata| metadata.permissions().mode());
                let open = mode.is_ok_and(|mode| mode & 0o006 == 0o006);
                (!open).then(|| format!("needs {path} with mode 0666"))
            }
            Need::Program(name) => find_program(name).is_none().then(|| format!("needs the program {name}")),
        }
    }
}

/// A program of the PATH.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|directory| directory.join(name)).find(|path| path.is_file())
}

fn is_root() -> bool {
    let output = Command::new("id").arg("-u").output();
    output.is_ok_and(|output| output.stdout == b"0\n")
}
