//! Compression of foreign streams, told by content, always in this process.

use std::io::{self, BufRead, BufReader, Read};

use crate::error::{Error, Result};

/// Largest zstd window: 128 MiB.
const ZSTD_WINDOW_LOG: u32 = 27;
/// Most memory that xz may ask for.
const XZ_MEMORY: u64 = 256 << 20;

/// How a stream is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the variants are the formats' own names")]
pub enum Compression {
    None,
    Gzip,
    Bzip2,
    Xz,
    Zstd,
}

impl Compression {
    fn of(magic: &[u8]) -> Compression {
        match magic {
            [0x1f, 0x8b, ..] => Compression::Gzip,
            [b'B', b'Z', b'h', ..] => Compression::Bzip2,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Compression::Xz,
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Compression::Zstd,
            _ => Compression::None,
        }
    }
}

/// Tells the compression of a stream and undoes it.
///
/// # Errors
/// When its beginning cannot be read.
pub fn decompress<'a>(reader: impl Read + Send + 'a) -> Result<(Compression, Box<dyn Read + Send + 'a>)> {
    let mut reader = BufReader::with_capacity(128 * 1024, reader);
    let magic = fill(&mut reader).map_err(Error::path("read", "the archive"))?;
    let compression = Compression::of(&magic);
    let plain: Box<dyn Read + Send + 'a> = match compression {
        Compression::None => Box::new(reader),
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(reader)),
        Compression::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(reader)),
        Compression::Xz => {
            let stream = liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY, liblzma::stream::CONCATENATED)
                .map_err(|error| Error::document("the xz archive", error))?;
            Box::new(liblzma::bufread::XzDecoder::new_stream(reader, stream))
        }
        Compression::Zstd => {
            let mut decoder =
                zstd::stream::read::Decoder::with_buffer(reader).map_err(Error::path("read", "the zstd archive"))?;
            decoder.window_log_max(ZSTD_WINDOW_LOG).map_err(Error::path("read", "the zstd archive"))?;
            Box::new(decoder)
        }
    };
    Ok((compression, plain))
}

/// The first bytes; a pipe may give them one by one, and then a short look decides on what is there.
fn fill(reader: &mut BufReader<impl Read>) -> io::Result<Vec<u8>> {
    loop {
        match reader.fill_buf() {
            Ok(bytes) => return Ok(bytes.iter().take(6).copied().collect()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Counts the bytes that go through it.
pub(crate) struct Counting<R> {
    inner: R,
    count: std::sync::Arc<std::sync::atomic::AtomicU64>,
}

impl<R> Counting<R> {
    pub(crate) fn new(inner: R) -> (Self, std::sync::Arc<std::sync::atomic::AtomicU64>) {
        let count = std::sync::Arc::default();
        (Counting { inner, count: std::sync::Arc::clone(&count) }, count)
    }
}

impl<R: Read> Read for Counting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.inner.read(buffer)?;
        self.count.fetch_add(got as u64, std::sync::atomic::Ordering::Relaxed);
        Ok(got)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn compression_is_told_by_content() {
        let text = b"the same bytes".repeat(100);
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&text).unwrap();
        let gzip = gzip.finish().unwrap();
        let two_members = [gzip.clone(), gzip.clone()].concat();
        let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
        bzip2.write_all(&text).unwrap();
        let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
        xz.write_all(&text).unwrap();
        let cases = [
            (Compression::None, text.clone(), text.clone()),
            (Compression::Gzip, gzip, text.clone()),
            (Compression::Gzip, two_members, text.repeat(2)),
            (Compression::Bzip2, bzip2.finish().unwrap(), text.clone()),
            (Compression::Xz, xz.finish().unwrap(), text.clone()),
            (Compression::Zstd, zstd::encode_all(text.as_slice(), 1).unwrap(), text.clone()),
        ];
        for (expected, packed, plain) in cases {
            let (found, mut reader) = decompress(packed.as_slice()).unwrap();
            let mut bytes = Vec::new();
            reader.read_to_end(&mut bytes).unwrap();
            assert_eq!((found, bytes), (expected, plain));
        }
    }
}
