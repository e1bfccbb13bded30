//! Without root: control groups where one was handed to the user, and what is left without one.
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use testdata::{Granted, Need, Ran, User, skipped, until};

const BINARY: &str = env!("CARGO_BIN_EXE_dunnage");
const NEEDS: [Need; 5] = [
    Need::Root,
    Need::Program("busybox"),
    Need::Program("useradd"),
    Need::Program("newuidmap"),
    Need::Program("setpriv"),
];

/// A control group of version 2 that belongs to a user, as systemd hands one over; gone after the test.
struct Delegated {
    path: PathBuf,
    user: User,
}

impl Delegated {
    /// Nothing where version 2 is not mounted, or not to be written.
    fn new() -> Option<Delegated> {
        let root = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].map(Path::new);
        let root = root.into_iter().find(|root| root.join("cgroup.controllers").exists())?;
        let user = User::new(BINARY, Granted::Ranges);
        let path = root.join(user.name());
        std::fs::create_dir(&path).ok()?;
        let files = ["", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"].map(|file| path.join(file));
        assert!(Command::new("chown").arg(user.name()).args(files).status().unwrap().success());
        Some(Delegated { path, user })
    }

    /// A command of the user, in the group.
    fn run(&self, args: &[&str]) -> Ran {
        let own = self.user.command(self.user.home().join("dunnage"), args);
        let mut command = Command::new("sh");
        command.args(["-c", "echo $$ > \"$0/cgroup.procs\" && exec \"$@\""]).arg(&self.path);
        command.arg(own.get_program()).args(own.get_args()).env_clear();
        command.envs(own.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.current_dir(self.user.home()).stdin(Stdio::null()).output().unwrap().into()
    }

    /// What is below it.
    fn groups(&self) -> Vec<PathBuf> {
        let below = |directory: &Path| -> Vec<PathBuf> {
            let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
            entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
        };
        below(&self.path).iter().flat_map(|parent| below(parent)).collect()
    }
}

impl Drop for Delegated {
    fn drop(&mut self) {
        let _ = std::fs::write(self.path.join("cgroup.kill"), "1");
        for _ in 0..500 {
            let _ = Command::new("find")
                .arg(&self.path)
                .args(["-depth", "-type", "d", "-delete"])
                .stderr(Stdio::null())
                .status();
            if !self.path.exists() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
}

#[test]
fn a_delegated_group_counts_pauses_and_ends_the_containers_of_a_user() {
    if skipped(&NEEDS) {
        return;
    }
    let Some(delegated) = Delegated::new() else { return };
    let user = &delegated.user;
    delegated.run(&["bootstrap", "--from", "busybox", "base"]).ok();
    let info = delegated.run(&["info"]).ok().stdout;
    assert!(info.contains(&format!("/{} was delegated to this user", user.name())), "{info}");
    delegated.run(&["run", "-d", "--name", "work", "base", "sh", "-c", "sleep 100 & wait"]).ok();
    let groups = delegated.groups();
    assert_eq!(groups.len(), 1, "{groups:?}");
    let group = &groups[0];
    let read = |file: &str| std::fs::read_to_string(group.join(file)).unwrap();
    assert!(read("cgroup.events").contains("populated 1"));
    until("both processes are in it", || read("cgroup.procs").lines().count() >= 2);
    delegated.run(&["exec", "work", "true"]).ok();
    user.run(["exec", "work", "true"]).fails(125, "from outside of the one that was delegated to this user");
    // Who comes from elsewhere, as by another login, finds the same group.
    for runs in [&|args: &[&str]| delegated.run(args) as Ran, &|args: &[&str]| user.run(args) as Ran]
        as [&dyn Fn(&[&str]) -> Ran; 2]
    {
        runs(&["pause", "work"]).ok();
        assert!(read("cgroup.events").contains("frozen 1"));
        assert!(runs(&["ps"]).ok().stdout.contains("(Paused)"));
        runs(&["unpause", "work"]).ok();
        assert!(read("cgroup.events").contains("frozen 0"));
        assert!(runs(&["top", "work"]).ok().stdout.matches("sleep 100").count() >= 2);
        let stats = runs(&["stats", "--no-stream", "--format", "{{.PIDs}} {{.MemUsage}}", "work"]).ok().stdout;
        assert!(!stats.starts_with("0 "), "{stats}");
    }
    // Its limits are those of the controllers that came with it.
    let controllers = std::fs::read_to_string(delegated.path.join("cgroup.controllers")).unwrap();
    for (flag, value, controller) in
        [("--memory", "64m", "memory"), ("--pids-limit", "50", "pids"), ("--cpus", "0.5", "cpu")]
    {
        let ran = delegated.run(&["run", "--rm", flag, value, "base", "true"]);
        if !controllers.split_whitespace().any(|given| given == controller) {
            ran.fails(125, controller);
        }
    }
    delegated.run(&["rm", "-f", "work"]).ok();
    until("the group has gone", || delegated.groups().is_empty());
}

#[test]
fn runtime_s07_without_a_group_limits_are_refused_and_never_ignored() {
    if skipped(&NEEDS) {
        return;
    }
    let user = User::new(BINARY, Granted::Nothing);
    user.run(["bootstrap", "--from", "busybox", "base"]).ok();
    for (flag, value) in [("--memory", "64m"), ("--cpus", "0.5"), ("--pids-limit", "50"), ("--cpu-shares", "100")] {
        let refused = user.run(["run", "--rm", flag, value, "base", "echo", "ran"]);
        assert_eq!(refused.stdout, "", "{flag}");
        assert_eq!(refused.stderr.trim().lines().count(), 1, "{flag}: {}", refused.stderr);
        refused.fails(125, "systemd-run --user --scope -p Delegate=yes");
    }
    let info = user.run(["info"]).ok().stdout;
    assert!(info.contains("none was delegated to this user: no limits and no pause"), "{info}");
    // What needs no group is had without one.
    user.run(["run", "-d", "--name", "work", "base", "sh", "-c", "sleep 100 & wait"]).ok();
    // The shell has it in its command line too.
    until("both are listed", || user.run(["top", "work"]).ok().stdout.matches("sleep 100").count() == 2);
    let stats = user.run(["stats", "--no-stream", "--format", "{{.PIDs}} {{.MemUsage}}", "work"]).ok().stdout;
    assert!(stats.starts_with("2 ") && !stats.starts_with("2 0B"), "{stats}");
    user.run(["pause", "work"]).fails(1, "has no control group");
    user.run(["update", "--memory", "64m", "work"]).fails(1, "has no control group");
    user.run(["rm", "-f", "work"]).ok();
}
