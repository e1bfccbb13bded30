//! What hands and scripts are used to from docker: words behind the image, truth values of flags, filters, templates.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::process::Stdio;

use testdata::{BASE, Dunnage, until};

fn dunnage() -> Option<Dunnage> {
    Dunnage::with_base(env!("CARGO_BIN_EXE_dunnage"), &BASE)
}

#[track_caller]
fn out(dunnage: &Dunnage, words: &[&str]) -> String {
    dunnage.run(words).ok().stdout
}

#[test]
fn what_stands_behind_the_image_is_the_containers() {
    let Some(dunnage) = dunnage() else { return };
    let run = ["run", "--rm=true", "-i=false", "--network", "none", "--hostname", "my_host", "--entrypoint"];
    for words in [&["--help"][..], &["--version"], &["-c", "x"], &["--rm", "--name", "x"], &["--", "y"]] {
        let line = [&run[..], &["echo", "base"], words].concat();
        assert_eq!(out(&dunnage, &line), format!("{}\n", words.join(" ")));
    }
    assert_eq!(out(&dunnage, &[&run[..], &["hostname", "base"]].concat()), "my_host\n");
    let line = ["run", "--rm", "--hostname", "my.own.host", "base", "grep", "my", "/etc/hosts"];
    assert!(out(&dunnage, &line).contains("\tmy.own.host my\n"));
    dunnage.run(["run", "-d", "--name", "box", "--network", "none", "base", "sleep", "600"]).ok();
    assert_eq!(out(&dunnage, &["exec", "box", "echo", "--help", "-x"]), "--help -x\n");
    assert_eq!(out(&dunnage, &["exec", "box", "--", "echo", "a"]), "a\n");
    assert!(out(&dunnage, &["top", "box", "-o", "pid,args"]).contains("sleep 600"));
    dunnage.run(["top", "box", "-o", "args"]).fails(2, "PID");
    dunnage.run(["rm", "-f", "box"]).ok();
}

#[test]
fn lists_are_filtered_and_shown_as_scripts_have_it() {
    let Some(dunnage) = dunnage() else { return };
    for name in ["web", "web2"] {
        dunnage.run(["create", "--name", name, "-l", "who=me", "--expose", "81", "base", "sh", "-c", "exit 3"]).ok();
    }
    let ps = |filter: &str| out(&dunnage, &["ps", "-a", "--format", "{{.Names}}", "-f", filter]);
    assert_eq!(ps("name=web"), "web2\nweb\n", "the newest is first");
    assert_eq!(ps("name=^web$"), "web\n");
    assert_eq!(ps("name=^/web$"), "web\n");
    assert_eq!(ps("name=w.b2"), "web2\n");
    assert_eq!(ps("expose=81"), "web2\nweb\n");
    assert_eq!(ps("expose=80-82/udp"), "");
    dunnage.run(["ps", "-f", "publish=x"]).fails(2, "no port");
    let shown = out(&dunnage, &["ps", "-a", "--format", "{{.Label \"who\"}} {{.Command}}", "-f", "name=^web$"]);
    assert_eq!(shown, "me \"sh -c 'exit 3'\"\n");
    assert!(!out(&dunnage, &["ps", "-a", "--format", "json"]).contains(".Label"));
    dunnage.build("FROM base\nLABEL kind=test\n");
    dunnage.run(["tag", "base", "other:1"]).ok();
    let images = |words: &[&str]| out(&dunnage, &[&["images", "--format", "{{.Repository}}:{{.Tag}}"], words].concat());
    assert_eq!(images(&["oth*"]), "other:1\n");
    assert_eq!(images(&["-f", "reference=*:1"]), "other:1\n");
    assert_eq!(images(&["-f", "label=kind=none"]), "");
    assert_eq!(images(&["-f", "dangling=true", "other"]), "");
    dunnage.run(["images", "-f", "size=1"]).fails(2, "filters are");
}

#[test]
fn everything_with_a_name_can_be_inspected() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.run(["create", "--name", "web", "-p", "127.0.0.1:0:80", "-v", "data:/d", "base", "true"]).ok();
    let inspect = |format: &str, words: &[&str]| out(&dunnage, &[&["inspect", "-f", format], words].concat());
    assert_eq!(inspect("{{.Name}} {{.Driver}}", &["data"]), "data local\n");
    assert_eq!(inspect("{{.Name}}", &["bridge", "web"]), "bridge\n/web\n");
    assert_eq!(inspect("{{range $p, $b := .Config.ExposedPorts}}{{$p}}{{end}}", &["web"]), "80/tcp\n");
    assert_eq!(inspect("{{with .State}}{{.Status}}{{end}} {{.Config.Entrypoint}}", &["web"]), "created []\n");
    assert_eq!(inspect("{{if .State.Health}}x{{else}}none{{end}}", &["web"]), "none\n");
    assert_eq!(inspect("json", &["web"]).lines().count(), 1);
    assert_eq!(out(&dunnage, &["volume", "create", "--name", "kept"]), "kept\n");
    assert_eq!(
        out(&dunnage, &["network", "ls", "-f", "scope=local", "-f", "name=host", "--format", "{{.Name}}"]),
        "host\n"
    );
    let hosts = dunnage.run(["run", "--rm", "--network", "host", "-p", "80:80", "base", "echo", "ran"]).ok();
    assert!(hosts.stdout == "ran\n" && hosts.stderr.contains("no port is published"), "{hosts:?}");
    dunnage.run(["run", "--rm", "-v", ":/x", "base", "true"]).fails(125, "missing before the colon");
    dunnage.run(["inspect", "-f", "{{.State.Health.Status}}", "web"]).fails(2, "not there");
    dunnage.run(["inspect", "-s", "-f", "{{.SizeRw}} {{.SizeRootFs}}", "web"]).ok();
    dunnage.run(["inspect", "--type", "image", "web"]).fails(1, "no image");
    dunnage.run(["inspect", "nothing-here"]).fails(1, "no container, image, network or volume `nothing-here`");
    assert!(!out(&dunnage, &["version", "-f", "{{.Server.Version}}"]).trim().is_empty());
    let info = out(&dunnage, &["system", "info", "-f", "{{.OSType}} {{.ContainersRunning}} {{.NCPU}}"]);
    assert!(info.starts_with("linux 0 "), "{info}");
    dunnage.run(["compose", "up"]).fails(2, "docker's `compose` is not supported");
    assert_eq!(out(&dunnage, &["-v"]), out(&dunnage, &["--version"]));
}

#[test]
fn an_image_that_a_container_stands_on_is_not_removed_unasked() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.run(["create", "--name", "one", "--network", "none", "base", "sleep", "600"]).ok();
    let answer = dunnage.run(["rmi", "base"]).fails(1, "is used by container");
    assert!(answer.stdout.is_empty(), "{answer:?}");
    dunnage.run(["tag", "base", "second"]).ok();
    assert_eq!(out(&dunnage, &["rmi", "second"]), "Untagged: second:latest\n");
    // Its name can be taken; the container keeps what it needs.
    assert_eq!(out(&dunnage, &["rmi", "-f", "base"]), "Untagged: base:latest\n");
    dunnage.run(["start", "one"]).ok();
    assert_eq!(out(&dunnage, &["exec", "one", "echo", "lives"]), "lives\n");
    dunnage.run(["rm", "-f", "one"]).ok();
    // An answer may be piped in; nobody is asked twice.
    let mut asked = dunnage.command(["image", "prune"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut asked.stdin.take().unwrap(), b"y\n").unwrap();
    assert!(asked.wait().unwrap().success());
    assert!(out(&dunnage, &["images", "-aq"]).is_empty());
    dunnage.run(["image", "prune"]).fails(2, "add --force");
}

#[test]
fn input_that_ends_ends_and_input_that_is_not_wanted_disturbs_nobody() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.run(["create", "-i", "--name", "reader", "--network", "none", "base", "cat"]).ok();
    let mut start = dunnage.command(["start", "-ai", "reader"]);
    let mut start = start.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut start.stdin.take().unwrap(), b"typed\n").unwrap();
    let output = start.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "typed\n");
    // The same with a terminal, whose input is a pipe.
    for words in [&["run", "--rm", "-it", "--network", "none", "base", "cat"][..], &["exec", "-it", "talker0", "cat"]] {
        dunnage.run(["rm", "-f", "talker0"]).ok();
        dunnage.run(["run", "-d", "--name", "talker0", "--network", "none", "base", "sleep", "600"]).ok();
        let mut child = dunnage.command(words).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"typed\n").unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(String::from_utf8_lossy(&output.stdout).contains("typed"), "{words:?}");
        assert_eq!(output.status.code(), Some(0), "{words:?}");
    }
    dunnage.run(["rm", "-f", "talker0"]).ok();
    // A container that takes no input, joined by who has some, or none at all.
    let script = "while [ ! -f /go ]; do sleep 0.1; done; echo said; exit 4";
    dunnage.run(["run", "-d", "--name", "talker", "--network", "none", "base", "sh", "-c", script]).ok();
    let mut attach = dunnage.command(["attach", "talker"]);
    let mut attach = attach.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let _ = std::io::Write::write_all(&mut attach.stdin.take().unwrap(), b"nobody reads this\n");
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert!(attach.try_wait().unwrap().is_none(), "it left");
    dunnage.run(["exec", "talker", "touch", "/go"]).ok();
    let output = attach.wait_with_output().unwrap();
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stdout).as_ref()), (Some(4), "said\n"));
    until("it has ended", || out(&dunnage, &["ps", "-q"]).is_empty());
}

#[test]
fn import_takes_changes_and_history_exact_sizes() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.run(["create", "--name", "one", "base", "true"]).ok();
    dunnage.run(["export", "-o", "root.tar", "one"]).ok();
    dunnage.run(["import", "-c", "CMD [\"echo\", \"imported\"]", "-c", "ENV A=1", "root.tar", "imported"]).ok();
    assert_eq!(out(&dunnage, &["run", "--rm", "--network", "none", "imported"]), "imported\n");
    assert!(out(&dunnage, &["inspect", "-f", "{{.Config.Env}}", "imported"]).contains("A=1]"));
    dunnage.run(["import", "-c", "BOGUS x", "root.tar"]).fails(2, "unknown instruction");
    let sizes = out(&dunnage, &["history", "-H=false", "--format", "{{.Size}}", "imported"]);
    assert!(sizes.trim().parse::<u64>().unwrap() > 100_000, "{sizes}");
}
