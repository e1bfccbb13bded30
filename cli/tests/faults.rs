//! Every failpoint of the program, in every command that comes past it: a death or an error there loses nothing.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use testdata::archive::{LayerBytes, file, tar as tar_of};
use testdata::{Dunnage, FakeRegistry, Need, Ran, Reply, files, skipped, workspace};

/// A command that is disturbed, on a copy of a store that was prepared for it.
struct Operation {
    name: &'static str,
    args: &'static [&'static str],
    store: Prepared,
}

/// Which store an operation begins with.
#[derive(Clone, Copy, PartialEq)]
enum Prepared {
    /// There is none yet.
    None,
    /// With images, a stopped container, and things that nothing uses.
    Used,
    /// The same after a process was killed in it.
    Crashed,
    /// The same with a damaged layer and a name of nothing.
    Damaged,
}

const OPERATIONS: &[Operation] = &[
    Operation { name: "new store", args: &["images"], store: Prepared::None },
    Operation { name: "build", args: &["build", "-q", "-t", "new", "CONTEXT"], store: Prepared::Used },
    Operation { name: "rebuild", args: &["build", "-q", "--no-cache", "-t", "new", "known"], store: Prepared::Used },
    Operation { name: "load", args: &["load", "-q", "-i", "other.tar"], store: Prepared::Used },
    Operation { name: "load oci", args: &["load", "-q", "-i", "other.oci"], store: Prepared::Used },
    Operation { name: "import", args: &["import", "tree.tar", "imported"], store: Prepared::Used },
    Operation { name: "save", args: &["save", "-o", "out.tar", "kept"], store: Prepared::Used },
    Operation { name: "save oci", args: &["save", "--format", "oci", "-o", "out.oci/", "kept"], store: Prepared::Used },
    Operation { name: "save over", args: &["save", "-o", "out.old.tar", "kept"], store: Prepared::Used },
    Operation {
        name: "export cache",
        args: &["build", "-q", "--cache-to", "type=local,dest=remote", "-t", "new", "known"],
        store: Prepared::Used,
    },
    Operation { name: "pull", args: &["pull", "-q", "REGISTRY/pulled:1"], store: Prepared::Used },
    Operation { name: "push", args: &["push", "-q", "PUSHED"], store: Prepared::Used },
    Operation { name: "tag", args: &["tag", "kept", "again"], store: Prepared::Used },
    Operation { name: "rmi", args: &["rmi", "--force", "UNWANTED"], store: Prepared::Used },
    Operation { name: "prune", args: &["system", "prune", "--force"], store: Prepared::Used },
    Operation { name: "prune all", args: &["system", "prune", "--force", "--all"], store: Prepared::Used },
    Operation { name: "run", args: &["run", "--rm", "kept"], store: Prepared::Used },
    Operation { name: "sweep", args: &["images"], store: Prepared::Crashed },
    Operation { name: "repair", args: &["system", "check", "--repair"], store: Prepared::Damaged },
];

/// The stores that operations begin with, made once.
struct Stores {
    registry: FakeRegistry,
    used: Dunnage,
    crashed: Dunnage,
    damaged: Dunnage,
}

impl Stores {
    fn prepare() -> Stores {
        let used = used();
        let crashed = used.copy();
        let dead = crashed.command(["build", "-q", "-t", "new", "context"]);
        armed(dead, "layer.rename=abort");
        // As if both had died at once: the second would sweep what the first one left.
        let left = ["leases", "drafts"].map(|name| (crashed.root().join(name), crashed.root().join("left").join(name)));
        std::fs::create_dir(crashed.root().join("left")).unwrap();
        for (directory, aside) in &left {
            std::fs::rename(directory, aside).unwrap();
            std::fs::create_dir(directory).unwrap();
        }
        armed(command(&crashed, &["run", "--rm", "base", "true"]), "run.start=abort");
        for (directory, aside) in &left {
            std::fs::remove_dir_all(directory).unwrap();
            std::fs::rename(aside, directory).unwrap();
        }
        std::fs::remove_dir(crashed.root().join("left")).unwrap();
        std::fs::write(crashed.root().join("drafts/loose-0"), "").unwrap();
        let damaged = used.copy();
        let layers = files(&damaged.root().join("layers"), "kept");
        std::fs::write(layers.first().unwrap(), "other").unwrap();
        std::fs::write(damaged.root().join("refs/nothing:latest"), format!("sha256:{}", "0".repeat(64))).unwrap();
        Stores { registry: registry(), used, crashed, damaged }
    }

    fn copy(&self, which: Prepared) -> Dunnage {
        match which {
            Prepared::None => Dunnage::new(env!("CARGO_BIN_EXE_dunnage")),
            Prepared::Used => self.used.copy(),
            Prepared::Crashed => self.crashed.copy(),
            Prepared::Damaged => self.damaged.copy(),
        }
    }
}

/// A registry with an image to pull. It never has what is pushed to it: each push sends all.
fn registry() -> FakeRegistry {
    let registry = FakeRegistry::ruled(|asked, reply| match asked.method.as_str() {
        "HEAD" => Reply::status(404),
        _ => reply,
    });
    let layers = ["one", "two"].map(|name| LayerBytes::gzip(&tar_of([file(name, name.as_bytes())])));
    registry.contents.lock().unwrap().image("1", &layers);
    registry
}

/// Times are set where a step would take them from the clock: the same build gives the same digests in any store.
fn used() -> Dunnage {
    let other = Dunnage::new(env!("CARGO_BIN_EXE_dunnage"));
    small_base(&other);
    other.write("other/Dockerfile", "FROM base\nCOPY <<E /o\nother\nE\nRUN ln /o /p\n");
    plain(&other, &["build", "-q", "-t", "other", "other"]).ok();
    plain(&other, &["save", "-o", "other.tar", "other"]).ok();
    plain(&other, &["save", "--format", "oci", "-o", "other.oci/", "other"]).ok();

    let dunnage = Dunnage::new(env!("CARGO_BIN_EXE_dunnage"));
    small_base(&dunnage);
    testdata::copy_tree(&other.dir("other.oci"), &dunnage.dir("other.oci"));
    dunnage.write("other.tar", std::fs::read(other.dir("").join("other.tar")).unwrap());
    dunnage.write("tree/sub/file", "imported");
    tar(&dunnage, "tree");
    dunnage.write("known/Dockerfile", "FROM base\nWORKDIR /w\nRUN echo kept > /kept\nCMD cat /kept\n");
    dunnage.write("context/file", "content");
    dunnage.write("context/tree/sub/file", "deep");
    dunnage.write(
        "context/Dockerfile",
        "FROM base AS first\nCOPY file /f\nRUN mkdir /d && echo new > /d/n && touch -d @1 /d/n /d\n\
         FROM base\nCOPY --from=first /d /d\nCOPY tree /tree\nCOPY <<E /e\ninline\nE\n",
    );
    dunnage.write("unwanted/Dockerfile", "FROM base\nCOPY <<E /u\nunwanted\nE\n");
    plain(&dunnage, &["build", "-q", "-t", "kept", "known"]).ok();
    plain(&dunnage, &["build", "-q", "-t", "unwanted", "unwanted"]).ok();
    dunnage.write("unwanted/Dockerfile", "FROM base\nCOPY <<E /u\nunnamed\nE\n");
    plain(&dunnage, &["build", "-q", "-t", "unnamed", "unwanted"]).ok();
    plain(&dunnage, &["build", "-q", "-t", "unnamed", "known"]).ok();
    plain(&dunnage, &["run", "base", "true"]).ok();
    dunnage.write("out.old.tar", "old");
    // A file that was written just now is not remembered by its times.
    std::thread::sleep(Duration::from_millis(2100));
    dunnage
}

/// A base image of one program with a few names: a store with it is copied in no time.
fn small_base(dunnage: &Dunnage) {
    let bin = dunnage.dir("small/bin");
    let path = std::env::var_os("PATH").unwrap();
    let busybox = std::env::split_paths(&path).map(|directory| directory.join("busybox")).find(|path| path.is_file());
    std::fs::copy(busybox.unwrap(), bin.join("busybox")).unwrap();
    for name in ["sh", "cat", "mkdir", "touch", "true"] {
        std::os::unix::fs::symlink("busybox", bin.join(name)).unwrap();
    }
    tar(dunnage, "small");
    dunnage.run(["import", "small.tar", "base"]).ok();
}

fn tar(dunnage: &Dunnage, tree: &str) {
    let (from, to) = (dunnage.dir(tree), dunnage.dir("").join(format!("{tree}.tar")));
    let mut tar = Command::new("tar");
    let status = tar.args(["--mtime=@0", "-cf"]).arg(to).arg("-C").arg(from).arg(".").status();
    assert!(status.unwrap().success());
}

/// A container is run in a network namespace of its own. On the machine's networks come and go meanwhile, and one that has
/// the addresses of the store's gives it others: a write that is there one time and not the next.
fn command<S: AsRef<std::ffi::OsStr>>(dunnage: &Dunnage, args: &[S]) -> Command {
    let own = dunnage.command(args);
    if args.first().is_none_or(|verb| verb.as_ref() != "run") {
        return own;
    }
    let mut command = Command::new("unshare");
    command.args(["--net", "--"]).arg(own.get_program()).args(own.get_args()).stdin(Stdio::null());
    command.current_dir(own.get_current_dir().unwrap());
    for (name, value) in own.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command
}

fn plain<S: AsRef<std::ffi::OsStr>>(dunnage: &Dunnage, args: &[S]) -> Ran {
    command(dunnage, args).env("SOURCE_DATE_EPOCH", "0").output().unwrap().into()
}

fn armed(mut command: Command, failpoints: &str) -> Ran {
    command.env("SOURCE_DATE_EPOCH", "0").env("DUNNAGE_FAILPOINTS", failpoints).output().unwrap().into()
}

impl Operation {
    /// The arguments. An image to be removed is given by its id, which it keeps when its name has gone first; the context
    /// is that of the first store, whose files have been quiet for long enough to be known by their times.
    fn args(&self, stores: &Stores, dunnage: &Dunnage) -> Vec<String> {
        let id = |name: &str| dunnage.run(["images", "-q", "--no-trunc", name]).ok().stdout.trim().to_owned();
        let resolve = |word: &&str| match *word {
            "UNWANTED" => id("unwanted"),
            "PUSHED" => {
                let name = format!("{}/kept:pushed", stores.registry.host());
                dunnage.run(["tag", "kept", &name]).ok();
                name
            }
            "CONTEXT" => stores.used.dir("context").display().to_string(),
            word => word.replace("REGISTRY", &stores.registry.host()),
        };
        self.args.iter().map(resolve).collect()
    }
}

/// All images by name and id, and what was written beside the store.
fn state(dunnage: &Dunnage) -> String {
    let list = ["images", "--all", "--no-trunc", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}"];
    let mut lines: Vec<String> = dunnage.run(list).ok().stdout.lines().map(str::to_owned).collect();
    let written = files(&dunnage.dir(""), "").into_iter().filter(|path| path.to_string_lossy().contains("/out."));
    lines.extend(written.map(|path| format!("{} {:?}", path.display(), std::fs::read(&path).unwrap().len())));
    lines.sort();
    let base = dunnage.dir("").display().to_string();
    lines.join("\n").replace(&base, "")
}

/// One operation with what it gives when nothing disturbs it, and the failpoints that it comes past.
struct Undisturbed {
    operation: &'static Operation,
    state: String,
    code: i32,
    stdout: String,
    hits: BTreeSet<&'static str>,
}

fn undisturbed(stores: &Stores, operation: &'static Operation) -> Undisturbed {
    let dunnage = stores.copy(operation.store);
    let record = dunnage.dir("").join("hits");
    let ran = armed(command(&dunnage, &operation.args(stores, &dunnage)), &format!("*=record:{}", record.display()));
    assert!(ran.code <= 1, "{}: {}", operation.name, ran.stderr);
    let text = std::fs::read_to_string(&record).unwrap();
    std::fs::remove_file(record).unwrap();
    let names = text.lines().map(|line| *engine::FAILPOINTS.iter().find(|name| **name == line).unwrap());
    Undisturbed { operation, state: state(&dunnage), code: ran.code, stdout: ran.stdout, hits: names.collect() }
}

impl Undisturbed {
    /// The operation, disturbed at a failpoint; then the same undisturbed gives what it would have given.
    fn disturb(&self, stores: &Stores, failpoint: &str, action: &str, again: Option<&str>) {
        let dunnage = stores.copy(self.operation.store);
        let args = self.operation.args(stores, &dunnage);
        let ran = armed(command(&dunnage, &args), &format!("{failpoint}={action}"));
        assert!(!ran.stderr.contains("panicked"), "{}", ran.stderr);
        if action == "abort" {
            assert_eq!(ran.code, 134, "it was not reached:\n{}", ran.stderr);
        } else {
            assert!(matches!(ran.code, 0 | 1 | 3 | 125), "code {}:\n{}", ran.code, ran.stderr);
            let told = ran.code == 0 || ran.stderr.lines().filter(|line| line.starts_with("error")).count() == 1;
            assert!(told, "code {}:\n{}", ran.code, ran.stderr);
        }
        if let Some(again) = again {
            armed(command(&dunnage, &args), again);
        }
        let ran = plain(&dunnage, &args);
        // What was to be removed, or repaired, may be gone already.
        let gone = matches!(self.operation.name, "rmi" | "repair");
        if !gone {
            assert_eq!(ran.code, self.code, "the next run:\n{}{}", ran.stdout, ran.stderr);
        }
        if matches!(self.operation.args[0], "build" | "load" | "import" | "run") {
            assert_eq!(ran.stdout, self.stdout, "the next run gives something else");
        }
        assert_eq!(state(&dunnage), self.state, "the store holds something else");
        let check = dunnage.run(["system", "check"]);
        assert_eq!(check.code, 0, "{}{}", check.stdout, check.stderr);
        // A file can take the place of another only from a name: a death at that very moment leaves the name.
        let allowed = usize::from((failpoint, action) == ("output.rename", "abort"));
        assert!(dunnage.leftovers().len() <= allowed, "{:?}", dunnage.leftovers());
    }
}

/// Performs all cases, a few at a time, and tells all that failed.
fn perform(cases: Vec<(String, Box<dyn FnOnce() + Send + '_>)>) {
    let count = cases.len();
    let queue = Mutex::new(cases.into_iter());
    let failed = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().unwrap().next();
                    let Some((name, case)) = next else { return };
                    if let Err(panic) = catch_unwind(AssertUnwindSafe(case)) {
                        let text = panic.downcast_ref::<String>().cloned().unwrap_or_default();
                        failed.lock().unwrap().push(format!("== {name}\n{text}"));
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "{} of {count} cases failed:\n{}", failed.len(), failed.join("\n"));
}

#[test]
fn security_f01_every_failpoint_in_every_command() {
    if skipped(&["busybox", "tar", "unshare"].map(Need::Program)) || skipped(&[Need::Root]) {
        return;
    }
    let stores = Stores::prepare();
    let known: Vec<Undisturbed> = OPERATIONS.iter().map(|operation| undisturbed(&stores, operation)).collect();
    let mut cases: Vec<(String, Box<dyn FnOnce() + Send>)> = Vec::new();
    let mut reached: BTreeMap<&str, usize> = BTreeMap::new();
    for known in &known {
        for failpoint in &known.hits {
            *reached.entry(failpoint).or_default() += 1;
            for action in ["abort", "error:EIO"] {
                // A layer that cannot be read is damaged: taking it out of use is the repair.
                if (known.operation.name, *failpoint, action) == ("repair", "layer.export", "error:EIO") {
                    continue;
                }
                let name = format!("{}: {failpoint}={action}", known.operation.name);
                let stores = &stores;
                cases.push((name, Box::new(move || known.disturb(stores, failpoint, action, None))));
            }
        }
    }
    assert!(reached.len() >= 60, "{} failpoints are reached", reached.len());
    let missed: Vec<_> = engine::FAILPOINTS.iter().filter(|name| !reached.contains_key(*name)).collect();
    // Of no command of this version: the tests of the crate itself come past them. A copy of many files is in deltas.rs.
    let elsewhere = |name: &&str| name.starts_with("blob.") || *name == "layer.base";
    assert!(missed.iter().all(|name| elsewhere(name)), "no command comes past {missed:?}");
    perform(cases);
}

/// The recovery dies too: at the same place, and wherever the sweep comes past.
#[test]
fn security_f02_a_crash_in_the_recovery_from_a_crash() {
    if skipped(&["busybox", "tar", "unshare"].map(Need::Program)) || skipped(&[Need::Root]) {
        return;
    }
    let stores = Stores::prepare();
    let twice = ["build", "load", "prune", "import"];
    let operations = OPERATIONS.iter().filter(|operation| twice.contains(&operation.name));
    let known: Vec<Undisturbed> = operations.map(|operation| undisturbed(&stores, operation)).collect();
    let mut cases: Vec<(String, Box<dyn FnOnce() + Send>)> = Vec::new();
    for known in &known {
        for (at, failpoint) in known.hits.iter().enumerate() {
            // A different place of the sweep each time; the first death may have left nothing to sweep.
            let sweep = ["sweep.lock", "sweep.drafts", "sweep.lease", "sweep.orphan"][at % 4];
            let again = format!("{sweep}=abort;{failpoint}=abort");
            let (name, stores) = (format!("{}: {failpoint}, then {again}", known.operation.name), &stores);
            cases.push((name, Box::new(move || known.disturb(stores, failpoint, "abort", Some(&again)))));
        }
    }
    perform(cases);
}

/// The list of failpoints against the sources: each name is placed once, and no other is.
#[test]
fn failpoints_are_those_of_the_list() {
    let mut placed: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for path in files(&workspace(), ".rs") {
        let text = std::fs::read_to_string(&path).unwrap();
        if path.components().any(|part| part.as_os_str() == "tests") {
            continue;
        }
        for call in text.split("failpoint(\"").skip(1) {
            let name = call.split('"').next().unwrap().to_owned();
            placed.entry(name).or_default().push(path.display().to_string());
        }
    }
    let twice: Vec<_> = placed.iter().filter(|(_, paths)| paths.len() > 1).collect();
    assert!(twice.is_empty(), "a failpoint has one place: {twice:?}");
    let placed: Vec<&str> = placed.keys().map(String::as_str).collect();
    assert_eq!(placed, engine::FAILPOINTS, "the list in cache/src/failpoint.rs, sorted, is what the sources have");
    assert!(placed.len() >= 60, "{}", placed.len());
}

#[test]
fn unknown_failpoints_are_refused_with_the_list() {
    let dunnage = Dunnage::new(env!("CARGO_BIN_EXE_dunnage"));
    armed(dunnage.command(["version"]), "layer.renam=abort").fails(2, "layer.rename");
}
