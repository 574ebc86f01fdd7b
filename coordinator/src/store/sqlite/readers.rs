//! Connections for reading, kept for the next reader.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use sqlx::sqlite::SqliteConnection;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::super::error::ReadError;
use super::connection::{close, connect_reader, open_fault};

/// Most connections that read at the same time; each has a thread and a cache of pages. More readers take turns.
const MAX_READERS: usize = 4;

/// Up to [`MAX_READERS`] connections that are opened when they are needed.
#[derive(Debug)]
pub(super) struct Readers {
    database: PathBuf,
    permits: Semaphore,
    idle: Mutex<Vec<SqliteConnection>>,
}

/// A connection, lent to one reader.
pub(super) struct Lent<'a> {
    pub(super) connection: SqliteConnection,
    readers: &'a Readers,
    _permit: SemaphorePermit<'a>,
}

impl Readers {
    pub(super) fn new(database: PathBuf) -> Self {
        Self { database, permits: Semaphore::new(MAX_READERS), idle: Mutex::default() }
    }

    pub(super) fn database(&self) -> &Path {
        &self.database
    }

    /// Lends a connection. One that is not given back, because its reader failed or was dropped, is closed.
    pub(super) async fn lend(&self) -> Result<Lent<'_>, ReadError> {
        let permit = self.permits.acquire().await.map_err(|_closed| ReadError::ShuttingDown)?;
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let connection = match idle {
            Some(connection) => connection,
            None => connect_reader(&self.database).await.map_err(open_fault(&self.database))?,
        };
        Ok(Lent { connection, readers: self, _permit: permit })
    }

    /// Closes the connections, and lends none any more.
    pub(super) async fn close(&self) {
        self.permits.close();
        let idle = std::mem::take(&mut *self.idle.lock().unwrap_or_else(PoisonError::into_inner));
        for connection in idle {
            close(connection).await;
        }
    }
}

impl Lent<'_> {
    pub(super) fn give_back(self) {
        self.readers.idle.lock().unwrap_or_else(PoisonError::into_inner).push(self.connection);
    }
}
