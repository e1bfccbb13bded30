//! What a container is joined to from its first moment: streams of the caller (`--attach`), containers that it finds by names
//! of its own (`--link`).
#![allow(clippy::unwrap_used, missing_docs)]

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use testdata::{BASE, Dunnage, Machine, Ran, until};

const BINARY: &str = env!("CARGO_BIN_EXE_dunnage");

/// Runs a command with something to read.
fn fed(dunnage: &Dunnage, args: &[&str], input: &str) -> Ran {
    let mut command = dunnage.command(args);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap().into()
}

#[test]
fn the_streams_that_are_named_lead_here_and_no_others() {
    let Some(dunnage) = Dunnage::with_base(BINARY, &BASE) else { return };
    let both = ["base", "sh", "-c", "echo out; echo err >&2; exit 3"];
    for (flags, out, err) in [
        (&["-a", "stdout"][..], "out\n", ""),
        (&["--attach=STDERR"], "", "err\n"),
        (&["-a", "stdout", "-a", "stderr"], "out\n", "err\n"),
        (&["-i", "-a", "stderr", "-a", "stdin"], "", "err\n"),
    ] {
        let ran = dunnage.run([&["run", "--rm"], flags, &both].concat());
        assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (3, out, err), "{flags:?}");
    }
    // All that is not shown is in the log.
    dunnage.run([&["run", "--name", "kept", "-a", "stderr"][..], &both].concat()).fails(3, "err");
    assert_eq!(dunnage.run(["logs", "kept"]).ok().stdout, "out\n");
    let streams = "{{.Config.AttachStdin}} {{.Config.AttachStdout}} {{.Config.AttachStderr}}";
    assert_eq!(dunnage.run(["inspect", "-f", streams, "kept"]).ok().stdout, "false false true\n");
    // Input that is not named stays away, though the container would read it.
    let ran = fed(
        &dunnage,
        &["run", "--rm", "-i", "-a", "stdout", "base", "sh", "-c", "read -t 1 line; echo got $line"],
        "typed\n",
    );
    assert_eq!(ran.stdout, "got\n");
    let ran = fed(&dunnage, &["run", "--rm", "-i", "-a", "stdin", "-a", "stdout", "base", "cat"], "typed\n").ok();
    assert_eq!(ran.stdout, "typed\n");
    dunnage.run(["run", "-d", "-a", "stdout", "base", "true"]).fails(125, "contradict");
    dunnage.run(["run", "-a", "stdwrong", "base", "true"]).fails(125, "stdwrong");
    dunnage.run(["create", "-a", "stdin", "--name", "made", "base", "true"]).ok();
}

/// A container that does not read keeps what is typed waiting, and nothing else of who types.
#[test]
fn a_signal_reaches_a_container_that_does_not_read() {
    let Some(dunnage) = Dunnage::with_base(BINARY, &BASE) else { return };
    let script = "trap 'exit 3' TERM; echo ready; while :; do sleep 0.05; done";
    let mut command = dunnage.command(["run", "-i", "base", "sh", "-c", script]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "ready");
    let (mut stdin, sent) = (child.stdin.take().unwrap(), Arc::new(AtomicUsize::new(0)));
    let typed = Arc::clone(&sent);
    std::thread::spawn(move || {
        while let Ok(count) = stdin.write(&[b'x'; 4096]) {
            typed.fetch_add(count, Ordering::SeqCst);
        }
    });
    let mut before = 0;
    until("the way to the container is full", || {
        std::thread::sleep(Duration::from_millis(500));
        let now = sent.load(Ordering::SeqCst);
        now > 0 && std::mem::replace(&mut before, now) == now
    });
    assert!(Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
    until("the signal is heard", || child.try_wait().unwrap().is_some());
    assert_eq!(child.wait().unwrap().code(), Some(3));
}

#[test]
fn who_only_types_gets_the_id_and_does_not_wait() {
    let Some(dunnage) = Dunnage::with_base(BINARY, &BASE) else { return };
    let text = "a line\n".repeat(20_000);
    let id =
        fed(&dunnage, &["run", "-i", "-a", "stdin", "base", "sh", "-c", "wc -c; exec sleep 600"], &text).ok().stdout;
    assert_eq!(id.trim().len(), 64, "{id}");
    until("all of it has come", || dunnage.run(["logs", id.trim()]).ok().stdout.trim() == "140000");
    assert!(dunnage.run(["ps", "-q", "--no-trunc"]).ok().stdout.contains(id.trim()));
    dunnage.run(["rm", "-f", id.trim()]).ok();
}

#[test]
fn a_linked_container_is_found_by_the_name_that_it_has_here() {
    let Some(machine) = Machine::new(BINARY) else { return };
    machine.run(&["network", "create", "inner"]).ok();
    machine.run(&["network", "create", "other"]).ok();
    let _web = machine.serve("web", &["--network", "inner"]);
    let heard = |flags: &[&str], name: &str| {
        machine.shell(flags, &format!("grep -w {name} /etc/hosts; wget -q -O - http://{name}/"))
    };
    let ran = heard(&["--network", "inner", "--link", "web:db"], "db").ok();
    assert!(ran.stdout.ends_with("web\n") && ran.stdout.contains("\tdb"), "{ran:?}");
    // By its own name too, and without another one by that alone.
    assert!(heard(&["--network", "inner", "--link", "web:db"], "web").ok().stdout.contains("\tweb"));
    assert!(heard(&["--network", "inner", "--link", "/web"], "web").ok().stdout.contains("\tweb"));
    // On several networks, the one that both are on counts.
    heard(&["--network", "other", "--network", "inner", "--link", "web:db"], "db").ok();
    for (flags, sentence) in [
        (&["--network", "other", "--link", "web:db"][..], "on no network that this container is on too"),
        (&["--network", "inner", "--link", "nobody:db"], "nobody"),
        (&["--network", "none", "--link", "web:db"], "--link needs a network"),
        (&["--network", "host", "--link", "web:db"], "--link needs a network"),
    ] {
        let ran = machine.shell(flags, "true");
        assert_eq!(ran.code, 125, "{flags:?}: {ran:?}");
        assert!(ran.stderr.contains(sentence) && ran.stderr.lines().count() == 1, "{flags:?}: {}", ran.stderr);
    }
    machine.run(&["create", "--name", "asleep", "--network", "inner", "base", "true"]).ok();
    let ran = machine.shell(&["--network", "inner", "--link", "asleep"], "true");
    assert!(ran.code == 125 && ran.stderr.contains("asleep is not running"), "{ran:?}");
}
