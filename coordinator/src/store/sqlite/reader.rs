//! A log for those who only look: the commands that show a state directory while another process writes to it.

use std::path::Path;
use std::sync::Arc;

use super::super::cursor::Cursor;
use super::super::error::{IoFailure, ReadError, SnapshotError};
use super::super::event_reader::EventReader;
use super::super::file::Verified;
use super::super::record::{Head, StoredRecord};
use super::super::snapshot::LoadedSnapshot;
use super::connection::block_on;
use super::read;
use super::readers::Readers;
use super::schema;
use super::snapshots;
use super::store::database_path;
use super::verify::verify;

/// The log of a state directory that is kept in a database, for reading. Takes no lock that stops a writer, and changes
/// no table; its calls block on files.
#[derive(Clone, Debug)]
pub struct SqliteReader {
    readers: Arc<Readers>,
}

impl SqliteReader {
    /// The log of the state directory `state`.
    ///
    /// # Errors
    /// There is no database of ours that can be read.
    pub fn open(state: &Path) -> Result<Self, ReadError> {
        let failed = |source| IoFailure { doing: "open", path: database_path(state), source };
        let database = std::path::absolute(database_path(state)).map_err(failed)?;
        // SQLite says no more than that it could not; the system says why.
        drop(std::fs::File::open(&database).map_err(failed)?);
        let reader = Self { readers: Arc::new(Readers::new(database)) };
        reader.store_id()?;
        Ok(reader)
    }

    /// Reads the whole database and checks everything that can be checked. While this goes on the write-ahead log
    /// cannot be folded and grows, if somebody writes.
    ///
    /// # Errors
    /// The first damage, or a file operation that failed.
    pub fn verify(&self) -> Result<Verified, ReadError> {
        let store_id = self.store_id()?;
        let head = block_on(async {
            let mut lent = self.readers.lend().await?;
            let head = verify(&mut lent.connection, self.readers.database()).await?;
            lent.give_back();
            Ok::<_, ReadError>(head)
        })?;
        Ok(Verified { store_id: Some(store_id), head, unfinished: None })
    }

    fn store_id(&self) -> Result<uuid::Uuid, ReadError> {
        block_on(async {
            let mut lent = self.readers.lend().await?;
            let store_id = schema::check(&mut lent.connection, self.readers.database()).await?;
            lent.give_back();
            Ok(store_id)
        })
    }
}

impl EventReader for SqliteReader {
    fn read(&self, cursor: &mut Cursor) -> Result<Vec<StoredRecord>, ReadError> {
        block_on(async {
            let mut lent = self.readers.lend().await?;
            let page = read::page(&mut lent.connection, self.readers.database(), cursor).await?;
            lent.give_back();
            Ok(page)
        })
    }

    fn head(&self) -> Result<Head, ReadError> {
        block_on(async {
            let mut lent = self.readers.lend().await?;
            let head = read::head(&mut lent.connection, self.readers.database()).await?;
            lent.give_back();
            Ok(head)
        })
    }

    fn load_snapshot(&self, name: &str) -> Result<LoadedSnapshot, SnapshotError> {
        snapshots::check_name(name)?;
        let head = self.head()?.position;
        let loaded = block_on(async {
            let mut lent = self.readers.lend().await?;
            let database = self.readers.database();
            let loaded = snapshots::load(&mut lent.connection, database, name, head).await?;
            lent.give_back();
            Ok::<_, ReadError>(loaded)
        })?;
        Ok(loaded)
    }
}
