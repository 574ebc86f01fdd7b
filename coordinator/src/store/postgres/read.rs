//! Pages of the log, its end, and snapshots, from one connection.

use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{Row, query_as};

use super::batch::{signed, unsigned};
use super::service::Service;
use crate::store::chain::Link;
use crate::store::cursor::{Cursor, READ_PAGE_BYTES};
use crate::store::error::ReadError;
use crate::store::record::{Head, StoredRecord, StreamId};

/// A record's size is known without reading its body. The first of a page is given out whatever its size. A page has no
/// more than 8192 records, so that short ones do not make a large answer; the limit stands in the text because the
/// planner, if it did not know it, might read and sort all that follows.
const PAGE_OF_ALL: &str = "
    SELECT position, stream, first_version, count, epoch, body FROM (
        SELECT *, sum(octet_length(body)) OVER (ORDER BY position ROWS UNBOUNDED PRECEDING) - octet_length(body)
            AS bytes_before FROM records
        WHERE position >= coalesce((SELECT max(position) FROM records WHERE position <= $1), $1)
            AND position + count > $1
        ORDER BY position LIMIT 8192
    ) AS page WHERE bytes_before < $2 ORDER BY position";

const PAGE_OF_STREAM: &str = "
    SELECT position, stream, first_version, count, epoch, body FROM (
        SELECT *, sum(octet_length(body)) OVER (ORDER BY first_version ROWS UNBOUNDED PRECEDING) - octet_length(body)
            AS bytes_before FROM records
        WHERE stream = $3
            AND first_version >= coalesce(
                (SELECT max(first_version) FROM records WHERE stream = $3 AND first_version <= $4), $4)
            AND first_version + count > $4 AND position >= $1
        ORDER BY first_version LIMIT 8192
    ) AS page WHERE bytes_before < $2 ORDER BY first_version";

/// The end of the log.
pub(super) async fn head(connection: &mut PgConnection) -> Result<Head, sqlx::Error> {
    let (position, chain): (i64, Vec<u8>) =
        query_as("SELECT position, chain FROM head").fetch_one(connection).await?;
    let chain = Link::from_bytes(&chain).ok_or_else(|| sqlx::Error::Decode("a link has 32 bytes".into()))?;
    Ok(Head { position: unsigned(position), chain })
}

/// The end of the log, by a service.
pub(super) async fn head_by(service: &Service) -> Result<Head, ReadError> {
    Ok(service.call("read the end of", |connection| Box::pin(head(connection))).await?)
}

/// The next page of what the cursor reads, and the cursor behind it, by a service.
pub(super) async fn page_by(
    service: &Service,
    cursor: &Cursor,
) -> Result<(Vec<StoredRecord>, Cursor), ReadError> {
    let cursor = cursor.clone();
    let read = service.call("read events from", move |connection| {
        let cursor = cursor.clone();
        Box::pin(async move { page(connection, &cursor).await })
    });
    Ok(read.await?)
}

/// The next page of what the cursor reads, and the cursor behind it.
pub(super) async fn page(
    connection: &mut PgConnection,
    cursor: &Cursor,
) -> Result<(Vec<StoredRecord>, Cursor), sqlx::Error> {
    let query = sqlx::query(if cursor.stream.is_some() { PAGE_OF_STREAM } else { PAGE_OF_ALL })
        .bind(signed(cursor.next_position))
        .bind(signed(READ_PAGE_BYTES as u64));
    let rows = match &cursor.stream {
        None => query.fetch_all(connection).await?,
        // Nothing was ever appended to what cannot be the name of a stream.
        Some(stream) if stream.check().is_err() => Vec::new(),
        Some(stream) => {
            query.bind(stream.as_str()).bind(signed(cursor.from_version)).fetch_all(connection).await?
        }
    };
    let mut records: Vec<StoredRecord> = Vec::with_capacity(rows.len());
    for row in &rows {
        records.push(record(row, records.last())?);
    }
    let mut moved = cursor.clone();
    if let Some(last) = records.last() {
        moved.next_position = last.next_position();
        if moved.stream.is_some() {
            // The index by version finds the place; without this it would begin at the first page each time.
            moved.from_version = last.first_version + u64::from(last.count);
        }
    }
    Ok((records, moved))
}

fn record(row: &PgRow, last: Option<&StoredRecord>) -> Result<StoredRecord, sqlx::Error> {
    let name: &str = row.try_get(1)?;
    let stream = match last {
        Some(last) if last.stream.as_str() == name => last.stream.clone(),
        _ => StreamId::from(name),
    };
    let count: i64 = row.try_get(3)?;
    Ok(StoredRecord {
        position: unsigned(row.try_get(0)?),
        stream,
        first_version: unsigned(row.try_get(2)?),
        count: u32::try_from(count).map_err(|error| sqlx::Error::Decode(error.into()))?,
        epoch: unsigned(row.try_get(4)?),
        body: row.try_get(5)?,
    })
}
