//! Programs: how they are found, run, ended, and what surrounds them.
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use dunnage_runtime::{Error, Resource, Rlimit, Signal, Stdio, UserIds};

use crate::fixture::{finish, run};
use crate::image;

#[test]
fn runtime_r01_output_and_exit_code_come_out() {
    let image = image!();
    let outcome = image.shell("echo hi; echo oops >&2");
    assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str(), outcome.exit.code), ("hi\n", "oops\n", Some(0)));
    assert!(outcome.exit.success());
}

#[test]
fn runtime_r02_the_exit_code_is_kept() {
    let image = image!();
    let outcome = image.shell("exit 7");
    assert_eq!((outcome.exit.code, outcome.exit.status_code()), (Some(7), 7));
}

#[test]
fn runtime_r03_a_missing_program_is_127() {
    let image = image!();
    for name in ["nosuch", "/bin/nosuch", "./nosuch", ""] {
        let error = run(image.sandbox([name])).unwrap_err();
        assert_eq!(error.exit_code(), 127, "{name}: {error}");
        assert!(matches!(error, Error::NotFound { .. }), "{error:?}");
    }
}

#[test]
fn runtime_r04_what_cannot_be_executed_is_126() {
    let image = image!();
    fs::write(image.lower("etc/passwd"), "root:x:0:0::/root:/bin/sh\n").unwrap();
    fs::write(image.lower("bin/garbage"), "\u{1}no format\n").unwrap();
    fs::set_permissions(image.lower("bin/garbage"), fs::Permissions::from_mode(0o755)).unwrap();
    for name in ["/etc/passwd", "/etc", "garbage"] {
        let error = run(image.sandbox([name])).unwrap_err();
        assert_eq!(error.exit_code(), 126, "{name}: {error}");
    }
}

#[test]
fn a_missing_interpreter_is_told_apart() {
    let image = image!();
    fs::write(image.lower("bin/script"), "#!/bin/nosuch\n").unwrap();
    fs::set_permissions(image.lower("bin/script"), fs::Permissions::from_mode(0o755)).unwrap();
    let error = run(image.sandbox(["script"])).unwrap_err();
    assert!(matches!(error, Error::InterpreterNotFound { .. }), "{error:?}");
    assert_eq!(error.exit_code(), 127);
}

#[test]
fn path_is_searched_in_the_image_and_in_order() {
    let image = image!();
    fs::create_dir_all(image.lower("first")).unwrap();
    fs::write(image.lower("first/hello"), "#!/bin/sh\necho first\n").unwrap();
    fs::set_permissions(image.lower("first/hello"), fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(image.lower("bin/hello"), "#!/bin/sh\necho second\n").unwrap();
    fs::set_permissions(image.lower("bin/hello"), fs::Permissions::from_mode(0o755)).unwrap();
    let with_path = |path: &str| {
        let mut sandbox = image.sandbox(["hello"]);
        sandbox.env = vec![("PATH".into(), path.into())];
        sandbox
    };
    assert_eq!(run(with_path("relative:/nosuch:/first:/bin")).unwrap().stdout, "second\n");
    // As with execvp, a match without the execute bit is told when nothing better is found.
    assert_eq!(run(with_path("/first:/nosuch")).unwrap_err().exit_code(), 126);
}

#[test]
fn runtime_r07_input_from_nowhere_ends_at_once() {
    let image = image!();
    assert_eq!(image.shell("cat; echo end").stdout, "end\n");
}

#[test]
fn environment_directory_and_name_are_as_asked() {
    let image = image!();
    let mut sandbox =
        image.sandbox(["sh", "-c", "pwd; hostname; cat /etc/hostname; echo $A; umask; grep -c box /etc/hosts"]);
    sandbox.cwd = "/tmp".into();
    sandbox.hostname = "box".into();
    sandbox.env.push(("A".into(), "b c".into()));
    assert_eq!(run(sandbox).unwrap().stdout, "/tmp\nbox\nbox\nb c\n0022\n1\n");
}

#[test]
fn security_s03_a_working_directory_must_be_inside_and_exist() {
    let image = image!();
    for path in ["/nosuch", "/bin/sh", "/proc/self/fd/3"] {
        let mut sandbox = image.sandbox(["true"]);
        sandbox.cwd = path.into();
        let error = run(sandbox).unwrap_err();
        assert!(matches!(error, Error::WorkingDirectory { .. }), "{path}: {error:?}");
    }
}

#[test]
fn security_s02_only_the_three_standard_descriptors_are_open() {
    let image = image!();
    for init in [false, true] {
        let mut sandbox =
            image.sandbox(["sh", "-c", "for n in 0 1 2; do readlink /proc/self/fd/$n; done; ls /proc/$$/fd; true"]);
        sandbox.init = init;
        let listed = run(sandbox).unwrap().stdout;
        let last: Vec<&str> = listed.lines().skip(3).collect();
        assert_eq!(last, ["0", "1", "2"], "{listed}");
    }
}

#[test]
fn security_s08_ids_are_the_given_ones() {
    let image = image!();
    let mut sandbox = image.sandbox(["sh", "-c", "grep -E '^(Uid|Gid|Groups):' /proc/self/status"]);
    sandbox.user = UserIds { uid: 1000, gid: 2000, groups: vec![4, 26] };
    let text = run(sandbox).unwrap().stdout;
    let words: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(words[0], ["Uid:", "1000", "1000", "1000", "1000"]);
    assert_eq!(words[1], ["Gid:", "2000", "2000", "2000", "2000"]);
    assert_eq!(words[2], ["Groups:", "4", "26", "2000"]);
}

#[test]
fn a_user_may_reopen_its_output() {
    let image = image!();
    let mut sandbox = image.sandbox(["sh", "-c", "echo out > /dev/stdout; echo err > /dev/stderr"]);
    sandbox.user = UserIds { uid: 1000, gid: 1000, groups: vec![] };
    let outcome = run(sandbox).unwrap();
    assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("out\n", "err\n"));
}

#[test]
fn a_killer_ends_the_container_from_another_thread() {
    let image = image!();
    let mut container = image.sandbox(["sh", "-c", "sleep 100 & sleep 100"]).start().unwrap();
    let killer = container.killer();
    let started = Instant::now();
    let thread = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(50));
        killer.kill(Signal::KILL).unwrap();
        killer
    });
    let exit = container.wait().unwrap();
    assert_eq!((exit.code, exit.signal, exit.status_code()), (None, Some(9), 137));
    assert!(started.elapsed() < Duration::from_secs(10));
    // After the end a signal goes nowhere and is no error.
    thread.join().unwrap().kill(Signal::TERM).unwrap();
    assert_eq!(container.wait().unwrap(), exit);
}

#[test]
fn dropping_a_container_ends_it() {
    let image = image!();
    let container = image.sandbox(["sleep", "100"]).start().unwrap();
    let pid = container.pid();
    assert!(fs::exists(format!("/proc/{pid}")).unwrap());
    drop(container);
    assert!(!fs::exists(format!("/proc/{pid}")).unwrap());
}

#[test]
fn signals_are_at_their_defaults() {
    let image = image!();
    // Rust ignores SIGPIPE, and a program that inherits that goes wrong in pipelines.
    let text = run(image.sandbox(["grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"])).unwrap().stdout;
    assert_eq!(text, "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n");
}

#[test]
fn limits_are_set_and_what_the_machine_refuses_is_noted() {
    let image = image!();
    let mut sandbox = image.sandbox(["sh", "-c", "ulimit -Sn; ulimit -Hn"]);
    sandbox.rlimits = vec![
        Rlimit { resource: Resource::Nofile, soft: Some(100), hard: Some(200) },
        Rlimit { resource: Resource::Core, soft: Some(0), hard: None },
    ];
    assert_eq!(run(sandbox).unwrap().stdout, "100\n200\n");
    let mut sandbox = image.sandbox(["true"]);
    sandbox.rlimits = vec![Rlimit { resource: Resource::Nofile, soft: None, hard: None }];
    let mut container = sandbox.start().unwrap();
    assert!(container.wait().unwrap().success());
    assert_eq!(container.notes().len(), 1, "{:?}", container.notes());
}

#[test]
fn runtime_r17_process_1_is_the_program_or_a_small_init() {
    let image = image!();
    assert_eq!(run(image.sandbox(["cat", "/proc/1/comm"])).unwrap().stdout, "cat\n");
    let mut sandbox = image.sandbox(["sh", "-c", "cat /proc/1/comm; echo $$; exit 7"]);
    sandbox.init = true;
    let outcome = run(sandbox).unwrap();
    assert_eq!((outcome.stdout.as_str(), outcome.exit.code), ("init\n2\n", Some(7)));
}

#[test]
fn init_shows_nothing_of_the_caller() {
    let image = image!();
    let script = "cat /proc/1/cmdline | wc -c; tr '\\0' ' ' < /proc/1/cmdline | wc -w; cat /proc/1/environ /proc/1/maps; ls /proc/1/fd";
    let mut sandbox = image.sandbox(["sh", "-c", script]);
    sandbox.init = true;
    let outcome = run(sandbox).unwrap();
    assert_eq!(outcome.stdout.lines().nth(1), Some("0"), "{outcome:?}");
    assert_eq!(outcome.stdout.lines().count(), 2, "{outcome:?}");
    assert_eq!(outcome.stderr.matches("Permission denied").count(), 2, "{outcome:?}");
}

#[test]
fn runtime_r18_init_reaps_orphans() {
    let image = image!();
    let mut sandbox = image.sandbox([
        "sh",
        "-c",
        "(sleep 0.1 & sleep 0.2 &); sleep 0.6; grep -l 'State:.Z' /proc/[0-9]*/status; echo end",
    ]);
    sandbox.init = true;
    assert_eq!(run(sandbox).unwrap().stdout, "end\n");
}

#[test]
fn init_passes_signals_on_and_keeps_their_code() {
    let image = image!();
    let mut sandbox = image.sandbox(["sleep", "100"]);
    sandbox.init = true;
    let container = sandbox.start().unwrap();
    container.kill(Signal::TERM).unwrap();
    let outcome = finish(container).unwrap();
    assert_eq!(outcome.exit.status_code(), 143);
}

#[test]
fn init_tells_about_a_missing_program() {
    let image = image!();
    let mut sandbox = image.sandbox(["nosuch"]);
    sandbox.init = true;
    assert_eq!(run(sandbox).unwrap_err().exit_code(), 127);
}

#[test]
fn runtime_r21_a_trap_sees_the_signal() {
    let image = image!();
    let container =
        image.sandbox(["sh", "-c", "trap 'echo caught; exit 3' USR1; echo ready; while :; do sleep 0.05; done"]);
    let mut container = container.start().unwrap();
    let mut out = std::io::BufReader::new(container.take_stdout().unwrap());
    let mut line = String::new();
    std::io::BufRead::read_line(&mut out, &mut line).unwrap();
    container.kill(Signal::USR1).unwrap();
    std::io::BufRead::read_line(&mut out, &mut line).unwrap();
    assert_eq!((line.as_str(), container.wait().unwrap().code), ("ready\ncaught\n", Some(3)));
}

#[test]
fn two_hundred_runs_leave_nothing_behind() {
    let image = image!();
    // Tests run as threads of one process, so leaks show as growth beyond what the others hold at the moment.
    let count = |path: &str| fs::read_dir(path).unwrap().count();
    let mounts = || fs::read_to_string("/proc/self/mountinfo").unwrap().lines().count();
    let (fds, mounted) = (count("/proc/self/fd"), mounts());
    for _ in 0..200 {
        let mut sandbox = image.sandbox(["true"]);
        sandbox.stdio = Stdio::Null;
        assert!(sandbox.start().unwrap().wait().unwrap().success());
    }
    assert_eq!(mounts(), mounted);
    assert!(count("/proc/self/fd") < fds + 150, "descriptors leak");
    assert!(image.upper().is_empty(), "{:?}", image.upper());
}

#[test]
fn usage_is_measured() {
    let image = image!();
    let usage = image.shell("i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done").exit.usage;
    assert!(
        usage.max_resident > 100_000 && usage.user_time + usage.system_time > Duration::from_millis(1),
        "{usage:?}"
    );
}
