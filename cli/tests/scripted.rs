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
    dunnage.run(["run", "-d", "--name", "gone", "--network", "none", "base", "sleep", "600"]).ok();
    dunnage.run(["rm", "-f", "gone"]).ok();
    let flags =
        ["--since", "1h", "--until", "0s", "--filter", "container=gone", "--format", "{{.Status}}{{.ID | len}}"];
    let told = dunnage.run([&["events"][..], &flags].concat()).ok().stdout;
    assert_eq!(told, "create64\nstart64\nkill64\ndie64\ndestroy64\n");
    dunnage.run(["events", "--filter", "type=image"]).fails(2, "no events of the type `image` are told");
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
    dunnage.write("context/Dockerfile", "FROM base\nRUN []\n");
    dunnage.run(["build", "context"]).fails(1, "Dockerfile:2:1").fails(1, "this RUN names no program");
    dunnage.write("context/Dockerfile", "FROM base\n");
    let pulled = dunnage.run(["build", "--pull", "context"]).fails(1, "image `base:latest` cannot be pulled");
    pulled.fails(1, "without --pull it is taken");
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
fn an_empty_filter_is_none_and_an_empty_name_is_no_container() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.run(["create", "--name", "web", "--network", "none", "base"]).ok();
    for filter in ["", "isolation=default"] {
        assert_eq!(dunnage.run(["ps", "-a", "-f", filter, "--format", "{{.Names}}"]).ok().stdout, "web\n", "{filter}");
    }
    assert_eq!(dunnage.run(["ps", "-aq", "-f", "isolation=hyperv"]).ok().stdout, "");
    assert_eq!(dunnage.run(["images", "-f", "", "--format", "{{.Repository}}"]).ok().stdout, "base\n");
    assert!(dunnage.run(["network", "ls", "-qf", ""]).ok().stdout.lines().count() > 1);
    dunnage.run(["volume", "create", "data"]).ok();
    assert_eq!(dunnage.run(["volume", "ls", "-qf", ""]).ok().stdout, "data\n");
    let told = dunnage.run(["events", "--since", "1h", "--until", "0s", "-f", "", "--format", "{{.Status}}"]).ok();
    assert_eq!(told.stdout, "create\n");
    dunnage.run(["ps", "-f", "=web"]).fails(2, "KEY=VALUE");
    for flags in [&["rm", ""][..], &["rm", "-f", ""]] {
        dunnage.run(flags).fails(1, "container");
    }
    assert_eq!(dunnage.run(["rm", "-f", "nowhere", "web"]).ok().stdout, "nowhere\nweb\n");
}

#[test]
fn sizes_are_those_of_files_that_were_written() {
    let Some(dunnage) = dunnage() else { return };
    let plain = Dunnage::with_base(env!("CARGO_BIN_EXE_dunnage"), &[]).unwrap();
    for (dunnage, driver) in [(&dunnage, None), (&plain, Some("copy"))] {
        let run = |name: &str, script: &str| {
            let flags = driver.map_or(vec![], |driver| vec!["--storage-driver", driver]);
            let args = ["--network", "none", "--name", name, "base", "sh", "-c", script];
            dunnage.run([&["run"][..], &flags, &args].concat()).ok();
        };
        dunnage.run(["create", "--name", "fresh", "--network", "none", "base"]).ok();
        run("idle", "true");
        run("wrote", "mkdir /d; printf 12345 > /d/a; ln /d/a /d/b; printf 123 > /c");
        let size = |name: &str| {
            let shown = dunnage.run(["ps", "-as", "-f", &format!("name={name}"), "--format", "{{.Size}}"]).ok().stdout;
            shown.split_once(" (virtual ").unwrap().0.to_owned()
        };
        assert_eq!([size("fresh"), size("idle"), size("wrote")], ["0B", "0B", "8B"], "{driver:?}");
        assert_eq!(dunnage.run(["inspect", "-sf", "{{.SizeRw}}", "wrote"]).ok().stdout, "8\n");
    }
}

#[test]
fn inspect_tells_who_listens_and_where_a_container_is() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.run(["create", "-i", "--name", "made", "--network", "none", "base"]).ok();
    let command = ["base", "sh", "-c", "echo here > /file; sleep 600"];
    dunnage.run([&["run", "-di", "--name", "web", "--network", "none"][..], &command].concat()).ok();
    let shown = |template: &str, name: &str| dunnage.run(["inspect", "-f", template, name]).ok().stdout;
    let streams = "{{.Config.AttachStdin}} {{.Config.AttachStdout}} {{.Config.AttachStderr}}";
    assert_eq!(shown(streams, "made"), "true true true\n");
    assert_eq!(shown(streams, "web"), "false false false\n");
    let pid = shown("{{.State.Pid}}", "web");
    assert_eq!(shown("{{.NetworkSettings.SandboxKey}}", "web"), format!("/proc/{}/ns/net\n", pid.trim()));
    assert_eq!(shown("{{.NetworkSettings.SandboxKey}}", "made"), "\n");
    assert_eq!(shown("{{.GraphDriver.Name}}", "web"), shown("{{.Driver}}", "web"));
    assert_eq!(shown("{{.GraphDriver.Data.MergedDir}}", "web"), format!("/proc/{}/root\n", pid.trim()));
    let upper = shown("{{.GraphDriver.Data.UpperDir}}", "web");
    if shown("{{.Driver}}", "web").starts_with("overlay") {
        let file = std::path::Path::new(upper.trim()).join("file");
        testdata::until("it wrote", || std::fs::read_to_string(&file).is_ok_and(|text| text == "here\n"));
    }
    dunnage.run(["rm", "-f", "web"]).ok();
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
fn the_network_of_the_machine_has_its_names() {
    let Some(dunnage) = dunnage() else { return };
    let flags = ["run", "--rm", "--network", "host", "--add-host", "far:192.0.2.7", "base"];
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    assert_eq!(dunnage.run([&flags[..], &["hostname"]].concat()).ok().stdout, name);
    let hosts = dunnage.run([&flags[..], &["cat", "/etc/hosts"]].concat()).ok().stdout;
    let own = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
    assert!(hosts.starts_with(&own) && hosts.contains("192.0.2.7\tfar"), "{hosts}");
    // A name that is asked for is the container's own.
    let named = ["run", "--rm", "--network", "host", "-h", "mine", "base", "hostname"];
    assert_eq!(dunnage.run(named).ok().stdout, "mine\n");
}

#[test]
fn a_file_of_an_id_that_is_there_makes_no_container() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.write("there", "");
    for words in [&["run", "-d"][..], &["run", "--rm"], &["create"]] {
        let ran = dunnage.run([words, &["--cidfile", "there", "--network", "none", "base", "true"]].concat());
        ran.fails(125, "--cidfile there: the file exists");
        assert_eq!(dunnage.run(["ps", "-aq"]).ok().stdout, "", "{words:?}");
    }
    // And no container leaves no file.
    let name = ["--name", "web", "--network", "none"];
    dunnage.run([&["create", "--cidfile", "id"][..], &name, &["base", "true"]].concat()).ok();
    dunnage.run([&["create", "--cidfile", "other"][..], &name, &["base", "true"]].concat()).fails(125, "in use");
    assert!(!dunnage.dir("").join("other").exists());
    let id = std::fs::read_to_string(dunnage.dir("").join("id")).unwrap();
    assert_eq!(dunnage.run(["ps", "-aq", "--no-trunc"]).ok().stdout.trim(), id);
}

#[test]
fn an_arg_above_the_first_from_is_explained() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.write("context/Dockerfile", "ARG TAG=1\nFROM base\nENV A=$TAG\n");
    let told = dunnage.run(["check", "context"]).ok();
    let told = told.stdout + &told.stderr;
    assert!(told.contains("write `ARG TAG` in this stage") && !told.contains("did you mean $TAG"), "{told}");
}
