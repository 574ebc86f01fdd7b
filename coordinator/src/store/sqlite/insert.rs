//! Writing rows: a whole batch in one call, if it is not large.
//!
//! A call of sqlx goes to another thread and back, which costs as much as a dozen rows. So a transaction, from its
//! beginning to its commit, is one text of several statements wherever it fits; a larger one is made of several
//! calls. There are statements for 1, 16 and 128 rows, so that each is prepared once: the rows that a batch does not
//! have are NULL, and left out by SQLite.

use sqlx::Arguments;
use sqlx::error::BoxDynError;
use sqlx::sqlite::{SqliteArguments, SqliteConnection};

use super::super::chain::Link;
use super::super::record::{StreamHead, StreamId};
use super::connection::is_busy;
use super::rows::signed;

/// How often the beginning of a transaction waits for another program that writes, each time as long as a call waits
/// (5 s), before it fails.
const MAX_BUSY_WAITS: u32 = 6;

/// The rows that statements are made for.
const SIZES: [usize; 3] = [1, 16, LARGEST];
/// The most rows of one statement.
const LARGEST: usize = 128;

/// So many rows, with commas between.
macro_rules! rows {
    (1, $row:expr) => {
        $row
    };
    (4, $row:expr) => {
        concat!($row, ",", $row, ",", $row, ",", $row)
    };
    (16, $row:expr) => {
        rows!(4, rows!(4, $row))
    };
    (128, $row:expr) => {
        concat!(rows!(4, rows!(16, $row)), ",", rows!(4, rows!(16, $row)))
    };
}

/// Makes new streams and moves known ones; of a known one only the number counts.
macro_rules! put_streams {
    ($size:tt) => {
        concat!(
            "INSERT INTO streams (id, name, version, epoch) SELECT * FROM (VALUES ",
            rows!($size, "(?,?,?,?)"),
            ") WHERE column1 IS NOT NULL ON CONFLICT (id) DO UPDATE SET version = excluded.version, \
             epoch = excluded.epoch"
        )
    };
}

macro_rules! insert_records {
    ($size:tt) => {
        concat!(
            "INSERT INTO records (position, stream, first_version, count, epoch, crc, link, body) \
             SELECT * FROM (VALUES ",
            rows!($size, "(?,?,?,?,?,?,?,?)"),
            ") WHERE column1 IS NOT NULL"
        )
    };
}

macro_rules! transaction {
    ($streams:tt, $records:tt) => {
        concat!("BEGIN IMMEDIATE; ", put_streams!($streams), "; ", insert_records!($records), "; COMMIT")
    };
}

const PUT_STREAMS: [&str; SIZES.len()] = [put_streams!(1), put_streams!(16), put_streams!(128)];
const INSERT_RECORDS: [&str; SIZES.len()] = [insert_records!(1), insert_records!(16), insert_records!(128)];
/// Whole transactions, by the sizes of their streams and of their records.
const TRANSACTIONS: [[&str; SIZES.len()]; SIZES.len()] = [
    [transaction!(1, 1), transaction!(1, 16), transaction!(1, 128)],
    [transaction!(16, 1), transaction!(16, 16), transaction!(16, 128)],
    [transaction!(128, 1), transaction!(128, 16), transaction!(128, 128)],
];

/// A row of `records`.
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

/// A row of `streams`.
#[derive(Clone, Debug)]
pub(super) struct StreamRow {
    pub(super) id: i64,
    pub(super) name: StreamId,
    pub(super) head: StreamHead,
}

/// Makes rows durable, all of them in one transaction. After an error they may be there or not.
pub(super) async fn commit_rows(
    connection: &mut SqliteConnection,
    streams: Vec<StreamRow>,
    records: Vec<RecordRow>,
) -> Result<(), sqlx::Error> {
    if streams.len() <= LARGEST && records.len() <= LARGEST {
        let text = TRANSACTIONS[size_for(streams.len())][size_for(records.len())];
        let mut values = SqliteArguments::default();
        add_streams(&mut values, streams).map_err(sqlx::Error::Encode)?;
        add_records(&mut values, records).map_err(sqlx::Error::Encode)?;
        return wait_while_busy(connection, text, &values).await;
    }
    begin(connection).await?;
    insert_in_pieces(connection, PUT_STREAMS, streams, add_streams).await?;
    insert_in_pieces(connection, INSERT_RECORDS, records, add_records).await?;
    commit(connection).await
}

async fn insert_in_pieces<T>(
    connection: &mut SqliteConnection,
    statements: [&'static str; SIZES.len()],
    rows: Vec<T>,
    add: impl Fn(&mut SqliteArguments, Vec<T>) -> Result<(), BoxDynError>,
) -> Result<(), sqlx::Error> {
    let mut rows = rows.into_iter();
    while rows.len() > 0 {
        let piece: Vec<T> = rows.by_ref().take(LARGEST).collect();
        let statement = statements[size_for(piece.len())];
        let mut values = SqliteArguments::default();
        add(&mut values, piece).map_err(sqlx::Error::Encode)?;
        sqlx::query_with(statement, values).execute(&mut *connection).await?;
    }
    Ok(())
}

/// Which of [`SIZES`] so many rows, not more than the largest, fit into.
fn size_for(rows: usize) -> usize {
    SIZES.partition_point(|size| *size < rows)
}

/// Adds the values of streams, and NULL for those that the statement has room for.
fn add_streams(values: &mut SqliteArguments, rows: Vec<StreamRow>) -> Result<(), BoxDynError> {
    let missing = SIZES[size_for(rows.len())] - rows.len();
    for row in rows {
        values.add(row.id)?;
        values.add(row.name.as_str().to_owned())?;
        values.add(signed(row.head.version))?;
        values.add(signed(row.head.epoch))?;
    }
    (0..4 * missing).try_for_each(|_| values.add(None::<i64>))
}

/// Adds the values of records. They are a text's last: what it does not get is NULL.
fn add_records(values: &mut SqliteArguments, rows: Vec<RecordRow>) -> Result<(), BoxDynError> {
    for row in rows {
        values.add(signed(row.position))?;
        values.add(row.stream)?;
        values.add(signed(row.first_version))?;
        values.add(i64::from(row.count))?;
        values.add(signed(row.epoch))?;
        values.add(i64::from(row.crc))?;
        values.add(row.link.map(|link| link.bytes().to_vec()))?;
        values.add(row.body)?;
    }
    Ok(())
}

/// Begins a transaction that may write. Another program that writes is waited for, within reason.
pub(super) async fn begin(connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    wait_while_busy(connection, "BEGIN IMMEDIATE", &SqliteArguments::default()).await
}

/// Makes durable what was written since [`begin`]. After an error it may be or not.
pub(super) async fn commit(connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    sqlx::query("COMMIT").execute(connection).await.map(drop)
}

/// Executes a text that begins a transaction. Nothing has been done when it finds the database busy: in a write-ahead
/// log only the beginning can. Should a later statement say so, the next try fails, as a transaction is open.
async fn wait_while_busy(
    connection: &mut SqliteConnection,
    text: &'static str,
    values: &SqliteArguments,
) -> Result<(), sqlx::Error> {
    let mut waits = 0;
    loop {
        match sqlx::query_with(text, values.clone()).execute(&mut *connection).await {
            Err(error) if is_busy(&error) && waits < MAX_BUSY_WAITS => {
                waits += 1;
                tracing::warn!(%error, "another program is writing to the database; waiting for it");
            }
            done => return done.map(drop),
        }
    }
}
