//! `dunnage build` as a user runs it, on a base of static busybox.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use testdata::{Dunnage, Need};

const NEEDS: [Need; 2] = [Need::Root, Need::Program("busybox")];

fn dunnage() -> Option<Dunnage> {
    Dunnage::with_base(env!("CARGO_BIN_EXE_dunnage"), &NEEDS)
}

/// Steps that a plain log says were run, and hits.
fn counts(log: &str) -> (usize, usize) {
    let line =
        log.lines().find(|line| line.contains("steps cached")).unwrap_or_else(|| panic!("no summary in:\n{log}"));
    let numbers: Vec<usize> = line.split(|c: char| !c.is_ascii_digit()).filter_map(|word| word.parse().ok()).collect();
    (numbers[2], numbers[0])
}

fn rebuild(dunnage: &Dunnage) -> (usize, usize) {
    counts(&dunnage.run(["build", "-t", "app", "context"]).ok().stderr)
}

const STAGES: &str = "FROM base AS a
WORKDIR /w
COPY a.txt .
RUN cat a.txt > a.out
FROM base AS b
WORKDIR /w
COPY b.txt .
RUN cat b.txt > b.out
FROM base
COPY --from=a /w/a.out /
COPY --from=b /w/b.out /
LABEL version=1
CMD [\"cat\", \"/a.out\", \"/b.out\"]
";

#[test]
fn builder_k01_an_unchanged_rebuild_runs_nothing() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.write("context/a.txt", "one\n");
    dunnage.write("context/b.txt", "two\n");
    let first = dunnage.build(STAGES);
    assert_eq!(dunnage.run(["run", "--rm", "app"]).ok().stdout, "one\ntwo\n");
    // WORKDIR /w of both stages is the same step.
    assert_eq!(rebuild(&dunnage), (0, 7));
    assert_eq!(dunnage.build(STAGES), first);
}

#[test]
fn a_changed_file_reruns_only_what_it_reaches() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.write("context/a.txt", "one\n");
    dunnage.write("context/b.txt", "two\n");
    dunnage.build(STAGES);
    dunnage.write("context/b.txt", "TWO\n");
    // COPY b.txt, RUN, COPY --from=b; nothing of stage a.
    assert_eq!(rebuild(&dunnage), (3, 4));
    assert_eq!(dunnage.run(["run", "--rm", "app"]).ok().stdout, "one\nTWO\n");
}

#[test]
fn a_step_that_gives_the_same_tree_cuts_the_rebuild_short() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.write("context/in.txt", "value # old comment\n");
    let file = "FROM base AS make\nCOPY in.txt /\nRUN cut -d' ' -f1 /in.txt > /out && rm /in.txt\nFROM base\nCOPY --from=make /out /out\nRUN cp /out /copy\n";
    let first = dunnage.build(file);
    dunnage.write("context/in.txt", "value # new comment\n");
    // COPY and RUN run again; what RUN gives is the same, so the final stage hits and the image is the same.
    let (ran, cached) = rebuild(&dunnage);
    assert_eq!((ran, cached), (2, 2));
    assert_eq!(dunnage.build(file), first);
}

#[test]
fn builder_k02_and_k04_times_do_not_count_and_modes_do() {
    let Some(dunnage) = dunnage() else { return };
    let path = dunnage.write("context/f", "x");
    dunnage.build("FROM scratch\nCOPY f /f\n");
    std::fs::File::options().write(true).open(&path).unwrap().set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    assert_eq!(rebuild(&dunnage), (0, 1));
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(rebuild(&dunnage), (1, 0));
}

#[test]
fn builder_k03_same_size_and_time_but_other_bytes_is_a_miss() {
    let Some(dunnage) = dunnage() else { return };
    let path = dunnage.write("context/f", "aaaa");
    let past = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
    let age =
        |path: &std::path::Path| std::fs::File::options().write(true).open(path).unwrap().set_modified(past).unwrap();
    age(&path);
    dunnage.build("FROM base\nCOPY f /f\nCMD cat /f\n");
    dunnage.write("context/f", "bbbb");
    age(&path);
    assert_eq!(rebuild(&dunnage), (1, 0));
    assert_eq!(dunnage.run(["run", "--rm", "app"]).ok().stdout, "bbbb");
}

#[test]
fn builder_k06_a_file_that_nothing_selects_changes_nothing() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.write("context/f", "x");
    dunnage.build("FROM scratch\nCOPY f /f\n");
    dunnage.write("context/unrelated", "y");
    assert_eq!(rebuild(&dunnage), (0, 1));
}

#[test]
fn builder_w14_labels_run_nothing_again() {
    let Some(dunnage) = dunnage() else { return };
    let id = dunnage.build("FROM base\nLABEL a=1\nRUN echo x > /x\nRUN echo y > /y\n");
    dunnage.write("context/Dockerfile", "FROM base\nLABEL a=2\nRUN echo x > /x\nRUN echo y > /y\n");
    assert_eq!(rebuild(&dunnage), (0, 2));
    assert_ne!(dunnage.build("FROM base\nLABEL a=2\nRUN echo x > /x\nRUN echo y > /y\n"), id);
}

#[test]
fn builder_f02_an_unused_stage_is_never_performed() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.build("FROM base AS broken\nRUN exit 3\nFROM base\nRUN true\n");
}

#[test]
fn builder_f03_target_stops_there() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.write("context/Dockerfile", "FROM base AS mid\nRUN echo mid > /m\nCMD cat /m\nFROM mid\nRUN exit 9\n");
    dunnage.run(["build", "-t", "app", "--target", "MID", "context"]).ok();
    assert_eq!(dunnage.run(["run", "--rm", "app"]).ok().stdout, "mid\n");
    dunnage.run(["build", "--target", "mdi", "context"]).fails(1, "did you mean `--target mid`?");
    // What comes after the target is read all the same.
    dunnage.write("context/Dockerfile", "FROM base AS mid\nFROM mid\nCOYP a b\n");
    dunnage.run(["build", "--target", "mid", "context"]).fails(1, "unknown instruction: COYP");
}

#[test]
fn builder_r15_independent_stages_run_at_once() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.build(
        "FROM base AS a\nRUN sleep 1; cut -d' ' -f1 /proc/uptime | tr -d . > /a\nFROM base AS b\nRUN cut -d' ' -f1 /proc/uptime | tr -d . > /b; sleep 1\nFROM base\nCOPY --from=a /a /\nCOPY --from=b /b /\nCMD echo $(($(cat /a) - $(cat /b)))\n",
    );
    // Stage b began before stage a ended.
    let text = dunnage.run(["run", "--rm", "app"]).ok().stdout;
    assert!(text.trim().parse::<i64>().unwrap() > 0, "{text}");
}

#[test]
fn builder_r13_mount_points_are_not_in_the_layer() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.build("FROM base\nRUN touch /made && ls /proc/self /dev/null /etc/resolv.conf /etc/hosts > /dev/null\n");
    dunnage.run(["save", "-o", "app.tar", "app"]).ok();
    let tar = |args: &[&str]| {
        let output = std::process::Command::new("tar").args(args).current_dir(dunnage.dir(".")).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let manifest: serde_json::Value = serde_json::from_str(&tar(&["xOf", "app.tar", "manifest.json"])).unwrap();
    let top = manifest[0]["Layers"].as_array().unwrap().last().unwrap().as_str().unwrap().to_owned();
    tar(&["xf", "app.tar", &top]);
    let listed = tar(&["tf", &top]);
    let names: Vec<&str> = listed.lines().filter(|line| *line != "./").collect();
    assert_eq!(names, ["made"], "the layer holds {listed}");
}

#[test]
fn builder_h01_h02_heredocs_run_as_scripts() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.build("FROM base\nRUN <<EOF\necho first > /out\nfalse\necho second >> /out\nEOF\nRUN <<EOF\n#!/bin/awk -f\nBEGIN { print \"by awk\" > \"/awk\" }\nEOF\nCMD cat /out /awk\n");
    assert_eq!(dunnage.run(["run", "--rm", "app"]).ok().stdout, "first\nsecond\nby awk\n");
    dunnage.write("context/Dockerfile", "FROM base\nRUN <<EOF\ntrue\n(exit 7)\nEOF\n");
    dunnage.run(["build", "context"]).fails(1, "exit code 7");
}

#[test]
fn builder_h03_h04_heredoc_files_are_expanded_unless_quoted() {
    let Some(dunnage) = dunnage() else { return };
    dunnage
        .build("FROM base\nARG V=value\nCOPY <<A <<\"B\" /d/\n$V \\$V\nA\n$V\nB\nCMD cat /d/A /d/B; stat -c %a /d/A\n");
    assert_eq!(dunnage.run(["run", "--rm", "app"]).ok().stdout, "value $V\n$V\n644\n");
}

#[test]
fn builder_c01_c02_directories_give_their_content_and_files_their_name() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.write("context/dir/sub/f", "f");
    dunnage.write("context/one", "1");
    dunnage.build("FROM base\nCOPY dir /d\nCOPY one /abs\nCOPY one /there/\nCMD find /d /abs /there | sort; stat -c '%a %u:%g' /there /abs\n");
    assert_eq!(
        dunnage.run(["run", "--rm", "app"]).ok().stdout,
        "/abs\n/d\n/d/sub\n/d/sub/f\n/there\n/there/one\n755 0:0\n644 0:0\n"
    );
}

#[test]
fn builder_c04_globs_may_match_nothing_but_plain_paths_must_exist() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.write("context/a.txt", "a");
    dunnage.write("context/b.txt", "b");
    dunnage.build("FROM base\nCOPY *.none /d/\nCOPY [ab].txt /d/\nCMD ls /d\n");
    assert_eq!(dunnage.run(["run", "--rm", "app"]).ok().stdout, "a.txt\nb.txt\n");
    dunnage.write("context/Dockerfile", "FROM base\nCOPY c.txt /d/\n");
    dunnage.run(["build", "context"]).fails(1, "COPY source `c.txt` not found");
}

#[test]
fn builder_c08_a_source_link_is_followed_inside_the_context_only() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.write("context/f", "inside\n");
    let context = dunnage.dir("context");
    std::os::unix::fs::symlink("f", context.join("l")).unwrap();
    std::os::unix::fs::symlink("/etc/hostname", context.join("out")).unwrap();
    dunnage.build("FROM base\nCOPY l /x\nCMD cat /x\n");
    assert_eq!(dunnage.run(["run", "--rm", "app"]).ok().stdout, "inside\n");
    dunnage.write("context/Dockerfile", "FROM base\nCOPY out /x\n");
    dunnage.run(["build", "context"]).fails(1, "COPY source `out` not found");
}

#[test]
fn builder_c13_c15_c20_owners_and_modes() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.write("context/f", "x");
    dunnage.write("context/d/g", "x");
    dunnage.build(
        "FROM base AS s\nRUN touch /o && chown 7:8 /o\nFROM base\nCOPY --chown=1 f /a\nCOPY --chown=1:2 f /b\nCOPY --chown=nobody f /c\nCOPY --chmod=750 d /d\nCOPY --from=s /o /o\nCMD stat -c '%n %u:%g %a' /a /b /c /d /d/g /o\n",
    );
    let out = dunnage.run(["run", "--rm", "app"]).ok().stdout;
    for line in ["/a 1:1 644", "/b 1:2 644", "/d/g 0:0 750", "/o 7:8 644"] {
        assert!(out.contains(line), "no {line} in\n{out}");
    }
    assert!(!out.contains("/c 0:"), "{out}");
}

#[test]
fn builder_d01_d02_add_unpacks_archives_by_content() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.write("context/t/inner", "packed\n");
    dunnage.write("context/empty.tar.gz", "");
    let context = dunnage.dir("context");
    for (flag, name) in [("z", "a.bin"), ("J", "b.bin"), ("j", "c.bin")] {
        let status = std::process::Command::new("tar")
            .arg(format!("c{flag}f"))
            .args([name, "-C", "t", "inner"])
            .current_dir(&context)
            .status();
        assert!(status.unwrap().success());
    }
    dunnage.build("FROM base\nADD a.bin /a/\nADD b.bin /b/\nADD c.bin /c/\nADD empty.tar.gz /e/\nCMD cat /a/inner /b/inner /c/inner; ls /e\n");
    assert_eq!(dunnage.run(["run", "--rm", "app"]).ok().stdout, "packed\npacked\npacked\nempty.tar.gz\n");
}

#[test]
fn builder_w01_w02_w03_workdir_and_user() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.build("FROM base\nWORKDIR /a\nWORKDIR b\nWORKDIR ../c\nUSER 1234\nWORKDIR /n\nRUN id -u > /n/id; id -g >> /n/id\nCMD pwd; cat /n/id; stat -c '%u %a' /n /a/c\n");
    assert_eq!(dunnage.run(["run", "--rm", "app"]).ok().stdout, "/n\n1234\n0\n1234 755\n0 755\n");
}

#[test]
fn builder_l01_l02_removed_files_stay_removed() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.build("FROM base\nRUN mkdir /d && touch /d/old /gone\nRUN rm /gone && rm -r /d && mkdir /d && touch /d/new\nRUN ls / /d > /seen\nCMD ls /d; ls /gone 2>/dev/null || echo gone\n");
    assert_eq!(dunnage.run(["run", "--rm", "app"]).ok().stdout, "new\ngone\n");
    // The same through an archive, where whiteouts are files.
    dunnage.run(["save", "-o", "app.tar", "app"]).ok();
    let second = Dunnage::new(env!("CARGO_BIN_EXE_dunnage"));
    let archive = dunnage.dir(".").join("app.tar");
    second.run(["load", "-i", archive.to_str().unwrap()]).ok();
    assert_eq!(second.run(["run", "--rm", "app"]).ok().stdout, "new\ngone\n");
}

#[test]
fn builder_a01_a02_arguments_have_scopes() {
    let Some(dunnage) = dunnage() else { return };
    let file = "ARG T=base\nFROM $T AS one\nRUN echo \"[$T]\" > /one\nFROM one\nARG T\nRUN echo \"[$T]\" > /two\nCMD cat /one /two\n";
    dunnage.build(file);
    assert_eq!(dunnage.run(["run", "--rm", "app"]).ok().stdout, "[]\n[base]\n");
}

#[test]
fn builder_i01_ignored_files_are_not_copied() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.write("context/keep", "");
    dunnage.write("context/node_modules/x", "");
    dunnage.write("context/logs/a.log", "");
    dunnage.write("context/logs/keep.log", "");
    dunnage.write("context/.dockerignore", "node_modules\nlogs\n!logs/keep.log\nDockerfile\n.dockerignore\n");
    dunnage.build("FROM base\nCOPY . /c\nCMD cd /c && find . | sort\n");
    assert_eq!(dunnage.run(["run", "--rm", "app"]).ok().stdout, ".\n./keep\n./logs\n./logs/keep.log\n");
    dunnage.write("context/Dockerfile", "FROM base\nCOPY node_modules /c\n");
    dunnage.run(["build", "context"]).fails(1, "excluded by");
}

#[test]
fn no_cache_runs_everything_and_build_arguments_reach_run() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.write("context/Dockerfile", "FROM base\nARG WHO=nobody\nRUN echo hello $WHO > /o\nCMD cat /o\n");
    dunnage.run(["build", "-t", "app", "context"]).ok();
    let again = dunnage.run(["build", "--no-cache", "--build-arg", "WHO=you", "-t", "app", "context"]).ok();
    assert_eq!(counts(&again.stderr), (1, 0));
    assert_eq!(dunnage.run(["run", "--rm", "app"]).ok().stdout, "hello you\n");
}

#[test]
fn security_f08_sixteen_builds_of_one_file_at_once_run_each_step_once() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.write("context/Dockerfile", "FROM base\nRUN sleep 0.2; echo a > /a\nRUN echo b > /b\n");
    let mut children = Vec::new();
    for number in 0..16 {
        let mut command = dunnage.command(["build", "--iidfile", &format!("id{number}"), "context"]);
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        children.push(command.spawn().unwrap());
    }
    let mut performed = 0;
    for child in children {
        let output = child.wait_with_output().unwrap();
        let log = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{log}");
        performed += counts(&log).0;
    }
    assert_eq!(performed, 2);
    let read = |number| std::fs::read_to_string(dunnage.dir(".").join(format!("id{number}"))).unwrap();
    let ids: std::collections::BTreeSet<String> = (0..16).map(read).collect();
    assert_eq!(ids.len(), 1, "{ids:?}");
    assert_eq!(dunnage.leftovers(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn builder_c08_a_link_of_a_stage_that_is_named_itself_gives_its_file() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.build(
        "FROM base AS make\nRUN mkdir /out && echo one > /out/one && ln -s one /out/link\nFROM base\nCOPY --from=make /out/link /file\nCMD [\"sh\", \"-c\", \"test -f /file && ! test -L /file && cat /file\"]\n",
    );
    assert_eq!(dunnage.run(["run", "--rm", "app"]).ok().stdout, "one\n");
}
