//! Layers end to end: hostile archives, round trips, the packer's sameness.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use tar::{EntryType, Header};

use super::import::{Compressed, ImportOptions};
use super::limits::Limits;
use super::*;
use crate::digest::Digest;
use crate::{CommitOptions, Error};

fn is_root() -> bool {
    !testdata::skipped(&[testdata::Need::Root])
}

/// A tar entry of any type, with data.
fn entry(name: &str, entry_type: EntryType, link: &str, data: &[u8]) -> Vec<u8> {
    let mut header = Header::new_ustar();
    let fields = header.as_ustar_mut().unwrap();
    fields.name[..name.len()].copy_from_slice(name.as_bytes());
    fields.linkname[..link.len()].copy_from_slice(link.as_bytes());
    header.set_entry_type(entry_type);
    header.set_size(data.len() as u64);
    header.set_mode(if entry_type == EntryType::Directory { 0o755 } else { 0o644 });
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_000_000_000);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend_from_slice(data);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn file(name: &str, data: &[u8]) -> Vec<u8> {
    entry(name, EntryType::Regular, "", data)
}

fn tar_of(entries: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = entries.concat();
    bytes.extend_from_slice(&[0; 1024]);
    bytes
}

struct Fixture {
    directory: tempfile::TempDir,
    store: Store,
    lease: Lease,
}

fn fixture() -> Fixture {
    let directory = tempfile::tempdir_in("/var/tmp").unwrap();
    let store = Store::open(&directory.path().join("store")).unwrap();
    let lease = store.lease().unwrap();
    Fixture { directory, store, lease }
}

impl Fixture {
    fn import(&self, entries: &[Vec<u8>]) -> Result<Layer> {
        self.store.import_layer(&self.lease, tar_of(entries).as_slice(), None)
    }

    fn refused(&self, entries: &[Vec<u8>], word: &str) {
        let error = self.import(entries).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
        assert_eq!(std::fs::read_dir(self.store.path("layers")).unwrap().count(), 0);
        let drafts = self.lease.draft();
        assert_eq!(std::fs::read_dir(drafts.parent().unwrap()).unwrap().count(), 0);
    }
}

#[test]
fn security_t01_t05_paths_and_links_that_leave_are_refused() {
    if !is_root() {
        return;
    }
    let fixture = fixture();
    fixture.refused(&[file(&format!("{}x", "../".repeat(20)), b"x")], "leaves the layer");
    fixture.refused(&[file("a/../../b", b"x")], "leaves the layer");
    fixture.refused(&[entry("h", EntryType::Link, "/etc/hostname", b"")], "hard link");
    fixture.refused(&[entry("h", EntryType::Link, "../h2", b"")], "hard link");
    fixture.refused(&[entry("k", EntryType::new(b'V'), "", b"")], "not supported");
}

#[test]
fn security_t03_a_file_below_a_link_stays_inside() {
    if !is_root() {
        return;
    }
    let fixture = fixture();
    let canary = fixture.directory.path().join("canary");
    std::fs::create_dir(&canary).unwrap();
    let link = canary.to_str().unwrap();
    let result = fixture.import(&[entry("a", EntryType::Symlink, link, b""), file("a/x", b"x")]);
    assert_eq!(std::fs::read_dir(&canary).unwrap().count(), 0);
    assert!(result.is_err());
}

#[test]
fn security_t10_whiteouts_of_nothing_are_refused() {
    if !is_root() {
        return;
    }
    let fixture = fixture();
    fixture.refused(&[file(".wh.", b"")], "whiteout");
    fixture.refused(&[file(".wh..", b"")], "whiteout");
    fixture.refused(&[file("d/.wh...", b"")], "whiteout");
    fixture.refused(&[entry("c", EntryType::Char, "", b"")], "device 0:0");
}

#[test]
fn security_t12_the_last_entry_of_a_name_rules_and_is_never_followed() {
    if !is_root() {
        return;
    }
    let fixture = fixture();
    let canary = fixture.directory.path().join("canary");
    std::fs::write(&canary, "safe").unwrap();
    let link = canary.to_str().unwrap();
    let mut entries = vec![file("etc", b"x")];
    for round in 0..1000 {
        entries.push(match round % 4 {
            0 => file("./a", b"file"),
            1 => entry("a", EntryType::Symlink, link, b""),
            2 => entry("./a//", EntryType::Directory, "", b""),
            _ => entry("a", EntryType::Link, "etc", b""),
        });
    }
    entries.push(file("a", b"last"));
    let layer = fixture.import(&entries).unwrap();
    assert_eq!(std::fs::read(layer.path().join("a")).unwrap(), b"last");
    assert_eq!(std::fs::read(&canary).unwrap(), b"safe");
}

#[test]
fn security_t13_a_bomb_meets_a_limit() {
    if !is_root() {
        return;
    }
    let fixture = fixture();
    // 2 GiB of zeros in one file, some 2 MB packed: over the ratio after the first gibibyte.
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    let mut header = Header::new_ustar();
    header.set_path("b").unwrap();
    header.set_entry_type(EntryType::Regular);
    header.set_size(2 << 30);
    header.set_mode(0o644);
    header.set_cksum();
    encoder.write_all(header.as_bytes()).unwrap();
    for _ in 0..2048 {
        encoder.write_all(&vec![0; 1 << 20]).unwrap();
    }
    let packed = encoder.finish().unwrap();
    let error = fixture.store.import_layer(&fixture.lease, packed.as_slice(), None).unwrap_err().to_string();
    assert!(error.contains("more than 1000 times"), "{error}");
}

#[test]
fn security_t15_t18_extension_headers_are_bounded() {
    if !is_root() {
        return;
    }
    let fixture = fixture();
    let mut header = Header::new_ustar();
    header.set_path("PaxHeaders/0").unwrap();
    header.set_entry_type(EntryType::XHeader);
    header.set_size(1 << 30);
    header.set_cksum();
    fixture.refused(&[header.as_bytes().to_vec()], "extension header");
    fixture.refused(&[entry("p", EntryType::XHeader, "", b"22 GNU.sparse.major=1\n"), file("s", b"")], "sparse");
    fixture.refused(&[entry("p", EntryType::XHeader, "", b"22 GNU.sparse.map=0,1\n"), file("s", b"")], "0.1");
    fixture.refused(&vec![entry("p", EntryType::XHeader, "", b"13 comment=a\n"); 17], "in a row");
    fixture.refused(&[entry("p", EntryType::XHeader, "", b"999 path=x\n"), file("s", b"")], "malformed");
}

#[test]
fn security_t16_a_pax_size_is_the_size() {
    if !is_root() {
        return;
    }
    // The ustar size says nothing, PAX says 512: what follows is content, not a header that another reader would obey.
    let fixture = fixture();
    let smuggled = file("smuggled", b"")[..512].to_vec();
    let mut outer = Header::new_ustar();
    outer.set_path("f").unwrap();
    outer.set_entry_type(EntryType::Regular);
    outer.set_size(0);
    outer.set_mode(0o644);
    outer.set_cksum();
    let layer = fixture
        .import(&[entry("p", EntryType::XHeader, "", b"12 size=512\n"), outer.as_bytes().to_vec(), smuggled])
        .unwrap();
    assert_eq!(std::fs::metadata(layer.path().join("f")).unwrap().len(), 512);
    assert!(!layer.path().join("smuggled").exists());
}

#[test]
fn security_t23_a_wrong_diff_id_is_refused() {
    if !is_root() {
        return;
    }
    let fixture = fixture();
    let wrong = DiffId(Digest::sha256_of(b"something else"));
    let error =
        fixture.store.import_layer(&fixture.lease, tar_of(&[file("a", b"x")]).as_slice(), Some(&wrong)).unwrap_err();
    assert!(matches!(error, Error::DigestMismatch { .. }));
    assert_eq!(std::fs::read_dir(fixture.store.path("layers")).unwrap().count(), 0);
}

#[test]
fn cut_and_garbled_archives_are_refused() {
    if !is_root() {
        return;
    }
    let fixture = fixture();
    let whole = tar_of(&[file("a", &[7; 3000])]);
    for length in [100, 512, 600, 2000] {
        assert!(fixture.store.import_layer(&fixture.lease, &whole[..length], None).is_err(), "{length}");
    }
    assert!(fixture.store.import_layer(&fixture.lease, &[b'x'; 4096][..], None).is_err());
}

/// A tree with one of everything that layers keep.
fn make_tree(root: &Path) {
    std::fs::create_dir_all(root.join("d/sub")).unwrap();
    std::fs::write(root.join("d/f"), "content").unwrap();
    std::fs::set_permissions(root.join("d/f"), std::fs::Permissions::from_mode(0o4755)).unwrap();
    std::fs::hard_link(root.join("d/f"), root.join("d/sub/again")).unwrap();
    std::os::unix::fs::symlink("../nowhere", root.join("d/link")).unwrap();
    std::fs::write(root.join(format!("{}.txt", "n".repeat(200))), "long name").unwrap();
    std::os::unix::fs::chown(root.join("d/sub"), Some(3_000_000), Some(7)).unwrap();
    std::fs::create_dir(root.join("opaque")).unwrap();
    let opaque = std::fs::File::open(root.join("opaque")).unwrap();
    rustix::fs::fsetxattr(&opaque, super::read::OPAQUE, b"y", rustix::fs::XattrFlags::empty()).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, root.join("gone"), rustix::fs::FileType::CharacterDevice, Mode::empty(), 0)
        .unwrap();
    let file = std::fs::File::open(root.join("d/f")).unwrap();
    rustix::fs::fsetxattr(&file, "user.note", b"kept", rustix::fs::XattrFlags::empty()).unwrap();
}

#[test]
fn builder_l01_l02_a_layer_survives_its_own_tar() {
    if !is_root() {
        return;
    }
    let fixture = fixture();
    let snapshot = fixture.store.snapshot(&fixture.lease, &[]).unwrap();
    make_tree(&snapshot.upper());
    let committed = snapshot.commit(&fixture.store, &fixture.lease, &CommitOptions::default()).unwrap();
    assert!(!committed.existed);
    let mut tar = Vec::new();
    fixture.store.export_layer(&committed.layer, &mut tar).unwrap();
    assert_eq!(DiffId(Digest::sha256_of(&tar)), committed.layer.diff_id);

    let other = self::fixture();
    let layer = other.store.import_layer(&other.lease, tar.as_slice(), Some(&committed.layer.diff_id)).unwrap();
    assert_eq!((layer.tree, layer.size), (committed.layer.tree, committed.layer.size));
    let first = std::fs::metadata(layer.path().join("d/f")).unwrap();
    assert_eq!((first.mode() & 0o7777, first.nlink()), (0o4755, 2));
    assert_eq!(std::fs::metadata(layer.path().join("d/sub")).unwrap().uid(), 3_000_000);
    let gone = std::fs::symlink_metadata(layer.path().join("gone")).unwrap();
    assert_eq!(gone.rdev(), 0);
    // No split is kept where packing gives the bytes again.
    let mut names: Vec<_> = std::fs::read_dir(layer.path().parent().unwrap())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["fs", "guard.json", "layer.json"]);
}

#[test]
fn the_tar_is_one_that_gnu_tar_reads() {
    if !is_root() {
        return;
    }
    let fixture = fixture();
    // Not by way of a snapshot, which would drop the opaque mark of a directory that hides nothing.
    let draft = super::DraftDir::make(&fixture.lease.draft()).unwrap();
    make_tree(&draft.path.join("fs"));
    let layer = fixture.store.commit_tree(&fixture.lease, draft).unwrap().layer;
    let path = fixture.directory.path().join("layer.tar");
    fixture.store.export_layer(&layer, &mut File::create(&path).unwrap()).unwrap();
    let output = std::process::Command::new("tar").args(["--numeric-owner", "-tvf"]).arg(&path).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    let listed = String::from_utf8_lossy(&output.stdout).into_owned();
    let names: Vec<&str> = listed.lines().map(|line| line.splitn(6, char::is_whitespace).last().unwrap()).collect();
    assert_eq!(names.len(), 9, "{listed}");
    for text in [
        "d/sub/again link to d/f",
        "3000000/7",
        ".wh.gone",
        "opaque/.wh..wh..opq",
        "d/link -> ../nowhere",
        "-rwsr-xr-x",
    ] {
        assert!(listed.contains(text), "no {text} in\n{listed}");
    }
}

#[test]
fn a_foreign_layer_gives_its_own_bytes_back() {
    if !is_root() {
        return;
    }
    let fixture = fixture();
    // Not in our order, with a time of its own, and with padding behind the end.
    let mut bytes = tar_of(&[file("z", b"1"), file("a", b"2")]);
    bytes.extend_from_slice(&[0; 8192]);
    let layer = fixture.store.import_layer(&fixture.lease, bytes.as_slice(), None).unwrap();
    let mut out = Vec::new();
    fixture.store.export_layer(&layer, &mut out).unwrap();
    assert_eq!(out, bytes);
    // A damaged store is noticed.
    std::fs::write(layer.path().join("z"), b"3").unwrap();
    assert!(matches!(fixture.store.export_layer(&layer, &mut Vec::new()), Err(Error::DigestMismatch { .. })));
    std::fs::write(layer.path().parent().unwrap().join(SPLIT), b"DNSPLIT1 and no zstd").unwrap();
    assert!(matches!(fixture.store.export_layer(&layer, &mut Vec::new()), Err(Error::Document { .. })));
}

#[test]
fn the_same_tree_gives_the_old_layer_back() {
    if !is_root() {
        return;
    }
    let fixture = fixture();
    let commit = |time: i64| {
        let snapshot = fixture.store.snapshot(&fixture.lease, &[]).unwrap();
        let path = snapshot.upper().join("f");
        std::fs::write(&path, "same").unwrap();
        let when = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(time as u64);
        File::options().write(true).open(&path).unwrap().set_modified(when).unwrap();
        snapshot.commit(&fixture.store, &fixture.lease, &CommitOptions::default()).unwrap()
    };
    let (first, second) = (commit(1_000_000), commit(2_000_000));
    assert_eq!((first.existed, second.existed), (false, true));
    assert_eq!(first.layer, second.layer);
}

#[test]
fn prune_keeps_what_a_living_process_works_with() {
    if !is_root() {
        return;
    }
    let fixture = fixture();
    let layer = fixture.import(&[file("f", &[1; 100_000])]).unwrap();
    let options = crate::PruneOptions::everything();
    assert_eq!(fixture.store.prune(&options).unwrap().layers, 0);
    let store = fixture.store.clone();
    drop(fixture.lease);
    let forecast = store.prune(&crate::PruneOptions { dry_run: true, ..options.clone() }).unwrap();
    let pruned = store.prune(&options).unwrap();
    assert_eq!((pruned.layers, forecast.layers), (1, 1));
    assert!(pruned.bytes >= 100_000);
    assert!(!layer.path().exists());
    let lease = store.lease().unwrap();
    assert!(store.layer(&lease, &layer.diff_id).unwrap().is_none());
    drop(fixture.directory);
}

fn exported(fixture: &Fixture, layer: &Layer) -> Vec<u8> {
    let mut out = Vec::new();
    fixture.store.export_layer(layer, &mut out).unwrap();
    out
}

#[test]
fn what_a_later_entry_displaces_is_still_in_the_bytes() {
    if !is_root() {
        return;
    }
    let fixture = fixture();
    let entries = [
        file("a", b"first"),
        file("a", b"second"),
        entry("b", EntryType::Link, "a", b""),
        entry("a", EntryType::Directory, "", b""),
        file("a/f", b"in the directory"),
        entry("l", EntryType::Symlink, "a", b""),
        file("l/g", b"through the link"),
        file("a", b"a file again"),
        file("l", b"no link any more"),
        file("empty", b""),
        entry("empty", EntryType::Symlink, "a", b""),
    ];
    let layer = fixture.import(&entries).unwrap();
    assert_eq!(std::fs::read(layer.path().join("a")).unwrap(), b"a file again");
    assert_eq!(std::fs::read(layer.path().join("b")).unwrap(), b"second");
    assert_eq!(exported(&fixture, &layer), tar_of(&entries));
    assert!(fixture.store.verify_layer(layer.diff_id.hex()).unwrap().is_ok());
}

#[test]
fn the_tree_hash_does_not_depend_on_the_stream() {
    if !is_root() {
        return;
    }
    let fixture = fixture();
    let parts = [
        file("a", b"1"),
        file("d/b", b"2"),
        entry("d/c", EntryType::Symlink, "b", b""),
        entry("h", EntryType::Link, "a", b""),
    ];
    let one = fixture.import(&parts).unwrap();
    let [a, b, c, h] = &parts;
    let other = fixture.import(&[b.clone(), c.clone(), a.clone(), h.clone()]).unwrap();
    // The name that comes first in the archive is not the first of the tree.
    let third =
        fixture.import(&[file("h", b"1"), entry("a", EntryType::Link, "h", b""), c.clone(), b.clone()]).unwrap();
    assert_ne!(one.diff_id, other.diff_id);
    assert_eq!((one.tree, one.tree), (other.tree, third.tree));
    let changed = fixture.import(&[file("a", b"2"), b.clone(), c.clone(), h.clone()]).unwrap();
    assert_ne!(one.tree, changed.tree);
}

#[test]
fn clamped_times_are_on_the_disk_too() {
    if !is_root() {
        return;
    }
    let fixture = fixture();
    let snapshot = fixture.store.snapshot(&fixture.lease, &[]).unwrap();
    make_tree(&snapshot.upper());
    let old = File::open(snapshot.upper().join("d/f")).unwrap();
    old.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(5)).unwrap();
    let made = snapshot.commit(&fixture.store, &fixture.lease, &CommitOptions::default()).unwrap().layer;
    let layer = fixture.store.clamped_layer(&fixture.lease, &made, 1_000).unwrap();
    let mtime = |name: &str| std::fs::symlink_metadata(layer.path().join(name)).unwrap().mtime();
    assert_eq!([mtime("d/f"), mtime("d"), mtime("d/link"), mtime("opaque")], [5, 1_000, 1_000, 1_000]);
    assert_eq!(layer.tree, made.tree);
    assert_ne!(layer.diff_id, made.diff_id);
    // Packing again gives what was named.
    assert_eq!(DiffId(Digest::sha256_of(&exported(&fixture, &layer))), layer.diff_id);
    // The second time it is only looked up; and what a step gives is what it gave, not what became of it.
    assert_eq!(fixture.store.clamped_layer(&fixture.lease, &made, 1_000).unwrap(), layer);
    assert_eq!(fixture.store.layer_by_tree(&fixture.lease, &made.tree).unwrap().unwrap(), made);
    assert_eq!(fixture.store.clamped_layer(&fixture.lease, &layer, 1_000).unwrap(), layer);
}

#[test]
fn compressed_bytes_are_checked_in_the_same_pass() {
    if !is_root() {
        return;
    }
    let fixture = fixture();
    let plain = tar_of(&[file("a", b"x")]);
    let packed = zstd::encode_all(plain.as_slice(), 1).unwrap();
    let import = |digest: Digest, size: usize| {
        let compressed = Some(Compressed { digest, size: size as u64 });
        let options = ImportOptions { compressed, ..ImportOptions::default() };
        fixture.store.import_layer_with(&fixture.lease, packed.as_slice(), &options)
    };
    let right = Digest::sha256_of(&packed);
    let wrong = import(Digest::sha256_of(&plain), packed.len()).unwrap_err();
    assert!(matches!(wrong, Error::DigestMismatch { .. }), "{wrong}");
    assert!(import(right.clone(), 5).unwrap_err().to_string().contains("descriptor"));
    assert_eq!(std::fs::read_dir(fixture.store.path("layers")).unwrap().count(), 0);
    assert!(import(right, packed.len()).is_ok());
}

#[test]
fn security_t20_limits_are_the_callers() {
    if !is_root() {
        return;
    }
    let fixture = fixture();
    let many: Vec<_> = (0..11).map(|n| file(&format!("d/f{n}"), b"0123456789")).collect();
    let import = |limits: Limits| {
        let options = ImportOptions { limits, ..ImportOptions::default() };
        fixture.store.import_layer_with(&fixture.lease, tar_of(&many).as_slice(), &options)
    };
    let refused = |limits: Limits, word: &str| {
        let error = import(limits).unwrap_err();
        assert!(matches!(error, Error::Limit(_)) && error.to_string().contains(word), "{error}");
    };
    refused(Limits { entries: 10, ..Limits::default() }, "10 entries");
    refused(Limits { unpacked_bytes: 1000, ..Limits::default() }, "1000 bytes");
    refused(Limits { path_bytes: 3, ..Limits::default() }, "longer than 3");
    refused(Limits { depth: 1, ..Limits::default() }, "directories in each other");
    assert!(import(Limits { entries: 11, ..Limits::default() }).is_ok());
}

#[test]
fn attributes_that_layers_keep_and_those_that_they_do_not() {
    if !is_root() {
        return;
    }
    let fixture = fixture();
    let record = |key: &str, value: &str| {
        let rest = format!(" SCHILY.xattr.{key}={value}\n");
        let length = rest.len() + (rest.len() + 2).to_string().len();
        format!("{length}{rest}")
    };
    let records = [record("user.note", "kept"), record("trusted.overlay.opaque", "y"), record("security.selinux", "x")];
    let entries = [entry("p", EntryType::XHeader, "", records.concat().as_bytes()), file("f", b"1")];
    let layer = fixture.import(&entries).unwrap();
    let mut names = vec![0; 256];
    let length = rustix::fs::listxattr(layer.path().join("f"), &mut names).unwrap();
    assert_eq!(&names[..length], b"user.note\0");
    assert_eq!(exported(&fixture, &layer), tar_of(&entries));
    // More than the file system takes is the archive's fault.
    let large = record("user.large", &"v".repeat(60_000));
    let error = fixture.import(&[entry("p", EntryType::XHeader, "", large.as_bytes()), file("f", b"1")]).unwrap_err();
    assert!(matches!(error, Error::Tree { .. }), "{error}");
}

/// GNU tar's sparse files, in its own form and in that of PAX 1.0.
#[test]
fn security_t18_sparse_files_are_exact_and_keep_their_holes() {
    if !is_root() {
        return;
    }
    let fixture = fixture();
    let source = fixture.directory.path().join("source");
    std::fs::create_dir(&source).unwrap();
    let mut sparse = File::create(source.join("s")).unwrap();
    for at in 0..30_u64 {
        std::io::Seek::seek(&mut sparse, std::io::SeekFrom::Start(at * (1 << 20))).unwrap();
        sparse.write_all(&[at as u8 + 1; 5000]).unwrap();
    }
    sparse.set_len(64 << 20).unwrap();
    for format in ["gnu", "pax"] {
        let output = std::process::Command::new("tar")
            .args(["--sparse", "--format", format, "-cC"])
            .args([&source, Path::new("s")])
            .output()
            .unwrap();
        assert!(output.status.success() && output.stdout.len() < 1 << 20, "{format}");
        let layer = fixture.store.import_layer(&fixture.lease, output.stdout.as_slice(), None).unwrap();
        assert!(std::fs::read(layer.path().join("s")).unwrap() == std::fs::read(source.join("s")).unwrap());
        assert!(std::fs::metadata(layer.path().join("s")).unwrap().blocks() * 512 < 1 << 20, "{format}");
        assert!(exported(&fixture, &layer) == output.stdout, "{format}");
        assert!(fixture.store.verify_layer(layer.diff_id.hex()).unwrap().is_ok());
    }
    // Without --sparse the zeros come, and become holes all the same.
    let output = std::process::Command::new("tar").arg("-cC").args([&source, Path::new("s")]).output().unwrap();
    let layer = fixture.store.import_layer(&fixture.lease, output.stdout.as_slice(), None).unwrap();
    assert!(std::fs::metadata(layer.path().join("s")).unwrap().blocks() * 512 < 4 << 20);
    assert!(exported(&fixture, &layer) == output.stdout);
}

/// A xorshift: the same archives on every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }

    /// One of few names, so that entries meet; sometimes with needless parts.
    fn name(&mut self) -> String {
        let depth = 1 + self.roll(3);
        let parts: Vec<String> = (0..depth).map(|_| ["a", "b", "c", "d"][self.roll(4) as usize].to_owned()).collect();
        format!("{}{}", ["", "./", "/"][self.roll(3) as usize], parts.join("/"))
    }

    fn entry(&mut self) -> Vec<u8> {
        let (name, other) = (self.name(), self.name());
        let data = vec![self.roll(256) as u8; self.roll(1500) as usize];
        match self.roll(10) {
            0..=4 => file(&name, &data),
            5 | 6 => entry(&name, EntryType::Directory, "", b""),
            7 => entry(&name, EntryType::Symlink, ["b", "../a", "/c", "nowhere"][self.roll(4) as usize], b""),
            8 => entry(&name, EntryType::Link, &other, b""),
            _ => entry(&format!("{name}/.wh.gone"), EntryType::Regular, "", b""),
        }
    }
}

/// Random archives with duplicates: those that are taken come back to the byte, and their tree packs, imports and hashes
/// the same.
#[test]
fn random_archives_come_back_and_their_trees_are_the_same_everywhere() {
    if !is_root() {
        return;
    }
    let fixture = fixture();
    let mut taken = 0;
    for seed in 1..=300 {
        let mut dice = Dice(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed));
        let count = 1 + dice.roll(12);
        let bytes = tar_of(&(0..count).map(|_| dice.entry()).collect::<Vec<_>>());
        // An entry below a file, a hard link to nothing: refused, and nothing is left.
        let Ok(layer) = fixture.store.import_layer(&fixture.lease, bytes.as_slice(), None) else { continue };
        taken += 1;
        assert!(exported(&fixture, &layer) == bytes, "seed {seed}");
        assert!(fixture.store.verify_layer(layer.diff_id.hex()).unwrap().is_ok(), "seed {seed}");
        let mut packed = Vec::new();
        let (measured, digest) = export::pack(layer.path(), None, &mut packed).unwrap();
        let other = self::fixture();
        let again = other.store.import_layer(&other.lease, packed.as_slice(), Some(&DiffId(digest))).unwrap();
        assert_eq!((again.tree, again.size), (measured.tree, measured.size), "seed {seed}");
        assert_eq!(again.tree, layer.tree, "seed {seed}");
        assert!(!again.path().parent().unwrap().join(SPLIT).exists(), "seed {seed}");
    }
    assert!(taken > 100, "{taken}");
    let drafts = fixture.lease.draft();
    assert_eq!(std::fs::read_dir(drafts.parent().unwrap()).unwrap().count(), 0);
}
