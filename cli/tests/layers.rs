//! Layers of others, through `dunnage load` of an OCI layout: what is refused, what is kept, what it costs.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use testdata::archive::{
    Canary, Header, LayerBytes, directory, extension, file, gzip, hard_link, layout, link, pax, sha256, tar,
};
use testdata::{Dunnage, Need, skipped};

struct Case {
    dunnage: Dunnage,
    canary: Canary,
}

fn case() -> Option<Case> {
    if skipped(&[Need::Root]) {
        return None;
    }
    let dunnage = Dunnage::new(env!("CARGO_BIN_EXE_dunnage"));
    let canary = Canary::new(&dunnage.dir("canary"));
    Some(Case { dunnage, canary })
}

/// What every base has.
fn base() -> Vec<Vec<u8>> {
    vec![directory("etc"), file("etc/passwd", b"root:x:0:0:root:/:/bin/sh\n")]
}

fn with_base(entries: impl IntoIterator<Item = Vec<u8>>) -> LayerBytes {
    LayerBytes::plain(tar(base().into_iter().chain(entries)))
}

impl Case {
    #[track_caller]
    fn load(&self, layers: &[LayerBytes]) -> testdata::Ran {
        let place = self.dunnage.dir("layout");
        layout(&place, layers);
        let started = Instant::now();
        let ran = self.dunnage.run(["load", "-i", "layout"]);
        assert!(started.elapsed().as_secs() < 120, "it took {:?}", started.elapsed());
        ran
    }

    /// Refused with one sentence and code 1; the host and the store are as before.
    #[track_caller]
    fn refused(&self, layers: &[LayerBytes], word: &str) {
        let ran = self.load(layers).fails(1, word);
        assert_eq!(ran.stderr.trim().lines().count(), 1, "{}", ran.stderr);
        assert_eq!(self.layers().len(), 0);
        self.clean();
    }

    #[track_caller]
    fn clean(&self) {
        self.canary.unchanged();
        self.dunnage.run(["system", "check"]).ok();
        assert_eq!(self.dunnage.leftovers(), [] as [PathBuf; 0]);
    }

    /// The trees of all layers in the store.
    fn layers(&self) -> Vec<PathBuf> {
        let layers = std::fs::read_dir(self.dunnage.root().join("layers")).unwrap();
        layers.map(|layer| layer.unwrap().path().join("fs")).collect()
    }

    #[track_caller]
    fn only_layer(&self) -> PathBuf {
        let layers = self.layers();
        assert_eq!(layers.len(), 1);
        layers.into_iter().next().unwrap()
    }

    /// The host tree, from below the root of a layer.
    fn canary_link(&self) -> &str {
        self.canary.path().to_str().unwrap()
    }
}

#[test]
fn security_t01_a_path_that_climbs_out_is_refused() {
    let Some(case) = case() else { return };
    let up = "../".repeat(25);
    // As ustar has room for it, and as a long name.
    case.refused(&[with_base([file(&format!("{up}canary/x"), b"x")])], "the path leaves the layer");
    let long = format!("{}{}", "../".repeat(40), case.canary.path().join("x").display());
    case.refused(&[with_base([extension(b'L', long.as_bytes()), file("x", b"x")])], "the path leaves the layer");
    case.refused(&[with_base([pax([("path", long.as_str())]), file("x", b"x")])], "the path leaves the layer");
}

#[test]
fn security_t03_a_file_below_a_link_to_the_host_stays_inside() {
    let Some(case) = case() else { return };
    let link_out = link("a", case.canary_link());
    case.refused(&[with_base([link_out.clone(), file("a/x", b"x")])], "link");
    case.refused(&[with_base([link("a", &"../".repeat(30)), link("b", "a/no/such"), file("b/x", b"x")])], "link");
    case.refused(&[with_base([link("a", "b"), link("b", "a"), file("a/x", b"x")])], "links");
    // Where the link leads to a directory of the layer, that is where the file is.
    case.load(&[with_base([link("a", "/../../etc"), file("a/x", b"x"), directory("a/d"), hard_link("a/h", "a/x")])])
        .ok();
    let layer = case.only_layer();
    assert_eq!(std::fs::read(layer.join("etc/h")).unwrap(), b"x");
    assert!(layer.join("etc/d").is_dir() && layer.join("a").is_symlink());
    case.clean();
}

#[test]
fn security_t05_a_hard_link_to_the_host_is_refused() {
    let Some(case) = case() else { return };
    case.refused(&[with_base([hard_link("h", "/etc/hostname")])], "hard link");
    case.refused(&[with_base([hard_link("h", "../../etc/passwd")])], "hard link");
    case.refused(&[with_base([link("a", case.canary_link()), hard_link("h", "a/secret")])], "hard link");
}

#[test]
fn security_t08_device_nodes_are_kept_by_load_and_refused_by_add() {
    let Some(case) = case() else { return };
    let node = |name, letter, device| Header { name, letter, device, ..Header::default() }.block().to_vec();
    let nodes = || [node("k", b'3', (1, 1)), node("s", b'4', (8, 0)), node("p", b'6', (0, 0))];
    case.load(&[with_base(nodes())]).ok();
    let layer = case.only_layer();
    let kind = |name: &str| std::fs::symlink_metadata(layer.join(name)).unwrap();
    assert!(kind("k").file_type().is_char_device() && kind("s").file_type().is_block_device());
    assert!(kind("p").file_type().is_fifo() && kind("k").rdev() == 0x101);
    case.clean();
    // Overlay's own mark is no entry.
    let fresh = self::case().unwrap();
    fresh.refused(&[with_base([node("w", b'3', (0, 0))])], "0:0");
    fresh.dunnage.write("context/a.tar", tar(nodes()));
    fresh.dunnage.write("context/Dockerfile", "FROM scratch\nADD a.tar /\n");
    fresh.dunnage.run(["build", "context"]).fails(1, "devices are not made of an archive");
    fresh.canary.unchanged();
}

#[test]
fn security_t10_whiteouts_that_name_nothing_are_refused() {
    let Some(case) = case() else { return };
    for name in [".wh..", ".wh...", ".wh.", "etc/.wh.."] {
        case.refused(&[LayerBytes::plain(tar([file(name, b"")]))], "whiteout");
    }
    // Over a layer that is good: that one may stay, the image does not.
    case.load(&[with_base([]), LayerBytes::plain(tar([file(".wh..", b"")]))]).fails(1, "whiteout");
    assert_eq!(case.dunnage.run(["images", "-q"]).ok().stdout, "");
    case.clean();
}

#[test]
fn security_t12_the_last_of_a_thousand_rules_and_none_is_followed() {
    let Some(case) = case() else { return };
    let entries = (0..1000).map(|round| {
        let name = ["a", "./a", "a/", "./a//", ".//a"][round % 5];
        match round % 4 {
            0 => file(name.trim_end_matches('/'), b"file"),
            1 => link(name.trim_end_matches('/'), case.canary_link()),
            2 => directory(name),
            _ => hard_link(name.trim_end_matches('/'), "etc/passwd"),
        }
    });
    case.load(&[with_base(entries.chain([file("a", b"last")]))]).ok();
    assert_eq!(std::fs::read(case.only_layer().join("a")).unwrap(), b"last");
    case.clean();
}

#[test]
fn security_t13_a_gzip_bomb_meets_a_limit_in_little_memory() {
    let Some(case) = case() else { return };
    // 10 GiB of zeros in 160 members.
    let size = 160_u64 << 26;
    let head = Header { name: "b", ..Header::default() }.block_with(|block| {
        let field = format!("{size:011o}");
        block.iter_mut().skip(124).zip(field.as_bytes()).for_each(|(slot, byte)| *slot = *byte);
    });
    let member = gzip(&vec![0; 64 << 20]);
    let stored = [gzip(&head), member.repeat(160)].concat();
    assert!(stored.len() < 12 << 20);
    let bomb = LayerBytes { stored, diff_id: sha256(b"never reached") };
    layout(&case.dunnage.dir("layout"), &[bomb]);
    let (code, peak) = case.dunnage.measured(["load", "-i", "layout"]);
    assert_eq!(code, 1);
    assert!(peak < 256 << 10, "{peak} KiB");
    case.clean();
}

#[test]
fn security_t15_huge_extension_headers_meet_a_limit() {
    let Some(case) = case() else { return };
    let declared = Header { name: "PaxHeaders/0", letter: b'x', size: 1 << 30, ..Header::default() }.block().to_vec();
    case.refused(&[with_base([declared, file("a", b"x")])], "limit");
    let names: Vec<String> = (0..1_000_000).map(|number| format!("SCHILY.xattr.user.{number}")).collect();
    case.refused(&[with_base([pax(names.iter().map(|name| (name.as_str(), "v"))), file("a", b"x")])], "limit");
    // Fewer bytes than a header may have, and still too many attributes.
    let some = pax(names.iter().take(20_000).map(|name| (name.as_str(), "v")));
    case.refused(&[with_base([some, file("a", b"x")])], "limit");
}

#[test]
fn security_t18_sparse_files_are_exact_or_refused() {
    let Some(case) = case() else { return };
    let old = |size: u64, map: &[(u64, u64)], data: u64| {
        Header { name: "s", letter: b'S', size: data, ..Header::default() }
            .block_with(|block| {
                let mut put = |at: usize, number: u64| {
                    let mut field = vec![0x80, 0, 0, 0];
                    field.extend_from_slice(&number.to_be_bytes());
                    block.iter_mut().skip(at).zip(&field).for_each(|(slot, byte)| *slot = *byte);
                };
                put(483, size);
                for (at, (offset, length)) in map.iter().enumerate() {
                    put(386 + at * 24, *offset);
                    put(386 + at * 24 + 12, *length);
                }
            })
            .to_vec()
    };
    case.refused(&[with_base([old(1 << 40, &[], 0)])], "limit");
    let modern = |size: u64, map: &str| {
        let size = size.to_string();
        let keys = [("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0"), ("GNU.sparse.name", "s")];
        let mut data = map.as_bytes().to_vec();
        data.resize(512, 0);
        data.extend_from_slice(&[7; 512]);
        [pax(keys.into_iter().chain([("GNU.sparse.realsize", size.as_str())])), file("GNUSparseFile.0/s", &data)]
            .concat()
    };
    case.refused(&[with_base([modern(1 << 40, "1\n0\n512\n")])], "limit");
    for map in ["2\n0\n256\n128\n256\n", "1\n0\n511\n", "1\n18446744073709551615\n512\n", "9\n0\n512\n", "x\n", ""] {
        case.refused(&[with_base([modern(1 << 30, map)])], "map");
    }
    // A gibibyte with half a kilobyte of data.
    case.load(&[with_base([modern(1 << 30, "1\n536870912\n512\n")])]).ok();
    let sparse = std::fs::metadata(case.only_layer().join("s")).unwrap();
    assert_eq!(sparse.len(), 1 << 30);
    assert!(sparse.blocks() * 512 < 64 << 10, "{} bytes on the disk", sparse.blocks() * 512);
    case.clean();
}

/// A tenth of the case's million in full; the million itself meets the same code, and one more the limit: see the store's
/// own `security_t20_limits_are_the_callers`.
#[test]
fn security_t20_very_many_files_with_long_names_come_and_go() {
    let Some(case) = case() else { return };
    let count = 100_000;
    let mut bytes = Vec::new();
    for number in 0..count {
        bytes.extend(extension(b'L', format!("{}{number:07}", "n".repeat(245)).as_bytes()));
        bytes.extend(file("x", b""));
    }
    bytes.extend_from_slice(&[0; 1024]);
    layout(&case.dunnage.dir("layout"), &[LayerBytes::gzip(&bytes)]);
    drop(bytes);
    // The files themselves, in the same minute: whatever else the machine does makes both of them slower.
    let bare = case.dunnage.dir("bare");
    let started = Instant::now();
    for number in 0..count {
        std::fs::write(bare.join(format!("{}{number:07}", "n".repeat(245))), b"").unwrap();
    }
    let bare = started.elapsed();
    let started = Instant::now();
    case.dunnage.run(["load", "-i", "layout"]).ok();
    assert!(started.elapsed() < bare * 30, "{:?}, the files alone {bare:?}", started.elapsed());
    assert_eq!(std::fs::read_dir(case.only_layer()).unwrap().count(), count);
    case.clean();
    case.dunnage.run(["rmi", "hostile:latest"]).ok();
    case.dunnage.run(["system", "prune", "--all", "--force"]).ok();
    assert_eq!(case.layers().len(), 0);
    case.clean();
}

#[test]
fn security_t23_a_layer_that_is_not_its_diff_id_leaves_nothing() {
    let Some(case) = case() else { return };
    let wrong = LayerBytes { stored: gzip(&tar(base())), diff_id: format!("sha256:{}", "0".repeat(64)) };
    case.refused(&[wrong], "damaged");
    // Nor one that is not its descriptor's.
    let place = case.dunnage.dir("layout");
    let layer = LayerBytes::plain(tar(base()));
    layout(&place, std::slice::from_ref(&layer));
    let blob = place.join("blobs/sha256").join(layer.diff_id.trim_start_matches("sha256:"));
    std::fs::write(&blob, [layer.stored.as_slice(), &[0; 512]].concat()).unwrap();
    case.dunnage.run(["load", "-i", "layout"]).fails(1, "descriptor");
    let mut other = layer.stored.clone();
    *other.get_mut(1024 + 512).unwrap() ^= 1;
    std::fs::write(&blob, other).unwrap();
    case.dunnage.run(["load", "-i", "layout"]).fails(1, "damaged");
    assert_eq!(case.layers().len(), 0);
    case.clean();
}

/// A file of a gibibyte that does not compress away, in a layer of its own.
fn gibibyte(path: &Path) -> String {
    let mut out = File::create(path).unwrap();
    let size = 1_u64 << 30;
    let head = Header { name: "big", size, ..Header::default() }.block();
    out.write_all(&head).unwrap();
    let mut block = vec![0_u8; 1 << 20];
    let mut state = 0x9e37_79b9_u32;
    for byte in &mut block {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *byte = (state >> 24) as u8;
    }
    for number in 0..1024_u32 {
        block.iter_mut().zip(number.to_le_bytes()).for_each(|(slot, byte)| *slot = byte);
        out.write_all(&block).unwrap();
    }
    out.write_all(&[0; 1024]).unwrap();
    drop(out);
    let output = Command::new("sha256sum").arg(path).output().unwrap();
    String::from_utf8_lossy(&output.stdout).split_whitespace().next().unwrap().to_owned()
}

#[test]
fn a_layer_of_a_gibibyte_loads_in_little_memory() {
    let Some(case) = case() else { return };
    if skipped(&[Need::Program("time")]) {
        return;
    }
    // A layout of an empty layer, whose blob is then replaced: a gibibyte is not made in memory.
    let plain = case.dunnage.dir(".").join("big.tar");
    let hex = gibibyte(&plain);
    let small = LayerBytes { stored: Vec::new(), diff_id: format!("sha256:{hex}") };
    let place = case.dunnage.dir("layout");
    layout_of(&place, &small, &plain, &hex);
    let (code, peak) = case.dunnage.measured(["load", "-i", "layout"]);
    assert_eq!(code, 0);
    assert!(peak < 64 << 10, "{peak} KiB");
    assert_eq!(std::fs::metadata(case.only_layer().join("big")).unwrap().len(), 1 << 30);
    // And out again.
    let (code, peak) = case.dunnage.measured(["save", "-o", "out.tar", "hostile:latest"]);
    assert_eq!(code, 0);
    assert!(peak < 64 << 10, "{peak} KiB");
    let mut out = File::open(case.dunnage.dir(".").join("out.tar")).unwrap();
    assert!(out.seek(SeekFrom::End(0)).unwrap() > 1 << 30);
    case.clean();
}

/// A layout whose one layer is a file that is there: its documents are written with the file's digest and size.
fn layout_of(place: &Path, layer: &LayerBytes, file: &Path, hex: &str) {
    layout(place, std::slice::from_ref(layer));
    let blobs = place.join("blobs/sha256");
    let empty = sha256(b"");
    let index = std::fs::read_to_string(place.join("index.json")).unwrap();
    let manifest = std::fs::read_dir(&blobs)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| std::fs::read_to_string(path).is_ok_and(|text| text.contains("\"layers\":[")))
        .unwrap();
    let old = std::fs::read_to_string(&manifest).unwrap();
    let size = std::fs::metadata(file).unwrap().len();
    let new = old.replace(&empty, &format!("sha256:{hex}")).replace("\"size\":0", &format!("\"size\":{size}"));
    let digest = sha256(new.as_bytes());
    std::fs::write(blobs.join(digest.trim_start_matches("sha256:")), &new).unwrap();
    let index = index
        .replace(&sha256(old.as_bytes()), &digest)
        .replace(&format!("\"size\":{}", old.len()), &format!("\"size\":{}", new.len()));
    std::fs::write(place.join("index.json"), index).unwrap();
    std::fs::rename(file, blobs.join(hex)).unwrap();
}

/// The same names, modes, owners, sizes, times and links, told by two other programs.
#[test]
fn the_tar_of_a_built_layer_lists_the_same_elsewhere() {
    if skipped(&[Need::Root, Need::Program("busybox"), Need::Program("bsdtar")]) {
        return;
    }
    let dunnage = Dunnage::new(env!("CARGO_BIN_EXE_dunnage"));
    dunnage.busybox();
    let long = "n".repeat(120);
    dunnage.build(&format!(
        "FROM base\nRUN mkdir -p /d/{long}/e && echo x > /d/{long}/f && ln /d/{long}/f /d/h && ln -s {long}/f /d/l \\\n\
         && ln -s /{long}/{long} /d/far && chmod 4711 /d/h && chown 3000000:7 /d/{long}/e && mkfifo /d/p && rm /etc/group\n"
    ));
    dunnage.run(["save", "-o", "app.tar", "app"]).ok();
    let here = dunnage.dir(".");
    let run = |program: &str, args: &[&str]| {
        let output = Command::new(program).args(args).current_dir(&here).env("TZ", "UTC").output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    run("tar", &["-xf", "app.tar", "--one-top-level=saved"]);
    let manifest: serde_json::Value =
        serde_json::from_slice(&std::fs::read(here.join("saved/manifest.json")).unwrap()).unwrap();
    let layer = manifest.pointer("/0/Layers").and_then(|layers| layers.as_array()).and_then(|layers| layers.last());
    let path = format!("saved/{}", layer.and_then(|layer| layer.as_str()).unwrap());
    let gnu: Vec<String> = run("tar", &["--numeric-owner", "-tf", &path]).lines().map(str::to_owned).collect();
    let bsd: Vec<String> = run("bsdtar", &["--numeric-owner", "-tf", &path]).lines().map(str::to_owned).collect();
    assert_eq!(gnu, bsd);
    assert!(gnu.len() > 8 && gnu.contains(&"etc/.wh.group".to_owned()), "{gnu:?}");
    // What both unpack is the same tree.
    for program in ["tar", "bsdtar"] {
        let place = dunnage.dir(program);
        let args = ["--numeric-owner", "-xpf", &path, "-C", place.to_str().unwrap()];
        run(program, &args);
    }
    let list = |place: &str| run("find", &[place, "-mindepth", "1", "-printf", "%P %M %U %G %T@ %l %n\n"]);
    let sorted = |text: String| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted(list("tar")), sorted(list("bsdtar")));
}
