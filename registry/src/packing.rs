//! Layers packed in blocks of one size, side by side: the bytes are the same however many cores there are.
//!
//! A block is a member of gzip, or a frame of zstd, of its own; readers of both take any number of them as one stream.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use cache::{Digest, MEMBER_HEAD, MEMBER_TAIL, member_head};
use libdeflater::{CompressionLvl, Compressor};

use crate::save::LayerCompression;

/// Plain bytes of one block of gzip: what a new dictionary costs is little against it.
const GZIP_BLOCK: usize = 1 << 20;
/// Of zstd, whose window is larger.
const ZSTD_BLOCK: usize = 4 << 20;
/// Most threads.
const MOST: usize = 8;
/// Blocks on their way to a thread: enough for it never to wait, few enough for several layers at once.
const QUEUED: usize = 2;
/// Blocks of gzip that are packed before they are taken: what is packed while a piece is sent.
const AHEAD: usize = 8;

struct Block {
    number: u64,
    bytes: Vec<u8>,
}

/// Packs what `write` writes and gives it to `sink`, in order. An error of either ends both; the sink's is the one to tell.
/// `layers` are packed at the same time: they share the cores.
pub(crate) fn pack<T, E>(
    compression: LayerCompression,
    layers: usize,
    write: impl FnOnce(&mut dyn Write) -> Result<T, E>,
    sink: impl FnMut(Vec<u8>) -> io::Result<()> + Send,
) -> Result<T, PackError<E>> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    pack_with((cores * 2 / layers.max(1)).clamp(1, cores.min(MOST)), compression, write, sink)
}

/// Gives the blocks that `make` makes to `take` on a thread of its own: they are made while others are on their way.
/// `take`'s error ends both, and is told beside what `make` gives.
pub(crate) fn handed_on<T, E: Send>(
    compression: LayerCompression,
    mut take: impl FnMut(&[u8]) -> Result<(), E> + Send,
    make: impl FnOnce(&SyncSender<Vec<u8>>) -> T,
) -> (T, std::thread::Result<Result<(), E>>) {
    let ahead = match compression {
        LayerCompression::Zstd(_) => AHEAD * GZIP_BLOCK / ZSTD_BLOCK,
        _ => AHEAD,
    };
    let (sender, blocks) = sync_channel::<Vec<u8>>(ahead);
    std::thread::scope(|scope| {
        let taker = scope.spawn(move || blocks.into_iter().try_for_each(|block| take(&block)));
        let made = make(&sender);
        drop(sender);
        (made, taker.join())
    })
}

/// Why packing failed.
#[derive(Debug)]
pub(crate) enum PackError<E> {
    /// What gives the bytes.
    Source(E),
    /// What takes the packed ones.
    Sink(io::Error),
}

fn pack_with<T, E>(
    threads: usize,
    compression: LayerCompression,
    write: impl FnOnce(&mut dyn Write) -> Result<T, E>,
    mut sink: impl FnMut(Vec<u8>) -> io::Result<()> + Send,
) -> Result<T, PackError<E>> {
    let (plain, work) = sync_channel::<Block>(QUEUED);
    let (packed, done) = sync_channel::<io::Result<Block>>(QUEUED);
    // Of the packers alone: when none is left, who gives blocks hears of it.
    let work = Arc::new(Mutex::new(work));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            let (packed, work) = (packed.clone(), Arc::clone(&work));
            scope.spawn(move || pack_blocks(compression, &work, &packed));
        }
        drop((packed, work));
        let taker = scope.spawn(move || in_order(&done, &mut sink));
        let size = match compression {
            LayerCompression::Zstd(_) => ZSTD_BLOCK,
            _ => GZIP_BLOCK,
        };
        let mut blocks = Blocks { plain, size, number: 0, current: Vec::new() };
        let written = write(&mut blocks);
        // An empty stream has one block too: no bytes at all are none of these formats.
        let flushed = match &written {
            Ok(_) => blocks.end(),
            Err(_) => Ok(()),
        };
        drop(blocks);
        let taken = taker.join().unwrap_or_else(|_| Err(io::Error::other("a packer stopped")));
        taken.map_err(PackError::Sink)?;
        let written = written.map_err(PackError::Source)?;
        flushed.map_err(PackError::Sink)?;
        Ok(written)
    })
}

/// Takes blocks until there are no more, or nobody takes them.
fn pack_blocks(compression: LayerCompression, work: &Mutex<Receiver<Block>>, packed: &SyncSender<io::Result<Block>>) {
    loop {
        let next = work.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Block { number, bytes }) = next else { return };
        let block = pack_block(compression, bytes).map(|bytes| Block { number, bytes });
        if packed.send(block).is_err() {
            return;
        }
    }
}

fn pack_block(compression: LayerCompression, bytes: Vec<u8>) -> io::Result<Vec<u8>> {
    match compression {
        LayerCompression::None => Ok(bytes),
        // It says how long it is, so that those who unpack can do so side by side too.
        LayerCompression::Gzip(level) => {
            let level = i32::try_from(level).ok().and_then(|level| CompressionLvl::new(level).ok());
            let mut compressor = Compressor::new(level.unwrap_or_default());
            let bound = compressor.deflate_compress_bound(bytes.len());
            let mut packed = vec![0; MEMBER_HEAD + bound];
            let space = packed.get_mut(MEMBER_HEAD..).unwrap_or_default();
            let size = MEMBER_HEAD + compressor.deflate_compress(&bytes, space).map_err(io::Error::other)?;
            packed.truncate(size);
            packed.extend(libdeflater::crc32(&bytes).to_le_bytes());
            packed.extend((bytes.len() as u32).to_le_bytes());
            let head = member_head((size + MEMBER_TAIL) as u32);
            packed.iter_mut().zip(head).for_each(|(to, from)| *to = from);
            packed.shrink_to_fit();
            Ok(packed)
        }
        LayerCompression::Zstd(level) => zstd::bulk::compress(&bytes, level),
    }
}

fn in_order(done: &Receiver<io::Result<Block>>, sink: &mut impl FnMut(Vec<u8>) -> io::Result<()>) -> io::Result<()> {
    let mut early = BTreeMap::new();
    let mut next = 0;
    for block in done {
        let block = block?;
        early.insert(block.number, block.bytes);
        while let Some(bytes) = early.remove(&next) {
            sink(bytes)?;
            next += 1;
        }
    }
    Ok(())
}

/// Cuts what is written into blocks.
struct Blocks {
    plain: SyncSender<Block>,
    size: usize,
    number: u64,
    current: Vec<u8>,
}

impl Blocks {
    fn send(&mut self) -> io::Result<()> {
        let block = Block { number: self.number, bytes: std::mem::take(&mut self.current) };
        self.number += 1;
        self.plain.send(block).map_err(|_| io::Error::other("the packed bytes are not taken"))
    }

    fn end(&mut self) -> io::Result<()> {
        if self.current.is_empty() && self.number > 0 { Ok(()) } else { self.send() }
    }
}

impl Write for Blocks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.current.capacity() == 0 {
            self.current.reserve_exact(self.size);
        }
        let count = bytes.len().min(self.size - self.current.len());
        self.current.extend_from_slice(bytes.get(..count).unwrap_or_default());
        if self.current.len() == self.size {
            self.send()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Takes the SHA-256 and the number of what passes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tally {
    hasher: sha2::Sha256,
    /// Bytes so far.
    pub(crate) size: u64,
}

impl Tally {
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        sha2::Digest::update(&mut self.hasher, bytes);
        self.size += bytes.len() as u64;
    }

    pub(crate) fn digest(&self) -> Result<Digest, cache::Error> {
        let hash = <sha2::Sha256 as sha2::Digest>::finalize(self.hasher.clone());
        let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("sha256:{hex}").parse()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::io::Read;

    fn packed(threads: usize, compression: LayerCompression, plain: &[u8]) -> Vec<u8> {
        let out = Mutex::new(Vec::new());
        pack_with(
            threads,
            compression,
            |to| to.write_all(plain),
            |bytes| {
                out.lock().unwrap().extend(bytes);
                Ok(())
            },
        )
        .unwrap();
        out.into_inner().unwrap()
    }

    #[test]
    fn the_bytes_do_not_depend_on_the_number_of_threads() {
        let plain: Vec<u8> = (0..9_000_000_u32).map(|at| ((at / 7) ^ (at / 1000)) as u8).collect();
        for compression in [LayerCompression::Gzip(6), LayerCompression::Zstd(3), LayerCompression::None] {
            let one = packed(1, compression, &plain);
            assert_eq!(one, packed(5, compression, &plain));
            let mut unpacked = Vec::new();
            cache::decompress(one.as_slice()).unwrap().1.read_to_end(&mut unpacked).unwrap();
            assert!(unpacked == plain, "{compression:?}");
        }
        let nothing = packed(2, LayerCompression::Gzip(6), b"");
        let mut unpacked = Vec::new();
        flate2::read::MultiGzDecoder::new(nothing.as_slice()).read_to_end(&mut unpacked).unwrap();
        assert!(unpacked.is_empty() && !nothing.is_empty());
    }

    #[test]
    fn an_error_of_either_side_ends_both() {
        let plain = vec![1_u8; 20 << 20];
        let compression = LayerCompression::Gzip(1);
        let full = pack_with(2, compression, |to| to.write_all(&plain), |_| Err(io::Error::other("full")));
        assert!(matches!(full, Err(PackError::Sink(error)) if error.to_string() == "full"));
        let broken = pack_with(2, compression, |_| Err::<(), _>("broken"), |_| Ok(()));
        assert!(matches!(broken, Err(PackError::Source("broken"))));
    }
}
