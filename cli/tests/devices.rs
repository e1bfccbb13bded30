//! RUN --device: what a specification says of a device is there while the step runs, and nothing of it in the layer.
#![allow(clippy::unwrap_used, missing_docs)]

use testdata::{BASE, Dunnage, Ran};

fn dunnage() -> Option<Dunnage> {
    let dunnage = Dunnage::with_base(env!("CARGO_BIN_EXE_dunnage"), &BASE)?;
    dunnage.dir("low");
    dunnage.dir("high");
    Some(dunnage)
}

fn build(dunnage: &Dunnage, run: &str, flags: &[&str]) -> Ran {
    dunnage.write("context/Dockerfile", format!("FROM base\n{run}\n"));
    let specs = std::env::join_paths([dunnage.dir("low"), dunnage.dir("high")]).unwrap();
    let args = [&["build", "-t", "app"], flags, &["context"]].concat();
    dunnage.command(args).env("DUNNAGE_CDI_DIRS", specs).output().unwrap().into()
}

fn spec(dunnage: &Dunnage, path: &str, edits: &str) {
    let text = format!(
        r#"{{"cdiVersion": "0.6.0", "kind": "example.com/thing", "containerEdits": {{"env": ["EVERY=1"]}},
            "devices": [{{"name": "one", "containerEdits": {{{edits}}}}}]}}"#
    );
    dunnage.write(path, text);
}

#[test]
fn a_device_brings_its_node_its_mounts_its_variables_and_its_groups() {
    let Some(dunnage) = dunnage() else { return };
    let library = dunnage.write("library/f", "of the host\n");
    let library = library.parent().unwrap().display();
    spec(&dunnage, "low/a.json", r#""env": ["WHO=low"]"#);
    let edits = format!(
        r#""env": ["WHO=one"], "additionalGids": [4321],
           "deviceNodes": [{{"path": "/dev/thing0", "hostPath": "/dev/zero", "type": "c", "major": 1, "minor": 5, "permissions": "rw"}}],
           "mounts": [{{"hostPath": "{library}", "containerPath": "/opt/thing", "options": ["ro", "nosuid", "nodev", "rbind"]}}]"#
    );
    spec(&dunnage, "high/a.json", &edits);
    let script = "echo $WHO $EVERY $(cat /opt/thing/f) $(head -c 3 /dev/thing0 | wc -c) > /seen; id -G >> /seen; ! touch /opt/thing/g";
    let run = format!("RUN --device=example.com/thing=one,required {script}\nCMD cat /seen; ls -d /opt /dev/thing0");
    let ran = build(&dunnage, &run, &[]).fails(1, "RUN --device=example.com/thing=one is not allowed");
    assert!(ran.stderr.contains("Dockerfile:2:14") && ran.stderr.contains("--allow device=example.com/thing=one"));
    for allow in ["device=example.com/other", "device=example.com/thing=two"] {
        build(&dunnage, &run, &["--allow", allow]).fails(1, "is not allowed");
    }
    build(&dunnage, &run, &["--allow", "device=example.com/thing"]).ok();
    let ran = dunnage.run(["run", "--rm", "app"]);
    assert_eq!(ran.stdout, "one 1 of the host 3\n0 4321\n");
    assert!(ran.stderr.contains("/opt: No such file") && ran.stderr.contains("/dev/thing0: No such file"));
    // The name is in the key, what the machine says of it is not.
    spec(&dunnage, "high/a.json", r#""env": ["WHO=another"]"#);
    let log = build(&dunnage, &run, &["--allow", "device"]).ok().stderr;
    assert!(log.contains("1 of 1"), "{log}");
    let other = run.replace("thing=one", "thing");
    let log = build(&dunnage, &other, &["--allow", "device"]).ok().stderr;
    assert!(log.contains("0 of 1") && log.contains("can't open '/opt/thing/f'"), "{log}");
    assert!(dunnage.leftovers().is_empty());
}

#[test]
fn what_is_not_there_is_noted_or_refused_and_what_cannot_be_done_is_told() {
    let Some(dunnage) = dunnage() else { return };
    let allow = ["--allow", "device"];
    let log = build(&dunnage, "RUN --device=example.com/none true", &allow).ok().stderr;
    assert!(log.contains("has the device example.com/none: the step goes on without it"), "{log}");
    let required = "RUN --device=example.com/thing=one,required true";
    let ran = build(&dunnage, required, &allow).fails(1, "has the device example.com/thing=one");
    assert!(ran.stderr.contains("Dockerfile:2"), "{}", ran.stderr);
    dunnage.write("low/b.yaml", "kind: example.com/thing\nmagic: 1\n");
    let ran = build(&dunnage, required, &allow).fails(1, "b.yaml");
    assert!(ran.stderr.contains("magic"), "{}", ran.stderr);
    let yaml =
        "cdiVersion: 0.6.0\nkind: example.com/thing\ndevices:\n- name: one\n  containerEdits:\n    env: [WHO=yaml]\n";
    dunnage.write("low/b.yaml", yaml);
    build(&dunnage, "RUN --device=example.com/thing=one,required test $WHO = yaml", &allow).ok();
    std::fs::remove_file(dunnage.dir("low").join("b.yaml")).unwrap();
    for (edits, sentence) in [
        (r#""hooks": [{"hookName": "createContainer", "path": "/bin/true"}]"#, "asks for hooks"),
        (r#""deviceNodes": [{"path": "/dev/nothing-here"}]"#, "No such file"),
        (r#""deviceNodes": [{"path": "/dev/zero", "major": 1, "minor": 3}]"#, "another type, number, mode or owner"),
        (r#""deviceNodes": [{"path": "/dev/zero", "permissions": "r"}]"#, "for reading or writing alone"),
        (r#""deviceNodes": [{"path": "/etc/passwd"}]"#, "is no device"),
        (r#""mounts": [{"hostPath": "/", "containerPath": "/proc/x"}]"#, "is no place for a mount"),
        (r#""mounts": [{"hostPath": "/", "containerPath": "/x", "options": ["noexec"]}]"#, "option \"noexec\""),
        (r#""magic": 1"#, "unknown field `magic`"),
    ] {
        spec(&dunnage, "high/a.json", edits);
        build(&dunnage, required, &allow).fails(1, sentence);
    }
    dunnage.write("high/a.json", vec![b' '; (4 << 20) + 1]);
    build(&dunnage, required, &allow).fails(1, "larger than 4 MiB");
    build(&dunnage, "RUN --device=example.com/thing,sometimes true", &allow).fails(1, "unexpected key");
    assert!(dunnage.leftovers().is_empty());
}
