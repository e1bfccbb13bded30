//! The data of one file, copied: shared where the file system can, with its holes where it has some.

use std::fs::File;
use std::io::{self, Read, Write};

use rustix::io::Errno;

/// Files below this size have no hole worth keeping.
const SMALL: u64 = 64 << 10;

/// Copies the data of a file; what is a hole in the source is one in the target.
pub(crate) fn copy_file(source: &mut File, target: &mut File) -> io::Result<u64> {
    let stat = rustix::fs::fstat(&*source)?;
    let size = u64::try_from(stat.st_size).unwrap_or(0);
    let on_disk = u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512);
    if size < SMALL {
        return copy_small(source, target, size);
    }
    if size > 0 && rustix::fs::ioctl_ficlone(&*target, &*source).is_ok() {
        return Ok(size);
    }
    if on_disk >= size {
        return io::copy(source, target);
    }
    copy_sparse(source, target, size)
}

/// One read and one write: asking the kernel to share or to move the bytes costs more. A read that gives less than it could
/// is the end of a file.
fn copy_small(source: &mut File, target: &mut File, size: u64) -> io::Result<u64> {
    let room = usize::try_from(size).unwrap_or(0) + 1;
    let mut bytes = Vec::with_capacity(room);
    source.take(room as u64).read_to_end(&mut bytes)?;
    target.write_all(&bytes)?;
    Ok(bytes.len() as u64)
}

fn copy_sparse(source: &mut File, target: &mut File, size: u64) -> io::Result<u64> {
    use rustix::fs::SeekFrom;
    use std::io::Seek;
    let mut at = 0;
    while at < size {
        let data = match rustix::fs::seek(&*source, SeekFrom::Data(at)) {
            Ok(data) => data,
            Err(Errno::NXIO) => break,
            Err(errno) => return Err(errno.into()),
        };
        let hole = rustix::fs::seek(&*source, SeekFrom::Hole(data))?;
        source.seek(io::SeekFrom::Start(data))?;
        target.seek(io::SeekFrom::Start(data))?;
        io::copy(&mut Read::by_ref(source).take(hole - data), target)?;
        at = hole;
    }
    target.set_len(size)?;
    Ok(size)
}
