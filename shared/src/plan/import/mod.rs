//! Plans from other formats: each importer reads a text and writes the YAML of a plan.
//!
//! An importer refuses what it cannot say in a plan, and names it; it never leaves out an edge or makes up a
//! value. Not here: files, and the choice of the format.

mod wfcommons;
mod yaml_text;

pub use wfcommons::{Runner, WfCommonsError, WfCommonsOptions, wfcommons};

use flate2::read::MultiGzDecoder;
use std::borrow::Cow;
use std::io::Read as _;

/// Most bytes of a text to import, after it is unpacked.
pub const MAX_IMPORT_BYTES: usize = 1 << 30;

/// Why bytes are no text to import.
#[derive(Debug, thiserror::Error)]
pub enum TextError {
    /// The packed file is damaged.
    #[error("the gzip file is damaged")]
    Gzip(#[source] std::io::Error),
    /// There is too much of it.
    #[error("the text has more than {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: usize,
    },
    /// It is no text.
    #[error("the file is not UTF-8 text")]
    NotUtf8(#[source] std::str::Utf8Error),
}

/// The text of a file that may be packed with gzip, which is seen from its first bytes.
///
/// # Errors
/// If it is damaged, has more than `limit` bytes, or is not UTF-8.
pub fn text_of(bytes: &[u8], limit: usize) -> Result<Cow<'_, str>, TextError> {
    if !bytes.starts_with(&[0x1f, 0x8b]) {
        if bytes.len() > limit {
            return Err(TextError::TooLarge { limit });
        }
        return std::str::from_utf8(bytes).map(Cow::Borrowed).map_err(TextError::NotUtf8);
    }
    let mut unpacked = Vec::new();
    let most = limit as u64 + 1;
    MultiGzDecoder::new(bytes).take(most).read_to_end(&mut unpacked).map_err(TextError::Gzip)?;
    if unpacked.len() > limit {
        return Err(TextError::TooLarge { limit });
    }
    String::from_utf8(unpacked).map(Cow::Owned).map_err(|error| TextError::NotUtf8(error.utf8_error()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};
    use std::io::Write as _;

    fn packed(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text).expect("memory takes everything");
        encoder.finish().expect("memory takes everything")
    }

    #[test]
    fn packed_and_plain_text_are_read() {
        assert_eq!(text_of(b"abc", 9).expect("text"), "abc");
        assert_eq!(text_of(&packed(b"abc"), 9).expect("text"), "abc");
    }

    #[test]
    fn too_much_is_refused_before_it_is_unpacked() {
        let bomb = packed(&vec![b'a'; 10_000_000]);
        assert!(matches!(text_of(&bomb, 1_000), Err(TextError::TooLarge { limit: 1_000 })));
        assert!(matches!(text_of(b"abcd", 3), Err(TextError::TooLarge { limit: 3 })));
    }

    #[test]
    fn damage_is_named() {
        let mut bytes = packed(b"abcdefgh");
        bytes.truncate(12);
        assert!(matches!(text_of(&bytes, 99), Err(TextError::Gzip(_))));
        assert!(matches!(text_of(b"\xff\xfe", 99), Err(TextError::NotUtf8(_))));
        assert!(matches!(text_of(&packed(b"\xff\xfe"), 99), Err(TextError::NotUtf8(_))));
    }
}
