//! Limits of a container: they bite, they are read as docker reads them, and nothing of them stays behind.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

use testdata::{Dunnage, Host, Need, skipped};

/// A store with the base image, or nothing where a limit of this kind cannot be had.
fn store(controller: &str) -> Option<Dunnage> {
    if skipped(&[Need::Root, Need::Program("busybox")]) {
        return None;
    }
    let controllers = std::fs::read_to_string("/proc/cgroups").unwrap_or_default();
    let row = controllers.lines().find(|line| line.split_whitespace().next() == Some(controller));
    if !row.is_some_and(|row| row.trim_end().ends_with('1')) {
        println!("skipped: this kernel has no {controller} controller");
        return None;
    }
    let dunnage = Dunnage::new(env!("CARGO_BIN_EXE_dunnage"));
    dunnage.busybox();
    Some(dunnage)
}

#[test]
fn runtime_l01_memory_has_an_end_and_it_is_told() {
    let Some(dunnage) = store("memory") else { return };
    let before = Host::look(&dunnage.root());
    let hog = ["busybox", "dd", "if=/dev/zero", "of=/dev/null", "bs=64M", "count=1"];
    let ran = dunnage.run([&["run", "--rm", "-m", "32m", "base"][..], &hog[..]].concat());
    ran.fails(137, "its memory limit was reached");
    dunnage.run([&["run", "--rm", "-m", "256m", "base"][..], &hog[..]].concat()).ok();
    before.expect(&dunnage.root());
}

#[test]
fn runtime_l02_processes_have_an_end() {
    let Some(dunnage) = store("pids") else { return };
    let script = "for n in $(seq 20); do sleep 3 & done";
    let ran = dunnage.run(["run", "--rm", "--pids-limit", "10", "base", "sh", "-c", script]);
    assert_ne!(ran.code, 0);
    assert!(ran.stderr.contains("Resource temporarily unavailable"), "{}", ran.stderr);
}

#[test]
fn runtime_l03_processors_have_an_end() {
    let Some(dunnage) = store("cpu") else { return };
    let script = "cat /sys/fs/cgroup/cpu.max 2>/dev/null ||
        echo $(cat /sys/fs/cgroup/cpu*/cpu.cfs_quota_us | head -n 1) $(cat /sys/fs/cgroup/cpu*/cpu.cfs_period_us | head -n 1)";
    for (flags, wanted) in [
        (&["--cpus", "0.5"][..], "50000 100000\n"),
        (&["--cpu-quota", "20000", "--cpu-period", "40000"][..], "20000 40000\n"),
    ] {
        let ran = dunnage.run([&["run", "--rm"][..], flags, &["base", "sh", "-c", script][..]].concat()).ok();
        assert_eq!(ran.stdout, wanted);
    }
}

/// Daemons in containers look for the controllers by which they bound their own.
#[test]
fn a_privileged_container_sees_all_control_groups() {
    let Some(dunnage) = store("devices") else { return };
    let seen = |words: &[&str]| {
        let ran = dunnage.run([words, &["--privileged", "base", "ls", "/sys/fs/cgroup"][..]].concat()).ok();
        ran.stdout
    };
    let alone = seen(&["run", "--rm"]);
    assert!(!alone.is_empty());
    // This one has a monitor.
    assert_eq!(alone, seen(&["run"]));
}

#[test]
fn runtime_m14_a_device_that_is_made_inside_opens_only_by_a_rule() {
    let Some(dunnage) = store("devices") else { return };
    let script = "mknod /tmp/fuse c 10 229 && : < /tmp/fuse && echo open";
    let rule = |rule| dunnage.run(["run", "--rm", "--device-cgroup-rule", rule, "base", "sh", "-c", script]);
    assert_eq!(rule("c 10:229 rmw").ok().stdout, "open\n");
    rule("c 10:230 rmw").fails(1, "Operation not permitted");
    dunnage.run(["run", "--rm", "base", "sh", "-c", script]).fails(1, "Permission denied");
}

#[test]
fn limits_that_cannot_be_are_one_sentence_and_leave_nothing() {
    let Some(dunnage) = store("memory") else { return };
    let before = Host::look(&dunnage.root());
    for (flags, text) in [
        (&["-m", "1m"][..], "6MB"),
        (&["-m", "64m", "--memory-swap", "32m"][..], "--memory-swap"),
        (&["-m", "much"][..], "`much` is no size"),
        (&["--cpus", "0"][..], "no number of processors"),
        (&["--cpus", "4000"][..], "--cpus 4000 is more than this machine has: it goes from 0.01 to"),
        (&["--cpus", "1", "--cpu-quota", "5000"][..], "--cpus"),
        (&["--cpuset-cpus", "4000"][..], "set of processors: --cpuset-cpus 4000 is beyond this machine"),
        (&["--blkio-weight", "5"][..], "5 is not in 10..=1000"),
        (&["--device-cgroup-rule", "nonsense"][..], "must be like"),
        (&["--cgroup-parent", "a/../b"][..], "must not contain '..'"),
        (&["--pids-limit", "some"][..], "some"),
    ] {
        let ran = dunnage.run([&["run", "--rm"][..], flags, &["base", "true"][..]].concat());
        ran.fails(125, text);
    }
    dunnage.run(["create", "--name", "made", "base"]).ok();
    for (flag, text) in [("--cpus", "more than this machine has"), ("--cpuset-cpus", "beyond this machine")] {
        dunnage.run(["create", flag, "4000", "base"]).fails(125, text);
        dunnage.run(["update", flag, "4000", "made"]).fails(1, text);
    }
    dunnage.run(["rm", "made"]).ok();
    before.expect(&dunnage.root());
}

#[test]
fn the_steps_of_a_build_are_born_below_the_group_that_was_named() {
    let Some(dunnage) = store("pids") else { return };
    let before = Host::look(&dunnage.root());
    dunnage.write("context/Dockerfile", "FROM base\nRUN sleep 97 & echo begun; wait\n");
    let parent = format!("dunnage/of-builds-{}", std::process::id());
    let mut build = dunnage.command(["build", "--cgroup-parent", &parent, "context"]);
    let mut build = build.stderr(std::process::Stdio::null()).spawn().unwrap();
    let begun = std::time::Instant::now();
    let born = || {
        let entries = std::fs::read_dir("/proc").unwrap().flatten();
        entries.map(|entry| entry.path()).find(|process| {
            let read = |file| std::fs::read_to_string(process.join(file)).unwrap_or_default();
            read("cmdline").starts_with("sleep\097") && read("cgroup").contains(&format!(":/{parent}/build-"))
        })
    };
    let found = loop {
        match born() {
            None if begun.elapsed() < std::time::Duration::from_secs(60) => {
                std::thread::sleep(std::time::Duration::from_millis(50));
            }
            found => break found,
        }
    };
    std::process::Command::new("kill").arg(build.id().to_string()).status().unwrap();
    build.wait().unwrap();
    assert!(found.is_some(), "no process of the step is below {parent}");
    before.expect(&dunnage.root());
    // Where a step was born is in no key.
    dunnage.write("context/Dockerfile", "FROM base\nRUN echo 1 > /f\n");
    dunnage.run(["build", "--cgroup-parent", &parent, "context"]).ok();
    let log = dunnage.run(["build", "context"]).ok().stderr;
    assert!(log.contains("1 of 1"), "{log}");
    dunnage.run(["build", "--cgroup-parent", "a/../b", "context"]).fails(2, "must not contain `..`");
    before.expect(&dunnage.root());
}
