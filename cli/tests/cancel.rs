//! Ctrl-C or a defect in the middle of a build: no process, mount or temporary file stays.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use testdata::{BASE, Dunnage, Ran};

fn mounts() -> String {
    std::fs::read_to_string("/proc/self/mounts").unwrap()
}

/// No process of a step is there any more, or soon is not.
fn ends(seconds: &str) {
    for attempt in 0.. {
        let left = Command::new("pgrep").args(["-f", &format!("sleep {seconds}")]).output().unwrap();
        if left.stdout.is_empty() {
            break;
        }
        assert!(attempt < 600, "the step outlived the build");
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}

fn interrupted(signal: &str, seconds: &str) -> Option<(Dunnage, Option<i32>)> {
    let dunnage = Dunnage::with_base(env!("CARGO_BIN_EXE_dunnage"), &BASE)?;
    dunnage.write("context/Dockerfile", format!("FROM base\nRUN echo kept\nRUN echo ready && sleep {seconds}\n"));
    let before = mounts();
    let mut child = dunnage.command(["build", "-t", "app", "context"]).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("ready")), "the step never began");
    // The word is in the echoed instruction too: give the process time to be asleep.
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
    for _ in lines {}
    let code = child.wait().unwrap().code();
    ends(seconds);
    assert_eq!(mounts(), before);
    Some((dunnage, code))
}

#[test]
fn an_interrupted_build_leaves_nothing() {
    let Some((dunnage, code)) = interrupted("-INT", "4243") else { return };
    assert_eq!(code, Some(130));
    assert!(dunnage.leftovers().is_empty(), "{:?}", dunnage.leftovers());
}

#[test]
fn security_f14_what_a_killed_build_left_is_swept_by_the_next_command() {
    let Some((dunnage, code)) = interrupted("-KILL", "4244") else { return };
    assert_eq!(code, None);
    dunnage.run(["images"]).ok();
    assert!(dunnage.leftovers().is_empty(), "{:?}", dunnage.leftovers());
}

/// Wherever it shows: in the worker of a step, while another one runs a long one, and where layers come to the disk.
#[test]
fn a_defect_in_a_build_ends_all_of_it_with_one_sentence() {
    let Some(dunnage) = Dunnage::with_base(env!("CARGO_BIN_EXE_dunnage"), &BASE) else { return };
    let file = |seconds: &str| {
        let long = format!("FROM base AS long\nRUN echo ready && exec sleep {seconds}\n");
        let short = "FROM base AS short\nRUN echo 1 > /one\nRUN echo 2 > /two\n";
        dunnage.write(
            "context/Dockerfile",
            format!("{long}{short}FROM base\nCOPY --from=long / /l\nCOPY --from=short / /s\n"),
        );
    };
    let before = mounts();
    for (place, seconds) in [("step.commit", "4245"), ("step.record", "4246"), ("layer.flush", "4247")] {
        file(seconds);
        let mut command = dunnage.command(["build", "--jobs", "2", "--no-cache", "-t", "app", "context"]);
        command.env("DUNNAGE_FAILPOINTS", format!("{place}=panic"));
        let ran: Ran = command.output().unwrap().into();
        assert_eq!(ran.code, 70, "{place}: {}", ran.stderr);
        let told: Vec<&str> = ran.stderr.lines().filter(|line| line.contains("defect")).collect();
        assert!(
            matches!(told.as_slice(), [one] if one.contains(&format!("the failpoint {place}"))),
            "{place}: {told:?}"
        );
        ends(seconds);
        assert_eq!(mounts(), before, "{place}");
        assert!(dunnage.leftovers().is_empty(), "{place}: {:?}", dunnage.leftovers());
        dunnage.run(["system", "check"]).ok();
    }
    file("0");
    dunnage.run(["build", "-q", "-t", "app", "context"]).ok();
}
