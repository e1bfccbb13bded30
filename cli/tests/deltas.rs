//! A copy of many files of which few change: its layer stands on the one before, and is the layer that a copy would be.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use testdata::{Dunnage, Need, Ran};

/// More entries than a layer's guard watches.
const DIRECTORIES: usize = 11;
const FILES: usize = 100;

const DOCKERFILE: &str = "FROM base\nCOPY . /all\nCMD cat /all/d3/f7\n";

fn prepared() -> Option<(Dunnage, PathBuf)> {
    let dunnage = Dunnage::with_base(env!("CARGO_BIN_EXE_dunnage"), &[Need::Root, Need::Program("busybox")])?;
    let context = dunnage.dir("context");
    for directory in 0..DIRECTORIES {
        for number in 0..FILES {
            dunnage.write(&format!("context/d{directory}/f{number}"), format!("{directory}/{number}\n"));
        }
    }
    symlink("d0", context.join("link")).unwrap();
    dunnage.write("context/Dockerfile", DOCKERFILE);
    Some((dunnage, context))
}

/// Builds the context, and gives the image's id.
fn build(dunnage: &Dunnage, context: &Path) -> String {
    let mut command = dunnage.command(["build", "-q", "-t", "app"]);
    let output = command.arg(context).env("SOURCE_DATE_EPOCH", "0").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn names(path: PathBuf) -> Vec<String> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

fn deltas(dunnage: &Dunnage) -> Vec<String> {
    names(dunnage.root().join("deltas"))
}

/// Entries of a layer's own directory.
fn entries(dunnage: &Dunnage, layer: &str) -> usize {
    fn count(path: &Path) -> usize {
        let inside = |path: PathBuf| 1 + if path.is_dir() && !path.is_symlink() { count(&path) } else { 0 };
        fs::read_dir(path).unwrap().map(|entry| inside(entry.unwrap().path())).sum()
    }
    count(&dunnage.root().join("layers").join(layer).join("fs"))
}

fn shows(dunnage: &Dunnage, script: &str) -> String {
    dunnage.run(["run", "--rm", "--network", "none", "app", "sh", "-c", script]).ok().stdout
}

/// The layers of the image `app`, bottom first.
fn layers(dunnage: &Dunnage) -> Vec<String> {
    let text = dunnage.run(["inspect", "--format", "{{json .RootFS.Layers}}", "app"]).ok().stdout;
    let ids = text.trim().trim_matches(['[', ']']).split(',');
    ids.map(|id| id.trim().trim_matches('"').trim_start_matches("sha256:").to_owned()).collect()
}

#[test]
fn a_layer_that_stands_on_another_is_the_layer_of_a_copy() {
    let Some((dunnage, context)) = prepared() else { return };
    build(&dunnage, &context);
    assert!(deltas(&dunnage).is_empty());
    type Change<'c> = (&'c str, bool, &'c dyn Fn());
    let at = |name: &str| context.join(name);
    let changes: &[Change<'_>] = &[
        ("a file is another one of the same size", true, &|| fs::write(at("d3/f7"), "3/8\n").unwrap()),
        ("a file and a directory are new", true, &|| {
            dunnage.write("context/d3/new/inner", "new");
        }),
        ("a mode, and a link", true, &|| {
            fs::set_permissions(at("d4/f1"), fs::Permissions::from_mode(0o4751)).unwrap();
            fs::remove_file(at("link")).unwrap();
            symlink("d1", at("link")).unwrap();
        }),
        ("the mode of a directory", true, &|| {
            fs::set_permissions(at("d5"), fs::Permissions::from_mode(0o700)).unwrap();
        }),
        ("a second name of a file", false, &|| fs::hard_link(at("d3/f7"), at("d3/hard")).unwrap()),
        ("the name is gone", false, &|| {
            fs::remove_file(at("d3/hard")).unwrap();
            fs::write(at("d3/f7"), "3/9\n").unwrap();
        }),
        ("a file becomes a link", false, &|| {
            fs::remove_file(at("d6/f6")).unwrap();
            symlink("f7", at("d6/f6")).unwrap();
        }),
        ("a directory is gone", false, &|| fs::remove_dir_all(at("d7")).unwrap()),
        ("a file becomes a directory", false, &|| {
            fs::remove_file(at("d8/f8")).unwrap();
            dunnage.write("context/d8/f8/inner", "x");
        }),
        ("too many are others", false, &|| {
            (0..FILES).for_each(|number| fs::write(at("d1").join(format!("f{number}")), "other").unwrap());
            (0..FILES).for_each(|number| fs::write(at("d2").join(format!("f{number}")), "other").unwrap());
        }),
        ("a file in another place", true, &|| fs::write(at("d9/f9"), "9").unwrap()),
    ];
    for (what, stands, change) in changes {
        change();
        build(&dunnage, &context);
        let top = layers(&dunnage).pop().unwrap();
        assert_eq!(deltas(&dunnage).contains(&top), *stands, "{what}");
        if *stands {
            assert!(entries(&dunnage, &top) < 20, "{what}: {} entries", entries(&dunnage, &top));
        }
        let fresh = Dunnage::new(env!("CARGO_BIN_EXE_dunnage"));
        fresh.busybox();
        build(&fresh, &context);
        assert_eq!(layers(&fresh).pop(), Some(top), "{what}");
        assert!(deltas(&fresh).is_empty());
        let listed = "cd /all; find . | sort | xargs -n 99 stat -c '%n %N %f %u %g %Y' | md5sum; find . -type f | sort | xargs cat | md5sum; cat d3/f7";
        assert_eq!(shows(&dunnage, listed), shows(&fresh, listed), "{what}");
        dunnage.run(["system", "check"]).ok();
    }
}

#[test]
fn what_stands_on_another_layer_is_used_as_any_layer() {
    let Some((dunnage, context)) = prepared() else { return };
    build(&dunnage, &context);
    fs::write(context.join("d3/f7"), "changed\n").unwrap();
    let id = build(&dunnage, &context);
    assert_eq!(deltas(&dunnage), layers(&dunnage)[1..]);
    // A step and a container on top of it, with either driver.
    dunnage.write("top/Dockerfile", "FROM app\nRUN rm -r /all/d0 && cp /all/d3/f7 /all/d1/f1 && ls /all/d3 | wc -l > /n\nCMD cat /all/d1/f1 /n && ls /all | wc -l\n");
    for driver in ["overlay", "copy"] {
        dunnage.run(["build", "--storage-driver", driver, "-q", "--no-cache", "-t", "top", "top"]).ok();
        let ran = dunnage.run(["run", "--storage-driver", driver, "--rm", "--network", "none", "top"]).ok();
        assert_eq!(ran.stdout, "changed\n100\n12\n", "{driver}");
    }
    dunnage.write("stage/Dockerfile", "FROM base\nCOPY --from=app /all/d3/ /d3/\nCMD cat /d3/f7 /d3/f8\n");
    dunnage.run(["build", "-q", "-t", "stage", "stage"]).ok();
    assert_eq!(dunnage.run(["run", "--rm", "--network", "none", "stage"]).ok().stdout, "changed\n3/8\n");
    // It leaves the store as the bytes that its name says.
    dunnage.run(["save", "-o", "app.tar", "app"]).ok();
    let other = Dunnage::new(env!("CARGO_BIN_EXE_dunnage"));
    other.run(["load", "-q", "-i", &dunnage.dir("").join("app.tar").display().to_string()]).ok();
    assert!(deltas(&other).is_empty());
    assert_eq!(other.run(["inspect", "--format", "{{.Id}}", "app"]).ok().stdout.trim(), id);
    // What a container changed in it.
    dunnage
        .run(["run", "--name", "changer", "--network", "none", "app", "sh", "-c", "rm /all/d0/f0; echo > /all/d3/f7"])
        .ok();
    let changes = dunnage.run(["diff", "changer"]).ok().stdout;
    let wanted = ["C /all", "C /all/d0", "D /all/d0/f0", "C /all/d3", "C /all/d3/f7"];
    assert!(wanted.iter().all(|line| changes.lines().any(|there| there == *line)), "{changes}");
    assert_eq!(changes.lines().count(), wanted.len(), "{changes}");
}

/// Builds twice, one file of the context being another one the second time; gives the layers of both.
fn base_and_delta(dunnage: &Dunnage, context: &Path) -> (String, String) {
    build(dunnage, context);
    let base = layers(dunnage).pop().unwrap();
    fs::write(context.join("d3/f7"), "changed\n").unwrap();
    build(dunnage, context);
    (base, layers(dunnage).pop().unwrap())
}

#[test]
fn security_f10_a_layer_stays_while_another_one_stands_on_it() {
    let Some((dunnage, context)) = prepared() else { return };
    let (base, delta) = base_and_delta(&dunnage, &context);
    let has = |layer: &str| dunnage.root().join("layers").join(layer).exists();
    // Neither an image nor a record has the base any more.
    dunnage.run(["system", "prune", "--force"]).ok();
    dunnage.run(["builder", "prune", "--force", "--all"]).ok();
    assert!(has(&base) && has(&delta));
    assert_eq!(shows(&dunnage, "cat /all/d3/f7 /all/d3/f8"), "changed\n3/8\n");
    dunnage.run(["system", "check"]).ok();
    // Bytes of the base are those of the image that needs it.
    let sizes = dunnage.run(["system", "df", "-v"]).ok().stdout;
    assert!(sizes.contains("app"), "{sizes}");
    let told = dunnage.run(["system", "df", "--format", "json"]).ok().stdout;
    assert!(told.contains("Images"), "{told}");
    dunnage.run(["rmi", "app"]).ok();
    dunnage.run(["system", "prune", "--force", "--all"]).ok();
    assert!(!has(&base) && !has(&delta), "both go at once");
    dunnage.run(["system", "prune", "--force", "--all"]).ok();
    assert_eq!(deltas(&dunnage), Vec::<String>::new());
}

#[test]
fn security_f12_a_layer_whose_base_is_gone_is_made_again() {
    let Some((dunnage, context)) = prepared() else { return };
    build(&dunnage, &context);
    let base = layers(&dunnage).pop().unwrap();
    fs::write(context.join("d3/f7"), "changed\n").unwrap();
    let id = build(&dunnage, &context);
    let directory = dunnage.root().join("layers").join(&base);
    // Its record can be written anew from the copy.
    let record = fs::read(directory.join("layer.json")).unwrap();
    fs::write(directory.join("layer.json"), "{").unwrap();
    assert_eq!(shows(&dunnage, "cat /all/d3/f7 /all/d3/f8"), "changed\n3/8\n");
    assert_eq!(fs::read(directory.join("layer.json")).unwrap(), record);
    // A file of it is another one: whoever looks finds both layers, and building gives them back.
    fs::write(directory.join("fs/all/d5/f5"), "5/6\n").unwrap();
    let told = dunnage.run(["system", "check"]).fails(1, "").stdout;
    assert!(told.contains(&base), "{told}");
    dunnage.run(["system", "check", "--repair"]);
    dunnage.run(["system", "check"]).ok();
    assert_eq!(build(&dunnage, &context), id);
    assert_eq!(shows(&dunnage, "cat /all/d3/f7 /all/d5/f5"), "changed\n5/5\n");
    // The same where nobody looked before.
    fs::write(context.join("d3/f7"), "again\n").unwrap();
    let id = build(&dunnage, &context);
    for layer in names(dunnage.root().join("layers")) {
        if !deltas(&dunnage).contains(&layer) && dunnage.root().join("layers").join(&layer).join("fs/all").exists() {
            fs::remove_dir_all(dunnage.root().join("layers").join(layer)).unwrap();
        }
    }
    assert_eq!(build(&dunnage, &context), id);
    assert_eq!(shows(&dunnage, "cat /all/d3/f7 /all/d5/f5"), "again\n5/5\n");
    dunnage.run(["system", "check"]).ok();
}

/// A record that can be written anew is what is damaged, and not what stands on its layer.
#[test]
fn security_f12_a_damaged_record_is_told_of_its_own_layer_alone() {
    let Some((dunnage, context)) = prepared() else { return };
    let (base, delta) = base_and_delta(&dunnage, &context);
    let record = dunnage.root().join("layers").join(&base).join("layer.json");
    let damages: [(&str, &dyn Fn()); 2] =
        [("damaged", &|| fs::write(&record, "{").unwrap()), ("gone", &|| fs::remove_file(&record).unwrap())];
    for (what, damage) in damages {
        damage();
        let told = dunnage.run(["system", "check"]).fails(1, "").stdout;
        assert!(told.contains(&format!("the record of layer {base} is damaged")), "{what}: {told}");
        assert!(told.contains(" 1 damaged"), "{what}: {told}");
        let told = dunnage.run(["system", "check", "--repair"]).stdout;
        assert!(told.contains("written anew from its copy") && !told.contains(&delta), "{what}: {told}");
        dunnage.run(["system", "check"]).ok();
        assert_eq!(shows(&dunnage, "cat /all/d3/f7 /all/d3/f8"), "changed\n3/8\n", "{what}");
    }
    // What is itself another one is told all the same.
    fs::write(dunnage.root().join("layers").join(&delta).join("fs/all/d3/f7"), "chang3d\n").unwrap();
    let told = dunnage.run(["system", "check"]).fails(1, "").stdout;
    assert!(told.contains(&format!("layer {delta} is damaged")), "{told}");
}

/// A death, or an error, at each place between the first word of a layer that stands on another and its name.
#[test]
fn security_f01_f14_a_death_on_the_way_to_a_layer_that_stands_on_another_loses_nothing() {
    let Some((dunnage, context)) = prepared() else { return };
    build(&dunnage, &context);
    fs::write(context.join("d3/f7"), "changed\n").unwrap();
    let fresh = Dunnage::new(env!("CARGO_BIN_EXE_dunnage"));
    fresh.busybox();
    let id = build(&fresh, &context);
    for failpoint in ["layer.base", "layer.rename", "layer.dirsync", "layer.pointer"] {
        for (action, code) in [("abort", 134), ("error:EIO", 3)] {
            let moment = format!("{failpoint}={action}");
            let store = dunnage.copy();
            let mut command = store.command(["build", "-q", "-t", "app"]);
            command.arg(&context).env("SOURCE_DATE_EPOCH", "0").env("DUNNAGE_FAILPOINTS", &moment);
            let disturbed: Ran = command.output().unwrap().into();
            assert_eq!(disturbed.code, code, "{moment}: {}", disturbed.stderr);
            // What was said of a layer that did not come means nothing, and goes with the prune after the one that takes layers.
            store.run(["system", "check"]).ok();
            assert!(store.leftovers().is_empty(), "{moment}: {:?}", store.leftovers());
            (0..2).for_each(|_| drop(store.run(["system", "prune", "--force"]).ok()));
            let known = names(store.root().join("layers"));
            assert!(deltas(&store).iter().all(|delta| known.contains(delta)), "{moment}: {:?}", deltas(&store));
            assert_eq!(build(&store, &context), id, "{moment}");
            assert_eq!(deltas(&store), layers(&store)[1..], "{moment}: it stands on what was given before the failure");
            assert_eq!(shows(&store, "cat /all/d3/f7 /all/d3/f8"), "changed\n3/8\n", "{moment}");
            store.run(["system", "check"]).ok();
        }
    }
}

/// A file that is no longer what it was does not come into a new layer.
#[test]
fn security_f12_a_damaged_file_is_not_stood_on() {
    let Some((dunnage, context)) = prepared() else { return };
    build(&dunnage, &context);
    let base = layers(&dunnage).pop().unwrap();
    let file = dunnage.root().join("layers").join(base).join("fs/all/d5/f5");
    let time = fs::metadata(&file).unwrap().modified().unwrap();
    fs::write(&file, "5/6\n").unwrap();
    fs::File::options().write(true).open(&file).unwrap().set_modified(time).unwrap();
    fs::write(context.join("d3/f7"), "changed\n").unwrap();
    build(&dunnage, &context);
    assert!(deltas(&dunnage).is_empty());
    assert_eq!(shows(&dunnage, "cat /all/d3/f7 /all/d5/f5"), "changed\n5/5\n");
    let fresh = Dunnage::new(env!("CARGO_BIN_EXE_dunnage"));
    fresh.busybox();
    build(&fresh, &context);
    assert_eq!(layers(&fresh).pop(), layers(&dunnage).pop());
}
