//! Debian's docker-registry, and the field's tools beside it: what one pushes the others pull, with equal digests.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::process::{Command, Stdio};

use testdata::{DebianRegistry, Docker, Dunnage, Need, RegistryKind, skipped, tool};

const NEEDS: [Need; 3] = [Need::Root, Need::Program("busybox"), Need::Program("docker-registry")];

/// A store with an image of two layers, `app`.
fn built() -> Dunnage {
    let dunnage = Dunnage::new(env!("CARGO_BIN_EXE_dunnage"));
    dunnage.busybox();
    dunnage
        .build("FROM base\nENV A=1\nRUN mkdir /d && echo text > /d/f && rm -f /etc/group\nCMD [\"cat\", \"/d/f\"]\n");
    dunnage
}

fn fresh() -> Dunnage {
    Dunnage::new(env!("CARGO_BIN_EXE_dunnage"))
}

#[test]
fn push_and_pull_by_tag_and_digest() {
    if skipped(&NEEDS) {
        return;
    }
    let (dunnage, registry) = (built(), DebianRegistry::start(RegistryKind::Plain));
    let name = format!("{}/team/app", registry.host());
    for tag in ["1", "2"] {
        dunnage.run(["tag", "app", &format!("{name}:{tag}")]).ok();
    }
    let pushed = dunnage.run(["push", "-a", &name]).ok().stdout;
    let digest = registry.digest("team/app", "1");
    assert_eq!(registry.digest("team/app", "2"), digest);
    assert_eq!(pushed.matches(&digest).count(), 2, "{pushed}");
    let other = fresh();
    other.run(["pull", &format!("{name}:1")]).ok();
    assert_eq!(other.image_id(&format!("{name}:1")), dunnage.image_id("app"));
    assert_eq!(other.run(["run", "--rm", &format!("{name}:1")]).ok().stdout, "text\n");
    let json = other.run(["inspect", &format!("{name}:1")]).ok().stdout;
    assert!(json.contains(&format!("{name}@{digest}")), "{json}");
    // By digest, and all tags; a run pulls what is missing.
    let third = fresh();
    assert_eq!(third.run(["run", "--rm", &format!("{name}@{digest}")]).ok().stdout, "text\n");
    let all = third.run(["pull", "-q", "-a", &name]).ok().stdout;
    assert_eq!(
        all.lines().collect::<std::collections::BTreeSet<_>>(),
        [&*format!("{name}:1"), &*format!("{name}:2")].into()
    );
    third.run(["run", "--rm", "--pull", "never", &format!("{name}:3")]).fails(125, "no image");
    third.run(["pull", &format!("{name}:3")]).fails(1, "has no such image");
}

#[test]
fn what_another_repository_has_is_taken_over() {
    if skipped(&NEEDS) {
        return;
    }
    let (dunnage, registry) = (built(), DebianRegistry::start(RegistryKind::Plain));
    let (first, second) = (format!("{}/a/app:1", registry.host()), format!("{}/b/app:1", registry.host()));
    for name in [&first, &second] {
        dunnage.run(["tag", "app", name]).ok();
    }
    dunnage.run(["push", &first]).ok();
    let ran = dunnage.run(["push", &second]).ok();
    assert_eq!(ran.stderr.matches("taken over from a/app").count(), 2, "{}", ran.stderr);
    assert_eq!(registry.digest("b/app", "1"), registry.digest("a/app", "1"));
    // The same for what was pulled: its layers are known by where they came from.
    let other = fresh();
    other.run(["pull", &first]).ok();
    let third = format!("{}/c/app:1", registry.host());
    other.run(["tag", &first, &third]).ok();
    let ran = other.run(["push", &third]).ok();
    assert_eq!(ran.stderr.matches("taken over from").count(), 2, "{}", ran.stderr);
    assert_eq!(registry.digest("c/app", "1"), registry.digest("a/app", "1"));
    // Another registry gets the same bytes, packed anew.
    let elsewhere = DebianRegistry::start(RegistryKind::Plain);
    let fourth = format!("{}/app:1", elsewhere.host());
    other.run(["tag", &first, &fourth]).ok();
    other.run(["push", &fourth]).ok();
    assert_eq!(elsewhere.digest("app", "1"), registry.digest("a/app", "1"));
}

#[test]
fn users_log_in_and_out() {
    if skipped(&NEEDS) || skipped(&[Need::Program("htpasswd")]) {
        return;
    }
    let (dunnage, registry) = (built(), DebianRegistry::start(RegistryKind::Users));
    let host = registry.host();
    let name = format!("{host}/app:1");
    dunnage.run(["tag", "app", &name]).ok();
    dunnage.run(["push", &name]).fails(1, &format!("dunnage login {host}"));
    let login = |password: &str| -> testdata::Ran {
        use std::io::Write;
        let mut command = dunnage.command(["login", "-u", "me", "--password-stdin", &host]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(password.as_bytes()).unwrap();
        child.wait_with_output().unwrap().into()
    };
    login("wrong\n").fails(1, "does not know this user with this password");
    let file = dunnage.dir("docker").join("config.json");
    assert!(!file.exists());
    let before = "{\n\t\"psFormat\": \"table {{.ID}}\",\n\t\"auths\": {}\n}";
    std::fs::write(&file, before).unwrap();
    assert_eq!(login("open sesame\n").ok().stdout, "Login Succeeded\n");
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&file).unwrap());
    assert_eq!(mode & 0o777, 0o600);
    assert!(std::fs::read_to_string(&file).unwrap().contains("\t\"psFormat\": \"table {{.ID}}\","));
    dunnage.run(["push", &name]).ok();
    // skopeo and docker read the same file.
    let json = std::fs::read_to_string(&file).unwrap();
    let other = fresh();
    let mut pull = other.command(["pull", &name]);
    assert!(pull.env("DOCKER_AUTH_CONFIG", &json).output().unwrap().status.success());
    other.run(["pull", &format!("{host}/none")]).fails(1, "wants to know who you are");
    assert_eq!(dunnage.run(["logout", &host]).ok().stdout, format!("Removing login credentials for {host}\n"));
    assert_eq!(dunnage.run(["logout", &host]).ok().stdout, format!("Not logged in to {host}\n"));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), before);
    let ran = dunnage.run(["login", "-u", "me", "-p", "open sesame", &host]).ok();
    assert!(ran.stderr.contains("--password-stdin"), "{}", ran.stderr);
    dunnage.run(["login", &host]).fails(2, "-u USER");
}

#[test]
fn a_credential_helper_keeps_the_password() {
    if skipped(&NEEDS) || skipped(&[Need::Program("htpasswd")]) {
        return;
    }
    let (dunnage, registry) = (built(), DebianRegistry::start(RegistryKind::Users));
    let host = registry.host();
    let script = "#!/bin/sh\nkept=$(dirname \"$0\")/kept\ncase $1 in\n\
        store) cat > \"$kept\";;\nget) [ -f \"$kept\" ] && cat \"$kept\" || { echo 'credentials not found in native keychain'; exit 1; };;\n\
        erase) rm -f \"$kept\";;\nesac\n";
    let path = dunnage.write("bin/docker-credential-test", script);
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    dunnage.write("docker/config.json", format!("{{\"credHelpers\": {{\"{host}\": \"test\"}}}}"));
    let with_helper = |args: &[&str]| -> testdata::Ran {
        let path = format!("{}:{}", dunnage.dir("bin").display(), std::env::var("PATH").unwrap());
        dunnage.command(args).env("PATH", path).output().unwrap().into()
    };
    let name = format!("{host}/app:1");
    dunnage.run(["tag", "app", &name]).ok();
    with_helper(&["push", &name]).fails(1, "dunnage login");
    with_helper(&["login", "-u", "me", "-p", "open sesame", &host]).ok();
    let config = std::fs::read_to_string(dunnage.dir("docker").join("config.json")).unwrap();
    assert!(!config.contains("\"auth\""), "{config}");
    with_helper(&["push", &name]).ok();
    with_helper(&["logout", &host]).ok();
    assert!(!dunnage.dir("bin").join("kept").exists());
    // A helper that is not there is named.
    dunnage.run(["push", &name]).fails(1, "docker-credential-test is not on PATH");
}

#[test]
fn tls_by_an_authority_of_its_own() {
    if skipped(&NEEDS) || skipped(&[Need::Program("openssl")]) {
        return;
    }
    let (dunnage, registry) = (built(), DebianRegistry::start(RegistryKind::Tls));
    let host = registry.host();
    let name = format!("{host}/app:1");
    dunnage.run(["tag", "app", &name]).ok();
    dunnage.run(["push", &name]).fails(3, "certificate");
    dunnage.write("config.toml", format!("[registries.\"{host}\"]\nca = \"{}\"\n", registry.authority().display()));
    dunnage.run(["push", &name]).ok();
    // As docker and podman are told of it.
    let other = fresh();
    let certs = other.dir(&format!("no-config/containers/certs.d/{host}"));
    std::fs::copy(registry.authority(), certs.join("ca.crt")).unwrap();
    other.run(["pull", &name]).ok();
    let third = fresh();
    third.write("config.toml", format!("[registries.\"{host}\"]\ninsecure = true\n"));
    third.run(["pull", &name]).ok();
    assert_eq!(third.image_id(&name), other.image_id(&name));
}

#[test]
fn skopeo_and_podman_pull_what_was_pushed_and_push_what_is_pulled() {
    if skipped(&NEEDS) || skipped(&[Need::Program("skopeo"), Need::Program("podman")]) {
        return;
    }
    let (dunnage, registry) = (built(), DebianRegistry::start(RegistryKind::Plain));
    let host = registry.host();
    let here = dunnage.dir(".");
    for kind in ["gzip", "zstd", "uncompressed"] {
        let name = format!("{host}/app:{kind}");
        dunnage.run(["tag", "app", &name]).ok();
        dunnage.run(["push", "--compression", kind, &name]).ok();
        let inspected =
            tool(Command::new("skopeo").args(["inspect", "--tls-verify=false", &format!("docker://{name}")]));
        assert!(inspected.contains(&registry.digest("app", kind)), "{inspected}");
    }
    // skopeo copies it within the registry, in docker's own format.
    tool(Command::new("skopeo").args([
        "copy",
        "-q",
        "--format",
        "v2s2",
        "--src-tls-verify=false",
        "--dest-tls-verify=false",
        &format!("docker://{host}/app:gzip"),
        &format!("docker://{host}/by-skopeo:1"),
    ]));
    let other = fresh();
    let out = other.run(["pull", &format!("{host}/by-skopeo:1")]).ok().stdout;
    assert!(out.contains(&registry.digest("by-skopeo", "1")), "{out}");
    assert_eq!(other.run(["run", "--rm", &format!("{host}/by-skopeo:1")]).ok().stdout, "text\n");
    // A store for each: of one image under two manifests podman tells one digest.
    let podman = |store: &str, args: &[&str]| {
        let mut command = Command::new("podman");
        let (root, run) = (format!("podman-{store}/root"), format!("podman-{store}/run"));
        command.args(["--root", &root, "--runroot", &run, "--storage-driver", "vfs"]);
        tool(command.args(args).current_dir(&here))
    };
    for kind in ["gzip", "zstd"] {
        let name = format!("{host}/app:{kind}");
        podman(kind, &["pull", "-q", "--tls-verify=false", &name]);
        let digest = podman(kind, &["image", "inspect", "--format", "{{.Digest}}", &name]);
        assert_eq!(digest.trim(), registry.digest("app", kind));
        let podmans = podman(kind, &["image", "inspect", "--format", "{{.Id}}", &name]);
        assert_eq!(format!("sha256:{podmans}"), dunnage.image_id("app"));
    }
    podman("gzip", &["push", "-q", "--tls-verify=false", &format!("{host}/app:gzip"), &format!("{host}/by-podman:1")]);
    other.run(["pull", &format!("{host}/by-podman:1")]).ok();
    assert_eq!(other.image_id(&format!("{host}/by-podman:1")), dunnage.image_id("app"));
}

#[test]
fn docker_pulls_what_was_pushed_and_pushes_what_is_pulled() {
    if skipped(&NEEDS) || skipped(&[Need::Program("dockerd"), Need::Program("docker"), Need::Program("containerd")]) {
        return;
    }
    let (dunnage, registry) = (built(), DebianRegistry::start(RegistryKind::Plain));
    let host = registry.host();
    let name = format!("{host}/app:1");
    dunnage.run(["tag", "app", &name]).ok();
    dunnage.run(["push", &name]).ok();
    let docker = Docker::start(&dunnage.dir("docker-daemon"));
    let out = tool(&mut docker.command(&["pull", &name]));
    assert!(out.contains(&registry.digest("app", "1")), "{out}");
    assert_eq!(tool(&mut docker.command(&["image", "inspect", "-f", "{{.Id}}", &name])), dunnage.image_id("app"));
    // Another layer of docker's own making, and back.
    let container = tool(&mut docker.command(&["create", &name, "true"]));
    dunnage.write("added", "by docker\n");
    let added = dunnage.dir(".").join("added");
    tool(&mut docker.command(&["cp", added.to_str().unwrap(), &format!("{}:/added", container.trim())]));
    let again = format!("{host}/by-docker:1");
    tool(&mut docker.command(&["commit", container.trim(), &again]));
    let out = tool(&mut docker.command(&["push", &again]));
    let other = fresh();
    let pulled = other.run(["pull", &again]).ok().stdout;
    let digest = registry.digest("by-docker", "1");
    assert!(out.contains(&digest) && pulled.contains(&digest), "{out}{pulled}");
    assert_eq!(other.run(["run", "--rm", &again, "cat", "/added", "/d/f"]).ok().stdout, "by docker\ntext\n");
    assert_eq!(other.image_id(&again), tool(&mut docker.command(&["image", "inspect", "-f", "{{.Id}}", &again])));
}
