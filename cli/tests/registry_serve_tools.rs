//! `dunnage registry serve` and the field's tools: images of the store are pulled from it, what is pushed to it can be run.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use std::process::Command;

use testdata::{BASE, Docker, Dunnage, Granted, Need, Served, User, certificates, skipped, tool};

/// A store with an image of two layers, `app`.
fn built() -> Dunnage {
    let dunnage = Dunnage::new(env!("CARGO_BIN_EXE_dunnage"));
    dunnage.busybox();
    dunnage.build("FROM base\nENV A=1\nRUN mkdir /d && echo text > /d/f\nCMD [\"cat\", \"/d/f\"]\n");
    dunnage
}

fn fresh() -> Dunnage {
    Dunnage::new(env!("CARGO_BIN_EXE_dunnage"))
}

fn digest(served: &Served, path: &str) -> String {
    served.get(&format!("/v2/{path}")).is(200).header("docker-content-digest").to_owned()
}

#[test]
fn images_of_the_store_are_pulled_and_pushed_images_run() {
    if skipped(&BASE) {
        return;
    }
    let dunnage = built();
    let served = Served::start(&dunnage, &[]);
    let host = served.host();
    assert_eq!(served.get("/v2/_catalog").is(200).json()["repositories"], serde_json::json!(["app", "base"]));
    let other = fresh();
    let pulled = other.run(["pull", &format!("{host}/app")]).ok().stdout;
    let of_app = digest(&served, "app/manifests/latest");
    assert!(pulled.contains(&of_app), "{pulled}");
    assert_eq!(other.image_id(&format!("{host}/app")), dunnage.image_id("app"));
    assert_eq!(other.run(["run", "--rm", &format!("{host}/app")]).ok().stdout, "text\n");
    // Back under another name: not a byte is sent, the digest is the same, and it runs by that name here.
    let name = format!("{host}/team/again:1");
    other.run(["tag", &format!("{host}/app"), &name]).ok();
    let pushed = other.run(["push", &name]).ok();
    assert!(pushed.stdout.contains(&of_app) && pushed.stderr.contains("taken over from app"), "{pushed:?}");
    assert_eq!(dunnage.run(["run", "--rm", "team/again:1"]).ok().stdout, "text\n");
    assert!(served.log().contains(&format!("pushed team/again:1 {of_app}")), "{}", served.log());
    // Another image of the same name, built here, is what is pulled then; the old one is there by its digest.
    dunnage.write("context/Dockerfile", "FROM app\nRUN echo more > /d/f\n");
    dunnage.run(["build", "-q", "-t", "team/again:1", "context"]).ok();
    let newer = digest(&served, "team/again/manifests/1");
    assert_ne!(newer, of_app);
    other.run(["pull", &name]).ok();
    assert_eq!(other.run(["run", "--rm", &name]).ok().stdout, "more\n");
    served.get(&format!("/v2/team/again/manifests/{of_app}")).is(200);
    // A new image, pushed under a name that is here.
    other.write("context/Dockerfile", format!("FROM {name}\nRUN echo most > /d/f\n"));
    other.run(["build", "-q", "-t", &name, "context"]).ok();
    other.run(["push", &name]).ok();
    assert_eq!(dunnage.run(["run", "--rm", "team/again:1"]).ok().stdout, "most\n");
    // What goes here is gone there, and the other way round.
    dunnage.run(["rmi", "app"]).ok();
    served.get("/v2/app/manifests/latest").is(404);
    served.ask("DELETE", "/v2/team/again/manifests/1", &[], b"").is(202);
    dunnage.run(["run", "--rm", "--pull", "never", "team/again:1"]).fails(125, "no image");
}

#[test]
fn what_is_packed_for_clients_can_go_and_comes_again() {
    if skipped(&BASE) {
        return;
    }
    let dunnage = built();
    let served = Served::start(&dunnage, &[]);
    let of_app = digest(&served, "app/manifests/latest");
    let list = |dunnage: &Dunnage| dunnage.run(["system", "df"]).ok().stdout;
    assert!(list(&dunnage).lines().any(|line| line.starts_with("Registry   ")), "{}", list(&dunnage));
    dunnage.run(["tag", "app", "kept"]).ok();
    // A stopped container keeps the image, and the build cache with what can be packed again goes.
    dunnage.run(["create", "kept"]).ok();
    dunnage.run(["builder", "prune", "-a", "-f"]).ok();
    assert!(!list(&dunnage).contains("Registry"), "{}", list(&dunnage));
    served.get(&format!("/v2/app/manifests/{of_app}")).is(200);
    assert_eq!(digest(&served, "app/manifests/latest"), of_app);
    assert!(dunnage.run(["system", "check"]).ok().stdout.contains("all is well"));
    // A flipped byte is found, and an image that is pulled from here never has it.
    let blobs = testdata::files(&dunnage.root().join("registry/blobs"), "");
    let largest = blobs.iter().max_by_key(|path| std::fs::metadata(path).unwrap().len()).unwrap();
    let mut bytes = std::fs::read(largest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(largest, bytes).unwrap();
    fresh().run(["pull", &format!("{}/app", served.host())]).fails(1, "");
    dunnage.run(["system", "check"]).fails(1, "");
    let repaired = dunnage.run(["system", "check", "--repair"]).ok().stdout;
    assert!(repaired.contains("of the registry is damaged"), "{repaired}");
    fresh().run(["pull", &format!("{}/app", served.host())]).ok();
}

#[test]
fn skopeo_and_podman_pull_and_push() {
    if skipped(&BASE) || skipped(&[Need::Program("skopeo"), Need::Program("podman")]) {
        return;
    }
    let dunnage = built();
    let served = Served::start(&dunnage, &[]);
    let (host, here) = (served.host(), dunnage.dir("."));
    let skopeo = |args: &[&str]| tool(Command::new("skopeo").args(args).current_dir(&here));
    skopeo(&["copy", "-q", "--src-tls-verify=false", &format!("docker://{host}/app"), "oci:layout:app"]);
    skopeo(&["copy", "-q", "--dest-tls-verify=false", "oci:layout:app", &format!("docker://{host}/by-skopeo:oci")]);
    assert_eq!(digest(&served, "by-skopeo/manifests/oci"), digest(&served, "app/manifests/latest"));
    assert_eq!(dunnage.run(["run", "--rm", "by-skopeo:oci"]).ok().stdout, "text\n");
    // In docker's own format, with bytes of skopeo's packing: they are kept as they came.
    let to = format!("docker://{host}/by-skopeo:docker");
    skopeo(&["copy", "-q", "--format", "v2s2", "--dest-tls-verify=false", "oci:layout:app", &to]);
    let there = skopeo(&["inspect", "--tls-verify=false", "--format", "{{.Digest}}", &to]);
    assert_eq!(there.trim(), digest(&served, "by-skopeo/manifests/docker"));
    let kind = served.get("/v2/by-skopeo/manifests/docker").is(200).header("content-type").to_owned();
    assert_eq!(kind, "application/vnd.docker.distribution.manifest.v2+json");
    assert_eq!(dunnage.run(["run", "--rm", "by-skopeo:docker"]).ok().stdout, "text\n");
    skopeo(&["delete", "--tls-verify=false", &to]);
    served.get("/v2/by-skopeo/manifests/docker").is(404);
    // An index: skopeo sends its manifests by digest, and the tag stands for it.
    skopeo(&["copy", "-q", "--all", "--dest-tls-verify=false", "oci:layout:app", &format!("docker://{host}/all:1")]);
    assert_eq!(dunnage.run(["run", "--rm", "all:1"]).ok().stdout, "text\n");
    let podman = |args: &[&str]| {
        let mut command = Command::new("podman");
        command.args(["--root", "podman/root", "--runroot", "podman/run", "--storage-driver", "vfs"]);
        tool(command.args(args).current_dir(&here))
    };
    podman(&["pull", "-q", "--tls-verify=false", &format!("{host}/app")]);
    let found = podman(&["image", "inspect", "--format", "{{.Digest}}", &format!("{host}/app")]);
    assert_eq!(found.trim(), digest(&served, "app/manifests/latest"));
    podman(&["push", "-q", "--tls-verify=false", &format!("{host}/app"), &format!("{host}/by-podman:1")]);
    assert_eq!(dunnage.image_id("by-podman:1"), dunnage.image_id("app"));
    assert_eq!(dunnage.run(["run", "--rm", "by-podman:1"]).ok().stdout, "text\n");
}

#[test]
fn docker_pulls_and_pushes() {
    if skipped(&BASE) || skipped(&[Need::Program("dockerd"), Need::Program("docker"), Need::Program("containerd")]) {
        return;
    }
    let dunnage = built();
    let served = Served::start(&dunnage, &[]);
    let host = served.host();
    let docker = Docker::start(&dunnage.dir("docker-daemon"));
    let out = tool(&mut docker.command(&["pull", &format!("{host}/app")]));
    assert!(out.contains(&digest(&served, "app/manifests/latest")), "{out}");
    // Another layer of docker's own making.
    let container = tool(&mut docker.command(&["create", &format!("{host}/app"), "true"]));
    let added = dunnage.write("added", "by docker\n");
    tool(&mut docker.command(&["cp", added.to_str().unwrap(), &format!("{}:/added", container.trim())]));
    let name = format!("{host}/by-docker:1");
    tool(&mut docker.command(&["commit", container.trim(), &name]));
    let out = tool(&mut docker.command(&["push", &name]));
    assert!(out.contains(&digest(&served, "by-docker/manifests/1")), "{out}");
    assert_eq!(dunnage.run(["run", "--rm", "by-docker:1", "cat", "/added", "/d/f"]).ok().stdout, "by docker\ntext\n");
    assert_eq!(
        tool(&mut docker.command(&["image", "inspect", "-f", "{{.Id}}", &name])),
        dunnage.image_id("by-docker:1")
    );
    // And docker's bytes go on to others as they came.
    let other = fresh();
    other.run(["pull", &name]).ok();
    assert_eq!(other.image_id(&name), dunnage.image_id("by-docker:1"));
}

#[test]
fn tls_and_users() {
    if skipped(&BASE) || skipped(&[Need::Program("openssl"), Need::Program("htpasswd"), Need::Program("skopeo")]) {
        return;
    }
    let dunnage = built();
    let directory = dunnage.dir("certificates");
    certificates(&directory);
    let path = |name: &str| directory.join(name).display().to_string();
    let users = Command::new("htpasswd").args(["-Bbn", "me", "open sesame"]).output().unwrap().stdout;
    std::fs::write(directory.join("users"), &users).unwrap();
    let (cert, key, file) = (path("server.crt"), path("server.key"), path("users"));
    let served = Served::start(&dunnage, &["--tls-cert", &cert, "--tls-key", &key, "--htpasswd", &file]);
    let host = served.host();
    let name = format!("{host}/app");
    let other = fresh();
    other.run(["pull", &name]).fails(3, "certificate");
    other.write("config.toml", format!("[registries.\"{host}\"]\nca = \"{}\"\n", path("ca.crt")));
    other.run(["pull", &name]).fails(1, &format!("dunnage login {host}"));
    other.run(["login", "-u", "me", "-p", "wrong", &host]).fails(1, "does not know this user with this password");
    other.run(["login", "-u", "you", "-p", "open sesame", &host]).fails(1, "does not know this user");
    other.run(["login", "-u", "me", "-p", "open sesame", &host]).ok();
    other.run(["pull", &name]).ok();
    assert_eq!(other.run(["run", "--rm", &name]).ok().stdout, "text\n");
    other.run(["tag", &name, &format!("{name}:2")]).ok();
    other.run(["push", &format!("{name}:2")]).ok();
    assert_eq!(dunnage.run(["run", "--rm", "app:2"]).ok().stdout, "text\n");
    let trusted = dunnage.dir("trusted");
    std::fs::copy(directory.join("ca.crt"), trusted.join("ca.crt")).unwrap();
    let certs = ["inspect", "--cert-dir", trusted.to_str().unwrap(), "--creds", "me:open sesame"];
    tool(Command::new("skopeo").args(certs).arg(format!("docker://{name}")));
    // The file is read again when it changes; one that is broken meanwhile changes nothing.
    std::fs::write(directory.join("users"), "not a line\n").unwrap();
    other.run(["pull", &name]).ok();
    assert!(served.log().contains("users:1: a line has to be USER:HASH"), "{}", served.log());
    let users = Command::new("htpasswd").args(["-Bbn", "me", "another"]).output().unwrap().stdout;
    std::fs::write(directory.join("users"), &users).unwrap();
    other.run(["pull", &format!("{name}:2")]).fails(1, "does not know this user with this password");
}

#[test]
fn users_without_rights_serve_their_own_store() {
    if skipped(&BASE) || skipped(&[Need::Program("useradd"), Need::Program("newuidmap")]) {
        return;
    }
    let dunnage = built();
    let user = User::new(env!("CARGO_BIN_EXE_dunnage"), Granted::Ranges);
    let served = Served::of(user.command(user.home().join("dunnage"), Served::ARGS), dunnage.dir(".").join("user.log"));
    let name = format!("{}/app:1", served.host());
    dunnage.run(["tag", "app", &name]).ok();
    dunnage.run(["push", &name]).ok();
    assert_eq!(user.run(["run", "--rm", "app:1"]).ok().stdout, "text\n");
    assert_eq!(user.run(["images", "-q", "--no-trunc", "app:1"]).ok().stdout, dunnage.image_id("app"));
    served.signal("TERM");
    assert_eq!(served.wait(), Some(0));
}

#[test]
fn what_cannot_be_served_is_told_in_a_sentence() {
    let dunnage = fresh();
    let users = dunnage.write("users", "me:$apr1$x$y\n");
    let serve = |args: &[&str]| dunnage.run(["registry", "serve"].into_iter().chain(args.iter().copied()));
    serve(&["--htpasswd", users.to_str().unwrap()]).fails(1, "users:1: the password of me is not hashed by bcrypt");
    serve(&["--htpasswd", "nowhere"]).fails(1, "cannot read nowhere");
    serve(&["--tls-cert", "a.crt"]).fails(2, "--tls-key");
    serve(&["--tls-cert", "a.crt", "--tls-key", "a.key"]).fails(1, "cannot read a.crt");
    serve(&["--addr", "5000"]).fails(2, "is no address");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    serve(&["--addr", &address]).fails(3, &format!("cannot listen on {address}"));
}
