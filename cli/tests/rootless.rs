//! Without root: a fresh user of the machine builds and runs what root does, in a user namespace.
#![allow(clippy::unwrap_used, missing_docs)]

use testdata::{Dunnage, Granted, Need, User, skipped};

const BINARY: &str = env!("CARGO_BIN_EXE_dunnage");
const NEEDS: [Need; 4] = [Need::Root, Need::Program("useradd"), Need::Program("newuidmap"), Need::Program("setpriv")];

/// Files of several owners and modes, links, a set-user-id program, a removed and a replaced directory.
const OWNERS: &str = "FROM base\n\
    RUN mkdir /d && echo 1 > /d/f && chown 5:7 /d/f && chmod 4750 /d/f && chown 65534:100 /d && ln -s f /d/l\n\
    RUN chown -h 9:9 /d/l && mkfifo /d/p && chown 3 /d/p && rm -r /home && mkdir /home && touch /home/new\n\
    COPY --chown=11:12 note /srv/\n\
    COPY note /srv/plain\n";

/// Two machines, or two users, never write a file at the same time: images are compared with their times rewritten.
const AT_ONE_TIME: [&str; 2] = ["-o", "type=image,rewrite-timestamp=true"];

fn built_by_root(root: &Dunnage, name: &str) -> String {
    let mut build = root.command([&["build", "-q", "-t", name], AT_ONE_TIME.as_slice(), &["context"]].concat());
    testdata::Ran::from(build.env("SOURCE_DATE_EPOCH", "1000000000").output().unwrap()).ok().stdout
}

fn built_by(user: &User, flags: &[&str]) -> String {
    let program = user.home().join("dunnage");
    let mut build = user.command("env", ["SOURCE_DATE_EPOCH=1000000000"]);
    build.arg(program).args(["build", "-q"]).args(AT_ONE_TIME).args(flags).arg("context");
    testdata::Ran::from(build.output().unwrap()).ok().stdout
}

#[test]
fn runtime_s01_root_and_a_user_with_ranges_build_the_same_image() {
    if skipped(&NEEDS) {
        return;
    }
    let user = User::new(BINARY, Granted::Ranges);
    user.run(["bootstrap", "--from", "busybox", "base"]).ok();
    user.write("context/note", "a note\n");
    user.write("context/Dockerfile", OWNERS);
    let mine = built_by(&user, &["-t", "app"]);
    let root = Dunnage::new(BINARY);
    root.busybox();
    root.write("context/note", "a note\n");
    root.write("context/Dockerfile", OWNERS);
    assert_eq!(built_by_root(&root, "app"), mine);

    let listed = user.run(["run", "--rm", "app", "stat", "-c", "%u:%g %a", "/d/f", "/d", "/d/p", "/srv/note"]).ok();
    assert_eq!(listed.stdout, "5:7 4750\n65534:100 755\n3:0 644\n11:12 644\n");
    assert_eq!(user.run(["run", "--rm", "-u", "5:6", "app", "id", "-u"]).ok().stdout, "5\n");
    assert!(user.run(["build", "-t", "app", "context"]).ok().stderr.contains("ran 0"));
    let info = user.run(["info"]).ok().stdout;
    assert!(info.contains("Isolation: a user namespace with 65537 ids, by newuidmap"), "{info}");
    assert!(info.contains("Snapshots: overlay"), "{info}");
}

#[test]
fn a_user_with_one_id_keeps_the_owners_of_images() {
    if skipped(&NEEDS) {
        return;
    }
    // Files, directories, a link and a pipe of owners that the user has no ids for.
    let root = Dunnage::new(BINARY);
    root.busybox();
    root.write("context/note", "a note\n");
    root.build(OWNERS);
    root.run(["save", "-o", "owners.tar", "app"]).ok();
    let more = "FROM app\nCOPY --chown=13:14 note /other\nCOPY --from=base /bin/true /t\nRUN echo new > /d/new\n\
                RUN chown 7:8 /t && ln -s t /u && chown -h 9:10 /u && cd /srv && chown 11:11 ../srv && chown 0:0 note\n";
    root.write("context/Dockerfile", more);
    let expected = built_by_root(&root, "more");

    let user = User::new(BINARY, Granted::Nothing);
    std::fs::copy(root.dir(".").join("owners.tar"), user.home().join("owners.tar")).unwrap();
    user.take("owners.tar".as_ref());
    let info = user.run(["info"]).ok().stdout;
    assert!(info.contains("this user's id alone, since /etc/subuid and /etc/subgid grant this user no ids"), "{info}");
    user.run(["bootstrap", "--from", "busybox", "base"]).ok();
    user.run(["load", "-i", "owners.tar"]).ok();
    user.run(["save", "-o", "again.tar", "app"]).ok();
    assert_eq!(
        std::fs::read(user.home().join("again.tar")).unwrap(),
        std::fs::read(root.dir(".").join("owners.tar")).unwrap()
    );
    user.write("context/note", "a note\n");
    user.write("context/Dockerfile", more);
    assert_eq!(built_by(&user, &["-t", "more"]), expected);
    for driver in ["overlay", "copy"] {
        assert_eq!(built_by(&user, &["--no-cache", "--storage-driver", driver]), expected, "with {driver}");
    }
    user.run(["system", "check"]).ok();
}

#[test]
fn a_user_with_one_id_runs_programs_that_change_users() {
    if skipped(&NEEDS) {
        return;
    }
    let user = User::new(BINARY, Granted::Nothing);
    user.run(["bootstrap", "--from", "busybox", "base"]).ok();
    user.build("FROM base\nRUN echo joe:x:7:8::/:/bin/sh >> /etc/passwd\nUSER 42:43\n");
    let id = |args: &[&str]| user.run([&["run", "--rm"], args].concat()).ok().stdout;
    assert_eq!(id(&["app", "id"]), "uid=42 gid=43 groups=43\n");
    assert_eq!(id(&["-u", "0", "app", "su", "-c", "id; id", "joe"]), "uid=7(joe) gid=8 groups=8\n".repeat(2));
    // Who gave up user 0 gives no files away, though the kernel would let this user.
    let refused = user.run(["run", "--rm", "app", "su", "-c", "id", "joe"]);
    assert_ne!(refused.code, 0, "{refused:?}");
    // Many processes at once, each someone else.
    let crowd = "for n in $(seq 1 40); do (echo u$n:x:$n:$n::/:/bin/sh >> /tmp/p) & done; wait; cat /tmp/p >> /etc/passwd; \
                 for n in $(seq 10 40); do su -c 'id -u' u$n & done; wait";
    let mut found: Vec<u32> =
        id(&["-u", "0", "app", "sh", "-c", crowd]).lines().map(|line| line.parse().unwrap()).collect();
    found.sort_unstable();
    assert_eq!(found, (10..=40).collect::<Vec<u32>>());
}

#[test]
fn security_s20_the_maps_are_the_granted_ones_and_files_of_root_are_nobodys() {
    if skipped(&NEEDS) {
        return;
    }
    let user = User::new(BINARY, Granted::Ranges);
    user.run(["bootstrap", "--from", "busybox", "base"]).ok();
    let line = |file: &str| {
        let text = std::fs::read_to_string(file).unwrap();
        let line = text.lines().find(|line| line.starts_with(&format!("{}:", user.name()))).unwrap().to_owned();
        line.split(':').nth(1).unwrap().to_owned()
    };
    let maps = user.run(["run", "--rm", "base", "cat", "/proc/self/uid_map", "/proc/self/gid_map"]).ok().stdout;
    let fields: Vec<Vec<&str>> = maps.lines().map(|line| line.split_whitespace().collect()).collect();
    let (uids, gids) = (line("/etc/subuid"), line("/etc/subgid"));
    assert_eq!(fields[1], ["1", uids.as_str(), "65536"], "{maps}");
    assert_eq!(fields[3], ["1", gids.as_str(), "65536"], "{maps}");

    // A file that only root may read, shown to the container: its owner is nobody there, and it stays closed.
    let secret = user.home().join("secret");
    std::fs::write(&secret, "of root").unwrap();
    std::os::unix::fs::chown(&secret, Some(0), Some(0)).unwrap();
    std::fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let volume = format!("{}:/secret", secret.display());
    let seen = user.run(["run", "--rm", "-v", &volume, "base", "sh", "-c", "stat -c %u /secret; cat /secret"]);
    assert_eq!(seen.stdout, "65534\n");
    seen.fails(1, "Permission denied");
    // Nor can its owner be changed, or the file be written, by user 0 of the container.
    let written = user.run(["run", "--rm", "-v", &volume, "base", "sh", "-c", "chown 0 /secret; echo x >/secret"]);
    assert_ne!(written.code, 0);
    assert_eq!(std::fs::read_to_string(&secret).unwrap(), "of root");
}

#[test]
fn security_s20_without_newgidmap_the_sentence_says_what_to_install() {
    if skipped(&NEEDS) {
        return;
    }
    let user = User::new(BINARY, Granted::Ranges);
    // A PATH with newuidmap alone.
    std::fs::create_dir(user.home().join("bin")).unwrap();
    std::os::unix::fs::symlink("/usr/bin/newuidmap", user.home().join("bin/newuidmap")).unwrap();
    let path = format!("PATH={}", user.home().join("bin").display());
    let mut info = user.command("env", [&path]);
    let info: testdata::Ran = info.arg(user.home().join("dunnage")).arg("info").output().unwrap().into();
    let text = info.ok().stdout;
    assert!(text.contains("this user's id alone, since newuidmap and newgidmap are not on the PATH"), "{text}");
    assert!(text.contains("install it (package uidmap on Debian"), "{text}");
}

#[test]
fn security_f21_a_user_without_namespaces_is_told_what_to_change() {
    if skipped(&NEEDS) {
        return;
    }
    let user = User::new(BINARY, Granted::Ranges);
    // A limit of zero user namespaces, in a user namespace of its own so that nothing else feels it.
    let script = "echo 0 > /proc/sys/user/max_user_namespaces && exec setpriv --inh-caps=-all --bounding-set=-all \
                  --no-new-privs ./dunnage --root store \"$@\"";
    let inside = |args: &[&str]| -> testdata::Ran {
        user.command("unshare", ["-r", "sh", "-c", script, "sh"]).args(args).output().unwrap().into()
    };
    let text = inside(&["info"]).ok().stdout;
    assert!(text.contains("no containers, since this machine allows no user namespaces"), "{text}");
    assert!(text.contains("sudo sysctl user.max_user_namespaces"), "{text}");
    // Files alone need no container.
    user.write("context/Dockerfile", "FROM scratch\nCOPY Dockerfile /\n");
    inside(&["build", "-t", "files", "context"]).ok();
    user.write("context/Dockerfile", "FROM files\nRUN [\"/none\"]\n");
    inside(&["build", "context"]).fails(3, "sudo sysctl user.max_user_namespaces");
}

#[test]
fn nothing_of_the_users_own_can_be_seen_but_what_is_mounted() {
    if skipped(&NEEDS) {
        return;
    }
    let user = User::new(BINARY, Granted::Ranges);
    user.run(["bootstrap", "--from", "busybox", "base"]).ok();
    user.write("private", "mine");
    user.write("shared/file", "ours");
    let volume = format!("{}:/shared", user.home().join("shared").display());
    let script = format!(
        "ls {} 2>&1; ls /proc | grep -c '^[0-9]'; cat /shared/file; echo new > /shared/made",
        user.home().display()
    );
    let seen = user.run(["run", "--rm", "-v", &volume, "base", "sh", "-c", &script]).ok().stdout;
    assert!(seen.contains("No such file or directory") && seen.ends_with("ours"), "{seen}");
    // The shell, and the programs of its pipe: no process of the machine.
    let processes: u32 = seen.lines().nth(1).unwrap().parse().unwrap();
    assert!(processes <= 3, "{seen}");
    let made = std::fs::metadata(user.home().join("shared/made")).unwrap();
    let own = std::fs::metadata(user.home().join("private")).unwrap();
    use std::os::unix::fs::MetadataExt;
    assert_eq!((made.uid(), made.gid()), (own.uid(), own.gid()), "what user 0 of the container makes is the user's");
}

#[test]
fn security_t08_device_nodes_of_an_archive_are_not_made_without_root() {
    if skipped(&NEEDS) {
        return;
    }
    let user = User::new(BINARY, Granted::Ranges);
    user.run(["bootstrap", "--from", "busybox", "base"]).ok();
    let made = std::process::Command::new("sh")
        .arg("-c")
        .arg("mkdir root && mknod root/k c 1 1 && mkfifo root/p && tar -C root -cf nodes.tar . && rm -r root")
        .current_dir(user.home())
        .status();
    assert!(made.unwrap().success());
    user.take("nodes.tar".as_ref());
    let imported = user.run(["import", "nodes.tar", "nodes"]);
    assert_eq!(imported.code, 1, "{imported:?}");
    assert!(imported.stderr.contains("device"), "{}", imported.stderr);
}
