//! `dunnage run` as a user runs it.
#![allow(clippy::unwrap_used, missing_docs)]

use std::io::Write;
use std::process::Stdio;

use testdata::{BASE, Dunnage, Need, skipped};

fn dunnage() -> Option<Dunnage> {
    Dunnage::with_base(env!("CARGO_BIN_EXE_dunnage"), &BASE)
}

#[test]
fn runtime_r01_r02_output_and_exit_code_pass_through() {
    let Some(dunnage) = dunnage() else { return };
    assert_eq!(dunnage.run(["run", "--rm", "base", "echo", "hi"]).ok().stdout, "hi\n");
    let ran = dunnage.run(["run", "--rm", "base", "sh", "-c", "echo o; echo e >&2; exit 7"]);
    assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (7, "o\n", "e\n"));
    // Process 1 cannot kill itself: the shell below it can, and the code of a signal passes through.
    assert_eq!(dunnage.run(["run", "--rm", "base", "sh", "-c", "sh -c 'kill -9 $$'; exit $?"]).code, 137);
    assert!(dunnage.leftovers().is_empty());
}

#[test]
fn runtime_r03_r04_r05_tool_errors_have_dockers_codes() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.run(["run", "--rm", "base", "nosuch"]).fails(127, "nosuch");
    dunnage.run(["run", "--rm", "base", "/etc/passwd"]).fails(126, "/etc/passwd");
    dunnage.run(["run", "--rm", "base", "/etc"]).fails(126, "/etc");
    dunnage.run(["run", "--badflag", "base"]).fails(125, "--badflag");
    dunnage.run(["run", "--rm", "no.such/image:1"]).fails(125, "no.such/image:1");
}

#[test]
fn runtime_r07_standard_input() {
    let Some(dunnage) = dunnage() else { return };
    assert_eq!(dunnage.run(["run", "--rm", "base", "cat"]).ok().stdout, "");
    let mut child = dunnage
        .command(["run", "--rm", "-i", "base", "cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"through\n").unwrap();
    assert_eq!(child.wait_with_output().unwrap().stdout, b"through\n");
}

#[test]
fn runtime_r08_large_output_does_not_hang() {
    let Some(dunnage) = dunnage() else { return };
    let ran = dunnage.run(["run", "--rm", "base", "sh", "-c", "seq 1 200000"]).ok();
    assert_eq!(ran.stdout.lines().count(), 200_000);
}

#[test]
fn runtime_r13_r14_namespaces_are_the_containers_own() {
    let Some(dunnage) = dunnage() else { return };
    let names = ["pid", "mnt", "uts", "ipc", "net", "cgroup"];
    let script = names.map(|name| format!("readlink /proc/self/ns/{name}")).join("; ");
    let inside = dunnage.run(["run", "--rm", "base", "sh", "-c", &script]).ok().stdout;
    for (name, inside) in names.iter().zip(inside.lines()) {
        let outside = std::fs::read_link(format!("/proc/self/ns/{name}")).unwrap();
        assert_ne!(outside.to_str().unwrap(), inside, "{name} is shared");
    }
    assert_eq!(inside.lines().count(), names.len());
    let host = dunnage.run(["run", "--rm", "--network", "host", "base", "readlink", "/proc/self/ns/net"]).ok().stdout;
    assert_eq!(host.trim(), std::fs::read_link("/proc/self/ns/net").unwrap().to_str().unwrap());
    assert_eq!(dunnage.run(["run", "--rm", "--hostname", "h", "base", "hostname"]).ok().stdout, "h\n");
    assert_eq!(dunnage.run(["run", "--rm", "base", "cat", "/proc/1/comm"]).ok().stdout, "cat\n");
}

#[test]
fn runtime_n01_network_none_has_only_loopback() {
    let Some(dunnage) = dunnage() else { return };
    let out = dunnage.run(["run", "--rm", "--network", "none", "base", "ls", "/sys/class/net"]).ok().stdout;
    assert!(out.split_whitespace().any(|name| name == "lo"), "{out}");
    assert!(!out.contains("eth"), "{out}");
    dunnage.run(["run", "--rm", "--network", "none", "base", "ping", "-c", "1", "-W", "2", "127.0.0.1"]).ok();
}

#[test]
fn runtime_c01_m01_m04_capabilities_and_masks_are_dockers() {
    let Some(dunnage) = dunnage() else { return };
    let status = dunnage.run(["run", "--rm", "base", "cat", "/proc/self/status"]).ok().stdout;
    assert!(status.contains("CapEff:\t00000000a80425fb"), "{status}");
    assert!(status.contains("CapAmb:\t0000000000000000"), "{status}");
    assert!(status.contains("CapInh:\t0000000000000000"), "{status}");
    assert!(status.contains("Seccomp:\t2"), "{status}");
    assert_eq!(dunnage.run(["run", "--rm", "base", "cat", "/proc/kcore"]).stdout, "");
    let write = dunnage.run(["run", "--rm", "base", "sh", "-c", "echo x > /proc/sys/kernel/hostname"]);
    assert!(write.code != 0 && write.stderr.contains("Read-only"), "{write:?}");
}

#[test]
fn runtime_m05_m06_read_only_and_volumes() {
    let Some(dunnage) = dunnage() else { return };
    let ran = dunnage.run(["run", "--rm", "--read-only", "base", "touch", "/x"]);
    assert!(ran.code != 0 && ran.stderr.contains("Read-only"), "{ran:?}");
    let dir = dunnage.dir("shared");
    dunnage.write("shared/f", "from the host\n");
    let volume = format!("{}:/m", dir.display());
    assert_eq!(
        dunnage.run(["run", "--rm", "-v", &volume, "base", "sh", "-c", "cat /m/f; echo back > /m/g"]).ok().stdout,
        "from the host\n"
    );
    assert_eq!(std::fs::read_to_string(dir.join("g")).unwrap(), "back\n");
    let ran = dunnage.run(["run", "--rm", "-v", &format!("{volume}:ro"), "base", "touch", "/m/h"]);
    assert!(ran.code != 0 && ran.stderr.contains("Read-only"), "{ran:?}");
}

#[test]
fn environment_directory_user_and_entrypoint() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.build("FROM base\nENV A=image B=image\nWORKDIR /w\nUSER nobody\nENTRYPOINT [\"sh\", \"-c\"]\nCMD [\"echo $A $B; pwd; id -un\"]\n");
    assert_eq!(dunnage.run(["run", "--rm", "-e", "B=mine", "app"]).ok().stdout, "image mine\n/w\nnobody\n");
    assert_eq!(
        dunnage
            .run(["run", "--rm", "-w", "/tmp", "-u", "5:6", "--entrypoint", "", "app", "sh", "-c", "pwd; id -u; id -g"])
            .ok()
            .stdout,
        "/tmp\n5\n6\n"
    );
}

#[test]
fn security_s02_no_descriptor_of_the_tool_leaks_in() {
    let Some(dunnage) = dunnage() else { return };
    let out = dunnage.run(["run", "--rm", "base", "ls", "/proc/self/fd"]).ok().stdout;
    // 3 is the directory that ls itself reads.
    assert_eq!(out.split_whitespace().collect::<Vec<_>>(), ["0", "1", "2", "3"]);
}

#[test]
fn signals_are_forwarded() {
    let Some(dunnage) = dunnage() else { return };
    let script = "trap 'echo got it; exit 3' TERM; echo ready; while true; do sleep 0.1; done";
    let mut child =
        dunnage.command(["run", "--rm", "base", "sh", "-c", script]).stdout(Stdio::piped()).spawn().unwrap();
    let mut out = child.stdout.take().unwrap();
    let mut ready = [0_u8; 6];
    std::io::Read::read_exact(&mut out, &mut ready).unwrap();
    let status = std::process::Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    assert!(status.success());
    let mut rest = String::new();
    std::io::Read::read_to_string(&mut out, &mut rest).unwrap();
    assert_eq!(rest, "got it\n");
    assert_eq!(child.wait().unwrap().code(), Some(3));
    assert!(dunnage.leftovers().is_empty());
}

#[test]
fn runtime_r10_a_terminal_is_a_terminal() {
    let Some(dunnage) = dunnage() else { return };
    if skipped(&[Need::Program("script")]) {
        return;
    }
    // `script` gives the command a terminal of its own.
    let binary = env!("CARGO_BIN_EXE_dunnage");
    let command = format!("{binary} run --rm -it base sh -c 'tty; test -t 0 && echo terminal'");
    let output = std::process::Command::new("script")
        .args(["-qec", &command, "/dev/null"])
        .env("DUNNAGE_ROOT", dunnage.root())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("/dev/pts/0") && text.contains("terminal"), "{text}");
    let without = dunnage.run(["run", "--rm", "base", "tty"]);
    assert!(without.stdout.contains("not a tty"), "{without:?}");
}

#[test]
fn a_killed_run_leaves_no_process() {
    let Some(dunnage) = dunnage() else { return };
    let mut child = dunnage
        .command(["run", "--rm", "base", "sh", "-c", "echo ready; sleep 4242"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut ready = [0_u8; 6];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut ready).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    for _ in 0..600 {
        let left = std::process::Command::new("pgrep").args(["-f", "sleep 4242"]).output().unwrap();
        if left.stdout.is_empty() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    panic!("the container outlived the tool");
}
