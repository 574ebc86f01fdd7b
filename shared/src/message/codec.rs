//! The one place where messages become bytes, and bytes messages.
//!
//! ```text
//!   binary: | magic CA | codec 01 | version, u16 little-endian | bincode of the message |
//!   JSON:   {"protocol":1,"type":"hello", …}
//! ```
//!
//! Whatever [`Codec::encode`] gives, [`decode`] reads. Bodies come from outside: reading one never panics, takes memory
//! in proportion to its length, and refuses what is not wholly a message. An unknown member of JSON is ignored, so that
//! a later version may add some; the binary form has no such room, and a newer version is refused by its number.
//!
//! Not here: whether what a message says makes sense ([`super::convert`], and whoever acts on it).

use super::wire::{PROTOCOL, ToAgent, ToCoordinator, WireOrder};
use crate::transport::MAX_MESSAGE_BYTES;
use bincode::{Decode, Encode};
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;

/// The first byte of a binary message: no JSON begins with it.
const MAGIC: u8 = 0xCA;
/// The second byte: what follows the version is bincode, standard configuration.
const BINCODE: u8 = 1;

/// How many bytes of memory the decoder may claim for each byte of a body, before it has read what the body announces.
/// The most that a true message asks for is that of a list of empty texts.
const MEMORY_PER_BYTE: usize = 32;
const _: () = assert!(size_of::<String>() <= MEMORY_PER_BYTE, "an empty text is one byte on the wire");
const _: () =
    assert!(size_of::<WireOrder>() <= MEMORY_PER_BYTE, "the smallest order is one byte on the wire");

/// Bodies up to here may claim as much memory as one of this length needs.
const SMALL_BODY_BYTES: usize = 4 << 10;
/// The same for longer ones; all others count as of [`MAX_MESSAGE_BYTES`].
const MEDIUM_BODY_BYTES: usize = 128 << 10;

/// How many bytes of a bad body its error shows.
const HEAD_BYTES: usize = 16;
/// How much of a text from outside an error repeats, in bytes.
const MAX_ERROR_TEXT_BYTES: usize = 200;

/// How a message is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// Between programs of this package.
    Bincode,
    /// For agents in other languages, and for people.
    Json,
}

/// What can be encoded and decoded: [`ToAgent`] and [`ToCoordinator`].
pub trait WireMessage: Encode + Decode<()> + Serialize + DeserializeOwned {
    /// What kind of message it is, for people and counters: its `type` in JSON.
    fn kind(&self) -> &'static str;
}

impl WireMessage for ToAgent {
    fn kind(&self) -> &'static str {
        match self {
            Self::Introduce => "introduce",
            Self::Welcome(_) => "welcome",
            Self::HeartbeatHeard { .. } => "heartbeat_heard",
            Self::Orders(_) => "orders",
            Self::Drain => "drain",
            Self::Undrain => "undrain",
        }
    }
}

impl WireMessage for ToCoordinator {
    fn kind(&self) -> &'static str {
        match self {
            Self::Hello(_) => "hello",
            Self::Heartbeat(_) => "heartbeat",
            Self::Reports(_) => "reports",
            Self::Goodbye { .. } => "goodbye",
            Self::Output(_) => "output",
        }
    }
}

/// Why a message cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// Larger than a message may be.
    #[error("a message `{kind}` of {bytes} bytes is over the limit of {} bytes", MAX_MESSAGE_BYTES)]
    TooLarge {
        /// What kind of message.
        kind: &'static str,
        /// Its size.
        bytes: usize,
    },
    /// It has no binary form.
    #[error("a message `{kind}` cannot be encoded")]
    Bincode {
        /// What kind of message.
        kind: &'static str,
        /// The cause.
        #[source]
        source: bincode::error::EncodeError,
    },
    /// It has no form in JSON.
    #[error("a message `{kind}` cannot be encoded")]
    Json {
        /// What kind of message.
        kind: &'static str,
        /// The cause.
        #[source]
        source: serde_json::Error,
    },
}

/// Why a body is not a message. What it shows of the body is short, and has no control characters.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Nobody here reads that content type.
    #[error("the content type {content_type:?} is not known here; known are {:?} and {:?}",
        Codec::Bincode.content_type(), Codec::Json.content_type())]
    ContentType {
        /// The one that was given.
        content_type: Box<str>,
    },
    /// Larger than a message may be.
    #[error("a message of {bytes} bytes is over the limit of {} bytes", MAX_MESSAGE_BYTES)]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// It does not begin as a binary message does.
    #[error("not a binary message: {head}")]
    Envelope {
        /// How it begins.
        head: Box<str>,
    },
    /// Of another version of the protocol.
    #[error("a message of version {theirs} of the protocol; this program reads version {ours}")]
    Version {
        /// Its version.
        theirs: u64,
        /// Ours.
        ours: u16,
    },
    /// The binary form is broken.
    #[error("a broken binary message: {head}")]
    Bincode {
        /// How it begins.
        head: Box<str>,
        /// The cause.
        #[source]
        source: bincode::error::DecodeError,
    },
    /// Something follows the message.
    #[error("{bytes} bytes follow the message: {head}")]
    Trailing {
        /// How many.
        bytes: usize,
        /// How the body begins.
        head: Box<str>,
    },
    /// The JSON is broken, or is no message.
    #[error("a broken message in JSON: {problem}: {head}")]
    Json {
        /// What is wrong, and where.
        problem: Box<str>,
        /// How it begins.
        head: Box<str>,
    },
}

impl Codec {
    /// The content type that names it.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Bincode => "application/x-bincode;v=1",
            Self::Json => "application/json",
        }
    }

    /// The codec that a content type names. Letter case, blanks and other parameters do not count.
    #[must_use]
    pub fn of_content_type(content_type: &str) -> Option<Self> {
        let mut parts = content_type.split(';').map(str::trim);
        let media = parts.next()?;
        if media.eq_ignore_ascii_case("application/json") {
            return Some(Self::Json);
        }
        let is_ours = media.eq_ignore_ascii_case("application/x-bincode");
        (is_ours && parts.any(|part| part.eq_ignore_ascii_case("v=1"))).then_some(Self::Bincode)
    }

    /// The bytes of a message.
    ///
    /// # Errors
    /// [`EncodeError::TooLarge`] for one that no transport would take. The other errors would be a fault of ours.
    pub fn encode<T: WireMessage>(self, message: &T) -> Result<Bytes, EncodeError> {
        let kind = message.kind();
        let mut body = Vec::new();
        match self {
            Self::Bincode => {
                body.extend([MAGIC, BINCODE]);
                body.extend(PROTOCOL.to_le_bytes());
                bincode::encode_into_std_write(message, &mut body, bincode::config::standard())
                    .map_err(|source| EncodeError::Bincode { kind, source })?;
            }
            Self::Json => serde_json::to_writer(&mut body, &JsonEnvelope { protocol: PROTOCOL, message })
                .map_err(|source| EncodeError::Json { kind, source })?,
        }
        if body.len() > MAX_MESSAGE_BYTES {
            return Err(EncodeError::TooLarge { kind, bytes: body.len() });
        }
        Ok(body.into())
    }
}

/// Reads the body of a message.
///
/// # Errors
/// Whatever is not wholly a message of a version and an encoding that are known here.
pub fn decode<T: WireMessage>(content_type: &str, body: &[u8]) -> Result<T, DecodeError> {
    let Some(codec) = Codec::of_content_type(content_type) else {
        return Err(DecodeError::ContentType { content_type: printable(content_type) });
    };
    if body.len() > MAX_MESSAGE_BYTES {
        return Err(DecodeError::TooLarge { bytes: body.len() });
    }
    match codec {
        Codec::Bincode => decode_binary(body),
        Codec::Json => decode_json(body),
    }
}

/// How many bytes a part of a message takes in the binary form: what a batch is measured by.
#[must_use]
pub fn encoded_bytes(part: &impl Encode) -> usize {
    let mut encoder = bincode::enc::EncoderImpl::new(
        bincode::enc::write::SizeWriter::default(),
        bincode::config::standard(),
    );
    // Nothing of ours refuses to be counted; if it did, encoding would say so.
    let _ = part.encode(&mut encoder);
    encoder.into_writer().bytes_written
}

fn decode_binary<T: WireMessage>(body: &[u8]) -> Result<T, DecodeError> {
    let payload = match body {
        [MAGIC, BINCODE, low, high, payload @ ..] => {
            check_version(u16::from_le_bytes([*low, *high]).into())?;
            payload
        }
        _ => return Err(DecodeError::Envelope { head: head(body) }),
    };
    // The decoder makes room for what a body announces before it reads it; the limit of that is a constant.
    let decoded = if payload.len() <= SMALL_BODY_BYTES {
        decode_within::<T, { SMALL_BODY_BYTES * MEMORY_PER_BYTE }>(payload)
    } else if payload.len() <= MEDIUM_BODY_BYTES {
        decode_within::<T, { MEDIUM_BODY_BYTES * MEMORY_PER_BYTE }>(payload)
    } else {
        decode_within::<T, { MAX_MESSAGE_BYTES * MEMORY_PER_BYTE }>(payload)
    };
    match decoded {
        Ok((message, read)) if read == payload.len() => Ok(message),
        Ok((_, read)) => Err(DecodeError::Trailing { bytes: payload.len() - read, head: head(body) }),
        Err(source) => Err(DecodeError::Bincode { head: head(body), source }),
    }
}

fn decode_within<T: WireMessage, const LIMIT: usize>(
    payload: &[u8],
) -> Result<(T, usize), bincode::error::DecodeError> {
    bincode::decode_from_slice(payload, bincode::config::standard().with_limit::<LIMIT>())
}

/// A message in JSON as it is written.
#[derive(Serialize)]
struct JsonEnvelope<'a, T> {
    protocol: u16,
    #[serde(flatten)]
    message: &'a T,
}

/// What is looked at before the message itself.
#[derive(Deserialize)]
struct JsonHead {
    protocol: Option<u64>,
}

fn decode_json<T: WireMessage>(body: &[u8]) -> Result<T, DecodeError> {
    // Depth is bounded by the parser: 128 levels.
    let broken = |error: serde_json::Error| DecodeError::Json {
        problem: printable(&error.to_string()),
        head: head(body),
    };
    let JsonHead { protocol } = serde_json::from_slice(body).map_err(broken)?;
    check_version(protocol.unwrap_or(PROTOCOL.into()))?;
    serde_json::from_slice(body).map_err(broken)
}

fn check_version(theirs: u64) -> Result<(), DecodeError> {
    if theirs == u64::from(PROTOCOL) { Ok(()) } else { Err(DecodeError::Version { theirs, ours: PROTOCOL }) }
}

/// How a body begins, in hexadecimal.
fn head(body: &[u8]) -> Box<str> {
    let mut text = format!("{} bytes", body.len());
    for (at, byte) in body.iter().take(HEAD_BYTES).enumerate() {
        text.push_str(if at == 0 { ", first " } else { " " });
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    text.into()
}

/// A text from outside, fit to be shown: short, on one line, without control characters.
fn printable(text: &str) -> Box<str> {
    let cut = &text[..text.floor_char_boundary(MAX_ERROR_TEXT_BYTES)];
    cut.chars().map(|letter| if letter.is_control() { '\u{FFFD}' } else { letter }).collect()
}
