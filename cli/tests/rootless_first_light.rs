//! First light by everyone: the demo, and a compiler installed by apt, are built and run by users with and without ranges of
//! ids, with each way out of the machine, and in containers of dunnage and docker that are not privileged. All of them make
//! root's images.
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::{Path, PathBuf};

use testdata::{Docker, Dunnage, Granted, Need, Ran, User, copy_tree, skipped, workspace};

const BINARY: &str = env!("CARGO_BIN_EXE_dunnage");
const NEEDS: [Need; 8] = [
    Need::Root,
    Need::Program("busybox"),
    Need::Program("mmdebstrap"),
    Need::Program("useradd"),
    Need::Program("newuidmap"),
    Need::Program("setpriv"),
    Need::Program("pasta"),
    Need::Program("slirp4netns"),
];

/// Packages are on the base already, so that a container without a network installs them all the same.
const BASE: &str =
    "FROM plain\nRUN apt-get update && apt-get install -y --download-only --no-install-recommends gcc libc6-dev\n";

/// Builds and runs the cases that it is told; prints the id of each image, and what it says. Two machines never write a file
/// at the same time, so times are rewritten.
const WORK: &str = "set -e\n\
    export SOURCE_DATE_EPOCH=1000000000\n\
    dunnage info | { while read -r line; do case $line in Isolation*|Snapshots*) echo \"$line\" >&2;; esac; done; }\n\
    dunnage load -i \"$HERE/bases.tar\" >/dev/null\n\
    for name; do\n\
    dunnage build -q -o type=image,rewrite-timestamp=true -t $name \"$HERE/$name\"\n\
    dunnage run --rm $name\n\
    done\n";

/// The cases, each with what it prints below the id of its image.
const DEMO: &str = "demo";
const COMPILE: &str = "compile";
const COMPILED: &str = "hello from a container\n6 * 7 = 42\n";

/// What root made of both cases, and the files from which others make the same.
struct Light {
    root: Dunnage,
    files: PathBuf,
}

impl Light {
    fn new() -> Light {
        let root = Dunnage::new(BINARY);
        let files = root.dir("files");
        for name in [DEMO, COMPILE] {
            std::fs::create_dir(files.join(name)).unwrap();
            copy_tree(&workspace().join("testdata").join(name), &files.join(name));
        }
        std::fs::write(files.join("work.sh"), WORK).unwrap();
        std::fs::copy(BINARY, files.join("dunnage")).unwrap();
        root.run(["bootstrap", "--from", "debian:bookworm", "plain"]).ok();
        root.write("base/Dockerfile", BASE);
        root.run(["build", "-q", "-t", "debian:bookworm", "base"]).ok();
        root.run(["bootstrap", "demo-base"]).ok();
        root.run(["save", "-o", "files/bases.tar", "debian:bookworm", "demo-base"]).ok();
        Light { root, files }
    }

    /// What root gets of the cases.
    fn expected(&self, names: &[&str]) -> String {
        let mut work = self.root.command(["info"]);
        let environment: Vec<_> =
            work.get_envs().filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned()))).collect();
        work = std::process::Command::new("sh");
        let path = format!("{}:/usr/bin:/bin:/usr/sbin:/sbin", self.files.display());
        work.envs(environment).env("PATH", path).env("HERE", &self.files).arg(self.files.join("work.sh")).args(names);
        let made = Ran::from(work.output().unwrap()).ok().stdout;
        let words = ["hello, world, from nobody in a container", COMPILED];
        names.iter().zip(words).for_each(|(_, words)| assert!(made.contains(words), "{made}"));
        made
    }
}

#[test]
fn users_with_and_without_ranges_make_the_images_of_root_with_each_way_out() {
    if skipped(&NEEDS) {
        return;
    }
    let light = Light::new();
    let both = [DEMO, COMPILE];
    let expected = light.expected(&both);
    for (granted, ids) in [(Granted::Ranges, "with 65537 ids"), (Granted::Nothing, "this user's id alone")] {
        let user = User::new(BINARY, granted);
        copy_tree(&light.files, user.home());
        user.take(".".as_ref());
        let here = format!("HERE={}", user.home().display());
        let work = |programs: &[&str], names: &[&str]| {
            let home = user.home().display();
            let bin = user.bin(&[&["newuidmap", "newgidmap"], programs].concat());
            let mut work = user.command("env", [&here, &format!("PATH={home}:{}", bin.display())]);
            Ran::from(work.arg("/bin/sh").arg(user.home().join("work.sh")).args(names).output().unwrap()).ok()
        };
        let made = work(&["pasta"], &both);
        assert_eq!(made.stdout, expected, "{granted:?}: {}", made.stderr);
        assert!(made.stderr.contains(ids) && made.stderr.contains("Snapshots: overlay"), "{}", made.stderr);
        // RUN steps have the machine's network in any case; what is run has another way out each time.
        for (programs, own) in [(["pasta"].as_slice(), true), (&["slirp4netns"], true), (&[], false)] {
            let again = work(programs, &both);
            assert_eq!(again.stdout, expected, "{granted:?}, {programs:?}");
            assert_eq!(again.stderr.contains("the machine's own network"), !own, "{programs:?}: {}", again.stderr);
        }
    }
}

/// The flags of an outer container that lend it the binary and the files, and a directory for the store.
fn lent(files: &Path, store: Option<&Path>) -> Vec<String> {
    let mut flags = vec!["-v".to_owned(), format!("{}:/files:ro", files.display())];
    flags.extend(["-v".to_owned(), format!("{}:/bin/dunnage:ro", files.join("dunnage").display())]);
    flags.extend(["--network", "none", "-e", "HERE=/files", "-e", "HOME=/tmp/home"].map(str::to_owned));
    flags.extend(["--tmpfs", "/tmp:mode=1777,exec"].map(str::to_owned));
    if let Some(store) = store {
        flags.extend(["-v".to_owned(), format!("{}:/store", store.display()), "-e".to_owned()]);
        flags.push("DUNNAGE_ROOT=/store".to_owned());
    }
    flags
}

const FILTER: [&str; 2] = ["--security-opt", "seccomp=unconfined"];
const PATHS: [&str; 2] = ["--security-opt", "systempaths=unconfined"];
const USER: [&str; 2] = ["-u", "1000:1000"];

/// A directory for a store, of user 0 or of user 1000.
fn store(light: &Light, name: &str, owner: u32) -> PathBuf {
    let store = light.root.dir(name);
    std::os::unix::fs::chown(&store, Some(owner), Some(owner)).unwrap();
    store
}

#[test]
fn runtime_s04_in_containers_that_are_not_privileged_the_images_of_root_are_made() {
    let docker = ["dockerd", "docker", "containerd"].map(Need::Program);
    if skipped(&[NEEDS.as_slice(), &docker].concat()) {
        return;
    }
    let light = Light::new();
    let (demo, both) = (light.expected(&[DEMO]), light.expected(&[DEMO, COMPILE]));
    light.root.run(["bootstrap", "--from", "busybox", "base"]).ok();
    light.root.run(["save", "-o", "outer.tar", "base"]).ok();
    let docker = Docker::start(&light.root.dir("docker"));
    let with_docker = |args: &[&str]| Ran::from(docker.command(args).output().unwrap());
    with_docker(&["load", "-i", &light.root.dir(".").join("outer.tar").display().to_string()]).ok();
    let with_dunnage = |args: &[&str]| light.root.run(args);

    for tool in ["dunnage", "docker"] {
        let start = |args: &[&str]| if tool == "docker" { with_docker(args) } else { with_dunnage(args) };
        let work = |flags: &[&str], store: Option<&Path>, names: &[&str]| {
            let lent = lent(&light.files, store);
            let lent: Vec<&str> = lent.iter().map(String::as_str).collect();
            start(&[&["run", "--rm"], lent.as_slice(), flags, &["base", "sh", "/files/work.sh"], names].concat())
        };
        // The filter of system calls alone is lifted: the container's own overlay gives copies, a volume gives overlay.
        let copied = work(&FILTER, None, &[DEMO]).ok();
        assert_eq!(copied.stdout, demo, "in {tool}: {}", copied.stderr);
        // This docker has no overlay to be on.
        let driver = if tool == "docker" { "Snapshots: overlay" } else { "Snapshots: copy" };
        assert!(copied.stderr.contains(driver), "in {tool}: {}", copied.stderr);
        let own = store(&light, &format!("{tool}-0"), 0);
        let made = work(&FILTER, Some(&own), &[DEMO, COMPILE]).ok();
        assert_eq!(made.stdout, both, "in {tool}: {}", made.stderr);
        assert!(made.stderr.contains("Snapshots: overlay"), "in {tool}: {}", made.stderr);
        // The same by a user of the container, who has one id.
        let own = store(&light, &format!("{tool}-1000"), 1000);
        let flags = [FILTER, PATHS, USER].concat();
        let made = work(&flags, Some(&own), &[DEMO, COMPILE]).ok();
        assert_eq!(made.stdout, both, "in {tool}: {}", made.stderr);
        assert!(made.stderr.contains("this user's id alone"), "in {tool}: {}", made.stderr);
        // With the filter there are no containers, and one sentence says what helps.
        let refused = work(&[], None, &[DEMO]);
        assert!(refused.stderr.contains("Isolation: no containers"), "in {tool}: {}", refused.stderr);
        refused.fails(3, "start the container with `--security-opt seccomp=unconfined");
    }
}
