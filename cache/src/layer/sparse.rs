//! Maps of sparse files: which parts of a file an archive holds. Old GNU headers and PAX 1.0.
//!
//! A map is taken only when its parts are in order, apart, inside the file, and together as long as the data.

use super::limits::Limits;
use crate::error::{Error, Result};

/// One part of a file that has data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) offset: u64,
    pub(crate) length: u64,
}

/// A file with holes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct SparseMap {
    pub(crate) parts: Vec<Part>,
    pub(crate) size: u64,
}

impl SparseMap {
    pub(crate) fn push(&mut self, offset: u64, length: u64, limits: &Limits) -> Result<()> {
        if self.parts.len() >= limits.sparse_parts {
            return Err(Error::Limit(format!("a sparse file of more than {} parts", limits.sparse_parts)));
        }
        self.parts.push(Part { offset, length });
        Ok(())
    }

    /// The map, when it is one; `data` is how many bytes the archive holds.
    pub(crate) fn checked(self, data: u64, path: &[u8]) -> Result<SparseMap> {
        let mut end = 0_u64;
        let mut total = 0_u64;
        for part in &self.parts {
            let next = part.offset.checked_add(part.length).filter(|next| *next <= self.size && part.offset >= end);
            end = next.ok_or_else(|| Error::archive(path, "the map of a sparse file is malformed"))?;
            total += part.length;
        }
        if total != data {
            return Err(Error::archive(path, "the map of a sparse file does not fit its data"));
        }
        Ok(self)
    }
}

/// Old GNU: pairs of offset and length, twelve characters each; a blank one ends the list.
pub(crate) fn gnu_parts(map: &mut SparseMap, fields: &[u8], limits: &Limits) -> Result<()> {
    for pair in fields.chunks_exact(24) {
        let (offset, length) = pair.split_at(12);
        if length.iter().all(|byte| matches!(byte, 0 | b' ')) {
            break;
        }
        map.push(gnu_number(offset)?, gnu_number(length)?, limits)?;
    }
    Ok(())
}

/// Octal text, or big-endian with the first bit set.
pub(crate) fn gnu_number(field: &[u8]) -> Result<u64> {
    let bad = || Error::archive("sparse header", "a number is malformed");
    if let Some((0x80, rest)) = field.split_first() {
        let (high, low) = rest.split_last_chunk::<8>().ok_or_else(bad)?;
        if high.iter().any(|byte| *byte != 0) {
            return Err(bad());
        }
        return Ok(u64::from_be_bytes(*low));
    }
    let text = std::str::from_utf8(field).map_err(|_| bad())?;
    let digits = text.trim_matches([' ', '\0']);
    if digits.is_empty() { Ok(0) } else { u64::from_str_radix(digits, 8).map_err(|_| bad()) }
}

/// PAX 1.0: decimal numbers, one a line: how many parts, then offset and length of each.
#[derive(Debug, Default)]
pub(crate) struct MapText {
    number: Option<u64>,
    count: Option<u64>,
    offset: Option<u64>,
    map: SparseMap,
}

impl MapText {
    /// Reads one block; true when the map is whole.
    pub(crate) fn block(&mut self, block: &[u8], limits: &Limits) -> Result<bool> {
        let bad = || Error::archive("sparse map", "it is malformed");
        for byte in block {
            match byte {
                b'0'..=b'9' => {
                    let number = self.number.unwrap_or(0).checked_mul(10).ok_or_else(bad)?;
                    self.number = Some(number.checked_add(u64::from(byte - b'0')).ok_or_else(bad)?);
                }
                b'\n' => {
                    let number = self.number.take().ok_or_else(bad)?;
                    if self.line(number, limits)? {
                        return Ok(true);
                    }
                }
                _ => return Err(bad()),
            }
        }
        Ok(false)
    }

    fn line(&mut self, number: u64, limits: &Limits) -> Result<bool> {
        match (self.count, self.offset.take()) {
            (None, _) => self.count = Some(number),
            (Some(_), None) => self.offset = Some(number),
            (Some(_), Some(offset)) => self.map.push(offset, number, limits)?,
        }
        Ok(self.offset.is_none() && self.count == Some(self.map.parts.len() as u64))
    }

    pub(crate) fn into_map(self, size: u64) -> SparseMap {
        SparseMap { size, ..self.map }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn security_t18_only_maps_that_fit_are_taken() {
        let map = |parts: &[(u64, u64)], size| SparseMap {
            parts: parts.iter().map(|(offset, length)| Part { offset: *offset, length: *length }).collect(),
            size,
        };
        assert!(map(&[(0, 4), (8, 2), (10, 0)], 10).checked(6, b"f").is_ok());
        for (parts, size, data) in [
            (&[(0, 4), (2, 4)][..], 10, 8),
            (&[(8, 4)], 10, 4),
            (&[(u64::MAX, 2)], 10, 2),
            (&[(4, 2), (0, 2)], 10, 4),
            (&[(0, 4)], 10, 5),
        ] {
            assert!(map(parts, size).checked(data, b"f").is_err(), "{parts:?}");
        }
    }

    #[test]
    fn the_text_of_a_map_may_be_cut_anywhere() {
        let limits = Limits::default();
        let mut text = MapText::default();
        assert!(!text.block(b"2\n0\n1", &limits).unwrap());
        assert!(text.block(b"0\n20\n5\n\0\0\0", &limits).unwrap());
        let map = text.into_map(30);
        assert_eq!(map.parts, [Part { offset: 0, length: 10 }, Part { offset: 20, length: 5 }]);
        assert!(MapText::default().block(b"x", &limits).is_err());
        assert!(MapText::default().block(b"0\n", &limits).unwrap());
        assert_eq!(gnu_number(b"00000000017\0").unwrap(), 15);
        assert_eq!(gnu_number(&[0x80, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0]).unwrap(), 1 << 32);
        assert!(gnu_number(&[0x80, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0]).is_err());
    }
}
