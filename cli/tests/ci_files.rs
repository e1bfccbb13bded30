//! The files of docs/ci.md, as far as they can be tried without the services: the lines of their jobs, in places with their
//! settings. A second job has an empty store and the cache of the first.
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::Path;
use std::process::Command;

use testdata::{BASE, Docker, Dunnage, Granted, Need, Ran, User, skipped, workspace};

const BINARY: &str = env!("CARGO_BIN_EXE_dunnage");

/// The block of a section.
fn block(section: &str) -> String {
    let text = std::fs::read_to_string(workspace().join("docs/ci.md")).unwrap();
    let section = text.split("\n## ").find(|part| part.starts_with(section)).unwrap();
    section.split("```").nth(1).unwrap().to_owned()
}

/// The lines of a job that are dunnage's.
fn script(section: &str) -> String {
    let lines: Vec<String> = block(section)
        .lines()
        .map(|line| line.trim().trim_start_matches("- ").trim_start_matches("sudo ").to_owned())
        .filter(|line| line.starts_with("dunnage "))
        .collect();
    assert_eq!(lines.len(), 2, "{section}: {lines:?}");
    lines.join(" && ")
}

/// A project with a step and its output.
fn project(directory: &Path) {
    std::fs::create_dir_all(directory).unwrap();
    std::fs::write(
        directory.join("Dockerfile"),
        "FROM base\nRUN echo built > /built\nCOPY . /all\nCMD cat /built && ls -A /all\n",
    )
    .unwrap();
    std::fs::write(directory.join(".dockerignore"), ".dunnage-cache\n").unwrap();
}

#[track_caller]
fn check(jobs: [Ran; 2]) {
    for (number, job) in jobs.into_iter().enumerate() {
        let job = job.ok();
        assert!(job.stdout.ends_with("built\n.dockerignore\nDockerfile\n"), "{job:?}");
        assert_eq!(job.stderr.contains("ran 0"), number == 1, "job {number}: {job:?}");
    }
}

/// A base in a store of its own each time, as a pull would bring it.
fn with_base(script: &str, tar: &str) -> String {
    format!("dunnage load -i {tar} >/dev/null && {script}")
}

fn base_tar(dunnage: &Dunnage) -> String {
    dunnage.busybox();
    dunnage.run(["save", "-o", "base.tar", "base"]).ok();
    dunnage.dir(".").join("base.tar").display().to_string()
}

#[test]
fn the_lines_for_github() {
    if skipped(&BASE) {
        return;
    }
    let dunnage = Dunnage::new(BINARY);
    let tar = base_tar(&dunnage);
    let project_directory = dunnage.dir("project");
    project(&project_directory);
    let bin = dunnage.dir("bin");
    std::os::unix::fs::symlink(BINARY, bin.join("dunnage")).unwrap();
    let job = |store: &str| -> Ran {
        let own = dunnage.command(["info"]);
        let mut command = Command::new("sh");
        command.envs(own.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.args(["-c", &with_base(&script("GitHub"), &tar)]).current_dir(&project_directory);
        let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
        command.env("PATH", path).env("DUNNAGE_ROOT", dunnage.dir(store)).output().unwrap().into()
    };
    check([job("one"), job("two")]);
}

#[test]
fn the_lines_for_gitlab() {
    let docker = ["dockerd", "docker", "containerd"].map(Need::Program);
    if skipped(&[&BASE[..], &docker].concat()) {
        return;
    }
    let dunnage = Dunnage::new(BINARY);
    base_tar(&dunnage);
    project(&dunnage.dir("builds/project"));
    std::fs::copy(BINARY, dunnage.dir("bin").join("dunnage")).unwrap();
    let docker = Docker::start(&dunnage.dir("docker"));
    let files = dunnage.dir(".").display().to_string();
    let tar = format!("{files}/base.tar");
    Ran::from(docker.command(&["load", "-i", &tar]).output().unwrap()).ok();
    // What the page asks of the runner, in the client's spelling.
    let page = std::fs::read_to_string(workspace().join("docs/ci.md")).unwrap();
    let options = page.split("security_opt = [").nth(1).unwrap().split(']').next().unwrap();
    let options: Vec<String> = options.split(", ").map(|option| option.trim_matches('"').replace(':', "=")).collect();
    assert_eq!(options.len(), 3, "{options:?}");
    let root = block("GitLab");
    let root = root.lines().find_map(|line| line.trim().strip_prefix("DUNNAGE_ROOT: ")).unwrap();
    let job = || -> Ran {
        let volume = |at: &str| format!("{files}/{at}");
        let mut args = vec!["run".to_owned(), "--rm".to_owned(), "--network".to_owned(), "none".to_owned()];
        for option in &options {
            args.extend(["--security-opt".to_owned(), option.clone()]);
        }
        args.extend(["-v".to_owned(), format!("{}:/builds", volume("builds"))]);
        args.extend(["-v".to_owned(), format!("{}:/usr/bin/dunnage:ro", volume("bin/dunnage"))]);
        args.extend(["-v".to_owned(), format!("{}:/base.tar:ro", volume("base.tar"))]);
        args.extend(
            ["-e", "CI_BUILDS_DIR=/builds", "-e", "CI=true", "-w", "/builds/project", "base", "sh", "-c"]
                .map(str::to_owned),
        );
        let work = with_base(&script("GitLab"), "/base.tar");
        args.push(format!(
            "mkdir -p /tmp; export HOME=/tmp DUNNAGE_ROOT={root}; {work}; code=$?; rm -rf {root}; exit $code"
        ));
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        Ran::from(docker.command(&args).output().unwrap())
    };
    check([job(), job()]);
}

/// The user namespace of the pod is here that of a user without rights.
#[test]
fn the_settings_of_the_pod() {
    let needs = ["useradd", "newuidmap", "setpriv"].map(Need::Program);
    if skipped(&[&BASE[..], &needs].concat()) {
        return;
    }
    let pod = block("Jenkins");
    for setting in ["hostUsers: false", "procMount: Unmasked", "seccompProfile: {type: Unconfined}", "value: /store"] {
        assert!(pod.contains(setting), "{setting}");
    }
    let user = User::new(BINARY, Granted::Ranges);
    user.run(["bootstrap", "--from", "busybox", "base"]).ok();
    user.run(["save", "-o", "base.tar", "base"]).ok();
    project(&user.home().join("project"));
    std::fs::create_dir(user.home().join("store")).unwrap();
    user.take(".".as_ref());
    let at = |name: &str, inside: &str| format!("{}:{inside}", user.home().join(name).display());
    let job = || -> Ran {
        let work = with_base(&script("GitLab"), "/base.tar");
        let work = format!("export HOME=/tmp; {work}; code=$?; rm -rf /store/*; exit $code");
        let mut args =
            vec!["run", "--rm", "--network", "none", "--tmpfs", "/tmp", "-e", "DUNNAGE_ROOT=/store", "-w", "/project"];
        args.extend(["--security-opt", "seccomp=unconfined", "--security-opt", "systempaths=unconfined"]);
        let volumes = [
            at("store", "/store"),
            at("project", "/project"),
            at("base.tar", "/base.tar"),
            at("dunnage", "/bin/dunnage:ro"),
        ];
        volumes.iter().for_each(|volume| args.extend(["-v", volume.as_str()]));
        user.run([&args[..], &["base", "sh", "-c", &work]].concat())
    };
    check([job(), job()]);
}
