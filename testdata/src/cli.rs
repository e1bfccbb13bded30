//! Running the `dunnage` binary in a store of its own.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

use crate::Need;

/// A binary with a temporary store and a temporary directory to work in.
#[derive(Debug)]
pub struct Dunnage {
    binary: PathBuf,
    directory: TempDir,
}

/// A finished command.
#[derive(Debug)]
pub struct Ran {
    /// Exit code; 128+n for a signal.
    pub code: i32,
    /// Standard output as text.
    pub stdout: String,
    /// Standard error as text.
    pub stderr: String,
}

impl Ran {
    /// The command must have ended with success.
    ///
    /// # Panics
    /// When it did not, with all it printed.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.code, 0, "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// The command must have ended with this code and one of its streams must hold the text.
    ///
    /// # Panics
    /// When it did not, with all it printed.
    #[track_caller]
    pub fn fails(self, code: i32, text: &str) -> Self {
        assert_eq!(self.code, code, "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        assert!(self.stderr.contains(text), "no {text:?} in stderr:\n{}", self.stderr);
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        self
    }
}

impl Ran {
    /// The command must have ended with this code.
    ///
    /// # Panics
    /// When it did not, with all it printed.
    #[track_caller]
    pub fn fails_with(self, code: i32) -> Self {
        self.fails(code, "")
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        use std::os::unix::process::ExitStatusExt;
        Ran {
            code: output.status.code().unwrap_or_else(|| 128 + output.status.signal().unwrap_or(0)),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Dunnage {
    /// A new, empty store. `binary` is `env!("CARGO_BIN_EXE_dunnage")`.
    ///
    /// # Panics
    /// When no temporary directory can be made.
    pub fn new(binary: &str) -> Self {
        crate::watchdog::begin();
        // Not on a tmpfs: overlay needs an upper directory with extended attributes.
        let base = crate::workspace().join("target").join("test-stores");
        std::fs::create_dir_all(&base).expect("a directory for stores");
        let directory = tempfile::Builder::new().prefix("store-").tempdir_in(base).expect("a temporary store");
        Dunnage { binary: binary.into(), directory }
    }

    /// The store's root.
    pub fn root(&self) -> PathBuf {
        self.directory.path().join("root")
    }

    /// A directory beside the store, made when it is missing.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn dir(&self, name: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        std::fs::create_dir_all(&path).expect("a directory");
        path
    }

    /// Writes a file beside the store.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.directory.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        std::fs::write(&path, text).expect("a file");
        path
    }

    /// The settings of its commands: `config.toml` beside the store where a test wrote one, else a file in which docker's
    /// own registry is blocked.
    fn config(&self) -> PathBuf {
        let own = self.directory.path().join("config.toml");
        if own.exists() {
            return own;
        }
        let shared = crate::workspace().join("target/test-stores/blocked.toml");
        if !shared.exists() {
            let draft = self.directory.path().join("blocked.toml");
            std::fs::write(&draft, "[registries.\"docker.io\"]\nblocked = true\n").expect("a file");
            std::fs::rename(draft, &shared).expect("a file");
        }
        shared
    }

    /// The command with its environment, not yet started.
    pub fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(&self.binary);
        command
            .args(args)
            .current_dir(self.directory.path())
            .env("DUNNAGE_ROOT", self.root())
            .env_remove("DUNNAGE_PROGRESS")
            .env_remove("BUILDKIT_PROGRESS")
            .env_remove("SOURCE_DATE_EPOCH")
            .env_remove("GITHUB_ACTIONS")
            .env_remove("GITLAB_CI")
            .env_remove("NO_COLOR")
            .env_remove("CLICOLOR_FORCE")
            .envs(
                ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"]
                    .map(|name| (name, "")),
            )
            .env_remove("DUNNAGE_FAILPOINTS")
            // No test is to know what the machine's user knows, nor to go out to a registry.
            .env("DUNNAGE_CONFIG", self.config())
            .env("XDG_CONFIG_HOME", self.directory.path().join("no-config"))
            .env("DOCKER_CONFIG", self.directory.path().join("docker"))
            .env("CONTAINERS_REGISTRIES_CONF", self.directory.path().join("registries.conf"))
            .env_remove("DOCKER_AUTH_CONFIG")
            .env_remove("REGISTRY_AUTH_FILE")
            .env_remove("XDG_RUNTIME_DIR")
            .stdin(Stdio::null());
        command
    }

    /// Runs a command to its end.
    ///
    /// # Panics
    /// When the binary cannot be started.
    #[track_caller]
    pub fn run<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Ran {
        self.command(args).output().expect("the binary starts").into()
    }

    /// Runs a command and gives its exit code and peak memory in KiB, as the kernel counted it (GNU time reads `wait4`).
    ///
    /// # Panics
    /// When GNU time is not there.
    #[track_caller]
    pub fn measured<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> (i32, u64) {
        let command = self.command(args);
        let mut time = Command::new("/usr/bin/time");
        time.args(["-f", "peak %M"]).arg(command.get_program()).args(command.get_args());
        time.current_dir(self.directory.path()).envs(command.get_envs().filter_map(|(key, value)| Some((key, value?))));
        let output = time.output().expect("GNU time starts");
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        let peak = stderr.lines().find_map(|line| line.strip_prefix("peak ")).expect("GNU time tells the peak");
        (output.status.code().unwrap_or(-1), peak.trim().parse().expect("a number"))
    }

    /// Makes the base image `base` from a static busybox.
    ///
    /// # Panics
    /// When it cannot be made.
    #[track_caller]
    pub fn busybox(&self) {
        self.run(["bootstrap", "--from", "busybox", "base"]).ok();
    }

    /// A new store with the image `base`; `None`, with a word of why, where the machine lacks something.
    ///
    /// # Panics
    /// When the image cannot be made.
    #[track_caller]
    pub fn with_base(binary: &str, needs: &[Need]) -> Option<Self> {
        if crate::skipped(needs) {
            return None;
        }
        let dunnage = Dunnage::new(binary);
        dunnage.busybox();
        Some(dunnage)
    }

    /// Builds the directory `context` with this Dockerfile and gives the image's id.
    ///
    /// # Panics
    /// When the build fails.
    #[track_caller]
    pub fn build(&self, dockerfile: &str) -> String {
        self.write("context/Dockerfile", dockerfile);
        self.run(["build", "-q", "-t", "app", "context"]).ok().stdout.trim().to_owned()
    }

    /// Another, empty store of the same binary.
    pub(crate) fn beside(&self) -> Dunnage {
        Dunnage::new(&self.binary.to_string_lossy())
    }

    /// The whole id of an image.
    ///
    /// # Panics
    /// When there is none.
    #[track_caller]
    pub fn image_id(&self, name: &str) -> String {
        self.run(["images", "-q", "--no-trunc", name]).ok().stdout
    }

    /// What became of each step of the last build, in order.
    ///
    /// # Panics
    /// When there is no record of one.
    #[track_caller]
    pub fn statuses(&self) -> Vec<String> {
        let json = self.run(["builds", "show", "--format", "json"]).ok().stdout;
        let record: serde_json::Value = serde_json::from_str(&json).unwrap();
        let steps = record["steps"].as_array().unwrap();
        steps.iter().map(|step| step["status"].as_str().unwrap().to_owned()).collect()
    }

    /// The same store and the files beside it once more.
    ///
    /// # Panics
    /// When it cannot be copied.
    pub fn copy(&self) -> Dunnage {
        let copy = self.beside();
        copy_tree(self.directory.path(), copy.directory.path());
        copy
    }

    /// Paths that a command must never leave behind: drafts and leases of the store, and unfinished files beside it.
    pub fn leftovers(&self) -> Vec<PathBuf> {
        let drafts = ["drafts", "leases"]
            .iter()
            .flat_map(|name| std::fs::read_dir(self.root().join(name)).into_iter().flatten().flatten())
            .map(|entry| entry.path());
        let unfinished = crate::files(self.directory.path(), "").into_iter().filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.contains(".dunnage-") || (name.starts_with('.') && path.parent() == Some(&self.root()))
        });
        drafts.chain(unfinished).collect()
    }
}

impl Drop for Dunnage {
    /// Ends the containers that a test left behind, however it ended.
    fn drop(&mut self) {
        let left = std::fs::read_dir(self.root().join("containers")).is_ok_and(|mut entries| entries.next().is_some());
        if !left {
            return;
        }
        // A store that a test broke has nothing to be ended in it.
        let Ok(list) = self.command(["ps", "-aq", "--no-trunc"]).output() else { return };
        let ids = String::from_utf8_lossy(&list.stdout).into_owned();
        if !ids.trim().is_empty() {
            let _ = self.command(["rm", "-f", "-v"].into_iter().chain(ids.split_whitespace())).output();
        }
    }
}

/// Copies a fixture directory, files and modes.
///
/// # Panics
/// When it cannot.
pub fn copy_tree(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").arg(format!("{}/.", from.display())).arg(to).status();
    assert!(status.is_ok_and(|status| status.success()), "cannot copy {}", from.display());
}
