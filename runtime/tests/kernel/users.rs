//! Containers in user namespaces of their own, on layers whose owners are mapped.
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::sync::Arc;

use dunnage_runtime::{
    IdRange, IdRanges, Mount, NetworkMode, OverlayInterface, OverlayOptions, Resource, Rlimit, Rootfs, Running,
    Sandbox, Stdio, TerminalSize, UserIds, UserNamespace, start_time,
};

use crate::fixture::{Image, run};
use crate::image;

const FIRST: u32 = 1_900_000_000;

fn users() -> Arc<UserNamespace> {
    let range = || vec![IdRange { inside: 0, outside: FIRST, count: 65_536 }];
    Arc::new(UserNamespace::new(IdRanges { users: range(), groups: range() }, false).unwrap())
}

fn mapped(image: &Image, interface: OverlayInterface) -> Sandbox {
    let users = users();
    dunnage_runtime::mount_point_layer(&image.path("points")).unwrap();
    let options = OverlayOptions {
        mount_points: dunnage_runtime::MountPoints::Shared(image.path("points")),
        interface,
        users: Some(Arc::clone(&users)),
        ..OverlayOptions::default()
    };
    let lowers = [image.path("lower")];
    let rootfs = Rootfs::overlay(&lowers, &image.path("upper"), &image.path("work"), options).unwrap();
    let mut sandbox = Sandbox::new(Arc::new(rootfs), ["sh"]);
    sandbox.users = Some(users);
    sandbox.stdio = Stdio::Pipes;
    sandbox
}

fn shell(sandbox: Sandbox, script: &str) -> String {
    let mut sandbox = sandbox;
    sandbox.argv = ["sh", "-c", script].map(Into::into).to_vec();
    let outcome = run(sandbox).unwrap();
    assert!(outcome.exit.success(), "{}{}", outcome.stdout, outcome.stderr);
    assert_eq!(outcome.stderr, "");
    outcome.stdout
}

#[test]
fn what_user_0_of_a_namespace_writes_is_user_0s_on_disk() {
    for interface in [OverlayInterface::Newest, OverlayInterface::Classic] {
        let image = image!();
        fs::write(image.lower("owned"), "text").unwrap();
        chown(image.lower("owned"), Some(1000), Some(1001)).unwrap();
        let script = "cat /proc/self/uid_map; stat -c %u:%g /bin /owned /etc/hosts /dev /dev/shm /dev/null; \
                      echo new > /new; echo more >> /owned; chown 7:8 /new; chmod 4755 /new; mkdir -p /deep/er; \
                      echo /dev/pts/*; hostname; rm /bin/wc; touch /sys/x 2>/dev/null || echo closed";
        let stdout = shell(mapped(&image, interface), script);
        let lines: Vec<String> =
            stdout.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(lines[0], format!("0 {FIRST} 65536"));
        assert_eq!(lines[1..7], ["0:0", "1000:1001", "0:0", "0:0", "0:0", "0:0"], "{interface:?}");
        assert_eq!(lines[7..], ["/dev/pts/ptmx", "dunnage", "closed"]);
        let of = |name: &str| fs::symlink_metadata(image.path("upper").join(name)).unwrap();
        assert_eq!((of("new").uid(), of("new").gid(), of("new").permissions().mode() & 0o7777), (7, 8, 0o4755));
        assert_eq!((of("owned").uid(), of("owned").gid()), (1000, 1001));
        assert_eq!((of("deep/er").uid(), of("bin/wc").rdev()), (0, 0));
        assert_eq!(fs::read_to_string(image.path("upper/owned")).unwrap(), "textmore\n");
    }
}

#[test]
fn security_s02_user_0_is_nobody_on_the_machine() {
    let image = image!();
    let secret = image.path("source");
    fs::create_dir(&secret).unwrap();
    fs::write(secret.join("secret"), "text").unwrap();
    fs::set_permissions(secret.join("secret"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o755)).unwrap();
    let bind = |target: &str, mapped: bool| Mount::Bind {
        source: secret.clone().into(),
        target: target.into(),
        read_only: false,
        recursive: true,
        propagation: None,
        mapped,
    };
    let mut sandbox = mapped(&image, OverlayInterface::Newest);
    sandbox.mounts = vec![bind("/plain", false), bind("/mapped", true)];
    let script = "stat -c %u /plain/secret /mapped/secret; cat /plain/secret 2>/dev/null || echo closed; \
                  touch /plain/new 2>/dev/null || echo closed; cat /mapped/secret; echo; touch /mapped/new; \
                  chown 5:5 /mapped/new";
    assert_eq!(shell(sandbox, script), "65534\n0\nclosed\nclosed\ntext\n");
    assert_eq!(fs::metadata(secret.join("new")).unwrap().uid(), 5);
    assert!(!secret.join("x").exists());
}

#[test]
fn the_walls_stand_as_without() {
    let image = image!();
    let mut sandbox = mapped(&image, OverlayInterface::Newest);
    sandbox.user = UserIds { uid: 1000, gid: 1000, groups: vec![1000, 5] };
    sandbox.mounts = vec![Mount::Tmpfs { target: "/t".into(), size: None, mode: 0o700, executable: false }];
    let script = "id -u; id -G; grep -E '^(NoNewPrivs|Seccomp|CapEff|CapBnd):' /proc/self/status | tr '\\t\\n' '  '; echo; \
                  stat -c %u /t; ls / >/dev/null; cat /proc/interrupts; echo 1 2>/dev/null >/proc/sys/kernel/printk || echo no";
    let with = shell(sandbox.clone(), script);
    assert_eq!(
        with,
        "1000\n1000 5\nCapEff: 0000000000000000 CapBnd: 00000000a80425fb NoNewPrivs: 0 Seccomp: 2 \n0\nno\n"
    );
}

#[test]
fn limits_above_the_callers_are_raised_before() {
    let image = image!();
    let mut sandbox = mapped(&image, OverlayInterface::Newest);
    let limit = |soft, hard| Rlimit { resource: Resource::Nofile, soft: Some(soft), hard: Some(hard) };
    sandbox.rlimits = vec![limit(100, 200)];
    sandbox.oom_score_adj = Some(300);
    let script = "ulimit -Sn; ulimit -Hn; cat /proc/self/oom_score_adj";
    assert_eq!(shell(sandbox, script), "100\n200\n300\n");
}

#[test]
fn a_process_more_is_of_the_same_users() {
    let image = image!();
    let mut sandbox = mapped(&image, OverlayInterface::Newest);
    sandbox.argv = ["sleep", "100"].map(Into::into).to_vec();
    let container = sandbox.start().unwrap();
    let pid = container.pid();
    assert_eq!(fs::metadata(format!("/proc/{pid}")).unwrap().uid(), FIRST);
    let running = Arc::new(Running::find(pid, start_time(pid).unwrap()).unwrap().unwrap());
    let ids = running.ids().unwrap().unwrap();
    assert_eq!(ids.user(7), Some(FIRST + 7));
    let mut inner = Sandbox::within(
        Arc::clone(&running),
        ["sh", "-c", "id -u; stat -c %u /proc/self/fd/1; echo x > /proc/self/fd/1"],
    );
    inner.ids = Some(ids.clone());
    inner.stdio = Stdio::Pipes;
    inner.user = UserIds { uid: 9, gid: 9, groups: vec![] };
    assert_eq!(run(inner).unwrap().stdout, "9\n9\nx\n");
    let mut inner = Sandbox::within(running, ["sh", "-c", "tty; stat -c %u:%g $(tty)"]);
    inner.ids = Some(ids);
    inner.stdio = Stdio::Terminal(TerminalSize::default());
    let mut process = inner.start().unwrap();
    let terminal = process.terminal().unwrap();
    let _ = terminal;
    process.wait().unwrap();
}

#[test]
fn the_network_of_the_machine_can_be_shared() {
    let image = image!();
    let mut sandbox = mapped(&image, OverlayInterface::Newest);
    sandbox.network = NetworkMode::Host;
    let script = "test -d /sys/class/net/lo && readlink /proc/self/ns/net";
    let own = fs::read_link("/proc/self/ns/net").unwrap();
    assert_eq!(shell(sandbox, script), format!("{}\n", own.display()));
}

#[test]
fn a_plain_directory_can_be_shown_too() {
    let image = image!();
    let users = users();
    let root = image.path("lower");
    for name in ["dev", "proc", "sys"] {
        fs::create_dir_all(root.join(name)).unwrap();
    }
    let rootfs = Rootfs::directory_of(&root, &users).unwrap();
    let mut sandbox = Sandbox::new(Arc::new(rootfs), ["sh"]);
    sandbox.users = Some(users);
    sandbox.stdio = Stdio::Pipes;
    assert_eq!(shell(sandbox, "echo x > /new; chown 3:4 /new; stat -c %u /new"), "3\n");
    assert_eq!(fs::metadata(Path::new(&root).join("new")).unwrap().uid(), 3);
}

#[test]
fn users_beyond_the_range_are_refused() {
    let image = image!();
    let mut sandbox = mapped(&image, OverlayInterface::Newest);
    sandbox.user = UserIds { uid: 70_000, gid: 0, groups: vec![] };
    let error = run(sandbox).unwrap_err().to_string();
    assert!(error.contains("user 70000 is not among the container's 65536 ids"), "{error}");
}
