//! The seam between those who only look and what keeps events.

use super::cursor::Cursor;
use super::error::{ReadError, SnapshotError};
use super::record::{Head, StoredRecord};
use super::snapshot::LoadedSnapshot;

/// A log for those who only look. Takes no lock, changes nothing, and repairs nothing; its calls block, so that an
/// asynchronous task makes them on a thread that may.
pub trait EventReader: Send + Sync {
    /// The next page of what `cursor` reads, and moves it behind that; empty at the end. The same cursor can be read
    /// again when there may be more.
    ///
    /// # Errors
    /// Damage, or an operation that failed; the cursor stays where it was.
    fn read(&self, cursor: &mut Cursor) -> Result<Vec<StoredRecord>, ReadError>;

    /// The end of the log as it is written now, durable or not.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    fn head(&self) -> Result<Head, ReadError>;

    /// The newest usable snapshot of that name, as [`EventStore::load_snapshot`](super::EventStore::load_snapshot).
    ///
    /// # Errors
    /// The log or the snapshots cannot be read.
    fn load_snapshot(&self, name: &str) -> Result<LoadedSnapshot, SnapshotError>;
}
