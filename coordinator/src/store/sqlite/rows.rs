//! Rows of the tables: how they are written, many in one statement, and read.
//!
//! A call of sqlx goes to another thread and back, which costs more than the row: so rows go in statements of 64, and
//! what is left over in ever smaller ones, of a few sizes only, so that each is prepared once.

use crc32fast::Hasher;
use sqlx::error::BoxDynError;
use sqlx::sqlite::{SqliteArguments, SqliteConnection, SqliteRow};
use sqlx::{Arguments, Row};

use super::super::chain::Link;
use super::super::error::TableFlaw;
use super::super::record::{StoredRecord, StreamHead, StreamId};

/// Repeats text four times, with commas between.
macro_rules! four {
    ($text:expr) => {
        concat!($text, ",", $text, ",", $text, ",", $text)
    };
}

/// The statements that insert 64, 16, 4 rows and one.
macro_rules! insert {
    ($into:literal, $row:literal, $end:literal) => {
        [
            (64, concat!("INSERT INTO ", $into, " VALUES ", four!(four!(four!($row))), $end)),
            (16, concat!("INSERT INTO ", $into, " VALUES ", four!(four!($row)), $end)),
            (4, concat!("INSERT INTO ", $into, " VALUES ", four!($row), $end)),
            (1, concat!("INSERT INTO ", $into, " VALUES ", $row, $end)),
        ]
    };
}

/// Statements that insert so many rows each, the largest first, the last one row.
type Statements = [(usize, &'static str); 4];

const INSERT_RECORDS: Statements = insert!(
    "records (position, stream, first_version, count, epoch, crc, link, body)",
    "(?,?,?,?,?,?,?,?)",
    ""
);

/// All rows are of known streams or of new ones; the name is only looked at if the stream is new.
const PUT_STREAMS: Statements = insert!(
    "streams (id, name, version, epoch)",
    "(?,?,?,?)",
    " ON CONFLICT (id) DO UPDATE SET version = excluded.version, epoch = excluded.epoch"
);

/// A row of `records` to be written.
#[derive(Debug)]
pub(super) struct RecordRow {
    pub(super) position: u64,
    pub(super) stream: i64,
    pub(super) first_version: u64,
    pub(super) count: u32,
    pub(super) epoch: u64,
    pub(super) crc: u32,
    /// Of the last record of an append.
    pub(super) link: Option<Link>,
    pub(super) body: String,
}

/// A row of `streams` to be written.
#[derive(Clone, Debug)]
pub(super) struct StreamRow {
    pub(super) id: i64,
    pub(super) name: StreamId,
    pub(super) head: StreamHead,
}

/// Inserts rows into `records`.
pub(super) async fn insert_records(
    connection: &mut SqliteConnection,
    rows: Vec<RecordRow>,
) -> Result<(), sqlx::Error> {
    insert(connection, INSERT_RECORDS, rows, |values, row| {
        values.add(signed(row.position))?;
        values.add(row.stream)?;
        values.add(signed(row.first_version))?;
        values.add(i64::from(row.count))?;
        values.add(signed(row.epoch))?;
        values.add(i64::from(row.crc))?;
        values.add(row.link.map(|link| link.bytes().to_vec()))?;
        values.add(row.body)
    })
    .await
}

/// Inserts rows into `streams`, or changes those that are there.
pub(super) async fn put_streams(
    connection: &mut SqliteConnection,
    rows: Vec<StreamRow>,
) -> Result<(), sqlx::Error> {
    insert(connection, PUT_STREAMS, rows, |values, row| {
        values.add(row.id)?;
        values.add(row.name.as_str().to_owned())?;
        values.add(signed(row.head.version))?;
        values.add(signed(row.head.epoch))
    })
    .await
}

async fn insert<T>(
    connection: &mut SqliteConnection,
    statements: Statements,
    rows: Vec<T>,
    add: impl Fn(&mut SqliteArguments, T) -> Result<(), BoxDynError>,
) -> Result<(), sqlx::Error> {
    let mut rows = rows.into_iter();
    for (size, statement) in statements {
        while rows.len() >= size {
            let mut values = SqliteArguments::default();
            for row in rows.by_ref().take(size) {
                add(&mut values, row).map_err(sqlx::Error::Encode)?;
            }
            sqlx::query_with(statement, values).execute(&mut *connection).await?;
        }
    }
    Ok(())
}

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
