//! Reading the headers of a tar stream, strictly: ustar, PAX and GNU long names; anything malformed is an error.
//!
//! Field parsing is the `tar` crate's; what follows what, and how large it may be, is decided here, so that a size in
//! one header can never smuggle entries past another.

use std::ffi::OsString;
use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use tar::{EntryType, Header};

use super::limits::Limits;
use crate::error::{Error, Result, escaped};
use crate::tree::relative;

/// Size of a block (POSIX ustar).
pub(crate) const BLOCK: u64 = 512;

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
    pub(crate) size: u64,
    pub(crate) device: (u32, u32),
    pub(crate) xattrs: Vec<(OsString, Vec<u8>)>,
}

/// Extension headers that wait for their entry.
#[derive(Default)]
struct Extensions {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u32>,
    gid: Option<u32>,
    mtime_ns: Option<i64>,
    xattrs: Vec<(OsString, Vec<u8>)>,
}

/// Yields entries; the caller reads each entry's content from [`Entries::content`] before the next.
pub(crate) struct Entries<'l, R> {
    reader: R,
    limits: &'l Limits,
    /// Bytes of the current entry, and of its padding, that are still to be passed over.
    left: u64,
    padding: u64,
    count: u64,
}

impl<'l, R: Read> Entries<'l, R> {
    pub(crate) fn new(reader: R, limits: &'l Limits) -> Self {
        Entries { reader, limits, left: 0, padding: 0, count: 0 }
    }

    /// The next entry; `None` at the end of the archive.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>> {
        let mut extensions = Extensions::default();
        loop {
            self.skip_rest()?;
            let Some(header) = self.header()? else { return Ok(None) };
            self.count += 1;
            if self.count > self.limits.entries {
                return Err(Error::Limit(format!("more than {} entries", self.limits.entries)));
            }
            let raw_size = header.entry_size().map_err(|error| self.malformed(&header, &error.to_string()))?;
            match header.entry_type() {
                EntryType::XHeader => self.pax(raw_size, &mut extensions)?,
                // Global headers carry comments; none of our fields may hide in one.
                EntryType::XGlobalHeader => drop(self.extension(raw_size)?),
                EntryType::GNULongName => extensions.path = Some(trimmed(self.extension(raw_size)?)),
                EntryType::GNULongLink => extensions.link = Some(trimmed(self.extension(raw_size)?)),
                _ => return self.entry(&header, raw_size, extensions).map(Some),
            }
        }
    }

    /// The current entry's bytes.
    pub(crate) fn content(&mut self) -> Content<'_, 'l, R> {
        Content { entries: self }
    }

    fn header(&mut self) -> Result<Option<Header>> {
        let mut block = [0_u8; BLOCK as usize];
        if !self.fill(&mut block)? {
            return Ok(None);
        }
        if block.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let header = Header::from_byte_slice(&block).clone();
        let sum: u32 = block
            .iter()
            .enumerate()
            .map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u32::from(*byte) })
            .sum();
        match header.cksum() {
            Ok(found) if found == sum => Ok(Some(header)),
            _ => Err(Error::archive("header", "its checksum is wrong: this is no tar archive, or it is damaged")),
        }
    }

    /// False at a clean end of the stream.
    fn fill(&mut self, block: &mut [u8]) -> Result<bool> {
        let mut filled = 0;
        while let Some(rest) = block.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.reader.read(rest) {
                Ok(0) if filled == 0 => return Ok(false),
                Ok(0) => return Err(Error::archive("end", "the archive is cut off")),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::path("read", "the archive")(error)),
            }
        }
        Ok(true)
    }

    fn skip_rest(&mut self) -> Result<()> {
        let skip = self.left + self.padding;
        let skipped = io::copy(&mut Read::by_ref(&mut self.reader).take(skip), &mut io::sink())
            .map_err(Error::path("read", "the archive"))?;
        if skipped != skip {
            return Err(Error::archive("end", "the archive is cut off"));
        }
        (self.left, self.padding) = (0, 0);
        Ok(())
    }

    fn begin_content(&mut self, size: u64) {
        self.left = size;
        self.padding = size.next_multiple_of(BLOCK) - size;
    }

    fn extension(&mut self, size: u64) -> Result<Vec<u8>> {
        if size > self.limits.extension_bytes {
            return Err(Error::Limit(format!("an extension header of {size} bytes")));
        }
        self.begin_content(size);
        let mut bytes = Vec::new();
        self.content().read_to_end(&mut bytes).map_err(Error::path("read", "the archive"))?;
        if bytes.len() as u64 != size {
            return Err(Error::archive("end", "the archive is cut off"));
        }
        Ok(bytes)
    }

    fn pax(&mut self, size: u64, extensions: &mut Extensions) -> Result<()> {
        let bytes = self.extension(size)?;
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let (key, value, after) =
                pax_record(rest).ok_or_else(|| Error::archive("PAX header", "a record is malformed"))?;
            self.pax_value(key, value, extensions)?;
            rest = after;
        }
        Ok(())
    }

    fn pax_value(&self, key: &[u8], value: &[u8], extensions: &mut Extensions) -> Result<()> {
        let bad = || Error::archive("PAX header", format!("the value of {} is malformed", escaped(key)));
        let text = || std::str::from_utf8(value).map_err(|_| bad());
        match key {
            b"path" => extensions.path = Some(value.to_vec()),
            b"linkpath" => extensions.link = Some(value.to_vec()),
            b"size" => extensions.size = Some(text()?.parse().map_err(|_| bad())?),
            b"uid" => extensions.uid = Some(text()?.parse().map_err(|_| bad())?),
            b"gid" => extensions.gid = Some(text()?.parse().map_err(|_| bad())?),
            b"mtime" => extensions.mtime_ns = Some(pax_time(text()?).ok_or_else(bad)?),
            _ if key.starts_with(b"GNU.sparse.") => {
                return Err(Error::archive(
                    "PAX header",
                    "sparse files in this form are not supported: pack without --sparse",
                ));
            }
            _ => {
                let Some(name) = key.strip_prefix(b"SCHILY.xattr.") else { return Ok(()) };
                if value.len() > self.limits.xattr_bytes || name.len() > 255 {
                    return Err(Error::Limit(format!("an extended attribute of {} bytes", value.len())));
                }
                if crate::tree::kept_xattr(name) {
                    extensions.xattrs.push((OsString::from_vec(name.to_vec()), value.to_vec()));
                }
            }
        }
        Ok(())
    }

    fn entry(&mut self, header: &Header, raw_size: u64, extensions: Extensions) -> Result<Entry> {
        let kind = kind(header.entry_type()).ok_or_else(|| {
            self.malformed(
                header,
                &format!("entries of type {:?} are not supported", char::from(header.entry_type().as_byte())),
            )
        })?;
        let raw_path = extensions.path.unwrap_or_else(|| header.path_bytes().into_owned());
        let link = extensions
            .link
            .unwrap_or_else(|| header.link_name_bytes().map(|link| link.into_owned()).unwrap_or_default());
        if raw_path.len() > self.limits.path_bytes || link.len() > self.limits.path_bytes {
            return Err(Error::Limit(format!("a path longer than {} bytes", self.limits.path_bytes)));
        }
        if raw_path.contains(&0) || link.contains(&0) {
            return Err(Error::archive(&raw_path, "its name holds a NUL byte"));
        }
        let path = relative(&raw_path).ok_or_else(|| Error::archive(&raw_path, "the path leaves the layer"))?;
        // Only files carry data; a size elsewhere is what other readers disagree on.
        let size = extensions.size.unwrap_or(raw_size);
        if kind != EntryKind::File && size != 0 {
            if kind != EntryKind::HardLink {
                return Err(Error::archive(&raw_path, "it carries data but is no file"));
            }
            return Err(Error::archive(&raw_path, "a hard link that carries data is not supported"));
        }
        self.begin_content(size);
        let number = |field: &[u8], found: io::Result<u64>| {
            let id = if is_blank(field) { Some(0) } else { found.ok() };
            id.and_then(|id| u32::try_from(id).ok()).ok_or_else(|| self.malformed(header, "an owner is out of range"))
        };
        let fields = header.as_old();
        let entry = Entry {
            kind: if kind == EntryKind::File && raw_path.ends_with(b"/") { EntryKind::Directory } else { kind },
            path,
            link,
            mode: header.mode().map_err(|error| self.malformed(header, &error.to_string()))? & 0o7777,
            uid: match extensions.uid {
                Some(uid) => uid,
                None => number(&fields.uid, header.uid())?,
            },
            gid: match extensions.gid {
                Some(gid) => gid,
                None => number(&fields.gid, header.gid())?,
            },
            mtime_ns: match extensions.mtime_ns {
                Some(mtime) => mtime,
                None if is_blank(&fields.mtime) => 0,
                None => seconds(header.mtime().map_err(|error| self.malformed(header, &error.to_string()))?),
            },
            size,
            device: (device(header.device_major()), device(header.device_minor())),
            xattrs: extensions.xattrs,
        };
        Ok(entry)
    }

    fn malformed(&self, header: &Header, reason: &str) -> Error {
        Error::archive(header.path_bytes(), reason)
    }
}

/// Reads no further than the current entry.
pub(crate) struct Content<'e, 'l, R> {
    entries: &'e mut Entries<'l, R>,
}

impl<R: Read> Read for Content<'_, '_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = usize::try_from(self.entries.left).unwrap_or(usize::MAX).min(buffer.len());
        let Some(buffer) = buffer.get_mut(..wanted).filter(|buffer| !buffer.is_empty()) else { return Ok(0) };
        let got = self.entries.reader.read(buffer)?;
        if got == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the archive is cut off"));
        }
        self.entries.left -= got as u64;
        Ok(got)
    }
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

/// GNU long names end with a NUL.
fn trimmed(mut bytes: Vec<u8>) -> Vec<u8> {
    if bytes.last() == Some(&0) {
        bytes.pop();
    }
    bytes
}

/// `LENGTH KEY=VALUE\n`: the length counts the whole record (POSIX pax).
fn pax_record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = bytes.iter().take(20).position(|byte| *byte == b' ')?;
    let length: usize = std::str::from_utf8(bytes.get(..space)?).ok()?.parse().ok()?;
    let record = bytes.get(space + 1..length)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|byte| *byte == b'=')?;
    Some((record.get(..equals)?, record.get(equals + 1..)?, bytes.get(length..)?))
}

/// Decimal seconds, a fraction allowed.
fn pax_time(text: &str) -> Option<i64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().ok()?;
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let nanos: i64 = format!("{:0<9.9}", fraction).parse().ok()?;
    let nanos = if text.starts_with('-') { -nanos } else { nanos };
    seconds.checked_mul(1_000_000_000)?.checked_add(nanos)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn pax_records_and_times() {
        assert_eq!(pax_record(b"11 path=ab\nrest"), Some((&b"path"[..], &b"ab"[..], &b"rest"[..])));
        for bad in [&b"99 path=ab\n"[..], b"x path=ab\n", b"11 path=ab", b"3 \n", b""] {
            assert_eq!(pax_record(bad), None);
        }
        assert_eq!(pax_time("1.5"), Some(1_500_000_000));
        assert_eq!(pax_time("-1.25"), Some(-1_250_000_000));
        assert_eq!(pax_time("12"), Some(12_000_000_000));
        assert_eq!(pax_time("x"), None);
    }
}
