//! The extractor: a tar stream into a private directory, by descriptor. Layers and ADD archives go through here alone.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::BufRead;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::rc::Rc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::directories::{Directories, Directory, joined};
use super::fill::{fill, fill_parts};
use super::flush::Flusher;
use super::header::{Entries, Entry, EntryKind};
use super::limits::Limits;
use super::split::Record;
use super::write::{Contents, Known};
use crate::error::{Error, Result};
use crate::tree::{Attributes, Follow, Kind, Metadata, Owner, TreeRoot, give_new, relative};

/// Overlay's mark of a directory that hides all below it.
pub(crate) const OPAQUE: &str = "trusted.overlay.opaque";

/// What `.wh.` names mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whiteouts {
    /// In a layer: they hide what is below (OCI image-spec, layer.md). The root is new and only this extractor's.
    Overlay,
    /// In an archive of ADD: plain names, unpacked over what is there.
    Literal,
}

/// How an archive is unpacked.
#[derive(Debug, Clone)]
pub(crate) struct ExtractOptions<'l> {
    pub(crate) whiteouts: Whiteouts,
    /// All entries get this owner.
    pub(crate) owner: Option<Owner>,
    pub(crate) limits: &'l Limits,
    /// Who brings large files to the disk meanwhile.
    pub(crate) flusher: Option<&'l Flusher>,
}

/// What an extractor leaves.
#[derive(Debug)]
pub(crate) struct Extracted<S> {
    pub(crate) record: S,
    pub(crate) contents: Contents,
}

/// Unpacks a stream of plain tar, to its very end, into `root`. What a later entry displaces goes to `displaced`, when the
/// record needs it still.
pub(crate) fn extract<S: Record>(
    reader: impl BufRead,
    record: S,
    root: &TreeRoot,
    displaced: Option<&TreeRoot>,
    options: &ExtractOptions<'_>,
) -> Result<Extracted<S>> {
    let mut extractor = Extractor {
        root,
        displaced,
        options,
        directories: Directories::new(root, root.given(options.owner.unwrap_or_default())),
        contents: HashMap::new(),
        given: None,
        bytes: 0,
        moved: 0,
    };
    let mut entries = Entries::new(reader, record, options.limits);
    while let Some(entry) = entries.next()? {
        extractor.entry(entry, &mut entries)?;
    }
    let record = entries.finish()?;
    extractor.directories.finish()?;
    Ok(Extracted { record, contents: extractor.contents })
}

/// What a new file has without being given it.
#[derive(Debug, Clone, Copy)]
struct Given {
    owner: Owner,
    /// Permission bits that creation leaves.
    mask: u32,
}

struct Extractor<'a> {
    root: &'a TreeRoot,
    displaced: Option<&'a TreeRoot>,
    options: &'a ExtractOptions<'a>,
    directories: Directories<'a>,
    contents: Contents,
    given: Option<Given>,
    bytes: u64,
    moved: u64,
}

/// Where an entry goes.
struct Target<'e> {
    parent: Rc<Directory>,
    name: &'e OsStr,
}

impl Extractor<'_> {
    fn entry<S: Record>(&mut self, entry: Entry, entries: &mut Entries<'_, impl BufRead, S>) -> Result<()> {
        if self.is_layer()
            && let Some(name) = entry.path.file_name()
            && let Some(hidden) = name.as_bytes().strip_prefix(b".wh.")
        {
            return self.whiteout(&entry.path, hidden);
        }
        let attributes = Attributes {
            mode: entry.mode,
            owner: self.options.owner.unwrap_or(Owner { uid: entry.uid, gid: entry.gid }),
            mtime_ns: entry.mtime_ns,
            xattrs: entry.xattrs.clone(),
        };
        let attributes = self.root.given_all(&attributes);
        let Some(name) = entry.path.file_name() else {
            return match entry.kind {
                EntryKind::Directory if self.is_layer() => {
                    self.directories.give(entry.path.clone(), &attributes);
                    Ok(())
                }
                EntryKind::Directory => Ok(()),
                _ => Err(Error::archive("/", "the root of the archive is no directory")),
            };
        };
        let parent = self.directories.at(entry.path.parent().unwrap_or(Path::new("")))?;
        let target = Target { parent, name };
        match entry.kind {
            EntryKind::Directory => self.directory(&entry, &target, &attributes, entries.record()),
            EntryKind::File => self.file(&entry, &target, &attributes, entries),
            EntryKind::HardLink => self.hard_link(&entry, &target, entries.record()),
            EntryKind::Symlink | EntryKind::CharDevice | EntryKind::BlockDevice | EntryKind::Fifo => {
                self.special(&entry, &target, &attributes, entries.record())
            }
        }
    }

    fn is_layer(&self) -> bool {
        self.options.whiteouts == Whiteouts::Overlay
    }

    fn directory(
        &mut self,
        entry: &Entry,
        target: &Target<'_>,
        attributes: &Attributes,
        record: &mut impl Record,
    ) -> Result<()> {
        let path = joined(&target.parent.path, target.name)?;
        let make = || rustix::fs::mkdirat(&target.parent.fd, target.name, Mode::RWXU);
        match make() {
            Ok(()) => {}
            Err(Errno::EXIST) => {
                let there = target.parent.look(target.name)?;
                let kind = there.as_ref().map(|there| there.kind);
                // An archive of ADD may name a directory that the image has as a link.
                let behind = match kind {
                    Some(Kind::Symlink) if !self.is_layer() => self.root.metadata(&path, Follow::Yes)?,
                    _ => None,
                };
                if behind.is_some_and(|behind| behind.kind == Kind::Directory) {
                    let behind = self.directories.at(&entry.path)?;
                    self.directories.give(behind.path.clone(), attributes);
                    return Ok(());
                }
                if kind != Some(Kind::Directory) {
                    self.clear(target, record)?;
                    make().map_err(target.parent.failed("make the directory", target.name))?;
                }
                if self.is_layer() && there.is_some_and(|there| is_whiteout(&there)) {
                    self.directories.make_opaque(path.clone());
                }
            }
            Err(errno) => return Err(target.parent.failed("make the directory", target.name)(errno)),
        }
        self.directories.give(path, attributes);
        Ok(())
    }

    fn file<S: Record>(
        &mut self,
        entry: &Entry,
        target: &Target<'_>,
        attributes: &Attributes,
        entries: &mut Entries<'_, impl BufRead, S>,
    ) -> Result<()> {
        self.bytes = self.bytes.saturating_add(entry.size);
        if self.bytes > self.options.limits.unpacked_bytes {
            return Err(self.options.limits.too_large());
        }
        let path = joined(&target.parent.path, target.name)?;
        // The first file of a layer shows what creation gives. In an image's directory nothing is taken for granted.
        let probe = self.is_layer() && self.given.is_none();
        let asked = if probe { 0o777 } else { attributes.mode & 0o777 };
        let mut file = self.create(target, if self.is_layer() { asked } else { 0o600 }, entries.record())?;
        let failed = || Error::errno("write", &path);
        if probe {
            let stat = rustix::fs::fstat(&file).map_err(failed())?;
            let owner = Owner { uid: stat.st_uid, gid: stat.st_gid };
            self.given = Some(Given { owner, mask: stat.st_mode & 0o777 });
        }
        let hash = match &entry.sparse {
            Some(map) => fill_parts(&mut file, &map.parts, entry.size, entries),
            None => fill(&mut file, entry.size, entries, self.options.flusher),
        };
        let hash = hash.map_err(|error| error.at(&path))?;
        let given = self.given.map(|given| (given.owner, asked & given.mask));
        give_new(&file, attributes, given, &path)?;
        if S::KEEPS {
            let stat = rustix::fs::fstat(&file).map_err(failed())?;
            let known = Known { hash, xattrs: !attributes.xattrs.is_empty() };
            self.contents.insert(stat.st_ino, known);
            match &entry.sparse {
                Some(map) => entries.record().parts(&path, &map.parts)?,
                None if entry.size > 0 => entries.record().content(&path, entry.size, &hash)?,
                None => {}
            }
        }
        Ok(())
    }

    fn create(&mut self, target: &Target<'_>, mode: u32, record: &mut impl Record) -> Result<File> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = || rustix::fs::openat(&target.parent.fd, target.name, flags, Mode::from_raw_mode(mode));
        let made = match open() {
            Err(Errno::EXIST) => {
                self.clear(target, record)?;
                open()
            }
            other => other,
        };
        made.map(File::from).map_err(target.parent.failed("write", target.name))
    }

    fn hard_link(&mut self, entry: &Entry, target: &Target<'_>, record: &mut impl Record) -> Result<()> {
        let path = entry.path.as_os_str().as_bytes();
        let existing = relative(&entry.link).filter(|existing| existing.file_name().is_some());
        let Some(existing) = existing else {
            return Err(Error::archive(path, "its hard link leaves the layer"));
        };
        if existing == entry.path {
            return Ok(());
        }
        let nothing = || Error::archive(path, "its hard link names nothing that the archive holds");
        let from_path = existing.parent().unwrap_or(Path::new(""));
        // Nothing is made for the sake of what must be there already.
        if self.root.metadata(from_path, Follow::Yes)?.is_none() {
            return Err(nothing());
        }
        let from = self.directories.at(from_path)?;
        let name = existing.file_name().unwrap_or_default();
        match from.look(name)? {
            Some(there) if there.kind != Kind::Directory && !is_whiteout(&there) => {}
            _ => return Err(nothing()),
        }
        let make = || rustix::fs::linkat(&from.fd, name, &target.parent.fd, target.name, AtFlags::empty());
        self.make(target, record, make)
    }

    fn special(
        &mut self,
        entry: &Entry,
        target: &Target<'_>,
        attributes: &Attributes,
        record: &mut impl Record,
    ) -> Result<()> {
        let (parent, name) = (Rc::clone(&target.parent), target.name);
        let file_type = match entry.kind {
            EntryKind::CharDevice => FileType::CharacterDevice,
            EntryKind::BlockDevice => FileType::BlockDevice,
            EntryKind::Fifo => FileType::Fifo,
            _ => FileType::Symlink,
        };
        let path = entry.path.as_os_str().as_bytes();
        let is_device = matches!(entry.kind, EntryKind::CharDevice | EntryKind::BlockDevice);
        if is_device && !self.is_layer() {
            return Err(Error::archive(path, "devices are not made of an archive"));
        }
        if entry.kind == EntryKind::CharDevice && entry.device == (0, 0) {
            return Err(Error::archive(path, "a device 0:0 is overlay's own mark and no entry"));
        }
        if file_type == FileType::Symlink {
            let link = OsStr::from_bytes(&entry.link);
            self.make(target, record, || rustix::fs::symlinkat(link, &parent.fd, name))?;
        } else {
            let device = rustix::fs::makedev(entry.device.0, entry.device.1);
            let mode = Mode::RUSR | Mode::WUSR;
            let made = self.make(target, record, || rustix::fs::mknodat(&parent.fd, name, file_type, mode, device));
            made.map_err(|error| if is_device { error.of_device(&entry.path) } else { error })?;
        }
        crate::tree::own(&parent.fd, name, attributes.owner).map_err(parent.failed("own", name))?;
        if file_type != FileType::Symlink {
            rustix::fs::chmodat(&parent.fd, name, Mode::from_raw_mode(attributes.mode), AtFlags::empty())
                .map_err(parent.failed("set the mode of", name))?;
        }
        crate::tree::set_time(&parent.fd, name, attributes.mtime_ns).map_err(parent.failed("set the time of", name))
    }

    fn make(
        &mut self,
        target: &Target<'_>,
        record: &mut impl Record,
        make: impl Fn() -> rustix::io::Result<()>,
    ) -> Result<()> {
        let made = match make() {
            Err(Errno::EXIST) => {
                self.clear(target, record)?;
                make()
            }
            other => other,
        };
        match made {
            Err(Errno::INVAL | Errno::NOENT | Errno::NAMETOOLONG) => {
                Err(Error::archive(target.name.as_bytes(), "the kernel makes no such entry"))
            }
            other => other.map_err(target.parent.failed("make", target.name)),
        }
    }

    /// The last entry of a name rules: what an earlier one made goes, whatever it was.
    fn clear<S: Record>(&mut self, target: &Target<'_>, record: &mut S) -> Result<()> {
        let (parent, name) = (&target.parent, target.name);
        let Some(there) = parent.look(name)? else { return Ok(()) };
        let path = joined(&parent.path, name)?;
        if there.kind == Kind::Directory && !self.is_layer() {
            return Err(Error::archive(path.as_os_str().as_bytes(), "a directory of the image is in its place"));
        }
        if matches!(there.kind, Kind::Directory | Kind::Symlink) {
            self.directories.forget(&path);
        }
        let has_content = there.kind == Kind::Directory || (there.kind == Kind::File && there.size > 0);
        match self.displaced.filter(|_| S::KEEPS && has_content) {
            Some(displaced) => {
                displaced.take(&parent.fd, name, &self.moved.to_string())?;
                record.moved(&path, self.moved)?;
                self.moved += 1;
                Ok(())
            }
            None => self.root.remove_all(&path),
        }
    }

    fn whiteout(&mut self, path: &Path, hidden: &[u8]) -> Result<()> {
        let parent = path.parent().unwrap_or(Path::new(""));
        match hidden {
            b"" | b"." | b".." => Err(Error::archive(path.as_os_str().as_bytes(), "a whiteout must name an entry")),
            b".wh..opq" => {
                let directory = self.directories.at(parent)?;
                self.directories.make_opaque(directory.path.clone());
                Ok(())
            }
            // Bookkeeping of AUFS, which some old layers still carry.
            other if other.starts_with(b".wh.") => Ok(()),
            name => {
                let (directory, name) = (self.directories.at(parent)?, OsStr::from_bytes(name));
                match directory.look(name)? {
                    // A whiteout hides lower layers, not what this one brings, in whatever order they come.
                    Some(there) if there.kind == Kind::Directory => {
                        self.directories.make_opaque(joined(&directory.path, name)?);
                        Ok(())
                    }
                    Some(_) => Ok(()),
                    None => {
                        let file_type = FileType::CharacterDevice;
                        rustix::fs::mknodat(&directory.fd, name, file_type, Mode::empty(), 0)
                            .map_err(directory.failed("make", name))?;
                        crate::tree::set_time(&directory.fd, name, 0).map_err(directory.failed("set the time of", name))
                    }
                }
            }
        }
    }
}

fn is_whiteout(there: &Metadata) -> bool {
    there.kind == Kind::CharDevice && there.rdev == 0
}
