//! ADD of git repositories, served by git's own daemon on loopback.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::os::unix::fs::{PermissionsExt, symlink};

use testdata::{Dunnage, GitDaemon, Need, Ran};

const NEEDS: [Need; 3] = [Need::Root, Need::Program("busybox"), Need::Program("git")];

fn setup() -> Option<(Dunnage, GitDaemon)> {
    let dunnage = Dunnage::with_base(env!("CARGO_BIN_EXE_dunnage"), &NEEDS)?;
    Some((dunnage, GitDaemon::start()))
}

fn app(dunnage: &Dunnage) -> String {
    dunnage.run(["run", "--rm", "app"]).ok().stdout
}

/// A `git` that notes how it is called; what was noted.
fn spied(dunnage: &Dunnage, args: &[&str]) -> (Ran, String) {
    let log = dunnage.dir("spy").join("log");
    let script = format!("#!/bin/sh\necho \"$1\" >> {}\nPATH=${{PATH#*:}} exec git \"$@\"\n", log.display());
    let program = dunnage.write("spy/git", script);
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::write(&log, "").unwrap();
    let path = format!("{}:{}", dunnage.dir("spy").display(), std::env::var("PATH").unwrap());
    let ran = dunnage.command(args).env("PATH", path).output().unwrap().into();
    (ran, std::fs::read_to_string(log).unwrap())
}

#[test]
fn add_git_takes_branches_tags_commits_and_directories() {
    let Some((dunnage, daemon)) = setup() else { return };
    let repository = daemon.repository("r");
    repository.write("f", "one\n");
    repository.write("sub/dir/g", "deep\n");
    repository.write("run.sh", "#!/bin/sh\n");
    let mode = |name: &str, mode| {
        std::fs::set_permissions(repository.path().join(name), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    mode("run.sh", 0o700);
    mode("f", 0o600);
    let first = repository.commit();
    repository.git(&["tag", "-a", "v1", "-m", "annotated"]);
    repository.git(&["update-ref", "refs/pull/7/head", &first]);
    repository.git(&["checkout", "-q", "-b", "dev"]);
    repository.write("f", "dev\n");
    repository.commit();
    repository.git(&["checkout", "-q", "main"]);
    repository.write("f", "two\n");
    repository.commit();
    let url = daemon.url("r");
    dunnage.build(&format!(
        "FROM base\nADD {url} /head/\nADD {url}#v1 /tag/\nADD {url}#{first} /commit/\nADD {url}?branch=dev /branch\nADD {url}#refs/pull/7/head:sub/dir /sub\nADD {url}?tag=v1&subdir=sub /query\nADD --chown=5:6 --exclude=sub {url}#dev /own/\nADD --keep-git-dir=true {url}#v1 /kept/\nCMD cat /head/f /tag/f /commit/f /branch/f /sub/g /query/dir/g; stat -c '%n %a %u:%g %Y' /head/f /head/run.sh /head/sub /own/f; ls -A /head /own; ls -d /kept/.git\n"
    ));
    assert_eq!(
        app(&dunnage),
        "two\none\none\ndev\ndeep\ndeep\n/head/f 644 0:0 1500000000\n/head/run.sh 755 0:0 1500000000\n/head/sub 755 0:0 1500000000\n/own/f 644 5:6 1500000000\n/head:\nf\nrun.sh\nsub\n\n/own:\nf\nrun.sh\n/kept/.git\n"
    );
    dunnage.write("context/Dockerfile", format!("FROM base\nADD {url}#none /x/\n"));
    dunnage.run(["build", "context"]).fails(1, "has no branch, tag or reference `none`");
    assert_eq!(dunnage.leftovers(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn add_git_hits_by_commit_without_a_clone() {
    let Some((dunnage, daemon)) = setup() else { return };
    let repository = daemon.repository("r");
    repository.write("f", "one\n");
    let commit = repository.commit();
    let url = daemon.url("r");
    dunnage.write("context/Dockerfile", format!("FROM base\nADD {url} /d/\nCMD cat /d/f\n"));
    let build = ["build", "-q", "-t", "app", "context"];
    let (first, log) = spied(&dunnage, &build);
    let id = first.ok().stdout;
    assert!(log.contains("fetch\n"), "{log}");
    let (again, log) = spied(&dunnage, &build);
    assert_eq!((again.ok().stdout, log.as_str()), (id, "ls-remote\n"));
    repository.write("f", "two\n");
    repository.commit();
    spied(&dunnage, &build).0.ok();
    assert_eq!(app(&dunnage), "two\n");
    // A whole commit as checksum needs no question at all.
    dunnage
        .write("context/Dockerfile", format!("FROM base\nADD --checksum={commit} {url}#{commit} /c/\nCMD cat /c/f\n"));
    spied(&dunnage, &build).0.ok();
    let (again, log) = spied(&dunnage, &build);
    again.ok();
    assert_eq!(log, "");
    assert_eq!(app(&dunnage), "one\n");
    let wrong = &commit[..12];
    dunnage.write("context/Dockerfile", format!("FROM base\nADD {url}?ref=main&checksum={wrong} /c/\n"));
    dunnage.run(["build", "context"]).fails(1, &format!("does not have the checksum {wrong}"));
}

#[test]
fn add_git_takes_submodules_unless_told_not_to() {
    let Some((dunnage, daemon)) = setup() else { return };
    let inner = daemon.repository("inner");
    inner.write("i", "inside\n");
    inner.commit();
    let outer = daemon.repository("outer");
    outer.write("o", "outside\n");
    outer.git(&["submodule", "--quiet", "add", &daemon.url("inner"), "in"]);
    outer.commit();
    let url = daemon.url("outer");
    dunnage.build(&format!(
        "FROM base\nADD {url} /a/\nADD {url}?submodules=0 /b/\nCMD cat /a/in/i; ls -A /a /a/in /b/in\n"
    ));
    assert_eq!(app(&dunnage), "inside\n/a:\n.gitmodules\nin\no\n\n/a/in:\ni\n\n/b/in:\n");
}

#[test]
fn security_d08_a_repository_decides_nothing_on_the_host() {
    let Some((dunnage, daemon)) = setup() else { return };
    let canary = dunnage.write("canary/secret", "host\n");
    let repository = daemon.repository("r");
    repository.write("real/f", "f\n");
    symlink("real", repository.path().join("link")).unwrap();
    symlink(canary.parent().unwrap(), repository.path().join("out")).unwrap();
    // A filter of the machine's configuration would run a program; so would a hook.
    repository.write(".gitattributes", "* filter=evil\n");
    repository.commit();
    let url = daemon.url("r");
    let ran = canary.with_file_name("ran");
    let config = format!(
        "[filter \"evil\"]\n smudge = touch {0}\n[core]\n hooksPath = {1}\n",
        ran.display(),
        canary.parent().unwrap().display()
    );
    let config = dunnage.write("gitconfig", config);
    let hook = dunnage.write("canary/post-checkout", format!("#!/bin/sh\ntouch {}\n", ran.display()));
    std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).unwrap();
    for (directory, sentence) in
        [("link", "is a link"), ("out", "is a link"), ("../..", "no directory"), ("real/f", "no directory")]
    {
        dunnage.write("context/Dockerfile", format!("FROM base\nADD {url}?subdir={directory} /x/\n"));
        dunnage.run(["build", "context"]).fails(1, sentence);
    }
    for reference in ["--upload-pack=x", "-x"] {
        dunnage.write("context/Dockerfile", format!("FROM base\nADD {url}#{reference} /x/\n"));
        dunnage.run(["build", "context"]).fails(1, "is not a valid reference");
    }
    dunnage.write("context/Dockerfile", format!("FROM base\nADD {url} /x/\n"));
    let mut command = dunnage.command(["build", "-t", "app", "context"]);
    command.env("GIT_CONFIG_GLOBAL", &config).env("GIT_CONFIG_COUNT", "1").env("HOME", config.parent().unwrap());
    let built: Ran = command.output().unwrap().into();
    built.ok();
    assert!(!ran.exists());
    // A submodule of the host's own files.
    let evil = daemon.repository("evil");
    evil.git(&["submodule", "--quiet", "add", repository.path().to_str().unwrap(), "host"]);
    evil.commit();
    dunnage.write("context/Dockerfile", format!("FROM base\nADD {} /x/\n", daemon.url("evil")));
    dunnage.run(["build", "context"]).fails(1, "transport 'file' not allowed");
}

#[test]
fn add_git_says_when_git_is_not_there() {
    let Some((dunnage, _daemon)) = setup() else { return };
    dunnage.write("context/Dockerfile", "FROM base\nADD https://h.invalid/r.git /x/\n");
    let ran: Ran = dunnage.command(["build", "context"]).env("PATH", "/nowhere").output().unwrap().into();
    ran.fails(1, "needs the program `git`");
}

#[test]
fn keeping_a_repository_of_what_is_none_is_refused_at_the_flag() {
    let dunnage = Dunnage::new(env!("CARGO_BIN_EXE_dunnage"));
    dunnage.write("context/f", "");
    for (source, flag) in [("f", "--keep-git-dir"), ("http://127.0.0.1:1/f", "--keep-git-dir=false")] {
        dunnage.write("context/Dockerfile", format!("FROM scratch\nADD {flag} {source} /f\n"));
        let ran = dunnage.run(["build", "context"]).fails(1, "--keep-git-dir is for a git source");
        assert!(ran.stderr.contains("Dockerfile:2:5"), "{}", ran.stderr);
    }
}
