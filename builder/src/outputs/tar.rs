//! A tree as one tar: what `docker export` gives.

use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;

use cache::{Kind, TreeView};
use tar::{Builder, EntryType, Header};

use super::{Entry, walk};
use crate::error::{Error, Result};

/// Writes all of a tree. Times later than `clamp` (Unix seconds) become it.
///
/// # Errors
/// When the tree cannot be read or the output fails.
pub fn write_tar(tree: &dyn TreeView, out: &mut dyn Write, clamp: Option<i64>) -> Result<()> {
    let mut archive = Builder::new(out);
    walk(tree, &mut |entry| write_entry(tree, &mut archive, entry, clamp))?;
    archive.into_inner().and_then(|out| out.flush()).map_err(Error::output("the tar"))
}

fn write_entry(
    tree: &dyn TreeView,
    archive: &mut Builder<&mut dyn Write>,
    entry: &Entry<'_>,
    clamp: Option<i64>,
) -> Result<()> {
    let Entry { path, metadata, same_as } = entry;
    let mut header = Header::new_gnu();
    header.set_mode(metadata.mode);
    header.set_uid(u64::from(metadata.uid));
    header.set_gid(u64::from(metadata.gid));
    let seconds = metadata.mtime_ns.div_euclid(1_000_000_000);
    header.set_mtime(u64::try_from(clamp.map_or(seconds, |clamp| seconds.min(clamp))).unwrap_or(0));
    header.set_size(0);
    let failed = || Error::output(path.display());
    if let Some(first) = same_as {
        header.set_entry_type(EntryType::Link);
        return archive.append_link(&mut header, path, first).map_err(failed());
    }
    let attributes = match metadata.kind {
        Kind::File | Kind::Directory => tree.xattrs(path)?,
        _ => Vec::new(),
    };
    let records: Vec<(String, Vec<u8>)> = attributes
        .into_iter()
        .map(|(name, value)| (format!("SCHILY.xattr.{}", name.to_string_lossy()), value))
        .collect();
    archive
        .append_pax_extensions(records.iter().map(|(name, value)| (name.as_str(), value.as_slice())))
        .map_err(failed())?;
    let device = |header: &mut Header| {
        header.set_device_major(rustix::fs::major(metadata.rdev))?;
        header.set_device_minor(rustix::fs::minor(metadata.rdev))
    };
    match metadata.kind {
        Kind::File => {
            header.set_size(metadata.size);
            archive.append_data(&mut header, path, tree.open_file(path)?)
        }
        Kind::Symlink => {
            header.set_entry_type(EntryType::Symlink);
            let link = tree.read_link(path)?;
            archive.append_link(&mut header, path, std::path::Path::new(std::ffi::OsStr::from_bytes(link.as_bytes())))
        }
        Kind::Directory => append_empty(archive, header, entry, EntryType::Directory),
        Kind::Fifo => append_empty(archive, header, entry, EntryType::Fifo),
        Kind::CharDevice => device(&mut header).and_then(|()| append_empty(archive, header, entry, EntryType::Char)),
        Kind::BlockDevice => device(&mut header).and_then(|()| append_empty(archive, header, entry, EntryType::Block)),
        Kind::Socket => Ok(()),
    }
    .map_err(failed())
}

fn append_empty(
    archive: &mut Builder<&mut dyn Write>,
    mut header: Header,
    entry: &Entry<'_>,
    kind: EntryType,
) -> io::Result<()> {
    header.set_entry_type(kind);
    archive.append_data(&mut header, entry.path, io::empty())
}
