//! What COPY and ADD of local files do, case by case.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use testdata::{BASE, Dunnage, Need};

fn dunnage() -> Option<Dunnage> {
    with(&BASE)
}

fn with(needs: &[Need]) -> Option<Dunnage> {
    Dunnage::with_base(env!("CARGO_BIN_EXE_dunnage"), needs)
}

fn app(dunnage: &Dunnage) -> String {
    dunnage.run(["run", "--rm", "app"]).ok().stdout
}

fn mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// The directories of layers in the store.
fn layers(dunnage: &Dunnage) -> Vec<PathBuf> {
    let found = std::fs::read_dir(dunnage.root().join("layers")).unwrap();
    let mut found: Vec<PathBuf> = found.map(|entry| entry.unwrap().path()).collect();
    found.sort();
    found
}

#[test]
fn builder_c07_security_d01_paths_stop_at_the_contexts_root() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.write("x", "outside\n");
    dunnage.write("context/x", "inside\n");
    dunnage.build("FROM base\nCOPY ../x /a\nCOPY /../../x /b\nCMD cat /a /b\n");
    assert_eq!(app(&dunnage), "inside\ninside\n");
    std::fs::remove_file(dunnage.dir("context").join("x")).unwrap();
    dunnage.write("context/Dockerfile", "FROM base\nCOPY ../x /a\n");
    dunnage.run(["build", "context"]).fails(1, "`..` stops at its root");
}

#[test]
fn builder_c08_security_d02_links_stay_links_below_a_directory() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.write("context/d/f", "file\n");
    let context = dunnage.dir("context");
    symlink("f", context.join("d/inner")).unwrap();
    symlink("/etc/shadow", context.join("d/out")).unwrap();
    symlink("d", context.join("l")).unwrap();
    dunnage.build("FROM base\nCOPY d /d/\nCOPY l/f /through\nCMD readlink /d/inner; readlink /d/out; cat /through\n");
    assert_eq!(app(&dunnage), "f\n/etc/shadow\nfile\n");
}

/// A slash says that it is a directory, and nothing more.
#[test]
fn a_new_directory_has_the_same_time_with_and_without_a_slash() {
    let Some(dunnage) = dunnage() else { return };
    for name in ["one/sub/f", "two/g"] {
        dunnage.write(&format!("context/{name}"), name);
    }
    dunnage.write("context/file", "file");
    for (name, time) in [("one/sub", "@1000000001"), ("one", "@1000000002"), ("two", "@1000000003")] {
        let status = Command::new("touch").args(["-d", time]).arg(dunnage.dir("context").join(name)).status();
        assert!(status.unwrap().success());
    }
    dunnage.build(
        "FROM base\nRUN mkdir /there && touch -d @5 /there\nCOPY one /plain\nCOPY one /slash/\nCOPY one /deep/er/\n\
         COPY file two one /several/\nCOPY one /there/\nCOPY --link one /linked/\nCMD stat -c %Y /plain /slash /deep/er \
         /several /there /linked /slash/sub\n",
    );
    let wanted = "1000000002\n1000000002\n1000000002\n1000000003\n5\n1000000002\n1000000001\n";
    assert_eq!(app(&dunnage), wanted);
}

#[test]
fn builder_c10_links_of_the_image_are_followed_inside_it() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.write("context/f", "f\n");
    dunnage.build(
        "FROM base\nRUN mkdir -p /real && ln -s real /link && ln -s /real /absolute && ln -s ../../../../real /up\nCOPY f /link/a\nCOPY f /absolute/b\nCOPY f /up/c\nCMD ls /real; readlink /link\n",
    );
    assert_eq!(app(&dunnage), "a\nb\nc\nreal\n");
}

#[test]
fn builder_c12_directories_that_are_there_take_the_sources_mode_but_the_top_keeps_its_own() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.write("context/d/sub/f", "f\n");
    let context = dunnage.dir("context");
    mode(&context.join("d"), 0o711);
    mode(&context.join("d/sub"), 0o750);
    dunnage.build("FROM base\nRUN mkdir -p /t/sub && chmod 700 /t && chmod 777 /t/sub && chown 3:4 /t /t/sub\nCOPY d /t\nCOPY d /new\nCMD stat -c '%n %a %u:%g' /t /t/sub /new\n");
    assert_eq!(app(&dunnage), "/t 700 3:4\n/t/sub 750 0:0\n/new 755 0:0\n");
}

#[test]
fn builder_c13_names_of_owners_are_the_images() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.write("context/f", "f\n");
    dunnage.build("FROM base\nRUN echo 'u:x:71:72::/:' >> /etc/passwd; echo 'g:x:73:' >> /etc/group\nCOPY --chown=u f /a\nCOPY --chown=u:g f /b\nCOPY --chown=9:g f /made/c\nCOPY --link --chown=u:g f /d\nCMD stat -c '%n %u:%g' /a /b /made /made/c /d\n");
    assert_eq!(app(&dunnage), "/a 71:72\n/b 71:73\n/made 9:73\n/made/c 9:73\n/d 71:73\n");
    dunnage.write("context/Dockerfile", "FROM base\nCOPY --chown=nobody-here f /a\n");
    dunnage.run(["build", "context"]).fails(1, "nobody-here");
}

#[test]
fn builder_c15_symbolic_modes_are_of_each_entry() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.write("context/d/f", "f\n");
    let run = dunnage.write("context/d/run", "#!/bin/sh\n");
    mode(&run, 0o700);
    dunnage.build("FROM base\nCOPY --chmod=u=rwX,go=rX d /d\nCOPY --chmod=640 d /o\nCMD stat -c '%n %a' /d /d/f /d/run /o /o/f /o/run\n");
    assert_eq!(app(&dunnage), "/d 755\n/d/f 644\n/d/run 755\n/o 640\n/o/f 640\n/o/run 640\n");
}

#[test]
fn builder_c19_files_of_the_context_are_roots() {
    let Some(dunnage) = dunnage() else { return };
    let path = dunnage.write("context/d/f", "f\n");
    std::os::unix::fs::chown(&path, Some(1234), Some(5678)).unwrap();
    std::os::unix::fs::chown(path.parent().unwrap(), Some(1234), Some(5678)).unwrap();
    dunnage.build("FROM base\nCOPY d /d\nCMD stat -c '%u:%g' /d /d/f\n");
    assert_eq!(app(&dunnage), "0:0\n0:0\n");
}

#[test]
fn builder_c23_excluded_paths_are_left_out() {
    let Some(dunnage) = dunnage() else { return };
    for name in ["a.md", "a.txt", "keep.md", "t/x", "s/b.md", "s/t/y"] {
        dunnage.write(&format!("context/d/{name}"), "");
    }
    dunnage.build(
        "FROM base\nCOPY --exclude=*.md --exclude=t/** --exclude=!keep.md d /d/\nCMD cd /d && find . -type f | sort\n",
    );
    assert_eq!(app(&dunnage), "./a.txt\n./keep.md\n./s/b.md\n./s/t/y\n");
}

#[test]
fn builder_c24_parents_are_kept_behind_the_pivot() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.write("context/x/a", "xa\n");
    dunnage.write("context/y/a", "ya\n");
    dunnage.write("context/deep/er/f", "f\n");
    dunnage.build("FROM base\nCOPY --parents ./x/a ./y/a /p/\nCOPY --parents deep/./er/f /q/\nCOPY --parents deep /r/\nCMD find /p /q /r -type f | sort\n");
    assert_eq!(app(&dunnage), "/p/x/a\n/p/y/a\n/q/er/f\n/r/deep/er/f\n");
    dunnage.write("context/Dockerfile", "FROM base\nCOPY --parents ./none/a /p/\n");
    dunnage.run(["build", "context"]).fails(1, "not found");
}

#[test]
fn builder_c27_a_linked_copy_survives_another_base() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.write("context/f", "f\n");
    let file =
        |salt: &str| format!("FROM base AS b\nRUN echo {salt} > /salt && ln -s /etc /d\nFROM b\nCOPY --link f /d/f\n");
    let diff_id = |salt: &str| {
        dunnage.build(&file(salt));
        let layers = dunnage.run(["inspect", "--format", "{{json .RootFS.Layers}}", "app"]).ok().stdout;
        let layers: Vec<String> = serde_json::from_str(&layers).unwrap();
        layers.last().unwrap().clone()
    };
    let first = diff_id("one");
    assert_eq!(diff_id("two"), first);
    dunnage.write("context/Dockerfile", file("three"));
    let log = dunnage.run(["build", "-t", "app", "context"]).ok().stderr;
    assert!(log.contains("1 of 2 steps cached"), "{log}");
    // The destination's own link is not read: a real directory stands in its place.
    dunnage.build(&format!("{}CMD stat -c %F /d; cat /d/f\n", file("four")));
    assert_eq!(app(&dunnage), "directory\nf\n");
}

#[test]
fn builder_c29_destinations_stand_below_the_working_directory() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.write("context/f", "f\n");
    dunnage.build(
        "FROM base\nWORKDIR /w\nCOPY f r\nCOPY f .\nCOPY f sub/\nARG E\nCOPY f ./${E}\nCMD find /w -type f | sort\n",
    );
    assert_eq!(app(&dunnage), "/w/f\n/w/r\n/w/sub/f\n");
}

#[test]
fn builder_c31_a_sparse_file_stays_sparse_in_the_layer() {
    let Some(dunnage) = dunnage() else { return };
    let path = dunnage.write("context/sparse", [1; 4096]);
    std::fs::File::options().write(true).open(&path).unwrap().set_len(1 << 30).unwrap();
    dunnage.build("FROM scratch\nCOPY sparse /sparse\n");
    let copies: Vec<PathBuf> =
        layers(&dunnage).iter().map(|layer| layer.join("fs/sparse")).filter(|path| path.exists()).collect();
    let metadata = std::fs::metadata(&copies[0]).unwrap();
    assert_eq!((copies.len(), metadata.len()), (1, 1 << 30));
    assert!(metadata.blocks() * 512 < 1 << 20, "{} blocks", metadata.blocks());
}

#[test]
fn a_file_and_a_directory_are_in_each_others_way() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.write("context/d/f", "f\n");
    dunnage.write("context/f", "f\n");
    for (copy, sentence) in [
        ("COPY d /file", "cannot copy to /file"),
        ("COPY f /file/x", "cannot copy to /file/x"),
        ("COPY e /", "cannot copy to /"),
    ] {
        std::fs::create_dir_all(dunnage.dir("context").join("e/file")).unwrap();
        dunnage.write("context/Dockerfile", format!("FROM base\nRUN touch /file\n{copy}\n"));
        dunnage.run(["build", "context"]).fails(1, sentence);
    }
}

#[test]
fn hard_links_are_kept_and_sockets_left_out() {
    let Some(dunnage) = dunnage() else { return };
    let first = dunnage.write("context/d/one", "same\n");
    std::fs::hard_link(&first, first.with_file_name("two")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(first.with_file_name("socket")).unwrap();
    dunnage.build("FROM base\nCOPY d /d\nCMD ls /d; stat -c %h /d/one\n");
    assert_eq!(app(&dunnage), "one\ntwo\n2\n");
}

#[test]
fn builder_d01_an_archive_is_laid_over_what_is_there() {
    let Some(dunnage) = with(&[Need::Root, Need::Program("busybox"), Need::Program("zstd")]) else { return };
    dunnage.write("context/t/inner", "packed\n");
    dunnage.write("context/t/new", "new\n");
    let tar = |args: &[&str]| {
        let status = Command::new("tar").args(args).args(["-C", "t", "."]).current_dir(dunnage.dir("context")).status();
        assert!(status.unwrap().success());
    };
    tar(&["--zstd", "-cf", "named.txt"]);
    dunnage.build("FROM base\nRUN mkdir /d && echo old > /d/inner && echo kept > /d/kept\nADD named.txt /d/\nCMD cat /d/inner /d/new /d/kept\n");
    assert_eq!(app(&dunnage), "packed\nnew\nkept\n");
}

#[test]
fn builder_i02_the_dockerfile_and_the_ignore_file_may_be_ignored() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.write("context/f", "");
    dunnage.write("context/.dockerignore", "Dockerfile\n.dockerignore\n");
    dunnage.build("FROM base\nCOPY . /c/\nCMD ls -A /c\n");
    assert_eq!(app(&dunnage), "f\n");
}

#[test]
fn builder_i03_the_dockerfiles_own_ignore_file_stands_alone() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.write("context/a", "");
    dunnage.write("context/b", "");
    dunnage.write("context/.dockerignore", "a\n");
    dunnage.write("context/x.Dockerfile.dockerignore", "b\nx.*\n.*\n");
    dunnage.write("context/x.Dockerfile", "FROM base\nCOPY . /c/\nCMD ls -A /c\n");
    dunnage.run(["build", "-t", "app", "-f", "context/x.Dockerfile", "context"]).ok();
    assert_eq!(app(&dunnage), "a\n");
}

/// The system calls of a build that name files.
fn traced(dunnage: &Dunnage) -> String {
    let log = dunnage.dir(".").join("trace");
    let status = Command::new("strace")
        .args(["-f", "-qq", "-s", "4096", "-e", "trace=%file,getdents64", "-o"])
        .arg(&log)
        .arg(env!("CARGO_BIN_EXE_dunnage"))
        .args(["build", "-q", "context"])
        .current_dir(dunnage.dir("."))
        .env("DUNNAGE_ROOT", dunnage.root())
        .output();
    let output = status.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    std::fs::read_to_string(log).unwrap()
}

#[test]
fn security_d04_builder_i06_ignored_files_are_not_looked_at() {
    let Some(dunnage) = with(&[Need::Root, Need::Program("busybox"), Need::Program("strace")]) else { return };
    for number in 0..1000 {
        dunnage.write(&format!("context/node_modules/m/file-{number}"), "");
    }
    dunnage.write("context/secret/key", "1");
    dunnage.write("context/secret/keep", "2");
    dunnage.write("context/src/f", "3");
    dunnage.write("context/.dockerignore", "node_modules\nsecret\n!secret/keep\n");
    dunnage.write("context/Dockerfile", "FROM base\nCOPY . /c/\n");
    let log = traced(&dunnage);
    assert!(log.contains("\"keep\"") || log.contains("secret/keep\""), "the trace shows the walk");
    assert!(!log.contains("file-7\"") && !log.contains("node_modules/"), "ignored files were looked at");
    let opened = |line: &&str| line.contains("open") && (line.contains("\"key\"") || line.contains("secret/key\""));
    assert_eq!(log.lines().find(opened), None);
    // What is ignored is in no key.
    dunnage.write("context/secret/key", "other");
    let again = dunnage.run(["build", "context"]).ok().stderr;
    assert!(again.contains("1 of 1 steps cached"), "{again}");
    // The ignore file itself must be a file of the context.
    std::fs::remove_file(dunnage.dir("context").join(".dockerignore")).unwrap();
    symlink("/etc/hostname", dunnage.dir("context").join(".dockerignore")).unwrap();
    dunnage.run(["build", "context"]).fails(1, "is not a regular file");
}

#[test]
fn security_d03_a_file_that_is_not_what_it_said_is_an_error() {
    let Some(dunnage) = with(&[Need::Root, Need::Program("busybox"), Need::Program("mount")]) else { return };
    // A file that says that it is empty and gives text: as one that grows while it is read.
    let path = dunnage.write("context/f", "");
    let mount = |args: &[&str]| Command::new(args[0]).args(&args[1..]).arg(&path).status().unwrap().success();
    assert!(mount(&["mount", "--bind", "/proc/version"]));
    dunnage.write("context/Dockerfile", "FROM base\nCOPY f /f\n");
    let ran = dunnage.run(["build", "context"]);
    assert!(mount(&["umount"]));
    ran.fails(1, "changed while it was being copied");
    assert_eq!(dunnage.leftovers(), Vec::<PathBuf>::new());
}

#[test]
fn security_d16_links_of_a_stage_stay_in_the_stage() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.build("FROM base AS a\nRUN ln -s / /l && mkdir -p /own && echo stage > /own/name\nFROM base\nCOPY --from=a /l/own/name /x\nCMD cat /x\n");
    assert_eq!(app(&dunnage), "stage\n");
    dunnage.write(
        "context/Dockerfile",
        "FROM scratch AS a\nCOPY --from=base /bin /bin\nFROM base\nCOPY --from=a /bin/../../../etc/machine-id /x\n",
    );
    dunnage.run(["build", "context"]).fails(1, "not found");
}

#[test]
fn security_d22_copies_in_a_circle_are_told() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.write("context/Dockerfile", "FROM base AS a\nCOPY --from=b /x /x\nFROM base AS b\nCOPY --from=a /x /x\n");
    dunnage.run(["build", "context"]).fails(1, "circular dependency");
}
