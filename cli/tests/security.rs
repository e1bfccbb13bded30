//! Attacks from inside a container, and what the tool leaves open on the machine.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use testdata::{BASE, Dunnage, Machine, Need, Ran, User, archive::sha256, skipped, until};

fn dunnage() -> Option<Dunnage> {
    Dunnage::with_base(env!("CARGO_BIN_EXE_dunnage"), &BASE)
}

/// A copy of the program, so that an attack that succeeds hits nothing else.
fn copy_of_the_program(dunnage: &Dunnage) -> String {
    let path = dunnage.dir("own").join("dunnage");
    assert!(Command::new("cp").arg(env!("CARGO_BIN_EXE_dunnage")).arg(&path).status().unwrap().success());
    path.display().to_string()
}

#[test]
fn security_s01_a_container_that_runs_the_tools_own_file_cannot_write_it() {
    let Some(dunnage) = dunnage() else { return };
    let program = copy_of_the_program(&dunnage);
    let before = sha256(&std::fs::read(&program).unwrap());
    let own = |args: &[&str]| -> Ran {
        let usual = dunnage.command(args);
        let mut command = Command::new(&program);
        command.args(args).current_dir(usual.get_current_dir().unwrap());
        command.envs(usual.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.stdin(std::process::Stdio::null()).output().unwrap().into()
    };
    // It writes to the file of whatever process comes, as fast as it can.
    let writer = "ln -s /proc/self/exe /bin/link; printf '#!/proc/self/exe\\n' > /bin/script; chmod +x /bin/script
        touch /ready; while :; do for p in /proc/[0-9]*; do [ $p = /proc/1 ] || echo x > $p/exe; done; done 2>/dev/null";
    own(&["run", "-d", "--name", "writer", "base", "sh", "-c", writer]).ok();
    until("it writes", || own(&["exec", "writer", "test", "-e", "/ready"]).code == 0);
    for _ in 0..testdata::rounds("DUNNAGE_TEST_WRITES", 34) {
        for path in ["/proc/self/exe", "link", "script"] {
            own(&["exec", "writer", path, "version"]);
        }
    }
    own(&["rm", "-f", "writer"]).ok();
    assert_eq!(sha256(&std::fs::read(&program).unwrap()), before);
    // Nor later, by a descriptor: the file is read-only for whoever has it from there.
    dunnage.build("FROM base\nENTRYPOINT [\"/proc/self/exe\"]\nCMD [\"events\"]\n");
    own(&["run", "-d", "--name", "itself", "app"]).ok();
    let script = "exec 3< /proc/1/exe && echo x > /proc/self/fd/3";
    let ran = own(&["exec", "itself", "sh", "-c", script]);
    assert!(ran.code != 0 && ran.stderr.contains("Read-only file system"), "{ran:?}");
    own(&["rm", "-f", "itself"]).ok();
    assert_eq!(sha256(&std::fs::read(&program).unwrap()), before);
}

/// By the time the C library is prepared the program runs from a place where it cannot be written.
#[test]
fn security_s01_the_program_seals_itself_before_all_else() {
    if skipped(&[Need::Program("strace")]) || cfg!(not(target_arch = "x86_64")) {
        return;
    }
    let Some(dunnage) = dunnage() else { return };
    let calls = |args: &[&str]| {
        let log = dunnage.dir("").join("trace");
        let plain = dunnage.command(args);
        let mut strace = Command::new("strace");
        strace.args(["-qq", "-e", "trace=brk,execveat", "-o"]).arg(&log).arg(plain.get_program()).args(args);
        strace.env("DUNNAGE_ROOT", dunnage.root());
        let ran = Ran::from(strace.output().unwrap());
        let text = std::fs::read_to_string(&log).unwrap();
        let calls: Vec<String> = text.lines().map(|line| line.split('(').next().unwrap().to_owned()).collect();
        (ran, calls)
    };
    let (ran, sealed) = calls(&["run", "--rm", "--network", "none", "base", "echo", "a  b"]);
    assert_eq!(ran.ok().stdout, "a  b\n");
    assert_eq!((sealed[0].as_str(), sealed[1].as_str()), ("execveat", "brk"), "{sealed:?}");
    assert_eq!(sealed.iter().filter(|call| *call == "execveat").count(), 1, "{sealed:?}");
    for args in [&["build", "--help"][..], &["exec", "nobody", "true"], &["run"]] {
        assert_eq!(calls(args).1[0], "execveat", "{args:?}");
    }
    // Words that begin like these are others.
    for args in [&["version"][..], &["runs"], &["builds", "ls"], &["execute"], &["r"], &[""], &[]] {
        assert_eq!(calls(args).1[0], "brk", "{args:?}");
    }
    // The other way to name a command, and what cannot be sealed.
    let (_, late) = calls(&["--root", &dunnage.root().display().to_string(), "run", "--rm", "base", "true"]);
    assert_eq!((late[0].as_str(), late.contains(&"execveat".to_owned())), ("brk", true), "{late:?}");
}

#[test]
fn security_s10_control_groups_are_no_way_out() {
    let Some(dunnage) = dunnage() else { return };
    let script = "mkdir /c
        mount -t cgroup -o memory none /c && echo mounted; mount -t cgroup2 none /c && echo mounted
        unshare -Urm true && echo unshared
        for f in $(find /sys/fs/cgroup -name release_agent -o -name cgroup.procs -o -name notify_on_release); do
            echo found; echo 1 > $f && echo wrote $f; done
        mkdir /sys/fs/cgroup/mine && echo made; true";
    let ran = dunnage.run(["run", "--rm", "base", "sh", "-c", script]).ok();
    let said: std::collections::BTreeSet<&str> = ran.stdout.lines().collect();
    // Where nothing is asked of control groups there are none to be found.
    assert!(said.into_iter().all(|line| line == "found"), "{ran:?}");
    assert!(ran.stderr.contains("not permitted") || ran.stderr.contains("denied"), "{ran:?}");
}

#[test]
fn security_s15_a_monitor_hears_its_owner_alone() {
    let Some(dunnage) = dunnage() else { return };
    if skipped(&[Need::Program("setpriv"), Need::Program("perl")]) {
        return;
    }
    let id = dunnage.run(["run", "-d", "base", "sleep", "600"]).ok().stdout.trim().to_owned();
    let place = dunnage.root().join("containers").join(&id);
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&place), mode(&place.join("socket"))), (0o700, 0o600));
    let listening = std::fs::read_to_string("/proc/net/unix").unwrap();
    let abstracts: Vec<&str> =
        listening.lines().filter(|line| line.contains("@dunnage") || line.contains(&id)).collect();
    assert!(abstracts.iter().all(|line| !line.contains('@')), "{abstracts:?}");
    // Not even one who was given a way into the directory: the kernel says who it is.
    std::fs::set_permissions(&place, PermissionsExt::from_mode(0o755)).unwrap();
    std::fs::set_permissions(place.join("socket"), PermissionsExt::from_mode(0o666)).unwrap();
    let ask = "use Socket; $SIG{PIPE} = q(IGNORE); socket(S, PF_UNIX, SOCK_STREAM, 0); connect(S, sockaddr_un($ARGV[0])) or die qq(no way: $!);
        syswrite(S, pack(q(CVV), 5, 4, 9)); my $n = sysread(S, my $b, 1); print defined $n ? $n : q(reset);";
    // By a descriptor: the store is below directories that others may not enter.
    let line =
        "exec setpriv --reuid 12345 --regid 12345 --clear-groups perl -e \"$1\" /proc/self/fd/3/socket 3< \"$2\"";
    let others = Command::new("sh").args(["-c", line, "sh", ask]).arg(&place).output().unwrap();
    let said = String::from_utf8_lossy(&others.stdout).into_owned();
    assert!(said == "0" || said == "reset", "{others:?}");
    assert_eq!(dunnage.run(["inspect", "-f", "{{.State.Status}}", &id]).ok().stdout, "running\n");
    std::fs::set_permissions(&place, PermissionsExt::from_mode(0o700)).unwrap();
}

#[test]
fn security_s16_what_is_published_is_for_this_machine_unless_it_is_said() {
    let Some(machine) = Machine::new(env!("CARGO_BIN_EXE_dunnage")) else { return };
    let listening = |port: &str| {
        let text = machine.inside("busybox").args(["netstat", "-ltn"]).output().unwrap().stdout;
        let text = String::from_utf8(text).unwrap();
        let lines = text.lines().filter(|line| line.contains(&format!(":{port} ")));
        lines.map(|line| line.split_whitespace().nth(3).unwrap().to_owned()).collect::<Vec<_>>()
    };
    let quiet = machine.run(&["run", "-d", "--name", "own", "-p", "8080:80", "base", "sleep", "600"]).ok();
    assert_eq!((quiet.stderr.as_str(), listening("8080")), ("", vec!["127.0.0.1:8080".to_owned()]));
    let open = machine.run(&["run", "-d", "--name", "open", "-p", "0.0.0.0:8081:80", "base", "sleep", "600"]).ok();
    assert!(open.stderr.contains("port 8081 is open to other machines"), "{}", open.stderr);
    assert_eq!(listening("8081"), ["0.0.0.0:8081"]);
    let busy = machine.run(&["run", "--rm", "-p", "8080:80", "base", "true"]).fails(125, "8080");
    assert!(busy.stderr.contains("dunnage") && busy.stderr.contains("pid"), "{}", busy.stderr);
    machine.run(&["rm", "-f", "own", "open"]).ok();
}

#[test]
fn runtime_c08_a_call_that_nobody_knows_does_not_exist() {
    let Some(dunnage) = dunnage() else { return };
    if skipped(&[Need::Program("gcc")]) {
        return;
    }
    let source = "#include <errno.h>\n#include <stdio.h>\n#include <unistd.h>\n#include <sys/syscall.h>\n\
        int main(void) { syscall(1000); printf(\"%d\\n\", errno); return 0; }\n";
    let (from, to) = (dunnage.write("call.c", source), dunnage.dir("context").join("call"));
    assert!(Command::new("gcc").arg("-static").arg("-o").arg(&to).arg(from).status().unwrap().success());
    dunnage.build("FROM base\nCOPY call /call\n");
    assert_eq!(dunnage.run(["run", "--rm", "app", "/call"]).ok().stdout, "38\n");
}

#[test]
fn runtime_s06_a_helper_of_the_network_that_hangs_is_passed_over() {
    if skipped(&[Need::Root, Need::Program("useradd"), Need::Program("newuidmap"), Need::Program("setpriv")]) {
        return;
    }
    let user = User::new(env!("CARGO_BIN_EXE_dunnage"), testdata::Granted::Ranges);
    user.run(["bootstrap", "--from", "busybox", "base"]).ok();
    for name in ["pasta", "slirp4netns"] {
        user.write(&format!("bin/{name}"), "#!/bin/sh\nexec sleep 600\n");
        let hanging = user.home().join("bin").join(name);
        std::fs::set_permissions(&hanging, PermissionsExt::from_mode(0o755)).unwrap();
    }
    let path = format!("PATH={}:/usr/bin:/bin", user.home().join("bin").display());
    let mut command = user.command("env", [&path]);
    let ran: Ran =
        command.arg(user.home().join("dunnage")).args(["run", "--rm", "base", "echo", "ran"]).output().unwrap().into();
    let ran = ran.ok();
    // One notice at the most, whatever it goes on with.
    assert!(ran.stdout == "ran\n" && ran.stderr.lines().count() <= 1, "{ran:?}");
}
