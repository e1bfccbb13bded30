//! Dunnage inside containers that are not privileged: of dunnage and of docker, as root in there and as a user.
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::Path;

use testdata::{BASE, Docker, Dunnage, Need, Ran, skipped};

const BINARY: &str = env!("CARGO_BIN_EXE_dunnage");

/// What is done inside: an image is built with RUN, run, and reached while it runs.
const WORK: &str = "set -e\n\
    dunnage info | grep Isolation >&2\n\
    dunnage bootstrap --from busybox base >/dev/null\n\
    dunnage build -q -t in /context >/dev/null\n\
    dunnage run --rm in\n\
    dunnage run -d --name later in sh -c 'exec sleep 100' >/dev/null\n\
    dunnage exec later cat /made\n\
    dunnage rm -f later >/dev/null\n";
const FILE: &str =
    "FROM base\nRUN echo inner > /made && chown 5:7 /made\nCMD [\"sh\", \"-c\", \"cat /made; echo $$\"]\n";

/// The flags of the outer container that lend it the binary and the context, and a directory for the store.
fn lent(directory: &Path) -> Vec<String> {
    std::fs::create_dir_all(directory.join("context")).unwrap();
    std::fs::copy(BINARY, directory.join("binary")).unwrap();
    std::fs::write(directory.join("context/Dockerfile"), FILE).unwrap();
    std::fs::write(directory.join("work.sh"), WORK).unwrap();
    let volume = |name: &str, at: &str| ["-v".to_owned(), format!("{}:{at}:ro", directory.join(name).display())];
    let mut flags =
        [volume("binary", "/bin/dunnage"), volume("context", "/context"), volume("work.sh", "/work.sh")].concat();
    flags.extend(["--tmpfs", "/tmp:mode=1777,exec"].map(str::to_owned));
    flags
}

/// What it gives, and whether the inner container has processes of its own: its first one is number 1 then.
fn check(ran: Ran, apart: bool) {
    let ran = ran.ok();
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert_eq!([lines.first(), lines.last()], [Some(&"inner"), Some(&"inner")], "{ran:?}");
    assert_eq!(lines.get(1) == Some(&"1"), apart, "{ran:?}");
    assert_eq!(ran.stderr.contains("its processes are not apart"), !apart, "{ran:?}");
}

#[test]
fn in_a_container_of_dunnage_that_is_not_privileged() {
    if skipped(&BASE) {
        return;
    }
    let dunnage = Dunnage::new(BINARY);
    dunnage.busybox();
    let lent = lent(&dunnage.dir("lent"));
    let run = |flags: &[&str]| {
        let lent: Vec<&str> = lent.iter().map(String::as_str).collect();
        dunnage.run([&["run", "--rm"], lent.as_slice(), flags, &["base", "sh", "/work.sh"]].concat())
    };
    let filter = ["--security-opt", "seccomp=unconfined"];
    let paths = ["--security-opt", "systempaths=unconfined"];
    let user = ["-u", "1000:1000", "-e", "HOME=/tmp/home"];
    check(run(&filter), false);
    check(run(&[filter, paths].concat()), true);
    check(run(&[filter.as_slice(), &user].concat()), false);
    check(run(&[filter.as_slice(), &paths, &user].concat()), true);
    // With a disk for the store there is overlay, and the owners are those of root outside.
    let volume = format!("{}:/var/lib/dunnage", dunnage.dir("volume").display());
    check(run(&[filter.as_slice(), &paths, &["-v", &volume]].concat()), true);
    // The filter of system calls alone is in the way, and the sentence says so.
    run(&[]).fails(3, "seccomp=unconfined");
}

#[test]
fn in_a_container_of_docker_that_is_not_privileged() {
    if skipped(&BASE) || skipped(&[Need::Program("dockerd"), Need::Program("docker"), Need::Program("containerd")]) {
        return;
    }
    let dunnage = Dunnage::new(BINARY);
    dunnage.busybox();
    dunnage.run(["save", "-o", "base.tar", "base"]).ok();
    let lent = lent(&dunnage.dir("lent"));
    let docker = Docker::start(&dunnage.dir("docker"));
    let archive = dunnage.dir(".").join("base.tar").display().to_string();
    let docker_run = |args: &[&str]| Ran::from(docker.command(args).output().unwrap());
    docker_run(&["load", "-i", &archive]).ok();
    let run = |flags: &[&str]| {
        let lent: Vec<&str> = lent.iter().map(String::as_str).collect();
        docker_run(
            &[&["run", "--rm", "--network", "none"], lent.as_slice(), flags, &["base", "sh", "/work.sh"]].concat(),
        )
    };
    let filter = ["--security-opt", "seccomp=unconfined"];
    let paths = ["--security-opt", "systempaths=unconfined"];
    check(run(&filter), false);
    check(run(&[filter, paths].concat()), true);
    check(run(&[filter.as_slice(), &paths, &["-u", "1000:1000", "-e", "HOME=/tmp/home"]].concat()), true);
}
