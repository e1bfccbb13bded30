//! Snapshots by either driver, as users meet them: the same images, any number of layers, and sentences where it cannot be.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::process::Command;

use testdata::{Dunnage, Need, Ran, copy_tree, skipped, workspace};

const NEEDS: [Need; 3] = [Need::Root, Need::Program("busybox"), Need::Program("unshare")];
const DRIVERS: [&str; 2] = ["overlay", "copy"];

fn dunnage() -> Option<Dunnage> {
    Dunnage::with_base(env!("CARGO_BIN_EXE_dunnage"), &NEEDS)
}

/// Builds a directory by this driver and gives the image's id.
fn build(dunnage: &Dunnage, driver: &str, tag: &str, context: &str) -> String {
    let mut command = dunnage.command(["build", "-q", "-t", tag, "--storage-driver", driver, context]);
    // One time in history and configuration, whenever the two builds run.
    let ran: Ran = command.env("SOURCE_DATE_EPOCH", "1700000000").output().unwrap().into();
    ran.ok().stdout.trim().to_owned()
}

fn build_anew(dunnage: &Dunnage, driver: &str) -> String {
    let arguments = ["build", "-q", "--no-cache", "-t", "anew", "--storage-driver", driver, "context"];
    let ran: Ran = dunnage.command(arguments).env("SOURCE_DATE_EPOCH", "1700000000").output().unwrap().into();
    ran.ok().stdout.trim().to_owned()
}

fn run(dunnage: &Dunnage, driver: &str, arguments: &[&str]) -> Ran {
    dunnage.run([&["run", "--rm", "--storage-driver", driver], arguments].concat())
}

/// Files that lower layers bring, with a mark that is newer than all of them.
const START: &str = "FROM base
RUN mkdir -p /tree/dir/sub && cd /tree && echo A > a && echo b > b && echo x > dir/x && echo y > dir/sub/y && \
 ln -s a link && truncate -s 5M holes && touch -d @1500000000 /stamp && \
 find /tree -exec touch -h -d @1500000000 {} +
RUN echo B2 > /tree/b && mkdir /tree/second && touch -d @1650000000 /stamp && \
 find /tree -newer /stamp -exec touch -h -d @1510000000 {} +
COPY setxattr /setxattr
";

/// Gives all that a step touched one time, so that layers can be compared bit for bit.
const STILL: &str = "find / -xdev -newer /stamp ! -path / ! -path '/proc*' ! -path '/sys*' ! -path '/dev*' \
                     ! -path '/etc*' -exec touch -h -d @1700000000 {} +";

/// What RUN steps do to them.
const SCRIPTS: [(&str, &str); 24] = [
    ("create", "echo new > /tree/new; mkdir -p /fresh/deep/er; echo x > /fresh/deep/er/f"),
    ("delete", "rm /tree/a; rm -r /tree/dir"),
    ("create and delete", "echo x > /tree/t; rm /tree/t; mkdir /tree/d; rmdir /tree/d"),
    ("rename a directory", "mv /tree/dir /tree/moved"),
    ("rename a file over another", "mv /tree/a /tree/b"),
    ("replace a directory by a file", "rm -r /tree/dir; echo file > /tree/dir"),
    ("replace a directory by a file and back", "rm -r /tree/dir; echo f > /tree/dir; rm /tree/dir; mkdir /tree/dir"),
    ("replace a file by a directory", "rm /tree/a; mkdir /tree/a; echo x > /tree/a/x"),
    ("remove and make again", "rm -rf /tree/dir; mkdir -p /tree/dir/sub; echo other > /tree/dir/sub/z"),
    ("remove and make the same again", "cp -a /tree/dir /copy; rm -rf /tree/dir; mv /copy /tree/dir"),
    ("chmod", "chmod 4711 /tree/a; chmod 1777 /tree/dir; chmod 600 /tree/dir/x"),
    ("chmod to what it was", "chmod 644 /tree/a; chown 0:0 /tree/dir/x"),
    ("chown", "chown 7:8 /tree/a; chown -h 9:9 /tree/link; chown 5 /tree/dir"),
    ("hard links", "ln /tree/a /tree/hard; echo n > /tree/n1; ln /tree/n1 /tree/dir/n2"),
    ("a hard link that goes again", "ln /tree/a /tree/hard; rm /tree/hard"),
    ("links", "ln -sf other /tree/link; ln -s nowhere /tree/dangling; rm /tree/dir/x; ln -s ../a /tree/dir/x"),
    ("devices and pipes", "mknod /tree/null c 1 3; mknod /tree/loop b 7 0; mkfifo -m 600 /tree/fifo"),
    ("sparse files", "truncate -s 10M /tree/sparse; truncate -s 3 /tree/a; echo end >> /tree/holes"),
    ("touch", "touch -d @1600000000 /tree/a /tree/dir; touch -h -d @1600000000 /tree/link"),
    ("open for writing and write nothing", ": >> /tree/a; : >> /tree/dir/sub/y"),
    ("other bytes under the old time", "touch -r /tree/a /r; echo B > /tree/a; touch -r /r /tree/a; rm /r"),
    ("attributes", "/setxattr /tree/a; /setxattr /tree/dir"),
    ("attributes, and everything else as it was", "/setxattr /tree/dir/sub/y; touch -d @1500000000 /tree/dir/sub/y"),
    ("nothing", "true"),
];

#[test]
fn both_drivers_give_the_same_image_for_every_kind_of_change() {
    if skipped(&[Need::Program("gcc")]) {
        return;
    }
    let Some(overlay) = dunnage() else { return };
    let Some(copy) = dunnage() else { return };
    // Two stores: neither can take a layer from the other.
    let stores = [(&overlay, "overlay"), (&copy, "copy")];
    let same = |name: &str, tag: &str, dockerfile: &str| {
        let ids = stores.map(|(dunnage, driver)| {
            dunnage.write("context/Dockerfile", dockerfile);
            build(dunnage, driver, tag, "context")
        });
        assert_eq!(ids[0], ids[1], "overlay and copy differ: {name}\n{dockerfile}");
    };
    let source = overlay.write(
        "set.c",
        "#include <sys/xattr.h>\nint main(int c, char **v) { return setxattr(v[1], \"user.note\", \"kept\", 4, 0); }\n",
    );
    let binary = overlay.dir("context").join("setxattr");
    let status = Command::new("gcc").arg("-static").arg("-o").arg(binary).arg(source).status();
    assert!(status.unwrap().success());
    // With its time: that is part of the layer.
    copy_tree(&overlay.dir("context"), &copy.dir("context"));
    same("the start", "start", START);
    for (name, script) in SCRIPTS {
        same(name, "changed", &format!("FROM start\nRUN {script}; {STILL}\n"));
    }
    // Steps that cannot fix their times: the tree is the same, so the second driver gets the layer of the first.
    for dockerfile in [
        "FROM start\nCOPY --from=changed /tree /tree\nCOPY --from=start --chown=3:4 /tree/dir /new/\nCOPY --link setxattr /d/\n",
        "FROM start\nRUN echo u:x:7:8::/:/bin/sh >> /etc/passwd\nUSER u\nWORKDIR /tree/dir/deeper\n",
        "FROM scratch\nCOPY --from=start /tree/ /\nCOPY --from=start /tree/link /tree/dir/sub /sub/\nWORKDIR /w\n",
    ] {
        overlay.write("context/Dockerfile", dockerfile);
        let ids = DRIVERS.map(|driver| build_anew(&overlay, driver));
        assert_eq!(ids[0], ids[1], "overlay and copy differ:\n{dockerfile}");
    }
    for (dunnage, driver) in stores {
        assert_eq!(dunnage.leftovers(), [""; 0].map(std::path::PathBuf::from), "{driver}");
        dunnage.run(["system", "check"]).ok();
    }
}

#[test]
fn the_demo_is_the_same_image_by_either_driver() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.run(["bootstrap", "demo-base"]).ok();
    copy_tree(&workspace().join("testdata/demo"), &dunnage.dir("context"));
    let ids = DRIVERS.map(|driver| build_anew(&dunnage, driver));
    assert_eq!(ids[0], ids[1]);
    let shown = DRIVERS.map(|driver| run(&dunnage, driver, &["anew", "you"]).ok().stdout);
    assert!(shown[0].contains("you") && shown[0] == shown[1], "{shown:?}");
}

#[test]
fn early_cutoff_and_containers_with_copies() {
    let Some(dunnage) = dunnage() else { return };
    let file = "FROM base AS make\nCOPY in.txt /\nRUN cut -d' ' -f1 /in.txt > /out && rm /in.txt\n\
                FROM base\nCOPY --from=make /out /out\nRUN cp /out /copy\nCMD [\"cat\", \"/copy\"]\n";
    dunnage.write("context/in.txt", "value # old comment\n");
    dunnage.write("context/Dockerfile", file);
    let first = build(&dunnage, "copy", "app", "context");
    assert_eq!(run(&dunnage, "copy", &["app"]).ok().stdout, "value\n");
    // A container writes into its own copy, and nobody else sees it.
    assert_eq!(run(&dunnage, "copy", &["app", "sh", "-c", "echo x > /copy; cat /copy"]).ok().stdout, "x\n");
    assert_eq!(run(&dunnage, "copy", &["app"]).ok().stdout, "value\n");
    // Early cutoff: the steps that run again give what they gave, so the rest hits. Overlay finds all of it done.
    dunnage.write("context/in.txt", "value # new comment\n");
    let again = dunnage.run(["build", "-t", "app", "--storage-driver", "copy", "context"]).ok().stderr;
    assert!(again.contains("2 of 4 steps cached"), "{again}");
    let hits = dunnage.run(["build", "-t", "app", "--storage-driver", "overlay", "context"]).ok().stderr;
    assert!(hits.contains("4 of 4 steps cached"), "{hits}");
    assert_eq!(build(&dunnage, "overlay", "app", "context"), first);
    assert_eq!(dunnage.leftovers(), [""; 0].map(std::path::PathBuf::from));
}

/// Layers of images; each is a stage of one file.
const LAYERS: [usize; 7] = [1, 127, 128, 400, 499, 600, 1300];

/// A stage for each of these numbers, and the files in `/many` that it must show.
fn many_layers() -> (String, Vec<BTreeSet<String>>) {
    let (mut file, mut expected, mut names) = (String::new(), Vec::new(), BTreeSet::new());
    let (mut layer, mut from) = (1, "base".to_owned());
    for wanted in LAYERS {
        writeln!(file, "FROM {from} AS n{wanted}").unwrap();
        from = format!("n{wanted}");
        while layer < wanted {
            layer += 1;
            match layer % 50 {
                // One name in many layers, and whiteouts in some: of a file below, and of a whole directory.
                0 => writeln!(file, "COPY <<X /many/top-{layer}\n{layer}\nX").unwrap(),
                1 => writeln!(file, "RUN rm /many/{}", layer - 7).unwrap(),
                2 => writeln!(file, "COPY <<X /top\n{layer}\nX").unwrap(),
                _ => writeln!(file, "COPY <<X /many/{layer}\n{layer}\nX").unwrap(),
            }
            match layer % 50 {
                0 => drop(names.insert(format!("top-{layer}"))),
                1 => drop(names.remove(&(layer - 7).to_string())),
                2 => {}
                _ => drop(names.insert(layer.to_string())),
            }
        }
        expected.push(names.clone());
    }
    (file, expected)
}

#[test]
fn images_of_any_number_of_layers_build_and_run() {
    let Some(dunnage) = dunnage() else { return };
    let (file, expected) = many_layers();
    dunnage.write("context/Dockerfile", file);
    for (wanted, names) in LAYERS.into_iter().zip(expected) {
        let target = format!("n{wanted}");
        dunnage.run(["build", "-q", "-t", &target, "--target", &target, "context"]).ok();
        let inspected: serde_json::Value =
            serde_json::from_str(&dunnage.run(["inspect", &target]).ok().stdout).unwrap();
        assert_eq!(inspected[0]["RootFS"]["Layers"].as_array().unwrap().len(), wanted);
        for driver in DRIVERS {
            let script =
                "for f in /many/*; do test -e $f && basename $f; done; rm -f /many/4; ls /many/4 2>&1; cat /top";
            let shown = run(&dunnage, driver, &[&target, "sh", "-c", script]).stdout;
            let mut lines: Vec<&str> = shown.lines().collect();
            let top = lines.pop().filter(|_| wanted > 1).map(str::to_owned);
            lines.retain(|line| !line.starts_with("ls:"));
            let found: BTreeSet<String> = lines.into_iter().map(str::to_owned).collect();
            assert_eq!(found, names, "{wanted} layers, {driver}");
            let last = (1..=wanted).rev().find(|layer| layer % 50 == 2 && *layer > 2);
            assert_eq!(top, last.map(|layer| layer.to_string()).or((wanted > 1).then(|| "2".to_owned())));
        }
    }
}

/// A command in a mount namespace of its own, after `setup`.
fn apart(dunnage: &Dunnage, setup: &str, arguments: &str) -> Ran {
    let script = format!("mount --make-rprivate /; {setup}\nexec {} {arguments}", env!("CARGO_BIN_EXE_dunnage"));
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", &script]).current_dir(dunnage.dir("context").parent().unwrap());
    command.env("DUNNAGE_ROOT", dunnage.root()).env_remove("DUNNAGE_STORAGE_DRIVER").output().unwrap().into()
}

/// A step for each kind of work, on the base image.
const STEPS: &str = "FROM base\nCOPY Dockerfile /d\nRUN cat /d > /e; ulimit -n\nWORKDIR /w\nCMD [\"cat\", \"/e\"]\n";

#[test]
fn security_f21_no_overlay_means_copies_or_one_sentence() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.write("context/Dockerfile", STEPS);
    for name in ["lower", "upper", "work"] {
        dunnage.dir(name);
    }
    // The store on an overlay, as in a container: the kernel stacks no other on it.
    let setup = "mkdir -p root.up root.work; \
                 mount -t overlay overlay -o lowerdir=root,upperdir=root.up,workdir=root.work root";
    let refused = apart(&dunnage, setup, "build --storage-driver overlay -t app context");
    assert_eq!(refused.stderr.lines().filter(|line| line.contains("overlay cannot be had")).count(), 1);
    refused.fails(3, "mount a volume for the store");
    apart(&dunnage, setup, "run --rm --storage-driver overlay base true").fails(125, "or use --storage-driver copy");
    let info = apart(&dunnage, setup, "info").ok().stdout;
    assert!(info.contains("Snapshots: copy (the store itself lies on an overlay") && info.contains("volume"), "{info}");
    let built = apart(&dunnage, setup, "build -t app context").ok();
    assert!(built.stderr.contains("files are copied for each step"), "{}", built.stderr);
    assert!(apart(&dunnage, setup, "run --rm app").ok().stdout.contains("FROM base"));
    // Where it can be had it is taken, and that is remembered.
    let info = dunnage.run(["info"]).ok().stdout;
    assert!(info.contains("Snapshots: overlay (the file system of the store takes it)"), "{info}");
    assert!(
        dunnage.run(["info", "--storage-driver", "copy"]).ok().stdout.contains("Snapshots: copy (it was asked for)")
    );
    let wrong: Ran = dunnage.command(["info"]).env("DUNNAGE_STORAGE_DRIVER", "zfs").output().unwrap().into();
    wrong.fails(2, "must be auto, overlay or copy");
}

#[test]
fn security_f21_a_poor_environment_is_enough_or_gets_one_sentence() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.write("context/Dockerfile", STEPS);
    for driver in DRIVERS {
        let build = format!("build --no-cache --storage-driver {driver} -t app context");
        let run = format!("run --rm --storage-driver {driver} app");
        for (what, setup) in [
            ("64 descriptors", "ulimit -n 64"),
            ("no TMPDIR", "export TMPDIR=/no/such/place"),
            ("a HOME that cannot be written", "mkdir -p home; mount -t tmpfs -o ro none home; export HOME=$PWD/home"),
            ("no HOME", "unset HOME"),
            ("no /proc", "umount -l /proc"),
        ] {
            let built = apart(&dunnage, setup, &build);
            assert_eq!(built.code, 0, "{what}, {driver}: {}", built.stderr);
            let ran = apart(&dunnage, setup, &run);
            assert!(ran.code == 0 && ran.stdout.contains("FROM base"), "{what}, {driver}: {}", ran.stderr);
        }
    }
}
