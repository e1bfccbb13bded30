//! Compression of foreign streams, told by content, always in this process.

use std::io::{self, BufRead, BufReader, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::Digest as _;

use super::import::Compressed;
use super::limits::Limits;
use crate::digest::Digest;
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
    let magic = fill(&mut reader).map_err(archive_error)?;
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
            let mut decoder = zstd::stream::read::Decoder::with_buffer(reader).map_err(archive_error)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG).map_err(archive_error)?;
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

/// What a failing read of an archive means: one of our own errors that came through, the machine, or a damaged stream.
pub(crate) fn archive_error(error: io::Error) -> Error {
    match error.downcast::<Error>() {
        Ok(own) => own,
        Err(error) if error.raw_os_error().is_some() => Error::path("read", "the archive")(error),
        Err(error) => Error::archive("the stream", error.to_string()),
    }
}

/// Counts what goes through it, and hashes it where a digest is to be met.
pub(crate) struct Tap<R> {
    inner: R,
    count: Arc<AtomicU64>,
    hasher: Option<Hasher>,
}

enum Hasher {
    Sha256(sha2::Sha256),
    Sha512(sha2::Sha512),
}

impl<R: Read> Tap<R> {
    /// `expected` says which hash is to be taken.
    pub(crate) fn new(inner: R, expected: Option<&Digest>) -> Self {
        let hasher = expected.map(|digest| match digest.algorithm() {
            "sha512" => Hasher::Sha512(sha2::Sha512::new()),
            _ => Hasher::Sha256(sha2::Sha256::new()),
        });
        Tap { inner, count: Arc::default(), hasher }
    }

    /// The bytes so far, also while the tap is lent out.
    pub(crate) fn counter(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.count)
    }

    /// Reads what is left, then compares size and digest.
    pub(crate) fn finish(mut self, expected: Option<&Compressed>) -> Result<()> {
        io::copy(&mut self, &mut io::sink()).map_err(archive_error)?;
        let Some(expected) = expected else { return Ok(()) };
        let count = self.count.load(Ordering::Relaxed);
        if count != expected.size {
            return Err(Error::document(
                expected.digest.to_string(),
                format!("it has {count} bytes and its descriptor says {}", expected.size),
            ));
        }
        let found = match self.hasher {
            Some(Hasher::Sha256(hasher)) => Digest::from_sha256(&hasher.finalize()),
            Some(Hasher::Sha512(hasher)) => Digest::from_sha512(&hasher.finalize()),
            None => return Ok(()),
        };
        if found != expected.digest {
            return Err(Error::DigestMismatch { expected: expected.digest.clone(), found });
        }
        Ok(())
    }
}

impl<R: Read> Read for Tap<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.inner.read(buffer)?;
        self.count.fetch_add(got as u64, Ordering::Relaxed);
        let bytes = buffer.get(..got).unwrap_or_default();
        match &mut self.hasher {
            Some(Hasher::Sha256(hasher)) => hasher.update(bytes),
            Some(Hasher::Sha512(hasher)) => hasher.update(bytes),
            None => {}
        }
        Ok(got)
    }
}

/// Holds what a stream unpacks to against what it is.
pub(crate) struct Ratio<'l> {
    packed: Arc<AtomicU64>,
    unpacked: u64,
    limits: &'l Limits,
}

impl<'l> Ratio<'l> {
    /// `packed` counts what goes into the decompressor.
    pub(crate) fn new(packed: Arc<AtomicU64>, limits: &'l Limits) -> Self {
        Ratio { packed, unpacked: 0, limits }
    }

    /// So many bytes came out of it.
    pub(crate) fn count(&mut self, bytes: usize) -> io::Result<()> {
        self.unpacked += bytes as u64;
        if self.unpacked > self.limits.unpacked_bytes {
            return Err(io::Error::other(self.limits.too_large()));
        }
        let packed = self.packed.load(Ordering::Relaxed).max(1);
        if self.unpacked > self.limits.ratio_from && self.unpacked / packed > self.limits.ratio {
            let reason = format!("it unpacks to more than {} times its size", self.limits.ratio);
            return Err(io::Error::other(Error::Limit(reason)));
        }
        Ok(())
    }
}

/// Stops a stream that unpacks to far more than it is.
pub(crate) struct RatioGuard<'l, R> {
    reader: R,
    ratio: Ratio<'l>,
}

impl<'l, R: Read> RatioGuard<'l, R> {
    pub(crate) fn new(reader: R, ratio: Ratio<'l>) -> Self {
        RatioGuard { reader, ratio }
    }
}

impl<R: Read> Read for RatioGuard<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.reader.read(buffer)?;
        self.ratio.count(got)?;
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
