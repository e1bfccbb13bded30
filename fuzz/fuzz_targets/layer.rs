//! What a layer is read from: the headers of a tar with their extensions, and the split of a store that may be damaged.
#![no_main]

use libfuzzer_sys::fuzz_target;

/// A type letter, whether the size is the data's own, bytes of the header, data.
type Piece<'a> = (u8, bool, &'a [u8], &'a [u8]);

const LETTERS: &[u8] = b"0xxgLK12S5346V\0";

/// A header with a checksum that holds: without one nothing behind it would ever be read.
fn append(out: &mut Vec<u8>, (letter, own_size, head, data): &Piece<'_>) {
    let mut block = [0_u8; 512];
    block.iter_mut().zip(*head).for_each(|(slot, byte)| *slot = *byte);
    if *own_size || head.len() < 124 {
        let size = format!("{:011o}\0", data.len());
        block[124..136].copy_from_slice(size.as_bytes());
    }
    block[156] = LETTERS[usize::from(*letter) % LETTERS.len()];
    let magic: &[u8; 8] = if letter & 0x80 == 0 { b"ustar\x0000" } else { b"ustar  \0" };
    block[257..265].copy_from_slice(magic);
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    out.extend_from_slice(&block);
    out.extend_from_slice(data);
    out.resize(out.len().next_multiple_of(512), 0);
}

fuzz_target!(|input: (&[u8], Vec<Piece<'_>>)| {
    let (split, pieces) = input;
    let _ = cache::fuzzing::read_split(split);
    let mut bytes = Vec::new();
    for piece in &pieces {
        append(&mut bytes, piece);
    }
    if let Ok((entries, literals, contents)) = cache::fuzzing::read_archive(&bytes) {
        // Every byte is a part of a content, or was passed on.
        assert_eq!(literals + contents, bytes.len() as u64);
        assert!(entries <= bytes.len() as u64 / 512);
    }
});
