//! A small image of busybox, and short ways to run something in it.
use std::ffi::OsString;
use std::fs;
use std::io::Read;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dunnage_runtime::{Container, Exit, OverlayOptions, Result, Rootfs, Sandbox, Stdio};
use tempfile::TempDir;
use testdata::{Need, skipped};

const BUSYBOX: [&str; 2] = ["/usr/bin/busybox", "/bin/busybox"];
const APPLETS: [&str; 33] = [
    "cat", "chmod", "cp", "df", "echo", "env", "false", "grep", "hostname", "id", "ifconfig", "kill", "ls", "mkdir",
    "mknod", "mount", "ps", "pwd", "readlink", "rm", "seq", "sh", "sleep", "stat", "stty", "test", "touch", "true",
    "tr", "tty", "unshare", "umask", "wc",
];

/// Directories of one test; gone with it.
#[derive(Debug)]
pub struct Image {
    directory: TempDir,
}

/// What a sandbox printed, and how it ended.
#[derive(Debug)]
pub struct Outcome {
    pub stdout: String,
    pub stderr: String,
    pub exit: Exit,
}

impl Image {
    /// A fresh image, or nothing where the tests cannot run.
    pub fn new() -> Option<Image> {
        if skipped(&[Need::Root, Need::Program("busybox")]) {
            return None;
        }
        let busybox = BUSYBOX.iter().find(|path| Path::new(path).exists()).expect("a static busybox");
        let image = Image { directory: tempfile::tempdir().unwrap() };
        for name in ["lower/bin", "lower/etc", "lower/tmp", "upper", "work"] {
            fs::create_dir_all(image.path(name)).unwrap();
        }
        fs::copy(busybox, image.path("lower/bin/busybox")).unwrap();
        for applet in APPLETS {
            symlink("busybox", image.path("lower/bin").join(applet)).unwrap();
        }
        Some(image)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn lower(&self, name: &str) -> PathBuf {
        self.path("lower").join(name)
    }

    pub fn rootfs(&self) -> Arc<Rootfs> {
        let options = OverlayOptions::default();
        Arc::new(Rootfs::overlay(&[self.path("lower")], &self.path("upper"), &self.path("work"), options).unwrap())
    }

    pub fn sandbox<S: Into<OsString>>(&self, argv: impl IntoIterator<Item = S>) -> Sandbox {
        let mut sandbox = Sandbox::new(self.rootfs(), argv);
        sandbox.stdio = Stdio::Pipes;
        sandbox
    }

    /// Runs a shell script with Docker's defaults.
    pub fn shell(&self, script: &str) -> Outcome {
        run(self.sandbox(["sh", "-c", script])).unwrap()
    }

    /// Everything below the upper directory.
    pub fn upper(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut rest = vec![self.path("upper")];
        while let Some(directory) = rest.pop() {
            for entry in fs::read_dir(directory).unwrap() {
                let entry = entry.unwrap();
                if entry.file_type().unwrap().is_dir() {
                    rest.push(entry.path());
                }
                found.push(entry.path());
            }
        }
        found
    }
}

/// Starts, reads everything, waits.
pub fn run(sandbox: Sandbox) -> Result<Outcome> {
    finish(sandbox.start()?)
}

pub fn finish(mut container: Container) -> Result<Outcome> {
    let (mut out, mut err) = (container.take_stdout().unwrap(), container.take_stderr().unwrap());
    let errors = std::thread::spawn(move || {
        let mut text = Vec::new();
        err.read_to_end(&mut text).unwrap();
        text
    });
    let mut text = Vec::new();
    out.read_to_end(&mut text).unwrap();
    let exit = container.wait()?;
    Ok(Outcome {
        stdout: String::from_utf8_lossy(&text).into_owned(),
        stderr: String::from_utf8_lossy(&errors.join().unwrap()).into_owned(),
        exit,
    })
}

/// Opens the image of a test, or leaves the test.
#[macro_export]
macro_rules! image {
    () => {
        match $crate::fixture::Image::new() {
            Some(image) => image,
            None => return,
        }
    };
}
