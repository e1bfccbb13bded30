//! Processes that are killed or asked to end at any moment: nothing that was acknowledged is lost, nothing stays behind.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::print_stderr, missing_docs)]

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use testdata::{BASE, Dunnage, Host, Need, Random, rounds, skipped};

fn dunnage() -> Option<Dunnage> {
    Dunnage::with_base(env!("CARGO_BIN_EXE_dunnage"), &BASE)
}

/// Leftovers go with the next command once the last process of a killed one has ended.
fn swept(dunnage: &Dunnage, moment: &str) {
    let begun = Instant::now();
    loop {
        dunnage.run(["images", "-q"]).ok();
        let left = dunnage.leftovers();
        if left.is_empty() {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{moment}: {left:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// What the names of one worker point at, as far as it was told.
#[derive(Default)]
struct Acknowledged {
    /// The id that a command gave before it ended well.
    images: BTreeMap<String, String>,
}

/// One command of a worker, which has names of its own: nobody else changes what they point at.
enum Work {
    Build(String),
    Tag(String, String),
    Remove(String),
    Other(Vec<String>),
}

impl Work {
    fn choose(worker: u64, dunnage: &Dunnage, known: &Acknowledged, random: &mut Random) -> Work {
        let name = format!("w{worker}-{}", random.below(4));
        let some: Option<&String> = known.images.keys().next();
        match (random.below(12), some) {
            (0, _) => Work::other(&["load", "-i", "app.tar"]),
            (1, _) => Work::other(&["save", "-o", &format!("out-{worker}.tar"), "app"]),
            (2, _) => Work::other(&["system", "prune", "--force"]),
            (3, _) => Work::other(&["system", "check", "--repair"]),
            (4, _) => Work::other(&["run", "--rm", "app"]),
            (5, Some(from)) => Work::Tag(from.clone(), name),
            (6, Some(name)) => Work::Remove(name.clone()),
            _ => {
                let (one, two) = (random.below(5), random.below(9));
                let text = format!("FROM base\nCOPY <<E /f\n{one}\nE\nRUN cp /f /g && echo {two} > /h\nRUN rm /h\n");
                dunnage.write(&format!("context-{worker}/Dockerfile"), text);
                Work::Build(name)
            }
        }
    }

    fn other(words: &[&str]) -> Work {
        Work::Other(words.iter().map(|word| (*word).to_owned()).collect())
    }

    fn start(&self, worker: u64, dunnage: &Dunnage) -> Child {
        let words: Vec<&str> = match self {
            Work::Build(name) => vec!["build", "-q", "-t", name],
            Work::Tag(from, to) => vec!["tag", from, to],
            Work::Remove(name) => vec!["rmi", name],
            Work::Other(words) => words.iter().map(String::as_str).collect(),
        };
        let mut command = dunnage.command(words);
        if let Work::Build(_) = self {
            command.arg(format!("context-{worker}"));
        }
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Holds what the names point at now against what was acknowledged, and takes note of it.
    fn ended(&self, killed: bool, stdout: &str, now: &BTreeMap<String, String>, known: &mut Acknowledged) {
        for (name, id) in &known.images {
            let changing = match self {
                Work::Build(changed) | Work::Tag(_, changed) | Work::Remove(changed) => changed == name,
                Work::Other(_) => false,
            };
            let there = now.get(name);
            match self {
                Work::Remove(_) if changing => assert!(there.is_none_or(|there| there == id), "{name}"),
                _ if changing => assert!(there.is_some(), "the name {name} of {id} is lost"),
                _ => assert_eq!(there, Some(id), "the name {name}"),
            }
        }
        match self {
            Work::Build(name) if !killed => {
                assert_eq!(now.get(name).map(String::as_str), Some(stdout.trim()), "the image that was acknowledged");
            }
            Work::Tag(from, to) if !killed => assert_eq!(now.get(from), now.get(to)),
            Work::Remove(name) if !killed => assert_eq!(now.get(name), None),
            _ => {}
        }
        if let Work::Build(name) | Work::Tag(_, name) | Work::Remove(name) = self {
            match now.get(name) {
                Some(id) => known.images.insert(name.clone(), id.clone()),
                None => known.images.remove(name),
            };
        }
    }
}

fn names(dunnage: &Dunnage) -> BTreeMap<String, String> {
    let list = dunnage.run(["images", "--no-trunc", "--format", "{{.Repository}} {{.ID}}"]).ok().stdout;
    list.lines().filter_map(|line| line.split_once(' ')).map(|(name, id)| (name.to_owned(), id.to_owned())).collect()
}

/// Up to three processes at once, each killed at a moment of its own; then all of the store is read.
/// `DUNNAGE_KILLS` says how many kills there are.
#[test]
fn security_f01_f14_kills_at_random_moments_lose_nothing() {
    let Some(dunnage) = dunnage() else { return };
    let mut random = Random::new();
    dunnage.build("FROM base\nRUN echo kept > /kept\nCMD cat /kept\n");
    dunnage.run(["save", "-o", "app.tar", "app"]).ok();
    let before = Host::look(&dunnage.root());
    let mut known: [Acknowledged; 3] = Default::default();
    let (mut kills, mut landed, mut round) = (0, 0, 0);
    while kills < rounds("DUNNAGE_KILLS", 60) {
        round += 1;
        let workers = 1 + random.below(3);
        let mut running = Vec::new();
        for worker in 0..workers {
            let work = Work::choose(worker, &dunnage, &known[worker as usize], &mut random);
            let child = work.start(worker, &dunnage);
            running.push((worker, work, child, Instant::now() + Duration::from_micros(random.below(80_000))));
        }
        let moment = format!("round {round}, seed {}", random.seed());
        let mut ended = Vec::new();
        running.sort_by_key(|(_, _, _, when)| *when);
        for (worker, work, mut child, when) in running {
            std::thread::sleep(when.saturating_duration_since(Instant::now()));
            let _ = child.kill();
            kills += 1;
            let output = child.wait_with_output().unwrap();
            let killed = output.status.signal().is_some();
            landed += u64::from(killed);
            let told = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(killed || output.status.success(), "{moment}: {told}");
            ended.push((worker, work, killed, String::from_utf8_lossy(&output.stdout).into_owned()));
        }
        let check = dunnage.run(["system", "check"]);
        assert_eq!(check.code, 0, "{moment}:\n{}{}", check.stdout, check.stderr);
        swept(&dunnage, &moment);
        let now = names(&dunnage);
        for (worker, work, killed, stdout) in ended {
            work.ended(killed, &stdout, &now, &mut known[worker as usize]);
        }
        assert_eq!(dunnage.run(["run", "--rm", "app"]).ok().stdout, "kept\n", "{moment}");
    }
    for name in known.iter().flat_map(|known| known.images.keys()) {
        dunnage.run(["run", "--rm", name, "cat", "/g"]).ok();
    }
    before.expect_after(&dunnage.root(), || drop(dunnage.run(["images", "-q"])));
    eprintln!("{kills} kills, {landed} of them before the end, {round} full checks, seed {}", random.seed());
    assert!(landed > 0, "no process was killed before its end");
}

#[test]
fn security_f14_kills_of_run_and_build_leave_the_machine_as_it_was() {
    let Some(dunnage) = dunnage() else { return };
    let mut random = Random::new();
    dunnage.write("context/Dockerfile", "FROM base\nRUN --network=none sleep 0.05; echo a > /a\nRUN sleep 0.05\n");
    let containers = || std::fs::read_dir(dunnage.root().join("containers")).unwrap().count();
    dunnage.run(["run", "--rm", "base", "true"]).ok();
    let before = Host::look(&dunnage.root());
    for round in 0..rounds("DUNNAGE_KILLS", 50) {
        let moment = format!("round {round}, seed {}", random.seed());
        let volume = format!("{}:/v", dunnage.dir("volume").display());
        let mut child = if round % 2 == 0 {
            dunnage.command(["run", "--rm", "-v", &volume, "base", "sleep", "0.1"]).spawn().unwrap()
        } else {
            let mut build = dunnage.command(["build", "--no-cache", "-q", "-t", "app", "context"]);
            build.stdout(Stdio::null()).spawn().unwrap()
        };
        std::thread::sleep(Duration::from_micros(random.below(150_000)));
        let _ = child.kill();
        let _ = child.wait();
        swept(&dunnage, &moment);
        before.expect_after(&dunnage.root(), || drop(dunnage.run(["images", "-q"])));
        let begun = Instant::now();
        while containers() > 0 {
            assert!(begun.elapsed() < Duration::from_secs(60), "{moment}: a container stayed");
            dunnage.run(["images", "-q"]).ok();
        }
    }
    dunnage.run(["system", "check"]).ok();
}

/// A command, and whether it is a container that decides itself what a signal means.
const SIGNALLED: [&[&str]; 6] = [
    &["build", "--no-cache", "-t", "app", "context"],
    &["build", "--no-cache", "--progress", "tty", "-t", "app", "context"],
    &["run", "--rm", "--init", "base", "sleep", "4245"],
    &["load", "-i", "app.tar"],
    &["save", "-o", "out.tar", "app"],
    &["system", "prune", "--force"],
];

/// `DUNNAGE_SIGNALS` says how many there are.
#[test]
fn security_f20_signals_end_a_command_soon_and_cleanly() {
    let Some(dunnage) = dunnage() else { return };
    let mut random = Random::new();
    dunnage.write("context/Dockerfile", "FROM base\nRUN echo a > /a\nRUN sleep 4245\n");
    dunnage.write("app/Dockerfile", "FROM base\nRUN echo a > /b\n");
    dunnage.run(["build", "-t", "app", "app"]).ok();
    dunnage.run(["save", "-o", "app.tar", "app"]).ok();
    let before = Host::look(&dunnage.root());
    for round in 0..rounds("DUNNAGE_SIGNALS", 42) {
        let args = SIGNALLED[random.below(SIGNALLED.len() as u64) as usize];
        let (name, number) = [("INT", 2), ("TERM", 15), ("HUP", 1)][random.below(3) as usize];
        let moment = format!("round {round}, seed {}: {args:?}, SIG{name}", random.seed());
        let mut child = dunnage.command(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_micros(random.below(200_000)));
        signal(name, &child);
        let status = ended(&mut child, &moment);
        // It ended before the signal came, or the signal ended it: as a shell counts, 128 more than its number.
        let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap());
        assert!(code == 128 + number || code == 0, "{moment}: {status:?}");
        swept(&dunnage, &moment);
        before.expect_after(&dunnage.root(), || drop(dunnage.run(["images", "-q"])));
        gone("sleep 4245", &moment);
    }
    dunnage.run(["system", "check"]).ok();
    dunnage.run(["run", "--rm", "app", "cat", "/b"]).ok();
}

fn signal(name: &str, child: &Child) {
    // One that has ended has nobody to receive it, and that is the case to look at too.
    let _ = Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).stderr(Stdio::null()).status();
}

/// The bound is the guarantee; a loaded machine gets some more.
fn ended(child: &mut Child, moment: &str) -> ExitStatus {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "{moment}: it goes on");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn gone(command: &str, moment: &str) {
    let begun = Instant::now();
    while Command::new("pgrep").args(["-fx", command]).stdout(Stdio::null()).status().unwrap().success() {
        assert!(begun.elapsed() < Duration::from_secs(60), "{moment}: `{command}` goes on");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A build that hangs, here in a failpoint, ends all the same.
#[test]
fn security_f20_a_build_that_hangs_ends_on_the_first_signal() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.write("context/Dockerfile", "FROM base\nCOPY <<E /f\ntext\nE\n");
    for (name, number) in [("INT", 2), ("TERM", 15), ("HUP", 1)] {
        let mut build = dunnage.command(["build", "-q", "--no-cache", "-t", "app", "context"]);
        let mut child = build.env("DUNNAGE_FAILPOINTS", "layer.commit=pause").spawn().unwrap();
        std::thread::sleep(Duration::from_millis(300));
        signal(name, &child);
        assert_eq!(ended(&mut child, name).code(), Some(128 + number));
        swept(&dunnage, name);
    }
}

/// The user's terminal is as it was, whatever ended the container.
#[test]
fn security_f20_the_terminal_is_restored() {
    if skipped(&[Need::Program("script"), Need::Program("stty")]) {
        return;
    }
    let Some(dunnage) = dunnage() else { return };
    for name in ["INT", "TERM", "HUP", "KILL"] {
        let run = dunnage.command(["run", "--rm", "-it", "--init", "base", "sleep", "4246"]);
        let words: Vec<String> =
            [run.get_program()].into_iter().chain(run.get_args()).map(|word| word.display().to_string()).collect();
        let shell = format!("stty -a > before; {}; stty -a > after", words.join(" "));
        let mut script = Command::new("script");
        script.args(["-qec", &format!("sh -c '{shell}'"), "/dev/null"]).current_dir(dunnage.dir(""));
        script.env("DUNNAGE_ROOT", dunnage.root()).stdin(Stdio::null()).stdout(Stdio::null());
        let mut child = script.spawn().unwrap();
        let sleep = descendant(&child, "sleep 4246");
        // The process inside gets what its user would type; a kill of the container is the kernel's.
        let target = if name == "KILL" { sleep } else { descendant(&child, &words.join(" ")) };
        assert!(Command::new("kill").args([format!("-{name}"), target]).status().unwrap().success());
        ended(&mut child, name);
        let read = |file: &str| std::fs::read_to_string(dunnage.dir("").join(file)).unwrap();
        assert_eq!(read("before"), read("after"), "SIG{name}");
        assert!(read("before").contains("icanon"));
    }
}

/// The number of a process below this one, by its command line, once it is there.
fn descendant(child: &Child, command: &str) -> String {
    let begun = Instant::now();
    loop {
        let mut open = vec![child.id().to_string()];
        while let Some(pid) = open.pop() {
            let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            if line.trim_end_matches('\0').replace('\0', " ") == command {
                return pid;
            }
            for task in std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
                let children = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
                open.extend(children.split_whitespace().map(str::to_owned));
            }
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "`{command}` never began");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Standard streams that are closed, full, or read by nobody.
#[test]
fn security_f20_streams_that_are_gone() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.write("context/Dockerfile", "FROM base\nRUN echo said\n");
    let commands = [
        "images",
        "inspect base",
        "history base",
        "system df",
        "system check",
        "info",
        "version",
        "--help",
        "build --no-cache context",
        "build --no-cache --progress rawjson context",
        "build --no-cache -q context",
        "run --rm base echo said",
        "save base",
        "nosuch",
    ];
    let binary = dunnage.command([""; 0]).get_program().display().to_string();
    for words in commands {
        for streams in [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-", "> /dev/full", "2> /dev/full"] {
            let line = format!("{binary} {words} {streams}");
            let mut shell = Command::new("sh");
            shell.args(["-c", &line]).current_dir(dunnage.dir("")).env("DUNNAGE_ROOT", dunnage.root());
            let output = shell.output().unwrap();
            let code = output.status.code().unwrap();
            let text = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(matches!(code, 0 | 1 | 2 | 3 | 125) && !text.contains("panicked"), "{line}: {code}: {text}");
        }
        // A reader that has gone before the first byte comes.
        for pipe in ["| true", "2>&1 >/dev/null | true"] {
            let line = format!(
                "({binary} {words}; echo $? > code) {pipe}; sleep 0.05; while [ ! -s code ]; do :; done; cat code; rm code"
            );
            let mut shell = Command::new("sh");
            shell.args(["-c", &line]).current_dir(dunnage.dir("")).env("DUNNAGE_ROOT", dunnage.root());
            let code = String::from_utf8(shell.output().unwrap().stdout).unwrap();
            assert!(matches!(code.trim(), "0" | "1" | "2" | "3" | "141"), "{line}: {code}");
        }
    }
    dunnage.run(["system", "check"]).ok();
    swept(&dunnage, "streams");
}
