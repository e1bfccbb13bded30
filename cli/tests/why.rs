//! Why steps ran again: `dunnage why`, and what early cutoff spares.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use testdata::{Dunnage, Need};

const NEEDS: [Need; 2] = [Need::Root, Need::Program("busybox")];

fn dunnage() -> Option<Dunnage> {
    Dunnage::with_base(env!("CARGO_BIN_EXE_dunnage"), &NEEDS)
}

fn build(dunnage: &Dunnage, file: &str, args: &[&str]) -> String {
    dunnage.write("context/Dockerfile", file);
    let mut all = vec!["build", "--iidfile", "iid", "-t", "app"];
    all.extend_from_slice(args);
    all.push("context");
    dunnage.run(all).ok();
    std::fs::read_to_string(dunnage.dir(".").join("iid")).unwrap()
}

fn why(dunnage: &Dunnage, step: &str) -> String {
    let mut args = vec!["why", "--context", "context"];
    if !step.is_empty() {
        args.push(step);
    }
    dunnage.run(args).ok().stdout
}

#[track_caller]
fn has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "no {part:?} in:\n{text}");
    }
}

const STAGES: &str = "FROM base AS make
WORKDIR /src
COPY src .
RUN grep -v '^#' main.c > /out
FROM base AS test
COPY --from=make /out /out
RUN cat /out > /tested
FROM base AS docs
COPY --from=make /out /code
RUN wc -l < /code > /lines
FROM base AS pack
COPY --from=test /tested /
COPY --from=docs /lines /
RUN cat /tested /lines > /packed
FROM base
COPY --from=pack /packed /
CMD cat /packed
";

#[test]
fn builder_must_show_2_a_changed_comment_compiles_once_and_runs_nothing_after() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.write("context/src/main.c", "# a comment\nint main;\n");
    let first = build(&dunnage, STAGES, &[]);
    dunnage.write("context/src/main.c", "# another comment, and longer\nint main;\n");
    let second = build(&dunnage, STAGES, &[]);
    assert_eq!(first, second, "the image is the same");
    let statuses = dunnage.statuses();
    let ran = statuses.iter().filter(|status| *status == "ran").count();
    // COPY src and the compile step, and nothing of what stands on them.
    assert_eq!(statuses.len(), 11, "{statuses:?}");
    assert_eq!(ran, 2, "{statuses:?}");
    assert!(statuses[3..].iter().all(|status| status == "cached"), "{statuses:?}");
    let text = why(&dunnage, "");
    has(&text, &["#2 [make 2/3] COPY src . ran", "since src/main.c changed", "since step #2 gave other files"]);
    has(&text, &["ran, and gave files known before", "2 of 11 steps ran, 9 cached"]);
    has(&why(&dunnage, "test/1"), &["#4 [test 1/2] COPY --from=make /out /out cached", "record "]);
}

#[test]
fn the_chain_goes_back_to_the_file_that_changed() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.write("context/src/main.c", "int main;\n");
    dunnage.write("context/src/gone.c", "x\n");
    build(&dunnage, STAGES, &[]);
    dunnage.write("context/src/main.c", "int other;\n");
    dunnage.write("context/src/new.c", "y\n");
    std::fs::remove_file(dunnage.dir("context").join("src/gone.c")).unwrap();
    build(&dunnage, STAGES, &[]);
    let text = why(&dunnage, "COPY --from=pack");
    has(&text, &["#11", "packed changed", "since step #10 gave other files", "└─ #3 [make 3/3] RUN grep"]);
    has(&text, &["└─ #2", "src/main.c changed", "src/new.c was added", "src/gone.c was removed"]);
}

#[test]
fn each_kind_of_change_is_named_with_old_and_new() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.write("context/f", "1");
    let one = "FROM base\nARG V=1\nARG API_TOKEN\nCOPY f /f\nRUN echo $V > /v\n";
    build(&dunnage, one, &["--build-arg", "API_TOKEN=hunter2"]);
    let steps: [(&str, &[&str], &[&str]); 8] = [
        (one, &["--build-arg", "V=2", "--build-arg", "API_TOKEN=hunter2"], &["V changed: 1 → 2"]),
        (
            one,
            &["--build-arg", "V=3", "--build-arg", "API_TOKEN=other"],
            &["API_TOKEN changed: (not shown) → (not shown)"],
        ),
        ("FROM base\nARG V=3\nCOPY f /f\nRUN echo $V > /v\n", &[], &["API_TOKEN is gone"]),
        (
            "FROM base\nARG V=3\nCOPY f /f\nRUN echo $V! > /v\n",
            &[],
            &["the instruction changed: RUN echo $V > /v → RUN echo $V! > /v"],
        ),
        ("FROM base\nARG V=3\nENV E=x\nCOPY f /f\nRUN echo $V! > /v\n", &[], &["E is new: x"]),
        (
            "FROM base\nARG V=3\nENV E=x\nCOPY --chmod=700 f /f\nRUN echo $V! > /v\n",
            &[],
            &["--chmod=700 f /f", "step #1 gave other files"],
        ),
        (
            "FROM base\nARG V=3\nENV E=x\nUSER 7\nCOPY --chmod=700 f /f\nUSER 0\nRUN echo $V! > /v\n",
            &[],
            &["user changed", "→ 0"],
        ),
        (
            "FROM base\nUSER 0\nARG V=3\nENV E=x\nCOPY --chmod=700 f /f\nSHELL [\"sh\", \"-ec\"]\nRUN echo $V! > /v\n",
            &[],
            &["-c → -ec"],
        ),
    ];
    for (file, args, expected) in steps {
        build(&dunnage, file, args);
        let text = why(&dunnage, "");
        has(&text, expected);
        assert!(!text.contains("hunter2"), "{text}");
    }
    // The value is nowhere on the disk: not in records, not in what the steps saw.
    let output = std::process::Command::new("grep")
        .args(["-rl", "hunter2", "records", "memory", "builds"])
        .current_dir(dunnage.root())
        .output();
    assert_eq!(String::from_utf8_lossy(&output.unwrap().stdout), "");
}

#[test]
fn a_changed_base_and_a_removed_step_are_named() {
    let Some(dunnage) = dunnage() else { return };
    let file = "FROM base\nRUN echo 1 > /one\nRUN echo 2 > /two\n";
    build(&dunnage, file, &[]);
    build(&dunnage, "FROM base\nRUN echo 2 > /two\n", &[]);
    has(&why(&dunnage, ""), &["#1 [stage-0 1/1] RUN echo 2 > /two ran", "an earlier step is gone: RUN echo 1 > /one"]);
    dunnage.write("other/Dockerfile", "FROM base\nRUN echo new > /new\n");
    dunnage.run(["build", "-q", "-t", "base", "other"]).ok();
    build(&dunnage, "FROM base\nRUN echo 2 > /two\n", &[]);
    has(&why(&dunnage, "1"), &["the base image base:latest has other files"]);
}

#[test]
fn a_lost_record_an_unfinished_step_and_a_new_one_are_told_apart() {
    let Some(dunnage) = dunnage() else { return };
    let file = "FROM base\nRUN echo 1 > /one\n";
    build(&dunnage, file, &[]);
    has(&why(&dunnage, "1"), &["no earlier build of this Dockerfile had this step"]);
    std::fs::remove_dir_all(dunnage.root().join("records")).unwrap();
    std::fs::create_dir(dunnage.root().join("records")).unwrap();
    build(&dunnage, file, &[]);
    has(&why(&dunnage, "1"), &["its record is no longer in the cache"]);
    build(&dunnage, file, &["--no-cache"]);
    has(&why(&dunnage, "1"), &["the cache was not asked"]);
    dunnage.write("context/Dockerfile", "FROM base\nRUN echo 1 > /one\nRUN test -e /never\n");
    dunnage.run(["build", "context"]).fails(1, "failed with exit code 1");
    dunnage.run(["build", "context"]).fails(1, "failed with exit code 1");
    has(&why(&dunnage, "2"), &["RUN test -e /never failed", "the build before did not finish it"]);
}

#[test]
fn steps_are_named_in_three_ways_and_wrong_names_are_refused() {
    let Some(dunnage) = dunnage() else { return };
    build(&dunnage, "FROM base AS a\nRUN true\nRUN echo x > /x\n", &[]);
    for name in ["2", "#2", "a/2", "RUN echo"] {
        has(&why(&dunnage, name), &["#2 [a 2/2] RUN echo x > /x"]);
    }
    dunnage.run(["why", "9"]).fails(2, "has no step 9: it has 2");
    dunnage.run(["why", "RUN"]).fails(2, "#1 and #2");
    dunnage.run(["why", "COPY"]).fails(2, "no step of build");
    dunnage.run(["why", "--build", "ffff"]).fails(1, "there is no build `ffff`");
    let json: serde_json::Value =
        serde_json::from_str(&dunnage.run(["why", "2", "--format", "json"]).ok().stdout).unwrap();
    assert_eq!((&json["steps"][0]["number"], &json["steps"][0]["reason"]["why"]), (&2.into(), &"new".into()));
}

#[test]
fn without_a_build_there_is_nothing_to_explain() {
    let dunnage = Dunnage::new(env!("CARGO_BIN_EXE_dunnage"));
    dunnage.run(["why"]).fails(1, "no build left a record here yet");
    dunnage.run(["builds", "show"]).fails(1, "no build left a record here yet");
    assert_eq!(dunnage.run(["builds", "ls", "-q"]).ok().stdout, "");
}

#[test]
fn a_build_that_hits_throughout_says_so() {
    let Some(dunnage) = dunnage() else { return };
    let file = "FROM base\nRUN echo 1 > /one\n";
    build(&dunnage, file, &[]);
    build(&dunnage, file, &[]);
    has(&why(&dunnage, ""), &["Nothing ran: all 1 steps were cached."]);
}

#[test]
fn builder_a11_a_changed_argument_runs_the_run_again_and_not_the_copy_above() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.write("context/f", "1");
    let file = "FROM base\nCOPY f /f\nARG V=1\nRUN echo run > /r\n";
    build(&dunnage, file, &[]);
    build(&dunnage, file, &["--build-arg", "V=2"]);
    assert_eq!(dunnage.statuses(), ["cached", "ran"]);
    has(&why(&dunnage, "2"), &["V changed: 1 → 2"]);
}

#[test]
fn security_d24_metadata_runs_nothing_a_byte_of_env_runs_the_rest_and_a_loaded_image_is_no_cache() {
    let Some(dunnage) = dunnage() else { return };
    let file = |env: &str, health: &str| {
        format!("FROM base\nRUN echo 0 > /0\nENV E={env}\nRUN echo 1 > /1\nHEALTHCHECK {health}\nONBUILD RUN true\n")
    };
    let first = build(&dunnage, &file("a", "NONE"), &[]);
    let second = build(&dunnage, &file("a", "CMD true"), &[]);
    assert_ne!(first, second);
    assert_eq!(dunnage.statuses(), ["cached", "cached"]);
    build(&dunnage, &file("b", "CMD true"), &[]);
    assert_eq!(dunnage.statuses(), ["cached", "ran"]);
    // Another store that only has the image performs each step.
    dunnage.run(["save", "-o", "app.tar", "app", "base"]).ok();
    let other = Dunnage::new(env!("CARGO_BIN_EXE_dunnage"));
    let archive = dunnage.dir(".").join("app.tar");
    other.run(["load", "-i", archive.to_str().unwrap()]).ok();
    build(&other, &file("b", "CMD true"), &[]);
    assert_eq!(other.statuses(), ["ran", "ran"]);
}
