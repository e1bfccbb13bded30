//! Volumes with options, as docker's local driver has them: directories of the machine, memory, other file systems.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use testdata::{BASE, Dunnage, Ran};

fn dunnage() -> Option<Dunnage> {
    Dunnage::with_base(env!("CARGO_BIN_EXE_dunnage"), &BASE)
}

fn run(dunnage: &Dunnage, flags: &[&str], script: &str) -> Ran {
    dunnage.run([&["run", "--rm", "--network", "none"][..], flags, &["base", "sh", "-c", script]].concat())
}

fn create(dunnage: &Dunnage, name: &str, options: &[&str]) {
    let options = options.iter().flat_map(|option| ["--opt", option]);
    let all: Vec<&str> = ["volume", "create", "--driver", "local"].into_iter().chain(options).chain([name]).collect();
    assert_eq!(dunnage.run(all).ok().stdout, format!("{name}\n"));
}

#[test]
fn a_volume_is_a_directory_of_the_machine() {
    let Some(dunnage) = dunnage() else { return };
    let directory = dunnage.dir("srv");
    let device = format!("device={}", directory.display());
    create(&dunnage, "data", &["type=none", "o=bind", &device]);
    create(&dunnage, "seen", &["type=none", "o=bind,ro", &device]);
    run(&dunnage, &["-v", "data:/d"], "mkdir /d/sub && echo own > /d/sub/f").ok();
    assert_eq!(std::fs::read_to_string(directory.join("sub/f")).unwrap(), "own\n");
    assert_eq!(run(&dunnage, &["-v", "seen:/d"], "cat /d/sub/f").ok().stdout, "own\n");
    run(&dunnage, &["-v", "seen:/d"], "touch /d/x").fails(1, "Read-only");
    let mount = "src=data,dst=/d,volume-subpath=sub,volume-driver=local";
    assert_eq!(run(&dunnage, &["--mount", mount], "ls /d").ok().stdout, "f\n");
    // As with any volume, an empty one begins with what the image has there.
    let empty = dunnage.dir("empty");
    create(&dunnage, "first", &["type=none", "o=bind", &format!("device={}", empty.display())]);
    run(&dunnage, &["-v", "first:/etc"], "true").ok();
    assert!(empty.join("passwd").exists());
    let inspected: serde_json::Value =
        serde_json::from_str(&dunnage.run(["volume", "inspect", "seen"]).ok().stdout).unwrap();
    assert_eq!(inspected[0]["Options"]["o"], "bind,ro");
    assert_eq!(inspected[0]["Options"]["device"], directory.display().to_string());
    // What is not there is told when a container wants it, and the directory is nobody's to remove.
    create(&dunnage, "absent", &["type=none", "o=bind", "device=/no/such/directory"]);
    run(&dunnage, &["-v", "absent:/d"], "true").fails(125, "volume `absent`: ");
    dunnage.run(["volume", "rm", "data", "seen", "first", "absent"]).ok();
    assert!(directory.join("sub/f").exists());
    assert!(dunnage.leftovers().is_empty());
}

#[test]
fn a_volume_in_memory_is_one_for_all_containers_until_the_last_has_ended() {
    let Some(dunnage) = dunnage() else { return };
    let before = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    create(&dunnage, "fast", &["type=tmpfs", "device=tmpfs", "o=size=2m,uid=1000,mode=750,noexec"]);
    let start = |name: &str, target: &str| {
        dunnage.run(["run", "-d", "--name", name, "-v", &format!("fast:{target}"), "base", "sleep", "600"]).ok();
    };
    start("one", "/d");
    let options =
        dunnage.run(["exec", "one", "sh", "-c", "grep ' /d ' /proc/self/mounts; stat -c '%u %a' /d"]).ok().stdout;
    for word in ["tmpfs", "size=2048k", "noexec", "nodev", "1000 750"] {
        assert!(options.contains(word), "no {word} in {options}");
    }
    dunnage.run(["exec", "one", "sh", "-c", "echo shared > /d/f"]).ok();
    start("two", "/elsewhere");
    assert_eq!(dunnage.run(["exec", "two", "cat", "/elsewhere/f"]).ok().stdout, "shared\n");
    assert_eq!(run(&dunnage, &["-v", "fast:/x:ro"], "cat /x/f; touch /x/g").stdout, "shared\n");
    // The first one goes, the memory stays with the others.
    dunnage.run(["rm", "-f", "one"]).ok();
    assert_eq!(run(&dunnage, &["-v", "fast:/x"], "cat /x/f").ok().stdout, "shared\n");
    dunnage.run(["rm", "-f", "two"]).ok();
    assert_eq!(run(&dunnage, &["-v", "fast:/x"], "ls /x").ok().stdout, "");
    // Those that start at the same moment meet too.
    let script = "touch /d/$0; for i in $(seq 200); do [ $(ls /d | wc -l) = 4 ] && exit 0; sleep 0.05; done; exit 1";
    let children: Vec<_> = ["a", "b", "c", "d"]
        .iter()
        .map(|name| {
            let args = ["run", "--rm", "--network", "none", "-v", "fast:/d", "base", "sh", "-c", script, name];
            dunnage.command(args).spawn().unwrap()
        })
        .collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    // Nothing of it was ever mounted on the machine.
    assert_eq!(std::fs::read_to_string("/proc/self/mountinfo").unwrap(), before);
    assert_eq!(dunnage.run(["volume", "rm", "fast"]).ok().stdout, "fast\n");
    assert!(dunnage.leftovers().is_empty());
}

#[test]
fn a_volume_is_any_file_system_that_the_kernel_has() {
    let Some(dunnage) = dunnage() else { return };
    let (low, high) = (dunnage.dir("low"), dunnage.dir("high"));
    for (directory, name) in [(&low, "from-low"), (&high, "from-high")] {
        std::fs::write(directory.join(name), "").unwrap();
    }
    let layers = format!("o=lowerdir={}:{}", high.display(), low.display());
    create(&dunnage, "both", &["type=overlay", "device=overlay", &layers]);
    assert_eq!(run(&dunnage, &["-v", "both:/d:nocopy"], "ls /d").ok().stdout, "from-high\nfrom-low\n");
    create(&dunnage, "unknown", &["type=nosuchfs", "device=none"]);
    run(&dunnage, &["-v", "unknown:/d"], "true").fails(125, "the kernel has no such file system");
    create(&dunnage, "wrong", &["type=tmpfs", "device=tmpfs", "o=uid=nobody"]);
    let ran = run(&dunnage, &["-v", "wrong:/d"], "true").fails(125, "volume `wrong`: ");
    assert!(ran.stderr.contains("uid"), "{}", ran.stderr);
    assert!(dunnage.leftovers().is_empty());
}

#[test]
fn a_mount_says_what_its_volume_is() {
    let Some(dunnage) = dunnage() else { return };
    let spec = "type=volume,src=fast,dst=/d,volume-label=who=me,volume-driver=local,volume-opt=type=tmpfs,\
        volume-opt=device=tmpfs,\"volume-opt=o=size=2m,mode=700\"";
    let told = run(&dunnage, &["--mount", spec], "grep -c ' /d tmpfs .*size=2048k' /proc/self/mounts; stat -c %a /d");
    assert_eq!(told.ok().stdout, "1\n700\n");
    let shown = dunnage.run(["volume", "inspect", "-f", "{{.Labels.who}} {{.Options.o}}", "fast"]).ok().stdout;
    assert_eq!(shown, "me size=2m,mode=700\n");
    run(&dunnage, &["--mount", &spec.replace("size=2m", "size=3m")], "true").fails(125, "other options");
    run(&dunnage, &["--mount", "src=new,dst=/d,volume-opt=size=1g"], "true").fails(125, "quota");
    assert_eq!(dunnage.run(["volume", "ls", "-q"]).ok().stdout, "fast\n");
}

#[test]
fn bad_options_are_one_sentence() {
    let Some(dunnage) = dunnage() else { return };
    let create = |options: &[&str], word: &str| {
        let all: Vec<&str> =
            ["volume", "create"].into_iter().chain(options.iter().flat_map(|option| ["-o", option])).collect();
        let ran = dunnage.run(&all).fails(2, word);
        assert_eq!(
            ran.stderr.lines().filter(|line| !line.is_empty() && !line.contains("--help")).count(),
            1,
            "{ran:?}"
        );
    };
    create(&["type=tmpfs"], "both type= and device=");
    create(&["type=none", "device=/srv"], "o=bind");
    create(&["type=none", "device=relative", "o=bind"], "absolute");
    create(&["colour=red"], "`colour`");
    create(&["size=1g"], "quota");
    create(&["type"], "NAME=VALUE");
    assert_eq!(dunnage.run(["volume", "ls", "-q"]).ok().stdout, "");
    dunnage.run(["volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "kept"]).ok();
    dunnage.run(["volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "kept"]).ok();
    dunnage
        .run(["volume", "create", "-o", "type=none", "-o", "o=bind", "-o", "device=/srv", "kept"])
        .fails(2, "other options");
    dunnage.run(["volume", "create", "--driver", "nfs", "other"]).fails(2, "nfs");
    run(&dunnage, &["--volume-driver", "local", "-v", "plain:/d"], "touch /d/x").ok();
    run(&dunnage, &["--volume-driver", "rexray", "-v", "plain:/d"], "true").fails(125, "rexray");
}
