//! `dunnage build --watch`: what is read is built again when it changes, and nothing else makes it so.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::expect_used, missing_docs)]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use testdata::{BASE, Dunnage};

/// Long against any build here; only what never comes waits so long.
const PATIENCE: Duration = Duration::from_secs(60);
/// In this time a change that matters would have been noticed.
const QUIET: Duration = Duration::from_millis(600);

fn dunnage() -> Option<Dunnage> {
    Dunnage::with_base(env!("CARGO_BIN_EXE_dunnage"), &BASE)
}

/// A build that watches, with the lines that it writes.
struct Watching {
    child: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
}

impl Watching {
    fn start(dunnage: &Dunnage, args: &[&str]) -> Watching {
        let mut all = vec!["build", "--watch", "--progress", "plain"];
        all.extend_from_slice(args);
        all.push("context");
        let mut command = dunnage.command(all);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (send, lines) = channel();
        let streams: [Box<dyn std::io::Read + Send>; 2] =
            [Box::new(child.stdout.take().unwrap()), Box::new(child.stderr.take().unwrap())];
        for stream in streams {
            let send = send.clone();
            std::thread::spawn(move || {
                BufReader::new(stream).lines().map_while(Result::ok).try_for_each(|line| send.send(line).ok())
            });
        }
        Watching { child, lines, seen: Vec::new() }
    }

    /// Reads up to a line that holds the text, and gives that one.
    #[track_caller]
    fn until(&mut self, text: &str) -> String {
        let begun = Instant::now();
        loop {
            match self.lines.recv_timeout(PATIENCE.saturating_sub(begun.elapsed())) {
                Ok(line) => {
                    self.seen.push(line.clone());
                    if line.contains(text) {
                        return line;
                    }
                }
                Err(_) => panic!("no {text:?} in:\n{}", self.seen.join("\n")),
            }
        }
    }

    #[track_caller]
    fn silent(&mut self) {
        match self.lines.recv_timeout(QUIET) {
            Err(RecvTimeoutError::Timeout) => {}
            other => panic!("{other:?} after:\n{}", self.seen.join("\n")),
        }
    }

    /// Ctrl-C, and the exit code.
    fn interrupt(mut self) -> i32 {
        signal(self.child.id(), "INT");
        self.child.wait().unwrap().code().unwrap()
    }
}

fn signal(pid: u32, name: &str) {
    assert!(Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status().unwrap().success());
}

const FILE: &str = "FROM base\nCOPY src lib/*.c /app/\nRUN cat /app/a && test ! -e /app/fail\n";

#[test]
fn changes_of_what_the_plan_reads_build_again_and_no_others() {
    let Some(dunnage) = dunnage() else { return };
    for (name, text) in [("Dockerfile", FILE), ("src/a", "one\n"), ("lib/x.c", "x"), (".dockerignore", "**/*.tmp\n")] {
        dunnage.write(&format!("context/{name}"), text);
    }
    let mut watching = Watching::start(&dunnage, &["-o", "context/out", "--iidfile", "context/src/iid.tmp"]);
    watching.until("watching 3 directories");

    for name in ["README", "lib/x.h", "src/b.tmp", "other/deep/file", "out/new"] {
        dunnage.write(&format!("context/{name}"), "not read");
    }
    watching.silent();

    dunnage.write("context/src/a", "two\n");
    assert!(watching.until("changed:").ends_with("src/a"));
    watching.until("two");
    watching.until("watching");

    // A build that fails is told, and the next change is built all the same.
    dunnage.write("context/lib/fail.c", "");
    dunnage.write("context/Dockerfile", FILE.replace("/app/fail", "/app/fail.c"));
    let changed = watching.until("changed:");
    assert!(changed.contains("Dockerfile") && changed.contains("lib/fail.c"), "{changed}");
    watching.until("failed with exit code 1");
    watching.until("watching");
    std::fs::remove_file(dunnage.dir("context/lib").join("fail.c")).unwrap();
    watching.until("changed:");
    watching.until("steps cached");
    watching.until("watching");

    // A mistake in the file, and a directory that the plan did not read before.
    dunnage.write("context/Dockerfile", "FROM base\nCOPPY x /\n");
    watching.until("COPPY");
    watching.until("watching");
    dunnage.write("context/Dockerfile", "FROM base\nCOPY other /app\nRUN cat /app/deep/file\n");
    watching.until("not read");
    watching.until("watching");
    dunnage.write("context/other/deep/file", "read now\n");
    watching.until("read now");
    watching.until("watching");
    dunnage.write("context/src/a", "three\n");
    watching.silent();

    assert_eq!(watching.interrupt(), 130);
    assert_eq!(dunnage.leftovers(), Vec::<std::path::PathBuf>::new());
}

fn processes_with(word: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains(word) {
            found.push(line);
        }
    }
    found
}

#[test]
fn run_starts_the_container_anew_and_leaves_nothing() {
    let Some(dunnage) = dunnage() else { return };
    // A number that no other process of this machine has in its arguments.
    let mark = format!("31{}", std::process::id());
    let file = format!("FROM base\nCOPY text /text\nCMD cat /text; exec sleep {mark}\n");
    dunnage.write("context/Dockerfile", &file);
    dunnage.write("context/text", "first\n");
    let mut watching = Watching::start(&dunnage, &["--run=--env A=1"]);
    watching.until("first");
    let until = |count: usize| {
        let begun = Instant::now();
        while processes_with(&format!("sleep {mark}")).len() != count {
            assert!(begun.elapsed() < PATIENCE, "{:?}", processes_with(&mark));
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    until(1);
    dunnage.write("context/text", "second\n");
    watching.until("second");
    until(1);
    // One that ends by itself is told.
    dunnage.write("context/Dockerfile", file.replace("exec sleep", "exit 7 #"));
    watching.until("the container ended with exit code 7");
    dunnage.write("context/Dockerfile", &file);
    watching.until("second");
    until(1);
    assert_eq!(watching.interrupt(), 130);
    until(0);
    dunnage.run(["images"]).ok();
    assert_eq!(dunnage.leftovers(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn what_cannot_be_watched_is_refused() {
    let dunnage = Dunnage::new(env!("CARGO_BIN_EXE_dunnage"));
    dunnage.write("context/Dockerfile", "FROM scratch\n");
    dunnage.run(["build", "--watch", "-"]).fails(2, "needs a directory of this machine");
    dunnage.run(["build", "--watch", "-f", "-", "context"]).fails(2, "needs a Dockerfile that can change");
    dunnage.run(["build", "--watch", "--run", "-o", "out", "context"]).fails(2, "--run needs the image in the store");
    dunnage.run(["build", "--run", "context"]).fails(2, "--watch");
    dunnage.run(["plan", "--watch", "context"]).fails(2, "--watch is for `dunnage build`");
    assert!(!Path::new("out").exists());
}
