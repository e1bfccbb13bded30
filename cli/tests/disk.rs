//! Disks that are full, or fail: what a command says of it, and what the store holds afterwards.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::path::{Path, PathBuf};
use std::process::Command;

use testdata::{Dunnage, Need, Ran, Served, skipped};

/// A file system of a certain size at the store's place.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(dunnage: &Dunnage, mebibytes: u64) -> SmallDisk {
        let path = dunnage.dir("root");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &size(mebibytes), "dunnage-test"]).arg(&path);
        assert!(mount.status().unwrap().success());
        SmallDisk(path)
    }

    fn grow(&self, mebibytes: u64) {
        let option = format!("remount,{}", size(mebibytes));
        assert!(Command::new("mount").args(["-o", &option]).arg(&self.0).status().unwrap().success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn size(mebibytes: u64) -> String {
    format!("size={mebibytes}m,mode=0700")
}

/// Bytes that do not compress and are not alike.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(next).flatten().take(length).collect()
}

/// An archive of an image of some 20 MiB in two layers, and a context of 8 MiB.
fn archive(dunnage: &Dunnage) {
    dunnage.busybox();
    for number in 0..10 {
        dunnage.write(&format!("big/tree/{number}"), noise(number, 2 << 20));
    }
    dunnage.write("big/Dockerfile", "FROM base\nCOPY tree /tree\nCMD cat /tree/0\n");
    dunnage.run(["build", "-q", "-t", "big", "big"]).ok();
    dunnage.run(["save", "-o", "big.tar", "big"]).ok();
    dunnage.write("context/file", noise(11, 8 << 20));
    dunnage.write("context/Dockerfile", "FROM big\nCOPY file /file\nRUN cp /file /again && rm /again\n");
}

/// A server leaves room on its disk, and says so; with more room the same push comes to its end.
#[test]
fn a_registry_on_a_full_disk_refuses_what_does_not_fit() {
    if skipped(&[Need::Root, Need::Program("busybox"), Need::Program("mount")]) {
        return;
    }
    let (maker, dunnage) = (Dunnage::new(env!("CARGO_BIN_EXE_dunnage")), Dunnage::new(env!("CARGO_BIN_EXE_dunnage")));
    maker.busybox();
    maker.write("context/file", noise(1, 8 << 20));
    maker.write("context/Dockerfile", "FROM base\nCOPY file /file\nCMD echo whole\n");
    let disk = SmallDisk::mount(&dunnage, 260);
    let served = Served::start(&dunnage, &[]);
    let name = format!("{}/app:1", served.host());
    maker.run(["build", "-q", "-t", &name, "context"]).ok();
    maker.run(["push", &name]).fails(1, "the registry's disk has no room for it");
    served.get("/v2/").is(200);
    disk.grow(320);
    maker.run(["push", &name]).ok();
    assert_eq!(dunnage.run(["run", "--rm", "app:1"]).ok().stdout, "whole\n");
    drop(served);
}

/// A full disk is told with the path and what is free there, and with more room the same command comes to its end.
#[test]
fn security_f04_a_full_disk_at_every_size() {
    if skipped(&[Need::Root, Need::Program("busybox"), Need::Program("mount")]) {
        return;
    }
    let maker = Dunnage::new(env!("CARGO_BIN_EXE_dunnage"));
    archive(&maker);
    let (mut full, mut fitted) = (0, 0);
    for mebibytes in (1..=64).step_by(3).chain([128]) {
        let dunnage = Dunnage::new(env!("CARGO_BIN_EXE_dunnage"));
        let disk = SmallDisk::mount(&dunnage, mebibytes);
        for args in [["load", "-q", "-i", "big.tar"], ["build", "-q", "-t=app", "context"]] {
            let run = || Ran::from(dunnage.command(args).current_dir(maker.dir("")).output().unwrap());
            let ran = run();
            let moment = format!("{mebibytes} MiB, {args:?}: {}: {}", ran.code, ran.stderr);
            if ran.code == 0 {
                fitted += 1;
                continue;
            }
            full += 1;
            tells_of_it(&dunnage, &ran, &moment);
            assert!(dunnage.leftovers().is_empty(), "{moment}: {:?}", dunnage.leftovers());
            disk.grow(256);
            let again = run();
            assert_eq!(again.code, 0, "{moment}; with more room: {}", again.stderr);
            disk.grow(mebibytes.max(used(&disk.0)));
        }
        disk.grow(256);
        let check = dunnage.run(["system", "check"]);
        assert_eq!(check.code, 0, "{mebibytes} MiB: {}{}", check.stdout, check.stderr);
        assert_eq!(dunnage.run(["run", "--rm", "app", "cat", "/file"]).code, 0);
    }
    assert!(full > 10 && fitted > 2, "{full} commands found no room, {fitted} did");
}

fn used(path: &Path) -> u64 {
    let output = Command::new("df").args(["-m", "--output=used"]).arg(path).output().unwrap();
    String::from_utf8(output.stdout).unwrap().lines().nth(1).unwrap().trim().parse::<u64>().unwrap() + 1
}

/// One sentence with the path and the bytes; where the step's own program found no room, its words and ours.
fn tells_of_it(dunnage: &Dunnage, ran: &Ran, moment: &str) {
    let root = dunnage.root().display().to_string();
    if ran.code == 1 {
        let told = ran.stderr.contains("No space left on device") && ran.stderr.contains("bytes are free");
        assert!(told && ran.stderr.contains(&root), "{moment}");
        return;
    }
    assert_eq!(ran.code, 3, "{moment}");
    assert!(ran.stderr.contains("no space is left on the disk"), "{moment}");
    assert!(ran.stderr.contains(&root) && ran.stderr.contains("free"), "{moment}");
    assert_eq!(ran.stderr.lines().filter(|line| line.starts_with("error")).count(), 1, "{moment}");
}

const STRACE: [Need; 3] = [Need::Root, Need::Program("busybox"), Need::Program("strace")];

/// A command under strace; gives its end and what it called, a line each.
fn traced(dunnage: &Dunnage, options: &[&str], args: &[&str]) -> (Ran, Vec<String>) {
    let plain = dunnage.command(args);
    let log = dunnage.dir("").join("trace");
    let mut strace = Command::new("strace");
    strace.args(["-f", "-y", "-qq", "-o"]).arg(&log).args(options).arg(plain.get_program()).args(args);
    strace.current_dir(dunnage.dir("")).env("DUNNAGE_ROOT", dunnage.root());
    let ran = Ran::from(strace.output().unwrap());
    let text = std::fs::read_to_string(&log).unwrap();
    (ran, text.lines().map(str::to_owned).collect())
}

/// The n-th flush of each thread fails: the command says so, nothing is there that was not flushed, and the next one
/// writes it anew.
#[test]
fn security_f06_a_flush_that_fails_is_no_commit() {
    if skipped(&STRACE) {
        return;
    }
    let prepared = Dunnage::new(env!("CARGO_BIN_EXE_dunnage"));
    prepared.busybox();
    prepared.write("context/Dockerfile", "FROM base\nCOPY <<E /f\ntext\nE\nRUN ln /f /g\n");
    prepared.run(["build", "-q", "-t", "other", "context"]).ok();
    prepared.run(["save", "-o", "other.tar", "other"]).ok();
    prepared.run(["rmi", "other"]).ok();
    prepared.run(["system", "prune", "--all", "--force"]).ok();
    prepared.busybox();
    let commands: [&[&str]; 3] =
        [&["load", "-q", "-i", "other.tar"], &["build", "-q", "-t", "other", "context"], &["tag", "base", "other"]];
    let mut failures = 0;
    for (args, call) in commands.iter().flat_map(|args| ["fsync", "fdatasync", "syncfs"].map(|call| (*args, call))) {
        for number in 1..20 {
            let dunnage = prepared.copy();
            let inject = format!("inject={call}:error=EIO:when={number}");
            let (ran, calls) = traced(&dunnage, &["-e", &format!("trace={call}"), "-e", &inject], args);
            let Some(failed) = calls.iter().find(|call| call.contains("(INJECTED)")) else {
                assert_eq!(ran.code, 0, "{}", ran.stderr);
                break;
            };
            failures += 1;
            let moment = format!("{args:?}: {failed}: {}", ran.stderr);
            assert_eq!(ran.code, 3, "{moment}");
            assert!(ran.stderr.contains("Input/output error"), "{moment}");
            // A name is flushed after it is given: it may be there, and was not acknowledged.
            if !failed.contains("/root/refs>") {
                dunnage.run(["inspect", "other"]).fails(1, "other");
            }
            assert!(dunnage.leftovers().is_empty(), "{moment}: {:?}", dunnage.leftovers());
            dunnage.run(args).ok();
            dunnage.run(["system", "check"]).ok();
            dunnage.run(["run", "--rm", "other", "true"]).ok();
        }
    }
    assert!(failures >= 10, "only {failures} flushes failed");
}

/// The order in which a commit reaches the disk: content, flush, name, flush of the directory; layers before the image,
/// the image before its name, and the name before the answer. Replaying it up to any call gives a whole store.
#[test]
fn security_f03_a_commit_is_flushed_before_it_has_its_name_and_named_before_it_is_told() {
    if skipped(&STRACE) {
        return;
    }
    let dunnage = Dunnage::new(env!("CARGO_BIN_EXE_dunnage"));
    dunnage.busybox();
    dunnage.write("context/Dockerfile", "FROM base\nCOPY <<E /f\ntext\nE\n");
    let calls = "trace=write,fsync,fdatasync,syncfs,rename,renameat,renameat2,linkat";
    let (ran, calls) = traced(&dunnage, &["-e", calls], &["build", "-q", "-t", "app", "context"]);
    ran.ok();
    let root = dunnage.root().display().to_string();
    let at = |what: &str, from: usize, test: &dyn Fn(&str) -> bool| {
        let found = calls.iter().skip(from).position(|call| test(call) && call.contains("= "));
        from + found.unwrap_or_else(|| panic!("no {what} after call {from}:\n{}", calls.join("\n")))
    };
    let renamed = |place: &str| {
        let target = format!("\"{root}/{place}/");
        at(place, 0, &move |call| call.contains("rename") && call.contains(&target))
    };
    let flushed = |place: &str, from: usize| {
        let directory = format!("<{root}/{place}>");
        at(place, from, &move |call| call.contains("fsync(") && call.contains(&directory))
    };
    let layer = renamed("layers");
    let draft = calls[layer].split('"').nth(1).unwrap();
    assert!(draft.starts_with(&format!("{root}/drafts/")), "{draft}");
    let record = at("layer.json", 0, &|call| call.contains("rename") && call.contains(&format!("{draft}/layer.json")));
    let flush = at("syncfs", record, &|call| call.contains("syncfs("));
    assert!(flush < layer, "the layer has its name before it is on the disk");
    let layer = flushed("layers", layer);
    let (image, name) = (renamed("images"), renamed("refs"));
    for place in [image, name] {
        let draft = calls[place].split('"').nth(1).unwrap();
        let flush = at("flush", 0, &|call| call.contains("fdatasync(") && call.contains(draft));
        assert!(flush < place, "{draft} has its name before it is on the disk");
    }
    assert!(layer < image && flushed("images", image) < name, "an image is named after it is on the disk");
    let told = at("the answer", 0, &|call| call.contains("write(1<") && call.contains("sha256:"));
    assert!(flushed("refs", name) < told, "it was told before it was on the disk");

    let (ran, calls) = traced(&dunnage, &["-e", "trace=fsync,linkat,rename"], &["save", "-o", "app.tar", "app"]);
    ran.ok();
    let order: Vec<&str> = calls.iter().map(|call| call.split_whitespace().nth(1).unwrap_or_default()).collect();
    let words: Vec<&str> = order.iter().map(|call| call.split('(').next().unwrap()).collect();
    assert_eq!(words, ["fsync", "linkat", "fsync"], "an archive is on the disk before it has its name: {calls:?}");
}
