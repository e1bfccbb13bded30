//! RUN with its mounts, networks and limits, and the flags of `dunnage build` that go with them.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::path::{Path, PathBuf};

use testdata::{Dunnage, Need, Ran, skipped};

const NEEDS: [Need; 2] = [Need::Root, Need::Program("busybox")];

fn dunnage() -> Option<Dunnage> {
    Dunnage::with_base(env!("CARGO_BIN_EXE_dunnage"), &NEEDS)
}

fn build(dunnage: &Dunnage, dockerfile: &str, flags: &[&str]) -> Ran {
    dunnage.write("context/Dockerfile", dockerfile);
    dunnage.run([&["build", "-t", "app"], flags, &["context"]].concat())
}

fn output(dunnage: &Dunnage) -> String {
    dunnage.run(["run", "--rm", "app"]).ok().stdout
}

/// Steps performed, and hits.
fn counts(log: &str) -> (usize, usize) {
    let line =
        log.lines().find(|line| line.contains("steps cached")).unwrap_or_else(|| panic!("no summary in:\n{log}"));
    let numbers: Vec<usize> = line.split(|c: char| !c.is_ascii_digit()).filter_map(|word| word.parse().ok()).collect();
    (numbers[2], numbers[0])
}

/// Names in the topmost layer of the image.
fn top_layer(dunnage: &Dunnage) -> Vec<String> {
    dunnage.run(["save", "-o", "app.tar", "app"]).ok();
    let tar = |args: &[&str]| {
        let output = std::process::Command::new("tar").args(args).current_dir(dunnage.dir(".")).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let manifest: serde_json::Value = serde_json::from_str(&tar(&["xOf", "app.tar", "manifest.json"])).unwrap();
    let top = manifest[0]["Layers"].as_array().unwrap().last().unwrap().as_str().unwrap().to_owned();
    tar(&["xf", "app.tar", &top]);
    tar(&["tf", &top]).lines().filter(|line| *line != "./").map(str::to_owned).collect()
}

/// Files below a directory that hold a text.
fn holding(directory: &Path, text: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![directory.to_owned()];
    while let Some(path) = open.pop() {
        let Ok(metadata) = std::fs::symlink_metadata(&path) else { continue };
        if metadata.is_dir() {
            open.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if metadata.is_file() {
            let bytes = std::fs::read(&path).unwrap();
            if bytes.windows(text.len()).any(|window| window == text.as_bytes()) {
                found.push(path);
            }
        }
    }
    found
}

#[test]
fn builder_r02_a_cache_survives_builds_and_is_in_no_image_and_no_key() {
    let Some(dunnage) = dunnage() else { return };
    let file = |seen: &str| {
        format!(
            "FROM base\nRUN --mount=type=cache,target=/c echo {seen} >> /c/log && cp /c/log /seen\nCMD cat /seen; ls /c\n"
        )
    };
    build(&dunnage, &file("one"), &[]).ok();
    build(&dunnage, &file("two"), &[]).ok();
    let out = dunnage.run(["run", "--rm", "app"]);
    assert_eq!(out.stdout, "one\ntwo\n");
    assert!(out.stderr.contains("/c"), "the mount point is in the image: {}", out.stderr);
    assert_eq!(top_layer(&dunnage), ["seen"]);
    // What the cache holds by now, its id and its sharing change no key.
    let other = file("two").replace("type=cache,", "type=cache,id=other,sharing=locked,");
    assert_eq!(counts(&build(&dunnage, &other, &[]).ok().stderr), (0, 1));
    assert_eq!(holding(&dunnage.root().join("caches"), "one\ntwo\n").len(), 1);
    dunnage.run(["system", "prune", "--all", "--force"]).ok();
    assert_eq!(holding(&dunnage.root(), "one\ntwo\n"), Vec::<PathBuf>::new());
}

#[test]
fn builder_r03_locked_caches_are_used_one_after_the_other() {
    let Some(dunnage) = dunnage() else { return };
    let file = |sharing: &str| {
        let run = format!(
            "RUN --mount=type=cache,id={sharing},target=/c,sharing={sharing} old=$(cat /c/n 2>/dev/null || echo 0); sleep 0.5; echo $((old + 1)) > /c/n; cp /c/n /n"
        );
        format!(
            "FROM base AS a\nENV A=a-{sharing}\n{run}\nFROM base AS b\nENV A=b-{sharing}\n{run}\nFROM base\nCOPY --from=a /n /a\nCOPY --from=b /n /b\nCMD cat /a /b | sort | tr '\\n' ' '\n"
        )
    };
    let log = build(&dunnage, &file("locked"), &[]).ok().stderr;
    assert_eq!(output(&dunnage), "1 2 ");
    // Who holds it is told where it had the time to write its name.
    assert!(log.contains("the cache `locked` is in use by"), "{log}");
    build(&dunnage, &file("private"), &[]).ok();
    assert_eq!(output(&dunnage), "1 1 ");
    // Two sharers see each other's files at once.
    let file = "FROM base AS a\nRUN --mount=type=cache,target=/c touch /c/a; for i in $(seq 100); do test -e /c/b && exit 0; sleep 0.1; done; exit 1\nFROM base AS b\nRUN --mount=type=cache,target=/c touch /c/b; for i in $(seq 100); do test -e /c/a && exit 0; sleep 0.1; done; exit 1\nFROM base\nCOPY --from=a /etc/passwd /a\nCOPY --from=b /etc/passwd /b\n";
    build(&dunnage, file, &[]).ok();
}

#[test]
fn builder_r03_a_cache_begins_with_what_from_names_and_has_its_own_mode() {
    let Some(dunnage) = dunnage() else { return };
    let file = "FROM base AS seed\nRUN mkdir -m 750 -p /s/d && echo seeded > /s/d/f && chown 7:8 /s/d/f\nFROM base\nRUN --mount=type=cache,target=/c,from=seed,source=/s,uid=5,gid=6,mode=0711 stat -c '%a %u:%g' /c /c/d /c/d/f > /o; cat /c/d/f >> /o; echo more >> /c/d/f\nRUN --mount=type=cache,target=/c,from=seed,source=/s,uid=5,gid=6,mode=0711 cat /c/d/f >> /o\nCMD cat /o\n";
    build(&dunnage, file, &[]).ok();
    assert_eq!(output(&dunnage), "711 5:6\n750 0:0\n644 7:8\nseeded\nseeded\nmore\n");
}

#[test]
fn builder_r05_binds_are_read_only_and_what_is_written_is_thrown_away() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.write("context/f", "one\n");
    dunnage.write("context/d/g", "two\n");
    let file = "FROM base\nWORKDIR /w\nRUN --mount=type=bind,target=.,rw echo new > new && echo more >> f && cat f d/g new > /seen\nRUN --mount=target=/m ! touch /m/x && cat /m/f >> /seen\nRUN --mount=source=d/g,target=/one cat /one >> /seen\nCMD cat /seen; ls -a /w /m /one 2>&1; true\n";
    build(&dunnage, file, &[]).ok();
    let out = output(&dunnage);
    assert!(out.starts_with("one\nmore\ntwo\nnew\none\ntwo\n"), "{out}");
    assert!(out.contains("/m: No such file") && out.contains("/one: No such file"), "{out}");
    assert!(!out.contains("new\n."), "{out}");
    let mut names: Vec<_> =
        std::fs::read_dir(dunnage.dir("context")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["Dockerfile", "d", "f"]);
    assert_eq!(std::fs::read_to_string(dunnage.dir("context").join("f")).unwrap(), "one\n");
    // What the step can see is in its key, and nothing else.
    let narrow = "FROM base\nRUN --mount=source=d,target=/d cat /d/g > /o\n";
    build(&dunnage, narrow, &[]).ok();
    dunnage.write("context/f", "other\n");
    assert_eq!(counts(&build(&dunnage, narrow, &[]).ok().stderr), (0, 1));
    dunnage.write("context/d/g", "TWO\n");
    assert_eq!(counts(&build(&dunnage, narrow, &[]).ok().stderr), (1, 0));
}

#[test]
fn binds_of_stages_hit_when_what_they_show_is_the_same() {
    let Some(dunnage) = dunnage() else { return };
    let file = |noise: &str| {
        format!(
            "FROM base AS s\nRUN mkdir /out && echo x > /out/f && echo {noise} > /noise\nFROM base\nRUN --mount=from=s,source=/out,target=/in cp /in/f /f && ! touch /in/y\nRUN --mount=from=s,source=/out,target=/in,rw touch /in/y && cat /in/f >> /f\nCMD cat /f\n"
        )
    };
    build(&dunnage, &file("one"), &[]).ok();
    assert_eq!(output(&dunnage), "x\nx\n");
    assert_eq!(counts(&build(&dunnage, &file("two"), &[]).ok().stderr), (1, 2));
}

#[test]
fn what_the_ignore_file_keeps_out_is_in_no_bind_and_mounts_may_lie_in_each_other() {
    let Some(dunnage) = dunnage() else { return };
    for name in ["keep", "secret.env", "node_modules/x", "logs/a.log", "logs/keep.log", "src/deep/secret.env"] {
        dunnage.write(&format!("context/{name}"), "x");
    }
    dunnage.write("context/.dockerignore", "**/*.env\nnode_modules\nlogs\n!logs/keep.log\nDockerfile\n.dockerignore\n");
    let file = "FROM base\nRUN --mount=target=/m cd /m && find . | sort > /o\nRUN --mount=target=/m --mount=type=cache,target=/m/node_modules --mount=type=tmpfs,target=/m/src/tmp/deep --mount=type=bind,source=logs,target=/m/src/logs <<EOF\ntouch /m/node_modules/c /m/src/tmp/deep/t\nls /m/src/logs /m/src >> /o\nEOF\nCMD cat /o; ls -d /m || true\n";
    build(&dunnage, file, &[]).ok();
    let out = output(&dunnage);
    assert_eq!(
        out,
        ".\n./keep\n./logs\n./logs/keep.log\n./src\n./src/deep\n/m/src:\ndeep\nlogs\ntmp\n\n/m/src/logs:\nkeep.log\n"
    );
    assert!(!dunnage.dir("context").join("src/tmp").exists() && !dunnage.dir("context").join("src/logs").exists());
}

#[test]
fn builder_r06_secrets_are_files_or_variables_of_the_step_alone() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.write("token", "tokencanary\n");
    let secret = format!("id=t,src={}", dunnage.dir(".").join("token").display());
    let file = "FROM base\nRUN --mount=type=secret,id=t stat -c '%a %u:%g' /run/secrets/t > /o && test \"$(cat /run/secrets/t)\" = tokencanary\nRUN --mount=type=secret,id=t,target=/etc/x,uid=7,gid=8,mode=0440 stat -c '%a %u:%g' /etc/x >> /o\nRUN --mount=type=secret,id=t,env=TOKEN test -n \"$TOKEN\" && test ! -e /run/secrets/t\nRUN --mount=type=secret,id=none test ! -e /run/secrets/none && echo optional >> /o\nCMD cat /o; ls /run/secrets /etc/x\n";
    build(&dunnage, file, &["--secret", &secret]).ok();
    let ran = dunnage.run(["run", "--rm", "app"]);
    assert_eq!(ran.stdout, "400 0:0\n440 7:8\noptional\n");
    assert!(
        ran.stderr.contains("/run/secrets: No such file") && ran.stderr.contains("/etc/x: No such"),
        "{}",
        ran.stderr
    );
    // Another value is no other step.
    dunnage.write("token", "another value");
    assert_eq!(counts(&build(&dunnage, file, &["--secret", &secret]).ok().stderr), (0, 4));
    let file = "FROM base\nRUN --mount=type=secret,id=gone,required true\n";
    let ran = build(&dunnage, file, &[]).fails(1, "secret `gone` is required");
    assert!(ran.stderr.contains("Dockerfile:2") && ran.stderr.contains("--secret id=gone"), "{}", ran.stderr);
}

#[test]
fn security_d09_a_secret_is_nowhere_after_a_build() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.write("token", "first-canary\nsecond-canary\n");
    let file = "FROM base\nRUN --mount=type=secret,id=s wc -c </run/secrets/s; cat /run/secrets/s; printf 'first-'; sleep 0.2; printf 'canary\\n'; cat /run/secrets/s >&2\nRUN --mount=type=secret,id=v,env=V echo \"v=$V\"; exit 9\n";
    for progress in ["plain", "rawjson"] {
        let mut command = dunnage.command(["build", "--no-cache", "-t", "app", "--progress", progress]);
        command.args(["--secret", "id=s,src=token", "--secret", "id=v,env=DUNNAGE_TEST_SECRET", "context"]);
        dunnage.write("context/Dockerfile", file);
        let ran: Ran = command.env("DUNNAGE_TEST_SECRET", "third-canary").output().unwrap().into();
        assert_eq!(ran.code, 1, "{}", ran.stderr);
        for canary in ["first-canary", "second-canary", "third-canary"] {
            assert!(!ran.stderr.contains(canary) && !ran.stdout.contains(canary), "{}", ran.stderr);
        }
        assert!(ran.stderr.contains("***") && ran.stderr.contains("v=***"), "{}", ran.stderr);
    }
    build(&dunnage, "FROM base\nRUN --mount=type=secret,id=s cat /run/secrets/s\n", &["--secret", "id=s,src=token"])
        .ok();
    let history = dunnage.run(["history", "--no-trunc", "app"]).ok().stdout;
    assert!(!history.contains("canary"), "{history}");
    for canary in ["first-canary", "second-canary", "third-canary"] {
        assert_eq!(holding(&dunnage.root(), canary), Vec::<PathBuf>::new());
    }
    assert_eq!(dunnage.leftovers(), Vec::<PathBuf>::new());
}

#[test]
fn security_d11_no_source_leaves_its_root() {
    let Some(dunnage) = dunnage() else { return };
    let canary = dunnage.write("canary/x", "host");
    std::os::unix::fs::symlink(canary.parent().unwrap(), dunnage.dir("context").join("out")).unwrap();
    std::os::unix::fs::symlink("../canary", dunnage.dir("context").join("up")).unwrap();
    for flag in ["type=cache,source=../../..,target=/m", "type=cache,from=base,source=/../..,target=/m"] {
        let file = format!("FROM base\nRUN --mount={flag} true\n");
        let ran = build(&dunnage, &file, &[]).fails(1, "leads out of its root");
        assert!(ran.stderr.contains("Dockerfile:2"), "{}", ran.stderr);
    }
    // As with COPY, `..` ends at the root of the context, and links end inside it.
    build(&dunnage, "FROM base\nRUN --mount=source=../../..,target=/m ls /m > /o\nCMD cat /o\n", &[]).ok();
    assert_eq!(output(&dunnage), "Dockerfile\nout\nup\n");
    for source in ["out", "up", "../canary"] {
        let file = format!("FROM base\nRUN --mount=source={source},target=/m cat /m/x\n");
        build(&dunnage, &file, &[]).fails(1, "is not in the build context");
    }
    let file = "FROM base AS s\nRUN ln -s ../../.. /l && ln -s / /r\nFROM base\nRUN --mount=from=s,source=/l/r/l,target=/m ls -d /m/l /m/r > /o\nCMD cat /o\n";
    build(&dunnage, file, &[]).ok();
    assert_eq!(output(&dunnage), "/m/l\n/m/r\n");
    assert_eq!(std::fs::read_to_string(canary).unwrap(), "host");
}

#[test]
fn security_d14_more_of_the_machine_needs_a_flag() {
    let Some(dunnage) = dunnage() else { return };
    let file = "FROM base\nRUN true\nRUN --security=insecure grep CapEff /proc/self/status > /o\nCMD cat /o\n";
    let ran = build(&dunnage, file, &[]).fails(1, "--security=insecure is not allowed");
    assert!(ran.stderr.contains("Dockerfile:3") && ran.stderr.contains("--allow security.insecure"), "{}", ran.stderr);
    build(&dunnage, file, &["--allow", "security.insecure"]).ok();
    let mask = output(&dunnage).trim().rsplit('\t').next().unwrap().to_owned();
    assert!(u64::from_str_radix(&mask, 16).unwrap() & (1 << 21) != 0, "no CAP_SYS_ADMIN in {mask}");
    dunnage.run(["check", "context"]).ok();
    let file = "FROM base\nRUN --network=host true\n";
    build(&dunnage, file, &[]).fails(1, "--allow network.host");
    build(&dunnage, file, &["--network", "host"]).ok();
    build(&dunnage, file, &["--no-cache", "--allow", "network.host"]).ok();
    build(&dunnage, "FROM base\nRUN --security=root true\n", &["--allow", "security.insecure"])
        .fails(1, "invalid security mode");
    build(&dunnage, "FROM base\nRUN --device=nvidia.com/gpu true\n", &[]).fails(1, "--allow device=nvidia.com/gpu");
}

#[test]
fn security_d18_a_working_directory_of_the_kernel_is_refused() {
    let Some(dunnage) = dunnage() else { return };
    let ran = build(&dunnage, "FROM base\nWORKDIR /proc/self/fd/7\nRUN ls\n", &[]).fails(1, "belongs to the kernel");
    assert!(ran.stderr.contains("Dockerfile:2"), "{}", ran.stderr);
    // Nor does a link lead there.
    let file = "FROM base\nRUN ln -s /proc/self/fd /w\nWORKDIR /w/7\nRUN cat /proc/self/cmdline\n";
    assert_ne!(build(&dunnage, file, &[]).code, 0);
}

#[test]
fn security_s02_a_run_has_the_three_standard_descriptors() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.write("token", "x");
    dunnage.write("context/f", "x");
    let file = "FROM base AS s\nFROM base\nRUN --mount=type=secret,id=t --mount=type=cache,target=/c --mount=from=s,target=/s --mount=target=/ctx,rw ls /proc/self/fd > /o; readlink /proc/self/fd/0 >> /o\nCMD cat /o\n";
    build(&dunnage, file, &["--secret", "id=t,src=token"]).ok();
    // 3 is the directory that ls reads.
    assert_eq!(output(&dunnage), "0\n1\n2\n3\n/dev/null\n");
}

#[test]
fn builder_r09_a_tmpfs_has_its_size_and_leaves_nothing() {
    let Some(dunnage) = dunnage() else { return };
    let file = "FROM base\nRUN --mount=type=tmpfs,target=/t,size=1m dd if=/dev/zero of=/t/x bs=1024 count=2048 2>&1 | tee /o | grep -q 'No space left'; echo '#!/bin/sh' > /t/x; chmod +x /t/x && /t/x && stat -c %a /t >> /o\nCMD tail -1 /o; ls /t\n";
    build(&dunnage, file, &[]).ok();
    let ran = dunnage.run(["run", "--rm", "app"]);
    assert_eq!(ran.stdout, "1777\n");
    assert!(ran.stderr.contains("/t: No such file"), "{}", ran.stderr);
    assert_eq!(top_layer(&dunnage), ["o"]);
}

#[test]
fn builder_r10_without_a_network_there_is_loopback_alone() {
    let Some(dunnage) = dunnage() else { return };
    let seen = "tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' ' > /o; tail -n +2 /proc/net/route >> /o; ping -c1 -W1 127.0.0.1 > /dev/null && echo up >> /o";
    let file = format!("FROM base\nRUN --network=none {seen}\nCMD cat /o\n");
    build(&dunnage, &file, &[]).ok();
    assert_eq!(output(&dunnage), "lo\nup\n");
    build(&dunnage, &file.replace("--network=none ", ""), &["--network", "none"]).ok();
    assert_eq!(output(&dunnage), "lo\nup\n");
}

#[test]
fn builder_r13_places_of_mounts_are_never_in_the_layer() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.write("token", "x");
    dunnage.write("context/f", "x");
    // A target in a directory that was made anew, one that was removed, one through a link, one below a file's directory.
    let file = "FROM base\nRUN mkdir -p /a/old /b && rm -r /a && mkdir -m 700 /a && touch -d @1000000000 /a && ln -s /var /link && rm -rf /b\nRUN --mount=type=cache,target=/a/x/y --mount=type=cache,target=/b --mount=type=secret,id=t,target=/link/lib/t --mount=source=f,target=/etc/deep/f --mount=type=ssh touch /a/x/y/z && test -d /b && test -f /link/lib/t && stat -c '%a %Y' /a > /made\nCMD cat /made\n";
    build(&dunnage, file, &["--secret", "id=t,src=token"]).ok();
    assert_eq!(output(&dunnage), "700 1000000000\n");
    assert_eq!(top_layer(&dunnage), ["made"]);
}

#[test]
fn an_agent_is_lent_by_a_socket_of_the_step() {
    let Some(dunnage) = dunnage() else { return };
    let socket = dunnage.dir(".").join("agent");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let file = "FROM base\nRUN --mount=type=ssh echo $SSH_AUTH_SOCK > /o; stat -c '%F %a %u' $SSH_AUTH_SOCK >> /o\nRUN --mount=type=ssh,id=other,uid=7,mode=0666,target=/a/sock stat -c '%F %a %u' /a/sock >> /o\nCMD cat /o; ls /run/buildkit /a\n";
    let other = format!("other={}", socket.display());
    dunnage.write("context/Dockerfile", file);
    let mut command = dunnage.command(["build", "-t", "app", "--ssh", "default", "--ssh", &other, "context"]);
    Ran::from(command.env("SSH_AUTH_SOCK", &socket).output().unwrap()).ok();
    let ran = dunnage.run(["run", "--rm", "app"]);
    assert_eq!(ran.stdout, "/run/buildkit/ssh_agent.0\nsocket 600 0\nsocket 666 7\n");
    assert!(ran.stderr.contains("/run/buildkit: No such") && ran.stderr.contains("/a: No such"), "{}", ran.stderr);
    build(&dunnage, "FROM base\nRUN --mount=type=ssh,required true\n", &[]).fails(1, "pass `--ssh default`");
    dunnage.write("key", "-----BEGIN OPENSSH PRIVATE KEY-----");
    build(&dunnage, file, &["--ssh", "default=key"]).fails(2, "an agent is needed");
    let mut command = dunnage.command(["build", "--ssh", "default", "context"]);
    Ran::from(command.env_remove("SSH_AUTH_SOCK").output().unwrap()).fails(2, "SSH_AUTH_SOCK is not set");
}

#[test]
fn mounts_that_cannot_be_are_told_with_their_line() {
    let Some(dunnage) = dunnage() else { return };
    for (mount, why) in [
        ("type=bind,target=/", "invalid mount target"),
        ("type=cache,target=/proc/x", "belongs to the kernel"),
        ("type=cache,target=/x,sharin=locked", "did you mean sharing"),
        ("type=secret", "one of source, target required"),
        ("type=bind,target=/x,from=base,source=/nope", "is not in the stage or image"),
        ("type=bind,target=/x,source=nope", "is not in the build context"),
        ("type=cache,target=/etc/passwd/x", "cannot mount on /etc/passwd/x"),
    ] {
        let ran = build(&dunnage, &format!("FROM base\nRUN --mount={mount} true\n"), &[]).fails(1, why);
        assert!(ran.stderr.contains("Dockerfile:2"), "{}", ran.stderr);
    }
}

#[test]
fn builder_k08_a_filter_reruns_its_stage_only() {
    let Some(dunnage) = dunnage() else { return };
    let file = "FROM base AS a\nRUN echo a > /a\nFROM base AS s\nRUN echo s > /s\nRUN echo t > /t\nFROM base\nCOPY --from=a /a /a\nCOPY --from=s /s /s\n";
    build(&dunnage, file, &[]).ok();
    assert_eq!(counts(&build(&dunnage, file, &["--no-cache-filter", "s"]).ok().stderr), (2, 3));
    assert_eq!(counts(&build(&dunnage, file, &["--no-cache-filter", "a,S"]).ok().stderr), (3, 2));
    build(&dunnage, file, &["--no-cache-filter", "sx"]).fails(2, "no stage is named `sx`");
}

#[test]
fn hosts_limits_and_shared_memory_reach_the_step() {
    let Some(dunnage) = dunnage() else { return };
    let file = "FROM base\nRUN grep -E 'one|two' /etc/hosts > /o; ulimit -n >> /o; df -k /dev/shm | tail -1 | tr -s ' ' | cut -d' ' -f2 >> /o\nCMD cat /o\n";
    let flags = [
        "--add-host",
        "one:10.0.0.1",
        "--add-host",
        "two=host-gateway",
        "--ulimit",
        "nofile=321:321",
        "--shm-size",
        "2m",
    ];
    build(&dunnage, file, &flags).ok();
    assert_eq!(output(&dunnage), "10.0.0.1\tone\n127.0.0.1\ttwo\n321\n2048\n");
    build(&dunnage, file, &["--ulimit", "files=3"]).fails(2, "nofile");
    build(&dunnage, file, &["--add-host", "x"]).fails(2, "NAME:ADDRESS");
    for flag in ["--memory=1g", "--cpu-quota=5"] {
        build(&dunnage, file, &[flag]).fails(2, "is not supported");
    }
}

#[test]
fn a_stage_without_a_shell_and_a_program_of_another_machine() {
    let Some(dunnage) = dunnage() else { return };
    let ran = build(&dunnage, "FROM scratch\nRUN echo hi\n", &[]).fails(1, "this stage is empty");
    assert!(ran.stderr.contains("Dockerfile:2") && ran.stderr.contains("/bin/sh"), "{}", ran.stderr);
    // An ELF header of a machine that no kernel here runs.
    let mut elf = vec![0_u8; 128];
    elf[..20].copy_from_slice(b"\x7fELF\x02\x02\x01\0\0\0\0\0\0\0\0\0\0\x02\0\x16");
    dunnage.write("context/prog", elf);
    let file = "FROM --platform=linux/s390x scratch\nCOPY --chmod=755 prog /bin/sh\nRUN true\n";
    let ran = build(&dunnage, file, &[]);
    if !Path::new("/proc/sys/fs/binfmt_misc/qemu-s390x").exists() {
        assert!(ran.stderr.contains("no emulator for s390x") && ran.stderr.contains("Dockerfile:3"), "{}", ran.stderr);
    }
    assert_eq!(ran.code, 1);
}

#[test]
fn stages_for_the_build_platform_just_work_when_another_is_the_target() {
    let Some(dunnage) = dunnage() else { return };
    let file = "FROM --platform=$BUILDPLATFORM base AS cross\nARG TARGETPLATFORM BUILDPLATFORM TARGETARCH\nRUN echo $TARGETPLATFORM $TARGETARCH > /o\nFROM scratch\nCOPY --from=cross /o /o\n";
    let log = build(&dunnage, file, &["--platform", "linux/s390x"]).ok().stderr;
    assert!(!log.contains("InvalidBaseImagePlatform"), "{log}");
    let inspect = dunnage.run(["inspect", "app"]).ok().stdout;
    assert!(inspect.contains("s390x"), "{inspect}");
    build(&dunnage, "FROM cross-out\n", &["--platform", "linux/amd64,linux/arm64"]).fails(2, "holds one platform");
    // A base for another machine is told of.
    let log = build(&dunnage, "FROM base\n", &["--platform", "linux/s390x"]).ok().stderr;
    assert!(log.contains("InvalidBaseImagePlatform"), "{log}");
}

#[test]
fn builder_w06_the_shell_of_the_stage_runs_its_commands() {
    let Some(dunnage) = dunnage() else { return };
    let ran = build(
        &dunnage,
        "FROM base\nSHELL [\"/bin/sh\", \"-e\", \"-o\", \"pipefail\", \"-c\"]\nRUN false | true\n",
        &[],
    );
    ran.fails(1, "exit code 1");
    let file = "FROM base\nSHELL [\"/bin/sh\", \"-x\", \"-c\"]\nCMD echo hi\n";
    build(&dunnage, file, &[]).ok();
    assert_eq!(output(&dunnage), "hi\n");
    let inspect = dunnage.run(["inspect", "app"]).ok().stdout;
    assert!(inspect.contains("\"-x\""), "{inspect}");
}

#[test]
fn a_user_has_its_home_and_a_working_directory_that_the_image_lacks_is_made() {
    let Some(dunnage) = dunnage() else { return };
    let file = "FROM base\nRUN echo 'web:x:1000:1001::/home/web:/bin/sh' >> /etc/passwd && echo 'web:x:1001:' >> /etc/group && mkdir -m 777 /t\nUSER web\nRUN echo $HOME $(id -u):$(id -g) $(hostname) > /t/o; cat >> /t/o\nUSER 4321\nRUN echo $HOME >> /t/u\nCMD cat /t/o /t/u\n";
    build(&dunnage, file, &[]).ok();
    assert_eq!(output(&dunnage), "/home/web 1000:1001 dunnage-build\n/\n");
}

#[test]
fn builder_r01_a_killed_step_names_its_command() {
    let Some(dunnage) = dunnage() else { return };
    let ran = build(&dunnage, "FROM base\nRUN sh -c 'kill -9 $$' || exit $?\n", &[]).fails(1, "RUN sh -c 'kill -9 $$'");
    for part in ["137", "Dockerfile:2", "dunnage build --debug"] {
        assert!(ran.stderr.contains(part), "no {part} in {}", ran.stderr);
    }
}

#[test]
fn a_shell_opens_in_the_state_of_a_failed_step() {
    let Some(dunnage) = dunnage() else { return };
    if skipped(&[Need::Program("script")]) {
        return;
    }
    dunnage.write("context/f", "from the context\n");
    dunnage.write(
        "context/Dockerfile",
        "FROM base\nENV WHO=step\nWORKDIR /w\nRUN --mount=target=/m --mount=type=cache,target=/c echo half > made; exit 3\n",
    );
    dunnage.run(["build", "--debug", "context"]).fails(2, "needs a terminal");
    let inner = format!("{} build --debug --progress plain context", env!("CARGO_BIN_EXE_dunnage"));
    let mut command = std::process::Command::new("script");
    command.args(["-qec", &inner, "/dev/null"]).current_dir(dunnage.dir("."));
    command.env("DUNNAGE_ROOT", dunnage.root()).env("TERM", "dumb");
    command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    use std::io::Write;
    stdin.write_all(b"cat made /m/f; echo \"$WHO in $(pwd)\"; touch /c/x && exit 0\n").unwrap();
    let output = child.wait_with_output().unwrap();
    drop(stdin);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    for part in ["half", "from the context", "step in /w", "exit code 3"] {
        assert!(text.contains(part), "no {part} in {text}");
    }
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert_eq!(dunnage.leftovers(), Vec::<PathBuf>::new());
}
