//! Containers between commands: made, started, stopped, killed, restarted, renamed, removed, listed.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::time::{Duration, Instant};

use serde_json::Value;
use testdata::{BASE, Dunnage, until};

fn dunnage() -> Option<Dunnage> {
    Dunnage::with_base(env!("CARGO_BIN_EXE_dunnage"), &BASE)
}

fn state(dunnage: &Dunnage, name: &str) -> String {
    dunnage.run(["inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", name]).ok().stdout.trim().to_owned()
}

fn field(dunnage: &Dunnage, name: &str, field: &str) -> Value {
    let text = dunnage.run(["container", "inspect", name]).ok().stdout;
    let document: Value = serde_json::from_str(&text).unwrap();
    document[0].pointer(field).unwrap_or(&Value::Null).clone()
}

#[test]
fn runtime_r01_nothing_is_left_in_ps() {
    let Some(dunnage) = dunnage() else { return };
    assert_eq!(dunnage.run(["run", "--rm", "base", "echo", "hi"]).ok().stdout, "hi\n");
    assert_eq!(dunnage.run(["ps", "-aq"]).ok().stdout, "");
    // Without --rm it stays, with its exit code and its output.
    assert_eq!(dunnage.run(["run", "--name", "kept", "base", "sh", "-c", "echo out; exit 3"]).code, 3);
    assert_eq!(state(&dunnage, "kept"), "exited 3");
    assert_eq!(dunnage.run(["logs", "kept"]).ok().stdout, "out\n");
    assert_eq!(dunnage.run(["ps", "-q"]).ok().stdout, "");
    dunnage.run(["rm", "kept"]).ok();
    dunnage.run(["rm", "kept"]).fails(1, "no container `kept`");
    dunnage.run(["rm", "-f", "kept"]).ok();
}

#[test]
fn a_detached_container_lives_from_command_to_command() {
    let Some(dunnage) = dunnage() else { return };
    let script =
        "echo $((1 + $(cat /n 2>/dev/null || echo 0))) > /n; cat /n; trap 'exit 0' TERM; while :; do sleep 0.1; done";
    let id = dunnage.run(["run", "-d", "--name", "web", "base", "sh", "-c", script]).ok().stdout;
    assert_eq!(id.trim().len(), 64);
    assert_eq!(state(&dunnage, "web"), "running 0");
    assert_eq!(state(&dunnage, &id[..10]), "running 0");
    until("it wrote", || dunnage.run(["logs", "web"]).stdout == "1\n");
    dunnage.run(["rm", "web"]).fails(1, "running");
    dunnage.run(["run", "-d", "--name", "web", "base", "true"]).fails(125, "in use");
    dunnage.run(["restart", "-t", "5", "web"]).ok();
    until("its files are still there", || dunnage.run(["logs", "web"]).stdout == "1\n2\n");
    dunnage.run(["stop", "web"]).ok();
    assert_eq!(state(&dunnage, "web"), "exited 0");
    dunnage.run(["stop", "web"]).ok();
    dunnage.run(["start", "web"]).ok();
    dunnage.run(["start", "web"]).ok();
    assert_eq!(state(&dunnage, "web"), "running 0");
    assert!(dunnage.run(["ps", "--format", "{{.Names}} {{.Status}}"]).ok().stdout.starts_with("web Up "));
    dunnage.run(["kill", "web"]).ok();
    assert_eq!(state(&dunnage, "web"), "exited 137");
    dunnage.run(["rename", "web", "other"]).ok();
    dunnage.run(["start", "web"]).fails(1, "no container `web`");
    dunnage.run(["start", "other"]).ok();
    dunnage.run(["rm", "-f", "other"]).ok();
    assert_eq!(dunnage.run(["ps", "-aq"]).ok().stdout, "");
    assert!(dunnage.leftovers().is_empty());
}

#[test]
fn runtime_r20_stop_sends_the_signal_of_the_image_and_ends_what_stays() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.build("FROM base\nSTOPSIGNAL USR1\nCMD trap 'echo usr1; exit 5' USR1; trap 'echo term' TERM; echo up; while :; do sleep 0.1; done\n");
    dunnage.run(["run", "-d", "--name", "polite", "app"]).ok();
    until("it is up", || dunnage.run(["logs", "polite"]).stdout == "up\n");
    dunnage.run(["stop", "polite"]).ok();
    assert_eq!(state(&dunnage, "polite"), "exited 5");
    assert_eq!(dunnage.run(["logs", "polite"]).ok().stdout, "up\nusr1\n");
    // Of process 1 the kernel takes no signal that it does not handle.
    dunnage.run(["run", "-d", "--name", "deaf", "base", "sleep", "600"]).ok();
    let began = Instant::now();
    dunnage.run(["stop", "-t", "1", "deaf"]).ok();
    assert!(began.elapsed() >= Duration::from_secs(1));
    assert_eq!(state(&dunnage, "deaf"), "exited 137");
    dunnage.run(["run", "-d", "--name", "own", "--stop-signal", "INT", "--stop-timeout", "0", "app"]).ok();
    dunnage.run(["stop", "own"]).ok();
    assert_eq!(state(&dunnage, "own"), "exited 137");
    assert_eq!(field(&dunnage, "own", "/Config/StopSignal"), "SIGINT");
    // Below zero is for ever.
    let script = "trap 'sleep 0.3; exit 7' TERM; echo up; while :; do sleep 0.05; done";
    let flags = ["--name", "slow", "--stop-timeout", "-2", "base", "sh", "-c", script];
    dunnage.run([&["run", "-d"][..], &flags].concat()).ok();
    until("it is up", || dunnage.run(["logs", "slow"]).stdout == "up\n");
    dunnage.run(["restart", "-t", "-1", "slow"]).ok();
    until("it is up again", || dunnage.run(["logs", "slow"]).stdout == "up\nup\n");
    dunnage.run(["stop", "-t", "-5", "slow"]).ok();
    assert_eq!(state(&dunnage, "slow"), "exited 7");
}

#[test]
fn runtime_r21_signals_have_names_and_numbers() {
    let Some(dunnage) = dunnage() else { return };
    let script = "n=0; trap 'n=$((n+1)); echo got $n' USR1; echo up; while :; do sleep 0.05; done";
    dunnage.run(["run", "-d", "--name", "ear", "base", "sh", "-c", script]).ok();
    until("it is up", || dunnage.run(["logs", "ear"]).stdout == "up\n");
    for (number, signal) in ["USR1", "10", "SIGUSR1"].into_iter().enumerate() {
        dunnage.run(["kill", "-s", signal, "ear"]).ok();
        until(signal, || dunnage.run(["logs", "ear"]).stdout.ends_with(&format!("got {}\n", number + 1)));
    }
    dunnage.run(["kill", "-s", "NOPE", "ear"]).fails(2, "no such signal");
}

#[test]
fn wait_gives_the_code_of_one_that_runs_and_of_one_that_ended() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.run(["run", "-d", "--name", "short", "base", "sh", "-c", "sleep 0.3; exit 9"]).ok();
    assert_eq!(dunnage.run(["wait", "short"]).ok().stdout, "9\n");
    assert_eq!(dunnage.run(["wait", "short"]).ok().stdout, "9\n");
    dunnage.run(["wait", "nosuch"]).fails(1, "nosuch");
}

#[test]
fn create_and_start_attached() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.run(["create", "--name", "made", "base", "sh", "-c", "echo out; echo err >&2; exit 4"]).ok();
    assert_eq!(state(&dunnage, "made"), "created 0");
    dunnage.run(["exec", "made", "true"]).fails(125, "not running");
    let ran = dunnage.run(["start", "-a", "made"]);
    assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (4, "out\n", "err\n"));
    let made = dunnage.run(["create", "-i", "--name", "reader", "base", "cat"]).ok();
    assert_eq!(made.stdout.trim().len(), 64);
    dunnage.run(["run", "-d", "--name", "bad", "base", "nosuch"]).fails(127, "nosuch");
    assert_eq!(state(&dunnage, "bad"), "created 127");
    dunnage.run(["run", "-d", "--rm", "base", "/etc/passwd"]).fails(126, "/etc/passwd");
    assert_eq!(dunnage.run(["ps", "-aq"]).ok().stdout.lines().count(), 3);
}

#[test]
fn a_detached_container_with_rm_goes_when_it_ends() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.run(["run", "-d", "--rm", "-v", "/anonymous", "--name", "gone", "base", "sleep", "0.2"]).ok();
    dunnage.run(["wait", "gone"]).ok();
    until("it is gone", || dunnage.run(["ps", "-aq"]).ok().stdout.is_empty());
    until("its volume too", || dunnage.run(["volume", "ls", "-q"]).ok().stdout.is_empty());
    assert!(dunnage.leftovers().is_empty());
}

#[test]
fn a_policy_starts_it_again_until_it_is_stopped() {
    let Some(dunnage) = dunnage() else { return };
    dunnage
        .run(["run", "-d", "--name", "twice", "--restart", "on-failure:2", "base", "sh", "-c", "echo run; exit 1"])
        .ok();
    // Nobody sees an end that is not the last.
    until("it gave up", || state(&dunnage, "twice") == "exited 1");
    assert_eq!(dunnage.run(["logs", "twice"]).stdout, "run\nrun\nrun\n");
    assert_eq!(field(&dunnage, "twice", "/RestartCount"), 2);
    dunnage.run(["run", "-d", "--name", "well", "--restart", "on-failure", "base", "true"]).ok();
    until("success is the end", || state(&dunnage, "well") == "exited 0");
    dunnage.run(["run", "-d", "--name", "ever", "--restart", "always", "base", "sh", "-c", "echo run; exit 0"]).ok();
    until("it runs on", || dunnage.run(["logs", "ever"]).stdout.lines().count() > 2);
    dunnage.run(["stop", "ever"]).ok();
    assert!(state(&dunnage, "ever").starts_with("exited"));
    let runs = dunnage.run(["logs", "ever"]).stdout;
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(dunnage.run(["logs", "ever"]).stdout, runs);
    dunnage.run(["run", "--restart", "sometimes", "base"]).fails(125, "policies");
}

#[test]
fn what_becomes_of_one_that_ended_is_told_when_it_is_decided() {
    let Some(dunnage) = dunnage() else { return };
    let seen = |name: &str, is_last: &dyn Fn(&str) -> bool| {
        let mut seen = std::collections::BTreeSet::new();
        until("it has ended for good", || {
            let line = dunnage.run(["inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", name]).stdout;
            seen.insert(line.trim().to_owned());
            is_last(line.trim())
        });
        seen
    };
    for (policy, last) in [("no", "exited 3"), ("on-failure:3", "exited 3")] {
        let command = ["base", "sh", "-c", "sleep 0.05; exit 3"];
        dunnage
            .run(
                [&["run", "-d", "--name", policy.split(':').next().unwrap(), "--restart", policy][..], &command]
                    .concat(),
            )
            .ok();
        let name = policy.split(':').next().unwrap();
        let seen = seen(name, &|line| line.starts_with("exited"));
        let known = ["running 0", "restarting 3", last];
        assert!(seen.iter().all(|line| known.contains(&line.as_str())), "{policy}: {seen:?}");
        assert_eq!(field(&dunnage, name, "/RestartCount"), if policy == "no" { 0 } else { 3 });
    }
    // One of --rm runs until it is gone.
    for _ in 0..10 {
        dunnage.run(["run", "-d", "--rm", "--name", "goes", "base", "sleep", "0.05"]).ok();
        let seen = seen("goes", &|line| line.is_empty());
        assert!(seen.iter().all(|line| line.is_empty() || line == "running 0"), "{seen:?}");
    }
    // The next command waits for the decision.
    dunnage.run(["run", "-d", "--name", "quick", "base", "true"]).ok();
    dunnage.run(["start", "quick"]).ok();
    until("it has ended", || state(&dunnage, "quick") == "exited 0");
    dunnage.run(["rm", "quick"]).ok();
    // A monitor that is gone decides nothing: its container went with it.
    dunnage.run(["run", "-d", "--name", "lost", "--restart", "always", "base", "sleep", "600"]).ok();
    let pid = dunnage.run(["inspect", "-f", "{{.State.Pid}}", "lost"]).ok().stdout;
    let monitor = std::process::Command::new("ps").args(["-o", "ppid=", "-p", pid.trim()]).output().unwrap().stdout;
    let monitor = String::from_utf8(monitor).unwrap();
    assert!(std::process::Command::new("kill").args(["-9", monitor.trim()]).status().unwrap().success());
    until("its end is told", || state(&dunnage, "lost") == "exited 137");
}

#[test]
fn runtime_x08_pause_and_what_may_be_done_meanwhile() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.run(["run", "-d", "--name", "still", "base", "sh", "-c", "while :; do echo tick; sleep 0.05; done"]).ok();
    dunnage.run(["pause", "still"]).ok();
    assert_eq!(state(&dunnage, "still"), "paused 0");
    assert!(dunnage.run(["ps", "--format", "{{.Status}}"]).ok().stdout.contains("(Paused)"));
    dunnage.run(["exec", "still", "true"]).fails(125, "paused");
    dunnage.run(["pause", "still"]).fails(1, "paused already");
    let ticks = || dunnage.run(["logs", "still"]).stdout.lines().count();
    // What it wrote before may still be on its way to the log.
    until("it stands still", || {
        let before = ticks();
        std::thread::sleep(Duration::from_millis(500));
        ticks() == before
    });
    let still = ticks();
    dunnage.run(["unpause", "still"]).ok();
    until("it goes on", || ticks() > still);
    dunnage.run(["unpause", "still"]).fails(1, "not paused");
    dunnage.run(["pause", "still"]).ok();
    dunnage.run(["kill", "still"]).ok();
    assert_eq!(state(&dunnage, "still"), "exited 137");
}

#[test]
fn runtime_x09_health_is_checked() {
    let Some(dunnage) = dunnage() else { return };
    let health = |name: &str| field(&dunnage, name, "/State/Health/Status");
    let quick = ["--health-interval", "50ms", "--health-retries", "3"];
    let run = |name: &str, command: &str, more: &[&str], image: &str| {
        let own = ["run", "-d", "--name", name, "--health-cmd", command];
        dunnage.run([&own[..], &quick, more, &[image, "sleep", "600"]].concat()).ok();
    };
    run("ill", "echo no; exit 1", &[], "base");
    until("ill", || health("ill") == "unhealthy");
    let log = field(&dunnage, "ill", "/State/Health/Log/0");
    assert_eq!((&log["ExitCode"], &log["Output"]), (&Value::from(1), &Value::from("no\n")));
    run("well", "test -e /bin/sh", &[], "base");
    until("well", || health("well") == "healthy");
    assert!(dunnage.run(["ps", "--format", "{{.Status}}", "-f", "health=healthy"]).ok().stdout.contains("(healthy)"));
    // Failures in the start period do not count; the first success ends it.
    run("slow", "test -e /ready", &["--health-start-period", "600s", "--health-start-interval", "50ms"], "base");
    until("it was checked", || field(&dunnage, "slow", "/State/Health/Log/4") != Value::Null);
    assert_eq!(health("slow"), "starting");
    dunnage.run(["exec", "slow", "touch", "/ready"]).ok();
    until("ready", || health("slow") == "healthy");
    // One that takes too long is killed.
    run("stuck", "sleep 600", &["--health-timeout", "200ms"], "base");
    until("stuck", || health("stuck") == "unhealthy");
    assert_eq!(field(&dunnage, "stuck", "/State/Health/Log/0/ExitCode"), -1);
    let processes = dunnage.run(["exec", "stuck", "ps"]).ok().stdout;
    assert!(processes.matches("sleep 600").count() <= 2, "{processes}");
    dunnage.run(["run", "-d", "--name", "none", "base", "sleep", "600"]).ok();
    assert_eq!(health("none"), Value::Null);
}

#[test]
fn runtime_x11_events_come_in_order() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.run(["run", "--rm", "--name", "seen", "--label", "a=b", "base", "sh", "-c", "exit 6"]).fails_with(6);
    let format = "{{.Action}} {{.Actor.Attributes.name}} {{.Actor.Attributes.exitCode}}";
    let out = dunnage.run(["events", "--since", "1h", "--until", "0s", "--format", format]).ok().stdout;
    let lines: Vec<&str> = out.lines().map(str::trim_end).collect();
    assert_eq!(lines, ["create seen <no value>", "start seen <no value>", "die seen 6", "destroy seen <no value>"]);
    let out =
        dunnage.run(["events", "--since", "1h", "--until", "0s", "-f", "event=die", "--format", "json"]).ok().stdout;
    let event: Value = serde_json::from_str(out.trim()).unwrap();
    assert_eq!((&event["Type"], &event["Actor"]["Attributes"]["a"]), (&Value::from("container"), &Value::from("b")));
    dunnage.run(["events", "-f", "color=red", "--until", "0s"]).fails(2, "color");
}

#[test]
fn ps_filters_and_formats() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.run(["create", "--name", "one", "--label", "tier=web", "base", "true"]).ok();
    dunnage.run(["run", "-d", "--name", "two", "base", "sleep", "600"]).ok();
    dunnage.run(["run", "--name", "three", "base", "sh", "-c", "exit 3"]).fails_with(3);
    let names = |flags: &[&str]| {
        let out = dunnage.run([&["ps", "-a", "--format", "{{.Names}}"][..], flags].concat()).ok().stdout;
        let mut names: Vec<String> = out.lines().map(str::to_owned).collect();
        names.sort();
        names.join(" ")
    };
    assert_eq!(names(&[]), "one three two");
    for (filter, found) in [
        ("status=running", "two"),
        ("status=created", "one"),
        ("exited=3", "three"),
        ("exited=0", ""),
        ("label=tier", "one"),
        ("label=tier=db", ""),
        ("name=t", "three two"),
        ("ancestor=base", "one three two"),
        ("before=two", "one"),
        ("since=two", "three"),
    ] {
        // Those made in one second come before and after each other.
        let got = names(&["-f", filter]);
        let exact = !filter.starts_with("before") && !filter.starts_with("since");
        assert!(if exact { got == found } else { got.contains(found) && !got.contains("two") }, "{filter}: {got}");
    }
    dunnage.run(["ps", "-f", "color=red"]).fails(2, "color");
    dunnage.run(["ps", "-f", "status=odd"]).fails(2, "odd");
    assert_eq!(dunnage.run(["ps", "-q", "-n", "2"]).ok().stdout.lines().count(), 2);
    assert_eq!(dunnage.run(["ps", "-lq", "--no-trunc"]).ok().stdout.trim().len(), 64);
    let json = dunnage.run(["ps", "--format", "json"]).ok().stdout;
    let row: Value = serde_json::from_str(json.trim()).unwrap();
    assert_eq!((&row["State"], &row["Names"]), (&Value::from("running"), &Value::from("two")));
    assert_eq!(dunnage.run(["container", "ls", "-q"]).ok().stdout.lines().count(), 1);
}

#[test]
fn a_killed_monitor_takes_its_container_along_and_the_state_is_told_right() {
    let Some(dunnage) = dunnage() else { return };
    let id = dunnage.run(["run", "-d", "--name", "orphan", "base", "sleep", "600"]).ok().stdout;
    let monitor = std::process::Command::new("pgrep").args(["-f", id.trim()]).output().unwrap();
    let monitor = String::from_utf8_lossy(&monitor.stdout).trim().to_owned();
    assert!(std::process::Command::new("kill").args(["-9", &monitor]).status().unwrap().success());
    until("it ended", || state(&dunnage, "orphan") == "exited 137");
    dunnage.run(["start", "orphan"]).ok();
    assert_eq!(state(&dunnage, "orphan"), "running 0");
}

#[test]
fn fifty_at_once() {
    let Some(dunnage) = dunnage() else { return };
    let children: Vec<_> = (0..50)
        .map(|_| {
            let mut command = dunnage.command(["run", "--rm", "base", "echo", "hi"]);
            command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap()
        })
        .collect();
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "hi\n", "{}", String::from_utf8_lossy(&output.stderr));
    }
    assert_eq!(dunnage.run(["ps", "-aq"]).ok().stdout, "");
    assert!(dunnage.leftovers().is_empty());
}
