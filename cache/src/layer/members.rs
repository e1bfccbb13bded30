//! Gzip in members that say how long they are ("indexed gzip"): unpacked side by side, each in one go.
//!
//! ```text
//! 1f 8b 08 04  time[4] xfl os  08 00  'I' 'G' 04 00  size[4]  deflate …  crc32[4] isize[4]
//! ```
//!
//! `size` counts the whole member. A wrong one may end a member early or late: such a member, and all that follows it, is left to
//! the reader that goes from byte to byte, or it gives other bytes than the digest says that a caller must hold them against.

use std::collections::VecDeque;
use std::io::{self, Cursor, Read};
use std::sync::mpsc::{Receiver, sync_channel};

use libdeflater::Decompressor;

use super::compress::{Ratio, archive_error, decompress};
use super::stream::{Buffer, Feed};
use crate::error::{Error, Result};

/// Bytes before the deflated ones.
pub const MEMBER_HEAD: usize = 20;
/// Bytes after them.
pub const MEMBER_TAIL: usize = 8;
/// The head up to the size. No name and no time: the same bytes are packed the same.
const BEGIN: [u8; 16] = [0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 0xff, 8, 0, b'I', b'G', 4, 0];
/// Most bytes of a member that is unpacked in one go, packed or not.
const LIMIT: usize = 4 << 20;
/// Members that are unpacked before their turn: one more than are unpacked at the same time, on the machines that gain by it.
const AHEAD: usize = 4;

/// The head of a member of so many bytes, of which the head and the tail are some.
pub fn member_head(size: u32) -> [u8; MEMBER_HEAD] {
    let mut head = [0; MEMBER_HEAD];
    head.iter_mut().zip(BEGIN.iter().chain(&size.to_le_bytes())).for_each(|(to, from)| *to = *from);
    head
}

/// The size that a head says, when it is one of these.
fn said(head: &[u8]) -> Option<usize> {
    let (begin, size) = head.split_first_chunk::<16>()?;
    let [_, _, _, _, _, _, _, _, _, _, ours @ ..] = BEGIN;
    // Time, level and system may be any.
    let is_one = begin.starts_with(&[0x1f, 0x8b, 8, 4]) && begin.ends_with(&ours);
    let size = usize::try_from(u32::from_le_bytes(*size.first_chunk()?)).ok()?;
    (is_one && (MEMBER_HEAD + MEMBER_TAIL..=LIMIT).contains(&size)).then_some(size)
}

/// What is left to the reader that goes from byte to byte.
#[derive(Default)]
pub(super) struct Rest {
    /// What was read of it.
    begun: Vec<u8>,
    /// Members came before it.
    follows: bool,
}

impl Rest {
    /// There is nothing left.
    pub(super) fn is_end(&self) -> bool {
        self.follows && self.begun.is_empty()
    }

    /// Its plain bytes, where `reader` has what was not read yet.
    pub(super) fn plain<'a>(self, reader: impl Read + Send + 'a) -> Result<Box<dyn Read + Send + 'a>> {
        let is_end = self.is_end();
        let packed = Cursor::new(self.begun).chain(reader);
        Ok(match (is_end, self.follows) {
            (true, _) => Box::new(io::empty()),
            (false, true) => Box::new(flate2::read::MultiGzDecoder::new(packed)),
            (false, false) => decompress(packed)?.1,
        })
    }
}

/// What is unpacked elsewhere.
struct Work {
    packed: Vec<u8>,
    plain: Buffer,
    good: bool,
}

enum Next {
    Member { packed: Vec<u8>, plain: usize },
    Other(Vec<u8>),
}

/// Unpacks all members at the beginning of a stream. What it gives must be held against a digest.
pub(super) fn unpack(reader: &mut impl Read, feed: &mut Feed, ratio: &mut Ratio<'_>) -> Result<Rest> {
    let mut pending: VecDeque<Receiver<Work>> = VecDeque::new();
    let (mut spare, mut follows, mut end) = (Vec::new(), false, None);
    loop {
        while end.is_none() && pending.len() < AHEAD {
            match next(reader, spare.pop().unwrap_or_default()).map_err(archive_error)? {
                Next::Member { packed, plain } => pending.push_back(begin(packed, feed.lend(plain)?)),
                Next::Other(begun) => end = Some(begun),
            }
        }
        let Some(first) = pending.pop_front() else {
            return Ok(Rest { begun: end.unwrap_or_default(), follows });
        };
        let Work { packed, plain, good } = first.recv().map_err(|_| stopped())?;
        if !good {
            let mut begun = packed;
            for later in pending {
                begun.extend(later.recv().map_err(|_| stopped())?.packed);
            }
            begun.extend(end.unwrap_or_default());
            return Ok(Rest { begun, follows });
        }
        follows = true;
        ratio.count(plain.filled().len()).map_err(archive_error)?;
        feed.give(plain)?;
        spare.push(packed);
    }
}

fn begin(packed: Vec<u8>, plain: Buffer) -> Receiver<Work> {
    let (done, work) = sync_channel(1);
    rayon::spawn(move || {
        let mut work = Work { packed, plain, good: false };
        let size = Decompressor::new().gzip_decompress(&work.packed, work.plain.space());
        work.good = size.is_ok_and(|size| size == work.plain.space().len());
        // Nobody waits for it when the stream was given up.
        let _ = done.send(work);
    });
    work
}

/// The next member, when it is one that says how long it is.
fn next(reader: &mut impl Read, mut bytes: Vec<u8>) -> io::Result<Next> {
    bytes.clear();
    reader.by_ref().take(MEMBER_HEAD as u64).read_to_end(&mut bytes)?;
    let Some(size) = said(&bytes) else { return Ok(Next::Other(bytes)) };
    bytes.reserve_exact(size - bytes.len());
    reader.by_ref().take((size - MEMBER_HEAD) as u64).read_to_end(&mut bytes)?;
    let plain = bytes.last_chunk().and_then(|size| usize::try_from(u32::from_le_bytes(*size)).ok());
    Ok(match plain.filter(|plain| bytes.len() == size && *plain <= LIMIT) {
        Some(plain) => Next::Member { packed: bytes, plain },
        None => Next::Other(bytes),
    })
}

fn stopped() -> Error {
    Error::document("the stream", "one of its threads stopped")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicU64;

    use super::super::compress::RatioGuard;
    use super::super::limits::Limits;
    use super::super::stream::{piped, pump};
    use super::*;

    fn member(plain: &[u8]) -> Vec<u8> {
        let mut deflater = libdeflater::Compressor::new(libdeflater::CompressionLvl::default());
        let mut packed = vec![0; deflater.deflate_compress_bound(plain.len())];
        let size = deflater.deflate_compress(plain, &mut packed).unwrap();
        let mut member = member_head(u32::try_from(MEMBER_HEAD + size + MEMBER_TAIL).unwrap()).to_vec();
        member.extend(&packed[..size]);
        member.extend(libdeflater::crc32(plain).to_le_bytes());
        member.extend(u32::try_from(plain.len()).unwrap().to_le_bytes());
        member
    }

    fn ordinary(plain: &[u8]) -> Vec<u8> {
        let mut packed = Vec::new();
        flate2::read::GzEncoder::new(plain, flate2::Compression::fast()).read_to_end(&mut packed).unwrap();
        packed
    }

    fn plain_of(packed: &[u8]) -> Result<Vec<u8>> {
        let limits = Limits::default();
        let mut reader = packed;
        let make = |feed: &mut Feed| {
            let mut ratio = Ratio::new(Arc::new(AtomicU64::new(packed.len() as u64)), &limits);
            let rest = unpack(&mut reader, feed, &mut ratio)?;
            pump(&mut RatioGuard::new(rest.plain(reader)?, ratio), feed)
        };
        let take = |stream: &mut super::super::stream::Stream| {
            let mut bytes = Vec::new();
            stream.read_to_end(&mut bytes).map_err(archive_error).map(|_| bytes)
        };
        piped(make, take).map(|(_, bytes)| bytes)
    }

    fn byte_by_byte(packed: &[u8]) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        flate2::read::MultiGzDecoder::new(packed).read_to_end(&mut bytes).map(|_| bytes)
    }

    #[test]
    fn members_come_out_in_their_order_whatever_is_between_them() {
        let text: Vec<Vec<u8>> = (0..23_u8).map(|at| vec![at; 1 + usize::from(at) * 70_000]).collect();
        for odd in [0, 1, 7, 22, 23] {
            let pack = |at: usize, text: &Vec<u8>| if at == odd { ordinary(text) } else { member(text) };
            let packed = text.iter().enumerate().flat_map(|(at, text)| pack(at, text)).collect::<Vec<u8>>();
            assert!(plain_of(&packed).unwrap() == text.concat(), "{odd}");
            assert!(byte_by_byte(&packed).unwrap() == text.concat(), "any reader takes it: {odd}");
        }
        assert_eq!(plain_of(b"").unwrap(), b"");
        assert_eq!(plain_of(b"no gzip").unwrap(), b"no gzip");
        assert_eq!(plain_of(&member(b"")).unwrap(), b"");
    }

    #[test]
    fn security_t23_a_member_that_lies_is_read_as_others_read_it() {
        let (one, two) = (member(&[b'a'; 5000]), member(&[b'b'; 6000]));
        let lie = |size: usize| {
            let mut one = one.clone();
            one[16..20].copy_from_slice(&u32::try_from(size).unwrap().to_le_bytes());
            [one, two.clone(), member(b"end")].concat()
        };
        let honest = byte_by_byte(&lie(one.len())).unwrap();
        for size in [0, 1, 28, one.len() - 1, one.len() + 1, one.len() + two.len(), LIMIT, LIMIT + 1] {
            assert!(plain_of(&lie(size)).unwrap() == honest, "{size}");
        }
        let whole = lie(one.len());
        for cut in [2, 19, 20, one.len() - 1, one.len() + 3, whole.len() - 1] {
            assert!(plain_of(&whole[..cut]).is_err() == byte_by_byte(&whole[..cut]).is_err(), "{cut}");
        }
        for at in [3, 10, 25, one.len() - 6, one.len() - 1, one.len() + 30] {
            let mut flipped = whole.clone();
            flipped[at] ^= 0x10;
            assert!(plain_of(&flipped).ok() == byte_by_byte(&flipped).ok(), "{at}");
        }
        assert!(plain_of(&[one, b"trailing".to_vec()].concat()).is_err());
    }

    #[test]
    fn security_t23_a_member_that_hides_another_is_found_by_the_digest() {
        let directory = tempfile::tempdir().unwrap();
        let store = crate::Store::open(directory.path()).unwrap();
        let lease = store.lease().unwrap();
        let tar = testdata::archive::tar([testdata::archive::file("f", &[b'x'; 4096])]);
        let (first, second) = tar.split_at(tar.len() / 2);
        let (first, second) = (member(first), member(second));
        let packed = [first.clone(), second.clone()].concat();
        let mut lying = packed.clone();
        lying[16..20].copy_from_slice(&u32::try_from(packed.len()).unwrap().to_le_bytes());
        let of = |packed: &[u8]| crate::ImportOptions {
            diff_id: Some(crate::DiffId(crate::Digest::sha256_of(&tar))),
            compressed: Some(crate::Compressed { digest: crate::Digest::sha256_of(packed), size: packed.len() as u64 }),
            ..Default::default()
        };
        assert!(store.import_layer_with(&lease, lying.as_slice(), &of(&lying)).is_err());
        // Who knows no digest reads byte by byte.
        assert!(store.import_layer(&lease, lying.as_slice(), None).is_ok());
        store.import_layer_with(&lease, packed.as_slice(), &of(&packed)).unwrap();
    }
}
