//! `dunnage exec`, `logs`, `attach`: other commands at a running container.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::io::{Read, Write};
use std::process::Stdio;

use testdata::{BASE, Dunnage, until};

fn dunnage() -> Option<Dunnage> {
    Dunnage::with_base(env!("CARGO_BIN_EXE_dunnage"), &BASE)
}

#[test]
fn runtime_x01_environment_directory_user_and_groups() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.build("FROM base\nRUN mkdir /w /v && echo 'extra:x:77:nobody' >> /etc/group\nENV A=image B=image\nWORKDIR /w\nUSER nobody\n");
    dunnage.run(["run", "-d", "--name", "target", "-e", "B=run", "app", "sleep", "600"]).ok();
    let exec = |flags: &[&str], script: &str| {
        let ran = dunnage.run([&["exec"][..], flags, &["target", "sh", "-c", script]].concat()).ok();
        ran.stdout.trim().replace('\n', " ")
    };
    assert_eq!(exec(&[], "pwd; id -un; echo $A $B; id -G"), "/w nobody image run 65534 77");
    assert_eq!(exec(&["-w", "/v", "-u", "1000:5", "-e", "C=exec"], "pwd; id -u; id -g; echo $C"), "/v 1000 5 exec");
    assert_eq!(exec(&["-u", "0"], "id -u; grep CapEff /proc/self/status"), "0 CapEff:\t00000000a80425fb");
    assert_eq!(exec(&["-u", "0", "--privileged"], "grep Seccomp: /proc/self/status"), "Seccomp:\t0");
    assert_eq!(exec(&[], "hostname; cat /proc/1/comm"), exec(&[], "echo $HOSTNAME; echo sleep"));
    assert_eq!(dunnage.run(["exec", "target", "sh", "-c", "exit 7"]).code, 7);
    dunnage.run(["exec", "-u", "nosuch", "target", "true"]).fails(125, "nosuch");
    dunnage.run(["exec", "-w", "/nosuch", "target", "true"]).fails(125, "/nosuch");
    // The command is in the container's control group, and its view of it is the container's.
    assert_eq!(exec(&["-u", "0"], "cat /proc/self/cgroup"), exec(&["-u", "0"], "cat /proc/1/cgroup"));
}

#[test]
fn runtime_x03_x04_exec_needs_a_container_that_runs_and_a_command_that_is_there() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.run(["run", "-d", "--name", "target", "base", "sleep", "600"]).ok();
    dunnage.run(["exec", "target", "nosuch"]).fails(127, "nosuch");
    dunnage.run(["exec", "target", "/etc/passwd"]).fails(126, "/etc/passwd");
    dunnage.run(["exec", "-d", "target", "nosuch"]).fails(127, "nosuch");
    dunnage.run(["exec", "-d", "target", "sh", "-c", "sleep 0.2; touch /done"]).ok();
    until("it went on alone", || dunnage.run(["exec", "target", "test", "-e", "/done"]).code == 0);
    dunnage.run(["exec", "--badflag", "target", "true"]).fails(125, "--badflag");
    dunnage.run(["kill", "target"]).ok();
    dunnage.run(["exec", "target", "true"]).fails(125, "not running");
    dunnage.run(["exec", "nosuch", "true"]).fails(125, "nosuch");
}

#[test]
fn security_s02_exec_hands_no_descriptor_in_and_input_only_when_asked() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.run(["run", "-d", "--name", "target", "base", "sleep", "600"]).ok();
    let out = dunnage.run(["exec", "target", "ls", "/proc/self/fd"]).ok().stdout;
    assert_eq!(out.split_whitespace().collect::<Vec<_>>(), ["0", "1", "2", "3"]);
    let pipe = |flags: &[&str]| {
        let mut command = dunnage.command([&["exec"][..], flags, &["target", "cat"]].concat());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        // Without -i nobody reads it.
        let _ = child.stdin.take().unwrap().write_all(b"typed\n");
        String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()
    };
    assert_eq!(pipe(&["-i"]), "typed\n");
    assert_eq!(pipe(&[]), "");
}

#[test]
fn runtime_x06_logs_follow_cut_and_date() {
    let Some(dunnage) = dunnage() else { return };
    let script = "for n in 1 2 3 4; do echo line $n; done; echo err >&2; sleep 1; printf 'no end'";
    dunnage.run(["run", "-d", "--name", "writer", "base", "sh", "-c", script]).ok();
    // It ends when the container ends.
    let followed = dunnage.run(["logs", "-f", "writer"]).ok();
    assert_eq!(followed.stdout, "line 1\nline 2\nline 3\nline 4\nno end");
    assert_eq!(followed.stderr, "err\n");
    assert_eq!(dunnage.run(["logs", "--tail", "3", "writer"]).ok().stdout, "line 4\nno end");
    assert_eq!(dunnage.run(["logs", "-n", "0", "writer"]).ok().stdout, "");
    let dated = dunnage.run(["logs", "-t", "writer"]).ok().stdout;
    let first = dated.lines().next().unwrap();
    let (time, line) = first.split_once(' ').unwrap();
    assert!(time.ends_with('Z') && time.contains('T') && line == "line 1", "{first}");
    let last = dated.lines().last().unwrap().split_once(' ').unwrap().0;
    assert_eq!(dunnage.run(["logs", "--since", last, "writer"]).ok().stdout, "no end");
    assert_eq!(dunnage.run(["logs", "--until", time, "writer"]).ok().stdout.lines().next(), Some("line 1"));
    assert_eq!(dunnage.run(["logs", "--since", "1h", "writer"]).ok().stdout.lines().count(), 5);
    dunnage.run(["logs", "--since", "whenever", "writer"]).fails(2, "whenever");
    dunnage.run(["logs", "nosuch"]).fails(1, "nosuch");
    dunnage.run(["run", "-d", "--name", "mute", "--log-driver", "none", "base", "echo", "x"]).ok();
    dunnage.run(["logs", "mute"]).fails(1, "none");
}

#[test]
fn a_log_is_bounded() {
    let Some(dunnage) = dunnage() else { return };
    let opts = ["--log-opt", "max-size=20k", "--log-opt", "max-file=2"];
    let command = ["base", "sh", "-c", "seq 1 20000"];
    let run = [&["run", "--name", "wordy"][..], &opts, &command].concat();
    assert_eq!(dunnage.run(run).ok().stdout.lines().count(), 20_000);
    let kept = dunnage.run(["logs", "wordy"]).ok().stdout;
    assert!(kept.ends_with("20000\n") && kept.lines().count() < 2000, "{}", kept.lines().count());
    let id = dunnage.run(["ps", "-aq", "--no-trunc"]).ok().stdout.trim().to_owned();
    let directory = dunnage.root().join("containers").join(id);
    let files = std::fs::read_dir(directory).unwrap().flatten().map(|entry| entry.path());
    let logs: Vec<u64> = files
        .filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("log.json"))
        .map(|path| path.metadata().unwrap().len())
        .collect();
    assert!(logs.len() == 2 && logs.iter().all(|size| *size <= 21 << 10), "{logs:?}");
}

#[test]
fn runtime_r07_r08_a_kept_container_takes_input_and_loses_no_output() {
    let Some(dunnage) = dunnage() else { return };
    let mut command = dunnage.command(["run", "-i", "base", "sh", "-c", "wc -c; seq 1 200000; echo end >&2; exit 5"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let typist = std::thread::spawn(move || input.write_all(&vec![b'x'; 300_000]).unwrap());
    let output = child.wait_with_output().unwrap();
    typist.join().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!((text.lines().next(), text.lines().count()), (Some("300000"), 200_001));
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(5), &b"end\n"[..]));
}

#[test]
fn attach_joins_input_and_output_and_signals_pass() {
    let Some(dunnage) = dunnage() else { return };
    dunnage
        .run([
            "run",
            "-d",
            "-i",
            "--name",
            "echo",
            "base",
            "sh",
            "-c",
            "trap 'echo term; exit 3' TERM; while :; do read line && echo got $line; done",
        ])
        .ok();
    let mut child = dunnage.command(["attach", "echo"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.as_mut().unwrap().write_all(b"one\n").unwrap();
    let mut out = child.stdout.take().unwrap();
    let mut text = [0; 8];
    out.read_exact(&mut text).unwrap();
    assert_eq!(&text, b"got one\n");
    let status = std::process::Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    assert!(status.success());
    // The shell sees its signal after the line that it waits for.
    child.stdin.as_mut().unwrap().write_all(b"two\n").unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(3));
    assert!(dunnage.run(["logs", "echo"]).ok().stdout.contains("got one\n"));
    dunnage.run(["attach", "echo"]).fails(1, "not running");
}
