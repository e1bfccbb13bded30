//! A daemon of docker of a test's own.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The daemon, with everything in a directory of its own; it ends with this value.
#[derive(Debug)]
pub struct Docker {
    child: Child,
    socket: String,
}

impl Docker {
    /// Starts one and waits until it answers.
    ///
    /// # Panics
    /// When it does not.
    pub fn start(directory: &Path) -> Docker {
        std::fs::create_dir_all(directory).expect("a directory");
        let path = |name: &str| directory.join(name).display().to_string();
        let socket = format!("unix://{}", path("socket"));
        let log = std::fs::File::create(directory.join("log")).expect("a file");
        let child = Command::new("dockerd")
            .args(["--data-root", &path("data"), "--exec-root", &path("exec"), "--pidfile", &path("pid")])
            .args(["-H", &socket, "--storage-driver", "vfs", "--bridge", "none"])
            .args(["--iptables=false", "--ip-forward=false"])
            .args(["--containerd-namespace", "dunnage-test", "--containerd-plugins-namespace", "dunnage-test-plugins"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("dockerd starts");
        let docker = Docker { child, socket };
        let begun = Instant::now();
        while docker.command(&["version"]).output().is_ok_and(|output| !output.status.success()) {
            let log = std::fs::read_to_string(directory.join("log")).unwrap_or_default();
            assert!(begun.elapsed() < Duration::from_secs(120), "dockerd does not start: {log}");
            std::thread::sleep(Duration::from_millis(100));
        }
        docker
    }

    /// A command of its client.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command.args(["-H", &self.socket]).args(args).stdin(Stdio::null());
        command
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        // It ends its containerd with itself, when it is asked to and not killed.
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}
