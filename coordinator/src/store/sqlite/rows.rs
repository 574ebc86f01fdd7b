//! Records as rows: their checksums, and how they are read.

use crc32fast::Hasher;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::super::error::TableFlaw;
use super::super::record::{StoredRecord, StreamId};

/// The bits of an unsigned number as SQLite keeps them. Positions and versions are never so large that they become
/// negative; an epoch may be, and comes back as it was.
pub(super) fn signed(number: u64) -> i64 {
    number.cast_signed()
}

/// The checksum of a record: of all that makes it up, so that a flipped bit is found wherever it is read.
pub(super) fn record_crc(
    stream: &str,
    position: u64,
    first_version: u64,
    count: u32,
    epoch: u64,
    body: &str,
) -> u32 {
    let mut hasher = Hasher::new();
    hasher.update(&position.to_be_bytes());
    hasher.update(&first_version.to_be_bytes());
    hasher.update(&count.to_be_bytes());
    hasher.update(&epoch.to_be_bytes());
    hasher.update(body.as_bytes());
    // Last, so that name and body cannot be mistaken for each other: no body holds a line break.
    hasher.update(b"\n");
    hasher.update(stream.as_bytes());
    hasher.finalize()
}

/// The columns of a record with its stream's name, in the order that [`read_record`] takes them.
macro_rules! record_columns {
    () => {
        "records.position, streams.name, records.first_version, records.count, records.epoch, records.crc, \
         records.body"
    };
}
pub(super) use record_columns;

/// Reads a record from a row of [`record_columns`] and checks its checksum. Its stream shares the name of `last`, if
/// that is the same.
pub(super) fn read_record(row: &SqliteRow, last: Option<&StreamId>) -> Result<StoredRecord, TableFlaw> {
    let form = |_: sqlx::Error| TableFlaw::Form;
    let unsigned = |column: usize| row.try_get::<i64, _>(column).map(i64::cast_unsigned).map_err(form);
    let name: &str = row.try_get(1).map_err(form)?;
    let stream = match last {
        Some(last) if last.as_str() == name => last.clone(),
        _ => StreamId::from(name),
    };
    let record = StoredRecord {
        position: unsigned(0)?,
        stream,
        first_version: unsigned(2)?,
        count: u32::try_from(unsigned(3)?).map_err(|_| TableFlaw::Form)?,
        epoch: unsigned(4)?,
        body: row.try_get(6).map_err(form)?,
    };
    let StoredRecord { position, first_version, count, epoch, ref body, .. } = record;
    let crc = record_crc(record.stream.as_str(), position, first_version, count, epoch, body);
    let is_sound = unsigned(5)? == u64::from(crc)
        && count > 0
        && position.checked_add(u64::from(count)).is_some()
        && first_version.checked_add(u64::from(count)).is_some();
    if is_sound { Ok(record) } else { Err(TableFlaw::Checksum) }
}
