//! What a container wrote and uses: its changes, an image and a tar of it, its processes, what it uses and may use.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::process::Command;

use serde_json::Value;
use testdata::{BASE, Dunnage, Ran};

fn dunnage() -> Option<Dunnage> {
    let dunnage = Dunnage::with_base(env!("CARGO_BIN_EXE_dunnage"), &BASE)?;
    dunnage.build("FROM base\nRUN mkdir /d && echo 1 > /d/old && echo 2 > /d/gone && echo 3 > /d/same && mkdir /e && touch /e/f\n");
    Some(dunnage)
}

const CHANGES: &str =
    "echo more >> /d/old; rm /d/gone; cat /d/same; mkdir /new; touch /new/file; rm -r /e; mkdir /e; ln -s x /l";

#[test]
fn runtime_x12_added_changed_and_deleted_files_are_told_and_nothing_of_the_runtimes_own() {
    let Some(dunnage) = dunnage() else { return };
    for driver in ["overlay", "copy"] {
        let name = format!("with-{driver}");
        dunnage.run(["run", "--storage-driver", driver, "--name", &name, "app", "sh", "-c", CHANGES]).ok();
        let changes = dunnage.run(["diff", &name]).ok().stdout;
        let expected = "C /d\nD /d/gone\nC /d/old\nC /e\nD /e/f\nA /l\nA /new\nA /new/file\n";
        assert_eq!(changes, expected, "{driver}");
    }
    dunnage.run(["create", "--name", "fresh", "app"]).ok();
    assert_eq!(dunnage.run(["diff", "fresh"]).ok().stdout, "");
    dunnage.run(["diff", "nobody"]).fails(1, "no container `nobody`");
}

/// Its tree lay one directory further below in stores of before.
#[test]
fn a_container_of_an_older_store_is_as_it_was() {
    let Some(dunnage) = dunnage() else { return };
    for driver in ["overlay", "copy"] {
        let name = format!("old-{driver}");
        let script = "test -e /once && exec cat /d/old; touch /once; echo more >> /d/old; rm /d/gone";
        let run = ["run", "--storage-driver", driver, "--name", &name, "--network", "none", "app", "sh", "-c", script];
        dunnage.run(run).ok();
        let id = dunnage.run(["inspect", "-f", "{{.Id}}", &name]).ok().stdout;
        let directory = dunnage.root().join("containers").join(id.trim());
        let parts: Vec<_> =
            ["fs", "work"].iter().map(|part| directory.join(part)).filter(|part| part.exists()).collect();
        assert!(!parts.is_empty(), "{driver}: {directory:?}");
        std::fs::create_dir(directory.join("tree")).unwrap();
        for part in &parts {
            std::fs::rename(part, directory.join("tree").join(part.file_name().unwrap())).unwrap();
        }
        let changes = "C /d\nD /d/gone\nC /d/old\nA /once\n";
        assert_eq!(dunnage.run(["diff", &name]).ok().stdout, changes, "{driver}");
        let mut start = dunnage.command(["start", "-a", &name]);
        let started: Ran = start.env("DUNNAGE_STORAGE_DRIVER", driver).output().unwrap().into();
        assert_eq!(started.ok().stdout, "1\nmore\n", "{driver}");
        assert!(parts.iter().all(|part| !part.exists()), "{driver}: it lies in two places");
        dunnage.run(["rm", &name]).ok();
        assert!(!directory.exists(), "{driver}");
    }
}

#[test]
fn a_container_becomes_an_image() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.run(["run", "--name", "one", "-e", "A=b", "app", "sh", "-c", CHANGES]).ok();
    let id = dunnage.run(["commit", "-a", "me", "-m", "by hand", "one", "made:1"]).ok().stdout;
    assert!(id.starts_with("sha256:"), "{id}");
    let script = "cat /d/old /d/same; ls / | tr '\\n' ' '; ls /e; test -e /d/gone || echo gone; echo $A";
    let seen = dunnage.run(["run", "--rm", "made:1", "sh", "-c", script]).ok().stdout;
    assert!(seen.starts_with("1\nmore\n3\n") && seen.contains(" new ") && seen.ends_with("gone\nb\n"), "{seen}");
    let inspected: Value = serde_json::from_str(&dunnage.run(["inspect", "made:1"]).ok().stdout).unwrap();
    assert_eq!(inspected[0]["Author"], "me");
    let history = dunnage.run(["history", "made:1", "--no-trunc"]).ok().stdout;
    assert!(history.contains("by hand"), "{history}");
    // The same container once more is the same layer, and the container is as it was.
    dunnage.run(["commit", "one", "made:2"]).ok();
    assert_eq!(dunnage.run(["start", "one"]).ok().stdout, "one\n");
    dunnage.run(["system", "check"]).ok();
}

#[test]
fn what_never_ran_in_a_store_that_nothing_ran_in_is_exported() {
    let Some(dunnage) = Dunnage::with_base(env!("CARGO_BIN_EXE_dunnage"), &BASE) else { return };
    dunnage.run(["create", "--name", "one", "base", "true"]).ok();
    dunnage.run(["export", "-o", "one.tar", "one"]).ok();
    let listed = Command::new("tar").arg("tf").arg(dunnage.dir(".").join("one.tar")).output().unwrap();
    assert!(String::from_utf8_lossy(&listed.stdout).lines().any(|line| line == "etc/passwd"), "{listed:?}");
}

#[test]
fn a_containers_root_is_written_as_a_tar() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.run(["run", "--name", "one", "app", "sh", "-c", CHANGES]).ok();
    dunnage.run(["export", "-o", "one.tar", "one"]).ok();
    let stream = dunnage.command(["export", "one"]).output().unwrap();
    assert_eq!(stream.stdout, std::fs::read(dunnage.dir(".").join("one.tar")).unwrap());
    let listed: Ran = Command::new("tar").arg("tf").arg(dunnage.dir(".").join("one.tar")).output().unwrap().into();
    let listed = listed.ok().stdout;
    let has = |name: &str| listed.lines().any(|line| line.trim_end_matches('/') == name);
    assert!(has("d/old") && has("new/file") && has("l") && !has("d/gone") && !has("e/f"), "{listed}");
}

#[test]
fn runtime_l08_what_a_container_uses_is_counted() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.run(["run", "-d", "--name", "busy", "--memory", "64m", "app", "sh", "-c", "while :; do :; done"]).ok();
    let text = dunnage.run(["stats", "--no-stream", "--format", "json", "busy"]).ok().stdout;
    let row: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(row["Name"], "busy");
    let number = |field: &str| row[field].as_str().unwrap().trim_end_matches('%').parse::<f64>().unwrap();
    assert!(number("PIDs") >= 1.0 && number("CPUPerc") > 1.0, "{text}");
    assert!(!row["MemUsage"].as_str().unwrap().starts_with("0B"), "{text}");
    let top = dunnage.run(["top", "busy"]).ok().stdout;
    assert!(top.lines().count() == 2 && top.contains("while :"), "{top}");
    // The columns of `ps -ef`, which scripts count.
    let words: Vec<Vec<&str>> = top.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(words[0], ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]);
    assert!(words[1][0] == "root" && words[1][5] == "?" && words[1][7] == "sh", "{top}");

    dunnage.run(["update", "--memory", "96m", "--memory-swap", "96m", "busy"]).ok();
    let text = dunnage.run(["stats", "--no-stream", "--format", "{{.MemUsage}}", "busy"]).ok().stdout;
    assert!(text.contains("/ 96MiB"), "{text}");
    let inspected: Value = serde_json::from_str(&dunnage.run(["inspect", "busy"]).ok().stdout).unwrap();
    assert_eq!(inspected[0]["HostConfig"]["Memory"], 96 << 20);
    dunnage.run(["rm", "-f", "busy"]).ok();
    dunnage.run(["top", "busy"]).fails(1, "no container `busy`");
}
