//! Without root: containers that run on are reached by later commands, for all that work with a store share a namespace.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeSet;
use std::process::Stdio;

use testdata::{Granted, Need, Ran, User, skipped, until};

const BINARY: &str = env!("CARGO_BIN_EXE_dunnage");
const NEEDS: [Need; 4] = [Need::Root, Need::Program("useradd"), Need::Program("newuidmap"), Need::Program("setpriv")];
/// Ends at once when it is told to.
const WAITS: &str = "echo up; trap 'exit 3' TERM; while :; do sleep 0.05; done";

fn user(granted: Granted) -> User {
    let user = User::new(BINARY, granted);
    user.run(["bootstrap", "--from", "busybox", "base"]).ok();
    user
}

fn detached(user: &User, name: &str) {
    user.run(["run", "-d", "--name", name, "base", "sh", "-c", WAITS]).ok();
}

#[test]
fn a_user_reaches_the_containers_that_run() {
    if skipped(&NEEDS) {
        return;
    }
    for granted in [Granted::Ranges, Granted::Nothing] {
        let user = user(granted);
        detached(&user, "work");
        let entered = user.run(["exec", "work", "sh", "-c", "id -u; cat /proc/1/cmdline; echo kept > /made"]).ok();
        assert!(entered.stdout.starts_with("0\nsh"), "{entered:?}");
        assert_eq!(user.run(["exec", "-u", "5:6", "work", "id", "-u"]).ok().stdout, "5\n");
        assert_eq!(user.run(["exec", "work", "sh", "-c", "exit 7"]).code, 7);
        assert!(user.run(["top", "work"]).ok().stdout.contains("trap"));
        assert!(user.run(["ps"]).ok().stdout.contains("Up "));
        assert_eq!(user.run(["logs", "work"]).ok().stdout, "up\n");
        assert_eq!(user.run(["diff", "work"]).ok().stdout, "A /made\n");
        user.run(["stop", "work"]).ok();
        assert_eq!(user.run(["wait", "work"]).ok().stdout, "3\n");
        user.run(["restart", "work"]).ok();
        assert_eq!(user.run(["exec", "work", "cat", "/made"]).ok().stdout, "kept\n");
        user.run(["exec", "-d", "work", "sh", "-c", "echo aside > /aside"]).ok();
        until("the command aside", || user.run(["exec", "work", "cat", "/aside"]).stdout == "aside\n");
        user.run(["kill", "work"]).ok();
        assert_eq!(user.run(["wait", "work"]).ok().stdout, "137\n");
        user.run(["rm", "work"]).ok();
    }
}

#[test]
fn all_that_work_with_a_store_share_a_namespace_for_as_long_as_any_does() {
    if skipped(&NEEDS) {
        return;
    }
    let user = user(Granted::Ranges);
    let names: Vec<String> = (0..6).map(|number| format!("many{number}")).collect();
    // Nobody is there yet, and all come at once.
    let started: Vec<_> = names
        .iter()
        .map(|name| {
            let run = ["run", "-d", "--name", name, "base", "sh", "-c", WAITS];
            let mut run = user.command(user.home().join("dunnage"), run);
            run.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    for run in started {
        Ran::from(run.wait_with_output().unwrap()).ok();
    }
    let namespace = |name: &str| user.run(["exec", name, "readlink", "/proc/self/ns/user"]).ok().stdout;
    let shared = namespace("many0");
    assert_eq!(names.iter().map(|name| namespace(name)).collect::<BTreeSet<_>>(), BTreeSet::from([shared.clone()]));
    // Whoever made it may be killed; it lives on with the others.
    let monitor = user.run(["inspect", "-f", "{{.State.Pid}}", "many0"]).ok().stdout;
    let killed = std::process::Command::new("kill").args(["-9", monitor.trim()]).status();
    assert!(killed.unwrap().success());
    for name in &names[1..5] {
        user.run(["rm", "-f", name]).ok();
    }
    detached(&user, "later");
    assert_eq!([namespace("many5"), namespace("later")], [shared.clone(), shared.clone()]);
    // Lines of the dead, and of nobody, are no way in.
    let list = user.home().join(".local/share/dunnage/namespace");
    std::fs::write(&list, format!("x y\n4026531836 {} 1 2\n{}", u32::MAX, std::fs::read_to_string(&list).unwrap()))
        .unwrap();
    assert_eq!(namespace("later"), shared);
    user.run(["rm", "-f", "later", "many0", "many5"]).ok();
    detached(&user, "again");
    namespace("again");
    user.run(["rm", "-f", "again"]).ok();
}

#[test]
fn a_user_has_the_options_of_mounts_and_no_rights_on_parts_of_devices() {
    if skipped(&NEEDS) {
        return;
    }
    let user = user(Granted::Ranges);
    let run =
        |flags: &[&str], script: &str| user.run([&["run", "--rm"], flags, &["base", "sh", "-c", script]].concat());
    let told = run(&["--tmpfs", "/t:uid=5,gid=6,mode=750,noatime,nr_inodes=9,dev"], "stat -c '%u:%g %a' /t");
    assert_eq!(told.ok().stdout, "5:6 750\n");
    run(&["--tmpfs", "/t:uid=4000000"], "true").fails(125, "uid");
    // Memory that containers share, by the namespace that they share.
    user.run(["volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "fast"]).ok();
    user.run(["run", "-d", "--name", "one", "-v", "fast:/d", "base", "sh", "-c", &format!("echo own > /d/f; {WAITS}")])
        .ok();
    until("it has written", || run(&["-v", "fast:/x"], "cat /x/f").stdout == "own\n");
    user.run(["rm", "-f", "one"]).ok();
    assert_eq!(run(&["-v", "fast:/x"], "ls /x").ok().stdout, "");
    assert_eq!(run(&["--device", "/dev/zero:/dev/z:rw"], "head -c 2 /dev/z | wc -c").ok().stdout, "2\n");
    run(&["--device", "/dev/zero:/dev/z:r"], "true").fails(125, "without root nothing keeps a container from");
}
