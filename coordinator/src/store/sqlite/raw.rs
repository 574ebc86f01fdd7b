//! The limit that this store is measured against: the same tables, statements and folding, with nothing checked,
//! chained, queued or told. Only for measurements: what it writes is no log.

use std::path::Path;

use super::super::chain::Link;
use super::super::error::{IoFailure, OpenError};
use super::super::file::create_private_file;
use super::super::record::{Head, StreamHead, StreamId};
use super::connection::{block_on, close, connect_writer, io_failure, open_fault};
use super::end::End;
use super::insert::{RecordRow, StreamRow, commit_rows};
use super::schema;
use super::writer::Log;

/// Writes rows into a database of its own.
#[derive(Debug)]
pub struct RawWriter {
    log: Log,
    stream: StreamId,
    next_position: u64,
}

impl RawWriter {
    /// Makes the database, which must not be there.
    ///
    /// # Errors
    /// A file operation failed.
    pub fn create(database: &Path) -> Result<Self, OpenError> {
        let failed = |source| IoFailure { doing: "create", path: database.to_owned(), source };
        create_private_file(database, std::fs::OpenOptions::new().create_new(true)).map_err(failed)?;
        let log = block_on(async {
            let mut connection = connect_writer(database).await.map_err(open_fault(database))?;
            schema::prepare(&mut connection, database, uuid::Uuid::nil()).await?;
            let end = End::open(&mut connection, database, Head { position: 0, chain: Link::EMPTY }).await?;
            Ok::<_, OpenError>(Log::new(connection, database, end))
        })?;
        Ok(Self { log, stream: "raw".into(), next_position: 1 })
    }

    /// Commits one row for each body, in one transaction.
    ///
    /// # Errors
    /// A file operation failed.
    pub fn commit(&mut self, bodies: impl Iterator<Item = String>) -> Result<(), IoFailure> {
        let first = self.next_position;
        let mut bytes = 0;
        let records: Vec<RecordRow> = bodies
            .zip(first..)
            .map(|(body, position)| {
                bytes += body.len();
                let link = Some(Link::EMPTY).filter(|_| position == first);
                let (first_version, count, epoch, crc) = (position, 1, 1, u32::MAX);
                RecordRow { position, stream: 1, first_version, count, epoch, crc, link, body }
            })
            .collect();
        self.next_position += records.len() as u64;
        let head = StreamHead { version: self.next_position - 1, epoch: 1 };
        let streams = vec![StreamRow { id: 1, name: self.stream.clone(), head }];
        let written = block_on(async {
            commit_rows(&mut self.log.connection, streams, records).await?;
            self.log.wrote(bytes);
            self.log.fold_if_due().await
        });
        written.map_err(io_failure("write", &self.log.database))
    }

    /// Closes the database.
    pub fn close(self) {
        block_on(close(self.log.connection));
    }
}
