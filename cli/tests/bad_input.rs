//! Bad input: each flag's bad value, an image, port, device, controller or file of users that is not as it must be. One
//! clear sentence, docker's exit code, and nothing left behind.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use testdata::{BASE, Dunnage, Host, Machine};

/// A flag of `run`, a value that it cannot have, and what the sentence must say.
const FLAGS: [(&str, &str, &str); 65] = [
    ("--add-host", "x", "NAME:ADDRESS"),
    ("--add-host", "x:nowhere", "nowhere"),
    ("--annotation", "x", "NAME=VALUE"),
    ("--blkio-weight", "5", "10..=1000"),
    ("--blkio-weight-device", "/dev/sda:1", "10 to 1000"),
    ("--cap-add", "BOGUS", "BOGUS"),
    ("--cap-drop", "BOGUS", "BOGUS"),
    ("--cgroup-parent", "../x", ".."),
    ("--cgroupns", "x", "private or host"),
    ("--cidfile", "/no/such/dir/id", "/no/such/dir/id"),
    ("--cpu-period", "5", "1000..=1000000"),
    ("--cpu-quota", "x", "x"),
    ("--cpu-shares", "x", "x"),
    ("--cpus", "0", "0.01"),
    ("--cpuset-cpus", "3-1", "0-3,7"),
    ("--cpuset-mems", "x", "0-3,7"),
    ("--detach-keys", "ctrl-", "ctrl-p,ctrl-q"),
    ("--device", "/dev/no-such", "/dev/no-such"),
    ("--device", "fuse", "absolute"),
    ("--device-cgroup-rule", "x", "x"),
    ("--device-read-bps", "/dev/null:1", "no disk"),
    ("--dns", "x", "x"),
    ("--dns-search", "a b", "one word"),
    ("--domainname", "a b", "host name"),
    ("--entrypoint", "/no/such", "/no/such"),
    ("--env-file", "/no/such", "/no/such"),
    ("--expose", "x", "x"),
    ("--gpus", "all", "no specification (CDI)"),
    ("--gpus", "2", "which GPUs"),
    ("--device", "v.com/c=nothing", "v.com/c=nothing"),
    ("--group-add", "nogroup-here", "nogroup-here"),
    ("--health-interval", "x", "x"),
    ("--health-retries", "x", "x"),
    ("--hostname", "a b", "host name"),
    ("--ip", "x", "x"),
    ("--ipc", "x", "container:NAME"),
    ("--ipc", "container:nobody", "nobody"),
    ("--label-file", "/no/such", "/no/such"),
    ("--log-driver", "syslog", "json-file"),
    ("--log-opt", "x=1", "max-size"),
    ("--mac-address", "x", "02:42"),
    ("--memory", "1m", "6MB"),
    ("--memory", "x", "x"),
    ("--memory-swap", "1g", "--memory"),
    ("--memory-swappiness", "101", "0..=100"),
    ("--mount", "type=npipe,dst=/m", "npipe"),
    ("--name", "a", "names begin"),
    ("--network", "container:nobody", "nobody"),
    ("--oom-score-adj", "2000", "-1000..=1000"),
    ("--pid", "x", "container:NAME"),
    ("--pids-limit", "x", "x"),
    ("--platform", "windows/amd64", "windows"),
    ("--publish", "70000", "70000"),
    ("--pull", "sometimes", "sometimes"),
    ("--restart", "sometimes", "policies"),
    ("--security-opt", "x", "no-new-privileges"),
    ("--shm-size", "x", "x"),
    ("--stop-signal", "NOSIG", "NOSIG"),
    ("--stop-timeout", "soon", "seconds"),
    ("--sysctl", "kernel.panic=1", "kernel.panic"),
    ("--tmpfs", "relative", "absolute"),
    ("--ulimit", "files=1", "files"),
    ("--user", "nobody-here", "nobody-here"),
    ("--uts", "x", "container:NAME"),
    ("--volumes-from", "nobody", "nobody"),
];

/// One sentence: nothing but what an unknown word's help adds.
#[track_caller]
fn is_one_sentence(stderr: &str, what: &str) {
    let lines: Vec<&str> = stderr.lines().filter(|line| !line.trim().is_empty()).collect();
    let rest = lines.iter().skip(1).all(|line| line.contains("--help") || line.contains("possible values"));
    assert!(lines.first().is_some_and(|line| line.starts_with("error: ")) && rest, "{what}:\n{stderr}");
    assert!(!stderr.contains("panicked") && !stderr.contains("defect"), "{what}:\n{stderr}");
}

#[test]
fn the_bad_value_of_every_flag_is_one_sentence_and_leaves_nothing() {
    let Some(dunnage) = Dunnage::with_base(env!("CARGO_BIN_EXE_dunnage"), &BASE) else { return };
    let before = Host::look(&dunnage.root());
    for (flag, value, word) in FLAGS {
        let what = format!("{flag} {value}");
        let argument = format!("{flag}={value}");
        let ran = dunnage.run(["run", "--rm", &argument, "base", "true"]);
        let code = if flag == "--entrypoint" { 127 } else { 125 };
        assert_eq!(ran.code, code, "{what}: {ran:?}");
        assert!(ran.stderr.contains(word), "{what}: no {word:?} in {}", ran.stderr);
        assert_eq!(ran.stdout, "", "{what}");
        is_one_sentence(&ran.stderr, &what);
        assert_eq!(dunnage.run(["ps", "-aq"]).ok().stdout, "", "{what} left a container");
    }
    assert_eq!(dunnage.run(["volume", "ls", "-q"]).ok().stdout, "");
    assert!(dunnage.leftovers().is_empty(), "{:?}", dunnage.leftovers());
    before.expect(&dunnage.root());
}

#[test]
fn images_files_and_programs_that_are_not_as_they_must_be() {
    let Some(dunnage) = Dunnage::with_base(env!("CARGO_BIN_EXE_dunnage"), &BASE) else { return };
    let bad = |args: &[&str], code: i32, word: &str| {
        let ran = dunnage.run([&["run", "--rm"], args].concat()).fails(code, word);
        is_one_sentence(&ran.stderr, &format!("{args:?}"));
    };
    bad(&["--pull", "never", "nowhere", "true"], 125, "`nowhere`");
    bad(&["--pull", "never", "Upper/Case", "true"], 125, "Upper/Case");
    bad(&["base", "/etc/passwd"], 126, "/etc/passwd");
    bad(&["base", "/etc"], 126, "/etc");
    bad(&["-w", "relative", "base", "true"], 125, "relative");
    bad(&["-w", "/etc/passwd", "base", "true"], 125, "etc/passwd");
    // Files of users that no program would write.
    for (content, user, word) in [
        ("printf 'root:x:0\\n\\n:::\\nx' > /etc/passwd", "web", "web"),
        ("head -c 2000000 /dev/zero > /etc/passwd", "web", "passwd"),
        ("rm /etc/passwd && mkdir /etc/passwd", "web", "passwd"),
        ("rm /etc/passwd && mkfifo /etc/passwd", "web", "passwd"),
        ("rm /etc/passwd && ln -s /etc/passwd /etc/passwd", "web", "web"),
        ("printf 'web:x:99999999999:0::/:\\n' > /etc/passwd", "web", "web"),
    ] {
        dunnage.build(&format!("FROM base\nRUN {content}\n"));
        bad(&["-u", user, "app", "true"], 125, word);
    }
    // Who needs none of it is not kept from running.
    dunnage.build("FROM base\nRUN printf '\\\\377:x:0:0\\nroot' > /etc/passwd\n");
    dunnage.run(["run", "--rm", "-u", "5:6", "app", "id", "-u"]).ok();
    dunnage.run(["run", "--rm", "app", "true"]).ok();
    assert_eq!(dunnage.run(["ps", "-aq"]).ok().stdout, "");
    assert!(dunnage.leftovers().is_empty(), "{:?}", dunnage.leftovers());
}

#[test]
fn a_busy_port_names_its_holder_and_a_controller_that_is_not_there_is_told() {
    let Some(machine) = Machine::new(env!("CARGO_BIN_EXE_dunnage")) else { return };
    let before = machine.look();
    machine.run(&["run", "-d", "--name", "own", "-p", "8080:80", "base", "sleep", "600"]).ok();
    let during = machine.look();
    let busy = machine.run(&["run", "--rm", "-p", "8080:80", "base", "true"]).fails(125, "8080");
    is_one_sentence(&busy.stderr, "a busy port");
    assert!(busy.stderr.contains("dunnage (pid "), "{}", busy.stderr);
    assert_eq!(machine.look(), during);
    machine.run(&["rm", "-f", "own"]).ok();
    machine.is_as_it_was(&before);
    // A machine without the controller: it is taken away in a mount namespace of the command's own.
    let usual = machine.dunnage.command(["run", "--rm", "--memory", "64m", "base", "true"]);
    let script = "umount /sys/fs/cgroup/memory 2> /dev/null || umount -R /sys/fs/cgroup; exec \"$@\"";
    let mut command = std::process::Command::new("unshare");
    command.args(["--mount", "sh", "-c", script, "sh"]).arg(usual.get_program()).args(usual.get_args());
    command.current_dir(usual.get_current_dir().unwrap());
    command.envs(usual.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let ran: testdata::Ran = command.output().unwrap().into();
    is_one_sentence(&ran.stderr, "no controller");
    ran.fails(125, "memory");
    assert_eq!(machine.run(&["ps", "-aq"]).ok().stdout, "");
}
