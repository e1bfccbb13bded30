//! A tree as one tar: what `docker export` gives.

use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use cache::{Follow, Kind, TreeView};
use tar::{Builder, EntryType, Header};

use super::{Entry, walk, walk_from};
use crate::error::{Error, Result};

/// Writes all of a tree. Times later than `clamp` (Unix seconds) become it.
///
/// # Errors
/// When the tree cannot be read or the output fails.
pub fn write_tar(tree: &dyn TreeView, out: &mut dyn Write, clamp: Option<i64>) -> Result<()> {
    let mut archive = Builder::new(out);
    walk(tree, &mut |entry| write_entry(tree, &mut archive, entry, entry.path, clamp))?;
    archive.into_inner().and_then(|out| out.flush()).map_err(Error::output("the tar"))
}

/// Writes what is at one path of a tree, with all below it, as a tar in which it is called `name`.
///
/// # Errors
/// When nothing is there, the tree cannot be read or the output fails.
pub fn write_tar_of(tree: &dyn TreeView, path: &Path, name: &Path, out: &mut dyn Write) -> Result<()> {
    let mut archive = Builder::new(out);
    let renamed = |below: &Path| -> PathBuf { name.join(below.strip_prefix(path).unwrap_or(below)) };
    let gone = || Error::output(path.display())(io::ErrorKind::NotFound.into());
    let metadata = tree.metadata(path, Follow::No)?.ok_or_else(gone)?;
    let top = Entry { path, metadata: &metadata, same_as: None };
    write_entry(tree, &mut archive, &top, name, None)?;
    if metadata.kind == Kind::Directory {
        walk_from(tree, path, &mut |entry| {
            let same_as = entry.same_as.as_deref().map(renamed);
            let renamed_entry = Entry { path: entry.path, metadata: entry.metadata, same_as };
            write_entry(tree, &mut archive, &renamed_entry, &renamed(entry.path), None)
        })?;
    }
    archive.into_inner().and_then(|out| out.flush()).map_err(Error::output("the tar"))
}

/// A file that others may change meanwhile: as many bytes as its header says, whatever becomes of it.
struct Exactly<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Exactly<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let longest = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let Some(part) = buffer.get_mut(..longest).filter(|part| !part.is_empty()) else { return Ok(0) };
        let mut count = self.inner.read(part)?;
        if count == 0 {
            part.fill(0);
            count = part.len();
        }
        self.left = self.left.saturating_sub(count as u64);
        Ok(count)
    }
}

fn write_entry(
    tree: &dyn TreeView,
    archive: &mut Builder<&mut dyn Write>,
    entry: &Entry<'_>,
    name: &Path,
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
        return archive.append_link(&mut header, name, first).map_err(failed());
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
            archive.append_data(&mut header, name, Exactly { inner: tree.open_file(path)?, left: metadata.size })
        }
        Kind::Symlink => {
            header.set_entry_type(EntryType::Symlink);
            let link = tree.read_link(path)?;
            archive.append_link(&mut header, name, Path::new(std::ffi::OsStr::from_bytes(link.as_bytes())))
        }
        Kind::Directory => append_empty(archive, header, name, EntryType::Directory),
        Kind::Fifo => append_empty(archive, header, name, EntryType::Fifo),
        Kind::CharDevice => device(&mut header).and_then(|()| append_empty(archive, header, name, EntryType::Char)),
        Kind::BlockDevice => device(&mut header).and_then(|()| append_empty(archive, header, name, EntryType::Block)),
        Kind::Socket => Ok(()),
    }
    .map_err(failed())
}

fn append_empty(
    archive: &mut Builder<&mut dyn Write>,
    mut header: Header,
    name: &Path,
    kind: EntryType,
) -> io::Result<()> {
    header.set_entry_type(kind);
    archive.append_data(&mut header, name, io::empty())
}
