//! The packer: a layer's tree as a canonical tar, its tree hash taken in the same pass.
//!
//! The same tree gives the same bytes on any machine: entries by path bytes, parents first; times in whole seconds; no
//! names of users; PAX records only where ustar has no room. Overlay's whiteouts become `.wh.` files, opaque directories
//! get a `.wh..wh..opq`. The root itself is no entry.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use tar::{EntryType, Header};

use super::read::OPAQUE;
use crate::digest::TreeHash;
use crate::error::{Error, Result};
use crate::tree::{Kind, Metadata, read_directory, xattrs};

/// Largest number that ustar's eight octal digits hold, with room for the terminator.
const USTAR_ID: u32 = 0o7_777_777;
/// Largest size that ustar's twelve octal digits hold.
const USTAR_SIZE: u64 = 0o77_777_777_777;
/// Longest name without a PAX record.
const USTAR_NAME: usize = 100;
/// Bytes read at once.
const BUFFER: usize = 1 << 20;

/// What a pass over a tree found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Packed {
    pub(crate) tree: TreeHash,
    /// Bytes of file content.
    pub(crate) size: u64,
}

/// Writes the tree below `directory` as a layer tar.
pub(crate) fn pack(directory: &Path, out: &mut dyn Write) -> Result<Packed> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(directory, flags, Mode::empty()).map_err(Error::errno("open", directory))?;
    let mut packer =
        Packer { out, tree: blake3::Hasher::new(), size: 0, links: HashMap::new(), buffer: vec![0; BUFFER] };
    if is_opaque(&root) {
        packer.marker(Path::new(".wh..wh..opq"))?;
    }
    packer.directory(root, Path::new(""))?;
    packer.write(&[0; 1024])?;
    Ok(Packed { tree: TreeHash::from_bytes(*packer.tree.finalize().as_bytes()), size: packer.size })
}

struct Packer<'o> {
    out: &'o mut dyn Write,
    tree: blake3::Hasher,
    size: u64,
    /// First name of each file that has several.
    links: HashMap<(u64, u64), PathBuf>,
    buffer: Vec<u8>,
}

impl Packer<'_> {
    fn directory(&mut self, fd: OwnedFd, path: &Path) -> Result<()> {
        let copy = fd.try_clone().map_err(Error::path("open", path))?;
        let entries = read_directory(copy).map_err(Error::errno("read", path))?;
        for (name, metadata) in entries {
            self.entry(&fd, &name, &path.join(&name), &metadata)?;
        }
        Ok(())
    }

    fn entry(&mut self, parent: &OwnedFd, name: &OsStr, path: &Path, metadata: &Metadata) -> Result<()> {
        match metadata.kind {
            Kind::Socket => Ok(()),
            Kind::CharDevice if metadata.rdev == 0 => {
                let mut hidden = b".wh.".to_vec();
                hidden.extend_from_slice(name.as_bytes());
                self.marker(&path.with_file_name(OsStr::from_bytes(&hidden)))
            }
            Kind::Directory => {
                let fd = open_at(parent, name, OFlags::RDONLY | OFlags::DIRECTORY, path)?;
                let attributes = xattrs(&fd).map_err(Error::errno("read", path))?;
                self.header(path, EntryType::Directory, metadata, b"", 0, &attributes)?;
                if is_opaque(&fd) {
                    self.marker(&path.join(".wh..wh..opq"))?;
                }
                self.directory(fd, path)
            }
            Kind::Symlink => {
                let link = rustix::fs::readlinkat(parent, name, Vec::new()).map_err(Error::errno("read", path))?;
                self.header(path, EntryType::Symlink, metadata, link.as_bytes(), 0, &[])
            }
            Kind::File => self.file(parent, name, path, metadata),
            Kind::CharDevice => self.header(path, EntryType::Char, metadata, b"", 0, &[]),
            Kind::BlockDevice => self.header(path, EntryType::Block, metadata, b"", 0, &[]),
            Kind::Fifo => self.header(path, EntryType::Fifo, metadata, b"", 0, &[]),
        }
    }

    fn file(&mut self, parent: &OwnedFd, name: &OsStr, path: &Path, metadata: &Metadata) -> Result<()> {
        if metadata.nlink > 1 {
            let key = (metadata.dev, metadata.ino);
            if let Some(first) = self.links.get(&key).cloned() {
                return self.header(path, EntryType::Link, metadata, first.as_os_str().as_bytes(), 0, &[]);
            }
            self.links.insert(key, path.to_owned());
        }
        let mut file = File::from(open_at(parent, name, OFlags::RDONLY | OFlags::NONBLOCK, path)?);
        let attributes = xattrs(&file).map_err(Error::errno("read", path))?;
        self.header(path, EntryType::Regular, metadata, b"", metadata.size, &attributes)?;
        self.content(&mut file, path, metadata.size)
    }

    fn content(&mut self, file: &mut File, path: &Path, size: u64) -> Result<()> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut left = size;
        while left > 0 {
            let wanted = usize::try_from(left).unwrap_or(BUFFER).min(buffer.len());
            let slice = buffer.get_mut(..wanted).unwrap_or_default();
            let got = match file.read(slice) {
                Ok(got) => got,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Error::path("read", path)(error)),
            };
            if got == 0 {
                return Err(Error::Tree {
                    path: path.to_owned(),
                    reason: "became shorter while it was read".to_owned(),
                });
            }
            let bytes = slice.get(..got).unwrap_or_default();
            self.tree.update(bytes);
            self.write(bytes)?;
            left -= got as u64;
        }
        self.buffer = buffer;
        self.size += size;
        self.pad(size)
    }

    fn header(
        &mut self,
        path: &Path,
        entry_type: EntryType,
        metadata: &Metadata,
        link: &[u8],
        size: u64,
        attributes: &[(std::ffi::OsString, Vec<u8>)],
    ) -> Result<()> {
        self.hash_header(path, entry_type, metadata, link, size, attributes);
        let mut name = path.as_os_str().as_bytes().to_vec();
        if entry_type == EntryType::Directory {
            name.push(b'/');
        }
        let mut records = Vec::new();
        let seconds = metadata.mtime_ns.div_euclid(1_000_000_000);
        let fit = |condition: bool, key: &str, value: &[u8], records: &mut Vec<u8>| {
            if !condition {
                pax_record(records, key.as_bytes(), value);
            }
        };
        fit(name.len() <= USTAR_NAME, "path", &name, &mut records);
        fit(link.len() <= USTAR_NAME, "linkpath", link, &mut records);
        fit(size <= USTAR_SIZE, "size", size.to_string().as_bytes(), &mut records);
        fit(metadata.uid <= USTAR_ID, "uid", metadata.uid.to_string().as_bytes(), &mut records);
        fit(metadata.gid <= USTAR_ID, "gid", metadata.gid.to_string().as_bytes(), &mut records);
        fit(seconds >= 0, "mtime", seconds.to_string().as_bytes(), &mut records);
        for (key, value) in attributes {
            let mut record = b"SCHILY.xattr.".to_vec();
            record.extend_from_slice(key.as_bytes());
            pax_record(&mut records, &record, value);
        }
        if !records.is_empty() {
            let mut header = plain_header(b"pax", EntryType::XHeader, records.len() as u64)?;
            header.set_mode(0o644);
            header.set_cksum();
            self.write(header.as_bytes())?;
            self.write(&records)?;
            self.pad(records.len() as u64)?;
        }
        let mut header = plain_header(&name, entry_type, if size <= USTAR_SIZE { size } else { 0 })?;
        set_link(&mut header, link);
        header.set_mode(metadata.mode);
        header.set_uid(u64::from(metadata.uid.min(USTAR_ID)));
        header.set_gid(u64::from(metadata.gid.min(USTAR_ID)));
        header.set_mtime(u64::try_from(seconds).unwrap_or(0));
        if matches!(entry_type, EntryType::Char | EntryType::Block) {
            let set = header
                .set_device_major(rustix::fs::major(metadata.rdev))
                .and_then(|()| header.set_device_minor(rustix::fs::minor(metadata.rdev)));
            set.map_err(Error::path("pack", path))?;
        }
        header.set_cksum();
        self.write(header.as_bytes())
    }

    /// Everything of the entry but its times. The content follows in the same hash: its length is part of this.
    fn hash_header(
        &mut self,
        path: &Path,
        entry_type: EntryType,
        metadata: &Metadata,
        link: &[u8],
        size: u64,
        attributes: &[(std::ffi::OsString, Vec<u8>)],
    ) {
        let mut feed = |bytes: &[u8]| {
            self.tree.update(&(bytes.len() as u64).to_le_bytes());
            self.tree.update(bytes);
        };
        feed(path.as_os_str().as_bytes());
        feed(&[entry_type.as_byte()]);
        for number in [metadata.mode, metadata.uid, metadata.gid] {
            feed(&number.to_le_bytes());
        }
        let rdev = if matches!(metadata.kind, Kind::CharDevice | Kind::BlockDevice) { metadata.rdev } else { 0 };
        feed(&rdev.to_le_bytes());
        feed(link);
        feed(&(attributes.len() as u64).to_le_bytes());
        for (key, value) in attributes {
            feed(key.as_bytes());
            feed(value);
        }
        feed(&size.to_le_bytes());
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
        self.header(path, EntryType::Regular, &metadata, b"", 0, &[])
    }

    fn pad(&mut self, size: u64) -> Result<()> {
        let padding = usize::try_from(size.next_multiple_of(512) - size).unwrap_or(0);
        self.write([0_u8; 512].get(..padding).unwrap_or_default())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).map_err(Error::path("write", "the layer"))
    }
}

/// A header with numeric fields at zero and a name cut to what fits; PAX carries the rest.
fn plain_header(name: &[u8], entry_type: EntryType, size: u64) -> Result<Header> {
    let mut header = Header::new_ustar();
    let fields = header.as_ustar_mut().ok_or_else(|| Error::document("a header", "it is not ustar"))?;
    for (slot, byte) in fields.name.iter_mut().zip(name) {
        *slot = *byte;
    }
    header.set_entry_type(entry_type);
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    Ok(header)
}

fn set_link(header: &mut Header, link: &[u8]) {
    if let Some(fields) = header.as_ustar_mut() {
        for (slot, byte) in fields.linkname.iter_mut().zip(link) {
            *slot = *byte;
        }
    }
}

/// The length counts itself, so it may grow by a digit when it is added.
fn pax_record(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + rest.to_string().len();
    if rest + length.to_string().len() != length {
        length = rest + length.to_string().len();
    }
    records.extend_from_slice(length.to_string().as_bytes());
    records.push(b' ');
    records.extend_from_slice(key);
    records.push(b'=');
    records.extend_from_slice(value);
    records.push(b'\n');
}

fn open_at(parent: &OwnedFd, name: &OsStr, flags: OFlags, path: &Path) -> Result<OwnedFd> {
    rustix::fs::openat(parent, name, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NOCTTY, Mode::empty())
        .map_err(Error::errno("open", path))
}

fn is_opaque(fd: &OwnedFd) -> bool {
    let mut value = [0_u8; 4];
    rustix::fs::fgetxattr(fd, OPAQUE, &mut value).is_ok_and(|length| value.get(..length) == Some(b"y"))
}
