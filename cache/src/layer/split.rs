//! What gives a foreign layer's exact bytes back without storing its content twice.
//!
//! ```text
//! original.split = "DNSPLIT1" zstd( record… 'E' )
//!
//!   stream:  header | content of a | padding | header | content of b | padding | … | what follows the end
//!   records: 'L' n bytes[n]  'C' path size    'L' …    'C' path size    'L' …
//!
//!   'L' n bytes[n]                    bytes of the stream itself
//!   'C' path size                     the file at path, which has size bytes
//!   'P' path n (offset length)[n]     parts of the file at path: the archive held it without its holes
//!   'M' path k                        here a later entry took this place: what was there is displaced/k since then
//!   path = n bytes[n], below fs/ and free of links; numbers are LEB128
//! ```
//!
//! [`Outline`] tells two streams apart by their literals, sizes and content hashes, without their contents.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use super::sparse::Part;
use crate::error::{Error, Result};

const MAGIC: &[u8; 8] = b"DNSPLIT1";
/// Literal bytes of one record.
const LITERAL: usize = 64 * 1024;
/// Bytes of a path: the kernel's own limit.
const PATH: usize = 4096;
/// Parts of one file; more are never written.
const PARTS: u64 = 1 << 20;
/// Written once, seldom read, and mostly zeros and repetition.
const LEVEL: i32 = 1;
/// Largest zstd window that is read: more is never written.
const WINDOW_LOG: u32 = 23;

/// Takes down a stream while it is unpacked.
pub(crate) trait Record {
    /// What a later entry displaces is still needed.
    const KEEPS: bool;
    /// Bytes that are no stored content.
    fn literal(&mut self, bytes: &[u8]) -> Result<()>;
    /// A whole file; never an empty one.
    fn content(&mut self, path: &Path, size: u64, hash: &blake3::Hash) -> Result<()>;
    /// A file without its holes.
    fn parts(&mut self, path: &Path, parts: &[Part]) -> Result<()>;
    /// What was at a path is `displaced/number` from now on.
    fn moved(&mut self, path: &Path, number: u64) -> Result<()>;
}

/// Nothing is taken down.
impl Record for () {
    const KEEPS: bool = false;

    fn literal(&mut self, _bytes: &[u8]) -> Result<()> {
        Ok(())
    }

    fn content(&mut self, _path: &Path, _size: u64, _hash: &blake3::Hash) -> Result<()> {
        Ok(())
    }

    fn parts(&mut self, _path: &Path, _parts: &[Part]) -> Result<()> {
        Ok(())
    }

    fn moved(&mut self, _path: &Path, _number: u64) -> Result<()> {
        Ok(())
    }
}

/// The hash of a stream with its contents replaced by their hashes.
#[derive(Debug, Default)]
pub(crate) struct Outline {
    literals: blake3::Hasher,
    layout: blake3::Hasher,
    run: u64,
}

impl Outline {
    pub(crate) fn literal(&mut self, bytes: &[u8]) {
        self.literals.update(bytes);
        self.run += bytes.len() as u64;
    }

    pub(crate) fn content(&mut self, size: u64, hash: &blake3::Hash) {
        self.layout.update(&self.run.to_le_bytes());
        self.layout.update(&size.to_le_bytes());
        self.layout.update(hash.as_bytes());
        self.run = 0;
    }

    pub(crate) fn finish(mut self) -> blake3::Hash {
        self.layout.update(&self.run.to_le_bytes());
        self.layout.update(self.literals.finalize().as_bytes());
        self.layout.finalize()
    }
}

/// Writes a split.
pub(crate) struct SplitWriter<W: Write> {
    out: zstd::stream::write::Encoder<'static, W>,
    pending: Vec<u8>,
    outline: Outline,
    /// False once the stream has what the packer never writes.
    plain: bool,
}

impl<W: Write> SplitWriter<W> {
    pub(crate) fn new(mut out: W) -> Result<Self> {
        out.write_all(MAGIC).map_err(failed)?;
        let out = zstd::stream::write::Encoder::new(out, LEVEL).map_err(failed)?;
        Ok(SplitWriter { out, pending: Vec::with_capacity(LITERAL), outline: Outline::default(), plain: true })
    }

    /// The outline, unless the packer never writes such a stream.
    pub(crate) fn finish(mut self) -> Result<(W, Option<blake3::Hash>)> {
        self.flush()?;
        self.out.write_all(b"E").map_err(failed)?;
        let out = self.out.finish().map_err(failed)?;
        Ok((out, self.plain.then(|| self.outline.finish())))
    }

    fn flush(&mut self) -> Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let mut head = vec![b'L'];
        number(&mut head, self.pending.len() as u64);
        self.out.write_all(&head).and_then(|()| self.out.write_all(&self.pending)).map_err(failed)?;
        self.pending.clear();
        Ok(())
    }

    fn reference(&mut self, kind: u8, path: &Path, numbers: impl IntoIterator<Item = u64>) -> Result<()> {
        self.flush()?;
        let path = path.as_os_str().as_bytes();
        let mut record = vec![kind];
        number(&mut record, path.len() as u64);
        record.extend_from_slice(path);
        numbers.into_iter().for_each(|value| number(&mut record, value));
        self.out.write_all(&record).map_err(failed)
    }
}

impl<W: Write> Record for SplitWriter<W> {
    const KEEPS: bool = true;

    fn literal(&mut self, mut bytes: &[u8]) -> Result<()> {
        self.outline.literal(bytes);
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(LITERAL - self.pending.len()));
            self.pending.extend_from_slice(now);
            bytes = later;
            if self.pending.len() == LITERAL {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn content(&mut self, path: &Path, size: u64, hash: &blake3::Hash) -> Result<()> {
        self.outline.content(size, hash);
        self.reference(b'C', path, [size])
    }

    fn parts(&mut self, path: &Path, parts: &[Part]) -> Result<()> {
        if parts.len() as u64 > PARTS {
            return Err(Error::Limit(format!("a sparse file of more than {PARTS} parts")));
        }
        self.plain = false;
        let numbers = parts.iter().flat_map(|part| [part.offset, part.length]);
        self.reference(b'P', path, [parts.len() as u64].into_iter().chain(numbers))
    }

    fn moved(&mut self, path: &Path, number: u64) -> Result<()> {
        self.plain = false;
        self.reference(b'M', path, [number])
    }
}

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Piece {
    Literal(Vec<u8>),
    Content { path: PathBuf, size: u64 },
    Parts { path: PathBuf, parts: Vec<Part> },
    Moved { path: PathBuf, number: u64 },
}

/// Reads a split, which may be damaged.
pub(crate) struct SplitReader<'r> {
    reader: BufReader<Box<dyn Read + Send + 'r>>,
}

impl<'r> SplitReader<'r> {
    pub(crate) fn new(mut reader: impl BufRead + Send + 'r) -> Result<Self> {
        let mut magic = [0; MAGIC.len()];
        reader.read_exact(&mut magic).map_err(unreadable)?;
        if magic != *MAGIC {
            return Err(damaged("it does not begin as one"));
        }
        let mut decoder = zstd::stream::read::Decoder::with_buffer(reader).map_err(unreadable)?;
        decoder.window_log_max(WINDOW_LOG).map_err(unreadable)?;
        Ok(SplitReader { reader: BufReader::with_capacity(LITERAL, Box::new(decoder)) })
    }

    /// The records alone, as they are inside the packing.
    pub(crate) fn unpacked(records: &'r [u8]) -> Self {
        SplitReader { reader: BufReader::with_capacity(LITERAL, Box::new(records)) }
    }

    /// The next record; `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<Piece>> {
        Ok(Some(match self.byte()? {
            b'L' => Piece::Literal(self.bytes(LITERAL)?),
            b'C' => Piece::Content { path: self.path()?, size: self.number()? },
            b'P' => {
                let path = self.path()?;
                let count = self.number()?;
                if count > PARTS {
                    return Err(damaged("a file has too many parts"));
                }
                let mut parts = Vec::new();
                for _ in 0..count {
                    parts.push(Part { offset: self.number()?, length: self.number()? });
                }
                Piece::Parts { path, parts }
            }
            b'M' => Piece::Moved { path: self.path()?, number: self.number()? },
            b'E' => return Ok(None),
            _ => return Err(damaged("a record is of no known kind")),
        }))
    }

    fn byte(&mut self) -> Result<u8> {
        let mut byte = [0];
        self.reader.read_exact(&mut byte).map_err(unreadable)?;
        Ok(u8::from_le_bytes(byte))
    }

    fn number(&mut self) -> Result<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if bits.leading_zeros() < shift {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(damaged("a number is too large"))
    }

    fn bytes(&mut self, limit: usize) -> Result<Vec<u8>> {
        let length = usize::try_from(self.number()?).ok().filter(|length| *length <= limit);
        let length = length.ok_or_else(|| damaged("a record is too long"))?;
        let mut bytes = vec![0; length];
        self.reader.read_exact(&mut bytes).map_err(unreadable)?;
        Ok(bytes)
    }

    fn path(&mut self) -> Result<PathBuf> {
        Ok(PathBuf::from(OsString::from_vec(self.bytes(PATH)?)))
    }
}

/// Where displaced files are.
#[derive(Debug, Default)]
pub(crate) struct Moves {
    /// By path: up to which content it counts, and the number below `displaced/`.
    moves: HashMap<PathBuf, Vec<(u64, u64)>>,
}

impl Moves {
    /// Reads them out of a split.
    pub(crate) fn of(mut split: SplitReader<'_>) -> Result<Moves> {
        let mut moves: HashMap<PathBuf, Vec<(u64, u64)>> = HashMap::new();
        let mut contents = 0;
        while let Some(piece) = split.next()? {
            match piece {
                Piece::Literal(_) => {}
                Piece::Content { .. } | Piece::Parts { .. } => contents += 1,
                Piece::Moved { path, number } => moves.entry(path).or_default().push((contents, number)),
            }
        }
        Ok(Moves { moves })
    }

    /// Below `displaced/`, where the n-th content of the stream is now; `None` when it is where it was written.
    pub(crate) fn of_content(&self, path: &Path, nth: u64) -> Option<PathBuf> {
        let after = |place: &Path| {
            let moves = self.moves.get(place)?;
            moves.get(moves.partition_point(|(contents, _)| *contents <= nth)).copied()
        };
        // Only its first move counts: what is displaced stays where it is.
        let found = path.ancestors().filter_map(|place| Some((place, after(place)?)));
        let (place, (_, number)) = found.min_by_key(|(_, (contents, number))| (*contents, *number))?;
        let rest = path.strip_prefix(place).ok()?;
        let top = PathBuf::from(number.to_string());
        Some(if rest.as_os_str().is_empty() { top } else { top.join(rest) })
    }
}

fn number(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn failed(error: io::Error) -> Error {
    Error::path("write", "the layer's split")(error)
}

fn damaged(reason: &str) -> Error {
    Error::document("the layer's split", reason)
}

fn unreadable(error: io::Error) -> Error {
    if error.raw_os_error().is_some() {
        Error::path("read", "the layer's split")(error)
    } else {
        damaged(&error.to_string())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn written(fill: impl FnOnce(&mut SplitWriter<Vec<u8>>)) -> (Vec<u8>, Option<blake3::Hash>) {
        let mut split = SplitWriter::new(Vec::new()).unwrap();
        fill(&mut split);
        split.finish().unwrap()
    }

    fn read(bytes: &[u8]) -> Result<Vec<Piece>> {
        let mut reader = SplitReader::new(bytes)?;
        let mut pieces = Vec::new();
        while let Some(piece) = reader.next()? {
            pieces.push(piece);
        }
        Ok(pieces)
    }

    #[test]
    fn records_come_back() {
        let hash = blake3::hash(b"x");
        let parts = [Part { offset: 1 << 40, length: u64::MAX }];
        let (bytes, outline) = written(|split| {
            split.literal(&[7; LITERAL + 1]).unwrap();
            split.content(Path::new("a/b"), 300, &hash).unwrap();
            split.parts(Path::new("c"), &parts).unwrap();
            split.moved(Path::new("a"), 5).unwrap();
        });
        assert_eq!(outline, None);
        let expected = [
            Piece::Literal(vec![7; LITERAL]),
            Piece::Literal(vec![7]),
            Piece::Content { path: "a/b".into(), size: 300 },
            Piece::Parts { path: "c".into(), parts: parts.to_vec() },
            Piece::Moved { path: "a".into(), number: 5 },
        ];
        assert_eq!(read(&bytes).unwrap(), expected);
        for cut in 0..bytes.len() {
            assert!(read(&bytes[..cut]).is_err(), "{cut}");
        }
    }

    #[test]
    fn the_outline_does_not_depend_on_how_literals_are_cut() {
        let hash = blake3::hash(b"x");
        let outline = |parts: &[&[u8]], size| {
            written(|split| {
                parts.iter().for_each(|part| split.literal(part).unwrap());
                split.content(Path::new("anywhere"), size, &hash).unwrap();
            })
            .1
        };
        assert_eq!(outline(&[b"ab", b"c"], 1), outline(&[b"abc"], 1));
        assert_ne!(outline(&[b"abc"], 1), outline(&[b"abc"], 2));
    }

    #[test]
    fn the_first_move_after_a_content_counts() {
        let mut moves = Moves::default();
        moves.moves.insert("d".into(), vec![(4, 2)]);
        moves.moves.insert("d/f".into(), vec![(1, 0), (3, 1)]);
        let at = |nth| moves.of_content(Path::new("d/f"), nth).map(|path| path.display().to_string());
        assert_eq!([at(0), at(1), at(2)], [Some("0".into()), Some("1".into()), Some("1".into())]);
        assert_eq!([at(3), at(4)], [Some("2/f".into()), None]);
        assert_eq!(moves.of_content(Path::new("e"), 0), None);
    }
}
