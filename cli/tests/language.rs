//! What the Dockerfile language means, seen from outside: images that were built, and what they print.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use testdata::{Dunnage, Need};

const NEEDS: [Need; 2] = [Need::Root, Need::Program("busybox")];

fn dunnage() -> Option<Dunnage> {
    Dunnage::with_base(env!("CARGO_BIN_EXE_dunnage"), &NEEDS)
}

/// Builds a file and gives what its CMD prints.
#[track_caller]
fn output(dunnage: &Dunnage, file: &str) -> String {
    dunnage.build(file);
    dunnage.run(["run", "--rm", "app"]).ok().stdout
}

fn inspect(dunnage: &Dunnage) -> serde_json::Value {
    let text = dunnage.run(["inspect", "app"]).ok().stdout;
    serde_json::from_str::<serde_json::Value>(&text).unwrap()[0].clone()
}

#[test]
fn builder_p16_stage_names_are_found_without_regard_to_case() {
    let Some(dunnage) = dunnage() else { return };
    let file = "FROM base AS Build\nRUN echo built > /f\nFROM base\nCOPY --from=BUILD /f /f\nCMD cat /f\n";
    assert_eq!(output(&dunnage, file), "built\n");
}

#[test]
fn builder_h11_a_changed_heredoc_reruns_its_step_and_what_depends_on_it() {
    let Some(dunnage) = dunnage() else { return };
    let file =
        |text: &str| format!("FROM base\nRUN echo first > /a\nCOPY <<E /f\n{text}\nE\nRUN cat /f > /g\nCMD cat /g\n");
    assert_eq!(output(&dunnage, &file("one")), "one\n");
    dunnage.write("context/Dockerfile", file("two"));
    let log = dunnage.run(["build", "-t", "app", "context"]).ok().stderr;
    assert!(log.contains("1 of 3 steps cached"), "{log}");
    assert_eq!(dunnage.run(["run", "--rm", "app"]).ok().stdout, "two\n");
}

#[test]
fn builder_v01_a_required_variable_stops_the_build_with_its_message() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.write("context/Dockerfile", "FROM base\nARG V\nENV A=\"${V:?give a version}\"\n");
    dunnage.run(["build", "context"]).fails(1, "V: give a version");
    dunnage.run(["build", "--build-arg", "V=1", "context"]).ok();
}

#[test]
fn builder_v06_a_line_sees_the_values_from_before_it() {
    let Some(dunnage) = dunnage() else { return };
    assert_eq!(output(&dunnage, "FROM base\nENV a=1\nENV a=2 b=$a\nCMD echo $a $b\n"), "2 1\n");
}

#[test]
fn builder_v07_variables_in_run_are_the_shells() {
    let Some(dunnage) = dunnage() else { return };
    let file = "FROM base\nARG A=builder\nRUN A=shell; echo $A > /f\nCMD cat /f\n";
    assert_eq!(output(&dunnage, file), "shell\n");
    let history = dunnage.run(["history", "--no-trunc", "app"]).ok().stdout;
    assert!(history.contains("A=shell; echo $A > /f"), "{history}");
}

#[test]
fn builder_v10_an_undefined_variable_is_empty_and_told() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.write("context/f.txt", "f\n");
    dunnage.write("context/Dockerfile", "FROM base\nARG FOOD=x\nCOPY f.txt$FOO /\nCMD cat /f.txt\n");
    let log = dunnage.run(["build", "-t", "app", "context"]).ok().stderr;
    assert!(log.contains("UndefinedVar: Usage of undefined variable '$FOO' (did you mean $FOOD?)"), "{log}");
    assert_eq!(dunnage.run(["run", "--rm", "app"]).ok().stdout, "f\n");
}

#[test]
fn builder_a02_a_build_argument_wins_over_the_defaults() {
    let Some(dunnage) = dunnage() else { return };
    let file =
        "ARG T=global\nFROM base\nARG T\nRUN echo $T > /one\nARG T=stage\nRUN echo $T > /two\nCMD cat /one /two\n";
    assert_eq!(output(&dunnage, file), "global\nstage\n");
    dunnage.run(["build", "--build-arg", "T=given", "-t", "app", "context"]).ok();
    assert_eq!(dunnage.run(["run", "--rm", "app"]).ok().stdout, "given\ngiven\n");
}

#[test]
fn builder_a03_a_child_stage_inherits_arguments() {
    let Some(dunnage) = dunnage() else { return };
    let file = "FROM base AS a\nARG T=parent\nFROM a\nRUN echo \"[$T]\" > /f\nCMD cat /f\n";
    assert_eq!(output(&dunnage, file), "[parent]\n");
}

#[test]
fn builder_a05_several_arguments_on_one_line() {
    let Some(dunnage) = dunnage() else { return };
    let file = "FROM base\nARG A B=2 C=\"x y\"\nRUN echo \"[$A] [$B] [$C]\" > /f\nCMD cat /f\n";
    assert_eq!(output(&dunnage, file), "[] [2] [x y]\n");
}

#[test]
fn builder_a07_proxies_reach_run_and_leave_no_trace() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.write("context/Dockerfile", "FROM base\nRUN echo \"[$HTTP_PROXY]\" > /f\nCMD cat /f\n");
    dunnage.run(["build", "--build-arg", "HTTP_PROXY=http://one.invalid", "-t", "app", "context"]).ok();
    assert_eq!(dunnage.run(["run", "--rm", "app"]).ok().stdout, "[http://one.invalid]\n");
    let history = dunnage.run(["history", "--no-trunc", "app"]).ok().stdout;
    let config = inspect(&dunnage).to_string();
    assert!(!history.contains("one.invalid") && !config.contains("one.invalid"), "{history}\n{config}");
    let log = dunnage.run(["build", "--build-arg", "HTTP_PROXY=http://two.invalid", "context"]).ok().stderr;
    assert!(log.contains("1 of 1 steps cached"), "{log}");
}

#[test]
fn builder_a11_an_argument_reruns_the_runs_behind_it_and_nothing_else() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.write("context/f", "x");
    dunnage.write("context/Dockerfile", "FROM base\nCOPY f /f\nARG UNUSED\nRUN true\n");
    dunnage.run(["build", "--build-arg", "UNUSED=1", "context"]).ok();
    for (value, cached) in [("1", "2 of 2 steps cached"), ("2", "1 of 2 steps cached")] {
        let given = format!("UNUSED={value}");
        let log = dunnage.run(["build", "--build-arg", given.as_str(), "context"]).ok().stderr;
        assert!(log.contains(cached), "{log}");
    }
}

#[test]
fn builder_a08_platform_arguments_need_an_arg_inside_stages_only() {
    let Some(dunnage) = dunnage() else { return };
    let file = "FROM base AS for-amd64\nFROM base AS for-arm64\nFROM for-${TARGETARCH}\nRUN echo \"[$TARGETARCH]\" > /f\n\
                ARG TARGETARCH\nRUN echo \"[$TARGETARCH]\" >> /f\nCMD cat /f\n";
    let text = output(&dunnage, file);
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("[]"));
    let known = lines.next().unwrap();
    assert!(["[amd64]", "[arm64]"].contains(&known), "{known}");
}

#[test]
fn builder_f01_a_copy_on_scratch_is_one_layer_with_the_default_path() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.write("context/f", "x");
    dunnage.build("FROM scratch\nCOPY f /f\n");
    let image = inspect(&dunnage);
    assert_eq!(image["RootFS"]["Layers"].as_array().unwrap().len(), 1, "{image}");
    assert_eq!(image["Config"]["WorkingDir"], "/");
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    assert_eq!(image["Config"]["Env"], serde_json::json!([path]));
}

#[test]
fn builder_f05_from_takes_an_index_a_name_and_an_image() {
    let Some(dunnage) = dunnage() else { return };
    let file = "FROM base AS one\nRUN echo stage > /f\nFROM scratch\nCOPY --from=0 /f /index\nCOPY --from=one /f /name\n\
                COPY --from=base:latest /bin/busybox /bin/busybox\nCMD [\"/bin/busybox\", \"cat\", \"/index\", \"/name\"]\n";
    assert_eq!(output(&dunnage, file), "stage\nstage\n");
    dunnage.write("context/Dockerfile", "FROM base\nCOPY --from=7 /f /f\n");
    dunnage.run(["build", "context"]).fails(1, "invalid stage index 7");
}

#[test]
fn from_takes_global_arguments() {
    let Some(dunnage) = dunnage() else { return };
    let file = "ARG WHERE=one\nFROM base AS one\nRUN echo one > /f\nFROM base AS two\nRUN echo two > /f\nFROM base\n\
                COPY --from=$WHERE /f /f\nCMD cat /f\n";
    assert_eq!(output(&dunnage, file), "one\n");
    dunnage.run(["build", "--build-arg", "WHERE=two", "-t", "app", "context"]).ok();
    assert_eq!(dunnage.run(["run", "--rm", "app"]).ok().stdout, "two\n");
}

#[test]
fn lines_may_be_longer_than_65535_bytes() {
    let Some(dunnage) = dunnage() else { return };
    let long = "x".repeat(100_000);
    let file = format!("FROM base\nCOPY <<E /f\n{long}\nE\nLABEL long={long}\nCMD wc -c < /f\n");
    assert_eq!(output(&dunnage, &file).trim(), "100001");
}

#[test]
fn another_syntax_image_is_refused_and_dockers_own_is_not() {
    let Some(dunnage) = dunnage() else { return };
    for good in ["docker/dockerfile:1", "docker.io/docker/dockerfile:1.7-labs", "docker/dockerfile-upstream:master"] {
        dunnage.build(&format!("# syntax={good}\nFROM base\n"));
    }
    dunnage.write("context/Dockerfile", "# syntax=example.invalid/frontend:1\nFROM base\n");
    dunnage.run(["build", "context"]).fails(1, "dunnage reads the Dockerfile language itself");
}

#[test]
fn builder_w11_what_is_written_to_a_volume_stays() {
    let Some(dunnage) = dunnage() else { return };
    // The image's own tree, with no volume over it.
    let file = "FROM base\nRUN mkdir /d && echo before > /d/a\nVOLUME /d\n\
        RUN echo after > /d/b && echo changed >> /d/a\nCOPY Dockerfile /d/c\n\
        FROM scratch AS tree\nCOPY --from=0 /d /d\n\
        FROM base\nCOPY --from=tree / /\nCMD cat /d/a /d/b && ls /d\n";
    assert_eq!(output(&dunnage, file), "before\nchanged\nafter\na\nb\nc\n");
    let volume = "FROM base\nVOLUME /d\nRUN mkdir /d && echo kept > /d/f\n";
    dunnage.build(volume);
    dunnage.run(["build", "-o", "out", "context"]).ok();
    assert_eq!(std::fs::read_to_string(dunnage.dir("out/d").join("f")).unwrap(), "kept\n");
    assert_eq!(inspect(&dunnage)["Config"]["Volumes"], serde_json::json!({"/d": {}}));
}

#[test]
fn builder_w12_triggers_run_once_right_after_from() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.write("context/f", "of the child's context\n");
    dunnage.write("context/Dockerfile", "FROM base\nRUN echo parent > /order\nONBUILD COPY f /f\nONBUILD RUN echo trigger >> /order && cat /f >> /order\n");
    dunnage.run(["build", "-t", "parent", "context"]).ok();
    let triggers = |name: &str| -> serde_json::Value {
        let text = dunnage.run(["inspect", name]).ok().stdout;
        serde_json::from_str::<serde_json::Value>(&text).unwrap()[0]["Config"]["OnBuild"].clone()
    };
    assert_eq!(triggers("parent").as_array().unwrap().len(), 2);
    dunnage.write("context/Dockerfile", "FROM parent\nRUN echo child >> /order\nCMD cat /order\n");
    dunnage.run(["build", "-t", "child", "context"]).ok();
    assert_eq!(dunnage.run(["run", "--rm", "child"]).ok().stdout, "parent\ntrigger\nof the child's context\nchild\n");
    assert!(triggers("child").as_array().is_none_or(Vec::is_empty));
    // Without the file that the trigger copies: it would fail if it ran again.
    std::fs::remove_file(dunnage.dir("context").join("f")).unwrap();
    let file = "FROM child\nRUN echo grandchild >> /order\n";
    assert_eq!(output(&dunnage, file), "parent\ntrigger\nof the child's context\nchild\ngrandchild\n");
}
