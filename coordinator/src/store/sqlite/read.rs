//! Reading pages of the log. What a connection sees is committed, and therefore durable: the write-ahead log is synced
//! before its readers are told of a commit.

use std::path::Path;

use futures_util::TryStreamExt;
use sqlx::Row;
use sqlx::sqlite::{SqliteConnection, SqliteRow};

use super::super::chain::Link;
use super::super::cursor::{Cursor, READ_PAGE_BYTES};
use super::super::error::{LogFault, TableFlaw};
use super::super::record::{Head, StoredRecord};
use super::connection::{damage, fault};
use super::rows::{read_record, record_columns, signed};

/// From the record that holds a position. The order of the join is that of the log: `CROSS` keeps SQLite from
/// choosing another.
const FROM_POSITION: &str = concat!(
    "SELECT ",
    record_columns!(),
    " FROM records CROSS JOIN streams ON streams.id = records.stream \
     WHERE records.position >= coalesce((SELECT max(position) FROM records WHERE position <= ?1), 0) \
     ORDER BY records.position"
);

/// From the record of a stream that holds a version.
const FROM_VERSION: &str = concat!(
    "SELECT ",
    record_columns!(),
    " FROM streams CROSS JOIN records ON records.stream = streams.id \
     WHERE streams.name = ?1 AND records.first_version >= coalesce((SELECT max(earlier.first_version) \
     FROM records AS earlier WHERE earlier.stream = streams.id AND earlier.first_version <= ?2), 0) \
     ORDER BY records.first_version"
);

/// The next page of what `cursor` reads. Moves the cursor unless there is an error.
pub(super) async fn page(
    connection: &mut SqliteConnection,
    database: &Path,
    cursor: &mut Cursor,
) -> Result<Vec<StoredRecord>, LogFault> {
    let mut moved = cursor.clone();
    let mut records = Vec::new();
    let filled = fill(connection, database, &mut moved, &mut records).await;
    // What was read before an error is good: it is given out, and the error comes with the next call.
    if records.is_empty() {
        filled?;
    }
    *cursor = moved;
    Ok(records)
}

async fn fill(
    connection: &mut SqliteConnection,
    database: &Path,
    cursor: &mut Cursor,
    records: &mut Vec<StoredRecord>,
) -> Result<(), LogFault> {
    let query = match &cursor.stream {
        None => sqlx::query(FROM_POSITION).bind(signed(cursor.next_position)),
        Some(stream) => sqlx::query(FROM_VERSION)
            .bind(stream.as_str().to_owned())
            .bind(signed(cursor.from_version.max(1))),
    };
    let mut rows = query.fetch(connection);
    // Where the next row must begin: its position in the log, its version in a stream. The first may begin earlier.
    let mut expected =
        if cursor.stream.is_some() { cursor.from_version.max(1) } else { cursor.next_position };
    let mut is_first = true;
    let mut bytes = 0;
    while bytes < READ_PAGE_BYTES {
        let position = cursor.next_position;
        let Some(row) = rows.try_next().await.map_err(fault(database, position))? else { break };
        let last = records.last().map(|record| &record.stream);
        let record = read_record(&row, last).map_err(|flaw| damage(database, position, flaw))?;
        let begins = if cursor.stream.is_some() { record.first_version } else { record.position };
        if begins > expected || (begins < expected && !is_first) {
            return Err(damage(database, position, TableFlaw::Sequence).into());
        }
        let next = begins + u64::from(record.count);
        is_first = false;
        if next <= expected {
            // The record before the one that is wanted: the end of the log is reached.
            continue;
        }
        expected = next;
        if record.next_position() <= cursor.next_position {
            continue;
        }
        bytes += record.body.len() + record.stream.as_str().len();
        cursor.next_position = record.next_position();
        if cursor.stream.is_some() {
            cursor.from_version = next;
        }
        records.push(record);
    }
    Ok(())
}

/// The end of the log.
pub(super) async fn head(connection: &mut SqliteConnection, database: &Path) -> Result<Head, LogFault> {
    let last = sqlx::query("SELECT position, count, link FROM records ORDER BY position DESC LIMIT 1")
        .fetch_optional(connection)
        .await
        .map_err(fault(database, 1))?;
    match last {
        None => Ok(Head { position: 0, chain: Link::EMPTY }),
        Some(row) => read_head(&row).map_err(|(position, flaw)| damage(database, position, flaw).into()),
    }
}

fn read_head(row: &SqliteRow) -> Result<Head, (u64, TableFlaw)> {
    let position = row.try_get::<i64, _>(0).map_err(|_| (1, TableFlaw::Form))?.cast_unsigned();
    let form = |_: sqlx::Error| (position, TableFlaw::Form);
    let count = row.try_get::<i64, _>(1).map_err(form)?.cast_unsigned();
    let link: Option<&[u8]> = row.try_get(2).map_err(form)?;
    let chain = link.and_then(Link::from_bytes).ok_or((position, TableFlaw::Form))?;
    let next = position.checked_add(count).filter(|next| *next > 1).ok_or((position, TableFlaw::Form))?;
    Ok(Head { position: next - 1, chain })
}
