//! What builds leave: records, logs, pages of timings, metadata.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use serde_json::Value;
use testdata::{BASE, Dunnage, until};

fn dunnage() -> Option<Dunnage> {
    Dunnage::with_base(env!("CARGO_BIN_EXE_dunnage"), &BASE)
}

fn record(dunnage: &Dunnage) -> Value {
    serde_json::from_str(&dunnage.run(["builds", "show", "--format", "json"]).ok().stdout).unwrap()
}

fn rows(dunnage: &Dunnage, args: &[&str]) -> Vec<Value> {
    let mut all = vec!["builds", "ls", "--format", "json"];
    all.extend_from_slice(args);
    dunnage.run(all).ok().stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn every_build_leaves_a_record_however_it_ends() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.write("context/Dockerfile", "FROM base\nARG V\nRUN echo out; echo err >&2\nRUN echo $V > /v\n");
    dunnage.run(["build", "-t", "app", "--build-arg", "V=1", "context"]).ok();
    let built = record(&dunnage);
    assert_eq!((&built["status"], &built["exit_code"], &built["args"]["V"]), (&"ok".into(), &0.into(), &"1".into()));
    assert!(built["image"].as_str().unwrap().starts_with("sha256:"));
    assert_eq!(built["steps"][1]["inputs"], serde_json::json!([1]));
    assert!(built["steps"][0]["tree"].as_str().unwrap().len() == 64 && built["steps"][0]["bases"][0] == "base:latest");
    dunnage.write("bad/Dockerfile", "FROM base\nRUN echo before; exit 42\nRUN never\n");
    dunnage.run(["build", "bad"]).fails(1, "exit code 42");
    let failed = record(&dunnage);
    assert_eq!((&failed["status"], &failed["exit_code"]), (&"failed".into(), &1.into()));
    assert_eq!(failed["error"]["place"], serde_json::json!(["bad/Dockerfile", 2]));
    let statuses: Vec<&Value> = failed["steps"].as_array().unwrap().iter().map(|step| &step["status"]).collect();
    assert_eq!(statuses, ["failed", "waiting"]);
    dunnage.write("worse/Dockerfile", "FORM base\n");
    dunnage.run(["build", "worse"]).fails(1, "unknown instruction");
    let list: Vec<Value> = rows(&dunnage, &[]).iter().map(|row| row["Status"].clone()).collect();
    assert_eq!(list, ["failed", "failed", "ok"]);
    let names: Vec<Value> = rows(&dunnage, &["--filter", "status=ok"]).iter().map(|row| row["Name"].clone()).collect();
    assert!(names.len() == 1 && names[0].as_str().unwrap().starts_with("app"), "{names:?}");
    assert_eq!(rows(&dunnage, &["--filter", "context=bad"]).len(), 1);
    assert_eq!(rows(&dunnage, &["--filter", "name=app"]).len(), 1);
    dunnage.run(["builds", "ls", "--filter", "colour=red"]).fails(2, "is not known");
    let shown = dunnage.run(["builds", "show", rows(&dunnage, &[])[2]["ID"].as_str().unwrap()]).ok().stdout;
    for part in ["argument  V=1", "#1 ran", "[stage-0 2/2] RUN echo $V > /v", ", ok after "] {
        assert!(shown.contains(part), "no {part:?} in:\n{shown}");
    }
}

#[test]
fn logs_are_whole_by_step_and_safe_to_show() {
    let Some(dunnage) = dunnage() else { return };
    let script =
        "printf '\\033]52;c;eA==\\007one\\n::set-output name=x::y\\n##vso[task]z\\n'; seq 1 50000; echo end >&2";
    dunnage.write("context/Dockerfile", format!("FROM base\nRUN {script}\nRUN echo second\n"));
    dunnage.run(["build", "-q", "context"]).ok();
    let log = dunnage.run(["builds", "logs"]).ok().stdout;
    assert_eq!(log.lines().count(), 50_005, "nothing is cut");
    assert!(log.contains("#1 one\n#1 : :set-output name=x::y\n#1 ## vso[task]z\n#1 1\n"), "{}", &log[..200]);
    assert!(log.contains("#1 end\n") && log.ends_with("#2 second\n"));
    assert_eq!(dunnage.run(["builds", "logs", "--step", "RUN echo second"]).ok().stdout, "second\n");
    let raw = dunnage.run(["builds", "logs", "--raw", "--step", "1"]).ok().stdout;
    assert!(raw.starts_with("\u{1b}]52;c;eA==\u{7}one\n::set-output"), "{}", &raw[..80]);
    dunnage.run(["builds", "logs", "ffff"]).fails(1, "there is no build `ffff`");
}

#[test]
fn a_log_that_passes_its_limit_says_so() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.write("context/Dockerfile", "FROM base\nRUN seq 1 50000\nRUN echo after\n");
    let mut command = dunnage.command(["build", "-q", "context"]);
    assert!(command.env("DUNNAGE_LOG_LIMIT", "1k").status().unwrap().success());
    let log = dunnage.run(["builds", "logs"]).ok().stdout;
    assert!(log.len() < 3000 && log.contains("[the log passed its limit"), "{log}");
    assert_eq!(record(&dunnage)["log_cut"], true);
    let output = dunnage.command(["build", "context"]).env("DUNNAGE_LOG_LIMIT", "lots").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn a_killed_build_leaves_a_record_that_says_interrupted_and_its_log_can_be_followed() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.write("context/Dockerfile", "FROM base\nRUN echo ready && sleep 4245\n");
    let mut child = dunnage.command(["build", "context"]).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().ends_with(" ready")), "the step never began");
    let row = &rows(&dunnage, &[])[0];
    assert_eq!(row["Status"], "running");
    let id = row["ID"].as_str().unwrap();
    dunnage.run(["builds", "rm", id]).fails(1, "is running");
    let mut follow = dunnage.command(["builds", "logs", "-f", id]).stdout(Stdio::piped()).spawn().unwrap();
    let mut followed = BufReader::new(follow.stdout.take().unwrap()).lines();
    assert_eq!(followed.next().unwrap().unwrap(), "#1 ready");
    // The record is written a moment after what it tells.
    until("the record has the step", || record(&dunnage)["steps"][0]["status"] == "running");
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(follow.wait().unwrap().success(), "a log ends with its build");
    let killed = record(&dunnage);
    assert_eq!((&killed["status"], &killed["steps"][0]["status"]), (&"interrupted".into(), &"running".into()));
    assert_eq!(dunnage.run(["builds", "rm", id]).ok().stdout, format!("{id}\n"));
    assert!(rows(&dunnage, &[]).is_empty());
}

#[test]
fn a_cancelled_build_says_so() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.write("context/Dockerfile", "FROM base\nRUN echo ready && sleep 4246\n");
    let mut child = dunnage.command(["build", "context"]).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().ends_with(" ready")), "the step never began");
    assert!(std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    for _ in lines {}
    child.wait().unwrap();
    let cancelled = record(&dunnage);
    assert_eq!((&cancelled["status"], &cancelled["exit_code"]), (&"cancelled".into(), &130.into()));
    assert_eq!(cancelled["steps"][0]["status"], "cancelled");
}

#[test]
fn as_many_records_are_kept_as_asked_and_prune_removes_old_ones() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.write("context/Dockerfile", "FROM base\nRUN true\n");
    for _ in 0..4 {
        let mut command = dunnage.command(["build", "-q", "context"]);
        assert!(command.env("DUNNAGE_KEEP_BUILDS", "3").status().unwrap().success());
    }
    assert_eq!(rows(&dunnage, &[]).len(), 3);
    dunnage.run(["system", "prune", "-f", "--builds-older-than", "1h"]).ok();
    assert_eq!(rows(&dunnage, &[]).len(), 3);
    let pruned = dunnage.run(["system", "prune", "-f", "--builds-older-than", "0s"]).ok().stdout;
    assert!(pruned.contains("Deleted records of builds:"), "{pruned}");
    assert!(rows(&dunnage, &[]).is_empty());
}

#[test]
fn a_page_of_timings_and_a_trace_are_written_for_good_and_failed_builds() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.write(
        "context/Dockerfile",
        "FROM base AS a\nRUN echo '</script><b>' > /f && sleep 0.2\nFROM base\nCOPY --from=a /f /f\n",
    );
    dunnage.run(["build", "--timings=page.html", "context"]).ok();
    let read = |name: &str| std::fs::read_to_string(dunnage.dir(".").join(name)).unwrap();
    let page = read("page.html");
    assert!(page.starts_with("<!doctype html>") && page.ends_with("</html>\n"));
    assert_eq!(page.matches("</script>").count(), 1, "foreign text is escaped");
    let trace: Value = serde_json::from_str(&read("page.trace.json")).unwrap();
    let complete = trace["traceEvents"].as_array().unwrap().iter().filter(|event| event["ph"] == "X");
    let durations: Vec<u64> = complete.map(|event| event["dur"].as_u64().unwrap()).collect();
    assert_eq!(durations.len(), 2);
    assert!(durations[0] >= 200_000, "{durations:?}");
    // The same from the record, later.
    dunnage.run(["builds", "show", "--timings", "later.html"]).ok();
    assert_eq!(read("later.html"), page);
    dunnage.write("context/Dockerfile", "FROM base\nRUN exit 3\n");
    dunnage.run(["build", "--timings", "context"]).fails(1, "exit code 3");
    assert!(read("dunnage-timings.html").contains("class=\"status failed\""));
}

#[test]
fn a_metadata_file_names_the_image_the_build_and_its_steps() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.write("context/Dockerfile", "FROM base\nRUN echo x > /x\n");
    let id = dunnage.run(["build", "-q", "-t", "app:1", "--metadata-file", "meta.json", "context"]).ok().stdout;
    let text = std::fs::read_to_string(dunnage.dir(".").join("meta.json")).unwrap();
    let meta: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(meta["containerimage.config.digest"], id.trim());
    assert_eq!(meta["image.name"], "app:1");
    assert_eq!((&meta["dunnage.steps"]["total"], &meta["dunnage.steps"]["ran"]), (&1.into(), &1.into()));
    let build = meta["dunnage.build"].as_str().unwrap();
    assert_eq!(dunnage.run(["builds", "show", build, "--format", "{{.image}}"]).ok().stdout, id);
    assert_eq!(meta["buildx.build.ref"], format!("dunnage/dunnage/{build}"));
}
