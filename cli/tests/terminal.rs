//! A person at a terminal: full-screen programs, other sizes of the window, the keys that interrupt, stop and leave. The
//! terminal is tmux's, so what is looked at is what a screen shows.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use testdata::{BASE, Dunnage, Need, Ran, skipped, until};

/// Longest time until something shows.
const LONGEST: std::time::Duration = std::time::Duration::from_secs(120);

/// A shell in a window of 100 columns and 30 rows.
struct Screen {
    dunnage: Dunnage,
    socket: String,
}

impl Screen {
    fn new() -> Option<Screen> {
        if skipped(&[Need::Program("tmux")]) {
            return None;
        }
        let dunnage = Dunnage::with_base(env!("CARGO_BIN_EXE_dunnage"), &BASE)?;
        // What a test's commands have as environment.
        let command = dunnage.command(["version"]);
        let quoted = |text: &std::ffi::OsStr| format!("'{}'", text.to_str().unwrap());
        let variables: Vec<String> = command
            .get_envs()
            .filter_map(|(name, value)| Some(format!("export {}={}\n", name.to_str()?, quoted(value?))))
            .collect();
        let script = format!("#!/bin/sh\n{}exec {} \"$@\"\n", variables.concat(), quoted(command.get_program()));
        let path = dunnage.write("d", script);
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
        let socket = dunnage.dir(".").join("tmux").display().to_string();
        let screen = Screen { dunnage, socket };
        let shell = format!("cd '{}' && PS1='ready> ' exec sh", screen.dunnage.dir(".").display());
        screen.tmux(&["new-session", "-d", "-x", "100", "-y", "30", &shell]);
        screen.shows("ready>");
        screen.line("stty -g > before");
        Some(screen)
    }

    fn tmux(&self, args: &[&str]) -> String {
        let mut command = Command::new("tmux");
        command.args(["-S", &self.socket, "-f", "/dev/null"]).args(args).env_remove("TMUX").env("TERM", "xterm");
        Ran::from(command.output().unwrap()).ok().stdout
    }

    /// Types a line.
    fn line(&self, text: &str) {
        self.tmux(&["send-keys", "-l", text]);
        self.tmux(&["send-keys", "Enter"]);
    }

    fn keys(&self, keys: &[&str]) {
        self.tmux(&[&["send-keys"], keys].concat());
    }

    /// What follows the key too soon would be taken for a part of it.
    #[track_caller]
    fn leave_insert_mode(&self) {
        until("vi takes text", || {
            self.text().trim_end().lines().next_back().is_some_and(|line| line.starts_with("I "))
        });
        self.keys(&["Escape"]);
        until("vi takes commands", || {
            self.text().trim_end().lines().next_back().is_some_and(|line| line.starts_with("- "))
        });
    }

    fn text(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    #[track_caller]
    fn shows(&self, text: &str) {
        let end = std::time::Instant::now() + LONGEST;
        while !self.text().contains(text) {
            assert!(std::time::Instant::now() < end, "no {text:?} in:\n{}", self.text());
            std::thread::sleep(std::time::Duration::from_millis(30));
        }
    }

    fn resize(&self, columns: &str, rows: &str) {
        self.tmux(&["resize-window", "-x", columns, "-y", rows]);
    }

    fn last_line(&self) -> String {
        self.text().trim_end().lines().next_back().unwrap_or_default().trim_end().to_owned()
    }

    /// Presses a key until something is so: one that comes before a program has begun is nobody's.
    #[track_caller]
    fn press_until(&self, key: &str, mut is_so: impl FnMut() -> bool) {
        until(&format!("{key} is heard"), || {
            self.keys(&[key]);
            std::thread::sleep(std::time::Duration::from_millis(100));
            is_so()
        });
    }

    /// The shell of the machine reads again: what is typed sooner is not for it.
    #[track_caller]
    fn is_back(&self) {
        let end = std::time::Instant::now() + LONGEST;
        while !self.text().lines().any(|line| line.trim_end().ends_with("ready>")) {
            assert!(std::time::Instant::now() < end, "the shell is not back:\n{}", self.text());
            std::thread::sleep(std::time::Duration::from_millis(30));
        }
    }

    /// The shell of the machine has its terminal back, set as it was.
    #[track_caller]
    fn is_as_it_was(&self) {
        self.is_back();
        self.line("clear; stty -g > after; echo gave $((40 + 2))");
        self.shows("gave 42");
        let read = |name: &str| std::fs::read_to_string(self.dunnage.dir(".").join(name)).unwrap();
        assert_eq!(read("before"), read("after"), "the terminal is set in another way");
    }

    /// The same with a program on the screen: what it shows, what interrupts and stops it, how it learns its size.
    #[track_caller]
    fn use_shell(&self) {
        self.line("stty size");
        self.shows("30 100");
        self.line("vi /tmp/text");
        self.shows("/tmp/text");
        until("lines beyond the text", || self.text().lines().filter(|line| line.trim_end() == "~").count() == 28);
        // The program that runs is told.
        self.resize("60", "20");
        until("it is drawn anew", || self.text().lines().filter(|line| line.trim_end() == "~").count() == 18);
        self.keys(&["i"]);
        self.tmux(&["send-keys", "-l", "typed in"]);
        self.leave_insert_mode();
        self.line(":wq");
        self.line("clear; stty size; cat /tmp/text");
        self.shows("20 60\ntyped in");
        self.line("sleep 600");
        self.press_until("C-c", || self.last_line() == "/ #");
        self.line("echo code $?");
        self.shows("code 130");
        self.line("clear; sleep 601");
        self.press_until("C-z", || self.text().contains("Stopped"));
        self.line("clear; jobs; fg");
        until("it goes on", || self.last_line() == "sleep 601" && self.text().contains("Stopped"));
        self.press_until("C-c", || self.last_line() == "/ #");
        self.line("echo again $?");
        self.shows("again 130");
        self.resize("100", "30");
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = Command::new("tmux").args(["-S", &self.socket, "kill-server"]).env_remove("TMUX").output();
    }
}

#[test]
fn runtime_r11_a_full_screen_program_runs_and_the_terminal_is_restored() {
    let Some(screen) = Screen::new() else { return };
    screen.line("./d run --rm -it base sh");
    screen.shows("/ #");
    screen.use_shell();
    screen.line("exit 7");
    screen.is_back();
    screen.line("echo ended $?");
    screen.shows("ended 7");
    screen.is_as_it_was();
    // One that is ended from elsewhere gives the terminal back too.
    screen.line("./d run --rm -it --name killed base sh");
    screen.shows("/ #");
    screen.dunnage.run(["kill", "killed"]).ok();
    screen.is_as_it_was();
}

#[test]
fn runtime_r11_exec_joins_a_terminal_in_the_same_way() {
    let Some(screen) = Screen::new() else { return };
    screen.dunnage.run(["run", "-d", "--name", "box", "base", "sleep", "600"]).ok();
    screen.line("./d exec -it box sh");
    screen.shows("/ #");
    screen.use_shell();
    screen.line("exit 9");
    screen.is_back();
    screen.line("echo ended $?");
    screen.shows("ended 9");
    screen.is_as_it_was();
}

#[test]
fn the_keys_that_leave_give_the_terminal_back_and_the_program_goes_on() {
    let Some(screen) = Screen::new() else { return };
    screen.line("./d run -it --name kept base sh");
    screen.shows("/ #");
    screen.line("clear; vi /tmp/text");
    screen.shows("/tmp/text");
    screen.keys(&["C-p", "C-q"]);
    screen.is_as_it_was();
    assert_eq!(screen.dunnage.run(["inspect", "-f", "{{.State.Status}}", "kept"]).ok().stdout, "running\n");
    // Whoever comes back sees what is on the screen, in the size of the window that is there now.
    screen.resize("80", "24");
    screen.line("clear; ./d attach --detach-keys ctrl-x,x kept");
    until("it is drawn anew", || screen.text().lines().filter(|line| line.trim_end() == "~").count() == 22);
    // Half of the keys are typed like others.
    screen.keys(&["i", "C-p", "a"]);
    screen.keys(&["C-x", "x"]);
    screen.is_as_it_was();
    screen.line("clear; ./d attach kept");
    screen.leave_insert_mode();
    screen.line(":q!");
    // What comes while vi gives the terminal back is nobody's.
    until("the shell inside hears", || {
        if screen.last_line().ends_with('#') {
            screen.line("exit 3");
            std::thread::sleep(std::time::Duration::from_secs(1));
        }
        screen.text().lines().any(|line| line.trim_end().ends_with("ready>"))
    });
    screen.line("echo ended $?");
    screen.shows("ended 3");
    screen.is_as_it_was();
}

#[test]
fn the_keys_that_leave_work_in_exec_too() {
    let Some(screen) = Screen::new() else { return };
    screen.dunnage.run(["run", "-d", "--name", "box", "base", "sleep", "600"]).ok();
    screen.line("./d exec -it box sh -c 'echo begun; while sleep 0.1; do echo on; echo x >> /ticks; done'");
    screen.shows("begun\non\n");
    screen.keys(&["C-p", "C-q"]);
    screen.is_as_it_was();
    let ticks = || screen.dunnage.run(["exec", "box", "wc", "-l", "/ticks"]).ok().stdout;
    let before = ticks();
    until("it goes on", || ticks() != before);
    screen.line("./d exec -it --detach-keys ctrl-x box sh");
    screen.shows("/ #");
    screen.keys(&["C-p", "C-q"]);
    screen.line("echo still $((1 + 1)) here");
    screen.shows("still 2 here");
    screen.keys(&["C-x"]);
    screen.is_as_it_was();
    screen.dunnage.run(["rm", "-f", "box"]).ok();
}

#[test]
fn a_defect_is_told_below_what_was_drawn() {
    let Some(screen) = Screen::new() else { return };
    let file = "FROM base AS long\nRUN exec sleep 4248\nFROM base\nRUN sleep 1\nCOPY --from=long / /l\n";
    screen.dunnage.write("context/Dockerfile", file);
    screen.line("clear; DUNNAGE_FAILPOINTS=step.record=panic ./d build --jobs 2 context; echo ended $?");
    screen.shows("ended 70");
    let text = screen.text();
    assert_eq!(text.matches("error: dunnage has a defect at ").count(), 1, "{text}");
    assert!(text.contains("the failpoint step.record"), "{text}");
    assert!(text.find("of 3 steps") < text.find("error: "), "{text}");
    screen.is_as_it_was();
}
