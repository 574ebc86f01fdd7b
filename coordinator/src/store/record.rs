//! What a store takes in and gives back: streams, records, appends, positions.

use std::fmt;
use std::sync::Arc;

use super::chain::Link;
use super::error::InvalidAppend;

/// Longest name of a stream, in bytes: a project, a run number and a milestone are at most 213.
pub const MAX_STREAM_ID_BYTES: usize = 512;

/// Largest append, in bytes as [`Append::stored_bytes`] counts them. It bounds the memory of whoever reads one back.
pub const MAX_APPEND_BYTES: usize = 64 << 20;

/// What one record costs beyond its body and the name of its stream: its keys and numbers, at their longest.
const RECORD_FRAME_BYTES: usize = 128;

/// The name of a stream: `apollo.3`, `apollo.3/build`, `project/apollo`, `fleet`. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(Arc<str>);

impl StreamId {
    /// The stream called `name`. A store refuses a name that is empty, over-long, or has control
    /// characters when something is appended to it.
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self(name.into())
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a stream can have that name.
    pub(super) fn check(&self) -> Result<(), InvalidAppend> {
        let has_length = (1..=MAX_STREAM_ID_BYTES).contains(&self.0.len());
        if !has_length || self.0.chars().any(char::is_control) {
            return Err(InvalidAppend::StreamName { bytes: self.0.len() });
        }
        Ok(())
    }
}

impl std::borrow::Borrow<str> for StreamId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl From<&str> for StreamId {
    fn from(name: &str) -> Self {
        Self::new(name)
    }
}

impl From<String> for StreamId {
    fn from(name: String) -> Self {
        Self::new(name)
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StreamId({})", self.0)
    }
}

/// One or more consecutive events of one stream, to be appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRecord {
    /// The stream that the events belong to.
    pub stream: StreamId,
    /// The version of the first event; the first event of a stream has version 1.
    pub first_version: u64,
    /// How many events the record holds, at least one.
    pub count: u32,
    /// Exact JSON text, kept byte for byte. It must not be empty or hold a control character (a line break is one:
    /// JSON never needs it). That it is JSON is the caller's promise; a store does not parse it.
    pub body: String,
}

/// Records to be appended together: all of them or none, in this order.
///
/// For each stream in it the first record must begin right after the stream's last event, and each further record of
/// that stream right after the one before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Append {
    /// The epoch under which the appender owns the streams; each stream's epoch rises to it.
    pub epoch: u64,
    /// The records, at least one.
    pub records: Vec<NewRecord>,
}

impl Append {
    /// Upper bound of the bytes that this takes in a store; what the limits count.
    #[must_use]
    pub fn stored_bytes(&self) -> usize {
        self.records.iter().map(|record| record.body.len() + 6 * record.stream.as_str().len()).sum::<usize>()
            + self.records.len() * RECORD_FRAME_BYTES
    }

    /// Checks what can be checked without knowing the store's state. Every store calls it before anything else.
    ///
    /// # Errors
    /// What is wrong with the append; the caller's mistake, never a matter of timing.
    pub fn check(&self) -> Result<(), InvalidAppend> {
        if self.records.is_empty() {
            return Err(InvalidAppend::NoRecords);
        }
        let bytes = self.stored_bytes();
        if bytes > MAX_APPEND_BYTES {
            return Err(InvalidAppend::TooLarge { bytes });
        }
        self.records.iter().try_for_each(NewRecord::check)
    }
}

impl NewRecord {
    fn check(&self) -> Result<(), InvalidAppend> {
        let stream = || self.stream.clone();
        self.stream.check()?;
        if self.count == 0 || self.first_version == 0 {
            return Err(InvalidAppend::NoEvents { stream: stream() });
        }
        if self.first_version.checked_add(u64::from(self.count)).is_none() {
            return Err(InvalidAppend::Version { stream: stream(), first_version: self.first_version });
        }
        // The smallest byte tells; a fold over all of them is many times faster than a search that may stop early.
        let smallest = self.body.bytes().fold(u8::MAX, u8::min);
        if self.body.is_empty() || smallest < b' ' {
            return Err(InvalidAppend::Body { stream: stream(), first_version: self.first_version });
        }
        Ok(())
    }
}

/// Where an append has been put, told once it is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The position of its first event; the others follow without a gap.
    pub position: u64,
}

/// A record as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRecord {
    /// The position of its first event.
    pub position: u64,
    /// The stream that the events belong to.
    pub stream: StreamId,
    /// The version of the first event.
    pub first_version: u64,
    /// How many events the record holds.
    pub count: u32,
    /// The epoch under which it was appended.
    pub epoch: u64,
    /// The JSON text, byte for byte as it was appended.
    pub body: String,
}

impl StoredRecord {
    /// The position after the last event of the record.
    #[must_use]
    pub fn next_position(&self) -> u64 {
        self.position + u64::from(self.count)
    }
}

/// The end of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The position of the last event; 0 in an empty log.
    pub position: u64,
    /// The link of the last record; [`Link::EMPTY`] in an empty log.
    pub chain: Link,
}

/// The end of a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamHead {
    /// The version of its last event; 0 if it has none.
    pub version: u64,
    /// The highest epoch under which something was appended to it; 0 if nothing was.
    pub epoch: u64,
}
