//! Every kind of build context, and `--build-context`.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use testdata::{Dunnage, GitDaemon, Need, Ran, Reply, Server, skipped};

fn dunnage(program: &'static str) -> Option<Dunnage> {
    if skipped(&[Need::Root, Need::Program("busybox"), Need::Program(program)]) {
        return None;
    }
    let dunnage = Dunnage::new(env!("CARGO_BIN_EXE_dunnage"));
    dunnage.busybox();
    Some(dunnage)
}

fn app(dunnage: &Dunnage) -> String {
    dunnage.run(["run", "--rm", "app"]).ok().stdout
}

fn with_stdin(dunnage: &Dunnage, args: &[&str], input: &Path) -> Ran {
    dunnage.command(args).stdin(File::open(input).unwrap()).output().unwrap().into()
}

/// A tar of a directory beside the store.
fn tar(dunnage: &Dunnage, flags: &str, directory: &str) -> PathBuf {
    let path = dunnage.dir(".").join(format!("{directory}.{flags}"));
    let status =
        Command::new("tar").arg(flags).arg(&path).args(["-C", directory, "."]).current_dir(dunnage.dir(".")).status();
    assert!(status.unwrap().success());
    path
}

#[test]
fn standard_input_is_an_archive_or_a_dockerfile() {
    let Some(dunnage) = dunnage("tar") else { return };
    dunnage.write("c/Dockerfile", "FROM base\nCOPY . /c/\nCMD ls -A /c\n");
    dunnage.write("c/.dockerignore", "f\n");
    dunnage.write("c/f", "f\n");
    for flags in ["cf", "czf", "cJf"] {
        with_stdin(&dunnage, &["build", "-t", "app", "-"], &tar(&dunnage, flags, "c")).ok();
        // Ignore files are for directories.
        assert_eq!(app(&dunnage), ".dockerignore\nDockerfile\nf\n", "{flags}");
    }
    let lone = dunnage.write("lone", "FROM base\nRUN echo lone > /l\nCMD cat /l\n");
    with_stdin(&dunnage, &["build", "-t", "app", "-"], &lone).ok();
    assert_eq!(app(&dunnage), "lone\n");
    let lone = dunnage.write("lone", "FROM base\nCOPY f /\n");
    with_stdin(&dunnage, &["build", "-"], &lone).fails(1, "COPY source `f` not found");
    dunnage.write("c/other", "FROM base\nCMD echo other\n");
    with_stdin(&dunnage, &["build", "-t", "app", "-f", "other", "-"], &tar(&dunnage, "cf", "c")).ok();
    assert_eq!(app(&dunnage), "other\n");
    let binary = dunnage.write("binary", [0, 1, 2, 0]);
    with_stdin(&dunnage, &["build", "-"], &binary).fails(1, "neither an archive nor a Dockerfile");
    assert_eq!(dunnage.leftovers(), Vec::<PathBuf>::new());
}

#[test]
fn an_archive_leads_nowhere_else() {
    let Some(dunnage) = dunnage("tar") else { return };
    let secret = dunnage.write("canary", "FROM base\nCMD echo host\n");
    dunnage.dir("c");
    std::os::unix::fs::symlink(&secret, dunnage.dir("c").join("Dockerfile")).unwrap();
    with_stdin(&dunnage, &["build", "-"], &tar(&dunnage, "cf", "c")).fails(1, "no Dockerfile in");
    // In a directory of the user's own a link is the user's.
    dunnage.run(["build", "-q", "-t", "app", "c"]).ok();
    assert_eq!(app(&dunnage), "host\n");
}

#[test]
fn the_dockerfile_may_come_from_elsewhere() {
    let Some(dunnage) = dunnage("busybox") else { return };
    dunnage.write("c/f", "context\n");
    let file = dunnage.write("out/other.Dockerfile", "FROM base\nCOPY f /f\nCMD cat /f\n");
    with_stdin(&dunnage, &["build", "-t", "app", "-f", "-", "c"], &file).ok();
    assert_eq!(app(&dunnage), "context\n");
    dunnage.run(["build", "-t", "app", "-f", file.to_str().unwrap(), "c"]).ok();
    let text = std::fs::read_to_string(&file).unwrap().replace("/f\nCMD", "/f\nRUN echo more >> /f\nCMD");
    let server = Server::start(move |_| Reply::ok(text.clone()));
    dunnage.run(["build", "-t", "app", "-f", &server.url("/Dockerfile"), "c"]).ok();
    assert_eq!(app(&dunnage), "context\nmore\n");
    with_stdin(&dunnage, &["build", "-f", "-", "-"], &file).fails(2, "cannot both be standard input");
}

#[test]
fn a_url_is_an_archive_or_a_dockerfile() {
    let Some(dunnage) = dunnage("tar") else { return };
    dunnage.write("c/Dockerfile", "FROM base\nCOPY f /f\nCMD cat /f\n");
    dunnage.write("c/f", "from the web\n");
    let archive = std::fs::read(tar(&dunnage, "czf", "c")).unwrap();
    let server = Server::start(move |asked| match asked.path.as_str() {
        "/c.tgz" => Reply::ok(archive.clone()),
        "/Dockerfile" => Reply::ok("FROM base\nCMD echo alone\n"),
        _ => Reply::status(404),
    });
    dunnage.run(["build", "-t", "app", &server.url("/c.tgz")]).ok();
    assert_eq!(app(&dunnage), "from the web\n");
    let again = dunnage.run(["build", "-t", "app", &server.url("/c.tgz")]).ok();
    assert!(again.stderr.contains("1 of 1 steps cached"), "{}", again.stderr);
    dunnage.run(["build", "-t", "app", &server.url("/Dockerfile")]).ok();
    assert_eq!(app(&dunnage), "alone\n");
    dunnage.run(["build", &server.url("/none")]).fails(1, "the server answers 404");
    assert_eq!(dunnage.leftovers(), Vec::<PathBuf>::new());
}

#[test]
fn a_repository_is_a_context() {
    let Some(dunnage) = dunnage("git") else { return };
    let daemon = GitDaemon::start();
    let repository = daemon.repository("r");
    repository.write("app/Dockerfile", "FROM base\nCOPY . /c/\nCMD ls -A /c\n");
    repository.write("app/.dockerignore", "f\n");
    repository.write("app/f", "f\n");
    repository.write("Dockerfile", "FROM base\nCOPY . /top/\nCMD ls -A /top\n");
    repository.commit();
    dunnage.run(["build", "-t", "app", &format!("{}#main:app", daemon.url("r"))]).ok();
    assert_eq!(app(&dunnage), ".dockerignore\nDockerfile\nf\n");
    dunnage.run(["build", "-t", "app", &daemon.url("r")]).ok();
    assert_eq!(app(&dunnage), "Dockerfile\napp\n");
    dunnage.run(["build", &format!("{}#none", daemon.url("r"))]).fails(1, "has no branch, tag or reference `none`");
    assert_eq!(dunnage.leftovers(), Vec::<PathBuf>::new());
}

#[test]
fn named_contexts_override_stages_and_images() {
    let Some(dunnage) = dunnage("git") else { return };
    dunnage.write("tools/tool", "tool\n");
    dunnage.write("tools/ignored", "x\n");
    dunnage.write("tools/.dockerignore", "ignored\n.dockerignore\n");
    let file = "FROM base AS tools\nRUN echo stage > /tool\nFROM base\nCOPY --from=tools / /t/\nCMD cat /t/tool; ls -A /t | head -3\n";
    dunnage.write("context/Dockerfile", file);
    dunnage.run(["build", "-t", "app", "--build-context", "tools=tools", "context"]).ok();
    assert_eq!(app(&dunnage), "tool\ntool\n");
    // As a base, and the platform's own first.
    dunnage.write("rootfs/bin/busybox", std::fs::read(busybox()).unwrap());
    std::fs::set_permissions(
        dunnage.dir("rootfs").join("bin/busybox"),
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .unwrap();
    dunnage.write(
        "context/Dockerfile",
        "FROM alpine:latest\nRUN [\"/bin/busybox\", \"touch\", \"/made\"]\nCMD [\"/bin/busybox\", \"ls\", \"/\"]\n",
    );
    let own = format!("alpine::linux/{}=rootfs", if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" });
    dunnage.run(["build", "-t", "app", "--build-context", &own, "--build-context", "alpine=none", "context"]).ok();
    assert!(app(&dunnage).contains("made\n"));
    // An image, a stage, a repository.
    dunnage.write("context/Dockerfile", "FROM nowhere AS a\nFROM nowhere\nCOPY --from=code /f /f\nCMD cat /f\n");
    let daemon = GitDaemon::start();
    let repository = daemon.repository("r");
    repository.write("f", "code\n");
    repository.commit();
    let code = format!("code={}", daemon.url("r"));
    dunnage
        .run([
            "build",
            "-t",
            "app",
            "--build-context",
            "nowhere=docker-image://base",
            "--build-context",
            &code,
            "context",
        ])
        .ok();
    assert_eq!(app(&dunnage), "code\n");
    dunnage.write(
        "context/Dockerfile",
        "FROM base AS real\nRUN echo real > /f\nFROM base\nCOPY --from=other /f /f\nCMD cat /f\n",
    );
    dunnage.run(["build", "-t", "app", "--build-context", "other=target:real", "context"]).ok();
    assert_eq!(app(&dunnage), "real\n");
    let missing = ["build", "--build-context", "other=docker-image://not/here", "context"];
    dunnage.run(missing).fails(1, "image `not/here:latest` is not in the store");
    dunnage.run(["build", "--build-context", "other", "context"]).fails(2, "--build-context must be NAME=VALUE");
    dunnage
        .run(["build", "--build-context", "other=target:none", "context"])
        .fails(1, "there is no other stage `none`");
    assert_eq!(dunnage.leftovers(), Vec::<PathBuf>::new());
}

#[test]
fn an_oci_layout_is_a_context_and_names_nothing() {
    let Some(dunnage) = dunnage("busybox") else { return };
    dunnage.run(["save", "--format", "oci", "-o", "layout.tar", "base"]).ok();
    let layout = dunnage.dir("layout");
    let status = Command::new("tar").arg("xf").arg(dunnage.dir(".").join("layout.tar")).arg("-C").arg(&layout).status();
    assert!(status.unwrap().success());
    let other = Dunnage::new(env!("CARGO_BIN_EXE_dunnage"));
    other.write("context/Dockerfile", "FROM mine\nRUN echo laid > /l\nCMD cat /l\n");
    let context = format!("mine=oci-layout://{}", layout.display());
    other.run(["build", "-t", "app", "--build-context", &context, "context"]).ok();
    assert_eq!(app(&other), "laid\n");
    let names = other.run(["images", "--format", "{{.Repository}}"]).ok().stdout;
    assert!(!names.contains("base") && !names.contains("mine"), "{names}");
    let wrong = format!("{context}:none");
    other.run(["build", "--build-context", &wrong, "context"]).fails(1, "no image tagged `none`");
}

fn busybox() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap();
    std::env::split_paths(&path).map(|directory| directory.join("busybox")).find(|path| path.is_file()).unwrap()
}
