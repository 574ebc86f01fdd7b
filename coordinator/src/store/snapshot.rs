//! Folded state that a store keeps so that a stream need not be read from its beginning.

use super::error::Notice;

/// How many snapshots of one name are kept: the newest, and the one before should the newest be damaged.
pub const SNAPSHOTS_KEPT: usize = 2;

/// Longest name of a snapshot, in bytes; the same as a stream's.
pub const MAX_SNAPSHOT_NAME_BYTES: usize = super::record::MAX_STREAM_ID_BYTES;

/// The folded state of a stream or run. It may always be thrown away: the log has all of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Whose state it is: the name of a stream, or of a projection.
    pub name: String,
    /// The version of the last event that it includes.
    pub version: u64,
    /// The position up to which the log has been folded into it.
    pub position: u64,
    /// The state, in whatever form its owner likes; the owner puts a format version inside.
    pub bytes: Vec<u8>,
}

/// What came of looking for a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadedSnapshot {
    /// The newest that can be used; without one, read the log from its beginning.
    pub snapshot: Option<Snapshot>,
    /// The newer ones that were passed over, and why.
    pub notices: Vec<Notice>,
}
