//! Options of the log driver: what each line gets besides, and files that are packed.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use testdata::{BASE, Dunnage, until};

fn dunnage() -> Option<Dunnage> {
    Dunnage::with_base(env!("CARGO_BIN_EXE_dunnage"), &BASE)
}

fn ended(dunnage: &Dunnage, name: &str) {
    until("it has ended", || dunnage.run(["inspect", "-f", "{{.State.Status}}", name]).stdout == "exited\n");
}

#[test]
fn lines_have_a_tag_labels_and_variables() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.build("FROM base\nLABEL stage=test\nENV OF_IMAGE=yes\n");
    let options = [
        "tag={{.ImageName}}/{{.Name}}/{{.ID}}",
        "labels=who,absent",
        "labels-regex=^sta",
        "env=OWN",
        "env-regex=^OF_",
        "max-size=1m",
    ];
    let options = options.iter().flat_map(|option| ["--log-opt", option]);
    let flags = ["run", "-d", "--name", "own", "--network", "none", "-l", "who=a b&c", "-e", "OWN=1"];
    let command = ["app", "sh", "-c", "echo out; echo err >&2"];
    let id = dunnage.run(flags.into_iter().chain(options).chain(command)).ok().stdout;
    ended(&dunnage, "own");
    let details = dunnage.run(["logs", "--details", "own"]).ok();
    let attributes = format!("OF_IMAGE=yes,OWN=1,stage=test,tag=app%2Fown%2F{},who=a+b%26c ", &id[..12]);
    assert_eq!((details.stdout, details.stderr), (format!("{attributes}out\n"), format!("{attributes}err\n")));
    let timed = dunnage.run(["logs", "--details", "-t", "own"]).ok().stdout;
    assert!(timed.ends_with(&format!("Z {attributes}out\n")), "{timed}");
    assert_eq!(dunnage.run(["logs", "own"]).ok().stdout, "out\n");
    // In the file it is where docker has it.
    let path = dunnage.run(["inspect", "-f", "{{.LogPath}}", "own"]).ok().stdout;
    let line: serde_json::Value =
        serde_json::from_str(std::fs::read_to_string(path.trim()).unwrap().lines().next().unwrap()).unwrap();
    assert_eq!(line["attrs"]["tag"], format!("app/own/{}", &id[..12]));
    assert_eq!(line.as_object().unwrap().keys().collect::<Vec<_>>(), ["log", "stream", "attrs", "time"]);
    let config = dunnage.run(["inspect", "-f", "{{json .HostConfig.LogConfig.Config}}", "own"]).ok().stdout;
    assert!(config.contains(r#""labels":"who,absent""#) && config.contains(r#""env-regex":"^OF_""#), "{config}");
    // Without any of it there is a space alone, as docker has it.
    dunnage.run(["run", "-d", "--name", "bare", "--network", "none", "base", "echo", "out"]).ok();
    ended(&dunnage, "bare");
    assert_eq!(dunnage.run(["logs", "--details", "bare"]).ok().stdout, " out\n");
}

#[test]
fn old_files_are_packed_and_read_all_the_same() {
    let Some(dunnage) = dunnage() else { return };
    let script = "for n in $(seq 3000); do echo line $n; done";
    let options = ["--log-opt", "max-size=40k", "--log-opt", "max-file=9", "--log-opt", "compress=true"];
    let flags = ["run", "-d", "--name", "own", "--network", "none"];
    dunnage.run([&flags[..], &options, &["base", "sh", "-c", script]].concat()).ok();
    ended(&dunnage, "own");
    let wanted: String = (1..=3000).map(|number| format!("line {number}\n")).collect();
    assert!(dunnage.run(["logs", "own"]).ok().stdout == wanted, "lines are missing, doubled or out of order");
    assert_eq!(dunnage.run(["logs", "-n", "1", "own"]).ok().stdout, "line 3000\n");
    let path = dunnage.run(["inspect", "-f", "{{.LogPath}}", "own"]).ok().stdout;
    let directory = std::path::Path::new(path.trim()).parent().unwrap();
    let names: Vec<String> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("log.json."))
        .collect();
    assert!(names.len() >= 4 && names.iter().all(|name| name.ends_with(".gz")), "{names:?}");
}

#[test]
fn options_that_cannot_be_are_refused() {
    let Some(dunnage) = dunnage() else { return };
    let refused = |flags: &[&str], word: &str| {
        dunnage.run([&["run", "--rm"], flags, &["base", "true"]].concat()).fails(125, word);
    };
    refused(&["--log-opt", "tag={{.Nothing}}"], "{{.Nothing}}");
    refused(&["--log-opt", "tag={{.Name"], "not closed");
    refused(&["--log-opt", "labels-regex=("], "no pattern");
    refused(&["--log-opt", "compress=perhaps"], "compress=true|false");
    refused(&["--log-opt", "compress=true", "--log-opt", "max-file=1"], "max-file of 2");
    refused(&["--log-driver", "local", "--log-opt", "tag=x"], "json-file");
    refused(&["--log-opt", "mode=non-blocking"], "options are");
    assert_eq!(dunnage.run(["ps", "-aq"]).ok().stdout, "");
}
