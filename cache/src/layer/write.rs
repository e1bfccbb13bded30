//! The packer: walks a layer's tree in its canonical order, and makes its tar and its tree hash in the same pass.
//!
//! The same tree gives the same bytes on any machine: entries by path bytes, parents first; times in whole seconds; no
//! names of users; PAX records only where ustar has no room. Overlay's whiteouts become `.wh.` files, opaque directories
//! get a `.wh..wh..opq`. The root itself is no entry.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use tar::EntryType;

use super::encode::{Head, encode, pad};
use super::read::OPAQUE;
use super::share::Shared;
use super::split::Outline;
use super::stream::{Outlet, pump_file};
use super::tree_hash::{Facts, TreeHasher};
use crate::digest::TreeHash;
use crate::error::{Error, Result};
use crate::tree::{Kind, Metadata, Names, look, metadata_of, set_time, xattrs};

/// What a pass over a tree found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Measured {
    pub(crate) tree: TreeHash,
    /// Bytes of file content.
    pub(crate) size: u64,
}

/// What an extractor knows of the files that it wrote, by inode number.
pub(crate) type Contents = HashMap<u64, Known>;

/// What is known of a file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Known {
    pub(crate) hash: blake3::Hash,
    pub(crate) xattrs: bool,
}

type Xattrs = Vec<(OsString, Vec<u8>)>;

/// Where the walk's tar goes.
pub(crate) trait Sink {
    /// Headers and padding.
    fn literal(&mut self, bytes: &[u8]) -> Result<()>;
    /// A file as far as it must be opened, and its attributes.
    fn open(&mut self, place: &Place<'_>) -> Result<(Option<File>, Xattrs)>;
    /// Its content, of which the hash is given back; never asked of an empty file.
    fn content(&mut self, file: Option<File>, place: &Place<'_>) -> Result<blake3::Hash>;
}

/// An entry of a directory.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    pub(crate) parent: BorrowedFd<'a>,
    pub(crate) name: &'a OsStr,
    pub(crate) path: &'a Path,
    pub(crate) metadata: &'a Metadata,
    /// The base has it, and not the delta that is packed.
    pub(crate) of_base: bool,
}

impl Place<'_> {
    fn open(&self, flags: OFlags) -> Result<OwnedFd> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NOCTTY;
        rustix::fs::openat(self.parent, self.name, flags, Mode::empty()).map_err(Error::errno("open", self.path))
    }

    fn open_file(&self) -> Result<File> {
        self.open(OFlags::RDONLY | OFlags::NONBLOCK).map(File::from)
    }
}

/// The bytes themselves, into a stream.
pub(crate) struct Bytes<'f, O> {
    feed: &'f mut O,
    /// Files that another layer has too, and that must be what they were there.
    shared: Option<&'f Shared>,
}

impl<'f, O: Outlet> Bytes<'f, O> {
    pub(crate) fn new(feed: &'f mut O) -> Bytes<'f, O> {
        Bytes { feed, shared: None }
    }

    pub(crate) fn sharing(feed: &'f mut O, shared: &'f Shared) -> Bytes<'f, O> {
        Bytes { feed, shared: Some(shared).filter(|shared| !shared.is_empty()) }
    }

    fn expected(&self, place: &Place<'_>) -> Option<&'f [u8; 32]> {
        self.shared?.get(&place.metadata.ino)
    }

    /// Nothing of a base comes into a new layer that is not known to belong there.
    fn is_stray(&self, place: &Place<'_>) -> bool {
        place.of_base && self.shared.is_some_and(|shared| !shared.contains_key(&place.metadata.ino))
    }
}

impl<O: Outlet> Sink for Bytes<'_, O> {
    fn literal(&mut self, bytes: &[u8]) -> Result<()> {
        self.feed.write(bytes)
    }

    fn open(&mut self, place: &Place<'_>) -> Result<(Option<File>, Xattrs)> {
        let file = place.open_file()?;
        let attributes = xattrs(&file).map_err(Error::errno("read", place.path))?;
        if (!attributes.is_empty() && self.expected(place).is_some()) || self.is_stray(place) {
            return Err(Error::NotAsShared(place.path.to_owned()));
        }
        Ok((Some(file), attributes))
    }

    fn content(&mut self, file: Option<File>, place: &Place<'_>) -> Result<blake3::Hash> {
        let mut file = file.map_or_else(|| place.open_file(), Ok)?;
        let mut hasher = blake3::Hasher::new();
        pump_file(&mut file, place.metadata.size, self.feed, |bytes| {
            hasher.update(bytes);
        })
        .map_err(|error| read_error(error, place.path))?;
        let hash = hasher.finalize();
        match self.expected(place) {
            Some(expected) if expected != hash.as_bytes() => Err(Error::NotAsShared(place.path.to_owned())),
            _ => Ok(hash),
        }
    }
}

/// Why a file of the tree could not be read to its end.
pub(crate) fn read_error(error: io::Error, path: &Path) -> Error {
    match error.downcast::<Error>() {
        Ok(own) => own,
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            Error::Tree { path: path.to_owned(), reason: "is shorter than it was".to_owned() }
        }
        Err(error) => Error::path("read", path)(error),
    }
}

/// Only what tells the tar from another one: no file is read.
pub(crate) struct Outlined<'c> {
    pub(crate) outline: Outline,
    pub(crate) contents: &'c Contents,
}

impl Sink for Outlined<'_> {
    fn literal(&mut self, bytes: &[u8]) -> Result<()> {
        self.outline.literal(bytes);
        Ok(())
    }

    fn open(&mut self, place: &Place<'_>) -> Result<(Option<File>, Xattrs)> {
        if !self.contents.get(&place.metadata.ino).is_some_and(|known| known.xattrs) {
            return Ok((None, Vec::new()));
        }
        let file = place.open_file()?;
        let attributes = xattrs(&file).map_err(Error::errno("read", place.path))?;
        Ok((Some(file), attributes))
    }

    fn content(&mut self, _file: Option<File>, place: &Place<'_>) -> Result<blake3::Hash> {
        let known = self.contents.get(&place.metadata.ino).ok_or_else(|| Error::Tree {
            path: place.path.to_owned(),
            reason: "is no file that was unpacked".to_owned(),
        })?;
        self.outline.content(place.metadata.size, &known.hash);
        Ok(known.hash)
    }
}

/// Walks the tree below `directory`. Times later than `clamp_mtime` (Unix seconds) become it, on the disk too.
pub(crate) fn walk(directory: &Path, clamp_mtime: Option<i64>, sink: &mut impl Sink) -> Result<Measured> {
    walk_over(directory, None, clamp_mtime, sink)
}

/// The same of a tree that, over `base`, is the whole one.
pub(crate) fn walk_over(
    directory: &Path,
    base: Option<&Path>,
    clamp_mtime: Option<i64>,
    sink: &mut impl Sink,
) -> Result<Measured> {
    let open = |path: &Path| {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open(path, flags, Mode::empty()).map_err(Error::errno("open", path))
    };
    let (root, base) = (open(directory)?, base.map(open).transpose()?);
    let mut packer = Packer {
        sink,
        tree: TreeHasher::new(),
        size: 0,
        links: HashMap::new(),
        head: Vec::new(),
        clamp_ns: clamp_mtime.map(|seconds| seconds.saturating_mul(1_000_000_000)),
        nothing: blake3::hash(b""),
    };
    if is_opaque(&root) {
        packer.marker(Path::new(".wh..wh..opq"))?;
    }
    packer.directory(
        &Open { fd: root.as_fd(), base: base.as_ref().map(OwnedFd::as_fd), of_base: false },
        Path::new(""),
    )?;
    let mut own = metadata_of(&root).map_err(Error::errno("read", directory))?;
    packer.clamp(root.as_fd(), OsStr::new("."), directory, &mut own)?;
    packer.sink.literal(&[0; 1024])?;
    Ok(Measured { tree: packer.tree.finish(), size: packer.size })
}

/// An open directory, and the one of the base at the same path, if there is one.
struct Open<'a> {
    fd: BorrowedFd<'a>,
    base: Option<BorrowedFd<'a>>,
    of_base: bool,
}

struct Packer<'s, S> {
    sink: &'s mut S,
    tree: TreeHasher,
    size: u64,
    /// First name of each file that has several.
    links: HashMap<(u64, u64), PathBuf>,
    head: Vec<u8>,
    clamp_ns: Option<i64>,
    /// Hash of no content.
    nothing: blake3::Hash,
}

impl<S: Sink> Packer<'_, S> {
    fn directory(&mut self, open: &Open<'_>, path: &Path) -> Result<()> {
        let names = Names::of(open.fd).map_err(Error::errno("read", path))?;
        let Some(base) = open.base else {
            return names.iter().try_for_each(|name| self.named(open.fd, None, open.of_base, &path.join(name)));
        };
        let below = Names::of(base).map_err(Error::errno("read", path))?;
        let (mut own, mut below) = (names.iter().peekable(), below.iter().peekable());
        loop {
            let next = match (own.peek(), below.peek()) {
                (None, None) => return Ok(()),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(own), Some(below)) => own.cmp(below),
            };
            let of_base = if next.is_ge() { below.next() } else { None };
            let of_delta = if next.is_le() { own.next() } else { None };
            match (of_delta, of_base) {
                (Some(name), of_base) => self.named(open.fd, of_base.map(|_| base), false, &path.join(name))?,
                (None, Some(name)) => self.named(base, None, true, &path.join(name))?,
                (None, None) => {}
            }
        }
    }

    /// What a directory has under the last name of `path`; `base` has something of that name too.
    fn named(
        &mut self,
        parent: BorrowedFd<'_>,
        base: Option<BorrowedFd<'_>>,
        of_base: bool,
        path: &Path,
    ) -> Result<()> {
        let name = path.file_name().unwrap_or_default();
        match look(parent, name).map_err(Error::errno("read", path))? {
            Some(mut metadata) => {
                self.clamp(parent, name, path, &mut metadata)?;
                self.entry(&Place { parent, name, path, metadata: &metadata, of_base }, base)
            }
            None => Ok(()),
        }
    }

    fn clamp(&self, parent: BorrowedFd<'_>, name: &OsStr, path: &Path, metadata: &mut Metadata) -> Result<()> {
        match self.clamp_ns.filter(|clamp_ns| metadata.mtime_ns > *clamp_ns) {
            Some(clamp_ns) => {
                metadata.mtime_ns = clamp_ns;
                set_time(parent, name, clamp_ns).map_err(Error::errno("set the time of", path))
            }
            None => Ok(()),
        }
    }

    fn entry(&mut self, place: &Place<'_>, base: Option<BorrowedFd<'_>>) -> Result<()> {
        let nothing = self.nothing;
        let (path, metadata) = (place.path, place.metadata);
        match metadata.kind {
            Kind::Socket => Ok(()),
            Kind::CharDevice if metadata.rdev == 0 => {
                let mut hidden = b".wh.".to_vec();
                hidden.extend_from_slice(place.name.as_bytes());
                self.marker(&path.with_file_name(OsStr::from_bytes(&hidden)))
            }
            Kind::Directory => {
                let fd = place.open(OFlags::RDONLY | OFlags::DIRECTORY)?;
                let attributes = xattrs(&fd).map_err(Error::errno("read", path))?;
                let head = Head { xattrs: &attributes, ..head(path, EntryType::Directory, metadata) };
                self.header(&head, &nothing)?;
                if is_opaque(&fd) {
                    self.marker(&path.join(".wh..wh..opq"))?;
                }
                let base = base
                    .and_then(|base| Place { parent: base, ..*place }.open(OFlags::RDONLY | OFlags::DIRECTORY).ok());
                let base = base.as_ref().map(OwnedFd::as_fd);
                self.directory(&Open { fd: fd.as_fd(), base, of_base: place.of_base }, path)
            }
            Kind::Symlink => {
                let link = rustix::fs::readlinkat(place.parent, place.name, Vec::new());
                let link = link.map_err(Error::errno("read", path))?;
                self.header(&Head { link: link.as_bytes(), ..head(path, EntryType::Symlink, metadata) }, &nothing)
            }
            Kind::File => self.file(place),
            Kind::CharDevice => self.header(&head(path, EntryType::Char, metadata), &nothing),
            Kind::BlockDevice => self.header(&head(path, EntryType::Block, metadata), &nothing),
            Kind::Fifo => self.header(&head(path, EntryType::Fifo, metadata), &nothing),
        }
    }

    fn file(&mut self, place: &Place<'_>) -> Result<()> {
        let nothing = self.nothing;
        let (path, metadata) = (place.path, place.metadata);
        if metadata.nlink > 1 {
            let key = (metadata.dev, metadata.ino);
            if let Some(first) = self.links.get(&key).cloned() {
                let link = first.as_os_str().as_bytes();
                return self.header(&Head { link, ..head(path, EntryType::Link, metadata) }, &nothing);
            }
            self.links.insert(key, path.to_owned());
        }
        let (file, attributes) = self.sink.open(place)?;
        let size = metadata.size;
        let head = Head { size, xattrs: &attributes, ..head(path, EntryType::Regular, metadata) };
        self.encode(&head)?;
        let hash = if size > 0 { self.sink.content(file, place)? } else { nothing };
        self.size += size;
        self.hash(&head, &hash);
        self.head.clear();
        pad(&mut self.head, size);
        self.sink.literal(&self.head)
    }

    fn header(&mut self, head: &Head<'_>, content: &blake3::Hash) -> Result<()> {
        self.hash(head, content);
        self.encode(head)
    }

    fn encode(&mut self, head: &Head<'_>) -> Result<()> {
        self.head.clear();
        encode(head, &mut self.head)?;
        self.sink.literal(&self.head)
    }

    fn hash(&mut self, head: &Head<'_>, content: &blake3::Hash) {
        let facts = Facts {
            letter: head.entry_type.as_byte(),
            metadata: head.metadata,
            link: head.link,
            xattrs: head.xattrs,
            size: head.size,
        };
        self.tree.entry(head.path, &facts, content);
    }

    /// An empty file that stands for something hidden.
    fn marker(&mut self, path: &Path) -> Result<()> {
        let metadata = Metadata {
            kind: Kind::File,
            mode: 0,
            uid: 0,
            gid: 0,
            size: 0,
            mtime_ns: 0,
            ctime_ns: 0,
            dev: 0,
            ino: 0,
            nlink: 1,
            rdev: 0,
            disk_bytes: 0,
        };
        let nothing = self.nothing;
        self.header(&head(path, EntryType::Regular, &metadata), &nothing)
    }
}

fn head<'a>(path: &'a Path, entry_type: EntryType, metadata: &'a Metadata) -> Head<'a> {
    Head { path: path.as_os_str().as_bytes(), entry_type, metadata, link: b"", size: 0, xattrs: &[] }
}

fn is_opaque(fd: &OwnedFd) -> bool {
    let mut value = [0_u8; 4];
    rustix::fs::fgetxattr(fd, OPAQUE, &mut value).is_ok_and(|length| value.get(..length) == Some(b"y"))
}
