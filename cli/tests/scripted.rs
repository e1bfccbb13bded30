//! What scripts written for docker rely on: what it was held against a daemon of docker 20.10 and the client 28 for.
#![allow(clippy::unwrap_used, missing_docs)]

use testdata::{BASE, Dunnage};

fn dunnage() -> Option<Dunnage> {
    Dunnage::with_base(env!("CARGO_BIN_EXE_dunnage"), &BASE)
}

#[test]
fn inspect_answers_in_dockers_words() {
    let Some(dunnage) = dunnage() else { return };
    let flags = ["--name", "web", "--network", "none", "-l", "a=b", "-m", "64m", "--cap-add", "NET_ADMIN"];
    let health = ["--cap-drop", "CAP_MKNOD", "--health-cmd", "test -e /ok", "base"];
    dunnage.run([&["create"][..], &flags, &health].concat()).ok();
    for (template, expected) in [
        // A label that is not there is empty: scripts ask `[ -z "$(…)" ]`.
        ("{{index .Config.Labels \"none\"}}", ""),
        ("{{index .Config.Labels \"a\"}}", "b"),
        // The names of docker's types and those of its JSON.
        ("{{eq .ID .Id}} {{.NAME}}", "true /web"),
        ("{{.Config.Healthcheck.Test}}", "[CMD-SHELL test -e /ok]"),
        ("{{.HostConfig.CapAdd}} {{.HostConfig.CapDrop}}", "[CAP_NET_ADMIN] [CAP_MKNOD]"),
        ("{{.HostConfig.Memory}} {{.HostConfig.MemorySwap}}", "67108864 134217728"),
        // What is not set has docker's word for that.
        (
            "{{.HostConfig.VolumesFrom}} {{.HostConfig.OomKillDisable}} {{.HostConfig.MemorySwappiness}}",
            "[] false <nil>",
        ),
        ("{{.HostConfig.Isolation}}{{.HostConfig.ContainerIDFile}}{{.ExecIDs}}", "[]"),
        ("{{range .NetworkSettings.Networks}}{{.IPPrefixLen}}{{.NetworkID}}{{end}}", "0"),
        ("{{index .HostConfig.MaskedPaths 0}}", "/proc/acpi"),
    ] {
        assert_eq!(dunnage.run(["inspect", "-f", template, "web"]).ok().stdout, format!("{expected}\n"), "{template}");
    }
    // An empty format, as of a variable that is not set, is none.
    assert!(dunnage.run(["inspect", "-f", "", "web"]).ok().stdout.starts_with('['));
    assert!(dunnage.run(["ps", "-a", "--format", ""]).ok().stdout.starts_with("CONTAINER ID"));
    dunnage.run(["events", "--since", "1h", "--until", "0s", "--format", "{{.Status}} {{.ID}}"]).ok();
}

#[test]
fn lists_have_dockers_widths_and_times() {
    let Some(dunnage) = dunnage() else { return };
    let command = ["base", "sh", "-c", "echo out; echo err >&2"];
    dunnage.run([&["create", "--name", "web", "--network", "none"][..], &command].concat()).ok();
    let list = dunnage.run(["ps", "-a"]).ok().stdout;
    assert!(list.starts_with("CONTAINER ID   IMAGE     COMMAND                  CREATED"), "{list}");
    assert!(list.contains("\"sh -c 'echo out; ec…\""), "{list}");
    let made = dunnage.run(["ps", "-a", "--format", "{{.CreatedAt}}"]).ok().stdout;
    assert!(made.trim_end().strip_suffix(" +0000 UTC").is_some_and(|time| !time.contains('T')), "{made}");
    let made = dunnage.run(["images", "--format", "{{.CreatedAt}}"]).ok().stdout;
    assert_eq!(made, "1970-01-01 00:00:00 +0000 UTC\n");
}

#[test]
fn a_name_is_never_missing() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.write("context/Dockerfile", "FROM base\n");
    for flag in [["-e", ""], ["-e", "=x"], ["-l", ""], ["-l", "=x"]] {
        dunnage.run([&["run", "--rm"][..], &flag, &["base", "true"]].concat()).fails(125, "a name is missing");
    }
    for flag in [["--build-arg", "=x"], ["--label", ""]] {
        dunnage.run([&["build"][..], &flag, &["context"]].concat()).fails(2, "a name is missing");
    }
    dunnage.run(["volume", "create", "--label", "=b"]).fails(2, "a name is missing");
    dunnage.run(["build", "--platform", "bogus", "context"]).fails(2, "bogus");
    dunnage.run(["run", "--platform", "bogus", "base", "true"]).fails(125, "bogus");
    dunnage.run(["build", "-o", "", "context"]).fails(2, "is a variable not set?");
    dunnage.run(["builds", "ls", "--filter", "status=bogus"]).fails(2, "`bogus` is no status of a build");
    dunnage.run(["ps", "--filter", "health=bogus"]).fails(2, "`bogus` is no state of health");
}

#[test]
fn what_docker_takes_is_taken() {
    let Some(dunnage) = dunnage() else { return };
    let here = dunnage.dir("here");
    let bind = format!("{}:/x", here.display());
    // An empty name is none, and the same mount twice is one.
    let flags = ["run", "--rm", "--network", "none", "-h", "", "-v", &bind, "-v", &bind, "base", "true"];
    dunnage.run(flags).ok();
    let mount = format!("type=bind,src={},dst=/x,bind-nonrecursive", here.display());
    dunnage.run(["run", "--rm", "--network", "none", "--mount", &mount, "base", "true"]).ok();
    dunnage.run(["create", "--name", "web", "--network", "none", "base"]).ok();
    dunnage.run(["logs", "--since", "", "--until", "", "web"]).ok();
    dunnage.run(["update", "web"]).fails(2, "there is nothing to change");
    assert_eq!(dunnage.run(["volume", "rm", "-f", "nowhere"]).ok().stdout, "nowhere\n");
    dunnage.run(["cp", "nowhere", "web:/"]).fails(1, "No such file or directory");
    dunnage.run(["cp", "web:/nowhere", "."]).fails(1, "No such file or directory");
    dunnage.write("context/Dockerfile", "FROM base\n");
    let image = "type=oci,dest=image.tar,oci-mediatypes=true,compression=zstd";
    dunnage.run(["build", "-o", image, "-o", "type=image,unpack=true,name=other", "context"]).ok();
    dunnage
        .run(["build", "-o", "type=oci,dest=x.tar,oci-mediatypes=false", "context"])
        .fails(2, "oci-mediatypes=false");
}

#[test]
fn exec_has_the_host_name_and_force_asks_for_nothing() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.run(["run", "-d", "--name", "web", "--network", "none", "base", "sleep", "600"]).ok();
    let name = dunnage.run(["exec", "web", "sh", "-c", "echo $HOSTNAME; hostname"]).ok().stdout;
    let id = dunnage.run(["ps", "-q"]).ok().stdout;
    assert_eq!(name, format!("{id}{id}"));
    dunnage.run(["rm", "-f", "web"]).ok();
    // An image that is not there is gone already.
    dunnage.run(["rmi", "nowhere"]).fails(1, "nowhere");
    dunnage.run(["rmi", "-f", "nowhere"]).fails(0, "nowhere");
    // What scripts cut the name out of.
    dunnage.run(["save", "-o", "base.tar", "base"]).ok();
    assert_eq!(dunnage.run(["load", "-q", "-i", "base.tar"]).ok().stdout, "Loaded image: base:latest\n");
}

#[test]
fn an_arg_above_the_first_from_is_explained() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.write("context/Dockerfile", "ARG TAG=1\nFROM base\nENV A=$TAG\n");
    let told = dunnage.run(["check", "context"]).ok();
    let told = told.stdout + &told.stderr;
    assert!(told.contains("write `ARG TAG` in this stage") && !told.contains("did you mean $TAG"), "{told}");
}
