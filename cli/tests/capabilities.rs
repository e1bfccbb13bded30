//! Privileges and namespaces of containers, as flags change them.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::process::Command;

use testdata::{BASE, Dunnage, Need, Ran, skipped};

fn dunnage() -> Option<Dunnage> {
    Dunnage::with_base(env!("CARGO_BIN_EXE_dunnage"), &BASE)
}

fn out(dunnage: &Dunnage, flags: &[&str], script: &str) -> String {
    dunnage.run([&["run", "--rm"][..], flags, &["base", "sh", "-c", script]].concat()).ok().stdout
}

const EFFECTIVE: &str = "grep CapEff /proc/self/status | cut -f2";

#[test]
fn runtime_c02_c04_capabilities_are_added_and_dropped() {
    let Some(dunnage) = dunnage() else { return };
    assert_eq!(out(&dunnage, &["--cap-drop", "ALL", "--cap-add", "NET_RAW"], EFFECTIVE), "0000000000002000\n");
    assert_eq!(out(&dunnage, &["--cap-drop", "cap_chown"], EFFECTIVE), "00000000a80425fa\n");
    assert_eq!(out(&dunnage, &["--cap-add", "SYS_TIME"], EFFECTIVE), "00000000aa0425fb\n");
    dunnage.run(["run", "--rm", "--cap-add", "BOGUS", "base", "true"]).fails(125, "BOGUS");
    dunnage.run(["run", "--rm", "--cap-drop", "BOGUS", "base", "true"]).fails(125, "BOGUS");
    assert_eq!(dunnage.run(["ps", "-aq"]).ok().stdout, "");
}

#[test]
fn runtime_c05_c06_privileged_and_unconfined() {
    let Some(dunnage) = dunnage() else { return };
    let seccomp = "grep Seccomp: /proc/self/status | cut -f2";
    assert_eq!(out(&dunnage, &[], seccomp), "2\n");
    assert_eq!(out(&dunnage, &["--security-opt", "seccomp=unconfined"], seccomp), "0\n");
    let own = std::fs::read_to_string("/proc/self/status").unwrap();
    let own = own.lines().find_map(|line| line.strip_prefix("CapPrm:\t")).unwrap().to_owned();
    assert_eq!(out(&dunnage, &["--privileged"], &format!("{seccomp}; {EFFECTIVE}")), format!("0\n{own}\n"));
    let covers = "grep -c ' /proc/' /proc/mounts; true";
    assert_ne!(out(&dunnage, &[], covers), "0\n");
    assert_eq!(out(&dunnage, &["--privileged"], covers), "0\n");
    dunnage
        .run(["run", "--rm", "--security-opt", "seccomp=/profile.json", "base", "true"])
        .fails(125, "profile /profile.json");
    dunnage.run(["run", "--rm", "--security-opt", "apparmor=mine", "base", "true"]).fails(125, "AppArmor");
    dunnage.run(["run", "--rm", "--security-opt", "odd", "base", "true"]).fails(125, "odd");
    assert_eq!(out(&dunnage, &["--security-opt", "systempaths=unconfined"], covers), "0\n");
}

#[test]
fn runtime_c09_no_new_privileges() {
    let Some(dunnage) = dunnage() else { return };
    let flag = "grep NoNewPrivs /proc/self/status | cut -f2";
    assert_eq!(out(&dunnage, &[], flag), "0\n");
    assert_eq!(out(&dunnage, &["--security-opt", "no-new-privileges"], flag), "1\n");
}

#[test]
fn runtime_r15_r17_namespaces_of_the_machine_and_of_others() {
    let Some(dunnage) = dunnage() else { return };
    for (flag, name) in
        [("--pid", "pid"), ("--ipc", "ipc"), ("--uts", "uts"), ("--cgroupns", "cgroup"), ("--network", "net")]
    {
        let inside = out(&dunnage, &[flag, "host"], &format!("readlink /proc/self/ns/{name}"));
        let outside = std::fs::read_link(format!("/proc/self/ns/{name}")).unwrap();
        assert_eq!(inside.trim(), outside.to_str().unwrap(), "{flag}");
    }
    dunnage
        .run([
            "run",
            "-d",
            "--name",
            "first",
            "--ipc",
            "shareable",
            "base",
            "sh",
            "-c",
            "echo x > /dev/shm/f; exec sleep 600",
        ])
        .ok();
    let show = "readlink /proc/self/ns/pid /proc/self/ns/ipc /proc/self/ns/net; cat /dev/shm/f; cat /proc/1/comm";
    let flags = ["--pid", "container:first", "--ipc", "container:first", "--network", "container:first"];
    let theirs = dunnage.run(["exec", "first", "sh", "-c", show]).ok().stdout;
    assert_eq!(out(&dunnage, &flags, show), theirs);
    dunnage.run(["run", "--rm", "--pid", "container:nosuch", "base", "true"]).fails(125, "nosuch");
    dunnage.run(["run", "--rm", "--pid", "odd", "base", "true"]).fails(125, "odd");
    // Signals reach the payload through the reaper, and what it leaves behind is reaped.
    assert_eq!(out(&dunnage, &["--init"], "cat /proc/1/comm"), "init\n");
    assert_eq!(
        out(&dunnage, &["--init"], "(sh -c 'true &' &); sleep 0.5; grep -l '^State:.Z' /proc/[0-9]*/status; true"),
        ""
    );
}

#[test]
fn runtime_l05_limits_settings_and_groups() {
    let Some(dunnage) = dunnage() else { return };
    assert_eq!(out(&dunnage, &["--ulimit", "nofile=100:200"], "ulimit -Sn; ulimit -Hn"), "100\n200\n");
    for (flag, bad) in [
        ("--ulimit", "nofile=3:2"),
        ("--ulimit", "files=1"),
        ("--ulimit", "nofile"),
        ("--sysctl", "x"),
        ("--oom-score-adj", "2000"),
        ("--shm-size", "much"),
    ] {
        dunnage.run(["run", "--rm", flag, bad, "base", "true"]).fails(125, flag);
    }
    assert_eq!(
        out(
            &dunnage,
            &["--sysctl", "net.ipv4.ip_forward=1", "--sysctl", "kernel.msgmax=9000"],
            "cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax"
        ),
        "1\n9000\n"
    );
    dunnage.run(["run", "--rm", "--sysctl", "kernel.panic=1", "base", "true"]).fails(125, "kernel.panic");
    dunnage
        .run(["run", "--rm", "--network", "host", "--sysctl", "net.ipv4.ip_forward=1", "base", "true"])
        .fails(125, "net.ipv4");
    assert_eq!(out(&dunnage, &["--oom-score-adj", "500"], "cat /proc/self/oom_score_adj"), "500\n");
    assert_eq!(out(&dunnage, &["-u", "1000", "--group-add", "root", "--group-add", "77"], "id -G"), "0 77\n");
    dunnage.run(["run", "--rm", "--group-add", "nosuch", "base", "true"]).fails(125, "nosuch");
}

#[test]
fn a_container_can_be_found_by_its_file_and_labels() {
    let Some(dunnage) = dunnage() else { return };
    let file = dunnage.dir(".").join("id");
    let path = file.display().to_string();
    let labels = dunnage.write("labels", "# remark\nfrom=file\n");
    let id = dunnage
        .run([
            "run",
            "-d",
            "--cidfile",
            &path,
            "-l",
            "a=b",
            "--label-file",
            labels.to_str().unwrap(),
            "base",
            "sleep",
            "600",
        ])
        .ok()
        .stdout;
    assert_eq!(std::fs::read_to_string(&file).unwrap(), id.trim());
    let shown = dunnage.run(["inspect", "-f", "{{json .Config.Labels}}", id.trim()]).ok().stdout;
    assert!(shown.contains("\"a\":\"b\"") && shown.contains("\"from\":\"file\""), "{shown}");
    dunnage.run(["run", "--rm", "--cidfile", &path, "base", "true"]).fails(125, "exists");
    assert_eq!(dunnage.run(["ps", "-aq"]).ok().stdout.lines().count(), 1);
}

/// A caller may have less than a container is given elsewhere.
#[test]
fn who_may_not_change_a_root_runs_containers_all_the_same() {
    if skipped(&[Need::Program("setpriv")]) {
        return;
    }
    let Some(dunnage) = dunnage() else { return };
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set", "-sys_chroot", "--inh-caps", "-sys_chroot"]).arg(env!("CARGO_BIN_EXE_dunnage"));
    command.args(["run", "--rm", "base", "sh", "-c", EFFECTIVE]).env("DUNNAGE_ROOT", dunnage.root());
    assert_eq!(Ran::from(command.output().unwrap()).ok().stdout, "00000000a80025fb\n");
}
