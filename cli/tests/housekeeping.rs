//! Usage, all forms of prune, the index, damaged content, volumes: what keeps a store in order.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::Value;
use testdata::{BASE, Dunnage, Host, Need, skipped};

fn dunnage() -> Option<Dunnage> {
    Dunnage::with_base(env!("CARGO_BIN_EXE_dunnage"), &BASE)
}

fn du(path: &Path) -> u64 {
    let output = std::process::Command::new("du").args(["-s", "-B1"]).arg(path).output().unwrap();
    String::from_utf8_lossy(&output.stdout).split_whitespace().next().unwrap().parse().unwrap()
}

/// Bytes with three digits, as the program prints them.
fn human(bytes: u64) -> String {
    let (mut value, mut unit) = (bytes as f64, 0);
    while value >= 999.5 {
        (value, unit) = (value / 1000.0, unit + 1);
    }
    let digits = if unit == 0 || value >= 99.95 {
        0
    } else if value < 9.995 {
        2
    } else {
        1
    };
    let text = format!("{value:.digits$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{}", ["B", "kB", "MB", "GB"][unit])
}

/// The way back, to three digits.
fn bytes_of(text: &str) -> u64 {
    let (number, unit) = text.split_at(text.find(|c: char| c.is_ascii_alphabetic()).unwrap());
    let power = ["B", "kB", "MB", "GB"].iter().position(|known| *known == unit).unwrap();
    (number.parse::<f64>().unwrap() * 1000_f64.powi(power as i32)) as u64
}

fn usage(dunnage: &Dunnage) -> Value {
    serde_json::from_str(&dunnage.run(["system", "df", "-v", "--format", "json"]).ok().stdout).unwrap()
}

fn steps(usage: &Value) -> Vec<String> {
    let cache = usage["BuildCache"].as_array().unwrap();
    let mut steps: Vec<String> = cache.iter().map(|row| row["Step"].as_str().unwrap().to_owned()).collect();
    steps.sort();
    steps.dedup();
    steps
}

fn megabyte(name: &str) -> String {
    format!("RUN dd if=/dev/urandom of=/{name} bs=1M count=1 2>/dev/null")
}

#[test]
fn system_df_adds_up_to_what_du_says() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.build(&format!("FROM base\n{}\nRUN ln /a /b\n", megabyte("a")));
    dunnage.run(["run", "base", "sh", "-c", "echo x > /kept"]).ok();
    dunnage.run(["volume", "create", "data"]).ok();
    std::fs::write(dunnage.root().join("volumes/data/_data/f"), vec![1; 50_000]).unwrap();
    let usage = usage(&dunnage);
    assert_eq!(usage["TotalBytes"].as_u64().unwrap(), du(&dunnage.root()));
    let sum = |list: &str, field: &str| -> u64 {
        usage[list].as_array().unwrap().iter().map(|row| row[field].as_u64().unwrap()).sum()
    };
    let out = dunnage.run(["system", "df", "--format", "json"]).ok().stdout;
    let rows: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let kinds: Vec<&str> = rows.iter().map(|row| row["Type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["Images", "Containers", "Local Volumes", "Build Cache"]);
    let size = |row: usize| rows[row]["SizeBytes"].as_u64().unwrap();
    assert_eq!(size(1), sum("Containers", "SizeBytes"));
    assert_eq!(size(2), sum("Volumes", "SizeBytes"));
    assert_eq!(size(3), sum("BuildCache", "SizeBytes"));
    assert_eq!((0..4).map(size).sum::<u64>() + usage["OtherBytes"].as_u64().unwrap(), du(&dunnage.root()));
    // The base is shared by both images, the megabyte is the app's alone.
    let app = usage["Images"].as_array().unwrap().iter().find(|image| image["Repository"] == "app").unwrap();
    assert!(app["UniqueBytes"].as_u64().unwrap() >= 1 << 20 && app["SharedBytes"].as_u64().unwrap() > 0, "{app}");
    assert!(dunnage.run(["system", "df", "-v"]).ok().stdout.contains("Build cache usage: "));
    assert_eq!(dunnage.run(["system", "df", "--format", "{{.Type}}"]).ok().stdout.lines().count(), 4);
}

#[test]
fn prune_reports_the_bytes_that_the_disk_gets_back() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.build(&format!("FROM base\n{}\nRUN true\n", megabyte("a")));
    dunnage.run(["run", "base", "dd", "if=/dev/zero", "of=/x", "bs=64k", "count=3"]).ok();
    dunnage.run(["volume", "create"]).ok();
    dunnage.run(["system", "df"]).ok();
    for command in [
        vec!["container", "prune", "-f"],
        vec!["volume", "prune", "-f"],
        vec!["image", "prune", "-a", "-f", "--filter", "label=none"],
        vec!["builder", "prune", "-f"],
        vec!["image", "prune", "-a", "-f"],
        vec!["builder", "prune", "-a", "-f"],
        vec!["system", "prune", "-a", "-f", "--volumes"],
    ] {
        let mut dry: Vec<&str> = command.clone();
        dry.push("--dry-run");
        let forecast = dunnage.run(dry).ok().stdout;
        let before = du(&dunnage.root());
        let out = dunnage.run(&command).ok().stdout;
        let freed = human(before.saturating_sub(du(&dunnage.root())));
        let told = |text: &str| text.lines().last().unwrap().rsplit([' ', '\t']).next().unwrap().to_owned();
        assert_eq!(told(&out), freed, "{command:?}\n{out}");
        // The forecast leaves the index's own growing and shrinking out, and the last record's directory.
        let distance = bytes_of(&told(&forecast)).abs_diff(bytes_of(&told(&out)));
        assert!(distance < 400_000, "{command:?}: forecast\n{forecast}\nand it was\n{out}");
    }
    assert_eq!(dunnage.run(["images", "-aq"]).ok().stdout, "");
    assert!(dunnage.leftovers().is_empty());
    dunnage.run(["system", "check"]).ok();
}

#[test]
fn the_least_recently_used_cache_goes_first() {
    let Some(dunnage) = dunnage() else { return };
    for name in ["one", "two", "three"] {
        dunnage.build(&format!("FROM base\n{}\nRUN echo {name} > /{name}-on-top\n", megabyte(name)));
    }
    // The first is used again: now the second is the oldest.
    dunnage.build(&format!("FROM base\n{}\nRUN echo one > /one-on-top\n", megabyte("one")));
    dunnage.run(["rmi", "app"]).ok();
    dunnage.run(["image", "prune", "-f"]).ok();
    let freed = dunnage.run(["builder", "prune", "-f", "--max-used-space", "2500k"]).ok().stdout;
    assert!(freed.contains("of=/two") && !freed.contains("of=/one") && !freed.contains("of=/three"), "{freed}");
    let left = steps(&usage(&dunnage));
    assert!(left.iter().any(|step| step.contains("of=/three")) && left.iter().any(|step| step.contains("of=/one")));
    // What is reserved stays, whatever else is asked for; `--keep-storage` is its other name.
    dunnage.run(["builder", "prune", "-f", "--max-used-space", "1", "--keep-storage", "1200k"]).ok();
    let left = steps(&usage(&dunnage));
    assert!(left.iter().any(|step| step.contains("of=/one")) && !left.iter().any(|step| step.contains("of=/three")));
    // A younger age than all has nothing to remove; a disk that has enough free needs nothing.
    for flags in [["--filter", "until=24h"], ["--min-free-space", "1"]] {
        let out = dunnage.run(["builder", "prune", "-f", flags[0], flags[1]]).ok().stdout;
        assert!(!out.contains("of=/"), "{out}");
    }
    let all = dunnage.run(["builder", "prune", "-f"]).ok().stdout;
    assert!(all.contains("of=/one"), "{all}");
}

#[test]
fn prune_keeps_what_is_shared_named_or_labelled() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.build("FROM base\nLABEL keep=yes\nRUN echo a > /a\n");
    let old = dunnage.build("FROM base\nLABEL keep=no\nRUN echo b > /b\n");
    dunnage.build("FROM base\nRUN echo c > /c\n");
    // Two images have lost their name.
    let out = dunnage.run(["image", "prune", "-f", "--filter", "label=keep=no"]).ok().stdout;
    assert!(out.starts_with(&format!("Deleted Images:\ndeleted: {old}\n\nTotal reclaimed space: ")), "{out}");
    let out = dunnage.run(["image", "prune", "-f", "--filter", "label!=keep"]).ok().stdout;
    assert!(out.starts_with("Total reclaimed space: "), "{out}");
    // The cache of the image that has a name stays without -a.
    dunnage.run(["builder", "prune", "-f"]).ok();
    assert_eq!(steps(&usage(&dunnage)), ["RUN echo a > /a", "RUN echo c > /c"]);
    let out = dunnage.run(["image", "prune", "-a", "-f"]).ok().stdout;
    assert!(out.contains("untagged: app:latest") && out.contains("untagged: base:latest"), "{out}");
    dunnage.run(["system", "prune", "--volumes", "-f", "--filter", "until=1h"]).fails(2, "--volumes");
    dunnage.run(["builder", "prune", "-f", "--filter", "label=x"]).fails(2, "no labels");
    dunnage.run(["system", "prune"]).fails(2, "--force");
}

#[test]
fn builds_go_on_while_others_prune() {
    let Some(dunnage) = dunnage() else { return };
    let mut prunes = Vec::new();
    for round in 0..6 {
        for _ in 0..2 {
            let command = dunnage.command(["builder", "prune", "-a", "-f"]);
            prunes.push(quiet(command).spawn().unwrap());
        }
        let file = format!("FROM base\nRUN echo {round} > /a\nRUN cp /a /b\nCMD cat /b\n");
        dunnage.build(&file);
        assert_eq!(dunnage.run(["run", "--rm", "app"]).ok().stdout, format!("{round}\n"));
    }
    for prune in prunes {
        let output = prune.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    dunnage.run(["system", "check"]).ok();
}

fn quiet(mut command: std::process::Command) -> std::process::Command {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

#[test]
fn an_index_that_is_gone_damaged_or_locked_changes_no_answer() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.build("FROM base\nRUN echo a > /a\nRUN echo b > /b\n");
    let known = usage(&dunnage);
    let answers = |usage: &Value| {
        let mut sizes: Vec<String> = Vec::new();
        for (list, id) in [("Images", "ID"), ("BuildCache", "ID")] {
            for row in usage[list].as_array().unwrap() {
                sizes.push(format!("{} {} {}", row[id], row["Size"], row["Step"]));
            }
        }
        sizes.sort();
        sizes
    };
    let index = dunnage.root().join("index.db");
    let forget =
        || ["", "-wal", "-shm"].iter().for_each(|end| drop(std::fs::remove_file(format!("{}{end}", index.display()))));
    forget();
    assert_eq!(answers(&usage(&dunnage)), answers(&known));
    for damage in [b"x".repeat(100_000), Vec::new(), b"SQLite format 3\0".repeat(600)] {
        forget();
        std::fs::write(&index, damage).unwrap();
        assert_eq!(answers(&usage(&dunnage)), answers(&known));
        assert_eq!(dunnage.build("FROM base\nRUN echo a > /a\nRUN echo b > /b\n").len(), 71);
    }
    forget();
    std::fs::create_dir(&index).unwrap();
    assert_eq!(answers(&usage(&dunnage)), answers(&known));
    dunnage.run(["builder", "prune", "-f"]).ok();
    std::fs::remove_dir(&index).unwrap();
    dunnage.run(["system", "check"]).ok();
}

fn files_of(root: &Path) -> Vec<PathBuf> {
    let all = testdata::files(root, "");
    all.into_iter().filter(|path| path.is_file() && !path.is_symlink()).collect()
}

/// Locks and what is made anew at each start hold nothing; the index is an aid, and has a test of its own. What builds
/// said and saw (`builds/`, `memory/`) is for people: no build takes anything from it.
fn holds_truth(root: &Path, path: &Path) -> bool {
    let name = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
    !name.starts_with("index.db")
        && !["lock", "claims", "overlay", "uses.log"].contains(&name.as_str())
        && !["leases/", "drafts/", "quarantine/", "stubs/", "builds/", "memory/"]
            .iter()
            .any(|directory| name.starts_with(directory))
}

/// A store with one of each, on a base small enough that every byte can be damaged.
fn small_store(dunnage: &Dunnage) -> &'static str {
    dunnage.write("context/f", "from the context\n");
    dunnage.write("context/Dockerfile", SMALL);
    dunnage.run(["build", "-t", "app", "context"]).ok();
    std::thread::sleep(std::time::Duration::from_millis(2100));
    // A context that has been quiet for a while has its table.
    dunnage.run(["build", "--no-cache", "-t", "app", "context"]).ok();
    dunnage.run(["volume", "create", "--label", "a=b", "data"]).ok();
    SMALL
}

const SMALL: &str = "FROM scratch\nCOPY f /f\nCOPY <<E /g\ntext\nE\nLABEL a=b\n";

#[test]
fn security_f12_check_finds_one_flipped_bit_in_every_file() {
    if skipped(&[Need::Root]) {
        return;
    }
    let dunnage = Dunnage::new(env!("CARGO_BIN_EXE_dunnage"));
    small_store(&dunnage);
    dunnage.run(["system", "check"]).ok();
    let mut tried = 0;
    for path in files_of(&dunnage.root()).into_iter().filter(|path| holds_truth(&dunnage.root(), path)) {
        let whole = std::fs::read(&path).unwrap();
        let time = std::fs::metadata(&path).unwrap().modified().unwrap();
        for place in places(whole.len()) {
            let mut damaged = whole.clone();
            damaged[place / 8] ^= 1 << (place % 8);
            write_at(&path, &damaged, time);
            let found = dunnage.run(["system", "check"]);
            // A damaged format file is healed by whoever opens the store, with a note.
            let noticed = found.code == 1 || found.stderr.contains("damaged");
            assert!(noticed, "{} bit {place}: {}{}", path.display(), found.stdout, found.stderr);
            tried += 1;
            write_at(&path, &whole, time);
        }
    }
    dunnage.run(["system", "check"]).ok();
    assert!(tried > 60, "only {tried} bits");
}

/// Times are part of a layer: only the bytes are to differ.
fn write_at(path: &Path, bytes: &[u8], time: std::time::SystemTime) {
    std::fs::write(path, bytes).unwrap();
    std::fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
}

/// Some bits of a file: the first, the last, and a few between.
fn places(bytes: usize) -> Vec<usize> {
    let bits = bytes * 8;
    let mut places: Vec<usize> =
        [0, bits / 3, bits / 2 + 5, bits.wrapping_sub(4)].into_iter().filter(|bit| *bit < bits).collect();
    places.dedup();
    places
}

#[test]
fn security_f12_a_build_over_damage_warns_and_gives_the_same_image() {
    if skipped(&[Need::Root]) {
        return;
    }
    let dunnage = Dunnage::new(env!("CARGO_BIN_EXE_dunnage"));
    small_store(&dunnage);
    let mut id = dunnage.run(["build", "-q", "-t", "app", "context"]).ok().stdout;
    let files: Vec<PathBuf> =
        files_of(&dunnage.root()).into_iter().filter(|path| holds_truth(&dunnage.root(), path)).collect();
    for path in files {
        let Ok(whole) = std::fs::read(&path) else { continue };
        let Some(place) = places(whole.len()).get(1).copied() else { continue };
        let mut damaged = whole.clone();
        damaged[place / 8] ^= 1 << (place % 8);
        std::fs::write(&path, &damaged).unwrap();
        let built = dunnage.run(["build", "-t", "app", "context"]).ok();
        assert!(built.stderr.matches("note: ").count() <= 2, "{}: {}", path.display(), built.stderr);
        let again = dunnage.run(["build", "-q", "-t", "app", "context"]).ok();
        if path.components().any(|part| part.as_os_str() == "fs") {
            // The step ran again, and its files have the times of now.
            id = again.stdout.clone();
        }
        assert_eq!(again.stdout, id, "{}", path.display());
        assert!(!again.stderr.contains("note: "), "{}: {}", path.display(), again.stderr);
        let repaired = dunnage.run(["system", "check", "--repair"]);
        assert_eq!(repaired.code, 0, "{}: {}{}", path.display(), repaired.stdout, repaired.stderr);
        dunnage.run(["system", "check"]).ok();
        assert_eq!(dunnage.run(["build", "-q", "-t", "app", "context"]).ok().stdout, id, "{}", path.display());
    }
}

#[test]
fn security_f12_a_damaged_layer_is_rebuilt_with_one_warning() {
    let Some(dunnage) = dunnage() else { return };
    let file = "FROM base\nRUN echo content > /f\nCMD cat /f\n";
    dunnage.build(file);
    let layer = files_of(&dunnage.root().join("layers")).into_iter().find(|path| path.ends_with("fs/f")).unwrap();
    std::fs::write(layer, "CONTENT\n").unwrap();
    let built = dunnage.run(["build", "-t", "app", "context"]).ok();
    assert_eq!(built.stderr.matches("quarantine").count(), 1, "{}", built.stderr);
    assert_eq!(dunnage.run(["run", "--rm", "app"]).ok().stdout, "content\n");
    assert_eq!(std::fs::read_dir(dunnage.root().join("quarantine")).unwrap().count(), 1);
    dunnage.run(["system", "prune", "-a", "-f"]).ok();
    assert_eq!(std::fs::read_dir(dunnage.root().join("quarantine")).unwrap().count(), 0);
}

#[test]
fn security_f12_a_damaged_image_is_named_with_its_remedy() {
    let Some(dunnage) = dunnage() else { return };
    let id = dunnage.build("FROM base\nRUN echo content > /f\nCMD cat /f\n");
    let path = dunnage.root().join("images").join(format!("{}.json", id.get(7..).unwrap()));
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[20] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    dunnage.run(["run", "--rm", "app"]).fails(125, "is damaged");
    dunnage.run(["inspect", "app"]).fails(1, "build or load it again");
    let listed = dunnage.run(["images", "-a"]).ok();
    assert!(listed.stdout.contains("base") && listed.stderr.contains("damaged"), "{}{}", listed.stdout, listed.stderr);
    dunnage.run(["build", "-t", "app", "context"]).ok();
    assert_eq!(dunnage.run(["run", "--rm", "app"]).ok().stdout, "content\n");
    dunnage.run(["system", "check"]).ok();
    bytes.truncate(3);
    std::fs::write(&path, &bytes).unwrap();
    let repaired = dunnage.run(["system", "check", "--repair"]).ok().stdout;
    assert!(repaired.contains("images that need it: app:latest"), "{repaired}");
}

#[test]
fn volumes_are_kept_found_and_removed() {
    let Some(dunnage) = dunnage() else { return };
    assert_eq!(dunnage.run(["volume", "create", "--label", "a=b", "data"]).ok().stdout, "data\n");
    let anonymous = dunnage.run(["volume", "create"]).ok().stdout;
    assert_eq!(anonymous.trim().len(), 64);
    assert_eq!(dunnage.run(["volume", "ls", "-q", "--filter", "label=a"]).ok().stdout, "data\n");
    assert_eq!(
        dunnage.run(["volume", "ls", "--filter", "name=dat"]).ok().stdout,
        "DRIVER    VOLUME NAME\nlocal     data\n"
    );
    let mountpoint = dunnage.run(["volume", "inspect", "-f", "{{.Mountpoint}}", "data"]).ok().stdout;
    assert!(Path::new(mountpoint.trim()).is_dir(), "{mountpoint}");
    let out = dunnage.run(["volume", "prune", "-f"]).ok().stdout;
    assert!(out.starts_with(&format!("Deleted Volumes:\n{anonymous}\nTotal reclaimed space: ")), "{out}");
    dunnage.run(["volume", "inspect", "absent"]).fails(1, "no volume `absent`");
    dunnage.run(["volume", "create", "../x"]).fails(2, "not a valid volume name");
    dunnage.run(["volume", "create", "-d", "nfs", "x1"]).fails(2, "nfs");
    assert_eq!(dunnage.run(["volume", "rm", "data"]).ok().stdout, "data\n");
    dunnage.run(["volume", "rm", "data"]).fails(1, "no volume");
    dunnage.run(["volume", "rm", "-f", "data"]).ok();
}

/// Cycles of build, run and prune leave nothing behind; `DUNNAGE_CYCLES` makes it as long as it should be.
#[test]
fn security_f22_cycles_leave_everything_flat() {
    let Some(dunnage) = dunnage() else { return };
    if skipped(&[Need::Program("time")]) {
        return;
    }
    let cycle = |round: u64| {
        dunnage.write("context/Dockerfile", format!("FROM base\nRUN echo {round} > /f\nCMD cat /f\n"));
        // Records of builds are kept up to a number: here to one that the first rounds reach.
        let build = dunnage.command(["build", "-q", "-t", "app", "context"]).env("DUNNAGE_KEEP_BUILDS", "3").output();
        assert!(build.unwrap().status.success());
        assert_eq!(dunnage.run(["run", "--rm", "app"]).ok().stdout, format!("{round}\n"));
        dunnage.run(["rmi", "app"]).ok();
        dunnage.run(["builder", "prune", "-a", "-f"]).ok();
    };
    // What is made once, and grows to its size.
    (0..5).for_each(cycle);
    let first_peak = peak_of_a_build(&dunnage, 50);
    (5..8).for_each(cycle);
    let (before, host) = (Footprint::of(&dunnage), Host::look(&dunnage.root()));
    for round in 0..testdata::rounds("DUNNAGE_CYCLES", 60) as u64 {
        cycle(100 + round);
    }
    let after = Footprint::of(&dunnage);
    assert_eq!((after.mounts, after.inodes), (before.mounts, before.inodes));
    assert_eq!(after.processes, 0);
    // Containers of other stores come and go meanwhile.
    host.expect(&dunnage.root());
    let peak = peak_of_a_build(&dunnage, 51);
    assert!(peak <= first_peak + first_peak / 10, "a build took {first_peak} KiB at first and {peak} KiB at last");
    assert!(after.bytes <= before.bytes + before.bytes / 100, "{} bytes became {}", before.bytes, after.bytes);
    assert!(dunnage.leftovers().is_empty());
    dunnage.run(["system", "check"]).ok();
}

struct Footprint {
    mounts: usize,
    inodes: usize,
    bytes: u64,
    /// Processes of the binary; each has given back its descriptors and memory when it is gone.
    processes: usize,
}

impl Footprint {
    fn of(dunnage: &Dunnage) -> Footprint {
        let root = dunnage.root();
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let output = std::process::Command::new("find").arg(&root).output().unwrap();
        Footprint {
            mounts: mounts.lines().filter(|line| line.contains(root.to_str().unwrap())).count(),
            inodes: output.stdout.iter().filter(|byte| **byte == b'\n').count(),
            // The log of events grows to the megabyte that is kept of it.
            bytes: du(&root) - du(&root.join("events.jsonl")),
            processes: processes(env!("CARGO_BIN_EXE_dunnage"), &root),
        }
    }
}

/// Living processes of `binary` that work on this store.
fn processes(binary: &str, root: &Path) -> usize {
    let of = |pid: &Path| {
        let is = std::fs::read_link(pid.join("exe")).is_ok_and(|exe| exe == Path::new(binary));
        let environment = std::fs::read(pid.join("environ")).unwrap_or_default();
        is && String::from_utf8_lossy(&environment).contains(root.to_str().unwrap())
    };
    std::fs::read_dir("/proc").unwrap().flatten().filter(|entry| of(&entry.path())).count()
}

/// The most memory that a build of one more round took, in KiB.
fn peak_of_a_build(dunnage: &Dunnage, round: u64) -> u64 {
    dunnage.write("context/Dockerfile", format!("FROM base\nRUN echo {round} > /f\n"));
    let (code, peak) = dunnage.measured(["build", "-q", "context"]);
    assert_eq!(code, 0);
    peak
}

#[test]
fn a_root_that_others_can_write_is_refused() {
    if skipped(&[Need::Root]) {
        return;
    }
    use std::os::unix::fs::PermissionsExt;
    let dunnage = Dunnage::new(env!("CARGO_BIN_EXE_dunnage"));
    dunnage.run(["images"]).ok();
    assert_eq!(std::fs::metadata(dunnage.root()).unwrap().permissions().mode() & 0o777, 0o700);
    std::fs::set_permissions(dunnage.root(), std::fs::Permissions::from_mode(0o770)).unwrap();
    dunnage.run(["images"]).fails(3, "can be written by others");
}
