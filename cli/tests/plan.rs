//! `dunnage plan`: what a build would do, in four forms.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use testdata::{BASE, Dunnage, expect_file, workspace};

const FILE: &str = "FROM base AS make
WORKDIR /src
COPY src .
RUN cat main.c > /out
FROM base AS docs
COPY docs /docs
RUN ls /docs > /list
FROM scratch
COPY --from=make /out /
COPY --from=docs /list /
LABEL a=b
";

fn dunnage() -> Option<Dunnage> {
    let dunnage = Dunnage::with_base(env!("CARGO_BIN_EXE_dunnage"), &BASE)?;
    dunnage.write("context/src/main.c", "int main;\n");
    dunnage.write("context/docs/a.md", "a\n");
    dunnage.write("context/Dockerfile", FILE);
    Some(dunnage)
}

fn plan(dunnage: &Dunnage, format: &str) -> String {
    dunnage.run(["plan", "--format", format, "context"]).ok().stdout
}

#[track_caller]
fn expect(name: &str, found: &str) {
    expect_file(&workspace().join("testdata/plan").join(name), found);
}

#[test]
fn a_plan_tells_what_is_cached_what_runs_and_what_depends_on_that() {
    let Some(dunnage) = dunnage() else { return };
    expect("new.txt", &plan(&dunnage, "text"));
    assert!(!dunnage.root().join("builds").exists(), "a plan leaves no record");
    dunnage.run(["build", "-t", "app", "context"]).ok();
    expect("cached.txt", &plan(&dunnage, "text"));
    dunnage.write("context/src/main.c", "int other;\n");
    dunnage.write("context/src/util.c", "\n");
    let changed = plan(&dunnage, "text");
    expect("changed.txt", &changed);
    expect("changed.dot", &plan(&dunnage, "dot"));
    expect("changed.svg", &plan(&dunnage, "svg"));
    // Asking changes nothing.
    assert_eq!(plan(&dunnage, "text"), changed);
    let json: serde_json::Value = serde_json::from_str(&plan(&dunnage, "json")).unwrap();
    let fates: Vec<&str> =
        json["steps"].as_array().unwrap().iter().map(|step| step["fate"]["fate"].as_str().unwrap()).collect();
    assert_eq!(fates, ["cached", "runs", "depends", "cached", "cached", "depends", "depends"]);
    assert_eq!(json["steps"][1]["fate"]["changes"][0]["path"], "src/main.c");
    assert_eq!(json["steps"][5]["inputs"], serde_json::json!([3]));
}

#[test]
fn a_plan_says_what_the_build_then_does() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.run(["build", "context"]).ok();
    dunnage.write("context/docs/a.md", "b\n");
    // The list of names stays as it is: what depends on it hits.
    let text = plan(&dunnage, "text");
    assert!(text.contains("7 steps: 4 cached, 1 to run, 2 not known yet"), "{text}");
    let log = dunnage.run(["build", "context"]).ok().stderr;
    assert!(log.contains("5 of 7 steps cached"), "{log}");
}

#[test]
fn a_plan_has_the_flags_of_a_build_and_refuses_those_that_only_a_build_can_follow() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.run(["build", "context"]).ok();
    let text = dunnage.run(["plan", "--no-cache", "--target", "docs", "context"]).ok().stdout;
    assert!(text.contains("Dockerfile to docs · 2 steps: 0 cached, 2 to run"), "{text}");
    for flag in [["--iidfile", "x"], ["--metadata-file", "x"], ["--progress", "plain"]] {
        dunnage.run(["plan", flag[0], flag[1], "context"]).fails(2, "a plan builds nothing");
    }
    dunnage.write("context/Dockerfile", "FROM base\nCOPY none /\n");
    dunnage.run(["plan", "context"]).fails(1, "COPY source `none` not found");
    dunnage.write("context/Dockerfile", "FROM base\nCOYP a /\n");
    dunnage.run(["plan", "context"]).fails(1, "Dockerfile:2");
}
