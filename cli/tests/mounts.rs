//! What is mounted into containers: volumes, binds, tmpfs, devices, and what becomes of it.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use testdata::{BASE, Dunnage};

fn dunnage() -> Option<Dunnage> {
    Dunnage::with_base(env!("CARGO_BIN_EXE_dunnage"), &BASE)
}

fn out(dunnage: &Dunnage, flags: &[&str], image: &str, script: &str) -> String {
    dunnage.run([&["run", "--rm"][..], flags, &[image, "sh", "-c", script]].concat()).ok().stdout
}

#[test]
fn runtime_m05_a_read_only_root_and_memory_to_write_in() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.run(["run", "--rm", "--read-only", "base", "touch", "/x"]).fails(1, "Read-only");
    let flags = ["--read-only", "--tmpfs", "/t:size=1m,mode=700"];
    assert_eq!(
        out(&dunnage, &flags, "base", "touch /dev/shm/x /t/x; stat -c %a /t; df -k /t | tail -1 | awk '{print $2}'"),
        "700\n1024\n"
    );
    let flags = ["--mount", "type=tmpfs,dst=/t,tmpfs-size=2m,tmpfs-mode=1777"];
    assert_eq!(out(&dunnage, &flags, "base", "stat -c %a /t; df -k /t | tail -1 | awk '{print $2}'"), "1777\n2048\n");
}

#[test]
fn runtime_m06_a_read_only_bind_reaches_below() {
    let Some(dunnage) = dunnage() else { return };
    let dir = dunnage.dir("shared");
    for spec in [format!("{}:/m:ro", dir.display()), format!("{}:/m:readonly", dir.display())] {
        dunnage.run(["run", "--rm", "-v", &spec, "base", "touch", "/m/x"]).fails(1, "Read-only");
    }
    let mount = format!("type=bind,source={},target=/m,readonly", dir.display());
    dunnage.run(["run", "--rm", "--mount", &mount, "base", "touch", "/m/x"]).fails(1, "Read-only");
    assert_eq!(out(&dunnage, &["-v", &format!("{}:/m", dir.display())], "base", "echo in > /m/f; cat /m/f"), "in\n");
    assert_eq!(std::fs::read_to_string(dir.join("f")).unwrap(), "in\n");
}

#[test]
fn runtime_m07_a_volume_begins_with_what_the_image_has() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.build("FROM base\nRUN mkdir -p /data/d && echo image > /data/f && ln -s f /data/l && chown -R 7:8 /data && chmod 750 /data && chmod 600 /data/f\n");
    let show = "stat -c '%a %u:%g' /data /data/f; cat /data/f; readlink /data/l";
    assert_eq!(out(&dunnage, &["-v", "kept:/data"], "app", show), "750 7:8\n600 7:8\nimage\nf\n");
    assert_eq!(out(&dunnage, &["-v", "kept:/data"], "app", "echo mine > /data/f; rm /data/l"), "");
    // A second container sees the first one's changes, and nothing is copied again.
    assert_eq!(out(&dunnage, &["-v", "kept:/data"], "app", "cat /data/f; ls /data"), "mine\nd\nf\n");
    assert_eq!(out(&dunnage, &["-v", "bare:/data:nocopy"], "app", "ls /data"), "");
    assert_eq!(out(&dunnage, &["--mount", "src=kept,dst=/x,volume-subpath=d"], "app", "ls -A /x"), "");
    dunnage
        .run(["run", "--rm", "--mount", "src=kept,dst=/x,volume-subpath=nosuch", "app", "true"])
        .fails(125, "nosuch");
    let mut names: Vec<String> = dunnage.run(["volume", "ls", "-q"]).ok().stdout.lines().map(str::to_owned).collect();
    names.sort();
    assert_eq!(names, ["bare", "kept"]);
}

#[test]
fn runtime_m08_a_missing_source_is_made_or_refused() {
    let Some(dunnage) = dunnage() else { return };
    let missing = dunnage.dir(".").join("missing");
    let mount = format!("type=bind,src={},dst=/m", missing.display());
    dunnage.run(["run", "--rm", "--mount", &mount, "base", "true"]).fails(125, "does not exist");
    assert!(!missing.exists());
    dunnage.run(["run", "--rm", "-v", &format!("{}:/m", missing.display()), "base", "true"]).ok();
    assert!(missing.is_dir());
    for (flag, bad, word) in [
        ("-v", "a:b:c:d", "SOURCE:TARGET"),
        ("-v", "data:relative", "absolute"),
        ("-v", "/tmp:/b:sshared", "rshared"),
        ("--mount", "type=bind,dst=/m", "source"),
        ("--mount", "type=bind,src=/,dst=/m,bind-propagation=everywhere", "propagation"),
        ("--tmpfs", "/t:size=huge", "size"),
        ("--device", "/dev/nosuch", "nosuch"),
        ("--volumes-from", "nosuch", "nosuch"),
    ] {
        dunnage.run(["run", "--rm", flag, bad, "base", "true"]).fails(125, word);
    }
    dunnage.run(["run", "--rm", "-v", "/tmp:/m", "-v", "/var:/m", "base", "true"]).fails(125, "/m");
    assert_eq!(dunnage.run(["ps", "-aq"]).ok().stdout, "");
    assert!(dunnage.leftovers().is_empty());
}

#[test]
fn runtime_m11_volumes_in_use_stay_and_those_without_a_name_go() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.build("FROM base\nVOLUME /declared\n");
    dunnage.run(["run", "-d", "--name", "user", "-v", "kept:/data", "-v", "/bare", "app", "sleep", "600"]).ok();
    assert_eq!(dunnage.run(["volume", "ls", "-q"]).ok().stdout.lines().count(), 3);
    dunnage.run(["volume", "rm", "kept"]).fails(1, "kept");
    dunnage.run(["rm", "-f", "-v", "user"]).ok();
    assert_eq!(dunnage.run(["volume", "ls", "-q"]).ok().stdout, "kept\n");
    assert_eq!(
        out(&dunnage, &["-v", "/bare", "-v", "kept:/data"], "app", "ls -d /bare /declared /data"),
        "/bare\n/data\n/declared\n"
    );
    assert_eq!(dunnage.run(["volume", "ls", "-q"]).ok().stdout, "kept\n");
    dunnage.run(["volume", "rm", "kept"]).ok();
}

#[test]
fn volumes_from_shows_what_another_has() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.run(["run", "--name", "first", "-v", "kept:/data", "base", "sh", "-c", "echo x > /data/f"]).ok();
    assert_eq!(out(&dunnage, &["--volumes-from", "first"], "base", "cat /data/f"), "x\n");
    dunnage.run(["run", "--rm", "--volumes-from", "first:ro", "base", "touch", "/data/g"]).fails(1, "Read-only");
}

#[test]
fn runtime_m13_m14_shared_memory_and_devices() {
    let Some(dunnage) = dunnage() else { return };
    let size = "df -k /dev/shm | tail -1 | awk '{print $2}'";
    assert_eq!(out(&dunnage, &[], "base", size), "65536\n");
    assert_eq!(out(&dunnage, &["--shm-size", "1m"], "base", size), "1024\n");
    let full = std::fs::metadata("/dev/full").unwrap();
    assert!(full.permissions().mode() & 0o006 == 0o006 && full.rdev() != 0);
    assert_eq!(out(&dunnage, &["--device", "/dev/zero:/dev/nil"], "base", "head -c 3 /dev/nil | wc -c"), "3\n");
    // A node that is made inside cannot be opened.
    let ran = dunnage.run(["run", "--rm", "base", "sh", "-c", "mknod /n c 1 5 && head -c 1 /n"]);
    assert!(ran.code != 0 && ran.stderr.contains("ermission") || ran.stderr.contains("not permitted"), "{ran:?}");
}

#[test]
fn runtime_n09_names_are_in_the_files() {
    let Some(dunnage) = dunnage() else { return };
    let flags = [
        "--network",
        "none",
        "--add-host",
        "db:1.2.3.4",
        "--dns",
        "9.9.9.9",
        "--dns-search",
        "example.org",
        "--dns-opt",
        "ndots:2",
    ];
    let text = out(&dunnage, &flags, "base", "grep -w db /etc/hosts; cat /etc/resolv.conf");
    assert_eq!(text, "1.2.3.4\tdb\nsearch example.org\nnameserver 9.9.9.9\noptions ndots:2\n");
    dunnage.run(["run", "--rm", "--add-host", "db:nowhere", "base", "true"]).fails(125, "nowhere");
}
