//! The OCI runtime face: its own command line, and docker and podman on top of it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testdata::{Dunnage, Host, Need, Ran, skipped, until};

const APPLETS: [&str; 19] = [
    "cat", "echo", "env", "grep", "hostname", "id", "kill", "ls", "mkdir", "mknod", "mount", "pwd", "sh", "sleep",
    "stat", "touch", "true", "tty", "umask",
];

/// A store's directory with a bundle in it, and the runtime under the name that callers use.
struct Bundle {
    dunnage: Dunnage,
    runtime: PathBuf,
    config: Value,
}

impl Bundle {
    fn new() -> Option<Bundle> {
        if skipped(&[Need::Root, Need::Program("busybox")]) {
            return None;
        }
        let dunnage = Dunnage::new(env!("CARGO_BIN_EXE_dunnage"));
        let bin = dunnage.dir("bundle/rootfs/bin");
        for name in ["etc", "tmp", "proc", "sys", "dev"] {
            dunnage.dir(&format!("bundle/rootfs/{name}"));
        }
        std::fs::copy("/bin/busybox", bin.join("busybox")).unwrap();
        for applet in APPLETS {
            symlink("busybox", bin.join(applet)).unwrap();
        }
        let runtime = dunnage.dir("bin").join("dunnage-oci");
        symlink(env!("CARGO_BIN_EXE_dunnage"), &runtime).unwrap();
        let mut bundle = Bundle { dunnage, runtime, config: Value::Null };
        bundle.run(["spec", "--bundle", "bundle"]).ok();
        let text = std::fs::read_to_string(bundle.path("bundle/config.json")).unwrap();
        bundle.config = serde_json::from_str(&text).unwrap();
        bundle.config["process"]["terminal"] = json!(false);
        // Tests run side by side, and their containers have the same names.
        let own = bundle.path("").file_name().unwrap().to_string_lossy().into_owned();
        bundle.config["linux"]["cgroupsPath"] = json!(format!("/dunnage/{own}"));
        Some(bundle)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dunnage.root().parent().unwrap().join(name)
    }

    fn script(&mut self, script: &str) {
        self.config["process"]["args"] = json!(["sh", "-c", script]);
        self.write();
    }

    fn write(&self) {
        self.dunnage.write("bundle/config.json", self.config.to_string());
    }

    fn command<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Command {
        let mut command = Command::new(&self.runtime);
        command.arg("--root").arg(self.path("states")).args(["--log", "log", "--log-format", "json"]).args(args);
        command.current_dir(self.path("")).stdin(Stdio::null());
        command
    }

    #[track_caller]
    fn run<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Ran {
        self.command(args).output().unwrap().into()
    }

    /// `create` leaves a process that holds the caller's output, so that goes into a file.
    #[track_caller]
    fn create(&self, id: &str) {
        let output = std::fs::File::create(self.path("output")).unwrap();
        let mut command = self.command(["create", "--bundle", "bundle", "--pid-file", "pid", id]);
        let status = command.stdout(output.try_clone().unwrap()).stderr(output).status().unwrap();
        assert!(status.success(), "{}", self.output());
    }

    fn output(&self) -> String {
        std::fs::read_to_string(self.path("output")).unwrap()
    }

    #[track_caller]
    fn state(&self, id: &str) -> Value {
        serde_json::from_str(&self.run(["state", id]).ok().stdout).unwrap()
    }

    #[track_caller]
    fn wait_for(&self, id: &str, status: &str) {
        let begun = Instant::now();
        while self.state(id)["status"] != status {
            assert!(begun.elapsed() < Duration::from_secs(120), "{id} is {}", self.state(id));
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

#[test]
fn runtime_o01_from_create_to_delete() {
    let Some(mut bundle) = Bundle::new() else { return };
    let before = Host::look(&bundle.dunnage.root());
    bundle.config["annotations"] = json!({"a": "b"});
    bundle.script("echo started; exec sleep 100");
    bundle.create("one");
    let state = bundle.state("one");
    assert_eq!(
        (&state["status"], &state["id"], &state["annotations"]["a"]),
        (&json!("created"), &json!("one"), &json!("b"))
    );
    assert_eq!(state["bundle"], json!(bundle.path("bundle").canonicalize().unwrap()));
    let pid = std::fs::read_to_string(bundle.path("pid")).unwrap();
    assert_eq!(state["pid"].to_string(), pid);
    assert_eq!(bundle.output(), "");
    // What is written into the bundle now has no effect any more.
    bundle.dunnage.write("bundle/config.json", "{}");
    bundle.run(["start", "one"]).ok();
    assert_eq!(bundle.state("one")["status"], "running");
    let said =
        bundle.run(["exec", "--env", "A=b", "--cwd", "/tmp", "one", "sh", "-c", "pwd; echo $A; hostname; exit 7"]);
    assert_eq!((said.stdout.as_str(), said.code), ("/tmp\nb\ndunnage\n", 7));
    let processes: Vec<u32> = serde_json::from_str(&bundle.run(["ps", "--format", "json", "one"]).ok().stdout).unwrap();
    assert_eq!(processes, [pid.parse::<u32>().unwrap()]);
    assert!(bundle.run(["list"]).ok().stdout.contains("running"));
    assert_eq!(bundle.run(["list", "-q"]).ok().stdout, "one\n");
    bundle.run(["kill", "one", "KILL"]).ok();
    bundle.wait_for("one", "stopped");
    assert_eq!(bundle.state("one")["pid"], 0);
    assert_eq!(bundle.output(), "started\n");
    bundle.run(["delete", "one"]).ok();
    bundle.run(["state", "one"]).fails(1, "does not exist");
    before.expect(&bundle.dunnage.root());
}

#[test]
fn runtime_o02_what_is_not_possible_is_refused_and_changes_nothing() {
    let Some(mut bundle) = Bundle::new() else { return };
    bundle.script("exec sleep 100");
    bundle.create("one");
    bundle.run(["create", "--bundle", "bundle", "one"]).fails(1, "already exists");
    bundle.run(["create", "--no-pivot", "--bundle", "bundle", "two"]).fails(1, "--no-pivot is not supported");
    bundle.run(["start", "one"]).ok();
    bundle.run(["start", "one"]).fails(1, "cannot start a container that is running");
    bundle.run(["delete", "one"]).fails(1, "that is not stopped: running");
    bundle.run(["resume", "one"]).fails(1, "not paused");
    assert_eq!(bundle.state("one")["status"], "running");
    for id in ["../x", "a/b", "", ".a", "a b"] {
        bundle.run(["create", "--bundle", "bundle", id]).fails(1, "invalid container ID");
    }
    bundle.run(["create", "--bundle", "nosuch", "two"]).fails(1, "nosuch");
    bundle.run(["kill", "one", "BOGUS"]).fails(1, "BOGUS: no such signal");
    bundle.run(["pause", "one"]).ok();
    assert_eq!(bundle.state("one")["status"], "paused");
    bundle.run(["exec", "one", "true"]).fails(1, "cannot exec in a paused container");
    bundle.run(["resume", "one"]).ok();
    bundle.run(["pause", "one"]).ok();
    bundle.run(["kill", "one", "KILL"]).ok();
    bundle.wait_for("one", "stopped");
    bundle.run(["kill", "one", "TERM"]).fails(1, "container not running");
    bundle.run(["exec", "one", "true"]).fails(1, "cannot exec in a stopped container");
    bundle.run(["delete", "one"]).ok();
    bundle.run(["delete", "one"]).fails(1, "does not exist");
    bundle.run(["delete", "--force", "one"]).ok();
    let log = std::fs::read_to_string(bundle.path("log")).unwrap();
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.iter().all(|line| line["level"] == "error" && line["msg"].is_string() && line["time"].is_string()));
    // A program that is not there is told when the container is made, in the words that callers look for.
    for (program, text) in [
        ("nosuch", "executable file not found in $PATH"),
        ("/etc", "permission denied"),
        ("/x", "no such file or directory"),
    ] {
        bundle.config["process"]["args"] = json!([program]);
        bundle.write();
        bundle.run(["create", "--bundle", "bundle", "three"]).fails(1, text);
        assert_eq!(std::fs::read_dir(bundle.path("states")).unwrap().count(), 0);
    }
}

#[test]
fn what_would_be_ignored_in_a_configuration_is_refused() {
    let Some(mut bundle) = Bundle::new() else { return };
    let plain = bundle.config.clone();
    for (pointer, value, text) in [
        ("/ociVersion", json!("2.0.0"), "ociVersion"),
        ("/process/args", json!([]), "process.args"),
        ("/linux/intelRdt", json!({"closID": "x"}), "linux.intelRdt"),
        ("/linux/cgroupsPath", json!("a.slice:b:c"), "unit of systemd"),
        ("/linux/cgroupsPath", json!("../x"), "must not contain"),
        ("/linux/rootfsPropagation", json!("sideways"), "sideways"),
        ("/linux/namespaces", json!([{"type": "pid"}]), "mount namespace"),
        ("/linux/sysctl", json!({"kernel.panic": "1"}), "kernel.panic"),
        ("/root/path", json!("nosuch"), "nosuch"),
        ("/process/cwd", json!("/nosuch"), "/nosuch"),
        ("/linux/resources/cpu", json!({"cpus": "4000"}), "cpuset"),
        ("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_NOTIFY"}), "NOTIFY"),
        ("/process/apparmorProfile", json!("nosuch-profile"), "pparmor"),
    ] {
        bundle.config = plain.clone();
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        bundle.config.pointer_mut(parent).unwrap()[name] = value;
        bundle.write();
        bundle.run(["create", "--bundle", "bundle", "one"]).fails(1, text);
        let left = std::fs::read_dir(bundle.path("states")).map_or(0, Iterator::count);
        assert_eq!(left, 0, "{pointer}");
    }
}

#[test]
fn runtime_o06_features_are_those_that_work() {
    let Some(bundle) = Bundle::new() else { return };
    let features: Value = serde_json::from_str(&bundle.run(["features"]).ok().stdout).unwrap();
    assert_eq!(features["linux"]["cgroup"]["systemd"], false);
    assert_eq!(features["linux"]["namespaces"].as_array().unwrap().len(), 7);
    let version = bundle.run(["--version"]).ok().stdout;
    assert!(version.lines().next().unwrap().starts_with("dunnage-oci version "), "{version}");
    bundle.run(["--systemd-cgroup", "list"]).fails(1, "cgroupfs");
    let plain: Ran = bundle.dunnage.command(["oci", "features"]).output().unwrap().into();
    assert_eq!(serde_json::from_str::<Value>(&plain.ok().stdout).unwrap(), features);
}

#[test]
fn the_process_is_what_the_configuration_says() {
    let Some(mut bundle) = Bundle::new() else { return };
    let process = &mut bundle.config["process"];
    process["user"] = json!({"uid": 1000, "gid": 1001, "additionalGids": [5, 7], "umask": 0o077});
    process["env"] = json!(["PATH=/bin", "A=b c"]);
    process["cwd"] = json!("/tmp");
    process["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "hard": 200, "soft": 100}]);
    let sets = json!(["CAP_KILL", "CAP_NET_RAW"]);
    process["capabilities"] = json!({"bounding": sets, "effective": ["CAP_KILL"], "permitted": sets, "inheritable": ["CAP_KILL"], "ambient": ["CAP_KILL"]});
    process["oomScoreAdj"] = json!(300);
    bundle.config["hostname"] = json!("box");
    bundle.config["linux"]["sysctl"] = json!({"net.ipv4.ip_forward": "1"});
    let script = "id; umask; pwd; echo $A; hostname; ulimit -n; ulimit -Hn; grep -E 'Cap|NoNew|Seccomp:' /proc/self/status;
        cat /proc/self/oom_score_adj /proc/sys/net/ipv4/ip_forward; touch /x; touch /proc/sys/kernel/panic; ls /proc/acpi";
    bundle.script(script);
    let ran = bundle.run(["run", "--bundle", "bundle", "one"]);
    let wanted = [
        "uid=1000 gid=1001 groups=5,7,1001",
        "0077",
        "/tmp",
        "b c",
        "box",
        "100",
        "200",
        "CapInh:\t0000000000000020",
        "CapPrm:\t0000000000000020",
        "CapEff:\t0000000000000020",
        "CapBnd:\t0000000000002020",
        "CapAmb:\t0000000000000020",
        "NoNewPrivs:\t1",
        "Seccomp:\t0",
        "300",
        "1",
    ];
    assert_eq!(ran.stdout.lines().collect::<Vec<_>>(), wanted, "{}", ran.stderr);
    assert_eq!(ran.stderr.matches("Read-only file system").count(), 2, "{}", ran.stderr);
}

#[test]
fn mounts_and_devices_are_what_the_configuration_says() {
    let Some(mut bundle) = Bundle::new() else { return };
    bundle.dunnage.write("host/inner/file", "content\n");
    bundle.dunnage.write("bundle/rootfs/var/lib/there", "below\n");
    bundle.config["root"]["readonly"] = json!(false);
    let mounts = bundle.config["mounts"].as_array_mut().unwrap();
    mounts.extend([
        json!({"destination": "/data", "source": "../host", "options": ["rbind", "ro"]}),
        json!({"destination": "/work", "source": "../host", "options": ["bind"]}),
        json!({"destination": "/var/lib", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup", "size=1m", "nosuid"]}),
        json!({"destination": "/var/lib/deep", "source": "../host/inner/file", "options": ["bind", "ro"]}),
    ]);
    bundle.config["linux"]["devices"] =
        json!([{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o600}]);
    bundle.config["linux"]["maskedPaths"] = json!(["/etc/hidden", "/proc/keys", "/data/inner"]);
    bundle.dunnage.write("bundle/rootfs/etc/hidden", "secret\n");
    bundle.script(
        "cat /data/inner/file; touch /data/x; touch /work/x && echo written; cat /var/lib/there /var/lib/deep; cat /etc/hidden;
        stat -c %F:%t:%T:%a /dev/fuse /dev/null; ls -l /dev/ptmx /dev/fd | grep -c pts/ptmx; cat /proc/keys; ls /data/inner;
        grep -c ' /var/lib tmpfs .*nosuid.*size=1024k' /proc/self/mounts; ls /sys/fs/cgroup | grep -c .; : < /dev/fuse; echo x > /dev/null",
    );
    let ran = bundle.run(["run", "--bundle", "bundle", "one"]);
    assert_eq!(ran.stdout.lines().count(), 8, "{ran:?}");
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert_eq!(
        lines[..6],
        ["written", "below", "content", "character special file:a:e5:600", "character special file:1:3:666", "1"],
        "{ran:?}"
    );
    assert_eq!(lines[6], "1", "{ran:?}");
    assert!(lines[7].parse::<u32>().unwrap() > 0, "{ran:?}");
    assert!(ran.stderr.contains("/data/inner/file") && ran.stderr.contains("/data/x: Read-only"), "{ran:?}");
    assert!(ran.stderr.contains("/dev/fuse: Operation not permitted"), "{ran:?}");
    assert!(!bundle.path("bundle/rootfs/var/lib/deep").exists());
}

#[test]
fn a_filter_from_json_decides() {
    let Some(mut bundle) = Bundle::new() else { return };
    for no_new_privileges in [true, false] {
        bundle.config["process"]["noNewPrivileges"] = json!(no_new_privileges);
        bundle.config["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
            "syscalls": [
                {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28},
                {"names": ["kill"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 1, "value": 10, "op": "SCMP_CMP_EQ"}]},
            ],
        });
        bundle.script("grep Seccomp: /proc/self/status; mkdir /tmp/x; kill -10 1; kill -0 1 && echo alive");
        let ran = bundle.run(["run", "--bundle", "bundle", "one"]);
        assert_eq!(ran.stdout, "Seccomp:\t2\nalive\n", "{ran:?}");
        assert!(
            ran.stderr.contains("No space left on device") && ran.stderr.contains("Operation not permitted"),
            "{ran:?}"
        );
    }
}

#[test]
fn a_user_namespace_has_its_own_ids() {
    let Some(mut bundle) = Bundle::new() else { return };
    bundle.config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
    for map in ["uidMappings", "gidMappings"] {
        bundle.config["linux"][map] = json!([{"containerID": 0, "hostID": 100_000, "size": 1000}]);
    }
    bundle.config["root"]["readonly"] = json!(false);
    bundle.config["process"]["user"] = json!({"uid": 7, "gid": 8});
    let rootfs = bundle.path("bundle/rootfs");
    assert!(Command::new("chown").args(["-R", "100000:100000"]).arg(&rootfs).status().unwrap().success());
    bundle.script("id -u; cat /proc/self/uid_map | tr -s ' '; stat -c %u:%g /dev /bin/sh; echo x > /dev/null && echo null; exec sleep 100");
    symlink("busybox", rootfs.join("bin/tr")).unwrap();
    bundle.create("one");
    bundle.run(["start", "one"]).ok();
    let begun = Instant::now();
    while !bundle.output().contains("null") {
        assert!(begun.elapsed() < Duration::from_secs(120), "{}", bundle.output());
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(bundle.output(), "7\n 0 100000 1000\n0:0\n0:0\nnull\n");
    let pid = bundle.state("one")["pid"].to_string();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    assert!(status.contains("Uid:\t100007\t"), "{status}");
    let said =
        bundle.run(["exec", "--user", "0:0", "one", "sh", "-c", "id -u; echo x > /tmp/made; stat -c %u /tmp/made"]);
    assert_eq!(said.stdout, "0\n0\n", "{said:?}");
    bundle.run(["delete", "--force", "one"]).ok();
}

#[test]
fn hooks_run_in_their_order_and_may_stop_everything() {
    let Some(mut bundle) = Bundle::new() else { return };
    let trace = bundle.path("trace");
    let hook = |name: &str| json!([{"path": "/bin/sh", "args": ["sh", "-c", format!("echo {name} $(grep -o '\"status\":\"[a-z]*\"' | head -c 40) >> {}", trace.display())], "env": ["PATH=/bin:/usr/bin"]}]);
    for name in ["prestart", "createRuntime", "createContainer", "poststart", "poststop"] {
        bundle.config["hooks"][name] = hook(name);
    }
    bundle.config["root"]["readonly"] = json!(false);
    bundle.config["hooks"]["startContainer"] =
        json!([{"path": "/bin/sh", "args": ["sh", "-c", "echo startContainer > /tmp/trace"], "env": ["PATH=/bin"]}]);
    bundle.script("cat /tmp/trace");
    let ran = bundle.run(["run", "--bundle", "bundle", "one"]).ok();
    assert_eq!(ran.stdout, "startContainer\n");
    let order = std::fs::read_to_string(&trace).unwrap();
    let names: Vec<&str> = order.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(names, ["prestart", "createRuntime", "createContainer", "poststart", "poststop"], "{order}");
    for name in ["prestart", "createRuntime", "createContainer"] {
        bundle.config["hooks"] = json!({name: [{"path": "/bin/sh", "args": ["sh", "-c", "exit 3"]}]});
        bundle.write();
        bundle.run(["create", "--bundle", "bundle", "two"]).fails(1, "hook /bin/sh");
        assert_eq!(std::fs::read_dir(bundle.path("states")).unwrap().count(), 0);
    }
}

#[test]
fn limits_are_set_changed_and_told() {
    let Some(mut bundle) = Bundle::new() else { return };
    bundle.config["linux"]["resources"]["pids"] = json!({"limit": 50});
    bundle.script("exec sleep 100");
    bundle.create("one");
    bundle.run(["start", "one"]).ok();
    let pids = |bundle: &Bundle| {
        let event: Value = serde_json::from_str(&bundle.run(["events", "--stats", "one"]).ok().stdout).unwrap();
        assert_eq!(event["type"], "stats");
        (event["data"]["pids"]["current"].as_u64().unwrap(), event["data"]["pids"]["limit"].as_u64().unwrap())
    };
    assert_eq!(pids(&bundle), (1, 50));
    bundle.run(["update", "--pids-limit", "60", "one"]).ok();
    assert_eq!(pids(&bundle), (1, 60));
    bundle.dunnage.write("limits.json", r#"{"pids": {"limit": 70}}"#);
    bundle.run(["update", "--resources", "limits.json", "one"]).ok();
    assert_eq!(pids(&bundle), (1, 70));
    bundle.run(["update", "--cpuset-cpus", "4000", "one"]).fails(1, "set of processors");
    bundle.run(["delete", "--force", "one"]).ok();
}

impl Drop for Bundle {
    /// A test that fails leaves no container running.
    fn drop(&mut self) {
        for id in self.run(["list", "-q"]).stdout.lines() {
            self.run(["delete", "--force", id]);
        }
    }
}

/// A program that runs beside the test, and ends with it.
struct Daemon {
    child: Child,
    directory: PathBuf,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        signal(self.child.id(), "TERM");
        let begun = Instant::now();
        while self.child.try_wait().is_ok_and(|status| status.is_none()) {
            if begun.elapsed() > Duration::from_secs(120) {
                let _ = self.child.kill();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        // A daemon that was killed leaves its own helper behind.
        let pid = std::fs::read_to_string(self.directory.join("exec/containerd/containerd.pid")).unwrap_or_default();
        if let Ok(pid) = pid.trim().parse() {
            signal(pid, "KILL");
        }
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        for mount in mounts.lines().rev().filter_map(|line| line.split(' ').nth(1)) {
            if Path::new(mount).starts_with(&self.directory) {
                let _ = Command::new("umount").args(["-l", mount]).status();
            }
        }
    }
}

fn signal(pid: u32, name: &str) {
    let _ = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).stderr(Stdio::null()).status();
}

fn docker(socket: &str, args: &[&str]) -> Ran {
    Command::new("/usr/bin/docker").args(args).env("DOCKER_HOST", socket).stdin(Stdio::null()).output().unwrap().into()
}

/// Callers leave the groups above those of their containers; a group with others in it stays.
fn remove_parents(name: &str) {
    let root = Path::new("/sys/fs/cgroup");
    let hierarchies = std::fs::read_dir(root).unwrap().flatten().map(|entry| entry.path());
    for directory in hierarchies.chain([root.to_owned()]) {
        let _ = std::fs::remove_dir(directory.join(name));
    }
}

/// A root file system of busybox as a tar.
fn archive(bundle: &Bundle) -> PathBuf {
    let tar = bundle.path("base.tar");
    let rootfs = bundle.path("bundle/rootfs");
    std::fs::set_permissions(&rootfs, std::fs::Permissions::from_mode(0o755)).unwrap();
    let status = Command::new("tar").arg("-C").arg(rootfs).arg("-cf").arg(&tar).arg(".").status().unwrap();
    assert!(status.success());
    tar
}

#[test]
fn runtime_o04_docker_runs_its_containers_with_it() {
    let Some(bundle) = Bundle::new() else { return };
    if skipped(&[Need::Program("dockerd"), Need::Program("containerd")]) {
        return;
    }
    let directory = bundle.dunnage.dir("d");
    let socket = format!("unix://{}", directory.join("sock").display());
    let log = std::fs::File::create(directory.join("log")).unwrap();
    let mut dockerd = Command::new("dockerd");
    dockerd
        .args(["-H", &socket, "--data-root"])
        .arg(directory.join("data"))
        .arg("--exec-root")
        .arg(directory.join("exec"));
    dockerd.arg("--pidfile").arg(directory.join("pid")).args([
        "--bridge=none",
        "--iptables=false",
        "--ip6tables=false",
    ]);
    dockerd
        .args(["--default-runtime", "dunnage", "--add-runtime"])
        .arg(format!("dunnage={}", bundle.runtime.display()));
    let child = dockerd.stdout(log.try_clone().unwrap()).stderr(log).stdin(Stdio::null()).spawn().unwrap();
    let daemon = Daemon { child, directory: directory.clone() };
    let begun = Instant::now();
    while docker(&socket, &["version"]).code != 0 {
        let said = || std::fs::read_to_string(directory.join("log")).unwrap();
        assert!(begun.elapsed() < Duration::from_secs(120), "{}", said());
        std::thread::sleep(Duration::from_millis(50));
    }
    let docker = |args: &[&str]| docker(&socket, args);
    docker(&["import", archive(&bundle).to_str().unwrap(), "base"]).ok();
    assert!(docker(&["info"]).ok().stdout.contains("Default Runtime: dunnage"));
    let script = "echo hi; hostname; grep -E 'Seccomp:|CapEff' /proc/self/status; exit 7";
    let ran = docker(&["run", "--rm", "--hostname", "box", "base", "sh", "-c", script]);
    assert_eq!((ran.stdout.as_str(), ran.code), ("hi\nbox\nCapEff:\t00000000a80425fb\nSeccomp:\t2\n", 7), "{ran:?}");
    docker(&["run", "--rm", "base", "nosuch"]).fails(127, "executable file not found");
    docker(&["run", "--rm", "base", "/etc"]).fails(126, "permission denied");
    let limited =
        ["run", "--rm", "-m", "32m", "base", "busybox", "dd", "if=/dev/zero", "of=/dev/null", "bs=64M", "count=1"];
    docker(&limited).fails_with(137);
    docker(&["run", "-d", "--name", "web", "--init", "base", "sleep", "1000"]).ok();
    let ran = docker(&["exec", "-e", "A=b", "-w", "/tmp", "-u", "1000:5", "web", "sh", "-c", "pwd; echo $A; id"]).ok();
    assert!(ran.stdout.starts_with("/tmp\nb\nuid=1000 gid=5"), "{ran:?}");
    assert_eq!(docker(&["exec", "-t", "web", "tty"]).ok().stdout.trim(), "/dev/pts/0");
    // 126 with any runtime in docker 20.10, 127 in later ones.
    assert!(matches!(docker(&["exec", "web", "nosuch"]).code, 126 | 127));
    assert!(docker(&["top", "web"]).ok().stdout.contains("sleep 1000"));
    docker(&["pause", "web"]).ok();
    assert_eq!(docker(&["inspect", "-f", "{{.State.Status}}", "web"]).ok().stdout, "paused\n");
    docker(&["unpause", "web"]).ok();
    docker(&["update", "--pids-limit", "40", "web"]).ok();
    assert!(
        docker(&["stats", "--no-stream", "--format", "{{.PIDs}}", "web"]).ok().stdout.trim().parse::<u32>().unwrap()
            >= 1
    );
    docker(&["restart", "-t", "1", "web"]).ok();
    // An init that has no child yet has no handlers either, and as process 1 it does not see the signal then.
    until("the program under docker's init", || docker(&["top", "web"]).stdout.contains("sleep 1000"));
    docker(&["stop", "-t", "5", "web"]).ok();
    assert_eq!(docker(&["inspect", "-f", "{{.State.ExitCode}}", "web"]).ok().stdout, "143\n");
    docker(&["rm", "web"]).ok();
    assert_eq!(docker(&["run", "--rm", "-t", "base", "tty"]).ok().stdout.trim(), "/dev/pts/0");
    assert_eq!(
        docker(&["run", "--rm", "--privileged", "base", "grep", "Seccomp:", "/proc/self/status"]).ok().stdout,
        "Seccomp:\t0\n"
    );
    let volume = format!("{}:/m:ro", bundle.path("bundle").display());
    docker(&[
        "run",
        "--rm",
        "-v",
        &volume,
        "--read-only",
        "--tmpfs",
        "/t",
        "base",
        "sh",
        "-c",
        "ls /m/rootfs/bin/sh && touch /t/x && ! touch /m/x && ! touch /x",
    ])
    .ok();
    assert_eq!(docker(&["ps", "-aq"]).ok().stdout, "");
    drop(daemon);
    remove_parents("docker");
}

#[test]
fn runtime_o04_podman_runs_its_containers_with_it() {
    let Some(bundle) = Bundle::new() else { return };
    if skipped(&[Need::Program("podman"), Need::Program("conmon")]) {
        return;
    }
    // Podman takes no long paths.
    let short = tempfile::Builder::new().prefix("dn").tempdir().unwrap();
    let directory = short.path().to_owned();
    let podman = |args: &[&str]| -> Ran {
        let mut podman = Command::new("podman");
        podman.arg("--runtime").arg(&bundle.runtime).args(["--cgroup-manager=cgroupfs", "--events-backend=none"]);
        podman.arg("--root").arg(directory.join("root")).arg("--runroot").arg(directory.join("run"));
        podman.arg("--tmpdir").arg(directory.join("tmp")).args(args).stdin(Stdio::null()).output().unwrap().into()
    };
    podman(&["import", archive(&bundle).to_str().unwrap(), "base"]).ok();
    let run = ["run", "--rm", "--network=host"];
    let script = "echo hi; grep -E 'Seccomp:' /proc/self/status; exit 7";
    let ran = podman(&[&run[..], &["base", "sh", "-c", script]].concat());
    assert_eq!((ran.stdout.as_str(), ran.code), ("hi\nSeccomp:\t2\n", 7), "{ran:?}");
    assert_eq!(podman(&[&run[..], &["base", "nosuch"]].concat()).code, 127);
    assert_eq!(podman(&[&run[..], &["base", "/etc"]].concat()).code, 126);
    assert_eq!(podman(&["run", "--rm", "--network=none", "-t", "base", "tty"]).ok().stdout.trim(), "/dev/pts/0");
    podman(&[
        "run",
        "-d",
        "--network=none",
        "--name",
        "web",
        "base",
        "sh",
        "-c",
        "trap 'exit 3' TERM; while :; do sleep 0.1; done",
    ])
    .ok();
    assert_eq!(
        podman(&["exec", "-w", "/tmp", "-e", "A=b", "web", "sh", "-c", "pwd; echo $A"]).ok().stdout,
        "/tmp\nb\n"
    );
    assert_eq!(podman(&["exec", "-t", "web", "tty"]).ok().stdout.trim(), "/dev/pts/0");
    let file = bundle.dunnage.write("copied", "content\n");
    podman(&["cp", file.to_str().unwrap(), "web:/tmp/copied"]).ok();
    assert_eq!(podman(&["exec", "web", "cat", "/tmp/copied"]).ok().stdout, "content\n");
    podman(&["pause", "web"]).ok();
    assert_eq!(podman(&["inspect", "-f", "{{.State.Status}}", "web"]).ok().stdout, "paused\n");
    podman(&["unpause", "web"]).ok();
    podman(&["stop", "-t", "10", "web"]).ok();
    assert_eq!(podman(&["inspect", "-f", "{{.State.ExitCode}}", "web"]).ok().stdout, "3\n");
    podman(&["rm", "web"]).ok();
    assert_eq!(podman(&["ps", "-aq"]).ok().stdout, "");
    podman(&["rmi", "-a", "-f"]).ok();
    let _ = Command::new("umount").arg("-l").arg(directory.join("root/overlay")).stderr(Stdio::null()).status();
    remove_parents("libpod_parent");
}
