//! Bad input: one clear sentence on stderr, with file and line where there is one, a documented exit code, an unharmed store.
#![allow(clippy::unwrap_used, missing_docs)]

use testdata::{Dunnage, Need, skipped};

fn dunnage() -> Dunnage {
    Dunnage::new(env!("CARGO_BIN_EXE_dunnage"))
}

fn with_base() -> Option<Dunnage> {
    if skipped(&[Need::Root, Need::Program("busybox")]) {
        return None;
    }
    let dunnage = dunnage();
    dunnage.busybox();
    Some(dunnage)
}

#[test]
fn no_dockerfile() {
    let dunnage = dunnage();
    dunnage.dir("empty");
    dunnage.run(["build", "empty"]).fails(1, "Dockerfile");
    dunnage.run(["build", "-f", "none", "empty"]).fails(1, "cannot read the Dockerfile none: No such file");
    dunnage.run(["build", "nowhere"]).fails(1, "nowhere");
    dunnage.run(["build", ""]).fails(2, "empty");
}

#[test]
fn builder_p18_unknown_instruction_with_a_suggestion() {
    let dunnage = dunnage();
    // The base is nowhere: the mistake is told before anybody looks for it.
    dunnage.write("context/Dockerfile", "FROM registry.invalid/nowhere:1\nCOYP a b\n");
    let ran = dunnage.run(["build", "context"]).fails(1, "unknown instruction: COYP");
    for part in ["context/Dockerfile:2:1", "did you mean `COPY`?", "2 | COYP a b", "^^^^"] {
        assert!(ran.stderr.contains(part), "no {part:?} in {}", ran.stderr);
    }
    assert!(!ran.stderr.contains("nowhere"), "{}", ran.stderr);
}

#[test]
fn builder_p23_an_empty_dockerfile() {
    let dunnage = dunnage();
    for text in ["", "\n\n", "# nothing\n"] {
        dunnage.write("context/Dockerfile", text);
        let ran = dunnage.run(["build", "context"]).fails(1, "the Dockerfile has no instructions");
        assert!(ran.stderr.contains("context/Dockerfile:1:1"), "{}", ran.stderr);
    }
}

#[test]
fn missing_copy_source_names_line_and_nearest() {
    let dunnage = dunnage();
    dunnage.write("context/requirements.txt", "");
    dunnage.write("context/Dockerfile", "FROM scratch\n\nCOPY requirments.txt /app/\n");
    let ran = dunnage.run(["build", "context"]).fails(1, "COPY source `requirments.txt` not found");
    assert!(ran.stderr.contains("Dockerfile:3") && ran.stderr.contains("requirements.txt"), "{}", ran.stderr);
}

#[test]
fn builder_c03_several_sources_need_a_directory() {
    let dunnage = dunnage();
    dunnage.write("context/Dockerfile", "FROM scratch\nCOPY a b /d\n");
    dunnage.run(["build", "context"]).fails(1, "/d/");
}

#[test]
fn unknown_base_and_unknown_stage() {
    let dunnage = dunnage();
    dunnage.write("context/Dockerfile", "FROM no-such-base\n");
    let ran = dunnage.run(["build", "context"]).fails(1, "no-such-base");
    assert!(ran.stderr.contains("Dockerfile:1"), "{}", ran.stderr);
    dunnage.write("context/Dockerfile", "FROM scratch AS a\nFROM scratch\nCOPY --from=7 /x /x\n");
    dunnage.run(["build", "context"]).fails(1, "invalid stage index 7");
}

#[test]
fn builder_f07_stages_that_need_each_other() {
    let dunnage = dunnage();
    dunnage.write(
        "context/Dockerfile",
        "FROM scratch AS a\nCOPY --from=b /x /x\nFROM scratch AS b\nCOPY --from=a /x /x\n",
    );
    let ran = dunnage.run(["build", "context"]).fails(1, "circular dependency");
    assert!(ran.stderr.contains("stage `a`") && ran.stderr.contains("stage `b`"), "{}", ran.stderr);
}

#[test]
fn builder_r01_a_failing_run_shows_code_line_and_tail() {
    let Some(dunnage) = with_base() else { return };
    dunnage.write(
        "context/Dockerfile",
        "FROM base\nRUN true\nRUN for i in $(seq 1 50); do echo line-$i; done; echo why >&2; exit 42\n",
    );
    let ran = dunnage.run(["build", "-t", "app", "context"]).fails(1, "exit code 42");
    for text in ["Dockerfile:3", "line-50", "why"] {
        assert!(ran.stderr.contains(text), "no {text} in {}", ran.stderr);
    }
    assert!(dunnage.leftovers().is_empty());
    dunnage.run(["run", "app"]).fails(125, "app");
    // The step before the failure is kept.
    dunnage.write("context/Dockerfile", "FROM base\nRUN true\n");
    let log = dunnage.run(["build", "context"]).ok().stderr;
    assert!(log.contains("1 of 1"), "{log}");
}

#[test]
fn unknown_images_and_names() {
    let dunnage = dunnage();
    dunnage.run(["run", "nothing-here"]).fails(125, "nothing-here");
    dunnage.run(["rmi", "nothing-here"]).fails(1, "nothing-here");
    let inspect = dunnage.run(["inspect", "nothing-here"]).fails(1, "nothing-here");
    assert_eq!(inspect.stdout, "[]\n");
    dunnage.write("context/Dockerfile", "FROM scratch\n");
    dunnage.run(["build", "-t", "UPPER", "context"]).fails(2, "lowercase");
    dunnage.run(["biuld"]).fails(2, "build");
}

#[test]
fn flags_that_this_version_lacks_are_refused() {
    let dunnage = dunnage();
    let unsupported = |flag: &str| format!("error: {flag} is not supported by this version of dunnage");
    for (args, flag) in [
        (vec!["build", "--memory", "1g", "."], "--memory"),
        (vec!["build", "--cpu-quota=5", "."], "--cpu-quota"),
        (vec!["image", "build", "--squash", "."], "--squash"),
    ] {
        dunnage.run(args).fails(2, &unsupported(flag));
    }
    for (args, flag) in [
        (vec!["run", "--runtime", "runc", "x"], "--runtime"),
        (vec!["--root", "build", "run", "--storage-opt", "size=1g", "x"], "--storage-opt"),
    ] {
        dunnage.run(args).fails(125, &unsupported(flag));
    }
    // A command that never has such a flag, in docker neither, does not speak of versions.
    let ran = dunnage.run(["images", "--memory", "1g"]).fails(2, "unexpected argument");
    assert!(!ran.stderr.contains("version of dunnage"), "{}", ran.stderr);
}

#[test]
fn a_broken_archive_is_refused_and_nothing_is_left() {
    let dunnage = dunnage();
    let path = dunnage.write("broken.tar", "this is no archive at all");
    dunnage.run(["load", "-i", path.to_str().unwrap()]).fails(1, "archive");
    let path = dunnage.write("rootfs.tar", vec![b'x'; 4096]);
    assert_ne!(dunnage.run(["import", path.to_str().unwrap(), "x"]).code, 0);
    assert!(dunnage.leftovers().is_empty());
    assert_eq!(dunnage.run(["images", "-q"]).ok().stdout, "");
}

#[test]
fn security_f04_a_full_disk_is_one_sentence_and_no_harm() {
    let Some(dunnage) = with_base() else { return };
    // A small file system of its own behind the context's target: the store on a tmpfs of 8 MiB.
    let mount = dunnage.dir("small");
    let status = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=8m", "tmpfs"])
        .arg(&mount)
        .status()
        .unwrap();
    assert!(status.success());
    let result = std::panic::catch_unwind(|| {
        let run = |args: &[&str]| -> testdata::Ran {
            dunnage.command(args).env("DUNNAGE_ROOT", mount.join("root")).output().unwrap().into()
        };
        run(&["bootstrap", "--from", "busybox", "base"]).ok();
        dunnage.write("context/Dockerfile", "FROM base\nRUN echo kept > /kept\n");
        run(&["build", "-t", "good", "context"]).ok();
        dunnage.write("context/Dockerfile", "FROM base\nCOPY big /big\n");
        dunnage.write("context/big", vec![7_u8; 16 << 20]);
        let ran = run(&["build", "-t", "big", "context"]);
        assert!(ran.code == 1 || ran.code == 3, "{ran:?}");
        assert!(ran.stderr.contains("no space is left on the disk"), "{}", ran.stderr);
        std::fs::remove_file(dunnage.dir("context").join("big")).unwrap();
        assert_eq!(run(&["run", "--rm", "good", "cat", "/kept"]).ok().stdout, "kept\n");
    });
    let status = std::process::Command::new("umount").arg(&mount).status().unwrap();
    assert!(status.success(), "something still uses the store");
    result.unwrap();
}
