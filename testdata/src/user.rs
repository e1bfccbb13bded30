//! A user of the machine without any rights, made for a test and gone after it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::Ran;

/// Which ids the user is granted in /etc/subuid and /etc/subgid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Granted {
    /// 65,536 of each, as useradd(8) does by default.
    Ranges,
    /// None.
    Nothing,
}

/// An unprivileged user with a home directory, and the binary in it. Making one needs root.
#[derive(Debug)]
pub struct User {
    name: String,
    home: PathBuf,
}

impl User {
    /// Adds a user. `binary` is `env!("CARGO_BIN_EXE_dunnage")`.
    ///
    /// # Panics
    /// When the machine does not let a user be made.
    pub fn new(binary: &str, granted: Granted) -> User {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("dt{}n{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let home = PathBuf::from("/var/tmp").join(&name);
        let range = if granted == Granted::Ranges { "65536" } else { "0" };
        let added = Command::new("useradd")
            .args(["-m", "-s", "/bin/sh", "-K", &format!("SUB_UID_COUNT={range}")])
            .args(["-K", &format!("SUB_GID_COUNT={range}"), "-d"])
            .args([home.as_os_str(), OsStr::new(&name)])
            .output()
            .expect("useradd starts");
        assert!(added.status.success(), "useradd: {}", String::from_utf8_lossy(&added.stderr));
        let user = User { name, home };
        // The build directory may be closed to others.
        // By another process: a child of this one that starts meanwhile would hold the copy open for writing.
        let copied = Command::new("cp").arg(binary).arg(user.home.join("dunnage")).status();
        assert!(copied.is_ok_and(|status| status.success()), "a copy of the binary");
        user
    }

    /// The user's directory.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// The user's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A file in the user's directory, belonging to the user.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        let path = self.home.join(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        std::fs::write(&path, text).expect("a file");
        self.take(Path::new(name.split('/').next().unwrap_or(name)));
    }

    /// Gives what is there under this name, with all below it, to the user.
    ///
    /// # Panics
    /// When it cannot be given.
    pub fn take(&self, name: &Path) {
        let owner = format!("{0}:{0}", self.name);
        let given = Command::new("chown").args(["-R", &owner]).arg(self.home.join(name)).status();
        assert!(given.is_ok_and(|status| status.success()), "chown {}", name.display());
    }

    /// A program as this user, with a clean environment, in the home directory; not yet started.
    pub fn command<S: AsRef<OsStr>>(&self, program: impl AsRef<OsStr>, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new("setpriv");
        command
            .args(["--reuid", &self.name, "--regid", &self.name, "--init-groups", "--inh-caps=-all", "--"])
            .arg(program)
            .args(args)
            .env_clear()
            .envs([("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"), ("USER", &self.name)])
            .env("HOME", &self.home)
            .current_dir(&self.home)
            .stdin(Stdio::null());
        command
    }

    /// Runs `dunnage` as this user to its end.
    ///
    /// # Panics
    /// When it cannot be started.
    #[track_caller]
    pub fn run<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Ran {
        self.command(self.home.join("dunnage"), args).output().expect("the binary starts").into()
    }

    /// A directory with these programs and no others.
    ///
    /// # Panics
    /// When one of them is not there.
    pub fn bin(&self, programs: &[&str]) -> PathBuf {
        let bin = self.home.join(format!("bin-{}", programs.join("-")));
        if !bin.exists() {
            std::fs::create_dir(&bin).expect("a directory");
            for program in programs {
                let found = crate::find_program(program).expect("the program");
                std::os::unix::fs::symlink(found, bin.join(program)).expect("a link");
            }
        }
        bin
    }

    /// The same, with no other programs on its PATH than these.
    ///
    /// # Panics
    /// When it cannot be started.
    #[track_caller]
    pub fn run_with<S: AsRef<OsStr>>(&self, programs: &[&str], args: impl IntoIterator<Item = S>) -> Ran {
        let bin = self.bin(programs);
        let mut command = self.command("env", [format!("PATH={}", bin.display())]);
        command.arg(self.home.join("dunnage")).args(args).output().expect("the binary starts").into()
    }

    /// Builds the context with this Dockerfile and gives the image's id.
    ///
    /// # Panics
    /// When the build fails.
    #[track_caller]
    pub fn build(&self, dockerfile: &str) -> String {
        self.write("context/Dockerfile", dockerfile);
        self.run(["build", "-q", "-t", "app", "context"]).ok().stdout.trim().to_owned()
    }
}

impl Drop for User {
    fn drop(&mut self) {
        // What is left of the user is of no use to anyone, and there is no one to tell. A test that failed has left
        // processes too: this user's alone, who was made for it.
        let _ = Command::new("pkill").args(["-9", "-U", &self.name]).stderr(Stdio::null()).status();
        let _ = Command::new("userdel").args(["-f", &self.name]).stderr(Stdio::null()).status();
        let _ = std::fs::remove_dir_all(&self.home);
    }
}
