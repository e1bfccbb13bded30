//! `dunnage cp`: docker's rules, tars both ways, volumes, and containers that want to lead the copy out of their root.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use testdata::{BASE, Dunnage, Ran};

fn dunnage() -> Option<Dunnage> {
    Dunnage::with_base(env!("CARGO_BIN_EXE_dunnage"), &BASE)
}

/// Beside the store.
fn at(dunnage: &Dunnage, name: &str) -> PathBuf {
    dunnage.dir(".").join(name)
}

fn read(dunnage: &Dunnage, name: &str) -> String {
    std::fs::read_to_string(at(dunnage, name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// A container `up` that runs, and one `off` that never ran, of the same driver.
fn containers(dunnage: &Dunnage, driver: &str) {
    dunnage.run(["run", "-d", "--storage-driver", driver, "--name", "up", "base", "sleep", "600"]).ok();
    dunnage.run(["create", "--storage-driver", driver, "--name", "off", "base", "no-such-program"]).ok();
}

fn input(dunnage: &Dunnage, args: &[&str], bytes: &[u8]) -> Ran {
    let mut command = dunnage.command(args);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // A command that refuses does not read.
    let _ = child.stdin.take().unwrap().write_all(bytes);
    child.wait_with_output().unwrap().into()
}

fn listed(tar: &[u8]) -> Vec<String> {
    let mut child = Command::new("tar").arg("t").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(tar).unwrap();
    let ran: Ran = child.wait_with_output().unwrap().into();
    ran.ok().stdout.lines().map(|line| line.trim_end_matches('/').to_owned()).collect()
}

#[test]
fn files_and_directories_are_copied_by_dockers_rules() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.write("one", "1\n");
    dunnage.write("tree/a", "a\n");
    dunnage.write("tree/sub/b", "b\n");
    for driver in ["overlay", "copy"] {
        containers(&dunnage, driver);
        for name in ["up", "off"] {
            let here = format!("{driver}-{name}");
            dunnage.dir(&here);
            let cp = |from: &str, to: &str| {
                let end = |text: &str| text.replace("C:", &format!("{name}:")).replace("H/", &format!("{here}/"));
                dunnage.run(["cp", &end(from), &end(to)])
            };
            // A file: under its name into a directory, over a file, under a new name.
            cp("one", "C:/tmp").ok();
            cp("one", "C:/tmp/two").ok();
            cp("one", "C:tmp/two").ok();
            cp("C:/tmp/one", "H/").ok();
            cp("C:/tmp/two", "H/three").ok();
            cp("C:/tmp/two", "H/three").ok();
            assert_eq!(
                (read(&dunnage, &format!("{here}/one")), read(&dunnage, &format!("{here}/three"))),
                ("1\n".into(), "1\n".into())
            );
            // A directory: becomes what is missing, goes into what is there; `/.` is its content.
            cp("tree", "C:/new").ok();
            cp("tree", "C:/new").ok();
            cp("tree/.", "C:/tmp").ok();
            cp("C:/new", "H/new").ok();
            cp("C:/new/tree/.", "H/.").ok();
            cp("C:/tmp/sub/", "H/new").ok();
            for path in ["new/a", "new/sub/b", "new/tree/a", "new/tree/sub/b", "a", "sub/b", "new/sub/b"] {
                let content = read(&dunnage, &format!("{here}/{path}"));
                assert_eq!(content.trim(), path.rsplit('/').next().unwrap(), "{path}");
            }
            // What cannot be is one sentence.
            cp("one", "C:/missing/").fails(2, "does not exist");
            cp("one", "C:/missing/x").fails(2, "does not exist");
            cp("one", "C:/tmp/two/").fails(2, "no directory");
            cp("tree", "C:/tmp/two").fails(2, "a file is there");
            cp("C:/tmp/two/", "H/").fails(1, "ot a directory");
            cp("C:/nothing", "H/").fails(1, &format!("{name}:/nothing"));
            cp("nothing", "C:/").fails(1, "nothing");
            cp("C:/tmp", "H/none/x").fails(1, "none");
        }
        dunnage.run(["start", "off"]).fails(1, "no-such-program");
        dunnage.run(["exec", "up", "cat", "/tmp/a"]).ok();
        dunnage.run(["rm", "-f", "up", "off"]).ok();
    }
    dunnage.run(["cp", "one", "tree"]).fails(2, "in a container");
    dunnage.run(["cp", "a:/x", "b:/x"]).fails(2, "two containers");
    dunnage.run(["cp", "one", "nobody:/x"]).fails(1, "no container `nobody`");
    dunnage.run(["cp", "one", ":/x"]).fails(2, "container is missing");
    dunnage.run(["cp", "one", "up:"]).fails(2, "path is missing");
    assert!(dunnage.leftovers().is_empty(), "{:?}", dunnage.leftovers());
}

#[test]
fn owners_modes_and_links_are_those_that_docker_gives() {
    let Some(dunnage) = dunnage() else { return };
    containers(&dunnage, "overlay");
    let (cp, exec) = (
        |args: &[&str]| dunnage.run([&["cp"], args].concat()),
        |line: &str| dunnage.run(["exec", "up", "sh", "-c", line]).ok().stdout,
    );
    dunnage.write("src/file", "x");
    symlink("file", at(&dunnage, "src/link")).unwrap();
    std::fs::hard_link(at(&dunnage, "src/file"), at(&dunnage, "src/twin")).unwrap();
    std::fs::set_permissions(at(&dunnage, "src/file"), PermissionsExt::from_mode(0o4750)).unwrap();
    std::os::unix::fs::chown(at(&dunnage, "src/file"), Some(1234), Some(4321)).unwrap();
    std::fs::set_permissions(at(&dunnage, "src/file"), PermissionsExt::from_mode(0o4750)).unwrap();
    cp(&["src", "up:/plain"]).ok();
    cp(&["-a", "src", "up:/whole"]).ok();
    let facts = exec("stat -c '%u:%g %a %h' /plain/file /whole/file; readlink /plain/link");
    assert_eq!(facts, "0:0 750 2\n1234:4321 4750 2\nfile\n");
    // Out again: the caller's, or as it is.
    cp(&["up:/whole", "plain"]).ok();
    cp(&["-a", "up:/whole", "whole"]).ok();
    let facts = |name: &str| {
        let found = std::fs::symlink_metadata(at(&dunnage, name)).unwrap();
        (found.uid(), found.mode() & 0o7777, found.nlink())
    };
    assert_eq!((facts("plain/file"), facts("whole/file")), ((0, 0o750, 2), (1234, 0o4750, 2)));
    // A link is a link, unless it is to be followed; one with a slash behind it is what it leads to.
    exec("ln -s whole/file /l; ln -s /whole /d; mknod /null c 1 3; touch -d @86400 /old");
    cp(&["up:/l", "link"]).ok();
    cp(&["-L", "up:/l", "followed"]).ok();
    cp(&["up:/d/", "directory"]).ok();
    cp(&["up:/old", "old"]).ok();
    assert_eq!(std::fs::read_link(at(&dunnage, "link")).unwrap(), PathBuf::from("whole/file"));
    assert_eq!((read(&dunnage, "followed"), read(&dunnage, "directory/file")), ("x".into(), "x".into()));
    assert_eq!(std::fs::metadata(at(&dunnage, "old")).unwrap().mtime(), 86400);
    let ran = cp(&["up:/null", "device"]).ok();
    assert!(ran.stderr.contains("device") && !at(&dunnage, "device").exists(), "{}", ran.stderr);
    // Into a link of the container: to where it leads there.
    cp(&["src/file", "up:/d/through"]).ok();
    cp(&["src/file", "up:/l"]).ok();
    assert_eq!(exec("cat /whole/through; readlink /l; stat -c %u /whole/file"), "xwhole/file\n0\n");
    // The content of a pipe is never waited for.
    exec("mkfifo /pipe");
    cp(&["up:/pipe", "pipe"]).ok();
}

#[test]
fn runtime_x05_tars_go_both_ways_and_links_stay_in_the_root() {
    let Some(dunnage) = dunnage() else { return };
    containers(&dunnage, "overlay");
    for name in ["up", "off"] {
        let out = |path: &str| {
            let output = dunnage.command(["cp", &format!("{name}:{path}"), "-"]).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            output.stdout
        };
        let content = listed(&out("/etc/."));
        assert!(content.contains(&"./passwd".to_owned()) || content.contains(&"passwd".to_owned()), "{content:?}");
        let whole = out("/etc");
        assert!(listed(&whole).contains(&"etc/passwd".to_owned()), "{:?}", listed(&whole));
        assert_eq!(listed(&out("/etc/passwd")), ["passwd"]);
        let into = |path: &str, bytes: &[u8]| input(&dunnage, &["cp", "-", &format!("{name}:{path}")], bytes);
        into("/tmp", &whole).ok();
        into("/tmp/", &testdata::archive::gzip(&whole)).ok();
        dunnage.run(["cp", &format!("{name}:/tmp/etc/passwd"), "passwd"]).ok();
        assert!(read(&dunnage, "passwd").contains("root"));
        into("/nowhere", &whole).fails(1, "nowhere");
        into("/etc/passwd", &whole).fails(1, "ot a directory");
        into("/tmp", b"this is no tar, and it is long enough to see that").fails_with(1);
        // An archive that leads out of the directory stays below it.
        let hostile = testdata::archive::tar([
            testdata::archive::link("out", &at(&dunnage, "").to_string_lossy()),
            testdata::archive::file("out/canary", b"changed"),
        ]);
        dunnage.write("canary", "whole");
        into("/tmp", &hostile);
        assert_eq!(read(&dunnage, "canary"), "whole");
    }
    dunnage.run(["exec", "up", "ln", "-s", "/etc", "/to-etc"]).ok();
    dunnage.run(["cp", "up:/to-etc/hostname", "name"]).ok();
    assert_ne!(read(&dunnage, "name"), std::fs::read_to_string("/etc/hostname").unwrap_or_default());
}

#[test]
fn volumes_and_binds_are_part_of_the_tree() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.write("host/file", "of the host");
    let bind = format!("{}:/bind", at(&dunnage, "host").display());
    let read_only = format!("{}:/ro:ro", at(&dunnage, "host").display());
    for (name, detached) in [("rr", "run"), ("off", "create")] {
        let mut args = vec![detached, "--name", name, "-v", "data:/data", "-v", &bind, "-v", &read_only];
        if detached == "run" {
            args.push("-d");
        }
        dunnage.run([&args[..], &["base", "sleep", "600"]].concat()).ok();
        dunnage.write("new", format!("by {name}"));
        dunnage.run(["cp", "new", &format!("{name}:/data/new")]).ok();
        let seen = dunnage.run(["run", "--rm", "-v", "data:/d", "base", "cat", "/d/new"]).ok().stdout;
        assert_eq!(seen, format!("by {name}"));
        dunnage.run(["cp", &format!("{name}:/bind/file"), "out"]).ok();
        assert_eq!(read(&dunnage, "out"), "of the host");
        dunnage.run(["cp", "new", &format!("{name}:/bind/")]).ok();
        assert_eq!(read(&dunnage, "host/new"), format!("by {name}"));
        dunnage.run(["cp", "new", &format!("{name}:/ro/")]).fails(1, "read-only");
    }
    dunnage.run(["create", "--read-only", "--name", "fixed", "base", "true"]).ok();
    dunnage.run(["cp", "new", "fixed:/new"]).fails(1, "read-only");
    // What is copied into one that never ran is there when it does, and is a change of its root.
    dunnage.run(["create", "--name", "later", "base", "cat", "/new"]).ok();
    dunnage.run(["cp", "new", "later:/new"]).ok();
    assert_eq!(dunnage.run(["start", "-a", "later"]).ok().stdout, "by off");
    assert_eq!(dunnage.run(["diff", "later"]).ok().stdout, "A /new\n");
    // A paused one stands still, and is copied all the same.
    dunnage.run(["pause", "rr"]).ok();
    dunnage.run(["cp", "rr:/data/new", "paused"]).ok();
    dunnage.run(["unpause", "rr"]).ok();
}

/// The container makes a path a link out of its root and back, as fast as it can, while it is copied from and to.
#[test]
fn security_s14_a_path_that_flips_leads_nowhere() {
    let Some(dunnage) = dunnage() else { return };
    let host = at(&dunnage, "host");
    let canary = dunnage.write("host/canary", "host secret");
    dunnage.write("new", "intruder");
    // Programs that other tools have called for compression.
    let script = format!(
        "mkdir -p /d1 /usr/bin; for p in unpigz xz gzip tar; do printf '#!/bin/sh\\ntouch /ran\\n' > /usr/bin/$p; chmod +x /usr/bin/$p; done
         mkdir /real; echo inside > /real/canary; ln -s {0} /link; touch /ready
         while :; do mv /link /flip; mv /flip /link; mv /real /flip; mv /flip /real; done",
        host.display()
    );
    dunnage.run(["run", "-d", "--name", "up", "base", "sh", "-c", &script]).ok();
    testdata::until("it is ready", || dunnage.run(["exec", "up", "test", "-e", "/ready"]).code == 0);
    let rounds = testdata::rounds("DUNNAGE_TEST_FLIPS", 125);
    let mut copied = 0;
    for _ in 0..rounds {
        for path in ["up:/flip/canary", "up:/flip", "up:/flip/."] {
            let _ = std::fs::remove_dir_all(at(&dunnage, "out"));
            dunnage.dir("out");
            copied += u32::from(dunnage.run(["cp", "-L", path, "out/"]).code == 0);
            for file in testdata::files(&at(&dunnage, "out"), "") {
                if let Ok(text) = std::fs::read_to_string(&file) {
                    assert_ne!(text, "host secret", "{path} -> {}", file.display());
                }
            }
        }
        dunnage.run(["cp", "new", "up:/flip/canary"]);
        assert_eq!(std::fs::read_to_string(&canary).unwrap(), "host secret");
    }
    assert!(copied > 0, "nothing was ever copied");
    assert_eq!(std::fs::read_dir(&host).unwrap().count(), 1);
    assert_eq!(dunnage.run(["exec", "up", "ls", "/ran"]).code, 1, "a program of the container was run");
}

#[test]
fn a_user_without_root_copies_into_what_does_not_run_and_out_of_it() {
    if testdata::skipped(&[
        testdata::Need::Root,
        testdata::Need::Program("useradd"),
        testdata::Need::Program("newuidmap"),
    ]) {
        return;
    }
    let user = testdata::User::new(env!("CARGO_BIN_EXE_dunnage"), testdata::Granted::Ranges);
    user.run(["bootstrap", "--from", "busybox", "base"]).ok();
    user.write("new", "mine");
    user.run(["create", "--network", "none", "--name", "off", "base", "stat", "-c", "%u", "/new"]).ok();
    user.run(["cp", "new", "off:/new"]).ok();
    user.run(["cp", "off:/new", "out"]).ok();
    assert_eq!(std::fs::read_to_string(user.home().join("out")).unwrap(), "mine");
    assert_ne!(std::fs::metadata(user.home().join("out")).unwrap().uid(), 0);
    assert_eq!(user.run(["start", "-a", "off"]).ok().stdout, "0\n");
}
