//! Small documents that prove themselves: a line of JSON and a line with its BLAKE3 hash. One flipped bit is found on reading.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};

/// The bytes of a document; `what` names it in an error.
pub(crate) fn seal(what: &str, value: &impl Serialize) -> Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec(value).map_err(|error| Error::document(what, error))?;
    let hash = blake3::hash(&bytes).to_hex();
    bytes.push(b'\n');
    bytes.extend_from_slice(hash.as_bytes());
    bytes.push(b'\n');
    Ok(bytes)
}

/// The document, when its bytes are what was written.
pub(crate) fn unseal<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let (document, hash) = bytes.strip_suffix(b"\n")?.split_at_checked(bytes.len().checked_sub(65)?)?;
    let document = document.strip_suffix(b"\n")?;
    if blake3::hash(document).to_hex().as_bytes() != hash {
        return None;
    }
    serde_json::from_slice(document).ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_is_found() {
        let whole = seal("a number", &vec![1, 22, 333]).unwrap();
        assert_eq!(unseal::<Vec<u32>>(&whole), Some(vec![1, 22, 333]));
        for place in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[place / 8] ^= 1 << (place % 8);
            assert_eq!(unseal::<Vec<u32>>(&bytes), None, "bit {place}");
        }
        assert_eq!(unseal::<Vec<u32>>(b""), None);
        assert_eq!(unseal::<Vec<u32>>(whole.get(..whole.len() - 1).unwrap()), None);
    }
}
