//! Canonical tar headers: ustar, with PAX records only where ustar has no room.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

use tar::{EntryType, Header};

use crate::error::{Error, Result};
use crate::tree::Metadata;

/// Largest number that ustar's eight octal digits hold, with room for the terminator.
const USTAR_ID: u32 = 0o7_777_777;
/// Largest size that ustar's twelve octal digits hold.
const USTAR_SIZE: u64 = 0o77_777_777_777;
/// Longest name without a PAX record.
const USTAR_NAME: usize = 100;

/// What a header says.
#[derive(Debug)]
pub(crate) struct Head<'a> {
    /// Path without a slash at its end.
    pub(crate) path: &'a [u8],
    pub(crate) entry_type: EntryType,
    pub(crate) metadata: &'a Metadata,
    pub(crate) link: &'a [u8],
    pub(crate) size: u64,
    pub(crate) xattrs: &'a [(OsString, Vec<u8>)],
}

/// Appends the headers of one entry.
pub(crate) fn encode(head: &Head<'_>, out: &mut Vec<u8>) -> Result<()> {
    let metadata = head.metadata;
    let mut name = head.path.to_vec();
    if head.entry_type == EntryType::Directory {
        name.push(b'/');
    }
    let seconds = metadata.mtime_ns.div_euclid(1_000_000_000);
    let records = records(head, &name, seconds);
    if !records.is_empty() {
        let mut header = plain_header(b"pax", EntryType::XHeader, records.len() as u64)?;
        header.set_mode(0o644);
        header.set_cksum();
        out.extend_from_slice(header.as_bytes());
        out.extend_from_slice(&records);
        pad(out, records.len() as u64);
    }
    let mut header = plain_header(&name, head.entry_type, if head.size <= USTAR_SIZE { head.size } else { 0 })?;
    if let Some(fields) = header.as_ustar_mut() {
        fields.linkname.iter_mut().zip(head.link).for_each(|(slot, byte)| *slot = *byte);
    }
    header.set_mode(metadata.mode);
    header.set_uid(u64::from(metadata.uid.min(USTAR_ID)));
    header.set_gid(u64::from(metadata.gid.min(USTAR_ID)));
    header.set_mtime(u64::try_from(seconds).unwrap_or(0));
    if matches!(head.entry_type, EntryType::Char | EntryType::Block) {
        let set = header
            .set_device_major(rustix::fs::major(metadata.rdev))
            .and_then(|()| header.set_device_minor(rustix::fs::minor(metadata.rdev)));
        set.map_err(Error::path("pack", "a device"))?;
    }
    header.set_cksum();
    out.extend_from_slice(header.as_bytes());
    Ok(())
}

fn records(head: &Head<'_>, name: &[u8], seconds: i64) -> Vec<u8> {
    let metadata = head.metadata;
    let mut records = Vec::new();
    let mut fit = |fits: bool, key: &str, value: &[u8]| {
        if !fits {
            record(&mut records, key.as_bytes(), value);
        }
    };
    fit(name.len() <= USTAR_NAME, "path", name);
    fit(head.link.len() <= USTAR_NAME, "linkpath", head.link);
    fit(head.size <= USTAR_SIZE, "size", head.size.to_string().as_bytes());
    fit(metadata.uid <= USTAR_ID, "uid", metadata.uid.to_string().as_bytes());
    fit(metadata.gid <= USTAR_ID, "gid", metadata.gid.to_string().as_bytes());
    fit(seconds >= 0, "mtime", seconds.to_string().as_bytes());
    for (key, value) in head.xattrs {
        let mut name = b"SCHILY.xattr.".to_vec();
        name.extend_from_slice(key.as_bytes());
        record(&mut records, &name, value);
    }
    records
}

/// A header with numeric fields at zero and a name cut to what fits; PAX carries the rest.
fn plain_header(name: &[u8], entry_type: EntryType, size: u64) -> Result<Header> {
    let mut header = Header::new_ustar();
    let fields = header.as_ustar_mut().ok_or_else(|| Error::document("a header", "it is not ustar"))?;
    fields.name.iter_mut().zip(name).for_each(|(slot, byte)| *slot = *byte);
    header.set_entry_type(entry_type);
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    Ok(header)
}

/// The length counts itself, so it may grow by a digit when it is added.
fn record(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
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

/// Zeros up to the next block.
pub(crate) fn pad(out: &mut Vec<u8>, size: u64) {
    let padding = usize::try_from(size.next_multiple_of(512) - size).unwrap_or(0);
    out.resize(out.len() + padding, 0);
}
