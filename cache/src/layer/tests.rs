//! Layers end to end: hostile archives, round trips, the packer's sameness.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use tar::{EntryType, Header};

use super::*;
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
    assert!(error.contains("more than is accepted"), "{error}");
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
    // No copy of the bytes is kept where packing gives them again.
    assert!(!layer.path().parent().unwrap().join("original.zst").exists());
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
    std::fs::write(layer.path().parent().unwrap().join("original.zst"), zstd::encode_all(&b"x"[..], 1).unwrap())
        .unwrap();
    assert!(matches!(fixture.store.export_layer(&layer, &mut Vec::new()), Err(Error::DigestMismatch { .. })));
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
