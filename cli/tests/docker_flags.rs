//! Flags of `docker run`, `update` and `commit` that scripts use: they work, or are refused with one sentence.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::process::Command;

use serde_json::Value;
use testdata::{BASE, Dunnage, until};

fn dunnage() -> Option<Dunnage> {
    Dunnage::with_base(env!("CARGO_BIN_EXE_dunnage"), &BASE)
}

/// What a container prints that is run with these flags.
#[track_caller]
fn run(dunnage: &Dunnage, flags: &[&str], script: &str) -> String {
    dunnage.run([&["run", "--rm"], flags, &["base", "sh", "-c", script]].concat()).ok().stdout
}

fn inspected(dunnage: &Dunnage, name: &str) -> Value {
    serde_json::from_str::<Value>(&dunnage.run(["inspect", name]).ok().stdout).unwrap()[0].clone()
}

#[test]
fn a_seccomp_profile_of_ones_own_counts_for_run_and_exec() {
    let Some(dunnage) = dunnage() else { return };
    let profile = r#"{"defaultAction": "SCMP_ACT_ALLOW", "archMap": [
        {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]},
        {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]}], "syscalls": [
        {"names": ["chmod", "fchmod", "fchmodat", "fchmodat2"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1},
        {"names": ["sethostname"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95, "excludes": {"caps": ["CAP_SYS_ADMIN"]}}]}"#;
    let file = dunnage.write("profile.json", profile);
    let option = format!("seccomp={}", file.display());
    let script = "touch /f; chmod 600 /f || echo no; grep Seccomp: /proc/self/status | tr -d '\\t'";
    assert_eq!(run(&dunnage, &["--security-opt", &option], script), "no\nSeccomp:2\n");
    assert_eq!(run(&dunnage, &[], "touch /f; chmod 600 /f && echo yes"), "yes\n");
    // It is part of what was asked: the file is not needed any more.
    dunnage.run(["run", "-d", "--name", "own", "--security-opt", &option, "base", "sleep", "600"]).ok();
    std::fs::remove_file(&file).unwrap();
    dunnage.run(["exec", "own", "chmod", "600", "/etc/passwd"]).fails(1, "not permitted");
    dunnage.run(["restart", "-t", "0", "own"]).ok();
    dunnage.run(["exec", "own", "chmod", "600", "/etc/passwd"]).fails(1, "not permitted");
    let options = inspected(&dunnage, "own")["HostConfig"]["SecurityOpt"].to_string();
    assert!(options.contains("defaultAction"), "{options}");
    for (text, why) in
        [("{}", "defaultAction"), ("x", "expected value"), (r#"{"defaultAction":"SCMP_ACT_NOTIFY"}"#, "NOTIFY")]
    {
        dunnage.write("bad.json", text);
        dunnage.run(["run", "--rm", "--security-opt", "seccomp=bad.json", "base", "true"]).fails(125, why);
    }
    dunnage.run(["run", "--rm", "--security-opt", "seccomp=nowhere.json", "base", "true"]).fails(125, "nowhere.json");
}

#[test]
fn security_s12_a_profile_or_label_that_cannot_be_had_ends_it_before_it_starts() {
    let Some(dunnage) = dunnage() else { return };
    for option in ["apparmor=missing", "label=type:missing_t"] {
        let ran = dunnage.run(["run", "--rm", "--security-opt", option, "base", "echo", "started"]);
        let why = option.split(['=', ':']).next_back().unwrap();
        let ran = ran.fails(125, why);
        assert!(ran.stdout.is_empty() && ran.stderr.lines().count() == 1, "{ran:?}");
    }
    // What means no profile is no error anywhere.
    assert_eq!(
        run(&dunnage, &["--security-opt", "apparmor=unconfined", "--security-opt", "label=disable"], "echo ok"),
        "ok\n"
    );
    assert_eq!(dunnage.run(["ps", "-aq"]).ok().stdout, "");
}

#[test]
fn mounts_spread_as_they_were_asked_to() {
    let Some(dunnage) = dunnage() else { return };
    let shared = dunnage.dir("shared");
    let shared_text = shared.display().to_string();
    let mount = |args: &[&str]| assert!(Command::new("mount").args(args).status().unwrap().success(), "{args:?}");
    mount(&["-t", "tmpfs", "shared", &shared_text]);
    mount(&["--make-shared", &shared_text]);
    std::fs::create_dir(shared.join("later")).unwrap();
    let wait = "echo up; for i in $(seq 200); do [ -e /m/later/file ] && break; sleep 0.05; done; ls /m/later";
    let spec = format!("type=bind,src={shared_text},dst=/m,bind-propagation=rslave");
    dunnage.run(["run", "-d", "--name", "slave", "--mount", &spec, "base", "sh", "-c", wait]).ok();
    let own = format!("{shared_text}:/m");
    dunnage.run(["run", "-d", "--name", "alone", "-v", &own, "base", "sh", "-c", "echo up; sleep 600"]).ok();
    let both = format!("{shared_text}:/m:rshared");
    let script = "mkdir -p /m/made && mount -t tmpfs made /m/made && touch /m/made/inside && echo up && sleep 600";
    dunnage.run(["run", "-d", "--name", "both", "--privileged", "-v", &both, "base", "sh", "-c", script]).ok();
    until("it has mounted", || dunnage.run(["logs", "both"]).stdout == "up\n");
    // What a container mounts in a shared directory shows on the machine.
    let seen = shared.join("made/inside").exists();
    mount(&["-t", "tmpfs", "later", &format!("{shared_text}/later")]);
    std::fs::write(shared.join("later/file"), "").unwrap();
    until("the mount came through", || dunnage.run(["logs", "slave"]).stdout == "up\nfile\n");
    let alone = dunnage.run(["exec", "alone", "ls", "/m/later"]).ok().stdout;
    dunnage.run(["rm", "-f", "slave", "alone", "both"]).ok();
    for path in ["later", "made", ""] {
        Command::new("umount").arg(shared.join(path)).status().unwrap();
    }
    assert!(seen, "a mount in a shared directory did not come out");
    assert_eq!(alone, "", "a mount came through where nothing was asked for");
    dunnage.run(["run", "--rm", "-v", "data:/d:rshared", "base", "true"]).fails(125, "not for volumes");
}

#[test]
fn names_ports_and_notes_are_those_that_were_given() {
    let Some(dunnage) = dunnage() else { return };
    let script = "hostname; cat /proc/sys/kernel/domainname; grep -c '\\bname\\b' /etc/hosts";
    assert_eq!(
        run(&dunnage, &["-h", "name", "--domainname", "example.org", "--network", "none"], script),
        "name\nexample.org\n1\n"
    );
    dunnage.run(["run", "-d", "--name", "own", "-h", "first", "base", "sleep", "600"]).ok();
    assert_eq!(run(&dunnage, &["--uts", "container:own"], "hostname"), "first\n");
    dunnage.run(["run", "--rm", "--uts", "host", "-h", "x", "base", "true"]).fails(125, "--uts");
    dunnage
        .run(["create", "--name", "noted", "--annotation", "a=b", "--expose", "70-71", "--expose", "53/udp", "base"])
        .ok();
    let noted = inspected(&dunnage, "noted");
    assert_eq!(noted["HostConfig"]["Annotations"]["a"], "b");
    let mut ports: Vec<&String> = noted["Config"]["ExposedPorts"].as_object().unwrap().keys().collect();
    ports.sort();
    assert_eq!(ports, ["53/udp", "70/tcp", "71/tcp"]);
    dunnage.run(["run", "-d", "--name", "all", "-P", "--expose", "70", "base", "sleep", "600"]).ok();
    assert!(dunnage.run(["port", "all"]).ok().stdout.starts_with("70/tcp -> 127.0.0.1:"));
    assert_eq!(run(&dunnage, &["-v", "data:/d:z"], "ls /d"), "");
    // The platform of the image is the only one that there is.
    let own = format!("linux/{}", if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" });
    assert_eq!(run(&dunnage, &["--platform", &own], "echo ok"), "ok\n");
    dunnage
        .run(["run", "--rm", "--pull", "never", "--platform", "linux/s390x", "base", "true"])
        .fails(125, "linux/s390x");
}

#[test]
fn shared_memory_is_not_there_where_nobody_wants_any() {
    let Some(dunnage) = dunnage() else { return };
    let script = "grep -c ' /dev/shm ' /proc/self/mounts; readlink /proc/self/ns/ipc";
    let told = run(&dunnage, &["--ipc", "none"], script);
    let own = std::fs::read_link("/proc/self/ns/ipc").unwrap();
    assert!(told.starts_with("0\nipc:") && !told.contains(own.to_str().unwrap()), "{told}");
    assert!(run(&dunnage, &["--ipc", "private"], script).starts_with("1\nipc:"));
    assert!(run(&dunnage, &["--shm-size", "0"], "df -k /dev/shm | tail -n 1").contains(" 65536 "));
    dunnage.run(["run", "-d", "--name", "alone", "--ipc", "none", "base", "sleep", "600"]).ok();
    assert_eq!(inspected(&dunnage, "alone")["HostConfig"]["IpcMode"], "none");
    dunnage.run(["run", "--rm", "--ipc", "container:alone", "base", "true"]).fails(125, "--ipc none");
}

#[test]
fn restart_policies_and_configurations_change() {
    let Some(dunnage) = dunnage() else { return };
    let script = "echo x >> /runs; sleep 0.2; exit 3";
    dunnage.run(["run", "-d", "--name", "again", "--restart", "always", "base", "sh", "-c", script]).ok();
    dunnage.run(["update", "--restart", "no", "again"]).ok();
    until("it stays ended", || dunnage.run(["inspect", "-f", "{{.State.Status}}", "again"]).stdout == "exited\n");
    assert_eq!(inspected(&dunnage, "again")["HostConfig"]["RestartPolicy"]["Name"], "no");
    // Its monitor has decided, too: a policy that comes before would be the one that counts.
    until("it is let go", || dunnage.run(["cp", "again:/runs", "before"]).code == 0);
    dunnage.run(["update", "--restart", "on-failure:1", "again"]).ok();
    dunnage.run(["start", "again"]).ok();
    until("it was started twice", || {
        dunnage.run(["cp", "again:/runs", "runs"]);
        let lines =
            |name: &str| std::fs::read_to_string(dunnage.dir(".").join(name)).unwrap_or_default().lines().count();
        lines("runs") == lines("before") + 2
    });
    dunnage.run(["update", "--restart", "sometimes", "again"]).fails(2, "policies");
    dunnage.run(["run", "--rm", "--restart", "always", "base", "true"]).fails(125, "contradict");
    dunnage.run(["run", "-d", "--rm", "--name", "goes", "base", "sleep", "600"]).ok();
    dunnage.run(["update", "--restart", "always", "goes"]).fails(2, "--rm");

    let changes = ["-c", "CMD [\"echo\", \"new\"]", "--change", "ENV A=1 B=2", "-c", "WORKDIR /tmp", "-c", "USER 5:6"];
    dunnage.run([&["commit"], &changes[..], &["again", "changed"]].concat()).ok();
    assert_eq!(dunnage.run(["run", "--rm", "changed"]).ok().stdout, "new\n");
    let seen = dunnage.run(["run", "--rm", "changed", "sh", "-c", "echo $A$B $(pwd) $(id -u):$(id -g)"]).ok().stdout;
    assert_eq!(seen, "12 /tmp 5:6\n");
    dunnage.run(["commit", "-c", "RUN true", "again"]).fails(2, "--change");
    dunnage.run(["commit", "-c", "CDM x", "again"]).fails(2, "--change");
    dunnage.run(["commit", "-p=false", "again"]).ok();
}

/// Where the machine's control groups are not of that version, or the disk is none, there is a sentence.
#[test]
fn limits_of_disks_swap_and_real_time_are_set_or_refused() {
    let Some(dunnage) = dunnage() else { return };
    let is_v1 = std::path::Path::new("/sys/fs/cgroup/memory/memory.swappiness").exists();
    let swappiness = dunnage.run([
        "run",
        "--rm",
        "--memory-swappiness",
        "10",
        "base",
        "cat",
        "/sys/fs/cgroup/memory/memory.swappiness",
    ]);
    if is_v1 {
        assert_eq!(swappiness.ok().stdout, "10\n");
    } else {
        swappiness.fails(125, "swappiness");
    }
    dunnage
        .run(["run", "--rm", "--device-read-bps", "/dev/null:1mb", "base", "true"])
        .fails(125, "/dev/null is no disk");
    dunnage.run(["run", "--rm", "--device-write-iops", "/dev/no-disk:10", "base", "true"]).fails(125, "/dev/no-disk");
    dunnage.run(["run", "--rm", "--blkio-weight-device", "/dev/sda:5", "base", "true"]).fails(125, "10 to 1000");
    dunnage.run(["run", "--rm", "--device-read-iops", "x", "base", "true"]).fails(125, "a disk and a number");
    for flag in ["--runtime", "--isolation", "--storage-opt", "--kernel-memory"] {
        let ran = dunnage.run(["run", flag, "x", "base", "true"]).fails(125, "is not supported by this version");
        assert_eq!(ran.stderr.lines().count(), 1, "{flag}: {}", ran.stderr);
    }
}

#[test]
fn devices_have_names_where_the_machine_describes_them() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.write("cdi/a.json", r#"{"cdiVersion": "0.6.0", "kind": "nvidia.com/gpu", "containerEdits": {"env": ["ALL=1"]}, "devices": [
        {"name": "0", "containerEdits": {"deviceNodes": [{"path": "/dev/gpu0", "hostPath": "/dev/zero"}], "env": ["GPU=0"]}},
        {"name": "1", "containerEdits": {"deviceNodes": [{"path": "/dev/gpu0", "hostPath": "/dev/kmsg", "permissions": "w"}]}},
        {"name": "all", "containerEdits": {"hooks": [{"hookName": "createContainer", "path": "/bin/true"}]}}]}"#);
    let run = |flags: &[&str]| -> testdata::Ran {
        let all =
            [&["run", "--rm"], flags, &["base", "sh", "-c", "head -c 3 /dev/gpu0 | wc -c; echo $ALL$GPU"]].concat();
        let mut command = dunnage.command(all);
        command.env("DUNNAGE_CDI_DIRS", dunnage.dir("cdi")).output().unwrap().into()
    };
    assert_eq!(run(&["--gpus", "device=0"]).ok().stdout, "3\n10\n");
    assert_eq!(run(&["--device", "nvidia.com/gpu=0", "-e", "GPU=mine"]).ok().stdout, "3\n1mine\n");
    // For writing alone, which the control group sees to.
    let ran = run(&["--cap-add", "SYSLOG", "--gpus", "device=1"]).ok();
    assert!(ran.stdout == "0\n1\n" && ran.stderr.contains("/dev/gpu0: Operation not permitted"), "{ran:?}");
    run(&["--gpus", "all"]).fails(125, "hooks");
    run(&["--gpus", "device=7"]).fails(125, "nvidia.com/gpu=7");
}
