//! Control groups: limits that bite, counting, freezing, ending, and nothing left behind; with version 1 and with version 2 alone.
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use dunnage_runtime::{
    Bound, Cgroup, Controller, DeviceRule, Error, Extent, Resources, Sandbox, Signal, Stdio, start_time,
};
use testdata::{Need, skipped};

use crate::fixture::{Image, run};
use crate::image;

/// The part of this file that runs where version 1 was unmounted.
const UNIFIED: &str = "DUNNAGE_TEST_UNIFIED";

fn name(test: &str) -> String {
    format!("dunnage-test/{}-{test}", std::process::id())
}

/// A group of one test; gone with it.
struct Group(Arc<Cgroup>);

impl Group {
    fn new(test: &str, resources: &Resources) -> Group {
        Group(Arc::new(Cgroup::create(name(test), Extent::Whole, resources).unwrap()))
    }

    fn file(&self, file: &str) -> String {
        let path = self.0.directories().map(|(_, directory)| directory.join(file)).find(|path| path.exists());
        fs::read_to_string(path.expect(file)).unwrap().trim().to_owned()
    }

    fn sandbox(&self, image: &Image, script: &str) -> Sandbox {
        let mut sandbox = image.sandbox(["sh", "-c", script]);
        sandbox.cgroup = Some(Arc::clone(&self.0));
        sandbox
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let directories: Vec<PathBuf> = self.0.directories().map(|(_, directory)| directory.to_owned()).collect();
        self.0.kill(Signal::KILL).unwrap();
        self.0.remove().unwrap();
        for directory in directories {
            assert!(!directory.exists(), "{} is left behind", directory.display());
            let _ = fs::remove_dir(directory.parent().unwrap());
        }
    }
}

/// Whether this machine has the controller; one without it is no fault of the code.
fn offered(controller: Controller) -> bool {
    // Others ask at the same time.
    static ASKED: AtomicU32 = AtomicU32::new(0);
    let group = Group::new(&format!("probe-{}", ASKED.fetch_add(1, Ordering::Relaxed)), &Resources::default());
    let offered = group.0.has(controller);
    if !offered {
        println!("skipped: this machine has no {controller} controller");
    }
    offered
}

#[test]
fn runtime_l01_memory_has_an_end() {
    let image = image!();
    if !offered(Controller::Memory) {
        return;
    }
    let resources =
        Resources { memory: Some(Bound::At(32 << 20)), memory_swap: Some(Bound::At(32 << 20)), ..Resources::default() };
    let group = Group::new("memory", &resources);
    let mut sandbox = image.sandbox(["busybox", "dd", "if=/dev/zero", "of=/dev/null", "bs=64M", "count=1"]);
    sandbox.cgroup = Some(Arc::clone(&group.0));
    let outcome = run(sandbox).unwrap();
    assert_eq!(outcome.exit.status_code(), 137, "{outcome:?}");
    assert!(group.0.oom_kills() > 0);
    let stats = group.0.stats();
    assert_eq!(stats.memory.limit, Some(32 << 20));
    assert!(stats.memory.max_usage > 16 << 20, "{stats:?}");
    // More is enough.
    let more = Some(Bound::At(256 << 20));
    group.0.update(&Resources { memory: more, memory_swap: more, ..Resources::default() }).unwrap();
    let mut sandbox = image.sandbox(["busybox", "dd", "if=/dev/zero", "of=/dev/null", "bs=64M", "count=1"]);
    sandbox.cgroup = Some(Arc::clone(&group.0));
    assert!(run(sandbox).unwrap().exit.success());
}

#[test]
fn runtime_l02_processes_have_an_end() {
    let image = image!();
    if !offered(Controller::Pids) {
        return;
    }
    let group = Group::new("pids", &Resources { pids: Some(Bound::At(10)), ..Resources::default() });
    let outcome = run(group.sandbox(&image, "for n in $(seq 20); do sleep 5 & done")).unwrap();
    assert!(!outcome.exit.success(), "{outcome:?}");
    assert!(outcome.stderr.contains("Resource temporarily unavailable"), "{outcome:?}");
    assert_eq!(group.0.stats().pids_limit, Some(10));
}

#[test]
fn runtime_l03_processors_have_an_end() {
    let image = image!();
    if !offered(Controller::Cpu) {
        return;
    }
    let resources = Resources { cpu_shares: Some(512), ..Resources::default().with_processors(500) };
    let group = Group::new("cpu", &resources);
    assert_eq!(
        (group.file("cpu.cfs_quota_us").as_str(), group.file("cpu.cfs_period_us").as_str()),
        ("50000", "100000")
    );
    assert_eq!(group.file("cpu.shares"), "512");
    assert!(run(group.sandbox(&image, "for n in $(seq 20000); do :; done")).unwrap().exit.success());
    assert!(group.0.stats().cpu.total.as_micros() > 0);
}

#[test]
fn the_container_sees_its_own_group_and_cannot_change_it() {
    let image = image!();
    if !offered(Controller::Memory) {
        return;
    }
    let group = Group::new("view", &Resources { memory: Some(Bound::At(64 << 20)), ..Resources::default() });
    let script = "cat /proc/self/cgroup; cat /sys/fs/cgroup/memory/memory.limit_in_bytes;
        echo 1 > /sys/fs/cgroup/memory/memory.limit_in_bytes; mkdir /sys/fs/cgroup/memory/x";
    let outcome = run(group.sandbox(&image, script)).unwrap();
    let (groups, limit) = outcome.stdout.trim().rsplit_once('\n').unwrap();
    assert!(groups.lines().all(|line| line.ends_with(":/")), "{groups}");
    assert_eq!(limit, (64 << 20).to_string());
    assert_eq!(outcome.stderr.matches("Read-only file system").count(), 2, "{}", outcome.stderr);
}

#[test]
fn runtime_m14_devices_are_refused_by_the_group() {
    let image = image!();
    devices_are_refused(&image);
}

fn devices_are_refused(image: &Image) {
    let rules = [DeviceRule::usual(), vec![DeviceRule::parse("c 1:11 r").unwrap()]].concat();
    for (rules, allowed) in [(DeviceRule::usual(), false), (rules, true)] {
        let group = Group::new("devices", &Resources { devices: rules, ..Resources::default() });
        // Anything else that could refuse a device is off.
        let mut sandbox =
            group.sandbox(image, "mknod /tmp/kmsg c 1 11; : < /tmp/kmsg && echo open; echo x > /dev/null");
        sandbox.privileged = true;
        let outcome = run(sandbox).unwrap();
        assert_eq!(outcome.stdout.contains("open"), allowed, "{outcome:?}");
        assert_eq!(outcome.stderr.contains("Operation not permitted"), !allowed, "{outcome:?}");
        image.shell("rm -f /tmp/kmsg");
    }
}

#[test]
fn runtime_x08_a_group_stops_goes_on_and_ends() {
    let image = image!();
    stops_and_ends(&image);
}

fn stops_and_ends(image: &Image) {
    let group = Group::new("freeze", &Resources::default());
    let mut sandbox = group.sandbox(image, "sleep 100 & sleep 100");
    sandbox.stdio = Stdio::Null;
    let mut container = sandbox.start().unwrap();
    let opened = Cgroup::open(name("freeze")).unwrap().unwrap();
    assert!(opened.processes().unwrap().contains(&container.pid()));
    assert!(opened.stats().pids >= 1);
    opened.freeze().unwrap();
    assert!(group.0.is_frozen());
    opened.thaw().unwrap();
    assert!(!group.0.is_frozen());
    opened.freeze().unwrap();
    opened.kill(Signal::KILL).unwrap();
    assert_eq!(container.wait().unwrap().status_code(), 137);
    assert_eq!(start_time(container.pid()), None);
    drop(group);
    assert!(Cgroup::open(name("freeze")).unwrap().is_none());
}

#[test]
fn security_s07_a_limit_that_cannot_be_had_is_an_error_and_leaves_nothing() {
    if skipped(&[Need::Root]) {
        return;
    }
    let wrong = [
        Resources { cpuset_cpus: Some("4096".to_owned()), ..Resources::default() },
        Resources { network_class: Some(7), hugetlb: vec![("3MB".to_owned(), 1)], ..Resources::default() },
        Resources { unified: [("../x.y".to_owned(), "1".to_owned())].into(), ..Resources::default() },
    ];
    for resources in wrong {
        let error = Cgroup::create(name("wrong"), Extent::Whole, &resources).unwrap_err();
        assert!(matches!(error, Error::Limit { .. } | Error::Invalid { .. }), "{error:?}");
        assert_eq!(error.exit_code(), 125);
        assert!(Cgroup::open(name("wrong")).unwrap().is_none(), "{error}");
    }
    assert!(Cgroup::create("a/../../b", Extent::Whole, &Resources::default()).is_err());
    assert!(Cgroup::create("/", Extent::Whole, &Resources::default()).is_err());
}

#[test]
fn security_f14_groups_of_killed_makers_go_with_the_next() {
    if skipped(&[Need::Root]) {
        return;
    }
    let path = |name: &str| format!("dunnage/{}-{name}", std::process::id());
    let held = Cgroup::create(path("held"), Extent::Whole, &Resources::default()).unwrap();
    // As a kill leaves it: the directories, and nobody who holds them.
    let left: Vec<PathBuf> = held
        .directories()
        .map(|(_, directory)| directory.with_file_name(format!("{}-left", std::process::id())))
        .collect();
    left.iter().for_each(|directory| fs::create_dir(directory).unwrap());
    // While another one is being made, as the tests beside this one do, nobody takes away anything: the one after it does.
    testdata::until("what was left is gone", || {
        Cgroup::create(path("next"), Extent::Whole, &Resources::default()).unwrap().remove().unwrap();
        left.iter().all(|directory| !directory.exists())
    });
    assert!(held.directories().all(|(_, directory)| directory.exists()));
    held.remove().unwrap();
}

/// Where nothing is asked of version 1 nobody waits for it, until a limit is.
#[test]
fn a_limit_that_comes_later_brings_its_hierarchy() {
    let unified = std::path::Path::new("/sys/fs/cgroup/unified/cgroup.procs").exists();
    if skipped(&[Need::Root]) || !offered(Controller::Pids) || !unified {
        return;
    }
    let path = format!("dunnage/{}-later", std::process::id());
    let group = Arc::new(Cgroup::create(&path, Extent::Asked, &Resources::default()).unwrap());
    assert_eq!((group.directories().count(), group.has(Controller::Pids)), (1, false));
    let image = image!();
    let mut sandbox = image.sandbox(["sh", "-c", "head -c 8000000 /dev/zero | tail -n 1 | sleep 100"]);
    sandbox.cgroup = Some(Arc::clone(&group));
    let container = sandbox.start().unwrap();
    testdata::until("three processes are in the group", || group.processes().unwrap().len() >= 3);
    let stats = group.stats();
    assert!(stats.memory.usage > 0 && stats.cpu.total.as_nanos() > 0 && stats.pids >= 3, "{stats:?}");
    group.freeze().unwrap();
    assert!(group.is_frozen());
    group.thaw().unwrap();
    let opened = Cgroup::open(&path).unwrap().unwrap();
    opened.update(&Resources { pids: Some(Bound::At(20)), ..Resources::default() }).unwrap();
    let wider = Cgroup::open(&path).unwrap().unwrap();
    assert!(wider.has(Controller::Pids));
    // The one that writes first may have ended.
    let stats = wider.stats();
    assert!(stats.pids_limit == Some(20) && matches!(stats.pids, 3 | 4), "{stats:?}");
    group.kill(Signal::KILL).unwrap();
    drop(container);
    group.remove().unwrap();
    assert!(Cgroup::open(&path).unwrap().is_none());
}

#[test]
fn version_2_alone_does_the_same() {
    if skipped(&[Need::Root, Need::Program("unshare")]) {
        return;
    }
    let script = "umount -R /sys/fs/cgroup 2>/dev/null; mount -t cgroup2 cgroup2 /sys/fs/cgroup && exec \"$0\" \"$@\"";
    let status = Command::new("unshare")
        .args(["-m", "sh", "-c", script])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "cgroups::unified_part", "--ignored", "--nocapture"])
        .env(UNIFIED, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&status.stdout).into_owned() + &String::from_utf8_lossy(&status.stderr);
    assert!(status.status.success() && said.contains("1 passed"), "{said}");
}

#[test]
#[ignore = "runs in a mount namespace of its own, from version_2_alone_does_the_same"]
fn unified_part() {
    assert_eq!(std::env::var(UNIFIED).as_deref(), Ok("1"), "run by another test");
    let image = image!();
    let group = Group::new("unified", &Resources::default());
    assert_eq!(group.0.directories().count(), 1);
    let outcome = run(group.sandbox(&image, "cat /proc/self/cgroup; ls /sys/fs/cgroup/cgroup.procs")).unwrap();
    assert!(outcome.stdout.contains("0::/\n") && outcome.stdout.contains("cgroup.procs"), "{outcome:?}");
    devices_are_refused(&image);
    stops_and_ends(&image);
    if group.0.has(Controller::Memory) {
        group.0.update(&Resources { memory: Some(Bound::At(64 << 20)), ..Resources::default() }).unwrap();
        assert_eq!(group.file("memory.max"), (64 << 20).to_string());
    } else {
        let resources = Resources { memory: Some(Bound::At(64 << 20)), ..Resources::default() };
        let error = Cgroup::create(name("none"), Extent::Whole, &resources).unwrap_err().to_string();
        assert!(error.contains("memory limit") && error.contains("cgroup.subtree_control"), "{error}");
        assert!(Cgroup::open(name("none")).unwrap().is_none());
    }
}
