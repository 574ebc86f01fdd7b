//! Where a reader stands.

use super::record::StreamId;

/// How many bytes of log one page of reading covers at most, unless a single append is larger: enough to hide the
/// cost of a call, small enough to hold many readers at once.
pub const READ_PAGE_BYTES: usize = 1 << 20;

/// What a reader reads and how far it has come. Plain data: it can be kept, cloned, and used again later to follow
/// a log that grows. Only the position matters; a store may keep a private hint beside it, which it never trusts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    pub(super) stream: Option<StreamId>,
    pub(super) from_version: u64,
    pub(super) next_position: u64,
    pub(super) hint: Option<Hint>,
    /// The write that the line before `next_position` belongs to, if it is known.
    pub(super) last_batch: Option<u64>,
}

/// Where the line begins whose first event has the position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hint {
    pub(super) position: u64,
    pub(super) segment: u64,
    pub(super) offset: u64,
}

impl Cursor {
    /// The whole log, beginning with the record that holds `position` (the first is 1).
    #[must_use]
    pub fn all(position: u64) -> Self {
        Self { stream: None, from_version: 0, next_position: position.max(1), hint: None, last_batch: None }
    }

    /// One stream, beginning with the record that holds `version` (the first is 1).
    #[must_use]
    pub fn stream(stream: StreamId, version: u64) -> Self {
        Self { stream: Some(stream), from_version: version, next_position: 1, hint: None, last_batch: None }
    }

    /// The position from which the next page is looked for; all before it has been given out or passed over.
    #[must_use]
    pub fn next_position(&self) -> u64 {
        self.next_position
    }

    /// Whether a record at or behind the cursor is one that the reader wants.
    pub(super) fn wants(&self, stream: &str, last_version: u64) -> bool {
        self.stream
            .as_ref()
            .is_none_or(|wanted| wanted.as_str() == stream && last_version >= self.from_version)
    }
}
