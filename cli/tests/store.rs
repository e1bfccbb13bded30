//! The store under fire: killed processes, damaged files, many at once. Nothing that was acknowledged is lost.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use testdata::{Dunnage, Need, Random, skipped};

const NEEDS: [Need; 2] = [Need::Root, Need::Program("busybox")];

fn dunnage() -> Option<Dunnage> {
    if skipped(&NEEDS) {
        return None;
    }
    let dunnage = Dunnage::new(env!("CARGO_BIN_EXE_dunnage"));
    dunnage.busybox();
    Some(dunnage)
}

fn files_below(directory: &Path) -> Vec<PathBuf> {
    testdata::files(directory, "").into_iter().filter(|path| path.is_file() && !path.is_symlink()).collect()
}

/// Build, load or prune, killed at a random moment; what ended before that is acknowledged.
#[test]
fn security_f01_f14_kills_at_random_moments_lose_nothing() {
    let Some(dunnage) = dunnage() else { return };
    let mut random = Random::new();
    dunnage.build("FROM base\nRUN echo kept > /kept\nCMD cat /kept\n");
    dunnage.run(["save", "-o", "app.tar", "app"]).ok();
    let mut acknowledged = std::collections::BTreeSet::new();
    for round in 0..testdata::rounds("DUNNAGE_KILLS", 60) {
        let name = format!("kill-{}", round % 7);
        dunnage.write(
            "context/Dockerfile",
            format!(
                "FROM base\nCOPY <<E /f\n{}\nE\nRUN cp /f /g && echo {} > /h\nRUN rm /h\n",
                random.below(5),
                random.below(9)
            ),
        );
        let command = match random.below(4) {
            0 => vec!["load", "-i", "app.tar"],
            1 => vec!["system", "prune", "--force"],
            _ => vec!["build", "-t", &name, "context"],
        };
        let is_build = command[0] == "build";
        let mut child = dunnage.command(&command).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_micros(random.below(60_000)));
        let _ = child.kill();
        if child.wait().unwrap().success() && is_build {
            acknowledged.insert(name.clone());
        }
        let check = dunnage.run(["system", "check"]);
        assert_eq!(
            check.code,
            0,
            "round {round}, seed {}, {command:?}:\n{}{}",
            random.seed(),
            check.stdout,
            check.stderr
        );
        // A step's process may outlive the killed build for a moment, and with it the lease: then the next command sweeps.
        for _ in 0..20 {
            if dunnage.leftovers().is_empty() {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
            dunnage.run(["images", "-q"]).ok();
        }
        assert!(dunnage.leftovers().is_empty(), "round {round}: {:?}", dunnage.leftovers());
        for name in &acknowledged {
            dunnage.run(["inspect", name]).ok();
        }
    }
    assert_eq!(dunnage.run(["run", "--rm", "app"]).ok().stdout, "kept\n");
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
