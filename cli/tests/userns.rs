//! `--userns auto`: containers whose root is nobody on the machine, and builds whose steps are such containers.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::time::{Duration, Instant};

use testdata::{Dunnage, Need};

const NEEDS: [Need; 2] = [Need::Root, Need::Program("busybox")];
/// The first id of those that nobody else says anything of.
const FIRST: u32 = 0x7000_0000;

/// No two builds write a file at the same time: images are compared with their times rewritten.
const AT_ONE_TIME: [&str; 2] = ["-o", "type=image,rewrite-timestamp=true"];

fn dunnage() -> Option<Dunnage> {
    Dunnage::with_base(env!("CARGO_BIN_EXE_dunnage"), &NEEDS)
}

fn auto(dunnage: &Dunnage, flags: &[&str], script: &str) -> String {
    let command = ["base", "sh", "-c", script];
    dunnage.run([&["run", "--rm", "--userns", "auto"], flags, &command].concat()).ok().stdout
}

/// The ids of a container that runs, as it sees them.
fn range_of(dunnage: &Dunnage, name: &str) -> (u32, u32) {
    let map = dunnage.run(["exec", name, "cat", "/proc/self/uid_map"]).ok().stdout;
    let numbers: Vec<u32> = map.split_whitespace().map(|number| number.parse().unwrap()).collect();
    assert_eq!((numbers.len(), numbers[0]), (3, 0), "{map}");
    (numbers[1], numbers[2])
}

fn pid_of(dunnage: &Dunnage, name: &str) -> u32 {
    dunnage.run(["inspect", "-f", "{{.State.Pid}}", name]).ok().stdout.trim().parse().unwrap()
}

fn until(what: &str, done: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn root_inside_is_nobody_outside_and_files_keep_their_owners() {
    let Some(dunnage) = dunnage() else { return };
    let script = "id -u; stat -c %u:%g / /etc/passwd /etc/hosts /dev/shm; echo x > /f; chown 33:44 /f; chmod 6755 /f; \
                  stat -c %u:%g:%a /f; ping -c 1 -W 5 127.0.0.1 >/dev/null && echo pinged; hostname; echo out > /dev/stdout; \
                  umask; sleep 1000";
    let id = dunnage.run(["run", "-d", "--name", "one", "--userns", "auto", "base", "sh", "-c", script]).ok().stdout;
    let log = || dunnage.run(["logs", "one"]).ok().stdout;
    until("it has told all", || log().contains("0022"));
    let hostname = &id[..12];
    assert_eq!(log(), format!("0\n0:0\n0:0\n0:0\n0:0\n33:44:6755\npinged\n{hostname}\nout\n0022\n"));
    let (first, count) = range_of(&dunnage, "one");
    assert!(count == 65_536 && first >= FIRST, "{first} {count}");
    // On the machine the process is the first of its ids, and the file is whose the container says.
    assert_eq!(std::fs::metadata(format!("/proc/{}", pid_of(&dunnage, "one"))).unwrap().uid(), first);
    let file = dunnage.root().join("containers").join(id.trim()).join("fs/f");
    let file = std::fs::metadata(file).unwrap();
    assert_eq!((file.uid(), file.gid(), file.permissions().mode() & 0o7777), (33, 44, 0o6755));
    assert_eq!(dunnage.run(["inspect", "-f", "{{.HostConfig.UsernsMode}}", "one"]).ok().stdout, "auto\n");
    assert!(dunnage.run(["top", "one"]).ok().stdout.contains("sleep 1000"));
    assert!(dunnage.run(["stats", "--no-stream", "one"]).ok().stdout.contains("one"));
    assert!(dunnage.run(["diff", "one"]).ok().stdout.contains("A /f"));
    dunnage.run(["commit", "one", "committed"]).ok();
    let listed = dunnage.run(["run", "--rm", "committed", "stat", "-c", "%u:%g:%a", "/f"]).ok().stdout;
    assert_eq!(listed, "33:44:6755\n");
    assert_eq!(dunnage.run(["exec", "-u", "7:8", "one", "id", "-u"]).ok().stdout, "7\n");
    assert_eq!(dunnage.run(["exec", "one", "sh", "-c", "echo x > /dev/stderr"]).ok().stderr, "x\n");
    // The same range again, if nobody took it meanwhile; in any case the files are whose they were.
    dunnage.run(["restart", "-t", "0", "one"]).ok();
    let stat = || dunnage.run(["exec", "one", "stat", "-c", "%u:%g", "/etc/passwd"]).ok().stdout;
    assert_eq!(stat(), "0:0\n");
    dunnage.run(["rm", "-f", "one"]).ok();
    assert_eq!(dunnage.leftovers(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn files_are_copied_with_the_owners_that_the_container_sees() {
    let Some(dunnage) = dunnage() else { return };
    let start = "mkdir /d; echo x > /d/f; chown 33:44 /d/f; ln -s f /d/l; chown -h 5:6 /d/l; sleep 1000";
    let run = ["run", "-d", "--name", "one", "--userns", "auto", "-v", "vol:/vol", "base", "sh", "-c", start];
    dunnage.run(run).ok();
    let see = |script: &str| dunnage.run(["exec", "one", "sh", "-c", script]).ok().stdout;
    until("it has begun", || dunnage.run(["exec", "one", "test", "-L", "/d/l"]).code == 0);
    dunnage.write("host/deep/file", "from the machine");
    chown(dunnage.dir("host").join("deep/file"), Some(7), Some(8)).unwrap();
    dunnage.run(["cp", "host", "one:/plain"]).ok();
    dunnage.run(["cp", "-a", "host", "one:/vol/kept"]).ok();
    assert_eq!(see("cat /plain/deep/file; stat -c %u:%g /plain/deep/file /plain"), "from the machine0:0\n0:0\n");
    assert_eq!(see("stat -c %u:%g /vol/kept/deep/file; echo more >> /plain/deep/file; ls /vol"), "7:8\nkept\n");
    // Out again: the caller's, or whose they are in the container.
    let out = dunnage.dir("out");
    dunnage.run(["cp", "one:/d", "out/plain"]).ok();
    dunnage.run(["cp", "-a", "one:/d", "out/kept"]).ok();
    let owner = |name: &str| std::fs::symlink_metadata(out.join(name)).map(|found| (found.uid(), found.gid())).unwrap();
    assert_eq!((owner("plain/f"), owner("kept/f"), owner("kept/l")), ((0, 0), (33, 44), (5, 6)));
    let pipe = "\"$0\" cp one:/d - > d.tar && tar tvf d.tar --numeric-owner | grep -c -e 33/44 -e 5/6 && \"$0\" cp - one:/vol < d.tar";
    let mut command = std::process::Command::new("sh");
    let of_test = dunnage.command(["cp"]);
    command.args(["-c", pipe, env!("CARGO_BIN_EXE_dunnage")]).current_dir(dunnage.dir("."));
    command.envs(of_test.get_envs().filter_map(|(key, value)| Some((key, value?))));
    let ran: testdata::Ran = command.output().unwrap().into();
    assert_eq!(ran.ok().stdout, "2\n");
    assert_eq!(see("stat -c %u:%g /vol/d/f /vol/d/l"), "33:44\n5:6\n");
    // What is on the disk has the same owners, and one that does not run is no other matter.
    dunnage.run(["stop", "-t", "0", "one"]).ok();
    dunnage.run(["cp", "-a", "one:/vol/d/f", "out/stopped"]).ok();
    assert_eq!(owner("stopped"), (33, 44));
}

#[test]
fn security_s02_the_machines_files_are_closed_to_root_inside() {
    let Some(dunnage) = dunnage() else { return };
    let secret = dunnage.write("host/secret", "text");
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
    let own = dunnage.write("host/own", "own");
    chown(&own, Some(1000), Some(1000)).unwrap();
    let host = dunnage.dir("host");
    let bind = format!("{}:/h", host.display());
    let script = "cat /h/secret 2>/dev/null || echo closed; touch /h/new 2>/dev/null || echo closed; \
                  chmod 777 /h/secret 2>/dev/null || echo closed; chown 0 /h/own 2>/dev/null || echo closed; \
                  mknod /h/d c 1 3 2>/dev/null || echo closed; stat -c %u /h/secret";
    assert_eq!(auto(&dunnage, &["-v", &bind], script), "closed\nclosed\nclosed\nclosed\nclosed\n65534\n");
    // Even with all capabilities: they count for what belongs to the container's own users.
    let script = format!("{script}; mount -t tmpfs none /mnt 2>/dev/null; cat /h/secret 2>/dev/null || echo closed");
    let all = auto(&dunnage, &["-v", &bind, "--cap-add", "ALL", "--security-opt", "seccomp=unconfined"], &script);
    assert_eq!(all, "closed\nclosed\nclosed\nclosed\nclosed\n65534\nclosed\n");
    assert_eq!(std::fs::read_dir(&host).unwrap().count(), 2);
    // Who asks for mapped owners gets them.
    let script = "cat /h/secret; stat -c %u /h/secret /h/own; echo more > /h/new; chown 5 /h/new";
    assert_eq!(auto(&dunnage, &["-v", &format!("{bind}:idmap")], script), "text0\n1000\n");
    let mount = format!("type=bind,src={},dst=/h,idmap,readonly", host.display());
    let script = "stat -c %u /h/new; touch /h/x 2>/dev/null || echo closed";
    assert_eq!(auto(&dunnage, &["--mount", &mount], script), "5\nclosed\n");
    assert_eq!(std::fs::metadata(host.join("new")).unwrap().uid(), 5);
}

/// A layer may hold a node of the machine's disk, which is then owned by the container's root: it is opened in no way.
#[test]
fn security_s04_device_nodes_of_an_image_open_nothing() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.build("FROM base\nRUN mknod /disk b 7 0 && mknod /kmsg c 1 11 && chmod 666 /disk /kmsg\n");
    let script = "for name in /disk /kmsg; do head -c 1 $name >/dev/null 2>&1 || echo closed; done; \
                  mount -o remount,dev / 2>/dev/null; \
                  for name in /disk /kmsg; do head -c 1 $name >/dev/null 2>&1 || echo closed; done";
    for flags in [&[][..], &["--cap-add", "ALL", "--security-opt", "seccomp=unconfined"]] {
        let command = ["app", "sh", "-c", script];
        let ran = dunnage.run([&["run", "--rm", "--userns", "auto"], flags, &command].concat()).ok();
        assert_eq!(ran.stdout, "closed\nclosed\nclosed\nclosed\n", "{flags:?}");
    }
}

#[test]
fn no_two_containers_have_an_id_in_common() {
    let Some(dunnage) = dunnage() else { return };
    // The second store is another world, but its ids are the same machine's.
    let other = dunnage.copy();
    let mut ranges = Vec::new();
    for (store, name, mode) in [
        (&dunnage, "aa", "auto"),
        (&dunnage, "bb", "auto:size=1000"),
        (&dunnage, "cc", "auto"),
        (&other, "dd", "auto:size=200000"),
    ] {
        store.run(["run", "-d", "--name", name, "--userns", mode, "base", "sleep", "1000"]).ok();
        ranges.push(range_of(store, name));
    }
    assert_eq!(ranges.iter().map(|(_, count)| *count).collect::<Vec<_>>(), [65_536, 1000, 65_536, 200_000]);
    ranges.sort_unstable();
    assert!(ranges.windows(2).all(|pair| pair[0].0 + pair[0].1 <= pair[1].0), "{ranges:?}");
}

#[test]
fn ranges_come_from_the_settings_and_are_free_when_their_holder_was_killed() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.write("config.toml", "[userns]\nranges = [\"1950000000:2000\"]\n");
    let start =
        |name: &str| dunnage.run(["run", "-d", "--name", name, "--userns", "auto:size=1000", "base", "sleep", "1000"]);
    start("aa").ok();
    start("bb").ok();
    let mut ranges = [range_of(&dunnage, "aa"), range_of(&dunnage, "bb")];
    ranges.sort_unstable();
    assert_eq!(ranges, [(1_950_000_000, 1000), (1_950_001_000, 1000)]);
    start("cc").fails(125, "all ranges of 1000 ids by").fails(125, "config.toml are taken: end some containers");
    dunnage
        .run(["run", "--rm", "--userns", "auto", "base", "true"])
        .fails(125, "65536 ids are asked for, and")
        .fails(125, "config.toml has at most 2000 in a row");
    // The monitor and the container's first process, both without a chance to say anything.
    let pid = pid_of(&dunnage, "aa");
    let monitor = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let monitor = monitor.rsplit(')').next().unwrap().split_whitespace().nth(1).unwrap().to_owned();
    let killed = std::process::Command::new("kill").args(["-9", &monitor]).status().unwrap();
    assert!(killed.success());
    until("its range is free", || start("dd").code == 0 || dunnage.run(["rm", "-f", "dd"]).code != 0);
    assert_eq!(range_of(&dunnage, "dd").1, 1000);
    let taken = [range_of(&dunnage, "bb"), range_of(&dunnage, "dd")];
    assert_ne!(taken[0].0, taken[1].0);
}

#[test]
fn volumes_are_shared_between_containers_of_any_users() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.build("FROM base\nRUN mkdir -p /data && echo first > /data/f && chown 70:71 /data/f /data\nVOLUME /data\n");
    let run = |mode: &str, script: &str| {
        dunnage.run(["run", "--rm", "--userns", mode, "-v", "vol:/data", "app", "sh", "-c", script]).ok().stdout
    };
    assert_eq!(run("auto", "stat -c %u:%g /data /data/f; echo second >> /data/f; echo a > /data/a"), "70:71\n70:71\n");
    assert_eq!(run("auto", "cat /data/f; stat -c %u:%g /data/a"), "first\nsecond\n0:0\n");
    assert_eq!(run("host", "stat -c %u:%g /data /data/f /data/a; rm /data/a"), "70:71\n70:71\n0:0\n");
    // A working directory that the image does not have, a tmpfs and a limit above the machine's own.
    let flags = ["-w", "/a/b", "--tmpfs", "/t:mode=700", "--ulimit", "nofile=300:400", "--oom-score-adj", "500"];
    let script = "pwd; stat -c %u /a/b /t; ulimit -Hn; cat /proc/self/oom_score_adj";
    assert_eq!(auto(&dunnage, &flags, script), "/a/b\n0\n0\n400\n500\n");
}

#[test]
fn networks_belong_to_the_container() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.run(["network", "create", "net"]).ok();
    let serve = "mkdir /www; echo page > /www/index.html; exec httpd -f -p 80 -h /www";
    dunnage.run(["run", "-d", "--name", "web", "--userns", "auto", "--network", "net", "base", "sh", "-c", serve]).ok();
    let ask =
        "for i in 1 2 3 4 5 6 7 8 9 10; do wget -qO- http://web/ && break; sleep 1; done; cat /sys/class/net/lo/mtu";
    let flags = ["--network", "net", "--sysctl", "net.ipv4.ip_forward=1", "--cap-add", "NET_ADMIN"];
    let script = format!("{ask}; cat /proc/sys/net/ipv4/ip_forward; ip link add d0 type dummy && echo made || true");
    let said = auto(&dunnage, &flags, &script);
    assert!(said.starts_with("page\n65536\n1\n"), "{said}");
    // The machine's network can be looked at, and nothing more.
    let own = std::fs::read_link("/proc/self/ns/net").unwrap();
    let script = "readlink /proc/self/ns/net; ip link set lo mtu 1500 2>/dev/null || echo closed; touch /sys/x 2>/dev/null || echo closed";
    let said = auto(&dunnage, &["--network", "host", "--cap-add", "NET_ADMIN"], script);
    assert_eq!(said, format!("{}\nclosed\nclosed\n", own.display()));
    assert_eq!(
        auto(&dunnage, &["--network", "none"], "cat /sys/class/net/lo/operstate; ls /sys/class/net"),
        "unknown\nlo\n"
    );
}

#[test]
fn what_contradicts_it_is_refused_in_one_sentence() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.run(["run", "-d", "--name", "other", "base", "sleep", "1000"]).ok();
    for (flags, sentence) in [
        (&["--userns", "auto", "--privileged"][..], "--privileged contradicts --userns auto"),
        (&["--userns", "auto", "--pid", "host"], "--pid host contradicts --userns auto"),
        (&["--userns", "auto", "--ipc", "host"], "--ipc host contradicts --userns auto"),
        (&["--userns", "auto", "--cgroupns", "host"], "--cgroupns host contradicts --userns auto"),
        (&["--userns", "auto", "--pid", "container:other"], "--pid container:other contradicts --userns auto"),
        (&["--userns", "auto", "--network", "container:other"], "--network container:other contradicts"),
        (&["--userns", "auto:size=0"], "size= takes a number of ids from 1"),
        (&["--userns", "auto:uidmapping=0:1:2"], "`uidmapping=0:1:2` is no option of auto"),
        (&["--userns", "keep-id"], "keep-id"),
        (&["--userns", "container:other"], "`container` is not supported"),
        (&["--userns", "everybody"], "modes are host, auto"),
        (&["--userns", "auto", "-u", "70000"], "user 70000 is not among the container's 65536 ids"),
        (&["-v", "/tmp:/h:idmap"], "has idmap, which means something with --userns auto alone"),
        (&["-v", "vol:/h:idmap", "--userns", "auto"], "volumes have mapped owners anyway"),
    ] {
        let ran = dunnage.run([&["run", "--rm"], flags, &["base", "true"]].concat());
        ran.fails(125, sentence);
    }
    assert_eq!(dunnage.run(["ps", "-aq"]).ok().stdout.lines().count(), 1);
    // A container with the machine's users may look into one with its own.
    dunnage.run(["run", "-d", "--name", "own", "--userns", "auto", "base", "sleep", "1000"]).ok();
    dunnage.run(["run", "--rm", "--network", "container:own", "base", "true"]).ok();
    dunnage.run(["exec", "-u", "70000", "own", "true"]).fails(125, "user 70000 is not among the container's 65536 ids");
}

/// Programs find the name of their terminal, and may open it again.
#[test]
fn terminals_belong_to_the_user_inside() {
    let Some(dunnage) = dunnage() else { return };
    let script = "tty; stat -c %u:%g $(tty) /dev/console; echo x > /dev/tty && echo opened";
    let shown = |ran: testdata::Ran| ran.ok().stdout.replace('\r', "");
    let run = |flags: &[&str]| {
        let command = ["base", "sh", "-c", script];
        shown(dunnage.run([&["run", "--rm", "-t", "--userns", "auto"], flags, &command].concat()))
    };
    assert_eq!(run(&[]), "/dev/pts/0\n0:5\n0:5\nx\nopened\n");
    assert_eq!(run(&["-u", "1000"]), "/dev/pts/0\n1000:5\n1000:5\nx\nopened\n");
    dunnage.run(["run", "-d", "--name", "own", "--userns", "auto", "base", "sleep", "1000"]).ok();
    let script = "stat -c %u:%g /proc/self/fd/0 -L; echo x > /dev/tty && echo opened";
    let ran = dunnage.run(["exec", "-t", "-u", "7", "own", "sh", "-c", script]);
    assert_eq!(shown(ran), "7:5\nx\nopened\n");
}

#[test]
fn the_settings_can_make_it_the_default() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.write("config.toml", "[userns]\nrun = \"auto:size=3000\"\n");
    let map = |flags: &[&str]| {
        let command = ["base", "cat", "/proc/self/uid_map"];
        let map = dunnage.run([&["run", "--rm"], flags, &command].concat()).ok().stdout;
        map.split_whitespace().nth(2).unwrap().to_owned()
    };
    assert_eq!(map(&[]), "3000");
    assert_eq!(map(&["--userns", "host"]), "4294967295");
    // What asks for more than such a container may have is asked for by name.
    assert_eq!(map(&["--privileged"]), "4294967295");
    dunnage.write("config.toml", "[userns]\nrun = \"sometimes\"\n");
    dunnage.run(["run", "--rm", "base", "true"]).fails(125, "config.toml:2: modes are host, auto");
}

/// Everything of which a layer keeps track, made by steps that are user 0 of their own namespace alone.
#[test]
fn a_build_in_user_namespaces_gives_the_same_image() {
    let Some(plain) = dunnage() else { return };
    let dockerfile = "FROM base AS tools\nRUN mkdir /tool && echo tool > /tool/secret && chmod 600 /tool/secret\n\
        FROM base\nRUN mkdir -p /var/pool/old && touch /var/pool/old/f\nWORKDIR /work/dir\n\
        RUN cp /bin/busybox /set && chown 12:34 /set && chmod 6755 /set && mkfifo /pipe && ln -s /set /link && ln /set /hard \
         && rm -r /var/pool && mkdir -p /var/pool/new && chown -R 1000:1000 /var/pool && echo x >> /etc/passwd\n\
        RUN --mount=type=bind,from=tools,source=/tool,target=/tool --mount=type=cache,target=/cache,uid=5 \
         --mount=type=secret,id=s,mode=0400 --mount=type=tmpfs,target=/scratch --mount=type=bind,target=/context \
         cat /tool/secret /run/secrets/s > /read && stat -c %u /cache /tool/secret /run/secrets/s >> /read && \
         cat /context/closed >> /read && touch /cache/x\n\
        RUN --network=none --mount=type=cache,target=/cache,uid=5 stat -c %u /cache/x > /kept\n\
        RUN <<EOF\nid -u > /heredoc\nEOF\nUSER 77\nRUN id -u > /tmp/who\n";
    let closed = plain.write("context/closed", "closed\n");
    chown(&closed, Some(1000), None).unwrap();
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o600)).unwrap();
    plain.write("secret", "hidden");
    let mapped = plain.copy();
    mapped.write("config.toml", "[registries.\"docker.io\"]\nblocked = true\n[userns]\nbuild = \"auto\"\n");
    let build = |dunnage: &Dunnage| {
        dunnage.write("context/Dockerfile", dockerfile);
        let args = ["build", "-q", "-t", "app", "--secret", "id=s,src=secret"];
        let mut command = dunnage.command(args.into_iter().chain(AT_ONE_TIME).chain(["context"]));
        let ran: testdata::Ran = command.env("SOURCE_DATE_EPOCH", "1000000000").output().unwrap().into();
        ran.ok().stdout
    };
    let (first, second) = (build(&plain), build(&mapped));
    let show = |dunnage: &Dunnage| {
        dunnage.run(["run", "--rm", "--userns", "host", "app", "cat", "/read", "/kept", "/tmp/who"]).ok().stdout
    };
    assert_eq!(show(&mapped), show(&plain));
    assert_eq!(first, second);
    // The steps did not see the machine's ids.
    mapped.write(
        "context/Dockerfile",
        "FROM base\nRUN awk '{ print ($2 >= 1879048192), $3 }' /proc/self/uid_map > /map\nCMD cat /map\n",
    );
    mapped.run(["build", "-q", "-t", "map", "context"]).ok();
    assert_eq!(mapped.run(["run", "--rm", "map"]).ok().stdout, "1 65536\n");
    // One that may do anything has the machine's users.
    let insecure = "# syntax=docker/dockerfile:1\nFROM base\nRUN --security=insecure awk '{ print $3 }' /proc/self/uid_map > /map\nCMD cat /map\n";
    mapped.write("context/Dockerfile", insecure);
    mapped.run(["build", "-q", "--allow", "security.insecure", "-t", "map", "context"]).ok();
    assert_eq!(mapped.run(["run", "--rm", "map"]).ok().stdout, "4294967295\n");
    assert_eq!(mapped.leftovers(), Vec::<std::path::PathBuf>::new());
}

/// The kernel marks an attribute that user 0 of a namespace sets with who that is: the layer has it as any other root's.
#[test]
fn file_capabilities_are_those_of_any_root_and_work_for_each() {
    let needs = [Need::Root, Need::Program("setcap"), Need::Program("ldd")];
    if testdata::skipped(&needs) {
        return;
    }
    let plain = Dunnage::new(env!("CARGO_BIN_EXE_dunnage"));
    plain.run(["bootstrap", "base"]).ok();
    let copy = |path: &str, name: &str| {
        std::fs::copy(path, plain.dir("context").join(name)).unwrap();
    };
    let setcap =
        std::process::Command::new("sh").args(["-c", "command -v setcap && ldd $(command -v setcap)"]).output();
    let text = String::from_utf8(setcap.unwrap().stdout).unwrap();
    copy(text.lines().next().unwrap(), "setcap");
    let library = text.split_whitespace().find(|word| word.starts_with('/') && word.contains("libcap")).unwrap();
    copy(library, "libcap.so.2");
    let dockerfile = "FROM base\nCOPY setcap libcap.so.2 /caps/\n\
        RUN cp /bin/cat /cat && LD_LIBRARY_PATH=/caps /caps/setcap cap_chown+ep /cat\nUSER 1000\n";
    let mapped = plain.copy();
    mapped.write("config.toml", "[userns]\nbuild = \"auto\"\n");
    let built = [&plain, &mapped].map(|dunnage| {
        dunnage.write("context/Dockerfile", dockerfile);
        let args = ["build", "-q", "-t", "app"].into_iter().chain(AT_ONE_TIME).chain(["context"]);
        let mut command = dunnage.command(args);
        let ran: testdata::Ran = command.env("SOURCE_DATE_EPOCH", "1000000000").output().unwrap().into();
        for mode in ["auto", "host"] {
            let ran = dunnage.run(["run", "--rm", "--userns", mode, "app", "/cat", "/proc/self/status"]).ok();
            assert!(ran.stdout.contains("CapEff:\t0000000000000001\n"), "{mode}: {}", ran.stdout);
        }
        ran.ok().stdout
    });
    assert_eq!(built[0], built[1]);
}

#[test]
fn trees_that_are_copies_are_shown_in_the_same_way() {
    let Some(dunnage) = dunnage() else { return };
    let flags = ["run", "--rm", "--storage-driver", "copy", "--userns", "auto", "base", "sh", "-c"];
    let script = "cut -c 1-20 /proc/self/uid_map | wc -l; echo x > /f; chown 5 /f; stat -c %u /f /etc/passwd; pwd";
    assert_eq!(dunnage.run(flags.iter().chain(&[script])).ok().stdout, "1\n5\n0\n/\n");
}

/// The file system of the store must show files with mapped owners: one of its own kind cannot.
#[test]
fn without_mapped_owners_there_is_one_sentence() {
    let Some(dunnage) = dunnage() else { return };
    let info = dunnage.run(["info"]).ok().stdout;
    assert!(
        info.contains("User namespaces: auto (4094 ranges of 65536 ids from 1879048192, the default), host"),
        "{info}"
    );
    let script = format!(
        "mkdir -p l u w m; mount -t overlay o -o lowerdir=l,upperdir=u,workdir=w m && DUNNAGE_ROOT=$PWD/m/s {0} bootstrap \
         --from busybox base >/dev/null && DUNNAGE_ROOT=$PWD/m/s {0} run --rm --userns auto base true; echo $?; \
         DUNNAGE_ROOT=$PWD/m/s {0} info | grep User",
        env!("CARGO_BIN_EXE_dunnage")
    );
    let mut command = std::process::Command::new("unshare");
    command.args(["-m", "sh", "-c", &script]).current_dir(dunnage.dir("elsewhere"));
    let ran: testdata::Ran = command.output().unwrap().into();
    assert!(ran.stdout.starts_with("125\n"), "{}{}", ran.stdout, ran.stderr);
    assert!(ran.stdout.contains("User namespaces: host; no auto, since the file system of"), "{}", ran.stdout);
    let lines: Vec<&str> = ran.stderr.lines().filter(|line| line.starts_with("error")).collect();
    assert_eq!(lines.len(), 1, "{}", ran.stderr);
    assert!(lines[0].contains("shows no files with mapped owners; use ext4, xfs or btrfs there"), "{}", ran.stderr);
}
