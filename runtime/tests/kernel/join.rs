//! Processes more in a running container, and namespaces shared with one or with the host.
use std::fs;
use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use dunnage_runtime::{
    Container, Namespace, NamespaceKind, NetworkMode, Running, Sandbox, Stdio, TerminalSize, UserIds, start_time,
};

use crate::fixture::{Image, Outcome, run};
use crate::image;

/// A container that sleeps, and a handle on it as another process has one.
fn sleeper(image: &Image) -> (Container, Arc<Running>) {
    let mut sandbox = image.sandbox(["sh", "-c", "echo ready; sleep 600"]);
    sandbox.hostname = "target".to_owned();
    let mut container = sandbox.start().unwrap();
    let mut ready = [0; 6];
    container.take_stdout().unwrap().read_exact(&mut ready).unwrap();
    let running = running(&container);
    (container, running)
}

fn running(container: &Container) -> Arc<Running> {
    Arc::new(Running::find(container.pid(), start_time(container.pid()).unwrap()).unwrap().unwrap())
}

fn exec(target: &Arc<Running>, script: &str) -> Outcome {
    let mut sandbox = Sandbox::within(Arc::clone(target), ["sh", "-c", script]);
    sandbox.stdio = Stdio::Pipes;
    run(sandbox).unwrap()
}

const SHOW: &str = "for n in pid mnt uts ipc net cgroup; do readlink /proc/self/ns/$n; done";

fn namespaces(pid: u32) -> String {
    ["pid", "mnt", "uts", "ipc", "net", "cgroup"]
        .map(|name| format!("{}\n", fs::read_link(format!("/proc/{pid}/ns/{name}")).unwrap().display()))
        .concat()
}

#[test]
fn runtime_x01_a_process_more_has_the_walls_of_the_container() {
    let image = image!();
    let (container, target) = sleeper(&image);
    assert_eq!(exec(&target, SHOW).stdout, namespaces(container.pid()));
    assert_eq!(exec(&target, "hostname; cat /proc/1/comm").stdout, "target\nsleep\n");
    let status = exec(&target, "cat /proc/self/status").stdout;
    assert!(status.contains("CapEff:\t00000000a80425fb") && status.contains("Seccomp:\t2"), "{status}");
    assert_eq!(exec(&target, "exit 7").exit.code, Some(7));
    exec(&target, "echo here > /new");
    assert_eq!(exec(&target, "cat /new").stdout, "here\n");
    drop(container);
}

#[test]
fn runtime_x01_user_groups_and_directory_are_the_callers() {
    let image = image!();
    fs::create_dir_all(image.lower("w")).unwrap();
    let (_container, target) = sleeper(&image);
    let mut sandbox =
        Sandbox::within(target, ["sh", "-c", "id -u; id -g; pwd; echo $A; grep Groups /proc/self/status"]);
    sandbox.stdio = Stdio::Pipes;
    sandbox.user = UserIds { uid: 1000, gid: 5, groups: vec![7] };
    sandbox.cwd = "/w".into();
    sandbox.env.push(("A".into(), "b".into()));
    assert_eq!(run(sandbox).unwrap().stdout, "1000\n5\n/w\nb\nGroups:\t5 7 \n");
}

#[test]
fn runtime_x04_a_missing_program_is_127_there_too() {
    let image = image!();
    let (_container, target) = sleeper(&image);
    let mut sandbox = Sandbox::within(Arc::clone(&target), ["nosuch"]);
    sandbox.stdio = Stdio::Pipes;
    assert_eq!(run(sandbox).unwrap_err().exit_code(), 127);
    let mut sandbox = Sandbox::within(target, ["true"]);
    sandbox.cwd = "/nosuch".into();
    sandbox.stdio = Stdio::Pipes;
    assert!(run(sandbox).unwrap_err().to_string().contains("/nosuch"));
}

#[test]
fn security_s02_a_process_more_has_no_descriptor_of_the_tool() {
    let image = image!();
    let (_container, target) = sleeper(&image);
    assert_eq!(exec(&target, "ls /proc/self/fd").stdout, "0\n1\n2\n3\n");
}

#[test]
fn a_process_more_has_a_terminal_of_the_container() {
    let image = image!();
    let (_container, target) = sleeper(&image);
    let mut sandbox = Sandbox::within(target, ["sh", "-c", "tty; stty size; test -c $(tty) && echo there"]);
    sandbox.stdio = Stdio::Terminal(TerminalSize { rows: 20, columns: 70 });
    let mut container = sandbox.start().unwrap();
    let mut screen = container.terminal().unwrap().file().unwrap();
    let mut text = Vec::new();
    // The end of a terminal is an error.
    let _ = screen.read_to_end(&mut text);
    assert_eq!(String::from_utf8_lossy(&text), "/dev/pts/0\r\n20 70\r\nthere\r\n");
    assert!(container.wait().unwrap().success());
}

#[test]
fn runtime_r15_namespaces_are_the_hosts_where_asked() {
    let image = image!();
    let mut sandbox = image.sandbox(["sh", "-c", SHOW]);
    sandbox.network = NetworkMode::Host;
    let own = &mut sandbox.namespaces;
    (own.pid, own.ipc, own.uts, own.cgroup) = (Namespace::Host, Namespace::Host, Namespace::Host, Namespace::Host);
    let outside = namespaces(std::process::id());
    let (inside, outside): (Vec<_>, Vec<_>) =
        (run(sandbox).unwrap().stdout.lines().map(str::to_owned).collect(), outside.lines().collect());
    for (inside, outside) in inside.iter().zip(outside) {
        assert_eq!(inside == outside, !inside.starts_with("mnt"), "{inside} {outside}");
    }
}

#[test]
fn runtime_n11_namespaces_of_another_container_are_joined() {
    let image = image!();
    let (first, target) = sleeper(&image);
    exec(&target, "echo shared > /dev/shm/f");
    let other = Image::new().unwrap();
    let mut sandbox =
        other.sandbox(["sh", "-c", &format!("{SHOW}; cat /dev/shm/f; cat /proc/1/comm; ls /sys/class/net")]);
    sandbox.network = NetworkMode::Join(target.namespace(NamespaceKind::Net).unwrap());
    sandbox.namespaces.pid = Namespace::Join(target.namespace(NamespaceKind::Pid).unwrap());
    sandbox.namespaces.ipc = Namespace::Join(target.namespace(NamespaceKind::Ipc).unwrap());
    sandbox.namespaces.uts = Namespace::Join(target.namespace(NamespaceKind::Uts).unwrap());
    sandbox.namespaces.cgroup = Namespace::Join(target.namespace(NamespaceKind::Cgroup).unwrap());
    sandbox.shared_memory = Some(target.shared_memory().unwrap());
    let text = run(sandbox).unwrap().stdout;
    let theirs = namespaces(first.pid());
    for (inside, outside) in text.lines().zip(theirs.lines()) {
        assert_eq!(inside == outside, !inside.starts_with("mnt"), "{inside} {outside}");
    }
    assert!(text.ends_with("shared\nsleep\nlo\n"), "{text}");
    // The thread that started it has its own pid namespace back.
    assert_eq!(
        fs::read_link("/proc/thread-self/ns/pid_for_children").unwrap(),
        fs::read_link("/proc/self/ns/pid").unwrap()
    );
}

#[test]
fn a_handle_never_means_another_process() {
    let image = image!();
    let (container, target) = sleeper(&image);
    let pid = container.pid();
    let start = start_time(pid).unwrap();
    assert!(Running::find(pid, start + 1).unwrap().is_none());
    assert!(!target.wait(Duration::ZERO).unwrap());
    drop(container);
    assert!(target.wait(Duration::ZERO).unwrap());
    assert!(Running::find(pid, start).unwrap().is_none());
}
