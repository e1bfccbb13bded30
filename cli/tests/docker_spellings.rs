//! Commands of docker in their other spellings, and flags of commands that no other test has.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use serde_json::Value;
use testdata::{BASE, Dunnage};

fn dunnage() -> Option<Dunnage> {
    Dunnage::with_base(env!("CARGO_BIN_EXE_dunnage"), &BASE)
}

#[test]
fn buildx_builds_as_build_does() {
    let Some(dunnage) = dunnage() else { return };
    let plain = dunnage.build("FROM base\nARG WHO=nobody\nRUN echo $WHO > /who\nCMD cat /who\n");
    // The very same image, out of the cache of the other.
    for words in [&["buildx", "build"][..], &["buildx", "b"], &["builder", "build"]] {
        let all = [words, &["--load", "--progress", "plain", "-t", "again", "context"]].concat();
        let ran = dunnage.run(&all).ok();
        assert!(ran.stderr.contains("1 of 1 steps cached"), "{words:?}: {}", ran.stderr);
        assert_eq!(dunnage.image_id("again"), dunnage.image_id("app"), "{words:?}");
    }
    let flags = ["--build-arg", "WHO=me", "--output", "type=docker", "-t", "mine"];
    let ran = dunnage.run([&["buildx", "build", "-q"], &flags[..], &["context"]].concat()).ok();
    assert_ne!(ran.stdout.trim(), plain);
    assert_eq!(dunnage.run(["run", "--rm", "--network", "none", "mine"]).ok().stdout, "me\n");
    dunnage.write("docker-bake.json", r#"{"target": {"default": {"context": "context", "tags": ["baked"]}}}"#);
    dunnage.run(["buildx", "bake"]).ok();
    assert_eq!(dunnage.image_id("baked"), dunnage.image_id("app"));
    // Exit codes and sentences are those of `build`, too.
    dunnage.run(["buildx", "build", "nowhere"]).fails(1, "nowhere");
    dunnage.run(["buildx", "build", "--memory", "1g", "context"]).fails(2, "--memory is not supported by this version");
    dunnage.write("context/Dockerfile", "FROM base\nRUN exit 3\n");
    dunnage.run(["buildx", "build", "context"]).fails(1, "Dockerfile:2");
    dunnage.run(["buildx", "create", "--use"]).fails(2, "nothing has to be set up");
    dunnage.run(["buildx", "inspect", "--bootstrap"]).fails(2, "`dunnage info` tells what builds here");
    dunnage.run(["buildx", "history", "ls"]).fails(2, "`dunnage builds` has the builds that were made");
}

#[test]
fn system_events_are_those_of_events() {
    let Some(dunnage) = dunnage() else { return };
    let follow = [
        "system",
        "events",
        "--filter",
        "event=die",
        "--filter",
        "event=destroy",
        "--format",
        "{{.Action}} {{.Actor.Attributes.name}}",
    ];
    let mut follower = dunnage.command(follow).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    // It may come late to the first of them, and hears every later one.
    let heard = std::thread::spawn(move || lines.next().unwrap().unwrap());
    for _ in 0..200 {
        dunnage.run(["run", "-d", "--name", "own", "--network", "none", "base", "true"]).ok();
        dunnage.run(["wait", "own"]).ok();
        dunnage.run(["rm", "own"]).ok();
        if heard.is_finished() {
            break;
        }
    }
    let first = heard.join().unwrap();
    follower.kill().unwrap();
    follower.wait().unwrap();
    assert!(["die own", "destroy own"].contains(&first.as_str()), "{first}");
    let window = ["--since", "1h", "--until", "0s", "--format", "json"];
    let by = |words: &[&str]| dunnage.run([words, &window].concat()).ok().stdout;
    let told = by(&["system", "events"]);
    assert_eq!(told, by(&["events"]));
    let actions: Vec<String> = told
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["Action"].as_str().unwrap().to_owned())
        .take(4)
        .collect();
    assert_eq!(actions, ["create", "start", "die", "destroy"]);
    dunnage.run(["system", "events", "--filter", "color=red", "--until", "0s"]).fails(2, "color");
}

#[test]
fn an_imported_image_is_for_the_platform_that_was_said() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.run(["create", "--name", "one", "--network", "none", "base", "true"]).ok();
    dunnage.run(["export", "-o", "root.tar", "one"]).ok();
    let platform = |name: &str| {
        dunnage.run(["inspect", "-f", "{{.Os}}/{{.Architecture}}{{with .Variant}}/{{.}}{{end}}", name]).ok().stdout
    };
    let (own, foreign) = if cfg!(target_arch = "aarch64") { ("arm64", "amd64") } else { ("amd64", "arm64") };
    dunnage.run(["import", "root.tar", "usual"]).ok();
    assert_eq!(platform("usual"), format!("linux/{own}\n"));
    dunnage.run(["import", "--platform", &format!("linux/{foreign}"), "root.tar", "foreign"]).ok();
    assert_eq!(platform("foreign"), format!("linux/{foreign}\n"));
    dunnage.run(["import", "--platform", "linux/arm/v7", "root.tar", "small"]).ok();
    assert_eq!(platform("small"), "linux/arm/v7\n");
    // The files are the same layer, the images are not.
    let layers = |name: &str| dunnage.run(["inspect", "-f", "{{json .RootFS.Layers}}", name]).ok().stdout;
    assert_eq!(layers("usual"), layers("foreign"));
    assert_ne!(dunnage.image_id("usual"), dunnage.image_id("foreign"));
    // What is asked for at `run` is compared with it.
    let run = |name: &str, platform: &str| {
        dunnage.run([
            "run",
            "--rm",
            "--network",
            "none",
            "--pull",
            "never",
            "--platform",
            platform,
            name,
            "echo",
            "ran",
        ])
    };
    assert_eq!(run("usual", &format!("linux/{own}")).ok().stdout, "ran\n");
    run("foreign", &format!("linux/{own}")).fails(125, own);
    dunnage.run(["import", "--platform", "windows/amd64", "root.tar", "other"]).fails(2, "windows");
    dunnage.run(["import", "--platform", "linux/", "root.tar", "other"]).fails_with(2);
    assert_eq!(dunnage.run(["images", "-q", "other"]).ok().stdout, "");
}
