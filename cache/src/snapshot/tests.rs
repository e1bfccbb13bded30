//! Views and copies of layers that hide each other, and the canonical form of what changed.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, XattrFlags};

use super::copy::{copy_tree, record};
use super::diff::move_changes;
use super::merged::MergedTree;
use super::view::TreeView;
use crate::tree::Follow;

const NEEDS: [testdata::Need; 1] = [testdata::Need::Root];

struct Layers {
    directory: tempfile::TempDir,
}

impl Layers {
    /// Three layers; the top one hides much of what lies below.
    fn new() -> Option<Layers> {
        if testdata::skipped(&NEEDS) {
            return None;
        }
        // Not on a tmpfs: whiteouts and attributes as a store has them.
        let base = testdata::workspace().join("target/test-stores");
        fs::create_dir_all(&base).unwrap();
        let layers = Layers { directory: tempfile::tempdir_in(base).unwrap() };
        for (layer, name, text) in [
            ("low", "etc/passwd", "low"),
            ("low", "etc/group", "low"),
            ("low", "gone/inner/f", "x"),
            ("low", "opaque/old", "x"),
            ("low", "opaque/both", "old"),
            ("low", "replaced/f", "x"),
            ("mid", "etc/passwd", "mid"),
            ("mid", "replaced", "now a file"),
            ("top", "opaque/both", "new"),
            ("top", "replaced/g", "y"),
        ] {
            layers.write(layer, name, text);
        }
        layers.whiteout("top", "gone");
        layers.whiteout("mid", "etc/group");
        let opaque = fs::File::open(layers.path("top/opaque")).unwrap();
        rustix::fs::fsetxattr(&opaque, "trusted.overlay.opaque", b"y", XattrFlags::empty()).unwrap();
        symlink("/etc", layers.path("mid/link")).unwrap();
        symlink("../../../etc/passwd", layers.path("top/etc-passwd")).unwrap();
        symlink("loop", layers.path("top/loop")).unwrap();
        Some(layers)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, layer: &str, name: &str, text: &str) {
        let path = self.path(layer).join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn whiteout(&self, layer: &str, name: &str) {
        let path = self.path(layer).join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        rustix::fs::mknodat(CWD, path, FileType::CharacterDevice, Mode::empty(), 0).unwrap();
    }

    fn tree(&self) -> MergedTree {
        MergedTree::of_directories(["top", "mid", "low"].map(|name| self.path(name)).to_vec())
    }

    /// Copies, changes the copy, and lists what the layer of it holds.
    fn changes(&self, change: impl FnOnce(&Path)) -> Vec<String> {
        let (copy, layer) = (self.path("copy"), self.path("layer"));
        fs::create_dir(&copy).unwrap();
        fs::create_dir(&layer).unwrap();
        let before = record(&copy_tree(&self.tree(), &copy).unwrap()).unwrap();
        change(&copy);
        move_changes(&copy, &before, &self.tree(), &layer).unwrap();
        names(&layer)
    }
}

/// Everything below a directory; whiteouts with a minus sign.
fn names(directory: &Path) -> Vec<String> {
    fn walk(root: &Path, path: &Path, found: &mut Vec<String>) {
        for entry in fs::read_dir(path).unwrap().flatten() {
            let metadata = fs::symlink_metadata(entry.path()).unwrap();
            let name = entry.path().strip_prefix(root).unwrap().display().to_string();
            let gone = metadata.mode() & 0o170_000 == 0o020_000 && metadata.rdev() == 0;
            found.push(if gone { format!("-{name}") } else { name });
            if metadata.is_dir() {
                walk(root, &entry.path(), found);
            }
        }
    }
    let mut found = Vec::new();
    walk(directory, directory, &mut found);
    found.sort();
    found
}

fn listed(tree: &MergedTree, path: &str) -> Vec<String> {
    tree.read_dir(Path::new(path)).unwrap().into_iter().map(|(name, _)| name.into_string().unwrap()).collect()
}

#[test]
fn the_top_wins_and_hides() {
    let Some(layers) = Layers::new() else { return };
    let tree = layers.tree();
    assert_eq!(listed(&tree, ""), ["etc", "etc-passwd", "link", "loop", "opaque", "replaced"]);
    assert_eq!(listed(&tree, "etc"), ["passwd"]);
    assert_eq!(listed(&tree, "opaque"), ["both"]);
    assert_eq!(listed(&tree, "replaced"), ["g"]);
    let read =
        |path: &str| tree.read_file(Path::new(path), 100).unwrap().map(|bytes| String::from_utf8(bytes).unwrap());
    assert_eq!(read("etc/passwd").as_deref(), Some("mid"));
    assert_eq!(read("opaque/both").as_deref(), Some("new"));
    for hidden in ["etc/group", "gone/inner/f", "opaque/old", "replaced/f"] {
        assert_eq!(read(hidden), None, "{hidden}");
    }
    assert!(tree.open_file(Path::new("etc")).is_err());
}

#[test]
fn security_t03_links_of_merged_layers_end_at_the_root() {
    let Some(layers) = Layers::new() else { return };
    let tree = layers.tree();
    for path in ["link/passwd", "etc-passwd", "../../etc/passwd", "/link/../etc/passwd"] {
        assert_eq!(tree.read_file(Path::new(path), 100).unwrap().unwrap(), b"mid", "{path}");
    }
    assert!(tree.metadata(Path::new("loop"), Follow::Yes).unwrap().is_none());
    assert_eq!(tree.read_link(Path::new("loop")).unwrap(), "loop");
    assert!(tree.metadata(Path::new("etc/passwd/x"), Follow::Yes).unwrap().is_none());
}

#[test]
fn a_copy_is_what_the_layers_show() {
    let Some(layers) = Layers::new() else { return };
    let file = layers.path("low/etc/shadow");
    fs::write(&file, "s").unwrap();
    std::os::unix::fs::chown(&file, Some(7), Some(42)).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o4640)).unwrap();
    fs::hard_link(&file, layers.path("low/etc/shadow-")).unwrap();
    let opened = fs::File::options().write(true).open(&file).unwrap();
    rustix::fs::fsetxattr(&opened, "user.note", b"kept", XattrFlags::empty()).unwrap();
    opened.set_modified(std::time::UNIX_EPOCH + std::time::Duration::new(1_000_000_000, 123_456_789)).unwrap();
    let sparse = fs::File::create(layers.path("mid/sparse")).unwrap();
    sparse.set_len(1 << 30).unwrap();
    let copy = layers.path("copy");
    fs::create_dir(&copy).unwrap();
    let root = copy_tree(&layers.tree(), &copy).unwrap();
    let found = names(&copy);
    assert_eq!(
        found,
        [
            "etc",
            "etc-passwd",
            "etc/passwd",
            "etc/shadow",
            "etc/shadow-",
            "link",
            "loop",
            "opaque",
            "opaque/both",
            "replaced",
            "replaced/g",
            "sparse"
        ]
    );
    let (one, two) = (fs::metadata(copy.join("etc/shadow")).unwrap(), fs::metadata(copy.join("etc/shadow-")).unwrap());
    assert_eq!((one.uid(), one.gid(), one.mode() & 0o7777, one.ino()), (7, 42, 0o4640, two.ino()));
    assert_eq!((one.mtime(), one.mtime_nsec()), (1_000_000_000, 123_456_789));
    let view = crate::TreeRoot::from_fd(&root).unwrap();
    assert_eq!(view.xattrs(Path::new("etc/shadow")).unwrap(), [("user.note".into(), b"kept".to_vec())]);
    let sparse = fs::metadata(copy.join("sparse")).unwrap();
    assert!(sparse.len() == 1 << 30 && sparse.blocks() * 512 < 1 << 20);
    let time = |path: PathBuf| fs::metadata(path).unwrap().modified().unwrap();
    assert_eq!(time(copy.join("etc")), time(layers.path("mid/etc")));
}

#[test]
fn what_was_not_changed_is_in_no_layer() {
    let Some(layers) = Layers::new() else { return };
    let found = layers.changes(|copy| {
        let path = copy.join("etc/passwd");
        let mode = fs::metadata(&path).unwrap().permissions();
        fs::set_permissions(&path, mode).unwrap();
        drop(fs::File::options().append(true).open(copy.join("opaque/both")).unwrap());
        // A socket leaves nothing, not even the time of its directory.
        let before = fs::metadata(copy.join("etc")).unwrap().modified().unwrap();
        drop(std::os::unix::net::UnixListener::bind(copy.join("etc/socket")).unwrap());
        fs::File::open(copy.join("etc")).unwrap().set_modified(before).unwrap();
    });
    assert_eq!(found, [""; 0]);
}

#[test]
fn changes_hide_in_no_time_size_or_attribute() {
    let Some(layers) = Layers::new() else { return };
    let found = layers.changes(|copy| {
        // Other bytes of the same length, with the old time.
        let path = copy.join("etc/passwd");
        let old = fs::metadata(&path).unwrap().modified().unwrap();
        fs::write(&path, "MID").unwrap();
        fs::File::options().write(true).open(&path).unwrap().set_modified(old).unwrap();
        // An attribute alone.
        let file = fs::File::open(copy.join("opaque/both")).unwrap();
        rustix::fs::fsetxattr(&file, "user.note", b"new", XattrFlags::empty()).unwrap();
        fs::remove_file(copy.join("loop")).unwrap();
        fs::rename(copy.join("replaced"), copy.join("renamed")).unwrap();
    });
    assert_eq!(found, ["-loop", "-replaced", "etc", "etc/passwd", "opaque", "opaque/both", "renamed", "renamed/g"]);
}
