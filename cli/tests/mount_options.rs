//! What can be asked of a tmpfs, and of a device that is shown to a container.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::indexing_slicing, missing_docs)]

use testdata::{BASE, Dunnage};

fn dunnage() -> Option<Dunnage> {
    Dunnage::with_base(env!("CARGO_BIN_EXE_dunnage"), &BASE)
}

fn run(dunnage: &Dunnage, flags: &[&str], script: &str) -> testdata::Ran {
    dunnage.run([&["run", "--rm", "--network", "none"][..], flags, &["base", "sh", "-c", script]].concat())
}

/// The options of /t in /proc/mounts, sorted by nothing but the kernel.
const OPTIONS: &str = "grep ' /t ' /proc/self/mounts | cut -d ' ' -f 4";

#[test]
fn a_tmpfs_takes_dockers_options() {
    let Some(dunnage) = dunnage() else { return };
    let has = |flags: &[&str], wanted: &[&str]| {
        let options = run(&dunnage, flags, OPTIONS).ok().stdout;
        let options: Vec<&str> = options.trim().split(',').collect();
        for word in wanted {
            match word.strip_prefix('!') {
                Some(absent) => assert!(!options.contains(&absent), "{flags:?}: {absent} in {options:?}"),
                None => assert!(options.contains(word), "{flags:?}: no {word} in {options:?}"),
            }
        }
    };
    let usual = ["rw", "nosuid", "nodev", "noexec", "!noatime"];
    has(&["--tmpfs", "/t"], &usual);
    has(&["--tmpfs", "/t:rw,noexec,nosuid,size=65536k"], &[&usual[..], &["size=65536k"]].concat());
    let all = "size=2m,mode=750,uid=1000,gid=1001,nr_inodes=4k,noatime,exec,suid";
    let words = ["rw", "nodev", "!noexec", "!nosuid", "noatime", "size=2048k", "nr_inodes=4096", "mode=750"];
    has(&["--tmpfs", &format!("/t:{all}")], &words);
    has(&["--mount", &format!("type=tmpfs,dst=/t,{all}")], &words);
    let stat = "stat -c '%u:%g %a' /t";
    assert_eq!(run(&dunnage, &["--tmpfs", &format!("/t:{all}")], stat).ok().stdout, "1000:1001 750\n");
    run(&dunnage, &["-u", "1000", "--tmpfs", "/t:uid=1000,mode=700"], "touch /t/own").ok();
    // A part of the memory: half of it is the kernel's own choice.
    let size = "df -k /t | tail -n 1 | awk '{print $2}'";
    let kib = |spec: &str| -> u64 { run(&dunnage, &["--tmpfs", spec], size).ok().stdout.trim().parse().unwrap() };
    assert!(kib("/t:size=10%") < kib("/t:size=50%") && kib("/t:size=50%").abs_diff(kib("/t")) <= 64);
    // Of so many files one is the directory itself.
    let script = "for n in 1 2 3 4 5 6 7 8 9; do touch /t/$n 2>/dev/null || break; done; ls /t | wc -l";
    assert_eq!(run(&dunnage, &["--tmpfs", "/t:nr_inodes=5"], script).ok().stdout, "4\n");
    // What cannot be written still has room for what is mounted in it.
    let flags = ["--tmpfs", "/t:ro", "--tmpfs", "/t/inner", "-v", "data:/t/deep/volume"];
    let script = "touch /t/inner/x /t/deep/volume/x && touch /t/x";
    run(&dunnage, &flags, script).fails(1, "/t/x: Read-only file system");
    run(&dunnage, &["--mount", "type=tmpfs,dst=/t,readonly"], "touch /t/x").fails(1, "Read-only");
    for (spec, word) in [("/t:uid=me", "`me`"), ("/t:huge=always", "huge=always"), ("/t:sync", "`sync`")] {
        run(&dunnage, &["--tmpfs", spec], "true").fails(125, word);
    }
    // What the kernel refuses is told in its words.
    run(&dunnage, &["--tmpfs", "/t:mpol=nonsense"], "true").fails(125, "tmpfs");
    dunnage.run(["create", "--name", "kept", "--tmpfs", "/t:ro,uid=5", "base", "true"]).ok();
    let shown = dunnage.run(["inspect", "-f", "{{json .HostConfig.Tmpfs}}", "kept"]).ok().stdout;
    assert_eq!(shown, "{\"/t\":\"ro,uid=5\"}\n");
}

#[test]
fn nodes_on_a_tmpfs_with_dev_open_by_dockers_rules_alone() {
    let Some(dunnage) = dunnage() else { return };
    let script = "mknod /t/null c 1 3 && mknod /t/kmsg c 1 11 && : > /t/null && echo null; : > /t/kmsg && echo kmsg";
    let ran = run(&dunnage, &["--tmpfs", "/t:dev"], script);
    assert_eq!(ran.stdout, "null\n", "{ran:?}");
    assert!(ran.stderr.contains("/t/kmsg: Operation not permitted"), "{ran:?}");
    let ran = run(&dunnage, &["--tmpfs", "/t"], script);
    assert!(ran.stdout.is_empty() && ran.stderr.contains("/t/null: Permission denied"), "{ran:?}");
}

#[test]
fn a_container_of_other_users_owns_its_tmpfs() {
    let Some(dunnage) = dunnage() else { return };
    let stat = "stat -c '%u:%g' /t && touch /t/x";
    let auto = |spec: &str| {
        let ran = run(&dunnage, &["--userns", "auto", "--tmpfs", spec], stat);
        match ran.code == 125 && ran.stderr.contains("mapped owners") {
            true => None,
            false => Some(ran),
        }
    };
    let Some(ran) = auto("/t:mode=700,noatime") else {
        println!("skipped: this kernel shows no files with mapped owners");
        return;
    };
    assert_eq!(ran.ok().stdout, "0:0\n");
    assert_eq!(auto("/t:uid=7,gid=8,mode=777").unwrap().ok().stdout, "7:8\n");
    auto("/t:uid=4000000").unwrap().fails(125, "uid=4000000");
}

#[test]
fn a_device_is_for_what_was_said() {
    let Some(dunnage) = dunnage() else { return };
    let script = "(: < /dev/k) 2>/dev/null && echo reads; (: > /dev/k) 2>/dev/null && echo writes; true";
    // Reading the kernel's messages takes this where the machine says so.
    let cap = ["--cap-add", "SYSLOG"];
    let done = |flags: &[&str]| run(&dunnage, &[&cap, flags].concat(), script).ok().stdout;
    for (rights, wanted) in [
        ("", "reads\nwrites\n"),
        (":rwm", "reads\nwrites\n"),
        (":rw", "reads\nwrites\n"),
        (":r", "reads\n"),
        (":rm", "reads\n"),
        (":w", "writes\n"),
        (":m", ""),
    ] {
        assert_eq!(done(&["--device", &format!("/dev/kmsg:/dev/k{rights}")]), wanted, "{rights}");
    }
    // Others that are shown beside it stay what they are, and so do the usual ones.
    let flags = ["--device", "/dev/kmsg:/dev/k", "--device-cgroup-rule", "c 10:229 r"];
    assert_eq!(done(&flags), "reads\nwrites\n");
    let flags = ["--device", "/dev/kmsg:/dev/k", "--device", "/dev/kmsg:/dev/l:r"];
    assert_eq!(done(&flags), "reads\nwrites\n", "two names of one device");
    run(&dunnage, &["--device", "/dev/kmsg:/dev/k:r"], "echo x > /dev/null && head -c 1 /dev/urandom > /dev/zero").ok();
    // By exec too, and for as long as it lives.
    let run_d = ["run", "-d", "--name", "own", "--cap-add", "SYSLOG", "--device", "/dev/kmsg:/dev/k:r", "base"];
    dunnage.run([&run_d[..], &["sleep", "600"]].concat()).ok();
    assert_eq!(dunnage.run(["exec", "own", "sh", "-c", script]).ok().stdout, "reads\n");
    dunnage.run(["restart", "-t", "0", "own"]).ok();
    assert_eq!(dunnage.run(["exec", "own", "sh", "-c", script]).ok().stdout, "reads\n");
    let shown = dunnage.run(["inspect", "-f", "{{(index .HostConfig.Devices 0).CgroupPermissions}}", "own"]);
    assert_eq!(shown.ok().stdout, "r\n");
    dunnage.run(["rm", "-f", "own"]).ok();
    run(&dunnage, &["--device", "/dev/kmsg:/dev/k:x"], "true").fails(125, "r, w and m");
}
