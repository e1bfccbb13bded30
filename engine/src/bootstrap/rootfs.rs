//! A root file system as a list: what goes where. Written as a tar with fixed times and owners, so that it is the same each time.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// One path of the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Node {
    /// With its mode.
    Directory(u32),
    /// A link and where it points.
    Link(PathBuf),
    /// The bytes of a file of this machine, links followed, with a mode.
    Copy(PathBuf, u32),
    /// These bytes.
    Text(String),
}

/// The tree by path; absolute paths without the leading slash.
#[derive(Debug, Default)]
pub(super) struct RootfsPlan {
    nodes: BTreeMap<PathBuf, Node>,
}

impl RootfsPlan {
    /// What every base has: directories, root and nobody, and where names are looked up.
    pub(super) fn skeleton() -> RootfsPlan {
        let mut plan = RootfsPlan::default();
        for directory in ["dev", "etc", "home", "proc", "run", "sys", "usr/bin", "usr/lib", "usr/sbin", "var/lib"] {
            plan.directory(directory, 0o755);
        }
        plan.directory("root", 0o700);
        plan.directory("tmp", 0o1777);
        plan.directory("var/tmp", 0o1777);
        plan.text("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n");
        plan.text("etc/group", "root:x:0:\nnogroup:x:65534:\n");
        plan.text("etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n");
        plan
    }

    pub(super) fn directory(&mut self, path: impl AsRef<Path>, mode: u32) {
        self.add(path.as_ref(), Node::Directory(mode));
    }

    pub(super) fn text(&mut self, path: &str, text: &str) {
        self.add(Path::new(path), Node::Text(text.to_owned()));
    }

    /// Adds a node and the directories above it; what is there stays.
    pub(super) fn add(&mut self, path: &Path, node: Node) {
        let path = path.strip_prefix("/").unwrap_or(path);
        for parent in path.ancestors().skip(1).filter(|parent| !parent.as_os_str().is_empty()) {
            self.nodes.entry(parent.to_owned()).or_insert(Node::Directory(0o755));
        }
        self.nodes.entry(path.to_owned()).or_insert(node);
    }

    pub(super) fn has(&self, path: &Path) -> bool {
        self.nodes.contains_key(path.strip_prefix("/").unwrap_or(path))
    }

    pub(super) fn node(&self, path: &Path) -> Option<&Node> {
        self.nodes.get(path.strip_prefix("/").unwrap_or(path))
    }

    pub(super) fn write_tar(&self, out: &mut dyn Write) -> Result<()> {
        let mut tar = tar::Builder::new(out);
        for (path, node) in &self.nodes {
            let mut header = tar::Header::new_ustar();
            header.set_uid(0);
            header.set_gid(0);
            header.set_mtime(0);
            let failed = |error| Error::file("pack", path, error);
            match node {
                Node::Directory(mode) => {
                    header.set_entry_type(tar::EntryType::Directory);
                    header.set_mode(*mode);
                    header.set_size(0);
                    tar.append_data(&mut header, path, std::io::empty()).map_err(failed)?;
                }
                Node::Link(target) => {
                    header.set_entry_type(tar::EntryType::Symlink);
                    header.set_mode(0o777);
                    header.set_size(0);
                    tar.append_link(&mut header, path, target).map_err(failed)?;
                }
                Node::Copy(source, mode) => {
                    let file = File::open(source).map_err(|error| Error::file("read", source, error))?;
                    let size = file.metadata().map_err(|error| Error::file("read", source, error))?.len();
                    header.set_mode(*mode);
                    header.set_size(size);
                    tar.append_data(&mut header, path, file).map_err(failed)?;
                }
                Node::Text(text) => {
                    header.set_mode(0o644);
                    header.set_size(text.len() as u64);
                    tar.append_data(&mut header, path, text.as_bytes()).map_err(failed)?;
                }
            }
        }
        tar.finish().map_err(|error| Error::file("pack", "the base", error))
    }
}
