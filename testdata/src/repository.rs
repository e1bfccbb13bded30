//! A git repository, and a daemon on loopback that serves it.

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

/// Repositories in a directory, served as `git://127.0.0.1:PORT/NAME`.
#[derive(Debug)]
pub struct GitDaemon {
    directory: TempDir,
    port: u16,
    child: Child,
}

impl GitDaemon {
    /// Starts it.
    ///
    /// # Panics
    /// When git is not there or does not come up.
    pub fn start() -> GitDaemon {
        let directory = tempfile::tempdir().expect("a directory");
        let port = crate::free_port();
        let child = Command::new("git")
            .args(["daemon", "--export-all", "--reuseaddr", "--listen=127.0.0.1", &format!("--port={port}")])
            .arg(format!("--base-path={}", directory.path().display()))
            .arg(directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("git daemon starts");
        let daemon = GitDaemon { directory, port, child };
        crate::until("git daemon listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        daemon
    }

    /// The URL of a repository.
    pub fn url(&self, name: &str) -> String {
        format!("git://127.0.0.1:{}/{name}", self.port)
    }

    /// The working tree of a repository, made when it is missing.
    ///
    /// # Panics
    /// When git fails.
    pub fn repository(&self, name: &str) -> Repository {
        let path = self.directory.path().join(name);
        let repository = Repository { path };
        if !repository.path.exists() {
            std::fs::create_dir(&repository.path).expect("a directory");
            repository.git(&["init", "-q", "-b", "main"]);
        }
        repository
    }
}

impl Drop for GitDaemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A repository with its working tree.
#[derive(Debug)]
pub struct Repository {
    path: PathBuf,
}

impl Repository {
    /// Its working tree.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a file.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn write(&self, name: &str, text: &str) {
        let path = self.path.join(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        std::fs::write(path, text).expect("a file");
    }

    /// Commits everything and gives the commit's id.
    ///
    /// # Panics
    /// When git fails.
    pub fn commit(&self) -> String {
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "--allow-empty", "-m", "a change"]);
        self.git(&["rev-parse", "HEAD"]).trim().to_owned()
    }

    /// Runs git in the working tree.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn git(&self, args: &[&str]) -> String {
        let output = Command::new("git")
            .args([
                "-c",
                "user.name=Tester",
                "-c",
                "user.email=tester@example.invalid",
                "-c",
                "protocol.file.allow=always",
            ])
            .args(args)
            .current_dir(&self.path)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_AUTHOR_DATE", "1500000000 +0000")
            .env("GIT_COMMITTER_DATE", "1500000000 +0000")
            .output()
            .expect("git starts");
        assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}
