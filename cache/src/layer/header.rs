//! Reading the headers of a tar stream, strictly: ustar, PAX, GNU long names and sparse files; anything malformed is an error.
//!
//! Field parsing is the `tar` crate's; what follows what, and how large it may be, is decided here, so that a size in
//! one header can never smuggle entries past another.

use std::ffi::OsString;
use std::io::{self, BufRead};
use std::path::PathBuf;

use tar::{EntryType, Header};

use super::compress::archive_error;
use super::limits::Limits;
use super::pax::{Extensions, Scope, long_name};
use super::sparse::{MapText, SparseMap, gnu_number, gnu_parts};
use super::split::Record;
use crate::error::{Error, Result};
use crate::tree::relative;

/// Size of a block (POSIX ustar).
pub(crate) const BLOCK: u64 = 512;

type Block = [u8; BLOCK as usize];

/// What an entry makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EntryKind {
    File,
    Directory,
    Symlink,
    HardLink,
    CharDevice,
    BlockDevice,
    Fifo,
}

/// One entry, its extension headers applied.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) kind: EntryKind,
    /// Relative and clean; empty for the root itself.
    pub(crate) path: PathBuf,
    /// Target of a link as written.
    pub(crate) link: Vec<u8>,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime_ns: i64,
    /// Bytes of the file, its holes included.
    pub(crate) size: u64,
    /// Where the bytes of the archive belong, when it leaves holes out.
    pub(crate) sparse: Option<SparseMap>,
    pub(crate) device: (u32, u32),
    pub(crate) xattrs: Vec<(OsString, Vec<u8>)>,
}

/// Yields entries; the caller takes each entry's content by [`Entries::chunk`] before the next. All bytes that are not taken
/// so go to the record: headers, padding, what nobody asked for, and what follows the end.
pub(crate) struct Entries<'l, R, S> {
    reader: R,
    record: S,
    limits: &'l Limits,
    /// Bytes of the current entry, and of its padding, that are still to be passed over.
    left: u64,
    padding: u64,
    count: u64,
    /// Extension headers since the last entry.
    extensions: u64,
    global: Extensions,
}

impl<'l, R: BufRead, S: Record> Entries<'l, R, S> {
    pub(crate) fn new(reader: R, record: S, limits: &'l Limits) -> Self {
        let global = Extensions::default();
        Entries { reader, record, limits, left: 0, padding: 0, count: 0, extensions: 0, global }
    }

    /// Where the stream is recorded.
    pub(crate) fn record(&mut self) -> &mut S {
        &mut self.record
    }

    /// The next entry; `None` at the end of the archive.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>> {
        let mut own = Extensions::default();
        self.extensions = 0;
        loop {
            self.skip_rest()?;
            let Some((header, block)) = self.header()? else { return Ok(None) };
            let raw_size = header.entry_size().map_err(|error| malformed(&header, &error.to_string()))?;
            match header.entry_type() {
                EntryType::XHeader => own.read(&self.extension(raw_size)?, Scope::Next, self.limits)?,
                EntryType::XGlobalHeader => {
                    let bytes = self.extension(raw_size)?;
                    self.global.read(&bytes, Scope::Following, self.limits)?;
                }
                EntryType::GNULongName => own.path = Some(long_name(self.extension(raw_size)?)),
                EntryType::GNULongLink => own.link = Some(long_name(self.extension(raw_size)?)),
                _ => {
                    self.count += 1;
                    if self.count > self.limits.entries {
                        return Err(Error::Limit(format!("more than {} entries", self.limits.entries)));
                    }
                    let own = own.over(&self.global);
                    return self.entry(&header, &block, raw_size, own).map(Some);
                }
            }
        }
    }

    /// Passes over all that follows the end of the archive and gives the record back.
    pub(crate) fn finish(mut self) -> Result<S> {
        loop {
            let bytes = filled(&mut self.reader)?;
            if bytes.is_empty() {
                return Ok(self.record);
            }
            self.record.literal(bytes)?;
            let count = bytes.len();
            self.reader.consume(count);
        }
    }

    /// Some bytes of the current entry's content, at least one; nothing at its end. [`Entries::used`] goes on.
    pub(crate) fn chunk(&mut self) -> Result<&[u8]> {
        if self.left == 0 {
            return Ok(&[]);
        }
        let bytes = filled(&mut self.reader)?;
        let count = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
        match bytes.get(..count) {
            Some(bytes) if !bytes.is_empty() => Ok(bytes),
            _ => Err(cut_off()),
        }
    }

    /// These many bytes of the last chunk were taken.
    pub(crate) fn used(&mut self, count: usize) {
        self.reader.consume(count);
        self.left = self.left.saturating_sub(count as u64);
    }

    fn header(&mut self) -> Result<Option<(Header, Block)>> {
        let Some(block) = self.block()? else { return Ok(None) };
        if block.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let header = Header::from_byte_slice(&block).clone();
        match header.cksum() {
            Ok(found) if found == checksum(&block) => Ok(Some((header, block))),
            _ => Err(Error::archive("header", "its checksum is wrong: this is no tar archive, or it is damaged")),
        }
    }

    /// Reads and records a block; `None` at a clean end of the stream.
    fn block(&mut self) -> Result<Option<Block>> {
        let mut block = [0_u8; BLOCK as usize];
        let mut at = 0;
        while at < block.len() {
            let bytes = filled(&mut self.reader)?;
            if bytes.is_empty() {
                return if at == 0 { Ok(None) } else { Err(cut_off()) };
            }
            let spare = block.get_mut(at..).unwrap_or_default();
            let count = spare.len().min(bytes.len());
            spare.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
            at += count;
            self.reader.consume(count);
        }
        self.record.literal(&block)?;
        Ok(Some(block))
    }

    fn skip_rest(&mut self) -> Result<()> {
        let mut skip = self.left + self.padding;
        while skip > 0 {
            let bytes = filled(&mut self.reader)?;
            let count = usize::try_from(skip).unwrap_or(usize::MAX).min(bytes.len());
            let bytes = bytes.get(..count).filter(|bytes| !bytes.is_empty()).ok_or_else(cut_off)?;
            self.record.literal(bytes)?;
            self.reader.consume(count);
            skip -= count as u64;
        }
        (self.left, self.padding) = (0, 0);
        Ok(())
    }

    fn begin_content(&mut self, size: u64) -> Result<()> {
        let whole = size.checked_next_multiple_of(BLOCK).ok_or_else(|| self.limits.too_large())?;
        self.left = size;
        self.padding = whole - size;
        Ok(())
    }

    fn extension(&mut self, size: u64) -> Result<Vec<u8>> {
        let limits = self.limits;
        self.extensions += 1;
        if self.extensions > limits.extensions {
            return Err(Error::Limit(format!("more than {} extension headers in a row", limits.extensions)));
        }
        if size > limits.extension_bytes {
            let reason = format!("an extension header of {size} bytes, more than {}", limits.extension_bytes);
            return Err(Error::Limit(reason));
        }
        self.begin_content(size)?;
        let mut bytes = Vec::new();
        while self.left > 0 {
            let chunk = self.chunk()?;
            let count = chunk.len();
            bytes.extend_from_slice(chunk);
            let recorded = bytes.get(bytes.len() - count..).unwrap_or_default();
            self.record.literal(recorded)?;
            self.used(count);
        }
        Ok(bytes)
    }

    fn entry(&mut self, header: &Header, block: &Block, raw_size: u64, mut own: Extensions) -> Result<Entry> {
        let old_sparse = header.entry_type() == EntryType::GNUSparse;
        let kind = if old_sparse { Some(EntryKind::File) } else { kind(header.entry_type()) };
        let kind = kind.ok_or_else(|| {
            let letter = char::from(header.entry_type().as_byte());
            malformed(header, &format!("entries of type {letter:?} are not supported"))
        })?;
        let sparse = own.sparse.take().filter(|_| kind == EntryKind::File);
        let sparse_name = sparse.as_ref().and_then(|sparse| sparse.name.clone());
        let raw_path = sparse_name.or(own.path.take()).unwrap_or_else(|| header.path_bytes().into_owned());
        let link = own.link.take();
        let link = link.unwrap_or_else(|| header.link_name_bytes().map(|link| link.into_owned()).unwrap_or_default());
        let path = self.path(&raw_path, &link)?;
        // Only files carry data; a size elsewhere is what other readers disagree on.
        let data = own.size.unwrap_or(raw_size);
        if kind != EntryKind::File && data != 0 {
            if kind != EntryKind::HardLink {
                return Err(Error::archive(&raw_path, "it carries data but is no file"));
            }
            return Err(Error::archive(&raw_path, "a hard link that carries data is not supported"));
        }
        self.begin_content(data)?;
        let sparse = match sparse {
            Some(_) if old_sparse => return Err(Error::archive(&raw_path, "it is sparse in two forms at once")),
            Some(pax) => Some(self.pax_sparse(&raw_path, &pax)?),
            None if old_sparse => Some(self.gnu_sparse(&raw_path, block)?),
            None => None,
        };
        let as_directory = kind == EntryKind::File && raw_path.ends_with(b"/");
        let numbers = numbers(header, &own)?;
        Ok(Entry {
            kind: if as_directory { EntryKind::Directory } else { kind },
            path,
            link,
            mode: header.mode().map_err(|error| malformed(header, &error.to_string()))? & 0o7777,
            uid: numbers.0,
            gid: numbers.1,
            mtime_ns: numbers.2,
            size: sparse.as_ref().map_or(data, |map| map.size),
            sparse,
            device: (device(header.device_major()), device(header.device_minor())),
            xattrs: own.xattrs,
        })
    }

    fn path(&self, raw_path: &[u8], link: &[u8]) -> Result<PathBuf> {
        let limits = self.limits;
        if raw_path.len() > limits.path_bytes || link.len() > limits.path_bytes {
            return Err(Error::Limit(format!("a path longer than {} bytes", limits.path_bytes)));
        }
        if raw_path.contains(&0) || link.contains(&0) {
            return Err(Error::archive(raw_path, "its name holds a NUL byte"));
        }
        let path = relative(raw_path).ok_or_else(|| Error::archive(raw_path, "the path leaves the layer"))?;
        if path.components().count() > limits.depth {
            return Err(Error::Limit(format!("more than {} directories in each other", limits.depth)));
        }
        Ok(path)
    }

    /// The map is the beginning of the data.
    fn pax_sparse(&mut self, path: &[u8], pax: &super::pax::PaxSparse) -> Result<SparseMap> {
        let (Some(1), Some(0), Some(size)) = (pax.major, pax.minor, pax.real_size) else {
            return Err(Error::archive(path, "its sparse form is not 1.0, or its size is missing"));
        };
        let mut text = MapText::default();
        loop {
            if self.left < BLOCK {
                return Err(Error::archive(path, "the map of a sparse file is cut off"));
            }
            let block = self.block()?.ok_or_else(cut_off)?;
            self.left -= BLOCK;
            if text.block(&block, self.limits)? {
                return text.into_map(size).checked(self.left, path);
            }
        }
    }

    /// The map is in the header, and in blocks behind it.
    fn gnu_sparse(&mut self, path: &[u8], header: &Block) -> Result<SparseMap> {
        let field = |range: std::ops::Range<usize>| header.get(range).unwrap_or_default();
        let mut map = SparseMap { parts: Vec::new(), size: gnu_number(field(483..495))? };
        gnu_parts(&mut map, field(386..482), self.limits)?;
        let mut more = header.get(482).is_some_and(|more| *more != 0);
        while more {
            let block = self.block()?.ok_or_else(cut_off)?;
            gnu_parts(&mut map, block.get(..504).unwrap_or_default(), self.limits)?;
            more = block.get(504).is_some_and(|more| *more != 0);
        }
        map.checked(self.left, path)
    }
}

/// What the reader has, at least one byte unless it is at its end.
fn filled(reader: &mut impl BufRead) -> Result<&[u8]> {
    while let Err(error) = reader.fill_buf() {
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(archive_error(error));
        }
    }
    reader.fill_buf().map_err(archive_error)
}

fn cut_off() -> Error {
    Error::archive("end", "the archive is cut off")
}

fn malformed(header: &Header, reason: &str) -> Error {
    Error::archive(header.path_bytes(), reason)
}

/// The sum of all bytes, with the field of the sum itself as blanks.
pub(crate) fn checksum(block: &Block) -> u32 {
    block.iter().enumerate().map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u32::from(*byte) }).sum()
}

/// User, group and time: the extensions' or the header's.
fn numbers(header: &Header, own: &Extensions) -> Result<(u32, u32, i64)> {
    let fields = header.as_old();
    let id = |extension: Option<u32>, field: &[u8], found: io::Result<u64>| match extension {
        Some(id) => Ok(id),
        None if is_blank(field) => Ok(0),
        None => {
            let id = found.ok().and_then(|id| u32::try_from(id).ok());
            id.ok_or_else(|| malformed(header, "an owner is out of range"))
        }
    };
    let uid = id(own.uid, &fields.uid, header.uid())?;
    let gid = id(own.gid, &fields.gid, header.gid())?;
    let mtime = match own.mtime_ns {
        Some(mtime) => mtime,
        None if is_blank(&fields.mtime) => 0,
        None => seconds(header.mtime().map_err(|error| malformed(header, &error.to_string()))?),
    };
    Ok((uid, gid, mtime))
}

fn kind(entry_type: EntryType) -> Option<EntryKind> {
    Some(match entry_type {
        EntryType::Regular | EntryType::Continuous => EntryKind::File,
        EntryType::Link => EntryKind::HardLink,
        EntryType::Symlink => EntryKind::Symlink,
        EntryType::Char => EntryKind::CharDevice,
        EntryType::Block => EntryKind::BlockDevice,
        EntryType::Directory => EntryKind::Directory,
        EntryType::Fifo => EntryKind::Fifo,
        _ => return None,
    })
}

/// A numeric field that was left out means zero.
fn is_blank(field: &[u8]) -> bool {
    field.iter().all(|byte| matches!(byte, 0 | b' '))
}

fn seconds(mtime: u64) -> i64 {
    i64::try_from(mtime).unwrap_or(0).saturating_mul(1_000_000_000)
}

fn device(number: io::Result<Option<u32>>) -> u32 {
    number.ok().flatten().unwrap_or(0)
}
