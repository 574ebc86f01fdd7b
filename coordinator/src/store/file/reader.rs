//! A log for those who only look: the commands that show a state directory while another process writes to it.

use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::super::cursor::Cursor;
use super::super::error::{Notice, ReadError, SnapshotError};
use super::super::event_reader::EventReader;
use super::super::record::{Head, StoredRecord};
use super::super::snapshot::LoadedSnapshot;
use super::read::Reading;
use super::segment::list_segments;
use super::snapshots;
use super::store::{events_path, snapshots_path, torn_notice};
use super::survey::survey;

/// The log of a state directory, for reading. Takes no lock and changes nothing; its calls block on files.
#[derive(Clone, Debug)]
pub struct LogReader {
    events: PathBuf,
    snapshots: PathBuf,
}

/// What a complete check of a log found: it is sound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// The log's identity; `None` if nothing was ever written to it.
    pub store_id: Option<Uuid>,
    /// Its end.
    pub head: Head,
    /// The unfinished write at its end that the next writer will cut off, or that one is writing just now.
    pub unfinished: Option<Notice>,
}

impl LogReader {
    /// The log of the state directory `state`.
    ///
    /// # Errors
    /// There is no log that can be read.
    pub fn open(state: &Path) -> Result<Self, ReadError> {
        let events = events_path(state);
        list_segments(&events)?;
        Ok(Self { events, snapshots: snapshots_path(state) })
    }

    /// Reads the whole log and checks everything that can be checked.
    ///
    /// # Errors
    /// The first damage, or a file operation that failed.
    pub fn verify(&self) -> Result<Verified, ReadError> {
        let found = survey(&self.events)?;
        let unfinished = found.torn.as_ref().map(|torn| torn_notice(torn, found.head.position));
        Ok(Verified { store_id: found.store_id, head: found.head, unfinished })
    }

    fn reading(&self) -> Reading<'_> {
        Reading { events: &self.events, until: None, index: None }
    }
}

impl EventReader for LogReader {
    fn read(&self, cursor: &mut Cursor) -> Result<Vec<StoredRecord>, ReadError> {
        self.reading().page(cursor)
    }

    /// Reads the last segment.
    fn head(&self) -> Result<Head, ReadError> {
        self.reading().head()
    }

    fn load_snapshot(&self, name: &str) -> Result<LoadedSnapshot, SnapshotError> {
        let Some(store_id) = self.reading().store_id()? else { return Ok(LoadedSnapshot::default()) };
        snapshots::load(&self.snapshots, store_id, name, self.head()?.position)
    }
}
