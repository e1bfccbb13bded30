//! The two ends of a copy, by docker's rules: what `SRC/.`, a trailing slash and links mean, and where a copy comes to lie.

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use cache::{Follow, Kind, Metadata, TreeRoot};

use crate::error::{Error, Result};

/// Links in one path (the kernel's own limit).
const MOST_LINKS: u32 = 40;

/// What is copied.
#[derive(Debug)]
pub(super) struct Source {
    /// The tree that it is in.
    pub(super) root: TreeRoot,
    /// Where in it; empty for the whole tree.
    pub(super) path: PathBuf,
    pub(super) metadata: Metadata,
    /// What it is called where it becomes part of a directory.
    name: OsString,
    /// `SRC/.`: what is in it, not itself.
    content: bool,
}

/// Where it is copied to, as it was asked for.
#[derive(Debug)]
pub(super) struct Destination {
    root: TreeRoot,
    path: PathBuf,
    found: Option<Metadata>,
    /// It ends with a slash.
    is_directory: bool,
}

/// Where a copy comes to lie.
#[derive(Debug)]
pub(super) struct Place {
    /// The directory that is written into.
    pub(super) root: TreeRoot,
    /// The name in it; none for a directory whose content goes into `root` itself.
    pub(super) name: Option<OsString>,
}

impl Source {
    /// In a container.
    pub(super) fn find(root: TreeRoot, path: &Path, follow: bool, shown: &str) -> Result<Source> {
        let (asked, ending) = cleaned(path);
        let name = asked.file_name().unwrap_or_default().to_owned();
        let follow = follow || ending != Ending::Name;
        let path = if follow { resolved(&root, &asked)? } else { asked };
        let metadata = root.metadata(&path, Follow::No)?.ok_or_else(|| missing(shown))?;
        if ending != Ending::Name && metadata.kind != Kind::Directory {
            return Err(failed("copy", shown, io::ErrorKind::NotADirectory));
        }
        let content = ending == Ending::Content || name.is_empty();
        Ok(Source { root, path, metadata, name, content })
    }

    /// On the machine: the user named it, so links on the way are the user's.
    pub(super) fn of_host(path: &Path, follow: bool) -> Result<Source> {
        let shown = path.display().to_string();
        let (root, below) = host_root(path)?;
        Source::find(root, &below, follow, &shown)
    }

    pub(super) fn is_directory(&self) -> bool {
        self.metadata.kind == Kind::Directory
    }

    /// Writes it as a tar, under its own name.
    pub(super) fn write_tar(self, out: &mut dyn Write) -> Result<()> {
        let name = if self.content { PathBuf::from(".") } else { PathBuf::from(self.name) };
        if self.metadata.kind == Kind::Directory {
            let tree = self.root.subtree(&self.path)?.without_links();
            return Ok(builder::write_tar_of(&tree, Path::new(""), &name, out)?);
        }
        Ok(builder::write_tar_of(&self.root, &self.path, &name, out)?)
    }
}

impl Destination {
    /// In a container.
    pub(super) fn find(root: TreeRoot, path: &Path) -> Result<Destination> {
        let (asked, ending) = cleaned(path);
        let path = resolved(&root, &asked)?;
        let found = root.metadata(&path, Follow::No)?;
        Ok(Destination { root, path, found, is_directory: ending != Ending::Name })
    }

    /// On the machine.
    pub(super) fn of_host(path: &Path) -> Result<Destination> {
        let (root, below) = host_root(path)?;
        Destination::find(root, &below)
    }

    /// It as a directory that is there.
    pub(super) fn directory(self, shown: &str) -> Result<TreeRoot> {
        match self.found {
            Some(found) if found.kind == Kind::Directory => Ok(self.root.subtree(&self.path)?),
            Some(_) => Err(failed("extract to", shown, io::ErrorKind::NotADirectory)),
            None => Err(missing(shown)),
        }
    }

    /// Docker's table of what is there and what comes.
    pub(super) fn place_for(self, source: &Source, shown: &str) -> Result<Place> {
        let Destination { root, path, found, is_directory } = self;
        let usage = |sentence: String| Err(Error::Usage(sentence));
        match found.map(|found| found.kind) {
            Some(Kind::Directory) => {
                let name = (!source.content).then(|| source.name.clone());
                Ok(Place { root: root.subtree(&path)?.without_links(), name })
            }
            Some(_) if source.is_directory() => usage(format!("cannot copy a directory to {shown}: a file is there")),
            Some(_) if is_directory => usage(format!("cannot copy to {shown}: a file is there, and no directory")),
            None if is_directory && !source.is_directory() => {
                usage(format!("cannot copy to {shown}: this directory does not exist"))
            }
            _ => {
                let parent = path.parent().unwrap_or(Path::new(""));
                match root.metadata(parent, Follow::Yes)? {
                    Some(parent) if parent.kind == Kind::Directory => {}
                    _ => return usage(format!("cannot copy to {shown}: the directory above it does not exist")),
                }
                let name = path.file_name().unwrap_or_default().to_owned();
                Ok(Place { root: root.subtree(parent)?.without_links(), name: Some(name) })
            }
        }
    }
}

/// How a path ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// With a name.
    Name,
    /// With a slash: it must be a directory.
    Slash,
    /// With `/.`: what is in the directory.
    Content,
}

/// The path below its root, without `.` and `..`, and how it ends.
fn cleaned(path: &Path) -> (PathBuf, Ending) {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => drop(clean.pop()),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    let bytes = path.as_os_str().as_bytes();
    let ending = match bytes {
        b"." => Ending::Content,
        _ if bytes.ends_with(b"/.") => Ending::Content,
        _ if bytes.ends_with(b"/") || bytes.ends_with(b"/..") || bytes == b".." => Ending::Slash,
        _ => Ending::Name,
    };
    (clean, ending)
}

/// The path behind links in its last part. Whatever changes meanwhile, it is looked up inside the root again.
fn resolved(root: &TreeRoot, path: &Path) -> Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..MOST_LINKS {
        match root.metadata(&path, Follow::No)? {
            Some(found) if found.kind == Kind::Symlink => {}
            _ => return Ok(path),
        }
        let link = PathBuf::from(root.read_link(&path)?);
        let above = path.parent().unwrap_or(Path::new("")).to_owned();
        path = if link.is_absolute() { below(&link) } else { above.join(below(&link)) };
    }
    Err(failed("follow the links of", &path.display().to_string(), io::ErrorKind::InvalidInput))
}

/// `..` stays: it leads up from where a link led to.
fn below(path: &Path) -> PathBuf {
    path.components().filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir)).collect()
}

/// The root and the path below it of a path of the machine, which links of the machine lead to.
fn host_root(path: &Path) -> Result<(TreeRoot, PathBuf)> {
    if path.as_os_str().is_empty() {
        return Err(Error::Usage("a path must not be empty".to_owned()));
    }
    let whole = std::path::absolute(path).map_err(|error| Error::file("find", path, error))?;
    let (_, ending) = cleaned(path);
    let mut below = PathBuf::from("/");
    // `a/..` is what the machine says it is: only the last name is looked at by the rules of a copy.
    match (whole.parent(), whole.file_name()) {
        (Some(above), Some(name)) if name != ".." => {
            let above = std::fs::canonicalize(above).map_err(|error| Error::file("find", above, error))?;
            below.push(above);
            below.push(name);
        }
        _ => below.push(std::fs::canonicalize(&whole).map_err(|error| Error::file("find", &whole, error))?),
    }
    match ending {
        Ending::Name => {}
        Ending::Slash => below.push(""),
        Ending::Content => below.push("."),
    }
    Ok((TreeRoot::open(Path::new("/"))?, below))
}

fn missing(shown: &str) -> Error {
    Error::file("find", shown, io::Error::from_raw_os_error(rustix::io::Errno::NOENT.raw_os_error()))
}

fn failed(doing: &'static str, shown: &str, kind: io::ErrorKind) -> Error {
    Error::file(doing, shown, kind.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_end_in_three_ways() {
        for (text, clean, ending) in [
            ("/a/b", "a/b", Ending::Name),
            ("a/b/", "a/b", Ending::Slash),
            ("/a/./b/.", "a/b", Ending::Content),
            ("/", "", Ending::Slash),
            (".", "", Ending::Content),
            ("/a/../../b", "b", Ending::Name),
            ("/a/..", "", Ending::Slash),
        ] {
            assert_eq!(cleaned(Path::new(text)), (PathBuf::from(clean), ending), "{text}");
        }
    }
}
