//! The store under fire: killed processes, damaged files, many at once. Nothing that was acknowledged is lost.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::SystemTime;

use testdata::{Dunnage, Need};

const NEEDS: [Need; 2] = [Need::Root, Need::Program("busybox")];

fn dunnage() -> Option<Dunnage> {
    Dunnage::with_base(env!("CARGO_BIN_EXE_dunnage"), &NEEDS)
}

fn files_below(directory: &Path) -> Vec<PathBuf> {
    testdata::files(directory, "").into_iter().filter(|path| path.is_file() && !path.is_symlink()).collect()
}

/// One bit of every file of the store, one at a time: it is found, taken out of use, and built anew.
#[test]
fn security_f12_a_flipped_bit_is_found_and_repaired() {
    let Some(dunnage) = dunnage() else { return };
    let file = "FROM base\nCOPY <<E /f\ncontent\nE\nRUN cp /f /g\nCMD cat /g\n";
    dunnage.build(file);
    let kinds = ["layers", "images", "refs", "trees", "records"];
    for path in kinds.iter().flat_map(|kind| files_below(&dunnage.root().join(kind))) {
        let bytes = std::fs::read(&path).unwrap();
        let time = std::fs::metadata(&path).unwrap().modified().unwrap();
        let mut damaged = bytes.clone();
        let Some(byte) = damaged.get_mut(bytes.len() / 2) else { continue };
        *byte ^= 0x80;
        write_at(&path, &damaged, time);
        let found = dunnage.run(["system", "check"]);
        assert_eq!(found.code, 1, "{} is damaged and nobody noticed:\n{}", path.display(), found.stdout);
        write_at(&path, &bytes, time);
    }
    dunnage.run(["system", "check"]).ok();
    let layer = files_below(&dunnage.root().join("layers")).into_iter().find(|path| path.ends_with("fs/g")).unwrap();
    std::fs::write(layer, "CONTENT\n").unwrap();
    let repaired = dunnage.run(["system", "check", "--repair"]).ok().stdout;
    assert!(repaired.contains("is damaged") && repaired.contains("put into quarantine"), "{repaired}");
    dunnage.run(["system", "check"]).ok();
    dunnage.build(file);
    assert_eq!(dunnage.run(["run", "--rm", "app"]).ok().stdout, "content\n");
}

fn write_at(path: &Path, bytes: &[u8], time: SystemTime) {
    std::fs::write(path, bytes).unwrap();
    std::fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
}

#[test]
fn security_f10_prunes_and_removals_at_once_only_say_in_use() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.write("context/Dockerfile", "FROM base\nRUN echo a > /a\n");
    let mut children = Vec::new();
    for number in 0..6 {
        let commands: [Vec<String>; 3] = [
            vec!["system".into(), "prune".into(), "--force".into()],
            vec!["build".into(), "-t".into(), format!("n{number}"), "context".into()],
            vec!["rmi".into(), format!("n{}", (number + 5) % 6)],
        ];
        for command in commands {
            let child = dunnage.command(&command).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
            children.push((command, child));
        }
    }
    for (command, child) in children {
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        let expected = output.status.success() || (command[0] == "rmi" && text.contains("in the store"));
        assert!(expected, "{command:?}: {text}");
    }
    dunnage.run(["system", "check"]).ok();
    assert!(dunnage.leftovers().is_empty(), "{:?}", dunnage.leftovers());
}

/// Each step is performed by one of them, and the others take its result: the bytes that it drew are in all the images.
#[test]
fn security_f08_sixteen_builds_at_once_perform_each_step_once() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.write("context/file", "content");
    dunnage.write(
        "context/Dockerfile",
        "FROM base AS first\nRUN cat /proc/sys/kernel/random/uuid > /first && sleep 0.2\n\
         FROM base AS second\nRUN cat /proc/sys/kernel/random/uuid > /second\nCOPY file /file\n\
         FROM base\nCOPY --from=first /first /first\nCOPY --from=second /second /second\nWORKDIR /made\n\
         RUN cat /first /second > both\n",
    );
    let start = |number| {
        let name = format!("n{number}");
        let mut command = dunnage.command(["build", "--progress", "rawjson", "-t", &name, "context"]);
        command.stderr(Stdio::piped()).spawn().unwrap()
    };
    let children: Vec<_> = (0..16).map(start).collect();
    let mut started = std::collections::BTreeMap::new();
    let mut images = std::collections::BTreeSet::new();
    let mut planned = 0;
    for child in children {
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{text}");
        let events: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        planned = events.iter().filter(|event| event["event"] == "planned").count();
        for event in &events {
            match event["event"].as_str().unwrap() {
                "started" => *started.entry(event["step"].as_u64().unwrap()).or_insert(0) += 1,
                "built" => {
                    images.insert(event["id"].as_str().unwrap().to_owned());
                }
                _ => {}
            }
        }
    }
    assert_eq!(images.len(), 1, "{images:?}");
    assert_eq!((started.len(), planned), (7, 7), "{started:?}");
    assert!(started.values().all(|count| *count == 1), "{started:?}");
    dunnage.run(["system", "check"]).ok();
    assert!(dunnage.leftovers().is_empty(), "{:?}", dunnage.leftovers());
}
