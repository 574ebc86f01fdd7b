//! The hash chain over the records of a log, the same in every store.
//!
//! The link of an empty log is 32 zero bytes. The link of a record is the SHA-256 of, one after the other:
//!
//! 1. the previous record's link, 32 bytes;
//! 2. the length of the stream's name in bytes, `u32`, then the name in UTF-8;
//! 3. the first version, `u64`; the count, `u32`; the epoch, `u64`;
//! 4. the length of the body in bytes, `u64`, then the body.
//!
//! Numbers are big-endian. With the lengths in it no two different logs hash the same text. Positions need no place:
//! they follow from the counts.

use std::fmt;

use sha2::{Digest, Sha256};

/// A link of the chain: it stands for the whole log up to a record.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Link([u8; 32]);

impl Link {
    /// The link of an empty log.
    pub const EMPTY: Self = Self([0; 32]);

    /// The link of the record that follows this one.
    #[must_use]
    pub fn followed_by(&self, stream: &str, first_version: u64, count: u32, epoch: u64, body: &[u8]) -> Self {
        let name_bytes = u32::try_from(stream.len()).expect("a stream's name has at most 512 bytes");
        let body_bytes = body.len() as u64;
        let mut hash = Sha256::new();
        hash.update(self.0);
        hash.update(name_bytes.to_be_bytes());
        hash.update(stream);
        hash.update(first_version.to_be_bytes());
        hash.update(count.to_be_bytes());
        hash.update(epoch.to_be_bytes());
        hash.update(body_bytes.to_be_bytes());
        hash.update(body);
        Self(hash.finalize().into())
    }

    /// The link as bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The link of these bytes; `None` if there are not 32.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// Appends the 64 lower-case hexadecimal digits.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        for byte in self.0 {
            out.push(DIGITS[usize::from(byte >> 4)]);
            out.push(DIGITS[usize::from(byte & 15)]);
        }
    }

    /// Reads 64 lower-case hexadecimal digits; `None` if they are not that.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Some(byte - b'0'),
            b'a'..=b'f' => Some(byte - b'a' + 10),
            _ => None,
        };
        let mut link = [0; 32];
        (text.len() == 64).then_some(())?;
        for (place, pair) in link.iter_mut().zip(text.chunks_exact(2)) {
            *place = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Some(Self(link))
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Link({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_what_the_definition_says() {
        // The text of the definition, put together by hand; the digest is from another SHA-256 (`sha256sum`).
        let mut text = vec![0; 32];
        text.extend(b"\0\0\0\x08apollo.3");
        text.extend(b"\0\0\0\0\0\0\0\x01");
        text.extend(b"\0\0\0\x02");
        text.extend(b"\0\0\0\0\0\0\0\x07");
        text.extend(b"\0\0\0\0\0\0\0\x07{\"a\":1}");
        let link = Link::EMPTY.followed_by("apollo.3", 1, 2, 7, br#"{"a":1}"#);
        assert_eq!(link.0, <[u8; 32]>::from(Sha256::digest(&text)));
        assert_eq!(link.to_string(), GOLDEN_LINK);
    }

    const GOLDEN_LINK: &str = "eeb8258c34478a5ea4a81e074e8b82c97634d91322f6128118ed718db238a60c";

    #[test]
    fn a_link_reads_back_what_it_prints() {
        let link = Link::EMPTY.followed_by("s", 1, 1, 1, b"{}");
        assert_eq!(Link::parse(link.to_string().as_bytes()), Some(link));
        let mut written = Vec::new();
        link.write_to(&mut written);
        assert_eq!(written, link.to_string().into_bytes());
        for bad in ["", "00", &"0".repeat(63), &"0".repeat(65), &"G".repeat(64), &"A".repeat(64)] {
            assert_eq!(Link::parse(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn every_field_changes_the_link() {
        let base = Link::EMPTY.followed_by("ab", 1, 1, 1, b"c");
        let others = [
            base.followed_by("ab", 1, 1, 1, b"c"),
            Link::EMPTY.followed_by("a", 1, 1, 1, b"bc"),
            Link::EMPTY.followed_by("ab", 2, 1, 1, b"c"),
            Link::EMPTY.followed_by("ab", 1, 2, 1, b"c"),
            Link::EMPTY.followed_by("ab", 1, 1, 2, b"c"),
            Link::EMPTY.followed_by("ab", 1, 1, 1, b"d"),
        ];
        assert!(others.iter().all(|other| *other != base));
    }
}
